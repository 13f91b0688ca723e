//! Differing keys, read again until they settle: only what stands while the source stood still counts.

use std::collections::HashMap;
use std::time::Duration;

use super::keys::child_weight;
use super::sides::{Candidate, Subject};
use crate::domain::at::At;
use crate::domain::plan::Table;
use crate::domain::value::{Key, OwnedRow, Record};
use crate::domain::verify::{Digest, Ttl, compare, row_error_cause};
use crate::ports::PortResult;
use crate::workers::changes::map_image;

/// Rounds in which a key that keeps changing may be caught equal.
const ROUNDS: u32 = 8;
/// Pause between two reads of the target while it catches up.
const POLL: Duration = Duration::from_millis(40);
/// How long a follower that lags and applies nothing is waited for: then the difference is a fact, whatever its reason.
const LAGGING_MS: i64 = 60_000;
/// Keys read at a time.
const CHUNK: usize = 100;
/// Keys that settle together: as many images of the source are in memory.
const TOGETHER: usize = 10_000;

/// What reading a key again shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides hold the same.
    Equal,
    /// Neither side has it.
    Gone,
    /// At the source and in the ledger.
    Parked,
    /// At the source, past its time, and dropped by the target.
    Expired,
    /// In the target, past its time, and dropped by the source.
    ExpiredExtra,
    /// Only at the source.
    Missing,
    /// Only in the target.
    Extra,
    /// In both, differing: `column: cause`.
    Differs(Vec<String>),
    /// The source changed while it was read, and the target was never found equal to what it was.
    Moving,
}

impl Verdict {
    /// Whether both sides agree, or the difference is explained.
    pub const fn fine(&self) -> bool {
        matches!(self, Self::Equal | Self::Gone | Self::Parked | Self::Expired | Self::ExpiredExtra)
    }
}

/// Reads every candidate until it settles. Verdicts are final: a key that never stood still and was never found equal
/// counts as a difference.
pub async fn settle(
    subject: &Subject,
    ttl: Option<&Ttl>,
    candidates: Vec<Candidate>,
) -> PortResult<Vec<(Candidate, Verdict)>> {
    let mut settled = Vec::new();
    let mut candidates = candidates.into_iter();
    loop {
        let mut open: Vec<Candidate> = candidates.by_ref().take(TOGETHER).collect();
        if open.is_empty() {
            return Ok(settled);
        }
        for _ in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            let verdicts = look(subject, ttl, &open).await?;
            let mut moving = Vec::new();
            for (candidate, verdict) in open.into_iter().zip(verdicts) {
                if verdict == Verdict::Moving {
                    moving.push(candidate);
                } else {
                    settled.push((candidate, verdict));
                }
            }
            open = moving;
        }
        settled.extend(open.into_iter().map(|c| (c, Verdict::Differs(vec!["keeps changing".to_owned()]))));
    }
}

/// One round: the source first, then the target until it shows what the source showed or the settling time is over,
/// then the source once more. Only a key whose source stood still meanwhile gets a verdict against it.
async fn look(subject: &Subject, ttl: Option<&Ttl>, open: &[Candidate]) -> PortResult<Vec<Verdict>> {
    let ctx = &subject.ctx;
    let all: Vec<usize> = (0..open.len()).collect();
    let before = images(subject, open, &all).await?;
    let settle = i64::try_from(ctx.plan.verify.settle_ms).unwrap_or(i64::MAX);
    let began = ctx.mono();
    // What was applied of any table, and when it was more than before: one log may hold many changes before ours.
    let (mut applied, mut moved) = (applied_of_all(subject), began);
    let mut verdicts = vec![Verdict::Moving; open.len()];
    let mut left = all;
    loop {
        for chunk in left.chunks(CHUNK) {
            let cells: Vec<OwnedRow> = chunk.iter().map(|n| open[*n].cells.clone()).collect();
            let target = ctx.ports.target.fetch(&subject.table, &cells).await?;
            // Asked after the row: a row that is parked meanwhile leaves the table in the same transaction.
            let keys: Vec<Key> = chunk.iter().map(|n| Key(open[*n].text.clone())).collect();
            let ledger = ctx.ports.target.parked_since(&subject.table, &keys).await?;
            let now = ctx.wall();
            for ((n, found), parked) in chunk.iter().zip(target).zip(ledger) {
                let source = before.get(n);
                verdicts[*n] = judge(subject, ttl, source, found.as_ref(), parked.is_some(), now);
            }
        }
        left.retain(|n| !verdicts[*n].fine());
        // While customers are kept out nothing moves, and nothing needs to settle.
        let now = ctx.mono();
        if left.is_empty() || ctx.standing().frozen_everywhere {
            break;
        }
        if now - began >= settle && (applied_since(subject, began) || now - moved >= LAGGING_MS) {
            let more = applied_of_all(subject);
            if applied_since(subject, began) || more == applied {
                break;
            }
            (applied, moved) = (more, now);
        }
        tokio::time::sleep(POLL).await;
    }
    let after = images(subject, open, &left).await?;
    for n in left {
        if before.get(&n) != after.get(&n) {
            verdicts[n] = Verdict::Moving;
        }
    }
    Ok(verdicts)
}

