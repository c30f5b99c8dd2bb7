//! Finds what a path leads to: fixed segments go before captures, at every step.

use std::collections::BTreeMap;

/// Routes below one point.
#[derive(Debug)]
pub(super) struct Tree<T> {
    fixed: BTreeMap<String, Tree<T>>,
    captured: Option<Box<Tree<T>>>,
    /// What the path up to here leads to, by verb, with the names of its captures.
    here: Vec<(&'static str, Vec<String>, T)>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { fixed: BTreeMap::new(), captured: None, here: Vec::new() }
    }
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a, T> {
    /// A route, and what its captures stand for, still percent-encoded.
    Route(&'a T, Vec<(&'a str, &'a str)>),
    /// The path exists, for other verbs.
    OtherVerbs {
        /// Those.
        verbs: Vec<&'static str>,
        /// The route of one of them.
        any: &'a T,
        /// What that route's captures stand for.
        captures: Vec<(&'a str, &'a str)>,
    },
    /// There is no such path.
    Nothing,
}

impl<T> Tree<T> {
    /// Adds a route. The first of two for the same verb and path stays; answers whether it is new.
    pub(super) fn insert(&mut self, verb: &'static str, path: &str, target: T) -> bool {
        let mut names = Vec::new();
        let mut at = self;
        for segment in segments(path) {
            at = match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => {
                    names.push(name.to_owned());
                    at.captured.get_or_insert_default()
                }
                None => at.fixed.entry(segment.to_owned()).or_default(),
            };
        }
        let new = at.here.iter().all(|(taken, ..)| *taken != verb);
        if new {
            at.here.push((verb, names, target));
        }
        new
    }

    /// Looks a path up.
    pub(super) fn find<'a>(&'a self, verb: &str, path: &'a str) -> Found<'a, T> {
        let path: Vec<&str> = segments(path).collect();
        let mut values = Vec::new();
        let Some(found) = self.descend(&path, &mut values) else { return Found::Nothing };
        let ours = found.here.iter().find(|(theirs, ..)| *theirs == verb);
        let Some((_, names, target)) = ours.or(found.here.first()) else { return Found::Nothing };
        let captures = names.iter().map(String::as_str).zip(values).collect();
        if ours.is_some() {
            return Found::Route(target, captures);
        }
        let verbs = found.here.iter().map(|(verb, ..)| *verb).collect();
        Found::OtherVerbs { verbs, any: target, captures }
    }

    /// Some route that begins as a path does, as far as that leads; none where not even its first
    /// segment does.
    pub(super) fn nearest(&self, path: &str) -> Option<&T> {
        let mut at = self;
        for segment in segments(path) {
            match at.fixed.get(segment).or(at.captured.as_deref()) {
                Some(next) => at = next,
                None => break,
            }
        }
        if std::ptr::eq(at, self) { None } else { at.any() }
    }

    fn any(&self) -> Option<&T> {
        let here = self.here.first().map(|(_, _, target)| target);
        here.or_else(|| self.fixed.values().chain(self.captured.as_deref()).find_map(Self::any))
    }

    fn descend<'a, 'p>(&'a self, path: &[&'p str], values: &mut Vec<&'p str>) -> Option<&'a Self> {
        let Some((first, rest)) = path.split_first() else {
            return (!self.here.is_empty()).then_some(self);
        };
        // Depth is bounded by that of the routes, not of the path.
        if let Some(found) = self.fixed.get(*first).and_then(|tree| tree.descend(rest, values)) {
            return Some(found);
        }
        let captured = self.captured.as_ref().filter(|_| !first.is_empty())?;
        values.push(first);
        let found = captured.descend(rest, values);
        if found.is_none() {
            values.pop();
        }
        found
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree<u8> {
        let mut tree = Tree::default();
        assert!(tree.insert("GET", "/jobs/{id}", 1));
        assert!(tree.insert("GET", "/jobs/last", 2));
        assert!(tree.insert("DELETE", "/jobs/{other}", 3));
        assert!(tree.insert("GET", "/jobs/last/{caller}/x", 4));
        assert!(!tree.insert("GET", "/jobs/{again}", 5));
        tree
    }

    #[test]
    fn fixed_segments_go_before_captures() {
        let tree = tree();
        assert_eq!(tree.find("GET", "/jobs/7"), Found::Route(&1, vec![("id", "7")]));
        assert_eq!(tree.find("GET", "/jobs/last"), Found::Route(&2, vec![]));
        assert_eq!(tree.find("DELETE", "/jobs/7"), Found::Route(&3, vec![("other", "7")]));
        assert_eq!(tree.find("GET", "/jobs/last/3/x"), Found::Route(&4, vec![("caller", "3")]));
    }

    #[test]
    fn other_verbs_and_other_paths_are_told_apart() {
        let tree = tree();
        let captures = vec![("id", "7")];
        let verbs = vec!["GET", "DELETE"];
        let others = Found::OtherVerbs { verbs, any: &1, captures };
        assert_eq!(tree.find("PUT", "/jobs/7"), others);
        for path in ["/jobs", "/jobs/", "/jobs/7/8", "/", "", "/x", "/jobs/last/3"] {
            assert_eq!(tree.find("GET", path), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn the_nearest_route_is_one_that_begins_alike() {
        let mut tree = tree();
        assert!(tree.insert("GET", "/other/x", 9));
        assert_eq!(tree.nearest("/other/y/z"), Some(&9));
        assert_eq!(tree.nearest("/jobs/7/nothing"), Some(&1));
        assert!(tree.nearest("/jobs").is_some());
        assert_eq!(tree.nearest("/nothing"), None);
        assert_eq!(tree.nearest(""), None);
    }
}
