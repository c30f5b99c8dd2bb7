//! What the same transport does without a coordinator: a jsonrpsee server in a process of its own
//! that echoes, broadcasts, and hands out jobs without knowing what they are; and the bare disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::{RegisterMethodError, to_json_raw_value};
use jsonrpsee::server::{PendingSubscriptionSink, RpcModule, Server, ServerConfig};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::clock::now;
use super::coordinator::Coordinator;

/// What the bare server knows.
#[derive(Debug)]
pub(super) struct Bare {
    news: broadcast::Sender<Arc<RawValue>>,
    pub(super) coordinator: Coordinator,
}

/// Serves until the process is killed.
///
/// # Errors
/// When it cannot listen.
pub(super) async fn serve(dir: &Path) -> anyhow::Result<()> {
    let config = ServerConfig::builder()
        .ws_only()
        .max_connections(20_000)
        .max_subscriptions_per_connection(20_000)
        .max_request_body_size(1 << 28)
        .set_tcp_no_delay(true)
        .build();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let server = Server::builder().set_config(config).build(any).await?;
    let at = server.local_addr()?;
    let coordinator = Coordinator::start(File::create(dir.join("journal"))?)?;
    let bare = Bare { news: broadcast::channel(64).0, coordinator };
    let handle = server.start(methods(bare)?);
    let endpoints = format!(r#"{{"http":"{at}","ws":"{at}"}}"#);
    std::fs::write(dir.join("endpoints.part"), endpoints)?;
    std::fs::rename(dir.join("endpoints.part"), dir.join("endpoints.json"))?;
    handle.stopped().await;
    Ok(())
}

fn methods(bare: Bare) -> Result<RpcModule<Bare>, RegisterMethodError> {
    let mut module = RpcModule::new(bare);
    module.register_method("echo", |params, _, _| params.parse::<Box<RawValue>>())?;
    module.register_method("broadcast", |params, bare, _| {
        let news: Box<RawValue> = params.parse()?;
        Ok::<_, ErrorObjectOwned>(bare.news.send(news.into()).unwrap_or_default())
    })?;
    module.register_subscription(
        "subscribe",
        "news",
        "unsubscribe",
        |_, pending, bare, _| async move {
            follow(bare.news.subscribe(), pending).await;
        },
    )?;
    super::coordinator::register(&mut module)?;
    Ok(module)
}

async fn follow(mut news: broadcast::Receiver<Arc<RawValue>>, pending: PendingSubscriptionSink) {
    let Ok(sink) = pending.accept().await else { return };
    while let Ok(item) = news.recv().await {
        let Ok(message) = to_json_raw_value(&*item) else { return };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

/// A file that is appended to durably, removed in the end.
#[derive(Debug)]
pub(super) struct Appender {
    file: File,
    path: PathBuf,
    record: Vec<u8>,
}

impl Appender {
    pub(super) fn create(dir: &Path, bytes: usize) -> anyhow::Result<Self> {
        let path = dir.join("appends");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { file, path, record: vec![b'x'; bytes] })
    }

    /// Appends a record; returns when it is on disk.
    pub(super) fn append(&mut self) -> anyhow::Result<()> {
        self.file.write_all(&self.record)?;
        Ok(self.file.sync_data()?)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// How long each of many appends of `bytes` with fdatasync takes.
///
/// # Errors
/// When the directory cannot be written to.
pub(super) fn appends(dir: &Path, count: usize, bytes: usize) -> anyhow::Result<Vec<Duration>> {
    let mut file = Appender::create(dir, bytes)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = now();
        file.append()?;
        times.push(start.elapsed());
    }
    Ok(times)
}
