//! Writes frozen in two places: who is kept out, who was let in, and what follows from it.

use super::*;

/// The plan, whose customers write in two regions.
pub(super) fn plan_of_two_regions() -> Plan {
    let mut plan = plan();
    let here = plan.switch("mode").unwrap().clone();
    plan.switches.push(Switch { id: "mode-eu".into(), control: "control.eu".into(), ..here });
    plan.freeze.as_mut().unwrap().switches.push("mode-eu".into());
    plan
}

/// A run whose freeze and thaw have come so far, and whose two places stand so.
fn run(freeze: StepStatus, thaw: StepStatus, places: [SwitchStatus; 2]) -> (Plan, RunState) {
    let run = Run::open_with(plan_of_two_regions(), Policy::default());
    let mut state = run.state;
    state.status = RunStatus::Running;
    for (id, status) in [("freeze", freeze), ("thaw", thaw)] {
        let step = state.steps.iter_mut().find(|s| s.id == id).unwrap();
        step.status = status;
        step.attempts = u32::from(status != StepStatus::Todo);
    }
    for (id, standing) in ["mode", "mode-eu"].into_iter().zip(places) {
        state.switches.insert(id.into(), SwitchState { standing, ..SwitchState::default() });
    }
    (run.plan, state)
}

#[test]
fn who_is_kept_out_and_whether_anybody_was_let_in() {
    use StepStatus::{Done, Failed, Running, Todo};
    use SwitchStatus::{New, Old, Restored, Unknown};
    // Freeze, thaw, places; nobody can have been let in, somebody may be kept out.
    let table = [
        (Todo, Todo, [Old, Old], (false, false)),
        (Running, Todo, [Old, Old], (true, true)),
        (Running, Todo, [New, Old], (true, true)),
        (Failed, Todo, [New, Unknown], (true, true)),
        (Done, Todo, [New, New], (true, true)),
        (Done, Running, [New, New], (true, true)),
        (Done, Running, [Restored, New], (false, true)),
        (Done, Failed, [New, Restored], (false, true)),
        (Done, Running, [Restored, Unknown], (false, true)),
        (Done, Running, [Unknown, Unknown], (false, true)),
        (Done, Running, [Restored, Restored], (false, false)),
        (Done, Done, [Restored, Restored], (false, false)),
    ];
    for (freeze, thaw, places, (frozen, locked_out)) in table {
        let (plan, state) = run(freeze, thaw, places);
        let found = (state.frozen(&plan), state.locked_out(&plan));
        assert_eq!(found, (frozen, locked_out), "{freeze:?} {thaw:?} {places:?}");
        assert_eq!(between(&plan, &state), locked_out, "{freeze:?} {thaw:?} {places:?}");
        let (plan, state) = run(freeze, thaw, places);
        let over = RunState { status: RunStatus::RolledBack, ..state };
        assert!(!over.frozen(&plan) && !over.locked_out(&plan));
    }
}

#[test]
fn nothing_is_frozen_everywhere_while_one_place_was_not_touched() {
    use SwitchStatus::{New, Old, Unknown};
    for (places, everywhere, stand) in [([New, Old], false, 1), ([New, Unknown], true, 2), ([New, New], true, 2)] {
        let (plan, state) = run(StepStatus::Running, StepStatus::Todo, places);
        assert_eq!(state.frozen_everywhere(&plan), everywhere, "{places:?}");
        assert_eq!(state.frozen_places(&plan), (stand, 2));
    }
}

#[test]
fn half_a_thaw_goes_back_only_by_order_and_then_opens_both() {
    let (plan, mut state) = run(StepStatus::Done, StepStatus::Failed, [SwitchStatus::Unknown, SwitchStatus::New]);
    state.decided = Some(At(1));
    let policy = Policy { unattended: true, ..Policy::default() };
    // Customers of one region may have written on the new side.
    assert_eq!(unrecorded(&plan, &state, &policy), Unrecorded::Stay);
    let pause = decide(&plan, &state, &policy, &Input::Command(Command::Pause, Actor::Auto), At(2));
    assert!(pause.refused.is_some(), "{pause:?}");
    let back = rollback_plan(&plan, &state);
    let last: Vec<&str> = back.waves.last().unwrap().iter().map(|a| a.switch.as_str()).collect();
    assert_eq!(last, ["mode", "mode-eu"]);
    assert!(back.waves.last().unwrap().iter().all(|action| action.thaw));
}
