//! Probe results over the last minute.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// How long results count.
const WINDOW_MS: i64 = 60_000;

/// Fewer results than this prove nothing: the nearest-rank p95 of fewer is their maximum, and a handful of served
/// requests is no evidence against an error rate.
pub const ENOUGH: u32 = 20;

/// Results of one probe, oldest first, never older than a minute.
#[derive(Clone, Debug, Default)]
pub struct LatencyWindow {
    results: VecDeque<(At, u32, bool)>,
}

/// The results of a probe's last minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeStats {
    /// Results in the window.
    pub count: u32,
    /// Of these, not served.
    pub failed: u32,
    /// Milliseconds within which 95 % of the requests were served; absent while they are fewer than [`ENOUGH`], and
    /// when more than one in twenty failed: of a failure there is no latency.
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

impl ProbeStats {
    /// Share of requests that failed, in per cent. Known from the first failure on, but without any failure only
    /// from [`ENOUGH`] results on: a few served requests must not read as "no errors".
    #[must_use]
    pub fn error_share(&self) -> Option<f64> {
        (self.failed > 0 || self.count >= ENOUGH).then(|| f64::from(self.failed) * 100.0 / f64::from(self.count.max(1)))
    }
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
        let all = self.results.len();
        let failed = self.results.iter().filter(|(.., served)| !served).count();
        let mut served: Vec<u32> = self.results.iter().filter(|(.., s)| *s).map(|(_, ms, _)| *ms).collect();
        served.sort_unstable();
        // Nearest rank over all requests; one that failed was not served within any time.
        let rank = (all * 95).div_ceil(100).max(1);
        let p95 = served.get(rank - 1).filter(|_| served.len() >= ENOUGH as usize).map(|ms| f64::from(*ms));
        (all as u32, failed as u32, p95)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p95_is_the_nearest_rank_and_a_failure_is_slower_than_everything() {
        let mut w = LatencyWindow::default();
        for ms in 1..=100 {
            w.push(At(i64::from(ms)), ms, true);
        }
        w.push(At(101), 1, false);
        assert_eq!(w.stats(), (101, 1, Some(96.0)));
        for n in 0..4 {
            w.push(At(102 + n), 1, false);
        }
        assert_eq!(w.stats(), (105, 5, Some(100.0)));
        w.push(At(106), 1, false);
        assert_eq!(w.stats(), (106, 6, None), "not even the slowest is one of 95 in a hundred");
    }

    #[test]
    fn a_few_served_requests_prove_nothing_and_one_failure_does() {
        let mut w = LatencyWindow::default();
        for n in 1..ENOUGH {
            w.push(At(i64::from(n)), 5, true);
        }
        let stats = |w: &LatencyWindow| {
            let (count, failed, p95_ms) = w.stats();
            ProbeStats { count, failed, p95_ms, ..ProbeStats::default() }
        };
        assert_eq!((stats(&w).p95_ms, stats(&w).error_share()), (None, None));
        let mut failing = w.clone();
        failing.push(At(30), 5, false);
        assert_eq!((stats(&failing).p95_ms, stats(&failing).error_share()), (None, Some(5.0)));
        w.push(At(30), 5, true);
        assert_eq!((stats(&w).p95_ms, stats(&w).error_share()), (Some(5.0), Some(0.0)));
    }

    #[test]
    fn results_leave_after_a_minute_and_nothing_is_nothing() {
        let mut w = LatencyWindow::default();
        assert_eq!(w.stats(), (0, 0, None));
        w.push(At(0), 5, true);
        w.push(At(60_001), 7, false);
        assert_eq!(w.stats(), (1, 1, None));
    }
}
