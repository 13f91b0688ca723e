//! Keys that the old side refuses one by one and takes together: rows that traded unique values on the new side. What
//! customers did in their order was allowed there, so the same steps in the same order are allowed on the old side.

use std::time::{Duration, Instant};

use super::{CLEARED, Rule, WRITE, Way, late, name};
use crate::domain::mapping::{ItemChange, Resolution, item_digest};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record};
use crate::ports::{OutboxChange, OwnWrite, PortResult, ReversePorts, Taken, Together};

/// How long the same keys are left alone after they could not be written together.
const AGAIN: Duration = Duration::from_secs(5);
/// Most steps of one transaction: it keeps customers of the old side waiting for these rows.
const MOST: usize = 5_000;

/// What was tried last and did not go.
#[derive(Debug, Default)]
pub(super) struct Tried(Option<(Vec<i64>, Instant)>);

impl Tried {
    /// Whether these records are worth another attempt.
    fn again(&self, records: &[i64]) -> bool {
        self.0.as_ref().is_none_or(|(last, at)| last != records || at.elapsed() >= AGAIN)
    }
}

/// The steps of one key.
struct Steps<'c> {
    change: &'c OutboxChange,
    named: Key,
    /// Each with the record it came from.
    steps: Vec<(i64, ItemChange)>,
    /// The item once all of them are made.
    after: Option<Record<'static>>,
}

/// Writes these refused changes together as far as they go; gives the keys that are written and cleared.
pub(super) async fn write(
    ports: &ReversePorts,
    table: &Table,
    way: &Way,
    taken: &dyn Taken,
    refused: &[&OutboxChange],
    rule: Rule<'_>,
    tried: &mut Tried,
) -> PortResult<Vec<i64>> {
    let records: Vec<i64> = refused.iter().flat_map(|change| change.records.iter().copied()).collect();
    if refused.len() < 2 || !ports.items.of(table).of_columns() || !tried.again(&records) {
        return Ok(Vec::new());
    }
    let mut keys = Vec::new();
    for change in refused {
        keys.extend(steps(ports, table, way, change, rule).await?);
    }
    let done = attempt(ports, table, taken, &mut keys).await?;
    tried.0 = (!done).then(|| (records, Instant::now()));
    let mut first = Vec::new();
    for key in keys.iter().filter(|_| done) {
        let mut left = CLEARED;
        while let Err(e) = taken.clear(&key.named, &key.change.records, Resolution::None).await {
            left -= 1;
            // It is taken again and found to say what it should.
            if left == 0 || !e.kind.transient() {
                return Err(e);
            }
        }
        first.extend(key.change.records.first());
    }
    Ok(first)
}

/// What was done to one key, step by step; nothing where the old side's own customers changed it too.
async fn steps<'c>(
    ports: &ReversePorts,
    table: &Table,
    way: &Way,
    change: &'c OutboxChange,
    rule: Rule<'_>,
) -> PortResult<Option<Steps<'c>>> {
    let named = name(way, change);
    let Ok(key) = way.inverse.key(&change.key) else { return Ok(None) };
    let mut item = ports.items.of(table).read(table, &key).await?;
    let first = change.states.first().and_then(Option::as_ref);
    // What was signed of it was never written: it stands as it was before.
    if !way.inverse.says(first, item.as_ref()) {
        return Ok(None);
    }
    let mut steps = Vec::new();
    for (pair, record) in change.states.windows(2).zip(change.from.iter().skip(1)) {
        let Ok(step) = way.inverse.carry(&change.key, pair, item.as_ref(), None, rule()) else { return Ok(None) };
        if step.resolution != Resolution::None {
            return Ok(None);
        }
        match &step.change {
            ItemChange::Nothing => continue,
            ItemChange::Write(write) => item = Some(write.after.clone()),
            ItemChange::Delete { .. } => item = None,
        }
        steps.push((*record, step.change));
    }
    Ok(Some(Steps { change, named, steps, after: item }))
}

/// Writes the keys, without those that cannot stand; `keys` holds then what was written.
async fn attempt(
    ports: &ReversePorts,
    table: &Table,
    taken: &dyn Taken,
    keys: &mut Vec<Steps<'_>>,
) -> PortResult<bool> {
    let began = Instant::now();
    while keys.len() > 1 && began.elapsed() < WRITE {
        let mut all: Vec<(i64, usize, &ItemChange)> = Vec::new();
        for (n, key) in keys.iter().enumerate() {
            all.extend(key.steps.iter().map(|(record, change)| (*record, n, change)));
        }
        if all.len() > MOST {
            return Ok(false);
        }
        // Those of one key have different records, in their order.
        all.sort_by_key(|(record, ..)| *record);
        let changes: Vec<ItemChange> = all.iter().map(|(_, _, change)| (*change).clone()).collect();
        let places: Vec<usize> = all.iter().map(|(_, n, _)| *n).collect();
        for key in keys.iter() {
            let own = OwnWrite {
                key: key.named.clone(),
                digest: item_digest(key.after.as_ref()),
                record: key.change.records.last().copied().unwrap_or_default(),
                resolution: Resolution::None,
            };
            // Decided while customers were on the new side; by now the old side's value is the newer one.
            if taken.record_own_write(&own).await? && !taken.rolled_back() {
                return Ok(false);
            }
        }
        let written = tokio::time::timeout(WRITE, ports.items.of(table).write_together(table, &changes)).await;
        match written.unwrap_or_else(|_| Err(late(table)))? {
            Together::Written => return Ok(true),
            Together::Moved => return Ok(false),
            Together::Refused { place, why } => {
                tracing::debug!(table = %table.id, error = %why, "left out of what is written together");
                match places.get(place).filter(|n| **n < keys.len()) {
                    Some(n) => drop(keys.remove(*n)),
                    None => return Ok(false),
                }
            }
        }
    }
    Ok(false)
}
