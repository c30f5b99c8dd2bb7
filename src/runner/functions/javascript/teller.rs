//! What a work function says on the way, within bounds.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::super::funnel::Funnel;
use crate::model::slices::SliceReport;
use crate::runner::logs::head;

/// Lines of console, and values emitted, of one slice.
const SAID: u32 = 500;
/// Their bytes.
const SAID_BYTES: usize = 128 << 10;
/// Between two reports of progress, whatever the slice, once there were many at once.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// Reports of progress at once: each of a few slices is heard, but not each of a million.
const PROGRESS_AT_ONCE: u32 = 32;

/// Passes on what the slice under way says.
#[derive(Debug)]
pub(super) struct Teller {
    funnel: Arc<Funnel>,
    number: Cell<u64>,
    said: Cell<u32>,
    bytes: Cell<usize>,
    left_out: Cell<u32>,
    /// When there could be as many at once again.
    progressed: Cell<Option<Instant>>,
    rejected: RefCell<Option<String>>,
}

impl Teller {
    pub(super) fn new(funnel: Arc<Funnel>) -> Self {
        Self {
            funnel,
            number: Cell::new(0),
            said: Cell::new(0),
            bytes: Cell::new(0),
            left_out: Cell::new(0),
            progressed: Cell::new(None),
            rejected: RefCell::default(),
        }
    }

    /// A slice begins.
    pub(super) fn begin(&self, number: u64) {
        self.number.set(number);
        self.said.set(0);
        self.bytes.set(0);
        self.rejected.take();
    }

    /// A slice has ended; says so when something was left out.
    pub(super) fn end(&self) {
        let left_out = self.left_out.take();
        if left_out > 0 {
            let (number, level) = (self.number.get(), "warn".to_owned());
            let message = format!("[{left_out} lines or values left out]");
            self.funnel.report(&SliceReport::Console { number, level, message });
        }
    }

    /// Why the slice rejected itself, if it did.
    pub(super) fn rejected(&self) -> Option<String> {
        self.rejected.take()
    }

    /// Called by the prelude.
    pub(super) fn tell(&self, kind: &str, first: String, second: String) {
        let number = self.number.get();
        match kind {
            "progress" => {
                let now = Instant::now();
                let next = self.progressed.get().map_or(now, |due| due.max(now)) + PROGRESS_EVERY;
                if next > now + PROGRESS_EVERY * PROGRESS_AT_ONCE {
                    return;
                }
                self.progressed.set(Some(next));
                if first.len() <= SAID_BYTES
                    && let Ok(progress) = RawValue::from_string(first)
                {
                    self.funnel.report(&SliceReport::Progress { number, progress });
                }
            }
            "reject" => *self.rejected.borrow_mut() = Some(first),
            _ if !self.fits(first.len() + second.len()) => {
                self.left_out.set(self.left_out.get().saturating_add(1));
            }
            "emit" => {
                if let Ok(value) = RawValue::from_string(second) {
                    self.funnel.report(&SliceReport::Emit { number, name: first, value });
                }
            }
            _ => {
                let message = head(&second, super::super::TEXT_BYTES).to_owned();
                self.funnel.report(&SliceReport::Console { number, level: first, message });
            }
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        let (said, all) = (self.said.get() + 1, self.bytes.get().saturating_add(bytes));
        let fits = said <= SAID && all <= SAID_BYTES;
        if fits {
            self.said.set(said);
            self.bytes.set(all);
        }
        fits
    }
}
