//! The one table of actions: keys, help, palette and the last line of every screen come from here.

use super::state::{Modal, Pane, View, ViewState};
use crate::domain::plan::StepName;
use crate::domain::run::{Need, RunStatus, StepStatus};
use crate::snapshot::{AlertRow, Mode, Snapshot};

/// Everything a person can do at the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// First press arms, second rolls back.
    Rollback,
    /// Evidence of the selected step; in a box, press the focused button.
    Enter,
    /// Let workers rest, or go on.
    Pause,
    /// Let the waiting step start: opens its box.
    Next,
    /// Acknowledge messages that stay; in the box of the alerts, those.
    Acknowledge,
    /// Alerts that fired, and who was told.
    Alerts,
    /// Try the failed step again: opens its box.
    Retry,
    /// Leave the step out: opens its box.
    Skip,
    /// Take the last switch step back: opens its box.
    StepBack,
    /// One more load worker.
    MoreWorkers,
    /// One load worker less.
    FewerWorkers,
    /// What a rollback would do now; changes nothing.
    WhatIf,
    /// Write a line into the journal.
    Note,
    /// The home view.
    ViewHome,
    /// The tables.
    ViewTables,
    /// The lags.
    ViewLag,
    /// Probes and failures.
    ViewErrors,
    /// Comparisons.
    ViewVerify,
    /// Switches and rollback.
    ViewSwitches,
    /// Signals and success criteria.
    ViewWatch,
    /// The log.
    ViewLog,
    /// The focused pane fills the screen, or no longer.
    Zoom,
    /// The screen is held at this moment, or live again; the run goes on. No freeze of writes.
    HoldScreen,
    /// The next pane.
    FocusNext,
    /// The pane before.
    FocusPrevious,
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// The button to the left.
    Left,
    /// The button to the right.
    Right,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// The first line.
    Top,
    /// The last line; in the log, follow.
    Bottom,
    /// Type a filter for the log, or a search in the help.
    Filter,
    /// The log's next level.
    Level,
    /// A recording stops or goes on.
    PlayPause,
    /// A recording runs twice as fast.
    Faster,
    /// A recording runs half as fast.
    Slower,
    /// A recording jumps ten seconds on.
    SeekForward,
    /// A recording jumps ten seconds back.
    SeekBack,
    /// Actions by name.
    Palette,
    /// This table, searchable.
    Help,
    /// One level back; never leaves.
    Back,
    /// Leave; asks while a run is active.
    Quit,
}

/// Under which heading the help lists an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The run itself.
    Run,
    /// The full-width views.
    Views,
    /// Moving about.
    Moving,
    /// A recording.
    Replay,
    /// The screen.
    Screen,
}

impl Group {
    /// Groups in the order of the help.
    pub const ALL: [Self; 5] = [Self::Run, Self::Views, Self::Moving, Self::Replay, Self::Screen];

    /// The heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Run => "The run",
            Self::Views => "Views",
            Self::Moving => "Moving about",
            Self::Replay => "Recording",
            Self::Screen => "The screen",
        }
    }
}

/// Where a key works. Two actions may share a key when they work in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyScope {
    /// Everywhere.
    Run,
    /// While watching a recording; goes before [`KeyScope::Run`].
    Replay,
}

impl KeyScope {
    /// The name used by key maps.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Replay => "replay",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ActionInfo {
    /// The action.
    pub action: Action,
    /// Its name in the config's key table and in the palette.
    pub name: &'static str,
    /// Its keys unless the config says otherwise; the first one is shown.
    pub keys: &'static [&'static str],
    /// One or two words for the last line.
    pub short: &'static str,
    /// A sentence for the help.
    pub text: &'static str,
    /// Its heading in the help.
    pub group: Group,
    /// Where its keys work.
    pub place: KeyScope,
    /// How long it stays on the last line as that gets shorter, small longest; 0 is never on it. Rollback always stays.
    pub priority: u8,
    /// Changes the world or leaves; marked, and asks first.
    pub dangerous: bool,
    /// Must keep a key whatever the config says.
    pub must_stay: bool,
}

const fn row(
    action: Action,
    name: &'static str,
    keys: &'static [&'static str],
    short: &'static str,
    text: &'static str,
    group: Group,
    priority: u8,
) -> ActionInfo {
    let place = match group {
        Group::Replay => KeyScope::Replay,
        _ => KeyScope::Run,
    };
    let dangerous = matches!(
        action,
        Action::Rollback
            | Action::Next
            | Action::Retry
            | Action::Skip
            | Action::StepBack
            | Action::Quit
            | Action::Pause
    );
    let must_stay = matches!(action, Action::Rollback | Action::Quit);
    ActionInfo { action, name, keys, short, text, group, place, priority, dangerous, must_stay }
}

