//! Measuring: the monotonic clock, medians, rates.

use std::time::{Duration, Instant};

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// The middle one; zero of none.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The middle one; zero of none.
pub fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// A time in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How many per second.
pub fn rate(count: usize, time: Duration) -> f64 {
    float(count) / time.as_secs_f64().max(1e-9)
}

/// A count as a figure.
pub fn float(count: usize) -> f64 {
    // Exact up to 2^32, which nothing here comes near.
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// A count scaled, at least 1.
pub fn scaled(count: usize, scale: f64) -> usize {
    let wanted = (float(count) * scale).clamp(1.0, f64::from(u32::MAX));
    // There is no checked way from a float; its text is exact here.
    format!("{wanted:.0}").parse().unwrap_or(count)
}
