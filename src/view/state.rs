//! What one person's screen remembers: plain data, owned by `ui`, read by [`super::draw`].
//!
//! The view has no clock. `clock_ms` is any steadily growing count of milliseconds; every other time here is
//! on the same count.

use std::collections::BTreeMap;

use super::action::Action;
use crate::domain::at::At;
use crate::domain::run::{Level, Need, RunStatus};
use crate::snapshot::{Mode, Snapshot, StepRow};

/// How long a dangerous dialog ignores keys after it was first drawn, in milliseconds.
pub const DIALOG_DEAF_MS: u64 = 400;

/// How long a run that is not over may publish nothing, in milliseconds: twenty times as long as it takes.
pub const STALE_MS: u64 = 2_000;

/// The full-width views, in the order of their digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// The runbook and what surrounds it.
    #[default]
    Home,
    /// Counts, difference, lag and rate of every table.
    Tables,
    /// The four lags of every table.
    Lag,
    /// Probes and failures.
    Errors,
    /// The last full comparisons.
    Verify,
    /// Switches and rollback.
    Switches,
    /// Signals and success criteria.
    Watch,
    /// The log.
    Log,
}

/// Panes of the home view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pane {
    /// The steps.
    #[default]
    Runbook,
    /// Why, what and undo of the selected step.
    Evidence,
    /// Watched numbers.
    Signals,
    /// Counts by table.
    Tables,
    /// The log.
    Log,
}

/// How far something is scrolled, in lines from its top (the log: from its end).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrolls {
    /// Evidence pane and evidence dialog.
    pub evidence: usize,
    /// Signals pane and watch view.
    pub signals: usize,
    /// Tables pane and every view by table.
    pub tables: usize,
    /// Help.
    pub help: usize,
    /// Log, in lines back from the newest; 0 follows.
    pub log: usize,
    /// The screens that stand over the runbook while rolling back or stuck.
    pub result: usize,
}

/// Which log lines are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// Only lines holding this, case ignored; empty shows all.
    pub text: String,
    /// Whether the text is being typed.
    pub editing: bool,
    /// Least level.
    pub level: Level,
}

impl Default for LogFilter {
    fn default() -> Self {
        Self { text: String::new(), editing: false, level: Level::Info }
    }
}

/// A short message over the log. Info and warnings leave by themselves, errors stay until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toast {
    /// How serious.
    pub level: Level,
    /// What it says.
    pub text: String,
    /// When it leaves; absent stays.
    pub until_ms: Option<u64>,
}

/// The two sides of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Button {
    /// Leave everything as it is. Always focused first.
    #[default]
    Cancel,
    /// Do it.
    Go,
}

/// What a person can decide about a step that failed or is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Leave it as it is.
    #[default]
    Wait,
    /// Try again.
    Retry,
    /// Leave the step out.
    Skip,
}

impl Choice {
    /// The choices in the order they are drawn.
    pub const ALL: [Self; 3] = [Self::Wait, Self::Retry, Self::Skip];

    /// The next choice to the right; stops at the end.
    #[must_use]
    pub const fn right(self) -> Self {
        match self {
            Self::Wait => Self::Retry,
            Self::Retry | Self::Skip => Self::Skip,
        }
    }

    /// The next choice to the left; stops at the end.
    #[must_use]
    pub const fn left(self) -> Self {
        match self {
            Self::Wait | Self::Retry => Self::Wait,
            Self::Skip => Self::Retry,
        }
    }
}

