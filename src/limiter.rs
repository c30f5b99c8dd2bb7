//! How often somebody may do something: a rate and a burst per key.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Keys that are remembered at most, however many there are.
const MOST_KEYS: usize = 1 << 16;
/// As long as there are no more keys than this, nobody looks for idle ones.
const FEW_KEYS: usize = 1 << 10;

/// Allows each key so many turns per second, after a burst of so many at once.
///
/// Memory is bounded: a key that has its whole burst back is forgotten, and when more than 65,536
/// have not, those that are nearest to it are.
pub struct Limiter<K: Clone + Eq + Hash> {
    gcra: RateLimiter<K, Arrivals<K>, Clock, NoOpMiddleware<Duration>>,
    arrivals: Arrivals<K>,
    /// How far ahead of now the next arrival of a key may lie.
    tolerance: Duration,
    clock: Clock,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// Allows `per_second` turns per second and key, and up to `burst` at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::with(Duration::from_secs(1) / per_second.get(), burst, Clock::new(), MOST_KEYS)
    }

    /// Allows a turn per `period` and key, and up to `burst` at once; for what is rarer than once
    /// a second. Periods count as an hour at most, bursts as a million.
    pub fn every(period: Duration, burst: NonZeroU32) -> Self {
        Self::with(period, burst, Clock::new(), MOST_KEYS)
    }

    /// As [`Self::every`], by a clock that stands still until it is moved: for tests.
    pub fn manual(period: Duration, burst: NonZeroU32) -> (Self, ManualClock) {
        let clock = FakeRelativeClock::default();
        let limiter = Self::with(period, burst, Clock::Manual(clock.clone()), MOST_KEYS);
        (limiter, ManualClock(clock))
    }

    fn with(period: Duration, burst: NonZeroU32, clock: Clock, most: usize) -> Self {
        // Within these, the sums of nanoseconds below fit 64 bits.
        let period = period.clamp(Duration::from_nanos(1), Duration::from_secs(3_600));
        let burst = burst.min(NonZeroU32::new(1_000_000).unwrap_or(NonZeroU32::MAX));
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let arrivals = Arrivals::new(most, clock.clone());
        Self {
            gcra: RateLimiter::new(quota, arrivals.clone(), clock.clone()),
            arrivals,
            tolerance: period * (burst.get() - 1),
            clock,
        }
    }

    /// Takes a turn.
    ///
    /// # Errors
    /// When the key has none left: how long until it has. A refused attempt costs nothing.
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        let refused = |until: governor::NotUntil<Duration>| until.wait_time_from(self.clock.now());
        self.gcra.check_key(key).map_err(refused)
    }

    /// Says what [`Self::check`] would, and takes no turn: for what only counts when it fails.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn peek(&self, key: &K) -> Result<(), Duration> {
        let now = self.clock.now();
        let due = self.arrivals.due(key).unwrap_or_default();
        let wait = due.saturating_sub(now).saturating_sub(self.tolerance);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.arrivals.0.lock().due.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> std::fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// Moves the time of a [`Limiter::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(FakeRelativeClock);

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

/// Time since the limiter was made.
#[derive(Clone, Debug)]
enum Clock {
    Real(Instant),
    Manual(FakeRelativeClock),
}

impl Clock {
    fn new() -> Self {
        Self::Real(Instant::now())
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Manual(clock) => clock.now().into(),
        }
    }
}

/// When the next turn of each key would be due if it took them evenly: all that is known of a key.
#[derive(Debug)]
struct Arrivals<K>(std::sync::Arc<Mutex<Kept<K>>>);

#[derive(Debug)]
struct Kept<K> {
    due: HashMap<K, u64>,
    clock: Clock,
    /// As soon as there are more keys than this, the idle ones go.
    sweep_at: usize,
    most: usize,
}

