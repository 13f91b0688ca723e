//! One driver: a lease in the target store, renewed while the run goes and checked before each step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::run::{ErrorClass, StepError};
use crate::ports::{ErrorKind, LeaseHolder, PortError, Target};

/// How long a lease lasts without renewal.
const TTL_MS: i64 = 15_000;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);

/// This process, as the lease names it: `host:pid:where-which`. Processes of two containers may have host name and
/// number in common; `where` is the machine's start and the process's number space, `which` is drawn once for each
/// process.
#[must_use]
pub fn holder(host: &str) -> String {
    static WHICH: LazyLock<u32> = LazyLock::new(|| fastrand::u32(..));
    format!("{host}:{}:{}-{:08x}", std::process::id(), numbered_in(), *WHICH)
}

/// The namespace in which this process's number is valid: only there does the number say whether the process lives.
fn numbered_in() -> String {
    let space = std::fs::read_link("/proc/self/ns/pid").map_or_else(|_| String::new(), |p| p.display().to_string());
    let boot = crate::journal::boot_id().unwrap_or_default();
    let digest = Sha256::digest(format!("{boot} {space}"));
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the lease is held by a process of this host that is gone, which drove this very run. Anybody else keeps the
/// lease until it ends by itself.
fn left_behind(held: &LeaseHolder, host: &str, run: &str) -> bool {
    let Some(rest) = held.holder.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let (pid, place) = rest.split_once(':').unwrap_or((rest, ""));
    // Earlier versions did not say where they ran.
    let here = place.is_empty() || place.split_once('-').is_some_and(|(place, _)| place == numbered_in());
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    held.run == run && here && pid.is_some_and(gone)
}

/// The lease of one run.
pub struct DriverLease {
    target: Arc<dyn Target>,
    run: String,
    holder: String,
    lost: Arc<AtomicBool>,
    stop: CancellationToken,
    renewer: Mutex<Option<JoinHandle<()>>>,
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
            Err(e) => {
                // Of several stores some may have given it: whoever drives must not find it taken.
                let given_back = tokio::time::timeout(Duration::from_secs(2), target.release(&holder)).await;
                tracing::debug!(?given_back, "a lease that was not had everywhere is given back");
                return Err(e);
            }
        }
        let lease = Self {
            target,
            run: run.to_owned(),
            holder,
            lost: Arc::new(AtomicBool::new(false)),
            stop: CancellationToken::new(),
            renewer: Mutex::default(),
        };
        *lease.renewer.lock().await = Some(lease.renew_in_background());
        Ok(lease)
    }

    fn renew_in_background(&self) -> JoinHandle<()> {
        let (target, run, holder) = (Arc::clone(&self.target), self.run.clone(), self.holder.clone());
        let (lost, stop) = (Arc::clone(&self.lost), self.stop.clone());
        tokio::spawn(async move {
            let mut every = tokio::time::interval(RENEW);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! { biased;
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
        })
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

    /// Gives the lease back, or leaves it to end by itself where the target does not answer within two seconds.
    pub async fn release(&self) {
        self.stop.cancel();
        let given_back = async {
            // A renewal that is under way would take it again.
            if let Some(renewer) = self.renewer.lock().await.take() {
                let _ = renewer.await;
            }
            if !self.lost() {
                let _ = self.target.release(&self.holder).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), given_back).await;
    }
}

impl Drop for DriverLease {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::{DriverLease, left_behind};
    use crate::ports::LeaseHolder;
    use crate::workers::tests::faults::{Fault, Latch, Op};
    use crate::workers::tests::world::World;

    #[tokio::test]
    async fn a_lease_that_is_given_back_is_not_renewed_once_more() {
        let world = World::new();
        let renewal = Latch::default();
        world.faults.put(Op::Lease, "", 1, 1, Fault::Latch(renewal.clone()));
        let lease = DriverLease::take(world.ports().target, "run-1", "db1", false).await.unwrap();
        renewal.caught().await;
        tokio::join!(lease.release(), async { renewal.release() });
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.new.locked().lease.as_ref().map(|held| held.until.0), Some(0), "it is held again");
    }

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
        let told = |pid: u32, place: &str| held(format!("db1:{pid}:{place}-00c0ffee"), "r-1");
        assert!(left_behind(&told(dead, &super::numbered_in()), "db1", "r-1"));
        assert!(
            !left_behind(&told(dead, "01234567"), "db1", "r-1"),
            "in another container: its number says nothing here"
        );
        assert!(!left_behind(&held(super::holder("db1"), "r-1"), "db1", "r-1"), "this process");
        assert!(!left_behind(&held(format!("web-db1:{dead}"), "r-1"), "db1", "r-1"), "another host");
        assert!(!left_behind(&held(format!("db12:{dead}"), "r-1"), "db1", "r-1"), "a host whose name begins the same");
    }
}
