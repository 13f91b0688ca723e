//! Tables of an export, written back into a store.

use async_trait::async_trait;

use super::error::PortResult;
use super::point_in_time::TextPage;
use super::source::Cursor;
use crate::domain::plan::AfterLoad;

/// A table as an export holds it, under the name it is restored as.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldTable {
    /// Its id in the plan it was exported by.
    pub id: String,
    /// Its name in the store that it is written to.
    pub name: String,
    /// Key attributes or columns in order, each with `S`, `N` or `B`.
    pub key: Vec<(String, String)>,
    /// Columns in order, with their types as the store writes them. Empty where records have no fixed ones.
    pub columns: Vec<(String, String)>,
    /// What makes it where it is not there: statements, or a table's definition. Absent where the export has none; then
    /// it is made of its columns and its key.
    pub ddl: Option<String>,
    /// What is made once its records are there.
    pub after_load: Vec<AfterLoad>,
}

/// What a store has where a table is to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTable {
    /// The table's id in the export.
    pub id: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it holds anything.
    pub holds: bool,
    /// What keeps it from being restored, each with what to do.
    pub problems: Vec<(String, String)>,
    /// What a person should know though it can be.
    pub notices: Vec<String>,
}

/// A store that takes the tables of an export.
#[async_trait]
pub trait Restore: Send + Sync {
    /// Looks at these tables and keeps others from writing to those that are there, where the store can do that. Writes
    /// nothing.
    async fn open(&self, tables: &[HeldTable]) -> PortResult<Box<dyn Restoring>>;
}

/// Tables that are being restored. Where the store has transactions all of it is one: dropping it leaves nothing behind.
/// Elsewhere what was written stays; it is found when the restore is begun again.
#[async_trait]
pub trait Restoring: Send {
    /// What was found, in the order in which the tables have to be written.
    fn found(&self) -> &[FoundTable];

    /// Whether records that are there may be written once more, and are there once: a restore that was cut off goes on.
    fn takes_again(&self) -> bool;

    /// Makes a table that is not there.
    async fn make(&mut self, table: &HeldTable) -> PortResult<()>;

    /// Writes whole lines of an export into a table: each a record, each followed by a line break.
    async fn write(&mut self, table: &HeldTable, lines: &[u8]) -> PortResult<()>;

    /// Waits until everything that was written into the table is there.
    async fn written(&mut self, table: &HeldTable) -> PortResult<()>;

    /// The table's next records, as an export of it would hold them.
    async fn page(&mut self, table: &HeldTable, cursor: Option<&Cursor>) -> PortResult<TextPage>;

    /// Makes what comes after the records and keeps everything. Says what was done besides the records, in words.
    async fn keep(self: Box<Self>, tables: &[HeldTable]) -> PortResult<Vec<String>>;
}
