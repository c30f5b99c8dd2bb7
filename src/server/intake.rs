//! What clients send over WebSocket, checked on its way to jsonrpsee.
//!
//! jsonrpsee answers what is no request before any middleware sees it. Here, messages above the
//! limit are thrown away, and they and malformed ones give way to a call that is answered with the
//! error.

use std::io;
use std::task::Context;

use tokio::io::ReadBuf;

use super::envelope;
use super::frames::{self, Frames, Piece};
use super::link::Link;
use super::room::Held;
use crate::Error;

/// Bytes made ready at once.
const READY: usize = 8 << 10;
const PONG: u8 = 10;

/// What clients have sent, on its way to jsonrpsee.
#[derive(Debug)]
pub(super) struct Intake {
    frames: Frames,
    /// For the message that is being read.
    held: Held,
    /// There was no room for it.
    crowded: bool,
    /// Read and not looked at, from `taken` on.
    input: Vec<u8>,
    taken: usize,
    /// Checked and not handed on, from `given` on.
    ready: Vec<u8>,
    given: usize,
}

impl Intake {
    pub(super) fn new(link: &Link) -> Self {
        let limit = link.shared.sizes.largest();
        Self {
            frames: Frames::new(usize::try_from(limit).unwrap_or(usize::MAX)),
            held: link.shared.room.begin(),
            crowded: false,
            input: Vec::new(),
            taken: 0,
            ready: Vec::new(),
            given: 0,
        }
    }

    /// Whether there is something to be handed on.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes what has been read.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Makes a sign of life.
    pub(super) fn pong(&mut self) {
        frames::put(&mut self.ready, PONG, &[]);
    }

    /// Looks at what has been read; answers whether there is too much under way to go on.
    ///
    /// # Errors
    /// When it is not what a client may send.
    pub(super) fn check(&mut self, link: &Link, cx: &Context<'_>) -> io::Result<bool> {
        let most = link.shared.app.config.max_in_flight;
        let mut full = link.flow.is_full(most, cx.waker());
        while !full && self.ready.len() < READY {
            let mut rest = self.input.get(self.taken..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if !self.held.grow(self.frames.held().saturating_add(rest.len())) {
                self.frames.give_up();
                self.held = link.shared.room.begin();
                self.crowded = true;
            }
            let piece = self.frames.next(&mut rest);
            self.taken = self.input.len() - rest.len();
            if let Some(piece) = piece? {
                self.pass(link, &piece);
                full = link.flow.is_full(most, cx.waker());
            }
        }
        if self.taken == self.input.len() {
            // An idle connection keeps no buffer.
            (self.input, self.taken) = (Vec::new(), 0);
        }
        Ok(full)
    }

    fn pass(&mut self, link: &Link, piece: &Piece) {
        let config = &link.shared.app.config;
        let message = match piece {
            Piece::Control(opcode, payload) => {
                return frames::put(&mut self.ready, *opcode, payload);
            }
            // What has not been begun before a stop is not begun any more.
            _ if *link.shared.app.stopping.borrow() => return,
            Piece::Message(message) if link.shared.sizes.admit(message) => {
                envelope::admitted(message, config.max_batch)
            }
            Piece::TooLarge if self.crowded => {
                let error = Error::Unavailable("too much is being sent at once; try again");
                envelope::refusal("null", &error.into()).into_bytes().into()
            }
            Piece::Message(_) | Piece::TooLarge => {
                let error = link.shared.sizes.refusal("bytes in a message");
                envelope::refusal("null", &error.into()).into_bytes().into()
            }
        };
        link.flow.begin();
        self.crowded = false;
        link.flow.keep(std::mem::replace(&mut self.held, link.shared.room.begin()));
        frames::put_text(&mut self.ready, &message);
    }

    /// Hands on as much as is asked for.
    pub(super) fn give(&mut self, out: &mut ReadBuf<'_>) {
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let now = rest.get(..out.remaining()).unwrap_or(rest);
        out.put_slice(now);
        self.given += now.len();
        if self.given == self.ready.len() {
            (self.ready, self.given) = (Vec::new(), 0);
        }
    }
}
