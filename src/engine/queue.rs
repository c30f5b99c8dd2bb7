//! Ready tasks per context, in fair order: groups take turns, each first in, first out.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::classes::Class;
use super::memory::GroupId;
use crate::model::slices::FunctionLanguage;
use crate::model::task::Language;

/// What a task asks of its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skill {
    /// To run scripts in this language.
    Script(Language),
    /// To call work functions in this language.
    Function(FunctionLanguage),
}

impl Skill {
    const ALL: [Self; 6] = [
        Self::Script(Language::Osis),
        Self::Script(Language::Sal),
        Self::Script(Language::V),
        Self::Script(Language::Python),
        Self::Function(FunctionLanguage::JavaScript),
        Self::Function(FunctionLanguage::Python),
    ];

    /// The name of its language on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script(language) => language.as_str(),
            Self::Function(language) => language.as_str(),
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Script(Language::Osis) => 1,
            Self::Script(Language::Sal) => 2,
            Self::Script(Language::V) => 4,
            Self::Script(Language::Python) => 8,
            Self::Function(FunctionLanguage::JavaScript) => 16,
            Self::Function(FunctionLanguage::Python) => 32,
        }
    }
}

/// A set of skills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skills(u8);

impl Skills {
    pub(super) fn contains(self, skill: Skill) -> bool {
        self.0 & skill.bit() != 0
    }
}

impl FromIterator<Skill> for Skills {
    fn from_iter<I: IntoIterator<Item = Skill>>(skills: I) -> Self {
        Self(skills.into_iter().fold(0, |set, skill| set | skill.bit()))
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

/// What ready tasks are kept by: their context, and what they ask of a runner.
pub(super) type Place = (u32, Skill, Class);

/// All ready tasks.
#[derive(Debug, Default)]
pub(super) struct ReadyTasks {
    lanes: FxHashMap<Place, Lane>,
    /// Lanes of each context.
    contexts: FxHashMap<u32, usize>,
    len: usize,
}

/// The ready tasks of one place.
#[derive(Debug, Default)]
struct Lane {
    /// Groups with ready tasks, the next to be served first.
    turns: VecDeque<GroupId>,
    tasks: FxHashMap<GroupId, VecDeque<(u32, u64)>>,
}

impl ReadyTasks {
    pub(super) fn push(&mut self, place: Place, ready: Ready) {
        let lane = self.lanes.entry(place).or_insert_with(|| {
            *self.contexts.entry(place.0).or_default() += 1;
            Lane::default()
        });
        let tasks = lane.tasks.entry(ready.group).or_insert_with(|| {
            lane.turns.push_back(ready.group);
            VecDeque::new()
        });
        tasks.push_back((ready.index, ready.batch));
        self.len += 1;
    }

    /// The next task of the first of these kinds that has one, and which kind that is.
    pub(super) fn pop(
        &mut self,
        context: u32,
        kinds: impl Iterator<Item = (Skill, Class)>,
    ) -> Option<(Ready, (Skill, Class))> {
        for (skill, class) in kinds {
            let place = (context, skill, class);
            let Some(lane) = self.lanes.get_mut(&place) else { continue };
            let popped = lane.pop();
            self.close_if_empty(place);
            if let Some(ready) = popped {
                self.len -= 1;
                return Some((ready, (skill, class)));
            }
        }
        None
    }

    fn close_if_empty(&mut self, place: Place) {
        if self.lanes.get(&place).is_some_and(|lane| lane.turns.is_empty()) {
            self.lanes.remove(&place);
            if let Some(lanes) = self.contexts.get_mut(&place.0) {
                *lanes -= 1;
                if *lanes == 0 {
                    self.contexts.remove(&place.0);
                }
            }
        }
    }

    /// How many groups have ready tasks of this kind.
    pub(super) fn waiting(&self, place: Place) -> usize {
        self.lanes.get(&place).map_or(0, |lane| lane.turns.len())
    }

    /// Whether nothing is ready in the context.
    pub(super) fn is_empty(&self, context: u32) -> bool {
        !self.contexts.contains_key(&context)
    }

    /// Forgets the tasks of a group; all of them are of one class.
    pub(super) fn remove_group(&mut self, context: u32, class: Class, group: GroupId) {
        for skill in Skill::ALL {
            let place = (context, skill, class);
            let Some(lane) = self.lanes.get_mut(&place) else { continue };
            if let Some(tasks) = lane.tasks.remove(&group) {
                self.len -= tasks.len();
                lane.turns.retain(|turn| *turn != group);
            }
            self.close_if_empty(place);
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
    fn groups_take_turns_and_skills_are_kept_apart() {
        let mut tasks = ReadyTasks::default();
        let ready = |group, index| Ready { group: GroupId(group), index, batch: 0 };
        let first = Class::default;
        let place = |context, language| (context, Skill::Script(language), first());
        for index in 0..3 {
            tasks.push(place(1, Language::Python), ready(1, index));
        }
        tasks.push(place(1, Language::Python), ready(2, 0));
        tasks.push(place(1, Language::Sal), ready(3, 0));
        tasks.push(place(2, Language::Python), ready(4, 0));
        let python = || std::iter::once((Skill::Script(Language::Python), first()));
        let popped = std::iter::from_fn(|| tasks.pop(1, python()));
        let order: Vec<_> = popped.map(|(ready, _)| ready).collect();
        assert_eq!(order, [ready(1, 0), ready(2, 0), ready(1, 1), ready(1, 2)]);
        assert!(tasks.pop(1, std::iter::empty()).is_none());
        assert!(!tasks.is_empty(1));
        tasks.remove_group(1, first(), GroupId(3));
        assert!(tasks.is_empty(1));
        assert_eq!(tasks.len(), 1);
    }
}
