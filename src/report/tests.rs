use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::at::At;
use crate::domain::gauge::{Count, Measured, Readiness};
use crate::domain::plan::{Confirm, Follow, Load, Plan, Start, Step, StepKind, Verify};
use crate::domain::run::{
    Actor, Cause, Downtime, ErrorClass, Event, Evidence, Fact, Level, Need, RollbackState, RunState, RunStatus,
    StepBackState, StepError, StepStatus, SwitchStatus, VerifySummary,
};
use crate::journal::sample_events::event;
use crate::journal::{Header, Holder, JournalWriter, RunFolder, SampleWriter};
use crate::snapshot::{Health, JournalRow, Lamp, Mode, Rollback, Snapshot, StepRow, SwitchRow, TableRow};

/// 2026-11-22 02:00:00 UTC.
const T: i64 = 1_795_312_800_000;

fn plan() -> Plan {
    let step = |id: &str, title: &str| Step {
        id: id.to_owned(),
        title: title.to_owned(),
        at_ms: 0,
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
        steps: vec![step("load", "bulk copy"), step("freeze", "freeze writes")],
        load: Load { segments: Some(1), workers: 1, ..Load::default() },
        follow: Follow { lanes: 1, poll_ms: 100, batch: 10, marker_every_ms: 1_000 },
        verify: Verify { floor: 0.999, settle_ms: 0, segments: 1, list_limit: 10, ..Verify::default() },
        reverse: crate::domain::plan::Reverse::default(),
        stores: crate::domain::plan::Stores::new(),
        dials: vec![],
        jobs: vec![],
    }
}

fn row(number: usize, id: &str, title: &str, status: StepStatus) -> StepRow {
    StepRow { number, id: id.to_owned(), title: title.to_owned(), status, ..StepRow::default() }
}

fn snapshot() -> Snapshot {
    let done = StepRow {
        started: Some(At(T)),
        ended: Some(At(T + 95_000)),
        slip_ms: Some(7_000),
        takes_ms: 60_000,
        ..row(1, "load", "bulk copy", StepStatus::Done)
    };
    let now = StepRow {
        started: Some(At(T + 95_000)),
        slip_ms: Some(-2_000),
        progress: Some((63, 100)),
        eta: Some(At(T + 780_000)),
        ..row(2, "verify", "compare", StepStatus::Running)
    };
    let verified = VerifySummary { equal: 99_999, mismatched: 1, keys: vec!["b-7".to_owned()], ..Default::default() };
    let books = TableRow {
        id: "books".to_owned(),
        target_name: "books".to_owned(),
        source: Count::exact(100_012, At(T + 99_000)),
        target: Count::derived(100_000, At(T + 99_000)),
        difference: Some(0),
        parked: [("no price".to_owned(), 12)].into(),
        verified: Some((At(T + 98_000), verified)),
        ..TableRow::default()
    };
    let users = TableRow { id: "users".to_owned(), target_name: "users".to_owned(), ..TableRow::default() };
    Snapshot {
        now: At(T + 100_000),
        wall: At(T + 100_000),
        run: "r".to_owned(),
        plan: "shop".to_owned(),
        status: RunStatus::Running,
        steps: vec![done, now],
        current: Some(1),
        tables: vec![books, users],
        lamps: vec![
            Lamp { word: "VERIFY".to_owned(), text: "3 open".to_owned(), health: Health::Warn },
            Lamp { word: "LAG".to_owned(), text: String::new(), health: Health::Unknown },
            Lamp { word: "COPY".to_owned(), text: "ok".to_owned(), health: Health::Ok },
        ],
        rollback: Rollback { health: Health::Ok, text: "ARMED ~1s".to_owned(), ..Rollback::default() },
        downtime_budget_ms: 60_000,
        journal: JournalRow { last_seq: 9, age_ms: Some(1), ok: true, trouble: None },
        ..Snapshot::default()
    }
}

fn text(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap()
}

