//! `muster bench`: whole-system figures beside raw baselines of the same run.

pub mod clock;
pub mod report;
pub mod shape;
