//! The published vectors, against the pure checks.

use serde::Deserialize;

use super::advertisement::{DOMAIN, Statement, signed_bytes};
use super::instant;
use crate::config::Directory;
use crate::identity::{Json, NodeKey, cbor, signature};

#[derive(Deserialize)]
struct Vectors {
    clock: String,
    keys: Vec<Key>,
    accept: Vec<Accept>,
    refuse: Vec<Refuse>,
}

#[derive(Deserialize)]
struct Key {
    secret: String,
    #[serde(rename = "public")]
    raw: String,
    #[serde(rename = "key/public")]
    public: String,
    #[serde(rename = "node/id")]
    node_id: String,
}

#[derive(Deserialize)]
struct Accept {
    name: String,
    slot: String,
    text: String,
    cbor: String,
    signing_input: String,
    signature: String,
}

#[derive(Deserialize)]
struct Refuse {
    name: String,
    slot: String,
    text: String,
    http: u16,
    reason: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../tests/data/directory/vectors.json")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(pair).collect()
}

#[test]
fn keys_have_their_spellings() {
    for key in vectors().keys {
        let node = NodeKey::from_secret(&unhex(&key.secret).try_into().unwrap());
        assert_eq!(hex(node.public().as_bytes()), key.raw);
        assert_eq!(node.public().multibase(), key.public);
        assert_eq!(node.node_id(), key.node_id);
    }
}

#[test]
fn what_is_to_be_accepted_is() {
    let Vectors { clock, accept, .. } = vectors();
    let now = instant::to_millis(instant::parse(&clock).unwrap());
    assert_eq!(accept.len(), 4);
    for case in accept {
        let json = Json::read(case.text.as_bytes(), 32).unwrap();
        assert_eq!(hex(&cbor::encode_without(&json, "signature")), case.cbor, "{}", case.name);
        assert_eq!(hex(&signed_bytes(&json)), case.signing_input, "{}", case.name);
        assert!(signed_bytes(&json).starts_with(DOMAIN));
        let rules = Directory::default();
        let read = Statement::read(case.text.as_bytes(), &mut Some(case.slot.clone()), &rules);
        let read = read.unwrap_or_else(|err| panic!("{}: {err:?}", case.name));
        read.check_time(now, &rules).unwrap();
        let given = json.get("signature").unwrap().get("value").unwrap().as_str().unwrap();
        assert_eq!(given, case.signature);
        assert_eq!(signature::to_text(&signature::from_text(given).unwrap()), given);
        let key = vectors().keys.into_iter().find(|key| key.node_id == case.slot).unwrap();
        let node = NodeKey::from_secret(&unhex(&key.secret).try_into().unwrap());
        assert_eq!(signature::to_text(&node.sign(&signed_bytes(&json))), given, "{}", case.name);
    }
}

#[test]
fn what_is_to_be_refused_is_for_the_right_reason() {
    let Vectors { clock, refuse, .. } = vectors();
    let now = instant::to_millis(instant::parse(&clock).unwrap());
    assert_eq!(refuse.len(), 27);
    let rules = Directory::default();
    for case in refuse {
        let read = Statement::read(case.text.as_bytes(), &mut Some(case.slot), &rules);
        let refused = read.and_then(|read| read.check_time(now, &rules)).unwrap_err();
        let got = (refused.reason.word(), refused.reason.status());
        assert_eq!(got, (case.reason.as_str(), case.http), "{}: {refused:?}", case.name);
    }
}

#[test]
fn published_files_without_a_signature_are_refused() {
    let of = |text: &str| {
        Statement::read(text.as_bytes(), &mut None, &Directory::default())
            .unwrap_err()
            .reason
            .word()
    };
    let seed = include_str!("../../../tests/data/directory/seed-wss.node-advertisement.json");
    assert_eq!(of(seed), "signature-invalid");
    let none = include_str!("../../../tests/data/directory/no-endpoints.node-advertisement.json");
    assert_eq!(of(none), "schema-violation");
}
