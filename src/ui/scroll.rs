//! Moving about: the selected step, panes, and what is scrolled where.

use crate::domain::run::RunStatus;
use crate::snapshot::Snapshot;
use crate::view::action::{ACTIONS, Action};
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
        Moved::Tables => scrolls.tables = step(scrolls.tables, rows(snapshot.tables.len())),
        Moved::Help => scrolls.help = step(scrolls.help, ACTIONS.len()),
        Moved::Result => {
            let lines = snapshot.rollback.actions.len() + snapshot.rollback.stuck.len() + snapshot.switches.len();
            scrolls.result = step(scrolls.result, lines);
        }
        // Counted back from the newest line: up is more.
        Moved::Log => {
            let last = rows(snapshot.log.len());
            scrolls.log = match (far, by < 0) {
                (true, true) => last,
                (true, false) => 0,
                _ => scrolls.log.saturating_add_signed(-by).min(last),
            };
        }
    }
    true
}

fn moved(modals: &[Modal], view: View, focus: Pane, status: RunStatus) -> Moved {
    match modals.last() {
        Some(Modal::Evidence { .. }) => return Moved::Evidence,
        Some(Modal::Help { .. }) => return Moved::Help,
        _ => {}
    }
    match (view, focus) {
        (View::Home, Pane::Runbook) if matches!(status, RunStatus::RollingBack | RunStatus::Stuck) => Moved::Result,
        (View::Home, Pane::Runbook) => Moved::Selection,
        (View::Home, Pane::Evidence) => Moved::Evidence,
        (View::Home, Pane::Signals) | (View::Watch, _) => Moved::Signals,
        (View::Home, Pane::Tables) | (View::Tables | View::Lag | View::Errors | View::Verify, _) => Moved::Tables,
        (View::Home, Pane::Log) | (View::Log, _) => Moved::Log,
        (View::Switches, _) => Moved::Result,
    }
}

/// The panes of the home view in the order of the focus key.
const PANES: [Pane; 5] = [Pane::Runbook, Pane::Evidence, Pane::Signals, Pane::Tables, Pane::Log];

/// The pane after (or before) this one, round and round.
#[must_use]
pub fn next_pane(focus: Pane, forward: bool) -> Pane {
    let at = PANES.iter().position(|p| *p == focus).unwrap_or(0);
    let step = if forward { 1 } else { PANES.len() - 1 };
    PANES[(at + step) % PANES.len()]
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
        go(&mut state, &snapshot, Action::Up);
        assert_eq!(state.scrolls.log, 1);
        go(&mut state, &snapshot, Action::PageUp);
        assert_eq!(state.scrolls.log, 4);
        go(&mut state, &snapshot, Action::Bottom);
        assert_eq!(state.scrolls.log, 0);
    }

    #[test]
    fn panes_go_round_both_ways() {
        let mut pane = Pane::Runbook;
        for _ in 0..PANES.len() {
            assert_eq!(next_pane(next_pane(pane, true), false), pane);
            pane = next_pane(pane, true);
        }
        assert_eq!(pane, Pane::Runbook);
    }
}
