//! The fastest runner there can be: every job it gets is done.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::bail;
use serde::Deserialize;

use super::clock::now;
use super::shape::CONTEXT;
use super::socket::Socket;

/// A connection that does jobs.
#[derive(Debug)]
pub(super) struct Runner {
    socket: Socket,
    id: u32,
    /// When each job came, in order.
    pub(super) arrivals: Vec<Instant>,
    report: String,
}

/// A notification or an answer, as far as a runner cares.
#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    params: Option<Params<'a>>,
    #[serde(borrow)]
    result: Option<Answer<'a>>,
    #[serde(borrow)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Debug, Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    result: Push<'a>,
}

#[derive(Debug, Deserialize)]
struct Push<'a> {
    kind: &'a str,
    #[serde(borrow, default)]
    attempts: Vec<Attempt<'a>>,
}

#[derive(Debug, Deserialize)]
struct Attempt<'a> {
    token: &'a str,
}

#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    refused: Vec<&'a serde_json::value::RawValue>,
}

impl Runner {
    /// Connects and attaches.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn attach(server: SocketAddr, id: u32, slots: u32) -> anyhow::Result<Self> {
        let mut socket = Socket::connect(server).await?;
        let params = format!(
            r#"{{"context_id":{CONTEXT},"runner_id":{id},"script_types":["Osis","Sal","V","Python"],"slots":{slots}}}"#
        );
        socket.call("runner.attach", &params).await?;
        Ok(Self { socket, id, arrivals: Vec::new(), report: String::new() })
    }

    /// Does jobs until the connection ends or something goes wrong; whoever started it drops it.
    ///
    /// # Errors
    /// Always, at some time.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        loop {
            let first = self.socket.receive().await?;
            self.take(&first)?;
            while let Some(frame) = self.socket.receive_ready()? {
                self.take(&frame)?;
            }
            self.send_report().await?;
        }
    }

    fn take(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        // The answer to a report is the smaller part; whatever else an answer holds is passed over.
        let frame: Frame<'_> = serde_json::from_slice(frame)?;
        if let Some(error) = frame.error {
            bail!("a report failed: {error}");
        }
        if let Some(refused) = frame.result.and_then(|answer| answer.refused.first().copied()) {
            bail!("a report was refused: {refused}");
        }
        let Some(push) = frame.params.map(|params| params.result) else { return Ok(()) };
        if push.kind != "jobs" {
            bail!("got {} while working", push.kind);
        }
        let time = now();
        for attempt in push.attempts {
            let comma = if self.report.is_empty() { "" } else { "," };
            self.report.push_str(comma);
            self.report.push_str(r#"{"token":""#);
            self.report.push_str(attempt.token);
            self.report.push_str(r#"","status":"Finished"}"#);
            self.arrivals.push(time);
        }
        Ok(())
    }

    async fn send_report(&mut self) -> anyhow::Result<()> {
        if !self.report.is_empty() {
            let params = format!(
                r#"{{"context_id":{CONTEXT},"runner_id":{},"reports":[{}]}}"#,
                self.id, self.report
            );
            self.report.clear();
            self.socket.send("runner.report", &params).await?;
        }
        Ok(())
    }
}
