//! The reverse flow: writes customers make on the new side are applied to the old one, so that a rollback loses none of
//! them (FEATURES C8).
//!
//! A [`ReverseApplier`] takes what the outbox captured, key by key with every state the row has had since, and writes
//! to the item only what those states changed, and only over what it has just read. So applying a change twice does
//! nothing, and a write of somebody else in between is seen. Records leave the outbox once their item is acknowledged.

mod arm;
mod drain;
mod live;
mod sequences;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::future::BoxFuture;

pub use arm::arm;
pub use drain::{Drained, drain, possible};
pub use live::{apply_reverse, watch};

use crate::domain::mapping::{
    Inverse, ItemChange, Kinds, Resolution, ReverseChange, RowError, RowErrorReason, TableMapping, Winner, carried,
    item_digest,
};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record};
use crate::ports::{
    ErrorKind, ItemOutcome, OutboxChange, OwnWrite, PortError, PortResult, ReverseCounts, ReversePorts, Taken,
    Unfinished,
};

/// Items read and written at the same time.
pub const AT_ONCE: usize = 16;
/// Attempts at one item that moves each time it is about to be written.
const ATTEMPTS: u32 = 8;
/// Longest wait for one item to be written, with the attempts of the client. A turn lasts twice as long.
const WRITE: std::time::Duration = std::time::Duration::from_secs(10);
/// Attempts at clearing records whose item was acknowledged.
const CLEARED: u32 = 3;
/// Keys listed in one fact.
const LISTED: usize = 20;

/// Whose value stays, asked anew for every key: it changes the moment a rollback is ordered.
pub type Rule<'r> = &'r (dyn Fn() -> Winner + Send + Sync);

/// Applies the changes of one plan's tables.
pub struct ReverseApplier {
    ports: ReversePorts,
    tables: BTreeMap<String, Way>,
}

/// One table's reverse flow.
struct Way {
    inverse: Inverse,
    mapping: TableMapping,
    /// Records the old side cannot take; they are taken beside a full batch, not instead of it.
    stuck: usize,
    /// Keys that could not be written together either.
    tried: together::Tried,
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Keys and how they met the other side.
    pub tally: ReverseCounts,
    /// Keys where both sides had changed the same field, with who won.
    pub conflicts: Vec<(Key, Resolution)>,
    /// Keys the old side cannot hold, and why; they stay in the outbox.
    pub unfit: Vec<(Key, String)>,
    /// Markers that went all the way.
    pub markers: Vec<String>,
    /// Trouble that stopped the round after the keys counted here.
    pub trouble: Option<PortError>,
}

/// Writes of the new side that wait to be applied, over all tables; 0 where there never was an outbox.
///
/// # Errors
/// The target did not say, so it is not known.
pub async fn uncarried(ports: &ReversePorts, tables: &[Table]) -> PortResult<u64> {
    match ports.outbox.waiting(tables).await {
        Ok(waiting) => Ok(waiting.values().map(|w| w.records).sum()),
        Err(e) if e.kind == ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e),
    }
}

/// What became of one key.
enum Done {
    Carried(Resolution),
    Unfit(String),
    /// The store refused the item as it would be.
    Refused(String),
}

impl ReverseApplier {
    /// Nothing is read yet.
    pub fn new(ports: &ReversePorts) -> Self {
        Self { ports: ports.clone(), tables: BTreeMap::new() }
    }

    /// Reads the first items of a table, to write new ones as the old side does. Each table by itself: a store that cannot be
    /// reached keeps nothing of another one.
    async fn learn(&mut self, table: &Table) -> PortResult<()> {
        if !self.tables.contains_key(&table.id) {
            let mapping = TableMapping::new(table);
            let kinds = learn(&self.ports, table, &mapping).await?.0;
            self.tables.insert(
                table.id.clone(),
                Way { inverse: Inverse::new(table, kinds), mapping, stuck: 0, tried: together::Tried::default() },
            );
        }
        Ok(())
    }

