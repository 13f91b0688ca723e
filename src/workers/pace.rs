//! Speed limits: the read budget, and pauses between attempts.

use std::time::Duration;

/// The read capacity units a second that every load worker and every comparison share (FEATURES A12).
pub use crate::ports::Budget as ReadBudget;

/// Pause before attempt `n` (from 1): doubling from 100 ms to 10 s, with jitter over its upper half.
#[must_use]
pub fn pause(attempt: u32) -> Duration {
    let full = 100u64.saturating_mul(1 << attempt.saturating_sub(1).min(7)).min(10_000);
    Duration::from_millis(full / 2 + fastrand::u64(0..=full / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_capped() {
        for attempt in 1..40 {
            let most = 100 * (1u64 << (attempt - 1).min(7));
            let p = u64::try_from(pause(attempt).as_millis()).unwrap();
            assert!(p <= most.min(10_000) && p >= most.min(10_000) / 2, "{attempt}: {p}");
        }
    }
}
