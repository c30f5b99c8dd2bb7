//! `adv.get`: the current advertisement of a node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NodeAdvertisement;
use super::refusal::{Reason, Rejection, STYLE, not_found};
use crate::app::{App, Cx};
use crate::identity::public::{is_node_id, raw_of_node_id};
use crate::method::{Access, Def, Json, Method, RestRequest, Spec, Verb};
use crate::store::{NODES, STATEMENTS};
use crate::{Code, Error, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<Get>()];
/// How often a statement may be replaced while it is looked up.
const TRIES: usize = 100;

/// Looks up the current advertisement of a node, exactly as the node signed it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AdvGetParams")]
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

impl Method for Get {
    type Output = NodeAdvertisement;
    const SPEC: Spec = Spec::new("adv.get", Access::Anyone)
        .rest(Verb::Get, "/adv/{node_id}", 200)
        .style(&STYLE)
        .errors(&[Code::InvalidParams, Code::NotFound, Code::Unavailable]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        // What cannot be decoded is malformed in any case.
        let node_id = request.captures.get("node_id").unwrap_or_default().into_owned();
        Some(Ok(Self { node_id, attest: asks_for_attestation(request.query) }))
    }

    async fn call(self, cx: Cx) -> Result<NodeAdvertisement> {
        if !is_node_id(&self.node_id) {
            return Err(Rejection::from(Reason::NodeIdMalformed).error(None));
        }
        if self.attest {
            return Err(Rejection::from(Reason::AttestationUnavailable).error(Some(&self.node_id)));
        }
        let text = match raw_of_node_id(&self.node_id) {
            Some(key) => current(&cx.app, &key)?,
            None => None,
        };
        let text = text.ok_or_else(|| Error::from(not_found(&self.node_id)))?;
        let text = RawValue::from_string(text).map_err(|err| Error::Bug(err.to_string()))?;
        Ok(NodeAdvertisement(text))
    }

    fn render(output: NodeAdvertisement) -> Result<Json> {
        Ok(output.0)
    }
}

impl Get {
    /// Asks for a node.
    pub const fn new(node_id: String) -> Self {
        Self { node_id, attest: false }
    }
}

/// Whether the query asks for a signed statement of the answer, which we do not give.
pub(in crate::face) fn asks_for_attestation(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "attest")
}

/// The text of a node's statement, if there is one that has not expired.
pub(in crate::face) fn current(app: &App, key: &[u8; 32]) -> Result<Option<String>> {
    for _ in 0..TRIES {
        let Some(node) = app.store.get(NODES, key)? else { return Ok(None) };
        let Some(position) = node.position.filter(|_| node.expires_at > (app.now)()) else {
            return Ok(None);
        };
        if let Some(statement) = app.store.get(STATEMENTS, &position)? {
            return Ok(Some(statement.text));
        }
        // It was replaced in between.
    }
    Err(Rejection::from(Reason::StorageUnavailable).error(None))
}
