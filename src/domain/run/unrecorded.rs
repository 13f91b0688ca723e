//! What becomes of a run that cannot be recorded any more. Pure.

use super::decide::Policy;
use super::dials::Stands;
use super::event::Cause;
use super::state::{RunState, RunStatus, SwitchStatus};
use crate::domain::plan::Plan;

/// What to do when a fact of the forward work cannot be written. Nothing goes forward in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrecorded {
    /// Roll back now: customers are kept out, and the plan leaves nobody to choose.
    RollBack(Cause),
    /// Stay, with rollback possible: the run stands between two sides, and leaving it there would be worse.
    Stay,
    /// The process may end: both sides stand as before the last step.
    Leave,
}

/// Decides it: the same rule as for a step that failed.
#[must_use]
pub fn unrecorded(plan: &Plan, state: &RunState, policy: &Policy) -> Unrecorded {
    if let Some(cause) = rolls_back_by_itself(plan, state, policy, &current(state)) {
        Unrecorded::RollBack(cause)
    } else if between(plan, state) {
        Unrecorded::Stay
    } else {
        Unrecorded::Leave
    }
}

/// Whether trouble at this step rolls the run back without being asked: while customers cannot write, unless the
/// decision was made and somebody is there to choose between finishing and rolling back.
pub(super) fn rolls_back_by_itself(plan: &Plan, state: &RunState, policy: &Policy, step: &str) -> Option<Cause> {
    let step = step.to_owned();
    if !matches!(state.status, RunStatus::Running | RunStatus::Paused) || !state.frozen(plan) {
        None
    } else if state.decided.is_none() {
        Some(Cause::Cancel { step })
    } else {
        policy.unattended.then_some(Cause::Automatic { step })
    }
}

/// Whether customers are kept out, or some switches stand on one side and some on the other or nobody knows where.
#[must_use]
pub fn between(plan: &Plan, state: &RunState) -> bool {
    if matches!(state.status, RunStatus::RolledBack | RunStatus::Finished) {
        return false;
    }
    // Half-way up a ramp is where a plan stands on purpose; half-way between two positions is not.
    let split = plan.dials.iter().any(|dial| !matches!(state.stands(dial), Stands::At(_)));
    let traffic = plan.switches.iter().filter(|s| !plan.freezes(&s.id) && plan.dial_of(&s.id).is_none());
    let standing = |id: &str| state.switches.get(id).map_or(SwitchStatus::Old, |s| s.standing);
    let (mut new, mut all, mut unknown) = (0, 0, false);
    for switch in traffic {
        all += 1;
        match standing(&switch.id) {
            SwitchStatus::New => new += 1,
            SwitchStatus::Unknown => unknown = true,
            SwitchStatus::Old | SwitchStatus::Restored => {}
        }
    }
    state.locked_out(plan) || unknown || split || (new > 0 && new < all)
}

/// The step that is under way or next.
fn current(state: &RunState) -> String {
    state.current().and_then(|i| state.steps.get(i)).map_or_else(String::new, |s| s.id.clone())
}
