//! Where changes come from: sharded, ordered per key, with lineage.

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::at::At;
use crate::domain::plan::Table;
use crate::domain::value::Item;

/// A change stream. A different `id` for the same table is a different stream: continuity is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The stream's identity (ARN).
    pub id: String,
    /// Shards known now.
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    /// Its id.
    pub id: String,
    /// The shard it continues; must be finished first.
    pub parent: Option<String>,
    /// Whether it takes no more records.
    pub closed: bool,
}

/// A place in a shard: a sequence number as the store writes it. Compared numerically, never as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position(pub String);

/// Where to start reading a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record that is kept.
    Oldest,
    /// The record at this position and on.
    At(Position),
    /// The record after this position.
    After(Position),
    /// What is written from now on.
    Newest,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A new item.
    Insert,
    /// An item was replaced or updated.
    Modify,
    /// An item was removed; `expired` when TTL did it.
    Remove {
        /// TTL, not the application.
        expired: bool,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it did.
    pub kind: ChangeKind,
    /// The item's key attributes.
    pub key: Item<'static>,
    /// The whole item after the change; absent for a removal.
    pub image: Option<Item<'static>>,
    /// Its position.
    pub position: Position,
    /// When the store says it happened. DynamoDB rounds this down to the second.
    pub at: At,
}

/// What one read of a shard gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Changes in order. Empty does not mean caught up.
    pub changes: Vec<Change>,
    /// Iterator for the next read; absent when the shard is closed and read to its end.
    pub next: Option<String>,
}

/// A store whose changes can be followed.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Turns the stream on (new and old images) if it is off, and says what it is. Idempotent.
    async fn enable(&self, table: &Table) -> PortResult<Stream>;

    /// The stream as it is now with every shard, or `None` when it is off.
    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>>;

    /// An iterator into a shard. `Trimmed` when the position is older than what is kept.
    async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String>;

    /// Reads on. `Expired` when the iterator is too old: get another after the last position.
    async fn read(&self, iterator: &str) -> PortResult<Batch>;
}
