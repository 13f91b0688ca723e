//! A whole day that goes well, on the embedded stores and on independent ones; and one that goes badly.

use std::path::Path;

use cutover::domain::run::RunStatus;
use cutover::rehearsal::oracle::Side;
use serde_json::Value;

use super::console::Console;
use super::stage::{Day, Options, Stage, independent, sizes};

fn a_whole_day(options: &Options) {
    let stage = Stage::new(options);
    let mut run = stage.run(None);
    run.expect_code(0);
    let verdict = stage.expect_nothing_lost(Side::New);
    assert!(verdict.tally.new > 0, "the new side took no writes: {verdict}");
    let out = run.out();
    for part in ["RESULT      finished", "TIMELINE", "ROWS        books", "VERIFIED    orders", "DOWNTIME"] {
        assert!(out.contains(part), "no {part}:\n{}", run.words());
    }

    let state = stage.state();
    assert_eq!(state.status, RunStatus::Finished);
    // No process was lost in between, so one monotonic clock saw both ends.
    let downtime = state.downtime.ms.expect("a measured interruption");
    assert!((1_000..60_000).contains(&downtime), "downtime of {downtime} ms");
    assert!(out.contains("measured, within the budget"), "{}", run.words());
    for (id, table) in &state.tables {
        let (_, found) = table.verified.as_ref().unwrap_or_else(|| panic!("{id} was never compared"));
        assert_eq!(found.differing(), 0, "{id}: {found:?}");
        assert!(found.equal > 0, "{id}: {found:?}");
    }

    // What others ask afterwards.
    let mut asked = stage.start(&["status", "--json"], None);
    asked.expect_code(0);
    let status: Value = serde_json::from_str(&asked.out()).unwrap();
    assert_eq!(status["run"], state.run.as_str());
    assert_eq!(status["status"], "finished", "{status:#}");
    let mut asked = stage.start(&["runs", "--json"], None);
    asked.expect_code(0);
    let runs: Value = serde_json::from_str(&asked.out()).unwrap();
    assert!(asked.out().contains(&state.run), "{runs:#}");

    // The folder alone gives the same account.
    let folder = stage.folder().unwrap();
    let end = state.ended.unwrap();
    let offline = cutover::report::offline(&folder, end).unwrap();
    assert_eq!(offline.snapshot.status, RunStatus::Finished);
    assert_eq!(offline.state.last_seq, state.last_seq);
    assert_eq!(offline.snapshot.downtime.ms, Some(downtime));
    stage.runtime().block_on(async {
        let (mut handle, player) = cutover::replay::open(&folder, 1_000_000.0).unwrap();
        let ended = handle.snapshots.wait_for(|s| s.status == RunStatus::Finished);
        tokio::time::timeout(std::time::Duration::from_secs(120), ended).await.expect("a replay that ends").unwrap();
        player.abort();
    });
    // No secret in anything that was written down.
    let journal = std::fs::read_to_string(folder.journal()).unwrap();
    let password = std::fs::read_to_string(stage.dir().join("password")).unwrap();
    assert!(!journal.contains(&password) && !out.contains(&password), "the database password was written down");
}

#[test]
fn a_day_on_real_processes_loses_nothing() {
    a_whole_day(&Options { sizes: sizes(), day: Day::Whole, ..Options::default() });
}

#[test]
fn a_day_on_independent_emulators_loses_nothing() {
    let (endpoint, _alone) = independent();
    a_whole_day(&Options { sizes: sizes(), day: Day::Whole, endpoint: Some(endpoint), ..Options::default() });
}

/// A short rehearsal with this fault, as anybody may start one.
fn rehearsal(dir: &Path, fault: &str, code: i32) -> Console {
    let state = dir.join("state");
    let args = ["--state-dir", state.to_str().unwrap(), "rehearse", "--headless", "--yes", "--speed", "600"];
    let more = ["--seed", "7", "--sizes", "300,80,150,20", "--fault", fault];
    let mut console = Console::start(dir, fault, &[&args[..], &more].concat(), None);
    console.expect_code(code);
    console
}