#[test]
fn a_fact_is_told_once_and_trouble_is_named() {
    let mut report = LineReport::new(Arc::new(plan()));
    let mut out = Vec::new();
    let started = Fact { seq: 1, at: At(T), event: Event::StepStarted { step: "load".to_owned(), attempt: 1 } };
    let error = StepError {
        class: ErrorClass::World,
        message: "table books\nis missing".to_owned(),
        advice: "create it.".to_owned(),
    };
    let failed = Fact { seq: 2, at: At(T + 1_000), event: Event::StepFailed { step: "load".to_owned(), error } };
    let warned = Event::Note { level: Level::Warn, source: "load".to_owned(), text: "throttled".to_owned() };
    let warned = Fact { seq: 3, at: At(T + 2_000), event: warned };
    for fact in [&started, &started, &failed, &warned, &failed] {
        report.fact(fact, &mut out).unwrap();
    }
    assert_eq!(
        text(out),
        "02:00:00 step 1 of 2, bulk copy, started.\n\
         02:00:01 error. step 1 of 2, bulk copy, failed. table books is missing. create it.\n\
         02:00:02 warning. load throttled\n"
    );
}

#[test]
fn now_is_said_every_thirty_seconds_of_the_wall_clock() {
    let mut report = LineReport::new(Arc::new(plan()));
    let mut s = snapshot();
    let mut out = Vec::new();
    report.now(&Snapshot::default(), &mut out).unwrap();
    assert!(out.is_empty(), "nothing is known yet");
    for _ in 0..61 {
        report.now(&s, &mut out).unwrap();
        s.wall = s.wall.plus(1_000);
        // The run's clock leaps; that is no reason to print a line.
        s.now = s.now.plus(60_000);
    }
    let said = text(out);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(
        said.lines().next().unwrap(),
        "02:01:40 now. step 2 of 2, compare, 63 percent, done about 02:13. verify 3 open. lag ?. rollback ready."
    );
}

#[test]
fn a_held_step_says_what_it_needs() {
    let mut s = snapshot();
    s.steps[1].need = Some(Need::Word("SHOP".to_owned()));
    s.steps[1].reason = Some("asks for a typed word".to_owned());
    s.rollback.health = Health::Unknown;
    s.rollback.text = String::new();
    let said = super::line::standing(&s);
    assert!(said.contains("waits for the word SHOP. asks for a typed word."), "{said}");
    assert!(said.ends_with("rollback ?."), "{said}");
}

#[test]
fn the_summary_says_what_was_proven_and_what_was_not() {
    let mut s = snapshot();
    let state = RunState { status: RunStatus::Running, last_seq: 9, ..RunState::default() };
    let block = summary(&s, &state, Path::new("/x/journal.jsonl"));
    for part in [
        "not ended: running at step 2",
        "00:01:35  00:01:00 +00:00:07",
        "books: source 100,012 exact, target 100,000 derived, difference 0, 12 parked: no price 12, 0 expired",
        "1 mismatched (99.999 % match)",
        "keys b-7",
        "users: source ?, target ?, difference ?",
        "users: never compared",
        "DOWNTIME    none: writes were never refused (budget 1m00s)",
        "/x/journal.jsonl (9 facts)",
    ] {
        assert!(block.contains(part), "{part} is missing in\n{block}");
    }
    // A title is never cut, and a time of another day says so.
    let mut long = s.clone();
    long.steps[0].title = "a title of fifty letters that says what the step is".to_owned();
    long.steps[0].ended = long.steps[0].started.map(|at| at.plus(86_400_000));
    let told = summary(&long, &state, Path::new("j"));
    let first = long.steps.iter().filter_map(|row| row.started).min().unwrap();
    let ended = long.steps[0].ended.unwrap().clock_on(first);
    assert!(told.contains(&long.steps[0].title) && ended.len() > 8 && told.contains(&ended), "{ended} in\n{told}");
    // Where every row is, in the words of the screen.
    s.account.text = "every row arrived but 12 that are parked".to_owned();
    let said = format!("ACCOUNT     {}", s.account.text);
    assert!(summary(&s, &state, Path::new("j")).contains(&said), "{said}");
    assert!(status(&s, None).contains(&format!("account    {}", s.account.text)));
    assert!(!block.contains("CLOCK "), "{block}");
    s.downtime = Downtime { refused: Some(At(T)), accepted: None, ms: None };
    assert!(summary(&s, &state, Path::new("j")).contains("? refused since 02:00:00, not seen accepted"));
    s.downtime.ms = Some(60_001);
    assert!(summary(&s, &state, Path::new("j")).contains("OVER the budget"));
    s.downtime.ms = Some(4_250);
    assert!(summary(&s, &state, Path::new("j")).contains("4.2s measured, within the budget of 1m00s"));
}

