//! What one person's keys mean: view state in, orders out. Pure: the time is an argument and nothing is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::arming::{Arming, Press};
use super::decode::Typed;
use super::desktop::DesktopNote;
use super::dialog::{self, Outcome};
use super::field;
use super::keys::{Binding, Key, KeyError, Keymap};
use super::scroll;
use crate::domain::alert::Desktop;
use crate::domain::run::{Command, Level, Need, RunStatus};
use crate::engine::handle::Playback;
use crate::snapshot::{Mode, Snapshot};
use crate::view::action::{ACTIONS, Action, KeyScope, availability, key_label};
use crate::view::state::{Button, DIALOG_DEAF_MS, Modal, Pane, View, ViewState};
use crate::view::{focusable, layout_of, shows_boxes};

/// Said of keys that come with the box they are meant for.
const NOT_YET: &str = "not yet: a box takes keys once it has stood for a moment";
/// Within this time a second Ctrl-C leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// How far one press jumps in a recording, in milliseconds.
const JUMP_MS: i64 = 10_000;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Ask the engine.
    Command(Command),
    /// Order rollback, now.
    RollBack,
    /// Ask the recording.
    Playback(Playback),
    /// Ring the bell.
    Bell,
    /// Ask the desktop for a notification.
    Desktop(Desktop, DesktopNote),
    /// Write the screen whole.
    Redraw,
    /// Leave: nothing is under way here.
    Quit,
    /// Leave: the run goes on.
    Leave,
}

/// One person at one screen.
#[derive(Debug)]
pub struct Session {
    /// What the drawing reads.
    pub state: ViewState,
    keymap: Keymap,
    began: Instant,
    rollback: Arming,
    leaving: Arming,
    /// What is shown while the view stands still.
    held: Option<Arc<Snapshot>>,
    /// What the run was when it was last checked: its status, and the step that waited.
    seen: Option<(RunStatus, Option<(String, Need)>)>,
    last_bell: Option<Instant>,
    /// Firings that were told here, by position and place.
    told: BTreeSet<(u64, &'static str)>,
    /// The message that asks for a decision; it goes with the question.
    asked: Option<String>,
    /// Until then the topmost box ignores keys, on the clock of the state.
    deaf_until: Option<u64>,
    boxes: u64,
    /// Panes there is room for, and whether there is room for boxes.
    panes: &'static [Pane],
    shows_boxes: bool,
    /// Why the last key in a box was not taken, as long as its message may stand.
    refused: Option<String>,
}

impl Session {
    /// A session beginning now, with the person's own keys on top of the table's.
    pub fn new(own: &BTreeMap<String, Vec<String>>, now: Instant) -> Result<Self, Vec<KeyError>> {
        let table: Vec<Binding<'_>> = ACTIONS
            .iter()
            .map(|i| Binding { name: i.name, keys: i.keys, must_stay: i.must_stay, place: i.place.name() })
            .collect();
        let keymap = Keymap::build(&table, own)?;
        let keys = own.iter().filter_map(|(n, keys)| Some((Action::named(n)?, keys.clone()))).collect();
        Ok(Self {
            state: ViewState { keys, ..ViewState::default() },
            keymap,
            began: now,
            rollback: Arming::default(),
            leaving: Arming::new(LEAVE_WITHIN),
            held: None,
            seen: None,
            last_bell: None,
            told: BTreeSet::new(),
            asked: None,
            deaf_until: None,
            boxes: 0,
            panes: focusable(layout_of(Rect::new(0, 0, 80, 24))),
            shows_boxes: true,
            refused: None,
        })
    }

    /// Something was typed. `at` is when it was read from the terminal.
    pub fn on(&mut self, typed: Typed, at: Instant, snapshot: &Arc<Snapshot>) -> Vec<Do> {
        self.tick(at);
        let depth = self.state.modals.len();
        let top = self.state.modals.last().map(std::mem::discriminant);
        let out = match typed {
            Typed::Paste(text) => self.paste(&text, at),
            Typed::Key(key) => self.key(&key, at, snapshot),
        };
        if self.state.modals.len() != depth || self.state.modals.last().map(std::mem::discriminant) != top {
            self.boxes += 1;
        }
        out
    }

