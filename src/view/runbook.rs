//! The runbook: one line per step, details under the current one.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::action::{Action, key_label};
use super::canvas::{Canvas, Line, fit, wrap};
use super::state::ViewState;
use super::theme::{Glyphs, Theme, Tone};
use crate::domain::at::{hms, t_offset};
use crate::domain::run::{Need, RunStatus, StepStatus};
use crate::snapshot::{Snapshot, StepMark, StepRow, words};

/// Column at which details begin, where the title leaves room.
const DETAIL: usize = 35;
/// Column at which the time ends on a wide line.
const TIME_END: usize = 73;

/// Lines of the runbook with the step each belongs to.
pub(super) fn lines(snapshot: &Snapshot, state: &ViewState, theme: &Theme, width: usize) -> Vec<(usize, Line)> {
    let mut all = Vec::new();
    for (i, step) in snapshot.steps.iter().enumerate() {
        let current = snapshot.current == Some(i) && snapshot.status != RunStatus::Finished;
        let mut line = step_line(snapshot, step, current, theme, width);
        line.selected = state.selected == Some(i);
        all.push((i, line));
        if current {
            all.extend(details(snapshot, step, state, width).into_iter().map(|l| (i, l)));
        }
    }
    if all.is_empty() {
        all.push((0, Line::new("  no steps yet: loading the plan", Tone::Dim)));
    }
    all
}

/// Draws the runbook so that the current (or selected) step is in view.
pub(super) fn draw(c: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, state: &ViewState) {
    let all = lines(snapshot, state, c.theme, usize::from(area.width));
    let height = usize::from(area.height);
    if height == 0 {
        return;
    }
    let wanted = state.selected.or(snapshot.current).unwrap_or_else(|| snapshot.steps.len().saturating_sub(1));
    let at = all.iter().position(|(i, _)| *i == wanted).unwrap_or(0);
    // Two lines of what came before, as far as everything below still fits.
    let most = all.len().saturating_sub(height);
    let mut from = at.saturating_sub(2).min(most);
    if at >= from + height.saturating_sub(1) {
        from = (at + 2).saturating_sub(height).min(most);
    }
    let below = all.len() > from + height;
    let shown = if below { height - 1 } else { height };
    let mut visible: Vec<Line> = all.iter().skip(from).take(shown).map(|(_, l)| l.clone()).collect();
    if below {
        let last = all.get(from + shown - 1).map_or(0, |(i, _)| *i);
        let more = snapshot.steps.len().saturating_sub(last + 1);
        let text = if more == 0 { "    .. more below".to_owned() } else { format!("    .. {more} more below") };
        visible.push(Line::new(text, Tone::Dim));
    }
    c.lines(area, &visible);
}

const fn pick(theme: &Theme, ascii: &'static str, wide: &'static str) -> &'static str {
    match theme.glyphs {
        Glyphs::Ascii => ascii,
        Glyphs::Unicode => wide,
    }
}

/// The mark of a step that is done.
pub(super) const fn done_mark(theme: &Theme) -> &'static str {
    pick(theme, "v", "✓")
}

/// The mark of the step that is now.
pub(super) const fn now_mark(theme: &Theme) -> &'static str {
    pick(theme, "=>", "─▸")
}

/// The mark of a step to come.
pub(super) const fn todo_mark(theme: &Theme) -> &'static str {
    pick(theme, ".", "·")
}

/// The mark of a step that failed.
pub(super) const fn failed_mark(theme: &Theme) -> &'static str {
    pick(theme, "x", "✗")
}

/// What the marks mean, on one line.
pub(super) fn legend(theme: &Theme) -> String {
    let (done, now, todo) = (done_mark(theme), now_mark(theme), todo_mark(theme));
    format!("  {done} done  {now} now  {todo} to do  # gate  ! switch")
}

