//! Requests that stand for customers.

use async_trait::async_trait;

use crate::domain::plan::Probe;

/// How a probe was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// As the plan wants it.
    Served,
    /// Refused on purpose: one of the probe's `refused` statuses.
    Refused,
    /// Anything else: in words, without the answer's body.
    Failed(String),
}

/// One probe's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// How it was answered.
    pub outcome: ProbeOutcome,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Time to the whole answer, in milliseconds.
    pub latency_ms: u32,
}

/// Sends probes.
#[async_trait]
pub trait Probes: Send + Sync {
    /// Sends one request. Never fails: failing is a result.
    async fn probe(&self, probe: &Probe) -> ProbeResult;
}
