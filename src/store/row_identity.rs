//! Rows of identities: their payment accounts and API keys.

use minicbor::{Decode, Encode};

use crate::model::Millis;
use crate::model::address::Address;

/// In the account index: what follows is an address.
pub const ACCOUNT_BY_ADDRESS: u8 = 0;
/// In the account index: what follows is a name.
pub const ACCOUNT_BY_NAME: u8 = 1;

/// What an identity has, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct IdentityRow {
    /// Accounts entered so far: the next one's number.
    #[n(0)]
    pub accounts: u32,
    /// API keys that are valid.
    #[n(1)]
    pub keys: u32,
}

/// A payment account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AccountRow {
    /// What it is called.
    #[n(0)]
    pub name: String,
    /// Its address.
    #[n(1)]
    pub address: Address,
    /// When it was entered.
    #[n(2)]
    pub created_at: Millis,
    /// What is on it, millionths; less than nothing when more was begun than could be paid.
    #[cbor(n(3), default)]
    pub balance: i64,
}

/// An API key; its digits and its secret are not kept.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeystoreKeyRow {
    /// Whose it is.
    #[n(0)]
    pub identity: Address,
    /// The keystore, still encrypted, as JSON text.
    #[n(1)]
    pub keystore: String,
    /// Where its owner can be reached.
    #[n(2)]
    pub email: Option<String>,
    /// When it was made.
    #[n(3)]
    pub created_at: Millis,
}

/// Without the keystore, which can be attacked by guessing passwords.
impl std::fmt::Debug for KeystoreKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeystoreKeyRow")
            .field("identity", &self.identity)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}