/// A box over the screen. The topmost takes input; the rollback key passes through all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modal {
    /// A step waits for a person.
    Confirm {
        /// Step id.
        step: String,
        /// The word to type, if any.
        word: Option<String>,
        /// What was typed so far.
        typed: String,
        /// Focused button.
        button: Button,
        /// When it was first drawn; set by `ui` after the draw.
        drawn_ms: Option<u64>,
    },
    /// A step failed or is unknown: try again, skip, or leave it.
    Decide {
        /// Step id.
        step: String,
        /// Focused choice.
        choice: Choice,
        /// When it was first drawn.
        drawn_ms: Option<u64>,
    },
    /// Take the last switch step back.
    StepBack {
        /// Step id.
        step: String,
        /// Focused button.
        button: Button,
        /// When it was first drawn.
        drawn_ms: Option<u64>,
    },
    /// Leave while a run is active.
    Quit {
        /// Focused button.
        button: Button,
        /// When it was first drawn.
        drawn_ms: Option<u64>,
    },
    /// Evidence of one step in full.
    Evidence {
        /// Step id.
        step: String,
    },
    /// Every action with its key.
    Help {
        /// Only lines holding this.
        search: String,
        /// Whether it is being typed.
        searching: bool,
    },
    /// Actions by name.
    Palette {
        /// What was typed so far.
        typed: String,
        /// Place in the list of matches.
        selected: usize,
    },
    /// What a rollback would do now.
    WhatIf,
    /// Alerts that fired.
    Alerts,
    /// A line for the journal.
    Note {
        /// What was typed so far.
        typed: String,
    },
}

impl Modal {
    /// The box that asks for what this step needs from a person.
    #[must_use]
    pub fn for_step(step: &StepRow) -> Option<Self> {
        let id = step.id.clone();
        let confirm = |word| Self::Confirm {
            step: id.clone(),
            word,
            typed: String::new(),
            button: Button::Cancel,
            drawn_ms: None,
        };
        Some(match step.need.as_ref()? {
            Need::Key => confirm(None),
            Need::Word(word) => confirm(Some(word.clone())),
            // Only another terminal can help.
            Need::Second => return None,
            Need::Decision => Self::Decide { step: step.id.clone(), choice: Choice::Wait, drawn_ms: None },
        })
    }

    /// When it was first drawn, for the boxes that ask something: they ignore keys at first. One place says which these are.
    const fn asks(&self) -> Option<&Option<u64>> {
        match self {
            Self::Confirm { drawn_ms, .. }
            | Self::Decide { drawn_ms, .. }
            | Self::StepBack { drawn_ms, .. }
            | Self::Quit { drawn_ms, .. } => Some(drawn_ms),
            Self::Evidence { .. }
            | Self::Help { .. }
            | Self::Palette { .. }
            | Self::WhatIf
            | Self::Alerts
            | Self::Note { .. } => None,
        }
    }

    /// Whether it asks something that changes the run, or whether it goes on here: its keys are answers.
    #[must_use]
    pub const fn is_question(&self) -> bool {
        self.asks().is_some()
    }

    /// When it was first drawn, for the boxes that ignore keys at first.
    #[must_use]
    pub const fn drawn_ms(&self) -> Option<u64> {
        match self.asks() {
            Some(drawn_ms) => *drawn_ms,
            None => None,
        }
    }

    /// Notes that it stands on the screen since `now_ms`. Only the first call counts.
    pub fn mark_drawn(&mut self, now_ms: u64) {
        if self.is_question() && self.drawn_ms().is_none() {
            self.set_drawn(Some(now_ms));
        }
    }

    /// Notes that it does not stand on the screen any more.
    pub fn mark_hidden(&mut self) {
        self.set_drawn(None);
    }

    fn set_drawn(&mut self, at: Option<u64>) {
        match self {
            Self::Confirm { drawn_ms, .. }
            | Self::Decide { drawn_ms, .. }
            | Self::StepBack { drawn_ms, .. }
            | Self::Quit { drawn_ms, .. } => *drawn_ms = at,
            Self::Evidence { .. }
            | Self::Help { .. }
            | Self::Palette { .. }
            | Self::WhatIf
            | Self::Alerts
            | Self::Note { .. } => {}
        }
    }

    /// Whether it still ignores keys (other than rollback), so that keys typed ahead trigger nothing dangerous.
    #[must_use]
    pub fn is_deaf(&self, now_ms: u64) -> bool {
        self.is_question() && self.drawn_ms().is_none_or(|at| now_ms.saturating_sub(at) < DIALOG_DEAF_MS)
    }

    /// Whether the word was typed in full (a dialog without a word needs none).
    #[cfg(test)]
    #[must_use]
    pub fn word_matches(&self) -> bool {
        match self {
            Self::Confirm { word: Some(word), typed, .. } => typed == word,
            _ => true,
        }
    }
}

