//! Where rows go, and where progress is kept: in the same transaction as the data it describes.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::changes::Position;
use super::column_types::ColumnTypes;
use super::copied::CopiedRows;
use super::encoder::RowEncoder;
use super::error::PortResult;
use super::lanes::{Fence, FollowState};
use super::owned::{Lease, OpenedTable, Owned};
use super::sequence::{Beyond, Sequence, SequenceScan};
use super::source::{Cursor, Partition};
use super::surroundings::Surroundings;
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::{Mapped, RowError, RowErrorReason};
use crate::domain::plan::{Definition, Table};
use crate::domain::value::{Cell, Key, OwnedRow};

/// What is known of a target table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetTable {
    /// Whether it exists.
    pub exists: bool,
    /// Its columns with their SQL types, in order.
    pub columns: Vec<(String, String)>,
    /// Types of the columns that only the database knows.
    pub types: ColumnTypes,
    /// Primary key columns.
    pub key: Vec<String>,
    /// What does not fit the plan: each with what to do. Empty when all is well.
    pub problems: Vec<String>,
    /// What fits and may still surprise: rows that would be refused, triggers that fire, references nobody enforces.
    pub notices: Vec<String>,
    /// Keys of indexes whose type refuses items that hold another one there. Of a table that is not there yet, those of
    /// the indexes it is made with.
    pub index_keys: Vec<IndexKey>,
    /// Whether making it was begun by this plan and did not come to its end: [`Target::create`] goes on.
    pub unfinished: bool,
}

/// What became of the expiry of a table's items when customers were let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Items expire by this attribute, as was read back.
    On(String),
    /// This plan did not make the table: it is not changed.
    NotMadeHere,
}

/// An attribute that is a key of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexKey {
    /// The index.
    pub index: String,
    /// The attribute.
    pub attribute: String,
    /// The type it has to have: `S`, `N` or `B`.
    pub ty: String,
}

/// The server and the database as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetServer {
    /// How our bookkeeping stands.
    pub bookkeeping: Bookkeeping,
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
}

/// Our own bookkeeping in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bookkeeping {
    /// Not there: no run has ever begun here.
    #[default]
    Absent,
    /// Partly there, or not readable for us: nothing is concluded from it.
    Older,
    /// There.
    Ready,
}

/// Something that stands in the way of every table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong.
    pub wrong: String,
    /// What to do about it.
    pub advice: String,
    /// Whether it is a right that is missing.
    pub rights: bool,
}

/// For what the target tables must be our own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owning {
    /// Customers' writes are captured.
    pub capture: bool,
    /// Indexes are dropped while rows are loaded.
    pub indexes: bool,
}

/// How far a partition of a table's load has come, as stored beside the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub part: Partition,
    /// Where to read on; absent before the first page and after the last.
    pub cursor: Option<Cursor>,
    /// Rows written so far.
    pub rows: u64,
    /// Rows parked so far.
    pub parked: u64,
    /// Whether the partition is read to its end.
    pub done: bool,
}

impl Checkpoint {
    /// Whether these checkpoints of a table are a whole load: every partition of it, each read to its end.
    #[must_use]
    pub fn are_whole(all: &[Self]) -> bool {
        let of = all.first().map_or(0, |first| first.part.of);
        of > 0 && all.len() == of as usize && all.iter().all(|c| c.done && c.part.of == of)
    }
}

/// An index that is not there while its table is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its name with its schema, quoted where needed: `public.idx_books_author`.
    pub name: String,
    /// The statement that builds it again.
    pub definition: String,
}

/// A row that cannot be written: kept in the target's own ledger, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    /// Table id.
    pub table: String,
    /// The row's key.
    pub key: Key,
    /// Why.
    pub row_error: RowError,
    /// The key attributes as JSON, to read the item again.
    pub key_json: String,
}

/// Rows that refer to a parent which is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    /// The table that holds them, as the target names it.
    pub table: String,
    /// The table their parents should be in.
    pub parent: String,
    /// Columns that refer to it.
    pub columns: Vec<String>,
    /// How many there are.
    pub rows: u64,
    /// Keys of the first of them, parts joined by `|`.
    pub keys: Vec<Key>,
}

/// What happens to one row of the target.
#[derive(Clone, Debug, PartialEq)]
pub enum RowChange {
    /// Insert or replace the row, its children with it.
    Upsert {
        /// Key, for the ledger.
        key: Key,
        /// Key attributes as JSON, for the ledger.
        key_json: String,
        /// Cells in column order.
        row: OwnedRow,
        /// Child rows by child table, in the plan's order.
        children: Vec<Vec<OwnedRow>>,
    },
    /// Delete the row, its children with it.
    Delete {
        /// Key, for the ledger.
        key: Key,
        /// Key attributes as JSON, for the ledger: a delete is refused while other rows refer to the row.
        key_json: String,
        /// Cells of the primary key columns, in column order; empty when no row can have the key, and only the ledger
        /// has to forget it.
        row_key: OwnedRow,
    },
    /// The row does not fit: remove it from the table if it is there, and park it.
    Park(ParkedRow),
}

