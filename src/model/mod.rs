//! What things are and how they change: no I/O, no clock, no randomness.

pub mod address;
pub mod credit;
pub mod dag;
pub mod demand;
pub mod distinct;
pub mod environment;
pub mod event;
pub mod flow;
pub mod gate;
pub mod message;
pub mod numbers;
pub mod protocol;
pub mod render;
pub mod slices;
pub mod task;
pub mod text;
pub mod work;

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// Context, caller and id: what names a job or a message.
pub type Triple = (u32, u32, u32);
