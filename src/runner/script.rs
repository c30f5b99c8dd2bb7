//! Rhai scripts (`Osis` and `Sal`): what they see, what they may do, and what becomes of their value.
//!
//! A script sees the constants `env` (a map of its environment), `inputs` (a map from the id of
//! each job it depends on, as text, to that job's results) and `attempt` (the number of this attempt,
//! from 1); within its own functions they have to be passed on. `print` writes to `stdout`, `debug` to `stderr`,
//! `sleep(seconds)` waits. Besides Rhai's standard packages there
//! are the functions of [`library`]. There are no files, no modules, no clock.
//!
//! The value of the last expression is the result: a map as it is, values that are not strings as JSON
//! text; `()` is an empty one; anything else stands under `value`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rhai::{Dynamic, Engine, EvalAltResult, FLOAT, INT, Map, Position, Scope};
use serde::{Deserialize, Serialize};

use super::protocol::Inputs;

/// Depth of calls; each takes stack.
const CALL_DEPTH: usize = 64;
/// Depth of expressions in a script, and in a function.
const EXPRESSION_DEPTH: (usize, usize) = (128, 64);
/// Bytes of a string.
const STRING_BYTES: usize = 32 << 20;
/// Elements of an array or a map, with all that is in it.
const ELEMENTS: usize = 4_000_000;
/// Variables, and functions, of a script.
const NAMES: usize = 10_000;
/// Between two looks at the request to stop while a script sleeps.
const NAP: Duration = Duration::from_millis(10);
/// Operations between two looks at the request to stop; a power of two.
const LOOK_EVERY: u64 = 256;

/// One script to evaluate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The text.
    pub text: String,
    /// The constant `env`.
    pub env: BTreeMap<String, String>,
    /// The constant `inputs`.
    pub inputs: Inputs,
    /// The constant `attempt`.
    pub attempt: u32,
    /// Bytes of the result.
    pub result_bytes: usize,
}

/// Evaluates scripts, one at a time.
#[derive(Debug)]
pub struct Interpreter {
    engine: Engine,
    operations: u64,
}

impl Interpreter {
    /// One that hands each printed line to `print` (the stream, the text), and stops once `stop` is
    /// set or after so many operations.
    pub fn new(
        operations: u64,
        stop: Arc<AtomicBool>,
        print: impl Fn(&str, &str) + Send + Sync + 'static,
    ) -> Self {
        let mut engine = Engine::new();
        engine
            .set_max_operations(operations)
            .set_max_call_levels(CALL_DEPTH)
            .set_max_expr_depths(EXPRESSION_DEPTH.0, EXPRESSION_DEPTH.1)
            .set_max_string_size(STRING_BYTES)
            .set_max_array_size(ELEMENTS)
            .set_max_map_size(ELEMENTS)
            .set_max_variables(NAMES)
            .set_max_functions(NAMES);
        let print = Arc::new(print);
        let stdout = Arc::clone(&print);
        engine.on_print(move |text| stdout("stdout", text));
        engine.on_debug(move |text, _, position| match position.line() {
            Some(line) => print("stderr", &format!("[line {line}] {text}")),
            None => print("stderr", text),
        });
        let asleep = Arc::clone(&stop);
        let whole = move |seconds: INT| {
            sleep(Duration::from_secs(seconds.try_into().unwrap_or_default()), &asleep)
        };
        engine.register_fn("sleep", whole);
        let asleep = Arc::clone(&stop);
        let fraction = move |seconds: FLOAT| {
            sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default(), &asleep)
        };
        engine.register_fn("sleep", fraction);
        engine.on_progress(move |count| {
            let stopped = count % LOOK_EVERY == 0 && stop.load(Ordering::Relaxed);
            stopped.then_some(Dynamic::UNIT)
        });
        library::register(&mut engine);
        Self { engine, operations }
    }

    /// Evaluates a script to its result.
    ///
    /// # Errors
    /// With a text that says what is wrong, and where in the script.
    pub fn evaluate(&self, script: &Script) -> Result<BTreeMap<String, String>, String> {
        let mut scope = Scope::new();
        scope.push_constant("env", strings(&script.env));
        let inputs = script.inputs.iter();
        let inputs = inputs.map(|(id, result)| (id.to_string().into(), strings(result).into()));
        scope.push_constant("inputs", inputs.collect::<Map>());
        scope.push_constant("attempt", i64::from(script.attempt));
        let ast = self.engine.compile(&script.text).map_err(|err| err.to_string())?;
        let value = self.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &ast);
        let value = value.map_err(|err| self.explain(&err))?;
        let result = result(value)?;
        let bytes = result.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if bytes > script.result_bytes {
            return Err(format!("the result is larger than {} bytes", script.result_bytes));
        }
        Ok(result)
    }

    fn explain(&self, err: &EvalAltResult) -> String {
        match err.unwrap_inner() {
            EvalAltResult::ErrorTooManyOperations(_) => {
                format!("{err}: at most {} are allowed", self.operations)
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                format!("calls more than {CALL_DEPTH} deep: {err}")
            }
            _ => err.to_string(),
        }
    }
}

