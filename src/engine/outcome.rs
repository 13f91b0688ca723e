//! How a process ends: the run's state as an exit code's meaning.

use crate::domain::plan::Plan;
use crate::domain::run::{ErrorClass, RunState, RunStatus, StepStatus, waits_for_second};

/// What the end of a process means. The cli maps it to its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every step done.
    Finished,
    /// Back on the old side, read back.
    RolledBack,
    /// A gate was not met.
    GateNotMet,
    /// Both sides differ.
    VerificationFailed,
    /// A switch could not be put back, or writes of the new side were left there.
    Stuck,
    /// Resumable.
    Paused,
    /// Credentials or permissions.
    Denied,
    /// The journal cannot be written.
    Journal,
    /// A step failed for another reason.
    Failed,
}

/// What the state would mean if the process ended now; `None` while the run still goes by itself.
#[must_use]
pub fn ending(plan: &Plan, state: &RunState) -> Option<Ending> {
    match state.status {
        RunStatus::Finished => Some(Ending::Finished),
        RunStatus::RolledBack => Some(Ending::RolledBack),
        RunStatus::Stuck => Some(Ending::Stuck),
        RunStatus::Paused => Some(Ending::Paused),
        RunStatus::RollingBack => None,
        RunStatus::Prepared | RunStatus::Running => {
            let step = state.current().and_then(|i| state.steps.get(i))?;
            match (step.status, step.error.as_ref().map(|e| e.class)) {
                (StepStatus::Failed, Some(ErrorClass::Gate)) => Some(Ending::GateNotMet),
                (StepStatus::Failed, Some(ErrorClass::Verification)) => Some(Ending::VerificationFailed),
                (StepStatus::Failed, Some(ErrorClass::Permission)) => Some(Ending::Denied),
                (StepStatus::Failed, _) => Some(Ending::Failed),
                // Only another terminal can bring the second person.
                (StepStatus::Held, _) if waits_for_second(plan, state) => None,
                // Nobody leaves while customers are kept out.
                (StepStatus::Held, _) if state.locked_out(plan) => None,
                (StepStatus::Held, _) => Some(Ending::Paused),
                _ => None,
            }
        }
    }
}
