use super::*;
use crate::domain::run::RunStatus;
use crate::snapshot::Mode;
use crate::snapshot::fixture::{Moment, snapshot};

#[test]
fn home_at_80_by_24() {
    let s = ViewState::default();
    insta::assert_snapshot!("home_80_loading", screen(&snapshot(Moment::Loading), &s, 80, 24));
    insta::assert_snapshot!("home_80_gate", screen(&snapshot(Moment::Gate), &s, 80, 24));
    insta::assert_snapshot!("home_80_frozen", screen(&snapshot(Moment::Frozen), &s, 80, 24));
    insta::assert_snapshot!("home_80_switched", screen(&snapshot(Moment::Switched), &s, 80, 24));
    insta::assert_snapshot!("home_80_failed", screen(&snapshot(Moment::Failed), &s, 80, 24));
    insta::assert_snapshot!("home_80_unknown", screen(&snapshot(Moment::Unknown), &s, 80, 24));
    insta::assert_snapshot!("home_80_empty", screen(&snapshot(Moment::Empty), &s, 80, 24));
}

#[test]
fn going_back_at_80_by_24() {
    let s = ViewState::default();
    insta::assert_snapshot!("home_80_rolling_back", screen(&snapshot(Moment::RollingBack), &s, 80, 24));
    insta::assert_snapshot!("home_80_rolled_back", screen(&snapshot(Moment::RolledBack), &s, 80, 24));
    insta::assert_snapshot!("home_80_stuck", screen(&snapshot(Moment::Stuck), &s, 80, 24));
    insta::assert_snapshot!("home_80_finished", screen(&snapshot(Moment::Finished), &s, 80, 24));
}

#[test]
fn home_at_120_by_40() {
    let s = ViewState::default();
    insta::assert_snapshot!("home_120_loading", screen(&snapshot(Moment::Loading), &s, 120, 40));
    insta::assert_snapshot!("home_120_gate", screen(&snapshot(Moment::Gate), &s, 120, 40));
    insta::assert_snapshot!("home_120_stuck", screen(&snapshot(Moment::Stuck), &s, 120, 40));
}

#[test]
fn home_at_200_by_60() {
    let s = ViewState::default();
    insta::assert_snapshot!("home_200_loading", screen(&snapshot(Moment::Loading), &s, 200, 60));
    insta::assert_snapshot!("home_200_gate", screen(&snapshot(Moment::Gate), &s, 200, 60));
}

#[test]
fn one_screen_per_cell_of_the_layout_table() {
    let s = ViewState::default();
    let snapshot = snapshot(Moment::Gate);
    insta::assert_snapshot!("layout_survival", screen(&snapshot, &s, 50, 14));
    insta::assert_snapshot!("layout_small_60", screen(&snapshot, &s, 60, 16));
    insta::assert_snapshot!("layout_wide_160", screen(&snapshot, &s, 160, 40));
}

#[test]
fn colours_and_styles() {
    let s = ViewState::default();
    let loading = snapshot(Moment::Loading);
    insta::assert_snapshot!("colour_80_loading", styled(&buffer(&loading, &s, &COLOUR, 80, 24)));
    insta::assert_snapshot!("mono_80_loading", styled(&buffer(&loading, &s, &ASCII, 80, 24)));
    insta::assert_snapshot!("colour_120_gate", styled(&buffer(&snapshot(Moment::Gate), &s, &COLOUR, 120, 40)));
}

