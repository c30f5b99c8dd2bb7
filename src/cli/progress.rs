//! How far a flow is: a bar on a terminal, else a line per job, on stderr.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::flow_plan::Plan;
use super::output;

/// Follows the status events of a flow's jobs.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    plan: &'a Plan,
    bar: Option<ProgressBar>,
    /// Jobs that ended, and whether well.
    ended: BTreeMap<u32, bool>,
    /// Jobs that were tried again.
    retried: BTreeSet<u32>,
    /// Jobs that had ended before the first event.
    before: usize,
}

impl<'a> Progress<'a> {
    /// Begins, with so many jobs already at their end.
    pub(super) fn begin(plan: &'a Plan, before: usize) -> Self {
        let total = u64::try_from(plan.names.len()).unwrap_or(u64::MAX);
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} jobs  {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style.progress_chars("█▌ "))
        });
        let progress = Self { plan, bar, ended: BTreeMap::new(), retried: BTreeSet::new(), before };
        progress.draw("");
        if progress.bar.is_none() {
            progress.tell(&plan.title);
        }
        progress
    }

    /// Shows what an event changes.
    pub(super) fn event(&mut self, event: &Value) {
        if event.get("kind").and_then(Value::as_str) != Some("job.status") {
            return;
        }
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let data = event.get("data");
        let member = |name: &str| data.and_then(|data| data.get(name));
        let subject = text(event.get("subject"));
        let Some(id) = subject.rsplit('/').next().and_then(|id| id.parse::<u32>().ok()) else {
            return;
        };
        let name = self.plan.name(id);
        let why = [member("reason"), member("error")].into_iter().find(Option::is_some).flatten();
        let why = why.map(|why| format!(": {}", output::clean(&output::scalar("", why))));
        let why = why.unwrap_or_default();
        let attempt = member("attempt").and_then(Value::as_u64).unwrap_or(1);
        match text(member("to")).as_str() {
            "Finished" => {
                self.ended.insert(id, true);
                let again = if self.retried.contains(&id) { " after all" } else { "" };
                let line = format!("{name} finished{again}");
                self.draw(&line);
                if self.bar.is_none() {
                    self.tell(&line);
                }
            }
            "Error" => {
                self.ended.insert(id, false);
                self.draw("");
                self.tell(&format!("{name} failed{why}"));
            }
            _ if text(member("from")) == "Started" => {
                self.retried.insert(id);
                self.tell(&format!("{name} failed at attempt {attempt}, trying again{why}"));
            }
            _ => {}
        }
    }

    /// The jobs that failed.
    pub(super) fn failed(&self) -> impl Iterator<Item = u32> {
        self.ended.iter().filter(|(_, well)| !**well).map(|(id, _)| *id)
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn done(&self) -> usize {
        self.before.saturating_add(self.ended.len()).min(self.plan.names.len())
    }

    fn draw(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(self.done()).unwrap_or(u64::MAX));
            bar.set_message(message.to_owned());
        }
    }

    fn tell(&self, line: &str) {
        let line = format!("[{}/{}] {line}", self.done(), self.plan.names.len());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => output::note(&line),
        }
    }
}
