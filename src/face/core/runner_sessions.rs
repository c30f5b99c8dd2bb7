//! `runner.*`: what runners do: attach, report, heartbeat, drain.

use std::collections::BTreeMap;

use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::{Attachment, Guard};
use super::bounds;
use super::compute_group::{self, JoinGroup, MOST_JOINED, NotJoined};
use super::message::Message;
use super::runner_language::{RunnerLanguage, skills};
use crate::app::Cx;
use crate::engine::{Delivered, Hello, MAX_SLOTS, Report, Token, Turn, Verdict};
use crate::method::{Access, Def, Items, Method, Note, Spec, Subscription, Verb};
use crate::model::demand::{Offer, demanded};
use crate::model::protocol::{
    self, DrainReply, HeartbeatReply, Notification, Refused, ReportReply, ReportStatus,
};
use crate::model::slices::is_group;
use crate::model::text::beginning;
use crate::model::{Millis, distinct};
use crate::{Code, Error, Result};

/// This namespace's methods on attached runners.
pub const METHODS: &[Def] = &[
    Def::open::<Attach>(),
    Def::call::<SendReports>(),
    Def::call::<Heartbeat>(),
    Def::call::<Drain>(),
    Def::call::<Status>(),
];

/// Most tokens or reports in one call.
const TOKENS: usize = 10_000;
/// What is kept of a log line, bytes: a thousand of them are kept with a message.
const LINE: usize = 8 << 10;
/// What is kept of the name of a line's stream, bytes.
const STREAM: usize = 64;
/// What is kept of the text of a failure, bytes: every attempt keeps its own.
const ERROR: usize = 16 << 10;

/// Attaches a runner: it gets work until it detaches or its connection is lost.
///
/// A runner that comes back names what it still has in hand and keeps that; what it leaves out is
/// given out again. A newer attach of the same runner ends this one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerAttachParams")]
pub struct Attach {
    /// The context it belongs to.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
    /// What it can execute: scripts in an ordinary context, work functions in a compute group.
    pub script_types: Vec<RunnerLanguage>,
    /// How many attempts it may have in hand at once, 1 to 1024; 1 when left out.
    #[serde(default)]
    pub slots: Option<u32>,
    /// What it is able to, nested booleans such as `{"engine": {"es7": true}}`: jobs of a compute
    /// group that require something go only to runners that have it.
    #[serde(default)]
    pub capabilities: Option<Map<String, Value>>,
    /// The compute groups that it serves; the public one when left out. Only for runners of the
    /// public group's context.
    #[serde(default)]
    pub groups: Option<Vec<JoinGroup>>,
    /// Anything that its operator wants to be seen in `runner.status`.
    #[serde(default, deserialize_with = "distinct::optional_texts")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Tokens of the attempts that it still has in hand.
    #[serde(default)]
    pub in_hand: Option<Vec<String>>,
}

impl Subscription for Attach {
    type Item = Notification<Message>;
    const SPEC: Spec = Spec::new("runner.attach", Access::Runner)
        .push("runner.message", "runner.detach")
        .errors(&[Code::NotFound, Code::LimitReached, Code::StorageError]);

    async fn open(self, cx: Cx) -> Result<Items> {
        let runner = (self.context_id, self.runner_id);
        if self.script_types.is_empty() {
            return Err(Error::params("script_types", "must name at least one"));
        }
        let slots = self.slots.unwrap_or(1);
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(Error::params("slots", format!("must be 1 to {MAX_SLOTS}")));
        }
        let labels = self.labels.unwrap_or_default();
        bounds::count("labels", labels.len(), 100)?;
        let in_hand = self.in_hand.unwrap_or_default();
        bounds::count("in_hand", in_hand.len(), TOKENS)?;
        let skills = skills(self.context_id, &self.script_types)?;
        let offer = offer(&cx, runner.0, self.capabilities, self.groups).await?;
        let hello = Hello { runner, skills, slots, offer, labels, in_hand };
        // The guard is made inside the change, so that a caller that goes away meanwhile detaches.
        let engine = cx.app.engine.clone();
        let change = move |turn: &mut Turn<'_>| {
            let attached = turn.attach(&hello)?;
            let guard = Guard::new(engine, runner, attached.session);
            Ok((attached.pushes, guard))
        };
        let (pushes, guard) = cx.app.engine.change(change).await?;
        let attachment = Attachment::new(cx.app, pushes, guard);
        let told = unfold(Some(attachment), |attachment| async {
            let mut attachment = attachment?;
            let (told, last) = attachment.next().await?;
            Some((told, (!last).then_some(attachment)))
        });
        Ok(Items::new(told).winding_down().farewell(detached))
    }
}

