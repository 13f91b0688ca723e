//! A short history of one number, for sparklines. Gaps stay gaps.

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// One value per slot of `slot_ms`, newest last; a slot nobody measured is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    slot_ms: i64,
    capacity: usize,
    last_slot: i64,
    values: Vec<Option<f64>>,
}

impl Series {
    /// An empty history of `capacity` slots.
    #[must_use]
    pub const fn new(slot_ms: i64, capacity: usize) -> Self {
        Self { slot_ms, capacity, last_slot: 0, values: Vec::new() }
    }

    /// Records `value` at `at`. The largest value of a slot stays; skipped slots become gaps.
    pub fn push(&mut self, at: At, value: Option<f64>) {
        let slot = at.0.div_euclid(self.slot_ms.max(1));
        if self.values.is_empty() {
            self.last_slot = slot - 1;
        }
        if slot > self.last_slot {
            let gap = usize::try_from(slot - self.last_slot).unwrap_or(usize::MAX).min(self.capacity);
            self.values.extend(std::iter::repeat_n(None, gap));
            self.last_slot = slot;
            let over = self.values.len().saturating_sub(self.capacity);
            self.values.drain(..over);
        }
        if let Some(last) = self.values.last_mut() {
            *last = match (*last, value) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => b.or(a),
            };
        }
    }

    /// The slots, oldest first.
    #[must_use]
    pub fn values(&self) -> &[Option<f64>] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_stay_gaps_and_old_slots_leave() {
        let mut s = Series::new(1000, 4);
        s.push(At(1_000), Some(1.0));
        s.push(At(1_500), Some(3.0));
        s.push(At(3_000), Some(2.0));
        assert_eq!(s.values(), &[Some(3.0), None, Some(2.0)]);
        s.push(At(5_000), None);
        assert_eq!(s.values(), &[None, Some(2.0), None, None]);
    }
}
