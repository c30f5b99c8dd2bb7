//! `serve`: the coordinator, from start to graceful stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Exit, Failure, Result};
use super::local::LocalRunner;
use super::{output, settings};
use crate::app::App;
use crate::config::Config;
use crate::store::StoreError;
use crate::{server, telemetry};

/// Linux's number on every architecture that Rust supports but MIPS.
const SIGXFSZ: i32 = 25;
/// For threads that are in the middle of something when everything has been stopped.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// `muster serve`.
pub(super) fn serve(matches: &ArgMatches) -> Result {
    let config = settings::load(matches)?.config;
    if !config.data_dir.exists() {
        // Where there is no data there is no stored token either, and nothing is left behind.
        config.check_exposure(!config.operator_tokens.is_empty())?;
    }
    server::check_tls(&config)?;
    log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(until_stopped(config));
    runtime.shutdown_timeout(LAST_MOMENT);
    outcome
}

async fn until_stopped(config: Config) -> Result {
    let mut signals = Signals::listen()?;
    let app = start(config)?;
    let config = &app.config;
    config.check_exposure(app.keeper.keyring.has_tokens())?;
    let running = server::serve(Arc::clone(&app)).await.map_err(|e| {
        Failure::failed(format!("cannot listen on {} and {}: {e}", config.http, config.ws))
    })?;
    LocalRunner::open_public_group(&app).await;
    let runner = LocalRunner::start(&app);
    let (http, ws) = config.schemes();
    let (http, ws) = (format!("{http}://{}", running.http), format!("{ws}://{}", running.ws));
    let endpoints = Endpoints::publish(&config.data_dir, &http, &ws)?;
    output::note(&format!(
        "muster {} listening on {http} and {ws}, data in {}",
        env!("CARGO_PKG_VERSION"),
        config.data_dir.display()
    ));
    let name = signals.stop_reloading(|| reload(&running)).await;
    tracing::info!(signal = name, "stopping");
    drop(endpoints);
    // The runner reports what it ends with to the coordinator, which goes on until then.
    let stop = async {
        runner.stop(config.drain_timeout).await;
        running.stop().await
    };
    tokio::select! {
        all_ended = stop => if !all_ended {
            tracing::warn!("some calls did not end in time");
        },
        name = signals.stop() => {
            return Err(Failure::failed(format!("{name} again: stopped at once")));
        }
    }
    close(&app).await;
    Ok(())
}

/// What SIGHUP asks for.
fn reload(running: &server::Running) {
    // A few milliseconds, on a thread that others can do without.
    match tokio::task::block_in_place(|| running.reload()) {
        Ok(true) => tracing::info!("SIGHUP: certificate and key read again"),
        Ok(false) => tracing::info!("SIGHUP: nothing to reload"),
        Err(err) => tracing::error!(%err, "SIGHUP: the certificate in use stays"),
    }
}

/// Brings everything to disk, as far as [`Config::drain_timeout`] allows: what was answered is
/// there anyway.
pub(super) async fn close(app: &Arc<App>) {
    let limit = app.config.drain_timeout;
    let app = Arc::clone(app);
    let closing = tokio::task::spawn_blocking(move || {
        app.engine.stop();
        app.store.close();
    });
    if tokio::time::timeout(limit, closing).await.is_err() {
        tracing::warn!("the store did not close in time");
    }
}

/// Log lines go to stderr, as configured.
pub(super) fn log(config: &Config) -> Result {
    let started = telemetry::init(&config.log_level, config.log_format);
    started.map_err(|e| Failure::failed(format!("log_level: {e}")))
}

/// Opens the data directory; says what to do when somebody else has it.
pub(super) fn start(config: Config) -> Result<Arc<App>> {
    let dir = config.data_dir.clone();
    App::start(config).map_err(|e| match e.downcast_ref::<StoreError>() {
        Some(StoreError::Locked(_)) => Failure::new(
            Exit::Conflict,
            format!(
                "{e}: stop it, send it what you want to have done (muster flow submit, muster call), \
                 or name another directory with --data-dir"
            ),
        ),
        _ => Failure::failed(format!("data in {}: {e:#}", dir.display())),
    })
}

/// What stops a coordinator, and what does not.
pub(super) struct Signals {
    /// Taken so that a file size limit (`ulimit -f`) fails an append and not the process.
    _file_size: Signal,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they come here instead of ending the process.
    pub(super) fn listen() -> Result<Self> {
        Ok(Self {
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that asks to stop, and names it. A lost terminal does not.
    pub(super) async fn stop(&mut self) -> &'static str {
        self.stop_reloading(|| tracing::info!("SIGHUP: nothing to reload")).await
    }

    /// The same; `reload` is called for each that asks for that.
    pub(super) async fn stop_reloading(&mut self, mut reload: impl FnMut()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

/// `<data-dir>/endpoints.json`: where this coordinator can be reached, while it can be.
struct Endpoints(PathBuf);

impl Endpoints {
    fn publish(dir: &Path, http: &str, ws: &str) -> Result<Self> {
        let path = dir.join("endpoints.json");
        let fresh = dir.join("endpoints.json.new");
        let text = json!({
            "pid": std::process::id(),
            "http": http,
            "ws": ws,
        });
        // Whoever waits for the file finds all of it.
        std::fs::write(&fresh, format!("{text}\n"))?;
        std::fs::rename(&fresh, &path)?;
        Ok(Self(path))
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
