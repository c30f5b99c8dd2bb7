//! A runner as a process of its own: ended by signals.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::agent::{Agent, Ended};
use super::link::Link;

/// Runs a runner until a signal says otherwise: the first SIGTERM or SIGINT drains it, the second ends
/// it at once, which is told by `None`.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn run_until_signalled<L: Link>(agent: Agent<L>) -> io::Result<Option<Ended>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut signalled = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    let (first, mut drained) = watch::channel(false);
    let running = agent.run(async move {
        let _ = drained.wait_for(|drained| *drained).await;
    });
    let twice = async move {
        signalled().await;
        tracing::info!("draining; a second signal ends at once");
        first.send_replace(true);
        signalled().await;
    };
    tokio::select! {
        ended = running => Ok(Some(ended)),
        () = twice => Ok(None),
    }
}
