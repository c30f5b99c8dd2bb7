//! Events: what is told to subscribers, and the filters they choose by.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::Millis;

/// One event of the durable log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// When it was committed.
    pub at: Millis,
    /// What the change is called, such as `job.status`.
    pub kind: Cow<'static, str>,
    /// The tenant it belongs to.
    pub context_id: Option<u32>,
    /// What it is about, as a path such as `job/1/42/3`.
    pub subject: String,
    /// The subject of the group that this is part of, such as `flow/1/7`; not on the wire.
    pub group: Option<String>,
    /// What happened, as JSON text.
    pub data: String,
    /// On whose behalf it happened; none for what the coordinator does by itself. Not on the wire:
    /// only the audit shows it.
    pub by: Option<Arc<By>>,
}

/// What events of the audit alone begin with; only the audit shows them.
pub const AUDIT: &str = "audit.";

/// Who did something, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// The caller, as a path: `operator`, `actor/7`, `runner/1/3` or `anonymous`.
    pub who: Arc<str>,
    /// What proved it, such as `session` or `token ci`; empty when nothing did.
    pub with: Arc<str>,
    /// The address it came from; none for calls from inside.
    pub from: Option<IpAddr>,
    /// The method.
    pub method: Cow<'static, str>,
}

impl Event {
    /// The event as clients see it, as JSON text.
    pub fn to_json(&self) -> String {
        use std::fmt::Write;
        let mut out = String::with_capacity(self.data.len() + self.subject.len() + 96);
        let kind = quoted(&self.kind);
        let _ = write!(out, r#"{{"seq":{},"at":{},"kind":{kind}"#, self.seq, self.at);
        if let Some(context) = self.context_id {
            let _ = write!(out, r#","context_id":{context}"#);
        }
        let _ = write!(out, r#","subject":{},"data":{}}}"#, quoted(&self.subject), self.data);
        out
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Which events a subscriber wants; a field left out lets all pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this tenant's.
    pub context_id: Option<u32>,
    /// Only these kinds, exactly or by a prefix that ends in `*`.
    pub kinds: Option<Arc<[String]>>,
    /// Only this subject and what lies below it.
    pub subject: Option<String>,
    /// Also events whose group is `subject`.
    pub with_group: bool,
    /// Also events of the audit.
    pub with_audit: bool,
}

impl Filter {
    /// Whether the event passes.
    pub fn admits(&self, event: &Event) -> bool {
        let context = self.context_id.is_none_or(|wanted| event.context_id == Some(wanted));
        context
            && (self.with_audit || !event.kind.starts_with(AUDIT))
            && self
                .kinds
                .as_ref()
                .is_none_or(|kinds| kinds.iter().any(|k| kind_fits(k, &event.kind)))
            && self.subject.as_ref().is_none_or(|wanted| {
                lies_below(wanted, &event.subject)
                    || (self.with_group && event.group.as_ref() == Some(wanted))
            })
    }
}

fn kind_fits(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |prefix| kind.starts_with(prefix))
}

fn lies_below(parent: &str, subject: &str) -> bool {
    subject.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            seq: 7,
            at: 5,
            kind: "job.status".into(),
            context_id: Some(1),
            subject: "job/1/42/3".into(),
            group: Some("flow/1/9".into()),
            data: r#"{"to":"Finished"}"#.into(),
            by: Some(Arc::new(By {
                who: "actor/7".into(),
                with: "session".into(),
                from: None,
                method: "runner.report".into(),
            })),
        }
    }

    #[test]
    fn json_has_the_wire_members_in_order_and_not_who_did_it() {
        assert_eq!(
            event().to_json(),
            r#"{"seq":7,"at":5,"kind":"job.status","context_id":1,"subject":"job/1/42/3","data":{"to":"Finished"}}"#
        );
    }

    #[test]
    fn a_filter_admits_what_it_names() {
        let subject = |s: &str| Filter { subject: Some(s.into()), ..Filter::default() };
        assert!(Filter::default().admits(&event()));
        assert!(subject("job/1/42").admits(&event()));
        assert!(subject("job/1/42/3").admits(&event()));
        assert!(!subject("job/1/4").admits(&event()));
        assert!(!subject("flow/1/9").admits(&event()));
        assert!(Filter { with_group: true, ..subject("flow/1/9") }.admits(&event()));
        let kinds = |k: &str| Filter { kinds: Some(Arc::from([k.into()])), ..Filter::default() };
        assert!(kinds("job.*").admits(&event()));
        assert!(kinds("job.status").admits(&event()));
        assert!(!kinds("job").admits(&event()));
        assert!(!Filter { context_id: Some(2), ..Filter::default() }.admits(&event()));
        let refused = Event { kind: "audit.refused".into(), ..event() };
        assert!(!Filter::default().admits(&refused));
        assert!(!kinds("audit.*").admits(&refused));
        assert!(Filter { with_audit: true, ..Filter::default() }.admits(&refused));
    }
}
