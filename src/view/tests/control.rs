//! What a rollback would do, clocks, second persons and votes.

use super::*;
use crate::domain::alert::{About, Told};
use crate::domain::at::At;
use crate::domain::gauge::{Course, Outbox, RetainedLog, TrimClock};
use crate::domain::run::{Acknowledged, Actor, Evidence, Firing, Need, StepStatus};
use crate::snapshot::fixture::{Moment, snapshot};
use crate::snapshot::{AlertRow, Health, OutboxRow, RetainedRow, TrimRow};
use crate::view::action::{Action, availability};
use crate::view::state::{Modal, View};

fn what_if() -> ViewState {
    ViewState { modals: vec![Modal::WhatIf], ..ViewState::default() }
}

#[test]
fn what_going_back_would_do() {
    insta::assert_snapshot!("what_if_80_loading", screen(&snapshot(Moment::Loading), &what_if(), 80, 24));
    insta::assert_snapshot!("what_if_80_switched", screen(&snapshot(Moment::Switched), &what_if(), 80, 24));
    insta::assert_snapshot!("what_if_120_unknown", screen(&snapshot(Moment::Unknown), &what_if(), 120, 40));
}

fn trim(read_in_ms: Option<i64>, course: Course, text: &str, brief: &str, health: Health) -> TrimRow {
    let clock = TrimClock {
        age_ms: Some(10_800_000),
        trimmed_in_ms: Some(75_600_000),
        read_in_ms,
        course,
        used: Some(12.5),
        at: At(1),
    };
    TrimRow { clock, text: text.to_owned(), brief: brief.to_owned(), health }
}

#[test]
fn clocks_stand_with_the_lags_and_the_signals() {
    let mut s = snapshot(Moment::Gate);
    let text = "records are trimmed in 21h; at this rate caught up in 04:00";
    s.tables[0].trim = Some(trim(Some(240_000), Course::CatchingUp, text, "trim 21h, caught up 04:00", Health::Watch));
    let text = "records are trimmed in 21h; at this rate NEVER caught up";
    s.tables[1].trim = Some(trim(None, Course::FallingBehind, text, "trim 21h, NEVER caught up", Health::Fail));
    s.outbox = Some(OutboxRow {
        outbox: Outbox { rows: Some(214), ..Outbox::default() },
        text: "214 changes wait to be carried back, oldest 4s, grows 12/s".to_owned(),
        brief: "214 wait, oldest 4s".to_owned(),
        health: Health::Watch,
    });
    let lag = ViewState { view: View::Lag, ..ViewState::default() };
    insta::assert_snapshot!("clocks_80_lag", screen(&s, &lag, 80, 24));
    insta::assert_snapshot!("clocks_120_home", screen(&s, &ViewState::default(), 120, 40));
}

#[test]
fn what_a_source_keeps_of_its_log_stands_with_the_clocks() {
    let row = |store: &str, text: &str, brief: &str, health| RetainedRow {
        store: store.to_owned(),
        log: RetainedLog::default(),
        text: text.to_owned(),
        brief: brief.to_owned(),
        health,
    };
    let mut s = snapshot(Moment::Gate);
    let text = "the source keeps 3.0 GB of log for us, 2.0 MB/s are written; full in 08:32";
    s.retained = vec![
        row("old", "the source keeps 16 MB of log for us, 820 kB/s are written", "log 16 MB", Health::Ok),
        row("warehouse", text, "log 3.0 GB, full in 08:32", Health::Warn),
    ];
    for (view, width, said) in [
        (View::Lag, 80, "old       the source keeps 16 MB of log for us, 820 kB/s are written"),
        (View::Lag, 100, text),
        (View::Home, 120, "log 3.0 GB, full in 08:32"),
    ] {
        let drawn = screen(&s, &ViewState { view, ..ViewState::default() }, width, 40);
        assert!(drawn.contains(said), "{said}\n{drawn}");
    }
}

