//! Rows of the compute face: open jobs, their slices, and what has come of them.

use minicbor::{Decode, Encode};

use crate::model::Millis;
use crate::model::address::Address;
use crate::model::demand::Demands;
use crate::model::slices::FunctionLanguage;
use crate::model::work::{Ledger, WorkStatus};

/// An open job as its owner described it; what is read of it often.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WorkRow {
    /// Its number, by which all other rows name it.
    #[n(0)]
    pub number: u32,
    /// The address of the identity that deployed it.
    #[n(1)]
    pub owner: Address,
    /// When it was deployed.
    #[n(2)]
    pub created_at: Millis,
    /// Its place among the jobs of its owner; ascends with time.
    #[n(3)]
    pub made: u64,
    /// The language of its function.
    #[n(4)]
    pub language: FunctionLanguage,
    /// The compute group whose runners serve it.
    #[n(5)]
    pub group: u32,
    /// The account that pays for it.
    #[n(6)]
    pub account: Address,
    /// What is offered for a slice, as the client wrote it.
    #[n(7)]
    pub offer: String,
    /// Its name in listings.
    #[n(8)]
    pub name: String,
    /// Its description in listings.
    #[n(9)]
    pub description: String,
    /// Its link in listings.
    #[n(10)]
    pub link: String,
    /// Attempts at a slice before it has failed.
    #[n(11)]
    pub attempts: u32,
    /// How long one slice may take, milliseconds.
    #[n(12)]
    pub slice_millis: u64,
    /// What it asks of runners.
    #[cbor(n(13), default)]
    pub demands: Demands,
    /// Its slices up to this number are URLs of what they are.
    #[cbor(n(14), default)]
    pub remote: u64,
    /// What a finished slice costs, millionths; 0 where nothing is charged.
    #[cbor(n(15), default)]
    pub price: u64,
}

/// The function of an open job, and what is said once about all its slices.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WorkSourceRow {
    /// The source of one function expression.
    #[n(0)]
    pub function: String,
    /// Arguments after the datum: the text of a JSON array.
    #[n(1)]
    pub args: String,
    /// Demands on runners: the text of a JSON object.
    #[n(2)]
    pub requirements: String,
    /// Modules that the function needs.
    #[n(3)]
    pub packages: Vec<String>,
}

/// How an open job stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WorkRunRow {
    /// Its id.
    #[n(0)]
    pub id: Address,
    /// The account of its slices.
    #[n(1)]
    pub ledger: Ledger,
}

/// JSON texts of slices in a row: inputs or results. The key has the number of the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TextsRow {
    /// The texts, one after another.
    #[n(0)]
    pub text: String,
    /// Where in it each of them ends.
    #[n(1)]
    pub ends: Vec<u32>,
}

impl TextsRow {
    /// Appends a text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        u64::try_from(self.ends.len()).unwrap_or(u64::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The number of the first slice, when `last` is that of the last.
    pub fn first(&self, last: u64) -> u64 {
        last.saturating_sub(self.len().saturating_sub(1))
    }

    /// Each text, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let at = |end: u32| usize::try_from(end).unwrap_or(usize::MAX);
        let begins = std::iter::once(0).chain(self.ends.iter().map(move |end| at(*end)));
        begins
            .zip(&self.ends)
            .map(move |(begin, end)| self.text.get(begin..at(*end)).unwrap_or("null"))
    }

    /// Each text with its number, when `last` is that of the last.
    pub fn numbered(&self, last: u64) -> impl Iterator<Item = (u64, &str)> {
        (self.first(last)..=last).zip(self.iter())
    }
}

/// Slices in a row that are to be tried again, or one that has failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SliceFailureRow {
    /// The number of the last of them; the key has the first.
    #[n(0)]
    pub last: u64,
    /// Attempts that have failed.
    #[n(1)]
    pub attempts: u32,
    /// The name of the last error.
    #[n(2)]
    pub name: String,
    /// What was wrong.
    #[n(3)]
    pub message: String,
    /// It is to be tried by itself, because it may bring others down.
    #[n(4)]
    pub alone: bool,
}

/// An event of an open job, or several results in a row. The key has the number of the last one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WorkEventRow {
    /// When.
    #[n(0)]
    pub at: Millis,
    /// What.
    #[n(1)]
    pub what: WorkEvent,
}

/// What happened to an open job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WorkEvent {
    /// It stands otherwise.
    #[n(0)]
    Status {
        /// How.
        #[n(0)]
        status: WorkStatus,
        /// Why, of a cancelled one.
        #[n(1)]
        reason: Option<String>,
    },
    /// Slices were added.
    #[n(1)]
    Slices {
        /// How many.
        #[n(0)]
        added: u64,
        /// How many there are now.
        #[n(1)]
        total: u64,
    },
    /// Slices in a row have results, one event for each.
    #[n(2)]
    Results {
        /// The first.
        #[n(0)]
        first: u64,
        /// The last.
        #[n(1)]
        last: u64,
    },
    /// An attempt at a slice has failed.
    #[n(3)]
    Error {
        /// The slice.
        #[n(0)]
        number: u64,
        /// The number of the attempt, from 1.
        #[n(1)]
        attempt: u32,
        /// Whether it was the last.
        #[n(2)]
        last: bool,
        /// The name of the error.
        #[n(3)]
        name: String,
        /// What was wrong.
        #[n(4)]
        message: String,
    },
}

impl WorkEvent {
    /// How many events it stands for.
    pub const fn count(&self) -> u64 {
        match self {
            Self::Results { first, last } => last.saturating_sub(*first).saturating_add(1),
            Self::Status { .. } | Self::Slices { .. } | Self::Error { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_order_and_numbers() {
        let mut row = TextsRow::default();
        for text in ["1", "\"\u{e9}\"", "[]"] {
            row.push(text);
        }
        assert_eq!(row.numbered(9).collect::<Vec<_>>(), [(7, "1"), (8, "\"\u{e9}\""), (9, "[]")]);
        assert_eq!(TextsRow::default().iter().count(), 0);
    }
}