#[test]
fn the_summary_of_a_rollback_names_its_evidence() {
    let mut s = snapshot();
    let read = |good| Evidence {
        name: "writes".to_owned(),
        value: "dynamodb".to_owned(),
        at: At(T),
        source: "ssm GetParameter".to_owned(),
        good,
    };
    let mut rollback = RollbackState {
        ordered: At(T),
        by: Actor::Terminal("bob".to_owned()),
        cause: Cause::Asked,
        ended: Some(At(T + 900)),
        took_ms: Some(900),
        evidence: vec![read(true)],
        stuck: Vec::new(),
    };
    let state = RunState { status: RunStatus::RolledBack, rollback: Some(rollback.clone()), ..RunState::default() };
    let block = summary(&s, &state, Path::new("j"));
    assert!(block.contains("RESULT      rolled back"), "{block}");
    assert!(block.contains("by bob at another terminal: asked for. took 900ms"), "{block}");
    assert!(block.contains("writes = dynamodb (ssm GetParameter, read 02:00:00) ok"), "{block}");

    rollback.stuck = vec!["set /shop/writes to dynamodb".to_owned()];
    s.status = RunStatus::Stuck;
    let state = RunState { status: RunStatus::Stuck, rollback: Some(rollback), ..RunState::default() };
    let block = summary(&s, &state, Path::new("j"));
    assert!(block.contains("STUCK") && block.contains("BY HAND     set /shop/writes to dynamodb"), "{block}");
}

#[test]
fn a_step_that_was_taken_back_is_in_the_summary_and_beside_its_row() {
    let s = snapshot();
    let back =
        StepBackState { step: s.steps[1].id.clone(), at: At(T + 5_000), by: Some(Actor::Operator("alice".to_owned())) };
    let block = summary(&s, &RunState { steps_back: vec![back], ..RunState::default() }, Path::new("j"));
    let (id, by) = (&s.steps[1].id, Actor::Operator("alice".to_owned()).words());
    assert!(block.contains(&format!("step 2 {id} was taken back by {by}")), "{block}");
    let rows: Vec<&str> = block.lines().collect();
    let at = rows.iter().position(|line| line.contains(&s.steps[1].title)).unwrap();
    assert!(rows[at + 1].contains("02:00:05") && rows[at + 1].ends_with(&format!("taken back by {by}")), "{block}");
}

#[test]
fn a_share_is_cut_and_not_rounded_up() {
    let mut s = snapshot();
    let v = VerifySummary { equal: 99_999_999, missing: 1, ..VerifySummary::default() };
    s.tables[0].verified = Some((At(T), v));
    let block = summary(&s, &RunState::default(), Path::new("j"));
    assert!(block.contains("(99.999 % match)") && !block.contains("(100"), "{block}");
}

