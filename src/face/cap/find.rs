//! `cap.find`: which nodes offer a capability.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::feed::{Wanted, page};
use super::name::{CapabilityName, is_anchor};
use super::offer::{CapabilityOffer, endpoints_of, is_in_force};
use super::registration::ROW;
use super::signed::participant_id;
use super::{CapabilityPassport, NodeEndpoints};
use crate::app::{App, Cx};
use crate::face::adv::get::asks_for_attestation;
use crate::face::adv::list::Limit;
use crate::face::adv::{CATALOGUE_STYLE, Reason, Rejection};
use crate::face::core::aside::{Rendered, aside};
use crate::identity::public::node_id_of_raw;
use crate::method::{Access, Def, Json, Method, RestRequest, Spec, Verb};
use crate::store::{OFFERS, OfferRow};
use crate::{Code, Error, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<Find>()];

/// Lists the nodes that offer a capability, in the order in which they registered, page by page.
///
/// The page is empty if and only if there is nothing more; `next` then says where to go on later.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CapFindParams")]
pub struct Find {
    /// The capability: `name`, `name@anchor` or `~name@anchor`, or as it is on the wire:
    /// `role/name`, `core/name`, `sovereign/name`.
    pub capability: String,
    /// Only what came after this cursor; from the oldest on when left out or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Entries in one page: 1 or more; no more than the directory allows are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Of those that have an anchor, only those with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// Whether those without an anchor are wanted; yes when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_formal: Option<bool>,
    /// Whether those are that have an anchor and claim compatibility; yes when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_sovereign_formal: Option<bool>,
    /// Whether those are that have an anchor and claim none; no when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_sovereign_informal: Option<bool>,
    /// What holds for both kinds with an anchor where they are not named themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_sovereign: Option<bool>,
    /// Only those that a federation endorses, or only the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official: Option<bool>,
    /// Only those of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Only those with a passport of this participant, or of this participant's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Only those with this endorsement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
    /// Only those whose passport names this profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passport_profile: Option<String>,
    /// A signed statement of the answer is asked for.
    #[serde(skip)]
    #[schemars(skip)]
    attest: bool,
}

/// A page of those that offer a capability.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CapPage")]
pub struct Page {
    /// The offers, the one that was accepted first coming first.
    pub items: Vec<FoundOffer>,
    /// Where to go on.
    pub next: String,
    /// The number of entries that this page could have had.
    #[serde(rename = "max-items")]
    pub max_items: u32,
    /// `since` is not of this store: this is the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
}

/// A capability that some node offers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FoundOffer {
    /// The node.
    pub node_id: String,
    /// Where it listens, as its current advertisement says; empty when it has none.
    pub endpoints: NodeEndpoints,
    /// The capability, with its anchor if it has one.
    pub capability_id: String,
    /// The passport.
    pub passport: CapabilityPassport,
    /// Whether a federation endorses it.
    pub official: bool,
    /// By what it does.
    pub endorsement: Option<Map<String, Value>>,
    /// The number of the registration.
    #[serde(rename = "sequence/no")]
    pub sequence_no: u64,
    /// When the node published it, as it was written.
    pub published_at: String,
    /// When the passport is void, as it was written; none: never.
    pub expires_at: Option<String>,
    /// Who says what the name means; none: the protocol does.
    pub anchor_identity: Option<String>,
    /// It claims no compatibility with the formal capability of that name.
    pub informal: bool,
}

impl Method for Find {
    type Output = Rendered<Page>;
    const SPEC: Spec = Spec::new("cap.find", Access::Anyone)
        .rest(Verb::Get, "/cap", 200)
        .style(&CATALOGUE_STYLE)
        .errors(&[Code::InvalidParams, Code::Unavailable]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(of_query(request.query).map_err(|refused| refused.error(None)))
    }

    async fn call(self, cx: Cx) -> Result<Rendered<Page>> {
        aside(move || self.page(&cx.app)).await
    }

    fn render(output: Rendered<Page>) -> Result<Json> {
        Ok(output.into_json())
    }
}

/// Reads a query. What it names twice counts as it stands first; what is unknown does not count.
fn of_query(query: &str) -> Result<Find, Rejection> {
    let mut find = Find { attest: asks_for_attestation(query), ..Find::default() };
    let mut capability = None;
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "capability" => &mut capability,
            "since" => &mut find.since,
            "anchor" => &mut find.anchor,
            "node_id" => &mut find.node_id,
            "issuer" => &mut find.issuer,
            "endorsement" => &mut find.endorsement,
            "passport_profile" => &mut find.passport_profile,
            "limit" => {
                find.limit.get_or_insert(Limit::of_text(&text));
                continue;
            }
            name => {
                let place = match name {
                    "include_formal" => &mut find.include_formal,
                    "include_sovereign_formal" => &mut find.include_sovereign_formal,
                    "include_sovereign_informal" => &mut find.include_sovereign_informal,
                    "include_sovereign" => &mut find.include_sovereign,
                    "official" => &mut find.official,
                    _ => continue,
                };
                let flag = text.parse().map_err(|_| {
                    Rejection::new(Reason::RequestInvalid, format!("{name} must be true or false"))
                })?;
                place.get_or_insert(flag);
                continue;
            }
        };
        place.get_or_insert_with(|| text.into_owned());
    }
    let missing = || Rejection::new(Reason::RequestInvalid, "capability must be given");
    find.capability = capability.ok_or_else(missing)?;
    Ok(find)
}

