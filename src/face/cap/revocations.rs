//! `revocation.list`: the log of revocations, page by page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RevocationArtifact;
use super::feed::{Wanted, page};
use super::revocation::ArtifactFamily;
use super::revoke::{ROW, family_of_path};
use crate::app::{App, Cx};
use crate::face::adv::get::asks_for_attestation;
use crate::face::adv::list::Limit;
use crate::face::adv::{CATALOGUE_STYLE, Reason, Rejection};
use crate::face::core::aside::{Rendered, aside};
use crate::method::{Access, Def, Json, Method, RestRequest, Spec, Verb};
use crate::store::REVOCATIONS;
use crate::{Code, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<List>()];

/// Lists revocations in the order in which they were accepted, page by page.
///
/// The log only grows. The page is empty if and only if there is nothing more; `next` then says
/// where to go on later.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RevocationListParams")]
pub struct List {
    /// Only what came after this cursor; from the oldest on when left out or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Entries in one page: 1 or more; no more than the directory allows are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Only revocations of this kind of thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<ArtifactFamily>,
    /// A signed statement of the answer is asked for.
    #[serde(skip)]
    #[schemars(skip)]
    attest: bool,
}

/// A page of the log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RevocationPage")]
pub struct Page {
    /// The revocations, the one that was accepted first coming first.
    pub items: Vec<RevocationEntry>,
    /// Where to go on.
    pub next: String,
    /// The number of entries that this page could have had.
    #[serde(rename = "max-items")]
    pub max_items: u32,
    /// `since` is not of this store: this is the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
}

/// A revocation, and what it is about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevocationEntry {
    /// What kind of thing it revokes.
    pub artifact_family: ArtifactFamily,
    /// The revocation as it was signed.
    pub artifact: RevocationArtifact,
}

impl Method for List {
    type Output = Rendered<Page>;
    const SPEC: Spec = Spec::new("revocation.list", Access::Anyone)
        .rest(Verb::Get, "/revocations", 200)
        .also(&["/revocations/endorsement"])
        .style(&CATALOGUE_STYLE)
        .errors(&[Code::InvalidParams, Code::Unavailable]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let family = family_of_path(request.path);
        let attest = asks_for_attestation(request.query);
        let mut list = Self { family, attest, ..Self::default() };
        for (name, text) in form_urlencoded::parse(request.query.as_bytes()) {
            match &*name {
                "since" if list.since.is_none() => list.since = Some(text.into_owned()),
                "limit" if list.limit.is_none() => list.limit = Some(Limit::of_text(&text)),
                // Which of two is meant nobody knows.
                "since" => return Some(Err(Rejection::from(Reason::CursorInvalid).error(None))),
                "limit" => list.limit = Some(Limit(0)),
                "family" if list.family.is_none() => match ArtifactFamily::parse(&text) {
                    Some(family) => list.family = Some(family),
                    None => return Some(Err(Rejection::from(Reason::RequestInvalid).error(None))),
                },
                _ => {}
            }
        }
        Some(Ok(list))
    }

    async fn call(self, cx: Cx) -> Result<Rendered<Page>> {
        aside(move || self.page(&cx.app)).await
    }

    fn render(output: Rendered<Page>) -> Result<Json> {
        Ok(output.into_json())
    }
}

impl List {
    fn page(&self, app: &App) -> Result<Rendered<Page>> {
        if self.attest {
            return Err(Rejection::from(Reason::AttestationUnavailable).error(None));
        }
        let rows =
            |after: u64, most: usize| Ok(app.store.page(REVOCATIONS, &(), Some(&after), most)?);
        let wanted = Wanted { counts: ROW, since: self.since.as_deref(), limit: self.limit };
        page(app, &wanted, rows, |row| {
            if self.family.is_some_and(|family| family.word() != row.family) {
                return Ok(None);
            }
            Ok(Some(format!(r#"{{"artifact_family":"{}","artifact":{}}}"#, row.family, row.text)))
        })
    }
}
