//! What facts are called, and which of them begin a step.

use super::event::Event;
use crate::domain::plan::{Plan, StepKind};

impl Event {
    /// The step that begins with this fact, whatever its kind. One that is done by hand begins when it is asked for.
    #[must_use]
    pub fn begins(&self, plan: &Plan) -> Option<&str> {
        let by_hand = |id: &str| plan.step(id).is_some_and(|s| matches!(s.kind, StepKind::Manual { .. }));
        match self {
            Self::StepStarted { step, .. } => Some(step),
            Self::StepHeld { step, .. } if by_hand(step) => Some(step),
            _ => None,
        }
    }

    /// The event's type as in the journal: `step_started`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunOpened { .. } => "run_opened",
            Self::RunResumed { .. } => "run_resumed",
            Self::RunPaused { .. } => "run_paused",
            Self::RunContinued { .. } => "run_continued",
            Self::StepHeld { .. } => "step_held",
            Self::Confirmed { .. } => "confirmed",
            Self::Approved { .. } => "approved",
            Self::Voted { .. } => "voted",
            Self::StepStarted { .. } => "step_started",
            Self::StepDone { .. } => "step_done",
            Self::StepFailed { .. } => "step_failed",
            Self::StepSkipped { .. } => "step_skipped",
            Self::Captured { .. } => "captured",
            Self::Intent { .. } => "intent",
            Self::Outcome { .. } => "outcome",
            Self::Decided { .. } => "decided",
            Self::CaptureStarted { .. } => "capture_started",
            Self::TableLoaded { .. } => "table_loaded",
            Self::Verified { .. } => "verified",
            Self::BaselineTaken { .. } => "baseline_taken",
            Self::GateMet { .. } => "gate_met",
            Self::GateHeld { .. } => "gate_held",
            Self::GateBroken { .. } => "gate_broken",
            Self::WritesRefused { .. } => "writes_refused",
            Self::WritesAccepted { .. } => "writes_accepted",
            Self::RollbackOrdered { .. } => "rollback_ordered",
            Self::RolledBack { .. } => "rolled_back",
            Self::RollbackStuck { .. } => "rollback_stuck",
            Self::CarriedBack { .. } => "carried_back",
            Self::ReverseConflicts { .. } => "reverse_conflicts",
            Self::StrayWrites { .. } => "stray_writes",
            Self::ClockStepped { .. } => "clock_stepped",
            Self::PlanAmended(_) => "plan_amended",
            Self::StepBackOrdered { .. } => "step_back_ordered",
            Self::SteppedBack { .. } => "stepped_back",
            Self::AlertFired { .. } => "alert_fired",
            Self::AlertTold { .. } => "alert_told",
            Self::AlertCleared { .. } => "alert_cleared",
            Self::AlertAcknowledged { .. } => "alert_acknowledged",
            Self::RunFinished => "run_finished",
            Self::Note { .. } => "note",
        }
    }
}
