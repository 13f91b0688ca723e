//! Faulty wrappers round both ends of the way back for data.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::faults::Op;
use super::faulty::Trouble;
use crate::domain::mapping::{Clash, ItemChange};
use crate::domain::plan::Table;
use crate::domain::value::{Item, Key};
use crate::ports::{
    Capture, Captured, Image, ItemOutcome, Items, Outbox, PortResult, Taken, Tally, Unfinished, Waiting,
};

/// An outbox with faults.
pub struct FaultyOutbox(pub Arc<dyn Outbox>, pub Trouble);

#[async_trait]
impl Outbox for FaultyOutbox {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<Capture>> {
        self.1.call(Op::Arm, "", self.0.arm(tables)).await
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        self.1.call(Op::Armed, "", self.0.armed(tables)).await
    }

    async fn disarm(&self, tables: &[Table]) -> PortResult<()> {
        self.1.call(Op::Disarm, "", self.0.disarm(tables)).await
    }

    async fn go_back(&self) -> PortResult<()> {
        self.1.call(Op::GoBack, "", self.0.go_back()).await
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Clash)>> {
        self.1.call(Op::Conflicts, &table.id, self.0.conflicts(table)).await
    }

    async fn settle(&self) -> PortResult<()> {
        self.1.call(Op::Settle, "", self.0.settle()).await
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

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Tally>> {
        self.1.call(Op::Tally, "", self.0.tally(tables)).await
    }

    async fn signed(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        self.1.call(Op::Signed, &table.id, self.0.signed(table, images)).await
    }
}

/// Taken changes with faults.
struct FaultyTaken(Box<dyn Taken>, String, Trouble);

#[async_trait]
impl Taken for FaultyTaken {
    fn changes(&self) -> &[Captured] {
        self.0.changes()
    }

    fn markers(&self) -> &[String] {
        self.0.markers()
    }

    fn went_back(&self) -> bool {
        self.0.went_back()
    }

    async fn sign(&self, image: &Image) -> PortResult<bool> {
        self.2.call(Op::Sign, &self.1, self.0.sign(image)).await
    }

    async fn unfinished(&self, key: &Key, digest: u128) -> PortResult<Option<Unfinished>> {
        self.2.call(Op::Unfinished, &self.1, self.0.unfinished(key, digest)).await
    }

    async fn clear(&self, key: &Key, records: &[i64], clash: Clash) -> PortResult<()> {
        self.2.call(Op::Clear, &self.1, self.0.clear(key, records, clash)).await
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

    async fn read(&self, table: &Table, key: &Item<'static>) -> PortResult<Option<Item<'static>>> {
        self.1.call(Op::ItemRead, &table.id, self.0.read(table, key)).await
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Item<'static>>> {
        self.1.call(Op::Sample, &table.id, self.0.sample(table)).await
    }

    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.1.call(Op::Exercise, &table.id, self.0.exercise(table, nonce)).await
    }
}
