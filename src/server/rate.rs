//! How much one caller may ask for, and how many connections one address may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::app::Caller;
use crate::config::{Config, RateLimit};
use crate::limiter::{Limiter, neighbourhood};
use crate::{Error, Result};

/// How often each caller may call.
#[derive(Debug)]
pub(super) struct Rates {
    /// None: as often as wanted.
    limiter: Option<(Limiter<Who>, u32)>,
    /// The operator on this machine is not counted.
    spare_operator: bool,
}

/// Whose turns are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Known(Caller),
    /// Whoever is at an address.
    At(IpAddr),
}

impl Rates {
    pub(super) fn new(config: &Config) -> Self {
        let limiter = config.rates().map(|(rate, burst)| (Limiter::new(rate, burst), rate.get()));
        Self { limiter, spare_operator: config.rate_limit == RateLimit::Auto }
    }

    /// Takes one of a caller's turns.
    ///
    /// # Errors
    /// [`Error::TooOften`] when there is none.
    pub(super) fn take(&self, caller: Caller, peer: IpAddr) -> Result<()> {
        let Some((limiter, limit)) = &self.limiter else { return Ok(()) };
        if self.spare_operator && caller == Caller::Operator && peer.to_canonical().is_loopback() {
            return Ok(());
        }
        let who = match caller {
            Caller::Anonymous => Who::At(neighbourhood(peer)),
            known => Who::Known(known),
        };
        let what = "calls per second";
        limiter.check(&who).map_err(|wait| Error::TooOften { what, limit: *limit, wait })
    }
}

/// Open connections by address.
#[derive(Debug)]
pub(super) struct Places {
    /// 0: as many as wanted.
    most: u32,
    taken: Mutex<HashMap<IpAddr, u32>>,
}

impl Places {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { most: config.max_connections_per_address, taken: Mutex::default() })
    }

    /// Takes a place for a connection from this address, if there is one.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        if self.most == 0 {
            return Some(Place(None));
        }
        let address = neighbourhood(peer);
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place(Some((Arc::clone(self), address))))
    }
}

/// The place of an open connection.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Places>, IpAddr)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, address)) = &self.0 else { return };
        let mut taken = places.taken.lock();
        if let Some(count) = taken.get_mut(address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn there(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_caller_has_turns_of_its_own() {
        let config = Config { rate_limit: RateLimit::PerSecond(1), ..Config::default() };
        let rates = Rates::new(&config);
        let all = [
            (Caller::Operator, HERE),
            (Caller::Actor(1), HERE),
            (Caller::Actor(2), HERE),
            (Caller::Anonymous, there("192.0.2.1")),
            (Caller::Anonymous, there("192.0.2.2")),
            (Caller::Anonymous, there("2001:db8:0:1::1")),
        ];
        for (caller, peer) in all {
            assert!((0..2).all(|_| rates.take(caller, peer).is_ok()), "{caller:?} {peer}");
            let Err(Error::TooOften { limit: 1, wait, .. }) = rates.take(caller, peer) else {
                panic!("{caller:?} {peer}");
            };
            assert!(!wait.is_zero());
        }
        assert!(rates.take(Caller::Actor(1), there("192.0.2.9")).is_err(), "wherever it is");
        assert!(rates.take(Caller::Anonymous, there("2001:db8:0:1::2")).is_err(), "same network");
        assert!(rates.take(Caller::Anonymous, there("::ffff:192.0.2.1")).is_err(), "same address");
    }

    #[test]
    fn by_default_the_operator_on_this_machine_is_not_counted() {
        let http = "0.0.0.0:9652".parse().unwrap();
        let rates = Rates::new(&Config { http, ..Config::default() });
        assert!((0..9_000).all(|_| rates.take(Caller::Operator, HERE).is_ok()));
        let refused = |caller, peer| (0..9_000).any(|_| rates.take(caller, peer).is_err());
        assert!(refused(Caller::Operator, there("192.0.2.1")));
        assert!(refused(Caller::Actor(1), HERE));
        let rates = Rates::new(&Config::default());
        assert!((0..9_000).all(|_| rates.take(Caller::Anonymous, HERE).is_ok()));
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let config = Config { max_connections_per_address: 2, ..Config::default() };
        let places = Places::new(&config);
        let first = places.take(HERE).unwrap();
        let _second = places.take(HERE).unwrap();
        assert!(places.take(HERE).is_none() && places.take(there("192.0.2.1")).is_some());
        drop(first);
        assert!(places.take(HERE).is_some());
        drop(_second);
        assert!(places.taken.lock().is_empty());
    }
}
