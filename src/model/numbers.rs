//! Sets of slice numbers, kept as runs: a million in a row take no more room than one.

use minicbor::{Decode, Encode};

/// A set of numbers from 1, as disjoint runs in ascending order that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Numbers {
    /// First and last number of each run.
    #[n(0)]
    runs: Vec<(u64, u64)>,
}

impl Numbers {
    /// Those from `first` to `last`, both included.
    pub fn run(first: u64, last: u64) -> Self {
        Self { runs: if first <= last { vec![(first, last)] } else { Vec::new() } }
    }

    /// The union of runs in any order, which may overlap.
    pub fn union(runs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<(u64, u64)> =
            runs.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match runs.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => runs.push((first, last)),
            }
        }
        Self { runs }
    }

    /// First and last number of each run, ascending.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().fold(0, |sum: u64, (first, last)| {
            sum.saturating_add(last.saturating_sub(*first).saturating_add(1))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The smallest.
    pub fn first(&self) -> Option<u64> {
        self.runs.first().map(|(first, _)| *first)
    }

    /// Whether all from `first` to `last` are in it.
    pub fn contains_run(&self, first: u64, last: u64) -> bool {
        let after = self.runs.partition_point(|(begin, _)| *begin <= first);
        let run = after.checked_sub(1).and_then(|at| self.runs.get(at));
        first <= last && run.is_some_and(|(_, end)| last <= *end)
    }

    /// Whether it is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.contains_run(number, number)
    }

    /// Takes out all from `first` to `last`, if all of them are in it; says whether they were.
    pub fn remove_run(&mut self, first: u64, last: u64) -> bool {
        if !self.contains_run(first, last) {
            return false;
        }
        let at = self.runs.partition_point(|(begin, _)| *begin <= first).saturating_sub(1);
        let Some((begin, end)) = self.runs.get(at).copied() else { return false };
        let before = (begin < first).then(|| (begin, first - 1));
        let after = (last < end).then(|| (last + 1, end));
        self.runs.splice(at..=at, [before, after].into_iter().flatten());
        true
    }

    /// Adds a run of numbers none of which is in it.
    pub fn insert_run(&mut self, first: u64, last: u64) {
        let runs = std::mem::take(&mut self.runs);
        *self = Self::union(runs.into_iter().chain([(first, last)]));
    }

    /// Each number, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_that_it_says(
            runs in prop::collection::vec((1_u64..60, 0_u64..9), 0..12),
            taken in prop::collection::vec((1_u64..60, 0_u64..9), 0..12),
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(first, more)| (first, first + more)).collect();
            let mut set: BTreeSet<u64> = runs.iter().flat_map(|(a, b)| *a..=*b).collect();
            let mut numbers = Numbers::union(runs);
            for (first, more) in taken {
                let whole = (first..=first + more).all(|number| set.contains(&number));
                prop_assert_eq!(numbers.contains_run(first, first + more), whole);
                prop_assert_eq!(numbers.remove_run(first, first + more), whole);
                if whole {
                    set.retain(|number| !(first..=first + more).contains(number));
                }
                prop_assert_eq!(numbers.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(numbers.len(), u64::try_from(set.len()).unwrap());
                prop_assert_eq!(numbers.first(), set.first().copied());
            }
            let again = Numbers::union(set.iter().map(|number| (*number, *number)));
            prop_assert_eq!(&again, &numbers);
            prop_assert!(numbers.runs().windows(2).all(|two| two[0].1 + 1 < two[1].0));
        }
    }
}
