//! The home view: the runbook and what there is room for around it.

use ratatui::layout::Rect;

use super::canvas::{Canvas, Line};
use super::layout::{Layout, Panes, panes, split_rows};
use super::state::{Pane, ViewState};
use super::{evidence, log, result, runbook, signals, tables};
use crate::domain::run::{RunStatus, StepStatus};
use crate::snapshot::{Health, Snapshot, StepMark};

/// Draws the home view into the area between the annunciator and the key line.
pub(super) fn draw(c: &mut Canvas<'_>, body: Rect, layout: Layout, snapshot: &Snapshot, state: &ViewState) {
    if state.zoom {
        let inside = c.pane(body, pane_title(state.focus, snapshot), &pane_right(state.focus, snapshot, state), true);
        content(c, inside, state.focus, layout, snapshot, state);
        return;
    }
    if layout == Layout::Small {
        return small(c, body, layout, snapshot, state);
    }
    let wanted = u16::try_from(snapshot.tables.len() + 2).unwrap_or(u16::MAX);
    let Panes { runbook, evidence, tables, signals, log } = panes(layout, body, wanted);
    let all = [
        (Pane::Runbook, runbook),
        (Pane::Evidence, evidence),
        (Pane::Tables, tables),
        (Pane::Signals, signals),
        (Pane::Log, log),
    ];
    for (pane, area) in all {
        if area.is_empty() {
            continue;
        }
        let title = match pane {
            Pane::Evidence => evidence_title(snapshot, state),
            _ => pane_title(pane, snapshot).to_owned(),
        };
        let inside = c.pane(area, &title, &pane_right(pane, snapshot, state), state.focus == pane);
        content(c, inside, pane, layout, snapshot, state);
    }
}

/// Panes that can be focused in this layout, in the order of Tab.
#[must_use]
pub fn focusable(layout: Layout) -> &'static [Pane] {
    match layout {
        Layout::Survival => &[],
        Layout::Small => &[Pane::Runbook, Pane::Log],
        Layout::Medium | Layout::Wide => &[Pane::Runbook, Pane::Evidence, Pane::Signals, Pane::Log],
        Layout::Large => &[Pane::Runbook, Pane::Evidence, Pane::Tables, Pane::Signals, Pane::Log],
    }
}

fn small(c: &mut Canvas<'_>, body: Rect, layout: Layout, snapshot: &Snapshot, state: &ViewState) {
    // Rule, runbook, rule, four lines of log, rule. Taller screens give the log a share.
    let log_height = (body.height / 5).max(4);
    let (rule, rest) = split_rows(body, 1);
    c.rule(rule);
    let (main, rest) = split_rows(rest, rest.height.saturating_sub(log_height + 2));
    content(c, main, Pane::Runbook, layout, snapshot, state);
    let (rule, rest) = split_rows(rest, 1);
    c.rule(rule);
    if state.log.editing || !state.log.text.is_empty() || state.scrolls.log > 0 {
        let status = format!(" {} ", log::status(snapshot, state));
        let x = rule.right().saturating_sub(u16::try_from(status.len() + 2).unwrap_or(0)).max(rule.x);
        c.put(x, rule.y, rule.right() - x, &status, super::theme::Tone::Strong);
    }
    let (lines, rule) = split_rows(rest, rest.height.saturating_sub(1));
    content(c, lines, Pane::Log, layout, snapshot, state);
    c.rule(rule);
}

fn pane_title(pane: Pane, snapshot: &Snapshot) -> &'static str {
    match pane {
        Pane::Runbook if result::has_result(snapshot.status) => result::title(snapshot.status),
        Pane::Runbook => "Runbook",
        Pane::Evidence => "Evidence",
        Pane::Signals => "Signals",
        Pane::Tables => "Tables",
        Pane::Log => "Log",
    }
}

