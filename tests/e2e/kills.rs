//! `kill -9` at every place where it could hurt, then the same command again: nothing lost, nothing done twice.

use cutover::domain::run::{Event, RunStatus, StepStatus};
use cutover::engine::socket::{Answer, Ask, ask};
use cutover::rehearsal::oracle::Side;
use cutover::rehearsal::seed::Sizes;
use rustix::process::Signal;

use super::stage::{Options, Stage, independent, sizes};

/// Dies at the failpoint, is started again, and finishes.
fn forward(failpoint: &str) {
    let stage = Stage::new(&Options::default());
    let mut first = stage.run(Some(failpoint));
    first.expect_killed();
    assert_ne!(stage.state().status, RunStatus::Finished);
    finishes(&stage);
}

fn finishes(stage: &Stage) {
    let mut second = stage.run(None);
    second.expect_code(0);
    stage.expect_nothing_lost(Side::New);
    let state = stage.state();
    assert_eq!((state.status, state.resumes), (RunStatus::Finished, 1));
    assert!(state.open_intents.is_empty(), "intents without outcome: {:?}", state.open_intents);
    assert_eq!(stage.count(|e| matches!(e, Event::Decided { .. })), 1);
    assert_eq!(stage.count(|e| matches!(e, Event::WritesAccepted { .. })), 1);
    assert!(state.downtime.refused.is_some() && state.downtime.accepted.is_some(), "{:?}", state.downtime);
}

macro_rules! forward {
    ($($name:ident: $failpoint:literal,)*) => {$(
        #[test]
        fn $name() {
            forward($failpoint);
        }
    )*};
}

forward! {
    killed_at_the_start_of_the_load: "step_started:load",
    killed_between_two_tables: "table_loaded:users",
    killed_at_the_start_of_catching_up: "step_started:catch-up",
    killed_once_a_capture_stands: "capture_started:orders",
    killed_before_the_freeze: "intent:freeze/writes-mode/1",
    killed_after_the_freeze: "outcome:freeze/writes-mode/1",
    killed_at_the_drain: "step_started:drain",
    killed_once_decided: "decided",
    killed_before_a_switch: "intent:switch/reads/1",
    killed_between_two_switches: "outcome:switch/reads/1",
    killed_after_the_switches: "step_done:switch",
    killed_before_the_thaw: "intent:thaw/writes-mode/1",
}

#[test]
fn killed_in_the_middle_of_the_load() {
    let sizes = Sizes { books: 2_500, users: 200, orders: 400, carts: 20 };
    let stage = Stage::new(&Options { sizes, read_budget: Some(120), ..Options::default() });
    let mut first = stage.run(None);
    first.until("rows in the target", || stage.rows("books") > 0);
    first.signal(Signal::KILL);
    first.expect_killed();
    assert!(stage.step_is("load", StepStatus::Running), "the load was over before the kill");
    finishes(&stage);
}

/// One day that dies in load, follow, freeze and between two switches, on emulators that others wrote.
#[test]
fn killed_again_and_again_on_independent_emulators() {
    let (endpoint, _alone) = independent();
    let sizes = sizes();
    // The load takes a few seconds, so that it can be met under way.
    let budget = u32::try_from(sizes.books / 100).unwrap().max(60);
    let stage =
        Stage::new(&Options { sizes, endpoint: Some(endpoint), read_budget: Some(budget), ..Options::default() });
    let mut run = stage.run(None);
    run.until("rows in the target", || stage.rows("books") > 0);
    run.signal(Signal::KILL);
    run.expect_killed();
    assert!(stage.step_is("load", StepStatus::Running), "the load was over before the kill");
    let places = ["table_loaded:users", "step_done:catch-up", "outcome:freeze/writes-mode/1", "outcome:switch/reads/1"];
    for place in places {
        stage.run(Some(place)).expect_killed();
        assert_ne!(stage.state().status, RunStatus::Finished, "{place}");
    }
    stage.run(None).expect_code(0);
    stage.expect_nothing_lost(Side::New);
    let state = stage.state();
    assert_eq!((state.status, state.resumes), (RunStatus::Finished, 5));
    assert!(state.open_intents.is_empty(), "intents without outcome: {:?}", state.open_intents);
}

#[test]
fn killed_on_the_way_back_on_independent_emulators() {
    let (endpoint, _alone) = independent();
    let stage = Options { sizes: sizes(), endpoint: Some(endpoint), pause: 60, ..Options::default() };
    backward_on(&stage, "outcome:undo/*");
}

/// Rolled back once switched and before the thaw; the console dies while it rolls back and is started again.
fn backward(failpoint: &str) {
    backward_on(&Options { pause: 60, ..Options::default() }, failpoint);
}

fn backward_on(options: &Options, failpoint: &str) {
    let stage = Stage::new(options);
    let mut first = stage.run(Some(failpoint));
    first.until("the pause after the switch", || stage.step_is("new-side-check", StepStatus::Running));
    let order = Ask::RollBack { by: "somebody".to_owned() };
    let socket = stage.folder().unwrap().socket();
    let answer = stage.runtime().block_on(ask(&socket, &order, std::time::Duration::from_secs(5)));
    assert!(matches!(answer, None | Some(Answer::Taken)), "the order was refused");
    first.expect_killed();
    assert_eq!(stage.state().status, RunStatus::RollingBack);
    let mut second = stage.run(None);
    second.expect_code(3);
    assert_eq!(stage.state().status, RunStatus::RolledBack);
    stage.expect_old_values();
    stage.expect_nothing_lost(Side::Old);
}

#[test]
fn killed_when_the_rollback_was_ordered() {
    backward("rollback_ordered");
}

#[test]
fn killed_at_the_first_undo() {
    backward("intent:undo/*");
}

#[test]
fn killed_between_two_undos() {
    backward("outcome:undo/*");
}
