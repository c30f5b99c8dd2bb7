//! Serves every runner with `local: true`, of every context and compute group, within the coordinator.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::ready;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::stream::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinHandle, JoinSet};

use super::agent::{Agent, Ended, SCRIPT_TYPES, Settings};
use super::executor::Executors;
use super::link::{Attach, Link, LinkError, Notifications};
use crate::app::{App, Caller, Cx};
use crate::method::{Entry, Note};
use crate::model::event::Event;
use crate::model::slices::{FunctionLanguage, is_group};
use crate::store::{Next, RUNNERS};
use crate::{Code, Error, face};

/// Context and id of a runner.
type Key = (u32, u32);

/// Runners served in this process; dropping it ends them, and what they execute, at once.
#[derive(Debug)]
pub struct LocalRunners {
    stop: watch::Sender<bool>,
    watching: Option<JoinHandle<()>>,
}

impl LocalRunners {
    /// Serves them until told to stop. All of them together execute as many jobs at once as
    /// [`Config::local_slots`](crate::config::Config::local_slots) says, in the order in which they
    /// were given out, so that no context keeps another waiting for more than its share.
    pub fn start(app: Arc<App>, executors: Arc<Executors>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let slots = usize::try_from(app.config.local_slots).unwrap_or(1).max(1);
        let watcher = Watcher {
            app,
            executors,
            functions: Vec::new(),
            capabilities: Map::new(),
            permits: Arc::new(Semaphore::new(slots)),
            stopped,
            agents: JoinSet::new(),
            running: HashMap::new(),
            by_task: HashMap::new(),
            replaced: HashSet::new(),
        };
        Self { stop, watching: Some(tokio::spawn(watcher.watch())) }
    }

    /// Lets them finish what they have, within the configured limit. Best before the coordinator
    /// itself stops, so that they can report.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // In place, so that whoever loses patience ends it by dropping this.
        if let Some(watching) = &mut self.watching {
            let _ = watching.await;
        }
    }
}

impl Drop for LocalRunners {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}

struct Watcher {
    app: Arc<App>,
    executors: Arc<Executors>,
    /// Languages of functions that can be called here.
    functions: Vec<&'static str>,
    /// What they find here.
    capabilities: Map<String, Value>,
    permits: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    agents: JoinSet<Ended>,
    running: HashMap<Key, watch::Sender<bool>>,
    by_task: HashMap<Id, Key>,
    /// Served by another process that attached as the same runner.
    replaced: HashSet<Key>,
}

impl Watcher {
    async fn watch(mut self) {
        let functions = self.executors.functions().languages().await;
        self.functions = functions.into_iter().map(FunctionLanguage::as_str).collect();
        self.capabilities = self.executors.functions().capabilities().await;
        while !*self.stopped.borrow() {
            // First the place in the log, then what there is: nothing falls between.
            let Ok(mut follower) = self.app.store.follow(None) else { break };
            self.look_at_all();
            loop {
                let mut stopped = self.stopped.clone();
                tokio::select! {
                    next = follower.next() => match next {
                        Next::Events(events) => events.iter().for_each(|event| self.hear(event)),
                        Next::Lagged => break,
                        Next::Closed => return,
                    },
                    Some(ended) = self.agents.join_next_with_id(), if !self.agents.is_empty() => {
                        self.settle(ended);
                    }
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                }
            }
        }
        for agent in self.running.values() {
            agent.send_replace(true);
        }
        while self.agents.join_next().await.is_some() {}
    }

    fn look_at_all(&mut self) {
        let mut keys = Vec::new();
        let scanned = self.app.store.scan(RUNNERS, &(), None, |key, _| {
            keys.push(key);
            ControlFlow::Continue(())
        });
        if let Err(err) = scanned {
            tracing::error!(%err, "local runners cannot be listed");
        }
        keys.into_iter().for_each(|key| self.look_at(key));
    }

    fn hear(&mut self, event: &Event) {
        let mut parts = event.subject.split('/').skip(1).map(str::parse);
        let (Some(Ok(context)), Some(Ok(id))) = (parts.next(), parts.next()) else { return };
        let key = (context, id);
        let kind: &str = event.kind.as_ref();
        let matters = match kind {
            "runner.created" | "runner.updated" | "runner.deleted" => true,
            // Whoever took its place is gone.
            "runner.detached" => self.replaced.contains(&key),
            _ => false,
        };
        if matters {
            self.replaced.remove(&key);
            self.look_at(key);
        }
    }

