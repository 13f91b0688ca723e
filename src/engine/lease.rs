//! One driver: a lease in the target store, renewed while the run goes and checked before each step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::run::{ErrorClass, StepError};
use crate::ports::{ErrorKind, LeaseHolder, PortError, Target};

/// How long a lease lasts without renewal.
const TTL_MS: i64 = 15_000;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);

/// This process, as the lease names it.
#[must_use]
pub fn holder(host: &str) -> String {
    format!("{host}:{}", std::process::id())
}

/// Whether the lease is held by a process of this host that is gone, which drove this very run. Anybody else keeps the
/// lease until it ends by itself.
fn left_behind(held: &LeaseHolder, host: &str, run: &str) -> bool {
    let pid = held.holder.strip_prefix(host).and_then(|rest| rest.strip_prefix(':'));
    let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?));
    held.run == run && pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// The lease of one run.
pub struct DriverLease {
    target: Arc<dyn Target>,
    run: String,
    holder: String,
    lost: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl DriverLease {
    /// Takes the lease. `inherit` seizes it from a holder that is known to be gone: the run folder's lock is
    /// ours and the holder was a process of this host.
    pub async fn take(target: Arc<dyn Target>, run: &str, host: &str, inherit: bool) -> Result<Self, PortError> {
        let holder = holder(host);
        match target.lease(run, &holder, TTL_MS).await {
            Ok(_) => {}
            Err(e) if inherit && e.held_by.as_ref().is_some_and(|held| left_behind(held, host, run)) => {
                target.seize(run, &holder, TTL_MS).await?;
            }
            Err(e) => return Err(e),
        }
        let lease = Self {
            target,
            run: run.to_owned(),
            holder,
            lost: Arc::new(AtomicBool::new(false)),
            stop: CancellationToken::new(),
        };
        lease.renew_in_background();
        Ok(lease)
    }

    fn renew_in_background(&self) {
        let (target, run, holder) = (Arc::clone(&self.target), self.run.clone(), self.holder.clone());
        let (lost, stop) = (Arc::clone(&self.lost), self.stop.clone());
        tokio::spawn(async move {
            let mut every = tokio::time::interval(RENEW);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => {}
                }
                if let Err(e) = target.lease(&run, &holder, TTL_MS).await
                    && e.kind == ErrorKind::Conflict
                {
                    lost.store(true, Ordering::Release);
                    return;
                }
            }
        });
    }

    /// Whether somebody else took the lease.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Asks the target once more: no step starts on a lease that is not known to be ours.
    pub async fn check(&self) -> Result<(), StepError> {
        let answer = if self.lost() {
            Err(PortError::new(ErrorKind::Conflict, "renew the lease", &self.run, "another driver holds it"))
        } else {
            self.target.lease(&self.run, &self.holder, TTL_MS).await.map(|_| ())
        };
        answer.map_err(|e| {
            if e.kind == ErrorKind::Conflict {
                self.lost.store(true, Ordering::Release);
            }
            StepError {
                class: if e.kind == ErrorKind::Conflict { ErrorClass::Lease } else { ErrorClass::Transient },
                message: format!("the lease could not be confirmed: {e}"),
                advice: "see who drives (cutover status), or try again when the target answers".to_owned(),
            }
        })
    }

    /// Gives the lease back.
    pub async fn release(&self) {
        self.stop.cancel();
        if !self.lost() {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.target.release(&self.holder)).await;
        }
    }
}

impl Drop for DriverLease {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::left_behind;
    use crate::ports::LeaseHolder;

    #[test]
    fn only_a_dead_driver_of_the_same_run_is_succeeded() {
        let held = |holder: String, run: &str| LeaseHolder { run: run.to_owned(), holder };
        let (dead, alive) = (4_000_000, std::process::id());
        assert!(left_behind(&held(format!("db1:{dead}"), "r-1"), "db1", "r-1"));
        assert!(!left_behind(&held(format!("db1:{alive}"), "r-1"), "db1", "r-1"), "alive");
        assert!(!left_behind(&held("db1:1".to_owned(), "r-1"), "db1", "r-1"), "alive, of another user");
        assert!(!left_behind(&held(format!("db1:{dead}"), "r-2"), "db1", "r-1"), "another run");
        assert!(
            !left_behind(&held(format!("db1:{dead}"), "r-1-again"), "db1", "r-1"),
            "a run whose name begins the same"
        );
        assert!(!left_behind(&held(format!("web-db1:{dead}"), "r-1"), "db1", "r-1"), "another host");
        assert!(!left_behind(&held(format!("db12:{dead}"), "r-1"), "db1", "r-1"), "a host whose name begins the same");
    }
}
