//! Where a runner's connection stands, from one attempt at it to the next.

use std::future::pending;
use std::pin::Pin;

use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;
use tokio::time::Sleep;

use super::link::{LinkError, Notifications};
use super::protocol::{Carried, Notification};

/// Where the connection stands.
pub(super) enum Connection {
    Pausing(Pin<Box<Sleep>>),
    Attaching(BoxFuture<'static, Result<Notifications, LinkError>>),
    Attached(Notifications),
    /// Not to be made again.
    Over,
}

/// What the connection has to say.
pub(super) enum Heard {
    PauseOver,
    Tried(Result<Notifications, LinkError>),
    Told(Notification<Carried>),
    Lost,
}

impl Connection {
    /// Cancel safe: what is under way stays in `self`.
    pub(super) async fn hear(&mut self) -> Heard {
        match self {
            Self::Pausing(pause) => {
                pause.await;
                Heard::PauseOver
            }
            Self::Attaching(attaching) => Heard::Tried(attaching.await),
            Self::Attached(notifications) => {
                notifications.next().await.map_or(Heard::Lost, Heard::Told)
            }
            Self::Over => pending().await,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Attached(_))
    }
}