    /// An interrupt: Ctrl-C, or the signal from outside. The second within two seconds leaves.
    pub fn interrupt(&mut self, at: Instant, snapshot: &Snapshot) -> Vec<Do> {
        self.tick(at);
        if self.leaving.press(at) == Press::Fire {
            return vec![self.way_out(snapshot)];
        }
        self.boxes += 1;
        let what = if self.is_active(snapshot) { "; the run goes on" } else { "" };
        self.toast(Level::Warn, format!("press Ctrl-C again within 2 s to leave{what}"), LEAVE_WITHIN, at);
        Vec::new()
    }

    /// Time passed: messages leave, armings end. `true` when something on the screen changed.
    pub fn tick(&mut self, now: Instant) -> bool {
        let clock = self.ms(now).max(self.state.clock_ms);
        self.state.clock_ms = clock;
        let toasts = self.state.toasts.len();
        self.state.toasts.retain(|t| t.until_ms.is_none_or(|until| until > clock));
        self.leaving.expire(now);
        let listens = self.deaf_until.take_if(|until| *until <= clock).is_some();
        let disarmed = self.rollback.expire(now);
        if disarmed {
            self.state.armed_until_ms = None;
        }
        listens || disarmed || self.state.toasts.len() != toasts
    }

    /// When [`Session::tick`] next has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let toasts = self.state.toasts.iter().filter_map(|t| t.until_ms).min();
        let toasts = toasts.map(|ms| self.began + Duration::from_millis(ms));
        let listens = self.deaf_until.map(|ms| self.began + Duration::from_millis(ms));
        [toasts, listens, self.rollback.until()].into_iter().flatten().min()
    }

    /// What to draw: the newest, or what the view stands still at.
    #[must_use]
    pub fn shown<'a>(&'a self, newest: &'a Snapshot) -> &'a Snapshot {
        self.held.as_deref().unwrap_or(newest)
    }

    /// Grows whenever a box opens or closes or a key arms: says whether a frame still shows the boxes of now.
    #[must_use]
    pub const fn boxes(&self) -> u64 {
        self.boxes
    }

    /// Takes the screen's new size. A question that cannot be drawn cannot be answered: it ignores keys, also for a
    /// while after it is drawn again.
    pub fn resized(&mut self, area: Rect) {
        self.panes = focusable(layout_of(area));
        if !self.panes.is_empty() && !self.panes.contains(&self.state.focus) && !self.state.zoom {
            self.state.focus = self.panes[0];
        }
        self.shows_boxes = shows_boxes(area);
        if !self.shows_boxes {
            for modal in &mut self.state.modals {
                modal.mark_hidden();
            }
        }
    }

