//! Time that no correction of the wall clock moves: since the machine started, and which start that was.

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// Milliseconds since the machine started, sleep included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn since_boot_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Names the machine's present start; `None` where the kernel does not say.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Which start of the machine a process writes in, as it stands in the first frame that process writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The kernel's name for it.
    pub id: String,
    /// Milliseconds since that start when the process opened the file: where `mono` counts from.
    pub ms: i64,
}

impl Boot {
    /// The present start, and when the process opened the file. That is one reading of the clock, the one `mono` is
    /// counted from: two readings apart would place facts in the future.
    pub(super) fn at(opened: i64) -> Option<Self> {
        Some(Self { id: boot_id()?, ms: opened })
    }
}

/// When the last fact of a file was written, on both clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastTime {
    /// On the run's clock.
    pub at: At,
    /// The start of the machine it was written in.
    pub boot: String,
    /// Milliseconds since that start.
    pub since_boot_ms: i64,
}
