//! Sets up logs, and names every metric.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::Code;
use crate::store::Committed;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends logs to stderr from now on.
///
/// `filter` is a level (`info`) or a list of targets and levels (`muster=debug,warn`).
///
/// # Errors
/// When the filter is malformed, or logs have been set up before.
pub fn init(
    filter: &str,
    format: LogFormat,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter: Targets = filter.parse()?;
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let text = match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    if text {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        registry().with(lines.with_ansi(colour)).with(filter).try_init()?;
    } else {
        registry().with(lines.json().flatten_event(true)).with(filter).try_init()?;
    }
    Ok(())
}

/// Measures how long something took; for metrics only, never for decisions.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "latencies want a monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Labels of a call: method and outcome.
type CallLabels = [(&'static str, &'static str); 2];
/// One label.
type Label = [(&'static str, &'static str); 1];

/// Every metric of a coordinator, cheap to update from anywhere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    seconds: Family<Label, Histogram, fn() -> Histogram>,
    methods: OnceLock<Box<[MethodMetrics]>>,
    requests: AtomicU64,
    /// Changes waiting for the engine.
    pub engine_queue_depth: Gauge,
    /// How long a batch takes from its submission until it is durable, seconds.
    pub commit_seconds: Histogram,
    /// Changes per batch.
    pub commit_batch_size: Histogram,
    /// Tasks that have not ended, by state; see [`Metrics::tasks`].
    tasks: Family<Label, Gauge>,
    /// Tasks that are ready and have no slot.
    pub tasks_ready: Gauge,
    /// Runs of flows, messages and single jobs that have not ended.
    pub active_runs: Gauge,
    /// Attached runners.
    pub runners_online: Gauge,
    /// Wrong credentials and signatures.
    pub auth_failures: Counter,
    /// Open subscriptions.
    pub subscriptions: Gauge,
    /// Subscriptions that were ended because their reader was too slow.
    pub subscriptions_lagged: Counter,
    /// Events committed since the start.
    pub events: Counter,
    /// The number of the last committed event.
    pub events_latest_seq: Gauge,
    /// Bytes on disk, by part; see [`Metrics::store_bytes`].
    store_bytes: Family<Label, Gauge>,
    /// Open connections on both ports.
    pub connections: Gauge,
    /// Connections that were turned away at the limit.
    pub connections_refused: Counter,
    /// Connections that ended before they were encrypted.
    pub handshakes_failed: Counter,
    /// Calls that were refused because their caller calls too often.
    pub calls_limited: Counter,
    /// Results that were sent to web hooks, by outcome; see [`Metrics::hooked`].
    webhook_results: Family<Label, Counter>,
}

/// The metrics of one method, found once.
#[derive(Debug)]
struct MethodMetrics {
    name: &'static str,
    answered: Counter,
    seconds: Histogram,
}

