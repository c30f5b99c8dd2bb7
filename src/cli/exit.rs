//! What a failure is called and which exit code it has.

use std::fmt;
use std::process::ExitCode;

use serde_json::Value;

use crate::config::ConfigError;
use crate::{Code, Error};

/// What commands answer.
pub(super) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// The exit codes, public interface like the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Nothing is wrong, but there is no use in going on (nobody reads the output).
    Quiet = 0,
    /// It failed.
    Failed = 1,
    /// It was asked wrongly.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The caller may not.
    Denied = 4,
    /// Not in the present state.
    Conflict = 5,
    /// Nobody answers there.
    Unreachable = 6,
    /// No answer in time.
    TimedOut = 7,
    /// The job or flow failed.
    WorkFailed = 8,
}

impl Exit {
    fn number(self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Conflict => 5,
            Self::Unreachable => 6,
            Self::TimedOut => 7,
            Self::WorkFailed => 8,
        }
    }

    /// The exit code for an error of the wire.
    fn of(code: i32) -> Self {
        let Some(code) = Code::ALL.iter().find(|known| known.number() == code) else {
            return Self::Failed;
        };
        match code {
            Code::ParseError
            | Code::InvalidRequest
            | Code::MethodNotFound
            | Code::InvalidParams => Self::Usage,
            Code::NotFound | Code::Gone => Self::NotFound,
            Code::Unauthenticated | Code::Forbidden => Self::Denied,
            Code::Conflict
            | Code::StaleAttempt
            | Code::DagMissingDependency
            | Code::DagCycleDetected => Self::Conflict,
            Code::Unavailable => Self::Unreachable,
            Code::FailedDependency => Self::WorkFailed,
            Code::LimitReached | Code::StorageError | Code::InternalError => Self::Failed,
        }
    }
}

/// Why a command ends without having done what it was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) exit: Exit,
    /// What to tell; nothing when empty.
    pub(super) message: String,
    /// The code on the wire, when it came from there.
    pub(super) code: Option<i32>,
    /// What came with it.
    pub(super) data: Option<Value>,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), code: None, data: None }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// From the parts of a JSON-RPC error.
    pub(super) fn answered(code: i32, message: &str, data: Option<&Value>) -> Self {
        let text = |name: &str| data.and_then(|data| data.get(name)).and_then(Value::as_str);
        let reason = text("reason").or_else(|| text("error"));
        let field = text("field").filter(|field| !field.is_empty());
        let mut told = match (field, reason) {
            (Some(field), Some(reason)) => format!("{message}: {field}: {reason}"),
            (None, Some(reason)) => format!("{message}: {reason}"),
            (Some(field), None) => format!("{message}: {field}"),
            (None, None) => message.to_owned(),
        };
        if let Some(incident) = text("incident") {
            told = format!("{told} (logged as {incident})");
        }
        let message = format!("{told} ({code})");
        Self { exit: Exit::of(code), message, code: Some(code), data: data.cloned() }
    }

    /// Whether the coordinator said that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == Some(Code::NotFound.number())
    }

    /// Puts what was being done before the message.
    pub(super) fn during(mut self, what: impl fmt::Display) -> Self {
        if !self.message.is_empty() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// Tells the user, and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            super::output::complain(&self.message);
        }
        ExitCode::from(self.exit.number())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(err: anyhow::Error) -> Self {
        Self::failed(format!("{err:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(err: std::io::Error) -> Self {
        match err.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Exit::Quiet, ""),
            _ => Self::failed(err.to_string()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(err: ConfigError) -> Self {
        Self::usage(err.to_string())
    }
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        let code = err.code();
        Self::answered(code.number(), code.message(), Some(&err.data()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_code_has_an_exit_code_that_means_the_same() {
        assert_eq!(Exit::of(-32001), Exit::NotFound);
        assert_eq!(Exit::of(-32002), Exit::Conflict);
        assert_eq!(Exit::of(-32003), Exit::Denied);
        assert_eq!(Exit::of(-32004), Exit::Denied);
        assert_eq!(Exit::of(-32602), Exit::Usage);
        assert_eq!(Exit::of(-32021), Exit::Conflict);
        assert_eq!(Exit::of(-32010), Exit::Failed);
        assert_eq!(Exit::of(17), Exit::Failed);
        assert!(Code::ALL.iter().all(|code| Exit::of(code.number()) != Exit::Quiet));
    }

    #[test]
    fn a_refusal_is_told_with_field_and_reason() {
        let data = json!({ "field": "job.retries", "reason": "at most 255" });
        let failure = Failure::answered(-32602, "Invalid params", Some(&data));
        assert_eq!(failure.message, "Invalid params: job.retries: at most 255 (-32602)");
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(gone).exit, Exit::Quiet);
    }
}
