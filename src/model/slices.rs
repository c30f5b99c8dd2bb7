//! Batches of slices: what a runner is given of a job of the compute face, and what it reports.

use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The contexts that are compute groups: runners attach to them as to any other, and no client
/// can create one of them. Not the highest ids, which clients are likelier to choose.
pub const GROUPS: std::ops::RangeInclusive<u32> = u32::MAX - 511..=u32::MAX - 256;
/// The group that is open to all.
pub const PUBLIC_GROUP: u32 = *GROUPS.end();

/// Whether the context is a compute group.
pub const fn is_group(context: u32) -> bool {
    *GROUPS.start() <= context && context <= *GROUPS.end()
}

/// The language of a work function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum FunctionLanguage {
    /// ECMAScript.
    #[n(0)]
    JavaScript,
    /// Python.
    #[n(1)]
    Python,
}

impl FunctionLanguage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::JavaScript, Self::Python];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }
}

/// A work function and the slices that it is to be called with, one after another.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SliceBatch {
    /// The source of one function expression.
    pub function: String,
    /// Arguments after the datum: a JSON array.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub args: Box<RawValue>,
    /// What `work.job.public` is: a JSON object.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub public: Box<RawValue>,
    /// Bound on one slice, seconds.
    pub slice_seconds: f64,
    /// The slices, in ascending order.
    pub slices: Vec<Slice>,
}

/// One slice.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    /// Its number, from 1.
    pub number: u64,
    /// What the function is called with.
    #[schemars(with = "serde_json::Value")]
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

/// What holds JSON texts as they came is equal when it is written the same.
macro_rules! equal_as_written {
    ($($name:ident)+) => { $(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                let written = |one| serde_json::to_string(one).ok();
                written(self) == written(other)
            }
        }

        impl Eq for $name {}
    )+ };
}
equal_as_written!(SliceBatch Slice SliceReport);