    /// Starts or stops what serves a runner, after what is stored.
    fn look_at(&mut self, key: Key) {
        let only_groups = self.app.config.js_runner && !self.app.config.local_runner;
        let served = is_group(key.0) || !only_groups;
        let wanted = match self.app.store.get(RUNNERS, &key) {
            Ok(row) => served && row.is_some_and(|row| row.local),
            Err(err) => {
                tracing::error!(%err, "a runner cannot be read");
                return;
            }
        };
        match self.running.get(&key) {
            Some(agent) if !wanted => {
                agent.send_replace(true);
            }
            None if wanted => self.serve(key),
            _ => {}
        }
    }

    fn serve(&mut self, key: Key) {
        let functions = self.functions.clone();
        let script_types = if is_group(key.0) { functions } else { SCRIPT_TYPES.to_vec() };
        let settings = Settings {
            context_id: key.0,
            runner_id: key.1,
            script_types,
            slots: self.app.config.local_slots.max(1),
            capabilities: if is_group(key.0) { self.capabilities.clone() } else { Map::new() },
            groups: Vec::new(),
            labels: BTreeMap::from([("built_in".to_owned(), "local".to_owned())]),
            drain_limit: self.app.config.drain_timeout,
            now: self.app.now,
        };
        let link = Inside { app: Arc::clone(&self.app) };
        let (executors, permits) = (Arc::clone(&self.executors), Arc::clone(&self.permits));
        let agent = Agent::new(link, settings, executors, permits);
        let (stop, mut stopped) = watch::channel(false);
        let task = self.agents.spawn(agent.run(async move {
            // The sender is kept until the agent has ended.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }));
        self.by_task.insert(task.id(), key);
        self.running.insert(key, stop);
    }

    fn settle(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let (id, how) = match ended {
            Ok((id, how)) => (id, Some(how)),
            Err(err) => {
                tracing::error!(%err, "a local runner failed");
                (err.id(), None)
            }
        };
        let Some(key) = self.by_task.remove(&id) else { return };
        let asked = self.running.remove(&key).is_some_and(|agent| *agent.borrow());
        tracing::info!(context_id = key.0, runner_id = key.1, ?how, "a local runner ended");
        if asked {
            // It may be wanted again by now.
            self.look_at(key);
        } else if how == Some(Ended::Replaced) {
            self.replaced.insert(key);
        }
    }
}

/// The coordinator of this very process.
#[derive(Debug)]
struct Inside {
    app: Arc<App>,
}

impl Inside {
    fn entry(method: &str) -> Result<&'static Entry, LinkError> {
        let found = face::entries().iter().find(|entry| entry.def.spec.name == method);
        found.ok_or_else(|| LinkError::Refused {
            code: Code::MethodNotFound.number(),
            message: format!("{method} is not there"),
        })
    }

    fn cx(&self) -> Cx {
        Cx::inside(Arc::clone(&self.app), Caller::Operator)
    }
}

impl Link for Inside {
    async fn attach(&self, params: &Attach) -> Result<Notifications, LinkError> {
        let items = Self::entry("runner.attach")?.open(self.cx(), &text(params)?).await;
        let read = |note| {
            let Note::Item(json) = note else { return None };
            let read = serde_json::from_str(json.get());
            read.inspect_err(|err| tracing::error!(%err, "a notification cannot be read")).ok()
        };
        Ok(items
            .map_err(|err| refused(&err))?
            .notes
            .filter_map(move |note| ready(read(note)))
            .boxed())
    }

    async fn call<P: Serialize + Sync, T: DeserializeOwned + Send>(
        &self,
        method: &'static str,
        params: &P,
    ) -> Result<T, LinkError> {
        let answer = Self::entry(method)?.call(self.cx(), &text(params)?).await;
        serde_json::from_str(answer.map_err(|err| refused(&err))?.get())
            .map_err(|err| unreadable(&err))
    }
}

fn text(params: &impl Serialize) -> Result<String, LinkError> {
    serde_json::to_string(params).map_err(|err| unreadable(&err))
}

fn refused(err: &Error) -> LinkError {
    LinkError::Refused { code: err.code().number(), message: err.to_string() }
}

fn unreadable(err: &serde_json::Error) -> LinkError {
    LinkError::Refused { code: Code::InternalError.number(), message: err.to_string() }
}
