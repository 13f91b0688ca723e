//! Points in time and how they are written. The core never reads a clock; the time is an argument.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch, UTC.
///
/// On a rehearsal this is the *planned day's* clock, which runs faster than the wall while the
/// console only waits; downtime and latencies are measured on the monotonic clock instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct At(pub i64);

impl At {
    /// This point moved by `ms` milliseconds (negative moves back).
    #[must_use]
    pub const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `14:47:16` in UTC.
    #[must_use]
    pub fn clock(self) -> String {
        self.civil("%H:%M:%S")
    }

    /// `14:47:16` in UTC, or `11-21 14:47:16` where that was or will be another day than `now`.
    #[must_use]
    pub fn clock_on(self, now: Self) -> String {
        if self.date() == now.date() { self.clock() } else { self.civil("%m-%d %H:%M:%S") }
    }

    /// `14:47:16.220` in UTC.
    #[must_use]
    pub fn clock_ms(self) -> String {
        format!("{}.{:03}", self.clock(), self.0.rem_euclid(1000))
    }

    /// `2026-11-22 02:00:00Z`.
    #[must_use]
    pub fn date_clock(self) -> String {
        self.civil("%Y-%m-%d %H:%M:%SZ")
    }

    /// `2026-01-15` in UTC.
    #[must_use]
    pub fn date(self) -> String {
        self.civil("%Y-%m-%d")
    }

    /// RFC 3339 with milliseconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        format!("{}.{:03}Z", self.civil("%Y-%m-%dT%H:%M:%S"), self.0.rem_euclid(1000))
    }

    fn civil(self, format: &str) -> String {
        jiff::Timestamp::from_millisecond(self.0)
            .map(|t| t.strftime(format).to_string())
            .unwrap_or_else(|_| "?".to_owned())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A length of time as `HH:MM:SS`, sign kept: `-00:00:07`. Hours grow past two digits when they must.
#[must_use]
pub fn hms(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let s = ms.unsigned_abs() / 1000;
    format!("{sign}{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// An offset from the moment of cutover: `T-02:00`, `T+00:15`, `T-00`.
#[must_use]
pub fn t_offset(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    let minutes = ms.unsigned_abs() / 60_000;
    format!("T{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// A short length of time for people: `820ms`, `4.2s`, `3m10s`, `2h05m`, `1d04h`.
#[must_use]
pub fn brief(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms {
        0..=999 => format!("{sign}{ms}ms"),
        1_000..=59_999 => format!("{sign}{}.{}s", ms / 1000, ms % 1000 / 100),
        60_000..=3_599_999 => format!("{sign}{}m{:02}s", ms / 60_000, ms / 1000 % 60),
        3_600_000..=86_399_999 => format!("{sign}{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{sign}{}d{:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_people_read_them() {
        assert_eq!(hms(4_004_000), "01:06:44");
        assert_eq!(hms(-7_000), "-00:00:07");
        assert_eq!(t_offset(-7_200_000), "T-02:00");
        assert_eq!(t_offset(900_000), "T+00:15");
        assert_eq!(brief(820), "820ms");
        assert_eq!(brief(4_250), "4.2s");
        assert_eq!(brief(190_000), "3m10s");
        assert_eq!(brief(100_800_000), "1d04h");
    }

    #[test]
    fn the_epoch_is_utc() {
        assert_eq!(At(1_795_312_800_000).date_clock(), "2026-11-22 02:00:00Z".to_owned());
        assert_eq!(At(1_500).rfc3339(), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn a_time_of_another_day_says_which() {
        let at = At(1_795_312_800_000);
        assert_eq!(at.clock_on(at.plus(79_199_999)), "02:00:00");
        assert_eq!(at.clock_on(at.plus(79_200_000)), "11-22 02:00:00");
        assert_eq!(at.clock_on(at.plus(-7_200_001)), "11-22 02:00:00");
    }
}