    /// Takes what waits of one table and applies it. `None` when nothing waits.
    pub async fn round(&mut self, table: &Table, batch: u32, rule: Rule<'_>) -> PortResult<Option<Round>> {
        self.learn(table).await?;
        let Some(way) = self.tables.get_mut(&table.id) else { return Ok(None) };
        let limit = batch.saturating_add(u32::try_from(way.stuck).unwrap_or(u32::MAX / 2));
        let Some(taken) = self.ports.outbox.take(table, limit).await? else {
            way.stuck = 0;
            return Ok(None);
        };
        let mut round = Round::default();
        if let Err(e) = markers(&self.ports, table, &*taken, &mut round).await {
            round.trouble = Some(e);
        }
        let mut tried = std::mem::take(&mut way.tried);
        let way: &Way = way;
        let rolled_back = taken.rolled_back();
        let said = rule;
        let rule = &move || if rolled_back { Winner::Old } else { said() };
        let ports = &self.ports;
        let mut stuck = 0;
        let mut refused = Vec::new();
        if round.trouble.is_none() {
            let held = &*taken;
            let mut each: Vec<BoxFuture<'_, (&OutboxChange, PortResult<Done>)>> = Vec::new();
            for change in held.changes() {
                each.push(Box::pin(async move { (change, through(ports, table, way, held, change, rule).await) }));
            }
            let mut all = futures::stream::iter(each).buffer_unordered(AT_ONCE);
            while let Some((change, done)) = all.next().await {
                match done {
                    Ok(Done::Carried(resolution)) => {
                        round.tally.add(ReverseCounts::of(resolution));
                        if matches!(resolution, Resolution::NewWon | Resolution::OldWon) {
                            round.conflicts.push((name(way, change), resolution));
                        }
                    }
                    Ok(Done::Unfit(why)) => {
                        stuck += change.records.len();
                        round.unfit.push((name(way, change), why));
                    }
                    Ok(Done::Refused(why)) => refused.push((change, why)),
                    // What was acknowledged counts; the rest is taken again.
                    Err(e) => round.trouble = Some(e),
                }
            }
        }
        refused.sort_by_key(|(change, _)| change.records.first().copied());
        let all: Vec<&OutboxChange> = refused.iter().map(|(change, _)| *change).collect();
        let written = match &round.trouble {
            None => together::write(ports, table, way, &*taken, &all, rule, &mut tried).await,
            Some(_) => Ok(Vec::new()),
        };
        let written = written.unwrap_or_else(|e| {
            round.trouble = Some(e);
            Vec::new()
        });
        for (change, why) in refused {
            if change.records.first().is_some_and(|first| written.contains(first)) {
                round.tally.add(ReverseCounts::of(Resolution::None));
            } else {
                stuck += change.records.len();
                round.unfit.push((name(way, change), why));
            }
        }
        if let Err(e) = taken.done().await {
            round.trouble = Some(e);
        }
        if let Some(way) = self.tables.get_mut(&table.id) {
            (way.stuck, way.tried) = (stuck, tried);
        }
        Ok(Some(round))
    }

    /// Records of a table that the old side could not take when they were last tried.
    #[must_use]
    pub fn stuck(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |way| way.stuck as u64)
    }

    /// Sends the markers of one table on and leaves its changes alone.
    pub async fn markers(&self, table: &Table) -> PortResult<Vec<String>> {
        let Some(taken) = self.ports.outbox.take(table, 1).await? else { return Ok(Vec::new()) };
        let mut round = Round::default();
        markers(&self.ports, table, &*taken, &mut round).await?;
        taken.done().await?;
        Ok(round.markers)
    }

    /// Conflicts that were cleared and perhaps never recorded, because their reverse applier died between the two.
    pub async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        match self.ports.outbox.conflicts(table).await {
            Err(e) if e.kind == ErrorKind::NotFound => Ok(Vec::new()),
            found => found,
        }
    }
}

async fn markers(ports: &ReversePorts, table: &Table, taken: &dyn Taken, round: &mut Round) -> PortResult<()> {
    for nonce in taken.markers() {
        ports.items.of(table).exercise(table, nonce).await?;
        round.markers.push(nonce.clone());
    }
    Ok(())
}

