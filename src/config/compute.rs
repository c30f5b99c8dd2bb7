//! Settings of the compute face.

use super::setting::{Kind, Setting};
use super::transport::Origins;

/// What the compute face reaches beyond this machine.
#[derive(Clone, Debug, Default)]
pub struct Compute {
    /// Where results may be sent to; empty: nowhere.
    pub webhook_allow: Origins,
    /// Where slices may be fetched from; empty: nowhere.
    pub remote_data_allow: Origins,
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
];
