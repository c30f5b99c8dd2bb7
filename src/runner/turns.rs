//! What a runner's loop waits for: answers, starts, and points in time.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::connection::Connection;
use super::link::LinkError;
use super::protocol::{Report, ReportReply};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// For log lines to gather before they are sent by themselves.
const GATHER: Duration = Duration::from_millis(50);

pub(super) type Call = BoxFuture<'static, Answer>;

/// What came of a call.
pub(super) enum Answer {
    Report(Vec<Report>, Result<ReportReply, LinkError>),
    Heartbeat(Result<Vec<String>, LinkError>),
    Drain(Result<(), LinkError>),
}

/// What the loop keeps besides the agent.
pub(super) struct Turns {
    pub(super) connection: Connection,
    pub(super) calls: FuturesUnordered<Call>,
    pub(super) reports_on_their_way: usize,
    pub(super) begun: mpsc::Receiver<String>,
    pub(super) begin: mpsc::Sender<String>,
    pub(super) heartbeat: Interval,
    /// When log lines that wait are sent by themselves.
    pub(super) gathered: Option<Instant>,
    /// Not before this is anything reported again.
    pub(super) held_back: Option<Instant>,
    /// Set while it drains.
    pub(super) ends_at: Option<Instant>,
    pub(super) drain_said: bool,
}

impl Turns {
    pub(super) fn new() -> Self {
        let (begin, begun) = mpsc::channel(64);
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            connection: Connection::Over,
            calls: FuturesUnordered::new(),
            reports_on_their_way: 0,
            begun,
            begin,
            heartbeat,
            gathered: None,
            held_back: None,
            ends_at: None,
            drain_said: false,
        }
    }

    /// Notes that log lines wait.
    pub(super) fn gather(&mut self) {
        self.gathered.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// When there is something to do without anything happening.
    pub(super) fn next_deadline(&mut self, lines: bool) -> Option<Instant> {
        if lines {
            self.gather();
        }
        // While a call is on its way, its answer is what goes on.
        let gathered = self.gathered.filter(|at| *at > Instant::now());
        [gathered, self.held_back].into_iter().flatten().min()
    }

    pub(super) fn due(&mut self) {
        self.held_back = self.held_back.filter(|at| *at > Instant::now());
    }
}