impl Find {
    fn page(&self, app: &App) -> Result<Rendered<Page>> {
        let filter = Filter::of(self).map_err(|refused| refused.error(None))?;
        if self.attest {
            return Err(Rejection::from(Reason::AttestationUnavailable).error(None));
        }
        let name = filter.base.to_owned();
        let rows = |after: u64, most: usize| {
            let rows = app.store.page(OFFERS, &name, Some(&(name.clone(), after)), most)?;
            Ok(rows.into_iter().map(|((_, position), row)| (position, row)).collect())
        };
        let wanted = Wanted { counts: ROW, since: self.since.as_deref(), limit: self.limit };
        page(app, &wanted, rows, |row| {
            if !filter.takes(&row) || !is_in_force(app, &row)? {
                return Ok(None);
            }
            let found = found(app, row)?;
            serde_json::to_string(&found).map(Some).map_err(|err| Error::Bug(err.to_string()))
        })
    }
}

fn found(app: &App, row: OfferRow) -> Result<FoundOffer> {
    let node = row.node;
    let offer = CapabilityOffer::of(row)?;
    let name = CapabilityName::parse(&offer.capability_id);
    Ok(FoundOffer {
        node_id: node_id_of_raw(&node),
        endpoints: endpoints_of(app, &node)?,
        anchor_identity: name.and_then(|name| name.anchor).map(str::to_owned),
        informal: name.is_some_and(|name| name.informal),
        capability_id: offer.capability_id,
        passport: offer.passport,
        official: offer.official,
        endorsement: offer.endorsement,
        sequence_no: offer.sequence_no,
        published_at: offer.published_at,
        expires_at: offer.expires_at,
    })
}

/// Which offers of a name are wanted.
#[derive(Debug)]
struct Filter<'a> {
    base: &'a str,
    /// Which of the three kinds: without an anchor, with one, with one and informal.
    formal: bool,
    sovereign_formal: bool,
    sovereign_informal: bool,
    /// The anchors that are wanted must all be the same.
    anchors: [Option<&'a str>; 2],
    find: &'a Find,
}

impl<'a> Filter<'a> {
    fn of(find: &'a Find) -> Result<Self, Rejection> {
        let malformed = || Rejection::from(Reason::CapabilityIdMalformed);
        let (class, id) = match find.capability.split_once('/') {
            Some((class, id)) => (Some(class), id),
            None => (None, find.capability.as_str()),
        };
        let name = CapabilityName::parse(id).ok_or_else(malformed)?;
        if class.is_some_and(|class| class.is_empty() || name.anchor.is_some()) {
            return Err(malformed());
        }
        if find.anchor.as_deref().is_some_and(|anchor| !is_anchor(anchor)) {
            let detail = "anchor must be letters, digits, `.`, `-`, `_` and `:`";
            return Err(Rejection::new(Reason::RequestInvalid, detail));
        }
        let both = find.include_sovereign;
        let anchored = name.anchor.is_some();
        Ok(Self {
            base: name.base,
            // One id, or one class, is asked for by itself.
            formal: !anchored && find.include_formal.unwrap_or(class != Some("sovereign")),
            sovereign_formal: if anchored {
                !name.informal
            } else {
                find.include_sovereign_formal.or(both).unwrap_or(true)
            },
            sovereign_informal: if anchored {
                name.informal
            } else {
                find.include_sovereign_informal.or(both).unwrap_or(false)
            },
            anchors: [name.anchor, find.anchor.as_deref()],
            find,
        })
    }

    fn takes(&self, row: &OfferRow) -> bool {
        let Some(name) = CapabilityName::parse(&row.capability_id) else { return false };
        let kind = match (name.anchor, name.informal) {
            (None, _) => self.formal,
            (Some(_), false) => self.sovereign_formal,
            (Some(_), true) => self.sovereign_informal,
        };
        let anchored = |anchor: &str| self.anchors.iter().flatten().all(|wanted| *wanted == anchor);
        let find = self.find;
        kind && name.anchor.is_none_or(anchored)
            // No offer has an endorsement.
            && find.official != Some(true)
            && find.endorsement.is_none()
            && find.node_id.as_ref().is_none_or(|id| *id == node_id_of_raw(&row.node))
            && find.passport_profile.as_ref().is_none_or(|wanted| row.profile.as_ref() == Some(wanted))
            && find.issuer.as_ref().is_none_or(|wanted| {
                *wanted == row.issuer_node || *wanted == participant_id(&row.issuer)
            })
    }
}