fn mark(step: &StepRow, current: bool, theme: &Theme) -> (&'static str, Tone) {
    match step.status {
        StepStatus::Failed => (failed_mark(theme), Tone::Bad),
        StepStatus::Unknown => ("?", Tone::Warn),
        _ if current => (now_mark(theme), Tone::Accent),
        StepStatus::Done => (done_mark(theme), Tone::Good),
        StepStatus::Skipped => ("-", Tone::Dim),
        StepStatus::Running | StepStatus::Held | StepStatus::Ready => (now_mark(theme), Tone::Accent),
        StepStatus::Todo => match step.mark {
            StepMark::Gate => ("#", Tone::Plain),
            StepMark::Switch => ("!", Tone::Strong),
            StepMark::Plain | StepMark::Manual => (todo_mark(theme), Tone::Dim),
        },
    }
}

fn step_line(snapshot: &Snapshot, step: &StepRow, current: bool, theme: &Theme, width: usize) -> Line {
    let (sign, tone) = mark(step, current, theme);
    let lead = if sign.width() == 2 { sign.to_owned() } else { format!("  {sign}") };
    let body = match (step.status, current) {
        (_, true) => Tone::Strong,
        (StepStatus::Done | StepStatus::Skipped, _) => Tone::Dim,
        _ => Tone::Plain,
    };
    // The current step stands out without any colour.
    let title = if current { step.title.to_uppercase() } else { step.title.clone() };
    let title = if step.mark == StepMark::Gate || step.mark == StepMark::Switch { step.title.clone() } else { title };
    let (time, time_tone) = time(snapshot, step);
    let end = width.saturating_sub(7).clamp(width.min(30), TIME_END.max(width.min(30))).min(width);
    let mut line = Line::new(lead, tone).then(format!(" {:02} ", step.number), body).then(title, body);
    let detail = detail(step, current);
    if !detail.is_empty() {
        let room = if time.is_empty() { width.saturating_sub(1) } else { end.saturating_sub(time.width() + 1) };
        let wanted =
            if current && step.mark == StepMark::Plain { line.width() + 3 } else { DETAIL.max(line.width() + 2) };
        // A narrow pane gives the detail what the title leaves, then shortens it.
        let tail = (line.width() + 2).min(wanted);
        let short = detail.strip_prefix("now ").unwrap_or(&detail).to_owned();
        let (column, text) = if wanted + detail.width() <= room {
            (wanted, detail)
        } else if wanted + short.width() <= room {
            (wanted, short)
        } else {
            (tail, shrink(&short, room.saturating_sub(tail)))
        };
        let tone = detail_tone(step, current);
        if !text.is_empty() {
            line = line.at_column(column).then(text, tone);
        }
    }
    if !time.is_empty() {
        line = line.ending_at(end, &time, time_tone);
    }
    if width >= TIME_END + 16 {
        line = line.at_column(TIME_END + 2).then(t_offset(step.at_ms), Tone::Dim);
        if let Some(ms) = step.slip_ms.filter(|ms| ms.abs() >= 1_000) {
            let sign = if ms < 0 { '-' } else { '+' };
            let text = format!(" {sign}{}", words::minutes(ms.saturating_abs()));
            line = line.then(text, if ms > 60_000 { Tone::Warn } else { Tone::Dim });
        }
    }
    line.cut(width)
}

/// Leaves out the parts that matter least, the rate before the time of arrival, until the rest fits.
fn shrink(detail: &str, room: usize) -> String {
    if detail.width() <= room {
        return detail.to_owned();
    }
    let mut parts: Vec<&str> = detail.split("  ").map(str::trim).filter(|p| !p.is_empty()).collect();
    let width = |parts: &[&str]| parts.iter().map(|p| p.width() + 2).sum::<usize>().saturating_sub(2);
    while width(&parts) > room && parts.len() > 1 {
        let at = parts
            .iter()
            .position(|p| p.ends_with("/s"))
            .or_else(|| parts.iter().position(|p| p.starts_with('[')))
            .unwrap_or(parts.len() - 1);
        parts.remove(at);
    }
    fit(&parts.join("  "), room)
}