impl<K> Clone for Arrivals<K> {
    fn clone(&self) -> Self {
        Self(std::sync::Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash> Arrivals<K> {
    fn new(most: usize, clock: Clock) -> Self {
        let kept = Kept { due: HashMap::new(), clock, sweep_at: FEW_KEYS.min(most), most };
        Self(std::sync::Arc::new(Mutex::new(kept)))
    }

    fn due(&self, key: &K) -> Option<Duration> {
        self.0.lock().due.get(key).copied().map(Duration::from_nanos)
    }
}

impl<K: Clone + Eq + Hash> Kept<K> {
    /// Makes room for another key. What this costs has been paid by the keys added since.
    fn make_room(&mut self) {
        if self.due.len() < self.sweep_at {
            return;
        }
        let now = Nanos::from(self.clock.now()).as_u64();
        self.due.retain(|_, due| *due > now);
        if self.due.len() >= self.most {
            // Whoever owes most stays, so that nobody gets out of a limit by way of others.
            let mut all: Vec<u64> = self.due.values().copied().collect();
            let middle = all.len() / 2;
            let (_, median, _) = all.select_nth_unstable(middle);
            let median = *median;
            self.due.retain(|_, due| *due > median);
        }
        self.due.shrink_to(FEW_KEYS);
        self.sweep_at = (self.due.len() * 2).clamp(FEW_KEYS.min(self.most), self.most);
    }
}

impl<K: Clone + Eq + Hash> StateStore for Arrivals<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut kept = self.0.lock();
        if let Some(due) = kept.due.get_mut(key) {
            let (allowed, next) = measure(Some((*due).into()))?;
            *due = next.into();
            return Ok(allowed);
        }
        let (allowed, next) = measure(None)?;
        kept.make_room();
        kept.due.insert(key.clone(), next.into());
        Ok(allowed)
    }
}

/// What one subscriber of a network usually has: an address of version 4, 2^64 of version 6.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let prefix = six.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(prefix).into()
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_as_many_as_time_allows() {
        let (limiter, clock) = Limiter::manual(SECOND / 2, number(3));
        for _ in 0..3 {
            assert_eq!(limiter.peek(&"a"), Ok(()));
            assert_eq!(limiter.check(&"a"), Ok(()));
        }
        assert_eq!(limiter.check(&"a"), Err(SECOND / 2));
        assert_eq!(limiter.peek(&"a"), Err(SECOND / 2));
        assert_eq!(limiter.check(&"b"), Ok(()), "another key has its own");
        clock.advance(SECOND / 4);
        assert_eq!(limiter.check(&"a"), Err(SECOND / 4));
        clock.advance(SECOND / 4);
        assert_eq!(limiter.check(&"a"), Ok(()));
        assert!(limiter.check(&"a").is_err());
        clock.advance(SECOND * 60);
        let passed = (0..9).filter(|_| limiter.check(&"a").is_ok()).count();
        assert_eq!(passed, 3, "no more than the burst is saved up");
    }

    #[test]
    fn who_has_the_whole_burst_back_is_forgotten() {
        let (limiter, clock) = Limiter::manual(SECOND, number(2));
        for key in 0..FEW_KEYS {
            limiter.check(&key).unwrap();
        }
        clock.advance(SECOND);
        limiter.check(&usize::MAX).unwrap();
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn however_many_keys_there_are_the_worst_are_remembered() {
        let clock = Clock::Manual(FakeRelativeClock::default());
        let limiter = Limiter::with(SECOND, number(2), clock, 2_000);
        limiter.check(&0).unwrap();
        limiter.check(&0).unwrap();
        for key in 1..50_000 {
            limiter.check(&key).unwrap();
            assert!(limiter.len() <= 2_000);
        }
        assert!(limiter.check(&0).is_err(), "many others do not wash a key clean");
    }

    #[test]
    fn extreme_settings_neither_overflow_nor_block_for_ever() {
        let slow = Limiter::every(Duration::MAX, NonZeroU32::MAX);
        let none = Limiter::every(Duration::ZERO, NonZeroU32::MIN);
        let fast = Limiter::new(NonZeroU32::MAX, NonZeroU32::MAX);
        for _ in 0..3 {
            assert_eq!((slow.check(&1), fast.check(&1)), (Ok(()), Ok(())));
        }
        none.check(&1).unwrap();
        assert!(none.check(&1).map_or_else(|wait| wait < SECOND, |()| true));
    }
}
