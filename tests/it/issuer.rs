//! Passports, registrations and revocations, made and signed as issuers and nodes do it.

use muster::face::cap::{presentation, signed};
use muster::identity::{Json, NodeKey, signature};
use serde_json::{Value, json};

use crate::advertiser::{Advertiser, in_seconds};

/// Somebody who issues passports.
pub struct Issuer(pub NodeKey);

impl Issuer {
    pub fn new() -> Self {
        Self(NodeKey::generate().unwrap())
    }

    pub fn id(&self) -> String {
        format!("participant:did:key:{}", self.0.public().multibase())
    }

    pub fn unsigned(&self, node: &Advertiser, capability: &str, name: &str) -> Value {
        json!({
            "schema": "capability-passport.v1",
            "passport_id": format!("passport:capability:{name}"),
            "node_id": node.id(),
            "capability_id": capability,
            "scope": {},
            "issued_at": in_seconds(-5),
            "expires_at": in_seconds(600),
            "issuer/participant_id": self.id(),
            "issuer/node_id": self.0.node_id(),
            "revocation_ref": null,
            "x/note": "kept",
        })
    }

    pub fn passport(&self, node: &Advertiser, capability: &str, name: &str) -> Value {
        sign(&self.0, self.unsigned(node, capability, name))
    }

    pub fn revocation(&self, passport: &Value) -> Value {
        let mut revocation = unsigned_revocation(passport);
        revocation["signed_by"] = json!("issuer");
        revocation["issuer/participant_id"] = json!(self.id());
        sign(&self.0, revocation)
    }
}

pub fn unsigned_revocation(passport: &Value) -> Value {
    json!({
        "schema": "capability-passport-revocation.v1",
        "revocation_id": "passport-revocation:1",
        "passport_id": passport["passport_id"],
        "node_id": passport["node_id"],
        "capability_id": passport["capability_id"],
        "revoked_at": in_seconds(0),
        "signed_by": "subject",
    })
}

/// Signs over canonical JSON.
pub fn sign(key: &NodeKey, mut value: Value) -> Value {
    let json = Json::read(value.to_string().as_bytes(), 32).unwrap();
    let text = signature::to_text(&key.sign(&signed::signed_bytes(&json).unwrap()));
    value["signature"] = json!({ "alg": "ed25519", "value": text });
    value
}

pub fn wire(capability: &str) -> String {
    let name = capability.trim_start_matches('~').split('@').next().unwrap();
    let class = match capability {
        "network-ledger" => "core",
        anchored if anchored.contains('@') => "sovereign",
        _ => "role",
    };
    format!("{class}/{name}")
}

pub fn unsigned_advertisement(node: &Advertiser, passport: &Value) -> Value {
    let capability = passport["capability_id"].as_str().unwrap();
    json!({
        "schema/v": 1,
        "advertisement/id": "capadv:1",
        "node/id": node.id(),
        "published-at": in_seconds(0),
        "protocol/version": "0.1",
        "transport/profiles": ["wss"],
        "capabilities/core": ["core/messaging"],
        "capabilities/presented": [{
            "capability/id": capability, "wire/name": wire(capability),
            "assertion/kind": "passport", "passport": passport,
        }],
        "messages/supported": ["ping"],
    })
}

pub fn sign_advertisement(node: &Advertiser, mut advertisement: Value) -> Value {
    let json = Json::read(advertisement.to_string().as_bytes(), 32).unwrap();
    let text = signature::to_text(&node.key.sign(&presentation::signed_bytes(&json)));
    advertisement["signature"] = json!({ "alg": "ed25519", "value": text });
    advertisement
}

pub fn registration(node: &Advertiser, sequence: u64, passport: &Value) -> Value {
    let advertisement = sign_advertisement(node, unsigned_advertisement(node, passport));
    json!({ "advertisement": advertisement, "sequence/no": sequence, "passport": passport })
}

pub fn path_of(passport: &Value) -> String {
    let part = |name: &str| passport[name].as_str().unwrap().to_owned();
    format!("/cap/{}/{}", part("node_id"), part("capability_id"))
}