impl RowChange {
    /// Whose change it is.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Upsert { key, .. } | Self::Delete { key, .. } => key,
            Self::Park(parked) => &parked.key,
        }
    }
}

/// Items that were added and removed at the source within one second, of the keys of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountChange {
    /// The lane of their keys.
    pub lane: u32,
    /// The second these counts belong to, since 1970.
    pub second: i64,
    /// Items that were not there before.
    pub inserted: u64,
    /// Items that are gone.
    pub deleted: u64,
}

/// A reading of every item of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullRead {
    /// Items read.
    pub items: u64,
    /// When it began; absent for the load, whose beginning is stored.
    pub began: Option<At>,
    /// When it ended.
    pub ended: At,
}

/// A source's items, worked out from the last full reading and the changes its log reported since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// Items; absent when more were deleted than there can have been.
    pub items: Option<u64>,
    /// When the full reading ended.
    pub read_at: At,
    /// What it may be off by: items that came or went while it was read may have been read or not.
    pub unsure: u64,
}

/// Changes applied together with the positions they advance to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangeBatch {
    /// At most one change per key; the caller keeps the last one.
    pub rows: Vec<RowChange>,
    /// Where every shard stands, as the follower knows it: a target that stands earlier refuses the batch as `Rewound`.
    pub from: BTreeMap<String, Option<Position>>,
    /// New position of each shard that was read.
    pub positions: BTreeMap<String, Position>,
    /// Shards that are read to their end.
    pub finished: Vec<String>,
    /// Markers seen in this batch: nonces.
    pub markers: Vec<String>,
    /// Rows removed by TTL in this batch.
    pub expired: u64,
    /// Items that came and went in this batch; each stored in the transaction that moves its position.
    pub counts: Vec<CountChange>,
    /// The follower's right to move positions, and the lanes its rows may land in. Without it nothing is known of who
    /// else follows, and everything is one transaction.
    pub fence: Option<Fence>,
}

/// What applying a batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Rows inserted or updated.
    pub upserted: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows the target refused, now in the ledger.
    pub parked: Vec<ParkedRow>,
}

/// The load of one partition into the target. Rows are encoded as they come; nothing is kept per row.
///
/// Not cancel-safe between `flush` calls; dropping it discards what was not flushed, and the checkpoint
/// in the target still says where to start again.
#[async_trait]
pub trait Bulk: Send {
    /// Encodes one mapped row with its children into the buffer. Borrowed cells are not kept.
    /// `key_json` is kept only as long as the buffer, for rows the target refuses.
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()>;

    /// Takes rows as another database wrote them, and says how many; `None`, and none is taken, where a row could become
    /// another one: then each has to be read and mapped.
    fn push_copied(&mut self, _rows: &CopiedRows<'_>) -> PortResult<Option<u64>> {
        Ok(None)
    }

    /// Bytes waiting in the buffer.
    fn buffered(&self) -> usize;

    /// The next flush goes on from here: the cursor stored last, `None` while none is. A target that stands
    /// neither there nor at the new checkpoint refuses it as `Rewound`. Without this call nothing is compared.
    fn goes_on_from(&mut self, cursor: Option<Cursor>);

    /// Writes the buffer, the parked rows and the checkpoint in one transaction, durably.
    /// Rows the target refuses one by one are parked and returned.
    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied>;
}

/// Sees rows of the target in canonical form: main-table rows in column order.
pub type TargetVisitor<'v> = dyn FnMut(&[Cell<'_>]) + Send + 'v;

/// A store that takes rows.
#[async_trait]
pub trait Target: Send + Sync {
    /// Checks the server and the database as a whole. Writes nothing.
    async fn inspect(&self) -> PortResult<TargetServer>;

    /// Creates our own bookkeeping (schema `cutover`) if it is not there. Idempotent. `Conflict`, here and in every
    /// call that needs the bookkeeping, when another version of this program keeps its own there in another layout.
    async fn prepare(&self) -> PortResult<()>;

    /// Makes these tables the plan's own, for a run: bookkeeping, capture and marks of a table belong to one plan at a
    /// time. `Conflict` names the plan that has one of them still, its run, since when, and which command ends it.
    /// Idempotent.
    async fn claim(&self, run: &str, tables: &[Table]) -> PortResult<()>;