#[test]
fn a_rollback_that_left_a_switch_does_not_read_as_one_that_did_not() {
    let mut s = Snapshot { status: RunStatus::RolledBack, ..snapshot() };
    let state = RunState { status: RunStatus::RolledBack, ..RunState::default() };
    let mut told = |standing| {
        s.switches = vec![SwitchRow { standing, ..SwitchRow::default() }];
        summary(&s, &state, Path::new("j")).lines().next().unwrap().to_owned()
    };
    assert!(told(SwitchStatus::Restored).contains("everything stands on the old side"));
    for standing in [SwitchStatus::New, SwitchStatus::Unknown] {
        assert!(told(standing).contains("NOT every switch is known to be back"), "{}", told(standing));
    }
}

#[test]
fn a_difference_after_the_switch_says_how_it_was_counted() {
    let mut s = snapshot();
    s.tables[0].difference = Some(-2);
    let told = |s: &Snapshot, decided| {
        let state = RunState { decided, ..RunState::default() };
        summary(s, &state, Path::new("j"))
    };
    assert!(told(&s, None).contains("difference -2, "), "nobody writes there yet: {}", told(&s, None));
    let after = told(&s, Some(At(T)));
    assert!(after.contains("difference -2 (counted while customers write"), "{after}");
    s.tables[0].difference = Some(0);
    assert!(told(&s, Some(At(T))).contains("difference 0, "));
}

#[test]
fn status_says_where_a_switch_stands() {
    let mut s = snapshot();
    let mut stands = |standing, read_at| {
        let (old, new) = ("dynamodb".to_owned(), "postgresql".to_owned());
        s.switches = vec![SwitchRow { id: "reads".to_owned(), old, new, standing, read_at, ..SwitchRow::default() }];
        let said = status(&s, None);
        said.lines().find_map(|l| l.strip_prefix("switch     reads: ")).unwrap().to_owned()
    };
    let read = Some(At(T));
    assert_eq!(stands(SwitchStatus::Old, None), "? not touched and not read yet; would be set to postgresql");
    assert_eq!(
        stands(SwitchStatus::Old, read),
        "found on dynamodb, not touched; would be set to postgresql, read 02:00:00"
    );
    assert_eq!(stands(SwitchStatus::Unknown, read), "? on dynamodb or postgresql, read 02:00:00");
    assert_eq!(stands(SwitchStatus::New, read), "on postgresql, set by this run; was dynamodb, read 02:00:00");
    assert_eq!(stands(SwitchStatus::Restored, read), "back on dynamodb; was set to postgresql, read 02:00:00");
}

/// A run's folder with its plan and an empty journal, and the fact that opens it.
fn prepared(dir: &Path) -> (RunFolder, JournalWriter, Event) {
    let plan = plan();
    let folder = RunFolder::create(dir, "shop", At(T)).unwrap();
    folder.write("plan.json", &serde_json::to_vec(&plan).unwrap()).unwrap();
    let header = Header::new(folder.id(), &plan.hash(), "alice", "bastion", At(T));
    let writer = JournalWriter::create(&folder, &header).unwrap();
    let opened = Event::RunOpened {
        run: folder.id().to_owned(),
        plan: "shop".to_owned(),
        plan_hash: plan.hash(),
        environment: "test".to_owned(),
        operator: "alice".to_owned(),
        host: "bastion".to_owned(),
        version: "0".to_owned(),
        t0: At(T),
        steps: vec!["load".to_owned(), "freeze".to_owned()],
        callers: Default::default(),
    };
    (folder, writer, opened)
}

/// A run that stopped after these events, ten seconds apart from `T` on, as a killed driver leaves it.
fn left_behind(dir: &Path, events: &[Event]) -> RunFolder {
    let (folder, mut writer, opened) = prepared(dir);
    let facts: Vec<Fact> = std::iter::once(&opened)
        .chain(events)
        .zip(0..)
        .map(|(event, i)| Fact { seq: i as u64 + 1, at: At(T + 10_000 * i), event: event.clone() })
        .collect();
    writer.append(&facts).unwrap();
    // What the driver measured last: rollback was proven possible, and the downtime clock stood at four seconds.
    let measured = Measured {
        at: At(T + 30_000),
        rollback: Readiness::Armed { read_ms: 40, at: At(T + 30_000) },
        downtime_ms: Some(4_000),
        at_risk: Some(0),
        journal_ok: true,
        ..Measured::default()
    };
    let _ = SampleWriter::open(&folder.samples()).unwrap().offer(At(T + 30_000), &measured);
    folder
}

