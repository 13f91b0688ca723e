//! Measured numbers: counts, lags, rates and signals. Samples, not facts: the latest wins.

mod latency;
mod measured;
mod series;
mod signals;

pub use latency::{ENOUGH, LatencyWindow, ProbeStats};
pub use measured::{Count, CountKind, Lag, Measured, Phase, Readiness, Reading, TableGauge};
pub use series::Series;
pub use signals::{signal_value, unaccounted_rows};
