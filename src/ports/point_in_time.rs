//! Everything a store held at one moment, as text.

use async_trait::async_trait;

use super::error::PortResult;
use super::source::Cursor;
use crate::domain::plan::Table;

/// Records as lines of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextPage {
    /// One JSON object for each record, each followed by a line break.
    pub lines: Vec<u8>,
    /// How many.
    pub records: u64,
    /// Where to read on; absent at the end of the table.
    pub next: Option<Cursor>,
}

/// A reading of several tables of one store at one moment. While it is open the store keeps what it shows; dropping it
/// ends it.
#[async_trait]
pub trait PointInTime: Send {
    /// Which moment, in the store's own words.
    fn moment(&self) -> &str;

    /// Columns of a table in order, each with its type as the store writes it.
    fn columns(&self, table: &Table) -> Vec<(String, String)>;

    /// The next records of a table, whole: each value as the text that the store's own type writes, which loses nothing.
    async fn page(&mut self, table: &Table, cursor: Option<&Cursor>) -> PortResult<TextPage>;
}
