//! The reverse flow: writes customers make on the new side are applied to the old one, so that a rollback loses none of
//! them (FEATURES C8).
//!
//! A [`ReverseApplier`] takes what the outbox captured, key by key with every state the row has had since, and writes
//! to the item only what those states changed, and only over what it has just read. So applying a change twice does
//! nothing, and a write of somebody else in between is seen. Records leave the outbox once their item is acknowledged.
//!
//! Where the old side takes many items at once, keys go in batches ([`batch`]); what cannot go among others goes by
//! itself ([`singly`]), and what is refused by itself is tried with others that were ([`together`]).

mod arm;
mod batch;
mod decide;
mod drain;
mod live;
mod sequences;
mod singly;
mod steps;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::future::BoxFuture;

pub use arm::arm;
pub use drain::{Drained, drain, possible};
pub use live::{apply_reverse, watch};

use crate::domain::mapping::{Inverse, Kinds, Resolution, TableMapping, Winner, carried};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record};
use crate::ports::{Cleared, ErrorKind, OutboxChange, PortError, PortResult, ReverseCounts, ReversePorts, Taken};

/// Items read and written at the same time, where each goes by itself.
const AT_ONCE: usize = 16;
/// Batches under way at the same time.
const BATCHES: usize = 2;
/// Batches of one round.
const ROUND: usize = 4;
/// Records of a round, unless the plan says otherwise.
const USUAL: u32 = 200;
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
    /// First records of keys that were refused by themselves: they would keep others from being written with them.
    apart: BTreeSet<i64>,
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
    /// Those of them that the store refused as things are: one may wait for another key.
    pub refused: BTreeSet<Key>,
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

impl Done {
    /// Refused, in words.
    fn refused(e: &PortError) -> Self {
        let next = if e.advice.is_empty() { String::new() } else { format!(" ({})", e.advice) };
        Self::Refused(format!("{}{next}", e.came_back))
    }
}

/// What applying a key needs.
struct Applying<'a> {
    ports: &'a ReversePorts,
    table: &'a Table,
    way: &'a Way,
    taken: &'a dyn Taken,
    rule: Rule<'a>,
}

