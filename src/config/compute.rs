//! Settings of the compute face.

use super::setting::{Kind, Setting};
use super::transport::Origins;
use super::value::switch;
use crate::model::credit::{Credit, millionths};

/// What the compute face may do that not every operator wants.
#[derive(Clone, Debug)]
pub struct Compute {
    /// Where results may be sent to; empty: nowhere.
    pub webhook_allow: Origins,
    /// Where slices may be fetched from; empty: nowhere.
    pub remote_data_allow: Origins,
    /// Charge accounts for finished slices.
    pub credits: bool,
    /// What a slice costs of a job that offers the market's value, millionths.
    pub market_value: u64,
}

impl Default for Compute {
    fn default() -> Self {
        let nowhere = Origins::default;
        Self {
            webhook_allow: nowhere(),
            remote_data_allow: nowhere(),
            credits: false,
            market_value: 1_000_000,
        }
    }
}

/// Where they are set.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        key: "webhook_allow",
        kind: Kind::Text,
        doc: "Origins that results of jobs may be sent to, comma-separated; empty: none",
        read: |config, text| {
            Origins::read(text).map(|origins| config.compute.webhook_allow = origins)
        },
        show: |config| config.compute.webhook_allow.to_string(),
    },
    Setting {
        key: "remote_data_allow",
        kind: Kind::Text,
        doc: "Origins that slices of jobs may be fetched from, comma-separated; empty: none",
        read: |config, text| {
            Origins::read(text).map(|origins| config.compute.remote_data_allow = origins)
        },
        show: |config| config.compute.remote_data_allow.to_string(),
    },
    Setting {
        key: "credits",
        kind: Kind::Switch,
        doc: "Charge accounts for finished slices, and pause jobs whose account cannot pay",
        read: |config, text| switch(text).map(|on| config.compute.credits = on),
        show: |config| config.compute.credits.to_string(),
    },
    Setting {
        key: "market_value",
        kind: Kind::Text,
        doc: "What a slice costs of a job that offers MARKET_VALUE, a decimal number",
        read: |config, text| {
            let value =
                millionths(text).ok_or_else(|| format!("must be a number, not `{text}`"))?;
            config.compute.market_value = value;
            Ok(())
        },
        show: |config| {
            Credit(i64::try_from(config.compute.market_value).unwrap_or(i64::MAX)).to_string()
        },
    },
];
