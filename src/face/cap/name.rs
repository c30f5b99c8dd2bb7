//! Names of capabilities: formal ones, and those that stand under an anchor.

/// Longest name without its anchor, bytes.
const NAME: usize = 128;
/// Longest anchor, bytes.
const ANCHOR: usize = 256;

/// What a capability id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityName<'a> {
    /// The name without its anchor.
    pub base: &'a str,
    /// Who vouches for what the name means; none: the protocol does.
    pub anchor: Option<&'a str>,
    /// It claims no compatibility with the formal capability of that name.
    pub informal: bool,
}

impl<'a> CapabilityName<'a> {
    /// Reads `name`, `name@anchor` or `~name@anchor`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let informal = text.starts_with('~');
        let rest = text.strip_prefix('~').unwrap_or(text);
        let (base, anchor) = match rest.split_once('@') {
            Some((base, anchor)) => (base, Some(anchor)),
            None => (rest, None),
        };
        let good = is_word(base, NAME)
            && anchor.is_none_or(is_anchor)
            // What claims nothing needs somebody who says what it is.
            && (anchor.is_some() || !informal);
        good.then_some(Self { base, anchor, informal })
    }

    /// Whether this is what the capability is called in an advertisement.
    ///
    /// All that have an anchor are `sovereign/…` there. Of the formal ones two have a class that
    /// is known; others may be of any.
    pub fn is_on_the_wire_as(&self, wire: &str) -> bool {
        let Some((class, base)) = wire.split_once('/') else { return false };
        let fits = match (self.anchor, self.base) {
            (Some(_), _) => class == "sovereign",
            (None, "seed-directory") => class == "role",
            (None, "network-ledger") => class == "core",
            (None, _) => is_word(class, NAME) && class != "sovereign",
        };
        fits && base == self.base
    }
}

/// Whether a text can be an anchor.
pub(super) fn is_anchor(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    (1..=ANCHOR).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_word(text: &str, most: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    text.len() <= most
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        let name = |base, anchor, informal| Some(CapabilityName { base, anchor, informal });
        assert_eq!(CapabilityName::parse("seed-directory"), name("seed-directory", None, false));
        assert_eq!(CapabilityName::parse("x@fed:a"), name("x", Some("fed:a"), false));
        assert_eq!(CapabilityName::parse("~x@fed:a"), name("x", Some("fed:a"), true));
        for wrong in ["", "~x", "@a", "x@", "x@a@b", "~~x@a", "-x", "x/y", "x y", "é", "..", "x\0"]
        {
            assert_eq!(CapabilityName::parse(wrong), None, "{wrong}");
        }
        assert_eq!(CapabilityName::parse(&"x".repeat(129)), None);
    }

    #[test]
    fn the_wire_has_a_class_for_each() {
        let is = |id, wire| CapabilityName::parse(id).unwrap().is_on_the_wire_as(wire);
        for (id, wire) in [
            ("seed-directory", "role/seed-directory"),
            ("network-ledger", "core/network-ledger"),
            ("offers", "role/offers"),
            ("network-ledger@fed:a", "sovereign/network-ledger"),
            ("~offers@fed:a", "sovereign/offers"),
        ] {
            assert!(is(id, wire), "{id} {wire}");
        }
        for (id, wire) in [
            ("seed-directory", "core/seed-directory"),
            ("seed-directory", "seed-directory"),
            ("network-ledger", "role/network-ledger"),
            ("offers", "sovereign/offers"),
            ("offers@fed:a", "role/offers"),
            ("offers", "role/other"),
            ("offers", "/offers"),
        ] {
            assert!(!is(id, wire), "{id} {wire}");
        }
    }
}
