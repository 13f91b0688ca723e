//! The way back for data: writes customers make on the new side are carried to the old one, so that a rollback loses
//! none of them (FEATURES C8).
//!
//! A [`Carrier`] takes what the outbox captured, key by key with every state the row has had since, and writes to the
//! item only what those states changed, and only over what it has just read. So carrying twice does nothing, and a
//! write of somebody else in between is seen. Records leave the outbox once their item is acknowledged.

mod arm;
mod drain;
mod live;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::future::BoxFuture;

pub use arm::arm;
pub use drain::{Drained, drain, possible};
pub use live::{carry_back, watch};

use crate::domain::mapping::{
    Carry, Clash, Inverse, ItemChange, Kinds, Misfit, MisfitReason, TableMapping, Wins, carried, image_digest,
};
use crate::domain::plan::{Plan, Table};
use crate::domain::value::{Item, Key};
use crate::ports::{Captured, ErrorKind, Image, ItemOutcome, PortError, PortResult, ReversePorts, Taken, Tally};

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
pub type Rule<'r> = &'r (dyn Fn() -> Wins + Send + Sync);

/// Carries the changes of one plan's tables.
pub struct Carrier {
    ports: ReversePorts,
    tables: BTreeMap<String, Way>,
}

/// One table's way back.
struct Way {
    inverse: Inverse,
    mapping: TableMapping,
    /// Records the old side cannot take; they are taken beside a full batch, not instead of it.
    stuck: usize,
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Keys and how they met the other side.
    pub tally: Tally,
    /// Keys where both sides had changed the same field, with who won.
    pub conflicts: Vec<(Key, Clash)>,
    /// Keys the old side cannot hold, and why; they stay in the outbox.
    pub unfit: Vec<(Key, String)>,
    /// Markers that went all the way.
    pub markers: Vec<String>,
    /// Trouble that stopped the round after the keys counted here.
    pub trouble: Option<PortError>,
}

/// Writes of the new side that wait to be carried, over all tables; 0 where there never was an outbox.
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
    Carried(Clash),
    Unfit(String),
}

impl Carrier {
    /// Looks at the first items of each table, to write new ones as the old side does.
    pub async fn open(plan: &Plan, ports: &ReversePorts) -> PortResult<Self> {
        let mut tables = BTreeMap::new();
        for table in &plan.tables {
            let mapping = TableMapping::new(table);
            let kinds = learn(ports, table, &mapping).await?.0;
            tables.insert(table.id.clone(), Way { inverse: Inverse::new(table, kinds), mapping, stuck: 0 });
        }
        Ok(Self { ports: ports.clone(), tables })
    }

