//! Time, for workers. Ages, lags and latencies use these; planned waits use the run's clock, which is the engine's.

use crate::domain::at::At;

/// Wall and monotonic time of this machine.
pub trait Clock: Send + Sync {
    /// Wall clock now, as of this process's start and without any step it made since: only lengths that lie between two
    /// of these are ever measured.
    fn wall(&self) -> At;

    /// Milliseconds on a clock that never jumps and goes on while the machine sleeps; only differences mean anything.
    fn mono_ms(&self) -> i64;

    /// The operating system's own time, steps included: only compared, never used to measure.
    fn witness(&self) -> At {
        self.wall()
    }
}
