use std::time::Duration;

use super::player::Player;
use super::recording::Recording;
use super::*;
use crate::domain::at::At;
use crate::domain::gauge::{Measured, TableGauge};
use crate::domain::plan::{Confirm, Follow, Load, Plan, Start, Step, StepKind, Verify};
use crate::domain::run::{Actor, Amended, Command, Event, Fact, Level};
use crate::journal::{Header, JournalWriter, SampleWriter};
use crate::snapshot::Mode;

const T: i64 = 1_795_312_800_000;

fn plan() -> Plan {
    let step = |id: &str, at_ms| Step {
        id: id.to_owned(),
        title: id.to_owned(),
        at_ms,
        takes_ms: 1_000,
        owner: "lead".to_owned(),
        kind: StepKind::Preflight,
        two_person: false,
        start: Start::WhenReady,
        confirm: Confirm::None,
        undo: String::new(),
    };
    Plan {
        name: "shop".to_owned(),
        environment: "test".to_owned(),
        production: false,
        t0: Some(At(T)),
        downtime_budget_ms: 60_000,
        tables: Vec::new(),
        moves: vec![],
        stays: Vec::new(),
        switches: Vec::new(),
        freeze: None,
        probes: Vec::new(),
        signals: Vec::new(),
        gates: Vec::new(),
        steps: vec![step("first", 0), step("second", 10_000)],
        load: Load { segments: Some(1), workers: 1, ..Load::default() },
        follow: Follow { lanes: 1, poll_ms: 100, batch: 10, marker_every_ms: 1_000 },
        verify: Verify { floor: 0.999, settle_ms: 0, segments: 1, list_limit: 10, ..Verify::default() },
        reverse: crate::domain::plan::Reverse::default(),
        stores: crate::domain::plan::Stores::new(),
        dials: vec![],
        jobs: vec![],
    }
}

fn note(text: &str) -> Event {
    Event::Note { level: Level::Info, source: "test".to_owned(), text: text.to_owned() }
}

/// Facts at 0 s, 1 s, 2 s, 30 s and 3,630 s.
fn folder() -> (tempfile::TempDir, RunFolder) {
    let plan = plan();
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), "shop", At(T)).unwrap();
    folder.write("plan.json", &serde_json::to_vec(&plan).unwrap()).unwrap();
    let mut writer = JournalWriter::create(&folder, &Header::new("r", &plan.hash(), "alice", "host", At(T))).unwrap();
    let opened = Event::RunOpened {
        run: "r".to_owned(),
        plan: "shop".to_owned(),
        plan_hash: plan.hash(),
        environment: "test".to_owned(),
        operator: "alice".to_owned(),
        host: "host".to_owned(),
        version: "0".to_owned(),
        t0: At(T),
        steps: vec!["first".to_owned(), "second".to_owned()],
        callers: Default::default(),
    };
    let started = Event::StepStarted { step: "first".to_owned(), attempt: 1 };
    let done = Event::StepDone { step: "first".to_owned(), evidence: Vec::new() };
    let all = [(0, opened), (1_000, started), (2_000, done), (30_000, note("a")), (3_630_000, note("b"))];
    let facts: Vec<Fact> =
        all.into_iter().enumerate().map(|(i, (ms, event))| Fact { seq: i as u64 + 1, at: At(T + ms), event }).collect();
    writer.append(&facts).unwrap();
    let mut samples = SampleWriter::open(&folder.samples()).unwrap();
    for s in 0..30 {
        let gauge = TableGauge { loaded: s as u64, ..TableGauge::default() };
        // The run's clock is 5 s ahead of the wall.
        let measured =
            Measured { at: At(T - 5_000 + s * 1_000), tables: [("t".to_owned(), gauge)].into(), ..Measured::default() };
        let _ = samples.offer(At(T + s * 1_000), &measured);
    }
    (dir, folder)
}

fn player(folder: &RunFolder, speed: f64) -> Player {
    Player::new(Recording::load(folder).unwrap(), speed)
}

fn offset(player: &mut Player) -> i64 {
    player.snapshot().now.since(At(T))
}

#[test]
fn the_clock_runs_at_its_speed_and_stands_at_the_last_fact() {
    let (_dir, folder) = folder();
    let mut p = player(&folder, 2.0);
    assert_eq!((offset(&mut p), p.folded), (0, 1));
    p.advance(Duration::from_millis(600));
    assert_eq!((offset(&mut p), p.folded), (1_200, 2));
    for _ in 0..10 {
        p.advance(Duration::from_millis(100));
    }
    assert_eq!((offset(&mut p), p.folded), (3_200, 3));
    p.advance(Duration::from_secs(1_000));
    assert_eq!((offset(&mut p), p.folded), (3_630_000, 5));
    assert!(!p.changed());
    p.advance(Duration::from_secs(1));
    assert!(!p.changed(), "a recording that has ended stands still");
    assert_eq!(p.state.last_seq, 5);
}

#[test]
fn a_long_idle_gap_is_shortened_and_says_so() {
    let (_dir, folder) = folder();
    let mut p = player(&folder, 1.0);
    p.advance(Duration::from_secs(30));
    assert_eq!(offset(&mut p), 30_000);
    let (what, until) = p.waiting().unwrap();
    assert!(what.contains("1h00m") && until == At(T + 3_630_000), "{what}");
    p.advance(Duration::from_millis(4_900));
    assert_eq!(p.folded, 4);
    p.advance(Duration::from_millis(101));
    assert_eq!(p.folded, 5);
    assert_eq!(p.waiting(), None);
}

