//! What a comparison of both sides found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::gauge::Count;

/// What a full comparison found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifySummary {
    /// Rows at the source, as they would be after mapping.
    pub source: Count,
    /// Rows in the target.
    pub target: Count,
    /// Rows that are equal.
    pub equal: u64,
    /// Keys only the source has.
    pub missing: u64,
    /// Keys only the target has.
    pub extra: u64,
    /// Keys both have with different fields.
    pub mismatched: u64,
    /// Keys that are parked, counted and explained.
    pub parked: u64,
    /// Source items past their TTL that the target has dropped already.
    pub expired: u64,
    /// Target rows past their TTL that the source has dropped already.
    #[serde(default)]
    pub expired_extra: u64,
    /// Rows of the table and of its child tables whose parent is not in the target. Child rows among them are `extra`.
    #[serde(default)]
    pub orphans: u64,
    /// Rows written by a repair while the comparison ran.
    #[serde(default)]
    pub repairs: u64,
    /// Differences by cause: `number precision`, `null vs empty`, ...
    pub causes: BTreeMap<String, u64>,
    /// The first differing keys, never values.
    pub keys: Vec<String>,
    /// How long it took, monotonic, in milliseconds.
    pub took_ms: i64,
}

impl VerifySummary {
    /// Rows that differ and are not explained.
    #[must_use]
    pub const fn differing(&self) -> u64 {
        self.missing + self.extra + self.mismatched
    }

    /// Whether the pass proves the table: no difference, nothing was repaired while it ran, and something was compared.
    #[must_use]
    pub const fn clean(&self) -> bool {
        self.differing() == 0 && self.repairs == 0 && !self.compared_nothing()
    }

    /// Whether there are rows, and every one of them is parked: no row was compared.
    #[must_use]
    pub const fn compared_nothing(&self) -> bool {
        self.equal + self.differing() == 0 && self.parked > 0
    }

    /// Whether the pass falls short of this share of equal rows, 0..=1, or compared nothing.
    #[must_use]
    pub fn is_under(&self, floor: f64) -> bool {
        self.compared_nothing() || self.rate().is_some_and(|rate| rate < floor)
    }

    /// Rows the equation `source = target + parked + expired` leaves over, in either direction, never cancelled out.
    #[must_use]
    pub const fn unaccounted(&self) -> u64 {
        self.missing + self.extra
    }

    /// Share of rows that match, 0..=1. Absent when no row was compared: that proves nothing.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let all = self.equal + self.differing();
        (all > 0).then(|| self.equal as f64 / all as f64)
    }
}
