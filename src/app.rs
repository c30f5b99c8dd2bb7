//! What a running coordinator holds, and what one call sees of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::Result;
use crate::access::{Grant, Keeper, Role, Seen, Visitor};
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::identity::NodeKey;
use crate::limiter::Limiter;
use crate::model::Millis;
use crate::outbound::Outbound;
use crate::store::{Options, Store};
use crate::telemetry::Metrics;

/// Shared by every call.
#[derive(Debug)]
pub struct App {
    /// For reads.
    pub store: Arc<Store>,
    /// For changes.
    pub engine: Engine,
    /// Who may come in.
    pub keeper: Keeper,
    /// What was configured.
    pub config: Config,
    /// The clock; tests set their own.
    pub now: fn() -> Millis,
    /// When this process started.
    pub started_at: Millis,
    /// Every metric.
    pub metrics: Metrics,
    /// Where HTTP and WebSocket are really answered, once they are.
    pub addresses: OnceLock<(SocketAddr, SocketAddr)>,
    /// This node's key.
    pub node: NodeKey,
    /// For requests to other machines.
    pub outbound: Outbound,
    /// What the directory keeps in memory.
    pub directory: Directory,
    /// Turns true when a graceful stop begins.
    pub stopping: watch::Sender<bool>,
}

impl App {
    /// Opens the data directory and starts the engine.
    ///
    /// # Errors
    /// When the store does not open or the thread does not start.
    pub fn start(config: Config) -> anyhow::Result<Arc<Self>> {
        Self::start_by(config, wall_clock)
    }

    /// The same by another clock: for tests.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_by(config: Config, now: fn() -> Millis) -> anyhow::Result<Arc<Self>> {
        let options = Options {
            dir: config.data_dir.clone(),
            cache_bytes: config.cache_bytes,
            events_keep: config.events_keep,
            events_keep_age: config.events_keep_age,
        };
        let store = Arc::new(Store::open(options)?);
        let node = NodeKey::of_dir(&config.data_dir)?;
        let directory = Directory::new(&config.directory);
        let keeper = Keeper::open(&store, &config)?;
        let metrics = Metrics::default();
        store.observe(metrics.commits());
        let ages = config.events_keep_age.is_some();
        let engine = Engine::start(Arc::clone(&store), now, config.runner_grace, ages)?;
        Ok(Arc::new(Self {
            store,
            engine,
            keeper,
            config,
            now,
            started_at: now(),
            metrics,
            addresses: OnceLock::new(),
            node,
            outbound: Outbound::default(),
            directory,
            stopping: watch::Sender::new(false),
        }))
    }
}

/// What the directory keeps in memory.
#[derive(Debug)]
pub struct Directory {
    /// How often each node may write.
    pub budgets: Limiter<[u8; 32]>,
    /// How often each address may try to write; none: as often as it likes.
    pub sources: Option<Limiter<IpAddr>>,
    /// The position of the last statement accepted since the start.
    pub latest: AtomicU64,
}

impl Directory {
    fn new(config: &config::Directory) -> Self {
        let budgets = Limiter::every(config.budget_refill, config.budget);
        let sources = config.source_budget.map(|most| Limiter::every(config.source_refill, most));
        Self { budgets, sources, latest: AtomicU64::new(0) }
    }
}

impl App {
    /// Brings the metrics up to date that are counted elsewhere.
    pub fn gather(&self) {
        let (metrics, engine) = (&self.metrics, self.engine.gauges());
        let read = |gauge: &AtomicU64| wide(gauge.load(Ordering::Relaxed));
        metrics.engine_queue_depth.set(wide_len(self.engine.queue_depth()));
        metrics.runners_online.set(read(&engine.runners));
        metrics.active_runs.set(read(&engine.groups));
        metrics.tasks_ready.set(read(&engine.ready));
        let states = ["Dispatched", "WaitingForPrerequisites", "Started"];
        for (state, count) in states.into_iter().zip(&engine.tasks) {
            metrics.tasks(state).set(read(count));
        }
        metrics.events_latest_seq.set(wide(self.store.latest()));
        match self.store.stats() {
            Ok(stats) => {
                metrics.store_bytes("journal").set(wide(stats.journal_bytes));
                metrics.store_bytes("state").set(wide(stats.state_bytes));
                metrics.store_bytes("blobs").set(wide(stats.blob_bytes));
            }
            Err(err) => tracing::warn!(error = %err, "the store could not be measured"),
        }
    }
}

fn wide(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn wide_len(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(Millis::MAX)
}

/// Who is calling, decided once per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody we know.
    #[default]
    Anonymous,
    /// Whoever runs this coordinator.
    Operator,
    /// The holder of an actor's key.
    Actor(u32),
    /// The holder of a runner's key: its context and id.
    Runner(u32, u32),
}

/// The text of an `Authorization` header, for faces that check credentials of their own; never
/// shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(pub Arc<str>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// All that a method sees besides its params.
#[derive(Clone, Debug)]
pub struct Cx {
    /// The coordinator.
    pub app: Arc<App>,
    /// The caller, already admitted.
    pub caller: Caller,
    /// The connection it came by, unique while the process lives; 0 for calls from inside.
    pub connection: u64,
    /// What came in the `Authorization` header of the request, or of the WebSocket's handshake.
    pub credentials: Option<Credentials>,
    /// What makes the caller who he is; none for strangers and for calls from inside.
    pub grant: Option<Arc<Grant>>,
    /// Who is at the other end.
    pub visitor: Arc<Visitor>,
}

impl Cx {
    /// A call from inside, as whoever it is made for.
    pub fn inside(app: Arc<App>, caller: Caller) -> Self {
        let visitor = Visitor::inside();
        Self { app, caller, connection: 0, credentials: None, grant: None, visitor }
    }

    /// A call of whoever is at the other end of a connection.
    pub fn of(app: Arc<App>, visitor: Arc<Visitor>, connection: u64) -> Self {
        let seen = visitor.seen(&app.keeper, (app.now)());
        Self::by(app, visitor, seen, connection)
    }

    /// The same, when who he is at this moment is known already.
    pub fn by(app: Arc<App>, visitor: Arc<Visitor>, seen: Seen, connection: u64) -> Self {
        let Seen { caller, grant } = seen;
        let credentials = visitor.credentials().cloned();
        Self { app, caller, connection, credentials, grant, visitor }
    }

    /// Whether the caller has the role in the context; the operator has every one.
    ///
    /// # Errors
    /// Storage errors.
    pub fn has(&self, role: Role, context: u32) -> Result<bool> {
        Ok(match self.caller {
            Caller::Operator => true,
            Caller::Actor(actor) => self.app.keeper.roles.permit(actor, role, context)?,
            Caller::Anonymous | Caller::Runner(..) => false,
        })
    }
}
