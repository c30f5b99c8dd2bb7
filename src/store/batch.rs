//! What is committed: one batch of changed rows and events, and its bytes in the journal.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_json::value::RawValue;

use super::KeyBytes;
use crate::model::event::{By, Event};

/// A stored value: its first byte says whether the rest is the value or a reference to a file.
pub(super) type Value = Arc<[u8]>;

/// Changed rows; `None` removes.
pub(super) type Changes = BTreeMap<KeyBytes, Option<Value>>;

/// A committed event. Its JSON is rendered once, however many subscribers get it.
#[derive(Debug)]
pub struct Logged {
    event: Event,
    json: OnceLock<Box<RawValue>>,
}

impl Logged {
    pub(super) const fn new(event: Event) -> Self {
        Self { event, json: OnceLock::new() }
    }

    /// The event as clients see it; `.get()` is the text.
    pub fn raw(&self) -> &RawValue {
        self.json.get_or_init(|| {
            RawValue::from_string(self.event.to_json()).unwrap_or_else(|err| {
                tracing::error!(seq = self.event.seq, %err, "an event's data is not JSON");
                RawValue::NULL.to_owned()
            })
        })
    }

    /// Memory it takes, about.
    pub(super) fn weight(&self) -> usize {
        let event = &self.event;
        let group = event.group.as_ref().map_or(0, String::len);
        256 + event.kind.len() + event.subject.len() + group + 2 * event.data.len()
    }
}

impl Deref for Logged {
    type Target = Event;
    fn deref(&self) -> &Event {
        &self.event
    }
}

/// How far a journal, or a state, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the last batch, from 1; 0 when there is none.
    pub number: u64,
    /// Number of the last event, from 1; 0 when there is none.
    pub seq: u64,
}

/// One atomic change: rows and events that become durable together or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number: one more than that of the batch before it.
    pub number: u64,
    /// The number of the last event before it.
    pub seq_before: u64,
    /// Its events, numbered on from `seq_before`.
    pub events: Vec<Arc<Logged>>,
    pub(super) changes: Arc<Changes>,
    /// Whether a value among them is to become a file of its own.
    pub(super) large: bool,
}

impl Batch {
    /// Where a journal is once it holds this.
    pub fn position(&self) -> Position {
        let count = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        Position { number: self.number, seq: self.seq_before.saturating_add(count) }
    }

    /// Appends its bytes: numbers, counts, events, changes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.number, self.seq_before] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_count(out, self.events.len());
        put_count(out, self.changes.len());
        let mut before: Option<&Arc<By>> = None;
        for event in &self.events {
            put_event(out, event, before);
            before = event.by.as_ref().or(before);
        }
        for (key, value) in &*self.changes {
            put_bytes(out, key.as_slice());
            match value {
                Some(value) => {
                    put_count(out, value.len().saturating_add(1));
                    out.extend_from_slice(value);
                }
                None => put_count(out, 0),
            }
        }
    }

    /// Reads what [`Batch::encode`] wrote; `None` when it is not that.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (number, seq_before) = (take_u64(bytes)?, take_u64(bytes)?);
        let (events, changes) = (take_count(bytes)?, take_count(bytes)?);
        let mut batch = Self::decode_events(bytes, number, seq_before, events)?;
        let mut rows = Changes::new();
        for _ in 0..changes {
            let key = KeyBytes::from(take_bytes(bytes)?);
            let value = match take_count(bytes)? {
                0 => None,
                length => Some(Arc::from(take(bytes, length - 1)?)),
            };
            rows.insert(key, value);
        }
        batch.changes = Arc::new(rows);
        Some(batch)
    }

    /// The same without the changes, for readers of the event log.
    pub(super) fn decode_log(bytes: &mut &[u8]) -> Option<Self> {
        let (number, seq_before) = (take_u64(bytes)?, take_u64(bytes)?);
        let (events, _) = (take_count(bytes)?, take_count(bytes)?);
        Self::decode_events(bytes, number, seq_before, events)
    }

    fn decode_events(
        bytes: &mut &[u8],
        number: u64,
        seq_before: u64,
        count: usize,
    ) -> Option<Self> {
        let mut events = Vec::with_capacity(count.min(1_024));
        let (mut seq, mut before) = (seq_before, None);
        for _ in 0..count {
            seq = seq.checked_add(1)?;
            let event = take_event(bytes, seq, before.as_ref())?;
            before = event.by.clone().or(before);
            events.push(Arc::new(Logged::new(event)));
        }
        Some(Self { number, seq_before, events, changes: Arc::default(), large: false })
    }
}

/// What an event has besides what every one has.
const CONTEXT: u8 = 1;
const GROUP: u8 = 2;
const BY: u8 = 4;
/// It was done by whoever did the one before it in the batch: most have company.
const BY_SAME: u8 = 8;

fn put_event(out: &mut Vec<u8>, event: &Event, before: Option<&Arc<By>>) {
    out.extend_from_slice(&event.at.to_le_bytes());
    let by = match &event.by {
        None => 0,
        Some(by) if before.is_some_and(|before| Arc::ptr_eq(by, before) || by == before) => BY_SAME,
        Some(_) => BY,
    };
    let context = if event.context_id.is_some() { CONTEXT } else { 0 };
    let group = if event.group.is_some() { GROUP } else { 0 };
    out.push(context | group | by);
    if let Some(context) = event.context_id {
        out.extend_from_slice(&context.to_le_bytes());
    }
    let group = event.group.as_deref();
    let texts = [Some(&*event.kind), Some(&event.subject), group, Some(&event.data)];
    for text in texts.into_iter().flatten() {
        put_bytes(out, text.as_bytes());
    }
    if let (Some(done), BY) = (&event.by, by) {
        let from = done.from.map(|from| from.to_string()).unwrap_or_default();
        for text in [&*done.who, &*done.with, &from, &*done.method] {
            put_bytes(out, text.as_bytes());
        }
    }
}

