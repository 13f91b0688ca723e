//! Moving about: the selected step, panes, and what is scrolled where.

use crate::domain::run::RunStatus;
use crate::snapshot::Snapshot;
use crate::view::action::{ACTIONS, Action};
use crate::view::matching;
use crate::view::state::{Modal, Pane, View, ViewState};

/// Lines a page key moves. The drawing clamps; less than the smallest page leaves an overlap to read on from.
const PAGE: usize = 10;

/// What a movement key moves.
enum Moved {
    Selection,
    Evidence,
    Signals,
    Tables,
    Help,
    Log,
    Result,
}

/// Headings and lines a table view has besides its rows; the drawing stops at its own end.
const MARGIN: usize = 12;

/// Moves by one of the movement actions; `false` when the action is none.
pub fn go(state: &mut ViewState, snapshot: &Snapshot, action: Action) -> bool {
    let (by, far) = match action {
        Action::Up => (-1, false),
        Action::Down => (1, false),
        Action::PageUp => (-(PAGE as isize), false),
        Action::PageDown => (PAGE as isize, false),
        Action::Top => (-1, true),
        Action::Bottom => (1, true),
        _ => return false,
    };
    let step = |at: usize, last: usize| match (far, by < 0) {
        (true, true) => 0,
        (true, false) => last,
        _ => at.saturating_add_signed(by).min(last),
    };
    let rows = |n: usize| n.saturating_sub(1);
    let evidence = state
        .shown_step(snapshot)
        .and_then(|i| snapshot.steps.get(i))
        .map_or(0, |s| s.evidence.len() + s.lines.len() + PAGE);
    let scrolls = &mut state.scrolls;
    match moved(&state.modals, state.view, state.focus, snapshot.status) {
        Moved::Selection => {
            let last = rows(snapshot.steps.len());
            let from = state.selected.or(snapshot.current).unwrap_or(last);
            state.selected = (!snapshot.steps.is_empty()).then(|| step(from.min(last), last));
            scrolls.evidence = 0;
        }
        Moved::Evidence => scrolls.evidence = step(scrolls.evidence, evidence),
        Moved::Signals => {
            scrolls.signals = step(scrolls.signals, rows(snapshot.signals.len() + snapshot.criteria.len()));
        }
        Moved::Tables => {
            let lines = match state.view {
                View::Home => rows(snapshot.tables.len()),
                View::Switches => {
                    2 * snapshot.switches.len()
                        + snapshot.rollback.actions.len()
                        + snapshot.rollback.course.len()
                        + MARGIN
                }
                View::Tables | View::Lag | View::Errors | View::Verify | View::Watch | View::Log => {
                    snapshot.tables.len() + snapshot.probes.len() + MARGIN
                }
            };
            scrolls.tables = step(scrolls.tables, lines);
        }
        Moved::Help => scrolls.help = step(scrolls.help, ACTIONS.len()),
        Moved::Result => {
            let way = snapshot.rollback.course.len() + snapshot.rollback.stuck.len() + snapshot.switches.len();
            let lines = way + snapshot.steps.len() + snapshot.criteria.len() + MARGIN;
            scrolls.result = step(scrolls.result, lines);
        }
        // The newest line is drawn first, so down is back in time. The ends are the log's own: its first line is
        // the oldest, its last line the newest, which is followed.
        Moved::Log => {
            let last = rows(matching(snapshot, &state.log));
            scrolls.log = match (far, by < 0) {
                (true, true) => last,
                (true, false) => 0,
                _ => scrolls.log.saturating_add_signed(by).min(last),
            };
        }
    }
    true
}

