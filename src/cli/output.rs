//! Data on stdout, for people or programs; messages on stderr.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::exit::Result;

/// A column of a table is cut here.
const CELL: usize = 60;

/// Prints a line of data.
pub(super) fn line(text: &str) -> Result {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints an answer: as JSON, or the way a person reads it best.
pub(super) fn answer(value: &Value, json: bool) -> Result {
    if json { line(&self::json(value)) } else { line(&human(value)) }
}

/// JSON text: on one line for programs, indented on a terminal.
pub(super) fn json(value: &Value) -> String {
    let pretty = std::io::stdout().is_terminal();
    let text =
        if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.unwrap_or_default()
}

/// Tells something that is no data.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Tells what went wrong.
pub(super) fn complain(text: &str) {
    let style = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    let style = if colourful(&std::io::stderr()) { style } else { Style::new() };
    note(&format!("{style}muster:{style:#} {text}"));
}

/// Whether to use colour: on a terminal, unless `NO_COLOR` is set.
pub(super) fn colourful(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !set("NO_COLOR") && !dumb
}

/// The way a person reads it best: a table for a list, else one member per line.
pub(super) fn human(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let text = members.get("text").and_then(Value::as_str);
            if let (Some(text), Some(_), 2) = (text, members.get("format"), members.len()) {
                return text.to_owned();
            }
            match members.get("items").and_then(Value::as_array) {
                Some(items) => {
                    let next = members.get("next").and_then(Value::as_str);
                    let more = next.map(|next| format!("# more: --cursor {next}\n"));
                    format!("{}{}", table(items), more.unwrap_or_default())
                }
                None => pairs(members),
            }
        }
        other => clean(&scalar("", other)),
    }
}

fn pairs(members: &serde_json::Map<String, Value>) -> String {
    let width = members.keys().map(|key| key.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (key, value) in members {
        let value = clean(&scalar(key, value));
        if value.contains('\n') {
            let value = value.trim_end().replace('\n', "\n    ");
            text.push_str(&format!("{key}:\n    {value}\n"));
        } else {
            text.push_str(format!("{key:width$}  {value}").trim_end());
            text.push('\n');
        }
    }
    text
}

/// A table of objects, one row each; columns are the members of the first that are not nested.
pub(super) fn table(items: &[Value]) -> String {
    let Some(first) = items.first() else { return "(none)\n".to_owned() };
    let Some(first) = first.as_object() else {
        return items.iter().map(|item| clean(&scalar("", item)) + "\n").collect();
    };
    // Nested members and long texts, such as scripts, are for looking at one by one.
    let long = |key: &String| {
        let mut values = items.iter().filter_map(|item| item.get(key)?.as_str());
        values.any(|text| text.trim_end().contains('\n'))
    };
    let columns = first.iter().filter(|(key, value)| !value.is_object() && !long(key));
    let columns: Vec<&String> = columns.map(|(key, _)| key).collect();
    let head = columns.iter().map(|key| key.to_uppercase()).collect();
    let rows = items.iter().map(|item| {
        let cells = columns.iter().map(|key| item.get(*key).map(|value| scalar(key, value)));
        cells.map(|cell| cut(&clean(&cell.unwrap_or_default()))).collect()
    });
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<Vec<String>>>())
}

/// Rows of cells, each column as wide as its widest cell.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = widths.iter().zip(row).map(|(width, cell)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cut(text: &str) -> String {
    let text = text.replace('\n', "⏎");
    if text.chars().count() <= CELL {
        return text;
    }
    text.chars().take(CELL - 1).chain(['…']).collect()
}

/// One value as text; members called `at` or `…_at` are times.
pub(super) fn scalar(key: &str, value: &Value) -> String {
    let time = key == "at" || key.ends_with("_at");
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Number(number) if time => {
            number.as_i64().and_then(when).unwrap_or_else(|| number.to_string())
        }
        other => other.to_string(),
    }
}

/// The seed's objects have seconds, everything else milliseconds: no date of this age mistakes them.
fn when(stamp: i64) -> Option<String> {
    let millis = if stamp.abs() < 100_000_000_000 { stamp.checked_mul(1_000)? } else { stamp };
    jiff::Timestamp::from_millisecond(millis).ok().map(|time| time.to_string())
}

/// Without the control characters by which a text could drive the terminal.
pub(super) fn clean(text: &str) -> String {
    let safe = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_one_member_per_line() {
        let value = json!({ "id": 3, "created_at": 0, "script": "a\nb", "empty": null });
        assert_eq!(
            human(&value),
            "id          3\ncreated_at  1970-01-01T00:00:00Z\nscript:\n    a\n    b\nempty\n"
        );
    }

    #[test]
    fn a_list_is_a_table_that_says_where_it_goes_on() {
        let value = json!({
            "items": [{ "id": 1, "status": "Started" }, { "id": 22, "status": "Error" }],
            "next": "abc"
        });
        assert_eq!(human(&value), "ID  STATUS\n1   Started\n22  Error\n# more: --cursor abc\n");
        assert_eq!(human(&json!({ "items": [] })), "(none)\n");
    }

    #[test]
    fn a_text_cannot_drive_the_terminal() {
        assert_eq!(human(&json!({ "line": "\u{1b}[2Jboo" })), "line  \u{fffd}[2Jboo\n");
    }

    #[test]
    fn a_rendering_is_printed_as_it_is() {
        assert_eq!(human(&json!({ "format": "dot", "text": "digraph {}" })), "digraph {}");
    }
}
