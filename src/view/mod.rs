//! Draws a snapshot into a buffer. Pure: no clock, no terminal, no input.
//!
//! What is drawn depends on three values only: the [`Snapshot`], the [`ViewState`] and the [`Theme`].
//! Keys, help, palette and the last line all come from the one table in [`action`].

pub mod action;
mod canvas;
mod evidence;
mod full;
mod header;
mod help;
mod home;
mod keys;
pub mod layout;
mod log;
mod modal;
mod result;
mod runbook;
mod signals;
mod small;
pub mod state;
mod tables;
pub mod theme;

#[cfg(test)]
mod tests;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub use action::{ACTIONS, Action, ActionInfo, availability};
pub use help::palette_matches;
pub use home::focusable;
pub use layout::{Layout, layout_of, shows_boxes};
pub use log::{matching, passes};
pub use state::{Modal, Pane, View, ViewState};
pub use theme::{Glyphs, Palette, Theme};

use canvas::{Canvas, Line, fit};
use theme::Tone;

use crate::domain::run::Level;
use crate::snapshot::Snapshot;

/// Most messages drawn at once.
const TOASTS: usize = 3;

/// Draws everything. Never panics, whatever the size of `area`; draws nothing outside of it.
pub fn draw(snapshot: &Snapshot, state: &ViewState, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    if area.is_empty() {
        return;
    }
    let mut c = Canvas { buf, theme };
    c.clear(area);
    let layout = layout_of(area);
    if layout == Layout::Survival {
        small::draw(&mut c, area, snapshot, state);
        return;
    }
    let row = |i: u16| Rect { y: area.y + i, height: 1, ..area };
    let last = area.height - 1;
    let body = Rect { y: area.y + 2, height: last - 2, ..area };
    header::header(&mut c, row(0), layout, snapshot, state);
    header::annunciator(&mut c, row(1), layout, snapshot, state);
    if state.view == View::Home {
        home::draw(&mut c, body, layout, snapshot, state);
    } else {
        full::draw(&mut c, body, snapshot, state);
    }
    modal::draw(&mut c, body, snapshot, state);
    toasts(&mut c, body, state);
    keys::keys(&mut c, row(last), snapshot, state);
}

/// The newest messages, over the last lines of the body, the newest lowest.
fn toasts(c: &mut Canvas<'_>, body: Rect, state: &ViewState) {
    let shown = &state.toasts[state.toasts.len().saturating_sub(TOASTS)..];
    let width = usize::from(body.width.saturating_sub(4));
    for (i, toast) in shown.iter().rev().enumerate() {
        let Some(y) = body.bottom().checked_sub(2 + u16::try_from(i).unwrap_or(0)).filter(|y| *y > body.y) else {
            break;
        };
        let tail = if toast.until_ms.is_none() {
            format!("  ({} acknowledges)", action::key_label(Action::Acknowledge, state))
        } else {
            String::new()
        };
        let text = fit(&format!(" {} {}{tail} ", log::letter(toast.level), toast.text), width);
        let tone = match toast.level {
            Level::Info => Tone::Selected,
            Level::Warn => Tone::Banner,
            Level::Error => Tone::Bad,
        };
        let line = Line::new(text, tone);
        let w = u16::try_from(line.width()).unwrap_or(body.width);
        let area = Rect { x: body.right().saturating_sub(w + 2).max(body.x), y, width: w, height: 1 };
        c.line(area, &line);
    }
}
