//! Pictures of a flow's graph as text, every job coloured by where it stands.

mod dot;
mod mermaid;
mod svg;

use super::dag::Dag;
use super::task::JobStatus;

/// A language to draw in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Graphviz.
    Dot,
    /// Mermaid flowchart.
    Mermaid,
    /// A drawing of its own, ready for a browser.
    Svg,
}

impl Format {
    /// The most jobs that are drawn. Beyond that a layout says nothing to anyone, and the tools
    /// that read Mermaid give up.
    pub const fn most_jobs(self) -> usize {
        match self {
            Self::Dot => 100_000,
            Self::Mermaid | Self::Svg => 5_000,
        }
    }

    /// The most dependencies that are drawn.
    pub const fn most_dependencies(self) -> usize {
        self.most_jobs() * 4
    }
}

/// A graph that is too large to be drawn in the format asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in a drawing of this format: {count}, at most {limit}")]
pub struct TooLarge {
    /// Of what there is too much.
    pub what: &'static str,
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub limit: usize,
}

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    /// Stands above it; any text.
    pub title: &'a str,
    /// The jobs and what they depend on.
    pub dag: &'a Dag,
    /// Where the job at each index stands; those left out count as dispatched.
    pub statuses: &'a [JobStatus],
}

impl Drawing<'_> {
    /// The drawing as text, the same for the same input.
    ///
    /// # Errors
    /// When there are more jobs or dependencies than the format allows.
    pub fn render(&self, format: Format) -> Result<String, TooLarge> {
        let bounds = [
            ("jobs", self.dag.len(), format.most_jobs()),
            ("dependencies", self.dag.edge_count(), format.most_dependencies()),
        ];
        for (what, count, limit) in bounds {
            if count > limit {
                return Err(TooLarge { what, count, limit });
            }
        }
        Ok(match format {
            Format::Dot => dot::text(self),
            Format::Mermaid => mermaid::text(self),
            Format::Svg => svg::text(self),
        })
    }

    /// Every job in ascending order: its id and where it stands.
    fn jobs(&self) -> impl Iterator<Item = (u32, JobStatus)> {
        let known = self.statuses.iter().copied();
        let statuses = known.chain(std::iter::repeat(JobStatus::Dispatched));
        self.dag.ids().iter().copied().zip(statuses)
    }
}

/// How a status looks. Told apart by sign as well as by colour, for those who see few colours.
#[derive(Clone, Copy, Debug)]
struct Look {
    name: &'static str,
    sign: &'static str,
    fill: &'static str,
    line: &'static str,
}

const STATUSES: [JobStatus; 5] = [
    JobStatus::WaitingForPrerequisites,
    JobStatus::Dispatched,
    JobStatus::Started,
    JobStatus::Finished,
    JobStatus::Error,
];

/// The colour of text; readable (contrast above 7) on every fill.
const INK: &str = "#1f2328";

const fn look(status: JobStatus) -> Look {
    let (name, sign, fill, line) = match status {
        JobStatus::WaitingForPrerequisites => {
            ("WaitingForPrerequisites", "…", "#eceff2", "#6e7781")
        }
        JobStatus::Dispatched => ("Dispatched", "○", "#fff3c4", "#9a6700"),
        JobStatus::Started => ("Started", "▶", "#cfe6ff", "#0969da"),
        JobStatus::Finished => ("Finished", "✓", "#ccf2d4", "#1a7f37"),
        JobStatus::Error => ("Error", "✕", "#ffd3ce", "#cf222e"),
    };
    Look { name, sign, fill, line }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
