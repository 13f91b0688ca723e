//! What an application needs of a side's store, whatever its kind.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::domain::secret::Secret;
use crate::private::RehearsalResult;
use crate::rehearsal::oracle::{Listed, Outcome, Stood};
use crate::rehearsal::records::{Kind, Record, RecordKey, Write};

/// One side's store, written for one application. `connection` is what the parameters say about how it is reached; a
/// store that is always in one place does not look at it.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// One record, if it is there. The error says why it could not be read, without a value.
    async fn read(&self, connection: &Secret, key: &RecordKey) -> Result<Option<Record>, String>;

    /// One write: what became of it and, where the store says so, what stood there before.
    async fn write(&self, connection: &Secret, write: &Write) -> (Outcome, Option<Stood>);

    /// Everything of a kind, for the comparison at the end.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list(&self, connection: &Secret, kind: Kind) -> RehearsalResult<Listed>;
}
