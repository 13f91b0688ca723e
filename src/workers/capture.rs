//! Streams are on and their start is recorded before the first row is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, StreamExt as _};

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, step_error, world};
use super::{end_capture, movers, source_columns};
use crate::domain::plan::{Step, Table, shell_word};
use crate::domain::run::{Action, Event, Evidence, Level, OutcomeResult, RunState, StepError};
use crate::ports::{OpenedTable, PortResult, start_now};

/// Streams enabled side by side. `DynamoDB` takes some hundred changes of tables at once, but only ten calls of
/// `DescribeStream` a second, and each stream that is being enabled is read again and again.
pub(super) const AT_ONCE: usize = 20;

/// Records, durably and beside the data, that customers may write on the new side from now on.
pub async fn open_to_customers(ctx: &Arc<WorkerContext>) -> PortResult<()> {
    ctx.ports.target.open_to_customers(&ctx.plan.tables).await
}

/// Whether the new side was opened to customers, in this run or an earlier one.
pub(super) async fn opened_to_customers(ctx: &WorkerContext) -> PortResult<bool> {
    ctx.ports.target.opened_to_customers(&ctx.plan.tables).await.map(|found| found.is_some())
}

/// Turns streams on, empties what an older run of ours left in the target, and records start positions beside
/// the data. Rows that are not ours stop the step: nothing is ever emptied that another program wrote.
///
/// Only what this very run recorded is resumed: an older run's positions and checkpoints have the same form.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let ours = |table: &Table| state.tables.get(&table.id).is_some_and(|t| t.stream.is_some());
    let again = ctx.plan.tables.iter().any(ours);
    let target = &ctx.ports.target;
    // Before anything of theirs is emptied or disarmed: tables of another plan stay as they are.
    target.claim(&state.run, &ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    let customers = target.opened_to_customers(&ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    if let Some(OpenedTable { table, run, at }) = customers
        && !again
    {
        let back = if run.is_empty() { "cutover rollback".to_owned() } else { format!("cutover rollback {run}") };
        return Err(world(
            format!(
                "customers have written to the new side of {table} since the thaw at {}; a new load would empty it",
                at.date_clock()
            ),
            format!(
                "take that run back: {back}; or, once what they wrote is saved and nobody wants to go back any more: \
                 cutover release {}",
                shell_word(&ctx.plan.key())
            ),
        ));
    }
    if !again && let Some(ports) = ctx.ports.reverse.clone() {
        nothing_waits(ctx).await?;
        ports.outbox.disarm(&ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    }
    if !again {
        source_columns::still_fit(ctx).await?;
        none_in_the_way(ctx).await?;
        end_older(ctx, step, attempt).await?;
        movers::end_older(ctx, step, attempt).await?;
        movers::unobstructed(ctx).await?;
    }
    // Children first, so that no reference is left dangling while tables are emptied.
    let mut tables = super::load::in_order(&ctx.plan.tables);
    tables.reverse();
    let (mut known, mut moved) = (Vec::new(), BTreeMap::new());
    for table in tables {
        let stream = made_ready(ctx, ours(table), table).await?;
        match table.mover {
            None => known.push((table, stream)),
            Some(_) => moved.extend(stream.map(|stream| (table.id.clone(), stream))),
        }
    }
    // Nothing new is begun once one has failed, but what is under way is finished: none is left half recorded.
    let failed = AtomicBool::new(false);
    let all = known.into_iter().enumerate().map(|(n, (table, known))| {
        let failed = &failed;
        async move {
            if failed.load(Ordering::Acquire) {
                return None;
            }
            let done = one(ctx, step, attempt, known, table).await;
            failed.fetch_or(done.is_err(), Ordering::AcqRel);
            Some((n, done))
        }
    });
    let all: Vec<_> = all.collect();
    let mut ended: Vec<_> = stream::iter(all).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    // Parents are reported first.
    ended.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let mut found = together(ended.into_iter().map(|(_, done)| done))?;
    found.extend(movers::prepared(ctx, step, attempt, &moved).await?);
    Ok(found)
}

/// Fails while writes of the new side wait that an older run captured and never applied: they are nowhere else, whether its
/// triggers still stand or not, and only that run carries them, as long as the tables are its own. Whatever this plan says of
/// the reverse flow: an earlier one may have captured.
pub(super) async fn nothing_waits(ctx: &WorkerContext) -> Result<(), StepError> {
    let Some(ports) = &ctx.ports.reverse else { return Ok(()) };
    let waiting = super::reverse::uncarried(ports, &ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    if waiting == 0 {
        return Ok(());
    }
    Err(world(
        format!("{waiting} writes of the new side were never carried back; a new load would lose them"),
        format!(
            "carry them with `cutover rollback` of the earlier run; or let them stay where they are: cutover release {}",
            shell_word(&ctx.plan.key())
        ),
    ))
}

/// Fails with everything that keeps changes from being captured, at every store, before anything is turned on.
async fn none_in_the_way(ctx: &Arc<WorkerContext>) -> Result<(), StepError> {
    let (mut wrong, mut advice) = (Vec::new(), Vec::new());
    for store in ctx.plan.stores_of_tables() {
        let theirs: Vec<Table> = ctx.plan.own_tables().filter(|table| table.from == store).cloned().collect();
        if theirs.is_empty() {
            continue;
        }
        let found = ctx.ports.changes.named(store).obstacles(&theirs).await.map_err(|e| step_error(&e))?;
        for obstacle in found {
            wrong.push(obstacle.wrong);
            if !advice.contains(&obstacle.advice) {
                advice.push(obstacle.advice);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(world(wrong.join("; "), advice.join("; "))) }
}

/// The evidence of all, or the first failure with what went wrong besides.
fn together(ended: impl Iterator<Item = Result<Evidence, StepError>>) -> Result<Vec<Evidence>, StepError> {
    let (mut found, mut failure): (Vec<Evidence>, Option<StepError>) = (Vec::new(), None);
    for one in ended {
        match (one, &mut failure) {
            (Ok(evidence), _) => found.push(evidence),
            (Err(e), None) => failure = Some(e),
            (Err(e), Some(first)) if first.message != e.message => {
                first.message.push_str("; ");
                first.message.push_str(&e.message);
            }
            (Err(_), Some(_)) => {}
        }
    }
    failure.map_or(Ok(found), Err)
}

/// What of a table's stream this run has recorded; of a table it has not, what an older run left goes away first.
async fn made_ready(ctx: &Arc<WorkerContext>, again: bool, table: &Table) -> Result<Option<String>, StepError> {
    let target = &ctx.ports.target;
    let known = target.positions(table).await.map_err(|e| step_error(&e))?;
    if again && let Some((stream, _)) = known {
        return Ok(Some(stream));
    }
    let ours = known.is_some() || !target.checkpoints(table).await.map_err(|e| step_error(&e))?.is_empty();
    let count = target.count(table, true).await.map_err(|e| step_error(&e))?;
    if !ours && count.rows != Some(0) {
        return Err(world(
            format!("{} holds {} rows that no load of ours wrote", table.target, count.rows.unwrap_or(0)),
            format!("empty it yourself if they may go (TRUNCATE {}), then try again", table.target),
        ));
    }
    if count.rows != Some(0) {
        emptied(ctx, table, count.rows).await?;
    }
    target.reset(table).await.map_err(|e| step_error(&e))?;
    Ok(None)
}

/// Says that rows are about to go, which an earlier load of this plan wrote: on disk before they do.
async fn emptied(ctx: &Arc<WorkerContext>, table: &Table, rows: Option<u64>) -> Result<(), StepError> {
    let rows = rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
    let text =
        format!("{} is emptied and loaded anew: {rows} rows there are of an earlier load of this plan", table.target);
    let note = Event::Note { level: Level::Warn, source: "capture".to_owned(), text };
    ctx.facts.state(note).await.map_err(|e| not_recorded(&e))
}

/// Turns one stream on and records where it begins. An error names its table.
async fn one(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    known: Option<String>,
    table: &Table,
) -> Result<Evidence, StepError> {
    brought_up(ctx, step, attempt, known, table).await.map_err(|e| {
        let named = e.message.contains(&table.source) || e.message.contains(&table.id);
        if named { e } else { StepError { message: format!("{}: {}", table.id, e.message), ..e } }
    })
}

/// What an older run's capture keeps at a source begins before this one's: its changes are not wanted, and it may have
/// been told to forget some.
async fn end_older(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<(), StepError> {
    for store in end_capture::kept_for_us(&ctx.plan) {
        let theirs = ctx.plan.tables.iter().filter(|table| table.from == store);
        let mut stands = false;
        for table in theirs {
            stands |= ctx.ports.changes(table).stream(table).await.map_err(|e| step_error(&e))?.is_some();
        }
        if !stands {
            continue;
        }
        let id = format!("{}/end-capture/{store}/{attempt}", step.id);
        let action = Action::EndCapture { store: store.to_owned() };
        let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
        ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
        let (outcome, left) = end_capture::end(&ctx.ports.changes, store, id).await;
        ctx.facts.state(outcome).await.map_err(|e| not_recorded(&e))?;
        if let Some(why) = left {
            return Err(world(why, "try again once the store answers"));
        }
    }
    Ok(())
}

async fn brought_up(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    known: Option<String>,
    table: &Table,
) -> Result<Evidence, StepError> {
    let target = &ctx.ports.target;
    let before = ctx.ports.changes(table).stream(table).await.map_err(|e| step_error(&e))?;
    let mut made = None;
    if before.is_none() {
        let id = format!("{}/{}/{attempt}", step.id, table.id);
        let action = Action::EnableStream { table: table.id.clone() };
        let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
        ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
        let turned_on = ctx.ports.changes(table).enable(table).await;
        let result = match &turned_on {
            Ok(stream) => OutcomeResult::Done { read_back: stream.id.clone(), version: None },
            Err(e) => OutcomeResult::Unknown { error: e.to_string() },
        };
        ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
        made = turned_on.ok();
    }
    // When it is not known who turned the stream on, the call is made once more, and its answer says where the stream
    // stands.
    let stream = match made {
        Some(stream) => stream,
        None => ctx.ports.changes(table).enable(table).await.map_err(|e| step_error(&e))?,
    };
    if known.is_some_and(|stored| stored != stream.id) {
        return Err(world(
            format!("{}: the stream was replaced since its start was recorded", table.source),
            "continuity is lost; open a new run, which loads again",
        ));
    }
    // Every shard that is kept is replayed from its oldest record: older than the load needs, harmless because
    // the last change of a key wins, and safe because nothing between two calls can be missed.
    let start = start_now(ctx.wall());
    let positions: BTreeMap<_, _> = stream.shards.iter().map(|s| (s.id.clone(), start.clone())).collect();
    target.start_positions(table, &stream.id, &positions).await.map_err(|e| step_error(&e))?;
    let stored = target.positions(table).await.map_err(|e| step_error(&e))?;
    let Some((id, shards)) = stored else {
        return Err(world(
            format!("{}: start positions were written but are not there", table.target),
            "check that nothing empties the schema cutover",
        ));
    };
    ctx.facts
        .state(Event::CaptureStarted {
            table: table.id.clone(),
            stream: id.clone(),
            positions: shards
                .iter()
                .map(|(s, p)| (s.clone(), p.as_ref().map_or("end", |p| p.0.as_str()).to_owned()))
                .collect(),
        })
        .await
        .map_err(|e| not_recorded(&e))?;
    if !ctx.plan.kind(&table.from).markers_are_rows() {
        let value = "from where its slot begins".to_owned();
        return Ok(evidence(format!("changes of {}", table.id), value, ctx.wall(), "cutover.stream_position"));
    }
    Ok(evidence(
        format!("stream of {}", table.id),
        match shards.len() {
            1 => "1 shard from its oldest record".to_owned(),
            n => format!("{n} shards from their oldest record"),
        },
        ctx.wall(),
        "cutover.stream_position",
    ))
}
