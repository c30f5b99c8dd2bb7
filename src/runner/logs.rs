//! Bounded places for what jobs write: lines on their way to the coordinator, and the tail of a
//! stream that goes into the result.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::protocol::LogLine;

/// Lines of one attempt that wait to be reported.
const WAITING_LINES: usize = 1_000;
/// Their bytes.
const WAITING_BYTES: usize = 256 << 10;
/// Bytes of one line; the rest is cut off.
pub(super) const LINE_BYTES: usize = 8 << 10;

/// Takes the lines that one attempt writes, never waits, and keeps a bounded number of them.
#[derive(Clone, Debug)]
pub struct Logs {
    waiting: Arc<Mutex<Waiting>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<LogLine>,
    bytes: usize,
    left_out: u64,
}

impl Logs {
    /// An empty one; `wake` is notified when there is something to take.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { waiting: Arc::default(), wake }
    }

    /// Adds a line; counts it only when too many wait.
    pub fn line(&self, stream: &str, text: &str) {
        let mut waiting = self.waiting.lock();
        let text = cut(text);
        if waiting.lines.len() >= WAITING_LINES || waiting.bytes + text.len() > WAITING_BYTES {
            waiting.left_out += 1;
            return;
        }
        waiting.bytes += text.len();
        waiting.lines.push(LogLine { stream: stream.to_owned(), line: text });
        if waiting.lines.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Takes what waits.
    pub fn take(&self) -> Vec<LogLine> {
        let Waiting { mut lines, left_out, .. } = mem::take(&mut *self.waiting.lock());
        if left_out > 0 {
            let line = format!("[{left_out} lines left out]");
            lines.push(LogLine { stream: "runner".to_owned(), line });
        }
        lines
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().lines.is_empty()
    }
}

fn cut(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() <= LINE_BYTES {
        return text.to_owned();
    }
    let kept = head(text, LINE_BYTES);
    format!("{kept}[{} bytes cut]", text.len() - kept.len())
}

/// At most the first `most` bytes, whole characters only.
pub(super) fn head(text: &str, most: usize) -> &str {
    (0..=most).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// The last bytes of a stream, which are also handed on line by line.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Vec<u8>,
    most: usize,
    cut: u64,
    line: Vec<u8>,
}

impl Tail {
    /// Keeps at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, cut: 0, line: Vec::new() }
    }

    /// Adds what was read, and hands each line that it completes to `line`.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        self.kept.extend_from_slice(bytes);
        // Twice the room, so that each byte is moved at most once.
        if self.kept.len() > self.most * 2 {
            self.trim();
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // What is over the length of a line is dropped, but the line's end is looked for.
            let room = (LINE_BYTES + 64).saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room));
            if part.ends_with(b"\n") {
                line(&String::from_utf8_lossy(&self.line));
                self.line.clear();
            }
        }
    }

    /// The text, marked when something is missing before it; an unfinished line goes to `line`.
    pub(super) fn finish(mut self, mut line: impl FnMut(&str)) -> String {
        if !self.line.is_empty() {
            line(&String::from_utf8_lossy(&self.line));
        }
        self.trim();
        let text = String::from_utf8_lossy(&self.kept);
        if self.cut == 0 { text.into_owned() } else { format!("[{} bytes cut]\n{text}", self.cut) }
    }

    fn trim(&mut self) {
        let over = self.kept.len().saturating_sub(self.most);
        // Not in the middle of a character.
        let inside = |byte: &&u8| **byte & 0xC0 == 0x80;
        let rest = self.kept.get(over..).unwrap_or_default();
        let over =
            if over == 0 { 0 } else { over + rest.iter().take(3).take_while(inside).count() };
        self.kept.drain(..over);
        self.cut += u64::try_from(over).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bound_are_counted() {
        let logs = Logs::new(Arc::default());
        for n in 0..WAITING_LINES + 5 {
            logs.line("stdout", &n.to_string());
        }
        let lines = logs.take();
        assert_eq!(lines.len(), WAITING_LINES + 1);
        assert_eq!(lines.last().unwrap().line, "[5 lines left out]");
        assert!(logs.take().is_empty());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = cut(&"é".repeat(LINE_BYTES));
        assert!(text.ends_with(&format!("[{LINE_BYTES} bytes cut]")), "{}", text.len());
    }

    #[test]
    fn a_tail_keeps_the_last_bytes_and_says_so() {
        let mut tail = Tail::new(10);
        let mut lines = vec![];
        for n in 0..100 {
            tail.push(format!("line {n}\n").as_bytes(), |line| lines.push(line.to_owned()));
        }
        tail.push(b"end", |_| panic!("not a line yet"));
        let text = tail.finish(|line| lines.push(line.to_owned()));
        assert_eq!(text, "[783 bytes cut]\nine 99\nend");
        assert_eq!(lines.len(), 101);
        assert_eq!(lines[42], "line 42\n");
    }

    #[test]
    fn a_tail_does_not_split_a_character() {
        let mut tail = Tail::new(3);
        tail.push("ééé".as_bytes(), |_| ());
        assert_eq!(tail.finish(|_| ()), "[4 bytes cut]\né");
    }

    #[test]
    fn a_line_without_an_end_does_not_grow_for_ever() {
        let mut tail = Tail::new(10);
        for _ in 0..100 {
            tail.push(&[b'x'; 1_000], |_| ());
        }
        assert!(tail.line.len() <= LINE_BYTES + 64);
    }
}
