//! Batches of slices: what a runner is given of a job of the compute face, and what it reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A work function and the slices that it is to be called with, one after another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SliceBatch {
    /// The source of one function expression.
    pub function: String,
    /// Arguments after the datum: a JSON array.
    pub args: Box<RawValue>,
    /// What `work.job.public` is: a JSON object.
    pub public: Box<RawValue>,
    /// Bound on one slice, seconds.
    pub slice_seconds: f64,
    /// The slices, in ascending order.
    pub slices: Vec<Slice>,
}

/// One slice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Its number, from 1.
    pub number: u64,
    /// What the function is called with.
    pub datum: Box<RawValue>,
}

/// What came of one slice, or what it said on the way.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SliceReport")]
pub enum SliceReport {
    /// The function returned.
    Finished {
        /// The slice.
        number: u64,
        /// What it returned.
        #[schemars(with = "serde_json::Value")]
        value: Box<RawValue>,
        /// Processor time it took, seconds.
        seconds: f64,
    },
    /// This attempt at the slice failed.
    Failed {
        /// The slice.
        number: u64,
        /// The name of the error, such as `TypeError`.
        name: String,
        /// What is wrong; with the stack where there is one.
        message: String,
        /// Processor time it took, seconds.
        seconds: f64,
    },
    /// The function called `progress`.
    Progress {
        /// The slice.
        number: u64,
        /// What it was called with; `null` for nothing.
        #[schemars(with = "serde_json::Value")]
        progress: Box<RawValue>,
    },
    /// The function wrote to its console.
    Console {
        /// The slice.
        number: u64,
        /// `log`, `info`, `warn`, `error` or `debug`.
        level: String,
        /// The text.
        message: String,
    },
    /// The function called `work.emit`.
    Emit {
        /// The slice.
        number: u64,
        /// The first argument.
        name: String,
        /// The second.
        #[schemars(with = "serde_json::Value")]
        value: Box<RawValue>,
    },
}
