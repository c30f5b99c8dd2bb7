//! What a WebSocket has yet to write: frames that come one after another leave together.
//!
//! jsonrpsee writes and flushes frame by frame, which costs a system call each, and that is most of
//! what a notification costs. So a flush leaves the bytes to the task that reads the socket, which
//! writes them when its thread has nothing else to do: by then everything that was ready to be
//! sent has been added.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::task::yield_now;

/// Bytes that may wait; more are written before anything is added.
const MOST: usize = 64 << 10;
/// Space that is kept for the next frames.
const KEPT: usize = 4 << 10;

/// Bytes on their way out, and who is to write them.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// Of these have been written already.
    written: usize,
    /// Some have been written, but may not have left.
    unflushed: bool,
    /// The task that reads, while it waits for something to read.
    reader: Option<Waker>,
    /// It has been called and has not come yet.
    called: bool,
    /// The task that writes, while it waits for room: the socket remembers only who came last.
    writer: Option<Waker>,
    /// Runs until its thread has nothing else to do.
    idle: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Whether everything has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    /// Everything that was written has left.
    pub(super) fn flushed(&mut self) {
        self.unflushed = false;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Whether so many bytes may be added.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.is_empty() || self.bytes.len() + bytes <= MOST
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is still to be written.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// So many bytes of it have been.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        self.unflushed = true;
        if self.is_empty() {
            self.written = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        }
    }

    /// The task that writes waits for room.
    pub(super) fn wait_for_room(&mut self, cx: &Context<'_>) {
        self.writer = Some(cx.waker().clone());
    }

    /// Leaves it to the task that reads; answers whether that will see to it.
    pub(super) fn hand_over(&mut self) -> bool {
        if let Some(reader) = self.reader.take() {
            self.called = true;
            reader.wake();
        }
        self.called
    }

    /// In the task that reads: whether now is the time to write.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_flushed() {
            self.called = false;
            self.idle = None;
            return false;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(yield_now()));
        let due = idle.as_mut().poll(cx).is_ready();
        if due {
            self.called = false;
            self.idle = None;
        }
        due
    }

    /// The task that reads has nothing to do: it can be called.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self.called && self.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("rest", &self.rest().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_written_once_and_in_order() {
        let mut outgoing = Outgoing::default();
        outgoing.add(b"ab");
        outgoing.add(b"cd");
        outgoing.wrote(3);
        assert_eq!(outgoing.rest(), b"d");
        outgoing.add(b"e");
        outgoing.wrote(2);
        assert!(outgoing.is_empty() && outgoing.rest().is_empty());
    }

    #[test]
    fn only_so_much_waits_but_one_frame_may_be_larger() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.has_room(MOST * 2));
        outgoing.add(b"a");
        assert!(outgoing.has_room(MOST - 1) && !outgoing.has_room(MOST));
    }

    #[tokio::test]
    async fn nobody_sees_to_it_while_no_reader_waits() {
        let mut outgoing = Outgoing::default();
        outgoing.add(b"a");
        assert!(!outgoing.hand_over());
        std::future::poll_fn(|cx| {
            outgoing.wait(cx);
            assert!(outgoing.hand_over() && outgoing.hand_over());
            std::task::Poll::Ready(())
        })
        .await;
        std::future::poll_fn(|cx| match outgoing.is_due(cx) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
        assert!(!outgoing.hand_over());
    }
}
