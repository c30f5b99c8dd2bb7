//! Graphviz.

use std::fmt::Write;

use super::{Drawing, INK, look};

pub(super) fn text(drawing: &Drawing<'_>) -> String {
    let dag = drawing.dag;
    let mut out = String::with_capacity(512 + dag.len() * 96 + dag.edge_count() * 24);
    let title = quoted(drawing.title);
    let _ = write!(
        out,
        "digraph flow {{\n\
         \x20 graph [label={title}, labelloc=t, rankdir=LR, fontname=\"sans-serif\"];\n\
         \x20 node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", \
         fontcolor=\"{INK}\"];\n\
         \x20 edge [color=\"#8c959f\"];\n"
    );
    for (id, status) in drawing.jobs() {
        let look = look(status);
        let _ = writeln!(
            out,
            "  {id} [label=\"{id} {}\", tooltip=\"{}\", fillcolor=\"{}\", color=\"{}\"];",
            look.sign, look.name, look.fill, look.line
        );
    }
    for [from, to] in dag.edges() {
        let _ = writeln!(out, "  {from} -> {to};");
    }
    out.push_str("}\n");
    out
}

/// A quoted string. Graphviz takes a backslash for an escape in labels, ends text at NUL, and
/// reads `&…;` as an entity.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '&' => out.push_str("&amp;"),
            '\n' => out.push_str("\\n"),
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