fn detail(step: &StepRow, current: bool) -> String {
    match step.status {
        StepStatus::Failed => "FAILED".to_owned(),
        StepStatus::Unknown => "UNKNOWN".to_owned(),
        StepStatus::Skipped => "left out".to_owned(),
        StepStatus::Held => match &step.need {
            Some(Need::Word(word)) => format!("WAITS FOR YOU: type {word}"),
            Some(Need::Second) => "WAITS FOR A SECOND PERSON".to_owned(),
            Some(Need::Key | Need::Decision) => "WAITS FOR YOU".to_owned(),
            None => "not done".to_owned(),
        },
        _ => {
            let mut text = step.detail.clone();
            if current
                && step.mark == StepMark::Plain
                && let Some(eta) = step.eta
            {
                let clock: String = eta.clock().chars().take(5).collect();
                text = if text.is_empty() { format!("ETA {clock}") } else { format!("{text}  ETA {clock}") };
            }
            text
        }
    }
}

fn detail_tone(step: &StepRow, current: bool) -> Tone {
    match step.status {
        StepStatus::Failed => Tone::Bad,
        StepStatus::Unknown => Tone::Warn,
        StepStatus::Held => Tone::Accent,
        _ if step.detail.ends_with("BLOCKING") && current => Tone::Warn,
        _ if current => Tone::Strong,
        _ => Tone::Plain,
    }
}

fn time(snapshot: &Snapshot, step: &StepRow) -> (String, Tone) {
    let gate_or_switch = matches!(step.mark, StepMark::Gate | StepMark::Switch);
    match (step.started, step.ended) {
        (Some(from), Some(to)) => (hms(to.since(from)), Tone::Dim),
        (Some(from), None) if !gate_or_switch || step.status != StepStatus::Running => {
            (hms(snapshot.now.since(from).max(0)), Tone::Plain)
        }
        (Some(_), None) => (String::new(), Tone::Plain),
        _ if gate_or_switch || step.takes_ms < 1_000 => (String::new(), Tone::Dim),
        _ if step.takes_ms < 60_000 => (format!("~{}s", step.takes_ms / 1000), Tone::Dim),
        _ => {
            let clock: String = hms(step.takes_ms).chars().take(5).collect();
            (format!("~{clock}"), Tone::Dim)
        }
    }
}

fn details(snapshot: &Snapshot, step: &StepRow, state: &ViewState, width: usize) -> Vec<Line> {
    let room = width.saturating_sub(7);
    let mut lines: Vec<Line> = Vec::new();
    let indent = |text: String, tone| Line::plain("      ").then(text, tone);
    if let Some(reason) = &step.reason {
        lines.extend(wrap(reason, room).into_iter().take(3).map(|l| indent(l, Tone::Strong)));
    }
    if let Some(advice) = &step.advice {
        lines.extend(wrap(advice, room).into_iter().take(2).map(|l| indent(l, Tone::Plain)));
    }
    let key = |action| key_label(action, state);
    match &step.need {
        _ if snapshot.status == RunStatus::Stuck || snapshot.status == RunStatus::RollingBack => {}
        Some(Need::Decision) => {
            let text = format!(
                "{} try again   {} leave it out   {} roll back",
                key(Action::Retry),
                key(Action::Skip),
                key(Action::Rollback)
            );
            lines.push(indent(text, Tone::Accent));
        }
        Some(Need::Key | Need::Word(_)) => {
            let what = if step.mark == StepMark::Manual { "says it is done" } else { "starts it" };
            lines.push(indent(format!("{} opens the box that {what}", key(Action::Next)), Tone::Accent));
        }
        Some(Need::Second) => lines.push(indent("from another terminal, under another name".to_owned(), Tone::Accent)),
        None => {}
    }
    for text in &step.lines {
        lines.push(indent(fit(text, room), Tone::Plain));
    }
    if let Some((what, until)) = &snapshot.waiting {
        lines.push(indent(fit(&format!("waits until {}: {what}", until.clock()), room), Tone::Plain));
    }
    lines
}
