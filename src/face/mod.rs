//! The methods, one folder per mirrored system.

pub mod core;

use std::sync::LazyLock;

use crate::method::{Def, Entry};

/// Every namespace; a new one adds its line here.
const NAMESPACES: &[&[Def]] = &[core::system::METHODS];

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
