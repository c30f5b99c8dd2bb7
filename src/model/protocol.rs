//! What a runner and the coordinator say to each other; both sides use these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::slices::{SliceBatch, SliceReport};
use super::{Millis, distinct};

/// Results of jobs by job id, each a map of strings.
pub type Inputs = BTreeMap<u32, BTreeMap<String, String>>;

/// What a runner that is attached is told.
///
/// `M` is the message: the whole object on the coordinator's side, [`Carried`] (the members that a
/// runner needs) on the runner's.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(rename = "RunnerNotification", description = "What a runner that is attached is told.")]
pub enum Notification<M> {
    /// Work: one attempt at each job of the message.
    Jobs {
        /// The message that carries the jobs.
        message: M,
        /// One attempt per job.
        attempts: Vec<Attempt>,
    },
    /// Attempts that were taken away: stop them, do not report on them.
    Cancel {
        /// Which.
        tokens: Vec<String>,
        /// Why.
        reason: String,
    },
    /// The last notification: the runner is no longer attached by this subscription.
    Detached {
        /// Why: replaced by a newer attach, drained, or shutting down.
        reason: String,
    },
}

/// One attempt at a job, given to a runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerAttempt")]
pub struct Attempt {
    /// The actor that asked for the job.
    pub caller_id: u32,
    /// The job, one of those in the message.
    pub job_id: u32,
    /// The flow that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// What reports on the attempt must name.
    pub token: String,
    /// When the coordinator will give the attempt up, Unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Millis>,
    /// The environment: the flow's, overlaid by the job's own.
    #[serde(default)]
    pub env_vars: BTreeMap<String, String>,
    /// The results of the jobs it depends on, by job id.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, String>>")]
    pub inputs: Inputs,
    /// For runners of a compute group: the work function and the slices to call it with. The job
    /// of such an attempt has no script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Box<SliceBatch>>,
}

/// What a runner needs of a message: its jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The jobs.
    pub job: Vec<CarriedJob>,
}

/// What a runner needs of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedJob {
    /// The job.
    pub id: u32,
    /// The actor that asked for it.
    pub caller_id: u32,
    /// The program.
    pub script: String,
    /// Its language, a value of `ScriptType`.
    pub script_type: String,
    /// Bound on one attempt, seconds; 0 is none.
    #[serde(default)]
    pub timeout: u32,
}

/// What a runner says about one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerReport")]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The token that came with the attempt.
    pub token: String,
    /// How it stands.
    pub status: ReportStatus,
    /// What the job left; with `Finished` and `Error`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "distinct::optional_texts"
    )]
    pub result: Option<BTreeMap<String, String>>,
    /// Why it failed; with `Error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Log lines since the report before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogLine>,
    /// What came of slices since the report before this one. A slice that is left out up to the
    /// final report is given out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceReport>,
}

/// How an attempt stands, as its runner says it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[schemars(rename = "RunnerReportStatus")]
pub enum ReportStatus {
    /// The runner has it.
    Acknowledged,
    /// Work began. May be repeated to carry log lines.
    Started,
    /// Ended well. Final.
    Finished,
    /// Ended badly. Final.
    Error,
}

impl ReportStatus {
    /// Whether nothing follows it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Error)
    }
}

/// A line that a job wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerLogLine")]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Where it wrote it: `stdout` or `stderr`, or a name of the runner's own.
    pub stream: String,
    /// The text, without the line end.
    pub line: String,
}

/// The answer to reports; each report stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerReportReply")]
pub struct ReportReply {
    /// How many were accepted.
    pub accepted: u32,
    /// Those that were not.
    pub refused: Vec<Refused>,
}

