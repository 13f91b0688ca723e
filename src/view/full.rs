//! The full-width views behind the digits.

use ratatui::layout::Rect;

use super::canvas::{Canvas, Line};
use super::evidence::rollback_lines;
use super::result::switch_lines;
use super::state::{View, ViewState};
use super::theme::Tone;
use super::{log, signals, tables};
use crate::snapshot::Snapshot;

/// The title of a view.
pub(super) const fn title(view: View) -> &'static str {
    match view {
        View::Home => "Runbook",
        View::Tables => "1 Tables",
        View::Lag => "2 Lag",
        View::Errors => "3 Probes and errors",
        View::Verify => "4 Verification",
        View::Switches => "5 Switches and rollback",
        View::Watch => "6 Signals and success criteria",
        View::Log => "7 Log",
    }
}

/// Draws one full-width view into the area between the annunciator and the key line.
pub(super) fn draw(c: &mut Canvas<'_>, body: Rect, snapshot: &Snapshot, state: &ViewState) {
    let right = match state.view {
        View::Log => log::status(snapshot, state),
        View::Home | View::Tables | View::Lag | View::Errors | View::Verify | View::Switches | View::Watch => {
            "Esc home".to_owned()
        }
    };
    let inside = c.pane(body, title(state.view), &right, true);
    let (width, height) = (usize::from(inside.width), usize::from(inside.height));
    let theme = *c.theme;
    let (lines, from) = match state.view {
        View::Home => (Vec::new(), 0),
        View::Tables => {
            let mut lines = tables::lines(snapshot, width, state.scrolls.tables, height);
            lines.extend(tables::notes(snapshot, width));
            (lines, state.scrolls.tables)
        }
        View::Lag => (tables::lag_lines(snapshot, width), state.scrolls.tables),
        View::Errors => (tables::error_lines(snapshot, width), state.scrolls.tables),
        View::Verify => (tables::verify_lines(snapshot, width), state.scrolls.tables),
        View::Switches => (switches(snapshot, &theme, width), state.scrolls.tables),
        View::Watch => (watch(snapshot, &theme, width, height), state.scrolls.signals),
        View::Log => {
            c.lines(inside, &log::lines(snapshot, state, width, height));
            return;
        }
    };
    c.scrolled(inside, &lines, from);
}

fn switches(snapshot: &Snapshot, theme: &super::theme::Theme, width: usize) -> Vec<Line> {
    let mut lines = vec![Line::new(" What stands where", Tone::Strong)];
    lines.extend(switch_lines(snapshot, width));
    lines.push(Line::default());
    lines.push(Line::new(" What each was, and becomes by its switch", Tone::Strong));
    for s in &snapshot.switches {
        let captured = match (s.captured, s.version) {
            (false, _) => "not captured".to_owned(),
            (true, None) => "captured".to_owned(),
            (true, Some(v)) => format!("captured at version {v}"),
        };
        let text = format!("   {}: {} -> {}   {captured}", s.title, s.old, s.new);
        lines.push(Line::plain(text).cut(width));
    }
    lines.push(Line::default());
    let ordered = !snapshot.rollback.course.is_empty();
    let heading = if ordered { " What rollback has done and is doing" } else { " What rollback would do now" };
    lines.push(Line::new(heading, Tone::Strong));
    lines.extend(rollback_lines(snapshot, theme, width));
    lines.extend(signals::downtime_line(snapshot).map(|l| l.cut(width)));
    lines
}

fn watch(snapshot: &Snapshot, theme: &super::theme::Theme, width: usize, height: usize) -> Vec<Line> {
    let mut lines = vec![Line::new(" Success", Tone::Strong)];
    lines.extend(tables::criteria_lines(snapshot, width));
    lines.push(Line::default());
    lines.push(Line::new(" Signals", Tone::Strong));
    lines.extend(signals::lines(snapshot, theme, width));
    for row in snapshot.signals.iter().filter(|s| s.limit.is_some()) {
        if lines.len() + 7 > height {
            break;
        }
        lines.push(Line::default());
        lines.extend(signals::chart(row, theme, width, 5));
    }
    lines
}