/// Takes the place of Rhai's own, which hears of nothing while it sleeps.
fn sleep(time: Duration, stop: &AtomicBool) -> Result<(), Box<EvalAltResult>> {
    let mut left = time;
    while !left.is_zero() {
        if stop.load(Ordering::Relaxed) {
            return Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into());
        }
        let nap = left.min(NAP);
        std::thread::sleep(nap);
        left -= nap;
    }
    Ok(())
}

fn strings(map: &BTreeMap<String, String>) -> Map {
    map.iter().map(|(key, value)| (key.as_str().into(), value.into())).collect()
}

fn result(value: Dynamic) -> Result<BTreeMap<String, String>, String> {
    if value.is_unit() {
        return Ok(BTreeMap::new());
    }
    match value.try_cast_result::<Map>() {
        Ok(map) => {
            map.into_iter().map(|(key, value)| Ok((key.to_string(), text(&value)?))).collect()
        }
        Err(value) => Ok(BTreeMap::from([("value".to_owned(), text(&value)?)])),
    }
}

fn text(value: &Dynamic) -> Result<String, String> {
    match value.as_immutable_string_ref() {
        Ok(text) => Ok(text.to_string()),
        Err(_) => serde_json::to_string(value)
            .map_err(|err| format!("a {} cannot be a result: {err}", value.type_name())),
    }
}

/// Functions for work on text that Rhai does not bring; all of them pure.
pub mod library {
    use std::collections::BTreeMap;

    use rhai::{Array, Dynamic, Engine, EvalAltResult, INT, ImmutableString, Map};

    type Fallible<T> = Result<T, Box<EvalAltResult>>;

    /// Adds them:
    ///
    /// - `parse_json(text)`: any JSON value; `to_json(value)`: its text
    /// - `lines(text)`: the lines; `words(text)`: runs of letters, digits and apostrophes, in lower case
    /// - `join(array, separator)`: one string
    /// - `tally(array)`: a map from each item, as text, to how often it occurs
    /// - `add_tallies(map, map)`: numbers of both, added up
    pub fn register(engine: &mut Engine) {
        engine.register_fn("parse_json", parse_json);
        engine.register_fn("to_json", |value: Dynamic| to_json(&value));
        engine.register_fn("lines", lines);
        engine.register_fn("words", words);
        engine.register_fn("join", join);
        engine.register_fn("tally", tally);
        engine.register_fn("add_tallies", add_tallies);
    }

    fn parse_json(text: &str) -> Fallible<Dynamic> {
        serde_json::from_str(text).map_err(|err| format!("not JSON: {err}").into())
    }

    fn to_json(value: &Dynamic) -> Fallible<String> {
        serde_json::to_string(value).map_err(|err| format!("cannot be JSON: {err}").into())
    }

    fn lines(text: &str) -> Array {
        text.lines().map(|line| line.to_owned().into()).collect()
    }

    fn words(text: &str) -> Array {
        let inside = |c: char| c.is_alphanumeric() || c == '\'';
        let words = text.split(|c| !inside(c)).map(|word| word.trim_matches('\''));
        words.filter(|word| !word.is_empty()).map(|word| word.to_lowercase().into()).collect()
    }

    fn join(items: Array, separator: &str) -> String {
        let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        texts.join(separator)
    }

    fn tally(items: Array) -> Map {
        let mut counts: BTreeMap<ImmutableString, INT> = BTreeMap::new();
        for item in items {
            let key = item.into_immutable_string();
            let key = key.unwrap_or_else(|kind| kind.to_string().into());
            *counts.entry(key).or_default() += 1;
        }
        counts.into_iter().map(|(key, count)| (key.as_str().into(), count.into())).collect()
    }

