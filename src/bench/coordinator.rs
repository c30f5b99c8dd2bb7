//! The bare coordinator: hands out jobs and counts them, durably, but knows nothing else. No
//! states, no leases, no events, no rules; what it lacks is what a coordinator costs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, mpsc};

use jsonrpsee::core::{RegisterMethodError, to_json_raw_value};
use jsonrpsee::server::RpcModule;
use jsonrpsee::types::ErrorObjectOwned;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc as channel, oneshot};

use super::bare::Bare;

/// Flows that are running, and who runs them.
#[derive(Debug)]
pub(super) struct Coordinator {
    work: Arc<Mutex<Work>>,
    journal: mpsc::Sender<Record>,
}

#[derive(Debug, Default)]
struct Work {
    flow: u32,
    /// How many jobs are not done.
    left: usize,
    /// Jobs that may run, last first.
    ready: Vec<u32>,
    /// How many each job still waits for.
    waits: HashMap<u32, usize>,
    children: HashMap<u32, Vec<u32>>,
    free: usize,
    runner: Option<channel::UnboundedSender<Vec<u32>>>,
    watcher: Option<channel::UnboundedSender<u32>>,
}

/// What is to be on disk before `done` is told, and the jobs that ended with it.
struct Record {
    bytes: Vec<u8>,
    ended: Vec<u32>,
    done: oneshot::Sender<()>,
}

#[derive(Deserialize)]
struct Submit {
    flow: Flow,
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Flow {
    id: u32,
}

#[derive(Deserialize)]
struct Job {
    id: u32,
    depends: Vec<u32>,
}

#[derive(Deserialize)]
struct Attach {
    slots: usize,
}

#[derive(Deserialize)]
struct Reports {
    reports: Vec<Report>,
}

#[derive(Deserialize)]
struct Report {
    token: String,
}

impl Coordinator {
    /// Starts the thread that writes to `file`.
    pub(super) fn start(mut file: File) -> std::io::Result<Self> {
        let work = Arc::new(Mutex::new(Work::default()));
        let (journal, records) = mpsc::channel::<Record>();
        let shared = Arc::clone(&work);
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Ok(first) = records.recv() {
                let mut group = vec![first];
                group.extend(records.try_iter().take(1_000));
                let bytes = group.iter().map(|record| record.bytes.as_slice());
                let bytes = bytes.collect::<Vec<_>>().concat();
                if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
                    return;
                }
                let mut work = shared.lock();
                for record in group {
                    work.finish(&record.ended);
                    let _ = record.done.send(());
                }
                work.dispatch();
            }
        })?;
        Ok(Self { work, journal })
    }

    async fn write(&self, bytes: Vec<u8>, ended: Vec<u32>) -> Result<(), ErrorObjectOwned> {
        let (done, written) = oneshot::channel();
        let failed = || ErrorObjectOwned::owned(-32010, "the journal is gone", None::<()>);
        self.journal.send(Record { bytes, ended, done }).map_err(|_| failed())?;
        written.await.map_err(|_| failed())
    }
}

impl Work {
    fn begin(&mut self, submit: &Submit) {
        self.flow = submit.flow.id;
        self.left = submit.jobs.len();
        self.waits.clear();
        self.children.clear();
        for job in submit.jobs.iter().rev() {
            if job.depends.is_empty() {
                self.ready.push(job.id);
            } else {
                self.waits.insert(job.id, job.depends.len());
            }
            for from in &job.depends {
                self.children.entry(*from).or_default().push(job.id);
            }
        }
        self.dispatch();
    }

    /// What hung on these jobs may run now.
    fn finish(&mut self, ended: &[u32]) {
        for job in ended {
            self.left = self.left.saturating_sub(1);
            for child in self.children.remove(job).unwrap_or_default() {
                let Some(waits) = self.waits.get_mut(&child) else { continue };
                *waits -= 1;
                if *waits == 0 {
                    self.ready.push(child);
                }
            }
        }
        if self.left == 0 && !ended.is_empty() {
            let _ = self.watcher.as_ref().map(|watcher| watcher.send(self.flow));
        }
    }

    fn dispatch(&mut self) {
        let count = self.free.min(self.ready.len());
        let jobs = self.ready.split_off(self.ready.len() - count);
        if let Some(runner) = self.runner.as_ref().filter(|_| !jobs.is_empty()) {
            self.free -= count;
            let _ = runner.send(jobs);
        }
    }
}

/// Adds the methods that the workloads use.
pub(super) fn register(module: &mut RpcModule<Bare>) -> Result<(), RegisterMethodError> {
    for name in ["context.create", "runner.create"] {
        module.register_method(name, |_, _, _| true)?;
    }
    module.register_async_method("flow.submit", |params, bare, _| async move {
        let bytes = params.as_str().unwrap_or_default().as_bytes().to_vec();
        let submit: Submit = params.parse()?;
        bare.coordinator.write(bytes, Vec::new()).await?;
        bare.coordinator.work.lock().begin(&submit);
        Ok::<_, ErrorObjectOwned>(json!({ "status": "Started" }))
    })?;
    module.register_async_method("runner.report", |params, bare, _| async move {
        let bytes = params.as_str().unwrap_or_default().as_bytes().to_vec();
        let reports: Reports = params.parse()?;
        let ended: Vec<u32> =
            reports.reports.iter().filter_map(|report| report.token.parse().ok()).collect();
        let accepted = ended.len();
        {
            // A slot is free at once; only what hangs on the jobs waits for the disk.
            let mut work = bare.coordinator.work.lock();
            work.free += accepted;
            work.dispatch();
        }
        bare.coordinator.write(bytes, ended).await?;
        Ok::<_, ErrorObjectOwned>(json!({ "accepted": accepted, "refused": [] }))
    })?;
    module.register_subscription(
        "runner.attach",
        "runner.message",
        "runner.detach",
        |params, pending, bare, _| async move {
            let Ok(attach) = params.parse::<Attach>() else { return };
            let Ok(sink) = pending.accept().await else { return };
            let (runner, mut jobs) = channel::unbounded_channel::<Vec<u32>>();
            {
                let mut work = bare.coordinator.work.lock();
                (work.free, work.runner) = (attach.slots, Some(runner));
                work.dispatch();
            }
            loop {
                let next = tokio::select! {
                    () = sink.closed() => return,
                    next = jobs.recv() => next,
                };
                let Some(mut batch) = next else { return };
                while let Ok(more) = jobs.try_recv() {
                    batch.extend(more);
                }
                let attempt = |id: &u32| json!({ "job_id": id, "token": id.to_string() });
                let attempts: Vec<_> = batch.iter().map(attempt).collect();
                let push = json!({ "kind": "jobs", "attempts": attempts });
                let Ok(message) = to_json_raw_value(&push) else { return };
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        },
    )?;
    module.register_subscription(
        "events.subscribe",
        "events.event",
        "events.unsubscribe",
        |_, pending, bare, _| async move {
            let Ok(sink) = pending.accept().await else { return };
            let (watcher, mut flows) = channel::unbounded_channel();
            bare.coordinator.work.lock().watcher = Some(watcher);
            while let Some(flow) = flows.recv().await {
                let event =
                    json!({ "subject": format!("flow/1/{flow}"), "data": { "to": "Finished" } });
                let Ok(message) = to_json_raw_value(&event) else { return };
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        },
    )?;
    Ok(())
}
