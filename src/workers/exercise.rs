//! Rights that the freeze, the switch and a rollback need, exercised while customers are still served: a right that is
//! missing stops the run here, not behind the freeze.

use std::sync::Arc;
use std::time::Duration;

use super::context::{CapturedValue, WorkerContext};
use super::marker::on_the_wire;
use super::switch::shielded;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::{Step, Switch, Table};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, StepError};
use crate::ports::{ErrorKind, PortError, SwitchValue};

/// How often a value is read back before it counts as not written: the store may answer from an older copy.
const READ_BACKS: u32 = 10;

/// What became of a switch's exercise.
pub(super) struct Exercised {
    /// What proves it, or that the plan left it out.
    pub(super) evidence: Evidence,
    /// What stands there now, unless nothing was written.
    pub(super) now: Option<SwitchValue>,
}

/// Writes the captured value over itself, with all that the place keeps beside it, and reads it back.
pub(super) async fn switch(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    switch: &Switch,
    kept: &CapturedValue,
    before: &SwitchValue,
) -> Result<Exercised, StepError> {
    let name = format!("right to set {}", switch.id);
    if !switch.exercise {
        let mut left_out = evidence(name, "not exercised, as the plan says", ctx.wall(), switch.place());
        left_out.good = false;
        return Ok(Exercised { evidence: left_out, now: None });
    }
    // Others were captured and exercised since this one was: what somebody set meanwhile must not be set back.
    let stands = ctx.ports.switches.read(switch).await.map_err(|e| step_error(&e))?;
    if stands.value != before.value || stands.version != before.version {
        return Err(world(
            format!("{} was changed by somebody else since it was captured", switch.place()),
            "see who changed it, then arm again; nothing was written there",
        ));
    }
    let id = format!("{}/exercise/{}/{attempt}", step.id, switch.id);
    let action = Action::ExerciseSwitch { switch: switch.id.clone(), version: before.version };
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let put = shielded(ctx, switch, &kept.value, &kept.attributes).await;
    let now = read_back(ctx, switch, kept, before, put.is_ok()).await;
    let (result, done) = match (put, now) {
        (Ok(()), Ok(now)) => {
            let read_back = match now.version {
                Some(version) => format!("version {version}"),
                None => "the same value".to_owned(),
            };
            let value = match (before.version, now.version) {
                (Some(was), Some(is)) => format!("its value was written over itself: version {was}, now {is}"),
                _ => "its value was written over itself".to_owned(),
            };
            let found = evidence(name, value, ctx.wall(), switch.place());
            let done = OutcomeResult::Done { read_back, version: now.version };
            (done, Ok(Exercised { evidence: found, now: Some(now) }))
        }
        // What stood there stands there: nothing is half done.
        (Err(e), Ok(_)) => (OutcomeResult::Failed { error: e.to_string() }, Err(refused(switch, &e))),
        (Err(e), Err(_)) => (OutcomeResult::Unknown { error: e.to_string() }, Err(refused(switch, &e))),
        (Ok(()), Err(e)) => (OutcomeResult::Unknown { error: e.message.clone() }, Err(e)),
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    done
}

/// Reads until the value is there, in a new version where the place has any and the write was acknowledged.
async fn read_back(
    ctx: &Arc<WorkerContext>,
    switch: &Switch,
    kept: &CapturedValue,
    before: &SwitchValue,
    acknowledged: bool,
) -> Result<SwitchValue, StepError> {
    let mut last = None;
    for _ in 0..READ_BACKS {
        match ctx.ports.switches.read(switch).await {
            Ok(now) if now.value != kept.value => {
                return Err(world(
                    format!("{} changed while its own value was written over itself", switch.place()),
                    "see who writes it; the plan was made for another state of the world",
                ));
            }
            Ok(now) if !acknowledged || now.version.is_none() || now.version > before.version => return Ok(now),
            Ok(_) => last = None,
            Err(e) => last = Some(e),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(match last {
        Some(e) => step_error(&e),
        None => world(
            format!("{} was written and shows no new version", switch.place()),
            "see what stands between: the switch could not be read back either",
        ),
    })
}

/// The store's own words name the action and the resource; here is what to do about them.
fn refused(switch: &Switch, e: &PortError) -> StepError {
    let error = step_error(e);
    if e.kind != ErrorKind::Denied {
        return error;
    }
    let advice = format!(
        "give the role this right on {} (docs/permissions.md), or say `exercise = false` for the switch {}: then nobody \
         knows before the freeze whether it can be set",
        switch.place(),
        switch.id
    );
    StepError { advice, ..error }
}

/// Puts a marker into a source table and deletes it: without these rights a drain cannot be proven.
pub(super) async fn markers(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    table: &Table,
) -> Result<Option<Evidence>, StepError> {
    if table.marker_prefix.is_empty() {
        return Ok(None);
    }
    let nonce = uuid::Uuid::new_v4().to_string();
    let id = format!("{}/marker/{}/{attempt}", step.id, table.id);
    let action = Action::WriteMarker { table: table.id.clone(), nonce: nonce.clone() };
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let source = Arc::clone(ctx.ports.source(table));
    let of = table.clone();
    // To its end, so that no stop leaves the marker in a customer's table.
    let done = ctx.tasks.finish(async move {
        let put = on_the_wire(source.put_marker(&of, &nonce)).await;
        // One whose answer was lost may be there.
        let deleted = on_the_wire(source.delete_marker(&of, &nonce)).await;
        put.and(deleted)
    });
    let done = done.await.unwrap_or_else(|e| {
        Err(PortError::new(ErrorKind::Internal, "put and delete a marker in", &table.source, e.to_string()))
    });
    let result = match &done {
        Ok(()) => OutcomeResult::Done { read_back: "written and deleted".to_owned(), version: None },
        Err(e) => OutcomeResult::Unknown { error: e.to_string() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    done.map_err(|e| step_error(&e))?;
    let found = evidence(format!("marker {}", table.id), "put and deleted", ctx.wall(), &table.source);
    Ok(Some(found))
}