/// What the first items of a table show: how attributes are written, attributes no column holds, and the first item
/// that would not be written back under its own key. Those that cannot have a row are in the ledger and stay where they
/// are.
async fn learn(
    ports: &ReversePorts,
    table: &Table,
    mapping: &TableMapping,
) -> PortResult<(Kinds, BTreeSet<String>, Option<Key>)> {
    let mut kinds = if ports.items.of(table).of_columns() { Kinds::of_columns() } else { Kinds::default() };
    let items = ports.items.of(table).sample(table).await?;
    let has_row = |item: &Record<'static>| mapping.marker(item).is_none() && mapping.row_key(item).is_ok();
    let items: Vec<Record<'static>> = items.into_iter().filter(has_row).collect();
    items.iter().for_each(|item| kinds.learn(item));
    let inverse = Inverse::new(table, kinds.clone());
    let unmatched = items.iter().find(|item| {
        let Ok(cells) = mapping.row_key(item) else { return false };
        let back = inverse.key(&cells);
        !back.is_ok_and(|key| key.fields.iter().all(|(name, value)| item.get(name) == Some(value)))
    });
    let unmatched = unmatched.and_then(|item| mapping.key(item).ok()).map(|(key, _)| key);
    let paths = kinds.paths().filter(|path| !carried(table, path)).map(str::to_owned).collect();
    Ok((kinds, paths, unmatched))
}

/// The key in words, for facts.
fn name(way: &Way, change: &OutboxChange) -> Key {
    let named = way.inverse.key(&change.key).ok().and_then(|item| way.mapping.key(&item).ok());
    named.map_or_else(|| Key("?".to_owned()), |(key, _)| key)
}

/// Applies one key and clears its records at once: what was written and is not cleared yet when a reverse applier is
/// killed cannot be distinguished for certain from what customers set back since.
async fn through(
    ports: &ReversePorts,
    table: &Table,
    way: &Way,
    taken: &dyn Taken,
    change: &OutboxChange,
    rule: Rule<'_>,
) -> PortResult<Done> {
    let done = one(ports, table, way, taken, change, rule).await?;
    if let Done::Carried(resolution) = done {
        let (key, mut left) = (name(way, change), CLEARED);
        while let Err(e) = taken.clear(&key, &change.records, resolution).await {
            left -= 1;
            // It is taken again and found to say what it should; its conflict was signed with it.
            if left == 0 || !e.kind.transient() {
                return Err(e);
            }
        }
    }
    Ok(done)
}

