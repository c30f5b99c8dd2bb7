//! Calls of the core face: a coordinator with a context, and answers told from refusals.

use std::ops::Deref;

use muster::config::Config;
use serde_json::{Value, json};

use crate::server::TestServer;

/// A coordinator with context 1.
pub struct Core(TestServer);

impl Deref for Core {
    type Target = TestServer;
    fn deref(&self) -> &TestServer {
        &self.0
    }
}

impl Core {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the defaults.
    pub async fn with(set: impl FnOnce(&mut Config)) -> Self {
        let server = Self(TestServer::with(set).await);
        let context = json!({ "id": 1, "admins": [7], "readers": [], "executors": [] });
        server.rpc("context.create", json!({ "context": context })).await.unwrap();
        server
    }

    /// A call over HTTP: the result, or the error's code and data.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value, (i32, Value)> {
        let mut answer = self.ask(method, params).await;
        if let Some(error) = answer.get("error") {
            let code = error["code"].as_i64().unwrap();
            return Err((code.try_into().unwrap(), error["data"].clone()));
        }
        Ok(answer["result"].take())
    }
}

/// What a call that must fail with `code` says.
#[track_caller]
pub fn refused(answer: Result<Value, (i32, Value)>, code: i32) -> Value {
    match answer {
        Err((got, data)) => {
            assert_eq!(got, code, "{data}");
            data
        }
        Ok(value) => panic!("expected {code}, got {value}"),
    }
}

/// The field that a call refuses.
#[track_caller]
pub fn bad_field(answer: Result<Value, (i32, Value)>) -> String {
    refused(answer, -32602)["field"].as_str().unwrap().to_owned()
}

/// `base` with the member at `path` (dotted, or an index) replaced.
pub fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        parent => {
            parent.as_object_mut().unwrap().insert(last.to_owned(), value);
        }
    }
    changed
}
