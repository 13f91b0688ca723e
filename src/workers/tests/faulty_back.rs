//! Faulty wrappers round both ends of the reverse flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::faults::{Fault, Op};
use super::faulty::{Trouble, error};
use crate::domain::mapping::{ItemChange, Resolution};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record};
use crate::ports::{
    Beyond, CaptureGap, CaptureState, Cleared, ErrorKind, InBatch, ItemOutcome, Items, OpenWrite, Outbox, OutboxChange,
    OwnWrite, PortResult, ReverseCounts, Sequence, SequenceScan, Taken, Together, Unfinished, Waiting,
};

/// An outbox with faults.
pub struct FaultyOutbox(pub Arc<dyn Outbox>, pub Trouble);

#[async_trait]
impl Outbox for FaultyOutbox {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>> {
        self.1.call(Op::Arm, "", self.0.arm(tables)).await
    }

    async fn gaps(&self, tables: &[Table]) -> PortResult<Vec<CaptureGap>> {
        self.0.gaps(tables).await
    }

    async fn open_writes(&self, tables: &[Table]) -> PortResult<Vec<OpenWrite>> {
        self.0.open_writes(tables).await
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        self.0.sequences(tables).await
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        self.1.call(Op::Armed, "", self.0.armed(tables)).await
    }

    async fn disarm(&self, tables: &[Table]) -> PortResult<()> {
        self.1.call(Op::Disarm, "", self.0.disarm(tables)).await
    }

    async fn mark_rolled_back(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        self.1.call(Op::MarkRolledBack, "", self.0.mark_rolled_back(run, tables)).await
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        self.1.call(Op::Conflicts, &table.id, self.0.conflicts(table)).await
    }

    async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        self.1.call(Op::Settle, "", self.0.settle(run, tables)).await
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.1.call(Op::PutBackMarker, &table.id, self.0.put_marker(table, nonce)).await
    }

    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
        let taken = self.1.call(Op::Take, &table.id, self.0.take(table, limit)).await?;
        Ok(taken.map(|t| Box::new(FaultyTaken(t, table.id.clone(), self.1.clone())) as _))
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        self.1.call(Op::Waiting, "", self.0.waiting(tables)).await
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        self.1.call(Op::Tally, "", self.0.tally(tables)).await
    }

    async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        self.1.call(Op::OwnWrites, &table.id, self.0.own_writes(table, images)).await
    }
}

/// Taken changes with faults.
struct FaultyTaken(Box<dyn Taken>, String, Trouble);

#[async_trait]
impl Taken for FaultyTaken {
    fn changes(&self) -> &[OutboxChange] {
        self.0.changes()
    }

    fn markers(&self) -> &[String] {
        self.0.markers()
    }

    fn rolled_back(&self) -> bool {
        self.0.rolled_back()
    }

    async fn record_own_writes(&self, images: &[OwnWrite]) -> PortResult<bool> {
        self.2.call(Op::RecordOwnWrite, &self.1, self.0.record_own_writes(images)).await
    }

    async fn unfinished(&self, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>> {
        self.2.call(Op::Unfinished, &self.1, self.0.unfinished(keys)).await
    }

    async fn clear(&self, applied: &[Cleared]) -> PortResult<()> {
        self.2.call(Op::Clear, &self.1, self.0.clear(applied)).await
    }

    async fn done(self: Box<Self>) -> PortResult<()> {
        let Self(taken, table, trouble) = *self;
        trouble.call(Op::Done, &table, taken.done()).await
    }
}

/// An item writer with faults.
pub struct FaultyItems(pub Arc<dyn Items>, pub Trouble);

#[async_trait]
impl Items for FaultyItems {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        self.1.call(Op::ItemWrite, &table.id, self.0.write(table, change)).await
    }

    async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together> {
        self.1.call(Op::ItemWrite, &table.id, self.0.write_together(table, changes)).await
    }

    async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>> {
        match self.1.faults.strike(Op::ItemWrite, &table.id) {
            None => self.0.write_batch(table, changes).await,
            // Items that are written each by itself: the connection broke after some of them.
            Some(Fault::Cut) => {
                self.0.write_batch(table, &changes[..changes.len().div_ceil(2)]).await?;
                Err(error(ErrorKind::Unreachable, Op::ItemWrite, &table.id))
            }
            Some(fault) => self.1.suffer(&fault, Op::ItemWrite, &table.id, self.0.write_batch(table, changes)).await,
        }
    }

    fn batch(&self) -> usize {
        self.0.batch()
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        self.1.call(Op::ItemRead, &table.id, self.0.read(table, key)).await
    }

    async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.1.call(Op::ItemRead, &table.id, self.0.read_batch(table, keys)).await
    }

    fn of_columns(&self) -> bool {
        self.0.of_columns()
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        self.1.call(Op::Sample, &table.id, self.0.sample(table)).await
    }

    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.1.call(Op::Exercise, &table.id, self.0.exercise(table, nonce)).await
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        self.1.call(Op::OldSequences, "old", self.0.sequences(tables)).await
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        self.1.call(Op::AdvanceOldSequences, "old", self.0.advance_sequences(tables, look, by_hand, beyond)).await
    }
}
