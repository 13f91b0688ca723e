//! Keys that the old side refuses one by one and takes together: rows that traded unique values on the new side. What
//! customers did in their order was allowed there, so the same steps in the same order are allowed on the old side.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, CLEARED, Rule, WRITE, Way, late, name};
use crate::domain::mapping::{ItemChange, Resolution, RowTree, item_digest};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record, Value};
use crate::ports::{OutboxChange, OwnWrite, PortResult, ReversePorts, Taken, Together};

/// How long the same keys are left alone after they could not be written together.
const AGAIN: Duration = Duration::from_secs(5);
/// Most steps of one transaction: each is a few round trips, and customers of the old side wait for these rows.
const MOST: usize = 1_500;
/// Keys that are left out one by one to find the one that clashes with a row of the old side's customers.
const SUSPECTS: usize = 50;

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
    steps: Vec<Step>,
}

/// One step.
struct Step {
    /// The record it came from.
    record: i64,
    change: ItemChange,
    /// Digest of the item once it is made.
    after: u128,
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
    let mut left = MOST;
    let few = refused.iter().take_while(|change| {
        let enough = left.checked_sub(change.states.len());
        left = enough.unwrap_or(0);
        enough.is_some()
    });
    let each = few.map(|change| steps(ports, table, way, change, rule));
    let each: Vec<BoxFuture<'_, _>> = each.map(|one| Box::pin(one) as BoxFuture<'_, _>).collect();
    let found: Vec<Option<Steps<'_>>> = futures::stream::iter(each).buffered(AT_ONCE).try_collect().await?;
    let mut keys: Vec<Steps<'_>> = found.into_iter().flatten().collect();
    let done = match attempt(ports, table, taken, &mut keys).await {
        // Nothing was written, or it is found to be there when these are taken again.
        Err(e) if e.kind.transient() => {
            tracing::warn!(table = %table.id, error = %e, "rows were not written together");
            false
        }
        done => done?,
    };
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
    let carry = |pair: [Option<RowTree>; 2], item: Option<&Record<'static>>| {
        let carried = way.inverse.carry(&change.key, &pair, item, None, rule()).ok();
        carried.filter(|step| step.resolution == Resolution::None).map(|step| step.change)
    };
    let mut steps = Vec::new();
    // The row and its item before they were removed: what no column carries is in the item alone.
    let mut gone: Option<(RowTree, Record<'static>)> = None;
    for (pair, record) in change.states.windows(2).zip(change.from.iter().skip(1)) {
        let [before, after] = pair else { continue };
        let Some(mut made) = carry([before.clone(), after.clone()], item.as_ref()) else { return Ok(None) };
        match &mut made {
            ItemChange::Nothing => continue,
            ItemChange::Delete { .. } => gone = before.clone().zip(item.take()),
            ItemChange::Write(write) => {
                if let Some((row, old)) = gone.take().filter(|_| !write.exists) {
                    match carry([Some(row), after.clone()], Some(&old)) {
                        Some(ItemChange::Write(changed)) => write.after = changed.after,
                        Some(ItemChange::Nothing) => write.after = old,
                        Some(ItemChange::Delete { .. }) | None => return Ok(None),
                    }
                    let of_key = |name: &str| write.key.get(name).is_some();
                    let fields =
                        write.after.fields.iter().filter(|(name, value)| !of_key(name) && *value != Value::Null);
                    write.set = fields.map(|(name, value)| (name.to_string(), value.clone())).collect();
                }
                item = Some(write.after.clone());
            }
        }
        steps.push(Step { record: *record, after: item_digest(item.as_ref()), change: made });
    }
    Ok(Some(Steps { change, named, steps }))
}

/// Writes the keys, without those that cannot stand; `keys` holds then what was written.
async fn attempt(
    ports: &ReversePorts,
    table: &Table,
    taken: &dyn Taken,
    keys: &mut Vec<Steps<'_>>,
) -> PortResult<bool> {
    let began = Instant::now();
    // Every image that stands there for a moment is in the old side's log, and ours.
    for key in keys.iter() {
        for step in &key.steps {
            let (record, resolution) = (step.record, Resolution::None);
            let own = OwnWrite { key: key.named.clone(), digest: step.after, record, resolution };
            // Decided while customers were on the new side; by now the old side's value is the newer one.
            if taken.record_own_write(&own).await? && !taken.rolled_back() {
                return Ok(false);
            }
        }
    }
    while keys.len() > 1 && began.elapsed() < WRITE {
        match at_once(ports, table, keys, None).await? {
            Outcome::Written => return Ok(true),
            Outcome::Moved => return Ok(false),
            Outcome::Without(n) if n < keys.len() => drop(keys.remove(n)),
            Outcome::Without(_) => return Ok(false),
            Outcome::Clash => return without_one(ports, table, keys, began).await,
        }
    }
    Ok(false)
}

/// Writes all but one: the store does not say which of them clashes with a row of the old side's customers, so each is left
/// out in turn.
async fn without_one(
    ports: &ReversePorts,
    table: &Table,
    keys: &mut Vec<Steps<'_>>,
    began: Instant,
) -> PortResult<bool> {
    for n in 0..keys.len().min(SUSPECTS) {
        if began.elapsed() >= WRITE {
            break;
        }
        match at_once(ports, table, keys, Some(n)).await? {
            Outcome::Written => {
                keys.remove(n);
                return Ok(true);
            }
            Outcome::Moved => return Ok(false),
            Outcome::Without(_) | Outcome::Clash => {}
        }
    }
    Ok(false)
}

/// What became of writing some keys.
enum Outcome {
    Written,
    Moved,
    /// The key at this place cannot stand.
    Without(usize),
    /// One of them cannot.
    Clash,
}

/// Writes all keys, but for one, in one transaction.
async fn at_once(
    ports: &ReversePorts,
    table: &Table,
    keys: &[Steps<'_>],
    without: Option<usize>,
) -> PortResult<Outcome> {
    let mut all: Vec<(usize, &Step)> = Vec::new();
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| Some(*n) != without) {
        all.extend(key.steps.iter().map(|step| (n, step)));
    }
    // Those of one key have different records, in their order.
    all.sort_by_key(|(_, step)| step.record);
    let changes: Vec<ItemChange> = all.iter().map(|(_, step)| step.change.clone()).collect();
    let written = tokio::time::timeout(WRITE, ports.items.of(table).write_together(table, &changes)).await;
    Ok(match written.unwrap_or_else(|_| Err(late(table)))? {
        Together::Written => Outcome::Written,
        Together::Moved => Outcome::Moved,
        Together::Refused { place, why } => {
            tracing::debug!(table = %table.id, error = %why, "left out of what is written together");
            Outcome::Without(all.get(place).map_or(usize::MAX, |(n, _)| *n))
        }
        Together::Clash(why) => {
            tracing::debug!(table = %table.id, error = %why, "cannot stand together");
            Outcome::Clash
        }
    })
}