#[test]
fn seeking_back_folds_again_from_the_start() {
    let (_dir, folder) = folder();
    let mut p = player(&folder, 1.0);
    p.seek(i64::MAX);
    assert_eq!((offset(&mut p), p.folded), (3_630_000, 5));
    p.seek(-3_629_000);
    assert_eq!((offset(&mut p), p.folded, p.state.last_seq), (1_000, 2, 2));
    let (mut straight, state) = (player(&folder, 1.0), p.state.clone());
    straight.advance(Duration::from_secs(1));
    assert_eq!(straight.state, state);
    p.seek(i64::MIN);
    assert_eq!((offset(&mut p), p.folded), (0, 1));
}

#[test]
fn pausing_and_pace() {
    let (_dir, folder) = folder();
    let mut p = player(&folder, 1.0);
    p.toggle();
    p.advance(Duration::from_secs(9));
    assert_eq!(offset(&mut p), 0);
    assert_eq!(p.snapshot().mode, Mode::Replay { speed: 1.0, paused: true });
    p.toggle();
    p.scale(2.0);
    p.scale(2.0);
    p.scale(0.5);
    p.advance(Duration::from_millis(500));
    assert_eq!(offset(&mut p), 1_000);
    assert_eq!(p.snapshot().mode, Mode::Replay { speed: 2.0, paused: false });
}

#[test]
fn numbers_come_from_the_sample_in_force_and_grow_old_with_it() {
    let (_dir, folder) = folder();
    let mut p = player(&folder, 1.0);
    p.advance(Duration::from_millis(4_500));
    let m = p.measured();
    assert_eq!(m.tables["t"].loaded, 4);
    assert_eq!(m.at, At(T - 5_000 + 4_500), "on the wall clock of the recording");
    p.seek(35_000);
    let m = p.measured();
    assert_eq!((m.tables["t"].loaded, m.at), (29, At(T - 5_000 + 39_500)));
    let without = tempfile::tempdir().unwrap();
    std::fs::rename(folder.samples(), without.path().join("s")).unwrap();
    assert!(player(&folder, 1.0).measured().tables.is_empty(), "nothing measured is nothing known");
}

#[test]
fn what_cannot_be_played_says_why() {
    let (_dir, folder) = folder();
    let mut other = plan();
    other.downtime_budget_ms += 1;
    folder.write("plan.json", &serde_json::to_vec(&other).unwrap()).unwrap();
    let error = Recording::load(&folder).unwrap_err().to_string();
    assert!(error.contains("hash"), "{error}");
    std::fs::remove_file(folder.plan()).unwrap();
    assert!(Recording::load(&folder).unwrap_err().to_string().contains("plan.json"));
}

#[tokio::test]
async fn a_screen_sees_the_whole_run_and_can_change_nothing() {
    let (_dir, folder) = folder();
    let (mut handle, task) = open(&folder, 4096.0).unwrap();
    assert!(handle.is_replay());
    let answer = handle.command(Command::Pause).unwrap().await.unwrap();
    assert_eq!(answer.unwrap_err().to_string(), "this is a recording");
    handle.roll_back();
    let end = At(T + 3_630_000);
    let reached = handle.snapshots.wait_for(|s| s.now == end);
    tokio::time::timeout(Duration::from_secs(120), reached).await.unwrap().unwrap();
    assert!(handle.playback(Playback::Toggle));
    assert!(handle.playback(Playback::Seek(-3_600_000)));
    let back = handle.snapshots.wait_for(|s| s.now == At(T + 30_000));
    tokio::time::timeout(Duration::from_secs(120), back).await.unwrap().unwrap();
    drop(handle);
    tokio::time::timeout(Duration::from_secs(120), task).await.unwrap().unwrap();
}

#[test]
fn each_moment_is_shown_by_the_plan_of_its_time() {
    let (_dir, folder) = folder();
    let old = plan();
    let mut new = plan();
    new.steps[1].owner = "dora".to_owned();
    for plan in [&old, &new] {
        folder.write(&RunFolder::plan_name(&plan.hash()), &serde_json::to_vec(plan).unwrap()).unwrap();
    }
    folder.write("plan.json", &serde_json::to_vec(&new).unwrap()).unwrap();
    let amended = Event::PlanAmended(Amended {
        from: old.hash(),
        to: new.hash(),
        by: Actor::Terminal("alice".to_owned()),
        host: "host".to_owned(),
        t0: At(T),
        gates: vec![],
        changes: vec![],
    });
    let (mut writer, _) = JournalWriter::reopen(&folder).unwrap();
    writer.append(&[Fact { seq: 6, at: At(T + 3_631_000), event: amended }]).unwrap();
    let mut p = player(&folder, 1.0);
    let shown = |p: &mut Player| {
        let snapshot = p.snapshot();
        (snapshot.steps[1].owner.clone(), snapshot.plan_hash)
    };
    let short = |plan: &Plan| plan.hash()[..12].to_owned();
    assert_eq!(shown(&mut p), ("lead".to_owned(), short(&old)));
    p.seek(i64::MAX);
    assert_eq!(shown(&mut p), ("dora".to_owned(), short(&new)));
    p.seek(-5_000);
    assert_eq!(shown(&mut p), ("lead".to_owned(), short(&old)));
    std::fs::remove_file(folder.plan_of(&old.hash())).unwrap();
    assert!(Recording::load(&folder).unwrap_err().to_string().contains("hash"));
}
