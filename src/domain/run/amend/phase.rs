//! How far a run is, as far as it decides what may still change.

use crate::domain::plan::{Plan, Step, StepKind};
use crate::domain::run::state::{RunState, RunStatus, StepStatus};

/// A run's plan and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Phase<'a> {
    plan: &'a Plan,
    state: &'a RunState,
}

impl<'a> Phase<'a> {
    pub const fn of(plan: &'a Plan, state: &'a RunState) -> Self {
        Self { plan, state }
    }

    /// Why nothing of a run may change any more, when that is so.
    pub fn over(&self) -> Option<String> {
        let why = match self.state.status {
            RunStatus::Prepared | RunStatus::Running | RunStatus::Paused => return None,
            RunStatus::RollingBack => "the run is rolling back, by the plan that stands: let it end",
            RunStatus::Stuck => "a rollback is stuck: do what it says by hand, then `cutover rollback` again",
            RunStatus::RolledBack => "the run is rolled back: open another run",
            RunStatus::Finished => "the run is finished: open another run",
        };
        Some(why.to_owned())
    }

    /// Whether a step is done or left out.
    pub fn step_done(&self, id: &str) -> bool {
        self.state.step(id).is_some_and(|s| matches!(s.status, StepStatus::Done | StepStatus::Skipped))
    }

    /// Whether a step was ever started.
    pub fn step_begun(&self, id: &str) -> bool {
        self.state.step(id).is_some_and(|s| s.attempts > 0) || self.step_done(id)
    }

    pub fn job_begun(&self, job: &str) -> bool {
        self.state.jobs.contains_key(job)
    }

    fn begun(&self, kind: fn(&StepKind) -> bool) -> bool {
        self.plan.steps.iter().any(|s| kind(&s.kind) && self.step_begun(&s.id))
    }

    /// Whether there are steps of a kind and all of them are done.
    fn all_done(&self, kind: fn(&StepKind) -> bool) -> bool {
        let mut of_kind = self.plan.steps.iter().filter(|s| kind(&s.kind)).peekable();
        of_kind.peek().is_some() && of_kind.all(|s| self.step_done(&s.id))
    }

    /// Whether the target's tables have been made.
    pub fn set_up_done(&self) -> bool {
        self.all_done(|k| matches!(k, StepKind::SetUp))
    }

    /// Whether rows may have arrived under this plan's mapping.
    pub fn load_begun(&self) -> bool {
        self.begun(|k| matches!(k, StepKind::Load)) || self.state.tables.values().any(|t| t.loaded.is_some())
    }

    pub fn verify_done(&self) -> bool {
        self.all_done(|k| matches!(k, StepKind::Verify))
    }

    pub fn arm_begun(&self) -> bool {
        self.begun(|k| matches!(k, StepKind::Arm))
    }

    pub fn freeze_begun(&self) -> bool {
        self.begun(|k| matches!(k, StepKind::Freeze))
    }

    pub fn freeze_done(&self) -> bool {
        self.all_done(|k| matches!(k, StepKind::Freeze))
    }

    /// Whether customers may be kept out somewhere right now.
    pub fn locked_out(&self) -> bool {
        self.state.locked_out(self.plan)
    }

    pub const fn decided(&self) -> bool {
        self.state.decided.is_some()
    }

    /// Whether customers can have written on the new side.
    pub fn open_to_customers(&self) -> bool {
        self.state.open_to_customers(self.plan)
    }

    pub const fn downtime_measured(&self) -> bool {
        self.state.downtime.accepted.is_some()
    }

    /// Whether a switch's value was captured: from then on its place and what it must hold are settled.
    pub fn captured(&self, switch: &str) -> bool {
        self.state.switches.get(switch).is_some_and(|s| s.captured)
    }

    /// Whether this probe proves the freeze.
    pub fn proves_the_freeze(&self, probe: &str) -> bool {
        self.plan.freeze.as_ref().is_some_and(|f| f.is_proven_by(probe))
    }

    /// Steps that a gate decides, and whether all of them are over; `false` when there is none.
    pub fn gate_over(&self, gate: &str) -> bool {
        let uses = |s: &&Step| match &s.kind {
            StepKind::Gate { gate: named } => named == gate,
            StepKind::GoNoGo { gates, .. } => gates.iter().any(|named| named == gate),
            StepKind::Preflight
            | StepKind::SetUp
            | StepKind::Capture
            | StepKind::Load
            | StepKind::CatchUp { .. }
            | StepKind::Baseline { .. }
            | StepKind::Verify
            | StepKind::Arm
            | StepKind::Freeze
            | StepKind::Drain
            | StepKind::Switch { .. }
            | StepKind::Smoke { .. }
            | StepKind::Thaw
            | StepKind::Jobs { .. }
            | StepKind::Manual { .. } => false,
        };
        let mut steps = self.plan.steps.iter().filter(uses).peekable();
        steps.peek().is_some() && steps.all(|s| self.step_done(&s.id))
    }
}
