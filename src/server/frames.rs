//! WebSocket frames of a client, as far as they must be known to tell one message from the next.

use std::io;

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const HEAD: usize = 14;
/// The largest payload of a control frame.
const CONTROL: u64 = 125;
const TEXT: u8 = 1;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole message.
    Message(Vec<u8>),
    /// A message above the limit; it has been thrown away.
    TooLarge,
    /// A ping, a pong or a close.
    Control(u8, Vec<u8>),
}

/// Puts messages together.
#[derive(Debug)]
pub(super) struct Frames {
    /// The largest message, bytes.
    limit: usize,
    head: Vec<u8>,
    frame: Option<Frame>,
    /// Of the message that is being read.
    message: Vec<u8>,
    /// Of the control frame that is being read.
    control: Vec<u8>,
    /// A message has begun whose last frame has not come.
    begun: bool,
    too_large: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    last: bool,
    opcode: u8,
    left: u64,
    mask: [u8; 4],
}

impl Frame {
    const fn is_control(self) -> bool {
        self.opcode >= 8
    }
}

impl Frames {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            head: Vec::new(),
            frame: None,
            message: Vec::new(),
            control: Vec::new(),
            begun: false,
            too_large: false,
        }
    }

    /// Bytes held of a message that has not ended.
    pub(super) const fn held(&self) -> usize {
        self.message.len()
    }

    /// Throws away the message that has begun, and what is still to come of it.
    pub(super) fn give_up(&mut self) {
        self.too_large = self.begun;
        self.message = Vec::new();
    }

    /// Takes bytes off `input` up to the end of the next piece, or all of them.
    ///
    /// # Errors
    /// When they are not what a client may send.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> io::Result<Option<Piece>> {
        loop {
            let Some(mut frame) = self.frame.take() else {
                let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                *input = rest;
                self.head.push(byte);
                if let Some(frame) = read_head(&self.head)? {
                    self.head.clear();
                    self.begin(frame)?;
                }
                continue;
            };
            let wanted = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
            let (bytes, rest) = input.split_at_checked(wanted).unwrap_or((input, &[]));
            *input = rest;
            self.store(&mut frame, bytes);
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(piece) = self.end(frame) {
                return Ok(Some(piece));
            }
        }
    }

    fn begin(&mut self, frame: Frame) -> io::Result<()> {
        self.frame = Some(frame);
        if frame.is_control() {
            return Ok(());
        }
        if (frame.opcode == 0) != self.begun {
            return Err(violation("a frame of another message"));
        }
        self.begun = true;
        let held = u64::try_from(self.message.len()).unwrap_or(u64::MAX);
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX);
        if held.saturating_add(frame.left) > limit {
            self.too_large = true;
            self.message = Vec::new();
        }
        Ok(())
    }

    fn store(&mut self, frame: &mut Frame, bytes: &[u8]) {
        frame.left = frame.left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let into = match frame.is_control() {
            true => &mut self.control,
            false if self.too_large => return,
            false => &mut self.message,
        };
        let start = into.len();
        into.extend_from_slice(bytes);
        let fresh = into.get_mut(start..).unwrap_or_default();
        let mut words = fresh.chunks_exact_mut(frame.mask.len());
        for word in &mut words {
            for (byte, mask) in word.iter_mut().zip(frame.mask) {
                *byte ^= mask;
            }
        }
        for (byte, mask) in words.into_remainder().iter_mut().zip(frame.mask) {
            *byte ^= mask;
        }
        // The next bytes go on where these have ended.
        let turn = bytes.len() % frame.mask.len();
        frame.mask.rotate_left(turn);
    }

    fn end(&mut self, frame: Frame) -> Option<Piece> {
        if frame.is_control() {
            return Some(Piece::Control(frame.opcode, std::mem::take(&mut self.control)));
        }
        if !frame.last {
            return None;
        }
        self.begun = false;
        if std::mem::take(&mut self.too_large) {
            return Some(Piece::TooLarge);
        }
        Some(Piece::Message(std::mem::take(&mut self.message)))
    }
}

