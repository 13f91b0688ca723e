//! What a step of the wall clock changes.

use super::event::StepSeen;
use super::state::{ClockStep, RunState};
use crate::domain::at::At;

/// What is being measured goes on as if the wall clock had not moved.
pub(super) fn fold(state: &mut RunState, by_ms: i64, seen: StepSeen, at: At) {
    match seen {
        // The run's clock did not follow. Only what is planned on the wall clock is not known any more.
        StepSeen::Live => {
            let before = state.clock.stepped.map_or(0, |s| s.by_ms);
            state.clock.stepped = Some(ClockStep { at, by_ms: before + by_ms });
        }
        // The run's clock starts anew behind the step: moments before it are moved to where they would stand now.
        StepSeen::AtStart => {
            if state.downtime.accepted.is_none() {
                state.downtime.refused = state.downtime.refused.map(|at| at.plus(by_ms));
            }
            for gate in state.gates.values_mut() {
                gate.left = gate.left.map(|at| at.plus(by_ms));
            }
        }
        StepSeen::AfterReboot => {
            state.clock.gap |= state.downtime.refused.is_some() && state.downtime.accepted.is_none()
        }
    }
}
