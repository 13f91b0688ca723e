//! Where changes come from: sharded, ordered per key, with lineage.

use std::cmp::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use super::error::PortResult;
use super::retained::LogLook;
use super::target::Obstacle;
use crate::domain::at::At;
use crate::domain::mapping::{TableMapping, mark};
use crate::domain::plan::Table;
use crate::domain::value::Record;

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

impl Position {
    /// Which of two comes first. `None` where one is no sequence number: other text is not compared.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        let digits = |p: &'_ str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        if !digits(&self.0) || !digits(&other.0) {
            return None;
        }
        let (a, b) = (self.0.trim_start_matches('0'), other.0.trim_start_matches('0'));
        Some(a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
    }
}

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
    pub key: Record<'static>,
    /// The whole item after the change; absent for a removal.
    pub image: Option<Record<'static>>,
    /// The nonce that a removed item carried, if it was a marker of ours ([`crate::domain::mapping::MARK`]).
    pub mark: Option<String>,
    /// Its position.
    pub position: Position,
    /// When the store says it happened. DynamoDB rounds this down to the second.
    pub at: At,
}

impl Change {
    /// Whether it is about one of our own markers; gives the nonce.
    #[must_use]
    pub fn marker(&self, mapping: &TableMapping) -> Option<&str> {
        mapping.marker_of(&self.key, self.image.as_ref().map_or(self.mark.as_deref(), mark))
    }
}

/// What one read of a shard gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Changes in order. Empty does not mean caught up.
    pub changes: Vec<Change>,
    /// Iterator for the next read; absent when the shard is closed and read to its end.
    pub next: Option<String>,
    /// How far the shard was read, where that is more than its changes say: a store that keeps what is not confirmed
    /// is told so for shards that are given nothing.
    pub reached: Option<Position>,
}

/// A store whose changes can be followed.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Everything that would keep the changes of these tables from being captured, all at once. Changes nothing. A store
    /// that says so only when it is asked to capture has nothing to tell.
    async fn obstacles(&self, _tables: &[Table]) -> PortResult<Vec<Obstacle>> {
        Ok(Vec::new())
    }

    /// Turns the stream on (new and old images) if it is off, and says what it is. Idempotent.
    async fn enable(&self, table: &Table) -> PortResult<Stream>;

    /// The stream as it is now with every shard, or `None` when it is off.
    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>>;

    /// Why a stream that [`Changes::stream`] gave once is not there any more, by its id; `None` where it is there, or where
    /// the store knows no more than that it is gone.
    async fn why_gone(&self, _stream: &str) -> PortResult<Option<String>> {
        Ok(None)
    }

    /// An iterator into a shard. `Trimmed` when the position is older than what is kept.
    async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String>;

    /// Reads on. `Expired` when the iterator is too old: get another after the last position.
    async fn read(&self, iterator: &str) -> PortResult<Batch>;

    /// Everything of a shard up to this position is durable in the target: a store that keeps what is not confirmed
    /// may forget it. Does not wait. Stores that forget by time alone ignore it.
    fn durable(&self, _stream: &str, _shard: &str, _position: &Position) {}

    /// Ends what [`Changes::enable`] began: a store that keeps what is not confirmed keeps nothing for us any more, and what
    /// was not read is lost. Idempotent. Stores that forget by time alone have nothing to end.
    async fn close(&self) -> PortResult<()> {
        Ok(())
    }

    /// How much of its log the server keeps for this plan, and how much it is let keep; with `written` also how much was
    /// written lately. `None` from stores that forget by time alone. Changes nothing.
    async fn retained_log(&self, _written: bool) -> PortResult<Option<LogLook>> {
        Ok(None)
    }

    /// How long a change is kept at least, whether it was read or not; `None` for as long as it takes.
    fn kept(&self) -> Option<Duration>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_compared_as_numbers() {
        let order = |a: &str, b: &str| Position(a.into()).order(&Position(b.into()));
        assert_eq!(order("99", "100"), Some(Ordering::Less));
        assert_eq!(order("000000000000000000000099", "100"), Some(Ordering::Less));
        assert_eq!(order("0100", "100"), Some(Ordering::Equal));
        assert_eq!(order("101", "100"), Some(Ordering::Greater));
        assert_eq!(order("49000000000000000000000000000000000000000001", "9"), Some(Ordering::Greater));
        assert_eq!(order("oldest@17", "100"), None);
        assert_eq!(order("100", ""), None);
    }
}
