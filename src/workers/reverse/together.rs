//! Keys that the old side refuses one by one and takes together: rows that traded unique values on the new side. What
//! customers did in their order was allowed there, so the same steps in the same order are allowed on the old side.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};

use super::steps::{Step, Steps};
use super::{AT_ONCE, Applying, WRITE, clear, late};
use crate::domain::mapping::{ItemChange, Resolution};
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
    let each = few.map(|change| Steps::of(of, change));
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
    if !sign(of, keys.iter().flat_map(Steps::images).collect()).await? {
        return Ok(Ended::Again);
    }
    while keys.len() > 1 && began.elapsed() < WRITE {
        match at_once(of, keys, None).await? {
            Outcome::Written => return Ok(Ended::Written),
            Outcome::Moved => return Ok(Ended::Again),
            Outcome::Refused(refused) => {
                // A state in between may clash with a row that is written already, or with one of the old side's own.
                let past: Vec<usize> =
                    refused.iter().filter(|(n, record)| goes_past(of, keys, *n, *record)).map(|(n, _)| *n).collect();
                match refused.first() {
                    Some(_) if !past.is_empty() => {
                        let images = past.iter().filter_map(|n| keys.get(*n)).flat_map(Steps::images).collect();
                        if !sign(of, images).await? {
                            return Ok(Ended::Again);
                        }
                    }
                    Some((n, _)) if *n < keys.len() => drop(keys.remove(*n)),
                    Some(_) | None => return Ok(Ended::Cannot),
                }
            }
            Outcome::Clash => return without_one(of, keys, began).await,
        }
    }
    Ok(Ended::Cannot)
}

/// Leaves out the state that a key had after this record; `false` where it is the last one, which has to stand.
fn goes_past(of: &Applying<'_>, keys: &mut [Steps<'_>], key: usize, record: i64) -> bool {
    keys.get_mut(key).is_some_and(|key| key.without(of, record))
}

/// Signs every image that stands there for a moment: they are in the old side's log, and ours. `false` where customers
/// went back to the old side since it was decided.
async fn sign(of: &Applying<'_>, images: Vec<OwnWrite>) -> PortResult<bool> {
    Ok(!of.taken.record_own_writes(&images).await? || of.taken.rolled_back())
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
            Outcome::Refused(_) | Outcome::Clash => {}
        }
    }
    Ok(Ended::Cannot)
}

/// What became of writing some keys.
enum Outcome {
    Written,
    Moved,
    /// These keys cannot stand as they were after these records.
    Refused(Vec<(usize, i64)>),
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
        Together::Refused { places, why } => {
            tracing::debug!(table = %table.id, error = %why, "left out of what is written together");
            let refused = places.iter().filter_map(|place| all.get(*place));
            Outcome::Refused(refused.map(|(n, step)| (*n, step.record)).collect())
        }
        Together::Clash(why) => {
            tracing::debug!(table = %table.id, error = %why, "cannot stand together");
            Outcome::Clash
        }
    })
}
