//! `cutover rollback` while a store does not answer: what is not known is said, and never called done.

use std::net::TcpListener;

use cutover::domain::run::{Event, RunStatus};
use cutover::rehearsal::oracle::Side;
use rustix::process::Signal;

use super::back::{left_alone, open_to_customers, rolls_back, switched};
use super::stage::Stage;

/// A port that takes connections and never says a word.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Orders a rollback while the target does not answer; gives what the terminal printed.
fn asked_while_the_target_is_silent(stage: &Stage) -> String {
    let (_listener, port) = silent();
    let answers = stage.redirect(|c| c["postgres"]["port"] = port.into());
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(6);
    std::fs::write(stage.connections(), answers).unwrap();
    rollback.words()
}

#[test]
fn a_damaged_record_and_a_silent_target_are_not_called_rolled_back() {
    let stage = left_alone(40);
    stage.damage(r#""type":"step_started","step":"freeze""#);
    let words = asked_while_the_target_is_silent(&stage);
    assert!(words.contains("whether customers wrote on the new side is not known"), "{words}");
    assert!(words.contains("warning: the target does not know yet that the run rolls back"), "{words}");
    // The switches did not wait for it.
    stage.expect_old_values();
    stage.start(&["rollback"], None).expect_code(3);
    let verdict = stage.expect_nothing_lost(Side::Old);
    assert!(verdict.tally.new >= 60, "nobody wrote on the new side: {verdict}");
    assert_eq!(stage.rows("cutover.outbox"), 0);
}

#[test]
fn asked_again_after_a_rollback_a_silent_target_is_not_taken_for_an_empty_one() {
    let (stage, mut console) = open_to_customers();
    rolls_back(&stage);
    console.expect_code(3);
    let words = asked_while_the_target_is_silent(&stage);
    assert!(words.contains("whether writes reached the new side since is not known"), "{words}");
    stage.start(&["rollback"], None).expect_code(3);
    assert_eq!(stage.state().status, RunStatus::RolledBack);
    stage.expect_nothing_lost(Side::Old);
}

#[test]
fn a_run_whose_environment_is_called_rehearsal_is_taken_back_all_the_same() {
    let (stage, mut console) = switched(60);
    assert!(stage.config().contains("\nenvironment = \"rehearsal\""));
    console.signal(Signal::KILL);
    console.expect_killed();
    // Where the parameters are kept, nothing listens for a while.
    let nowhere = format!("http://127.0.0.1:{}", silent().1);
    let answers = stage.redirect(|c| c["aws"]["endpoints"]["ssm"] = nowhere.into());
    let mut rollback = stage.start(&["rollback"], None);
    rollback.until("the way back to begin", || stage.count(|e| matches!(e, Event::RollbackOrdered { .. })) > 0);
    rollback.signal(Signal::KILL);
    rollback.expect_killed();
    std::fs::write(stage.connections(), answers).unwrap();
    rolls_back(&stage);
    stage.expect_nothing_lost(Side::Old);
}
