//! The last line: what the keys do here, rollback among them for as long as the run can roll back.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::action::{Action, availability, chord_label, key_label};
use super::canvas::{Canvas, Line, fit};
use super::state::{Modal, ViewState};
use super::theme::Tone;
use crate::domain::run::RunStatus;
use crate::snapshot::{Mode, Snapshot};

/// Left to right.
const ORDER: [Action; 15] = [
    Action::Enter,
    Action::Pause,
    Action::Next,
    Action::Acknowledge,
    Action::Alerts,
    Action::ViewVerify,
    Action::StepBack,
    Action::Rollback,
    Action::ViewLog,
    Action::ViewWatch,
    Action::Zoom,
    Action::Palette,
    Action::Filter,
    Action::Help,
    Action::Quit,
];

const REPLAY: [Action; 9] = [
    Action::PlayPause,
    Action::Slower,
    Action::Faster,
    Action::SeekBack,
    Action::SeekForward,
    Action::ViewLog,
    Action::Palette,
    Action::Help,
    Action::Quit,
];

/// Once the run is over: leaving, and what there is to read.
const OVER: [Action; 9] = [
    Action::Quit,
    Action::Enter,
    Action::Alerts,
    Action::ViewVerify,
    Action::ViewLog,
    Action::ViewWatch,
    Action::Zoom,
    Action::Palette,
    Action::Help,
];

/// Whether rollback has a place on the screen: neither a recording nor a run that has ended can be rolled back.
pub(super) const fn can_go_back(snapshot: &Snapshot) -> bool {
    !matches!(snapshot.mode, Mode::Replay { .. })
        && !matches!(snapshot.status, RunStatus::Finished | RunStatus::RolledBack)
}

/// One entry: key, word, whether it does anything now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    action: Action,
    key: String,
    word: String,
    available: bool,
}

impl Entry {
    fn width(&self) -> usize {
        self.key.width() + if self.word.is_empty() { 0 } else { 1 + self.word.width() }
    }
}

fn entries(snapshot: &Snapshot, state: &ViewState) -> Vec<Entry> {
    let entry = |action: Action, word: &str| Entry {
        action,
        key: key_label(action, state),
        word: word.to_owned(),
        available: availability(action, snapshot, state).is_ok(),
    };
    let mut rollback = entry(Action::Rollback, "rollback");
    if takes_text(state) {
        // A letter is text there; the key that is no letter works.
        rollback.key = chord_label(Action::Rollback, state);
    }
    let boxed = |list: &[(Action, &str)]| {
        let mut all: Vec<Entry> = list.iter().map(|(a, w)| entry(*a, w)).collect();
        if can_go_back(snapshot) {
            all.push(rollback.clone());
        }
        all
    };
    if state.log.editing {
        return boxed(&[(Action::Enter, "keep filter"), (Action::Back, "clear")]);
    }
    match state.top() {
        Some(Modal::Confirm { .. } | Modal::StepBack { .. } | Modal::Quit { .. }) => {
            boxed(&[(Action::FocusNext, "button"), (Action::Enter, "press"), (Action::Back, "cancel")])
        }
        Some(Modal::Decide { .. }) => {
            boxed(&[(Action::Enter, "choose"), (Action::Right, "choice"), (Action::Back, "leave as it is")])
        }
        Some(Modal::Help { .. }) => {
            boxed(&[(Action::Filter, "search"), (Action::Down, "scroll"), (Action::Back, "close")])
        }
        Some(Modal::Palette { .. }) => {
            boxed(&[(Action::Enter, "run"), (Action::Down, "choose"), (Action::Back, "close")])
        }
        Some(Modal::Note { .. }) => boxed(&[(Action::Enter, "write"), (Action::Back, "cancel")]),
        Some(Modal::Evidence { .. }) if availability(Action::Next, snapshot, state).is_ok() => {
            boxed(&[(Action::Next, "next"), (Action::Down, "scroll"), (Action::Back, "close")])
        }
        Some(Modal::Alerts) => {
            boxed(&[(Action::Acknowledge, "acknowledge"), (Action::Down, "scroll"), (Action::Back, "close")])
        }
        Some(Modal::Evidence { .. } | Modal::WhatIf) => boxed(&[(Action::Down, "scroll"), (Action::Back, "close")]),
        None => {
            let replay = matches!(snapshot.mode, Mode::Replay { .. });
            let order: &[Action] = match snapshot.status {
                _ if replay => &REPLAY,
                RunStatus::Finished | RunStatus::RolledBack => &OVER,
                _ => &ORDER,
            };
            // Most plans have no step that one key takes back.
            // Nor has every run alerts.
            let has_place = |a: &&Action| match a {
                Action::StepBack => availability(Action::StepBack, snapshot, state).is_ok(),
                Action::Alerts => !snapshot.alerts.is_empty(),
                _ => true,
            };
            let list = order.iter().filter(has_place).map(|a| {
                let word = match a {
                    Action::Pause if snapshot.status == RunStatus::Paused => "go on",
                    Action::Quit if !can_go_back(snapshot) => "leave",
                    other => other.info().short,
                };
                entry(*a, word)
            });
            list.collect()
        }
    }
}

