//! What jobs ask of runners, and what runners offer: capabilities and compute groups.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use serde_json::{Map, Value};

/// Most capabilities of one job, or of one runner.
const MOST: usize = 256;
/// What their names take together at most, bytes.
const BYTES: usize = 16 << 10;

/// The number of the group that is open to all.
pub const PUBLIC: u32 = 0;

/// What a job asks of the runners that it may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Demands {
    /// Capabilities that a runner must have, all of them: JSON pointers, ascending.
    #[n(0)]
    pub capabilities: Vec<String>,
    /// Numbers of compute groups of which it must be in one, ascending; empty: the public one.
    #[n(1)]
    pub groups: Vec<u32>,
}

/// What a runner offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Its capabilities: JSON pointers.
    pub capabilities: BTreeSet<String>,
    /// Numbers of the compute groups that it is in; none: it is in no group at all.
    pub groups: BTreeSet<u32>,
}

impl Offer {
    /// What a runner offers that says nothing: it is in the public group.
    pub fn public() -> Self {
        Self { capabilities: BTreeSet::new(), groups: BTreeSet::from([PUBLIC]) }
    }

    /// Whether a runner with this offer may have work with these demands.
    ///
    /// ```
    /// use muster::model::demand::{Demands, Offer};
    /// let offer = Offer { capabilities: ["/gpu".to_owned()].into(), ..Offer::public() };
    /// let demands = Demands { capabilities: vec!["/gpu".to_owned()], groups: vec![] };
    /// assert!(offer.meets(&Demands::default()) && offer.meets(&demands));
    /// assert!(!Offer::public().meets(&demands));
    /// ```
    pub fn meets(&self, demands: &Demands) -> bool {
        let able = demands.capabilities.iter().all(|wanted| self.capabilities.contains(wanted));
        let groups = match demands.groups.as_slice() {
            [] => &[PUBLIC],
            groups => groups,
        };
        able && groups.iter().any(|group| self.groups.contains(group))
    }
}

/// The names of what is `true` in nested booleans, ascending: JSON pointers such as `/engine/es7`.
///
/// # Errors
/// What is wrong, and where.
pub fn demanded(members: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut bytes = 0;
    // An own stack, not the thread's: how deep they are nested is the client's choice.
    let mut open = vec![(String::new(), members)];
    while let Some((above, members)) = open.pop() {
        for (name, value) in members {
            let path = format!("{above}/{}", name.replace('~', "~0").replace('/', "~1"));
            bytes += path.len();
            if bytes > BYTES {
                return Err(format!("at most {BYTES} bytes of names"));
            }
            match value {
                Value::Object(members) => open.push((path, members)),
                Value::Bool(true) => found.push(path),
                Value::Bool(false) | Value::Null => {}
                _ => return Err(format!("{path} must be true, false or an object of such")),
            }
        }
    }
    if found.len() > MOST {
        return Err(format!("at most {MOST}"));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Vec<String>, String> {
        demanded(value.as_object().unwrap())
    }

    #[test]
    fn only_what_is_true_is_demanded() {
        let value = json!({
            "useStrict": true, "engine": { "es7": true, "spidermonkey": false, "deep": {} },
            "a/b~c": { "": true }, "gone": null,
        });
        assert_eq!(read(&value).unwrap(), ["/a~1b~0c/", "/engine/es7", "/useStrict"]);
        assert_eq!(read(&json!({})).unwrap(), Vec::<String>::new());
        for wrong in [json!({ "a": 1 }), json!({ "a": { "b": "yes" } }), json!({ "a": [] })] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        let many: Map<String, Value> = (0..257).map(|n| (n.to_string(), true.into())).collect();
        assert!(demanded(&many).is_err());
        assert!(read(&json!({ "x".repeat(BYTES): false })).is_err());
    }

    #[test]
    fn one_of_the_groups_is_enough_and_all_of_the_capabilities_are_needed() {
        let offer = |capabilities: &[&str], groups: &[u32]| Offer {
            capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
            groups: groups.iter().copied().collect(),
        };
        let demands = |capabilities: &[&str], groups: &[u32]| Demands {
            capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
            groups: groups.to_vec(),
        };
        assert!(offer(&[], &[PUBLIC]).meets(&demands(&[], &[])));
        assert!(offer(&["/a", "/b"], &[2, 3]).meets(&demands(&["/a"], &[1, 3])));
        assert!(!offer(&["/b"], &[3]).meets(&demands(&["/a", "/b"], &[3])));
        assert!(!offer(&[], &[2]).meets(&demands(&[], &[])), "it left the public group");
        assert!(!offer(&[], &[PUBLIC]).meets(&demands(&[], &[2])));
    }
}
