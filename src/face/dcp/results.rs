//! Reads results by ranges: texts are copied as they are stored, and nothing else is read.

use std::fmt::Write;
use std::ops::ControlFlow::{Break, Continue};

use serde_json::Value;

use super::job_id::ledger;
use super::job_result::ResultView;
use super::refuse;
use crate::Result;
use crate::app::App;
use crate::face::core::aside::Rendered;
use crate::model::numbers::Numbers;
use crate::store::{FAILED, RESULTS, SLICE_FAILURES, Store};

/// Largest answer, bytes; more is read in pages.
const ANSWER: usize = 256 << 20;

/// Which slices are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// These,
    pub(super) numbers: Numbers,
    /// of them those after this one,
    pub(super) after: u64,
    /// and at most so many with results.
    pub(super) limit: Option<u64>,
}

impl Wanted {
    /// What is left of each run of slices.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = self.after.saturating_add(1);
        let later = self.numbers.runs().iter().filter(move |(_, last)| *last >= first);
        later.map(move |(begin, last)| ((*begin).max(first), *last))
    }
}

/// The answer to a call, as text.
///
/// # Errors
/// 413 when it is too large; storage errors.
pub(super) fn render(app: &App, work: u32, wanted: &Wanted) -> Result<Rendered<ResultView>> {
    let mut results = String::new();
    let mut count = 0_u64;
    // With a page that is full, errors end where the results do, so that pages do not overlap.
    let mut end = u64::MAX;
    each(&app.store, work, wanted.runs(), |number, text| {
        let comma = if results.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(results, r#"{comma}{{"sliceNumber":{number},"value":{text}}}"#);
        count += 1;
        if wanted.limit == Some(count) {
            end = number;
        }
        end == number || results.len() > ANSWER
    })?;
    if results.len() > ANSWER {
        let advice = "ask for fewer slices, or for pages with limit and afterSlice";
        return Err(refuse(413, format!("more than {ANSWER} bytes of results: {advice}")));
    }
    let until_end = wanted.runs().map(|(first, last)| (first, last.min(end)));
    let errors = errors(&app.store, work, until_end.take_while(|(first, last)| first <= last))?;
    let ledger = ledger(app, work)?;
    let text = format!(
        r#"{{"totalSlices":{},"completedSlices":{},"activeSlices":{},"results":[{results}],"errors":[{errors}]}}"#,
        ledger.total, ledger.completed, ledger.active
    );
    Rendered::of_text(text)
}

/// Whether there is a result among these slices.
///
/// # Errors
/// Storage errors.
pub(super) fn any(store: &Store, work: u32, wanted: &Wanted) -> Result<bool> {
    each(store, work, wanted.runs(), |_, _| true)
}

/// Visits the results of these runs of slices, which ascend, until told to stop; says whether it was.
///
/// Runs that lie in one row are read from it together.
pub(super) fn each(
    store: &Store,
    work: u32,
    runs: impl Iterator<Item = (u64, u64)>,
    mut stop: impl FnMut(u64, &str) -> bool,
) -> Result<bool> {
    let mut runs = runs.peekable();
    while let Some(&(first, _)) = runs.peek() {
        let (mut stopped, mut more) = (false, false);
        // A row is found by its last slice: the first one that does not end before `first`.
        let before = (work, first.saturating_sub(1));
        store.scan(RESULTS, &work, Some(&before), |(_, end), row| {
            for (number, text) in row.numbered(end) {
                while runs.next_if(|(_, last)| *last < number).is_some() {}
                let Some((first, _)) = runs.peek() else { return Break(()) };
                if number >= *first && stop(number, text) {
                    stopped = true;
                    return Break(());
                }
            }
            while runs.next_if(|(_, last)| *last <= end).is_some() {}
            // What lies further on is looked up anew.
            more = runs.peek().is_some_and(|(first, _)| first.saturating_sub(1) > end);
            if more || runs.peek().is_none() { Break(()) } else { Continue(()) }
        })?;
        if stopped || !more {
            return Ok(stopped);
        }
    }
    Ok(false)
}

/// The failed slices of these runs, which ascend, as JSON without its brackets.
fn errors(store: &Store, work: u32, runs: impl Iterator<Item = (u64, u64)>) -> Result<String> {
    let mut errors = String::new();
    let mut runs = runs.peekable();
    while let Some(&(first, _)) = runs.peek() {
        let mut more = false;
        let before = (work, FAILED, first.saturating_sub(1));
        store.scan(SLICE_FAILURES, &(work, FAILED), Some(&before), |(.., number), row| {
            while runs.next_if(|(_, last)| *last < number).is_some() {}
            let Some((first, _)) = runs.peek() else { return Break(()) };
            // A failure between two runs: from here it is nearer to look the next one up.
            more = number < *first;
            if more || errors.len() > ANSWER {
                return Break(());
            }
            let comma = if errors.is_empty() { "" } else { "," };
            let (name, message) = (Value::from(row.name), Value::from(row.message));
            let _ = write!(
                errors,
                r#"{comma}{{"sliceNumber":{number},"attempts":{},"name":{name},"message":{message}}}"#,
                row.attempts
            );
            Continue(())
        })?;
        if !more {
            break;
        }
    }
    if errors.len() > ANSWER {
        return Err(refuse(413, format!("more than {ANSWER} bytes of errors: ask for ranges")));
    }
    Ok(errors)
}
