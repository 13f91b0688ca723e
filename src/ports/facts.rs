//! How a worker states a fact and waits until it is on disk.

use async_trait::async_trait;

use crate::domain::run::Event;

/// The journal could not be written; no forward effect may follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fact was not recorded: {0}")]
pub struct NotRecorded(pub String);

/// The engine's side of fact keeping. Awaiting [`Facts::state`] is back-pressure.
#[async_trait]
pub trait Facts: Send + Sync {
    /// States a fact. Returns once it is folded into the state and durable (fsync).
    async fn state(&self, event: Event) -> Result<(), NotRecorded>;
}
