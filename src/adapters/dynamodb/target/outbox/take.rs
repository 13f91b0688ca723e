//! Changes of one turn: what was captured of each key, and what is stored while it is applied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::super::call::{Item, Stopped, Store, Tried, n, number, s, sk, text};
use super::super::names::{self, Of};
use super::super::rows::Shape;
use super::super::write::Write;
use super::spool::{self, Captured, Waits};
use super::turn::Turn;
use crate::domain::at::At;
use crate::domain::mapping::{Resolution, RowTree};
use crate::domain::value::{Cell, Key, Record};
use crate::ports::{Cleared, OutboxChange, OwnWrite, PortResult, ReverseCounts, Taken, Unfinished};

/// Keys whose records are read at the same time.
const AT_ONCE: usize = 16;
/// States of one key that are kept at most: the oldest, and the newest ones.
const STATES: usize = 256;
/// Actions of one transaction, with some left for what goes with them.
const ACTIONS: usize = 90;
/// Signed images are remembered longer than a stream keeps its records.
const REMEMBERED_MS: i64 = 30 * 3_600_000;

/// Names of resolutions as they are stored.
const RESOLUTIONS: [(Resolution, &str); 4] = [
    (Resolution::None, "none"),
    (Resolution::Merged, "merged"),
    (Resolution::NewWon, "new"),
    (Resolution::OldWon, "old"),
];

fn named(resolution: Resolution) -> &'static str {
    RESOLUTIONS.iter().find(|(r, _)| *r == resolution).map_or("none", |(_, name)| name)
}

/// A resolution as an item of ours holds it.
pub(super) fn resolution_of(item: &Item) -> Resolution {
    let name = text(item, "resolution").unwrap_or_default();
    RESOLUTIONS.iter().find(|(_, n)| *n == name).map_or(Resolution::None, |(resolution, _)| *resolution)
}

/// Where a record is kept.
#[derive(Clone, Debug)]
struct Kept {
    lane: u8,
    digest: String,
    pieces: usize,
}

/// Changes with the turn they were taken in.
pub(super) struct DynamoTaken {
    store: Arc<Store>,
    of: Of,
    table: String,
    turn: Turn,
    changes: Vec<OutboxChange>,
    markers: Vec<String>,
    rolled_back: bool,
    /// Records that were taken and not cleared, by number.
    kept: Mutex<HashMap<i64, Kept>>,
}

/// Whether the table is marked as rolled back.
async fn rolled_back(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<bool> {
    Ok(store.get(&of.table(), at).await?.is_some_and(|item| item.contains_key("back")))
}

/// Reads what waits of these keys within a turn.
pub(super) async fn taken(
    store: &Arc<Store>,
    of: &Of,
    shape: &Shape,
    turn: Turn,
    limit: usize,
    markers: Vec<String>,
    at: Tried<'_>,
) -> PortResult<DynamoTaken> {
    // Read within the turn: whoever had it before has cleared what it applied.
    let rolled_back = rolled_back(store, of, at).await?;
    let keys = spool::oldest(store, of, limit, at).await?;
    let reads = keys.iter().map(|key| async move { PortResult::Ok((key, spool::of_key(store, of, key, at).await?)) });
    let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(AT_ONCE);
    let (mut changes, mut kept) = (Vec::new(), HashMap::new());
    while let Some(read) = reads.next().await {
        let (key, records) = read?;
        let Some(change) = change(shape, &records) else { continue };
        for record in &records {
            let Waits { lane, digest, .. } = key.clone();
            kept.insert(record.id, Kept { lane, digest, pieces: record.pieces });
        }
        changes.push(change);
    }
    drop(reads);
    let (store, of, table) = (Arc::clone(store), of.clone(), shape.id.clone());
    Ok(DynamoTaken { store, of, table, turn, changes, markers, rolled_back, kept: Mutex::new(kept) })
}

/// The states of a key, from its records.
fn change(shape: &Shape, records: &[Captured]) -> Option<OutboxChange> {
    let first = records.first()?;
    let row =
        |item: &Record<'static>| -> Vec<Cell<'static>> { shape.row(item).into_iter().map(Cell::into_owned).collect() };
    let state = |item: Option<&Record<'static>>| item.map(|item| RowTree { row: row(item), children: Vec::new() });
    let key = shape.key_of(&row(&first.key)).into_iter().cloned().collect();
    let (mut states, mut from) = (vec![state(first.before.as_ref())], vec![0]);
    let left_out = records.len().saturating_sub(STATES);
    for record in records.iter().skip(left_out) {
        states.push(state(record.after.as_ref()));
        from.push(record.id);
    }
    let ids = records.iter().map(|record| record.id).collect();
    Some(OutboxChange { key, records: ids, since: first.at, states, from, absent: None })
}

impl DynamoTaken {
    fn at(&self, tried: &'static str) -> Tried<'_> {
        (tried, &self.table)
    }

    fn waits(&self, record: i64) -> Option<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&record).cloned()
    }
}

