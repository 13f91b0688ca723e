//! Metrics of both sides.

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::at::At;
use crate::domain::gauge::Reading;
use crate::domain::plan::Metric;

/// Reads metrics in batches.
#[async_trait]
pub trait Metrics: Send + Sync {
    /// The newest value of each metric in the last few minutes before `now`, in the order asked;
    /// a metric without data is a reading without value.
    async fn latest(&self, metrics: &[Metric], now: At) -> PortResult<Vec<Reading>>;
}
