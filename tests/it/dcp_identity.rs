//! `dcp.accounts.*`, `dcp.key.*`, `dcp.identity.get`, and how their REST routes behave.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use muster::app::Cx;
use muster::face::dcp::account_param::{AccountParam, resolve_account};
use muster::face::dcp::identity::{Identity, identity};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::calls::{Core, refused};
use crate::server::{PATIENCE, TestServer, code_of};

const HEADER: &str = include_str!("dcp_keystore.header");
const KEYSTORE: &str = include_str!("dcp_keystore.json");
const PASSWORD: &str = "correct horse";
const ADDRESS: &str = "0x3c283b5a559b2d02bc279e02f7e3a73ecc52f827";
/// Of the definition of the format; its key was made for PBKDF2 with 262,144 rounds.
const OTHER: &str = r#"{"version":3,"crypto":{"cipher":"aes-128-ctr",
    "cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
    "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
    "kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
    "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
    "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"}}"#;
const OTHER_ADDRESS: &str = "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b";

fn basic(keystore: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{keystore}:{password}")))
}

fn other() -> String {
    basic(OTHER, "testpassword")
}

struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: Value,
}

/// An exchange with the headers of the answer.
async fn ask(server: &TestServer, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let mut io = TcpStream::connect(server.at.http).await.unwrap();
    // The server may answer, and close, before it has read everything.
    let _ = io.write_all(request.as_bytes()).await;
    let mut reply = Vec::new();
    let _ = timeout(PATIENCE, io.read_to_end(&mut reply)).await.unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    Answer { status, head: head.to_ascii_lowercase(), body }
}

async fn get(server: &TestServer, path: &str, authorization: &str) -> Answer {
    let header = format!("authorization: {authorization}");
    ask(server, &format!("GET {path}"), &[&header], "").await
}

#[tokio::test]
async fn the_published_header_is_an_identity_over_rest_and_rpc() {
    let server = Core::start().await;
    let who = json!({ "address": ADDRESS, "scheme": "Basic" });
    let auth = json!({ "auth": HEADER.trim() });
    assert_eq!(server.rpc("dcp.identity.get", auth.clone()).await.unwrap(), who);
    assert_eq!(server.rpc("dcp.accounts.list", auth).await.unwrap(), json!([]));
    for path in ["/api/v0/accounts", "/api/v0/accounts/", "/api/accounts", "/api/accounts/"] {
        let answer = get(&server, path, HEADER.trim()).await;
        assert_eq!((answer.status, answer.body), (200, json!([])), "{path}");
    }
    let pretty: Value = serde_json::from_str(KEYSTORE).unwrap();
    let pretty = basic(&serde_json::to_string_pretty(&pretty).unwrap(), PASSWORD);
    let unpadded = pretty.trim_end_matches('=');
    assert_eq!(server.rpc("dcp.identity.get", json!({ "auth": unpadded })).await.unwrap(), who);
    assert_eq!(server.rpc("dcp.identity.get", json!([unpadded])).await.unwrap(), who);
}

#[tokio::test]
async fn credentials_that_do_not_count_are_all_answered_alike() {
    let server = Core::start().await;
    let mut hostile: Value = serde_json::from_str(KEYSTORE).unwrap();
    hostile["crypto"]["kdfparams"]["n"] = json!(1_u64 << 30);
    let wrong = [
        basic(KEYSTORE, "wrong"),
        basic(KEYSTORE, ""),
        basic(&hostile.to_string(), PASSWORD),
        basic(&format!("{} x", KEYSTORE.trim()), PASSWORD),
        basic("user", "password"),
        "Basic ****".to_owned(),
        "Basic".to_owned(),
        format!("{}x", &HEADER[..200]),
        "Digest abc".to_owned(),
        "Bearer 00000000000000000000.x".to_owned(),
        "Bearer x".to_owned(),
    ];
    let first = ask(&server, "GET /api/v0/accounts", &[], "").await;
    assert_eq!(first.status, 401);
    assert_eq!(first.body.as_object().unwrap().len(), 1, "{}", first.body);
    for text in wrong {
        let answer = get(&server, "/api/v0/accounts", &text).await;
        assert_eq!((answer.status, &answer.body), (401, &first.body), "{text:.60}");
        assert!(answer.head.contains("www-authenticate: basic realm=\"dcp\""), "{}", answer.head);
        assert!(answer.head.contains("access-control-allow-origin: *"), "{}", answer.head);
        let data = refused(server.rpc("dcp.accounts.list", json!({ "auth": text })).await, -32003);
        assert_eq!(data, json!({ "error": first.body["error"], "http_status": 401 }));
    }
    refused(server.rpc("dcp.identity.get", json!({})).await, -32003);
    refused(server.rpc("dcp.accounts.add", json!({ "address": "nonsense" })).await, -32003);
    // However often: unlocking is what costs, and that is bounded.
    for _ in 0..50 {
        assert_eq!(get(&server, "/api/v0/accounts", "Basic AAAA").await.status, 401);
    }
}

