//! Which way leads back from where, and at what price: worked out from the plan alone, before the day.

use std::collections::BTreeSet;

use super::step_back::leads_back;
use crate::domain::plan::{Plan, Purpose, Serves, Side, Step, StepKind, Switching};

/// What leads back once a step is done.
#[derive(Clone, Debug, PartialEq)]
pub struct WayBack<'p> {
    /// The step.
    pub step: &'p Step,
    /// The positions that one step back (`b`) leads to, each as `reads 10 %`; or why only a rollback leads back.
    pub one_step: Result<String, String>,
    /// What a rollback does; absent where nothing leads back any more.
    pub rollback: Option<Price>,
}

/// What a rollback does and costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Places that are put back, each read back.
    pub places: usize,
    /// Groups of servers that are restarted once more.
    pub restarts: usize,
    /// Whether customers cannot write while they are.
    pub refuses_writes: bool,
    /// What becomes of writes that customers made on the new side alone.
    pub writes: Left,
}

/// What becomes of writes that customers made on the new side alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There are none: customers cannot write there.
    None,
    /// They are applied to the old side.
    CarriedBack,
    /// They stay there.
    Stay,
}

/// What leads back after each step that changes something a rollback knows of, in the order of the day.
#[must_use]
pub fn ways_back(plan: &Plan) -> Vec<WayBack<'_>> {
    let changes = |step: &&Step| match &step.kind {
        StepKind::Freeze | StepKind::Switch { .. } | StepKind::Thaw => true,
        StepKind::Jobs { purpose, .. } => matches!(purpose, Purpose::Restart | Purpose::Cleanup),
        StepKind::Preflight
        | StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Arm
        | StepKind::Drain
        | StepKind::Smoke { .. }
        | StepKind::Gate { .. }
        | StepKind::GoNoGo { .. }
        | StepKind::Manual { .. } => false,
    };
    let after = |(n, step)| WayBack { step, one_step: one_step(plan, n + 1), rollback: rollback(plan, n + 1) };
    plan.steps.iter().enumerate().filter(|(_, step)| changes(step)).map(after).collect()
}

fn one_step(plan: &Plan, before: usize) -> Result<String, String> {
    let step = leads_back(plan, before)?;
    let positions = plan.changes(&step.id).into_iter().filter_map(|change| change.moves).filter_map(|moves| {
        let name = &moves.dial.positions.get(moves.from)?.name;
        Some(format!("{} {name}", moves.dial.id))
    });
    Ok(positions.collect::<Vec<_>>().join(", "))
}

fn rollback(plan: &Plan, before: usize) -> Option<Price> {
    let mut places: BTreeSet<&str> = BTreeSet::new();
    let mut restarts: BTreeSet<&str> = BTreeSet::new();
    // Without a freeze customers may write all the time.
    let (mut frozen, mut writes_new) = (false, false);
    let mut alone = false;
    for step in &plan.steps[..before] {
        match &step.kind {
            StepKind::Freeze => {
                frozen = true;
                places.extend(plan.freeze_switches().map(|switch| switch.id.as_str()));
            }
            StepKind::Thaw => {
                frozen = false;
                places.retain(|id| !plan.freezes(id));
            }
            StepKind::Switch { .. } => {
                let changes = plan.changes(&step.id);
                places.extend(changes.iter().flat_map(|change| &change.places).map(|(switch, _)| switch.id.as_str()));
                writes_new = changes.iter().fold(writes_new, takes_writes);
            }
            StepKind::Jobs { purpose: Purpose::Restart, jobs } => restarts.extend(jobs.iter().map(String::as_str)),
            StepKind::Jobs { purpose: Purpose::Cleanup, .. } => return None,
            StepKind::Jobs { purpose: Purpose::Backup | Purpose::Command, .. }
            | StepKind::Preflight
            | StepKind::SetUp
            | StepKind::Capture
            | StepKind::Load
            | StepKind::CatchUp { .. }
            | StepKind::Baseline { .. }
            | StepKind::Verify
            | StepKind::Arm
            | StepKind::Drain
            | StepKind::Smoke { .. }
            | StepKind::Gate { .. }
            | StepKind::GoNoGo { .. }
            | StepKind::Manual { .. } => {}
        }
        alone |= writes_new && !frozen;
    }
    let writes = match (alone, plan.reverse.enabled && !plan.tables.is_empty()) {
        (false, _) => Left::None,
        (true, true) => Left::CarriedBack,
        (true, false) => Left::Stay,
    };
    let refuses_writes = !restarts.is_empty() && alone && plan.freeze.is_some();
    Some(Price { places: places.len(), restarts: restarts.len(), refuses_writes, writes })
}

/// Whether customers' writes go to the new side alone after a change.
fn takes_writes(before: bool, change: &Switching<'_>) -> bool {
    match change.to {
        Serves { writes: Some(Side::New), .. } => true,
        Serves { writes: Some(Side::Old | Side::Both), .. } => false,
        Serves { writes: None, .. } => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::tests::dials::plan_of_a_ramp;

    #[test]
    fn each_step_says_where_one_step_back_leads_and_what_a_rollback_costs() {
        let mut plan = plan_of_a_ramp();
        plan.reverse.enabled = false;
        type Line = (String, bool, Option<(usize, Left)>);
        let words = |plan: &Plan| -> Vec<Line> {
            let line = |way: WayBack<'_>| {
                (way.step.id.clone(), way.one_step.is_ok(), way.rollback.map(|price| (price.places, price.writes)))
            };
            ways_back(plan).into_iter().map(line).collect()
        };
        let found = words(&plan);
        let of = |id: &str| found.iter().find(|(step, ..)| step == id).unwrap().clone();
        assert_eq!(of("all"), ("all".into(), true, Some((2, Left::None))), "{found:?}");
        assert!(!of("switch").1, "{found:?}");
        assert_eq!(of("switch").2.unwrap().1, Left::None, "customers cannot write yet: {found:?}");
        assert_eq!(of("thaw").2.unwrap().1, Left::Stay, "{found:?}");
        let first = ways_back(&plan).into_iter().find(|way| way.step.id == "all").unwrap();
        assert_eq!(first.one_step.unwrap(), "share 10 %");
        plan.reverse.enabled = true;
        assert_eq!(words(&plan).pop().unwrap().2.unwrap().1, Left::CarriedBack);
    }
}
