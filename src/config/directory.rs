//! Settings of the directory.

use std::num::NonZeroU32;
use std::time::Duration;

use super::setting::{Kind, Setting};
use super::value::{bytes, in_seconds, list, number, positive, small};

/// What the directory accepts and keeps.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Largest advertisement, bytes.
    pub max_bytes: u32,
    /// Levels of arrays and objects in it.
    pub max_depth: u32,
    /// How far ahead of our clock it may be made.
    pub tolerance: Duration,
    /// Longest time from when it is made to when it expires.
    pub max_lifetime: Duration,
    /// Accepted federations; all when there is none.
    pub federations: Vec<String>,
    /// Advertisements in one page at most.
    pub page: u32,
    /// Bytes in one page, about.
    pub page_bytes: u32,
    /// Nodes of which something is kept.
    pub max_nodes: u64,
    /// Writes of one node at once.
    pub budget: NonZeroU32,
    /// Time until a node has one of them back.
    pub budget_refill: Duration,
    /// Writes of one address at once, whatever becomes of them; none: as many as it likes.
    pub source_budget: Option<NonZeroU32>,
    /// Time until an address has one of them back.
    pub source_refill: Duration,
    /// How often expired advertisements are removed.
    pub sweep: Duration,
    /// Advertisements that a subscriber may be behind.
    pub push_queue: u32,
    /// Capabilities of all nodes that are kept.
    pub max_capabilities: u64,
    /// Capabilities that one node may have at a time.
    pub capabilities_per_node: u32,
    /// Revocations that are kept, for good.
    pub max_revocations: u64,
    /// What this node publishes about itself.
    pub own: OwnAdvertisement,
}

/// What this node publishes about itself.
#[derive(Clone, Debug)]
pub struct OwnAdvertisement {
    /// Where it listens, the preferred address first; nothing is published when there is none.
    pub endpoints: Vec<String>,
    /// How long an advertisement is good; the next one follows after a third of that.
    pub lifetime: Duration,
    /// The federation it names.
    pub federation: Option<String>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            max_bytes: 65_536,
            max_depth: 32,
            tolerance: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(604_800),
            federations: Vec::new(),
            page: 100,
            page_bytes: 4 << 20,
            max_nodes: 100_000,
            budget: NonZeroU32::MIN.saturating_add(59),
            budget_refill: Duration::from_secs(1),
            source_budget: None,
            source_refill: Duration::from_secs(1),
            sweep: Duration::from_secs(5),
            push_queue: 1_024,
            max_capabilities: 100_000,
            capabilities_per_node: 64,
            max_revocations: 1_000_000,
            own: OwnAdvertisement {
                endpoints: Vec::new(),
                lifetime: Duration::from_secs(3_600),
                federation: None,
            },
        }
    }
}

