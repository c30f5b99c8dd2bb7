//! Black-box tests, one module per namespace.

mod actor;
mod context;
mod events;
mod flow;
mod job;
mod message;
mod runner;
mod server;
mod system;
