//! A future that is looked at when it has something to say, not whenever its task runs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future beside others in one task that hardly ever is what woke it.
///
/// To poll one that waits for a lock's or a channel's change costs as much as many a task's whole
/// work; here that is one flag.
#[derive(Debug)]
pub(crate) struct Alarm<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> Alarm<F> {
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future, bell, waker }
    }
}

impl<F: Future + Unpin> Future for Alarm<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // First, so that a ring after the look at the flag wakes the task.
        this.bell.task.register(cx.waker());
        if !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_once_and_then_only_when_it_was_woken() {
        let (sender, receiver) = oneshot::channel::<u8>();
        let mut polls = 0;
        let mut receiver = Box::pin(receiver);
        let mut alarm = Alarm::new(std::future::poll_fn(|cx| {
            polls += 1;
            receiver.poll_unpin(cx)
        }));
        for _ in 0..3 {
            assert!((&mut alarm).now_or_never().is_none());
        }
        let waiting = async { (&mut alarm).await };
        let sending = async { sender.send(7) };
        let (got, sent) = tokio::join!(waiting, sending);
        assert_eq!((got, sent), (Ok(7), Ok(())));
        assert_eq!(polls, 2);
    }
}