/// They come after those of the core.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        key: "adv_max_bytes",
        kind: Kind::Bytes,
        doc: "Largest advertisement",
        read: |config, text| {
            let most = bytes(text, 1_024..=1 << 20)?;
            config.directory.max_bytes = most.try_into().map_err(|_| "too large".to_owned())?;
            Ok(())
        },
        show: |config| config.directory.max_bytes.to_string(),
    },
    Setting {
        key: "adv_max_depth",
        kind: Kind::Count,
        doc: "Levels of arrays and objects in an advertisement",
        read: |config, text| small(text, 4..=128).map(|most| config.directory.max_depth = most),
        show: |config| config.directory.max_depth.to_string(),
    },
    Setting {
        key: "adv_tolerance",
        kind: Kind::Seconds,
        doc: "How far ahead of our clock an advertisement may be made",
        read: |config, text| {
            super::value::seconds(text).map(|limit| config.directory.tolerance = limit)
        },
        show: |config| in_seconds(config.directory.tolerance),
    },
    Setting {
        key: "adv_max_lifetime",
        kind: Kind::Seconds,
        doc: "Longest time from when an advertisement is made to when it expires",
        read: |config, text| positive(text).map(|limit| config.directory.max_lifetime = limit),
        show: |config| in_seconds(config.directory.max_lifetime),
    },
    Setting {
        key: "adv_federations",
        kind: Kind::Text,
        doc: "Accepted federations, separated by commas; empty: all, also those without one",
        read: |config, text| {
            config.directory.federations = list(text);
            Ok(())
        },
        show: |config| config.directory.federations.join(","),
    },
    Setting {
        key: "adv_page",
        kind: Kind::Count,
        doc: "Advertisements in one page at most",
        read: |config, text| small(text, 1..=10_000).map(|most| config.directory.page = most),
        show: |config| config.directory.page.to_string(),
    },
    Setting {
        key: "adv_page_bytes",
        kind: Kind::Bytes,
        doc: "Bytes in one page of advertisements, about",
        read: |config, text| {
            let most = bytes(text, 1_024..=1 << 28)?;
            config.directory.page_bytes = most.try_into().map_err(|_| "too large".to_owned())?;
            Ok(())
        },
        show: |config| config.directory.page_bytes.to_string(),
    },
    Setting {
        key: "adv_max_nodes",
        kind: Kind::Count,
        doc: "Nodes of which an advertisement, or its number, is kept",
        read: |config, text| {
            number(text, 1..=u64::MAX).map(|most| config.directory.max_nodes = most)
        },
        show: |config| config.directory.max_nodes.to_string(),
    },
    Setting {
        key: "adv_budget",
        kind: Kind::Count,
        doc: "Writes of one node at once",
        read: |config, text| {
            let most = small(text, 1..=1_000_000)?;
            config.directory.budget = most.try_into().unwrap_or(NonZeroU32::MIN);
            Ok(())
        },
        show: |config| config.directory.budget.to_string(),
    },
    Setting {
        key: "adv_budget_refill",
        kind: Kind::Seconds,
        doc: "Time after which a node may write once more",
        read: |config, text| positive(text).map(|time| config.directory.budget_refill = time),
        show: |config| in_seconds(config.directory.budget_refill),
    },
    Setting {
        key: "adv_source_budget",
        kind: Kind::Count,
        doc: "Attempts to write from one address at once; 0: as many as it likes",
        read: |config, text| {
            let most = small(text, 0..=1_000_000)?;
            config.directory.source_budget = NonZeroU32::new(most);
            Ok(())
        },
        show: |config| config.directory.source_budget.map_or(0, NonZeroU32::get).to_string(),
    },
    Setting {
        key: "adv_source_refill",
        kind: Kind::Seconds,
        doc: "Time after which an address may try to write once more",
        read: |config, text| positive(text).map(|time| config.directory.source_refill = time),
        show: |config| in_seconds(config.directory.source_refill),
    },
    Setting {
        key: "adv_sweep",
        kind: Kind::Seconds,
        doc: "How often expired advertisements are removed",
        read: |config, text| positive(text).map(|time| config.directory.sweep = time),
        show: |config| in_seconds(config.directory.sweep),
    },
    Setting {
        key: "adv_push_queue",
        kind: Kind::Count,
        doc: "Advertisements that a subscriber may be behind before it is ended as lagged",
        read: |config, text| {
            small(text, 1..=1_000_000).map(|most| config.directory.push_queue = most)
        },
        show: |config| config.directory.push_queue.to_string(),
    },
    Setting {
        key: "cap_max_entries",
        kind: Kind::Count,
        doc: "Capabilities of all nodes that are kept",
        read: |config, text| {
            number(text, 1..=u64::MAX).map(|most| config.directory.max_capabilities = most)
        },
        show: |config| config.directory.max_capabilities.to_string(),
    },
    Setting {
        key: "cap_per_node",
        kind: Kind::Count,
        doc: "Capabilities that one node may have at a time",
        read: |config, text| {
            small(text, 1..=1_000).map(|most| config.directory.capabilities_per_node = most)
        },
        show: |config| config.directory.capabilities_per_node.to_string(),
    },
    Setting {
        key: "revocation_max_entries",
        kind: Kind::Count,
        doc: "Revocations that are kept; none is ever forgotten",
        read: |config, text| {
            number(text, 1..=u64::MAX).map(|most| config.directory.max_revocations = most)
        },
        show: |config| config.directory.max_revocations.to_string(),
    },
    Setting {
        key: "adv_endpoints",
        kind: Kind::Text,
        doc: "Where this node says that it listens, wss://…, separated by commas; empty: it says nothing",
        read: |config, text| {
            let endpoints = list(text);
            if let Some(wrong) = endpoints.iter().find(|url| !url.starts_with("wss://")) {
                return Err(format!("must be addresses that begin with wss://, not `{wrong}`"));
            }
            config.directory.own.endpoints = endpoints;
            Ok(())
        },
        show: |config| config.directory.own.endpoints.join(","),
    },
    Setting {
        key: "adv_lifetime",
        kind: Kind::Seconds,
        doc: "How long this node's advertisement is good; a third of that later comes the next",
        read: |config, text| positive(text).map(|time| config.directory.own.lifetime = time),
        show: |config| in_seconds(config.directory.own.lifetime),
    },
    Setting {
        key: "adv_federation",
        kind: Kind::Text,
        doc: "The federation that this node's advertisement names; empty: none",
        read: |config, text| {
            config.directory.own.federation = Some(text.to_owned()).filter(|text| !text.is_empty());
            Ok(())
        },
        show: |config| config.directory.own.federation.clone().unwrap_or_default(),
    },
];
