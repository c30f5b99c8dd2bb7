//! The built-in runner.

pub mod protocol;
