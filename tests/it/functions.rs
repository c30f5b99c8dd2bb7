//! Work functions over slices, as a runner calls them: results, errors, and everything that a function
//! can do to whoever calls it.

use std::time::Duration;

use muster::model::slices::FunctionLanguage::JavaScript;
use muster::model::slices::{FunctionLanguage, Slice, SliceBatch, SliceReport};
use muster::runner::executor::Limits;
use muster::runner::functions::Functions;
use muster::runner::{Stop, StopReason, Stopper};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

const BINARY: &str = env!("CARGO_BIN_EXE_muster");

pub(crate) fn functions(limits: &Limits) -> Functions {
    Functions::new(limits, Some(BINARY.into()))
}

pub(crate) fn raw(text: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

pub(crate) fn batch(function: &str, data: &[Value]) -> SliceBatch {
    let slices = (1..).zip(data);
    SliceBatch {
        function: function.to_owned(),
        args: raw("[]"),
        public: raw(r#"{"name":"a job"}"#),
        slice_seconds: 20.0,
        slices: slices
            .map(|(number, datum)| Slice { number, datum: to_raw_value(datum).unwrap() })
            .collect(),
    }
}

fn unstopped() -> Stop {
    let (stopper, stop) = Stopper::new();
    std::mem::forget(stopper);
    stop
}

/// Everything that is reported on a batch.
pub(crate) async fn all(
    language: FunctionLanguage,
    batch: SliceBatch,
    limits: &Limits,
) -> Vec<SliceReport> {
    let functions = functions(limits);
    let (sender, mut receiver) = mpsc::channel(4);
    let running = functions.run(language, batch, unstopped(), sender);
    let reading = async {
        let mut all = Vec::new();
        while let Some(reports) = receiver.recv().await {
            all.extend(reports);
        }
        all
    };
    let both = async { tokio::join!(running, reading) };
    let (ran, reports) = timeout(Duration::from_secs(100), both).await.unwrap();
    assert_eq!(ran, Ok(()));
    reports
}

/// What came of each slice: its value, or `{"name", "message"}` of its error.
pub(crate) fn outcomes(reports: &[SliceReport]) -> Vec<Value> {
    let mut numbers = 1..;
    let outcome = |report: &SliceReport| {
        let (number, outcome) = match report {
            SliceReport::Finished { number, value, seconds } => {
                assert!(*seconds >= 0.0);
                (number, serde_json::from_str(value.get()).unwrap())
            }
            SliceReport::Failed { number, name, message, .. } => {
                (number, json!({ "name": name, "message": message }))
            }
            _ => return None,
        };
        assert_eq!(Some(*number), numbers.next(), "once, in order");
        Some(outcome)
    };
    reports.iter().filter_map(outcome).collect()
}

async fn called(function: &str, data: &[Value]) -> Vec<Value> {
    outcomes(&all(JavaScript, batch(function, data), &Limits::default()).await)
}

/// A batch of which the slice `"bad"` is, and whose others must not mind. Answers its error.
async fn bad(
    function: &str,
    limits: &Limits,
    change: impl Fn(&mut SliceBatch),
) -> (String, String) {
    let data: Vec<Value> = (0..12).map(|n| if n == 5 { json!("bad") } else { json!(n) }).collect();
    let mut batch = batch(function, &data);
    change(&mut batch);
    let mut outcomes = outcomes(&all(JavaScript, batch, limits).await);
    assert_eq!(outcomes.len(), data.len());
    let failed = outcomes.remove(5);
    let others: Vec<Value> = data.into_iter().filter(Value::is_number).collect();
    assert_eq!(outcomes, others, "{function}: the others are not disturbed");
    let text = |key: &str| failed[key].as_str().unwrap_or_default().to_owned();
    (text("name"), text("message"))
}

async fn misbehaved(body: &str) -> (String, String) {
    let function = format!("(x) => {{ if (x === 'bad') {{ {body} }} return x; }}");
    bad(&function, &Limits::default(), |_| ()).await
}

#[tokio::test]
async fn results_are_what_json_makes_of_them() {
    let data: Vec<Value> = (0..12).map(|n| json!(n)).collect();
    let values = called(
        "(x) => [undefined, () => 1, NaN, Infinity, -Infinity, null, 'é\\u0000\\ud83d\\ude00', {a: undefined, b: [x, NaN]}, new Date(0), new Map([[1, 2]]), Symbol('s'), -0][x]",
        &data,
    );
    let expected = json!([
        null, null, null, null, null, null, "é\u{0}😀", { "b": [7, null] },
        "1970-01-01T00:00:00.000Z", {}, null, 0
    ]);
    assert_eq!(Value::from(values.await), expected);
}

#[tokio::test]
async fn arguments_follow_the_datum_and_are_fresh_for_each_slice() {
    let data = vec![json!(1); 20];
    let mut batch =
        batch("(x, k, list) => { list.push(x); return [x * k, list.length]; };\n;", &data);
    batch.args = raw("[10, [7]]");
    let reports = all(JavaScript, batch, &Limits::default()).await;
    assert_eq!(outcomes(&reports), vec![json!([10, 2]); 20]);
}

#[tokio::test]
async fn declarations_and_promises_are_functions_too() {
    let data = [json!(3), json!(4)];
    for function in [
        "function twice(x) { return 2 * x; }",
        "async function twice(x) { await null; return 2 * await x; }",
        "async (x) => (await Promise.all([x, x])).reduce((a, b) => a + b)",
        "(x) => ({ then(done) { done(2 * x); } })",
        "  function* (x) { yield x; }  ",
    ] {
        let expected = if function.contains('*') && function.contains("yield") {
            [json!({}), json!({})]
        } else {
            [json!(6), json!(8)]
        };
        assert_eq!(called(function, &data).await, expected, "{function}");
    }
}

#[tokio::test]
async fn slices_do_not_see_each_other_whether_they_share_a_scope_or_not() {
    let data: Vec<Value> = (0..30).map(|n| json!(n)).collect();
    // Each counts the slices before it in some way; in a fresh scope there is none.
    for counting in [
        "(() => { let n = 0; return () => ++n; })()",
        "() => { n = typeof n === 'undefined' ? 1 : n + 1; return n; }",
        "() => { try { [].map.n = ([].map.n || 0) + 1; } catch {} return [].map.n || 1; }",
        "() => { try { Math.n = (Math.n || 0) + 1; } catch {} return Math.n || 1; }",
        "() => { try { console.n = (console.n || 0) + 1; } catch {} return console.n || 1; }",
        "() => { try { progress.n = (progress.n || 0) + 1; } catch {} return progress.n || 1; }",
        "() => { try { work.job.public.n = (work.job.public.n || 0) + 1; } catch {} return work.job.public.n || 1; }",
        "() => { const was = Math.sin(0); Math = { sin: () => 1 }; return was + 1; }",
        "() => { const i = [][Symbol.iterator]().next; try { i.n = (i.n || 0) + 1; } catch {} return i.n || 1; }",
        "() => { Promise.resolve().then(() => { n = 1; }); return typeof n === 'undefined' ? 1 : 2; }",
        "() => { const k = 'proto' + 'type'; Array[k].n = (Array[k].n || 0) + 1; return [].n; }",
        "() => { const k = '__pro' + 'to__'; const p = ({})[k]; if (p) p.n = (p.n || 0) + 1; return ({}).n || 1; }",
        "() => { const was = Error.stackTraceLimit; Error.stackTraceLimit = was + 1; return was - 9; }",
        "() => { const c = [].constructor; c.n = (c.n || 0) + 1; return c.n; }",
        "function () { this.n = (this.n || 0) + 1; return this.n; }",
        "() => { const { getPrototypeOf: g } = Object; const p = g([]); p.n = (p.n || 0) + 1; return p.n; }",
        "() => { Object.prototype.n = (Object.prototype.n || 0) + 1; return ({}).n; }",
        "() => { const f = (() => 1)['const' + 'ructor']; return f ? f('n = typeof n === \"undefined\" ? 1 : n + 1; return n')() : 1; }",
    ] {
        assert_eq!(called(counting, &data).await, vec![json!(1); 30], "{counting}");
    }
}

#[tokio::test]
async fn what_is_not_in_a_shared_scope_is_there_for_values_that_name_it() {
    let mut data = vec![json!("a"); 30];
    for (place, name) in [(3, "constructor"), (4, "__proto__"), (20, "constructor")] {
        data[place] = json!(name);
    }
    let pollute = "(name) => { const o = {}; if (o[name]) o[name].n = 1; return [name in o, ({}).n ?? Object.n ?? 0]; }";
    let expected: Vec<Value> = data
        .iter()
        .map(|name| if name == "a" { json!([false, 0]) } else { json!([true, 1]) })
        .collect();
    assert_eq!(called(pollute, &data).await, expected);
}

#[tokio::test]
async fn a_function_finds_what_it_has_changed_in_what_is_built_in() {
    let data = vec![json!(0); 30];
    for changing in [
        "() => { Math.random = () => 1; return Math.random(); }",
        "() => { const M = Math; M.n = 1; return M.n; }",
        "() => { Array.one = () => 1; return Array.one(); }",
        "() => { Date.now = () => 1; return Date.now(); }",
        "() => { progress = () => 1; return progress(); }",
        "() => { parseInt = () => 1; return parseInt('2'); }",
        "() => { JSON['one'] = 1; return JSON.one; }",
        "async () => new Promise((done) => queueMicrotask(() => done(1)))",
    ] {
        assert_eq!(called(changing, &data).await, vec![json!(1); 30], "{changing}");
    }
}

#[tokio::test]
async fn a_shared_scope_is_as_good_as_a_fresh_one() {
    let function = "(x) => {
        class Point { constructed = true; get sum() { return x + 1; } }
        class Failure extends Error { name = 'Failure'; }
        const counts = {}; for (const word of 'a b constructor a __proto__'.split(' ')) counts[word] = 1;
        const point = new Point(); point.toString = () => 'p'; const map = new Map([[x, 'v']]);
        try { throw new Failure('f'); } catch (e) { counts.e = e.name + (e instanceof Failure); }
        return [point.sum, `${point}`, [...map.values()], [3, 1, 2].sort().map((n) => n * 2).concat([x]),
            Object.entries({ a: x }), JSON.parse('[1]'), 'aXb'.replace(/x/i, '-'), counts.e,
            new Uint8Array([1, 2]).slice(1)[0], [1, [2]].flat(), typeof Promise.resolve(1).then, Array.from({ length: 2 }, (_, i) => i)];
    }";
    let data: Vec<Value> = (0..10).map(|n| json!(n)).collect();
    let fresh = called(&format!("{function} // this"), &data).await;
    assert_eq!(called(function, &data).await, fresh);
    assert_eq!(fresh[2][3], json!([2, 4, 6, 2]), "{:?}", fresh[2]);
}

#[tokio::test]
async fn there_is_no_way_out() {
    let names = [
        "std",
        "os",
        "require",
        "process",
        "fetch",
        "setTimeout",
        "print",
        "load",
        "Deno",
        "scriptArgs",
    ];
    let data = names.map(|name| json!(name));
    let seen = called("(name) => typeof globalThis[name]", &data).await;
    assert_eq!(seen, vec![json!("undefined"); names.len()]);
    let imports = called(
        "async () => { try { await import('std'); return 1; } catch (e) { return e.name; } }",
        &data[..1],
    );
    assert_ne!(imports.await, [json!(1)]);
}

#[tokio::test]
async fn what_is_said_on_the_way_is_reported() {
    let function = "(x) => {
        const said = progress(0.5);
        console.log('x is', x, { a: [1] }); console.error(new TypeError('no'));
        work.emit('half', { x });
        return [said, work.job.public.name];
    }";
    let reports = all(JavaScript, batch(function, &[json!(1)]), &Limits::default()).await;
    assert_eq!(outcomes(&reports), [json!([true, "a job"])]);
    let mut said = Vec::new();
    for report in &reports {
        said.push(match report {
            SliceReport::Progress { number: 1, progress } => progress.get().to_owned(),
            SliceReport::Console { number: 1, level, message } => {
                format!("{level}: {}", message.lines().next().unwrap())
            }
            SliceReport::Emit { number: 1, name, value } => format!("{name} {}", value.get()),
            _ => continue,
        });
    }
    let expected = ["0.5", r#"log: x is 1 {"a":[1]}"#, "error: TypeError: no", r#"half {"x":1}"#];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn progress_of_a_few_slices_is_heard_and_of_many_some() {
    let function = "(x) => progress(x)";
    for (count, heard) in [(10_u64, 10..=10), (10_000, 32..=2_000)] {
        let data: Vec<Value> = (0..count).map(|n| json!(n)).collect();
        let reports = all(JavaScript, batch(function, &data), &Limits::default()).await;
        let told = reports.iter().filter(|one| matches!(one, SliceReport::Progress { .. })).count();
        assert!(heard.contains(&told), "{told} of {count}");
    }
}

#[tokio::test]
async fn errors_have_a_name_a_message_and_a_stack() {
    let (name, message) = misbehaved("null.x").await;
    assert_eq!(name, "TypeError");
    assert!(message.contains("work.js:1:"), "{message}");
    for (body, name, text) in [
        ("throw 'text'", "Error", "text"),
        ("throw 7", "Error", "7"),
        ("throw undefined", "Error", "undefined"),
        ("throw null", "Error", "null"),
        ("throw { code: 3 }", "Error", r#"{"code":3}"#),
        ("throw { name: 'Mine', message: 'm' }", "Mine", "m"),
        ("throw { get message() { throw 1 } }", "Error", "what was thrown cannot be shown"),
        ("throw Symbol('s')", "Error", "Symbol(s)"),
        ("return Promise.reject(new RangeError('later'))", "RangeError", "later"),
        ("work.reject('not this one')", "Rejected", "not this one"),
        ("try { work.reject('caught'); } catch {} return 1n", "Rejected", "caught"),
        ("return 1n", "TypeError", "BigInt"),
        ("const a = {}; a.a = a; return a", "TypeError", "circular"),
        ("return { toJSON() { throw new SyntaxError('s') } }", "SyntaxError", "s"),
        ("return new Promise(() => {})", "Error", "never settles"),
        ("return { then() {} }", "Error", "never settles"),
        ("const f = () => f() + 1; return f()", "RangeError", "stack"),
        ("return x.missing.y", "TypeError", "undefined"),
        ("return not_there", "ReferenceError", "not_there"),
    ] {
        let (got, message) = misbehaved(body).await;
        assert_eq!(got, name, "{body}: {message}");
        assert!(message.contains(text), "{body}: {message}");
    }
}

#[tokio::test]
async fn what_does_not_parse_fails_every_slice_and_nothing_else() {
    let failed = called("(x) => {", &[json!(1), json!(2)]).await;
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[1]["name"], "SyntaxError");
    let failed = called("42", &[json!(1)]).await;
    assert_eq!((failed[0]["name"].as_str(), failed.len()), (Some("TypeError"), 1));
}

#[tokio::test]
async fn what_never_ends_is_stopped() {
    for body in [
        "while (true) {}",
        "try { for (;;) {} } catch { for (;;) {} } finally { for (;;) {} }",
        "return /^(a+)+$/.test('a'.repeat(40) + 'b')",
        "const f = () => Promise.resolve().then(f); f(); return new Promise(() => {})",
        "throw { get message() { for (;;) {} } }",
        "return { toJSON() { for (;;) {} } }",
        "return new Array(2 ** 31).fill(0).sort()",
    ] {
        let function = format!("(x) => {{ if (x === 'bad') {{ {body} }} return x; }}");
        let (name, message) = bad(&function, &Limits::default(), |b| b.slice_seconds = 0.3).await;
        assert!(
            ["TimeoutError", "InternalError", "RangeError"].contains(&&*name),
            "{body}: {name}: {message}"
        );
    }
}

#[tokio::test]
async fn memory_has_an_end() {
    let limits = Limits { function_bytes: 32 << 20, ..Limits::default() };
    for body in [
        "const a = []; for (;;) a.push(new Array(1000).fill(1))",
        "let s = 'x'; for (;;) s += s",
        "return new ArrayBuffer(2 ** 30).byteLength",
        "return 'x'.repeat(2 ** 29).length",
    ] {
        let function = format!("(x) => {{ if (x === 'bad') {{ {body} }} return x; }}");
        let (name, message) = bad(&function, &limits, |_| ()).await;
        assert!(!name.is_empty(), "{body}: {name}: {message}");
    }
}

#[tokio::test]
async fn output_has_an_end() {
    let limits = Limits { value_bytes: 1_000, ..Limits::default() };
    let function = "(x) => x === 'bad' ? 'y'.repeat(2000) : x";
    let (name, message) = bad(function, &limits, |_| ()).await;
    assert_eq!(name, "RangeError", "{message}");
    let function = "(x) => { for (let n = 0; n < 20000; n++) { console.log('z'.repeat(100000)); work.emit('n', 'e'.repeat(1000)); progress(n); } throw new Error('m'.repeat(1e6)); }";
    let reports = all(JavaScript, batch(function, &[json!(1)]), &Limits::default()).await;
    let bytes: usize =
        reports.iter().map(|report| serde_json::to_string(report).unwrap().len()).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    assert!(reports.iter().any(|report| matches!(report, SliceReport::Console { message, .. } if message.contains("left out"))));
}

#[tokio::test]
async fn nesting_has_an_end() {
    for body in [
        "let a = []; for (let n = 0; n < 1e6; n++) a = [a]; return a",
        "return JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))",
        "return eval('('.repeat(1e6) + '1' + ')'.repeat(1e6))",
        "return new RegExp('('.repeat(1e6) + ')'.repeat(1e6)).test('')",
    ] {
        let (name, message) = misbehaved(body).await;
        assert!(!name.is_empty(), "{body}: {message}");
    }
    let mut batch = batch("(x) => 1", &[json!(1), json!(2), json!(3)]);
    batch.slices[1].datum = raw(format!("{}{}", "[".repeat(300_000), "]".repeat(300_000)));
    let outcomes = outcomes(&all(JavaScript, batch, &Limits::default()).await);
    assert_eq!((&outcomes[0], &outcomes[2]), (&json!(1), &json!(1)));
    assert!(outcomes[1]["name"].is_string(), "{}", outcomes[1]);
}

#[tokio::test]
async fn results_come_as_they_are_made() {
    let functions = functions(&Limits::default());
    let (sender, mut receiver) = mpsc::channel(4);
    let function = "(x) => { if (x === 1) for (;;) {} return x; }";
    let (stopper, stop) = Stopper::new();
    let running =
        functions.run(JavaScript, batch(function, &[json!(0), json!(1), json!(2)]), stop, sender);
    let reading = async {
        let first = receiver.recv().await.unwrap();
        assert_eq!(outcomes(&first), [json!(0)]);
        stopper.stop(StopReason::Cancelled("enough".into()));
        while let Some(more) = receiver.recv().await {
            assert!(outcomes(&more).is_empty());
        }
    };
    let (ran, ()) = tokio::join!(running, reading);
    assert_eq!(ran, Err("cancelled: enough".to_owned()));
}
