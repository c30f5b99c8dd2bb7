//! The pure checks, on artifacts signed with keys of the tests' own.

use serde_json::{Value, json};

use super::passport::Passport;
use super::presentation::{self, Presentation};
use super::revocation::Revocation;
use super::signed::signed_bytes;
use crate::config::Directory;
use crate::face::adv::{Reason, Rejection};
use crate::identity::{Json, NodeKey, signature};
use crate::store::{BY_ISSUER, BY_SUBJECT};

/// 2030-01-01T00:00:03Z
const NOW: u64 = 1_893_456_003_000;

fn read(value: &Value) -> Json {
    Json::read(value.to_string().as_bytes(), 32).unwrap()
}

fn reason<T>(outcome: Result<T, Rejection>) -> Option<Reason> {
    outcome.err().map(|rejection| rejection.reason)
}

fn sign(key: &NodeKey, mut value: Value) -> Value {
    let text = signature::to_text(&key.sign(&signed_bytes(&read(&value)).unwrap()));
    value["signature"] = json!({ "alg": "ed25519", "value": text });
    value
}

fn passport(key: &NodeKey) -> Value {
    json!({
        "schema": "capability-passport.v1",
        "passport_id": "passport:capability:1",
        "node_id": key.node_id(),
        "capability_id": "seed-directory",
        "scope": {},
        "issued_at": "2030-01-01T00:00:00Z",
        "expires_at": "2030-01-01T00:10:00Z",
        "issuer/participant_id": format!("participant:did:key:{}", key.public().multibase()),
        "issuer/node_id": key.node_id(),
        "revocation_ref": null,
    })
}

#[test]
fn what_is_signed_is_canonical_json_without_signature_and_delegation() {
    let value = json!({ "b": 1.0, "a": "é", "signature": {}, "issuer_delegation": [1], "c": null });
    let bytes = signed_bytes(&read(&value)).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), r#"{"a":"é","b":1,"c":null}"#);
}

#[test]
fn a_passport_is_good_until_the_instant_it_expires() {
    let (key, rules) = (NodeKey::generate().unwrap(), Directory::default());
    let value = read(&sign(&key, passport(&key)));
    let read = Passport::read(Some(&value)).unwrap();
    assert_eq!(read.authentic().unwrap(), *key.public());
    assert_eq!(read.expires(), Some(1_893_456_600_000));
    assert_eq!(read.check_time(NOW, &rules), Ok(()));
    assert_eq!(read.check_time(1_893_456_599_999, &rules), Ok(()));
    let late = reason(read.check_time(1_893_456_600_000, &rules));
    assert_eq!(late, Some(Reason::PassportExpired));
    // Clocks may differ by half a minute.
    assert_eq!(read.check_time(1_893_455_970_000, &rules), Ok(()));
    let early = reason(read.check_time(1_893_455_969_999, &rules));
    assert_eq!(early, Some(Reason::PassportInFuture));
}

#[test]
fn every_member_of_a_passport_is_looked_at() {
    let key = NodeKey::generate().unwrap();
    for (name, wrong) in [
        ("schema", json!("capability-passport")),
        ("passport_id", json!("passport:other:1")),
        ("node_id", json!("node:did:key:0")),
        ("capability_id", json!("a/b")),
        ("scope", json!([])),
        ("issued_at", json!("2030-13-01T00:00:00Z")),
        ("expires_at", json!(1)),
        ("issuer/participant_id", json!(key.node_id())),
        ("issuer/node_id", Value::Null),
        ("revocation_ref", json!({})),
        ("signature", json!({ "alg": "ed25519", "value": "x", "more": 1 })),
    ] {
        let mut value = sign(&key, passport(&key));
        value[name] = wrong;
        let found = reason(Passport::read(Some(&read(&value))));
        assert_eq!(found, Some(Reason::SchemaViolation), "{name}");
        value.as_object_mut().unwrap().remove(name);
        let found = reason(Passport::read(Some(&read(&value))));
        assert_eq!(found, Some(Reason::SchemaViolation), "{name} left out");
    }
    let mut value = sign(&key, passport(&key));
    value["issuer/participant_id"] = json!("participant:did:key:z6Mk");
    let read = read(&value);
    let found = reason(Passport::read(Some(&read)).unwrap().authentic());
    assert_eq!(found, Some(Reason::IssuerInvalid));
}

#[test]
fn an_advertisement_may_name_a_passport_by_its_id_or_in_full() {
    let key = NodeKey::generate().unwrap();
    let own = sign(&key, passport(&key));
    let whole = read(&own);
    let passport = Passport::read(Some(&whole)).unwrap();
    let mut reordered = serde_json::Map::new();
    for (name, value) in own.as_object().unwrap().iter().rev() {
        reordered.insert(name.clone(), value.clone());
    }
    let mut changed = own.clone();
    changed["x"] = json!(1);
    for (presented, outcome) in [
        (own, None),
        (Value::Object(reordered), None),
        (json!("passport:capability:1"), None),
        (json!("passport:capability:2"), Some(Reason::OtherPassport)),
        (changed, Some(Reason::OtherPassport)),
    ] {
        let mut value = json!({
            "schema/v": 1, "advertisement/id": "a", "node/id": key.node_id(),
            "published-at": "2030-01-01T00:00:00Z", "protocol/version": "1",
            "transport/profiles": ["wss"], "capabilities/core": ["core/messaging"],
            "capabilities/presented": [{
                "capability/id": "seed-directory", "wire/name": "role/seed-directory",
                "assertion/kind": "passport", "passport": presented,
            }],
            "messages/supported": [],
        });
        let bytes = presentation::signed_bytes(&read(&value));
        assert!(bytes.starts_with(b"capability-advertisement.v1\0\xa9"));
        let text = signature::to_text(&key.sign(&bytes));
        value["signature"] = json!({ "alg": "ed25519", "value": text });
        let value = read(&value);
        let presentation = Presentation::read(Some(&value)).unwrap();
        assert_eq!(presentation.authentic(key.public()), Ok(()));
        assert_eq!(reason(presentation.presents(&passport, &whole)), outcome);
    }
}

#[test]
fn issuer_and_subject_revoke_with_their_own_keys() {
    let (key, node) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
    let subject = json!({
        "schema": "capability-passport-revocation.v1",
        "revocation_id": "passport-revocation:1",
        "passport_id": "passport:capability:1",
        "node_id": node.node_id(),
        "capability_id": "offers@fed:a",
        "revoked_at": "2030-01-01T00:00:00Z",
        "signed_by": "subject",
    });
    let mut issuer = subject.clone();
    issuer["signed_by"] = json!("issuer");
    issuer["issuer/participant_id"] =
        json!(format!("participant:did:key:{}", key.public().multibase()));
    let by = |value: &Value| Revocation::read(&read(value)).map(|read| (read.by, read.signer));
    assert_eq!(by(&sign(&node, subject.clone())), Ok((BY_SUBJECT, *node.public())));
    assert_eq!(by(&sign(&key, issuer.clone())), Ok((BY_ISSUER, *key.public())));
    for swapped in [sign(&key, subject.clone()), sign(&node, issuer)] {
        assert_eq!(reason(Revocation::read(&read(&swapped))), Some(Reason::SignatureInvalid));
    }
    let mut delegated = subject;
    delegated["issuer_delegation"] = json!({});
    let found = reason(Revocation::read(&read(&sign(&node, delegated))));
    assert_eq!(found, Some(Reason::DelegationUnsupported));
}
