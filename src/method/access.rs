//! Access rules, and the only place that checks them.

use serde_json::value::RawValue;

use super::member::member;
use super::misfit;
use crate::access::Role;
use crate::app::{Caller, Cx};
use crate::{Code, Error, Result};

/// The param that names the runner, for the rule about runners.
const RUNNER: &str = "runner_id";

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
    /// An actor, who is shown what he may read; a context that is named must be one of those.
    Member,
    /// A reader or admin of the context.
    Reader,
    /// An executor or admin of the context.
    Executor,
    /// The runner that `runner_id` names, or an executor or admin of its context.
    Runner,
    /// An admin of the context.
    Admin,
}

/// The role that a call needs to have, by one who is not the operator: actor, role, context.
pub(super) type Needed = (u32, Role, u32);

impl Access {
    /// Whether the rule is about a context that must be named.
    pub const fn is_scoped(self) -> bool {
        matches!(self, Self::Reader | Self::Executor | Self::Runner | Self::Admin)
    }

    const fn role(self) -> Option<Role> {
        match self {
            Self::Anyone | Self::Known | Self::Operator => None,
            Self::Member | Self::Reader => Some(Role::Reader),
            Self::Executor | Self::Runner => Some(Role::Executor),
            Self::Admin => Some(Role::Admin),
        }
    }

    pub(super) fn check_identity(self, caller: Caller) -> Result<()> {
        match (self, caller) {
            (Self::Anyone, _)
            | (_, Caller::Operator)
            | (Self::Known | Self::Runner, Caller::Actor(_) | Caller::Runner(..))
            | (Self::Member | Self::Reader | Self::Executor | Self::Admin, Caller::Actor(_)) => {
                Ok(())
            }
            (_, Caller::Anonymous) => Err(Error::Unauthenticated),
            (Self::Operator, Caller::Actor(_) | Caller::Runner(..)) => {
                Err(Error::Forbidden("the operator"))
            }
            (Self::Member | Self::Reader | Self::Executor | Self::Admin, Caller::Runner(..)) => {
                Err(Error::Forbidden("an actor"))
            }
        }
    }

    /// Checks what the call is about; what the caller must go on having while he follows it.
    pub(super) fn check_context(
        self,
        cx: &Cx,
        scope: &str,
        params: &str,
    ) -> Result<Option<Needed>> {
        let Some(role) = self.role() else { return Ok(None) };
        if matches!(cx.caller, Caller::Operator | Caller::Anonymous) {
            return Ok(None);
        }
        let Some(context) = number_at(params, scope)? else {
            return if self == Self::Member {
                Ok(None)
            } else {
                Err(Error::params(scope, "required"))
            };
        };
        match cx.caller {
            Caller::Runner(own, runner) => {
                let named = number_at(params, RUNNER)?;
                if (own, Some(runner)) == (context, named) {
                    return Ok(None);
                }
                Err(Error::Forbidden("to be that runner"))
            }
            Caller::Actor(actor) if cx.has(role, context)? => Ok(Some((actor, role, context))),
            _ => Err(Error::Forbidden(match role {
                Role::Reader => "a reader of the context",
                Role::Executor => "an executor of the context",
                Role::Admin => "an admin of the context",
                Role::Member => "a role in the context",
            })),
        }
    }

    /// The errors it brings with it.
    pub(super) const fn errors(self) -> &'static [Code] {
        match self {
            Self::Anyone => &[],
            Self::Known => &[Code::Unauthenticated, Code::StorageError],
            Self::Operator
            | Self::Member
            | Self::Reader
            | Self::Executor
            | Self::Runner
            | Self::Admin => &[Code::Unauthenticated, Code::Forbidden, Code::StorageError],
        }
    }

    /// As published.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Known => "known",
            Self::Operator => "operator",
            Self::Member => "member",
            Self::Reader => "reader",
            Self::Executor => "executor",
            Self::Runner => "runner",
            Self::Admin => "admin",
        }
    }
}

/// The id that stands at a path such as `context_id` or `context.id`; none where nothing does.
fn number_at(object: &str, path: &str) -> Result<Option<u32>> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let found = member(object, first).map_err(|err| misfit::worded(&err))?;
    let Some(value) = found.map(RawValue::get).filter(|value| *value != "null") else {
        return Ok(None);
    };
    if let Some(rest) = rest {
        return number_at(value, rest);
    }
    serde_json::from_str(value)
        .map(Some)
        .map_err(|_| Error::params(path, "an integer from 0 to 4294967295"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::config::Config;

    #[test]
    fn identities_get_what_the_rule_says() {
        let (actor, runner) = (Caller::Actor(7), Caller::Runner(1, 3));
        let scoped = [Access::Member, Access::Reader, Access::Executor, Access::Admin];
        for rule in scoped.into_iter().chain([Access::Known, Access::Runner]) {
            assert!(rule.check_identity(actor).is_ok());
        }
        for rule in scoped {
            assert_eq!(rule.check_identity(runner).unwrap_err().code(), Code::Forbidden);
        }
        assert!(Access::Known.check_identity(runner).is_ok());
        assert!(Access::Runner.check_identity(runner).is_ok());
        for rule in scoped.into_iter().chain([Access::Known, Access::Operator, Access::Runner]) {
            let refused = rule.check_identity(Caller::Anonymous).unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
            assert!(rule.check_identity(Caller::Operator).is_ok());
        }
        assert!(Access::Anyone.check_identity(Caller::Anonymous).is_ok());
        for caller in [actor, runner] {
            let refused = Access::Operator.check_identity(caller).unwrap_err();
            assert_eq!(refused.code(), Code::Forbidden);
        }
    }

    #[tokio::test]
    async fn an_actor_of_no_context_and_another_runner_are_forbidden() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().into(), ..Config::default() };
        let app = App::start(config).unwrap();
        let check = |rule: Access, caller, scope, params| {
            let cx = Cx::inside(app.clone(), caller);
            rule.check_context(&cx, scope, params).map_err(|err| err.code())
        };
        let actor = |params| check(Access::Admin, Caller::Actor(7), "context_id", params);
        assert_eq!(actor(r#"{"context_id":1}"#), Err(Code::Forbidden));
        assert_eq!(actor("{}"), Err(Code::InvalidParams));
        assert_eq!(actor(r#"{"context_id":"x"}"#), Err(Code::InvalidParams));
        let twice = r#"{"context_id":1,"context_\u0069d":2}"#;
        assert_eq!(actor(twice), Err(Code::InvalidParams), "which of them would be read?");
        let nested = r#"{"context":{"id":1}}"#;
        let admin = check(Access::Admin, Caller::Actor(7), "context.id", nested);
        assert_eq!(admin, Err(Code::Forbidden));
        let member = |params| check(Access::Member, Caller::Actor(7), "context_id", params);
        assert_eq!(member("{}"), Ok(None));
        assert_eq!(member(r#"{"context_id":null}"#), Ok(None));
        assert_eq!(member(r#"{"context_id":1}"#), Err(Code::Forbidden));
        let runner = |params| check(Access::Runner, Caller::Runner(1, 3), "context_id", params);
        assert_eq!(runner(r#"{"context_id":1,"runner_id":3}"#), Ok(None));
        for other in ["{\"context_id\":1,\"runner_id\":4}", "{\"context_id\":2,\"runner_id\":3}"] {
            assert_eq!(runner(other), Err(Code::Forbidden));
        }
        assert_eq!(runner(r#"{"context_id":1}"#), Err(Code::Forbidden));
    }
}
