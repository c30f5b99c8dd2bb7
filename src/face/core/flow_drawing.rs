//! `flow.render`: pictures of flows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aside::far_aside;
use super::flow_graph::Jobs;
use super::flow_progress::statuses;
use super::{flow, members};
use crate::app::Cx;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::render::{Drawing, Format};
use crate::model::task::JobStatus;
use crate::store::FLOWS;
use crate::{Code, Error, Result};

/// This namespace's methods on drawings.
pub const METHODS: &[Def] = &[Def::call::<Render>()];

/// Draws a flow, its jobs coloured by where they stand.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlowRenderParams")]
pub struct Render {
    /// The context it belongs to.
    pub context_id: u32,
    /// The flow.
    pub id: u32,
    /// The language of the drawing.
    pub format: DrawingFormat,
}

/// The language of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DrawingFormat {
    /// Graphviz; up to 100,000 jobs.
    Dot,
    /// A Mermaid flowchart; up to 5,000 jobs.
    Mermaid,
    /// A picture for browsers; up to 5,000 jobs.
    Svg,
}

impl From<DrawingFormat> for Format {
    fn from(format: DrawingFormat) -> Self {
        match format {
            DrawingFormat::Dot => Self::Dot,
            DrawingFormat::Mermaid => Self::Mermaid,
            DrawingFormat::Svg => Self::Svg,
        }
    }
}

/// A drawing of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowDrawing {
    /// Its language.
    pub format: DrawingFormat,
    /// The drawing.
    pub text: String,
}

impl Method for Render {
    type Output = FlowDrawing;
    const SPEC: Spec = Spec::new("flow.render", Access::Reader)
        .rest(Verb::Get, "/flows/{context_id}/{id}/render", 200)
        .errors(&[
            Code::NotFound,
            Code::LimitReached,
            Code::StorageError,
            Code::DagMissingDependency,
            Code::DagCycleDetected,
        ]);

    async fn call(self, cx: Cx) -> Result<FlowDrawing> {
        let Self { context_id, id, format } = self;
        let key = (context_id, id);
        far_aside(move || {
            let store = &cx.app.store;
            let row = store.get(FLOWS, &key)?.ok_or_else(|| flow::not_found(key))?;
            let language = Format::from(format);
            let most = language.most_jobs();
            let too_large = |what: &str, limit: usize| {
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                Error::Limit { what: format!("{what} in a drawing of this format"), limit }
            };
            let ids = members::distinct(&row.jobs);
            if ids.len() > most {
                return Err(too_large("jobs", most));
            }
            let dag = Jobs::read(store, context_id, &row)?.dag()?;
            let statuses = statuses(store, (context_id, row.caller_id), &ids)?;
            let statuses: Vec<JobStatus> = statuses
                .into_iter()
                .map(|status| status.unwrap_or(JobStatus::Dispatched))
                .collect();
            let title = format!("Flow {id} of context {context_id}");
            let drawing = Drawing { title: &title, dag: &dag, statuses: &statuses };
            let text = drawing.render(language).map_err(|err| too_large(err.what, err.limit))?;
            Ok(FlowDrawing { format, text })
        })
        .await
    }
}
