use super::*;
use crate::domain::run::RunStatus;
use crate::snapshot::fixture::{Moment, snapshot};
use crate::view::state::{Pane, View};

const VIEWS: [(View, &str); 7] = [
    (View::Tables, "tables"),
    (View::Lag, "lag"),
    (View::Errors, "errors"),
    (View::Verify, "verify"),
    (View::Switches, "switches"),
    (View::Watch, "watch"),
    (View::Log, "log"),
];

#[test]
fn every_view_at_80_by_24() {
    for (view, name) in VIEWS {
        let state = ViewState { view, ..ViewState::default() };
        insta::assert_snapshot!(format!("view_80_{name}_loading"), screen(&snapshot(Moment::Loading), &state, 80, 24));
        insta::assert_snapshot!(format!("view_80_{name}_gate"), screen(&snapshot(Moment::Gate), &state, 80, 24));
    }
}

#[test]
fn wide_views_show_more() {
    for (view, name) in [(View::Tables, "tables"), (View::Watch, "watch"), (View::Verify, "verify")] {
        let state = ViewState { view, ..ViewState::default() };
        insta::assert_snapshot!(format!("view_200_{name}"), screen(&snapshot(Moment::Gate), &state, 200, 60));
    }
}

#[test]
fn switches_once_they_moved() {
    let state = ViewState { view: View::Switches, ..ViewState::default() };
    insta::assert_snapshot!("view_80_switches_switched", screen(&snapshot(Moment::Switched), &state, 80, 24));
}

#[test]
fn a_switch_may_be_captured_without_a_version() {
    let state = ViewState { view: View::Switches, ..ViewState::default() };
    let mut s = snapshot(Moment::Switched);
    assert!(s.switches.iter().all(|s| s.captured));
    s.switches[1].version = None;
    s.switches[2].captured = false;
    let text = screen(&s, &state, 80, 24);
    let ends = |what: &str| text.lines().filter(|l| l.trim_end_matches([' ', '|']).ends_with(what)).count();
    assert_eq!((ends("captured at version 4"), ends("   captured"), ends("not captured")), (1, 1, 1), "{text}");
}

#[test]
fn a_rollback_under_way_is_told_as_it_is_done() {
    let state = ViewState { view: View::Switches, ..ViewState::default() };
    let mut s = snapshot(Moment::RollingBack);
    s.rollback.course[0].done = true;
    for (status, mark) in [(RunStatus::RollingBack, "=>"), (RunStatus::Stuck, "! ")] {
        s.status = status;
        let text = screen(&s, &state, 80, 24);
        assert!(text.contains("|  v  /app/orders/read_from -> old"), "{text}");
        assert!(text.contains(&format!("|  {mark} allow writes: /app/orders/read_only -> false")), "{text}");
        assert!(!text.contains("nothing to undo") && !text.contains("would do now"), "{text}");
    }
}

#[test]
fn zoom_fills_the_body_with_the_focused_pane() {
    let state = ViewState { zoom: true, focus: Pane::Evidence, ..ViewState::default() };
    insta::assert_snapshot!("zoom_80_evidence", screen(&snapshot(Moment::Gate), &state, 80, 24));
}

#[test]
fn the_log_filters_by_text_and_level() {
    let mut state = ViewState { view: View::Log, ..ViewState::default() };
    state.log.text = "SERIAL".into();
    let text = screen(&snapshot(Moment::Loading), &state, 80, 24);
    assert!(text.contains("serialization_failure") && !text.contains("checkpoint"), "{text}");
    assert!(text.contains("/SERIAL 1 lines"), "{text}");
    state.log.text.clear();
    state.log.level = crate::domain::run::Level::Error;
    assert!(screen(&snapshot(Moment::Loading), &state, 80, 24).contains("no line passes"));
}
