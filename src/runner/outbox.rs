//! What a runner has in hand, and what it has yet to say about it.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc::Receiver;

use super::executor::{Outcome, StopReason, Stopper};
use super::logs::Logs;
use super::protocol::{LogLine, Refused, Report, ReportStatus};
use crate::Code;
use crate::model::slices::SliceReport;

/// Bytes of reports that travel in one call, roughly; a single one may be larger.
const CALL_BYTES: usize = 1 << 20;
/// Times that the reports of an attempt are sent before they are taken for what nobody will ever
/// take, such as too large ones: then it is only said that it failed, as often again.
const TRIES: u32 = 50;

/// Why such an attempt failed.
const UNTAKEN: &str = "the coordinator does not take what the runner reports on it";

/// Everything in hand, by token.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    held: BTreeMap<String, Held>,
    dropped: bool,
}

/// One attempt in hand.
#[derive(Debug)]
struct Held {
    stopper: Stopper,
    logs: Logs,
    /// What came of slices.
    results: Receiver<Vec<SliceReport>>,
    /// To be said next, in this order; at most one of each status.
    next: VecDeque<Report>,
    /// Said, and not answered yet. While it is not, nothing else is said about the attempt, so that
    /// the coordinator hears things in order.
    asked: Vec<Report>,
    /// Whether work began.
    started: bool,
    /// Nothing is said any more but that it failed.
    spoiled: bool,
    tries: u32,
}

impl Outbox {
    /// How many attempts are in hand.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is in hand.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Their tokens.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }

    /// Takes an attempt in hand; false when it already is.
    pub(super) fn take(
        &mut self,
        token: &str,
        stopper: Stopper,
        logs: Logs,
        results: Receiver<Vec<SliceReport>>,
    ) -> bool {
        if self.held.contains_key(token) {
            return false;
        }
        let next = VecDeque::from([bare(token, ReportStatus::Acknowledged)]);
        let (asked, started, spoiled, tries) = (vec![], false, false, 0);
        let held = Held { stopper, logs, results, next, asked, started, spoiled, tries };
        self.held.insert(token.to_owned(), held);
        true
    }

    /// Notes that work began.
    pub(super) fn started(&mut self, token: &str) {
        if let Some(held) = self.held.get_mut(token).filter(|held| !held.spoiled) {
            held.started = true;
            held.next.push_back(bare(token, ReportStatus::Started));
        }
    }

    /// Notes that work ended.
    pub(super) fn ended(&mut self, token: &str, outcome: Outcome) {
        let Some(held) = self.held.get_mut(token).filter(|held| !held.spoiled) else { return };
        let report = match outcome {
            Outcome::Finished { result } => {
                Report { result: Some(result), ..bare(token, ReportStatus::Finished) }
            }
            Outcome::Error { error, result } => {
                let (error, result) = (Some(error), Some(result));
                Report { error, result, ..bare(token, ReportStatus::Error) }
            }
        };
        held.next.push_back(report);
    }

    /// Gives up what the coordinator has taken away: stops it, and says nothing more about it.
    pub(super) fn cancel(&mut self, token: &str, reason: &str) {
        if let Some(held) = self.held.remove(token) {
            held.stopper.stop(StopReason::Cancelled(reason.to_owned()));
        }
    }

    /// Gives up what the coordinator still believes to be in hand: it has to hear of that, which
    /// [`Outbox::has_dropped`] asks for.
    pub(super) fn drop_unheard(&mut self, token: &str, reason: &str) {
        self.dropped |= self.held.contains_key(token);
        self.cancel(token, reason);
    }

    /// Whether something was given up since it was last asked for, of which the coordinator does not
    /// know: only the list of what is in hand, at the next attach, tells it.
    pub(super) fn has_dropped(&mut self) -> bool {
        std::mem::take(&mut self.dropped)
    }

    /// Stops and forgets everything.
    pub(super) fn abandon(&mut self, reason: &str) {
        for token in self.tokens() {
            self.cancel(&token, reason);
        }
    }

    /// Whether log lines wait that would travel by themselves.
    pub(super) fn has_lines(&self) -> bool {
        self.held.values().any(|held| held.started && !held.spoiled && !held.logs.is_empty())
    }