    /// Takes what waits of one table and carries it. `None` when nothing waits.
    pub async fn round(&mut self, table: &Table, batch: u32, rule: Rule<'_>) -> PortResult<Option<Round>> {
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
        let way: &Way = way;
        let went_back = taken.went_back();
        let said = rule;
        let rule = &move || if went_back { Wins::Old } else { said() };
        let ports = &self.ports;
        let mut stuck = 0;
        if round.trouble.is_none() {
            let held = &*taken;
            let mut each: Vec<BoxFuture<'_, (&Captured, PortResult<Done>)>> = Vec::new();
            for change in held.changes() {
                each.push(Box::pin(async move { (change, through(ports, table, way, held, change, rule).await) }));
            }
            let mut all = futures::stream::iter(each).buffer_unordered(AT_ONCE);
            while let Some((change, done)) = all.next().await {
                match done {
                    Ok(Done::Carried(clash)) => {
                        round.tally.add(Tally::of(clash));
                        if matches!(clash, Clash::NewWon | Clash::OldWon) {
                            round.conflicts.push((name(way, change), clash));
                        }
                    }
                    Ok(Done::Unfit(why)) => {
                        stuck += change.records.len();
                        round.unfit.push((name(way, change), why));
                    }
                    // What was acknowledged counts; the rest is taken again.
                    Err(e) => round.trouble = Some(e),
                }
            }
        }
        if let Err(e) = taken.done().await {
            round.trouble = Some(e);
        }
        if let Some(way) = self.tables.get_mut(&table.id) {
            way.stuck = stuck;
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

    /// Conflicts that were cleared and perhaps never told, because their carrier died between the two.
    pub async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Clash)>> {
        match self.ports.outbox.conflicts(table).await {
            Err(e) if e.kind == ErrorKind::NotFound => Ok(Vec::new()),
            found => found,
        }
    }
}

async fn markers(ports: &ReversePorts, table: &Table, taken: &dyn Taken, round: &mut Round) -> PortResult<()> {
    for nonce in taken.markers() {
        ports.items.exercise(table, nonce).await?;
        round.markers.push(nonce.clone());
    }
    Ok(())
}

/// What the first items of a table show: how attributes are written, attributes no column carries, and the first item
/// that would not come back under its own key. Those that cannot have a row are in the ledger and stay where they are.
async fn learn(
    ports: &ReversePorts,
    table: &Table,
    mapping: &TableMapping,
) -> PortResult<(Kinds, BTreeSet<String>, Option<Key>)> {
    let mut kinds = Kinds::default();
    let items = ports.items.sample(table).await?;
    let has_row = |item: &Item<'static>| mapping.marker(item).is_none() && mapping.row_key(item).is_ok();
    let items: Vec<Item<'static>> = items.into_iter().filter(has_row).collect();
    items.iter().for_each(|item| kinds.learn(item));
    let inverse = Inverse::new(table, kinds.clone());
    let strange = items.iter().find(|item| {
        let Ok(cells) = mapping.row_key(item) else { return false };
        let back = inverse.key(&cells);
        !back.is_ok_and(|key| key.attrs.iter().all(|(name, value)| item.get(name) == Some(value)))
    });
    let strange = strange.and_then(|item| mapping.key(item).ok()).map(|(key, _)| key);
    let paths = kinds.paths().filter(|path| !carried(table, path)).map(str::to_owned).collect();
    Ok((kinds, paths, strange))
}

/// The key in words, for facts.
fn name(way: &Way, change: &Captured) -> Key {
    let named = way.inverse.key(&change.key).ok().and_then(|item| way.mapping.key(&item).ok());
    named.map_or_else(|| Key("?".to_owned()), |(key, _)| key)
}

/// Carries one key and clears its records at once: what was written and is not cleared yet when a carrier is killed
/// cannot be told for certain from what customers set back since.
async fn through(
    ports: &ReversePorts,
    table: &Table,
    way: &Way,
    taken: &dyn Taken,
    change: &Captured,
    rule: Rule<'_>,
) -> PortResult<Done> {
    let done = one(ports, table, way, taken, change, rule).await?;
    if let Done::Carried(clash) = done {
        let (key, mut left) = (name(way, change), CLEARED);
        while let Err(e) = taken.clear(&key, &change.records, clash).await {
            left -= 1;
            // It is taken again and found to say what it should; its conflict was signed with it.
            if left == 0 || !e.kind.transient() {
                return Err(e);
            }
        }
    }
    Ok(done)
}

/// Carries one key.
async fn one(
    ports: &ReversePorts,
    table: &Table,
    way: &Way,
    taken: &dyn Taken,
    change: &Captured,
    rule: Rule<'_>,
) -> PortResult<Done> {
    let unfit = |misfit: &Misfit| Ok(Done::Unfit(misfit.to_string()));
    let key = match way.inverse.key(&change.key) {
        Ok(key) => key,
        Err(misfit) => return unfit(&misfit),
    };
    // An item whose key does not lead to this very row belongs to another one, or was never carried here and is parked.
    match way.mapping.row_key(&key) {
        Ok(cells) if cells == change.key => {}
        Ok(_) => return unfit(&Misfit::new("-", MisfitReason::KeyForm)),
        Err(misfit) => return unfit(&misfit),
    }
    let named = way.mapping.key(&key).map(|(key, _)| key).unwrap_or_else(|_| name(way, change));
    for _ in 0..ATTEMPTS {
        let item = ports.items.read(table, &key).await?;
        let first = change.states.first().and_then(Option::as_ref);
        let record = change.records.last().copied().unwrap_or_default();
        // With two states there is none in between.
        let begun = match change.states.len() <= 2 && way.inverse.says(first, item.as_ref()) {
            true => None,
            false => taken.unfinished(&named, image_digest(item.as_ref())).await?,
        };
        // Only what that carrier carried can be ours: a customer's value may well equal another state of the row.
        let left = begun.and_then(|found| change.state_after(found.record));
        let carry = way.inverse.carry(&change.key, &change.states, item.as_ref(), left, rule());
        let Carry { change: wanted, clash } = match carry {
            Ok(carry) => carry,
            Err(misfit) => return unfit(&misfit),
        };
        // What the carrier that died had found is known to nobody else.
        let clash = begun.map_or(clash, |found| found.clash.max(clash));
        let image = match &wanted {
            ItemChange::Nothing => return Ok(Done::Carried(clash)),
            ItemChange::Write(write) => image_digest(Some(&write.after)),
            ItemChange::Delete { .. } => image_digest(None),
        };
        // Known before it is written: a crash in between must not make our own write look like a stranger's.
        let signed = Image { key: named.clone(), digest: image, record, clash };
        if taken.sign(&signed).await? && !taken.went_back() {
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
        let written = tokio::time::timeout(WRITE, ports.items.write(table, &wanted)).await;
        match written.unwrap_or_else(|_| Err(late(table))) {
            Ok(ItemOutcome::Written) => return Ok(Done::Carried(clash)),
            Ok(ItemOutcome::Moved) => {}
            // The store cannot hold this item: trying again does not help, and others must not wait for it.
            Err(e) if e.kind == ErrorKind::Invalid => return Ok(Done::Unfit(e.came_back)),
            // It may have been written. Taken again it would look as if nobody had changed the item but us, and a
            // conflict would be counted by nobody.
            Err(e) if e.kind.transient() => {
                let stands = ports.items.read(table, &key).await?;
                return if image_digest(stands.as_ref()) == image { Ok(Done::Carried(clash)) } else { Err(e) };
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

fn late(table: &Table) -> PortError {
    PortError::new(ErrorKind::TimedOut, "carry back to", &table.source, "no answer in time")
        .advise("see whether the table is throttled; it is tried again by itself")
}

/// Conflicts as facts, by who won.
fn conflict_facts(table: &Table, conflicts: &[(Key, Clash)]) -> Vec<crate::domain::run::Event> {
    [(Clash::NewWon, "new"), (Clash::OldWon, "old")]
        .into_iter()
        .filter_map(|(clash, kept)| {
            let keys: Vec<&Key> = conflicts.iter().filter(|(_, c)| *c == clash).map(|(k, _)| k).collect();
            (!keys.is_empty()).then(|| crate::domain::run::Event::ReverseConflicts {
                table: table.id.clone(),
                count: keys.len() as u64,
                keys: keys.iter().take(LISTED).map(|k| k.0.clone()).collect(),
                kept: kept.to_owned(),
            })
        })
        .collect()
}