/// Every action, in the order of the help. Groups are contiguous.
#[rustfmt::skip]
pub const ACTIONS: &[ActionInfo] = {
    use Action as A;
    use Group as G;
    &[
        row(A::Rollback, "roll_back", &["R", "ctrl-r"], "rollback", "twice: every switch back to its captured value", G::Run, 1),
        row(A::Enter, "enter", &["enter"], "evidence", "why, what and undo of the step; press the button", G::Run, 2),
        row(A::Pause, "pause", &["space"], "pause", "let workers rest at a safe point, or go on", G::Run, 3),
        row(A::Next, "next", &["n"], "next", "let the waiting step start: opens its box", G::Run, 4),
        row(A::Acknowledge, "acknowledge", &["a"], "ack", "acknowledge messages that stay", G::Run, 5),
        row(A::Alerts, "alerts", &["A"], "alerts", "what fired and who was told; a acknowledges", G::Run, 15),
        row(A::Retry, "retry", &["t"], "try again", "try the failed step again: opens its box", G::Run, 0),
        row(A::Skip, "skip", &["s"], "skip", "leave the failed step out: opens its box", G::Run, 0),
        row(A::StepBack, "step_back", &["b"], "step back", "put what switched last where it stood before: opens its box", G::Run, 6),
        row(A::MoreWorkers, "more_workers", &["+", "="], "workers", "one more load worker", G::Run, 0),
        row(A::FewerWorkers, "fewer_workers", &["-", "_"], "workers", "one load worker less", G::Run, 0),
        row(A::WhatIf, "what_if", &["w"], "what if", "what rollback would do now, and its price; changes nothing", G::Run, 14),
        row(A::Note, "note", &["N"], "note", "write a line into the journal", G::Run, 0),
        row(A::ViewTables, "view_tables", &["1", "T"], "tables", "counts, difference, lag and rate by table", G::Views, 0),
        row(A::ViewLag, "view_lag", &["2"], "lag", "the four lags by table", G::Views, 0),
        row(A::ViewErrors, "view_errors", &["3", "E"], "errors", "probes, retries, parked rows, last trouble", G::Views, 0),
        row(A::ViewVerify, "view_verify", &["v", "4"], "verify", "what the last full comparison found", G::Views, 11),
        row(A::ViewSwitches, "view_switches", &["5", "S"], "switches", "where every switch stands, and rollback", G::Views, 0),
        row(A::ViewWatch, "view_watch", &["M", "6"], "metrics", "signals with history; success criteria", G::Views, 10),
        row(A::ViewLog, "view_log", &["L", "7"], "log", "everything that happened", G::Views, 9),
        row(A::ViewHome, "view_home", &["0"], "home", "the runbook", G::Views, 0),
        row(A::Up, "up", &["up", "k"], "up", "one line up", G::Moving, 0),
        row(A::Down, "down", &["down", "j"], "down", "one line down", G::Moving, 0),
        row(A::Left, "left", &["left", "h"], "left", "the button to the left", G::Moving, 0),
        row(A::Right, "right", &["right", "l"], "right", "the button to the right", G::Moving, 0),
        row(A::PageUp, "page_up", &["pgup", "ctrl-u"], "page up", "one page up", G::Moving, 0),
        row(A::PageDown, "page_down", &["pgdn", "ctrl-d"], "page down", "one page down", G::Moving, 0),
        row(A::Top, "top", &["home", "g"], "top", "the first line", G::Moving, 0),
        row(A::Bottom, "bottom", &["end", "G"], "bottom", "the last line; in the log, follow", G::Moving, 0),
        row(A::FocusNext, "focus_next", &["tab"], "pane", "the next pane", G::Moving, 0),
        row(A::FocusPrevious, "focus_previous", &["backtab"], "pane", "the pane before", G::Moving, 0),
        row(A::PlayPause, "play_pause", &["space"], "play", "stop the recording, or go on", G::Replay, 3),
        row(A::Faster, "faster", &[">", "."], "faster", "twice as fast", G::Replay, 4),
        row(A::Slower, "slower", &["<", ","], "slower", "half as fast", G::Replay, 5),
        row(A::SeekForward, "seek_forward", &["]", "right"], "on", "ten seconds on", G::Replay, 9),
        row(A::SeekBack, "seek_back", &["[", "left"], "back", "ten seconds back", G::Replay, 9),
        row(A::Zoom, "zoom", &["z"], "zoom", "the focused pane fills the screen, or not", G::Screen, 12),
        row(A::HoldScreen, "hold_screen", &["f"], "hold screen", "hold the screen at this moment, or go live; the run goes on", G::Screen, 0),
        row(A::Palette, "palette", &[":"], "command", "actions by name", G::Screen, 8),
        row(A::Filter, "filter", &["/"], "filter", "show only lines that hold a text", G::Screen, 13),
        row(A::Level, "level", &["e"], "level", "least level of the log: info, warn, error", G::Screen, 0),
        row(A::Help, "help", &["?"], "help", "this list; / searches it", G::Screen, 7),
        row(A::Back, "back", &["esc"], "back", "one level back; changes nothing in the run", G::Screen, 0),
        row(A::Quit, "quit", &["q"], "quit", "leave; asks while a run is active", G::Screen, 6),
    ]
};