    fn add_tallies(mut sum: Map, more: Map) -> Fallible<Map> {
        for (key, value) in more {
            let number = |value: &Dynamic| {
                value.as_int().map_err(|kind| format!("'{key}' is {kind}, not a whole number"))
            };
            let before = sum.get(&key).map_or(Ok(0), number)?;
            let after = before.checked_add(number(&value)?);
            let after = after.ok_or_else(|| format!("'{key}' is too large"))?;
            sum.insert(key, after.into());
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    type Lines = Arc<Mutex<Vec<(String, String)>>>;

    fn interpreter(operations: u64) -> (Interpreter, Arc<AtomicBool>, Lines) {
        let (stop, lines) = (Arc::new(AtomicBool::new(false)), Lines::default());
        let sink = Arc::clone(&lines);
        let print = move |stream: &str, text: &str| sink.lock().push((stream.into(), text.into()));
        (Interpreter::new(operations, Arc::clone(&stop), print), stop, lines)
    }

    fn run(text: &str) -> Result<BTreeMap<String, String>, String> {
        let script = Script {
            text: text.into(),
            env: BTreeMap::from([("NAME".into(), "muster".into())]),
            inputs: BTreeMap::from([(7, BTreeMap::from([("count".into(), "41".into())]))]),
            attempt: 2,
            result_bytes: 1_000,
        };
        interpreter(1_000_000).0.evaluate(&script)
    }

    fn value(text: &str) -> String {
        run(text).unwrap().remove("value").unwrap()
    }

    #[test]
    fn a_map_is_the_result_and_constants_are_seen() {
        let result = run(r#"
            let count = parse_int(inputs["7"].count) + 1;
            #{ who: env.NAME, count: count, list: [1, "x", 2.5, true], none: () }
        "#);
        let expected =
            [("count", "42"), ("list", r#"[1,"x",2.5,true]"#), ("none", "null"), ("who", "muster")];
        assert_eq!(result.unwrap(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(run("let a = 1;").unwrap().is_empty());
        assert_eq!(value("40 + attempt"), "42");
        assert_eq!(value(r#""text""#), "text");
    }

    #[test]
    fn constants_do_not_change() {
        assert!(run(r#"env.NAME = "other";"#).unwrap_err().contains("env"));
        assert!(run(r#"inputs["7"] = 1;"#).is_err());
        assert_eq!(value(r#"if "NAME" in env && !("X" in env) { 1 }"#), "1");
    }

    #[test]
    fn printed_lines_name_their_stream() {
        let (interpreter, _, lines) = interpreter(1_000);
        let text = "print(1 + 1);\ndebug(\"x\");".to_owned();
        interpreter.evaluate(&Script { text, ..Script::default() }).unwrap();
        let expected = [("stdout", "2"), ("stderr", "[line 2] \"x\"")];
        assert_eq!(*lines.lock(), expected.map(|(s, t)| (s.to_owned(), t.to_owned())));
    }

    #[test]
    fn errors_say_where() {
        for (text, expected) in [
            ("let a = ;", "line 1, position 9"),
            ("\n  missing()", "Function not found: missing () (line 2, position 3)"),
            ("throw \"no luck\"", "Runtime error: no luck (line 1, position 1)"),
            ("[1][5]", "out of bounds"),
            ("1 / 0", "ivision by zero"),
        ] {
            let err = run(text).unwrap_err();
            assert!(err.contains(expected), "{text}: {err}");
        }
    }

    #[test]
    fn nothing_runs_away() {
        for (text, expected) in [
            ("loop {}", "at most 1000000"),
            ("fn f(n) { f(n + 1) } f(0)", "more than 64 deep"),
            (r#"let s = "x"; loop { s += s; }"#, "too large"),
            ("let a = [1]; loop { a += a; }", "too large"),
            (r#"let s = ""; s.pad(2000, "x"); s"#, "larger than 1000 bytes"),
        ] {
            let err = run(text).unwrap_err();
            assert!(err.contains(expected), "{text}: {err}");
        }
    }

    #[test]
    fn there_is_no_way_out() {
        for text in [
            r#"import "std" as s;"#,
            r#"eval(`import "x" as y;`)"#,
            "open_file(\"/etc/passwd\")",
            "timestamp()",
        ] {
            assert!(run(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_to_stop_is_heard() {
        let (interpreter, stop, _) = interpreter(0);
        let asked = Arc::clone(&stop);
        let script = Script { text: "loop {}".into(), ..Script::default() };
        let running = std::thread::spawn(move || interpreter.evaluate(&script));
        asked.store(true, Ordering::Relaxed);
        assert!(running.join().unwrap().unwrap_err().contains("terminated"));
        let (interpreter, stop, _) = self::interpreter(0);
        stop.store(true, Ordering::Relaxed);
        let script = Script { text: "sleep(1000)".into(), ..Script::default() };
        assert!(interpreter.evaluate(&script).unwrap_err().contains("terminated"));
    }

    #[test]
    fn text_is_easy() {
        assert_eq!(
            value(r#"to_json(words("It's late: LATE, 'we' said."))"#),
            r#"["it's","late","late","we","said"]"#
        );
        assert_eq!(value(r#"lines("a\r\nb\n").len()"#), "2");
        assert_eq!(value(r#"join([1, "a", 'c'], ", ")"#), "1, a, c");
        assert_eq!(value(r#"to_json(tally(["b", "a", "b"]))"#), r#"{"a":1,"b":2}"#);
        assert_eq!(value(r#"parse_json(`[{"a": 1.5}]`)[0].a"#), "1.5");
        assert_eq!(
            value(r#"to_json(add_tallies(#{ a: 1 }, parse_json(`{"a": 2, "b": 3}`)))"#),
            r#"{"a":3,"b":3}"#
        );
        assert!(run(r#"parse_json("{")"#).unwrap_err().contains("not JSON"));
        assert!(run(r#"add_tallies(#{}, #{ a: "x" })"#).unwrap_err().contains("'a' is string"));
    }
}
