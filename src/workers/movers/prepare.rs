//! Before the load: what an older run's mover left is removed, and a new one made that does nothing yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{port, tell};
use crate::domain::plan::Step;
use crate::domain::run::{Event, Evidence, MoverOrder, StepError};
use crate::ports::{MoverState, start_now};
use crate::workers::context::WorkerContext;
use crate::workers::trouble::{evidence, not_recorded, step_error, world};

/// Fails with everything that keeps a mover from moving its tables, before anything is made.
pub async fn unobstructed(ctx: &Arc<WorkerContext>) -> Result<(), StepError> {
    let (mut wrong, mut advice) = (Vec::new(), Vec::new());
    for of in ctx.plan.movers() {
        for obstacle in port(ctx, &of).obstacles(&of.tables).await.map_err(|e| step_error(&e))? {
            wrong.push(obstacle.wrong);
            if !advice.contains(&obstacle.advice) {
                advice.push(obstacle.advice);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(world(wrong.join("; "), advice.join("; "))) }
}

/// Removes what an older run left, before the tables are emptied: it would write to them.
pub async fn end_older(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<(), StepError> {
    for of in ctx.plan.movers() {
        let look = port(ctx, &of).look(&of.tables).await.map_err(|e| step_error(&e))?;
        if look.state != MoverState::Absent {
            tell(ctx, &of, Some((step, attempt)), MoverOrder::Remove).await?;
        }
    }
    Ok(())
}

/// Makes every mover, and records for each table, beside its data and as a fact, by what it is moved. `known` is what this
/// very run recorded before.
pub async fn prepared(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    known: &BTreeMap<String, String>,
) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for of in ctx.plan.movers() {
        let made = tell(ctx, &of, Some((step, attempt)), MoverOrder::Prepare).await?;
        for table in &of.tables {
            if known.get(&table.id).is_some_and(|before| *before != made) {
                return Err(world(
                    format!("{}: what moves it was replaced since the run began", table.id),
                    "continuity is lost; open a new run, which loads again",
                ));
            }
            let positions = BTreeMap::from([(table.id.clone(), start_now(ctx.wall()))]);
            ctx.ports.target.start_positions(table, &made, &positions).await.map_err(|e| step_error(&e))?;
            let stored = ctx.ports.target.positions(table).await.map_err(|e| step_error(&e))?;
            let Some((stream, _)) = stored else {
                return Err(world(
                    format!("{}: by what it is moved was written down but is not there", table.target),
                    "check that nothing empties the schema cutover",
                ));
            };
            let positions = BTreeMap::from([(table.id.clone(), "from its copy on".to_owned())]);
            let started = Event::CaptureStarted { table: table.id.clone(), stream, positions };
            ctx.facts.state(started).await.map_err(|e| not_recorded(&e))?;
            let value = format!("from its copy on, by {}", of.name());
            found.push(evidence(format!("changes of {}", table.id), value, ctx.wall(), "cutover.stream_position"));
        }
    }
    Ok(found)
}