#[async_trait]
impl Taken for DynamoTaken {
    fn changes(&self) -> &[OutboxChange] {
        &self.changes
    }

    fn markers(&self) -> &[String] {
        &self.markers
    }

    fn rolled_back(&self) -> bool {
        self.rolled_back
    }

    async fn record_own_writes(&self, images: &[OwnWrite]) -> PortResult<bool> {
        let at = self.at("remember images of");
        each(images.iter().map(|image| self.sign(image, at))).await?;
        // Read after the images were stored.
        let back = rolled_back(&self.store, &self.of, at).await?;
        self.turn.renew(at).await?;
        Ok(back)
    }

    async fn unfinished(&self, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>> {
        let at = self.at("look up images of");
        each(keys.iter().map(|key| self.signed(key, at))).await
    }

    async fn clear(&self, applied: &[Cleared]) -> PortResult<()> {
        let at = self.at("clear carried records of");
        self.turn.renew(at).await?;
        each(applied.iter().map(|one| self.clear_key(one, at))).await.map(drop)
    }

    async fn done(self: Box<Self>) -> PortResult<()> {
        let Self { store, of, table, turn, markers, .. } = *self;
        let at = ("clear markers of", table.as_str());
        for nonce in &markers {
            store.write(&Write::delete(&of.came(nonce)), at).await.map_err(|e| e.error(at))?;
        }
        turn.give_back(at).await
    }
}

/// Does each of these, some side by side; gives what they give, in their order.
async fn each<T: Send>(all: impl Iterator<Item = impl Future<Output = PortResult<T>> + Send>) -> PortResult<Vec<T>> {
    let all: Vec<BoxFuture<'_, PortResult<T>>> = all.map(|one| Box::pin(one) as BoxFuture<'_, _>).collect();
    futures::stream::iter(all).buffered(AT_ONCE).try_collect().await
}

impl DynamoTaken {
    /// Stores an image.
    async fn sign(&self, image: &OwnWrite, at: Tried<'_>) -> PortResult<()> {
        let (digest, lane) = names::digest(&image.key.0);
        let signed = json!({
            "record": n(image.record), "resolution": s(named(image.resolution)), "at": n(self.store.now().0),
        });
        let put = Write::put(&self.of.image(lane, &digest, image.digest), signed);
        self.store.write(&put, at).await.map(drop).map_err(|e| e.error(at))
    }

