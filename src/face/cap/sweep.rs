//! Removes registrations whose passports have expired, a little at a time.

use super::registration::forget;
use crate::Result;
use crate::app::App;
use crate::engine::Turn;
use crate::store::{CAPABILITIES, OFFERS_DUE};

/// Registrations that are looked at in one turn of the engine.
const AT_ONCE: usize = 256;

/// Whether something has expired.
pub(in crate::face) fn is_due(app: &App) -> bool {
    let first = app.store.page(OFFERS_DUE, &(), None, 1);
    first.is_ok_and(|page| page.first().is_some_and(|((due, ..), ())| *due <= (app.now)()))
}

/// Removes some of what has expired; how many registrations that were.
pub(in crate::face) fn turn(turn: &mut Turn<'_>) -> Result<usize> {
    let mut done = 0;
    for ((due, node, id), ()) in turn.page(OFFERS_DUE, &(), None, AT_ONCE)? {
        if due > turn.now {
            break;
        }
        done += 1;
        let key = (node, id);
        match turn.get(CAPABILITIES, &key)? {
            Some(row) => forget(turn, &key, &row)?,
            None => turn.remove(OFFERS_DUE, &(due, key.0, key.1)),
        }
    }
    Ok(done)
}
