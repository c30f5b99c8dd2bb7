//! x
pub mod advertisement;
mod contract;
mod cursor;
mod endpoint;
mod instant;
mod refusal;
#[cfg(test)]
mod vectors;
pub use cursor::Cursor;
pub use refusal::{Reason, Rejection, STYLE};
