//! Tables that something else than the console moves: its mover is told what to do, each time with an intent and with what
//! was read back, and watched like a follower of ours.
//!
//! What stands around the tables stays ours: their reset, the indexes, the markers, the comparison, the freeze, the proof of
//! the drain, the reverse flow. See `docs/movers.md`.

mod check;
mod end;
mod follow;
mod load;
mod prepare;

use std::sync::Arc;

use super::context::WorkerContext;
use super::trouble::{not_recorded, step_error, world};
use crate::domain::plan::{MoverOf, Step, Table};
use crate::domain::run::{Action, Event, MoverOrder, OutcomeResult, StepError};
use crate::ports::{Mover, MoverState, PortResult};

pub(super) use check::rows as check_rows;
pub(super) use end::{gone, stopped};
pub use end::{intent, remove};
pub(super) use follow::follow;
pub(super) use load::{loaded, started};
pub(super) use prepare::{end_older, prepared, unobstructed};

/// What moves these tables.
fn port<'c>(ctx: &'c WorkerContext, of: &MoverOf) -> &'c Arc<dyn Mover> {
    ctx.ports.movers.named(&of.name())
}

/// Tells a mover what to do, and records what was read back: within a step, or beside the steps.
pub(super) async fn tell(
    ctx: &Arc<WorkerContext>,
    of: &MoverOf,
    step: Option<(&Step, u32)>,
    order: MoverOrder,
) -> Result<String, StepError> {
    let name = of.name();
    let id = match step {
        Some((step, attempt)) => format!("{}/{name}/{}/{attempt}", step.id, order.name()),
        None => format!("mover/{name}/{}/{}", order.name(), uuid::Uuid::new_v4().simple()),
    };
    let action = Action::TellMover { mover: name, order };
    let intent = Event::Intent { id: id.clone(), step: step.map(|(step, _)| step.id.clone()), action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let done = obey(&**port(ctx, of), &of.tables, order).await;
    let result = match &done {
        Ok(read_back) => OutcomeResult::Done { read_back: read_back.clone(), version: None },
        Err(e) => OutcomeResult::Unknown { error: e.to_string() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    done.map_err(|e| step_error(&e))
}

/// Gives the order; the answer is what was read back.
async fn obey(mover: &dyn Mover, tables: &[Table], order: MoverOrder) -> PortResult<String> {
    match order {
        MoverOrder::Prepare => mover.prepare(tables).await,
        MoverOrder::Start => mover.start(tables).await.map(|()| "it works".to_owned()),
        MoverOrder::Pause => mover.pause().await.map(|()| "it rests, and nothing of it is at work".to_owned()),
        MoverOrder::Stop => mover.stop().await.map(|()| STOPPED.to_owned()),
        MoverOrder::Remove => mover.remove().await.map(|()| "it is gone from both sides".to_owned()),
    }
}

/// What was read back of a mover that is stopped.
const STOPPED: &str = "stopped, and nothing of it is at work";

/// Refuses to write rows beside a mover: it would meet rows of ours that it knows nothing of, and could not go on.
pub(super) fn writes_alone(table: &Table) -> Result<(), StepError> {
    let Some(kind) = table.mover else { return Ok(()) };
    Err(world(
        format!("{} is moved by a {}, and nobody writes beside it", table.id, kind.name()),
        "load anew with `cutover run --new`; or mend single rows by hand in the target, as the source has them",
    ))
}

/// Why a mover that ought to work does not, by its state alone.
fn not_at_work(of: &MoverOf, state: MoverState) -> Option<String> {
    let name = of.name();
    match state {
        MoverState::Running => None,
        MoverState::Absent => Some(format!("{name} is gone: somebody removed it")),
        MoverState::Prepared => Some(format!("{name} was never started")),
        MoverState::Paused => Some(format!("{name} is paused")),
        MoverState::Stopped => Some(format!("{name} is stopped")),
        MoverState::EndedElsewhere => Some(format!("{name} was ended by somebody else")),
    }
}

/// What is said of failed attempts whose words only the mover's own log has: values of rows may stand in them.
fn failed(of: &MoverOf, errors: u64) -> String {
    let times = if errors == 1 { "1 time".to_owned() } else { format!("{errors} times") };
    format!(
        "{} failed {times} and tries again; the log of the target's server says why (rows may stand there, so it is not \
         repeated here)",
        of.name()
    )
}