#[test]
fn a_step_for_two_says_what_the_second_person_types() {
    let mut s = snapshot(Moment::Confirm);
    let step = &mut s.steps[s.current.unwrap()];
    step.status = StepStatus::Held;
    step.need = Some(Need::Second);
    step.reason = Some(format!("waits for a second person: cutover approve 20261121T141500Z-orders-0f3a {}", step.id));
    let state = ViewState::default();
    insta::assert_snapshot!("second_80", screen(&s, &state, 80, 24));
    assert!(Modal::for_step(&s.steps[s.current.unwrap()]).is_none(), "no key here makes a second person");
    assert!(availability(Action::Next, &s, &state).unwrap_err().contains("cutover approve"));
    assert!(availability(Action::Rollback, &s, &state).is_ok() && availability(Action::Pause, &s, &state).is_ok());
}

#[test]
fn a_vote_shows_who_said_what() {
    let mut s = snapshot(Moment::Gate);
    let step = &mut s.steps[s.current.unwrap()];
    step.kind = crate::domain::plan::StepName::GoNoGo;
    step.title = "GO/NO-GO go or no go".to_owned();
    step.detail = "NO-GO by carol  BLOCKING".to_owned();
    step.lines = vec![
        "v sync           held 10:00 of 10:00".to_owned(),
        "carol            NO-GO: replica is behind".to_owned(),
        "bob              GO".to_owned(),
        "dan              cutover vote 20261121T141500Z-orders-0f3a board go --as dan".to_owned(),
    ];
    step.evidence.push(Evidence {
        name: "vote of carol".to_owned(),
        value: "NO-GO: replica is behind".to_owned(),
        at: s.wall.plus(-9_000),
        source: "from ops@bastion-1 pts/3".to_owned(),
        good: false,
    });
    let id = step.id.clone();
    insta::assert_snapshot!("vote_80_home", screen(&s, &ViewState::default(), 80, 24));
    let evidence = ViewState { modals: vec![Modal::Evidence { step: id }], ..ViewState::default() };
    insta::assert_snapshot!("vote_80_evidence", screen(&s, &evidence, 80, 24));
}

#[test]
fn alerts_are_counted_in_the_first_line_and_listed_with_who_was_told_and_who_has_seen_them() {
    let mut s = snapshot(Moment::Switched);
    let told = |result| Some((s.now.plus(-4_000), result));
    let firing = Firing {
        alert: "pager".into(),
        about: About::Threshold { criterion: "read-errors >= 1".into() },
        text: "read-errors >= 1: it is 3%.".into(),
        fired: s.now.plus(-65_000),
        seq: 40,
        cleared: None,
        places: vec![
            ("bell".into(), None),
            ("webhook 1 (env HOOK)".into(), told(Told::Delivered { answer: "status 200".into() })),
            ("command 1 (page)".into(), told(Told::Failed { error: "exit status: 3".into() })),
        ],
        acknowledged: None,
    };
    s.alerts = vec![AlertRow { firing, lasted_ms: 65_000 }];
    let list = || ViewState { modals: vec![Modal::Alerts], ..ViewState::default() };
    let text = screen(&s, &list(), 80, 24);
    for words in [
        " ALERT ",
        "1 not acknowledged",
        "pager: read-errors >= 1: it is 3%.",
        "for 1m05s so far",
        "bell: not told, no screen was open",
        "webhook 1 (env HOOK): told: status 200",
        "command 1 (page): NOT TOLD: exit status: 3",
        "a acknowledge",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(screen(&s, &ViewState::default(), 30, 8).contains("ALERTS 1"), "where there is no room for a first line");
    s.alerts[0].firing.acknowledged =
        Some(Acknowledged { at: s.now, by: Actor::Terminal("bob".into()), origin: None, note: Some("looking".into()) });
    let text = screen(&s, &list(), 80, 24);
    assert!(text.contains("by bob at another terminal: looking") && !text.contains(" ALERT "), "{text}");
    assert_eq!(availability(Action::Acknowledge, &s, &list()), Err("every alert is acknowledged"));
}
