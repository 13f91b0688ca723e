//! What carries changes of the new side back to the old one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::at::At;
use crate::domain::mapping::{Clash, Family, ItemChange};
use crate::domain::plan::Table;
use crate::domain::value::{Item, Key, OwnedRow};

/// Rows of one key that were changed and not carried back yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// Cells of the key columns, in column order.
    pub key: OwnedRow,
    /// The records this stands for; given back once they are carried.
    pub records: Vec<i64>,
    /// When the oldest of them was made, by the target's clock.
    pub since: At,
    /// The states the row had, oldest first; the present one is the last.
    pub states: Vec<Option<Family>>,
    /// The record each of the states began with; 0 for the oldest.
    pub from: Vec<i64>,
}

impl Captured {
    /// Which of the states the row was in after this record.
    #[must_use]
    pub fn state_after(&self, record: i64) -> Option<usize> {
        self.from.iter().rposition(|from| *from <= record)
    }
}

/// An item as a carrier is about to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The item's key.
    pub key: Key,
    /// Digest of the whole item: [`image_digest`](crate::domain::mapping::image_digest).
    pub digest: u128,
    /// The newest record it contains.
    pub record: i64,
    /// How the change met what the old side had done.
    pub clash: Clash,
}

/// What a carrier had signed that may have died before it cleared the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The newest record the image contains.
    pub record: i64,
    /// What it had found the old side to have done.
    pub clash: Clash,
}

/// What waits in the outbox of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Records.
    pub records: u64,
    /// Age of the oldest one in milliseconds, by the target's clock.
    pub oldest_ms: i64,
}

/// What was carried back of one table since its capture began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys whose item was written, deleted, or found to say already what it should.
    pub carried: u64,
    /// Of these, keys that both sides had changed in different fields.
    pub merged: u64,
    /// Of these, keys where both sides had changed the same field.
    pub conflicts: u64,
}

impl Tally {
    /// One key that met the other side like this.
    #[must_use]
    pub fn of(clash: Clash) -> Self {
        let conflicts = u64::from(matches!(clash, Clash::NewWon | Clash::OldWon));
        Self { carried: 1, merged: u64::from(clash == Clash::Merged), conflicts }
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
pub struct Capture {
    /// Table id.
    pub table: String,
    /// Whether a change of a row was seen to leave its record, rolled back again; `false` for an empty table.
    pub exercised: bool,
    /// Tables of the target that are captured.
    pub tables: Vec<String>,
}

/// Changes taken out of the outbox, under a lock that keeps every other carrier away.
///
/// Dropping it gives them back.
#[async_trait]
pub trait Taken: Send + Sync {
    /// The changes, in the order their keys were first changed.
    fn changes(&self) -> &[Captured];

    /// Markers that were read with them.
    fn markers(&self) -> &[String];

    /// Whether customers went back to the old side: what they write there is newer than anything taken here.
    fn went_back(&self) -> bool;

    /// Remembers an image that is about to be written, so that it is known again in the old side's stream and by the
    /// next carrier. Durable on return, whatever becomes of the changes. Says whether customers have gone back by now;
    /// fails when the turn is lost.
    async fn sign(&self, image: &Image) -> PortResult<bool>;

    /// Whether a carrier signed this image and its records are not cleared yet: it may have written the item and died.
    async fn unfinished(&self, key: &Key, digest: u128) -> PortResult<Option<Unfinished>>;

    /// Removes the records of a key that was carried, counts it and keeps its name if both sides had changed it, durably
    /// and together. Records that are gone already add nothing, so it may be asked for again; fails when the turn is lost.
    async fn clear(&self, key: &Key, records: &[i64], clash: Clash) -> PortResult<()>;

    /// Removes the markers and lets the next carrier have its turn.
    async fn done(self: Box<Self>) -> PortResult<()>;
}

/// The target's outbox: every committed change of a moved table that is not ours, until it is carried back.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Creates what is missing, and proves table by table that a change leaves a record that can be read. Idempotent.
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<Capture>>;

    /// Whether every table is captured.
    async fn armed(&self, tables: &[Table]) -> PortResult<bool>;

    /// Stops capturing. `Conflict` when anything that was captured, of whatever table, is not carried yet.
    async fn disarm(&self, tables: &[Table]) -> PortResult<()>;

    /// Remembers, beside the data, that customers go back to the old side. Every carrier sees it from its next turn on,
    /// also one that slept meanwhile.
    async fn go_back(&self) -> PortResult<()>;

    /// Everything is carried: the target holds nothing any more that only it knows, and may be loaded anew.
    async fn settle(&self) -> PortResult<()>;

    /// Sends a marker the way every change goes.
    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;

    /// Takes changes of a table: those of at most `limit` records, oldest first, each key whole. `None` when there are
    /// none. `Throttled` while another process carries.
    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>>;

    /// What waits, by table id. Markers do not count.
    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>>;

    /// What was carried back so far, by table id.
    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Tally>>;

    /// Keys of a table where both sides had changed the same field, with who won, as far as they were cleared.
    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Clash)>>;

    /// Which of these images were signed, in their order.
    async fn signed(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>>;
}

/// What became of a write to one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Acknowledged.
    Written,
    /// The item is not what it was when it was read; nothing was written.
    Moved,
}

/// Writes single items of the source, each only over what was read.
#[async_trait]
pub trait Items: Send + Sync {
    /// Carries out a change. `Invalid` when the store cannot hold the item.
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome>;

    /// The item of a key, read consistently.
    async fn read(&self, table: &Table, key: &Item<'static>) -> PortResult<Option<Item<'static>>>;

    /// Some items of a table, markers included: its first page.
    async fn sample(&self, table: &Table) -> PortResult<Vec<Item<'static>>>;

    /// Writes, reads back and removes a marker item, through the calls every change goes through.
    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()>;
}

/// Both ends of the way back for data.
#[derive(Clone)]
pub struct ReversePorts {
    /// Where changes of the new side wait.
    pub outbox: Arc<dyn Outbox>,
    /// Where they are written.
    pub items: Arc<dyn Items>,
}
