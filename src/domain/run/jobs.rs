//! What is known of jobs, and which of them a rollback begins once more.

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::event::OutcomeResult;
use super::state::{RunState, RunStatus};
use crate::domain::at::At;
use crate::domain::plan::{JobKind, Plan, Purpose};

/// The last beginning of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBegun {
    /// Which beginning it was.
    pub token: String,
    /// When it was first tried, wall clock.
    pub since: At,
    /// What the service calls what was begun; absent while nobody knows whether anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// A rollback began it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

/// A job that a rollback begins once more, or whose `undo` it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoJob {
    /// The job.
    pub job: String,
    /// How it was begun last: what still runs of that is ended first.
    pub begun: JobBegun,
}

/// Jobs that a rollback has to do something about, the latest step first: restarts, so that applications start with the
/// values that are back, and commands that have an `undo`.
#[must_use]
pub fn undo_jobs(plan: &Plan, state: &RunState) -> Vec<UndoJob> {
    let steps = plan.steps.iter().rev();
    let mut found: Vec<UndoJob> = Vec::new();
    for job in steps.flat_map(|step| step.kind.jobs()).filter_map(|id| plan.job(id)) {
        let Some(begun) = state.jobs.get(&job.id) else { continue };
        // A rollback that has come to its end has done it.
        if begun.undo && state.status == RunStatus::RolledBack {
            continue;
        }
        let undone = match (job.purpose(), &job.kind) {
            (Purpose::Restart, _) => true,
            (Purpose::Command, JobKind::Command { undo, .. }) => !undo.is_empty(),
            (Purpose::Command | Purpose::Backup | Purpose::Cleanup, _) => false,
        };
        if undone && found.iter().all(|other| other.job != job.id) {
            found.push(UndoJob { job: job.id.clone(), begun: begun.clone() });
        }
    }
    found
}

/// Why nothing leads back any more: a step that deletes the old side has begun.
#[must_use]
pub fn no_way_back(plan: &Plan, state: &RunState) -> Option<String> {
    let deletes = |step: &&crate::domain::plan::Step| {
        let jobs = step.kind.jobs().iter().filter_map(|id| plan.job(id));
        jobs.filter(|job| job.purpose() == Purpose::Cleanup).any(|job| state.jobs.contains_key(&job.id))
    };
    let step = plan.steps.iter().find(deletes)?;
    Some(format!("{} has begun to delete the old side: nothing leads back any more", step.id))
}

/// Takes up what an intent or its outcome says of a job.
pub(super) fn intended(state: &mut RunState, action: &Action) {
    let Action::BeginJob { job, token, since, undo } = action else { return };
    let begun = JobBegun { token: token.clone(), since: *since, handle: None, undo: *undo };
    state.jobs.insert(job.clone(), begun);
}

/// Takes up the outcome of a beginning.
pub(super) fn turned_out(state: &mut RunState, action: &Action, result: &OutcomeResult) {
    let Action::BeginJob { job, token, .. } = action else { return };
    let Some(known) = state.jobs.get_mut(job).filter(|known| known.token == *token) else { return };
    match result {
        OutcomeResult::Done { read_back, .. } => known.handle = Some(read_back.clone()),
        // It began nothing, and the service said so.
        OutcomeResult::Failed { .. } => {
            state.jobs.remove(job);
        }
        OutcomeResult::Unknown { .. } => {}
    }
}
