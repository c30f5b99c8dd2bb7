//! Pages of what was accepted, in that order.

use crate::Result;
use crate::app::App;
use crate::face::adv::Cursor;
use crate::face::adv::list::{Limit, Place};
use crate::face::core::aside::Rendered;
use crate::store::DIRECTORY;

/// Rows that are read at once: at most so many texts are held that are not sent.
const AT_ONCE: usize = 32;

/// Which page is wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The row of [`DIRECTORY`] that counts what the feed has.
    pub(super) counts: u8,
    pub(super) since: Option<&'a str>,
    pub(super) limit: Option<Limit>,
}

/// Makes a page: `rows` reads so many of them after a position, `show` renders those that belong
/// in the page.
///
/// It is empty if and only if there is nothing more.
pub(super) fn page<T, P>(
    app: &App,
    wanted: &Wanted<'_>,
    rows: impl Fn(u64, usize) -> Result<Vec<(u64, T)>>,
    mut show: impl FnMut(T) -> Result<Option<String>>,
) -> Result<Rendered<P>> {
    let rules = &app.config.directory;
    let counts = app.store.get(DIRECTORY, &wanted.counts)?.unwrap_or_default();
    let place = Place::of(wanted.since, &counts).map_err(|refused| refused.error(None))?;
    let limit = Limit::within(wanted.limit, rules.page).map_err(|refused| refused.error(None))?;
    let most = usize::try_from(rules.page_bytes).unwrap_or(usize::MAX);
    let (mut items, mut after, mut left) = (String::new(), place.position, limit);
    // Reads are no snapshot: what came after the count was read is for the next page.
    'full: while after < counts.position {
        let more = rows(after, AT_ONCE)?;
        let ended = more.len() < AT_ONCE;
        for (position, row) in more {
            if position > counts.position {
                after = counts.position;
                break 'full;
            }
            if let Some(text) = show(row)? {
                if !items.is_empty() && items.len() + text.len() > most {
                    break 'full;
                }
                if !items.is_empty() {
                    items.push(',');
                }
                items.push_str(&text);
                left -= 1;
            }
            after = position;
            if left == 0 {
                break 'full;
            }
        }
        if ended {
            after = counts.position;
        }
    }
    let next = Cursor { born: counts.born, position: after };
    let reset = if place.reset { r#","reset":true"# } else { "" };
    Rendered::of_text(format!(
        r#"{{"items":[{items}],"next":"{next}","max-items":{limit}{reset}}}"#
    ))
}