fn listed(dir: &Path, wall: At) -> (Vec<RunEntry>, String) {
    let (entries, mut out) = (run_entries(dir).unwrap(), Vec::new());
    runs_table(&entries, wall, &mut out).unwrap();
    (entries, text(out))
}

#[test]
fn a_run_whose_driver_is_gone_says_so_and_its_downtime_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let started = Event::StepStarted { step: "load".to_owned(), attempt: 1 };
    let refused = Event::WritesRefused { at: At(T + 20_000) };
    let folder = left_behind(dir.path(), &[started, refused]);
    let wall = At(T + 60_000);
    let found = offline(&folder, wall).unwrap();
    assert_eq!(found.measured.at_risk, None, "customers may have gone on writing");
    let said = status(&found.snapshot, found.unattended.as_ref());
    let wanted = "nobody drives it for 40.0s; start the same command again to take it up";
    assert!(said.contains("status     interrupted") && said.contains("last driven by alice@bastion"), "{said}");
    assert!(said.contains(wanted) && said.contains("writes refused for 40.0s"), "{said}");
    assert!(said.contains("rollback ? proven 30.0s ago") && !said.contains("rollback ready"), "{said}");
    assert!(said.contains("or nobody drives") && !said.contains("running"), "{said}");
    let mut json = Vec::new();
    status_json(&found.snapshot, found.unattended.as_ref(), &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["unattended"]["word"], "interrupted");
    assert_eq!(json["run"], folder.id());
    let (entries, table) = listed(dir.path(), wall);
    assert_eq!(entries[0].unattended, found.unattended);
    assert!(table.contains("interrupted") && table.contains(wanted) && !table.contains("running"), "{table}");

    let lock = folder.lock(&Holder::me("alice", "bastion")).unwrap();
    let found = offline(&folder, wall).unwrap();
    assert_eq!(found.measured.at_risk, Some(0));
    let said = status(&found.snapshot, found.unattended.as_ref());
    assert!(said.contains("status     running") && said.contains(", driven by alice"), "{said}");
    assert!(said.contains("rollback ready") && said.contains("writes refused for 40.0s"), "{said}");
    assert!(listed(dir.path(), wall).1.contains("alice (now)"));
    drop(lock);

    // A rehearsal cannot be resumed, and its clock is its own.
    folder.mark_rehearsal().unwrap();
    let found = offline(&folder, wall).unwrap();
    let said = status(&found.snapshot, found.unattended.as_ref());
    assert!(said.contains("nobody drives it; the world of a rehearsal ends") && !said.contains("take it up"), "{said}");
    assert!(said.contains("writes refused for 4.0s"), "{said}");
    assert!(said.contains("rollback   its world has ended") && !said.contains("rollback ready"), "{said}");
}

/// What cannot be read as a journal, and is too long for one whose process ended while it was made.
fn nonsense() -> String {
    "nonsense ".repeat(100) + "\n"
}

/// The runs that can be chosen when none is named.
fn meant(dir: &Path, finished: bool) -> Vec<String> {
    let mut runs = match choose_run(dir, finished).unwrap() {
        RunChoice::None => vec![],
        RunChoice::One(one) => vec![one.run],
        RunChoice::Several(all) => all.into_iter().map(|e| e.run).collect(),
    };
    runs.sort();
    runs
}

fn ids(folders: &[&RunFolder]) -> Vec<String> {
    let mut ids: Vec<String> = folders.iter().map(|f| f.id().to_owned()).collect();
    ids.sort();
    ids
}

/// Events that bring a run to its end.
fn gone_back() -> [Event; 2] {
    let back = Event::RollbackOrdered { by: Actor::Operator("alice".to_owned()), cause: Cause::Asked };
    [back, Event::RolledBack { took_ms: 1, evidence: vec![] }]
}

