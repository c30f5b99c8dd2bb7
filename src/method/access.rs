//! Access rules, and the only place that checks them.

use serde::Deserialize;

use crate::app::Caller;
use crate::store::{CONTEXTS, Store};
use crate::{Code, Error, Result};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Anyone,
    /// Any caller we know.
    Known,
    /// The operator.
    Operator,
    /// An admin of the context that `context_id` names, or the operator.
    Admin,
}

impl Access {
    pub(super) fn check_identity(self, caller: Caller) -> Result<()> {
        match (self, caller) {
            (Self::Anyone, _)
            | (_, Caller::Operator)
            | (Self::Known | Self::Admin, Caller::Actor(_)) => Ok(()),
            (_, Caller::Anonymous) => Err(Error::Unauthenticated),
            (Self::Operator, Caller::Actor(_)) => Err(Error::Forbidden("the operator")),
        }
    }

    pub(super) fn check_context(self, caller: Caller, params: &str, store: &Store) -> Result<()> {
        #[derive(Deserialize)]
        struct Scope {
            context_id: u32,
        }
        let (Self::Admin, Caller::Actor(actor)) = (self, caller) else { return Ok(()) };
        let scope: Scope =
            serde_json::from_str(params).map_err(|e| Error::params("", e.to_string()))?;
        let context = store.get(CONTEXTS, &scope.context_id)?;
        let admin = context.is_some_and(|c| c.admins.contains(&actor));
        if admin { Ok(()) } else { Err(Error::Forbidden("an admin of the context")) }
    }

    /// The errors it brings with it.
    pub(super) const fn errors(self) -> &'static [Code] {
        match self {
            Self::Anyone => &[],
            Self::Known => &[Code::Unauthenticated],
            Self::Operator | Self::Admin => &[Code::Unauthenticated, Code::Forbidden],
        }
    }

    /// As published.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Known => "known",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}
