//! Who may do what: tokens, sessions, keys, roles, and what strangers get.

use muster::access::signed_by;
use muster::identity::{NodeKey, signature};
use serde_json::{Value, json};

use crate::calls::{Core, refused};
use crate::server::{PATIENCE, Socket, TestServer, code_of};

/// A coordinator with two tenants that have nothing in common: context 1 of actor 7 with reader 8
/// and executor 9, context 2 of actor 17; runner 3 of context 1.
pub struct Tenants {
    pub core: Core,
    /// An operator's token.
    pub operator: String,
}

pub fn key(actor: u32) -> NodeKey {
    NodeKey::from_secret(&[u8::try_from(actor).unwrap(); 32])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn pubkey(actor: u32) -> String {
    hex(key(actor).public().as_bytes())
}

impl Tenants {
    pub async fn start() -> Self {
        let core = Core::start().await;
        for actor in [7, 8, 9, 17, 20] {
            let actor = json!({ "id": actor, "pubkey": pubkey(actor), "address": [] });
            core.rpc("actor.create", json!({ "actor": actor })).await.unwrap();
        }
        for context in [
            json!({ "id": 1, "admins": [7], "readers": [8], "executors": [9] }),
            json!({ "id": 2, "admins": [17], "readers": [], "executors": [] }),
        ] {
            core.rpc("context.create", json!({ "context": context })).await.unwrap();
        }
        for (context, id) in [(1, 3), (1, 4), (2, 3)] {
            let runner = json!({
                "id": id, "pubkey": pubkey(100 + id), "address": "127.0.0.1", "topic": "", "local": false,
            });
            let params = json!({ "context_id": context, "runner": runner });
            core.rpc("runner.create", params).await.unwrap();
        }
        let made = core.rpc("token.create", json!({ "name": "first" })).await.unwrap();
        Self { core, operator: made["token"].as_str().unwrap().to_owned() }
    }

    /// A call with a bearer: the result, or the error's code and data.
    pub async fn call(
        &self,
        token: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, (i32, Value)> {
        call(&self.core, &[&format!("authorization: Bearer {token}")], method, params).await
    }

    /// Signs in over HTTP; the session's token.
    pub async fn sign_in(&self, whose: &Value, key: &NodeKey) -> String {
        let session = sign_in(&self.core, whose, key).await.unwrap();
        session["token"].as_str().unwrap().to_owned()
    }

    pub async fn actor(&self, id: u32) -> String {
        self.sign_in(&json!({ "actor_id": id }), &key(id)).await
    }

    pub async fn runner(&self, context: u32, id: u32) -> String {
        let whose = json!({ "context_id": context, "runner_id": id });
        self.sign_in(&whose, &key(100 + id)).await
    }
}

/// A call over HTTP with headers.
pub async fn call(
    server: &TestServer,
    headers: &[&str],
    method: &str,
    params: Value,
) -> Result<Value, (i32, Value)> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let (status, text) =
        server.exchange(server.at.http, "POST", "/", headers, body.as_bytes()).await;
    assert_eq!(status, 200, "{text}");
    let mut answer: Value = serde_json::from_str(&text).unwrap();
    match answer.get("error") {
        Some(error) => {
            let code = error["code"].as_i64().unwrap();
            Err((code.try_into().unwrap(), error["data"].clone()))
        }
        None => Ok(answer["result"].take()),
    }
}

fn with(whose: &Value, more: &Value) -> Value {
    let mut params = whose.clone();
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

async fn sign_in(server: &TestServer, whose: &Value, key: &NodeKey) -> Result<Value, (i32, Value)> {
    let asked = call(server, &[], "auth.challenge", whose.clone()).await.unwrap();
    let challenge = asked["challenge"].as_str().unwrap();
    let signature = signed_by(key, challenge);
    let params = with(whose, &json!({ "challenge": challenge, "signature": signature }));
    call(server, &[], "auth.sign_in", params).await
}

async fn whoami(server: &TestServer, headers: &[&str]) -> Value {
    call(server, headers, "auth.whoami", json!({})).await.unwrap()["caller"]["kind"].take()
}

#[tokio::test]
async fn sitting_here_proves_something_only_while_there_is_no_token() {
    let server = Core::start().await;
    let mut socket = server.socket().await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"events.list","params":{}}"#;
    assert!(socket.ask(list).await["result"].is_object());
    let follow = r#"{"jsonrpc":"2.0","id":2,"method":"events.subscribe","params":{}}"#;
    assert!(socket.ask(follow).await["result"].is_string());
    let made = server.rpc("token.create", json!({ "name": "first" })).await.unwrap();
    // What was open ends at once, and says why.
    let mut last = socket.hear().await.unwrap();
    while last["params"]["result"]["seq"].is_u64() {
        last = socket.hear().await.unwrap();
    }
    assert!(last["params"]["result"]["ended"]["reason"].is_string(), "{last}");
    assert_eq!(code_of(&socket.ask(list).await), -32003);
    refused(call(&server, &[], "events.list", json!({})).await, -32003);
    let token = made["token"].as_str().unwrap();
    for header in [
        format!("authorization: Bearer {token}"),
        format!("Authorization: bEARER  {token}"),
        format!("X-OCP-Operator-Token: {token}"),
        format!("x-ocp-control-token: Bearer {token}"),
    ] {
        assert_eq!(whoami(&server, &[&header]).await, "operator", "{header}");
    }
    // Without any token, the machine is trusted again.
    let headers = [&*format!("authorization: Bearer {token}")];
    call(&server, &headers, "token.revoke", json!({ "name": "first" })).await.unwrap();
    assert_eq!(whoami(&server, &[]).await, "operator");
    assert_eq!(whoami(&server, &headers).await, "anonymous", "of a token of ours that is no more");
}

#[tokio::test]
async fn wrong_tokens_are_nobody_are_told_to_wait_and_never_shown() {
    let Tenants { core, operator } = Tenants::start().await;
    let cut = &operator[..operator.len() - 1];
    let longer = format!("{operator}A");
    for wrong in [cut, &longer, "muster_o_", "x", "", "Bearer", "\u{e9}"] {
        let header = format!("authorization: Bearer {wrong}");
        assert_eq!(whoami(&core, &[&header]).await, "anonymous", "{wrong}");
        refused(call(&core, &[&header], "token.list", json!({})).await, -32003);
    }
    let both = [&*format!("authorization: Bearer {operator}"), "authorization: Bearer x"];
    assert_eq!(whoami(&core, &both).await, "anonymous");
    let header = format!("authorization: Bearer {cut}");
    let mut code = -32003;
    for _ in 0..60 {
        (code, _) = call(&core, &[&header], "token.list", json!({})).await.unwrap_err();
        if code == -32005 {
            break;
        }
    }
    assert_eq!(code, -32005, "guessing goes on and on");
    let (status, text) = core.exchange(core.at.http, "GET", "/tokens", &[&header], b"").await;
    assert_eq!(status, 429, "{text}");
    // Whoever shows the right one is not held up by it.
    let good = [&*format!("authorization: Bearer {operator}")];
    let list = call(&core, &good, "token.list", json!({})).await.unwrap();
    assert_eq!(list["items"][0]["name"], "first");
    assert!(!list.to_string().contains("muster_o_"));
    let audit = call(&core, &good, "audit.list", json!({})).await.unwrap().to_string();
    assert!(audit.contains("token.create") && !audit.contains("muster_o_"), "{audit}");
}

#[tokio::test]
async fn rest_clients_are_asked_for_a_bearer() {
    let Tenants { core, operator } = Tenants::start().await;
    let head = |token: &str| {
        format!(
            "GET /tokens HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {token}\r\n\r\n"
        )
    };
    let ask = async |text: String| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut io = tokio::net::TcpStream::connect(core.at.http).await.unwrap();
        io.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, io.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer.to_ascii_lowercase()
    };
    let refused = ask(head("Basic eDp5")).await;
    assert!(refused.starts_with("http/1.1 401") && refused.contains("www-authenticate: bearer"));
    assert!(ask(head(&format!("Bearer {operator}"))).await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn signatures_that_are_not_quite_right_do_not_sign_in() {
    let tenants = Tenants::start().await;
    let core = &tenants.core;
    let whose = json!({ "actor_id": 7 });
    let asked = call(core, &[], "auth.challenge", whose.clone()).await.unwrap();
    let challenge = asked["challenge"].as_str().unwrap().to_owned();
    let good = signed_by(&key(7), &challenge);
    let of = |challenge: &str, signature: &str| {
        with(&whose, &json!({ "challenge": challenge, "signature": signature }))
    };
    let foreign = signed_by(&key(8), &challenge);
    let plain = signature::to_text(&key(7).sign(challenge.as_bytes()));
    for (what, params) in [
        ("foreign", of(&challenge, &foreign)),
        ("truncated", of(&challenge, &good[..84])),
        ("for another purpose", of(&challenge, &plain)),
        ("of an invented challenge", of("abc", &signed_by(&key(7), "abc"))),
        ("of a truncated challenge", of(&challenge[1..], &signed_by(&key(7), &challenge[1..]))),
        (
            "by another than it was made for",
            json!({ "actor_id": 8, "challenge": challenge, "signature": foreign }),
        ),
        ("by nobody", json!({ "actor_id": 99, "challenge": challenge, "signature": good })),
    ] {
        let data = refused(call(core, &[], "auth.sign_in", params).await, -32004);
        assert_eq!(data["reason"], "needs a good signature of a fresh challenge", "{what}");
    }
    let session = call(core, &[], "auth.sign_in", of(&challenge, &good)).await.unwrap();
    assert_eq!(session["caller"], json!({ "kind": "actor", "actor_id": 7 }));
    refused(call(core, &[], "auth.sign_in", of(&challenge, &good)).await, -32004);
    // One who does not exist is asked like anybody else.
    let nobody = call(core, &[], "auth.challenge", json!({ "actor_id": 99 })).await.unwrap();
    let lengths = [&nobody, &asked].map(|asked| asked["challenge"].as_str().unwrap().len());
    assert_eq!(lengths[0], lengths[1]);
    for bad in [json!({}), json!({ "runner_id": 1 }), json!({ "actor_id": 1, "context_id": 1 })] {
        refused(call(core, &[], "auth.challenge", bad).await, -32602);
    }
}

#[tokio::test]
async fn a_session_ends_when_it_is_signed_out_when_the_key_changes_and_with_its_actor() {
    let tenants = Tenants::start().await;
    let core = &tenants.core;
    let me = async |token: &str| {
        tenants.call(token, "auth.whoami", json!({})).await.unwrap()["caller"]["kind"].take()
    };
    let first = tenants.actor(7).await;
    assert_eq!(me(&first).await, "actor");
    assert_eq!(tenants.call(&first, "auth.sign_out", json!({})).await.unwrap()["signed_out"], true);
    assert_eq!(me(&first).await, "anonymous");
    let second = tenants.actor(7).await;
    let other = json!({ "actor": { "id": 7, "pubkey": pubkey(70), "address": [] } });
    tenants.call(&tenants.operator, "actor.create", other).await.unwrap();
    assert_eq!(me(&second).await, "anonymous");
    refused(sign_in(core, &json!({ "actor_id": 7 }), &key(7)).await, -32004);
    let third = tenants.sign_in(&json!({ "actor_id": 7 }), &key(70)).await;
    let made = tenants.call(&third, "api_key.create", json!({ "name": "ci" })).await.unwrap();
    let api_key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(me(&api_key).await, "actor");
    refused(tenants.call(&api_key, "api_key.create", json!({ "name": "x" })).await, -32004);
    refused(tenants.call(&third, "api_key.create", json!({ "name": "ci" })).await, -32002);
    refused(
        tenants.call(&third, "api_key.create", json!({ "name": "x", "actor_id": 8 })).await,
        -32004,
    );
    let listed = tenants.call(&third, "api_key.list", json!({})).await.unwrap();
    assert_eq!(listed["items"][0]["name"], "ci");
    tenants.call(&tenants.operator, "actor.delete", json!({ "id": 7 })).await.unwrap();
    assert_eq!((me(&third).await, me(&api_key).await), (json!("anonymous"), json!("anonymous")));
}

#[tokio::test]
async fn an_expired_session_is_none_and_ends_what_hangs_on_it() {
    let server = TestServer::with(|config| {
        config.session_lifetime = std::time::Duration::from_secs(2);
        config.operator_tokens = vec![muster::access::Secret::new("a-configured-token")];
    })
    .await;
    let operator = ["authorization: Bearer a-configured-token"];
    let actor = json!({ "actor": { "id": 7, "pubkey": pubkey(7), "address": [] } });
    call(&server, &operator, "actor.create", actor).await.unwrap();
    let mut socket = server.socket().await;
    let whose = json!({ "actor_id": 7 });
    become_actor(&mut socket, &whose, &key(7)).await;
    let follow = r#"{"jsonrpc":"2.0","id":2,"method":"events.subscribe","params":{}}"#;
    assert!(socket.ask(follow).await["result"].is_string());
    let ended = socket.hear().await.unwrap();
    assert_eq!(ended["params"]["result"]["ended"]["reason"], "the session has expired");
    assert_eq!(code_of(&socket.ask(follow).await), -32003);
}

/// Signs in on a socket.
async fn become_actor(socket: &mut Socket, whose: &Value, key: &NodeKey) {
    let ask = |method: &str, params: Value| {
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
    };
    let asked = socket.ask(&ask("auth.challenge", whose.clone())).await;
    let challenge = asked["result"]["challenge"].as_str().unwrap().to_owned();
    let signature = signed_by(key, &challenge);
    let params = with(whose, &json!({ "challenge": challenge, "signature": signature }));
    let session = socket.ask(&ask("auth.sign_in", params)).await;
    assert!(session["result"]["token"].is_string(), "{session}");
}

#[tokio::test]
async fn tenants_see_nothing_of_each_other() {
    let tenants = Tenants::start().await;
    let job = |context: u32, caller: u32| {
        json!({ "context_id": context, "job": {
            "id": 1, "caller_id": caller, "context_id": context, "script": "secret of a tenant",
            "script_type": "Python", "timeout": 0, "retries": 0, "env_vars": {},
            "prerequisites": [], "depends": [],
        } })
    };
    let (ours, theirs) = (tenants.actor(7).await, tenants.actor(17).await);
    tenants.call(&ours, "job.create", job(1, 7)).await.unwrap();
    tenants.call(&theirs, "job.create", job(2, 17)).await.unwrap();
    refused(tenants.call(&ours, "job.create", job(2, 17)).await, -32004);
    let load =
        |context: u32, caller: u32| json!({ "context_id": context, "caller_id": caller, "id": 1 });
    tenants.call(&ours, "job.load", load(1, 7)).await.unwrap();
    for method in ["job.load", "job.logs", "job.attempts", "job.explain", "job.cancel"] {
        refused(tenants.call(&ours, method, load(2, 17)).await, -32004);
    }
    let contexts = tenants.call(&ours, "context.list", json!({})).await.unwrap();
    let ids: Vec<&Value> = contexts["items"].as_array().unwrap().iter().map(|c| &c["id"]).collect();
    assert_eq!(ids, [1]);
    let actors = tenants.call(&ours, "actor.list", json!({})).await.unwrap();
    assert_eq!(actors["items"].as_array().unwrap().len(), 1);
    refused(tenants.call(&ours, "actor.load", json!({ "id": 17 })).await, -32001);
    let events = tenants.call(&theirs, "events.list", json!({ "limit": 1000 })).await.unwrap();
    let events = events["items"].as_array().unwrap().clone();
    assert!(events.iter().any(|event| event["kind"] == "job.created"));
    assert!(events.iter().all(|event| event["context_id"] == 2), "{events:?}");
    refused(tenants.call(&ours, "events.list", json!({ "context_id": 2 })).await, -32004);
    refused(tenants.call(&ours, "audit.list", json!({})).await, -32004);
    // The operator sees both, and neither who did it nor who was refused.
    let all = tenants.call(&tenants.operator, "events.list", json!({ "limit": 1000 })).await;
    let text = all.unwrap().to_string();
    assert!(text.contains("job/1/7/1") && text.contains("job/2/17/1"));
    assert!(!text.contains("audit.") && !text.contains("session"), "{text}");
}

#[tokio::test]
async fn a_follower_sees_its_contexts_as_long_as_it_may() {
    let tenants = Tenants::start().await;
    let core = &tenants.core;
    let mut socket = core.socket().await;
    become_actor(&mut socket, &json!({ "actor_id": 8 }), &key(8)).await;
    let follow = |id: u32, params: Value| {
        json!({ "jsonrpc": "2.0", "id": id, "method": "events.subscribe", "params": params })
            .to_string()
    };
    assert_eq!(code_of(&socket.ask(&follow(1, json!({ "context_id": 2 }))).await), -32004);
    assert!(socket.ask(&follow(1, json!({}))).await["result"].is_string());
    let mut named = core.socket().await;
    become_actor(&mut named, &json!({ "actor_id": 8 }), &key(8)).await;
    let flow = json!({ "jsonrpc": "2.0", "id": 2, "method": "flow.subscribe",
        "params": { "context_id": 1, "id": 5 } });
    assert!(named.ask(&flow.to_string()).await["result"].is_string());
    let message = async |context: u32, caller: u32, id: u32| {
        let message = json!({
            "id": id, "caller_id": caller, "context_id": context, "message": "hello",
            "message_type": "Chat", "message_format_type": "Text", "timeout": 0, "timeout_ack": 0,
            "timeout_result": 0, "job": [], "logs": [],
        });
        let params = json!({ "context_id": context, "message": message });
        tenants.call(&tenants.operator, "message.create", params).await.unwrap();
    };
    message(2, 17, 1).await;
    message(1, 7, 2).await;
    let seen = socket.hear().await.unwrap();
    assert_eq!(seen["params"]["result"]["subject"], "message/1/7/2", "{seen}");
    // The reader becomes a reader of the other context, and nothing in the first.
    let context = |id: u32, admin: u32, readers: &[u32]| json!({ "context": { "id": id, "admins": [admin], "readers": readers, "executors": [] } });
    let admin = tenants.actor(7).await;
    refused(tenants.call(&admin, "context.create", context(2, 7, &[])).await, -32004);
    refused(tenants.call(&admin, "context.create", context(5, 7, &[])).await, -32004);
    tenants.call(&admin, "context.create", context(1, 7, &[])).await.unwrap();
    tenants.call(&tenants.operator, "context.create", context(2, 17, &[8])).await.unwrap();
    let ended = named.hear().await.unwrap();
    let reason = &ended["params"]["result"]["ended"]["reason"];
    assert_eq!(reason, "the role in the context was lost", "{ended}");
    assert_eq!(code_of(&named.ask(&flow.to_string()).await), -32004);
    message(1, 7, 3).await;
    message(2, 17, 4).await;
    loop {
        let seen = socket.hear().await.unwrap();
        let subject = seen["params"]["result"]["subject"].as_str().unwrap().to_owned();
        assert!(subject != "message/1/7/3", "{seen}");
        if subject == "message/2/17/4" {
            break;
        }
    }
}

#[tokio::test]
async fn a_runner_is_itself_and_no_other() {
    let tenants = Tenants::start().await;
    let token = tenants.runner(1, 3).await;
    let beat = |context: u32, runner: u32| json!({ "context_id": context, "runner_id": runner });
    tenants.call(&token, "runner.heartbeat", beat(1, 3)).await.unwrap();
    for (context, runner) in [(1, 4), (2, 3)] {
        refused(tenants.call(&token, "runner.heartbeat", beat(context, runner)).await, -32004);
    }
    refused(tenants.call(&token, "events.list", json!({})).await, -32004);
    let executor = tenants.actor(9).await;
    tenants.call(&executor, "runner.heartbeat", beat(1, 4)).await.unwrap();
    refused(tenants.call(&executor, "runner.heartbeat", beat(2, 3)).await, -32004);
    // Attached over a socket that signed in; told when the runner gets another key.
    let mut socket = tenants.core.socket().await;
    become_actor(&mut socket, &json!({ "context_id": 1, "runner_id": 3 }), &key(103)).await;
    let attach = json!({ "jsonrpc": "2.0", "id": 1, "method": "runner.attach",
        "params": { "context_id": 1, "runner_id": 3, "script_types": ["Python"] } });
    assert!(socket.ask(&attach.to_string()).await["result"].is_string());
    let runner = json!({
        "id": 3, "pubkey": pubkey(110), "address": "127.0.0.1", "topic": "", "local": false,
    });
    let params = json!({ "context_id": 1, "runner": runner });
    tenants.call(&tenants.operator, "runner.create", params).await.unwrap();
    let told = socket.hear().await.unwrap();
    assert_eq!(told["params"]["result"]["kind"], "detached", "{told}");
}

#[tokio::test]
async fn the_audit_says_who_did_what_from_where_and_who_was_refused() {
    let tenants = Tenants::start().await;
    let reader = tenants.actor(8).await;
    let mut socket = tenants.core.socket_with(&tenants.operator).await;
    let follow = json!({ "jsonrpc": "2.0", "id": 1, "method": "audit.subscribe",
        "params": { "outcome": "refused" } });
    assert!(socket.ask(&follow.to_string()).await["result"].is_string());
    let load = json!({ "context_id": 2, "caller_id": 1, "id": 1 });
    refused(tenants.call(&reader, "job.load", load).await, -32004);
    let entry = socket.hear().await.unwrap()["params"]["result"].take();
    assert_eq!(entry["who"], "actor/8");
    assert_eq!(entry["with"], "session");
    assert_eq!(entry["from"], "127.0.0.1");
    assert_eq!(entry["method"], "job.load");
    assert_eq!((&entry["outcome"], &entry["data"]["code"]), (&json!("refused"), &json!(-32004)));
    let audit = async |params: Value| {
        let page = tenants.call(&tenants.operator, "audit.list", params).await.unwrap();
        page["items"].as_array().unwrap().clone()
    };
    let refusals = audit(json!({ "outcome": "refused" })).await;
    assert_eq!(refusals.last().unwrap()["seq"], entry["seq"]);
    let changes = audit(json!({ "who": "operator", "outcome": "changed" })).await;
    let created: Vec<&Value> = changes.iter().filter(|e| e["kind"] == "context.created").collect();
    assert_eq!(created.len(), 2);
    assert_eq!(
        (&created[0]["with"], &created[0]["method"]),
        (&json!("loopback"), &json!("context.create"))
    );
    let signed = audit(json!({ "who": "anonymous" })).await;
    assert!(
        signed
            .iter()
            .any(|entry| entry["kind"] == "auth.signed_in" && entry["subject"] == "actor/8")
    );
    // Nowhere else is it to be seen, and nobody else may see it.
    let events =
        tenants.call(&tenants.operator, "events.list", json!({ "kinds": ["audit.*"] })).await;
    assert_eq!(events.unwrap()["items"], json!([]));
    refused(tenants.call(&reader, "audit.list", json!({})).await, -32004);
}

#[tokio::test]
async fn beyond_loopback_a_token_must_exist_and_the_last_one_stays() {
    use muster::app::App;
    use muster::config::Config;
    let dir = tempfile::tempdir().unwrap();
    let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    let here = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        http: any,
        ws: here,
        data_dir: dir.path().into(),
        allow_plaintext: true,
        ..Config::default()
    };
    let app = App::start(config).unwrap();
    let refusal = muster::server::serve(app.clone()).await.unwrap_err().to_string();
    assert!(refusal.contains("muster token create"), "{refusal}");
    let cx = || muster::app::Cx::inside(app.clone(), muster::app::Caller::Operator);
    let find = |name: &str| {
        muster::face::entries().iter().find(|entry| entry.def.spec.name == name).unwrap()
    };
    find("token.create").call(cx(), r#"{"name":"only"}"#).await.unwrap();
    let refused = find("token.revoke").call(cx(), r#"{"name":"only"}"#).await.unwrap_err();
    assert_eq!(refused.code(), muster::Code::Conflict);
    muster::server::serve(app.clone()).await.unwrap().kill();
}
