//! Who is calling: secrets, signatures, roles, and what is remembered of those who were refused.
//!
//! - [`secret`]: texts that prove who somebody is, and the digests that are kept of them
//! - [`join`]: secrets of compute groups
//! - [`keyring`]: every valid secret, in memory
//! - [`grant`]: what a caller has shown, and for how long it counts
//! - [`visitor`]: who is at the other end of a connection or sent a request
//! - [`challenge`], [`proof`]: signing in with a key
//! - [`roles`]: what an actor may do in a context
//! - [`standing`]: whether one who follows something still may
//! - [`refusals`]: those who were refused, for the audit

mod challenge;
mod grant;
mod join;
mod keyring;
pub mod principal;
mod proof;
mod refusals;
mod roles;
mod secret;
mod standing;
mod visitor;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

pub use challenge::{Challenge, Challenges};
pub use grant::{Grant, Means};
pub use join::JoinProof;
pub use keyring::{Keyring, short};
pub use proof::{SIGN_IN, key_of, signed_by, signing_key, signs};
pub use refusals::{REFUSED, Refusals};
pub use roles::{Role, Roles};
pub use secret::{Kind, Secret};
pub use standing::Standing;
pub use visitor::{Seen, Visitor};

use crate::app::Caller;
use crate::config::Config;
use crate::limiter::{Limiter, neighbourhood};
use crate::store::Store;
use crate::{Error, Result};

/// Wrong credentials of one address that are answered as such, per second and at once; more of
/// them are told to wait.
const FAILURES: (NonZeroU32, NonZeroU32) =
    (NonZeroU32::new(1).unwrap(), NonZeroU32::new(20).unwrap());

/// Decides who is calling.
#[derive(Debug)]
pub struct Keeper {
    /// Every valid secret.
    pub keyring: Keyring,
    /// What actors may do.
    pub roles: Roles,
    /// Challenges to be signed.
    pub challenges: Challenges,
    /// Those who were refused.
    pub refusals: Refusals,
    failures: Limiter<IpAddr>,
    guesses: Limiter<IpAddr>,
}

impl Keeper {
    /// Reads what is stored, and follows it from now on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(store: &Arc<Store>, config: &Config) -> Result<Self> {
        Ok(Self {
            keyring: Keyring::open(store, &config.operator_tokens)?,
            roles: Roles::new(store),
            challenges: Challenges::new()?,
            refusals: Refusals::default(),
            failures: Limiter::new(FAILURES.0, FAILURES.1),
            guesses: Limiter::new(FAILURES.0, FAILURES.1),
        })
    }

    /// Takes note of wrong credentials that came from an address.
    ///
    /// # Errors
    /// [`Error::TooOften`] when there were too many of late.
    pub fn failed(&self, from: Option<IpAddr>) -> Result<()> {
        let Some(from) = from else { return Ok(()) };
        let (what, limit) = ("wrong credentials per second", FAILURES.0.get());
        let taken = self.failures.check(&neighbourhood(from));
        taken.map_err(|wait| Error::TooOften { what, limit, wait })
    }
}

impl Keeper {
    /// Whether an address may try a secret that people choose, and that could be guessed.
    ///
    /// # Errors
    /// [`Error::TooOften`] when it was wrong too often of late: then right ones are not looked at.
    pub fn may_guess(&self, from: Option<IpAddr>) -> Result<()> {
        let Some(from) = from else { return Ok(()) };
        let (what, limit) = ("wrong secrets per second", FAILURES.0.get());
        let left = self.guesses.peek(&neighbourhood(from));
        left.map_err(|wait| Error::TooOften { what, limit, wait })
    }

    /// Takes note of such a secret that was wrong.
    pub fn guessed_wrong(&self, from: Option<IpAddr>) {
        if let Some(from) = from {
            // Whoever has no turn left was let in beside others who were wrong at the same time.
            let _ = self.guesses.check(&neighbourhood(from));
        }
    }
}

/// A caller as the audit and the events of sign-ins name it.
pub fn path_of(caller: Caller) -> Arc<str> {
    match caller {
        Caller::Anonymous => "anonymous".into(),
        Caller::Operator => "operator".into(),
        Caller::Actor(id) => format!("actor/{id}").into(),
        Caller::Runner(context, id) => format!("runner/{context}/{id}").into(),
    }
}
