//! `revocation.put`: a passport is declared void, for good.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RevocationArtifact;
use super::registration::{counts, forget};
use super::revocation::{ArtifactFamily, ENDORSEMENT, Revocation};
use super::signed::{self, object, schema};
use crate::app::{App, Cx};
use crate::engine::Turn;
use crate::face::adv::refusal::{UNFIT, of_error, rate_limited};
use crate::face::adv::{CATALOGUE_STYLE, Reason, Rejection};
use crate::face::core::aside;
use crate::identity::Json;
use crate::identity::json::DEPTH;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::store::{
    BY_ISSUER, CAPABILITIES, DIRECTORY, Draft, REVOCATIONS, REVOKED, RevocationRow,
};
use crate::{Code, Error, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<Put>()];
/// What is told of an accepted revocation.
const ACCEPTED: &str = "revocation.accepted";
/// The row of [`DIRECTORY`] that counts revocations.
pub(super) const ROW: u8 = 2;
/// Largest revocation, bytes.
const MOST: usize = 1 << 12;

/// Revokes a passport, for good.
///
/// The signature of the passport's issuer, or of the node that it is for, is the only credential.
/// The same signer's second revocation of the same changes nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RevocationPutParams")]
pub struct Put {
    /// The signed statement.
    pub revocation: RevocationArtifact,
    /// A request to a route, unread: what kind of thing is revoked there, and the body.
    #[serde(skip)]
    #[schemars(skip)]
    request: Option<(ArtifactFamily, Bytes)>,
}

/// The receipt for a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RevocationReceipt")]
pub struct Receipt {
    /// `revoked`, or `unchanged` when it was before.
    pub status: String,
    /// The name of the statement.
    pub revocation_id: String,
}

impl Method for Put {
    type Output = Receipt;
    const SPEC: Spec = Spec::new("revocation.put", Access::Anyone)
        .rest(Verb::Post, "/revoke", 200)
        .answers(&[UNFIT])
        .also(&["/revoke/endorsement"])
        .body("revocation")
        .style(&CATALOGUE_STYLE)
        .errors(&[Code::InvalidParams, Code::Forbidden, Code::LimitReached, Code::Unavailable]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let family = family_of_path(request.path).unwrap_or(ArtifactFamily::CapabilityPassport);
        let revocation = RevocationArtifact(Box::default());
        Some(Ok(Self { revocation, request: Some((family, request.body.clone())) }))
    }

    async fn call(self, cx: Cx) -> Result<Receipt> {
        let (family, body) = match self.request {
            Some((family, body)) => (Some(family), body),
            None => (None, String::from(Box::<str>::from(self.revocation.0)).into()),
        };
        let outcome = revoke(&cx.app, family, body).await;
        if let Err(Error::Refused(refusal)) = &outcome {
            let reason = refusal.body.get("reason").and_then(serde_json::Value::as_str);
            tracing::info!(reason, "revocation/rejected");
        }
        outcome
    }
}

/// The family that a path is about; none: all of them, or that of passports.
pub(super) fn family_of_path(path: &str) -> Option<ArtifactFamily> {
    path.ends_with("/endorsement").then_some(ArtifactFamily::FederationServiceEndorsement)
}

/// Reads a text and checks everything but what was accepted before.
fn read(text: &[u8], family: Option<ArtifactFamily>, app: &App) -> Result<Revocation, Rejection> {
    let rules = &app.config.directory;
    let depth = usize::try_from(rules.max_depth).unwrap_or(DEPTH);
    let value: Json = signed::read(text, MOST, depth)?;
    let family = family.or_else(|| ArtifactFamily::of(&value));
    if family == Some(ArtifactFamily::FederationServiceEndorsement) {
        schema(&object(Some(&value), "")?, ENDORSEMENT)?;
        let detail = "no federation root is loaded here, so there is no endorsement to revoke";
        return Err(Rejection::new(Reason::RootUnknown, detail));
    }
    let revocation = Revocation::read(&value)?;
    revocation.check_time((app.now)(), rules)?;
    Ok(revocation)
}

async fn revoke(
    app: &std::sync::Arc<App>,
    family: Option<ArtifactFamily>,
    body: Bytes,
) -> Result<Receipt> {
    let (shared, text) = (std::sync::Arc::clone(app), body.clone());
    let checked = aside::checked(text.len(), move || Ok(read(&text, family, &shared)));
    let revocation = checked.await?.map_err(|rejection| rejection.error(None))?;
    if let Err(wait) = app.directory.budgets.check(revocation.signer.as_bytes()) {
        return Err(rate_limited(None, wait).into());
    }
    let revocation_id = revocation.revocation_id.clone();
    let text = String::from_utf8_lossy(body.trim_ascii()).into_owned();
    let most = app.config.directory.max_revocations;
    let new = app.engine.change(move |turn| accept(turn, &revocation, text, most)).await;
    let new = new.map_err(|err| match err {
        refused @ Error::Refused(_) => refused,
        err => of_error(&err).error(None),
    })?;
    let status = if new { "revoked" } else { "unchanged" }.to_owned();
    Ok(Receipt { status, revocation_id })
}

/// Appends a revocation, unless its signer has revoked the same before, and takes what it revokes
/// out of the catalogue; whether it was appended.
fn accept(turn: &mut Turn<'_>, revocation: &Revocation, text: String, most: u64) -> Result<bool> {
    if turn.has(REVOKED, &revocation.key())? {
        return Ok(false);
    }
    let entry = match revocation.node {
        Some(node) => {
            let key = (node, revocation.capability_id.clone());
            turn.get(CAPABILITIES, &key)?.map(|row| (key, row))
        }
        None => None,
    };
    let entry = entry.filter(|(_, row)| row.passport_id == revocation.target);
    if let Some((_, row)) = &entry
        && revocation.by == BY_ISSUER
        && row.issuer != *revocation.signer.as_bytes()
    {
        return Err(Rejection::from(Reason::NotRevocable).error(None));
    }
    let mut counts = counts(turn, ROW)?;
    // Strangers can fill the log with what nobody has registered; what somebody has must still be
    // revocable then.
    let most = if entry.is_some() { most.saturating_mul(2) } else { most };
    if counts.position >= most {
        return Err(Rejection::from(Reason::CapacityExhausted).error(None));
    }
    if let Some((key, row)) = &entry {
        forget(turn, key, row)?;
    }
    counts.position += 1;
    counts.nodes = counts.position;
    let family = ArtifactFamily::CapabilityPassport.word();
    turn.put(DIRECTORY, &ROW, &counts)?;
    turn.put(REVOKED, &revocation.key(), &counts.position)?;
    turn.emit(Draft {
        kind: ACCEPTED,
        context_id: None,
        subject: format!("revocation/{}", counts.position),
        group: None,
        data: format!(
            r#"{{"position":{},"artifact_family":"{family}","artifact":{text}}}"#,
            counts.position
        ),
    });
    turn.put(REVOCATIONS, &counts.position, &RevocationRow { family: family.to_owned(), text })?;
    Ok(true)
}