#[test]
fn the_run_at_hand_is_the_only_one_that_could_still_move_anything() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(choose_run(dir, false).unwrap(), RunChoice::None);
    let open = left_behind(dir, &[Event::StepStarted { step: "load".to_owned(), attempt: 1 }]);
    let ended = left_behind(dir, &gone_back());
    assert_ne!(open.id(), ended.id());
    assert_eq!(meant(dir, false), ids(&[&open]), "not the one that is at its end");

    // A rehearsal that nobody drives has no world any more; one that is driven can be chosen.
    let rehearsal = left_behind(dir, &[]);
    rehearsal.mark_rehearsal().unwrap();
    assert_eq!(meant(dir, false), ids(&[&open]));
    let held = rehearsal.lock(&Holder::me("bob", "bastion")).unwrap();
    assert_eq!(meant(dir, false), ids(&[&rehearsal, &open]), "an old run is not passed over for it");
    let driven = open.lock(&Holder::me("alice", "bastion")).unwrap();
    assert_eq!(meant(dir, false), ids(&[&open]), "the real run that is driven");
    let other = left_behind(dir, &[]);
    assert_eq!(
        meant(dir, false),
        ids(&[&rehearsal, &open, &other]),
        "its console is dead, and its switches may have moved"
    );
    drop((held, driven));
}

#[test]
fn a_run_that_never_began_stands_in_nobody_s_way() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let open = left_behind(dir, &[]);
    let (empty, _, _) = prepared(dir);
    let (torn, _, _) = prepared(dir);
    std::fs::write(torn.journal(), "").unwrap();
    let (entries, table) = listed(dir, At(T));
    for run in [empty.id(), torn.id()] {
        let entry = entries.iter().find(|e| e.run == run).unwrap();
        assert!(entry.word() == "never began" && entry.unattended.is_none(), "{table}");
    }
    assert_eq!(meant(dir, false), ids(&[&open]));
}

#[test]
fn an_old_run_is_not_taken_for_the_one_that_is_meant_when_another_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let damaged = left_behind(dir, &[]);
    std::fs::write(damaged.journal(), nonsense()).unwrap();
    assert_eq!(meant(dir, false), ids(&[&damaged]), "there is no other");
    let ended = left_behind(dir, &gone_back());
    assert_eq!(meant(dir, false), ids(&[&damaged, &ended]), "it may stand anywhere");
    std::fs::remove_dir_all(damaged.path()).unwrap();
    assert_eq!(meant(dir, false), ids(&[&ended]), "it is looked at again");

    let old = RunFolder::create(dir, "shop", At(T - 90_000_000)).unwrap();
    let header = Header::new(old.id(), &plan().hash(), "alice", "bastion", At(T - 90_000_000));
    let (like, _, opened) = prepared(dir);
    std::fs::remove_dir_all(like.path()).unwrap();
    let first = Fact { seq: 1, at: At(T - 90_000_000), event: opened };
    JournalWriter::create(&old, &header).unwrap().append(&[first]).unwrap();
    assert_eq!(meant(dir, false), ids(&[&old, &ended]), "forgotten for a day");
    let driven = old.lock(&Holder::me("alice", "bastion")).unwrap();
    assert_eq!(meant(dir, false), ids(&[&old]));
    drop(driven);
    assert_eq!(meant(dir, true), ids(&[&ended]), "none is finished: the one recorded in last");
}

