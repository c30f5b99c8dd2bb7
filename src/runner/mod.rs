//! The built-in runner: executes jobs, in this process or another, and reports on them.
//!
//! - [`protocol`]: what a runner and the coordinator say to each other
//! - [`executor`]: what runs one attempt; a language is one file behind it
//! - [`process`], [`supervisor`]: child processes that are never left behind
//! - [`script`], [`sandbox`]: Rhai, and the processes that it runs in
//! - [`agent`], [`link`], [`local`]: the loop, over WebSocket or within the coordinator

pub mod agent;
pub mod executor;
pub mod link;
mod logs;
mod outbox;
pub mod process;
pub use crate::model::protocol;
mod reap;
pub mod sandbox;
pub mod script;
pub mod supervisor;
mod workdir;

pub use executor::{Assignment, Executor, Executors, Outcome, Stop, StopReason, Stopper};
pub use logs::Logs;