#[tokio::test]
async fn credentials_of_megabytes_are_refused() {
    let server = Core::start().await;
    for (length, code) in [(200_000, -32003), (9 << 20, -32005)] {
        let long = format!("Basic {}", "A".repeat(length));
        refused(server.rpc("dcp.identity.get", json!({ "auth": long })).await, code);
    }
    let answer = get(&server, "/api/v0/accounts", &format!("Basic {}", "A".repeat(60_000))).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn an_api_key_stands_for_its_keystore_until_it_is_revoked() {
    let server = Core::start().await;
    let body = json!({ "keystore": KEYSTORE, "token": PASSWORD, "email": "a@example.org" });
    let made = ask(&server, "POST /api/v0/key", &[], &body.to_string()).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let key = made.body["key"].as_str().unwrap();
    let (digits, token) = key.split_once('.').unwrap();
    assert_eq!(token, PASSWORD);
    assert!(digits.len() == 20 && digits.bytes().all(|c| b"0123456789abcdef".contains(&c)));
    let who = json!({ "address": ADDRESS, "scheme": "Bearer" });
    let bearer = json!({ "auth": format!("Bearer {key}") });
    assert_eq!(server.rpc("dcp.identity.get", bearer.clone()).await.unwrap(), who);
    assert_eq!(get(&server, "/api/accounts", &format!("bearer {key}")).await.status, 200);
    let wrong = json!({ "auth": format!("Bearer {digits}.wrong") });
    refused(server.rpc("dcp.identity.get", wrong).await, -32003);

    let foreign = json!({ "key": key, "auth": other() });
    let data = refused(server.rpc("dcp.key.revoke", foreign).await, -32004);
    assert!(!data.to_string().contains(PASSWORD), "{data}");
    let unknown = json!({ "key": "0".repeat(20), "auth": HEADER.trim() });
    refused(server.rpc("dcp.key.revoke", unknown).await, -32001);
    let malformed = json!({ "key": "x", "auth": HEADER.trim() });
    refused(server.rpc("dcp.key.revoke", malformed).await, -32602);
    refused(server.rpc("dcp.key.revoke", json!({ "key": key })).await, -32003);
    let revoke = json!({ "key": key, "auth": bearer["auth"] });
    let revoked = server.rpc("dcp.key.revoke", revoke.clone()).await.unwrap();
    assert_eq!(revoked, json!({ "revoked": true }));
    refused(server.rpc("dcp.identity.get", bearer).await, -32003);
    refused(server.rpc("dcp.key.revoke", revoke).await, -32003);
    assert_eq!(server.app.store.check().unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_key_is_made_only_of_a_keystore_that_unlocks() {
    let server = Core::start().await;
    let keystore: Value = serde_json::from_str(KEYSTORE).unwrap();
    for body in [
        json!({ "keystore": keystore, "token": "wrong" }),
        json!({ "keystore": "{}", "token": PASSWORD }),
        json!({ "keystore": "garbage", "token": PASSWORD }),
        json!({ "keystore": {}, "token": PASSWORD }),
    ] {
        let answer = ask(&server, "POST /api/v0/key", &[], &body.to_string()).await;
        assert_eq!(answer.status, 401, "{body}");
        refused(server.rpc("dcp.key.create", body).await, -32003);
    }
    let needless = json!({ "keystore": keystore, "token": PASSWORD, "auth": "x" });
    server.rpc("dcp.key.create", needless).await.unwrap();
    for (body, messages) in [
        (json!({}), 2),
        (json!({ "keystore": keystore }), 1),
        (json!({ "token": PASSWORD }), 1),
        (json!({ "keystore": null, "token": null }), 2),
        (json!({ "keystore": 7, "token": 7, "email": 7 }), 3),
        (json!({ "keystore": keystore, "token": PASSWORD, "email": {} }), 1),
    ] {
        let answer = ask(&server, "POST /api/v0/key", &[], &body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.body["messages"].as_array().unwrap().len(), messages, "{}", answer.body);
        let data = refused(server.rpc("dcp.key.create", body.clone()).await, -32602);
        assert!(data["error"].is_string() && data["http_status"] == 400, "{body}: {data}");
    }
    for body in ["", "x", "[]", "7", "{\"keystore\":", "{\"token\":\"secret\"]"] {
        let answer = ask(&server, "POST /api/key/", &["content-type: text/plain"], body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(!answer.body.to_string().contains("secret"), "{}", answer.body);
    }
    let body = json!({ "keystore": keystore, "token": PASSWORD, "more": 1 }).to_string();
    let answer = ask(&server, "POST /api/key/", &["content-type: text/plain"], &body).await;
    assert_eq!(answer.status, 200, "as an object, by the older path, whatever its type");
}

#[tokio::test]
async fn accounts_are_listed_in_order_and_may_be_renamed() {
    let server = Core::start().await;
    let auth = HEADER.trim();
    let add = async |mut params: Value| {
        params["auth"] = auth.into();
        server.rpc("dcp.accounts.add", params).await
    };
    let first = "94E619279C5780fF20ECe07fAA719e3D66111A88";
    let made = add(json!({ "address": first })).await.unwrap();
    let want = json!({
        "name": "94e61927", "address": "0x94e619279c5780ff20ece07faa719e3d66111a88", "balance": "0",
    });
    assert_eq!(made, want);
    let second =
        add(json!({ "json": OTHER, "password": "testpassword", "label": "Savings" })).await;
    assert_eq!(second.unwrap()["address"], OTHER_ADDRESS);
    let again = add(json!({ "address": format!("0x{first}") })).await.unwrap();
    assert_eq!(again, want, "it is there already");
    let named = add(json!({ "address": first, "label": "Daily" })).await.unwrap();
    assert_eq!(named["name"], "Daily");
    refused(add(json!({ "address": first, "label": "Savings" })).await, -32002);
    refused(add(json!({ "address": "00".repeat(20), "label": "Savings" })).await, -32002);
    for bad in [
        json!({}),
        json!({ "label": "Daily" }),
        json!({ "address": "12" }),
        json!({ "address": 7 }),
        json!({ "address": first, "label": "" }),
        json!({ "address": first, "label": "a\u{0}b" }),
        json!({ "address": first, "label": "x".repeat(129) }),
        json!({ "address": first, "label": 7 }),
        json!({ "json": OTHER, "password": 7 }),
    ] {
        let data = refused(add(bad.clone()).await, -32602);
        assert!(data["error"].is_string(), "{bad}: {data}");
    }
    refused(add(json!({ "json": OTHER, "password": "wrong" })).await, -32004);
    refused(add(json!({ "json": 7 })).await, -32004);
    let listed = get(&server, "/api/v0/accounts", auth).await.body;
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["Daily", "Savings"]);
    let theirs = server.rpc("dcp.accounts.list", json!({ "auth": other() })).await.unwrap();
    assert_eq!(theirs, json!([]), "accounts are an identity's own");
    assert_eq!(server.app.store.check().unwrap().problems, Vec::<String>::new());
}

fn inside(server: &TestServer) -> Cx {
    Cx::inside(server.app.clone(), muster::app::Caller::Anonymous)
}

async fn resolved(cx: &Cx, who: &Identity, account: Value) -> Result<(String, String), u16> {
    let param = AccountParam::read(Some(&account)).map_err(|err| err.http())?;
    let account = resolve_account(cx, who, &param).await.map_err(|err| err.http())?;
    Ok((account.name, account.address.to_string()))
}

#[tokio::test]
async fn whoever_deploys_names_an_account_in_one_of_four_ways() {
    let server = TestServer::start().await;
    let cx = inside(&server);
    let who = identity(&cx, Some(HEADER.trim())).await.unwrap();
    let resolve = async |account: Value| resolved(&cx, &who, account).await;
    let entered = |name: &str, address: &str| Ok((name.to_owned(), address.to_owned()));
    let address = "0x94e619279c5780ff20ece07faa719e3d66111a88";
    assert_eq!(resolve(json!({ "label": "94e61927" })).await, Err(404));
    assert_eq!(resolve(json!({ "address": address })).await, entered("94e61927", address));
    assert_eq!(resolve(json!({ "label": "94e61927" })).await, entered("94e61927", address));
    assert_eq!(resolve(json!({ "name": "94e61927" })).await, entered("94e61927", address));
    let mut labelled: Value = serde_json::from_str(OTHER).unwrap();
    labelled["label"] = json!("Mine");
    let json = json!({ "json": labelled, "password": "testpassword", "address": "ignored" });
    assert_eq!(resolve(json).await, entered("Mine", OTHER_ADDRESS));
    assert_eq!(resolve(json!({ "json": OTHER, "password": "wrong" })).await, Err(403));
    assert_eq!(resolve(json!({ "json": OTHER })).await, Err(403), "the password is empty then");
    assert_eq!(resolve(json!({ "json": "x", "address": address })).await, Err(403));
    assert_eq!(resolve(json!({ "address": "94e6" })).await, Err(400));
    assert_eq!(resolve(json!({ "address": "zz", "label": "Mine" })).await, Err(400));
    for none in [json!({}), json!([]), json!("x"), json!(null), json!({ "label": null })] {
        assert_eq!(resolve(none.clone()).await, Err(400), "{none}");
    }
    assert_eq!(server.app.store.check().unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_strict_coordinator_enters_no_account_by_its_address_alone() {
    let server = TestServer::with(|config| config.strict_accounts = true).await;
    let cx = inside(&server);
    let who = identity(&cx, Some(HEADER.trim())).await.unwrap();
    let resolve = async |account: Value| resolved(&cx, &who, account).await;
    assert_eq!(resolve(json!({ "address": OTHER_ADDRESS })).await, Err(403));
    let json = json!({ "json": OTHER, "password": "testpassword" });
    assert!(resolve(json).await.is_ok(), "whoever can unlock it owns it");
    assert!(resolve(json!({ "address": OTHER_ADDRESS })).await.is_ok());
}

#[tokio::test]
async fn many_calls_at_once_with_the_same_credentials_get_through() {
    let server = Core::start().await;
    let auth = basic(OTHER, "testpassword");
    let calls = (0..40).map(|_| server.rpc("dcp.identity.get", json!({ "auth": auth })));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap()["address"], OTHER_ADDRESS);
    }
}

#[tokio::test]
async fn pages_of_every_origin_may_call() {
    let server = TestServer::start().await;
    let page = "origin: https://page.example";
    for path in ["/api/v0/accounts", "/api/v0/key", "/api/accounts", "/api/v0/nothing", "/spec"] {
        let asks = ["access-control-request-headers: authorization", page];
        let answer = ask(&server, &format!("OPTIONS {path}"), &asks, "").await;
        assert_eq!((answer.status, &answer.body), (204, &json!("")), "{path}");
        for header in [
            "access-control-allow-origin: *",
            "access-control-allow-headers: authorization",
            "access-control-allow-methods: ",
        ] {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
    }
    let header = format!("authorization: {}", HEADER.trim());
    let answer = ask(&server, "GET /api/v0/accounts", &[page, &header], "").await;
    assert_eq!((answer.status, answer.body), (200, json!([])));
    assert!(answer.head.contains("access-control-allow-origin: *"));
    for path in ["/actors", "/", "/openrpc.json"] {
        assert_eq!(ask(&server, &format!("GET {path}"), &[page], "").await.status, 403, "{path}");
        let answer = ask(&server, &format!("OPTIONS {path}"), &[], "").await;
        assert!(!answer.head.contains("access-control"), "{path}: {}", answer.head);
    }
}

#[tokio::test]
async fn refusals_outside_of_any_method_speak_the_same_language() {
    let server = TestServer::start().await;
    let answer = ask(&server, "GET /api/v0/nothing", &[], "").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body["error"].is_string(), "{}", answer.body);
    assert!(answer.head.contains("access-control-allow-origin: *"));
    let answer = ask(&server, "DELETE /api/v0/accounts", &[], "").await;
    assert_eq!(answer.status, 405);
    assert!(answer.body["error"].is_string() && answer.head.contains("allow: get"));
    assert!(answer.head.contains("access-control-allow-origin: *"));
    let answer = ask(&server, "GET /nothing", &[], "").await;
    assert!(answer.body["error"].is_null(), "another face's: {}", answer.body);
    let unknown = server.ask("dcp.identity.get", json!({ "auth": 1 })).await;
    assert_eq!(code_of(&unknown), -32602);
    let data = &unknown["error"]["data"];
    assert!(data["error"].is_string() && data["http_status"] == 400, "{data}");
}

#[tokio::test]
async fn the_openapi_document_is_served() {
    let server = TestServer::start().await;
    for path in ["/spec", "/spec/"] {
        let answer = ask(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: text/yaml"), "{}", answer.head);
        assert!(answer.head.contains("access-control-allow-origin: *"), "{}", answer.head);
        assert!(answer.body.as_str().unwrap().starts_with("openapi: 3.0"));
    }
    assert_eq!(ask(&server, "POST /spec", &[], "").await.status, 405);
}
