//! The reverse flow: what applies changes of the new side to the old side.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::error::{PortError, PortResult};
use super::sequence::{Beyond, Sequence, SequenceScan};
use super::source::OpenWrite;
use super::stores::ByStore;
use crate::domain::at::At;
use crate::domain::mapping::{ItemChange, Resolution, RowTree};
use crate::domain::plan::Table;
use crate::domain::value::{Key, OwnedRow, Record};

/// Rows of one key that were changed and not applied to the old side yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxChange {
    /// Cells of the key columns, in column order.
    pub key: OwnedRow,
    /// The records this stands for; they are cleared once it is applied.
    pub records: Vec<i64>,
    /// When the oldest of them was made, by the target's clock.
    pub since: At,
    /// The states the row had, oldest first; the present one is the last.
    pub states: Vec<Option<RowTree>>,
    /// The record each of the states began with; 0 for the oldest.
    pub from: Vec<i64>,
    /// Columns that a record of it was written without, because the table had none of that name. What is absent is not
    /// empty, so such a key is not applied.
    pub absent: Option<String>,
}

impl OutboxChange {
    /// Which of the states the row was in after this record.
    #[must_use]
    pub fn state_after(&self, record: i64) -> Option<usize> {
        self.from.iter().rposition(|from| *from <= record)
    }
}

/// An item as a reverse applier is about to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnWrite {
    /// The item's key.
    pub key: Key,
    /// Digest of the whole item: [`item_digest`](crate::domain::mapping::item_digest).
    pub digest: u128,
    /// The newest record it contains.
    pub record: i64,
    /// How the change met what the old side had done.
    pub resolution: Resolution,
}

/// What a reverse applier had signed that may have died before it cleared the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Digest of the whole item, as it was to be left.
    pub digest: u128,
    /// The newest record the image contains.
    pub record: i64,
    /// What it had found the old side to have done.
    pub resolution: Resolution,
}

/// A key that was applied, whose records are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The key.
    pub key: Key,
    /// Its records.
    pub records: Vec<i64>,
    /// How it met what the old side had done.
    pub resolution: Resolution,
}

impl Cleared {
    /// A key with its records.
    #[must_use]
    pub fn of(key: &Key, records: &[i64], resolution: Resolution) -> Self {
        Self { key: key.clone(), records: records.to_vec(), resolution }
    }
}

/// What waits in the outbox of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Records.
    pub records: u64,
    /// Age of the oldest one in milliseconds, by the target's clock.
    pub oldest_ms: i64,
}

/// What was applied to the old side of one table since its capture began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReverseCounts {
    /// Keys whose item was written, deleted, or found to say already what it should.
    pub carried: u64,
    /// Of these, keys that both sides had changed in different fields.
    pub merged: u64,
    /// Of these, keys where both sides had changed the same field.
    pub conflicts: u64,
}

impl ReverseCounts {
    /// One key that met the other side like this.
    #[must_use]
    pub fn of(resolution: Resolution) -> Self {
        let conflicts = u64::from(matches!(resolution, Resolution::NewWon | Resolution::OldWon));
        Self { carried: 1, merged: u64::from(resolution == Resolution::Merged), conflicts }
    }

    /// Counts these too.
    pub fn add(&mut self, other: Self) {
        self.carried += other.carried;
        self.merged += other.merged;
        self.conflicts += other.conflicts;
    }
}

/// How the capture of one table stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureState {
    /// Table id.
    pub table: String,
    /// Whether a change of a row was seen to leave its record, in a transaction that is rolled back; `false` for an
    /// empty table.
    pub exercised: bool,
    /// Tables of the target that are captured.
    pub tables: Vec<String>,
}

/// Changes taken out of the outbox, under a lock that keeps every other reverse applier away.
///
/// Dropping it gives them back.
#[async_trait]
pub trait Taken: Send + Sync {
    /// The changes, in the order their keys were first changed.
    fn changes(&self) -> &[OutboxChange];

    /// Markers that were read with them.
    fn markers(&self) -> &[String];

    /// Whether a rollback was ordered: what customers write on the old side is then newer than anything taken here.
    fn rolled_back(&self) -> bool;

    /// Stores images that are about to be written, so that they are recognised in the old side's stream and by the next
    /// reverse applier. Durable on return, whatever becomes of the changes. Says whether a rollback was ordered by
    /// now; fails when the turn is lost.
    async fn record_own_writes(&self, images: &[OwnWrite]) -> PortResult<bool>;

    /// Images of each of these keys that a reverse applier signed and whose records are not cleared yet, oldest record
    /// first: it may have written any of them and died. One list for each key, in their order.
    async fn unfinished(&self, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>>;

    /// Removes the records of keys that were applied, counts each key and keeps its name if both sides had changed it:
    /// for each key durably and together. Records that are gone already add nothing, so it may be called again; fails
    /// when the turn is lost, and then some keys may be cleared.
    async fn clear(&self, applied: &[Cleared]) -> PortResult<()>;

    /// Removes the markers and lets the next reverse applier have its turn.
    async fn done(self: Box<Self>) -> PortResult<()>;
}

/// Something that keeps writes of customers out of the reverse flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureGap {
    /// The table, what is wrong, and what to do.
    pub what: String,
    /// Whether writes may have come in that nothing knows of: triggers that are or were switched off, rows that came in
    /// past them. Otherwise such writes wait, or fail when a customer tries them.
    pub lost: bool,
}

