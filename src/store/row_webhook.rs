//! Rows of web hooks: how far each has been told.

use minicbor::{Decode, Encode};

use crate::model::Millis;

/// Where the results of an open job are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WebhookRow {
    /// The URL.
    #[n(0)]
    pub url: String,
    /// The number of the job's last event that needs nothing more done about it.
    #[n(1)]
    pub seq: u64,
    /// Since when nothing has been taken there.
    #[n(2)]
    pub failing_since: Option<Millis>,
    /// Results that were given up.
    #[n(3)]
    pub lost: u64,
}
