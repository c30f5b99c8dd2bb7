//! Lets few keystores be unlocked at once, beside the threads that serve connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keystore::Keystore;
use super::keystore_unlock;
use super::refuse;
use super::secret::Secret;
use crate::app::Cx;
use crate::model::address::Address;
use crate::{Error, Result};

/// Unlocks of one peer at a time (specification of the compute face, section 4.1).
const PER_PEER: usize = 4;
/// Calls of one peer that wait for that, or are at it.
const CALLS_PER_PEER: usize = 64;
/// Calls of all peers that do.
const CALLS: usize = 1_024;
/// Unlocks at a time: more than there are cores only get in each other's way.
const MOST: usize = 8;
/// Memory of all unlocks at a time, MiB; each may take 320.
const MEMORY: u32 = 640;

static GATE: LazyLock<Arc<Gate>> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(2, NonZero::get);
    Arc::new(Gate {
        calls: Mutex::default(),
        unlocks: Arc::new(Semaphore::new(cores.clamp(2, MOST))),
        memory: Arc::new(Semaphore::new(usize::try_from(MEMORY).unwrap_or(MOST))),
    })
});

/// Unlocks a keystore when it is its turn; none when it does not unlock.
///
/// `known` is asked again when the turn has come: another call with the same text may have been
/// there in the meantime.
///
/// # Errors
/// 429 when the peer has too many calls waiting already, or all peers together have.
pub(super) async fn unlock(
    cx: &Cx,
    keystore: Keystore,
    password: Secret,
    known: impl Fn() -> Option<Address>,
) -> Result<Option<Address>> {
    let pass = GATE.enter(cx.visitor.from(), keystore.memory()).await?;
    if let Some(address) = known() {
        return Ok(Some(address));
    }
    let done = tokio::task::spawn_blocking(move || {
        // The pass goes along: a caller who leaves does not make room while this still runs.
        let _pass = pass;
        keystore_unlock::unlock(&keystore, &password)
    });
    done.await.map_err(|err| Error::Bug(format!("unlocking broke off: {err}")))
}

/// Who counts as one peer: of IPv6 addresses everybody has 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Site {
    Inside,
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Site {
    fn of(peer: Option<IpAddr>) -> Self {
        match peer.map(|ip| ip.to_canonical()) {
            None => Self::Inside,
            Some(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            Some(IpAddr::V6(ip)) => Self::V6(ip.octets().first_chunk().copied().unwrap_or([0; 8])),
        }
    }
}

#[derive(Debug)]
struct Gate {
    calls: Mutex<Calls>,
    unlocks: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Calls {
    all: usize,
    sites: HashMap<Site, (usize, Arc<Semaphore>)>,
}

/// A place at the gate, whether waiting or past it.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    site: Site,
}

/// Leave to unlock one keystore.
#[derive(Debug)]
struct Pass {
    _permits: [OwnedSemaphorePermit; 3],
    _place: Place,
}

impl Gate {
    async fn enter(self: &Arc<Self>, peer: Option<IpAddr>, memory: u64) -> Result<Pass> {
        let (place, of_peer) = self.place(Site::of(peer))?;
        let stopping = |_| Error::Unavailable("stopping");
        // Whoever waits for the scarcer thing holds the less scarce one, never the reverse.
        let own = of_peer.acquire_owned().await.map_err(stopping)?;
        let megabytes = u32::try_from(memory >> 20).unwrap_or(MEMORY).clamp(1, MEMORY);
        let memory = Arc::clone(&self.memory).acquire_many_owned(megabytes);
        let memory = memory.await.map_err(stopping)?;
        let unlock = Arc::clone(&self.unlocks).acquire_owned().await.map_err(stopping)?;
        Ok(Pass { _permits: [own, memory, unlock], _place: place })
    }

    fn place(self: &Arc<Self>, site: Site) -> Result<(Place, Arc<Semaphore>)> {
        let mut calls = self.calls.lock();
        let waiting = calls.sites.get(&site).map_or(0, |(count, _)| *count);
        if waiting >= CALLS_PER_PEER || calls.all >= CALLS {
            return Err(refuse(429, "too many keystores are waiting to be unlocked; try again"));
        }
        calls.all += 1;
        let (count, permits) =
            calls.sites.entry(site).or_insert_with(|| (0, Arc::new(Semaphore::new(PER_PEER))));
        *count += 1;
        let permits = Arc::clone(permits);
        drop(calls);
        Ok((Place { gate: Arc::clone(self), site }, permits))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.gate.calls.lock();
        calls.all = calls.all.saturating_sub(1);
        if let Some((count, _)) = calls.sites.get_mut(&self.site) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                calls.sites.remove(&self.site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn gate(unlocks: usize) -> Arc<Gate> {
        Arc::new(Gate {
            calls: Mutex::default(),
            unlocks: Arc::new(Semaphore::new(unlocks)),
            memory: Arc::new(Semaphore::new(640)),
        })
    }

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn a_peer_unlocks_four_at_a_time_and_holds_nobody_else_up() {
        let gate = gate(100);
        let mut passes: Vec<Pass> =
            (0..4).map(|_| gate.enter(peer(1), 0).now_or_never().unwrap().unwrap()).collect();
        let mut fifth = Box::pin(gate.enter(peer(1), 0));
        assert!(fifth.as_mut().now_or_never().is_none());
        assert!(gate.enter(peer(2), 0).now_or_never().is_some());
        passes.pop();
        assert!(fifth.now_or_never().is_some());
        passes.clear();
        assert!(gate.calls.lock().sites.is_empty(), "nobody is remembered for nothing");
        assert_eq!(gate.calls.lock().all, 0);
    }

    #[test]
    fn all_peers_together_are_bounded_in_number_and_memory() {
        let few = gate(2);
        let _two = [1, 2].map(|last| few.enter(peer(last), 0).now_or_never().unwrap().unwrap());
        assert!(few.enter(peer(3), 0).now_or_never().is_none());
        let wide = gate(100);
        let _large =
            [1, 2].map(|last| wide.enter(peer(last), 256 << 20).now_or_never().unwrap().unwrap());
        assert!(wide.enter(peer(3), 256 << 20).now_or_never().is_none());
        let most = gate(2).enter(peer(1), u64::MAX).now_or_never();
        assert!(most.unwrap().is_ok(), "alone everything fits");
    }

    #[test]
    fn calls_that_wait_are_bounded() {
        let gate = gate(100);
        let _calls: Vec<_> =
            (0..CALLS_PER_PEER).map(|_| gate.place(Site::of(peer(1))).unwrap()).collect();
        let refused = gate.enter(peer(1), 0).now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.http(), 429);
        assert!(gate.enter(peer(2), 0).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn addresses_that_one_peer_has_are_one_site() {
        let site = |text: &str| Site::of(Some(text.parse().unwrap()));
        assert_eq!(site("2001:db8::1"), site("2001:db8::ffff:1"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:0:1::1"));
        assert_eq!(site("::ffff:10.0.0.1"), site("10.0.0.1"));
        assert_ne!(site("10.0.0.1"), site("10.0.0.2"));
    }
}
