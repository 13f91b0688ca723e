//! `cutover rollback` from another terminal: with the console alive, hanging, killed, and itself killed.

use std::time::{Duration, Instant};

use cutover::domain::run::{Event, RunStatus, StepStatus, SwitchStatus};
use cutover::rehearsal::oracle::Side;
use rustix::process::Signal;

use super::console::Console;
use super::stage::{Day, Options, Stage};

/// A console that has switched and has not thawed yet.
pub(super) fn switched(pause: u32) -> (Stage, Console) {
    let stage = Stage::new(&Options { pause, ..Options::default() });
    let mut console = stage.run(None);
    console.until("the pause after the switch", || stage.step_is("new-side-check", StepStatus::Running));
    (stage, console)
}

/// Rolls back from another terminal and reads every place.
pub(super) fn rolls_back(stage: &Stage) {
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(3);
    assert!(rollback.out().contains("rolled back in "), "{}", rollback.words());
    let state = stage.state();
    assert_eq!(state.status, RunStatus::RolledBack, "{}", rollback.words());
    for switch in ["reads", "writes", "secret", "alias", "writes-mode"] {
        let s = &state.switches[switch];
        assert_eq!(s.standing, SwitchStatus::Restored, "{switch} was not read back");
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
    // When it goes on it must see that another process rolled back, and leave everything as it stands.
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
    let log = std::fs::read_to_string(stage.folder().unwrap().log()).unwrap();
    assert!(log.contains("every switch is back and read back"), "what it said is logged in the run's folder: {log}");
}

#[test]
fn a_log_filter_is_obeyed_and_one_that_is_none_is_refused() {
    let stage = Stage::new(&Options::default());
    let mut refused = stage.start(&["run", "--log", "cutover=loud", "--headless", "-c", "config.toml"], None);
    refused.expect_code(2);
    assert!(refused.err().contains("cutover=loud"), "{}", refused.words());
    let mut nobody = stage.start(&["run", "--headless", "--answer", "no-such-step=bob", "-c", "config.toml"], None);
    nobody.expect_code(2);
    assert!(nobody.err().contains("the plan has no such step"), "{}", nobody.words());
    assert!(stage.folder().is_none(), "nothing was begun");
    let until = |step: &str, log: &str| {
        let args = ["run", "--log", log, "--headless", "--yes", "--until", step, "-c", "config.toml"];
        stage.start(&args, None).expect_code(75);
        std::fs::read_to_string(stage.folder().unwrap().log()).unwrap().len()
    };
    let silent = until("capture", "off");
    assert_eq!(silent, 0);
    assert!(until("load", "trace") > 0);
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

/// A console that has opened the new side to customers, where they have written for a while.
pub(super) fn open_to_customers() -> (Stage, Console) {
    let stage = Stage::new(&Options { day: Day::ToBurnIn, ..Options::default() });
    let mut console = stage.run(None);
    open_to_customers_by(&stage, &mut console);
    (stage, console)
}

/// Waits until this console has opened the new side to customers, and they have written.
pub(super) fn open_to_customers_by(stage: &Stage, console: &mut Console) {
    console.until("the burn-in", || stage.step_is("burn-in", StepStatus::Running));
    console.until("writes on the new side", || stage.written_on_the_new_side() >= 60);
}

/// Customers have written on the new side, and the console is gone: what they write waits in the outbox, this many
/// writes at least.
pub(super) fn left_alone(writes: u64) -> Stage {
    let (stage, mut console) = open_to_customers();
    console.signal(Signal::KILL);
    console.expect_killed();
    written(&stage, stage.written_on_the_new_side() + writes);
    stage
}

/// Waits until customers have written this much on the new side.
pub(super) fn written(stage: &Stage, writes: u64) {
    let began = Instant::now();
    while stage.written_on_the_new_side() < writes {
        assert!(began.elapsed() < Duration::from_secs(300), "customers write no more");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything was applied: the old side holds what both sides acknowledged, and the facts say so table by table.
pub(super) fn everything_came_back(stage: &Stage) {
    let verdict = stage.expect_nothing_lost(Side::Old);
    assert!(verdict.tally.new >= 60, "nobody wrote on the new side: {verdict}");
    let state = stage.state();
    for table in ["books", "users", "orders"] {
        let reverse = state.reverse.get(table).unwrap_or_else(|| panic!("nothing is said of {table}"));
        assert_eq!(reverse.left, Some(0), "{table}");
        assert!(reverse.carried.is_some(), "{table}");
        assert_eq!(reverse.strays, 0, "our own writes were taken for a stranger's: {:?}", reverse.stray_keys);
    }
    let carried: u64 = state.reverse.values().filter_map(|r| r.carried).sum();
    assert!(carried >= 20, "only {carried} keys were carried back");
    let facts = stage.facts();
    let last = |which: fn(&Event) -> bool| facts.iter().rposition(|f| which(&f.event)).expect("a fact");
    assert!(last(|e| matches!(e, Event::CarriedBack { .. })) < last(|e| matches!(e, Event::RolledBack { .. })));
    assert_eq!(stage.rows("cutover.outbox"), 0);
}

#[test]
fn a_rollback_after_the_thaw_carries_every_write_back() {
    let (stage, mut console) = open_to_customers();
    rolls_back(&stage);
    console.expect_code(3);
    everything_came_back(&stage);
}

#[test]
fn writes_come_back_though_the_console_was_killed_before_the_rollback() {
    let stage = left_alone(40);
    assert!(stage.rows("cutover.outbox") > 0);
    rolls_back(&stage);
    everything_came_back(&stage);
}

#[test]
fn a_damaged_record_does_not_keep_writes_from_coming_back() {
    let stage = left_alone(40);
    // In what was recorded before the freeze: nothing after it is believed, not even the thaw.
    stage.damage(r#""type":"step_started","step":"freeze""#);
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(3);
    assert!(rollback.words().contains("going by what stands before it"), "{}", rollback.words());
    stage.expect_old_values();
    let verdict = stage.expect_nothing_lost(Side::Old);
    assert!(verdict.tally.new >= 60, "nobody wrote on the new side: {verdict}");
    assert_eq!(stage.rows("cutover.outbox"), 0);
}

#[test]
fn a_finished_run_is_taken_back_only_when_that_is_said() {
    let stage = Stage::new(&Options::default());
    stage.run(None).expect_code(0);
    let mut refused = stage.start(&["rollback"], None);
    refused.expect_code(2);
    assert!(refused.words().contains("--finished"), "{}", refused.words());
    assert_eq!(stage.state().status, RunStatus::Finished, "nothing was begun");
    stage.start(&["rollback", "--finished"], None).expect_code(3);
    stage.expect_old_values();
    stage.expect_nothing_lost(Side::Old);
}

#[test]
fn a_rollback_that_is_killed_while_it_carries_goes_on_when_it_is_asked_again() {
    let stage = left_alone(60);
    let mut first = stage.start(&["rollback"], None);
    let waiting = stage.rows("cutover.outbox");
    first.until("some records to be carried", || stage.rows("cutover.outbox") < waiting);
    first.signal(Signal::KILL);
    first.expect_killed();
    assert_eq!(stage.state().status, RunStatus::RollingBack);
    stage.expect_old_values();
    rolls_back(&stage);
    everything_came_back(&stage);
}

#[test]
fn a_rollback_killed_between_two_tables_says_the_same_when_it_is_asked_again() {
    let (stage, mut console) = open_to_customers();
    console.signal(Signal::KILL);
    console.expect_killed();
    stage.start(&["rollback"], Some("carried_back:books")).expect_killed();
    assert_eq!(stage.state().status, RunStatus::RollingBack);
    rolls_back(&stage);
    everything_came_back(&stage);
}

#[test]
fn a_late_write_to_the_new_side_comes_back_when_rollback_is_asked_once_more() {
    let (stage, mut console) = open_to_customers();
    rolls_back(&stage);
    console.expect_code(3);
    // Not a customer of the shop: its account does not know this write, so it is reversed below.
    stage.sql("UPDATE books SET stock_quantity = stock_quantity + 1 WHERE id = (SELECT id FROM books LIMIT 1)");
    assert_eq!(stage.rows("cutover.outbox"), 1);
    let mut again = stage.start(&["rollback"], None);
    again.expect_code(3);
    assert!(again.out().contains("carried back books"), "{}", again.words());
    assert_eq!(stage.rows("cutover.outbox"), 0);
}

#[test]
fn somebody_else_writing_the_old_side_is_named_by_table_and_key() {
    let (stage, mut console) = open_to_customers();
    let strays = |stage: &Stage| stage.state().reverse.values().map(|r| r.strays).sum::<u64>();
    assert_eq!(strays(&stage), 0, "what the console itself carries back is no stray write");
    let key = stage.stray_write();
    console.until("the stray write to be told", || strays(&stage) > 0);
    let books = &stage.state().reverse["books"];
    assert_eq!((books.strays, &books.stray_keys), (1, &vec![key]));
    // An attribute no column holds was changed: nothing of the customers' is touched by it, and all is applied.
    rolls_back(&stage);
    console.expect_code(3);
    let verdict = stage.expect_nothing_lost(Side::Old);
    assert!(verdict.tally.new >= 60, "{verdict}");
}
