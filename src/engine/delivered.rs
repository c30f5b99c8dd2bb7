//! What a runner says about slices, read and made ready to be stored outside the engine.

use super::turn::SliceNote;
use crate::Result;
use crate::model::slices::SliceReport;
use crate::model::text::beginning;
use crate::model::work::ROW;
use crate::store::{Encoded, RESULTS, TextsRow};

/// Bytes of results in one row, unless a single one is larger: below what is kept as a file.
const ROW_BYTES: usize = 48 << 10;
/// What is kept of the name of an error, bytes.
const NAME: usize = 256;
/// What is kept of an error's text, or of a line of a console, bytes.
const MESSAGE: usize = 16 << 10;
/// Largest value that is told live, bytes.
const LIVE_VALUE: usize = 64 << 10;

/// What has come of slices.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    pub(super) runs: Vec<Run>,
    pub(super) failures: Vec<Failure>,
    pub(super) notes: Vec<SliceNote>,
    /// Processor time of all of them, seconds.
    pub(super) seconds: f64,
}

/// Results of slices in a row.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) texts: Encoded<TextsRow>,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) message: String,
    /// It may bring others down, and is to be tried by itself.
    pub(super) alone: bool,
}

impl Delivered {
    /// Reads what a runner reports; none when it reports nothing.
    ///
    /// # Errors
    /// When a row does not encode.
    pub fn new(reports: Vec<SliceReport>) -> Result<Option<Self>> {
        if reports.is_empty() {
            return Ok(None);
        }
        let mut delivered = Self::default();
        let mut finished = Vec::new();
        for report in reports {
            match report {
                SliceReport::Finished { number, value, seconds } => {
                    delivered.spend(seconds);
                    finished.push((number, value));
                }
                SliceReport::Failed { number, name, message, seconds } => {
                    delivered.spend(seconds);
                    let (name, message) = (beginning(name, NAME), beginning(message, MESSAGE));
                    delivered.failures.push(Failure { number, name, message, alone: false });
                }
                SliceReport::Progress { number, progress } => {
                    let members = format!(r#""progress":{}"#, small(progress.get()));
                    delivered.note(number, "progress", members);
                }
                SliceReport::Console { number, level, message } => {
                    let (level, message) =
                        (text(beginning(level, NAME)), text(beginning(message, MESSAGE)));
                    delivered.note(
                        number,
                        "console",
                        format!(r#""level":{level},"message":{message}"#),
                    );
                }
                SliceReport::Emit { number, name, value } => {
                    let (name, value) = (text(beginning(name, NAME)), small(value.get()));
                    delivered.note(number, "emit", format!(r#""name":{name},"value":{value}"#));
                }
            }
        }
        // The sort keeps the order of what was said twice about one slice: the first counts.
        finished.sort_by_key(|(number, _)| *number);
        finished.dedup_by_key(|(number, _)| *number);
        delivered.runs = runs(finished.iter().map(|(number, value)| (*number, value.get())))?;
        Ok(Some(delivered))
    }

    /// Attempts that failed before they came to a runner.
    pub(super) fn not_fetched(slices: &[(u64, String)]) -> Self {
        let failure = |(number, message): &(u64, String)| Failure {
            number: *number,
            name: "FetchError".to_owned(),
            message: beginning(message.clone(), MESSAGE),
            alone: false,
        };
        Self { failures: slices.iter().map(failure).collect(), ..Self::default() }
    }

    fn spend(&mut self, seconds: f64) {
        if seconds.is_finite() {
            self.seconds += seconds.max(0.0);
        }
    }

    fn note(&mut self, slice: u64, kind: &'static str, members: String) {
        self.notes.push(SliceNote { work: 0, slice, at: 0, kind, members });
    }
}

/// Puts texts with ascending numbers into rows of numbers in a row.
pub(super) fn runs<'t>(texts: impl Iterator<Item = (u64, &'t str)>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut row = TextsRow::default();
    let mut last = 0;
    for (number, text) in texts {
        let full = row.len() >= ROW || row.text.len() + text.len() > ROW_BYTES;
        if !row.is_empty() && (full || last + 1 != number) {
            runs.push(Run::new(last, &std::mem::take(&mut row))?);
        }
        row.push(text);
        last = number;
    }
    if !row.is_empty() {
        runs.push(Run::new(last, &row)?);
    }
    Ok(runs)
}

impl Run {
    fn new(last: u64, row: &TextsRow) -> Result<Self> {
        Ok(Self { first: row.first(last), last, texts: RESULTS.encoded(row)? })
    }
}

fn small(json: &str) -> &str {
    if json.len() > LIVE_VALUE { "null" } else { json }
}

fn text(plain: String) -> String {
    serde_json::Value::from(plain).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_in_a_row_share_one() {
        let report = |number: u64, value: &str| SliceReport::Finished {
            number,
            value: serde_json::value::RawValue::from_string(value.to_owned()).unwrap(),
            seconds: 0.25,
        };
        let large = format!("\"{}\"", "x".repeat(ROW_BYTES));
        let reports = vec![
            report(4, "4"),
            report(2, "2"),
            report(1, "1"),
            report(2, "\"again\""),
            report(5, &large),
            report(6, "6"),
        ];
        let delivered = Delivered::new(reports).unwrap().unwrap();
        let runs: Vec<_> = delivered.runs.iter().map(|run| (run.first, run.last)).collect();
        assert_eq!(runs, [(1, 2), (4, 4), (5, 5), (6, 6)]);
        let first = delivered.runs[0].texts.read(RESULTS).unwrap();
        assert_eq!(first.iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!((delivered.seconds - 1.5).abs() < 1e-9);
        assert!(Delivered::new(Vec::new()).unwrap().is_none());
    }
}
