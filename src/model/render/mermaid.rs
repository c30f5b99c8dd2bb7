//! Mermaid flowchart.

use std::fmt::Write;

use super::{Drawing, INK, STATUSES, look};

pub(super) fn text(drawing: &Drawing<'_>) -> String {
    let dag = drawing.dag;
    let mut out = String::with_capacity(512 + dag.len() * 48 + dag.edge_count() * 24);
    // Front matter is YAML, of which a JSON string is a part.
    let title = serde_json::Value::from(drawing.title).to_string();
    let _ = write!(out, "---\ntitle: {title}\n---\nflowchart LR\n");
    for (id, status) in drawing.jobs() {
        let look = look(status);
        let _ = writeln!(out, "  j{id}[\"{id} {}\"]:::{}", look.sign, look.name);
    }
    for [from, to] in dag.edges() {
        let _ = writeln!(out, "  j{from} --> j{to}");
    }
    for status in STATUSES {
        let look = look(status);
        let _ = writeln!(
            out,
            "  classDef {} fill:{},stroke:{},color:{INK}",
            look.name, look.fill, look.line
        );
    }
    out
}