    /// Whether [`Target::claim`] would be refused, and why. Takes nothing and writes nothing.
    async fn claimable(&self, tables: &[Table]) -> PortResult<()>;

    /// What the plan has here. Writes nothing.
    async fn owned(&self) -> PortResult<Owned>;

    /// Ends everything the plan has here: its capture and with it its reverse flow, its marks, its progress. Indexes
    /// that were dropped for a load are built again first. The tables themselves and their rows stay, and nothing of
    /// another plan is touched. A driver that was suspended meanwhile is refused from then on. `Conflict` while the
    /// plan is driven.
    async fn disown(&self) -> PortResult<()>;

    /// Records durably that customers may write to these tables from now on. Waits for forward work of the plan that is
    /// under way; what comes later is refused. `Conflict` when one of them is not the plan's any more.
    async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()>;

    /// The first of these tables that is open to customers and whose writes were not all applied to the old side since;
    /// `None` when there is none.
    async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>>;

    /// What the database this table goes to sets for its sessions; `None` in a store without sessions.
    async fn surroundings(&self, _table: &Table) -> PortResult<Option<Surroundings>> {
        Ok(None)
    }

    /// Compares a table with the plan.
    async fn describe(&self, table: &Table) -> PortResult<TargetTable>;

    /// What a table of items is made of; `None` when it is not there, and in a store whose tables are made by statements.
    async fn definition(&self, _table: &Table) -> PortResult<Option<Definition>> {
        Ok(None)
    }

    /// Lets items of a table expire by this attribute: customers were let in. Idempotent; reads back. A table that this
    /// plan did not make stays as it is.
    async fn turn_on_expiry(&self, _table: &Table, _attribute: &str) -> PortResult<Expiry> {
        Ok(Expiry::NotMadeHere)
    }

    /// Rights on these tables that are missing, each with what grants it. Checks those tables that exist; writes
    /// nothing.
    async fn rights(&self, tables: &[Table], owning: Owning) -> PortResult<Vec<Obstacle>>;

    /// Creates a table from its DDL if it does not exist, and ends what an earlier try left unfinished. Idempotent. Says
    /// whether it created it.
    async fn create(&self, table: &Table) -> PortResult<bool>;

    /// Drops these tables and makes them again by their DDL, empty; one without DDL is emptied. What is there of them is
    /// lost, whoever wrote it. `Conflict` where one of them is not the plan's, is open to customers, or has writes of
    /// customers that were never carried back.
    async fn make_anew(&self, tables: &[Table]) -> PortResult<()>;

    /// Opens a partition's way in.
    async fn bulk(&self, table: &Table, part: Partition) -> PortResult<Box<dyn Bulk>>;

    /// How rows of a table are encoded. Asks the store nothing, so the table need not be there.
    fn encoder(&self, table: &Table) -> PortResult<Box<dyn RowEncoder>>;

    /// What holds the load of a table back at this moment, in words: that the store throttles it, or that the plan's write
    /// budget is spent. Asks the store nothing; `None` while nothing does, and where no store sells writes.
    fn held_back(&self, _table: &Table) -> Option<String> {
        None
    }

    /// Load checkpoints of a table; empty before its load began.
    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>>;

    /// Forgets a table's rows, checkpoints, positions and parked rows: before a load that starts over.
    async fn reset(&self, table: &Table) -> PortResult<()>;

    /// Before a table's first row: secondary indexes are dropped if the table is empty, their definitions stored
    /// durably in the same transaction, and are returned. `defer_indexes`: always, never, or (`None`) only for
    /// tables this program created; the primary key only where `keys_are_unique` at the source. Idempotent; does nothing once
    /// the load has begun.
    async fn begin_load(
        &self,
        table: &Table,
        defer_indexes: Option<bool>,
        keys_are_unique: bool,
    ) -> PortResult<Vec<SetAside>>;

    /// Indexes that are dropped at this moment: while a table is loaded, or after a load that never ended.
    async fn set_aside(&self, table: &Table) -> PortResult<Vec<SetAside>>;

    /// After every partition is loaded: indexes that were dropped are built again, what the plan gives a table after its
    /// load is made, then statistics are taken.
    /// Can be called again after it was interrupted anywhere.
    async fn finish_load(&self, table: &Table) -> PortResult<()>;

    /// Proves that every row of a table has the parents its foreign keys say, for keys that were made after the load and hold
    /// for new rows since. Says what is not so at this moment: a child may have come before its parent. `drained` says that
    /// nothing is on its way any more: a key that closes a circle of tables is made then and proven with them. Idempotent.
    async fn prove_references(&self, _table: &Table, _drained: bool) -> PortResult<Option<String>> {
        Ok(None)
    }

