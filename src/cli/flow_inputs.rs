//! Input files of a flow: patterns become files, files become parts of text.

use std::path::Path;

use super::exit::{Exit, Failure, Result};
use super::flow_file::{OneOrMore, read_text};

/// An environment variable, by which a text reaches its job, holds little more on Linux.
const TEXT_BYTES: usize = 120_000;
/// Files of one job entry.
const FILES: usize = 10_000;
/// A file to be split may be this large.
const FILE_BYTES: u64 = 256 << 20;

/// The text of one expansion of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// The file's name, without its directory.
    pub(super) file: String,
    /// Which part of the file, from 1; none when it was not split.
    pub(super) part: Option<usize>,
    /// The text.
    pub(super) text: String,
}

/// The inputs that patterns stand for, in the order of patterns and file names.
pub(super) fn read(base: &Path, patterns: &OneOrMore, split: Option<usize>) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for pattern in patterns.all() {
        for name in files(base, pattern)? {
            let path = base.join(pattern).with_file_name(&name);
            let text = read_text(&path, FILE_BYTES)?;
            if text.contains('\0') {
                return Err(Failure::usage(format!("{}: holds NUL characters", path.display())));
            }
            let most = split.unwrap_or(TEXT_BYTES);
            if most == 0 || most > TEXT_BYTES {
                return Err(Failure::usage(format!("split_bytes must be 1 to {TEXT_BYTES}")));
            }
            if text.len() <= most {
                inputs.push(Input { file: name, part: None, text });
                continue;
            }
            if split.is_none() {
                let (path, size) = (path.display(), text.len());
                return Err(Failure::usage(format!(
                    "{path}: {size} bytes are too many for one job, set split_bytes"
                )));
            }
            for (part, text) in parts(&text, most).into_iter().enumerate() {
                let (file, text) = (name.clone(), text.to_owned());
                inputs.push(Input { file, part: Some(part.saturating_add(1)), text });
            }
        }
    }
    Ok(inputs)
}

/// The names of the files that fit; none at all is a mistake.
fn files(base: &Path, pattern: &str) -> Result<Vec<String>> {
    let path = base.join(pattern);
    let wanted = path.file_name().and_then(|name| name.to_str());
    let wanted = wanted.ok_or_else(|| Failure::usage(format!("`{pattern}` names no file")))?;
    let dir = path.parent().unwrap_or(base);
    let named = |e: std::io::Error| {
        Failure::new(Exit::NotFound, format!("inputs_from {pattern}: {}: {e}", dir.display()))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(named)? {
        let entry = entry.map_err(named)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if fits(wanted.as_bytes(), name.as_bytes()) && entry.path().is_file() {
            found.push(name);
        }
        if found.len() > FILES {
            return Err(Failure::usage(format!("inputs_from {pattern}: more than {FILES} files")));
        }
    }
    if found.is_empty() {
        let dir = dir.display();
        return Err(Failure::new(
            Exit::NotFound,
            format!("inputs_from {pattern}: no such file in {dir}"),
        ));
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a name fits a pattern in which `*` stands for any text and `?` for one byte.
///
/// A hidden file is meant only by a pattern that begins with a dot, too.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Where the last star is and how much it stands for: going back there once per byte is enough.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || name.get(n) == Some(wanted) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, eaten)) = star else { return false };
                star = Some((at, eaten + 1));
                p = at + 1;
                n = eaten + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == b'*')
}

/// Cuts a text at line ends into parts of at most `most` bytes; only longer lines are cut inside.
fn parts(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > most {
        let window = (0..=most).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or_default();
        let head = rest.get(..window).unwrap_or(rest);
        let line_end = head.rfind('\n').map_or(0, |at| at + 1);
        // A character that is longer than a part still makes progress.
        let cut = [line_end, window].into_iter().find(|cut| *cut > 0);
        let cut = cut.unwrap_or_else(|| rest.chars().next().map_or(rest.len(), char::len_utf8));
        let (part, after) = rest.split_at(cut);
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_text() {
        let fits = |pattern: &str, name: &str| super::fits(pattern.as_bytes(), name.as_bytes());
        assert!(
            fits("*.txt", "a.txt") && fits("a?c*", "abc") && fits("*", "x") && fits("*a*b", "aab")
        );
        assert!(!fits("*.txt", "a.txt.gz") && !fits("a?c", "ac") && !fits("", "a"));
        assert!(!fits("*", ".hidden") && fits(".*", ".hidden"));
    }

    #[test]
    fn files_come_in_order_and_a_pattern_without_any_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "c.md"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let one = |pattern: &str| OneOrMore::One(pattern.to_owned());
        let inputs = read(dir.path(), &one("*.txt"), None).unwrap();
        let names: Vec<&str> = inputs.iter().map(|input| input.file.as_str()).collect();
        assert_eq!(names, ["a.txt", "b.txt"]);
        assert_eq!(read(dir.path(), &one("*.rs"), None).unwrap_err().exit, Exit::NotFound);
        assert_eq!(read(dir.path(), &one("no/*.rs"), None).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn large_files_are_split_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("big"), "line\n".repeat(40_000)).unwrap();
        let big = OneOrMore::One("big".to_owned());
        assert!(read(dir.path(), &big, None).unwrap_err().message.contains("split_bytes"));
        let inputs = read(dir.path(), &big, Some(100_000)).unwrap();
        assert_eq!(inputs.iter().map(|input| input.part).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }

    proptest! {
        #[test]
        fn parts_are_the_whole(text in "[a-zä\n]{0,200}", most in 1_usize..40) {
            let parts = parts(&text, most);
            prop_assert_eq!(parts.concat(), text.as_str());
            prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= most.max(2)));
        }
    }
}