/// Items of a store that a reverse applier may have written and not cleared yet at any moment: as many as a kill may
/// leave like that.
#[must_use]
pub const fn under_way(batch: usize) -> usize {
    let most = BATCHES * batch;
    if most > AT_ONCE { most } else { AT_ONCE }
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
                Way {
                    inverse: Inverse::new(table, kinds),
                    mapping,
                    stuck: 0,
                    apart: BTreeSet::new(),
                    tried: together::Tried::default(),
                },
            );
        }
        Ok(())
    }

    /// Takes what waits of one table and applies it. `None` when nothing waits.
    pub async fn round(&mut self, table: &Table, batch: u32, rule: Rule<'_>) -> PortResult<Option<Round>> {
        self.learn(table).await?;
        let Some(way) = self.tables.get_mut(&table.id) else { return Ok(None) };
        let limit = records(batch, self.ports.items.of(table).batch())
            .saturating_add(u32::try_from(way.stuck).unwrap_or(u32::MAX / 2));
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
        let of = Applying { ports: &self.ports, table, way, taken: &*taken, rule };
        let mut stuck = 0;
        let mut refused = Vec::new();
        let mut apart = BTreeSet::new();
        if round.trouble.is_none() {
            let mut alone = batches(&of, &mut round, &mut stuck, &mut refused).await;
            // In the order customers made them.
            alone.sort_by_key(|change| change.records.first().copied());
            let of = &of;
            let mut each: Vec<BoxFuture<'_, (&OutboxChange, PortResult<Done>)>> = Vec::new();
            for change in alone {
                each.push(Box::pin(async move { (change, singly::apply(of, change).await) }));
            }
            let mut all = futures::stream::iter(each).buffer_unordered(AT_ONCE);
            while let Some((change, done)) = all.next().await {
                match done {
                    Ok(Done::Refused(why)) => {
                        apart.extend(change.records.first());
                        refused.push((change, why));
                    }
                    Ok(done) => stuck += round.count(way, change, done, &mut refused),
                    // What was acknowledged counts; the rest is taken again.
                    Err(e) => round.trouble = Some(e),
                }
            }
        }
        refused.sort_by_key(|(change, _)| change.records.first().copied());
        let all: Vec<&OutboxChange> = refused.iter().map(|(change, _)| *change).collect();
        let written = match &round.trouble {
            None => together::write(&of, &all, &mut tried).await,
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
            (way.stuck, way.apart, way.tried) = (stuck, apart, tried);
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

impl Round {
    /// Counts what became of a key; gives the records of it that stay for good. What is refused is tried once more with
    /// others that are.
    fn count<'c>(
        &mut self,
        way: &Way,
        change: &'c OutboxChange,
        done: Done,
        refused: &mut Vec<(&'c OutboxChange, String)>,
    ) -> usize {
        match done {
            Done::Carried(resolution) => {
                self.tally.add(ReverseCounts::of(resolution));
                if matches!(resolution, Resolution::NewWon | Resolution::OldWon) {
                    self.conflicts.push((name(way, change), resolution));
                }
                0
            }
            Done::Unfit(why) => {
                self.unfit.push((name(way, change), why));
                change.records.len()
            }
            Done::Refused(why) => {
                refused.push((change, why));
                0
            }
        }
    }
}

/// Records of a round: where the old side takes many rows at once, enough for some batches of it. A plan that asks for fewer
/// than plans do gets them: its rows may be large.
fn records(batch: u32, size: usize) -> u32 {
    let some = u32::try_from(ROUND * size).unwrap_or(u32::MAX);
    if batch < USUAL { batch } else { batch.max(some) }
}

/// Applies what goes in batches; gives the keys that are to go by themselves.
async fn batches<'c>(
    of: &Applying<'c>,
    round: &mut Round,
    stuck: &mut usize,
    refused: &mut Vec<(&'c OutboxChange, String)>,
) -> Vec<&'c OutboxChange> {
    let (size, changes) = (of.ports.items.of(of.table).batch(), of.taken.changes());
    let goes_alone =
        |change: &&OutboxChange| size < 2 || change.records.first().is_some_and(|first| of.way.apart.contains(first));
    let (mut alone, batched): (Vec<&OutboxChange>, Vec<&OutboxChange>) = changes.iter().partition(goes_alone);
    let each: Vec<BoxFuture<'_, batch::Applied<'c>>> =
        batched.chunks(size.max(1)).map(|chunk| Box::pin(batch::apply(of, chunk)) as BoxFuture<'_, _>).collect();
    let mut all = futures::stream::iter(each).buffer_unordered(BATCHES);
    while let Some(applied) = all.next().await {
        for (change, done) in applied.done {
            *stuck += round.count(of.way, change, done, refused);
        }
        alone.extend(applied.apart);
        round.trouble = applied.trouble.or(round.trouble.take());
    }
    alone
}

/// Clears the records of keys that are acknowledged.
async fn clear(taken: &dyn Taken, applied: &[Cleared]) -> PortResult<()> {
    let mut left = CLEARED;
    while !applied.is_empty()
        && let Err(e) = taken.clear(applied).await
    {
        left -= 1;
        // They are taken again and found to say what they should; their conflicts were signed with them.
        if left == 0 || !e.kind.transient() {
            return Err(e);
        }
    }
    Ok(())
}

/// Decided while customers were on the new side; by now the old side's value is the newer one.
fn gone_back(table: &Table) -> PortError {
    let why = "customers went back to the old side meanwhile";
    PortError::new(ErrorKind::Conflict, "carry back to", &table.source, why).advise("it is decided anew by itself")
}

fn late(table: &Table) -> PortError {
    PortError::new(ErrorKind::TimedOut, "carry back to", &table.source, "no answer in time")
        .advise("see whether the table is throttled; it is tried again by itself")
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
