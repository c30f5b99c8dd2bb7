//! Whether one who follows something still may: roles change, sessions end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};

use super::{Grant, Role};
use crate::alarm::Alarm;
use crate::app::App;

/// What somebody who follows something needs to go on having.
#[derive(Clone, Debug)]
pub struct Standing {
    app: Arc<App>,
    grant: Option<Arc<Grant>>,
    /// Actor, role, context.
    role: Option<(u32, Role, u32)>,
    /// The last version of the contexts at which he had the role.
    version: u64,
}

impl Standing {
    /// What hangs on the grant, and on a role where one is named: actor, role and context.
    pub fn new(app: Arc<App>, grant: Option<Arc<Grant>>, role: Option<(u32, Role, u32)>) -> Self {
        Self { app, grant, role, version: 0 }
    }

    /// Items for as long as he may have them; the last one says why there are no more.
    pub fn watch<T: Send + 'static>(
        self,
        items: BoxStream<'static, T>,
        farewell: fn(&str) -> Option<T>,
    ) -> BoxStream<'static, T> {
        if self.grant.is_none() && self.role.is_none() {
            return items;
        }
        let lost = Alarm::new(self.clone().until_lost().boxed());
        Watched { items: Some(items), standing: self, lost, farewell }.boxed()
    }

    /// Why he may not go on, if he may not.
    fn lost(&mut self) -> Option<&'static str> {
        let now = self.app.now;
        if self.grant.as_ref().is_some_and(|grant| !grant.is_good(now())) {
            return Some("the credentials do not count any more");
        }
        let (actor, role, context) = self.role?;
        let version = self.app.keeper.roles.version();
        if version == self.version {
            return None;
        }
        match self.app.keeper.roles.permit(actor, role, context) {
            Ok(true) => {
                self.version = version;
                None
            }
            Ok(false) => Some("the role in the context was lost"),
            Err(err) => {
                tracing::error!(%err, context, "a role cannot be read");
                Some("the role in the context cannot be read")
            }
        }
    }

    async fn until_lost(mut self) -> &'static str {
        let (now, grant) = (self.app.now, self.grant.clone());
        let ended = async {
            match grant {
                Some(grant) => grant.until_ended(now).await,
                None => std::future::pending().await,
            }
        };
        let mut changes = self.app.keeper.roles.changes();
        let lost = async {
            if self.role.is_none() {
                return std::future::pending().await;
            }
            loop {
                if let Some(why) = self.lost() {
                    return why;
                }
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            why = ended => why,
            why = lost => why,
        }
    }
}

/// Items, and whoever gets them.
struct Watched<T> {
    items: Option<BoxStream<'static, T>>,
    standing: Standing,
    lost: Alarm<BoxFuture<'static, &'static str>>,
    farewell: fn(&str) -> Option<T>,
}

impl<T> Stream for Watched<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        let Some(items) = &mut this.items else { return Poll::Ready(None) };
        // What is ready is checked without waiting; only one who waits has to be woken.
        let why = match items.poll_next_unpin(cx) {
            Poll::Ready(item) => match this.standing.lost() {
                None => return Poll::Ready(item),
                Some(why) => why,
            },
            Poll::Pending => match this.lost.poll_unpin(cx) {
                Poll::Ready(why) => why,
                Poll::Pending => return Poll::Pending,
            },
        };
        this.items = None;
        Poll::Ready((this.farewell)(why))
    }
}
