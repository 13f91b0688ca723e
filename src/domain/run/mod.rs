//! The run: facts, the state they fold into, and the two functions that matter.
//!
//! [`decide`] says which facts follow from an input, [`apply`] folds a fact into the state. Neither knows
//! the time, a disk or a network. Live, recovery, replay, `status` and `rollback` all use the same `apply`.

mod action;
mod alert_watch;
mod alerts;
mod amend;
mod apply;
mod approval;
mod attributes;
mod baseline;
mod caller;
mod clock_step;
mod decide;
mod dials;
mod event;
mod event_name;
mod gate;
mod input;
mod jobs;
mod rollback;
mod signals;
mod state;
mod step_back;
mod trim;
mod unrecorded;
mod verified;
mod ways_back;

pub use action::{Action, MoverOrder};
pub use alert_watch::AlertWatch;
pub use alerts::{Acknowledged, Firing};
pub use amend::{AmendDecision, Amended, Amendment, Change, Difference, PlanChange, difference};
pub use apply::{IllegalTransition, apply, legal};
pub use approval::{
    Approval, Ballot, Origin, Vote, VoteCount, approval, basis, lacks_second, same_person, second_person_words, tally,
    vote_evidence, waits_for_second,
};
pub use attributes::Attributes;
pub use baseline::Baseline;
pub use caller::{Caller, Callers, another_account, changed_accounts, other_accounts};
pub use decide::{Decision, Effect, Policy, decide};
pub use dials::Stands;
pub use event::{Actor, Cause, ErrorClass, Event, Evidence, Fact, Level, OutcomeResult, StepError, StepSeen};
pub use gate::{Judgement, compare, judge as judge_gate};
pub use input::{Command, Input, Refusal};
pub use jobs::{JobBegun, UndoJob, no_way_back, undo_jobs};
pub use rollback::{RestoreAction, RollbackPlan, rollback_plan, rollback_plan_in_doubt};
pub use signals::{counted_at, signal_value, unaccounted_rows};
pub use state::{
    ClockState, ClockStep, Downtime, GateState, Need, ReverseTable, RollbackState, RunState, RunStatus, StepBackState,
    StepState, StepStatus, SwitchState, SwitchStatus, TableState,
};
pub use step_back::{judged_again, leads_back, step_back};
pub use trim::{oldest_unread, trim_clock};
pub use unrecorded::{Unrecorded, between, unrecorded};
pub use verified::VerifySummary;
pub use ways_back::{Left, Price, WayBack, ways_back};

#[cfg(test)]
mod tests;
