//! A coordinator in a directory of its own, called in process.

use std::sync::Arc;

use muster::app::{App, Caller, Cx};
use muster::config::Config;
use muster::face;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct TestServer {
    pub(crate) app: Arc<App>,
    _dir: TempDir,
}

impl TestServer {
    /// Starts with context 1, whose admin is actor 7.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().join("data"),
            backup_dir: dir.path().join("data/backups"),
            ..Config::default()
        };
        let server = Self { app: App::start(config).unwrap(), _dir: dir };
        let context = json!({ "id": 1, "admins": [7], "readers": [], "executors": [] });
        server.rpc("context.create", json!({ "context": context })).await.unwrap();
        server
    }

    /// A call of the operator: the result, or the error's code and data.
    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Result<Value, (i32, Value)> {
        let entry = face::entries().iter().find(|e| e.def.spec.name == method).unwrap();
        let cx = Cx { app: Arc::clone(&self.app), caller: Caller::Operator, connection: 0 };
        match entry.call(cx, &params.to_string()).await {
            Ok(json) => Ok(serde_json::from_str(json.get()).unwrap()),
            Err(err) => Err((err.code().number(), err.data())),
        }
    }
}

/// What a call that must fail with `code` says.
#[track_caller]
pub(crate) fn refused(answer: Result<Value, (i32, Value)>, code: i32) -> Value {
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
pub(crate) fn bad_field(answer: Result<Value, (i32, Value)>) -> String {
    refused(answer, -32602)["field"].as_str().unwrap().to_owned()
}

/// `base` with the member at `path` (dotted, or an index) replaced.
pub(crate) fn with(base: &Value, path: &str, value: Value) -> Value {
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