#[test]
fn recordings_and_rehearsals_are_marked() {
    let mut snapshot = snapshot(Moment::Loading);
    snapshot.mode = Mode::Rehearsal { speed: 60.0 };
    let head = |s: &Snapshot, v: &ViewState| screen(s, v, 80, 24).lines().next().unwrap_or_default().to_owned();
    let mut state = ViewState::default();
    // Its times of day are of another clock than the wall's, and are called that.
    let line = head(&snapshot, &state);
    assert!(line.contains("REHEARSAL x60") && line.ends_with("rehearsed") && !line.contains("UTC"), "{line}");
    snapshot.mode = Mode::Replay { speed: 8.0, paused: false };
    assert!(head(&snapshot, &state).contains("REPLAY x8"));
    state.held_at = Some(snapshot.wall);
    let line = head(&snapshot, &state);
    for part in ["REPLAY x8", "SCREEN HELD", "UTC"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_clock_that_was_stepped_is_marked_and_the_planned_time_is_not_known() {
    let mut snapshot = snapshot(Moment::Loading);
    let head = |s: &Snapshot| screen(s, &ViewState::default(), 120, 40).lines().next().unwrap_or_default().to_owned();
    assert!(head(&snapshot).contains(" T-") || head(&snapshot).contains(" T+"), "{}", head(&snapshot));
    snapshot.clock_stepped_ms = Some(-3_600_000);
    let line = head(&snapshot);
    assert!(line.contains("CLOCK STEPPED") && line.contains("T ?"), "{line}");
}

#[test]
fn a_held_screen_says_how_it_goes_live_and_never_speaks_of_freezing() {
    let mut snapshot = snapshot(Moment::Loading);
    let mut state = ViewState { held_at: Some(snapshot.wall), ..ViewState::default() };
    let head = |s: &Snapshot, v: &ViewState| screen(s, v, 80, 24).lines().next().unwrap_or_default().to_owned();
    let line = head(&snapshot, &state);
    assert!(line.contains(&format!("SCREEN HELD {}, f for live", snapshot.wall.clock())), "{line}");
    assert!(!line.contains("FR"), "{line}");
    state.keys.insert(crate::view::Action::HoldScreen, vec!["f7".into()]);
    assert!(head(&snapshot, &state).contains(", F7 for live"));
    // Where the lock-out runs there is no room for the key; its time stays whole.
    snapshot.downtime_running_ms = Some(5_000);
    let line = head(&snapshot, &state);
    assert!(line.contains("] HELD 00:53:16 ") && line.contains("WRITES REFUSED 00:05 of 5m"), "{line}");
    let in_places =
        |some, all| head(&Snapshot { frozen_places: (some, all), ..snapshot.clone() }, &ViewState::default());
    assert!(in_places(1, 2).contains("WRITES REFUSED 00:05 in 1 of 2 places "), "{}", in_places(1, 2));
    assert!(!in_places(2, 2).contains("of 2") && !in_places(0, 1).contains("of 1"));
}

#[test]
fn what_is_published_no_more_is_not_shown_as_known() {
    let mut snapshot = snapshot(Moment::Loading);
    let heard = ViewState { clock_ms: 9_000, published_ms: Some(7_100), ..ViewState::default() };
    let silent = ViewState { published_ms: Some(4_000), ..heard.clone() };
    for (width, height) in [(40, 10), (80, 24), (120, 40), (200, 60)] {
        let known = screen(&snapshot, &heard, width, height);
        assert!(known.contains("COPY ") && !known.contains("COPY ?") && !known.contains("STALE"), "{known}");
        let unknown = screen(&snapshot, &silent, width, height);
        assert!(unknown.contains("STALE 5.0s") && unknown.contains("COPY ?") && unknown.contains("LAG ?"), "{unknown}");
    }
    // A run that is over says nothing new, and a recording may stand still.
    snapshot.status = RunStatus::Finished;
    assert!(!screen(&snapshot, &silent, 80, 24).contains("STALE"));
    snapshot.status = RunStatus::Running;
    snapshot.mode = Mode::Replay { speed: 1.0, paused: true };
    assert!(!screen(&snapshot, &silent, 80, 24).contains("STALE"));
}

#[test]
fn of_many_tables_the_ones_in_view_are_all_there() {
    let mut many = snapshot(Moment::Loading);
    many.tables = many.tables.iter().cycle().take(60).cloned().collect();
    for (n, table) in many.tables.iter_mut().enumerate() {
        table.id = format!("table-{n}");
    }
    let all = crate::view::tables::lines(&many, 120, 0, usize::MAX);
    assert_eq!(all.len(), 62);
    for height in [1, 2, 10, 61, 62, 63] {
        for from in [0, 1, 5, 30, 51, 52, 60, 62, 500] {
            let windowed = crate::view::tables::lines(&many, 120, from, height);
            // As the canvas clamps a scroll that went too far.
            let first = from.min(all.len().saturating_sub(height));
            let last = (first + height).min(all.len());
            assert_eq!(windowed[first..last], all[first..last], "{height} lines from {from}");
            assert_eq!(windowed.len(), all.len());
        }
    }
}
