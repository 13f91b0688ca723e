//! An amendment on record, and what it does to the state of a run.

use serde::{Deserialize, Serialize};

use crate::domain::at::At;
use crate::domain::run::event::Actor;
use crate::domain::run::state::{GateState, RunState, RunStatus, StepStatus};

/// From here on the run goes by another plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// Hash of the plan it went by.
    pub from: String,
    /// Hash of the plan it goes by now.
    pub to: String,
    /// Who amended it.
    pub by: Actor,
    /// On which host.
    pub host: String,
    /// T-0 from here on.
    pub t0: At,
    /// Gates whose hold begins anew.
    pub gates: Vec<String>,
    /// What differs.
    pub changes: Vec<PlanChange>,
}

/// One field of a plan that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChange {
    /// Where, named as in the config.
    pub what: String,
    /// What it was, shortened, without secrets.
    pub old: String,
    /// What it is.
    pub new: String,
}

/// What the state keeps of an amendment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// When.
    pub at: At,
    /// Position of the fact.
    pub seq: u64,
    /// Hash of the plan before.
    pub from: String,
    /// Hash of the plan after.
    pub to: String,
    /// Who amended it.
    pub by: Actor,
    /// How many fields.
    pub changes: usize,
}

impl Amended {
    /// `2 fields by alice: gates.in-sync.hold 10m -> 5m; steps.freeze.owner "alice" -> "bob"`.
    #[must_use]
    pub fn words(&self) -> String {
        let each: Vec<String> = self.changes.iter().map(|c| format!("{} {} -> {}", c.what, c.old, c.new)).collect();
        let fields = if each.len() == 1 { "field" } else { "fields" };
        format!("{} {fields} by {}: {}", each.len(), self.by.name(), each.join("; "))
    }
}

/// Whether a plan may be amended by this fact.
pub(in crate::domain::run) fn may_follow(state: &RunState, amended: &Amended) -> Result<(), String> {
    if !matches!(state.status, RunStatus::Prepared | RunStatus::Running | RunStatus::Paused) {
        return Err(format!("the run does not go forward ({:?})", state.status));
    }
    if amended.from != state.plan_hash {
        return Err(format!("the run goes by plan {}, not by {}", state.plan_hash, amended.from));
    }
    Ok(())
}

/// The run goes by the new plan. A step that was confirmed and has not started is asked for again; approvals and votes
/// lapse by themselves, because they are bound to a digest that the plan's hash is part of.
pub(in crate::domain::run) fn fold(state: &mut RunState, amended: &Amended, at: At, seq: u64) {
    let Amended { from, to, by, host: _, t0, gates, changes } = amended;
    state.plan_hash.clone_from(to);
    state.t0 = *t0;
    for step in &mut state.steps {
        if matches!(step.status, StepStatus::Held | StepStatus::Ready) {
            step.status = StepStatus::Todo;
            step.held = None;
            step.confirmed = None;
        }
    }
    for gate in gates {
        state.gates.insert(gate.clone(), GateState { broken_seq: seq, ..GateState::default() });
    }
    let changes = changes.len();
    state.amended.push(Amendment { at, seq, from: from.clone(), to: to.clone(), by: by.clone(), changes });
}
