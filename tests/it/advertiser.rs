//! A node that publishes: advertisements made and signed as nodes do it.

use muster::face::adv::advertisement::signed_bytes;
use muster::identity::{Json, NodeKey, signature};
use serde_json::{Value, json};

/// A node with a key of its own.
pub struct Advertiser {
    pub key: NodeKey,
}

/// A moment, so many seconds from now, as advertisements write it.
pub fn in_seconds(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

impl Advertiser {
    pub fn new() -> Self {
        Self { key: NodeKey::generate().unwrap() }
    }

    pub fn id(&self) -> String {
        self.key.node_id()
    }

    pub fn path(&self) -> String {
        format!("/adv/{}", self.id())
    }

    /// An advertisement that is not signed yet.
    pub fn unsigned(&self, sequence: u64) -> Value {
        json!({
            "schema/v": 1,
            "advertisement/id": format!("adv:TEST-{sequence}"),
            "node/id": self.id(),
            "sequence/no": sequence,
            "advertised-at": in_seconds(0),
            "expires-at": in_seconds(600),
            "key/alg": "ed25519",
            "key/public": self.key.public().multibase(),
            "endpoints": [{
                "endpoint/url": "wss://one.example/peer", "endpoint/transport": "wss",
                "endpoint/role": "listener", "endpoint/priority": 0
            }],
            "transports/supported": ["wss"],
        })
    }

    /// The text of a good advertisement.
    pub fn advertisement(&self, sequence: u64) -> String {
        self.sign(&self.unsigned(sequence))
    }

    /// The same with other members.
    pub fn with(&self, sequence: u64, members: &[(&str, Value)]) -> String {
        let mut advertisement = self.unsigned(sequence);
        for (name, value) in members {
            advertisement[*name] = value.clone();
        }
        self.sign(&advertisement)
    }

    /// Signs what a text says, as it is.
    pub fn sign(&self, advertisement: &Value) -> String {
        self.sign_text(&advertisement.to_string())
    }

    /// The same for what a JSON value cannot hold.
    pub fn sign_text(&self, text: &str) -> String {
        let json = Json::read(text.as_bytes(), 32).unwrap();
        let value = signature::to_text(&self.key.sign(&signed_bytes(&json)));
        let (open, end) = text.trim_end().split_at(text.trim_end().len() - 1);
        format!(r#"{open},"signature":{{"alg":"ed25519","value":"{value}"}}{end}"#)
    }
}

/// A good text with one part of it replaced.
pub fn altered(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}