/// 25 µs to 13 s.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(25e-6, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::with_prefix("muster");
        let mut metrics = Self {
            registry,
            calls: Family::default(),
            seconds: Family::new_with_constructor(latencies),
            methods: OnceLock::new(),
            requests: AtomicU64::new(1),
            engine_queue_depth: Gauge::default(),
            commit_seconds: latencies(),
            commit_batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            tasks: Family::default(),
            tasks_ready: Gauge::default(),
            active_runs: Gauge::default(),
            runners_online: Gauge::default(),
            subscriptions: Gauge::default(),
            auth_failures: Counter::default(),
            subscriptions_lagged: Counter::default(),
            events: Counter::default(),
            events_latest_seq: Gauge::default(),
            store_bytes: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            calls_limited: Counter::default(),
            webhook_results: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let into = &mut self.registry;
        into.register("build", "This build", build);
        into.register("rpc_calls", "Calls by method and outcome", self.calls.clone());
        into.register("rpc_seconds", "Time to answer a call", self.seconds.clone());
        into.register(
            "engine_queue_depth",
            "Changes waiting for the engine",
            self.engine_queue_depth.clone(),
        );
        into.register(
            "commit_seconds",
            "Time until a batch is durable",
            self.commit_seconds.clone(),
        );
        into.register("commit_batch_size", "Changes per batch", self.commit_batch_size.clone());
        into.register("tasks", "Tasks that have not ended, by state", self.tasks.clone());
        into.register(
            "tasks_ready",
            "Tasks that are ready and have no slot",
            self.tasks_ready.clone(),
        );
        into.register("active_runs", "Runs that have not ended", self.active_runs.clone());
        into.register("runners_online", "Attached runners", self.runners_online.clone());
        into.register(
            "auth_failures",
            "Wrong credentials and signatures",
            self.auth_failures.clone(),
        );
        into.register("subscriptions", "Open subscriptions", self.subscriptions.clone());
        into.register(
            "subscriptions_lagged",
            "Subscriptions ended because their reader was too slow",
            self.subscriptions_lagged.clone(),
        );
        into.register("events", "Events committed since the start", self.events.clone());
        into.register(
            "events_latest_seq",
            "Number of the last committed event",
            self.events_latest_seq.clone(),
        );
        into.register("store_bytes", "Bytes on disk, by part", self.store_bytes.clone());
        into.register("connections", "Open connections on both ports", self.connections.clone());
        into.register(
            "connections_refused",
            "Connections turned away at the limit",
            self.connections_refused.clone(),
        );
        into.register(
            "tls_handshakes_failed",
            "Connections that ended before they were encrypted",
            self.handshakes_failed.clone(),
        );
        into.register(
            "calls_limited",
            "Calls refused because their caller calls too often",
            self.calls_limited.clone(),
        );
        into.register(
            "webhook_results",
            "Results sent to web hooks, by outcome of the attempt",
            self.webhook_results.clone(),
        );
    }

    /// Prepares the metrics of every method, in the order of the table.
    pub fn prepare(&self, methods: impl Iterator<Item = &'static str>) {
        self.methods.get_or_init(|| {
            methods
                .map(|name| MethodMetrics {
                    name,
                    answered: self
                        .calls
                        .get_or_create_owned(&[("method", name), ("outcome", "ok")]),
                    seconds: self.seconds.get_or_create_owned(&[("method", name)]),
                })
                .collect()
        });
    }

    /// Counts a call of the method at `index` of the table.
    pub fn called(&self, index: usize, watch: Stopwatch, failed: Option<Code>) {
        let Some(method) = self.methods.get().and_then(|methods| methods.get(index)) else {
            return;
        };
        method.seconds.observe(watch.elapsed().as_secs_f64());
        match failed {
            None => method.answered.inc(),
            Some(code) => {
                self.calls.get_or_create(&[("method", method.name), ("outcome", code.name())]).inc()
            }
        };
    }

    /// A number for the next request, unique while the process lives.
    pub fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// The gauge of tasks in a state, to be kept by whoever counts them.
    pub fn tasks(&self, state: &'static str) -> Gauge {
        self.tasks.get_or_create_owned(&[("state", state)])
    }

    /// Counts results that were to go to a web hook: `sent`, `failed` (tried again later) or
    /// `lost` (given up).
    pub fn hooked(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.webhook_results.get_or_create(&[("outcome", outcome)]).inc_by(count);
        }
    }

    /// The gauge of bytes on disk of a part, such as `journal` or `state`.
    pub fn store_bytes(&self, part: &'static str) -> Gauge {
        self.store_bytes.get_or_create_owned(&[("part", part)])
    }

    /// Counts what the store commits.
    pub fn commits(&self) -> impl Fn(Committed) + Send + Sync + 'static {
        let (seconds, size) = (self.commit_seconds.clone(), self.commit_batch_size.clone());
        let events = self.events.clone();
        move |committed| {
            seconds.observe(committed.took.as_secs_f64());
            size.observe(f64::from(u32::try_from(committed.changes).unwrap_or(u32::MAX)));
            if committed.ok {
                events.inc_by(u64::try_from(committed.events).unwrap_or_default());
            }
        }
    }

    /// All of them as Prometheus reads them.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_in_base_units() {
        let metrics = Metrics::default();
        metrics.prepare(["job.load"].into_iter());
        metrics.called(0, Stopwatch::start(), None);
        metrics.called(0, Stopwatch::start(), Some(Code::NotFound));
        metrics.tasks("Started").set(2);
        metrics.store_bytes("journal").set(3);
        let text = metrics.render();
        for line in [
            "muster_build_info{version=",
            r#"muster_rpc_calls_total{method="job.load",outcome="ok"} 1"#,
            r#"muster_rpc_calls_total{method="job.load",outcome="NotFound"} 1"#,
            r#"muster_rpc_seconds_count{method="job.load"} 2"#,
            "muster_engine_queue_depth 0",
            "muster_commit_seconds_count 0",
            "muster_commit_batch_size_count 0",
            r#"muster_tasks{state="Started"} 2"#,
            "muster_runners_online 0",
            "muster_subscriptions 0",
            "muster_events_total 0",
            r#"muster_store_bytes{part="journal"} 3"#,
            "muster_connections 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