fn moved(modals: &[Modal], view: View, focus: Pane, status: RunStatus) -> Moved {
    match modals.last() {
        Some(Modal::Evidence { .. } | Modal::WhatIf | Modal::Alerts) => return Moved::Evidence,
        Some(Modal::Help { .. }) => return Moved::Help,
        _ => {}
    }
    match (view, focus) {
        (View::Home, Pane::Runbook) if has_result(status) => Moved::Result,
        (View::Home, Pane::Runbook) => Moved::Selection,
        (View::Home, Pane::Evidence) => Moved::Evidence,
        (View::Home, Pane::Signals) | (View::Watch, _) => Moved::Signals,
        (View::Home, Pane::Tables) | (View::Tables | View::Lag | View::Errors | View::Verify | View::Switches, _) => {
            Moved::Tables
        }
        (View::Home, Pane::Log) | (View::Log, _) => Moved::Log,
    }
}

/// Whether the result of the run, or its rollback, is shown over the runbook.
const fn has_result(status: RunStatus) -> bool {
    matches!(status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck | RunStatus::Finished)
}

/// The pane after (or before) this one among those there is room for, round and round.
#[must_use]
pub fn next_pane(focus: Pane, panes: &[Pane], forward: bool) -> Pane {
    if panes.is_empty() {
        return focus;
    }
    match panes.iter().position(|p| *p == focus) {
        Some(at) => panes[(at + if forward { 1 } else { panes.len() - 1 }) % panes.len()],
        None => panes[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::StepRow;

    fn steps(n: usize, current: usize) -> Snapshot {
        Snapshot { steps: vec![StepRow::default(); n], current: Some(current), ..Snapshot::default() }
    }

    #[test]
    fn the_selection_starts_at_the_current_step_and_stops_at_the_ends() {
        let (snapshot, mut state) = (steps(4, 1), ViewState::default());
        go(&mut state, &snapshot, Action::Down);
        assert_eq!(state.selected, Some(2));
        go(&mut state, &snapshot, Action::PageDown);
        go(&mut state, &snapshot, Action::Down);
        assert_eq!(state.selected, Some(3));
        go(&mut state, &snapshot, Action::Top);
        go(&mut state, &snapshot, Action::Up);
        assert_eq!(state.selected, Some(0));
        assert!(!go(&mut state, &snapshot, Action::Zoom));
        let mut none = ViewState::default();
        go(&mut none, &Snapshot::default(), Action::Down);
        assert_eq!(none.selected, None);
    }

    #[test]
    fn the_log_scrolls_back_from_its_end_and_follows_again() {
        let mut snapshot = steps(1, 0);
        let row = crate::snapshot::LogRow {
            at: crate::domain::at::At(0),
            level: crate::domain::run::Level::Info,
            source: String::new(),
            text: String::new(),
            seq: 0,
        };
        snapshot.log = vec![row; 5];
        let mut state = ViewState { view: View::Log, ..ViewState::default() };
        go(&mut state, &snapshot, Action::Down);
        assert_eq!(state.scrolls.log, 1);
        go(&mut state, &snapshot, Action::PageDown);
        assert_eq!(state.scrolls.log, 4);
        go(&mut state, &snapshot, Action::Up);
        assert_eq!(state.scrolls.log, 3);
        go(&mut state, &snapshot, Action::Top);
        assert_eq!(state.scrolls.log, 4);
        go(&mut state, &snapshot, Action::Bottom);
        assert_eq!(state.scrolls.log, 0);
        state.log.text = "nothing has this".into();
        go(&mut state, &snapshot, Action::Down);
        assert_eq!(state.scrolls.log, 0);
    }

    #[test]
    fn panes_go_round_both_ways() {
        let panes = [Pane::Runbook, Pane::Signals, Pane::Log];
        let mut pane = Pane::Runbook;
        for _ in 0..panes.len() {
            assert_eq!(next_pane(next_pane(pane, &panes, true), &panes, false), pane);
            pane = next_pane(pane, &panes, true);
        }
        assert_eq!(pane, Pane::Runbook);
        assert_eq!(next_pane(Pane::Tables, &panes, true), Pane::Runbook, "no room for the old one any more");
        assert_eq!(next_pane(Pane::Tables, &[], true), Pane::Tables);
    }
}
