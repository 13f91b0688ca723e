//! Alerts at the screen: rung once, listed, acknowledged by what was shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Do, Session};
use crate::domain::alert::{About, Desktop};
use crate::domain::at::At;
use crate::domain::run::{Command, Firing, RunStatus};
use crate::snapshot::{AlertRow, Mode, Snapshot};
use crate::ui::decode::Typed;
use crate::ui::desktop::DesktopNote;
use crate::view::state::Modal;

fn row(seq: u64, places: &[&str]) -> AlertRow {
    AlertRow {
        firing: Firing {
            alert: "errors".into(),
            about: About::Threshold { criterion: "new-errors >= 1".into() },
            text: "new-errors >= 1: it is 3%.".into(),
            fired: At(1),
            seq,
            cleared: None,
            places: places.iter().map(|place| ((*place).to_owned(), None)).collect(),
            acknowledged: None,
        },
        lasted_ms: 0,
    }
}

fn shown(alerts: Vec<AlertRow>) -> Arc<Snapshot> {
    Arc::new(Snapshot { status: RunStatus::Running, plan: "shop".into(), alerts, ..Snapshot::default() })
}

fn told(place: &str) -> Do {
    let about = About::Threshold { criterion: "new-errors >= 1".into() };
    Do::Command(Command::ToldOnScreen { alert: "errors".into(), about, place: place.into() })
}

#[test]
fn an_alert_rings_and_notifies_once_and_has_it_recorded() {
    let now = Instant::now();
    let mut session = Session::new(&BTreeMap::new(), now).unwrap();
    let snapshot = shown(vec![row(7, &["bell", "desktop", "webhook 1 (env X)"])]);
    let note = DesktopNote { title: "cutover shop errors".into(), body: "new-errors >= 1: it is 3%.".into() };
    let wanted = vec![told("bell"), Do::Desktop(Desktop::Auto, note), told("desktop"), Do::Bell];
    assert_eq!(session.saw(&snapshot, now), wanted);
    assert_eq!(session.saw(&snapshot, now), [], "once, before the engine answers too");
    let toast = &session.state.toasts.last().unwrap().text;
    assert!(toast.contains("alert errors: new-errors >= 1: it is 3%. A lists"), "{toast}");
    // What the engine answers is for nobody.
    let Do::Command(command) = told("bell") else { panic!() };
    let before = session.state.toasts.len();
    session.answered(&command, Ok(()), now);
    assert_eq!(session.state.toasts.len(), before);
}

#[test]
fn a_recording_rings_nothing() {
    let now = Instant::now();
    let mut session = Session::new(&BTreeMap::new(), now).unwrap();
    let mode = Mode::Replay { speed: 1.0, paused: false };
    let snapshot = Snapshot { mode, ..(*shown(vec![row(7, &["bell"])])).clone() };
    assert_eq!(session.saw(&snapshot, now), []);
}

#[test]
fn the_list_acknowledges_what_it_shows() {
    let now = Instant::now();
    let mut session = Session::new(&BTreeMap::new(), now).unwrap();
    let mut tap = |key: char, snapshot: &Arc<Snapshot>| {
        session.on(Typed::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)), now, snapshot)
    };
    let snapshot = shown(vec![row(7, &[]), row(9, &[])]);
    assert_eq!(tap('a', &snapshot), [], "outside the list it is for messages");
    assert_eq!(tap('A', &snapshot), []);
    let ack = Command::Acknowledge { alert: None, through: Some(9), note: None, origin: None };
    assert_eq!(tap('a', &snapshot), [Do::Command(ack)]);
    let mut seen = row(7, &[]);
    seen.firing.acknowledged = Some(crate::domain::run::Acknowledged {
        at: At(2),
        by: crate::domain::run::Actor::Operator("alice".into()),
        origin: None,
        note: None,
    });
    assert_eq!(tap('a', &shown(vec![seen])), [], "nothing is left to acknowledge");
    assert_eq!(tap('A', &snapshot), []);
    assert!(!session.state.modals.contains(&Modal::Alerts));
}
