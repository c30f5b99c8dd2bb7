//! Ready tasks per context, in fair order: groups take turns, each first in, first out.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::memory::GroupId;
use crate::model::task::Language;

/// A set of languages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Languages(u8);

impl Languages {
    pub(super) fn contains(self, language: Language) -> bool {
        self.0 & bit(language) != 0
    }
}

impl FromIterator<Language> for Languages {
    fn from_iter<I: IntoIterator<Item = Language>>(languages: I) -> Self {
        Self(languages.into_iter().fold(0, |set, language| set | bit(language)))
    }
}

const fn bit(language: Language) -> u8 {
    match language {
        Language::Osis => 1,
        Language::Sal => 2,
        Language::V => 4,
        Language::Python => 8,
    }
}

/// A ready task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) group: GroupId,
    pub(super) index: u32,
    /// The batch that made it ready; it may be pushed before its lease is durable only once this
    /// batch is.
    pub(super) batch: u64,
}

/// All ready tasks.
#[derive(Debug, Default)]
pub(super) struct ReadyTasks {
    lanes: FxHashMap<(u32, Language), Lane>,
    len: usize,
}

/// The ready tasks of one context in one language.
#[derive(Debug, Default)]
struct Lane {
    /// Groups with ready tasks, the next to be served first.
    turns: VecDeque<GroupId>,
    tasks: FxHashMap<GroupId, VecDeque<(u32, u64)>>,
}

impl ReadyTasks {
    pub(super) fn push(&mut self, context: u32, language: Language, ready: Ready) {
        let lane = self.lanes.entry((context, language)).or_default();
        let tasks = lane.tasks.entry(ready.group).or_insert_with(|| {
            lane.turns.push_back(ready.group);
            VecDeque::new()
        });
        tasks.push_back((ready.index, ready.batch));
        self.len += 1;
    }

    /// The next task that a runner with these languages can take.
    pub(super) fn pop(&mut self, context: u32, languages: Languages) -> Option<Ready> {
        let usable = Language::ALL.into_iter().filter(|l| languages.contains(*l));
        for language in usable {
            let Some(lane) = self.lanes.get_mut(&(context, language)) else { continue };
            let popped = lane.pop();
            if lane.turns.is_empty() {
                self.lanes.remove(&(context, language));
            }
            if popped.is_some() {
                self.len -= 1;
                return popped;
            }
        }
        None
    }

    /// Whether nothing is ready in the context.
    pub(super) fn is_empty(&self, context: u32) -> bool {
        Language::ALL.into_iter().all(|language| !self.lanes.contains_key(&(context, language)))
    }

    /// Forgets the tasks of a group.
    pub(super) fn remove_group(&mut self, context: u32, group: GroupId) {
        for language in Language::ALL {
            let Some(lane) = self.lanes.get_mut(&(context, language)) else { continue };
            if let Some(tasks) = lane.tasks.remove(&group) {
                self.len -= tasks.len();
                lane.turns.retain(|turn| *turn != group);
            }
            if lane.turns.is_empty() {
                self.lanes.remove(&(context, language));
            }
        }
    }

    /// How many tasks are ready.
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

impl Lane {
    fn pop(&mut self) -> Option<Ready> {
        let group = self.turns.pop_front()?;
        let tasks = self.tasks.get_mut(&group)?;
        let (index, batch) = tasks.pop_front()?;
        if tasks.is_empty() {
            self.tasks.remove(&group);
        } else {
            self.turns.push_back(group);
        }
        Some(Ready { group, index, batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_turns_and_languages_are_kept_apart() {
        let mut tasks = ReadyTasks::default();
        let ready = |group, index| Ready { group: GroupId(group), index, batch: 0 };
        for index in 0..3 {
            tasks.push(1, Language::Python, ready(1, index));
        }
        tasks.push(1, Language::Python, ready(2, 0));
        tasks.push(1, Language::Sal, ready(3, 0));
        tasks.push(2, Language::Python, ready(4, 0));
        let python: Languages = [Language::Python].into_iter().collect();
        let order: Vec<_> = std::iter::from_fn(|| tasks.pop(1, python)).collect();
        assert_eq!(order, [ready(1, 0), ready(2, 0), ready(1, 1), ready(1, 2)]);
        assert!(!tasks.is_empty(1));
        tasks.remove_group(1, GroupId(3));
        assert!(tasks.is_empty(1));
        assert_eq!(tasks.len(), 1);
    }
}