/// Whether letters are text now.
pub(super) fn takes_text(state: &ViewState) -> bool {
    match state.top() {
        Some(
            Modal::Confirm { word: Some(_), .. }
            | Modal::Help { searching: true, .. }
            | Modal::Palette { .. }
            | Modal::Note { .. },
        ) => true,
        Some(_) => false,
        None => state.log.editing,
    }
}

/// Shortens the list to the width: words of the last few first, then whole entries, never rollback; where there is
/// none, never the way out.
fn shorten(mut list: Vec<Entry>, width: usize, wide: bool) -> (Vec<Entry>, usize) {
    let total =
        |list: &[Entry], gap: usize| list.iter().map(Entry::width).sum::<usize>() + gap * list.len().saturating_sub(1);
    for gap in if wide { vec![3, 2] } else { vec![2] } {
        if total(&list, gap) <= width {
            return (list, gap);
        }
    }
    let stays = match list.iter().any(|e| e.action == Action::Rollback) {
        true => Action::Rollback,
        false => Action::Quit,
    };
    let priority = |e: &Entry| e.action.info().priority;
    let drop_one = |list: &mut Vec<Entry>, above: u8| {
        let worst = list
            .iter()
            .enumerate()
            .filter(|(_, e)| e.action != stays && (priority(e) > above || priority(e) == 0))
            .max_by_key(|(i, e)| (if priority(e) == 0 { u8::MAX } else { priority(e) }, *i))
            .map(|(i, _)| i);
        worst.map(|i| list.remove(i)).is_some()
    };
    // Extras of wide screens go first, then the words of command, help and quit.
    while total(&list, 2) > width && list.iter().any(|e| priority(e) > 10) && drop_one(&mut list, 10) {}
    if total(&list, 2) > width {
        for e in &mut list {
            if e.action != stays && matches!(e.action, Action::Palette | Action::Help | Action::Quit) {
                e.word.clear();
            }
        }
    }
    // `: ?` stand together.
    let joined = |list: &[Entry]| {
        let both =
            [Action::Palette, Action::Help].iter().all(|a| list.iter().any(|e| e.action == *a && e.word.is_empty()));
        total(list, 2) - usize::from(both)
    };
    while joined(&list) > width && drop_one(&mut list, 0) {}
    (list, 2)
}

/// Draws the last line.
pub(super) fn keys(c: &mut Canvas<'_>, row: Rect, snapshot: &Snapshot, state: &ViewState) {
    let width = usize::from(row.width);
    let (list, gap) = shorten(entries(snapshot, state), width, width >= 160);
    let mut line = Line::default();
    for (i, e) in list.iter().enumerate() {
        if i > 0 {
            let tight = e.action == Action::Help && e.word.is_empty() && list[i - 1].action == Action::Palette;
            line = line.then(" ".repeat(if tight { 1 } else { gap }), Tone::Plain);
        }
        let (key, word) = match (e.available, e.action) {
            (false, _) => (Tone::Dim, Tone::Dim),
            (true, Action::Rollback) => (Tone::Production, Tone::Strong),
            (true, _) => (Tone::Accent, Tone::Plain),
        };
        line = line.then(e.key.clone(), key);
        if !e.word.is_empty() {
            line = line.then(format!(" {}", e.word), word);
        }
    }
    if line.width() > width {
        let (last, tone) = match list.first() {
            Some(e) if e.action != Action::Rollback => (format!("{} {}", e.key, e.word), Tone::Accent),
            _ => ("R rollback".to_owned(), Tone::Production),
        };
        line = Line::new(fit(&last, width), tone);
    }
    c.line(row, &line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(width: usize) -> String {
        let (list, _) = shorten(entries(&Snapshot::default(), &ViewState::default()), width, false);
        list.iter().map(|e| format!("{} {}", e.key, e.word)).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn rollback_stays_at_every_width() {
        for width in 10..200 {
            assert!(text(width).contains("R rollback"), "{width}: {}", text(width));
        }
    }

    #[test]
    fn a_run_that_ended_offers_what_still_does_something_the_way_out_first() {
        for status in [RunStatus::Finished, RunStatus::RolledBack] {
            let snapshot = Snapshot { status, steps: vec![crate::snapshot::StepRow::default()], ..Snapshot::default() };
            for width in 7..200 {
                let (list, _) = shorten(entries(&snapshot, &ViewState::default()), width, false);
                assert_eq!((list[0].key.as_str(), list[0].word.as_str()), ("q", "leave"), "{status:?} {width}");
                assert!(list.iter().all(|e| e.available), "{list:?}");
            }
        }
    }

    #[test]
    fn a_recording_offers_no_rollback() {
        let mode = Mode::Replay { speed: 8.0, paused: false };
        let snapshot = Snapshot { mode, status: RunStatus::Running, ..Snapshot::default() };
        for state in [ViewState::default(), ViewState { modals: vec![Modal::WhatIf], ..ViewState::default() }] {
            let all = entries(&snapshot, &state);
            assert!(all.iter().all(|e| e.action != Action::Rollback), "{all:?}");
        }
    }

    #[test]
    fn at_eighty_columns_the_usual_keys_are_there() {
        let line = text(80);
        for key in
            ["Enter evidence", "Space pause", "n next", "a ack", "R rollback", "L log", "M metrics", ": ", "? ", "q "]
        {
            assert!(line.contains(key), "{key}: {line}");
        }
    }
}
