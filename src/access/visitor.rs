//! Who is at the other end of a connection, or sent a request.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use super::{Grant, Keeper, path_of, secret};
use crate::app::{Caller, Credentials};
use crate::model::Millis;
use crate::model::event::By;

/// Who is at the other end of a connection, or sent a request.
#[derive(Debug, Default)]
pub struct Visitor {
    /// None for calls from inside.
    from: Option<IpAddr>,
    shown: Shown,
    credentials: Option<Credentials>,
    /// Whether signing in lasts: a connection and not a request.
    lasting: bool,
    /// A page of another site, or a proxy, sends what whoever sits at the address did not.
    elsewhere: bool,
    signed_in: RwLock<Option<Arc<Grant>>>,
}

#[derive(Debug, Default)]
enum Shown {
    #[default]
    Nothing,
    /// Something that is no secret of ours; a face may know it.
    Foreign,
    /// A secret of ours that does not count.
    Wrong,
    Good(Arc<Grant>),
}

/// What there is to be seen of a visitor at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Who he is.
    pub caller: Caller,
    /// What makes him that; none for strangers and for calls from inside.
    pub grant: Option<Arc<Grant>>,
}

impl Visitor {
    /// The coordinator itself.
    pub fn inside() -> Arc<Self> {
        static INSIDE: LazyLock<Arc<Visitor>> = LazyLock::new(Arc::default);
        Arc::clone(&INSIDE)
    }

    /// One who came from an address and showed a secret, or nothing.
    pub fn new(
        from: IpAddr,
        secret: Option<&str>,
        credentials: Option<Credentials>,
        keeper: &Keeper,
        now: Millis,
    ) -> Self {
        let shown = match secret {
            None => Shown::Nothing,
            Some(text) => match keeper.keyring.look_up(text, now) {
                Some(grant) => Shown::Good(grant),
                None if secret::is_ours(text) => Shown::Wrong,
                None => Shown::Foreign,
            },
        };
        let from = Some(from.to_canonical());
        Self { from, shown, credentials, ..Self::default() }
    }

    /// Signing in lasts as long as the connection.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// The address proves nothing: a page of another site has him send it, or he passes it on.
    #[must_use]
    pub fn from_elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Who he is at this moment: tokens are revoked, sessions expire.
    pub fn seen(&self, keeper: &Keeper, now: Millis) -> Seen {
        let good = |grant: &Arc<Grant>| {
            if grant.is_good(now) {
                return Seen { caller: grant.caller, grant: Some(Arc::clone(grant)) };
            }
            Seen::default()
        };
        if self.lasting
            && let Some(grant) = &*self.signed_in.read()
        {
            return good(grant);
        }
        match &self.shown {
            Shown::Good(grant) => good(grant),
            Shown::Wrong => Seen::default(),
            // Without any token there is nothing that he could have shown.
            Shown::Nothing | Shown::Foreign => {
                let here = !self.elsewhere && self.from.is_some_and(|from| from.is_loopback());
                here.then(|| keeper.keyring.of_loopback())
                    .flatten()
                    .map_or_else(Seen::default, |grant| good(&grant))
            }
        }
    }

    /// Whether he has shown something that does not count.
    pub fn showed_wrong(&self, now: Millis) -> bool {
        match &self.shown {
            Shown::Nothing => false,
            Shown::Foreign | Shown::Wrong => true,
            Shown::Good(grant) => !grant.is_good(now),
        }
    }

    /// From now on he is someone else, on a connection; without a grant, whoever he was at first.
    pub fn become_known(&self, grant: Option<Arc<Grant>>) {
        if self.lasting {
            *self.signed_in.write() = grant;
        }
    }

    /// The address he came from; none for calls from inside.
    pub fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// What came in the `Authorization` header.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// On whose behalf something happens that he asks for by a method.
    pub fn by(&self, seen: &Seen, method: &'static str) -> By {
        static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| path_of(Caller::Anonymous));
        static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
        static INSIDE: LazyLock<Arc<str>> = LazyLock::new(|| "inside".into());
        let (who, with) = match (&seen.grant, seen.caller) {
            (Some(grant), _) => (Arc::clone(&grant.who), Arc::clone(&grant.with)),
            (None, Caller::Anonymous) => (Arc::clone(&ANONYMOUS), Arc::clone(&NOTHING)),
            (None, caller) => (path_of(caller), Arc::clone(&INSIDE)),
        };
        By { who, with, from: self.from, method: method.into() }
    }
}
