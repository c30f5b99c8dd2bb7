//! Callers in the keys of rows and in challenges.

use crate::app::Caller;

/// Kind, context and id of a caller that can sign in; zeros for one that cannot.
pub fn parts(caller: Caller) -> (u8, u32, u32) {
    match caller {
        Caller::Anonymous | Caller::Operator => (0, 0, 0),
        Caller::Actor(id) => (1, 0, id),
        Caller::Runner(context, id) => (2, context, id),
    }
}

/// The caller of those parts.
pub fn caller(kind: u8, context: u32, id: u32) -> Option<Caller> {
    match kind {
        1 => Some(Caller::Actor(id)),
        2 => Some(Caller::Runner(context, id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_sign_in_comes_back_as_he_was() {
        for who in [Caller::Actor(7), Caller::Runner(1, 3)] {
            let (kind, context, id) = parts(who);
            assert_eq!(caller(kind, context, id), Some(who));
        }
        let (kind, context, id) = parts(Caller::Operator);
        assert_eq!(caller(kind, context, id), None);
    }
}
