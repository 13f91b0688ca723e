//! What one person's keys mean: view state in, orders out. Pure: it is told the time and touches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::arming::{Arming, Press};
use super::decode::Typed;
use super::dialog::{self, Outcome};
use super::field;
use super::keys::{Binding, Key, KeyError, Keymap};
use super::scroll;
use crate::domain::run::{Command, Level, Need, Refusal, RunStatus, StepStatus};
use crate::engine::handle::Playback;
use crate::snapshot::{Mode, Snapshot};
use crate::view::action::{ACTIONS, Action, Place, availability, key_label};
use crate::view::state::{Button, Modal, Pane, Toast, View, ViewState};
use crate::view::{focusable, layout_of, palette_matches, shows_boxes};

/// How long an information stays.
const INFO_FOR: Duration = Duration::from_secs(4);
/// How long a warning stays.
const WARN_FOR: Duration = Duration::from_secs(8);
/// Within this time a second Ctrl-C leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Least time between two bells the run asks for. Bells that answer a key are not limited.
const BELL_GAP: Duration = Duration::from_secs(10);
/// Messages kept; the oldest that would leave by itself goes first.
const TOASTS: usize = 5;
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
    /// What the run was when it was last looked at: its status, and the step that waited.
    seen: Option<(RunStatus, Option<(String, Need)>)>,
    last_bell: Option<Instant>,
    boxes: u64,
    /// Panes there is room for, and whether there is room for boxes.
    panes: &'static [Pane],
    shows_boxes: bool,
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
            boxes: 0,
            panes: focusable(layout_of(Rect::new(0, 0, 80, 24))),
            shows_boxes: true,
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
        let what = if self.is_active(snapshot) { "; the run goes on" } else { "" };
        self.toast(Level::Warn, format!("press Ctrl-C again within 2 s to leave{what}"), LEAVE_WITHIN, at);
        Vec::new()
    }

    /// The run changed: boxes that ask for nothing any more go, and what needs a person is said.
    pub fn saw(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Do> {
        self.tick(now);
        let boxes = self.state.modals.len();
        self.state.modals.retain(|m| dialog::still_asked(m, snapshot));
        if self.state.modals.len() != boxes {
            self.boxes += 1;
            self.say(Level::Info, "the step does not wait any more: the box was closed", now);
        }
        let current = snapshot.current.and_then(|i| snapshot.steps.get(i));
        let waits = current.and_then(|s| Some((s.id.clone(), s.need.clone()?)));
        let seen = self.seen.replace((snapshot.status, waits.clone()));
        let (old_status, old_waits) = seen.map_or((None, None), |(s, w)| (Some(s), w));
        if matches!(snapshot.status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Finished)
            || (snapshot.status == RunStatus::Stuck && old_status == Some(RunStatus::RollingBack))
        {
            self.state.ordered = false;
        }
        let changed = old_status.is_some_and(|s| s != snapshot.status);
        if changed && matches!(snapshot.status, RunStatus::RollingBack | RunStatus::Stuck) {
            // Nobody may look at an old picture of this.
            self.thaw();
        }
        if matches!(snapshot.mode, Mode::Replay { .. }) {
            return Vec::new();
        }
        let next = key_label(Action::Next, &self.state);
        let quit = key_label(Action::Quit, &self.state);
        let mut rings = false;
        if let Some((_, need)) = waits.filter(|w| old_waits.as_ref() != Some(w)) {
            rings = true;
            let title = current.map_or("", |s| s.title.as_str());
            match need {
                Need::Decision => {
                    let failed = current.is_some_and(|s| s.status == StepStatus::Failed);
                    let how = if failed { "failed" } else { "is unknown" };
                    self.say(Level::Error, &format!("{title} {how}: {next} to decide"), now);
                }
                Need::Second => self.say(Level::Warn, &format!("{title} waits for a second person"), now),
                Need::Key | Need::Word(_) => self.say(Level::Warn, &format!("{title} waits for you: {next}"), now),
            }
        }
        if changed {
            let said = match snapshot.status {
                RunStatus::Finished => Some((Level::Info, format!("the run is finished; {quit} leaves"))),
                RunStatus::RolledBack => Some((Level::Warn, format!("rolled back; {quit} leaves"))),
                RunStatus::Stuck => Some((Level::Error, "rollback is stuck: do what the screen lists".to_owned())),
                _ => None,
            };
            if let Some((level, text)) = said {
                rings = true;
                self.say(level, &text, now);
            }
        }
        if rings && self.last_bell.is_none_or(|at| now.saturating_duration_since(at) >= BELL_GAP) {
            self.last_bell = Some(now);
            return vec![Do::Bell];
        }
        Vec::new()
    }

    /// The engine answered a command.
    pub fn answered(&mut self, command: &Command, answer: Result<(), Refusal>, now: Instant) {
        self.tick(now);
        match answer {
            Ok(()) => {
                let text = super::answers::taken(command);
                self.say(Level::Info, &text, now);
            }
            Err(refusal) => self.say(Level::Warn, &format!("not taken: {refusal}"), now),
        }
    }

    /// Time passed: messages leave, armings end. `true` when something on the screen changed.
    pub fn tick(&mut self, now: Instant) -> bool {
        let clock = self.ms(now).max(self.state.clock_ms);
        self.state.clock_ms = clock;
        let toasts = self.state.toasts.len();
        self.state.toasts.retain(|t| t.until_ms.is_none_or(|until| until > clock));
        self.leaving.expire(now);
        let disarmed = self.rollback.expire(now);
        if disarmed {
            self.state.armed_until_ms = None;
        }
        disarmed || self.state.toasts.len() != toasts
    }

    /// When [`Session::tick`] next has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let toasts = self.state.toasts.iter().filter_map(|t| t.until_ms).min();
        let toasts = toasts.map(|ms| self.began + Duration::from_millis(ms));
        [toasts, self.rollback.until()].into_iter().flatten().min()
    }

    /// What to draw: the newest, or what the view stands still at.
    #[must_use]
    pub fn shown<'a>(&'a self, newest: &'a Snapshot) -> &'a Snapshot {
        self.held.as_deref().unwrap_or(newest)
    }

    /// Grows whenever a box opens or closes: says whether a frame still shows the boxes of now.
    #[must_use]
    pub const fn boxes(&self) -> u64 {
        self.boxes
    }

    /// The screen has this size now. Where a question cannot be drawn it cannot be answered: it turns deaf, and
    /// stays so for a while after it is back.
    pub fn resized(&mut self, area: Rect) {
        self.panes = focusable(layout_of(area));
        if !self.panes.is_empty() && !self.panes.contains(&self.state.focus) && !self.state.zoom {
            self.state.focus = self.panes[0];
        }
        self.shows_boxes = shows_boxes(area);
        if !self.shows_boxes {
            for modal in &mut self.state.modals {
                if let Modal::Confirm { drawn_ms, .. } | Modal::Decide { drawn_ms, .. } | Modal::Quit { drawn_ms, .. } =
                    modal
                {
                    *drawn_ms = None;
                }
            }
        }
    }

    /// A frame with the boxes of `boxes` stood on the screen at `at`.
    pub fn drawn(&mut self, boxes: u64, at: Instant) {
        let ms = self.ms(at);
        if boxes == self.boxes && self.shows_boxes {
            self.state.modals.iter_mut().for_each(|m| m.mark_drawn(ms));
        }
    }

    /// Shows a message.
    pub fn say(&mut self, level: Level, text: &str, now: Instant) {
        self.toast(level, text.to_owned(), if level == Level::Info { INFO_FOR } else { WARN_FOR }, now);
    }

    fn toast(&mut self, level: Level, text: String, lasts: Duration, now: Instant) {
        let until_ms = (level != Level::Error).then(|| self.ms(now + lasts));
        let toasts = &mut self.state.toasts;
        // The same words again stand once, anew.
        toasts.retain(|t| t.text != text);
        toasts.push(Toast { level, text, until_ms });
        while toasts.len() > TOASTS {
            let oldest = toasts.iter().position(|t| t.until_ms.is_some()).unwrap_or(0);
            toasts.remove(oldest);
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn is_active(&self, snapshot: &Snapshot) -> bool {
        let replay = matches!(snapshot.mode, Mode::Replay { .. });
        !replay && self.state.read_only.is_none() && ViewState::run_is_active(snapshot)
    }

    fn way_out(&self, snapshot: &Snapshot) -> Do {
        if self.is_active(snapshot) { Do::Leave } else { Do::Quit }
    }

    fn thaw(&mut self) {
        self.held = None;
        self.state.frozen = None;
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
            Mode::Replay { .. } => &[Place::Replay.name(), Place::Run.name()],
            _ => &[Place::Run.name()],
        };
        self.keymap.action(Key::from(*key), places).and_then(|i| ACTIONS.get(i)).map(|i| i.action)
    }

    fn key(&mut self, key: &KeyEvent, at: Instant, snapshot: &Arc<Snapshot>) -> Vec<Do> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.interrupt(at, snapshot);
        }
        let action = self.bound(key, snapshot);
        let is_text = self.is_typing() && field::is_text(key);
        // The way back is looked at before anything else, over every box, deaf or not.
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
            Some(Modal::Confirm { .. } | Modal::Decide { .. } | Modal::Quit { .. }) => {
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

    fn paste(&mut self, text: &str, at: Instant) -> Vec<Do> {
        let line = match self.state.modals.last_mut() {
            Some(Modal::Confirm { .. }) => {
                self.say(Level::Warn, "pasting is refused here: type the word", at);
                return vec![Do::Bell];
            }
            Some(Modal::Help { search, searching: true }) => search,
            Some(Modal::Palette { typed, .. } | Modal::Note { typed }) => typed,
            None if self.state.log.editing => &mut self.state.log.text,
            _ => {
                self.say(Level::Info, "pasted text was dropped: no field has the focus", at);
                return Vec::new();
            }
        };
        field::paste(line, text);
        Vec::new()
    }

    fn refused(&mut self, action: Action, why: &str, at: Instant) {
        let text = format!("{} ({}): {why}", action.info().short, key_label(action, &self.state));
        self.say(Level::Warn, &text, at);
    }

    fn roll_back(&mut self, at: Instant, snapshot: &Snapshot) -> Vec<Do> {
        if let Err(why) = availability(Action::Rollback, snapshot, &self.state) {
            self.rollback.disarm(at);
            self.state.armed_until_ms = None;
            self.refused(Action::Rollback, why, at);
            return vec![Do::Bell];
        }
        match self.rollback.press(at) {
            Press::Armed => {
                self.state.armed_until_ms = self.rollback.until().map(|until| self.ms(until));
                vec![Do::Bell]
            }
            Press::Fire => {
                self.state.armed_until_ms = None;
                self.state.ordered = true;
                // Forward questions are void now, and the way back is watched at home, live.
                self.state.modals.clear();
                self.state.view = View::Home;
                self.state.zoom = false;
                self.thaw();
                vec![Do::RollBack]
            }
        }
    }

    fn question(&mut self, key: &KeyEvent, action: Option<Action>, at: Instant, snapshot: &Snapshot) -> Vec<Do> {
        let ms = self.ms(at);
        let Some(modal) = self.state.modals.last_mut() else { return Vec::new() };
        let out = match dialog::press(modal, key, action, ms) {
            Outcome::Deaf | Outcome::Stays => return Vec::new(),
            Outcome::Refused(why) => {
                self.say(Level::Warn, &why, at);
                return vec![Do::Bell];
            }
            Outcome::Cancelled => Vec::new(),
            Outcome::Leave => vec![self.way_out(snapshot)],
            Outcome::Confirmed { step, word } => vec![Do::Command(Command::Confirm { step, word })],
            Outcome::Retry(step) => vec![Do::Command(Command::Retry { step })],
            Outcome::Skip(step) => vec![Do::Command(Command::Skip { step })],
        };
        self.state.modals.pop();
        out
    }

    /// Keys for the boxes that change nothing: evidence, help, palette, note.
    fn reading(&mut self, key: &KeyEvent, action: Option<Action>, at: Instant, snapshot: &Arc<Snapshot>) -> Vec<Do> {
        let is_text = self.is_typing() && field::is_text(key);
        let back = key.code == KeyCode::Esc || (action == Some(Action::Back) && !is_text);
        let Some(modal) = self.state.modals.last_mut() else { return Vec::new() };
        match modal {
            Modal::Help { search, searching } if *searching => {
                if back || key.code == KeyCode::Enter {
                    *searching = false;
                    if back {
                        search.clear();
                    }
                } else {
                    field::edit(search, key);
                }
                self.state.scrolls.help = 0;
                return Vec::new();
            }
            Modal::Help { searching, .. } if action == Some(Action::Filter) => {
                *searching = true;
                return Vec::new();
            }
            Modal::Note { typed } if !back => {
                if key.code != KeyCode::Enter {
                    field::edit(typed, key);
                    return Vec::new();
                }
                let text = typed.trim().to_owned();
                self.state.modals.pop();
                return if text.is_empty() { Vec::new() } else { vec![Do::Command(Command::Note { text })] };
            }
            Modal::Palette { typed, selected } if !back => {
                let found = palette_matches(typed);
                if key.code == KeyCode::Enter {
                    let chosen = found.get(*selected).copied();
                    self.state.modals.pop();
                    return chosen.map_or_else(Vec::new, |a| self.act(a, at, snapshot));
                }
                if field::edit(typed, key) {
                    *selected = 0;
                } else if matches!(key.code, KeyCode::Down | KeyCode::Tab) {
                    *selected = (*selected + 1).min(found.len().saturating_sub(1));
                } else if matches!(key.code, KeyCode::Up | KeyCode::BackTab) {
                    *selected = selected.saturating_sub(1);
                }
                return Vec::new();
            }
            _ => {}
        }
        let closes = back
            || match self.state.top() {
                Some(Modal::Help { .. }) => matches!(action, Some(Action::Help | Action::Quit)),
                Some(Modal::WhatIf) if action == Some(Action::WhatIf) => true,
                _ => matches!(action, Some(Action::Enter | Action::Quit)),
            };
        if closes {
            self.state.modals.pop();
        } else if let Some(action) = action {
            scroll::go(&mut self.state, snapshot, action);
        }
        Vec::new()
    }

    /// A key while the log's filter is typed; `true` when it was for the filter.
    fn filter_key(&mut self, key: &KeyEvent) -> bool {
        let log = &mut self.state.log;
        match key.code {
            KeyCode::Enter => log.editing = false,
            KeyCode::Esc => {
                log.editing = false;
                log.text.clear();
            }
            _ => {
                if !field::edit(&mut log.text, key) {
                    return false;
                }
            }
        }
        self.state.scrolls.log = 0;
        true
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
        } else if s.frozen.is_some() {
            self.thaw();
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
                self.thaw();
                self.state.modals.extend(dialog::for_current(snapshot));
            }
            Action::WhatIf => {
                self.state.scrolls.evidence = 0;
                self.state.modals.push(Modal::WhatIf);
            }
            Action::Acknowledge => self.state.toasts.clear(),
            Action::MoreWorkers => return vec![Do::Command(Command::Workers { by: 1 })],
            Action::FewerWorkers => return vec![Do::Command(Command::Workers { by: -1 })],
            Action::Note => self.state.modals.push(Modal::Note { typed: String::new() }),
            Action::Zoom => self.state.zoom = !self.state.zoom,
            Action::Freeze if self.held.is_some() => self.thaw(),
            Action::Freeze => {
                self.state.frozen = Some(snapshot.wall);
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

#[cfg(test)]
mod tests;