fn take_event(bytes: &mut &[u8], seq: u64, before: Option<&Arc<By>>) -> Option<Event> {
    let at = take_u64(bytes)?;
    let flags = *take(bytes, 1)?.first()?;
    let context_id = match flags & CONTEXT {
        0 => None,
        _ => Some(u32::from_le_bytes(*take(bytes, 4)?.first_chunk()?)),
    };
    let kind = take_text(bytes)?.into();
    let subject = take_text(bytes)?;
    let group = match flags & GROUP {
        0 => None,
        _ => Some(take_text(bytes)?),
    };
    let data = take_text(bytes)?;
    let by = match flags & (BY | BY_SAME) {
        0 => None,
        BY => Some(Arc::new(take_by(bytes)?)),
        _ => Some(Arc::clone(before?)),
    };
    Some(Event { seq, at, kind, context_id, subject, group, data, by })
}

fn take_by(bytes: &mut &[u8]) -> Option<By> {
    let (who, with) = (take_text(bytes)?.into(), take_text(bytes)?.into());
    let from = match take_text(bytes)?.as_str() {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(By { who, with, from, method: take_text(bytes)?.into() })
}

/// Appends a number in as few bytes as it needs, seven bits in each.
pub(super) fn put_count(out: &mut Vec<u8>, mut count: usize) {
    loop {
        let low = u8::try_from(count & 0x7f).unwrap_or_default();
        count >>= 7;
        if count == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    let mut count = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        count |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(super) fn take_bytes<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = take_count(bytes)?;
    take(bytes, length)
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes, 8)?.first_chunk().copied().map(u64::from_le_bytes)
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    std::str::from_utf8(take_bytes(bytes)?).ok().map(str::to_owned)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by() -> impl Strategy<Value = Arc<By>> {
        ("[a-z]{0,2}", any::<Option<std::net::IpAddr>>()).prop_map(|(who, from)| {
            let (with, method) = ("token ci".into(), "job.create".into());
            Arc::new(By { who: who.into(), with, from, method })
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let group = prop::option::of("[a-z/]{0,200}");
        let by = prop::option::of(by());
        (any::<u64>(), ".{0,9}", any::<Option<u32>>(), ".{0,200}", group, ".{0,300}", by).prop_map(
            |(at, kind, context_id, subject, group, data, by)| Event {
                seq: 0,
                at,
                kind: kind.into(),
                context_id,
                subject,
                group,
                data,
                by,
            },
        )
    }

    #[test]
    fn events_that_were_written_before_they_said_who_are_read() {
        let mut bytes = 5_u64.to_le_bytes().to_vec();
        bytes.push(CONTEXT);
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        for text in ["job.created", "job/1/2/3", "{}"] {
            put_bytes(&mut bytes, text.as_bytes());
        }
        let mut rest = bytes.as_slice();
        let event = take_event(&mut rest, 9, None).unwrap();
        assert!(rest.is_empty() && event.by.is_none());
        assert_eq!((event.seq, event.subject.as_str(), &*event.data), (9, "job/1/2/3", "{}"));
    }

    #[test]
    fn who_did_it_is_written_once_for_what_was_done_at_once() {
        let by = By { who: "actor/7".into(), with: "".into(), from: None, method: "a.b".into() };
        let event = |seq| Event {
            seq,
            at: 0,
            kind: "k".into(),
            context_id: None,
            subject: String::new(),
            group: None,
            data: String::new(),
            by: Some(Arc::new(by.clone())),
        };
        let (mut first, mut second) = (vec![], vec![]);
        put_event(&mut first, &event(1), None);
        put_event(&mut second, &event(2), event(1).by.as_ref());
        assert_eq!(first.len() - second.len(), 4 + "actor/7".len() + "a.b".len());
    }

    proptest! {
        #[test]
        fn a_batch_survives_its_bytes_and_a_prefix_of_them_is_refused(
            events in prop::collection::vec(event(), 0..4),
            rows in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 0..40),
                prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
                0..6,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let events = (8..).zip(events).map(|(seq, e)| Arc::new(Logged::new(Event { seq, ..e })));
            let changes: Changes =
                rows.into_iter().map(|(k, v)| (KeyBytes::from(&*k), v.map(Arc::from))).collect();
            let batch =
                Batch { number: 3, seq_before: 7, events: events.collect(), changes: Arc::new(changes), large: false };
            let mut bytes = vec![];
            batch.encode(&mut bytes);
            let back = Batch::decode(&mut bytes.as_slice()).unwrap();
            prop_assert_eq!(&back.changes, &batch.changes);
            prop_assert_eq!(back.position(), batch.position());
            for (left, right) in back.events.iter().zip(&batch.events) {
                prop_assert_eq!(&left.event, &right.event);
            }
            prop_assert!(Batch::decode(&mut &bytes[..cut.index(bytes.len())]).is_none());
        }
    }
}
