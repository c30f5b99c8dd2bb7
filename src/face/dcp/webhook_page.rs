//! What a web hook is told next: results after a number, read off the events of their job.

use std::ops::ControlFlow::{Break, Continue};

use bytes::Bytes;

use super::job_watch::results_told;
use crate::Result;
use crate::model::Millis;
use crate::model::address::Address;
use crate::store::{Store, WORK_EVENTS, WORKS, WorkEvent};

/// Results, or bytes of them, that are read at once; a single one may be larger.
const RESULTS: usize = 256;
const BYTES: usize = 256 << 10;
/// Rows of events that are looked at for one page.
const ROWS: usize = 1_024;

/// A result that is to be sent.
#[derive(Debug)]
pub(super) struct Due {
    /// The number of its event.
    pub(super) seq: u64,
    /// When it came.
    pub(super) at: Millis,
    /// What is sent.
    pub(super) body: Bytes,
}

/// What comes after a number.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) due: Vec<Due>,
    /// The last event that was looked at; the number itself when there is none.
    pub(super) passed: u64,
}

/// Reads the results after event `seq` of a job.
///
/// # Errors
/// Storage errors.
pub(super) fn read(store: &Store, job: Address, seq: u64) -> Result<Page> {
    let mut page = Page { due: Vec::new(), passed: seq };
    let Some(work) = store.get(WORKS, &job)?.map(|row| row.number) else { return Ok(page) };
    let (mut rows, mut bytes) = (0, 0);
    let mut failed = None;
    // A row is found by its last event: the first one that does not end at or before `seq`.
    store.scan(WORK_EVENTS, &work, Some(&(work, seq)), |(_, last_seq), row| {
        rows += 1;
        let WorkEvent::Results { last, .. } = row.what else {
            page.passed = last_seq;
            return if rows >= ROWS { Break(()) } else { Continue(()) };
        };
        let texts = match results_told(store, work, last) {
            Ok(texts) => texts,
            Err(err) => {
                failed = Some(err);
                return Break(());
            }
        };
        for (number_seq, (slice, text)) in (texts.first(last_seq)..).zip(texts.numbered(last)) {
            if number_seq <= seq {
                continue;
            }
            let body = format!(
                r#"{{"jobId":"{job}","sliceNumber":{slice},"value":{text},"seq":{number_seq}}}"#
            );
            bytes += body.len();
            page.passed = number_seq;
            page.due.push(Due { seq: number_seq, at: row.at, body: body.into() });
            if page.due.len() >= RESULTS || bytes >= BYTES {
                return Break(());
            }
        }
        if rows >= ROWS { Break(()) } else { Continue(()) }
    })?;
    match failed {
        Some(err) => Err(err),
        None => Ok(page),
    }
}
