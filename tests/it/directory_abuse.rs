//! What bad input gets: every row of the directory's table of abuse, on both surfaces.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use muster::identity::{NodeKey, PublicKey, signature};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::advertiser::{Advertiser, altered, in_seconds};
use crate::directory::{put, rpc_put};
use crate::server::{PATIENCE, TestServer};

/// What both surfaces must say of a text that is refused.
async fn refused(server: &TestServer, node: &Advertiser, text: &str, want: (u16, &str)) {
    let (status, body) = put(server, node, text).await;
    let reason = body["reason"].as_str().unwrap_or_default();
    assert_eq!((status, reason), want, "{text:.2000}: {body}");
    let word = if matches!(status, 400 | 422) { "invalid" } else { "rejected" };
    assert_eq!(body["status"], word);
    assert_eq!(body["node/id"], node.id().as_str());
    assert!(body["code"].as_str().unwrap().starts_with("E_"), "{body}");
    assert!(body["detail"].as_str().unwrap_or_default().chars().count() <= 300);
    // What is no JSON at all cannot be inside of JSON-RPC.
    let whole = serde_json::from_str::<Box<serde_json::value::RawValue>>(text);
    if whole.is_ok() && !matches!(reason, "node-id-mismatch") {
        let answer = rpc_put(server, text).await;
        let data = &answer["error"]["data"];
        assert_eq!(data["reason"], reason, "{text:.2000}: {answer}");
        assert_eq!(data["http_status"], status);
        let code = match status {
            403 => -32004,
            413 | 429 => -32005,
            503 => -32011,
            _ => -32602,
        };
        assert_eq!(answer["error"]["code"], code);
    }
}

async fn nothing_was_stored(server: &TestServer) {
    let (_, page) = server.raw("GET", "/adv", "").await;
    assert_eq!(page["items"], json!([]), "{page}");
}

/// A whole answer, its head too.
async fn bare(server: &TestServer, request: &[u8]) -> (String, Value) {
    let mut io = TcpStream::connect(server.at.http).await.unwrap();
    io.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(PATIENCE, io.read_to_end(&mut reply)).await.unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").expect("no answer");
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn nothing_can_be_changed_after_it_was_signed() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let (now, later) = (in_seconds(0), in_seconds(600));
    let members = [
        ("advertised-at", json!(now)),
        ("expires-at", json!(later)),
        ("x/list", json!([1, 2])),
        ("federation/id", json!("fed:a")),
        ("x/whole", json!(1)),
    ];
    let text = node.with(7, &members);
    let zone = format!("{}+00:00", now.trim_end_matches('Z'));
    for (from, to) in [
        ("\"x/list\":[1,2]", "\"x/list\":[2,1]"),
        ("\"sequence/no\":7", "\"sequence/no\":8"),
        (&*now, &*zone),
        ("fed:a", "fed:b"),
        ("one.example", "two.example"),
        ("\"x/whole\":1", "\"x/whole\":1.0"),
        ("\"schema/v\":1", "\"schema/v\":1,\"x/new\":null"),
        (",\"x/whole\":1", ""),
        ("adv:TEST-7", "adv:TEST-8"),
        ("listener", "relay"),
    ] {
        refused(&server, &node, &altered(&text, from, to), (403, "signature-invalid")).await;
    }
    // Another's signature, an earlier one, another's identity over one's own signature.
    let (other, victim) = (Advertiser::new(), Advertiser::new());
    let value = |text: &str| {
        let json: Value = serde_json::from_str(text).unwrap();
        json["signature"]["value"].as_str().unwrap().to_owned()
    };
    let own = value(&text);
    for foreign in [value(&other.with(7, &members)), value(&node.advertisement(6))] {
        refused(&server, &node, &altered(&text, &own, &foreign), (403, "signature-invalid")).await;
    }
    let swapped = text.replace(&node.key.public().multibase(), &victim.key.public().multibase());
    refused(&server, &victim, &swapped, (403, "signature-invalid")).await;
    // Other texts of the same bytes, and what is no signature at all.
    let mut bytes = signature::from_text(&own).unwrap();
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10_u16,
    ];
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + add;
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    let last = own.chars().last().unwrap();
    let spare = char::from(u8::try_from(u32::from(last)).unwrap() + 1);
    for wrong in [
        signature::to_text(&bytes),
        format!("{own}=="),
        own[..85].to_owned(),
        format!("{}{spare}", &own[..85]),
        format!("+{}", &own[1..]),
        "base64url:node-advertisement-signature".to_owned(),
    ] {
        refused(&server, &node, &altered(&text, &own, &wrong), (403, "signature-invalid")).await;
    }
    let extra =
        altered(&text, "\"alg\":\"ed25519\",\"value\"", "\"alg\":\"ed25519\",\"x\":1,\"value\"");
    refused(&server, &node, &extra, (422, "schema-violation")).await;
    refused(&server, &node, &altered(&text, &own, ""), (422, "schema-violation")).await;
    nothing_was_stored(&server).await;
}