/// Everything one screen remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewState {
    /// The clock every time here is on, in milliseconds.
    pub clock_ms: u64,
    /// When the newest snapshot came; absent before the first.
    pub published_ms: Option<u64>,
    /// Which view.
    pub view: View,
    /// Focused pane of the home view.
    pub focus: Pane,
    /// The focused pane fills the home view.
    pub zoom: bool,
    /// Selected step; absent follows the current one.
    pub selected: Option<usize>,
    /// Scroll positions.
    pub scrolls: Scrolls,
    /// Boxes, topmost last.
    pub modals: Vec<Modal>,
    /// Which log lines are shown.
    pub log: LogFilter,
    /// Messages, newest last.
    pub toasts: Vec<Toast>,
    /// The first press of the rollback key stands until then.
    pub armed_until_ms: Option<u64>,
    /// Rollback was ordered here; drawn before the engine answers.
    pub ordered: bool,
    /// The view stands still since this wall time while the run goes on.
    pub held_at: Option<At>,
    /// Keys that differ from the table's, by action.
    pub keys: BTreeMap<Action, Vec<String>>,
}

impl ViewState {
    /// Milliseconds left to press the rollback key again, when armed.
    #[must_use]
    pub fn armed_ms(&self) -> Option<u64> {
        self.armed_until_ms.filter(|until| *until > self.clock_ms).map(|until| until - self.clock_ms)
    }

    /// For how many milliseconds nothing was published of a run that is not over, once that is too long: what is shown
    /// may not be true any more.
    #[must_use]
    pub fn stale_ms(&self, snapshot: &Snapshot) -> Option<u64> {
        let live = !matches!(snapshot.mode, Mode::Replay { .. }) && Self::run_is_active(snapshot);
        let silent = self.clock_ms.saturating_sub(self.published_ms?);
        (live && silent > STALE_MS).then_some(silent)
    }

    /// Place of the step whose evidence is shown.
    #[must_use]
    pub fn shown_step(&self, snapshot: &Snapshot) -> Option<usize> {
        let last = snapshot.steps.len().checked_sub(1)?;
        Some(self.selected.or(snapshot.current).unwrap_or(last).min(last))
    }

    /// The box that takes input.
    #[must_use]
    pub fn top(&self) -> Option<&Modal> {
        self.modals.last()
    }

    /// Whether leaving now would leave a run under way behind.
    #[must_use]
    pub const fn run_is_active(snapshot: &Snapshot) -> bool {
        matches!(
            snapshot.status,
            RunStatus::Running | RunStatus::Paused | RunStatus::RollingBack | RunStatus::Stuck | RunStatus::Prepared
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dangerous_box_ignores_keys_until_it_was_drawn_for_a_while() {
        let row = StepRow { id: "switch".into(), need: Some(Need::Word("orders".into())), ..StepRow::default() };
        let mut modal = Modal::for_step(&row).unwrap();
        assert!(modal.is_deaf(10_000), "not drawn yet");
        modal.mark_drawn(1_000);
        modal.mark_drawn(5_000);
        assert!(modal.is_deaf(1_399));
        assert!(!modal.is_deaf(1_400));
        assert!(!modal.word_matches());
        if let Modal::Confirm { typed, .. } = &mut modal {
            typed.push_str("orders");
        }
        assert!(modal.word_matches());
    }

    #[test]
    fn arming_ends_by_itself() {
        let mut state = ViewState { armed_until_ms: Some(5_000), clock_ms: 1_500, ..ViewState::default() };
        assert_eq!(state.armed_ms(), Some(3_500));
        state.clock_ms = 5_000;
        assert_eq!(state.armed_ms(), None);
    }

    #[test]
    fn the_shown_step_is_the_selected_one_or_the_current_one() {
        let steps = vec![StepRow::default(), StepRow::default()];
        let snapshot = Snapshot { steps, current: Some(0), ..Snapshot::default() };
        let mut state = ViewState::default();
        assert_eq!(state.shown_step(&snapshot), Some(0));
        state.selected = Some(9);
        assert_eq!(state.shown_step(&snapshot), Some(1));
        assert_eq!(state.shown_step(&Snapshot::default()), None);
    }
}