/// What a runner offers to open jobs.
async fn offer(
    cx: &Cx,
    context: u32,
    capabilities: Option<Map<String, Value>>,
    groups: Option<Vec<JoinGroup>>,
) -> Result<Offer> {
    let mut offer = Offer::public();
    let able = demanded(&capabilities.unwrap_or_default());
    offer.capabilities.extend(able.map_err(|wrong| Error::params("capabilities", wrong))?);
    let Some(groups) = groups else { return Ok(offer) };
    if !is_group(context) {
        return Err(Error::params("groups", "only for runners of compute groups"));
    }
    bounds::count("groups", groups.len(), MOST_JOINED)?;
    let joined = compute_group::join(cx, groups).await.map_err(|err| match err {
        NotJoined::Unknown(key) => Error::params("groups", format!("there is no group `{key}`")),
        NotJoined::Wrong => Error::Forbidden("the joinSecret of the compute group"),
        NotJoined::Failed(err) => err,
    })?;
    offer.groups = joined.into_iter().collect();
    Ok(offer)
}

/// What a runner is told last that may not be attached any more.
fn detached(reason: &str) -> Option<Note> {
    let told = Notification::<Message>::Detached { reason: reason.to_owned() };
    serde_json::value::to_raw_value(&told).ok().map(Note::Item)
}

/// Reports on attempts; each report stands alone.
///
/// The final report of an attempt may be repeated. A report whose token is not the runner's current
/// one is refused with -32006.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerReportParams")]
pub struct SendReports {
    /// The context it belongs to.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
    /// What it has to say.
    pub reports: Vec<protocol::Report>,
}

impl Method for SendReports {
    type Output = ReportReply;
    const SPEC: Spec = Spec::new("runner.report", Access::Runner)
        .rest(Verb::Post, "/runners/{context_id}/{runner_id}/reports", 200)
        .errors(&[Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<ReportReply> {
        let runner = (self.context_id, self.runner_id);
        bounds::count("reports", self.reports.len(), TOKENS)?;
        let mut known = Vec::with_capacity(self.reports.len());
        let mut refused = Vec::new();
        for report in self.reports {
            match Token::parse(&report.token) {
                Some(token) => known.push(read(report, token)?),
                None => refused.push(refuse(report.token, &Error::Stale)),
            }
        }
        let change = move |turn: &mut Turn<'_>| {
            let mut accepted = 0;
            for report in &known {
                match turn.report(runner, report) {
                    Ok(()) => accepted += 1,
                    Err(err @ (Error::Stale | Error::Conflict { .. })) => {
                        refused.push(refuse(report.token.to_string(), &err));
                    }
                    Err(err) => return Err(err),
                }
            }
            Ok(ReportReply { accepted, refused })
        };
        cx.app.engine.change(change).await
    }
}

fn refuse(token: String, err: &Error) -> Refused {
    Refused { token, code: err.code().number(), message: err.to_string() }
}

/// Reads a report outside the engine.
fn read(report: protocol::Report, token: Token) -> Result<Report> {
    let text = |result: &BTreeMap<String, String>| {
        serde_json::to_string(result).map_err(|e| Error::Bug(e.to_string()))
    };
    let result = report.result.filter(|result| !result.is_empty());
    let verdict = match report.status {
        ReportStatus::Acknowledged => Verdict::Acknowledged,
        ReportStatus::Started => Verdict::Started,
        ReportStatus::Finished => {
            Verdict::Finished { result: result.as_ref().map(text).transpose()? }
        }
        ReportStatus::Error => {
            let error = report.error.unwrap_or_else(|| "the job failed".to_owned());
            let error = beginning(error, ERROR);
            let mut result = result.unwrap_or_default();
            result.insert("error".to_owned(), error.clone());
            Verdict::Error { error, result: text(&result)? }
        }
    };
    let logs = report.logs.into_iter();
    let logs =
        logs.map(|line| (beginning(line.stream, STREAM), beginning(line.line, LINE))).collect();
    Ok(Report { token, verdict, logs, slices: Delivered::new(report.slices)? })
}

/// Says that a runner is alive, and asks which of its attempts it should stop.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerHeartbeatParams")]
pub struct Heartbeat {
    /// The context it belongs to.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
    /// Tokens of the attempts that it has in hand.
    #[serde(default)]
    pub tokens: Option<Vec<String>>,
}

impl Method for Heartbeat {
    type Output = HeartbeatReply;
    const SPEC: Spec = Spec::new("runner.heartbeat", Access::Runner)
        .rest(Verb::Post, "/runners/{context_id}/{runner_id}/heartbeat", 200)
        .errors(&[Code::NotFound, Code::LimitReached]);

