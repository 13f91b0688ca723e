//! Where rows come from.

use async_trait::async_trait;
use bytes::Bytes;

use super::column_types::ColumnTypes;
use super::copied::CopiedRows;
use super::error::PortResult;
use super::point_in_time::PointInTime;
use super::sequence::{Sequence, SequenceScan};
use super::surroundings::Surroundings;
use crate::domain::gauge::Count;
use crate::domain::plan::{ColumnType, Definition, Table};
use crate::domain::value::{Cell, Record};

/// One part of a table that is read on its own: segment `index` of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    /// From 0.
    pub index: u32,
    /// How many in all.
    pub of: u32,
}

/// Where to read on: opaque text made by the adapter (for DynamoDB `LastEvaluatedKey` as JSON).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// One page as it came from the wire, not parsed yet.
#[derive(Clone, Debug)]
pub struct Page {
    /// The body.
    pub body: Bytes,
}

/// What stands at the end of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageEnd {
    /// Items in the page, markers included.
    pub items: u32,
    /// Where to read on; absent at the end of the partition.
    pub next: Option<Cursor>,
    /// Read capacity units the page cost, if the store said so.
    pub capacity: Option<f64>,
}

/// What is known of a source table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceTable {
    /// Key attributes with their types (`S`, `N`, `B`), partition key first.
    pub key: Vec<(String, String)>,
    /// The store's own count.
    pub count: Count,
    /// Size in bytes, the store's own estimate.
    pub bytes: Option<u64>,
    /// The change stream, if one is on: its identity and whether it has new and old images.
    pub stream: Option<(String, bool)>,
    /// The TTL attribute, if TTL is on.
    pub ttl: Option<String>,
    /// Regions where customers may write to the same table, this one left out.
    pub replicas: Vec<String>,
    /// Types of the columns that only the store knows.
    pub types: ColumnTypes,
    /// Every column, in order; of a document store the attributes whose type the table's definition fixes.
    pub columns: Vec<SourceColumn>,
    /// Names of types in the plan that are none here, or not those of their columns, each with what to do.
    pub misnamed: Vec<(String, String)>,
    /// What happened to the table since its changes are captured that its log does not say, each with what to do.
    pub unseen: Vec<(String, String)>,
    /// What it is made of, as far as the log says nothing of its coming and going: the same text is the same state.
    pub parts: String,
}

/// A column of a source table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceColumn {
    /// Its name.
    pub name: String,
    /// Its type as the store writes it, with its limits: `character varying(255)`.
    pub written: String,
    /// The same as a plan says it, where it is a type that is known here.
    pub ty: Option<ColumnType>,
    /// Whether the store makes its values out of the row's others.
    pub generated: bool,
    /// Whether a new row may have a value of its own in it, and a row that is there no other one: an identity that is
    /// `GENERATED ALWAYS`.
    pub always: bool,
    /// Whether a new row has to bring a value for it.
    pub required: bool,
}

/// A transaction that is open and has written something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWrite {
    /// No other transaction has the same.
    pub id: String,
    /// Whose it is, where, and since when: `process 4711 of 'psql' in database shop, open since 02:00:01 UTC, for 90 s`.
    pub words: String,
}

/// Of transactions that were open at a first look, the first that still is.
#[must_use]
pub fn first_open<'o>(first: &'o [OpenWrite], now: &[OpenWrite]) -> Option<&'o OpenWrite> {
    first.iter().find(|one| now.iter().any(|other| other.id == one.id))
}

/// A store that can be read in partitions.
#[async_trait]
pub trait Source: Send + Sync {
    /// What the store says of a table.
    async fn describe(&self, table: &Table) -> PortResult<SourceTable>;

    /// What a table of items is made of, to make another one like it or to hold one against it; `None` in a store whose
    /// tables are made by statements.
    async fn definition(&self, _table: &Table) -> PortResult<Option<Definition>> {
        Ok(None)
    }

    /// What is attached to a table and stays behind when it moves, in words; what may not be asked is said to be not known.
    /// `None` in a store whose tables have nothing of the kind.
    async fn attached(&self, _table: &Table) -> PortResult<Option<Vec<String>>> {
        Ok(None)
    }

    /// A load is about to read the first row of a table: what it has to hold against later is written down.
    async fn begin_load(&self, _table: &Table) -> PortResult<()> {
        Ok(())
    }

    /// A load has read every segment of a table to its end.
    ///
    /// # Errors
    /// `Expired` when rows were put elsewhere meanwhile without a word in the log, so that some may have been read by nobody:
    /// no further try helps, the table has to be loaded anew.
    async fn end_load(&self, _table: &Table) -> PortResult<()> {
        Ok(())
    }

    /// Reads one page of a partition. Retries throttles and torn connections itself, within reason.
    async fn page(&self, table: &Table, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page>;

    /// Parses a page once, handing each item to `each`; the items borrow from the page.
    fn read<'p>(&self, page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd>;

    /// The rows of a page as they are, where a database wrote them in a form that another one takes. What a table has of
    /// them is not looked at. `None` elsewhere, and for a torn page, which [`Source::read`] refuses.
    fn copied<'p>(&self, _page: &'p Page) -> Option<CopiedRows<'p>> {
        None
    }

    /// The rows of a page as cells in the order of the table's columns, where no mapping would change any of them: each
    /// column of the table is one of the source, of the same name and type. `None` elsewhere, where a value is more than
    /// its column takes, and in a store whose markers are rows; then [`Source::read`] says what is in the page.
    fn cells(&self, _table: &Table, _page: &Page, _each: &mut dyn FnMut(&[Cell<'_>])) -> PortResult<Option<PageEnd>> {
        Ok(None)
    }

    /// Strongly consistent point reads; the answer is in the order of `keys`, absent items are `None`.
    /// A key is an item that holds exactly the key attributes.
    async fn get(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>>;

    /// Counts every row by reading them. Costs read capacity.
    async fn count(&self, table: &Table) -> PortResult<Count>;

    /// A full comparison found both sides equal, nothing repaired, which began when the table was described with these `parts`:
    /// what its log did not say until then is made good, and is not named any more. Nothing where its parts are others by now.
    async fn made_good(&self, _table: &Table, _parts: &str) -> PortResult<()> {
        Ok(())
    }

    /// The names of all its tables, as rules fit them: ours and the store's own are left out.
    async fn names(&self) -> PortResult<Vec<String>>;

    /// Transactions of others that are open and have written something: what they wrote is in no page and in no change
    /// until they commit, and they may write more. None in a store whose writes are single.
    async fn open_writes(&self) -> PortResult<Vec<OpenWrite>>;

    /// Opens a reading of these tables at one moment; `None` in a store that shows no single one. Writes nothing.
    async fn point_in_time(&self, tables: &[Table]) -> PortResult<Option<Box<dyn PointInTime>>>;

    /// What the database sets for its sessions, and what is under way on its server; `None` in a store without sessions.
    async fn surroundings(&self) -> PortResult<Option<Surroundings>> {
        Ok(None)
    }

    /// Sequences of the store as they stand: those that give columns of these tables their values, and those beside the
    /// tables that no column takes its values from. None in a store that has none. Reads the catalogue only, unless the
    /// columns that they feed are to be scanned too; then each says what these hold.
    async fn given_sequences(&self, tables: &[Table], scan: Option<SequenceScan>) -> PortResult<Vec<Sequence>>;

    /// Writes a marker item through the fenced path. Its key is the table's marker prefix and `nonce`.
    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;

    /// Removes a marker item.
    async fn delete_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;
}