    /// The reports of one call; none when there is nothing to say.
    ///
    /// `lines` says whether log lines are worth a report of their own.
    pub(super) fn next_call(&mut self, lines: bool) -> Vec<Report> {
        let (mut reports, mut bytes) = (Vec::new(), 0);
        for (token, held) in &mut self.held {
            if bytes >= CALL_BYTES {
                break;
            }
            if held.asked.is_empty() {
                held.asked = held.say(token, lines);
                bytes += held.asked.iter().map(size).sum::<usize>();
                reports.extend_from_slice(&held.asked);
            }
        }
        reports
    }

    /// Notes that these reports were answered; what was refused is given up.
    ///
    /// Answers whether some have to be sent again.
    pub(super) fn answered(&mut self, reports: &[Report], refused: &[Refused]) -> bool {
        let mut again = false;
        for report in reports {
            let token = &report.token;
            // Several reports of one attempt share its fate; the first of them settles it.
            let mine = || refused.iter().filter(|refusal| refusal.token == *token);
            if let Some(Refused { code, message, .. }) = mine().find(|r| !is_passing(r.code)) {
                if self.held.contains_key(token) {
                    tracing::warn!(token, code, message, "a report was refused");
                }
                self.cancel(token, message);
            } else if let Some(refusal) = mine().next() {
                again |= self.unsent(std::iter::once(report), Some(refusal.code));
            } else if let Some(held) = self.held.get_mut(token) {
                held.tries = 0;
                held.asked.clear();
                if report.status.is_final() {
                    self.held.remove(token);
                }
            }
        }
        again
    }

    /// Notes that it is not known whether these reports arrived, or that they will be taken later,
    /// when they were refused with `code`: they are sent again.
    pub(super) fn unsent<'a>(
        &mut self,
        reports: impl Iterator<Item = &'a Report>,
        code: Option<i32>,
    ) -> bool {
        // Whatever a coordinator cannot store now, it can some day: the work is not thrown away.
        let waits = [Code::StorageError, Code::Unavailable, Code::Unauthenticated];
        let counts = !waits.iter().any(|known| Some(known.number()) == code);
        let mut any = false;
        for report in reports {
            let Some(held) = self.held.get_mut(&report.token) else { continue };
            let asked = std::mem::take(&mut held.asked);
            if asked.is_empty() {
                continue;
            }
            held.tries += u32::from(counts);
            if held.tries > 2 * TRIES {
                tracing::error!(
                    token = report.token,
                    "an attempt is dropped: nobody takes reports"
                );
                self.drop_unheard(&report.token, UNTAKEN);
                continue;
            }
            any = true;
            if held.tries > TRIES {
                if !held.spoiled {
                    tracing::error!(token = report.token, "reports are dropped: nobody takes them");
                }
                held.spoil(&report.token);
                continue;
            }
            for report in asked.into_iter().rev() {
                held.next.push_front(report);
            }
        }
        any
    }
}

impl Held {
    /// Stops it; from now on nothing is said but that it failed.
    fn spoil(&mut self, token: &str) {
        self.spoiled = true;
        self.stopper.stop(StopReason::Cancelled(UNTAKEN.to_owned()));
        self.results.close();
        while self.results.try_recv().is_ok() {}
        let error = Some(UNTAKEN.to_owned());
        self.next = VecDeque::from([Report { error, ..bare(token, ReportStatus::Error) }]);
    }

    fn say(&mut self, token: &str, lines: bool) -> Vec<Report> {
        if self.spoiled {
            return self.next.drain(..).collect();
        }
        let slices = if self.started { self.slices() } else { vec![] };
        let lines = lines && self.started && !self.logs.is_empty();
        if self.next.is_empty() && slices.is_empty() && !lines {
            return vec![];
        }
        // The last word comes after everything else.
        let more = !self.results.is_empty();
        let ends = self.next.back().is_some_and(|report| report.status.is_final());
        let end = if more && ends { self.next.pop_back() } else { None };
        if self.next.is_empty() {
            self.next.push_back(bare(token, ReportStatus::Started));
        }
        let mut reports: Vec<Report> = self.next.drain(..).collect();
        self.next.extend(end);
        if let Some(last) = reports.last_mut() {
            last.logs.extend(self.logs.take());
            last.slices.extend(slices);
        }
        reports
    }

