//! What runs beside the steps of a run, and how it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks of this process, and what stops them.
#[derive(Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    /// Ends what keeps the new side like the old one.
    unfollow: CancellationToken,
    /// Ends the step that is performed now.
    step: Mutex<CancellationToken>,
    tracker: TaskTracker,
    watching: AtomicBool,
    following: AtomicBool,
    reversing: AtomicBool,
}

impl Tasks {
    /// Whether watching is to be started now; true once.
    pub fn first_watch(&self) -> bool {
        !self.watching.swap(true, Ordering::AcqRel)
    }

    /// Whether following is to be started now; true once, and never after a rollback has ended.
    pub fn first_follow(&self) -> bool {
        !self.following.swap(true, Ordering::AcqRel)
    }

    /// Whether the reverse flow is to be started now; true once.
    pub fn first_reverse(&self) -> bool {
        !self.reversing.swap(true, Ordering::AcqRel)
    }

    /// Whether this process follows, or did until it was told to end.
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// The new side is followed no more, nor will it be.
    pub fn unfollow(&self) {
        self.following.store(true, Ordering::Release);
        self.unfollow.cancel();
    }

    /// Whether the new side is followed no more.
    pub fn unfollowed(&self) -> bool {
        self.unfollow.is_cancelled()
    }

    /// Waits until the new side is followed no more.
    pub async fn until_unfollowed(&self) {
        self.unfollow.cancelled().await;
    }

    /// A step begins; gives what ends it.
    pub fn begin_step(&self) -> CancellationToken {
        let cancel = CancellationToken::new();
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = cancel.clone();
        cancel
    }

    /// Ends the step that is performed now, at its next await.
    pub fn cancel_step(&self) {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// Runs something that ends with the workers.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Runs something to its end even if the workers are told to stop, or whoever waits for it is: a stop waits for it, so it
    /// must not last.
    pub fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tracker.spawn(work)
    }

    /// Waits until the workers are told to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Stops everything and waits for it.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Whether nothing runs.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}