/// Applies one key.
async fn one(
    ports: &ReversePorts,
    table: &Table,
    way: &Way,
    taken: &dyn Taken,
    change: &OutboxChange,
    rule: Rule<'_>,
) -> PortResult<Done> {
    let unfit = |row_error: &RowError| Ok(Done::Unfit(row_error.to_string()));
    if let Some(columns) = &change.absent {
        return Ok(Done::Unfit(format!(
            "it was written while there was no column {columns}: what it held is not known"
        )));
    }
    let key = match way.inverse.key(&change.key) {
        Ok(key) => key,
        Err(row_error) => return unfit(&row_error),
    };
    // An item whose key does not lead to this very row belongs to another one, or was never moved here and is parked.
    match way.mapping.row_key(&key) {
        Ok(cells) if cells == change.key => {}
        Ok(_) => return unfit(&RowError::new("-", RowErrorReason::KeyForm)),
        Err(row_error) => return unfit(&row_error),
    }
    let named = way.mapping.key(&key).map(|(key, _)| key).unwrap_or_else(|_| name(way, change));
    for _ in 0..ATTEMPTS {
        let item = ports.items.of(table).read(table, &key).await?;
        let first = change.states.first().and_then(Option::as_ref);
        let record = change.records.last().copied().unwrap_or_default();
        // With two states there is none in between.
        let begun = match change.states.len() <= 2 && way.inverse.says(first, item.as_ref()) {
            true => None,
            false => began(way, change, item.as_ref(), &taken.unfinished(&named).await?),
        };
        // Only what that reverse applier wrote can be ours: a customer's value may well equal another state of the row.
        let left = begun.and_then(|found| change.state_after(found.record));
        let carry = way.inverse.carry(&change.key, &change.states, item.as_ref(), left, rule());
        let ReverseChange { change: wanted, resolution } = match carry {
            Ok(carry) => carry,
            Err(row_error) => return unfit(&row_error),
        };
        // What the reverse applier that died had found is known only from its record.
        let resolution = begun.map_or(resolution, |found| found.resolution.max(resolution));
        let image = match &wanted {
            ItemChange::Nothing => return Ok(Done::Carried(resolution)),
            ItemChange::Write(write) => item_digest(Some(&write.after)),
            ItemChange::Delete { .. } => item_digest(None),
        };
        // Stored before it is written: after a crash in between our own write must not be taken for a stray write.
        let own = OwnWrite { key: named.clone(), digest: image, record, resolution };
        if taken.record_own_write(&own).await? && !taken.rolled_back() {
            // Decided while customers were on the new side; by now the old side's value is the newer one.
            return Err(PortError::new(
                ErrorKind::Conflict,
                "carry back to",
                &table.source,
                "customers went back to the old side meanwhile",
            )
            .advise("it is decided anew by itself"));
        }
        // Given up before the turn can be lost: an attempt that is repeated later would go over newer writes.
        let written = tokio::time::timeout(WRITE, ports.items.of(table).write(table, &wanted)).await;
        match written.unwrap_or_else(|_| Err(late(table))) {
            Ok(ItemOutcome::Written) => return Ok(Done::Carried(resolution)),
            Ok(ItemOutcome::Moved) => {}
            // The store cannot hold this item: trying again does not help, and others must not wait for it.
            Err(e) if e.kind == ErrorKind::Invalid => {
                let next = if e.advice.is_empty() { String::new() } else { format!(" ({})", e.advice) };
                return Ok(Done::Refused(format!("{}{next}", e.came_back)));
            }
            // It may have been written. If it were taken again it would be taken for an item nobody had changed but us,
            // and the conflict would not be counted.
            Err(e) if e.kind.transient() => {
                let stands = ports.items.of(table).read(table, &key).await?;
                return if item_digest(stands.as_ref()) == image { Ok(Done::Carried(resolution)) } else { Err(e) };
            }
            Err(e) => return Err(e),
        }
    }
    Err(PortError::new(
        ErrorKind::Conflict,
        "carry back to",
        &table.source,
        "an item changes faster than it is written",
    )
    .advise("see who writes the old side; it is tried again by itself"))
}

/// Which image a reverse applier left in this item before it died: the item is that image still, or shows that it was
/// and that a customer wrote other fields since.
fn began(
    way: &Way,
    change: &OutboxChange,
    item: Option<&Record<'static>>,
    signed: &[Unfinished],
) -> Option<Unfinished> {
    let digest = item_digest(item);
    let shows = |found: &&Unfinished| {
        (change.state_after(found.record)).is_some_and(|state| way.inverse.shows(&change.states, state, item))
    };
    let whole = signed.iter().rfind(|found| found.digest == digest);
    whole.or_else(|| signed.iter().rfind(shows)).copied()
}

fn late(table: &Table) -> PortError {
    PortError::new(ErrorKind::TimedOut, "carry back to", &table.source, "no answer in time")
        .advise("see whether the table is throttled; it is tried again by itself")
}

/// Conflicts as facts, by who won.
fn conflict_facts(table: &Table, conflicts: &[(Key, Resolution)]) -> Vec<crate::domain::run::Event> {
    [(Resolution::NewWon, "new"), (Resolution::OldWon, "old")]
        .into_iter()
        .filter_map(|(resolution, kept)| {
            let keys: Vec<&Key> = conflicts.iter().filter(|(_, c)| *c == resolution).map(|(k, _)| k).collect();
            (!keys.is_empty()).then(|| crate::domain::run::Event::ReverseConflicts {
                table: table.id.clone(),
                count: keys.len() as u64,
                keys: keys.iter().take(LISTED).map(|k| k.0.clone()).collect(),
                kept: kept.to_owned(),
            })
        })
        .collect()
}
