//! The methods, one folder per mirrored system.

pub mod adv;
pub mod cap;
pub mod core;
pub mod dcp;

use std::sync::LazyLock;

use crate::method::{Def, Entry};

/// Every namespace; a new one adds its line here.
const NAMESPACES: &[&[Def]] = &[
    core::actor::METHODS,
    core::context::METHODS,
    core::runner::METHODS,
    core::runner_sessions::METHODS,
    core::flow::METHODS,
    core::flow_graph::METHODS,
    core::flow_progress::METHODS,
    core::flow_drawing::METHODS,
    core::flow_runs::METHODS,
    core::job::METHODS,
    core::job_history::METHODS,
    core::job_runs::METHODS,
    core::message::METHODS,
    core::auth::METHODS,
    core::api_key::METHODS,
    core::token::METHODS,
    core::audit::METHODS,
    core::events::METHODS,
    core::follow::METHODS,
    core::system::METHODS,
    core::system_stats::METHODS,
    core::system_backup::METHODS,
    dcp::job_deploy::METHODS,
    dcp::job_slices::METHODS,
    dcp::job_result::METHODS,
    dcp::job_status::METHODS,
    dcp::job_hold::METHODS,
    dcp::job_list::METHODS,
    dcp::job_subscribe::METHODS,
    dcp::accounts::METHODS,
    dcp::accounts_credit::METHODS,
    dcp::api_key::METHODS,
    dcp::identity::METHODS,
    dcp::group::METHODS,
    adv::get::METHODS,
    adv::put::METHODS,
    adv::list::METHODS,
    adv::subscribe::METHODS,
    cap::put::METHODS,
    cap::get::METHODS,
    cap::find::METHODS,
    cap::revoke::METHODS,
    cap::revocations::METHODS,
];

/// Every method, in publication order.
pub fn defs() -> impl Iterator<Item = &'static Def> {
    NAMESPACES.iter().copied().flatten()
}

/// Every method, ready to be called.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: LazyLock<Vec<Entry>> =
        LazyLock::new(|| defs().enumerate().map(Entry::new).collect());
    &ENTRIES
}