/// A report that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerReportRefused")]
pub struct Refused {
    /// The token it named.
    pub token: String,
    /// The error code, such as -32006 when the attempt is no longer the runner's.
    pub code: i32,
    /// What is wrong.
    pub message: String,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerHeartbeatReply")]
pub struct HeartbeatReply {
    /// Tokens of attempts that the runner should stop, because they are no longer its own.
    pub cancel: Vec<String>,
}

/// The answer to a request to drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RunnerDrainReply")]
pub struct DrainReply {
    /// Always true: nothing new comes.
    pub draining: bool,
    /// Attempts that it still has in hand.
    pub busy: u32,
}

// Written by hand because a derived reader of a tagged enum buffers the whole value, which is slow
// and refuses numbers as map keys.
impl<'de, M: Deserialize<'de>> Deserialize<'de> for Notification<M> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Kind {
            Jobs,
            Cancel,
            Detached,
        }
        #[derive(Deserialize)]
        struct Wire<M> {
            kind: Kind,
            message: Option<M>,
            #[serde(default)]
            attempts: Vec<Attempt>,
            #[serde(default)]
            tokens: Vec<String>,
            #[serde(default)]
            reason: String,
        }
        let Wire { kind, message, attempts, tokens, reason } = Wire::deserialize(from)?;
        Ok(match kind {
            Kind::Jobs => {
                let message = message.ok_or_else(|| D::Error::missing_field("message"))?;
                Self::Jobs { message, attempts }
            }
            Kind::Cancel => Self::Cancel { tokens, reason },
            Kind::Detached => Self::Detached { reason },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn jobs_come_as_the_specification_has_them() {
        let wire = json!({
            "kind": "jobs",
            "message": { "id": 1, "job": [{
                "id": 3, "caller_id": 42, "context_id": 1, "script": "1", "script_type": "Sal",
                "timeout": 5, "retries": 0
            }]},
            "attempts": [{
                "caller_id": 42, "job_id": 3, "flow_id": 7, "attempt": 1, "token": "t",
                "deadline_at": 99, "env_vars": { "A": "b" }, "inputs": { "2": { "k": "v" } }
            }],
        });
        for read in [
            serde_json::from_value::<Notification<Carried>>(wire.clone()),
            serde_json::from_str(&wire.to_string()),
        ] {
            let Notification::Jobs { message, attempts } = read.unwrap() else { panic!("jobs") };
            assert_eq!(message.job[0].script_type, "Sal");
            assert_eq!(attempts[0].inputs[&2]["k"], "v");
            assert_eq!(serde_json::to_value(&attempts[0]).unwrap(), wire["attempts"][0]);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all: [Notification<Value>; 3] = [
            Notification::Jobs {
                message: json!({ "id": 1 }),
                attempts: vec![Attempt { token: "a".into(), ..Attempt::default() }],
            },
            Notification::Cancel { tokens: vec!["t".into()], reason: "asked".into() },
            Notification::Detached { reason: "replaced".into() },
        ];
        for one in all {
            let text = serde_json::to_string(&one).unwrap();
            assert_eq!(serde_json::from_str::<Notification<Value>>(&text).unwrap(), one, "{text}");
        }
        let cancel = r#"{"kind":"cancel","tokens":["t"],"reason":"asked"}"#;
        let value = Notification::<()>::Cancel { tokens: vec!["t".into()], reason: "asked".into() };
        assert_eq!(serde_json::to_string(&value).unwrap(), cancel);
    }

    #[test]
    fn slices_come_and_go_as_they_were_written() {
        let attempt = json!({
            "caller_id": 1, "job_id": 2, "attempt": 1, "token": "t", "env_vars": {}, "inputs": {},
            "slices": {
                "function": "(x) => x", "args": [1.50], "public": {}, "slice_seconds": 30.0,
                "slices": [{ "number": 1, "datum": { "b": 1, "a": 1e3 } }],
            },
        });
        let wire = json!({ "kind": "jobs", "message": { "job": [] }, "attempts": [attempt] });
        for read in [
            serde_json::from_value::<Notification<Carried>>(wire.clone()),
            serde_json::from_str(&wire.to_string()),
        ] {
            let Notification::Jobs { attempts, .. } = read.unwrap() else { panic!("jobs") };
            assert_eq!(serde_json::to_value(&attempts[0]).unwrap(), attempt);
        }
        let text = concat!(
            r#"{"token":"t","status":"Started","slices":["#,
            r#"{"finished":{"number":1,"value":[1.50, 2],"seconds":0.5}},"#,
            r#"{"failed":{"number":2,"name":"E","message":"m","seconds":0.0}},"#,
            r#"{"progress":{"number":2,"progress":null}},"#,
            r#"{"console":{"number":2,"level":"log","message":"m"}},"#,
            r#"{"emit":{"number":2,"name":"n","value":{"a" : 1}}}]}"#,
        );
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
    }

    #[test]
    fn a_report_leaves_out_what_it_has_not() {
        let report = Report {
            token: "t".into(),
            status: ReportStatus::Started,
            result: None,
            error: None,
            logs: vec![],
            slices: vec![],
        };
        let text = r#"{"token":"t","status":"Started"}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
        assert_eq!(serde_json::from_str::<Report>(text).unwrap(), report);
        assert!(serde_json::from_str::<Report>(r#"{"token":"t","status":"Done"}"#).is_err());
    }
}