#[tokio::test]
async fn what_is_not_the_contract_is_refused_before_the_signature_is_looked_at() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let endpoint = |name: &str, value: Value| {
        let mut endpoint = node.unsigned(1)["endpoints"][0].clone();
        endpoint[name] = value;
        json!([endpoint])
    };
    let same = |count: usize| Value::Array(vec![node.unsigned(1)["endpoints"][0].clone(); count]);
    let cases = [
        ("schema/v", json!(2), "schema-version-unsupported"),
        ("schema/v", json!(-1), "schema-version-unsupported"),
        ("schema/v", json!("1"), "schema-violation"),
        ("schema/v", json!(1.0), "schema-violation"),
        ("advertisement/id", json!(""), "schema-violation"),
        ("advertisement/id", json!("x".repeat(257)), "schema-violation"),
        ("sequence/no", json!(-1), "schema-violation"),
        ("sequence/no", json!(17.0), "schema-violation"),
        ("sequence/no", json!("17"), "schema-violation"),
        ("sequence/no", json!(true), "schema-violation"),
        ("sequence/no", Value::Null, "schema-violation"),
        ("advertised-at", json!("2030-13-01T00:00:00Z"), "schema-violation"),
        ("expires-at", json!(1_893_456_000), "schema-violation"),
        ("expires-at", json!("2030-01-01 00:00:00Z"), "schema-violation"),
        ("key/alg", json!("ED25519"), "schema-violation"),
        ("key/public", json!("x"), "schema-violation"),
        ("federation/id", Value::Null, "schema-violation"),
        ("federation/id", json!(""), "schema-violation"),
        ("federation/id", json!("f".repeat(129)), "schema-violation"),
        ("policy_annotations", json!([]), "schema-violation"),
        ("succession", json!({}), "schema-violation"),
        ("succession", json!({ "successor/node-id": "node:x" }), "schema-violation"),
        (
            "succession",
            json!({ "successor/node-id": node.id(), "proof/current": "" }),
            "schema-violation",
        ),
        ("transports/supported", json!([]), "schema-violation"),
        ("transports/supported", json!(["wss", "wss"]), "schema-violation"),
        ("transports/supported", json!(["quic"]), "schema-violation"),
        ("endpoints", json!([]), "schema-violation"),
        ("endpoints", json!({}), "schema-violation"),
        ("endpoints", same(33), "schema-violation"),
        ("endpoints", endpoint("endpoint/role", json!("leader")), "schema-violation"),
        ("endpoints", endpoint("endpoint/transport", json!("ws")), "schema-violation"),
        ("endpoints", endpoint("endpoint/priority", json!(-1)), "schema-violation"),
        ("endpoints", endpoint("endpoint/priority", json!(0.0)), "schema-violation"),
        ("endpoints", endpoint("endpoint/url", json!(7)), "schema-violation"),
        ("endpoints", endpoint("endpoint/url", json!("ws://one.example")), "endpoint-invalid"),
        ("endpoints", endpoint("endpoint/url", json!("wss://u:p@one.example")), "endpoint-invalid"),
        ("endpoints", endpoint("endpoint/url", json!("wss://one.example/#f")), "endpoint-invalid"),
    ];
    for (name, value, reason) in cases {
        refused(&server, &node, &node.with(1, &[(name, value)]), (422, reason)).await;
    }
    for name in ["schema/v", "node/id", "endpoints", "expires-at", "key/public"] {
        let mut without = node.unsigned(1);
        without.as_object_mut().unwrap().remove(name);
        let (status, body) = put(&server, &node, &node.sign(&without)).await;
        assert_eq!((status, &body["reason"]), (422, &json!("schema-violation")), "{name}");
    }
    refused(&server, &node, &node.unsigned(1).to_string(), (422, "schema-violation")).await;
    refused(&server, &node, "[]", (422, "schema-violation")).await;
    // All that may be there may be there.
    let full = node.with(
        1,
        &[
            ("endpoints", same(32)),
            ("succession", json!({ "successor/node-id": node.id(), "x": 1, "proof/current": "y" })),
            ("policy_annotations", json!({ "a": [null] })),
            ("advertisement/id", json!("é".repeat(128))),
            ("", json!("\0")),
            ("é", json!(1)),
            ("e\u{301}", json!(2)),
        ],
    );
    assert_eq!(put(&server, &node, &full).await.0, 201);
}

