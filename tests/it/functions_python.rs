//! Work functions in Python: the same as in JavaScript, with what Python brings.

use muster::model::slices::FunctionLanguage::Python;
use muster::model::slices::{SliceBatch, SliceReport};
use muster::runner::executor::Limits;
use serde_json::{Value, json};

use crate::functions::{all, batch, outcomes, raw};

fn limits() -> Limits {
    Limits { memory_bytes: 512 << 20, ..Limits::default() }
}

async fn called(function: &str, data: &[Value]) -> Vec<Value> {
    outcomes(&all(Python, batch(function, data), &limits()).await)
}

/// A batch of which the slice `"bad"` is, and whose others must not mind. Answers its error.
async fn misbehaved(body: &str, change: impl Fn(&mut SliceBatch)) -> (String, String) {
    let function = format!("def f(x):\n    if x == 'bad':\n        {body}\n    return x\n");
    let data = [json!(1), json!("bad"), json!(2), json!(3)];
    let mut batch = batch(&function, &data);
    change(&mut batch);
    let mut outcomes = outcomes(&all(Python, batch, &limits()).await);
    assert_eq!(outcomes.len(), data.len());
    let failed = outcomes.remove(1);
    assert_eq!(outcomes, [json!(1), json!(2), json!(3)], "{body}: the others are not disturbed");
    let text = |key: &str| failed[key].as_str().unwrap_or_default().to_owned();
    (text("name"), text("message"))
}

#[tokio::test]
async fn lambdas_and_defs_are_functions() {
    let data = [json!(3), json!(4)];
    for function in [
        "lambda x: 2 * x",
        "def twice(x):\n    return 2 * x\n",
        "async def twice(x):\n    return 2 * x\n",
        "import math\n\ndef twice(x):\n    return math.floor(2 * x)",
    ] {
        assert_eq!(called(function, &data).await, [json!(6), json!(8)], "{function}");
    }
    let mut batch =
        batch("lambda x, k, l: l.append(x) or [x * k, len(l), work.job.public['name']]", &data);
    batch.args = raw("[10, [7]]");
    let expected = [json!([30, 2, "a job"]), json!([40, 2, "a job"])];
    assert_eq!(outcomes(&all(Python, batch, &limits()).await), expected);
}

#[tokio::test]
async fn results_are_what_json_makes_of_them() {
    let values = called(
        "lambda n: [None, float('nan'), [float('inf')], {1: 'é\\u0000😀'}, (1, 2), True][n]",
        &(0..6).map(|n| json!(n)).collect::<Vec<_>>(),
    )
    .await;
    let expected = json!([null, null, [null], { "1": "é\u{0}😀" }, [1, 2], true]);
    assert_eq!(Value::from(values), expected);
}

#[tokio::test]
async fn slices_have_namespaces_of_their_own() {
    let counting = "n = 0\n\ndef count(x):\n    global n\n    n += 1\n    return n\n";
    assert_eq!(called(counting, &[json!(0), json!(0)]).await, [json!(1), json!(1)]);
}

#[tokio::test]
async fn what_is_said_on_the_way_is_reported() {
    let function = "def f(x):\n    print('x is', x)\n    console.error('no')\n    work.emit('half', {'x': x})\n    return progress(0.5)";
    let reports = all(Python, batch(function, &[json!(1)]), &limits()).await;
    assert_eq!(outcomes(&reports), [json!(true)]);
    let said = |report: &SliceReport| match report {
        SliceReport::Progress { number: 1, progress } => Some(progress.get().to_owned()),
        SliceReport::Console { number: 1, level, message } => Some(format!("{level}: {message}")),
        SliceReport::Emit { number: 1, name, value } => Some(format!("{name} {}", value.get())),
        _ => None,
    };
    let said: Vec<String> = reports.iter().filter_map(said).collect();
    assert_eq!(said, ["log: x is 1", "error: no", r#"half {"x": 1}"#, "0.5"]);
    let data: Vec<Value> = (0..10).map(|n| json!(n)).collect();
    let reports = all(Python, batch("lambda x: progress(x)", &data), &limits()).await;
    let told = reports.iter().filter(|report| matches!(report, SliceReport::Progress { .. }));
    assert_eq!(told.count(), 10, "each of a few slices is heard");
}

#[tokio::test]
async fn one_slice_that_fails_disturbs_no_other() {
    for (body, name, text) in [
        ("return 1 / 0", "ZeroDivisionError", "work.py"),
        ("raise KeyError('k')", "KeyError", "'k'"),
        ("work.reject('not this one')", "Rejected", "not this one"),
        ("return {1, 2}", "TypeError", "set"),
        ("a = []; a.append(a); return a", "ValueError", "Circular"),
        ("return f(x)", "RecursionError", ""),
        ("return [0] * 10**9", "MemoryError", ""),
        ("raise SystemExit(3)", "SystemExit", "3"),
        ("import os; os._exit(3)", "CrashError", "exit 3"),
        ("import os; os.kill(os.getpid(), 9)", "CrashError", "signal 9"),
        ("return 'y' * (5 << 20)", "ValueError", "larger"),
        ("import json; return json.loads('[' * 10**6)", "RecursionError", ""),
        (
            "for n in range(20000): print('z' * 100000)\n        raise ValueError('m' * 10**6)",
            "ValueError",
            "mmm",
        ),
    ] {
        let (got, message) = misbehaved(body, |_| ()).await;
        assert_eq!(got, name, "{body}: {message}");
        assert!(message.contains(text) && message.len() < 10_000, "{body}: {message}");
    }
}

#[tokio::test]
async fn what_never_ends_is_stopped() {
    for body in [
        "while True: pass",
        "import re; return bool(re.match('(a+)+$', 'a' * 40 + 'b'))",
        "import time; time.sleep(1000)",
        "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)\n        while True: pass",
    ] {
        let (name, message) = misbehaved(body, |batch| batch.slice_seconds = 0.5).await;
        assert_eq!(name, "TimeoutError", "{body}: {message}");
    }
}

#[tokio::test]
async fn what_does_not_parse_fails_every_slice() {
    let failed = called("def f(x) return", &[json!(1), json!(2)]).await;
    assert_eq!((failed.len(), failed[1]["name"].as_str()), (2, Some("SyntaxError")));
}