#[test]
fn a_rehearsal_that_trips_a_gate_ends_rolled_back_with_nothing_lost() {
    let _slot = super::Slot::take();
    let dir = tempfile::tempdir().unwrap();
    let console = rehearsal(dir.path(), "errors-new@switch", 3);
    let out = console.out();
    assert!(out.lines().any(|l| l.starts_with("0 lost: ") && l.contains("old side")), "{}", console.words());
    assert!(out.contains("RESULT      rolled back"), "{}", console.words());
}

#[test]
fn a_fault_at_a_gate_strikes_and_one_that_strikes_nothing_is_said() {
    let _slot = super::Slot::take();
    let dir = tempfile::tempdir().unwrap();
    let console = rehearsal(dir.path(), "errors-new@new-side-check", 3);
    assert!(!console.words().contains("never struck"), "{}", console.words());
    // Everything has been switched by then: nothing moves a stage variable any more.
    let console = rehearsal(dir.path(), "gateway-refuse@burn-in", 9);
    assert!(console.words().contains("gateway-refuse@burn-in never struck"), "{}", console.words());
}

/// A short rehearsal of payments that move from one server to another, with this fault.
fn payments(dir: &Path, fault: Option<&str>, code: i32) -> Console {
    let state = dir.join("state");
    let args = ["--state-dir", state.to_str().unwrap(), "rehearse", "v1-to-v2", "--headless", "--yes"];
    let more = ["--speed", "600", "--seed", "7", "--sizes", "80,300,60,60"];
    let fault: Vec<&str> = fault.into_iter().flat_map(|fault| ["--fault", fault]).collect();
    let mut console = Console::start(dir, "payments", &[&args[..], &more[..], &fault[..]].concat(), None);
    console.expect_code(code);
    console
}

#[test]
fn a_rehearsal_of_payments_ends_on_the_new_server_with_nothing_lost() {
    let _slot = super::Slot::take();
    let dir = tempfile::tempdir().unwrap();
    let console = payments(dir.path(), None, 0);
    let out = console.out();
    let verdict = out.lines().find(|l| l.starts_with("0 lost: "));
    assert!(
        verdict.is_some_and(|l| l.contains("new side (PostgreSQL v2 ") && l.contains(", DynamoDB v2 ")),
        "{}",
        console.words()
    );
    assert!(out.contains("RESULT      finished"), "{}", console.words());
}

#[test]
fn a_fault_after_the_switch_brings_payments_back_to_the_old_server_with_nothing_lost() {
    let _slot = super::Slot::take();
    let dir = tempfile::tempdir().unwrap();
    let console = payments(dir.path(), Some("errors-new@new-side-check"), 3);
    let out = console.out();
    let verdict = out.lines().find(|l| l.starts_with("0 lost: "));
    assert!(
        verdict.is_some_and(|l| l.contains("old side (PostgreSQL v1 ") && l.contains(", DynamoDB v1 ")),
        "{}",
        console.words()
    );
    assert!(out.contains("RESULT      rolled back"), "{}", console.words());
}

#[test]
fn a_breach_takes_a_share_of_the_reads_back_by_itself_and_the_day_goes_on() {
    let _slot = super::Slot::take();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let args = ["--state-dir", state.to_str().unwrap(), "rehearse", "aurora-gradual", "--headless", "--yes"];
    let more = ["--speed", "600", "--seed", "7", "--sizes", "300,80,150,20", "--fault", "breach@reads-50"];
    let mut console = Console::start(dir.path(), "breach", &[&args[..], &more[..]].concat(), None);
    console.expect_code(0);
    let (out, words) = (console.out(), console.words());
    assert!(out.lines().any(|l| l.starts_with("0 lost: ") && l.contains("new side")), "{words}");
    assert!(out.contains("share-healthy was not met: reads-50 is taken back by itself"), "{words}");
    assert!(!console.err().contains("never struck"), "{words}");
    assert_eq!(out.lines().filter(|l| l.starts_with("STEP BACK")).count(), 1, "{words}");
}
