//! `cap.put`: a node registers that it offers a capability.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CapabilityRegistration;
use super::registration::{Limits, Outcome, Registration, Slot};
use crate::app::Cx;
use crate::face::adv::refusal::{UNFIT, of_error, rate_limited};
use crate::face::adv::{CATALOGUE_STYLE, Rejection};
use crate::face::core::aside;
use crate::identity::public::is_node_id;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::{Code, Error, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<Put>()];

/// Registers that a node offers a capability, or replaces what was registered.
///
/// The signatures of the passport's issuer and of the node are the only credentials. A registration
/// replaces one with a lower sequence number only; the same again changes nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CapPutParams")]
pub struct Put {
    /// The advertisement, the passport, and the number.
    pub registration: CapabilityRegistration,
    /// The node it is about; what the passport says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// The capability it is about; what the passport says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability_id: Option<String>,
    /// The body of a request to the route, unread.
    #[serde(skip)]
    #[schemars(skip)]
    body: Option<Bytes>,
}

/// The receipt for an accepted registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CapReceipt")]
pub struct Receipt {
    /// `created`, `replaced`, or `unchanged` for the same again.
    pub status: String,
    /// The node.
    pub node_id: String,
    /// The capability.
    pub capability_id: String,
    /// The passport.
    pub passport_id: String,
    /// The number of the registration.
    #[serde(rename = "sequence/no")]
    pub sequence_no: u64,
    /// When the passport is void, as it says; none: never.
    pub expires_at: Option<String>,
}

impl Method for Put {
    type Output = Receipt;
    const SPEC: Spec = Spec::new("cap.put", Access::Anyone)
        .rest(Verb::Put, "/cap/{node_id}/{capability_id}", 201)
        .answers(&[(200, "Replaced, or the same as before."), UNFIT])
        .body("registration")
        .style(&CATALOGUE_STYLE)
        .errors(&[
            Code::InvalidParams,
            Code::Conflict,
            Code::Forbidden,
            Code::LimitReached,
            Code::Unavailable,
        ]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        // What cannot be decoded is malformed in any case.
        let part = |name| Some(request.captures.get(name).unwrap_or_default().into_owned());
        let registration = CapabilityRegistration(Box::default());
        let body = Some(request.body.clone());
        let (node_id, capability_id) = (part("node_id"), part("capability_id"));
        Some(Ok(Self { registration, node_id, capability_id, body }))
    }

    fn rest_status(receipt: &Receipt) -> Option<u16> {
        (receipt.status != Outcome::Created.word()).then_some(200)
    }

    async fn call(self, cx: Cx) -> Result<Receipt> {
        let Self { registration, node_id, capability_id, body } = self;
        let body = body.unwrap_or_else(|| String::from(Box::<str>::from(registration.0)).into());
        let slot = Slot { node_id, capability_id };
        let told = slot.node_id.clone().filter(|id| is_node_id(id));
        slot.check().map_err(|rejection| rejection.error(told.as_deref()))?;
        let outcome = register(&cx, slot, body).await;
        if let Err(Error::Refused(refusal)) = &outcome {
            let reason = refusal.body.get("reason").and_then(serde_json::Value::as_str);
            tracing::info!(slot = ?told, reason, "capability/rejected");
        }
        outcome
    }
}

async fn register(cx: &Cx, mut slot: Slot, body: Bytes) -> Result<Receipt> {
    let app = &cx.app;
    let shared = std::sync::Arc::clone(app);
    let checked = aside::checked(body.len(), move || {
        let now = (shared.now)();
        let read = Registration::read(&body, &mut slot, now, &shared.config.directory);
        Ok((read, slot.node_id))
    });
    let (registration, told) = checked.await?;
    let told = told.as_deref();
    let registration = registration.map_err(|rejection: Rejection| rejection.error(told))?;
    if let Err(wait) = app.directory.budgets.check(registration.node.as_bytes()) {
        return Err(rate_limited(told, wait).into());
    }
    let offer = &registration.offer;
    let mut receipt = Receipt {
        status: String::new(),
        node_id: registration.node_id.clone(),
        capability_id: offer.capability_id.clone(),
        passport_id: offer.passport_id.clone(),
        sequence_no: offer.sequence,
        expires_at: offer.expires_text.clone(),
    };
    let limits = Limits::of(&app.config.directory);
    let outcome = app.engine.change(move |turn| registration.accept(turn, &limits)).await;
    let outcome = outcome.map_err(|err| match err {
        refused @ Error::Refused(_) => refused,
        err => of_error(&err).error(told),
    })?;
    outcome.word().clone_into(&mut receipt.status);
    Ok(receipt)
}

impl Outcome {
    /// As receipts tell it.
    const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
        }
    }
}
