//! Screens too small for the runbook: one line per concern, never blank, the rollback key always there.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::action::{Action, availability, key_label};
use super::canvas::{Canvas, Line, fit};
use super::header::{banner, lamp_of, lamp_text, mode_words, status_words, t_clock};
use super::keys::can_go_back;
use super::state::{Modal, ViewState};
use super::theme::{Theme, Tone};
use crate::snapshot::{Health, Snapshot, words};

/// Draws everything that fits into any area from one cell on.
pub(super) fn draw(c: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, state: &ViewState) {
    let width = usize::from(area.width);
    let mut lines: Vec<Line> = Vec::new();
    let armed = banner(snapshot, state, width);
    if let Some(text) = &armed {
        lines.push(Line::new(super::canvas::pad(text, width), Tone::Banner));
    }
    if state.modals.last().is_some_and(|m| !matches!(m, Modal::Help { .. })) {
        lines.push(Line::new(fit("box open: needs 60x16", width), Tone::Accent));
    }
    let step = snapshot.current.and_then(|i| snapshot.steps.get(i));
    let mut phase = status_words(snapshot.status).to_owned();
    if let Some(step) = step {
        phase = format!("{phase} {:02}/{:02} {}", step.number, snapshot.steps.len(), step.title);
    }
    if let Some(ms) = state.stale_ms(snapshot) {
        phase = format!("STALE {} {phase}", words::age(i64::try_from(ms).unwrap_or(i64::MAX)));
    }
    let alerts = snapshot.alerts.iter().filter(|row| row.is_unseen()).count();
    if alerts > 0 {
        phase = format!("ALERTS {alerts} {phase}");
    }
    if state.held_at.is_some() {
        phase = format!("HELD {phase}");
    }
    if let Some(mode) = mode_words(snapshot.mode) {
        phase = format!("{mode} {phase}");
    }
    lines.push(Line::new(phase, Tone::Strong).cut(width));
    if let Some(need) = step.and_then(|s| s.reason.clone()) {
        lines.push(Line::new(need, Tone::Strong).cut(width));
    }
    for word in ["LAG", "ERR", "VERIFY", "SWITCH", "GATES", "COPY"] {
        lines.push(match lamp_of(snapshot, state, word) {
            Some(l) => Line::new(lamp_text(&l, snapshot.rollback.at_risk, width), Theme::tone(l.health)),
            None => Line::new(fit(&format!("{word} ?"), width), Theme::tone(Health::Unknown)),
        });
    }
    lines.push(Line::plain(fit(&format!("{} {}", t_clock(snapshot), snapshot.now.clock()), width)));
    let rows = usize::from(area.height);
    // On one row the rollback order is the one thing that must be seen.
    if rows == 1 {
        let line = if armed.is_some() { lines.swap_remove(0) } else { rollback_line(snapshot, state, width) };
        c.lines(area, &[line]);
        return;
    }
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), Line::default());
    lines.push(rollback_line(snapshot, state, width));
    c.lines(area, &lines);
}

fn rollback_line(snapshot: &Snapshot, state: &ViewState, width: usize) -> Line {
    if !can_go_back(snapshot) {
        let text = format!("{} leave  {} help", key_label(Action::Quit, state), key_label(Action::Help, state));
        return Line::new(text.chars().take(width).collect::<String>(), Tone::Accent);
    }
    let key = key_label(Action::Rollback, state);
    let tone = if availability(Action::Rollback, snapshot, state).is_ok() { Tone::Production } else { Tone::Dim };
    let text = &snapshot.rollback.text;
    let variants =
        [format!("{key} rollback {text}  ? help  q quit"), format!("{key} rollback {text}"), format!("{key} rollback")];
    let text = variants.iter().find(|v| v.width() <= width).unwrap_or(&variants[2]);
    // Cut bluntly: the key comes first and must stay.
    Line::new(text.chars().take(width).collect::<String>(), tone)
}
