//! Full comparison, key by key and field by field (FEATURES B3, B4, B5).
//!
//! Both sides are read whole at the same time and brought to the same canonical cells; sums of 128-bit digests decide
//! which keys must be read one by one, so memory does not grow with the table. Keys that differ are read again from
//! both sides once the lag has passed, and only differences that stand count. The verifier shares no skip filter with
//! the load: a source item that the mapping refuses counts as parked only if the ledger has it.

mod keys;
mod pass;
mod sample;
mod settle;
mod sides;

use std::sync::Arc;

pub use pass::{Compared, compare, compare_keys};
pub use sample::sample;
pub(super) use settle::{Verdict, differing};
pub use sides::Candidate;

use super::context::{TableWork, WorkerContext};
use super::parked;
use super::trouble::{evidence, not_recorded, step_error};
use crate::domain::gauge::Phase;
use crate::domain::mapping::read_key;
use crate::domain::plan::Table;
use crate::domain::run::{ErrorClass, Event, Evidence, StepError, VerifySummary};
use crate::ports::{ErrorKind, FullRead, PortError, PortResult};

/// How often a table is compared again because rows that waited for others have landed since.
const AGAIN: u32 = 3;

/// Compares every table; fails when one is under the floor.
pub async fn perform(ctx: &Arc<WorkerContext>) -> Result<Vec<Evidence>, StepError> {
    // A pass of the background reads the same tables; this one is wanted now.
    let _turn = ctx.limits.turn.wanted().await;
    let mut found = Vec::new();
    let (mut under, mut ended) = (Vec::new(), Vec::new());
    parked::settle(ctx).await.map_err(|e| step_error(&e))?;
    for table in &ctx.plan.tables {
        let mut summary = one(ctx, table, true).await?;
        // A row that waits for others may have begun to wait while its table was compared.
        for _ in 0..AGAIN {
            if !summary.is_under(ctx.plan.verify.floor) || parked::settle(ctx).await.map_err(|e| step_error(&e))? == 0 {
                break;
            }
            summary = one(ctx, table, true).await?;
        }
        let value = words(&summary);
        if summary.is_under(ctx.plan.verify.floor) {
            under.push(format!("{}: {value}", table.id));
            ended.extend(
                ctx.table(&table.id)
                    .and_then(TableWork::ended)
                    .map(|why| format!("{} is not followed any more: {why}", table.id)),
            );
        }
        found.push(evidence(format!("compared {}", table.id), value, ctx.wall(), "full read of both sides"));
    }
    if under.is_empty() {
        return Ok(found);
    }
    let advice = if ended.is_empty() {
        "look at the named keys in the verification view, mend the cause, then verify again"
    } else {
        "what the source was given since following ended does not arrive in this run, so that no later comparison of it is \
         equal; open a new run, which loads again"
    };
    let message = format!("under the floor of {}: {}", ctx.plan.verify.floor, under.join("; "));
    let message = [message].into_iter().chain(ended).collect::<Vec<_>>().join("; ");
    Err(StepError { class: ErrorClass::Verification, message, advice: advice.to_owned() })
}

/// One full pass over a table, stated as a fact. `shown` is whether the table's state on the screen says so.
pub(super) async fn one(ctx: &Arc<WorkerContext>, table: &Table, shown: bool) -> Result<VerifySummary, StepError> {
    let before = ctx.latest.table(&table.id, |g| {
        let now = if shown { Phase::Verifying } else { g.phase };
        std::mem::replace(&mut g.phase, now)
    });
    let compared = full_pass(ctx, table).await;
    if shown {
        ctx.latest.table(&table.id, |g| g.phase = before);
    }
    compared.map(|c| c.summary)
}

/// One full pass over a table, stated as a fact, with everything it found.
///
/// # Errors
/// What either side said, or that the fact could not be recorded.
pub async fn full_pass(ctx: &Arc<WorkerContext>, table: &Table) -> Result<Compared, StepError> {
    let began = ctx.wall();
    // What the log of the source did not say stands in what both sides hold: a clean pass over it makes it good.
    let source = ctx.ports.source(table);
    let before = if ctx.plan.kind(&table.from).of_columns() { Some(source.describe(table).await) } else { None };
    let before = before.transpose().map_err(|e| step_error(&e))?.filter(|before| !before.unseen.is_empty());
    let compared = compare(ctx, table).await.map_err(|e| step_error(&e))?;
    if let Some(before) = before.filter(|_| compared.summary.clean())
        && let Err(e) = source.made_good(table, &before.parts).await
    {
        tracing::warn!(table = %table.id, error = %e, "what the comparison proved of its partitions was not noted");
    }
    // Of what a mover applies nobody counts what came and went since.
    if let Some(items) = compared.summary.source.rows.filter(|_| table.mover.is_none()) {
        let read = FullRead { items, began: Some(began), ended: ctx.wall() };
        // Without it the count goes on from the full reading before.
        if let Err(e) = ctx.ports.target.full_read(table, read).await {
            tracing::warn!(table = %table.id, error = %e, "the source's count was not noted");
        }
    }
    ctx.keep_findings(&table.id, &compared.findings);
    let verified = Event::Verified { table: table.id.clone(), summary: compared.summary.clone() };
    ctx.facts.state(verified).await.map_err(|e| not_recorded(&e))?;
    Ok(compared)
}

/// A key as it is shown, or its attributes as JSON (`{"bookId":{"S":"..."}}`), as a key that can be read.
///
/// # Errors
/// `Invalid` when it is neither, or what the source said to the question for its key schema.
pub async fn candidate(ctx: &Arc<WorkerContext>, table: &Table, text: &str) -> PortResult<Candidate> {
    let item = match read_key(text) {
        Some(item) => item,
        None => keys::parse(&ctx.ports.source(table).describe(table).await?.key, text).ok_or_else(|| {
            let came_back = format!("the key has {} parts: {}", table.key.len(), table.key.join(", "));
            PortError::new(ErrorKind::Invalid, "read the key", text, came_back)
                .advise("write it as the verification shows it, parts joined by |, or as DynamoDB JSON")
        })?,
    };
    let mapping = ctx.mapping(table);
    let (key, _) = mapping.key(&item).map_err(|row_error| {
        PortError::new(ErrorKind::Invalid, "read the key", text, row_error.to_string())
            .advise("write it as the verification shows it, parts joined by |, or as DynamoDB JSON")
    })?;
    Ok(Candidate { text: key.0, cells: mapping.row_key(&item).unwrap_or_default(), item })
}

/// A summary in one line.
#[must_use]
pub fn words(s: &VerifySummary) -> String {
    // Cut, not rounded: 99.9996 must not read as all.
    let rate = s.rate().map_or_else(|| "?".to_owned(), |r| format!("{:.3}%", (r * 100_000.0).floor() / 1_000.0));
    let mut text = format!(
        "{} equal, {} missing, {} extra, {} mismatched, {} parked, {} expired ({rate})",
        s.equal,
        s.missing,
        s.extra,
        s.mismatched,
        s.parked,
        s.expired + s.expired_extra,
    );
    if s.orphans > 0 {
        text.push_str(&format!(", {} orphans", s.orphans));
    }
    text
}
