//! Events rendered once for all who are told about them.

use std::sync::Arc;

use parking_lot::Mutex;

use super::event::Event;

/// How many of the latest renderings are kept.
const SLOTS: u64 = 256;
/// Larger renderings are not kept, bytes: with the number of slots it bounds the memory.
const LARGEST: usize = 16 << 10;

/// JSON texts of recent events, by position in the log.
///
/// Thousands of subscribers that are told of the same event share one text.
#[derive(Debug)]
pub struct Renderings(Box<[Mutex<Slot>]>);

/// The rendering of the event at a position.
type Slot = Option<(u64, Arc<str>)>;

impl Default for Renderings {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Mutex::default()).collect())
    }
}

impl Renderings {
    /// The event as clients see it.
    pub fn json(&self, event: &Event) -> Arc<str> {
        let slot = usize::try_from(event.seq % SLOTS).ok().and_then(|at| self.0.get(at));
        let Some(slot) = slot else { return event.to_json().into() };
        let mut kept = slot.lock();
        match &*kept {
            Some((seq, json)) if *seq == event.seq => Arc::clone(json),
            _ => {
                let json: Arc<str> = event.to_json().into();
                if json.len() <= LARGEST {
                    *kept = Some((event.seq, Arc::clone(&json)));
                }
                json
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, data: &str) -> Event {
        Event {
            seq,
            at: 0,
            kind: "job.created".into(),
            context_id: None,
            subject: "job/1/2/3".into(),
            group: None,
            data: data.into(),
        }
    }

    #[test]
    fn one_event_is_rendered_once() {
        let renderings = Renderings::default();
        let first = renderings.json(&event(1, "{}"));
        assert!(Arc::ptr_eq(&first, &renderings.json(&event(1, "{}"))));
        assert_eq!(&*first, event(1, "{}").to_json());
    }

    #[test]
    fn a_slot_is_never_mistaken_for_another_event() {
        let renderings = Renderings::default();
        renderings.json(&event(1, "{}"));
        let later = renderings.json(&event(1 + SLOTS, "[1]"));
        assert_eq!(&*later, event(1 + SLOTS, "[1]").to_json());
        let large = format!("\"{}\"", "x".repeat(LARGEST));
        assert_eq!(&*renderings.json(&event(2, &large)), event(2, &large).to_json());
        assert_eq!(&*renderings.json(&event(2, &large)), event(2, &large).to_json());
    }
}
