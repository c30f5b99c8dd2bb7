//! Errors, and the one table of codes they map to on the wire.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Map, Value, json};

use crate::model::dag::DagError;
use crate::model::environment::EnvironmentError;
use crate::model::gate::GateError;
use crate::model::render::TooLarge;
use crate::store::StoreError;

/// Shorthand used by every layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $http:literal, $message:literal;)+) => {
        /// Every code a client can see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $name),+ }

        impl Code {
            /// All codes, in table order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The JSON-RPC error code.
            pub const fn number(self) -> i32 {
                match self { $(Self::$name => $code),+ }
            }

            /// The status that a REST client sees.
            pub const fn http(self) -> u16 {
                match self { $(Self::$name => $http),+ }
            }

            /// The fixed message.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message),+ }
            }

            /// Its key under `components.errors`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What it means, for the published document.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

codes! {
    /// The request is not JSON.
    ParseError = -32700, 400, "Parse error";
    /// The request is JSON, but not a JSON-RPC request.
    InvalidRequest = -32600, 400, "Invalid Request";
    /// There is no method of that name.
    MethodNotFound = -32601, 404, "Method not found";
    /// The params do not fit; `data` names the field and what it must be.
    InvalidParams = -32602, 400, "Invalid params";
    /// A bug; `data` carries the id under which it was logged.
    InternalError = -32603, 500, "Internal error";
    /// No such object, or none that the caller may see; `data` names what.
    NotFound = -32001, 404, "Not Found";
    /// Not allowed in the present state; `data` has the state.
    Conflict = -32002, 409, "Conflict";
    /// No valid credentials.
    Unauthenticated = -32003, 401, "Unauthenticated";
    /// Known, but not allowed.
    Forbidden = -32004, 403, "Forbidden";
    /// A size, count or rate is exceeded; `data` has the limit.
    LimitReached = -32005, 429, "Limit reached";
    /// The attempt token is not the current one.
    StaleAttempt = -32006, 409, "Stale attempt";
    /// `since` is older than the event log; `data.oldest` is the oldest number still held.
    Gone = -32007, 410, "Gone";
    /// Something this depends on has failed.
    FailedDependency = -32009, 424, "Failed dependency";
    /// A commit failed; nothing changed.
    StorageError = -32010, 500, "Storage Error";
    /// Stopping, or not ready yet.
    Unavailable = -32011, 503, "Unavailable";
    /// A job depends on one outside its flow; `data` has `job` and `missing`.
    DagMissingDependency = -32020, 409, "DAG Missing Dependency";
    /// The jobs of a flow depend on each other in a circle; `data.cycle` is one.
    DagCycleDetected = -32021, 409, "DAG Cycle Detected";
}