    /// What is to be said about slices in one call.
    fn slices(&mut self) -> Vec<SliceReport> {
        let (mut slices, mut bytes) = (Vec::new(), 0);
        while bytes < CALL_BYTES
            && let Ok(reports) = self.results.try_recv()
        {
            bytes += reports.iter().map(slice_size).sum::<usize>();
            slices.extend(reports);
        }
        slices
    }
}

/// Whether an error is one that goes away by itself.
pub(super) fn is_passing(code: i32) -> bool {
    [Code::StorageError, Code::Unavailable, Code::InternalError, Code::LimitReached]
        .iter()
        .any(|known| known.number() == code)
}

fn bare(token: &str, status: ReportStatus) -> Report {
    let token = token.to_owned();
    Report { token, status, result: None, error: None, logs: vec![], slices: vec![] }
}

fn size(report: &Report) -> usize {
    let result = report.result.iter().flatten().map(|(key, value)| key.len() + value.len());
    let logs = report.logs.iter().map(|LogLine { line, .. }| line.len() + 40);
    let slices = report.slices.iter().map(slice_size);
    result.chain(logs).chain(slices).sum::<usize>() + 128
}

fn slice_size(report: &SliceReport) -> usize {
    let text = match report {
        SliceReport::Finished { value, .. } => value.get().len(),
        SliceReport::Failed { name, message, .. } => name.len() + message.len(),
        SliceReport::Progress { progress, .. } => progress.get().len(),
        SliceReport::Console { level, message, .. } => level.len() + message.len(),
        SliceReport::Emit { name, value, .. } => name.len() + value.get().len(),
    };
    text + 64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    fn outbox(tokens: &[&str]) -> (Outbox, Vec<Logs>) {
        let mut outbox = Outbox::default();
        let mut all = vec![];
        for token in tokens {
            let logs = Logs::new(Arc::default());
            let (_, results) = tokio::sync::mpsc::channel(1);
            assert!(outbox.take(token, Stopper::new().0, logs.clone(), results));
            all.push(logs);
        }
        (outbox, all)
    }

    fn said(reports: &[Report]) -> Vec<(String, ReportStatus)> {
        reports.iter().map(|report| (report.token.clone(), report.status)).collect()
    }

    fn finished() -> Outcome {
        Outcome::Finished { result: BTreeMap::new() }
    }

    #[test]
    fn what_is_ready_together_travels_together_and_in_order() {
        use ReportStatus::{Acknowledged, Finished, Started};
        let (mut outbox, _) = outbox(&["a", "b"]);
        outbox.started("a");
        outbox.ended("a", finished());
        let first = outbox.next_call(true);
        let expected = [("a", Acknowledged), ("a", Started), ("a", Finished), ("b", Acknowledged)];
        assert_eq!(said(&first), expected.map(|(t, s)| (t.to_owned(), s)));
        outbox.started("b");
        assert!(outbox.next_call(true).is_empty(), "the one before is not answered");
        assert!(!outbox.answered(&first, &[]));
        assert_eq!(outbox.tokens(), ["b"]);
        assert_eq!(said(&outbox.next_call(true)), [("b".to_owned(), Started)]);
    }

    #[test]
    fn what_was_lost_on_the_way_is_sent_again_before_the_rest() {
        let (mut outbox, logs) = outbox(&["a"]);
        logs[0].line("stdout", "one");
        outbox.started("a");
        let first = outbox.next_call(true);
        assert!(outbox.unsent(first.iter(), None));
        outbox.ended("a", finished());
        let second = outbox.next_call(true);
        assert_eq!(second[..2], first[..]);
        assert_eq!(second.len(), 3);
    }

    #[test]
    fn a_refused_report_gives_the_attempt_up() {
        let (mut outbox, _) = outbox(&["a", "b"]);
        let first = outbox.next_call(true);
        let refused = |token: &str, code: Code| Refused {
            token: token.into(),
            code: code.number(),
            message: "no".into(),
        };
        let refused = [refused("a", Code::StaleAttempt), refused("b", Code::StorageError)];
        assert!(outbox.answered(&first, &refused), "b is sent again");
        assert_eq!(outbox.tokens(), ["b"]);
        assert_eq!(said(&outbox.next_call(true)), [("b".to_owned(), ReportStatus::Acknowledged)]);
    }

    #[test]
    fn lines_travel_with_started() {
        let (mut outbox, logs) = outbox(&["a"]);
        outbox.started("a");
        let first = outbox.next_call(true);
        outbox.answered(&first, &[]);
        logs[0].line("stdout", "one");
        assert!(outbox.has_lines());
        assert!(outbox.next_call(false).is_empty());
        let second = outbox.next_call(true);
        assert_eq!((second[0].status, second[0].logs.len()), (ReportStatus::Started, 1));
        assert!(!outbox.has_lines());
    }

    #[test]
    fn what_came_of_slices_is_said_before_the_end_a_bounded_part_at_a_time() {
        use ReportStatus::{Finished, Started};
        let mut outbox = Outbox::default();
        let (sender, results) = tokio::sync::mpsc::channel(8);
        outbox.take("a", Stopper::new().0, Logs::new(Arc::default()), results);
        outbox.started("a");
        let first = outbox.next_call(false);
        outbox.answered(&first, &[]);
        for number in 1..=3 {
            let value = serde_json::value::to_raw_value(&"x".repeat(CALL_BYTES)).unwrap();
            let report = SliceReport::Finished { number, value, seconds: 0.0 };
            sender.try_send(vec![report]).unwrap();
        }
        outbox.ended("a", finished());
        let mut all = vec![];
        while let said @ [report] = &*outbox.next_call(false) {
            all.push((report.status, report.slices.len()));
            outbox.answered(said, &[]);
        }
        assert_eq!(all, [(Started, 1), (Started, 1), (Finished, 1)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_nobody_takes_becomes_a_failure_and_is_dropped_aloud_in_the_end() {
        let (mut outbox, logs) = outbox(&["a"]);
        outbox.started("a");
        outbox.ended("a", finished());
        for _ in 0..=TRIES {
            logs[0].line("stdout", "too much");
            let call = outbox.next_call(true);
            assert_eq!(call.last().map(|report| report.status), Some(ReportStatus::Finished));
            assert!(outbox.unsent(call.iter(), None));
        }
        let call = outbox.next_call(true);
        assert_eq!(said(&call), [("a".to_owned(), ReportStatus::Error)]);
        assert!(call[0].logs.is_empty() && call[0].error.is_some());
        outbox.unsent(call.iter(), None);
        outbox.ended("a", finished());
        for _ in 1..TRIES {
            let call = outbox.next_call(true);
            assert_eq!(said(&call), [("a".to_owned(), ReportStatus::Error)]);
            assert!(!outbox.has_dropped());
            outbox.unsent(call.iter(), None);
        }
        assert!(outbox.is_empty() && outbox.has_dropped() && !outbox.has_dropped());
    }

    #[test]
    fn what_cannot_be_stored_for_a_while_is_kept_for_as_long() {
        let (mut outbox, _) = outbox(&["a"]);
        outbox.ended("a", finished());
        for _ in 0..10 * TRIES {
            let call = outbox.next_call(true);
            assert!(outbox.unsent(call.iter(), Some(Code::StorageError.number())));
        }
        assert_eq!(outbox.next_call(true).last().unwrap().status, ReportStatus::Finished);
    }

    #[test]
    fn a_call_has_a_bound() {
        let (mut outbox, _) = outbox(&["a", "b", "c"]);
        for token in ["a", "b", "c"] {
            let result = BTreeMap::from([("k".into(), "x".repeat(CALL_BYTES))]);
            outbox.ended(token, Outcome::Finished { result });
        }
        assert_eq!(outbox.next_call(true).len(), 2);
        assert_eq!(outbox.next_call(true).len(), 2);
    }
}