impl Action {
    /// This action's row.
    #[must_use]
    pub fn info(self) -> &'static ActionInfo {
        // The table holds every action; a test keeps it so.
        ACTIONS.iter().find(|i| i.action == self).unwrap_or(&ACTIONS[0])
    }

    /// The action with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ACTIONS.iter().find(|i| i.name == name).map(|i| i.action)
    }

    /// The view an action opens.
    #[must_use]
    pub const fn view(self) -> Option<View> {
        Some(match self {
            Self::ViewHome => View::Home,
            Self::ViewTables => View::Tables,
            Self::ViewLag => View::Lag,
            Self::ViewErrors => View::Errors,
            Self::ViewVerify => View::Verify,
            Self::ViewSwitches => View::Switches,
            Self::ViewWatch => View::Watch,
            Self::ViewLog => View::Log,
            _ => return None,
        })
    }
}

/// The key of an action as people read it, honouring the person's own keys: `R`, `Space`, `Ctrl-R`.
#[must_use]
pub fn key_label(action: Action, state: &ViewState) -> String {
    let key = match state.keys.get(&action) {
        Some(own) => own.first().map_or("", String::as_str),
        None => action.info().keys.first().copied().unwrap_or(""),
    };
    pretty(key)
}

/// A key of the action that is not a character, so that it works while text is typed: `Ctrl-R`.
#[must_use]
pub fn chord_label(action: Action, state: &ViewState) -> String {
    let own = state.keys.get(&action);
    let mut keys: Vec<&str> = own.map_or_else(Vec::new, |own| own.iter().map(String::as_str).collect());
    if own.is_none() {
        keys.extend(action.info().keys);
    }
    keys.iter().find(|k| k.chars().count() > 1).map_or_else(|| key_label(action, state), |k| pretty(k))
}

