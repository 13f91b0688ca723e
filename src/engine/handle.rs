//! What a screen holds of a run: snapshots in, commands out, and rollback that cannot queue.
//!
//! Replay gives out the same handle, so a screen does not know the difference.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::run::{Actor, Cause, Command, Refusal};
use crate::snapshot::Snapshot;

/// A command on its way to the engine, with who asked and where the answer goes.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub by: Actor,
    /// The answer.
    pub reply: oneshot::Sender<Result<(), Refusal>>,
}

/// A rollback order. Orders do not queue: the newest stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackOrder {
    /// Who.
    pub by: Actor,
    /// Why.
    pub cause: Cause,
}

/// What a viewer of a recording can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playback {
    /// Stop or go on.
    Toggle,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// Jump by this many milliseconds of the recording.
    Seek(i64),
}

/// A screen's side of a run.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The newest snapshot; marked changed at most ten times a second.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Request>,
    rollback: Arc<watch::Sender<Option<RollbackOrder>>>,
    playback: Option<mpsc::Sender<Playback>>,
    operator: String,
}

impl Handle {
    /// Puts a handle together; `playback` only for recordings.
    #[must_use]
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        commands: mpsc::Sender<Request>,
        rollback: Arc<watch::Sender<Option<RollbackOrder>>>,
        playback: Option<mpsc::Sender<Playback>>,
        operator: String,
    ) -> Self {
        Self { snapshots, commands, rollback, playback, operator }
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Sends a command without waiting. The answer comes over the receiver; a full queue is a refusal now.
    pub fn command(&self, command: Command) -> Result<oneshot::Receiver<Result<(), Refusal>>, Refusal> {
        self.command_by(command, Actor::Operator(self.operator.clone()))
    }

    /// Sends a command on somebody else's behalf, without waiting.
    ///
    /// # Errors
    /// A full queue, or an engine that has ended.
    pub fn command_by(&self, command: Command, by: Actor) -> Result<oneshot::Receiver<Result<(), Refusal>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Request { command, by, reply }).map_err(|e| {
            Refusal(match e {
                mpsc::error::TrySendError::Full(_) => "engine busy, press again".to_owned(),
                mpsc::error::TrySendError::Closed(_) => "the engine has ended".to_owned(),
            })
        })?;
        Ok(answer)
    }

    /// Orders rollback. Cannot fail, cannot queue, does not wait.
    pub fn roll_back(&self) {
        self.order(RollbackOrder { by: Actor::Operator(self.operator.clone()), cause: Cause::Asked });
    }

    /// Orders rollback on somebody else's behalf.
    pub fn order(&self, order: RollbackOrder) {
        self.rollback.send_replace(Some(order));
    }

    /// Asks a recording for something; `false` when this is not a recording.
    pub fn playback(&self, ask: Playback) -> bool {
        self.playback.as_ref().is_some_and(|p| p.try_send(ask).is_ok())
    }

    /// Whether this is a recording.
    #[must_use]
    pub const fn is_replay(&self) -> bool {
        self.playback.is_some()
    }

    /// Who sits here.
    #[must_use]
    pub fn operator(&self) -> &str {
        &self.operator
    }
}
