//! `cap.get`: what a node offers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeEndpoints;
use super::offer::{CapabilityOffer, endpoints_of, is_in_force};
use super::registration::ROWS_OF_NODE;
use crate::app::{App, Cx};
use crate::face::adv::get::asks_for_attestation;
use crate::face::adv::refusal::not_found;
use crate::face::adv::{CATALOGUE_STYLE, Reason, Rejection};
use crate::face::core::aside::{Rendered, aside};
use crate::identity::public::{is_node_id, raw_of_node_id};
use crate::method::{Access, Def, Json, Method, RestRequest, Spec, Verb};
use crate::store::{CAPABILITIES, OFFERS};
use crate::{Code, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<Get>()];
/// How often a registration may be replaced while it is looked up.
const TRIES: usize = 100;

/// Looks up the capabilities that a node offers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CapGetParams")]
pub struct Get {
    /// The node: `node:did:key:z6Mk…`.
    #[schemars(
        regex(pattern = "^node:did:key:z[1-9A-HJ-NP-Za-km-z]+$"),
        length(max = 256),
        example = "node:did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"
    )]
    pub node_id: String,
    /// A signed statement of the answer is asked for.
    #[serde(skip)]
    #[schemars(skip)]
    attest: bool,
}

/// What a node offers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NodeCapabilities {
    /// The node.
    pub node_id: String,
    /// Where it listens, as its current advertisement says; empty when it has none.
    pub endpoints: NodeEndpoints,
    /// Its capabilities, by id.
    pub capabilities: Vec<CapabilityOffer>,
}

impl Method for Get {
    type Output = Rendered<NodeCapabilities>;
    const SPEC: Spec = Spec::new("cap.get", Access::Anyone)
        .rest(Verb::Get, "/cap/{node_id}", 200)
        .style(&CATALOGUE_STYLE)
        .errors(&[Code::InvalidParams, Code::NotFound, Code::Unavailable]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        // What cannot be decoded is malformed in any case.
        let node_id = request.captures.get("node_id").unwrap_or_default().into_owned();
        Some(Ok(Self { node_id, attest: asks_for_attestation(request.query) }))
    }

    async fn call(self, cx: Cx) -> Result<Rendered<NodeCapabilities>> {
        if !is_node_id(&self.node_id) {
            return Err(Rejection::from(Reason::NodeIdMalformed).error(None));
        }
        if self.attest {
            return Err(Rejection::from(Reason::AttestationUnavailable).error(Some(&self.node_id)));
        }
        aside(move || {
            let found = match raw_of_node_id(&self.node_id) {
                Some(key) => capabilities(&cx.app, &key)?,
                None => Vec::new(),
            };
            let key = raw_of_node_id(&self.node_id).filter(|_| !found.is_empty());
            let key = key.ok_or_else(|| not_found(&self.node_id))?;
            let endpoints = endpoints_of(&cx.app, &key)?;
            let node_id = self.node_id;
            Rendered::new(&NodeCapabilities { node_id, endpoints, capabilities: found })
        })
        .await
    }

    fn render(output: Rendered<NodeCapabilities>) -> Result<Json> {
        Ok(output.into_json())
    }
}

/// What is in force of a node.
fn capabilities(app: &App, node: &[u8; 32]) -> Result<Vec<CapabilityOffer>> {
    'again: for _ in 0..TRIES {
        let mut found = Vec::new();
        for (_, row) in app.store.page(CAPABILITIES, node, None, ROWS_OF_NODE)? {
            if row.expires_at.is_some_and(|end| end <= (app.now)()) {
                continue;
            }
            let Some(offer) = app.store.get(OFFERS, &(row.name, row.position))? else {
                // It was replaced in between.
                continue 'again;
            };
            if is_in_force(app, &offer)? {
                found.push(CapabilityOffer::of(offer)?);
            }
        }
        return Ok(found);
    }
    Err(Rejection::from(Reason::StorageUnavailable).error(None))
}
