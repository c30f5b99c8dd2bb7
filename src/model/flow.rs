//! The state of a group of tasks and its failure rules.

use minicbor::{Decode, Encode};

use super::task::JobStatus;

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FlowStatus {
    /// Never started.
    #[n(0)]
    Dispatched,
    /// Has jobs to run.
    #[n(1)]
    Started,
    /// Ended badly.
    #[n(2)]
    Error,
    /// Ended well.
    #[n(3)]
    Finished,
}

impl FlowStatus {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "Dispatched",
            Self::Started => "Started",
            Self::Error => "Error",
            Self::Finished => "Finished",
        }
    }
}

/// How many tasks of a group stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    dispatched: u32,
    waiting: u32,
    started: u32,
    error: u32,
    finished: u32,
}

impl Tally {
    /// Counts one more task.
    pub fn add(&mut self, status: JobStatus) {
        let count = self.count_mut(status);
        *count = count.saturating_add(1);
    }

    /// Counts a task that went from one status to another.
    pub fn shift(&mut self, from: JobStatus, to: JobStatus) {
        let count = self.count_mut(from);
        *count = count.saturating_sub(1);
        self.add(to);
    }

    /// How many have this status.
    pub const fn count(&self, status: JobStatus) -> u32 {
        match status {
            JobStatus::Dispatched => self.dispatched,
            JobStatus::WaitingForPrerequisites => self.waiting,
            JobStatus::Started => self.started,
            JobStatus::Error => self.error,
            JobStatus::Finished => self.finished,
        }
    }

    /// How the group ends: in error if any task did. `None` while some have not ended.
    pub const fn outcome(&self) -> Option<FlowStatus> {
        match (self.dispatched, self.waiting, self.started, self.error) {
            (0, 0, 0, 0) => Some(FlowStatus::Finished),
            (0, 0, 0, _) => Some(FlowStatus::Error),
            _ => None,
        }
    }

    fn count_mut(&mut self, status: JobStatus) -> &mut u32 {
        match status {
            JobStatus::Dispatched => &mut self.dispatched,
            JobStatus::WaitingForPrerequisites => &mut self.waiting,
            JobStatus::Started => &mut self.started,
            JobStatus::Error => &mut self.error,
            JobStatus::Finished => &mut self.finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_group_ends_when_its_last_task_does(ends in prop::collection::vec(any::<bool>(), 0..20)) {
            let mut tally = Tally::default();
            for _ in &ends {
                tally.add(JobStatus::WaitingForPrerequisites);
            }
            for well in &ends {
                prop_assert_eq!(tally.outcome(), None);
                let end = if *well { JobStatus::Finished } else { JobStatus::Error };
                tally.shift(JobStatus::WaitingForPrerequisites, end);
            }
            let all_well = ends.iter().all(|well| *well);
            let wanted = if all_well { FlowStatus::Finished } else { FlowStatus::Error };
            prop_assert_eq!(tally.outcome(), Some(wanted));
        }
    }
}
