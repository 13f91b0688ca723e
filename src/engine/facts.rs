//! How workers state facts: over a bounded channel, awaiting the disk.

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::domain::run::Event;
use crate::ports::{Facts, NotRecorded};

/// A worker's fact and where to say that it is durable.
pub struct Stated {
    /// The event.
    pub event: Event,
    /// Answered once it is folded and on disk, or refused.
    pub durable: oneshot::Sender<Result<(), NotRecorded>>,
}

/// The workers' end.
#[derive(Clone)]
pub struct FactChannel(pub mpsc::Sender<Stated>);

#[async_trait]
impl Facts for FactChannel {
    async fn state(&self, event: Event) -> Result<(), NotRecorded> {
        let (durable, answer) = oneshot::channel();
        let gone = || NotRecorded("the engine has ended".to_owned());
        self.0.send(Stated { event, durable }).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}
