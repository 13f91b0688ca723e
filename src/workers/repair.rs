//! Repair: rows written again as the source has them now, through follow's own writer, and read back.

use std::sync::Arc;

use super::capture;
use super::changes::map_image;
use super::context::WorkerContext;
use super::movers;
use super::parked::{self, Retried, upsert};
use super::trouble::{not_recorded, step_error, world};
use super::verify::{Candidate, Verdict, differing};
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::Table;
use crate::domain::run::{Action, Event, OutcomeResult, StepError};
use crate::domain::value::{Key, OwnedRow, Record};
use crate::ports::{ChangeBatch, ErrorKind, ParkedRow, PortError, PortResult, RowChange};

/// Keys written in one transaction.
const CHUNK: usize = 100;
/// Keys named in an intent.
const NAMED: usize = 20;
/// How often a key whose item keeps changing is written again.
const ROUNDS: u32 = 20;

/// What was read back after a repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Keys it was asked for.
    pub asked: u64,
    /// Keys that are equal on both sides now.
    pub equal: u64,
    /// Keys that are parked now.
    pub parked: u64,
    /// Keys that differ still.
    pub left: u64,
}

impl std::fmt::Display for Repaired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} equal, {} parked, {} differ still", self.equal, self.asked, self.parked, self.left)
    }
}

impl Repaired {
    fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.equal += other.equal;
        self.parked += other.parked;
        self.left += other.left;
    }
}

