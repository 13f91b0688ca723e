//! Something else that moves the rows of tables: it is told what to do, and watched.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::changes::Position;
use super::error::PortResult;
use super::target::Obstacle;
use crate::domain::plan::Table;

/// What a mover does at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MoverState {
    /// It is not there: nothing was made, or it was removed.
    #[default]
    Absent,
    /// It is made and was never started.
    Prepared,
    /// It moves rows, or tries to.
    Running,
    /// We paused it; it goes on where it stopped.
    Paused,
    /// We stopped it before customers were let in.
    Stopped,
    /// It does not run, and it was not we who ended that.
    EndedElsewhere,
}

/// What a mover does with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableState {
    /// Its rows are not begun yet.
    Waiting,
    /// Its rows are copied: how many and how many bytes of them are there, as far as the mover says so.
    Copying {
        /// Rows.
        rows: Option<u64>,
        /// Bytes.
        bytes: Option<u64>,
    },
    /// Its rows are copied, and what was written meanwhile is applied.
    CatchingUp,
    /// It is in step: changes are applied as they come.
    Following,
    /// Nobody says, for this reason.
    Unknown(String),
}

/// What was found of a mover in one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoverLook {
    /// What it does.
    pub state: MoverState,
    /// What it does with each table, by the table's id.
    pub tables: BTreeMap<String, TableState>,
    /// How far the source's log reached when this look began; absent for a mover that knows no positions.
    pub head: Option<Position>,
    /// Everything of the source's log up to here was received.
    pub received: Option<Position>,
    /// Everything of the source's log up to here is durable in the target.
    pub applied: Option<Position>,
    /// Failed attempts to copy or to apply, counted since it was made. Only grows.
    pub errors: u64,
    /// Why nothing moves on at this moment, and what to do; absent while all is well.
    pub trouble: Option<String>,
    /// Why it can never go on: changes are missing. Only a new load closes the gap.
    pub lost: Option<String>,
}

impl MoverLook {
    /// Whether it runs and every table is in step with the source.
    #[must_use]
    pub fn follows_all(&self) -> bool {
        self.state == MoverState::Running && self.tables.values().all(|t| *t == TableState::Following)
    }
}

/// Something that moves rows in place of the console: it copies what is there, and applies what is written from then on.
///
/// It works while no console runs. So what it may write ends with [`Mover::stop`], which returns only once nothing of it
/// is left at work, and with [`super::Target::open_to_customers`], which is refused while it could write.
#[async_trait]
pub trait Mover: Send + Sync {
    /// Everything that would keep it from moving these tables, all at once. Changes nothing.
    async fn obstacles(&self, tables: &[Table]) -> PortResult<Vec<Obstacle>>;

    /// Makes it for these tables, and starts nothing: from here on the source keeps what changes. Adopts what an earlier
    /// process made; what was made and never started may be made anew. Gives what it is called from then on: another
    /// name for the same tables is another mover, and continuity is lost. Idempotent.
    async fn prepare(&self, tables: &[Table]) -> PortResult<String>;

    /// Lets it work, for the first time or after a pause. `Conflict` when one of the tables is not the plan's any more,
    /// or is open to customers. Idempotent.
    async fn start(&self, tables: &[Table]) -> PortResult<()>;

    /// What it does, and how far it has come.
    async fn look(&self, tables: &[Table]) -> PortResult<MoverLook>;

    /// Lets it rest, so that it goes on later. A table whose rows are being copied may begin anew then. Idempotent.
    async fn pause(&self) -> PortResult<()>;

    /// Stops it: when this returns, nothing of it is at work, and it writes nothing any more. It could be started again
    /// until the tables are open to customers. One that is not there is stopped. Idempotent.
    async fn stop(&self) -> PortResult<()>;

    /// Removes it from both ends: the source keeps nothing for it any more. Where one end cannot be reached, the other is
    /// cleared all the same, and the error says what is left. Idempotent.
    async fn remove(&self) -> PortResult<()>;
}
