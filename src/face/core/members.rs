//! Reading the rows of many jobs of one caller, such as those of a flow.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use minicbor::{Decode, Encode};

use crate::model::Triple;
use crate::store::{Row, Store, TASKS, Table};
use crate::{Error, Result};

/// Ids per job beyond which reading one by one beats walking over those in between.
const SPREAD: u64 = 4;

/// The jobs of a list: ascending, each once.
pub(super) fn distinct(ids: &[u32]) -> Vec<u32> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Jobs of which reading half beside the other half pays.
const MANY: usize = 16_384;

/// Reads the jobs of a long list on two threads, a half on each; what they read, in order.
///
/// # Errors
/// The first error in that order.
pub(super) fn in_parts<T: Send>(
    ids: &[u32],
    read: impl Fn(&[u32]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if ids.len() < MANY {
        return Ok(vec![read(ids)?]);
    }
    let (first, second) = ids.split_at(ids.len() / 2);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| read(second));
        let first = read(first);
        let second = second.join().unwrap_or_else(|_| Err(Error::Bug("a read broke off".into())));
        Ok(vec![first?, second?])
    })
}

/// Hands the row of each job to `visit`, ascending, until it breaks; `ids` ascend and are
/// distinct.
///
/// Ids that lie close together are read in one walk, others one by one.
pub(super) fn each<V: Row>(
    store: &Store,
    table: Table<Triple, V>,
    (context, caller): (u32, u32),
    ids: &[u32],
    mut visit: impl FnMut(u32, Option<V>) -> ControlFlow<()>,
) -> Result<()> {
    let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return Ok(()) };
    let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let walk = u64::from(last - first) <= count.saturating_mul(SPREAD);
    if !walk {
        for &id in ids {
            if visit(id, store.get(table, &(context, caller, id))?).is_break() {
                break;
            }
        }
        return Ok(());
    }
    let mut wanted = ids.iter().copied().peekable();
    let mut broken = false;
    let after = first.checked_sub(1).map(|before| (context, caller, before));
    store.scan(table, &(context, caller), after.as_ref(), |(_, _, id), row| {
        while let Some(missing) = wanted.next_if(|next| *next < id) {
            if visit(missing, None).is_break() {
                broken = true;
                return ControlFlow::Break(());
            }
        }
        if wanted.next_if_eq(&id).is_some() && visit(id, Some(row)).is_break() {
            broken = true;
            return ControlFlow::Break(());
        }
        if wanted.peek().is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if !broken {
        for missing in wanted {
            if visit(missing, None).is_break() {
                break;
            }
        }
    }
    Ok(())
}

/// What a task left.
#[derive(Debug, Encode, Decode)]
struct Left {
    #[n(7)]
    result: Option<String>,
}

/// The results of the jobs, under `<job id>.<key>`.
pub(super) fn results(
    store: &Store,
    group: (u32, u32),
    ids: &[u32],
) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    each(store, TASKS.part::<Left>(), group, ids, |id, row| {
        let text = row.and_then(|row| row.result).unwrap_or_default();
        let left: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        all.extend(left.into_iter().map(|(key, value)| (format!("{id}.{key}"), value)));
        ControlFlow::Continue(())
    })?;
    Ok(all)
}
