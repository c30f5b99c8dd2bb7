//! The catalogue of capabilities and the log of revocations.

use std::time::Duration;

use serde_json::{Value, json};

use crate::advertiser::{Advertiser, in_seconds};
use crate::issuer::{
    Issuer, path_of, registration, sign, sign_advertisement, unsigned_advertisement,
    unsigned_revocation,
};
use crate::server::{PATIENCE, TestServer};

async fn put(server: &TestServer, body: &Value) -> (u16, Value) {
    server.raw("PUT", &path_of(&body["passport"]), &body.to_string()).await
}

async fn get(server: &TestServer, path: &str) -> Value {
    let (status, body) = server.raw("GET", path, "").await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn ids(server: &TestServer, query: &str) -> Vec<String> {
    let page = get(server, &format!("/cap?{query}")).await;
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["capability_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_registered_is_found_with_its_endpoints() {
    let server = TestServer::start().await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let passport = issuer.passport(&node, "seed-directory", "a");
    let (status, receipt) = put(&server, &registration(&node, 1, &passport)).await;
    assert_eq!((status, &receipt["status"]), (201, &json!("created")), "{receipt}");
    let shown = get(&server, &format!("/cap/{}", node.id())).await;
    assert_eq!(shown["endpoints"], json!([]));
    let advertised = node.advertisement(1);
    assert_eq!(server.raw("PUT", &node.path(), &advertised).await.0, 201);
    let shown = get(&server, &format!("/cap/{}", node.id())).await;
    assert_eq!(shown["node_id"], node.id().as_str());
    assert_eq!(shown["endpoints"][0]["endpoint/url"], "wss://one.example/peer");
    let entry = &shown["capabilities"][0];
    assert_eq!(entry["passport"], passport);
    assert_eq!((&entry["official"], &entry["endorsement"]), (&json!(false), &Value::Null));
    assert_eq!(entry["sequence/no"], 1);
    assert_eq!(entry["expires_at"], passport["expires_at"]);
    assert_eq!(entry.as_object().unwrap().len(), 7);
    let page = get(&server, "/cap?capability=role%2Fseed-directory&unknown=1").await;
    assert_eq!(page["max-items"], 100);
    let item = &page["items"][0];
    assert_eq!(item["endpoints"], shown["endpoints"]);
    assert_eq!(item["passport"], passport);
    assert_eq!((&item["anchor_identity"], &item["informal"]), (&Value::Null, &json!(false)));
    assert_eq!(item.as_object().unwrap().len(), 11);
    let next = page["next"].as_str().unwrap();
    assert!(ids(&server, &format!("capability=seed-directory&since={next}")).await.is_empty());
    let params = json!({ "capability": "seed-directory" });
    assert_eq!(server.ask("cap.find", params).await["result"], page);
    let params = json!({ "node_id": node.id() });
    assert_eq!(server.ask("cap.get", params).await["result"], shown);
    let stranger = Advertiser::new().id();
    let (status, body) = server.raw("GET", &format!("/cap/{stranger}"), "").await;
    assert_eq!((status, body), (404, json!({ "status": "not-found", "node/id": stranger })));
    assert_eq!(server.raw("GET", "/cap/nobody", "").await.1["reason"], "node-id-malformed");
    assert_eq!(server.app.store.check().unwrap().problem_count, 0);
}

#[tokio::test]
async fn numbers_order_registrations_and_the_same_again_changes_nothing() {
    let server = TestServer::start().await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let first = issuer.passport(&node, "offers", "a");
    let second = issuer.passport(&node, "offers", "b");
    assert_eq!(put(&server, &registration(&node, 5, &first)).await.0, 201);
    let (status, body) = put(&server, &registration(&node, 5, &first)).await;
    assert_eq!((status, &body["status"]), (200, &json!("unchanged")));
    for sequence in [5, 4] {
        let (status, body) = put(&server, &registration(&node, sequence, &second)).await;
        assert_eq!((status, &body["reason"]), (409, &json!("stale-sequence")));
        assert_eq!(body["current/sequence-no"], 5);
        assert_eq!(body["submitted/sequence-no"], sequence);
    }
    let params = json!({ "registration": registration(&node, 6, &second) });
    let answer = server.ask("cap.put", params).await;
    assert_eq!(answer["result"]["status"], "replaced", "{answer}");
    let third = issuer.passport(&node, "offers", "c");
    let (status, body) = put(&server, &registration(&node, 7, &third)).await;
    assert_eq!((status, &body["status"]), (200, &json!("replaced")));
    let shown = get(&server, &format!("/cap/{}", node.id())).await;
    assert_eq!(shown["capabilities"].as_array().unwrap().len(), 1);
    assert_eq!(shown["capabilities"][0]["passport"], third);
    assert_eq!(server.app.store.check().unwrap().problem_count, 0);
}

/// A registration whose passport or advertisement has other members, all of it well signed.
fn with(
    node: &Advertiser,
    issuer: &Issuer,
    passport: &[(&str, Value)],
    own: &[(&str, Value)],
) -> Value {
    let mut changed = issuer.unsigned(node, "offers", "a");
    for (name, value) in passport {
        changed[*name] = value.clone();
    }
    let passport = sign(&issuer.0, changed);
    let mut advertisement = unsigned_advertisement(node, &passport);
    for (name, value) in own {
        advertisement[*name] = value.clone();
    }
    let advertisement = sign_advertisement(node, advertisement);
    json!({ "advertisement": advertisement, "sequence/no": 1, "passport": passport })
}

#[tokio::test]
async fn whatever_does_not_prove_itself_is_forbidden() {
    let server = TestServer::start().await;
    let (node, issuer, other) = (Advertiser::new(), Issuer::new(), Advertiser::new());
    let good = registration(&node, 1, &issuer.passport(&node, "offers", "a"));
    let path = path_of(&good["passport"]);
    let mut forged = good.clone();
    forged["passport"]["x/note"] = json!("changed");
    let mut tampered = good.clone();
    tampered["advertisement"]["advertisement/id"] = json!("capadv:2");
    let mut delegated = good.clone();
    delegated["passport"]["issuer_delegation"] = json!({ "proof": "x" });
    let mut endorsed = good.clone();
    endorsed["endorsement"] = json!({ "schema": "federation-service-endorsement.v1" });
    let elsewhere = registration(&other, 1, &issuer.passport(&other, "offers", "a"));
    let renamed = registration(&node, 1, &issuer.passport(&node, "others", "a"));
    let mut foreign = registration(&node, 1, &issuer.passport(&node, "offers", "b"));
    foreign["passport"] = good["passport"].clone();
    let cases = [
        (forged, "passport-signature-invalid"),
        (tampered, "advertisement-signature-invalid"),
        (delegated, "delegation-unsupported"),
        (endorsed, "endorsement-root-unknown"),
        (elsewhere, "node-id-mismatch"),
        (renamed, "capability-id-mismatch"),
        (foreign, "passport-mismatch"),
        (with(&node, &issuer, &[("expires_at", json!(in_seconds(-1)))], &[]), "passport-expired"),
        (
            with(&node, &issuer, &[("issued_at", json!(in_seconds(60)))], &[]),
            "passport-issued-in-future",
        ),
        (
            with(&node, &issuer, &[("expires_at", json!(in_seconds(-9)))], &[]),
            "passport-validity-inverted",
        ),
        (
            with(&node, &issuer, &[], &[("published-at", json!(in_seconds(60)))]),
            "advertisement-published-in-future",
        ),
        (
            with(&node, &issuer, &[], &[("published-at", json!(in_seconds(-604_801)))]),
            "advertisement-not-fresh",
        ),
        (
            with(&node, &issuer, &[], &[("capabilities/presented", json!([]))]),
            "capability-not-presented",
        ),
    ];
    for (body, reason) in cases {
        let (status, answer) = server.raw("PUT", &path, &body.to_string()).await;
        assert_eq!((status, &answer["reason"]), (403, &json!(reason)), "{answer}");
        assert_eq!(answer["status"], "rejected");
        assert_eq!(answer["node/id"], node.id().as_str());
    }
    assert_eq!(server.raw("GET", &format!("/cap/{}", node.id()), "").await.0, 404);
    assert_eq!(put(&server, &good).await.0, 201);
}

#[tokio::test]
async fn what_breaks_the_contract_is_invalid() {
    let server = TestServer::start().await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let good = registration(&node, 1, &issuer.passport(&node, "offers", "a"));
    let path = path_of(&good["passport"]);
    let mut zero = good.clone();
    zero["sequence/no"] = json!(0);
    let mut alone = good.clone();
    alone.as_object_mut().unwrap().remove("advertisement");
    let violations = [
        zero,
        alone,
        with(&node, &issuer, &[("scope", json!({ "account_namespaces": ["a"] }))], &[]),
        with(&node, &issuer, &[("capability_id", json!("network-ledger"))], &[]),
        with(&node, &issuer, &[("passport_id", json!("passport:capability:"))], &[]),
        with(&node, &issuer, &[("revocation_ref", json!(1))], &[]),
        with(&node, &issuer, &[("schema", json!("other.v1"))], &[]),
        with(&node, &issuer, &[], &[("capabilities/core", json!(["core/other"]))]),
        with(&node, &issuer, &[], &[("capabilities/presented", json!([1]))]),
    ];
    for body in violations {
        let (status, answer) = server.raw("PUT", &path, &body.to_string()).await;
        assert_eq!((status, &answer["reason"]), (422, &json!("schema-violation")), "{answer}");
    }
    let unsafe_number = with(&node, &issuer, &[("x/big", json!(1_u64 << 53))], &[]);
    let next = with(&node, &issuer, &[("schema", json!("capability-passport.v2"))], &[]);
    let twice = good.to_string().replacen('{', r#"{"sequence/no":1,"#, 1);
    for (path, body, status, reason) in [
        (path.as_str(), unsafe_number.to_string(), 422, "number-invalid"),
        (&path, next.to_string(), 422, "schema-version-unsupported"),
        (&path, twice, 400, "duplicate-key"),
        (&path, "{".to_owned(), 400, "json-malformed"),
        (&path, format!("{}{}", " ".repeat(300_000), good), 413, "body-too-large"),
        ("/cap/x/offers", good.to_string(), 400, "node-id-malformed"),
        (&format!("/cap/{}/~x", node.id()), good.to_string(), 400, "capability-id-malformed"),
    ] {
        let (got, answer) = server.raw("PUT", path, &body).await;
        assert_eq!((got, &answer["reason"]), (status, &json!(reason)), "{answer}");
    }
    assert_eq!(server.raw("DELETE", &path, "").await.1["reason"], "method-not-allowed");
    for (query, reason) in [
        ("", "request-invalid"),
        ("?capability=x%20y", "capability-id-malformed"),
        ("?capability=x&official=maybe", "request-invalid"),
        ("?capability=x&limit=0", "limit-invalid"),
        ("?capability=x&since=y", "cursor-invalid"),
        ("?capability=x&attest=seed-directory-query.v1", "attestation_unavailable"),
    ] {
        let (_, answer) = server.raw("GET", &format!("/cap{query}"), "").await;
        assert_eq!(answer["reason"], reason, "{query}");
    }
}

#[tokio::test]
async fn a_node_has_so_many_capabilities_and_no_more() {
    let server = TestServer::with(|config| config.directory.capabilities_per_node = 2).await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    for (capability, status) in [("a", 201), ("b", 201), ("c", 429)] {
        let passport = issuer.passport(&node, capability, capability);
        let (got, body) = put(&server, &registration(&node, 1, &passport)).await;
        assert_eq!(got, status, "{body}");
        if status == 429 {
            assert_eq!(body["reason"], "capability-registration-limit-exceeded");
        }
    }
    let passport = issuer.passport(&node, "a", "a2");
    assert_eq!(put(&server, &registration(&node, 2, &passport)).await.0, 200);
    let other = Advertiser::new();
    let passport = issuer.passport(&other, "c", "c");
    assert_eq!(put(&server, &registration(&other, 1, &passport)).await.0, 201);
}

#[tokio::test]
async fn names_with_anchors_are_found_as_they_are_asked_for() {
    let server = TestServer::start().await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let all = ["offers", "offers@fed:a", "offers@fed:b", "~offers@fed:a"];
    for capability in all {
        let passport = issuer.passport(&node, capability, capability);
        let (status, body) = put(&server, &registration(&node, 1, &passport)).await;
        assert_eq!(status, 201, "{body}");
    }
    let mut accounts = issuer.unsigned(&node, "network-ledger", "ledger");
    accounts["scope"] = json!({ "account_namespaces": ["main"] });
    accounts["capability_profile"] = json!("ledger-basic");
    let accounts = sign(&issuer.0, accounts);
    assert_eq!(put(&server, &registration(&node, 1, &accounts)).await.0, 201);
    let (ours, theirs) = (issuer.id(), Issuer::new().id());
    for (query, found) in [
        ("capability=offers", vec![0, 1, 2]),
        ("capability=offers&include_formal=false", vec![1, 2]),
        ("capability=offers&include_sovereign_formal=false", vec![0]),
        ("capability=offers&include_sovereign_informal=true", vec![0, 1, 2, 3]),
        ("capability=offers&include_sovereign=false", vec![0]),
        ("capability=offers&include_sovereign=true", vec![0, 1, 2, 3]),
        ("capability=offers&anchor=fed:a", vec![0, 1]),
        ("capability=sovereign/offers", vec![1, 2]),
        ("capability=role/offers&limit=1", vec![0]),
        ("capability=offers@fed:b", vec![2]),
        ("capability=~offers@fed:a", vec![3]),
        ("capability=offers&official=true", vec![]),
        ("capability=offers&official=false", vec![0, 1, 2]),
        ("capability=offers&endorsement=x", vec![]),
        (&format!("capability=offers&node_id={}", node.id()), vec![0, 1, 2]),
        (&format!("capability=offers&node_id={}", Advertiser::new().id()), vec![]),
        (&format!("capability=offers&issuer={ours}"), vec![0, 1, 2]),
        (&format!("capability=offers&issuer={theirs}"), vec![]),
        ("capability=offers&passport_profile=ledger-basic", vec![]),
    ] {
        let found: Vec<&str> = found.into_iter().map(|index: usize| all[index]).collect();
        assert_eq!(ids(&server, query).await, found, "{query}");
    }
    let ledger = "capability=core/network-ledger&passport_profile=ledger-basic";
    assert_eq!(ids(&server, ledger).await, ["network-ledger"]);
    let page = get(&server, "/cap?capability=~offers@fed:a").await;
    assert_eq!(page["items"][0]["anchor_identity"], "fed:a");
    assert_eq!(page["items"][0]["informal"], true);
    let (mut since, mut seen) = (String::new(), Vec::new());
    for count in [2, 1, 0, 0] {
        let page = get(&server, &format!("/cap?capability=offers&limit=2&since={since}")).await;
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), count, "{page}");
        seen.extend(items.iter().map(|item| item["capability_id"].clone()));
        since = page["next"].as_str().unwrap().to_owned();
    }
    assert_eq!(seen, all[..3]);
    let page = get(&server, "/cap?capability=offers&since=cur:01JQNODECUR001").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["reset"]), (3, &json!(true)));
}

