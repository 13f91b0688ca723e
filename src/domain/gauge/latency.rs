//! Probe results over the last minute.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// How long results count.
const WINDOW_MS: i64 = 60_000;

/// Results of one probe, oldest first, never older than a minute.
#[derive(Clone, Debug, Default)]
pub struct LatencyWindow {
    results: VecDeque<(At, u32, bool)>,
}

/// What a probe's last minute looked like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeStats {
    /// Results in the window.
    pub count: u32,
    /// Of these, not served.
    pub failed: u32,
    /// 95th percentile of the served ones, in milliseconds.
    pub p95_ms: Option<f64>,
    /// When the last result came.
    pub at: At,
    /// The last result in words: `200 in 4ms`, `refused 503`, `no answer`.
    pub last: String,
    /// Whether the last result was served.
    pub last_ok: bool,
    /// Whether the last result was a refusal on purpose.
    pub last_refused: bool,
}

impl LatencyWindow {
    /// Adds one result; `served` is false for an error, a timeout or a refusal.
    pub fn push(&mut self, at: At, latency_ms: u32, served: bool) {
        self.results.push_back((at, latency_ms, served));
        while self.results.front().is_some_and(|(then, ..)| at.since(*then) > WINDOW_MS) {
            self.results.pop_front();
        }
    }

    /// Count, failures and p95 over the window.
    #[must_use]
    pub fn stats(&self) -> (u32, u32, Option<f64>) {
        let failed = self.results.iter().filter(|(.., served)| !served).count();
        let mut served: Vec<u32> = self.results.iter().filter(|(.., s)| *s).map(|(_, ms, _)| *ms).collect();
        served.sort_unstable();
        // Nearest rank: the smallest value that 95 % of the results do not exceed.
        let p95 = (!served.is_empty()).then(|| {
            let rank = (served.len() * 95).div_ceil(100).max(1);
            f64::from(served[rank - 1])
        });
        (self.results.len() as u32, failed as u32, p95)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p95_is_the_nearest_rank_of_the_served() {
        let mut w = LatencyWindow::default();
        for ms in 1..=100 {
            w.push(At(i64::from(ms)), ms, true);
        }
        w.push(At(101), 9_999, false);
        assert_eq!(w.stats(), (101, 1, Some(95.0)));
    }

    #[test]
    fn results_leave_after_a_minute_and_nothing_is_nothing() {
        let mut w = LatencyWindow::default();
        assert_eq!(w.stats(), (0, 0, None));
        w.push(At(0), 5, true);
        w.push(At(60_001), 7, true);
        assert_eq!(w.stats(), (1, 0, Some(7.0)));
    }
}
