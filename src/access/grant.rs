//! What a caller has shown, and for how long it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::app::Caller;
use crate::model::Millis;

/// How somebody proved who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// By sitting on this machine, while there is no token.
    Loopback,
    /// By an operator's token.
    Token,
    /// By a session, which a signature began.
    Session,
    /// By an API key.
    ApiKey,
}

impl Means {
    /// As it is published.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Token => "token",
            Self::Session => "session",
            Self::ApiKey => "api_key",
        }
    }
}

/// What a caller has shown. Shared by everything that hangs on it, and ended once for all.
#[derive(Debug)]
pub struct Grant {
    /// Who it makes of him.
    pub caller: Caller,
    /// How it was proved.
    pub means: Means,
    /// The name of the token or key; empty where it has none.
    pub name: String,
    /// When it ends by itself.
    pub expires_at: Option<Millis>,
    /// What its row is found by.
    pub key: [u8; 16],
    /// The caller, as a path.
    pub(super) who: Arc<str>,
    /// The means with the name.
    pub(super) with: Arc<str>,
    /// Looked at with every event that is sent; `ended` is for whoever waits.
    over: AtomicBool,
    ended: watch::Sender<bool>,
}

impl Grant {
    /// One that counts from now on.
    pub fn new(
        caller: Caller,
        means: Means,
        name: &str,
        key: [u8; 16],
        expires_at: Option<Millis>,
    ) -> Arc<Self> {
        let with = if name.is_empty() {
            means.name().to_owned()
        } else {
            format!("{} {name}", means.name())
        };
        Arc::new(Self {
            caller,
            means,
            name: name.to_owned(),
            expires_at,
            key,
            who: super::path_of(caller),
            with: with.into(),
            over: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        })
    }

    /// Whether it counts.
    pub fn is_good(&self, now: Millis) -> bool {
        !self.over.load(Ordering::Acquire) && self.expires_at.is_none_or(|end| now < end)
    }

    /// Ends it.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.send_replace(true);
    }

    /// Waits until it does not count any more, and says why.
    pub async fn until_ended(&self, now: fn() -> Millis) -> &'static str {
        let mut ended = self.ended.subscribe();
        let revoked = async {
            // The sender is `self`.
            let _ = ended.wait_for(|ended| *ended).await;
        };
        let expired = async {
            let Some(end) = self.expires_at else { return std::future::pending().await };
            loop {
                let left = end.saturating_sub(now());
                if left == 0 {
                    return;
                }
                // The wall clock may be set: no more than a minute at once.
                tokio::time::sleep(Duration::from_millis(left.min(60_000))).await;
            }
        };
        tokio::select! {
            () = revoked => "the credentials were revoked",
            () = expired => "the session has expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_grant_ends_when_it_is_revoked_and_when_its_time_is_over() {
        let grant = Grant::new(Caller::Actor(7), Means::Session, "", [0; 16], Some(100));
        assert!(grant.is_good(99) && !grant.is_good(100));
        assert_eq!(grant.until_ended(|| 100).await, "the session has expired");
        let grant = Grant::new(Caller::Operator, Means::Token, "ci", [0; 16], None);
        assert_eq!(&*grant.with, "token ci");
        assert!(grant.is_good(u64::MAX));
        grant.end();
        assert!(!grant.is_good(0));
        assert_eq!(grant.until_ended(|| 0).await, "the credentials were revoked");
    }
}