#[tokio::test]
async fn json_is_read_strictly() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let good = node.advertisement(1);
    let with = |member: &str| altered(&good, "{", &format!("{{{member},"));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (text, want) in [
        (with(r#""x":1,"x":1"#), (400, "duplicate-key")),
        (with(r#""x":{"a":1,"\u0061":1}"#), (400, "duplicate-key")),
        (with(r#""schema\/v":1"#), (400, "duplicate-key")),
        (with(r#""x":-0"#), (422, "number-invalid")),
        (with(r#""x":1e400"#), (422, "number-invalid")),
        (with(r#""x":18446744073709551616"#), (422, "number-invalid")),
        (
            altered(&good, "\"sequence/no\":1", "\"sequence/no\":18446744073709551616"),
            (422, "number-invalid"),
        ),
        (altered(&good, "\"sequence/no\":1", "\"sequence/no\":1.7e1"), (422, "schema-violation")),
        (with(r#""x":"\ud800""#), (400, "json-malformed")),
        (with(r#""\udc00":1"#), (400, "json-malformed")),
        (with(&format!(r#""x":{}"#, deep(32))), (400, "nesting-too-deep")),
        (deep(10_000), (400, "nesting-too-deep")),
        ("[".repeat(10_000), (400, "nesting-too-deep")),
        (format!("\u{feff}{good}"), (400, "json-malformed")),
        (format!("{good}{good}"), (400, "json-malformed")),
        (with("/* c */\"x\":1"), (400, "json-malformed")),
        (altered(&good, "}}", "},}"), (400, "json-malformed")),
        (String::new(), (400, "json-malformed")),
        ("\"x\"".to_owned(), (422, "schema-violation")),
    ] {
        refused(&server, &node, &text, want).await;
    }
    let (_, body) =
        server.exchange(server.at.http, "PUT", &node.path(), &[], b"{\"\xff\":1}").await;
    assert!(body.contains("json-malformed"), "{body}");
    nothing_was_stored(&server).await;
    let nested = node.with(1, &[("x", serde_json::from_str(&deep(31)).unwrap())]);
    assert_eq!(put(&server, &node, &format!(" \n{nested}\t ")).await.0, 201);
}

#[tokio::test]
async fn sizes_and_types_are_checked_before_anything_is_read() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let padded = |bytes: usize| {
        let text = node.advertisement(1);
        format!("{{{}{}", " ".repeat(bytes - text.len()), &text[1..])
    };
    refused(&server, &node, &padded(65_537), (413, "body-too-large")).await;
    refused(&server, &node, &padded(3 << 20), (413, "body-too-large")).await;
    let (status, body) = server.raw("PUT", "/adv/nobody", &padded(65_537)).await;
    assert_eq!((status, &body["node/id"]), (413, &Value::Null));
    let typed = async |kind: &str, body: String| {
        server.exchange(server.at.http, "PUT", &node.path(), &[kind], body.as_bytes()).await
    };
    for wrong in ["text/plain", "application/json-rpc", "application/jsonx", ""] {
        for body in [node.advertisement(1), String::new(), padded(65_537)] {
            let (status, body) = typed(&format!("content-type: {wrong}"), body).await;
            assert_eq!(status, 415, "{wrong}: {body}");
            assert!(body.contains("media-type-unsupported"));
        }
    }
    nothing_was_stored(&server).await;
    let (status, body) =
        typed("content-type: Application/JSON; charset=utf-8; x=y", padded(65_536)).await;
    assert_eq!(status, 201, "{body}");
    // Without a type it is JSON.
    let text = node.advertisement(2);
    let path = node.path();
    let length = text.len();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let (head, _) = bare(&server, format!("{head}{text}").as_bytes()).await;
    assert!(head.starts_with("http/1.1 201"), "{head}");
    // What says that it is too large is not waited for.
    let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 65537\r\n\r\n");
    let (head, body) = bare(&server, head.as_bytes()).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert_eq!(body["reason"], "body-too-large");
    // Chunks have no length that could be looked at before.
    let chunked = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let body = padded(70_000);
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let (head, body) = bare(&server, format!("{chunked}{chunk}").as_bytes()).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert_eq!(body["code"], "E_TRANSPORT_REJECTED");
}

#[tokio::test]
async fn paths_that_name_no_node_are_refused() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let text = node.advertisement(1);
    let id = node.id();
    let malformed = [
        "..%2f..%2fetc%2fpasswd".to_owned(),
        format!("{id}%00"),
        format!("{id}%0d%0aset-cookie:x"),
        id.replace(':', "%253A"),
        format!("{id}%"),
        format!("{id}%zz"),
        format!("{id}%ff"),
        format!("%20{id}"),
        format!("{id}+"),
        id.replace("node:", "Node:"),
        id.replace("node:did", "did"),
        format!("node:did:key:z{}", "1".repeat(5_000)),
        format!("{id}%6c"),
        "..".to_owned(),
    ];
    for slot in malformed {
        for (verb, body) in [("GET", ""), ("PUT", text.as_str())] {
            let path = format!("/adv/{slot}");
            let (status, answer) = server.raw(verb, &path, body).await;
            assert_eq!((status, &answer["reason"]), (400, &json!("node-id-malformed")), "{path}");
            assert_eq!(answer["node/id"], Value::Null);
        }
        if let Some(decoded) = muster::method::percent_decoded(&slot) {
            let answer = server.ask("adv.get", json!([decoded])).await;
            assert_eq!(answer["error"]["data"]["reason"], "node-id-malformed");
            assert_eq!(answer["error"]["code"], -32602);
        }
    }
    for path in ["/adv/", "/adv/a/b", "/advx"] {
        assert_eq!(server.raw("GET", path, "").await.0, 404, "{path}");
    }
    let absurd = format!("GET /adv/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(90_000));
    let (head, _) = bare(&server, absurd.as_bytes()).await;
    assert!(head.starts_with("http/1.1 414"), "{head}");
    // It fits the grammar, and is no key: nobody is there.
    let sample = "node:did:key:z111111111111111111111111111111111111111111111111";
    let (status, body) = server.raw("GET", &format!("/adv/{sample}"), "").await;
    assert_eq!((status, &body), (404, &json!({ "status": "not-found", "node/id": sample })));
    let other = Advertiser::new();
    refused(&server, &other, &text, (422, "node-id-mismatch")).await;
    nothing_was_stored(&server).await;
}

#[tokio::test]
async fn other_verbs_are_answered_with_those_that_there_are() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    for (path, verbs, allow) in [
        (node.path(), ["DELETE", "POST", "PATCH"], "allow: get, put"),
        ("/adv".to_owned(), ["DELETE", "POST", "PUT"], "allow: get\r\n"),
    ] {
        for verb in verbs {
            let request = format!(
                "{verb} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            let (head, body) = bare(&server, request.as_bytes()).await;
            assert!(head.starts_with("http/1.1 405"), "{head}");
            assert!(format!("{head}\r\n").contains(allow), "{head}");
            assert!(head.contains("content-type: application/json"));
            assert_eq!(body["reason"], "method-not-allowed");
            assert_eq!(
                (&body["status"], &body["code"]),
                (&json!("rejected"), &json!("E_TRANSPORT_REJECTED"))
            );
            let slot = if path == "/adv" { Value::Null } else { json!(node.id()) };
            assert_eq!(body["node/id"], slot);
        }
    }
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let raw = *node.key.public().as_bytes();
    let spelled = |codec: &[u8], raw: &[u8]| {
        format!("z{}", bs58::encode([codec, raw].concat()).into_string())
    };
    let mut weak = [0; 32];
    weak[0] = 1;
    let mut no_point = [0; 32];
    no_point[0] = 2;
    for key in [
        spelled(&[0xed, 1], &weak),
        spelled(&[0xed, 1], &no_point),
        spelled(&[0xec, 1], &raw),
        spelled(&[0xed, 1, 7], &raw),
        spelled(&[0xed, 1], &raw[1..]),
    ] {
        assert!(PublicKey::from_multibase(&key).is_err());
        let id = format!("node:did:key:{key}");
        let text = node.with(1, &[("node/id", json!(id)), ("key/public", json!(key))]);
        let (status, body) = server.raw("PUT", &format!("/adv/{id}"), &text).await;
        assert_eq!((status, &body["reason"]), (422, &json!("key-invalid")), "{key}");
    }
    let other = NodeKey::generate().unwrap().public().multibase();
    let text = node.with(1, &[("key/public", json!(other))]);
    refused(&server, &node, &text, (422, "key-mismatch")).await;
}

#[tokio::test]
async fn time_and_order_are_judged_after_authenticity() {
    let server = TestServer::start().await;
    let node = Advertiser::new();
    let times = |made: i64, ends: i64| {
        [("advertised-at", json!(in_seconds(made))), ("expires-at", json!(in_seconds(ends)))]
    };
    for (made, ends, reason) in [
        (0, 0, "validity-inverted"),
        (10, -10, "validity-inverted"),
        (-20, -10, "expired"),
        (40, 600, "advertised-in-future"),
        (0, 604_801, "ttl-too-long"),
        (-604_900, 60, "ttl-too-long"),
    ] {
        let text = node.with(5, &times(made, ends));
        refused(&server, &node, &text, (422, reason)).await;
        let forged = altered(&text, "listener", "relay");
        refused(&server, &node, &forged, (403, "signature-invalid")).await;
    }
    let (_, body) = put(&server, &node, &node.with(5, &times(-20, -10))).await;
    assert_eq!(body["code"], "E_ADV_EXPIRED");
    assert_eq!(put(&server, &node, &node.with(5, &times(25, 600))).await.0, 201);
    assert_eq!(put(&server, &node, &node.with(6, &times(0, 604_800))).await.0, 201);
    for sequence in [1_u64 << 53, (1 << 53) + 1, u64::MAX - 1, u64::MAX] {
        let (status, receipt) = put(&server, &node, &node.advertisement(sequence)).await;
        assert_eq!((status, &receipt["sequence/no"]), (201, &json!(sequence)));
        let (_, current) = server.raw("GET", &node.path(), "").await;
        assert_eq!(current["sequence/no"], json!(sequence));
    }
    let (status, body) = put(&server, &node, &node.advertisement(0)).await;
    assert_eq!((status, &body["current/sequence-no"]), (409, &json!(u64::MAX)));
}

#[tokio::test]
async fn a_forger_spends_nobody_elses_budget() {
    let three = NonZeroU32::new(3).unwrap();
    let server = TestServer::with(|config| {
        config.directory.budget = three;
        config.directory.budget_refill = Duration::from_secs(100);
    })
    .await;
    let node = Advertiser::new();
    let forged = altered(&node.advertisement(9), "listener", "relay");
    let forged = join_all((0..200).map(|_| put(&server, &node, &forged))).await;
    assert!(forged.iter().all(|(status, _)| *status == 403));
    for (sequence, want) in [(1, 201), (1, 409), (2, 201), (3, 429)] {
        let text = node.advertisement(sequence);
        let (status, body) = put(&server, &node, &text).await;
        assert_eq!(status, want, "{body}");
    }
    let (path, text) = (node.path(), node.advertisement(4));
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let (head, body) = bare(&server, request.as_bytes()).await;
    assert!(head.starts_with("http/1.1 429"), "{head}");
    assert_eq!(
        (&body["reason"], &body["code"]),
        (&json!("rate-limited"), &json!("E_TRANSPORT_REJECTED"))
    );
    let seconds = body["retry-after-s"].as_u64().unwrap();
    assert!((1..=100).contains(&seconds) && head.contains(&format!("retry-after: {seconds}")));
    let answer = rpc_put(&server, &node.advertisement(5)).await;
    assert_eq!(answer["error"]["code"], -32005);
    assert_eq!(answer["error"]["data"]["http_status"], 429);
    let other = Advertiser::new();
    assert_eq!(put(&server, &other, &other.advertisement(1)).await.0, 201);
}

#[tokio::test]
async fn beyond_the_limit_only_new_nodes_are_refused() {
    let server = TestServer::with(|config| config.directory.max_nodes = 20).await;
    let nodes: Vec<Advertiser> = (0..25).map(|_| Advertiser::new()).collect();
    for (index, node) in nodes.iter().enumerate() {
        if index < 20 {
            assert_eq!(put(&server, node, &node.advertisement(1)).await.0, 201);
        } else {
            refused(&server, node, &node.advertisement(1), (503, "capacity-exhausted")).await;
        }
    }
    assert_eq!(put(&server, &nodes[3], &nodes[3].advertisement(2)).await.0, 201);
}

#[tokio::test]
async fn only_federations_that_are_served_are_taken() {
    let served = vec!["fed:a".to_owned(), "fed:b".to_owned()];
    let server = TestServer::with(|config| config.directory.federations = served).await;
    let node = Advertiser::new();
    let of =
        |sequence, federation: &str| node.with(sequence, &[("federation/id", json!(federation))]);
    refused(&server, &node, &node.advertisement(1), (403, "federation-not-served")).await;
    refused(&server, &node, &of(1, "fed:A"), (403, "federation-not-served")).await;
    assert_eq!(put(&server, &node, &of(1, "fed:b")).await.0, 201);
}
