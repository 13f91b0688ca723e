//! Measured numbers: counts, lags, rates and signals. Samples, not facts: the latest wins.

mod latency;
mod measured;
mod series;
mod source;
mod trim;

pub use latency::{ENOUGH, LatencyWindow, ProbeStats};
pub use measured::{
    Count, CountKind, Lag, Measured, Phase, Readiness, Reading, Reverse, ReverseGauge, ReverseState, TableGauge,
};
pub use series::Series;
pub use source::source_words;
pub use trim::{Course, Outbox, Pace, RETENTION_MS, TrimClock, Unread};
