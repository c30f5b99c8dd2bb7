//! Every method with every kind of caller, against a table.

use std::fmt::Write;
use std::path::Path;

use muster::access::Visitor;
use muster::app::{Caller, Cx};
use muster::method::{Access, Entry, Run};
use muster::{Code, face};
use serde_json::{Value, json};

use crate::access::Tenants;

/// Callers, and what each rule answers them: `-` is 401, `x` is 403, `+` is let in.
///
/// The calls are about context 1 and its runner 3. Actor 7 is an admin of it, 8 a reader, 9 an
/// executor, 17 an admin of another context, 20 nothing at all.
const CALLERS: [Caller; 10] = [
    Caller::Anonymous,
    Caller::Operator,
    Caller::Actor(7),
    Caller::Actor(8),
    Caller::Actor(9),
    Caller::Actor(17),
    Caller::Actor(20),
    Caller::Runner(1, 3),
    Caller::Runner(1, 4),
    Caller::Runner(2, 3),
];
const TABLE: [(Access, &str); 8] = [
    (Access::Anyone, "++++++++++"),
    (Access::Known, "-+++++++++"),
    (Access::Operator, "-+xxxxxxxx"),
    (Access::Member, "-+++xxxxxx"),
    (Access::Reader, "-+++xxxxxx"),
    (Access::Executor, "-++x+xxxxx"),
    (Access::Runner, "-++x+xx+xx"),
    (Access::Admin, "-++xxxxxxx"),
];

/// Members of methods that have no context to name are let in, and shown their own.
const MEMBER_OF_NOTHING: &str = "-++++++xxx";

#[tokio::test]
async fn every_method_answers_every_caller_as_the_table_says() {
    let tenants = Tenants::start().await;
    for entry in face::entries() {
        let (spec, mut answered) = (entry.def.spec, String::new());
        for caller in CALLERS {
            let cx =
                Cx { visitor: Visitor::inside(), ..Cx::inside(tenants.core.app.clone(), caller) };
            answered.push(outcome(entry, cx).await);
        }
        let names_none = spec.access == Access::Member && entry.shape.field(spec.scope).is_none();
        let known = TABLE.iter().find(|(rule, _)| *rule == spec.access).map(|(_, row)| *row);
        let wanted =
            if names_none { MEMBER_OF_NOTHING } else { known.expect("a rule in the table") };
        // What anyone may call may still ask for credentials of its own.
        if spec.access != Access::Anyone {
            assert_eq!(answered, wanted, "{} ({})", spec.name, spec.access.name());
        }
    }
}

async fn outcome(entry: &Entry, cx: Cx) -> char {
    let mut params = json!({ "runner_id": 3 });
    let mut place = &mut params;
    for part in entry.def.spec.scope.split('.') {
        place = &mut place[part];
    }
    *place = json!(1);
    if entry.shape.field("runner_id").is_none() {
        params.as_object_mut().unwrap().remove("runner_id");
    }
    if entry.def.spec.access == Access::Member && entry.shape.field(entry.def.spec.scope).is_none()
    {
        params = json!({});
    }
    let text = Value::to_string(&params);
    let code = match entry.def.run {
        Run::Call(_) => entry.call(cx, &text).await.map(drop),
        Run::Open(_) => entry.open(cx, &text).await.map(drop),
    };
    match code.map_err(|err| err.code()) {
        Err(Code::Unauthenticated) => '-',
        Err(Code::Forbidden) => 'x',
        Ok(()) | Err(_) => '+',
    }
}

/// `BLESS=1` rewrites the committed table: a rule is never changed by accident.
#[test]
fn the_rule_of_every_method_is_the_one_that_was_agreed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/access.txt");
    let mut fresh = String::new();
    for def in face::defs() {
        let spec = def.spec;
        let _ = writeln!(fresh, "{:36} {}", spec.name, spec.access.name());
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == fresh, "specs/access.txt is stale: BLESS=1 cargo test --test it access_table");
}
