//! `cutover rollback` from another terminal: with the console alive, hanging, killed, and itself killed.

use cutover::domain::run::{RunStatus, Standing, StepStatus};
use cutover::rehearsal::oracle::Side;
use rustix::process::Signal;

use super::console::Console;
use super::stage::{Options, Stage};

/// A console that has switched and has not thawed yet.
fn switched(pause: u32) -> (Stage, Console) {
    let stage = Stage::new(&Options { pause, ..Options::default() });
    let mut console = stage.run(None);
    console.until("the pause after the switch", || stage.step_is("new-side-check", StepStatus::Running));
    (stage, console)
}

fn rolls_back(stage: &Stage) {
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(3);
    assert!(rollback.out().contains("rolled back in "), "{}", rollback.words());
    let state = stage.state();
    assert_eq!(state.status, RunStatus::RolledBack, "{}", rollback.words());
    for switch in ["reads", "writes", "secret", "alias", "writes-mode"] {
        let s = &state.switches[switch];
        assert_eq!(s.standing, Standing::Restored, "{switch} was not read back");
        assert!(s.read_back.is_some(), "{switch} was not read back");
    }
    assert!(state.rollback.expect("a rollback").evidence.iter().all(|e| e.good));
    stage.expect_old_values();
}

#[test]
fn a_living_console_goes_back_when_another_terminal_asks() {
    let (stage, mut console) = switched(60);
    rolls_back(&stage);
    console.expect_code(3);
    stage.expect_nothing_lost(Side::Old);
}

#[test]
fn a_hanging_console_does_not_keep_anybody_from_going_back() {
    let (stage, mut console) = switched(4);
    console.signal(Signal::STOP);
    rolls_back(&stage);
    // When it wakes up it must see that it was overtaken, and leave everything as it stands.
    console.signal(Signal::CONT);
    console.expect_code(3);
    assert_eq!(stage.state().status, RunStatus::RolledBack);
    stage.expect_old_values();
    stage.expect_nothing_lost(Side::Old);
}

#[test]
fn a_killed_console_does_not_keep_anybody_from_going_back() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    rolls_back(&stage);
    stage.expect_nothing_lost(Side::Old);
}

#[test]
fn a_rollback_that_is_killed_itself_is_asked_for_again() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    stage.start(&["rollback"], Some("outcome:undo/*")).expect_killed();
    assert_eq!(stage.state().status, RunStatus::RollingBack);
    rolls_back(&stage);
    // Asked once more, there is nothing left to do.
    stage.start(&["rollback"], None).expect_code(3);
    stage.expect_nothing_lost(Side::Old);
}