#[tokio::test]
async fn a_revoked_passport_is_gone_and_never_returns() {
    let server = TestServer::start().await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let passport = issuer.passport(&node, "offers", "a");
    assert_eq!(put(&server, &registration(&node, 1, &passport)).await.0, 201);
    // A stranger's word about somebody else's passport is worth nothing.
    let (status, body) = revoke(&server, &Issuer::new().revocation(&passport)).await;
    assert_eq!((status, &body["reason"]), (403, &json!("revocation-not-authorised")));
    let mut forged = issuer.revocation(&passport);
    forged["reason"] = json!("because");
    let (status, body) = revoke(&server, &forged).await;
    assert_eq!((status, &body["reason"]), (403, &json!("signature-invalid")));
    let revocation = issuer.revocation(&passport);
    let (status, body) = revoke(&server, &revocation).await;
    assert_eq!((status, &body["status"]), (200, &json!("revoked")), "{body}");
    let (status, body) = revoke(&server, &revocation).await;
    assert_eq!((status, &body["status"]), (200, &json!("unchanged")));
    assert_eq!(server.raw("GET", &format!("/cap/{}", node.id()), "").await.0, 404);
    assert!(ids(&server, "capability=offers").await.is_empty());
    let (status, body) = put(&server, &registration(&node, 9, &passport)).await;
    assert_eq!((status, &body["reason"]), (403, &json!("passport-revoked")));
    let another = issuer.passport(&node, "offers", "b");
    assert_eq!(put(&server, &registration(&node, 10, &another)).await.0, 201);
    // The node itself may say so as well, over RPC.
    let own = sign(&node.key, unsigned_revocation(&another));
    let answer = server.ask("revocation.put", json!({ "revocation": own })).await;
    assert_eq!(answer["result"]["status"], "revoked", "{answer}");
    assert!(ids(&server, "capability=offers").await.is_empty());
    let log = get(&server, "/revocations").await;
    assert_eq!(
        log["items"],
        json!([
            { "artifact_family": "capability-passport", "artifact": revocation },
            { "artifact_family": "capability-passport", "artifact": own },
        ])
    );
    assert_eq!(server.ask("revocation.list", json!({})).await["result"], log);
    let since = log["next"].as_str().unwrap();
    let rest = get(&server, &format!("/revocations?since={since}")).await;
    assert_eq!((&rest["items"], &rest["next"]), (&json!([]), &log["next"]));
    assert_eq!(get(&server, "/revocations/endorsement").await["items"], json!([]));
    assert_eq!(server.app.store.check().unwrap().problem_count, 0);
}