/// A key's name as people read it.
#[must_use]
pub fn pretty(key: &str) -> String {
    if key.chars().count() <= 1 {
        return key.to_owned();
    }
    let word = |w: &str| {
        let mut c = w.chars();
        c.next().map(|f| f.to_uppercase().chain(c).collect::<String>()).unwrap_or_default()
    };
    key.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// Whether an action does anything now; otherwise why not, in words for the person who pressed its key.
pub fn availability(action: Action, snapshot: &Snapshot, state: &ViewState) -> Result<(), &'static str> {
    use RunStatus as S;
    let replay = matches!(snapshot.mode, Mode::Replay { .. });
    let current = snapshot.current.and_then(|i| snapshot.steps.get(i));
    let need = current.and_then(|s| s.need.as_ref());
    let acts = matches!(
        action,
        Action::Rollback
            | Action::Pause
            | Action::Next
            | Action::Retry
            | Action::Skip
            | Action::StepBack
            | Action::MoreWorkers
            | Action::FewerWorkers
            | Action::Note
    );
    if acts && replay {
        return Err("this is a recording");
    }
    if acts {
        match snapshot.status {
            S::RolledBack => return Err("the run has ended: it was rolled back"),
            S::Finished => {
                return Err("the run is finished: `cutover rollback RUN --finished` in another terminal takes it back");
            }
            _ => {}
        }
    }
    let while_rolling_back = || match snapshot.status {
        S::RollingBack => Err("rolling back: nothing else starts"),
        S::Stuck => Err("rollback is stuck: do what the screen lists, or order rollback again"),
        _ => Ok(()),
    };
    let loading = || snapshot.steps.iter().any(|s| s.kind == StepName::Load && s.status == StepStatus::Running);
    match action {
        Action::Rollback if snapshot.status == S::RollingBack => Err("already rolling back"),
        Action::Pause => while_rolling_back(),
        Action::Next => while_rolling_back().and(match need {
            Some(Need::Second) => Err("a second person must approve: cutover approve, in another terminal"),
            Some(_) => Ok(()),
            None => Err("no step waits for a person"),
        }),
        Action::Retry | Action::Skip => while_rolling_back().and(match need {
            Some(Need::Decision) => Ok(()),
            _ => Err("no step failed or is unknown"),
        }),
        Action::StepBack => while_rolling_back().and(match snapshot.step_back.step {
            Some(_) => Ok(()),
            None => Err("nothing to take back by itself; rollback takes everything back (w says what it would do)"),
        }),
        Action::MoreWorkers | Action::FewerWorkers => while_rolling_back().and_then(|()| {
            if !loading() {
                Err("no bulk load is running")
            } else if action == Action::FewerWorkers && snapshot.workers.1 <= 1 {
                Err("one worker is the least")
            } else {
                Ok(())
            }
        }),
        Action::PlayPause | Action::Faster | Action::Slower | Action::SeekForward | Action::SeekBack if !replay => {
            Err("this is not a recording")
        }
        Action::Acknowledge if matches!(state.top(), Some(Modal::Alerts)) => {
            match (replay, snapshot.alerts.iter().any(AlertRow::is_unseen)) {
                (true, _) => Err("this is a recording"),
                (false, false) => Err("every alert is acknowledged"),
                (false, true) => Ok(()),
            }
        }
        Action::Acknowledge if state.toasts.is_empty() => Err("nothing to acknowledge"),
        Action::Enter if state.modals.is_empty() && snapshot.steps.is_empty() => Err("no step yet"),
        Action::Zoom if state.view != View::Home => Err("a full-width view has one pane"),
        Action::Left | Action::Right if !state.top().is_some_and(Modal::is_question) => Err("no buttons here"),
        Action::Filter
            if !(state.view == View::Log
                || state.view == View::Home
                || matches!(state.top(), Some(Modal::Help { .. }))) =>
        {
            Err("nothing to filter here")
        }
        Action::Level if !(state.view == View::Log || state.focus == Pane::Log || state.view == View::Home) => {
            Err("no log here")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::snapshot::StepRow;

    #[test]
    fn names_and_keys_are_unique_and_groups_contiguous() {
        let mut names = BTreeSet::new();
        let mut actions = BTreeSet::new();
        let mut keys = BTreeMap::new();
        for info in ACTIONS {
            assert!(names.insert(info.name), "{}", info.name);
            assert!(actions.insert(info.action), "{}", info.name);
            assert!(!info.keys.is_empty() && !info.text.is_empty());
            for key in info.keys {
                assert_eq!(keys.insert((info.place, *key), info.name), None, "{key}");
            }
            assert_eq!(info.action.info().name, info.name);
        }
        let mut groups: Vec<Group> = ACTIONS.iter().map(|i| i.group).collect();
        groups.dedup();
        assert_eq!(groups, Group::ALL);
    }

    #[test]
    fn labels_are_readable_and_honour_own_keys() {
        let mut state = ViewState::default();
        assert_eq!(key_label(Action::Pause, &state), "Space");
        assert_eq!(key_label(Action::Rollback, &state), "R");
        assert_eq!(pretty("ctrl-r"), "Ctrl-R");
        state.keys.insert(Action::Rollback, vec!["f9".into()]);
        assert_eq!(key_label(Action::Rollback, &state), "F9");
    }

    #[test]
    fn disabled_actions_say_why() {
        let mut snapshot = Snapshot { status: RunStatus::Running, ..Snapshot::default() };
        let state = ViewState::default();
        assert_eq!(availability(Action::Rollback, &snapshot, &state), Ok(()));
        assert_eq!(availability(Action::Next, &snapshot, &state), Err("no step waits for a person"));
        assert_eq!(availability(Action::MoreWorkers, &snapshot, &state), Err("no bulk load is running"));
        assert_eq!(availability(Action::Faster, &snapshot, &state), Err("this is not a recording"));
        snapshot.steps = vec![StepRow { need: Some(Need::Decision), ..StepRow::default() }];
        snapshot.current = Some(0);
        assert_eq!(availability(Action::Next, &snapshot, &state), Ok(()));
        assert_eq!(availability(Action::Retry, &snapshot, &state), Ok(()));
        snapshot.status = RunStatus::Stuck;
        assert_eq!(availability(Action::Rollback, &snapshot, &state), Ok(()));
        assert!(availability(Action::Next, &snapshot, &state).is_err());
        snapshot.status = RunStatus::RollingBack;
        assert_eq!(availability(Action::Rollback, &snapshot, &state), Err("already rolling back"));
        snapshot.status = RunStatus::Running;
        snapshot.mode = Mode::Replay { speed: 8.0, paused: false };
        assert_eq!(availability(Action::Rollback, &snapshot, &state), Err("this is a recording"));
        assert_eq!(availability(Action::Faster, &snapshot, &state), Ok(()));
    }
}
