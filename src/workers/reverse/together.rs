//! Keys that the old side refuses one by one and takes together: rows that traded unique values on the new side. What
//! customers did in their order was allowed there, so the same steps in the same order are allowed on the old side.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, Applying, WRITE, clear, late, name};
use crate::domain::mapping::{ItemChange, Resolution, RowTree, item_digest};
use crate::domain::value::{Key, Record, Value};
use crate::ports::{Cleared, OutboxChange, OwnWrite, PortResult, Together};

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
    /// All of them as one.
    whole: Option<Step>,
}

impl Steps<'_> {
    /// Goes to the end at once: a state in between may clash with a row that is written already. Whether that is any
    /// different.
    fn at_one_go(&mut self) -> bool {
        let whole = self.whole.take().filter(|_| self.steps.len() > 1);
        whole.map(|whole| self.steps = vec![whole]).is_some()
    }
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
pub(super) async fn write(of: &Applying<'_>, refused: &[&OutboxChange], tried: &mut Tried) -> PortResult<Vec<i64>> {
    let table = of.table;
    let records: Vec<i64> = refused.iter().flat_map(|change| change.records.iter().copied()).collect();
    if refused.len() < 2 || !of.ports.items.of(table).of_columns() || !tried.again(&records) {
        return Ok(Vec::new());
    }
    let mut left = MOST;
    let few = refused.iter().take_while(|change| {
        let enough = left.checked_sub(change.states.len());
        left = enough.unwrap_or(0);
        enough.is_some()
    });
    let each = few.map(|change| steps(of, change));
    let each: Vec<BoxFuture<'_, _>> = each.map(|one| Box::pin(one) as BoxFuture<'_, _>).collect();
    let found: Vec<Option<Steps<'_>>> = futures::stream::iter(each).buffered(AT_ONCE).try_collect().await?;
    let mut keys: Vec<Steps<'_>> = found.into_iter().flatten().collect();
    let ended = match attempt(of, &mut keys).await {
        // Nothing was written, or it is found to be there when these are taken again.
        Err(e) if e.kind.transient() => {
            tracing::warn!(table = %table.id, error = %e, "rows were not written together");
            Ended::Again
        }
        ended => ended?,
    };
    match ended {
        Ended::Written => tried.0 = None,
        Ended::Again => return Ok(Vec::new()),
        Ended::Cannot => {
            tried.0 = Some((records, Instant::now()));
            return Ok(Vec::new());
        }
    }
    let gone = keys.iter().map(|key| Cleared::of(&key.named, &key.change.records, Resolution::None));
    clear(of.taken, &gone.collect::<Vec<_>>()).await?;
    Ok(keys.iter().filter_map(|key| key.change.records.first().copied()).collect())
}

/// What was done to one key, step by step; nothing where the old side's own customers changed it too.
async fn steps<'c>(of: &Applying<'_>, change: &'c OutboxChange) -> PortResult<Option<Steps<'c>>> {
    let Applying { ports, table, way, rule, .. } = of;
    let named = name(way, change);
    let Ok(key) = way.inverse.key(&change.key) else { return Ok(None) };
    let stands = ports.items.of(table).read(table, &key).await?;
    let mut item = stands.clone();
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
    let ends = [change.states.first().cloned().flatten(), change.states.last().cloned().flatten()];
    let whole = carry(ends, stands.as_ref()).map(|made| {
        let after = match &made {
            ItemChange::Nothing => item_digest(stands.as_ref()),
            ItemChange::Write(write) => item_digest(Some(&write.after)),
            ItemChange::Delete { .. } => item_digest(None),
        };
        Step { record: change.records.last().copied().unwrap_or_default(), after, change: made }
    });
    Ok(Some(Steps { change, named, steps, whole }))
}

/// How an attempt to write keys together ended.
enum Ended {
    Written,
    /// Nothing is written, and it may be another time: something moved meanwhile, or the store did not answer.
    Again,
    /// Nothing is written, because they cannot stand.
    Cannot,
}

/// Writes the keys, without those that cannot stand; `keys` holds then what was written.
async fn attempt(of: &Applying<'_>, keys: &mut Vec<Steps<'_>>) -> PortResult<Ended> {
    let began = Instant::now();
    // Every image that stands there for a moment is in the old side's log, and ours.
    let mut own = Vec::new();
    for key in keys.iter() {
        own.extend(key.steps.iter().chain(&key.whole).map(|step| OwnWrite {
            key: key.named.clone(),
            digest: step.after,
            record: step.record,
            resolution: Resolution::None,
        }));
    }
    // Decided while customers were on the new side; by now the old side's value is the newer one.
    if of.taken.record_own_writes(&own).await? && !of.taken.rolled_back() {
        return Ok(Ended::Again);
    }
    while keys.len() > 1 && began.elapsed() < WRITE {
        match at_once(of, keys, None).await? {
            Outcome::Written => return Ok(Ended::Written),
            Outcome::Moved => return Ok(Ended::Again),
            Outcome::Without(n) if n < keys.len() => {
                if !keys.get_mut(n).is_some_and(Steps::at_one_go) {
                    keys.remove(n);
                }
            }
            Outcome::Without(_) => return Ok(Ended::Cannot),
            Outcome::Clash => return without_one(of, keys, began).await,
        }
    }
    Ok(Ended::Cannot)
}

/// Writes all but one: the store does not say which of them clashes with a row of the old side's customers, so each is left
/// out in turn.
async fn without_one(of: &Applying<'_>, keys: &mut Vec<Steps<'_>>, began: Instant) -> PortResult<Ended> {
    for n in 0..keys.len().min(SUSPECTS) {
        if began.elapsed() >= WRITE {
            break;
        }
        match at_once(of, keys, Some(n)).await? {
            Outcome::Written => {
                keys.remove(n);
                return Ok(Ended::Written);
            }
            Outcome::Moved => return Ok(Ended::Again),
            Outcome::Without(_) | Outcome::Clash => {}
        }
    }
    Ok(Ended::Cannot)
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
async fn at_once(of: &Applying<'_>, keys: &[Steps<'_>], without: Option<usize>) -> PortResult<Outcome> {
    let Applying { ports, table, .. } = of;
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
