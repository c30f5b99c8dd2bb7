//! Work functions over slices: what calls them, one language per file.
//!
//! - [`javascript`]: QuickJS, in processes that are kept for the next batch
//! - [`python`]: the system's Python, one process per batch
//!
//! An implementation reports every slice of its batch exactly once, in their order, whatever the
//! function does; [`relay`] sees to that, and to processes that die or do not come back.

mod funnel;
pub mod javascript;
pub mod python;
mod relay;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::executor::{Limits, Stop};
use super::supervisor;
use crate::model::slices::{FunctionLanguage, SliceBatch, SliceReport};
use javascript::JavaScript;
use python::Python;

/// Bytes of a message, such as an error with its stack.
const TEXT_BYTES: usize = 8 << 10;
/// Largest source of a function, bytes.
const SOURCE_BYTES: usize = 4 << 20;

/// Calls work functions of one language.
pub trait FunctionExecutor: fmt::Debug + Send + Sync {
    /// Calls the function with each slice, in order, until the end or until `stop` says so.
    ///
    /// Reports go out as they come, several at a time where many come at once. One slice that fails
    /// is a report like any other.
    ///
    /// # Errors
    /// When the batch did not come to its end: it was stopped, or nothing could be started. What was
    /// reported before stands.
    fn run(
        &self,
        batch: SliceBatch,
        stop: Stop,
        reports: mpsc::Sender<Vec<SliceReport>>,
    ) -> BoxFuture<'_, Result<(), String>>;

    /// Whether batches can be run here.
    fn is_there(&self) -> BoxFuture<'_, bool>;
}

/// One executor per language, shared by every slot.
#[derive(Debug)]
pub struct Functions {
    by_language: BTreeMap<FunctionLanguage, Arc<dyn FunctionExecutor>>,
}

impl Functions {
    /// Executors whose processes are of `binary`, a `muster` binary; none: this one.
    pub fn new(limits: &Limits, binary: Option<PathBuf>) -> Self {
        let binary = binary.unwrap_or_else(supervisor::own_binary);
        let javascript: Arc<dyn FunctionExecutor> =
            Arc::new(JavaScript::new(limits, binary.clone()));
        let python: Arc<dyn FunctionExecutor> = Arc::new(Python::new(limits, binary));
        let by_language = BTreeMap::from([
            (FunctionLanguage::JavaScript, javascript),
            (FunctionLanguage::Python, python),
        ]);
        Self { by_language }
    }

    /// These executors, whatever they are.
    pub fn of(by_language: BTreeMap<FunctionLanguage, Arc<dyn FunctionExecutor>>) -> Self {
        Self { by_language }
    }

    /// The languages whose functions can be called here.
    pub async fn languages(&self) -> Vec<FunctionLanguage> {
        let mut there = Vec::new();
        for (language, executor) in &self.by_language {
            if executor.is_there().await {
                there.push(*language);
            }
        }
        there
    }

    /// What functions find here, as jobs may require it.
    ///
    /// A language that is not there is left out. QuickJS computes with the system's mathematics, and
    /// has no canvas and no graphics processor: nothing of that is claimed.
    pub async fn capabilities(&self) -> Map<String, Value> {
        let mut languages = Map::new();
        for language in self.languages().await {
            languages.insert(language.as_str().to_ascii_lowercase(), Value::Bool(true));
        }
        let mut all = Map::new();
        if languages.contains_key("javascript") {
            let engine = json!({ "es7": true, "es2020": true, "quickjs": true });
            all.insert("engine".to_owned(), engine);
            all.insert("useStrict".to_owned(), Value::Bool(true));
        }
        all.insert("language".to_owned(), Value::Object(languages));
        all
    }

    /// Runs a batch in the language.
    ///
    /// # Errors
    /// See [`FunctionExecutor::run`].
    pub async fn run(
        &self,
        language: FunctionLanguage,
        batch: SliceBatch,
        stop: Stop,
        reports: mpsc::Sender<Vec<SliceReport>>,
    ) -> Result<(), String> {
        match self.by_language.get(&language) {
            Some(executor) => executor.run(batch, stop, reports).await,
            None => Err(format!("this runner cannot call functions in {}", language.as_str())),
        }
    }
}

/// Whether a source is one function, or an expression that may be one; it is compiled, and not
/// executed.
///
/// Blocks: some 0.2 ms for JavaScript, within this process, with limits on memory and stack; some
/// 30 ms for Python, in a process of its own. Where there is no Python, every Python source passes.
///
/// # Errors
/// With what is wrong, for whoever wrote it.
pub fn check_function(language: FunctionLanguage, source: &str) -> Result<(), String> {
    if source.trim().is_empty() {
        return Err("the function is empty".to_owned());
    }
    if source.len() > SOURCE_BYTES {
        return Err(format!("the function is larger than {SOURCE_BYTES} bytes"));
    }
    match language {
        FunctionLanguage::JavaScript => javascript::check(source),
        FunctionLanguage::Python => python::check(source),
    }
}

/// The source without what surrounds it: white space and trailing semicolons.
fn trim(source: &str) -> &str {
    source.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use FunctionLanguage::{JavaScript as JAVASCRIPT, Python as PYTHON};

    use super::*;

    #[test]
    fn one_expression_in_javascript_passes() {
        for source in [
            "(x) => x * 2",
            " async (x) => { await x; return 1; } ;\n;",
            "function named(x, k) { return x * k; }",
            "(x) => x // a comment",
            "(function () { let n = 0; return () => ++n; })()",
            "(() => { while (true); })()",
        ] {
            assert_eq!(check_function(JAVASCRIPT, source), Ok(()), "{source}");
        }
    }

    #[test]
    fn anything_else_in_javascript_does_not() {
        for source in [
            "",
            " ; ",
            "(x) =>",
            "const f = (x) => x",
            "1);(2",
            "1];[2",
            "return 1",
            "let x",
            "(x) => x; (y) => y",
            "import x from 'y'",
            "/* open",
            "`open",
            "x => { await x }",
            "1\0",
            "1)}),x(),(function(){return (2",
        ] {
            assert!(check_function(JAVASCRIPT, source).is_err(), "{source}");
        }
        let nested = format!("(x) => {}1{}", "(".repeat(500_000), ")".repeat(500_000));
        assert!(check_function(JAVASCRIPT, &nested).is_err());
        let nested = format!("(x) => {}1{}", "[".repeat(500_000), "]".repeat(500_000));
        assert!(check_function(JAVASCRIPT, &nested).is_err());
        assert!(check_function(JAVASCRIPT, &"x".repeat(SOURCE_BYTES + 1)).is_err());
    }

    #[test]
    fn a_function_in_python_passes_and_a_script_does_not() {
        for source in ["lambda x: x * 2", "def f(x):\n    return x\n", "async def f(x): return x"] {
            assert_eq!(check_function(PYTHON, source), Ok(()), "{source}");
        }
        if python::find().is_some() {
            for source in ["lambda x:", "def f(x)", "print(1)\nx = 2", "def f(x):\nreturn x"] {
                assert!(check_function(PYTHON, source).is_err(), "{source}");
            }
        }
    }
}
