//! Streams are on and their start is recorded before the first row is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crew::Crew;
use super::shards::start_now;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::{Step, Table};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, RunState, StepError};
use crate::ports::PortResult;

/// Where it is kept that customers were let in on the new side: a stream position of no table. Loads that start over
/// do not clear it.
fn let_in_mark() -> Table {
    Table::watched("cutover:let-in", "")
}

/// Records, durably and beside the data, that customers may write on the new side from now on.
pub async fn let_in(crew: &Arc<Crew>) -> PortResult<()> {
    let mark = BTreeMap::from([("let-in".to_owned(), start_now(crew.wall()))]);
    crew.ports.target.start_positions(&let_in_mark(), "let-in", &mark).await
}

/// Whether customers were let in on the new side, in this run or an earlier one.
pub(super) async fn customers_let_in(crew: &Crew) -> PortResult<bool> {
    crew.ports.target.positions(&let_in_mark()).await.map(|mark| mark.is_some())
}

/// Turns streams on, empties what an older run of ours left in the target, and records start positions beside
/// the data. Rows that are not ours stop the step: nothing is ever emptied that another program wrote.
///
/// Only what this very run recorded is taken up again: an older run's positions and checkpoints look the same.
pub async fn perform(
    crew: &Arc<Crew>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    let ours = |table: &Table| state.tables.get(&table.id).is_some_and(|t| t.stream.is_some());
    let again = crew.plan.tables.iter().any(ours);
    let customers = crew.ports.target.positions(&let_in_mark()).await.map_err(|e| step_error(&e))?;
    if customers.is_some() && !again {
        return Err(world(
            "customers have written to the new side since an earlier thaw; a new load would empty its tables",
            "save what counts, then: DELETE FROM cutover.stream WHERE table_id = 'cutover:let-in'",
        ));
    }
    if !again && let Some(ports) = crew.reverse_ports() {
        // What an older run captured and never carried is nowhere else, whether its triggers still stand or not.
        let waiting = super::reverse::uncarried(&ports, &crew.plan.tables).await.map_err(|e| step_error(&e))?;
        if waiting > 0 {
            return Err(world(
                format!("{waiting} writes of the new side were never carried back; a new load would lose them"),
                "carry them with `cutover rollback` of the earlier run, or drop them: SELECT cutover.stop_capture()",
            ));
        }
        ports.outbox.disarm(&crew.plan.tables).await.map_err(|e| step_error(&e))?;
    }
    // Children first, so that no reference is left dangling while tables are emptied.
    let mut tables = super::load::in_order(&crew.plan.tables);
    tables.reverse();
    for table in tables {
        found.push(one(crew, step, attempt, ours(table), table).await?);
    }
    found.reverse();
    Ok(found)
}

async fn one(crew: &Arc<Crew>, step: &Step, attempt: u32, again: bool, table: &Table) -> Result<Evidence, StepError> {
    let target = &crew.ports.target;
    let known = target.positions(table).await.map_err(|e| step_error(&e))?;
    if !(again && known.is_some()) {
        let ours = known.is_some() || !target.checkpoints(table).await.map_err(|e| step_error(&e))?.is_empty();
        let count = target.count(table, true).await.map_err(|e| step_error(&e))?;
        if !ours && count.rows != Some(0) {
            return Err(world(
                format!("{} holds {} rows that no load of ours wrote", table.target, count.rows.unwrap_or(0)),
                format!("empty it yourself if they may go (TRUNCATE {} CASCADE), then try again", table.target),
            ));
        }
        target.reset(table).await.map_err(|e| step_error(&e))?;
    }
    let before = crew.ports.changes.stream(table).await.map_err(|e| step_error(&e))?;
    if before.is_none() {
        let id = format!("{}/{}/{attempt}", step.id, table.id);
        let action = Action::EnableStream { table: table.id.clone() };
        let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
        crew.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
        let made = crew.ports.changes.enable(table).await;
        let result = match &made {
            Ok(stream) => OutcomeResult::Done { read_back: stream.id.clone(), version: None },
            Err(e) => OutcomeResult::Unknown { error: e.to_string() },
        };
        crew.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    }
    let stream = crew.ports.changes.enable(table).await.map_err(|e| step_error(&e))?;
    if let Some((stored, _)) = known.filter(|_| again)
        && stored != stream.id
    {
        return Err(world(
            format!("{}: the stream was replaced since its start was recorded", table.source),
            "continuity is lost; open a new run, which loads again",
        ));
    }
    // Every shard that is kept is replayed from its oldest record: older than the load needs, harmless because
    // the last change of a key wins, and safe because nothing between two calls can be missed.
    let start = start_now(crew.wall());
    let positions: BTreeMap<_, _> = stream.shards.iter().map(|s| (s.id.clone(), start.clone())).collect();
    target.start_positions(table, &stream.id, &positions).await.map_err(|e| step_error(&e))?;
    let stored = target.positions(table).await.map_err(|e| step_error(&e))?;
    let Some((id, shards)) = stored else {
        return Err(world(
            format!("{}: start positions were written but are not there", table.target),
            "check that nothing empties the schema cutover",
        ));
    };
    crew.facts
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
    Ok(evidence(
        format!("stream of {}", table.id),
        match shards.len() {
            1 => "1 shard from its oldest record".to_owned(),
            n => format!("{n} shards from their oldest record"),
        },
        crew.wall(),
        "cutover.stream_position",
    ))
}