/// The target's outbox: every committed change of a moved table that is not ours, until it is applied to the old side.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Creates what is missing, and proves table by table that a change leaves a record that can be read. Idempotent.
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>>;

    /// Whether every table is captured.
    async fn armed(&self, tables: &[Table]) -> PortResult<bool>;

    /// What is not captured, or not as it must be, although it was armed, by table. Reads only.
    async fn gaps(&self, tables: &[Table]) -> PortResult<Vec<CaptureGap>>;

    /// Stops capturing these tables for this plan, and nothing else. `Conflict` when anything that was captured of them
    /// is not applied yet.
    async fn disarm(&self, tables: &[Table]) -> PortResult<()>;

    /// Stores, beside the data, that these tables of a run are rolled back. Every reverse applier sees it
    /// from its next turn on, also one that was suspended meanwhile. `Invalid` when a later run of the plan has one of
    /// them, whose tables stay as they are.
    async fn mark_rolled_back(&self, run: &str, tables: &[Table]) -> PortResult<()>;

    /// Everything of these tables of a run is applied: the target holds nothing of them any more that is not also
    /// elsewhere, and they may be loaded anew. A later run's tables stay as they are.
    async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()>;

    /// Sends a marker the way every change goes.
    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;

    /// Takes changes of a table: those of at most `limit` records, oldest first, each key whole. `None` when there are
    /// none. `Throttled` while another process applies them.
    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>>;

    /// What waits, by table id. Markers do not count.
    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>>;

    /// Transactions of others that are open where these tables are, and have written something. What they wrote is in no record until they
    /// commit, and they may write more.
    async fn open_writes(&self, tables: &[Table]) -> PortResult<Vec<OpenWrite>>;

    /// Sequences of the new side that give columns of these tables their values, with what each gave last; none in a store
    /// without them.
    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>>;

    /// What was applied to the old side so far, by table id.
    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>>;

    /// Keys of a table where both sides had changed the same field, with who won, as far as they were cleared.
    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>>;

    /// Which of these images were signed, in their order.
    async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>>;
}

/// What became of a write to one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Acknowledged.
    Written,
    /// The item is not what it was when it was read; nothing was written.
    Moved,
}

/// What became of one change of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum InBatch {
    /// Acknowledged.
    Written,
    /// Not written: its item is not what was read, somebody holds it, or the store refused it or one that was to be
    /// written with it. Whoever writes it by itself is told which.
    Apart,
    /// Not written: it cannot stand now, by itself either.
    Refused(PortError),
}

/// What became of several changes that were to be written in one transaction.
#[derive(Debug)]
pub enum Together {
    /// All of them are written.
    Written,
    /// An item is not what it was when it was read; nothing was written.
    Moved,
    /// Some of them cannot stand, among the others either; nothing was written.
    Refused {
        /// Which, counted from 0, the first of each item.
        places: Vec<usize>,
        /// Why the first of them cannot.
        why: PortError,
    },
    /// What is looked at only at the end refuses them, and does not say which of them; nothing was written.
    Clash(PortError),
}

/// Writes single items of the source, each only over what was read.
#[async_trait]
pub trait Items: Send + Sync {
    /// Writes a change. `Invalid` when the store cannot hold the item.
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome>;

    /// Writes these changes of one table, at most [`batch`](Self::batch) of them and each of another item, each only over
    /// what was read. What becomes of one says nothing of another: a store may write all of them in one transaction, or
    /// each by itself. One answer for each, in their order.
    ///
    /// # Errors
    /// Some or all of them may be written, or none.
    async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>>;

    /// How many items are best read and written at once; 1 where that gains nothing.
    fn batch(&self) -> usize;

    /// Writes these changes of one table in their order, all in one transaction or none. One that cannot stand yet is
    /// tried again after those behind it, changes of one item in their order. `Invalid` in a store that takes each item by
    /// itself: nothing there depends on another item.
    async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together>;

    /// The item of a key, read consistently.
    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>>;

    /// The items of these keys, each read consistently, in their order.
    async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>>;

    /// Whether values are those of typed columns: a cell is then written as it is, and an absent value is NULL.
    fn of_columns(&self) -> bool;

    /// Some items of a table, markers included: its first page.
    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>>;

    /// Writes, reads back and removes a marker item, through the calls every change goes through.
    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()>;

    /// Sequences that give columns of these tables their values; none in a store without them. Reads the catalogue only.
    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>>;

    /// Moves each of these sequences past every value that its columns hold and past those in `beyond`, with a margin and
    /// never back, and reads it back; those named in `by_hand` are left alone. Idempotent. One that could not be moved says
    /// so itself.
    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>>;
}

/// Both ends of the reverse flow.
#[derive(Clone)]
pub struct ReversePorts {
    /// Where changes of the new side wait.
    pub outbox: Arc<dyn Outbox>,
    /// Where they are written, by the store their table comes from.
    pub items: ByStore<dyn Items>,
}