/// Writes these keys again. The intent is durable before the first row, the outcome says what was read back. Whether
/// the table is verified is for the next pass to say.
///
/// # Errors
/// Something else moves the table; the new side takes customers' writes, so the source is not the truth any more; the fact
/// could not be recorded; or what either side said.
pub async fn repair(ctx: &Arc<WorkerContext>, table: &Table, keys: &[Candidate]) -> Result<Repaired, StepError> {
    movers::writes_alone(table)?;
    source_is_the_truth(ctx).await?;
    let id = format!("repair/{}/{}", table.id, uuid::Uuid::new_v4().simple());
    let named = keys.iter().take(NAMED).map(|c| c.text.clone()).collect();
    let action = Action::Repair { table: table.id.clone(), rows: keys.len() as u64, keys: named };
    let intent = Event::Intent { id: id.clone(), step: None, action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    // A pass that is under way has seen rows of which it cannot say who wrote them.
    note_repair(ctx, table, keys.len() as u64);
    let done = put(ctx, table, keys).await;
    let result = match &done {
        Ok(read) if read.left == 0 => OutcomeResult::Done { read_back: read.to_string(), version: None },
        Ok(read) => OutcomeResult::Failed { error: read.to_string() },
        Err(e) => OutcomeResult::Unknown { error: e.to_string() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    done.map_err(|e| step_error(&e))
}

/// Tries parked rows of these reasons (of all, if none are given) again, as the source has them and the plan maps them
/// now. Recorded like a repair.
///
/// # Errors
/// As [`repair`].
pub async fn retry_parked(
    ctx: &Arc<WorkerContext>,
    table: &Table,
    reasons: Option<&[RowErrorReason]>,
) -> Result<Retried, StepError> {
    movers::writes_alone(table)?;
    source_is_the_truth(ctx).await?;
    let target = &ctx.ports.target;
    let (ledger, _) = target.ledger(table).await.map_err(|e| step_error(&e))?;
    let rows = ledger.iter().filter(|(r, _)| reasons.is_none_or(|all| all.contains(r))).map(|(_, n)| n).sum();
    let first = target.parked(table, reasons, None, NAMED as u32).await.map_err(|e| step_error(&e))?;
    let id = format!("retry/{}/{}", table.id, uuid::Uuid::new_v4().simple());
    let keys = first.into_iter().map(|r| r.key.0).collect();
    let action = Action::Repair { table: table.id.clone(), rows, keys };
    let intent = Event::Intent { id: id.clone(), step: None, action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    note_repair(ctx, table, rows);
    let done = parked::some(ctx, table, reasons, None, u64::MAX).await.map(|(tried, _)| tried);
    let result = match &done {
        Ok(tried) => {
            let read_back = format!("{} went in, {} stayed of {}", tried.landed, tried.stayed, tried.tried);
            OutcomeResult::Done { read_back, version: None }
        }
        Err(e) => OutcomeResult::Unknown { error: e.to_string() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    done.map_err(|e| step_error(&e))
}

/// Refuses once customers may write on the new side, or when another plan has a table: what the source has would
/// overwrite what they wrote, or what that plan moves.
///
/// # Errors
/// They may, it has, or it cannot be known.
pub async fn source_is_the_truth(ctx: &Arc<WorkerContext>) -> Result<(), StepError> {
    ctx.ports.target.claimable(&ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    let open_to_customers = capture::opened_to_customers(ctx).await.map_err(|e| step_error(&e))?;
    if open_to_customers || ctx.standing().open_to_customers {
        return Err(world(
            "customers write on the new side; rows of the old side would overwrite theirs",
            "mend single rows in the new side by hand, or roll back first",
        ));
    }
    // Whatever this plan says of the reverse flow: an earlier one may have captured.
    let Some(ports) = ctx.ports.reverse.clone() else { return Ok(()) };
    let waiting = super::reverse::uncarried(&ports, &ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    if waiting > 0 {
        return Err(world(
            format!("{waiting} writes of the new side wait to be carried back; a repair would hide them"),
            "carry them first: cutover rollback",
        ));
    }
    Ok(())
}

/// Writes keys as the source has them now. A key is done only when the source shows after the write what it showed
/// before: a change in between travels by the stream, and may have been applied before our older image was.
pub(super) async fn put(ctx: &Arc<WorkerContext>, table: &Table, keys: &[Candidate]) -> PortResult<Repaired> {
    let mut sum = Repaired::default();
    for chunk in keys.chunks(CHUNK) {
        ctx.unpaused().await;
        sum.add(put_chunk(ctx, table, chunk).await?);
    }
    Ok(sum)
}

async fn put_chunk(ctx: &Arc<WorkerContext>, table: &Table, chunk: &[Candidate]) -> PortResult<Repaired> {
    let (source, target) = (ctx.ports.source(table), &ctx.ports.target);
    let items: Vec<Record<'static>> = chunk.iter().map(|c| c.item.clone()).collect();
    let mut images = source.get(table, &items).await?;
    let mut open: Vec<usize> = (0..chunk.len()).collect();
    for round in 0.. {
        if round == ROUNDS {
            let came_back = format!("{} keys change faster than they can be written", open.len());
            return Err(PortError::new(ErrorKind::Conflict, "write again", &table.target, came_back)
                .advise("try again when they are written to less; changes go on being followed"));
        }
        let rows = open.iter().filter_map(|n| change(ctx, table, &chunk[*n], images[*n].as_ref())).collect();
        target.apply(table, ChangeBatch { rows, ..ChangeBatch::default() }).await?;
        let asked: Vec<Record<'static>> = open.iter().map(|n| items[*n].clone()).collect();
        let after = source.get(table, &asked).await?;
        let mut moved = Vec::new();
        for (n, image) in open.into_iter().zip(after) {
            if images[n] != image {
                images[n] = image;
                moved.push(n);
            }
        }
        open = moved;
        if open.is_empty() {
            break;
        }
    }
    read_back(ctx, table, chunk, &images).await
}

/// What has to happen to one row. A key no row can have and that is gone at the source needs nothing.
fn change(
    ctx: &Arc<WorkerContext>,
    table: &Table,
    key: &Candidate,
    image: Option<&Record<'static>>,
) -> Option<RowChange> {
    let mapping = ctx.mapping(table);
    let (text, json) = mapping.key(&key.item).ok()?;
    let park = |row_error| {
        let (table, key, key_json) = (table.id.clone(), text.clone(), json.clone());
        RowChange::Park(ParkedRow { table, key, row_error, key_json })
    };
    Some(match image {
        Some(image) => upsert(&mapping, image).unwrap_or_else(park),
        // A key that no row can have is in no row: then only the ledger has to forget it.
        None => {
            let row_key = mapping.row_key(&key.item).unwrap_or_default();
            RowChange::Delete { key: text, key_json: json, row_key }
        }
    })
}

async fn read_back(
    ctx: &Arc<WorkerContext>,
    table: &Table,
    chunk: &[Candidate],
    images: &[Option<Record<'static>>],
) -> PortResult<Repaired> {
    let cells: Vec<OwnedRow> = chunk.iter().map(|c| c.cells.clone()).collect();
    let rows = ctx.ports.target.fetch(table, &cells).await?;
    let keys: Vec<Key> = chunk.iter().map(|c| Key(c.text.clone())).collect();
    let ledger = ctx.ports.target.parked_since(table, &keys).await?;
    let mapping = ctx.mapping(table);
    let mut read = Repaired { asked: chunk.len() as u64, ..Repaired::default() };
    for ((image, row), parked) in images.iter().zip(rows).zip(ledger) {
        let equal = match (image, &row) {
            (None, None) => true,
            (Some(image), Some((row, children))) => {
                map_image(&mapping, image).is_ok_and(|(_, _, ours, our_children)| {
                    differing(table, (&ours, &our_children), (row, children)) == Verdict::Equal
                })
            }
            _ => false,
        };
        match (equal, parked) {
            (_, Some(_)) => read.parked += 1,
            (true, None) => read.equal += 1,
            (false, None) => read.left += 1,
        }
    }
    Ok(read)
}

/// Counts rows that are about to be written again.
fn note_repair(ctx: &WorkerContext, table: &Table, rows: u64) {
    if let Some(known) = ctx.table(&table.id) {
        known.note_repair(rows);
    }
}
