//! A drawing of its own: levels as columns, dependencies as curves from left to right.

use std::fmt::Write;

use super::{Drawing, INK, STATUSES, look};
use crate::model::dag::Dag;
use crate::model::task::JobStatus;

// All in pixels.
const MARGIN: u32 = 24;
const HEAD: u32 = 84;
const BOX_HEIGHT: u32 = 28;
const ROW: u32 = 40;
const COLUMN_GAP: u32 = 72;
const LEGEND_STEP: u32 = 190;
const DIGIT: u32 = 9;

/// Where everything goes.
#[derive(Debug)]
struct Layout {
    box_width: u32,
    width: u32,
    height: u32,
    /// Left upper corner of the box at each index.
    corners: Vec<(u32, u32)>,
}

pub(super) fn text(drawing: &Drawing<'_>) -> String {
    let dag = drawing.dag;
    let layout = Layout::new(dag);
    let mut out = String::with_capacity(2048 + dag.len() * 256 + dag.edge_count() * 64);
    let (width, height) = (layout.width, layout.height);
    let title = escaped(drawing.title);
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="system-ui, sans-serif" font-size="14" fill="{INK}">
<title>{title}</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#8c959f"/></marker></defs>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{MARGIN}" y="34" font-size="18" font-weight="600">{title}</text>
"##
    );
    write_legend(&mut out, drawing);
    out.push_str(
        "<g fill=\"none\" stroke=\"#8c959f\" stroke-width=\"1.2\" marker-end=\"url(#tip)\">\n",
    );
    write_curves(&mut out, dag, &layout);
    out.push_str("</g>\n<g text-anchor=\"middle\">\n");
    for ((id, status), (x, y)) in drawing.jobs().zip(&layout.corners) {
        write_box(&mut out, id, status, (*x, *y), layout.box_width);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn write_legend(out: &mut String, drawing: &Drawing<'_>) {
    let mut x = MARGIN;
    for status in STATUSES {
        let look = look(status);
        let count = drawing.jobs().filter(|job| job.1 == status).count();
        let _ = writeln!(
            out,
            r#"<rect x="{x}" y="50" width="16" height="16" rx="4" fill="{}" stroke="{}"/><text x="{}" y="63" font-size="12">{} {} {count}</text>"#,
            look.fill,
            look.line,
            x + 22,
            look.sign,
            look.name
        );
        x += if status == JobStatus::WaitingForPrerequisites { LEGEND_STEP + 40 } else { 130 };
    }
}

fn write_curves(out: &mut String, dag: &Dag, layout: &Layout) {
    for (from, &(x, y)) in (0_u32..).zip(&layout.corners) {
        for child in dag.children(from) {
            let Some(&(to_x, to_y)) = layout.corner(*child) else { continue };
            let (start, end) = (x + layout.box_width, to_x);
            let (start_y, end_y) = (y + BOX_HEIGHT / 2, to_y + BOX_HEIGHT / 2);
            let bend = COLUMN_GAP / 2;
            let _ = writeln!(
                out,
                r#"<path d="M{start} {start_y}C{} {start_y} {} {end_y} {end} {end_y}"/>"#,
                start + bend,
                end - bend
            );
        }
    }
}

fn write_box(out: &mut String, id: u32, status: JobStatus, (x, y): (u32, u32), width: u32) {
    let look = look(status);
    let _ = writeln!(
        out,
        r#"<g><title>{id} {}</title><rect x="{x}" y="{y}" width="{width}" height="{BOX_HEIGHT}" rx="6" fill="{}" stroke="{}"/><text x="{}" y="{}">{id} {}</text></g>"#,
        look.name,
        look.fill,
        look.line,
        x + width / 2,
        y + 19,
        look.sign
    );
}

impl Layout {
    fn new(dag: &Dag) -> Self {
        let digits = dag.ids().last().map_or(1, |id| id.to_string().len());
        let box_width = 40 + DIGIT * narrow(digits);
        let columns = columns(dag);
        let tallest = narrow(columns.iter().map(Vec::len).max().unwrap_or(0));
        let step = box_width + COLUMN_GAP;
        let mut corners = vec![(0, 0); dag.len()];
        for (column, members) in (0_u32..).zip(&columns) {
            // Shorter columns stand in the middle, so that curves stay flat.
            let top = HEAD + (tallest - narrow(members.len())) * ROW / 2;
            for (row, index) in (0_u32..).zip(members) {
                if let Some(corner) = corners.get_mut(place(*index)) {
                    *corner = (MARGIN + column * step, top + row * ROW);
                }
            }
        }
        let drawn = (narrow(columns.len()) * step).saturating_sub(COLUMN_GAP);
        let legend = LEGEND_STEP * 4;
        Self {
            box_width,
            width: drawn.max(legend) + 2 * MARGIN,
            height: HEAD + tallest * ROW + MARGIN,
            corners,
        }
    }

    fn corner(&self, index: u32) -> Option<&(u32, u32)> {
        self.corners.get(place(index))
    }
}

/// The indexes of each level from top to bottom, each near the middle of what it depends on.
fn columns(dag: &Dag) -> Vec<Vec<u32>> {
    let mut columns: Vec<Vec<u32>> = Vec::new();
    for (index, level) in (0_u32..).zip(dag.level_of_each()) {
        if columns.len() <= place(level) {
            columns.resize_with(place(level) + 1, Vec::new);
        }
        if let Some(column) = columns.get_mut(place(level)) {
            column.push(index);
        }
    }
    // One sweep each way: first along the dependencies, then back.
    let mut height = vec![0.0_f64; dag.len()];
    for column in &mut columns {
        arrange(column, &mut height, |index| dag.parents(index));
    }
    for column in columns.iter_mut().rev() {
        arrange(column, &mut height, |index| dag.children(index));
    }
    columns
}

/// Sorts a column by the mean height of its neighbours; those without keep their height.
fn arrange<'a>(column: &mut [u32], height: &mut [f64], near: impl Fn(u32) -> &'a [u32]) {
    let height_of = |index: u32| height.get(place(index)).copied().unwrap_or_default();
    let mut wanted: Vec<(f64, u32)> = column
        .iter()
        .map(|&index| {
            let near = near(index);
            let sum: f64 = near.iter().map(|&other| height_of(other)).sum();
            let mean = if near.is_empty() { height_of(index) } else { sum / exact(near.len()) };
            (mean, index)
        })
        .collect();
    wanted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let middle = exact(column.len().saturating_sub(1)) / 2.0;
    for (row, (slot, (_, index))) in column.iter_mut().zip(wanted).enumerate() {
        *slot = index;
        if let Some(own) = height.get_mut(place(index)) {
            *own = exact(row) - middle;
        }
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// Counts here are bounded by the limits of the format.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn exact(count: usize) -> f64 {
    f64::from(narrow(count))
}

/// Text of an XML element; characters that XML cannot hold become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\t' => out.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}