    /// Images of one key.
    async fn signed(&self, key: &Key, at: Tried<'_>) -> PortResult<Vec<Unfinished>> {
        let (digest, lane) = names::digest(&key.0);
        let images = self.store.query(&self.of.images(lane), &format!("{digest}/"), None, None, at).await?;
        let mut found = Vec::new();
        for item in &images {
            let record = number(item, "record").unwrap_or_default();
            // Only we clear records while it is our turn, so what we hold is what waits.
            if self.waits(record).is_some() {
                let image = sk(item).rsplit('/').next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
                // What is no digest was not signed by this program.
                let Some(digest) = image else { continue };
                found.push(Unfinished { digest, record, resolution: resolution_of(item) });
            } else if self.store.now().since(At(number(item, "at").unwrap_or_default())) > REMEMBERED_MS {
                // No stream shows it again.
                let place = names::Place { pk: self.of.images(lane), sk: sk(item).to_owned() };
                self.store.write(&Write::delete(&place), at).await.map_err(|e| e.error(at))?;
            }
        }
        found.sort_by_key(|unfinished| unfinished.record);
        Ok(found)
    }

    /// Clears the records of one key, in as many transactions as they need.
    async fn clear_key(&self, Cleared { key, records, resolution }: &Cleared, at: Tried<'_>) -> PortResult<()> {
        let all: Vec<(i64, Kept)> = records.iter().filter_map(|id| Some((*id, self.waits(*id)?))).collect();
        let mut pieces: Vec<Vec<(i64, Kept)>> = Vec::new();
        let actions = |kept: &Kept| 1 + kept.pieces;
        for one in all {
            let full = pieces.last().is_none_or(|piece| {
                piece.iter().map(|(_, kept)| actions(kept)).sum::<usize>() + actions(&one.1) > ACTIONS
            });
            if full {
                pieces.push(Vec::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(one);
            }
        }
        let last = pieces.len();
        for (number, piece) in pieces.iter().enumerate() {
            let ends = (number + 1 == last).then_some((key, *resolution));
            self.clear_piece(piece, ends, at).await?;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().for_each(|id| drop(kept.remove(id)));
        Ok(())
    }

    /// Clears records in one transaction, the oldest first; the last one of a key counts it. What is gone already adds
    /// nothing.
    async fn clear_piece(
        &self,
        piece: &[(i64, Kept)],
        ends: Option<(&Key, Resolution)>,
        at: Tried<'_>,
    ) -> PortResult<()> {
        let Some((_, Kept { lane, .. })) = piece.first() else { return Ok(()) };
        let mut writes = Vec::new();
        for (id, kept) in piece {
            // They go together, so one of them says whether all are there.
            let gone = Write::delete(&self.of.wait(kept.lane, *id));
            writes.push(if writes.is_empty() { gone.when("attribute_exists(#pk)") } else { gone });
            let states = (0..kept.pieces).map(|part| Write::delete(&self.of.state(kept.lane, &kept.digest, *id, part)));
            writes.extend(states);
        }
        let fewer = -i64::try_from(piece.len()).unwrap_or(i64::MAX);
        let mut tally = Write::update(&self.of.tally(*lane), "ADD #waiting :fewer").with("fewer", n(fewer));
        if let Some((key, resolution)) = ends {
            let counts = ReverseCounts::of(resolution);
            let [carried, merged, conflicts] =
                [counts.carried, counts.merged, counts.conflicts].map(|count| n(count.cast_signed()));
            let expression = "ADD #waiting :fewer, #carried :carried, #merged :merged, #conflicts :conflicts";
            tally = Write::update(&self.of.tally(*lane), expression)
                .with("fewer", n(fewer))
                .with("carried", carried)
                .with("merged", merged)
                .with("conflicts", conflicts);
            if counts.conflicts > 0 {
                let (digest, _) = names::digest(&key.0);
                let item = json!({"key": s(&key.0), "resolution": s(named(resolution))});
                writes.push(Write::put(&self.of.conflict(&digest), item));
            }
        }
        writes.push(tally);
        match self.store.transact(&writes.iter().collect::<Vec<_>>(), at).await {
            Ok(()) | Err(Stopped::Condition(_)) => Ok(()),
            Err(stopped) => Err(stopped.error(at)),
        }
    }
}
