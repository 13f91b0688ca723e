//! A day whose reads go over to the new side share by share, before its writes do.

use cutover::domain::plan::Plan;
use cutover::domain::run::{Event, RunStatus, Stands, StepStatus};
use cutover::rehearsal::Scenario;
use cutover::rehearsal::oracle::Side;

use super::stage::{Options, Stage, independent};

fn options() -> Options {
    Options { scenario: Scenario::AuroraGradual, ..Options::default() }
}

/// Where the reads stand, by what the journal says was read back.
fn share(stage: &Stage) -> Option<String> {
    let folder = stage.folder()?;
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(folder.plan()).unwrap()).unwrap();
    let dial = plan.dial("reads").unwrap();
    match stage.state().stands(dial) {
        Stands::At(at) => Some(dial.positions[at].name.clone()),
        Stands::Between(..) | Stands::Unknown => None,
    }
}

fn finishes(stage: &Stage) {
    let mut run = stage.run(None);
    run.expect_code(0);
    stage.expect_nothing_lost(Side::New);
    let state = stage.state();
    assert_eq!(state.status, RunStatus::Finished);
    assert!(state.open_intents.is_empty(), "intents without outcome: {:?}", state.open_intents);
    assert_eq!(share(stage).as_deref(), Some("100 %"));
    let decided = stage.facts().into_iter().position(|f| matches!(f.event, Event::Decided { .. })).unwrap();
    let ramp = |e: &Event| matches!(e, Event::StepDone { step, .. } if step == "reads-100");
    let last = stage.facts().into_iter().position(|f| ramp(&f.event)).unwrap();
    assert!(last < decided, "reads decide nothing; writes do");
}

#[test]
fn reads_go_over_share_by_share_and_nothing_is_lost() {
    finishes(&Stage::new(&options()));
}

#[test]
fn reads_go_over_share_by_share_on_independent_emulators() {
    let (endpoint, _alone) = independent();
    finishes(&Stage::new(&Options { endpoint: Some(endpoint), ..options() }));
}

#[test]
fn killed_between_a_share_and_its_reading_the_next_process_goes_on() {
    for place in ["intent:reads-25/reads/1", "step_done:reads-50"] {
        let stage = Stage::new(&options());
        stage.run(Some(place)).expect_killed();
        finishes(&stage);
        assert_eq!(stage.state().resumes, 1, "{place}");
    }
}

#[test]
fn a_share_is_taken_back_from_another_terminal_and_a_rollback_takes_the_rest() {
    // The gates are held for a while, so that something can be done meanwhile.
    let stage = Stage::new(&Options { pause: 60, ..options() });
    let mut run = stage.run(None);
    run.until("the gate at 25 %", || stage.step_is("healthy-25", StepStatus::Running));
    let id = stage.state().run;
    // Only what switched last is taken back by itself.
    let mut other = stage.start(&["step-back", &id, "reads-10"], None);
    other.expect_code(8);
    assert!(other.err().contains("that is reads-25"), "{}", other.words());
    let mut back = stage.start(&["step-back", &id, "reads-25", "--as", "bob"], None);
    back.expect_code(0);
    run.until("the share before", || stage.count(|e| matches!(e, Event::SteppedBack { .. })) == 1);
    assert_eq!(share(&stage).as_deref(), Some("10 %"));
    let taken = |e: &Event| matches!(e, Event::StepBackOrdered { by, .. } if by.name() == "bob");
    assert_eq!(stage.count(taken), 1);
    // The gate of the share before is judged again; nobody is there to let the step go on, so the process ends held.
    assert!(stage.step_is("healthy-10", StepStatus::Running), "{:?}", stage.state().step("healthy-10"));
    let mut order = stage.start(&["rollback", "--yes"], None);
    order.expect_code(3);
    run.wait();
    assert_eq!(stage.state().status, RunStatus::RolledBack);
    assert_eq!(share(&stage).as_deref(), Some("0 %"));
    stage.expect_nothing_lost(Side::Old);
    stage.expect_old_values();
}

#[test]
fn killed_while_a_share_is_taken_back_the_next_process_takes_it_back() {
    let stage = Stage::new(&Options { pause: 60, ..options() });
    let mut run = stage.run(Some("intent:reads-25/reads/2"));
    run.until("the gate at 25 %", || stage.step_is("healthy-25", StepStatus::Running));
    stage.start(&["step-back", &stage.state().run, "reads-25"], None).wait();
    run.expect_killed();
    assert_eq!(stage.count(|e| matches!(e, Event::SteppedBack { .. })), 0);
    let mut next = stage.run(None);
    next.until("the share before", || stage.count(|e| matches!(e, Event::SteppedBack { .. })) == 1);
    assert_eq!(share(&stage).as_deref(), Some("10 %"));
    let mut order = stage.start(&["rollback", "--yes"], None);
    order.expect_code(3);
    next.wait();
    stage.expect_nothing_lost(Side::Old);
}