#[test]
fn what_to_do_with_a_run_that_nobody_drives_depends_on_where_it_stands() {
    let by = Actor::Operator("alice".to_owned());
    let paused = Event::RunPaused { by: by.clone(), reason: "asked for".to_owned() };
    let back = Event::RollbackOrdered { by, cause: Cause::Asked };
    let stuck = Event::RollbackStuck { what: vec!["writes".to_owned()] };
    let done = Event::RolledBack { took_ms: 1, evidence: Vec::new() };
    let cases = [
        (vec![paused], Some(("paused", "start the same command again"))),
        (vec![back.clone()], Some(("interrupted", "`cutover rollback` goes on"))),
        (vec![back.clone(), stuck], None),
        (vec![back, done], None),
    ];
    for (events, wanted) in cases {
        let dir = tempfile::tempdir().unwrap();
        let found = offline(&left_behind(dir.path(), &events), At(T + 60_000)).unwrap().unattended;
        let found = found.as_ref().map(|u| (u.word.as_str(), u.advice.as_str()));
        match (found, wanted) {
            (None, None) => {}
            (Some((word, advice)), Some((a, b))) => assert!(word == a && advice.contains(b), "{word} {advice}"),
            other => panic!("{events:?}: {other:?}"),
        }
    }
}

#[test]
fn a_summary_says_whether_a_run_can_be_taken_up_again() {
    let state = RunState { status: RunStatus::Paused, ..RunState::default() };
    let mut s = snapshot();
    assert!(summary(&s, &state, Path::new("j")).contains("can be resumed"));
    s.mode = Mode::Rehearsal { speed: 60.0 };
    let block = summary(&s, &state, Path::new("j"));
    assert!(block.contains("begin a new rehearsal") && !block.contains("resumed"), "{block}");
    assert!(block.contains("CLOCK       times and lengths of the day are of the rehearsed clock"), "{block}");
}

#[test]
fn status_and_runs_come_from_the_folder_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    runs_table(&run_entries(dir.path()).unwrap(), At(T), &mut out).unwrap();
    assert_eq!(text(out), "no runs yet\n");

    let (folder, mut writer, opened) = prepared(dir.path());
    let started = Event::StepStarted { step: "load".to_owned(), attempt: 1 };
    let facts = [Fact { seq: 1, at: At(T), event: opened }, Fact { seq: 2, at: At(T + 61_000), event: started }];
    writer.append(&facts).unwrap();
    let _ = SampleWriter::open(&folder.samples()).unwrap().offer(At(T), &Measured { at: At(T), ..Measured::default() });

    let wall = At(T + 3_600_000);
    let found = offline(&folder, wall).unwrap();
    assert_eq!((found.record.facts.len(), found.measured.at, found.snapshot.wall), (2, wall, wall));
    assert_eq!(found.state.last_seq, 2);
    assert!(status(&found.snapshot, None).contains("rollback   "));
    let mut json = Vec::new();
    status_json(&found.snapshot, None, &mut json).unwrap();
    assert_eq!(serde_json::from_slice::<Snapshot>(&json).unwrap(), found.snapshot);

    let lock = folder.lock(&Holder::me("alice", "bastion")).unwrap();
    let broken = RunFolder::create(dir.path(), "other", At(T - 1_000)).unwrap();
    std::fs::write(broken.journal(), nonsense()).unwrap();
    let entries = run_entries(dir.path()).unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries[0].driven && entries[0].facts == 2 && entries[0].problem.is_none(), "{entries:?}");
    assert!(!entries[1].driven && entries[1].problem.is_some() && entries[1].status.is_none(), "{entries:?}");
    drop(lock);
    let mut out = Vec::new();
    runs_table(&entries, wall, &mut out).unwrap();
    let table = text(out);
    assert!(table.contains("alice (now)") && table.contains("1m01s") && table.contains("unreadable"), "{table}");
    let mut out = Vec::new();
    runs_json(&entries, &mut out).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<RunEntry>>(&out).unwrap(), entries);
}

proptest! {
    #[test]
    fn no_fact_takes_more_than_one_line(event in event()) {
        let mut report = LineReport::new(Arc::new(plan()));
        let mut out = Vec::new();
        report.fact(&Fact { seq: 1, at: At(T), event }, &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        prop_assert!(said.lines().count() <= 1 && !said.trim_end().contains(|c: char| c.is_control()), "{said:?}");
    }
}
