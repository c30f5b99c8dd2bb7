//! Prerequisites: what must have happened before a job may be given to a runner.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Millis;

/// What one prerequisite waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Someone saying so: the place of its name in the list of prerequisites, the first place
    /// where the name stands there more than once.
    Plain(usize),
    /// A point in time.
    After(Millis),
    /// A flow of the same context ending well.
    Flow(u32),
    /// A job of the same context ending well: its caller and id.
    Job(u32, u32),
}

/// A prerequisite that starts like a gate of its own kind but does not go on like one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} must be {expected}")]
pub struct GateError {
    /// Its place in the list.
    pub index: usize,
    /// What was given.
    pub text: String,
    /// What it must look like.
    pub expected: &'static str,
}

/// What a list of prerequisites waits for: each thing once, in the order of the list.
///
/// # Errors
/// The first malformed one.
pub fn parse(prerequisites: &[String]) -> Result<Vec<Gate>, GateError> {
    let mut first_places: HashMap<&str, usize> = HashMap::new();
    let mut seen = HashSet::new();
    let mut gates = Vec::with_capacity(prerequisites.len());
    for (index, text) in prerequisites.iter().enumerate() {
        let gate = parse_one(text)
            .map_err(|expected| GateError { index, text: text.clone(), expected })?
            .unwrap_or_else(|| Gate::Plain(*first_places.entry(text).or_insert(index)));
        if seen.insert(gate) {
            gates.push(gate);
        }
    }
    Ok(gates)
}

/// The gate that a prerequisite names, `None` if it is a plain name.
///
/// # Errors
/// What a malformed one must look like.
pub fn parse_one(text: &str) -> Result<Option<Gate>, &'static str> {
    if let Some(time) = text.strip_prefix("after:") {
        let expected = "after:<RFC 3339 time>, such as after:2030-01-31T12:00:00Z";
        return moment(time).map(|at| Some(Gate::After(at))).ok_or(expected);
    }
    if let Some(id) = text.strip_prefix("flow:") {
        let expected = "flow:<id> with an id from 0 to 4294967295";
        return number(id).map(|id| Some(Gate::Flow(id))).ok_or(expected);
    }
    if let Some(ids) = text.strip_prefix("job:") {
        let expected = "job:<caller_id>/<id> with ids from 0 to 4294967295";
        let ids = ids.split_once('/').and_then(|(a, b)| Some((number(a)?, number(b)?)));
        return ids.map(|(caller, id)| Some(Gate::Job(caller, id))).ok_or(expected);
    }
    Ok(None)
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// An RFC 3339 time, up to the next full millisecond so that a gate never opens early; times
/// before 1970 count as 1970.
fn moment(text: &str) -> Option<Millis> {
    if !has_rfc3339_shape(text) {
        return None;
    }
    let nanoseconds = text.parse::<Timestamp>().ok()?.as_nanosecond();
    let up = nanoseconds.max(0).checked_add(999_999)? / 1_000_000;
    Millis::try_from(up).ok()
}

/// The library reads a superset of RFC 3339 (basic format, zone annotations, seconds left out).
fn has_rfc3339_shape(text: &str) -> bool {
    let matches = |text: &[u8], pattern: &[u8]| {
        text.len() == pattern.len()
            && text.iter().zip(pattern).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'T' => b"Tt ".contains(byte),
                b'+' => b"+-".contains(byte),
                other => byte == other,
            })
    };
    let Some((clock, rest)) = text.as_bytes().split_at_checked(19) else { return false };
    let fraction = match rest.strip_prefix(b".") {
        Some(digits) => digits.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        None => 0,
    };
    let zone = rest.get(fraction..).unwrap_or_default();
    matches(clock, b"0000-00-00T00:00:00")
        && fraction != 1
        && (matches(zone, b"Z") || matches(zone, b"z") || matches(zone, b"+00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read() {
        let list = ["data ready", "flow:7", "job:4294967295/0", "after:1970-01-01T00:00:01Z", ""];
        let gates = parse(&list.map(str::to_owned)).unwrap();
        assert_eq!(
            gates,
            [
                Gate::Plain(0),
                Gate::Flow(7),
                Gate::Job(u32::MAX, 0),
                Gate::After(1000),
                Gate::Plain(4)
            ]
        );
    }

    #[test]
    fn what_stands_there_twice_counts_once() {
        let list = ["a", "flow:7", "b", "a", "flow:07"].map(str::to_owned);
        assert_eq!(parse(&list).unwrap(), [Gate::Plain(0), Gate::Flow(7), Gate::Plain(2)]);
    }

    #[test]
    fn times_may_have_fractions_and_offsets() {
        let at = |text: &str| parse_one(&format!("after:{text}"));
        assert_eq!(at("1970-01-01T01:00:00.0005+01:00"), Ok(Some(Gate::After(1))));
        assert_eq!(at("1970-01-01t00:00:00.25z"), Ok(Some(Gate::After(250))));
        assert_eq!(at("1969-07-20T20:17:40Z"), Ok(Some(Gate::After(0))));
        assert_eq!(at("2030-01-31T12:00:00-05:30"), Ok(Some(Gate::After(1_896_111_000_000))));
    }

    #[test]
    fn malformed_gates_are_told_what_they_must_be() {
        let bad = [
            "after:",
            "after:tomorrow",
            "after:2030-02-30T00:00:00Z",
            "after:2030-01-31",
            "after:2030-01-31T12:00:00",
            "after:2030-01-31T12:00Z",
            "after:20300131T120000Z",
            "after:2030-01-31T12:00:00.Z",
            "after:2030-01-31T12:00:00Z[UTC]",
            "after:1896111000",
            "after:2030-01-31T12:00:0\u{e9}Z",
            "flow:",
            "flow:x",
            "flow:-1",
            "flow:+1",
            "flow: 1",
            "flow:4294967296",
            "flow:1/2",
            "job:",
            "job:1",
            "job:1/",
            "job:/1",
            "job:1/2/3",
            "job:1/4294967296",
        ];
        for text in bad {
            let kind = text.split_once(':').unwrap().0;
            let expected = parse_one(text).expect_err(text);
            assert!(expected.starts_with(kind), "{text}: {expected}");
        }
        let refused = parse(&["ok".to_owned(), "flow:x".to_owned()]).unwrap_err();
        assert_eq!(refused.index, 1);
        assert_eq!(
            refused.to_string(),
            r#""flow:x" must be flow:<id> with an id from 0 to 4294967295"#
        );
    }

    #[test]
    fn names_that_only_resemble_gates_are_plain() {
        for text in ["After:x", "flow", "job 1/2", " after:x", "before:x"] {
            assert_eq!(parse_one(text), Ok(None), "{text}");
        }
    }
}