/// A head, once all of it is there.
fn read_head(bytes: &[u8]) -> io::Result<Option<Frame>> {
    debug_assert!(bytes.len() <= HEAD, "a head is longer than any");
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (left, rest) = match second & 0x7f {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        length => (u64::from(length), rest),
    };
    let Some((mask, _)) = rest.split_first_chunk() else { return Ok(None) };
    let frame = Frame { last: first & 0x80 != 0, opcode: first & 0x0f, left, mask: *mask };
    if first & 0x70 != 0 || !matches!(frame.opcode, 0..=2 | 8..=10) {
        return Err(violation("a frame of an unknown kind"));
    }
    if second & 0x80 == 0 {
        return Err(violation("a frame without a mask"));
    }
    if frame.is_control() && !(frame.last && left <= CONTROL) {
        return Err(violation("a control frame that is too large"));
    }
    Ok(Some(frame))
}

fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Appends a text message the way a client sends it, with a mask that changes nothing.
pub(super) fn put_text(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, TEXT, payload);
}

/// Appends a frame the way a client sends it, with a mask that changes nothing.
pub(super) fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.reserve(HEAD + payload.len());
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            length @ 0..=125 => out.push(0x80 | u8::try_from(length).unwrap()),
            length => {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    /// Reads all pieces, `step` bytes at a time.
    fn pieces(bytes: &[u8], step: usize) -> io::Result<Vec<Piece>> {
        let (mut frames, mut pieces) = (Frames::new(300), Vec::new());
        for mut input in bytes.chunks(step) {
            while let Some(piece) = frames.next(&mut input)? {
                pieces.push(piece);
            }
            assert!(input.is_empty());
        }
        Ok(pieces)
    }

    #[test]
    fn messages_come_whole_however_they_arrive() {
        let long = [b'x'; 300];
        let sent = [
            frame(0x81, b"one"),
            frame(0x01, b"tw"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"o"),
            frame(0x82, &long),
            frame(0x81, &[b'y'; 301]),
            frame(0x01, &long),
            frame(0x80, b"z"),
            frame(0x88, b""),
            frame(0x81, b""),
        ];
        let want = [
            Piece::Message(b"one".to_vec()),
            Piece::Control(9, b"ping".to_vec()),
            Piece::Message(b"two".to_vec()),
            Piece::Message(long.to_vec()),
            Piece::TooLarge,
            Piece::TooLarge,
            Piece::Control(8, Vec::new()),
            Piece::Message(Vec::new()),
        ];
        for step in [1, 2, 3, 7, 10_000] {
            assert_eq!(pieces(&sent.concat(), step).unwrap(), want, "{step} at a time");
        }
    }

    #[test]
    fn what_is_put_can_be_read() {
        for length in [0, 1, 125, 126, 200, 300] {
            let payload = vec![b'a'; length];
            let mut out = Vec::new();
            put_text(&mut out, &payload);
            assert_eq!(pieces(&out, 5).unwrap(), [Piece::Message(payload)]);
        }
        let mut out = Vec::new();
        put_text(&mut out, &[0; 70_000]);
        assert_eq!(pieces(&out, 1_000).unwrap(), [Piece::TooLarge]);
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        let unmasked = [0x81, 1, b'x', 0, 0, 0];
        let fragmented_ping = frame(0x09, b"");
        let long_ping = frame(0x89, &[0; 126]);
        let reserved = frame(0xc1, b"x");
        let unknown = frame(0x83, b"x");
        let lone = frame(0x80, b"x");
        let interrupted = [frame(0x01, b"x"), frame(0x81, b"x")].concat();
        for sent in
            [&unmasked[..], &fragmented_ping, &long_ping, &reserved, &unknown, &lone, &interrupted]
        {
            assert!(pieces(sent, 3).is_err(), "{sent:?}");
        }
    }
}
