//! Time, for workers. Ages, lags and latencies use these; planned waits use the run's clock, which is the engine's.

use crate::domain::at::At;

/// Wall and monotonic time of this machine.
pub trait Clock: Send + Sync {
    /// Wall clock now.
    fn wall(&self) -> At;

    /// Milliseconds on a clock that never jumps; only differences mean anything.
    fn mono_ms(&self) -> i64;
}