    async fn call(self, cx: Cx) -> Result<HeartbeatReply> {
        let runner = (self.context_id, self.runner_id);
        let tokens = self.tokens.unwrap_or_default();
        bounds::count("tokens", tokens.len(), TOKENS)?;
        let cancel = cx.app.engine.change(move |turn| turn.heartbeat(runner, &tokens)).await?;
        Ok(HeartbeatReply { cancel })
    }
}

/// Lets an attached runner finish what it has; it gets nothing new, and is detached after that.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerDrainParams")]
pub struct Drain {
    /// The context it belongs to.
    pub context_id: u32,
    /// The runner.
    pub runner_id: u32,
}

impl Method for Drain {
    type Output = DrainReply;
    const SPEC: Spec = Spec::new("runner.drain", Access::Runner)
        .rest(Verb::Post, "/runners/{context_id}/{runner_id}/drain", 200)
        .errors(&[Code::NotFound, Code::Conflict]);

    async fn call(self, cx: Cx) -> Result<DrainReply> {
        let runner = (self.context_id, self.runner_id);
        let busy = cx.app.engine.change(move |turn| turn.drain(runner)).await?;
        Ok(DrainReply { draining: true, busy })
    }
}

/// Says how a runner stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RunnerStatusParams")]
pub struct Status {
    /// The context it belongs to.
    pub context_id: u32,
    /// The runner.
    pub id: u32,
}

/// How a runner stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunnerStatus {
    /// Whether it is attached.
    pub online: bool,
    /// Since when, Unix milliseconds; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_at: Option<Millis>,
    /// What it can execute; empty while it is not attached.
    pub script_types: Vec<RunnerLanguage>,
    /// How many attempts it may have in hand at once.
    pub slots: u32,
    /// How many it has, also while it is away for a moment.
    pub busy: u32,
    /// Whether it finishes what it has and gets nothing new.
    pub draining: bool,
    /// What it said that it is able to: JSON pointers such as `/engine/es7`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
}

impl Method for Status {
    type Output = RunnerStatus;
    const SPEC: Spec = Spec::new("runner.status", Access::Reader)
        .rest(Verb::Get, "/runners/{context_id}/{id}/status", 200)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<RunnerStatus> {
        let runner = (self.context_id, self.id);
        let found = cx.app.engine.change(move |turn| turn.runner_status(runner)).await?;
        Ok(RunnerStatus {
            online: found.online,
            attached_at: found.attached_at,
            script_types: found.skills.into_iter().map(Into::into).collect(),
            slots: found.slots,
            busy: found.busy,
            draining: found.draining,
            capabilities: found.offer.capabilities.into_iter().collect(),
            labels: found.labels,
        })
    }
}
