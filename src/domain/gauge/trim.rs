//! What is known of records nobody has read: how old, how fast that changes, and when they would be gone.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::at::At;
/// Over how much of the past the pace is measured, and the least that says something, in milliseconds.
const WINDOW_MS: i64 = 60_000;
const LEAST_MS: i64 = 10_000;

/// The oldest record of a table's stream that may still be unread, or read and not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unread {
    /// No unread record is older than this, wall clock.
    pub oldest: At,
    /// When that was known.
    pub at: At,
    /// By how much its age shrinks in a millisecond, in milliseconds: over 0 reading catches up, under 0 it falls
    /// behind. Absent until it was watched for a while.
    pub closing: Option<f64>,
}

/// Rows that wait to be applied to the old side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    /// Rows that wait; absent means `?`.
    pub rows: Option<u64>,
    /// When the oldest of them was written, wall clock.
    pub oldest: Option<At>,
    /// Rows more (or, under 0, fewer) in a second; absent until it was watched for a while.
    pub growth: Option<f64>,
    /// When this was measured.
    pub at: At,
}

/// What reading is doing about the oldest unread record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// Not known.
    Unknown,
    /// The stream is recorded and waits for the bulk load.
    Loading,
    /// Nobody reads just now: paused, or not begun.
    Waiting,
    /// As good as read.
    CaughtUp,
    /// Its age shrinks.
    CatchingUp,
    /// Its age neither shrinks nor grows.
    StandsStill,
    /// Its age grows although somebody reads.
    FallingBehind,
}

/// One table's clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrimClock {
    /// Age of the oldest unread record, in milliseconds; absent means `?`.
    pub age_ms: Option<i64>,
    /// Until it is trimmed, in milliseconds; under 0 it may be gone.
    pub trimmed_in_ms: Option<i64>,
    /// Until it is read at the pace of the last minute, in milliseconds; absent means never, or not known.
    pub read_in_ms: Option<i64>,
    /// What reading does about it.
    pub course: Course,
    /// Share of the retention that will be used up when it is read, percent: over 100 it is trimmed first.
    pub used: Option<f64>,
    /// When this was known.
    pub at: At,
}

impl TrimClock {
    /// Whether, as things go, records are trimmed before they are read.
    #[must_use]
    pub fn trim_first(&self) -> bool {
        self.used.is_some_and(|used| used >= 100.0)
    }
}

/// How the oldest unread record of one table moved lately.
#[derive(Clone, Debug, Default)]
pub struct Pace(VecDeque<(At, At)>);

impl Pace {
    /// At `at` no unread record was older than `oldest`.
    pub fn push(&mut self, at: At, oldest: At) {
        if self.0.back().is_some_and(|(last, _)| at.since(*last) < 1_000) {
            return;
        }
        self.0.push_back((at, oldest));
        while self.0.front().is_some_and(|(first, _)| at.since(*first) > WINDOW_MS) {
            self.0.pop_front();
        }
    }

    /// By how much the age shrank in a millisecond; absent until enough was seen.
    #[must_use]
    pub fn closing(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (*self.0.front()?, *self.0.back()?);
        let spent = to.since(from);
        (spent >= LEAST_MS).then(|| last.since(first) as f64 / spent as f64 - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_needs_a_while_and_forgets() {
        let mut pace = Pace::default();
        pace.push(At(0), At(-7_200_000));
        pace.push(At(5_000), At(-7_100_000));
        assert_eq!(pace.closing(), None);
        pace.push(At(10_000), At(-7_000_000));
        assert_eq!(pace.closing(), Some(19.0), "200 s of records in 10 s");
        for s in 11..=120 {
            pace.push(At(s * 1_000), At(-7_000_000));
        }
        assert_eq!(pace.closing(), Some(-1.0), "nothing was read for a minute");
    }
}
