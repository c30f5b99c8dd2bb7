//! A position in the event log that moves on with each commit.

use std::sync::Arc;

use tokio::sync::watch;

use super::log::Tip;
use super::{Logged, Store};
use crate::Error;

/// Events read at once.
const PAGE: usize = 256;

/// A position in the event log.
#[derive(Debug)]
pub struct Follower {
    store: Arc<Store>,
    tip: watch::Receiver<Tip>,
    since: u64,
}

/// What a follower finds next.
#[derive(Debug)]
pub enum Next {
    /// Events, in order, at least one.
    Events(Vec<Arc<Logged>>),
    /// Its position has fallen out of the log.
    Lagged,
    /// The store was closed.
    Closed,
}

impl Follower {
    pub(super) const fn new(store: Arc<Store>, tip: watch::Receiver<Tip>, since: u64) -> Self {
        Self { store, tip, since }
    }

    /// Waits for the next page of events.
    ///
    /// A follower is a cursor that is woken by each commit: it misses nothing, sees nothing twice,
    /// and costs no memory while it is slow. Cancel safe.
    pub async fn next(&mut self) -> Next {
        loop {
            let (latest, newest, closed) = {
                let tip = self.tip.borrow_and_update();
                let newest = tip.newest.as_ref().filter(|event| event.seq == self.since + 1);
                (tip.latest, newest.cloned(), tip.closed)
            };
            // Most of the time there is one event, and then nothing new after what was just sent.
            let page = match newest {
                Some(event) => Ok(vec![event]),
                None if latest == self.since => Ok(Vec::new()),
                None => match self.store.core.log.recent(self.since, PAGE) {
                    Ok(Some(page)) => Ok(page),
                    Ok(None) => self.read().await,
                    Err(err) => Err(err),
                },
            };
            match page {
                Ok(page) => {
                    if let Some(last) = page.last() {
                        self.since = last.seq;
                        return Next::Events(page);
                    }
                }
                Err(Error::Gone { .. }) => return Next::Lagged,
                Err(err) => {
                    tracing::error!(%err, since = self.since, "the event log cannot be read");
                    return Next::Lagged;
                }
            }
            if closed || self.tip.changed().await.is_err() {
                return Next::Closed;
            }
        }
    }

    /// What is no longer in memory comes from disk, off the threads that serve others.
    async fn read(&self) -> Result<Vec<Arc<Logged>>, Error> {
        let (store, since) = (Arc::clone(&self.store), self.since);
        let read = tokio::task::spawn_blocking(move || store.events(since, PAGE)).await;
        read.map_err(|err| Error::Bug(format!("reading the event log: {err}")))?
    }

    /// The number of the last event it has passed.
    pub const fn position(&self) -> u64 {
        self.since
    }
}