fn evidence_title(snapshot: &Snapshot, state: &ViewState) -> String {
    let step = state.shown_step(snapshot).and_then(|i| snapshot.steps.get(i));
    step.map_or_else(|| "Evidence".to_owned(), |s| format!("Evidence: step {:02} {}", s.number, s.title))
}

fn pane_right(pane: Pane, snapshot: &Snapshot, state: &ViewState) -> String {
    match pane {
        Pane::Runbook => match snapshot.current {
            Some(i) => format!("step {:02}/{:02}", i + 1, snapshot.steps.len()),
            None => format!("{0:02}/{0:02} steps", snapshot.steps.len()),
        },
        Pane::Signals => {
            let known = snapshot.signals.iter().filter(|s| s.health != Health::Unknown).count();
            format!("{known}/{} known", snapshot.signals.len())
        }
        Pane::Log => log::status(snapshot, state),
        Pane::Evidence | Pane::Tables => String::new(),
    }
}

fn content(c: &mut Canvas<'_>, area: Rect, pane: Pane, layout: Layout, snapshot: &Snapshot, state: &ViewState) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let theme = *c.theme;
    match pane {
        Pane::Runbook if result::has_result(snapshot.status) => {
            let mut lines = result::lines(snapshot, &theme, width);
            lines.push(Line::default());
            lines.extend(runbook::lines(snapshot, state, &theme, width).into_iter().map(|(_, l)| l));
            c.scrolled(area, &lines, state.scrolls.result);
        }
        Pane::Runbook => {
            let steps = runbook::lines(snapshot, state, &theme, width).len();
            let foot = if layout >= Layout::Medium && steps + 5 <= height { 5 } else { 0 };
            let (main, foot) = split_rows(area, area.height - foot);
            runbook::draw(c, main, snapshot, state);
            if !foot.is_empty() {
                let mut lines =
                    vec![Line::default(), Line::new(runbook::legend(&theme), super::theme::Tone::Dim), Line::default()];
                lines.extend(result::forecast_lines(snapshot, width));
                c.lines(foot, &lines);
            }
        }
        Pane::Evidence => {
            let mut lines = state
                .shown_step(snapshot)
                .and_then(|i| snapshot.steps.get(i))
                .map(|s| evidence::lines(snapshot, s, state, &theme, width))
                .unwrap_or_default();
            if layout >= Layout::Wide
                || lines.len() + snapshot.rollback.actions.len().max(snapshot.rollback.course.len()) + 2 <= height
                || state.zoom
            {
                lines.push(Line::default());
                lines.extend(evidence::rollback_lines(snapshot, &theme, width));
            }
            c.scrolled(area, &lines, state.scrolls.evidence);
        }
        Pane::Signals => {
            let mut lines = signals::lines(snapshot, &theme, width);
            lines.extend(charts(snapshot, &theme, width, height.saturating_sub(lines.len())));
            c.scrolled(area, &lines, state.scrolls.signals);
        }
        Pane::Tables => {
            c.scrolled(area, &tables::lines(snapshot, width, state.scrolls.tables, height), state.scrolls.tables)
        }
        Pane::Log => c.lines(area, &log::lines(snapshot, state, width, height)),
    }
}

/// Charts of what the current gate decides on, as far as there is room: which pane is extra depends on the step.
fn charts(snapshot: &Snapshot, theme: &super::theme::Theme, width: usize, room: usize) -> Vec<Line> {
    const HEIGHT: usize = 5;
    let gate = snapshot
        .current
        .and_then(|i| snapshot.steps.get(i))
        .filter(|s| s.mark == StepMark::Gate && s.status != StepStatus::Done && snapshot.status == RunStatus::Running);
    let Some(gate) = gate else { return Vec::new() };
    let mut lines = Vec::new();
    for row in &snapshot.signals {
        let watched = gate.evidence.iter().any(|e| e.name.split(' ').next() == Some(row.id.as_str()));
        if watched && lines.len() + HEIGHT + 2 <= room {
            lines.push(Line::default());
            lines.extend(signals::chart(row, theme, width, HEIGHT));
        }
    }
    lines
}
