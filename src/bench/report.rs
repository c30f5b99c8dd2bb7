//! What a workload found, and whether that is good enough.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// What a figure is measured against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The figure itself.
    AtLeast(f64),
    /// The figure itself.
    AtMost(f64),
    /// The figure divided by the baseline.
    RatioAtLeast(f64),
    /// The figure divided by the baseline.
    RatioAtMost(f64),
    /// Only for information.
    None,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The workload, as `--only` names it.
    pub workload: &'static str,
    /// What was measured.
    pub measure: String,
    /// The figure.
    pub figure: f64,
    /// Its unit, and that of the baseline.
    pub unit: &'static str,
    /// What it must reach.
    pub goal: Goal,
    /// The raw baseline of the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare: Option<f64>,
    /// What the baseline is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub bare_is: &'static str,
    /// The figure divided by the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Whether the goal is reached; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<bool>,
}

impl Row {
    /// A figure without a baseline.
    pub fn new(
        workload: &'static str,
        measure: impl Into<String>,
        (figure, unit): (f64, &'static str),
        goal: Goal,
    ) -> Self {
        let row = Self {
            workload,
            measure: measure.into(),
            figure,
            unit,
            goal,
            bare: None,
            bare_is: "",
            ratio: None,
            pass: None,
        };
        row.judged()
    }

    /// The same beside a baseline in the same unit.
    #[must_use]
    pub fn beside(mut self, bare: f64, bare_is: &'static str) -> Self {
        self.bare = Some(bare);
        self.bare_is = bare_is;
        self.ratio = Some(self.figure / bare.max(f64::MIN_POSITIVE));
        self.judged()
    }

    fn judged(mut self) -> Self {
        self.pass = match self.goal {
            Goal::AtLeast(least) => Some(self.figure >= least),
            Goal::AtMost(most) => Some(self.figure <= most),
            Goal::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Goal::None => None,
        };
        self
    }

    /// Writes it to standard output as soon as it is known.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(());
        }
        let goal = match self.goal {
            Goal::AtLeast(least) => format!("≥ {}", plain(least)),
            Goal::AtMost(most) => format!("≤ {}", plain(most)),
            Goal::RatioAtLeast(least) => format!("≥ {least}×"),
            Goal::RatioAtMost(most) => format!("≤ {most}×"),
            Goal::None => "-".to_owned(),
        };
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}×"));
        let bare = self.bare.map_or_else(String::new, |bare| {
            format!("  of {} {} ({})", plain(bare), self.unit, self.bare_is)
        });
        let color = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let verdict = match (self.pass, color) {
            (None, _) => "    ",
            (Some(true), false) => "PASS",
            (Some(false), false) => "MISS",
            (Some(true), true) => "\x1b[32mPASS\x1b[0m",
            (Some(false), true) => "\x1b[31mMISS\x1b[0m",
        };
        writeln!(
            out,
            "{verdict}  {:<9} {:<44} {:>10} {:<8} goal {goal:<9} {ratio:>7}{bare}",
            self.workload,
            self.measure,
            plain(self.figure),
            self.unit
        )?;
        Ok(())
    }
}

/// Three or four figures that count.
fn plain(figure: f64) -> String {
    match figure {
        big if big.abs() >= 100.0 => format!("{big:.0}"),
        some if some.abs() >= 1.0 => format!("{some:.2}"),
        little => format!("{little:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_passes_by_itself_or_by_its_ratio() {
        let row = |goal| Row::new("x", "y", (30.0, "ms"), goal);
        assert_eq!(row(Goal::AtMost(30.0)).pass, Some(true));
        assert_eq!(row(Goal::AtLeast(31.0)).pass, Some(false));
        assert_eq!(row(Goal::RatioAtMost(2.0)).pass, None);
        assert_eq!(row(Goal::RatioAtMost(2.0)).beside(14.0, "bare").pass, Some(false));
        assert_eq!(row(Goal::RatioAtLeast(2.0)).beside(14.0, "bare").pass, Some(true));
    }
}
