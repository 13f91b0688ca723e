//! How much of its log a source's server keeps because a slot of ours has not confirmed it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// Bytes of a megabyte, as PostgreSQL counts in its settings.
pub const MEGABYTE: f64 = 1_048_576.0;
/// Over how much of the past the pace of the log is measured, and the least that says something, in milliseconds.
const WINDOW_MS: i64 = 60_000;
const LEAST_MS: i64 = 10_000;

/// What the server says of the log a slot needs (`wal_status`), the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalStatus {
    /// Within what the server keeps in any case.
    Reserved,
    /// More than that, kept for slots.
    Extended,
    /// Nobody knows.
    #[default]
    Unknown,
    /// Over the limit: the next checkpoint may remove part of it.
    Unreserved,
    /// Part of it is removed: the slot is of no use any more.
    Lost,
}

/// What one source's server keeps for us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetainedLog {
    /// Bytes from the oldest place that a slot of ours may need again to the end of the log; absent means `?`.
    pub bytes: Option<u64>,
    /// The worst that the server says of a slot of ours.
    pub status: WalStatus,
    /// Bytes that may still be written until the server may remove what was not read; absent where it has no limit.
    pub left: Option<u64>,
    /// Most that the server keeps for a slot, in bytes; absent where it has no limit (`max_slot_wal_keep_size = -1`).
    pub limit: Option<u64>,
    /// Bytes of log that are written in a second, by everybody, over the last minute; absent until it was watched.
    pub pace: Option<f64>,
    /// When this was known, wall clock.
    pub at: At,
}

impl RetainedLog {
    /// Share of the server's limit that is used up, percent; absent without a limit, and while the number is not known.
    #[must_use]
    pub fn used(&self) -> Option<f64> {
        let limit = self.limit?;
        // What the server says is left counts: it rounds by whole segments of its log.
        let used = self.left.map_or(self.bytes, |left| Some(limit.saturating_sub(left)))?;
        Some(if limit == 0 { 100.0 } else { used as f64 * 100.0 / limit as f64 })
    }

    /// Until what is left is written at the pace of the last minute, in milliseconds; absent without a limit, and while
    /// nothing is written.
    #[must_use]
    pub fn lost_in_ms(&self) -> Option<i64> {
        let (left, pace) = (self.left? as f64, self.pace.filter(|pace| *pace > 0.0)?);
        let ms = left / pace * 1000.0;
        (ms < 1e12).then_some(ms as i64)
    }
}

/// Bytes as people say them, counted as PostgreSQL counts: `820 MB`, `3.2 GB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if value < 10.0 { format!("{value:.1} {}", units[unit]) } else { format!("{value:.0} {}", units[unit]) }
}

/// How far the log reached lately.
#[derive(Clone, Debug, Default)]
pub struct LogPace(VecDeque<(At, u64)>);

impl LogPace {
    /// At `at` the log ended at this byte. One that ends before where it ended is another server's.
    pub fn push(&mut self, at: At, end: u64) {
        if self.0.back().is_some_and(|(last, known)| at < *last || end < *known) {
            self.0.clear();
        }
        self.0.push_back((at, end));
        while self.0.front().is_some_and(|(first, _)| at.since(*first) > WINDOW_MS) {
            self.0.pop_front();
        }
    }

    /// Bytes in a second; absent until enough was seen.
    #[must_use]
    pub fn bytes_a_second(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (*self.0.front()?, *self.0.back()?);
        let spent = to.since(from);
        (spent >= LEAST_MS).then(|| (last - first) as f64 * 1000.0 / spent as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_needs_a_while_forgets_and_begins_anew_on_another_server() {
        let mut pace = LogPace::default();
        pace.push(At(0), 1_000);
        pace.push(At(9_000), 90_000);
        assert_eq!(pace.bytes_a_second(), None, "too short to say anything");
        pace.push(At(10_000), 101_000);
        assert_eq!(pace.bytes_a_second(), Some(10_000.0));
        pace.push(At(75_000), 101_000);
        pace.push(At(85_000), 101_000);
        assert_eq!(pace.bytes_a_second(), Some(0.0), "nothing was written for a minute");
        pace.push(At(86_000), 7);
        assert_eq!(pace.bytes_a_second(), None, "the log of another server");
    }

    #[test]
    fn bytes_are_said_as_the_server_counts_them() {
        let said = |bytes| size(bytes);
        assert_eq!((said(0), said(8_192)), ("0.0 kB".to_owned(), "8.0 kB".to_owned()));
        assert_eq!((said(16 << 20), said((32 << 30) / 10)), ("16 MB".to_owned(), "3.2 GB".to_owned()));
        assert_eq!(said(1 << 50), "1024 TB");
    }

    #[test]
    fn what_is_left_is_a_share_and_a_time_only_where_there_is_a_limit() {
        let log = RetainedLog { bytes: Some(750), pace: Some(50.0), ..RetainedLog::default() };
        assert_eq!((log.used(), log.lost_in_ms()), (None, None));
        let log = RetainedLog { limit: Some(1_000), left: Some(250), ..log };
        assert_eq!((log.used(), log.lost_in_ms()), (Some(75.0), Some(5_000)));
        assert_eq!(RetainedLog { pace: Some(0.0), ..log.clone() }.lost_in_ms(), None, "nothing is written");
        assert_eq!(RetainedLog { bytes: None, left: None, ..log }.used(), None, "not known is no share");
        assert!(WalStatus::Lost > WalStatus::Unreserved && WalStatus::Unknown > WalStatus::Extended);
    }
}