    /// A frame with the boxes of `boxes` stood on the screen at `at`.
    pub fn drawn(&mut self, boxes: u64, at: Instant) {
        let ms = self.ms(at);
        if boxes == self.boxes {
            self.rollback.shown(at);
            self.leaving.shown(at);
        }
        if boxes == self.boxes && self.shows_boxes {
            self.state.modals.iter_mut().for_each(|m| m.mark_drawn(ms));
            // The buttons are drawn anew when they begin to listen.
            let top = self.state.top().filter(|m| m.is_deaf(self.state.clock_ms));
            self.deaf_until = top.and_then(Modal::drawn_ms).map(|at| at + DIALOG_DEAF_MS);
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn is_active(&self, snapshot: &Snapshot) -> bool {
        let replay = matches!(snapshot.mode, Mode::Replay { .. });
        !replay && ViewState::run_is_active(snapshot)
    }

    fn way_out(&self, snapshot: &Snapshot) -> Do {
        if self.is_active(snapshot) { Do::Leave } else { Do::Quit }
    }

    fn go_live(&mut self) {
        self.held = None;
        self.state.held_at = None;
    }

    /// Whether characters are text now.
    fn is_typing(&self) -> bool {
        match self.state.top() {
            Some(modal) => dialog::takes_text(modal),
            None => self.state.log.editing,
        }
    }

    fn bound(&self, key: &KeyEvent, snapshot: &Snapshot) -> Option<Action> {
        let places: &[&str] = match snapshot.mode {
            Mode::Replay { .. } => &[KeyScope::Replay.name(), KeyScope::Run.name()],
            Mode::Live | Mode::Rehearsal { .. } => &[KeyScope::Run.name()],
        };
        self.keymap.action(Key::from(*key), places).and_then(|i| ACTIONS.get(i)).map(|i| i.action)
    }

    fn key(&mut self, key: &KeyEvent, at: Instant, snapshot: &Arc<Snapshot>) -> Vec<Do> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.interrupt(at, snapshot);
        }
        // As everywhere: what another program wrote over the screen goes.
        if key.code == KeyCode::Char('l') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return vec![Do::Redraw];
        }
        let action = self.bound(key, snapshot);
        let is_text = self.is_typing() && field::is_text(key);
        // The rollback key is checked before anything else, over every box, whether the box accepts keys yet or not.
        if action == Some(Action::Rollback) && !is_text {
            return self.roll_back(at, snapshot);
        }
        let back = key.code == KeyCode::Esc || (action == Some(Action::Back) && !is_text);
        if back && self.rollback.disarm(at) {
            self.state.armed_until_ms = None;
            self.say(Level::Info, "rollback disarmed", at);
            return Vec::new();
        }
        match self.state.top() {
            Some(modal) if modal.is_question() => {
                return self.question(key, action, at, snapshot);
            }
            Some(_) => return self.reading(key, action, at, snapshot),
            None => {}
        }
        if self.state.log.editing && self.filter_key(key) {
            return Vec::new();
        }
        if back {
            self.back();
            return Vec::new();
        }
        action.map_or_else(Vec::new, |action| self.act(action, at, snapshot))
    }

    fn refused(&mut self, action: Action, why: &str, at: Instant) {
        let text = format!("{} ({}): {why}", action.info().short, key_label(action, &self.state));
        self.say(Level::Warn, &text, at);
    }

    /// `at` is when the press was read.
    fn roll_back(&mut self, at: Instant, snapshot: &Snapshot) -> Vec<Do> {
        if let Err(why) = availability(Action::Rollback, snapshot, &self.state) {
            self.rollback.disarm(at);
            self.state.armed_until_ms = None;
            self.refused(Action::Rollback, why, at);
            return vec![Do::Bell];
        }
        match self.rollback.press(at) {
            Press::Armed => {
                self.boxes += u64::from(self.state.armed_until_ms.is_none());
                self.state.armed_until_ms = self.rollback.until().map(|until| self.ms(until));
                vec![Do::Bell]
            }
            Press::Fire => {
                self.state.armed_until_ms = None;
                self.state.ordered = true;
                // Forward questions are void now, and the rollback is watched on the home screen, live.
                self.state.modals.clear();
                self.state.view = View::Home;
                self.state.zoom = false;
                self.go_live();
                vec![Do::RollBack]
            }
        }
    }

    fn question(&mut self, key: &KeyEvent, action: Option<Action>, at: Instant, snapshot: &Snapshot) -> Vec<Do> {
        let ms = self.ms(at);
        let Some(modal) = self.state.modals.last_mut() else { return Vec::new() };
        let outcome = dialog::press(modal, key, action, ms);
        // What was wrong with the key before is over with this one.
        if let Some(refused) = self.refused.take() {
            self.state.toasts.retain(|t| t.text != refused);
        }
        let out = match outcome {
            Outcome::Stays => return Vec::new(),
            Outcome::Deaf => {
                self.refused = Some(NOT_YET.to_owned());
                self.say(Level::Info, NOT_YET, at);
                return Vec::new();
            }
            Outcome::Refused(why) => {
                self.say(Level::Warn, &why, at);
                self.refused = Some(why);
                return vec![Do::Bell];
            }
            Outcome::Cancelled => {
                // Esc says it by itself; Enter may have been meant for the other button.
                if key.code == KeyCode::Enter {
                    self.say(Level::Info, "cancelled: nothing was changed", at);
                }
                Vec::new()
            }
            Outcome::Leave => vec![self.way_out(snapshot)],
            Outcome::Confirmed { step, word } => vec![Do::Command(Command::Confirm { step, word })],
            Outcome::Retry(step) => vec![Do::Command(Command::Retry { step })],
            Outcome::StepBack(step) => vec![Do::Command(Command::StepBack { step })],
            Outcome::Skip(step) => vec![Do::Command(Command::Skip { step })],
        };
        self.state.modals.pop();
        out
    }

    /// One level back, the nearest first.
    fn back(&mut self) {
        let s = &mut self.state;
        if !s.log.text.is_empty() && (s.view == View::Log || s.focus == Pane::Log) {
            s.log.text.clear();
        } else if s.zoom {
            s.zoom = false;
        } else if s.view != View::Home {
            s.view = View::Home;
        } else if s.held_at.is_some() {
            self.go_live();
        } else if s.selected.is_some() {
            s.selected = None;
        } else if s.focus != Pane::Runbook {
            s.focus = Pane::Runbook;
        }
    }

    fn act(&mut self, action: Action, at: Instant, snapshot: &Arc<Snapshot>) -> Vec<Do> {
        if action == Action::Rollback {
            // Chosen from a list, it never counts as the second press: a list is where Enter is hit lightly.
            self.rollback.disarm(at);
            return self.roll_back(at, snapshot);
        }
        if let Err(why) = availability(action, snapshot, &self.state) {
            self.refused(action, why, at);
            return Vec::new();
        }
        if let Some(view) = action.view() {
            self.state.view = view;
            self.state.zoom = false;
            return Vec::new();
        }
        if scroll::go(&mut self.state, snapshot, action) {
            return Vec::new();
        }
        let paused = snapshot.status == RunStatus::Paused;
        match action {
            Action::Enter => self.open_evidence(snapshot),
            Action::Pause => return vec![Do::Command(if paused { Command::Continue } else { Command::Pause })],
            Action::Next | Action::Retry | Action::Skip => {
                // The question is about what is now, so that is what stands behind it.
                self.go_live();
                self.state.modals.extend(dialog::for_current(snapshot));
            }
            Action::StepBack => {
                self.go_live();
                if let Some(step) = snapshot.step_back.step.clone() {
                    self.state.modals.push(Modal::StepBack { step, button: Button::Cancel, drawn_ms: None });
                }
            }
            Action::WhatIf => {
                self.state.scrolls.evidence = 0;
                self.state.modals.push(Modal::WhatIf);
            }
            Action::Alerts => {
                self.state.scrolls.evidence = 0;
                self.state.modals.push(Modal::Alerts);
            }
            Action::Acknowledge => self.state.toasts.clear(),
            Action::MoreWorkers => return vec![Do::Command(Command::Workers { by: 1 })],
            Action::FewerWorkers => return vec![Do::Command(Command::Workers { by: -1 })],
            Action::Note => self.state.modals.push(Modal::Note { typed: String::new() }),
            Action::Zoom => self.state.zoom = !self.state.zoom,
            Action::HoldScreen if self.held.is_some() => self.go_live(),
            Action::HoldScreen => {
                self.state.held_at = Some(snapshot.now);
                self.held = Some(Arc::clone(snapshot));
            }
            Action::FocusNext | Action::FocusPrevious => {
                self.state.focus = scroll::next_pane(self.state.focus, self.panes, action == Action::FocusNext);
            }
            Action::Filter => {
                self.state.log.editing = true;
                if self.state.view == View::Home {
                    self.state.focus = Pane::Log;
                }
            }
            Action::Level => {
                self.state.log.level = match self.state.log.level {
                    Level::Info => Level::Warn,
                    Level::Warn => Level::Error,
                    Level::Error => Level::Info,
                };
            }
            Action::PlayPause => return vec![Do::Playback(Playback::Toggle)],
            Action::Faster => return vec![Do::Playback(Playback::Faster)],
            Action::Slower => return vec![Do::Playback(Playback::Slower)],
            Action::SeekForward => return vec![Do::Playback(Playback::Seek(JUMP_MS))],
            Action::SeekBack => return vec![Do::Playback(Playback::Seek(-JUMP_MS))],
            Action::Palette => self.state.modals.push(Modal::Palette { typed: String::new(), selected: 0 }),
            Action::Help => {
                self.state.scrolls.help = 0;
                self.state.modals.push(Modal::Help { search: String::new(), searching: false });
            }
            Action::Quit if self.is_active(snapshot) => {
                self.state.modals.push(Modal::Quit { button: Button::Cancel, drawn_ms: None });
            }
            Action::Quit => return vec![Do::Quit],
            Action::Back => self.back(),
            _ => {}
        }
        Vec::new()
    }

    fn open_evidence(&mut self, snapshot: &Snapshot) {
        let step = self.state.shown_step(snapshot).and_then(|i| snapshot.steps.get(i));
        if let Some(step) = step {
            self.state.scrolls.evidence = 0;
            self.state.modals.push(Modal::Evidence { step: step.id.clone() });
        }
    }
}

mod notices;
mod reading;
#[cfg(test)]
mod tests;
