//! One step back: what the last switch step moved is put where it stood before, while the run stays under way.

use super::state::{RunState, RunStatus, StepStatus};
use crate::domain::plan::{Moves, Plan, Purpose, Step, StepKind, Switching, ValueRef};

/// The switch step that can be taken back now, or why none can and only a rollback leads back from here.
///
/// Writes that are on the new side alone stay there, so a step that moved them is taken back by a rollback only; and so is
/// one after which something else was changed in the world, for that would stand while its step reads as not begun.
///
/// # Errors
/// Why not, for the person who asks.
pub fn step_back<'p>(plan: &'p Plan, state: &RunState) -> Result<&'p Step, String> {
    if !matches!(state.status, RunStatus::Prepared | RunStatus::Running) {
        return Err("the run is not going forward".to_owned());
    }
    let began = |step: &Step| {
        state.step(&step.id).is_some_and(|s| match s.status {
            StepStatus::Running | StepStatus::Done | StepStatus::Failed | StepStatus::Unknown => true,
            // It waits for somebody again: what an earlier attempt has set stands, unless that was taken back.
            StepStatus::Held | StepStatus::Ready => s.attempts > 0 && s.taken_back.is_none(),
            StepStatus::Todo | StepStatus::Skipped => false,
        })
    };
    let last = plan.steps.iter().rposition(|s| matches!(s.kind, StepKind::Switch { .. }) && began(s));
    let Some(at) = last else { return Err("no step has switched anything yet".to_owned()) };
    let step = &plan.steps[at];
    if state.step(&step.id).is_some_and(|s| s.back.is_some()) {
        return Err(format!("{} is being taken back already", step.id));
    }
    let changes = plan.changes(&step.id);
    if changes.iter().any(|change| change.moves.is_none()) {
        return Err(format!("{} sets switches that have no positions: only a rollback takes it back", step.id));
    }
    if changes.iter().any(Switching::moves_writes) {
        return Err(format!("{} moved writes to the new side: only a rollback brings them back", step.id));
    }
    if let Some(place) = changes.iter().find_map(|change| not_known(state, change)) {
        return Err(format!(
            "{} moved `{place}` from a value that is found by reference, and which one stood there is not on record: only a \
             rollback, which knows the first value, leads back",
            step.id
        ));
    }
    if let Some(later) = plan.steps[at + 1..].iter().find(|s| began(s) && has_effect(&s.kind)) {
        return Err(format!("{} has begun since: from here only a rollback leads back", later.id));
    }
    Ok(step)
}

/// A place of which nothing says what stood in the position before: a reference may give another value by now, and in the
/// first position stands what was captured.
fn not_known<'p>(state: &RunState, change: &Switching<'p>) -> Option<&'p str> {
    let Moves { dial, from, .. } = change.moves.filter(|moves| moves.from > 0)?;
    let name = &dial.positions.get(from)?.name;
    let known = |switch: &str| state.switches.get(switch).is_some_and(|s| s.versions.contains_key(name));
    let unknown = |switch: &str| match dial.value(switch, from) {
        Some(ValueRef::Literal(_)) => false,
        Some(ValueRef::Env(_) | ValueRef::File(_) | ValueRef::Parameter(_)) | None => !known(switch),
    };
    change.places.iter().map(|(switch, _)| switch.id.as_str()).find(|switch| unknown(switch))
}

/// The switch step that a gate at this place of the runbook could take back by itself, or why only a rollback leads back from
/// there.
///
/// # Errors
/// Why not, for the person who wrote the plan.
pub fn leads_back(plan: &Plan, before: usize) -> Result<&Step, String> {
    let last = plan.steps[..before].iter().rposition(|s| matches!(s.kind, StepKind::Switch { .. }));
    let Some(at) = last else { return Err("no step before it switches anything".to_owned()) };
    let step = &plan.steps[at];
    let changes = plan.changes(&step.id);
    if changes.iter().any(|change| change.moves.is_none()) {
        return Err(format!("`{}` sets switches that have no positions", step.id));
    }
    if changes.iter().any(Switching::moves_writes) {
        return Err(format!("`{}` moves writes to the new side", step.id));
    }
    match plan.steps[at + 1..before].iter().find(|s| has_effect(&s.kind)) {
        Some(later) => Err(format!("`{}` after `{}` changes something that would stand", later.id, step.id)),
        None => Ok(step),
    }
}

/// Steps that are judged anew once a switch step was taken back: what let it go forward was judged before it.
#[must_use]
pub fn judged_again(plan: &Plan, step: &str) -> Vec<String> {
    let Some(at) = plan.steps.iter().position(|s| s.id == step) else { return Vec::new() };
    let switch = |s: &Step| matches!(s.kind, StepKind::Switch { .. });
    let since = plan.steps[..at].iter().rposition(switch).map_or(0, |before| before + 1);
    let judges = |s: &&Step| matches!(s.kind, StepKind::Gate { .. } | StepKind::GoNoGo { .. } | StepKind::Smoke { .. });
    // Without a switch before it, they let the whole day begin and say nothing of a position.
    let any_before = plan.steps[..at].iter().any(switch);
    plan.steps[since..at].iter().filter(|_| any_before).filter(judges).map(|s| s.id.clone()).collect()
}

/// Whether a step of this kind changes something that a step back would leave standing.
const fn has_effect(kind: &StepKind) -> bool {
    match kind {
        StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::Arm
        | StepKind::Freeze
        | StepKind::Drain
        | StepKind::Switch { .. }
        | StepKind::Thaw
        | StepKind::Jobs { purpose: Purpose::Restart | Purpose::Command | Purpose::Cleanup, .. } => true,
        StepKind::Preflight
        | StepKind::Jobs { purpose: Purpose::Backup, .. }
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Smoke { .. }
        | StepKind::Gate { .. }
        | StepKind::GoNoGo { .. }
        | StepKind::Manual { .. } => false,
    }
}