/// What can go wrong below the wire.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A param is missing, malformed or out of range.
    #[error("{}{reason}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
    Params {
        /// Path of the field, empty when it is the params as a whole.
        field: String,
        /// What it must be.
        reason: String,
    },
    /// An object does not exist.
    #[error("{kind} {id} not found")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// Its id, as it stands in subjects: `context/caller/id`.
        id: String,
    },
    /// Not allowed in the present state.
    #[error("{reason}")]
    Conflict {
        /// The present state, or what stands in the way.
        state: String,
        /// Why that forbids it.
        reason: String,
    },
    /// No valid credentials.
    #[error("credentials are missing or invalid")]
    Unauthenticated,
    /// What the caller lacks.
    #[error("needs {0}")]
    Forbidden(&'static str),
    /// A size, count or rate is exceeded.
    #[error("{what}: at most {limit}")]
    Limit {
        /// What was counted.
        what: String,
        /// The most that is allowed.
        limit: u64,
    },
    /// The caller does something more often than it may.
    #[error("{what}: at most {limit}")]
    TooOften {
        /// What was counted.
        what: &'static str,
        /// How many of it there may be.
        limit: u32,
        /// How long until it may call again.
        wait: Duration,
    },
    /// The attempt token is not the current one.
    #[error("the attempt token is not the current one")]
    Stale,
    /// `since` is older than the event log.
    #[error("events before {oldest} are no longer held")]
    Gone {
        /// The oldest number still held.
        oldest: u64,
    },
    /// A job depends on one outside its flow.
    #[error("job {job} depends on {missing}, which is not in the flow")]
    MissingDependency {
        /// The job.
        job: u32,
        /// What it names.
        missing: u32,
    },
    /// The jobs of a flow depend on each other in a circle.
    #[error("jobs depend on each other in a circle: {cycle:?}")]
    Cycle {
        /// One circle, each job depending on the one before it.
        cycle: Vec<u32>,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// Stopping, or not ready.
    #[error("{0}")]
    Unavailable(&'static str),
    /// What a mirrored system answers in its own words.
    #[error("{}", .0.status)]
    Refused(Box<Refusal>),
    /// Something that cannot happen did.
    #[error("bug: {0}")]
    Bug(String),
}

/// A refusal in the words of a mirrored system: the body is its own, the code is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What JSON-RPC clients see.
    pub code: Code,
    /// What REST clients see; also `http_status` in the data that JSON-RPC clients get.
    pub status: u16,
    /// The body that REST clients get; for JSON-RPC clients it becomes the data.
    pub body: Map<String, Value>,
    /// Seconds after which it may be tried again: the header `Retry-After`.
    pub retry_after: Option<u32>,
    /// The header `WWW-Authenticate`.
    pub challenge: Option<&'static str>,
}

impl Refusal {
    /// A refusal with this body.
    pub const fn new(code: Code, status: u16, body: Map<String, Value>) -> Self {
        Self { code, status, body, retry_after: None, challenge: None }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Error {
    /// A param that does not fit: `field` and what it must be.
    pub fn params(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Params { field: field.into(), reason: reason.into() }
    }

    /// A refusal for the present state.
    pub fn conflict(state: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Conflict { state: state.into(), reason: reason.into() }
    }

    /// Its code. No wildcard arm: a new variant must choose.
    pub fn code(&self) -> Code {
        match self {
            Self::Params { .. } => Code::InvalidParams,
            Self::NotFound { .. } => Code::NotFound,
            Self::Conflict { .. } => Code::Conflict,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden(_) => Code::Forbidden,
            Self::Limit { .. } | Self::TooOften { .. } => Code::LimitReached,
            Self::Stale => Code::StaleAttempt,
            Self::Gone { .. } => Code::Gone,
            Self::MissingDependency { .. } => Code::DagMissingDependency,
            Self::Cycle { .. } => Code::DagCycleDetected,
            Self::Store(_) => Code::StorageError,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Refused(refusal) => refusal.code,
            Self::Bug(_) => Code::InternalError,
        }
    }

    /// The status that REST clients see.
    pub fn http(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status,
            // The status that HTTP has for sizes, rather than the one for counts and rates.
            Self::Limit { what, .. } if what.starts_with("bytes") => 413,
            _ => self.code().http(),
        }
    }

    /// Seconds after which it may be tried again, where that is known: the header `Retry-After`.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooOften { wait, .. } => {
                Some(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
            }
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// `error.data`: what a program can act on; never internals.
    pub fn data(&self) -> Value {
        let mut data = match self {
            Self::Params { field, reason } => json!({ "field": field, "reason": reason }),
            Self::NotFound { kind, id } => {
                json!({ "kind": kind, "id": id, "reason": self.to_string() })
            }
            Self::Conflict { state, reason } => json!({ "state": state, "reason": reason }),
            Self::Limit { limit, .. } => json!({ "limit": limit, "reason": self.to_string() }),
            Self::TooOften { limit, wait, .. } => json!({
                "limit": limit,
                "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1),
                "reason": self.to_string(),
            }),
            Self::Gone { oldest } => json!({ "oldest": oldest, "reason": self.to_string() }),
            Self::MissingDependency { job, missing } => {
                json!({ "job": job, "missing": missing, "reason": self.to_string() })
            }
            Self::Cycle { cycle } => json!({ "cycle": cycle, "reason": self.to_string() }),
            Self::Store(_) => json!({ "reason": "the change could not be stored" }),
            Self::Bug(_) => {
                let incident = uuid::Uuid::now_v7().to_string();
                tracing::error!(incident, error = %self, "internal error");
                json!({ "incident": incident })
            }
            Self::Unauthenticated | Self::Forbidden(_) | Self::Stale | Self::Unavailable(_) => {
                json!({ "reason": self.to_string() })
            }
            Self::Refused(refusal) => Value::Object(refusal.body.clone()),
        };
        if let Value::Object(members) = &mut data {
            members.insert("http_status".to_owned(), self.http().into());
        }
        data
    }
}

/// An error object for a failure outside of any method, such as of the transport.
pub fn bare(code: Code, reason: impl Into<String>) -> ErrorObjectOwned {
    let mut data = Map::new();
    data.insert("reason".to_owned(), Value::String(reason.into()));
    data.insert("http_status".to_owned(), code.http().into());
    ErrorObjectOwned::owned(code.number(), code.message(), Some(data))
}

impl From<StoreError> for Error {
    fn from(err: StoreError) -> Self {
        Self::Store(Arc::new(err))
    }
}

impl From<DagError> for Error {
    fn from(err: DagError) -> Self {
        match err {
            DagError::MissingDependency { job, missing } => {
                Self::MissingDependency { job, missing }
            }
            DagError::Cycle { cycle } => Self::Cycle { cycle },
        }
    }
}

impl From<GateError> for Error {
    fn from(err: GateError) -> Self {
        Self::params(format!("prerequisites[{}]", err.index), err.to_string())
    }
}

impl From<EnvironmentError> for Error {
    fn from(err: EnvironmentError) -> Self {
        Self::params("env_vars", err.to_string())
    }
}

impl From<TooLarge> for Error {
    fn from(err: TooLarge) -> Self {
        let limit = u64::try_from(err.limit).unwrap_or(u64::MAX);
        Self::Limit { what: format!("{} in a drawing of this format", err.what), limit }
    }
}

impl From<Error> for ErrorObjectOwned {
    fn from(err: Error) -> Self {
        let code = err.code();
        if let Error::Store(cause) = &err {
            tracing::error!(error = %cause, "storage failed");
        }
        Self::owned(code.number(), code.message(), Some(err.data()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_code_is_used_twice() {
        let numbers: BTreeSet<i32> = Code::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
    }

    #[test]
    fn data_names_the_field_and_the_status() {
        let data = Error::params("job.retries", "0..=255").data();
        assert_eq!(
            data,
            json!({ "field": "job.retries", "reason": "0..=255", "http_status": 400 })
        );
    }
}
