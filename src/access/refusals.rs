//! Those who were refused, for the audit: few events, however many there are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use crate::Code;
use crate::app::App;
use crate::engine::Turn;
use crate::model::event::By;
use crate::store::Draft;

/// What the event of a refusal is called.
pub const REFUSED: &str = "audit.refused";
/// Refusals of different kinds that are told at once; more are counted.
const AT_ONCE: usize = 8;
/// Between two times; twice as long each time while there are more than can be told.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Those who were refused and have not been told of.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Waiting>);

/// Who, why, and how often.
type Counted = (By, Code, u64);

#[derive(Debug, Default)]
struct Waiting {
    kinds: Vec<Counted>,
    omitted: u64,
    /// Somebody is about to tell.
    telling: bool,
}

impl Waiting {
    /// Whether somebody must be sent to tell.
    fn add(&mut self, by: By, code: Code) -> bool {
        let full = self.kinds.len() >= AT_ONCE;
        let known = self.kinds.iter_mut().find(|known| known.0 == by && known.1 == code);
        match known {
            Some((_, _, count)) => *count = count.saturating_add(1),
            None if full => self.omitted = self.omitted.saturating_add(1),
            None => self.kinds.push((by, code, 1)),
        }
        !std::mem::replace(&mut self.telling, true)
    }

    fn take(&mut self) -> Option<(Vec<Counted>, u64)> {
        let (kinds, omitted) = (std::mem::take(&mut self.kinds), std::mem::take(&mut self.omitted));
        self.telling = !kinds.is_empty();
        self.telling.then_some((kinds, omitted))
    }
}

impl Refusals {
    /// Takes note of a refusal. Does not wait; call it inside a runtime.
    pub fn note(app: &Arc<App>, by: By, code: Code) {
        if app.keeper.refusals.0.lock().add(by, code) {
            tokio::spawn(tell(Arc::downgrade(app)));
        }
    }
}

/// Tells of refusals until there are none.
async fn tell(app: Weak<App>) {
    let mut pause = PAUSE.0;
    loop {
        {
            let Some(app) = app.upgrade() else { return };
            let Some((kinds, omitted)) = app.keeper.refusals.0.lock().take() else { return };
            let many = omitted > 0 || kinds.iter().any(|(_, _, count)| *count > 1);
            pause = if many { (pause * 2).min(PAUSE.1) } else { PAUSE.0 };
            let change = move |turn: &mut Turn<'_>| {
                let mut omitted = Some(omitted).filter(|omitted| *omitted > 0);
                for (by, code, count) in kinds {
                    let mut data = json!({
                        "code": code.number(), "message": code.message(), "count": count,
                    });
                    if let (Some(members), Some(omitted)) = (data.as_object_mut(), omitted.take()) {
                        members.insert("omitted".to_owned(), omitted.into());
                    }
                    let subject = format!("method/{}", by.method);
                    turn.act_for(Some(Arc::new(by)));
                    let (context_id, group) = (None, None);
                    let data = data.to_string();
                    turn.emit(Draft { kind: REFUSED, context_id, subject, group, data });
                }
                Ok(())
            };
            if let Err(err) = app.engine.change(change).await {
                tracing::warn!(error = %err, "refusals could not be recorded");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusals_are_one_and_too_many_are_counted() {
        let by = |who: &str| By {
            who: who.into(),
            with: "".into(),
            from: None,
            method: "job.load".into(),
        };
        let mut waiting = Waiting::default();
        assert!(waiting.add(by("actor/1"), Code::Forbidden));
        for _ in 0..2 {
            assert!(!waiting.add(by("actor/1"), Code::Forbidden));
        }
        for id in 0..10 {
            waiting.add(by(&format!("actor/{id}")), Code::Unauthenticated);
        }
        let (kinds, omitted) = waiting.take().unwrap();
        assert_eq!((kinds.len(), kinds[0].2, omitted), (AT_ONCE, 3, 3));
        assert!(waiting.take().is_none());
        assert!(waiting.add(by("actor/1"), Code::Forbidden), "someone must be sent again");
    }
}
