//! How much of what clients send is held at once, all of them together: nobody needs to be known to
//! begin a large message, and many of them that never end would take all the memory there is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that every message may have: they are bounded by the number of connections.
const FREE: usize = 64 << 10;
/// Bytes of a permit.
const UNIT: usize = 64 << 10;

/// Room for messages that are larger than most.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes).unwrap_or(usize::MAX) / UNIT;
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// For a message that is about to come.
    pub(super) fn begin(&self) -> Held {
        Held { room: Arc::clone(&self.0), permit: None }
    }
}

/// What one message takes, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Whether the message may have so many bytes by now.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE).div_ceil(UNIT);
        let Some(more) = wanted.checked_sub(self.units()).filter(|more| *more > 0) else {
            return true;
        };
        let more = u32::try_from(more).ok();
        let more = more.and_then(|more| Arc::clone(&self.room).try_acquire_many_owned(more).ok());
        match (&mut self.permit, more) {
            (_, None) => return false,
            (Some(permit), Some(more)) => permit.merge(more),
            (permit, more) => *permit = more,
        }
        true
    }

    /// Bytes that are taken off the room.
    pub(super) fn bytes(&self) -> usize {
        self.units().saturating_mul(UNIT)
    }

    fn units(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_always_have_room_and_large_ones_while_there_is_some() {
        let room = Room::new(4 << 16);
        let (mut first, mut second) = (room.begin(), room.begin());
        assert!(first.grow(FREE) && first.bytes() == 0);
        assert!(first.grow(FREE + 1) && first.grow(FREE + 3 * UNIT));
        assert_eq!(first.bytes(), 3 * UNIT);
        assert!(second.grow(FREE + UNIT) && !second.grow(FREE + UNIT + 1));
        assert!(room.begin().grow(FREE) && !room.begin().grow(FREE + 1));
        drop(first);
        assert!(second.grow(FREE + 4 * UNIT), "what it had is kept when it had to wait");
    }
}