/// Whether what the source showed at `began` has been applied. Without anybody who follows there is nothing to wait
/// for.
fn applied_since(subject: &Subject, began: i64) -> bool {
    let ctx = &subject.ctx;
    let now = ctx.mono();
    // A process that has just begun to follow has not come round yet, and follows all the same.
    !ctx.tasks.is_following()
        || ctx.table(&subject.table.id).is_some_and(|known| known.ended().is_some())
        || ctx.progress(&subject.table.id).lags(now).apply.is_some_and(|lag| now - lag >= began)
}

/// Changes that were applied so far, of every table.
fn applied_of_all(subject: &Subject) -> u64 {
    subject.ctx.measured().tables.values().map(|gauge| gauge.applied).sum()
}

/// The source's items of some candidates, by place; absent ones have none.
async fn images(subject: &Subject, open: &[Candidate], which: &[usize]) -> PortResult<HashMap<usize, Record<'static>>> {
    let mut found = HashMap::new();
    for chunk in which.chunks(CHUNK) {
        subject.ctx.unpaused().await;
        let keys: Vec<Record<'static>> = chunk.iter().map(|n| open[*n].item.clone()).collect();
        let items = subject.ctx.ports.source(&subject.table).get(&subject.table, &keys).await?;
        found.extend(chunk.iter().zip(items).filter_map(|(n, item)| item.map(|item| (*n, item))));
    }
    Ok(found)
}

type RowParts = (OwnedRow, Vec<Vec<OwnedRow>>);

fn judge(
    subject: &Subject,
    ttl: Option<&Ttl>,
    source: Option<&Record<'static>>,
    target: Option<&RowParts>,
    parked: bool,
    now: At,
) -> Verdict {
    match (source, target) {
        (None, None) => Verdict::Gone,
        // DynamoDB has removed it, and nothing applies that any more or not yet.
        (None, Some((row, _))) if ttl.is_some_and(|ttl| ttl.row_is_past(row, now)) => Verdict::ExpiredExtra,
        (None, Some(_)) => Verdict::Extra,
        (Some(_), None) if parked => Verdict::Parked,
        // Its time is over, but DynamoDB takes up to days to remove it.
        (Some(item), None) if ttl.is_some_and(|ttl| ttl.item_is_past(item, now)) => Verdict::Expired,
        (Some(_), None) => Verdict::Missing,
        (Some(item), Some((row, children))) => match map_image(&subject.mapping, item) {
            Err(row_error) => {
                Verdict::Differs(vec![format!("{}: {}", row_error.column, row_error_cause(row_error.reason))])
            }
            Ok((_, _, ours, ours_children)) => differing(&subject.table, (&ours, &ours_children), (row, children)),
        },
    }
}

/// Compares a row and its children field by field.
pub fn differing(
    table: &Table,
    source: (&OwnedRow, &Vec<Vec<OwnedRow>>),
    target: (&OwnedRow, &Vec<Vec<OwnedRow>>),
) -> Verdict {
    let mut causes: Vec<String> = compare(source.0, target.0)
        .into_iter()
        .map(|d| {
            let column = table.columns.get(d.column).map_or("?", |c| c.name.as_str());
            format!("{column}: {}", d.cause)
        })
        .collect();
    for (child, plan) in table.children.iter().enumerate() {
        let weigh = |rows: Option<&Vec<OwnedRow>>| {
            rows.map_or(0, |rows| rows.iter().fold(0, |sum: Digest, r| sum.wrapping_add(child_weight(child, r))))
        };
        if weigh(source.1.get(child)) != weigh(target.1.get(child)) {
            causes.push(format!("{}: child rows", plan.target));
        }
    }
    if causes.is_empty() { Verdict::Equal } else { Verdict::Differs(causes) }
}
