//! Open jobs by what they ask of runners: jobs that ask for the same are one class, so that a slot
//! is compared with a few classes rather than with every job.

use rustc_hash::FxHashMap;

use super::memory::{Memory, Runner};
use super::queue::Skill;
use super::sessions::Session;
use super::turn::Turn;
use crate::model::demand::Demands;
use crate::model::slices::is_group;

/// Most classes beside the one that asks for nothing, before jobs of further ones are refused.
pub(super) const MOST_CLASSES: usize = 1_000;

/// A class of work. Scripts are all of the first, as are functions that ask for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Class(u32);

/// The classes that active open jobs are of.
#[derive(Debug, Default)]
pub(super) struct Classes {
    by_demands: FxHashMap<Demands, Class>,
    /// By number, from 1: what each asks for, and how many jobs are of it.
    known: FxHashMap<Class, (Demands, usize)>,
    made: u32,
}

impl Classes {
    /// Whether there is no room for another one that asks for this.
    pub(super) fn are_full_for(&self, demands: &Demands) -> bool {
        *demands != Demands::default()
            && self.known.len() >= MOST_CLASSES
            && !self.by_demands.contains_key(demands)
    }

    /// Those that a session may have work of.
    fn met_by(&self, session: &Session) -> Vec<Class> {
        let first = session.offer.meets(&Demands::default()).then(Class::default);
        let met = self.known.iter().filter(|(_, (demands, _))| session.offer.meets(demands));
        let mut classes: Vec<Class> =
            first.into_iter().chain(met.map(|(class, _)| *class)).collect();
        classes.sort_unstable();
        classes
    }
}

impl Memory {
    /// The class of a job that comes into memory.
    pub(super) fn enlist(&mut self, demands: &Demands) -> Class {
        if *demands == Demands::default() {
            return Class::default();
        }
        if let Some(class) = self.classes.by_demands.get(demands).copied() {
            if let Some((_, jobs)) = self.classes.known.get_mut(&class) {
                *jobs += 1;
            }
            return class;
        }
        self.classes.made = self.classes.made.wrapping_add(1).max(1);
        let class = Class(self.classes.made);
        self.classes.by_demands.insert(demands.clone(), class);
        self.classes.known.insert(class, (demands.clone(), 1));
        for ((context, _), runner) in &mut self.runners {
            let Some(session) = runner.session.as_mut().filter(|_| is_group(*context)) else {
                continue;
            };
            if session.offer.meets(demands) {
                session.classes.push(class);
                for skill in &session.skills {
                    let slots = self.slots.entry((*context, *skill, class)).or_default();
                    *slots += u64::from(session.slots);
                }
            }
        }
        class
    }

    /// A job of this class leaves the memory.
    pub(super) fn dismiss(&mut self, class: Class) {
        let Some((_, jobs)) = self.classes.known.get_mut(&class) else { return };
        *jobs -= 1;
        if *jobs > 0 {
            return;
        }
        if let Some((demands, _)) = self.classes.known.remove(&class) {
            self.classes.by_demands.remove(&demands);
        }
        self.turns.retain(|(_, _, of), _| *of != class);
        self.slots.retain(|(_, _, of), _| *of != class);
        for runner in self.runners.values_mut() {
            if let Some(session) = &mut runner.session {
                session.classes.retain(|known| *known != class);
            }
        }
    }

    /// Works out the classes of an attached runner.
    pub(super) fn classify(&mut self, runner: (u32, u32)) {
        let known = self.runners.get_mut(&runner).and_then(|known| known.session.as_mut());
        let Some(session) = known else { return };
        session.classes =
            if is_group(runner.0) { self.classes.met_by(session) } else { vec![Class::default()] };
    }

    /// Counts the slots of an attached runner of a compute group in or out.
    pub(super) fn count_slots(&mut self, runner: (u32, u32), attached: bool) {
        let session = self.runners.get(&runner).and_then(|known| known.session.as_ref());
        let Some(session) = session.filter(|_| is_group(runner.0)) else { return };
        let own = u64::from(session.slots);
        for (skill, class) in session.kinds() {
            let slots = self.slots.entry((runner.0, skill, class)).or_default();
            *slots = if attached { *slots + own } else { slots.saturating_sub(own) };
        }
    }
}

impl Turn<'_> {
    /// Takes all attached runners out of a compute group that is removed.
    pub fn group_removed(&mut self, number: u32) {
        self.touch();
        let joined = |(_, known): &(&(u32, u32), &Runner)| {
            known.session.as_ref().is_some_and(|session| session.offer.groups.contains(&number))
        };
        let runners: Vec<(u32, u32)> =
            self.memory.runners.iter().filter(joined).map(|(runner, _)| *runner).collect();
        for runner in runners {
            self.memory.count_slots(runner, false);
            let known = self.memory.runners.get_mut(&runner);
            if let Some(session) = known.and_then(|known| known.session.as_mut()) {
                session.offer.groups.remove(&number);
            }
            self.memory.classify(runner);
            self.memory.count_slots(runner, true);
        }
    }
}

impl Session {
    /// What it can take: each of its skills, for each of its classes.
    fn kinds(&self) -> impl Iterator<Item = (Skill, Class)> + Clone + '_ {
        self.classes.iter().flat_map(|class| self.skills.iter().map(|skill| (*skill, *class)))
    }

    /// The same from the one after that which it had last, so that none of them waits for ever.
    pub(super) fn turns(&self) -> impl Iterator<Item = (Skill, Class)> + '_ {
        let last = self.served.and_then(|last| self.kinds().position(|kind| kind == last));
        let from = last.map_or(0, |last| last + 1);
        self.kinds().skip(from).chain(self.kinds().take(from))
    }
}
