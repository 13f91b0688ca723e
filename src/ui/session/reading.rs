//! Keys and pasted text for what changes nothing: evidence, help, palette, note, the log's filter.

use std::sync::Arc;
use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent};

use super::{Do, Session};
use crate::domain::run::{Command, Level};
use crate::snapshot::Snapshot;
use crate::ui::{field, scroll};
use crate::view::action::{Action, availability};
use crate::view::palette_matches;
use crate::view::state::Modal;

impl Session {
    pub(super) fn paste(&mut self, text: &str, at: Instant) -> Vec<Do> {
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

    /// Keys for the boxes that change nothing: evidence, help, palette, note.
    pub(super) fn reading(
        &mut self,
        key: &KeyEvent,
        action: Option<Action>,
        at: Instant,
        snapshot: &Arc<Snapshot>,
    ) -> Vec<Do> {
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
        // It says what the step needs, so the key for it works here too.
        if matches!(modal, Modal::Evidence { .. })
            && let Some(ask @ (Action::Next | Action::Retry | Action::Skip)) = action
        {
            if availability(ask, snapshot, &self.state).is_ok() {
                self.state.modals.pop();
            }
            return self.act(ask, at, snapshot);
        }
        if matches!(modal, Modal::Alerts) && action == Some(Action::Acknowledge) {
            if let Err(why) = availability(Action::Acknowledge, snapshot, &self.state) {
                self.refused(Action::Acknowledge, why, at);
                return Vec::new();
            }
            let through = snapshot.alerts.iter().map(|row| row.firing.seq).max();
            return vec![Do::Command(Command::Acknowledge { alert: None, through, note: None, origin: None })];
        }
        let closes = back
            || match self.state.top() {
                Some(Modal::Help { .. }) => matches!(action, Some(Action::Help | Action::Quit)),
                Some(Modal::WhatIf) if action == Some(Action::WhatIf) => true,
                Some(Modal::Alerts) if action == Some(Action::Alerts) => true,
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
    pub(super) fn filter_key(&mut self, key: &KeyEvent) -> bool {
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
}
