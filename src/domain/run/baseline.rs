//! What a signal was before the cutover, to compare what it is afterwards with (FEATURES D4).

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// What was measured of one signal before the cutover, in the signal's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What criteria compare with: of a probe's latency the 95th percentile, of its errors their share, of a metric the
    /// median of its values.
    pub value: f64,
    /// The median of what was measured.
    pub median: f64,
    /// The 95th percentile, nearest rank.
    pub p95: f64,
    /// Requests or values that it was worked out from.
    pub samples: u32,
    /// When the first of them was measured, wall clock.
    pub from: At,
    /// When the last one was.
    pub to: At,
}

impl Baseline {
    /// Of latencies: the 95th percentile counts. Nothing of no samples.
    #[must_use]
    pub fn of_latencies(samples: &[f64], from: At, to: At) -> Option<Self> {
        Self::of(samples, from, to).map(|baseline| Self { value: baseline.p95, ..baseline })
    }

    /// Of values of a metric, each of which sums up a period: the median counts. Nothing of no samples.
    #[must_use]
    pub fn of(samples: &[f64], from: At, to: At) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let nearest = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(nearest.max(1) - 1).copied()
        };
        let (median, p95) = (thousandths(rank(0.5)?), thousandths(rank(0.95)?));
        let samples = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        Some(Self { value: median, median, p95, samples, from, to })
    }

    /// Of requests, of which some failed: their share in per cent counts. Nothing of no requests.
    #[must_use]
    pub fn of_errors(failed: u32, requests: u32, from: At, to: At) -> Option<Self> {
        let share = thousandths(f64::from(failed) * 100.0 / f64::from(requests));
        (requests > 0).then_some(Self { value: share, median: share, p95: share, samples: requests, from, to })
    }

    /// `12ms of 100 samples: median 8ms, p95 12ms`.
    #[must_use]
    pub fn words(&self, unit: &str) -> String {
        let number = |v: f64| {
            let text = format!("{v:.3}");
            format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
        };
        let all = format!("{} of {} samples", number(self.value), self.samples);
        if self.median.total_cmp(&self.p95).is_eq() {
            return all;
        }
        format!("{all}: median {}, p95 {}", number(self.median), number(self.p95))
    }
}

/// No more digits than say something: what is read back from the journal is then the same number.
fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_nearest_ranks_and_nothing_is_made_of_nothing() {
        let all: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let (from, to) = (At(1), At(2));
        let found = Baseline::of(&all, from, to).unwrap();
        assert_eq!((found.median, found.p95, found.value, found.samples), (50.0, 95.0, 50.0, 100));
        assert_eq!(Baseline::of_latencies(&all, from, to).unwrap().value, 95.0);
        assert_eq!(Baseline::of(&[7.0], from, to).unwrap().p95, 7.0);
        assert_eq!(Baseline::of(&[], from, to), None);
        assert_eq!(Baseline::of_errors(0, 0, from, to), None);
        assert_eq!(Baseline::of_errors(1, 8, from, to).unwrap().value, 12.5);
        assert_eq!(found.words("ms"), "50ms of 100 samples: median 50ms, p95 95ms");
        assert_eq!(Baseline::of_errors(0, 30, from, to).unwrap().words("%"), "0% of 30 samples");
    }
}