    /// Fills the materialized views that were made with a table out of the rows that are there now, each after those that it
    /// reads, and says which. Nobody reads one while it is filled. Idempotent.
    async fn fill_views(&self, _table: &Table) -> PortResult<Vec<String>> {
        Ok(Vec::new())
    }

    /// Sequences that give columns of these tables and of their child tables their values, and those beside the tables that
    /// no column takes its values from. Reads the catalogue only.
    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>>;

    /// Moves each of these sequences past every value its columns hold and past those in `beyond`, with a margin and never
    /// back, and reads it back; those named in `by_hand` are left alone. Idempotent. One that could not be moved says so
    /// itself. One that no column takes its values from is moved, and answered, only where `beyond` has its counterpart.
    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>>;

    /// Stores where following starts. Keeps positions that are there already. In one transaction.
    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()>;

    /// The stream and each shard's applied position; `None` before following began. Finished shards are
    /// listed with `None` as position.
    #[allow(clippy::type_complexity)]
    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>>;

    /// Resumes following where the target says it stands: waits until everything that another process, or an earlier
    /// try of this one, has sent is committed or rolled back, and refuses what they send from now on. Lane positions
    /// stored for another number of lanes are deleted. `None` before following began; `Conflict` when somebody else has
    /// taken the lease.
    async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>>;

    /// Applies changes and positions: the writer of follow, repair and retry. In one transaction, or, when the batch
    /// has a hold with lanes and is large, in one transaction a lane with how far the lane has come, and what is left
    /// in one after all of them. Positions never run ahead of rows; a lane that ended before the call failed is
    /// [`FollowState::ahead`] at the next [`Target::resume_follow`].
    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied>;

    /// When a marker was applied, by our clock at apply time; `None` if it has not been.
    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>>;

    /// Rows of the table. Exact counts read every row; otherwise the store's estimate is good enough.
    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count>;

    /// Notes when the load began to read the source. What is noted stays until the table is reset.
    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()>;

    /// Notes a full reading of the source; it takes the place of the one before.
    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()>;

    /// The source's items by the last full reading and the changes applied since; `None` before there was one.
    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>>;

    /// Counts of parked rows by reason, and rows expired, from the ledger.
    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)>;

    /// Parked rows in an order that stays the same, by the beginning of their keys, at most `limit`: of these reasons
    /// only if any are given, and only those past `after`. An answer shorter than `limit` is the end.
    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[RowErrorReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>>;

    /// What the ledger holds of these keys, each with when it was first parked, by the target's clock. In the order of
    /// `keys`; absent ones are `None`.
    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>>;

    /// Reads the whole table once, in canonical form, at one moment.
    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()>;

    /// Reads the whole child table once, in canonical form; `child` is its place in the plan.
    async fn scan_child(&self, table: &Table, child: usize, each: &mut TargetVisitor<'_>) -> PortResult<()>;

    /// Reads one part of a table, or of the child table at place `child`, in canonical form. All parts together are the
    /// whole; each is of its own moment, so a row that moves meanwhile may be in two of them or in none. A store that
    /// cannot be read in parts gives everything as the first one.
    async fn scan_part(
        &self,
        table: &Table,
        child: Option<usize>,
        part: Partition,
        each: &mut TargetVisitor<'_>,
    ) -> PortResult<()> {
        match child {
            _ if part.index > 0 => Ok(()),
            None => self.scan(table, each).await,
            Some(child) => self.scan_child(table, child, each).await,
        }
    }

    /// Rows of the table and of its child tables whose parent is not there, whether the store enforces the reference or
    /// not: one entry per foreign key and per child table, also where there are none. `tables` holds the tables that
    /// foreign keys may name; at most `limit` keys are listed per entry.
    async fn orphans(&self, table: &Table, tables: &[Table], limit: u32) -> PortResult<Vec<Orphans>>;

    /// Rows by key, children with them; keys are cells of the key columns. In the order of `keys`.
    #[allow(clippy::type_complexity)]
    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>>;

    /// Row changes made to the plan's tables by anybody, as a counter that only grows. Differences mean something;
    /// it may trail by a second.
    async fn writes(&self, tables: &[Table]) -> PortResult<u64>;

    /// Takes or renews the plan's lease for `ttl_ms`. `Conflict` names the holder when somebody else has it.
    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease>;

    /// Takes the lease from its holder, who drives the same run: for a rollback and a dead driver's successor. `Conflict`
    /// while somebody drives another run of the plan.
    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease>;

    /// Gives the lease back if we hold it.
    async fn release(&self, holder: &str) -> PortResult<()>;
}
