//! Measured numbers: counts, lags, rates and signals. Samples, not facts: the latest wins.

mod job;
mod latency;
mod measured;
mod retained;
mod series;
mod source;
mod trim;

pub use job::JobGauge;
pub use latency::{ENOUGH, LatencyWindow, ProbeStats};
pub use measured::{
    Count, CountKind, HELD_DELETE, Lag, Measured, Phase, Readiness, Reading, Reverse, ReverseGauge, ReverseState,
    TableGauge, rows_kept_out,
};
pub use retained::{LogPace, MEGABYTE, RetainedLog, WalStatus, size};
pub use series::Series;
pub use source::source_words;
pub use trim::{Course, Outbox, Pace, TrimClock, Unread};