async fn revoke(server: &TestServer, revocation: &Value) -> (u16, Value) {
    server.raw("POST", "/revoke", &revocation.to_string()).await
}

#[tokio::test]
async fn a_revocation_may_come_first_but_only_its_own_issuer_is_heard() {
    let server = TestServer::start().await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let passport = issuer.passport(&node, "offers", "a");
    let strangers = Issuer::new().revocation(&passport);
    assert_eq!(revoke(&server, &strangers).await.0, 200);
    assert_eq!(put(&server, &registration(&node, 1, &passport)).await.0, 201);
    let early = issuer.passport(&node, "others", "b");
    assert_eq!(revoke(&server, &issuer.revocation(&early)).await.0, 200);
    let (status, body) = put(&server, &registration(&node, 1, &early)).await;
    assert_eq!((status, &body["reason"]), (403, &json!("passport-revoked")));
    let mut both = unsigned_revocation(&passport);
    both["target_id"] = json!("delegation:key:1");
    let mut wrong = unsigned_revocation(&passport);
    wrong["issuer/participant_id"] = json!(issuer.id());
    let mut ahead = unsigned_revocation(&passport);
    ahead["revoked_at"] = json!(in_seconds(60));
    let endorsement = json!({ "schema": "federation-service-endorsement-revocation.v1" });
    for (path, body, status, reason) in [
        ("/revoke", sign(&node.key, both), 422, "schema-violation"),
        ("/revoke", sign(&node.key, wrong), 422, "schema-violation"),
        ("/revoke", sign(&node.key, ahead), 403, "revoked-in-future"),
        ("/revoke", endorsement.clone(), 422, "schema-violation"),
        ("/revoke/endorsement", endorsement, 403, "endorsement-root-unknown"),
        ("/revoke/endorsement", strangers, 422, "schema-violation"),
    ] {
        let (got, answer) = server.raw("POST", path, &body.to_string()).await;
        assert_eq!((got, &answer["reason"]), (status, &json!(reason)), "{answer}");
    }
}

#[tokio::test]
async fn what_has_expired_is_left_out_and_swept() {
    let sweep = Duration::from_millis(50);
    let server = TestServer::with(|config| config.directory.sweep = sweep).await;
    let (node, issuer) = (Advertiser::new(), Issuer::new());
    let mut brief = issuer.unsigned(&node, "offers", "a");
    brief["expires_at"] = json!(in_seconds(1));
    let brief = sign(&issuer.0, brief);
    assert_eq!(put(&server, &registration(&node, 1, &brief)).await.0, 201);
    let mut lasting = issuer.unsigned(&node, "others", "b");
    lasting["expires_at"] = Value::Null;
    let lasting = sign(&issuer.0, lasting);
    assert_eq!(put(&server, &registration(&node, 1, &lasting)).await.0, 201);
    let gone = async {
        while !ids(&server, "capability=offers").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    let shown = get(&server, &format!("/cap/{}", node.id())).await;
    assert_eq!(shown["capabilities"].as_array().unwrap().len(), 1);
    assert_eq!(shown["capabilities"][0]["expires_at"], Value::Null);
    assert_eq!(server.app.store.check().unwrap().problem_count, 0);
}
