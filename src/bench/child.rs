//! Servers as processes of their own, and what the system says about them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::clock::now;
use super::http::Http;

/// How long a server may take to come up or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a server listens; it says so in `endpoints.json` of its directory.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    /// For HTTP.
    pub http: SocketAddr,
    /// For WebSocket.
    pub ws: SocketAddr,
}

impl Endpoints {
    /// As the file has them, URLs or plain addresses.
    fn parse(text: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Published {
            http: String,
            ws: String,
        }
        let published: Published = serde_json::from_slice(text).ok()?;
        let address = |url: &str| url.rsplit('/').find(|part| !part.is_empty())?.parse().ok();
        Some(Self { http: address(&published.http)?, ws: address(&published.ws)? })
    }
}

/// A server in a process of its own, killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    dir: PathBuf,
    /// Where it listens.
    pub at: Endpoints,
    /// How long it took from its start until it answered that it is ready.
    pub ready_after: Duration,
}

impl Child {
    /// Starts `muster serve` over a directory and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not come up; what it said is part of the error.
    pub async fn serve(dir: &Path) -> anyhow::Result<Self> {
        Self::serve_with(dir, &[]).await
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// As [`Child::serve`].
    pub async fn serve_with(dir: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let ready = "GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
        Self::serve_until(dir, more, ready).await
    }

    /// Starts `muster serve` over a directory and waits until it answers a call.
    ///
    /// # Errors
    /// When it does not come up; what it said is part of the error.
    pub async fn serve_until_answered(dir: &Path, call: &str) -> anyhow::Result<Self> {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        Self::serve_until(dir, &[], &format!("{head}Content-Length: {}\r\n\r\n{call}", call.len()))
            .await
    }

    async fn serve_until(dir: &Path, more: &[&str], request: &str) -> anyhow::Result<Self> {
        let data = dir.to_str().context("the directory has no plain name")?;
        let ports = ["--api-http-port", "0", "--api-ws-port", "0"];
        let arguments = [&["serve", "--data-dir", data][..], &ports[..], more].concat();
        let mut child = Self::start(dir, &arguments).await?;
        let start = now();
        while start.elapsed() < PATIENCE {
            if let Ok(mut http) = Http::connect(child.at.http).await
                && http.exchange(request.as_bytes()).await.is_ok()
            {
                child.ready_after += start.elapsed();
                return Ok(child);
            }
            pause().await;
        }
        bail!("never ready: {}", child.said())
    }

    /// Starts the bare server.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn bare(dir: &Path) -> anyhow::Result<Self> {
        let data = dir.to_str().context("the directory has no plain name")?;
        Self::start(dir, &["bench", "--bare-server", data]).await
    }

    async fn start(dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let (endpoints, log) = (dir.join("endpoints.json"), dir.join("bench.log"));
        let _ = fs::remove_file(&endpoints);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(log)?);
        let start = now();
        let mut process = command.spawn().context("starting the server")?;
        let at = loop {
            let text = fs::read(&endpoints).unwrap_or_default();
            if let Some(at) = Endpoints::parse(&text) {
                break at;
            }
            let ended = process.try_wait()?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let _ = process.kill();
                let said = fs::read_to_string(dir.join("bench.log")).unwrap_or_default();
                bail!("the server did not come up ({ended:?}): {said}");
            }
            pause().await;
        };
        Ok(Self { process, dir: dir.to_owned(), at, ready_after: start.elapsed() })
    }

    /// Memory that it has resident, bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: u64 = kibibytes.context("the system does not say")?.parse()?;
        Ok(kibibytes * 1024)
    }

    /// What it wrote to its log.
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.join("bench.log")).unwrap_or_default()
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGTERM)?;
        let start = now();
        while self.process.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!("does not stop");
            }
            pause().await;
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_micros(300)).await;
}

/// What all files below a directory take up on disk, bytes.
///
/// # Errors
/// When one cannot be looked at.
pub fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes +=
            if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_urls_and_as_addresses() {
        for text in [
            r#"{"pid":1,"http":"http://127.0.0.1:5","ws":"ws://127.0.0.1:6/"}"#,
            r#"{"http":"127.0.0.1:5","ws":"127.0.0.1:6"}"#,
        ] {
            let at = Endpoints::parse(text.as_bytes()).unwrap();
            assert_eq!((at.http.port(), at.ws.port()), (5, 6));
        }
        assert!(Endpoints::parse(b"{").is_none());
    }
}
