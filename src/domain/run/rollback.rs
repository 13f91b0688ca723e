//! The rollback, worked out from the state alone.

use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use super::jobs::{UndoJob, undo_jobs};
use super::state::{RunState, SwitchState, SwitchStatus};
use crate::domain::plan::{Plan, Purpose};

/// One action of the rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAction {
    /// The switch to restore.
    pub switch: String,
    /// The captured version, where there is one.
    pub version: Option<i64>,
    /// The captured value, unless it is secret.
    pub value: Option<String>,
    /// What the place kept beside it; empty in journals of older versions.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// The version that the record last saw the place in, where it has versions: an answer that is not newer says nothing
    /// of what stands there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<i64>,
    /// Whether this restores a switch of the freeze, which thaws the old side.
    pub thaw: bool,
    /// Whether anything was captured; without it the action can only be done by hand.
    pub captured: bool,
}

/// The whole rollback: waves of actions; actions within a wave are independent and run in parallel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPlan {
    /// Switches of the freeze that are set again before anything else, by id: while applications are restarted some of them
    /// would write to one side and some to the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Latest changes first; the thaw of the old side comes last, once traffic points there again.
    pub waves: Vec<Vec<RestoreAction>>,
    /// Jobs that are begun once more, or undone, when traffic points to the old side again and before the thaw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<UndoJob>,
}

impl RollbackPlan {
    /// Every action in order.
    pub fn actions(&self) -> impl Iterator<Item = &RestoreAction> {
        self.waves.iter().flatten()
    }

    /// Whether there is nothing to restore.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waves.iter().all(Vec::is_empty) && self.jobs.is_empty()
    }
}

/// Works out what rollback would do now. Pure, cheap, valid in every state.
///
/// A switch is restored when it stands on the new value or when nobody knows (an intent without outcome). All traffic
/// switches are restored in one wave; the freeze is lifted after they are read back, because customers must not write
/// while some readers still read the other side.
#[must_use]
pub fn rollback_plan(plan: &Plan, state: &RunState) -> RollbackPlan {
    back(plan, state, false)
}

/// The rollback when the record is damaged: every switch of the plan may have been moved by facts that can no longer be
/// read, so each is restored, or named if no readable fact says what stood there.
#[must_use]
pub fn rollback_plan_in_doubt(plan: &Plan, state: &RunState) -> RollbackPlan {
    back(plan, state, true)
}

fn back(plan: &Plan, state: &RunState, in_doubt: bool) -> RollbackPlan {
    let unknown = SwitchState::default();
    let moved = |s: &SwitchState| matches!(s.standing, SwitchStatus::New | SwitchStatus::Unknown);
    let away = |id: &String| !plan.freezes(id) && state.switches.get(id).is_some_and(moved);
    let jobs = undo_jobs(plan, state, in_doubt || state.switches.keys().any(away), in_doubt);
    let freeze = freeze_again(plan, state, &jobs);
    let mut traffic: Vec<(u64, RestoreAction)> = Vec::new();
    let mut thaw = Vec::new();
    for switch in &plan.switches {
        let found = state.switches.get(&switch.id).or(in_doubt.then_some(&unknown));
        let Some(s) = found else { continue };
        if !in_doubt && !moved(s) && !freeze.contains(&switch.id) {
            continue;
        }
        let is_freeze = plan.freezes(&switch.id);
        let action = RestoreAction {
            switch: switch.id.clone(),
            version: s.captured_version,
            value: s.captured_value.clone(),
            attributes: s.captured_attributes.clone(),
            seen: s.version,
            thaw: is_freeze,
            captured: s.captured,
        };
        if is_freeze { thaw.push(action) } else { traffic.push((s.changed_seq, action)) }
    }
    traffic.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    let waves = [traffic.into_iter().map(|(_, a)| a).collect::<Vec<_>>(), thaw];
    RollbackPlan { freeze, waves: waves.into_iter().filter(|w| !w.is_empty()).collect(), jobs }
}

/// The switches that refuse writes while applications are restarted: those of the freeze that do not stand, once customers can
/// have written on the new side. Before that the freeze stands, or no application uses the new side.
fn freeze_again(plan: &Plan, state: &RunState, jobs: &[UndoJob]) -> Vec<String> {
    let restarts = jobs.iter().filter_map(|undo| plan.job(&undo.job)).any(|job| job.purpose() == Purpose::Restart);
    if !restarts || !state.open_to_customers(plan) {
        return Vec::new();
    }
    let open = |id: &&String| {
        let switch = state.switches.get(*id);
        switch.is_some_and(|s| s.captured && !matches!(s.standing, SwitchStatus::New | SwitchStatus::Unknown))
    };
    plan.freeze.iter().flat_map(|freeze| &freeze.switches).filter(open).cloned().collect()
}
