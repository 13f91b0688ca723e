//! What follows from an input. Pure: same plan, state, input and time give the same answer.

use super::event::{Actor, Cause, Event};
use super::input::{Input, Refusal};
use super::state::RunState;
use crate::domain::at::At;
use crate::domain::plan::Plan;

/// How this process was asked to drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Confirm everything by itself (`--yes`).
    pub auto_confirm: bool,
    /// Nobody is there to decide: failures while frozen roll back, others end the process.
    pub unattended: bool,
    /// Pause once this step is done (`--until`).
    pub until: Option<String>,
}

/// What the engine must do after the events are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Perform a step. `again` when an earlier attempt may have left traces: look before acting.
    Perform {
        /// Step id.
        step: String,
        /// Which attempt.
        attempt: u32,
        /// Look first.
        again: bool,
    },
    /// Stop whatever is being performed.
    Cancel,
    /// Let workers rest.
    Pause,
    /// Let workers go on.
    Resume,
    /// Change the number of load workers by this much.
    Workers(i32),
    /// Run the way back.
    RollBack(Actor, Cause),
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Facts to journal and fold, in order.
    pub events: Vec<Event>,
    /// What to do once they are durable.
    pub effects: Vec<Effect>,
    /// Why a command was not taken.
    pub refused: Option<Refusal>,
    /// What the run waits for until when; the clock of a rehearsal may run faster meanwhile.
    pub waiting: Option<(String, At)>,
}

/// Decides.
#[must_use]
pub fn decide(plan: &Plan, state: &RunState, policy: &Policy, input: &Input<'_>, now: At) -> Decision {
    let _ = (plan, state, policy, input, now);
    Decision::default()
}
