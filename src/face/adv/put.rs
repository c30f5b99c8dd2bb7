//! `adv.put`: a node publishes, or replaces, its advertisement.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::accept::Prepared;
use super::advertisement::Statement;
use super::refusal::{Reason, Rejection, STYLE, UNFIT, of_error, rate_limited};
use super::{NodeAdvertisement, instant};
use crate::app::Cx;
use crate::face::core::aside;
use crate::identity::public::is_node_id;
use crate::limiter::neighbourhood;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::{Code, Error, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<Put>()];

/// Publishes a node's advertisement, or replaces the one it had.
///
/// The signature is the only credential. A statement replaces one with a lower sequence number
/// only; what was accepted is durable when this answers.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AdvPutParams")]
pub struct Put {
    /// The signed statement.
    pub advertisement: NodeAdvertisement,
    /// The node it is about; what the statement says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// A request to the route, unread.
    #[serde(skip)]
    #[schemars(skip)]
    request: Option<Request>,
}

/// The id of a node, or what was given for one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Box<RawValue>);

impl JsonSchema for NodeId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NodeId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// The receipt for an accepted advertisement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AdvReceipt")]
pub struct Receipt {
    /// Always `stored`.
    pub status: String,
    /// The node.
    #[serde(rename = "node/id")]
    pub node_id: String,
    /// The name of the statement.
    #[serde(rename = "advertisement/id")]
    pub advertisement_id: String,
    /// Its number.
    #[serde(rename = "sequence/no")]
    pub sequence_no: u64,
    /// When it was stored: UTC, whole seconds.
    #[serde(rename = "stored-at")]
    pub stored_at: String,
    /// When it is void, as the statement says.
    #[serde(rename = "expires-at")]
    pub expires_at: String,
}

/// A request to the route.
#[derive(Clone, Debug)]
struct Request {
    /// None when its encoding is broken.
    slot: Option<String>,
    body: Bytes,
}

/// What is to be published, and where.
struct Submission {
    /// The slot, as it was given.
    slot: Slot,
    body: Bytes,
}

enum Slot {
    Given(String),
    Malformed,
    /// The statement says which.
    Own,
}

impl Method for Put {
    type Output = Receipt;
    const SPEC: Spec = Spec::new("adv.put", Access::Anyone)
        .rest(Verb::Put, "/adv/{node_id}", 201)
        .answers(&[UNFIT])
        .body("advertisement")
        .style(&STYLE)
        .turn(turn_of_source)
        .errors(&[
            Code::InvalidParams,
            Code::Conflict,
            Code::Forbidden,
            Code::LimitReached,
            Code::Unavailable,
        ]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let slot = request.captures.get("node_id").map(std::borrow::Cow::into_owned);
        let kind = request.media_type.map(|kind| kind.split(';').next().unwrap_or_default().trim());
        if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("application/json")) {
            let slot = slot.filter(|slot| is_node_id(slot));
            return Some(Err(Rejection::from(Reason::MediaType).error(slot.as_deref())));
        }
        let request = Request { slot, body: request.body.clone() };
        let advertisement = NodeAdvertisement(Box::default());
        Some(Ok(Self { advertisement, node_id: None, request: Some(request) }))
    }

    async fn call(self, cx: Cx) -> Result<Receipt> {
        let Submission { slot, body } = self.submission()?;
        let mut told = match &slot {
            Slot::Given(slot) if is_node_id(slot) => Some(slot.clone()),
            _ => None,
        };
        let outcome = publish(&cx, slot, body, &mut told).await;
        if let Err(Error::Refused(refusal)) = &outcome {
            let word = |name: &str| refusal.body.get(name).and_then(serde_json::Value::as_str);
            let (reason, code) = (word("reason"), word("code"));
            tracing::info!(slot = ?told, reason, code, "advertisement/rejected");
        }
        outcome
    }
}

impl Put {
    /// What an advertisement is published with, from within this process or by a client.
    pub const fn new(advertisement: Box<RawValue>) -> Self {
        let advertisement = NodeAdvertisement(advertisement);
        Self { advertisement, node_id: None, request: None }
    }

    fn submission(self) -> Result<Submission> {
        if let Some(Request { slot, body }) = self.request {
            return Ok(Submission { slot: slot.map_or(Slot::Malformed, Slot::Given), body });
        }
        let (mut text, mut node_id) = (self.advertisement.0, self.node_id.map(|id| id.0));
        // By position, the node may come first, as the directory's own page lists them.
        if let Some(first) = &mut node_id
            && first.get().starts_with('{')
            && !text.get().starts_with('{')
        {
            std::mem::swap(first, &mut text);
        }
        let node_id: Option<String> = match node_id {
            Some(id) => serde_json::from_str(id.get())
                .map_err(|_| Error::params("node_id", "must be a string"))?,
            None => None,
        };
        let body = Bytes::from(String::from(Box::<str>::from(text)));
        Ok(Submission { slot: node_id.map_or(Slot::Own, Slot::Given), body })
    }
}

/// Step 2.
fn turn_of_source(cx: &Cx) -> Result<()> {
    // What comes from within comes from nowhere.
    let Some((sources, from)) = cx.app.directory.sources.as_ref().zip(cx.visitor.from()) else {
        return Ok(());
    };
    let limit = cx.app.config.directory.source_budget.map_or(0, NonZeroU32::get);
    let what = "attempts to publish at once";
    sources.check(&neighbourhood(from)).map_err(|wait| Error::TooOften { what, limit, wait })
}

/// Steps 4 to 18.
async fn publish(cx: &Cx, slot: Slot, body: Bytes, told: &mut Option<String>) -> Result<Receipt> {
    let app = &cx.app;
    if body.len() > usize::try_from(app.config.directory.max_bytes).unwrap_or(usize::MAX) {
        return Err(Rejection::from(Reason::TooLarge).error(told.as_deref()));
    }
    if told.is_none() && !matches!(slot, Slot::Own) {
        return Err(Rejection::from(Reason::NodeIdMalformed).error(None));
    }
    let (mut slot, shared) = (told.clone(), std::sync::Arc::clone(app));
    let checked = aside::checked(body.len(), move || {
        let rules = &shared.config.directory;
        let outcome = Statement::read(&body, &mut slot, rules)
            .and_then(|statement| statement.check_time((shared.now)(), rules).map(|()| statement))
            .map_err(|rejection| rejection.error(slot.as_deref()));
        let prepared = outcome.and_then(|statement| {
            let text = std::str::from_utf8(&body).map_err(|err| Error::Bug(err.to_string()))?;
            Prepared::new(statement, text, rules)
        });
        Ok((prepared, slot))
    });
    let (prepared, slot) = checked.await?;
    *told = slot;
    let prepared = prepared?;
    if let Err(wait) = app.directory.budgets.check(prepared.statement.node.as_bytes()) {
        return Err(rate_limited(told.as_deref(), wait).into());
    }
    let Statement { node_id, advertisement_id, sequence, expires_text, .. } =
        prepared.statement.clone();
    let position = app.engine.change(move |turn| prepared.accept(turn)).await;
    let position = position.map_err(|err| match err {
        refused @ Error::Refused(_) => refused,
        err => of_error(&err).error(told.as_deref()),
    })?;
    app.directory.latest.fetch_max(position, Ordering::AcqRel);
    Ok(Receipt {
        status: "stored".to_owned(),
        node_id,
        advertisement_id,
        sequence_no: sequence,
        stored_at: instant::written((app.now)()),
        expires_at: expires_text,
    })
}
