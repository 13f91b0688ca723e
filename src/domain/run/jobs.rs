//! What is known of jobs, and which of them a rollback begins once more.

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::event::OutcomeResult;
use super::state::RunState;
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
    /// The step that began it; absent in a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The beginning before this one: what it has done stands, though a later one was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<JobBegun>>,
}

impl JobBegun {
    /// Whether a rollback has undone it, and it ended well.
    #[must_use]
    pub const fn is_undone(&self) -> bool {
        self.undo && self.handle.is_some()
    }
}

/// A job that a rollback begins once more, whose `undo` it runs, or which it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoJob {
    /// The job.
    pub job: String,
    /// How it was begun last: what still runs of that is ended first. Absent where the record is damaged and does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<JobBegun>,
}

/// Jobs that a rollback has to do something about, the latest step first: restarts, so that applications start with the
/// values that are back, and commands that have an `undo` or still run. While `traffic` has still to be put back, a restart
/// that an earlier rollback made has started applications with what did not stand as it should. A record that is `in_doubt`
/// may have lost the beginning of any of them.
#[must_use]
pub fn undo_jobs(plan: &Plan, state: &RunState, traffic: bool, in_doubt: bool) -> Vec<UndoJob> {
    let steps = plan.steps.iter().rev();
    let mut found: Vec<UndoJob> = Vec::new();
    for job in steps.flat_map(|step| step.kind.jobs()).filter_map(|id| plan.job(id)) {
        let begun = state.jobs.get(&job.id);
        let undone = match (job.purpose(), &job.kind, begun) {
            (Purpose::Restart, _, Some(begun)) => traffic || !begun.is_undone(),
            (Purpose::Restart, _, None) => in_doubt,
            (Purpose::Command, JobKind::Command { undo, .. }, Some(begun)) => {
                // Without an `undo` it is only ended.
                if undo.is_empty() { runs(state, &job.id) } else { !begun.is_undone() }
            }
            (Purpose::Command, JobKind::Command { undo, .. }, None) => in_doubt && !undo.is_empty(),
            (Purpose::Command | Purpose::Backup | Purpose::Cleanup, ..) => false,
        };
        if undone && found.iter().all(|other| other.job != job.id) {
            found.push(UndoJob { job: job.id.clone(), begun: begun.cloned() });
        }
    }
    found
}

/// Whether no end of what the run began is on record.
fn runs(state: &RunState, job: &str) -> bool {
    let begins = |action: &Action| matches!(action, Action::BeginJob { job: begun, undo: false, .. } if begun == job);
    state.open_intents.values().any(begins)
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
pub(super) fn intended(state: &mut RunState, step: Option<&String>, action: &Action) {
    let Action::BeginJob { job, token, since, undo } = action else { return };
    let before = state.jobs.remove(job).map(Box::new);
    let begun =
        JobBegun { token: token.clone(), since: *since, handle: None, undo: *undo, step: step.cloned(), before };
    state.jobs.insert(job.clone(), begun);
}

/// A step that is to be done again begins its jobs anew: what they kept was kept of what stood then.
pub(super) fn forgotten(state: &mut RunState, step: &str) {
    state.jobs.retain(|_, begun| begun.step.as_deref() != Some(step));
}

/// Takes up the outcome of a beginning.
pub(super) fn turned_out(state: &mut RunState, action: &Action, result: &OutcomeResult) {
    let Action::BeginJob { job, token, .. } = action else { return };
    let Some(known) = state.jobs.get_mut(job).filter(|known| known.token == *token) else { return };
    match result {
        OutcomeResult::Done { read_back, .. } => known.handle = Some(read_back.clone()),
        // It began nothing, and the service said so.
        OutcomeResult::Failed { .. } => {
            let before = known.before.take();
            match before {
                Some(before) => *known = *before,
                None => drop(state.jobs.remove(job)),
            }
        }
        OutcomeResult::Unknown { .. } => {}
    }
}
