//! Access rules, and the only place that checks them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::misfit;
use crate::app::Caller;
use crate::store::{CONTEXTS, Store};
use crate::{Code, Error, Result};

/// Who may call a method.
///
/// The operator may call every one. Rules about a context take its id from the param that
/// [`Spec::scope`](super::Spec::scope) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Anyone,
    /// Any caller we know.
    Known,
    /// The operator.
    Operator,
    /// A reader or admin of the context.
    Reader,
    /// An executor or admin of the context.
    Executor,
    /// An admin of the context.
    Admin,
}

impl Access {
    /// Whether the rule is about a context.
    pub const fn is_scoped(self) -> bool {
        matches!(self, Self::Reader | Self::Executor | Self::Admin)
    }

    pub(super) fn check_identity(self, caller: Caller) -> Result<()> {
        match (self, caller) {
            (Self::Anyone, _)
            | (_, Caller::Operator)
            | (Self::Known | Self::Reader | Self::Executor | Self::Admin, Caller::Actor(_)) => {
                Ok(())
            }
            (_, Caller::Anonymous) => Err(Error::Unauthenticated),
            (Self::Operator, Caller::Actor(_)) => Err(Error::Forbidden("the operator")),
        }
    }

    pub(super) fn check_context(
        self,
        caller: Caller,
        scope: &str,
        params: &str,
        store: &Store,
    ) -> Result<()> {
        let Caller::Actor(actor) = caller else { return Ok(()) };
        let missing = match self {
            Self::Anyone | Self::Known | Self::Operator => return Ok(()),
            Self::Reader => "a reader of the context",
            Self::Executor => "an executor of the context",
            Self::Admin => "an admin of the context",
        };
        let fields: BTreeMap<String, &RawValue> = misfit::parse_borrowed(params)?;
        let id = fields.get(scope).ok_or_else(|| Error::params(scope, "required"))?;
        let id: u32 = serde_json::from_str(id.get())
            .map_err(|_| Error::params(scope, "an integer from 0 to 4294967295"))?;
        let admitted = store.get(CONTEXTS, &id)?.is_some_and(|context| {
            context.admins.contains(&actor)
                || (self == Self::Reader && context.readers.contains(&actor))
                || (self == Self::Executor && context.executors.contains(&actor))
        });
        if admitted { Ok(()) } else { Err(Error::Forbidden(missing)) }
    }

    /// The errors it brings with it.
    pub(super) const fn errors(self) -> &'static [Code] {
        match self {
            Self::Anyone => &[],
            Self::Known => &[Code::Unauthenticated, Code::StorageError],
            Self::Operator | Self::Reader | Self::Executor | Self::Admin => {
                &[Code::Unauthenticated, Code::Forbidden, Code::StorageError]
            }
        }
    }

    /// As published.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Known => "known",
            Self::Operator => "operator",
            Self::Reader => "reader",
            Self::Executor => "executor",
            Self::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_get_what_the_rule_says() {
        let actor = Caller::Actor(7);
        for rule in [Access::Known, Access::Reader, Access::Executor, Access::Admin] {
            assert!(rule.check_identity(actor).is_ok());
        }
        for rule in [Access::Known, Access::Operator, Access::Reader, Access::Admin] {
            let refused = rule.check_identity(Caller::Anonymous).unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
            assert!(rule.check_identity(Caller::Operator).is_ok());
        }
        assert!(Access::Anyone.check_identity(Caller::Anonymous).is_ok());
        assert_eq!(Access::Operator.check_identity(actor).unwrap_err().code(), Code::Forbidden);
    }

    #[test]
    fn an_actor_of_no_context_is_forbidden() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(crate::store::Options::new(dir.path())).unwrap();
        let check =
            |params| Access::Admin.check_context(Caller::Actor(7), "context_id", params, &store);
        assert_eq!(check(r#"{"context_id":1}"#).unwrap_err().code(), Code::Forbidden);
        assert_eq!(check("{}").unwrap_err().code(), Code::InvalidParams);
        assert_eq!(check(r#"{"context_id":"x"}"#).unwrap_err().code(), Code::InvalidParams);
    }
}
