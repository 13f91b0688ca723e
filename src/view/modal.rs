//! Boxes over the screen.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::action::{Action, chord_label, key_label};
use super::canvas::{Canvas, Line, fit, pad, wrap};
use super::evidence;
use super::help::{action_line, help_lines, palette_matches};
use super::keys::takes_text;
use super::result::names;
use super::signals::standing;
use super::state::{Button, Choice, Modal, ViewState};
use super::theme::{Theme, Tone};
use crate::domain::plan::StepName;
use crate::domain::run::{Evidence, Need, StepStatus, SwitchStatus};
use crate::snapshot::{Mode, SetRow, Snapshot, StepMark, StepRow, SwitchRow, words};

/// Draws the topmost box over the body.
pub(super) fn draw(c: &mut Canvas<'_>, body: Rect, snapshot: &Snapshot, state: &ViewState) {
    let Some(modal) = state.top() else { return };
    let inner = usize::from(body.width.min(76).saturating_sub(2));
    let theme = *c.theme;
    let find = |id: &str| snapshot.steps.iter().find(|s| s.id == id);
    match modal {
        Modal::Confirm { step, word, typed, button, .. } => {
            let Some(step) = find(step) else { return gone(c, body) };
            let lines = confirm_lines(snapshot, step, state, &theme, inner);
            let ask = confirm_ask(step, word.as_deref(), typed, Buttons::of(modal, state, *button), inner);
            boxed(c, body, &step.title.to_uppercase(), &prod(snapshot), &lines, &[Line::default(), ask], 76);
        }
        Modal::Decide { step, choice, .. } => {
            let Some(step) = find(step) else { return gone(c, body) };
            let mut lines = Vec::new();
            for text in [step.reason.as_deref(), step.advice.as_deref()].into_iter().flatten() {
                lines.extend(wrap(text, inner - 4).into_iter().map(|l| Line::plain(format!("  {l}"))));
                lines.push(Line::default());
            }
            if step.goes_back {
                lines.push(Line::plain("  Try again goes on taking it back:"));
                lines.extend(taken_back(snapshot, step, inner));
                lines.push(Line::default());
            } else {
                lines.push(labelled("undo", &step.undo, inner));
            }
            lines.push(labelled("rollback", &snapshot.rollback.text, inner));
            let deaf = modal.is_deaf(state.clock_ms);
            let mut ask = Line::plain("  ");
            for (i, (this, text)) in Choice::ALL.iter().zip(["Leave it", "Try again", "Skip this step"]).enumerate() {
                if i > 0 {
                    ask = ask.then("   ", Tone::Plain);
                }
                ask = button_span(ask, text, this == choice, deaf);
            }
            if deaf {
                ask = ask.then(format!("   {WAIT}"), Tone::Dim);
            }
            let title = format!("{:02} {} {}", step.number, step.title, evidence::status_words(step.status));
            boxed(c, body, &title, &prod(snapshot), &lines, &[Line::default(), ask], 76);
        }
        Modal::StepBack { step, button, .. } => {
            let Some(step) = find(step) else { return gone(c, body) };
            let lines: Vec<Line> = step_back_lines(snapshot, step, inner);
            let deaf = modal.is_deaf(state.clock_ms);
            let ask =
                button_span(Line::plain("  "), "Cancel", *button == Button::Cancel, deaf).then("   ", Tone::Plain);
            let ask = button_span(ask, "Take it back", *button == Button::Go, deaf);
            let ask = if deaf { ask.then(format!("   {WAIT}"), Tone::Dim) } else { ask };
            let title = format!("STEP BACK: {:02} {}", step.number, step.title);
            boxed(c, body, &title, &prod(snapshot), &lines, &[Line::default(), ask], 76);
        }
        Modal::Quit { button, .. } => {
            // A rehearsal's stores live in this process, so leaving has another effect than on the real day.
            let (ctrl_c, after, back) = match snapshot.mode {
                Mode::Rehearsal { .. } => (
                    "ends it",
                    "its stores end with it: a rehearsal is not resumed",
                    "Until then `cutover rollback` works",
                ),
                Mode::Live | Mode::Replay { .. } => {
                    ("pauses it at a safe point", "the same command resumes the run", "`cutover rollback` works")
                }
            };
            let text = format!(
                "A run is under way. Leaving this screen neither pauses it nor rolls it back: it goes on here as plain \
                 lines, where Ctrl-C {ctrl_c}. When a step waits for a person this process ends (code 75), and {after}. \
                 {back} from any terminal. y leaves."
            );
            let lines: Vec<Line> = wrap(&text, inner - 4).into_iter().map(|l| Line::plain(format!("  {l}"))).collect();
            let ask = Line::plain("  ");
            let deaf = modal.is_deaf(state.clock_ms);
            let ask = button_span(ask, "Stay", *button == Button::Cancel, deaf).then("   ", Tone::Plain);
            let ask = button_span(ask, "Leave", *button == Button::Go, deaf);
            let ask = if deaf { ask.then(format!("   {WAIT}"), Tone::Dim) } else { ask };
            boxed(c, body, "LEAVE", &prod(snapshot), &lines, &[Line::default(), ask], 76);
        }
        Modal::Evidence { step } => {
            let Some(step) = find(step) else { return gone(c, body) };
            let width = usize::from(body.width.saturating_sub(2));
            let mut lines = evidence::lines(snapshot, step, state, &theme, width);
            lines.push(Line::default());
            lines.extend(evidence::rollback_lines(snapshot, &theme, width));
            full(
                c,
                body,
                &format!("Evidence: step {:02} {}", step.number, step.title),
                "",
                &lines,
                state.scrolls.evidence,
            );
        }
        Modal::WhatIf => {
            let width = usize::from(body.width.saturating_sub(2));
            let lines = what_if_lines(snapshot, width);
            full(c, body, "What if: rollback now", "changes nothing", &lines, state.scrolls.evidence);
        }
        Modal::Alerts => {
            let width = usize::from(body.width.saturating_sub(2));
            let unseen = snapshot.alerts.iter().filter(|row| row.is_unseen()).count();
            let right = match unseen {
                0 => String::new(),
                n => format!("{n} not acknowledged"),
            };
            full(c, body, "Alerts", &right, &alert_lines(snapshot, width), state.scrolls.evidence);
        }
        Modal::Help { search, searching } => {
            let width = usize::from(body.width.saturating_sub(2));
            let lines = help_lines(snapshot, state, search, &theme, width);
            let right = match (searching, search.as_str()) {
                (true, s) => format!("/{s}_"),
                (false, "") => "/ searches".to_owned(),
                (false, s) => format!("/{s}"),
            };
            full(c, body, "Help", &right, &lines, state.scrolls.help);
        }
        Modal::Palette { typed, selected } => {
            let found = palette_matches(typed);
            let width = usize::from(body.width.min(76)).saturating_sub(2);
            let room = usize::from(body.height).saturating_sub(4).min(14);
            let from = (selected + 1).saturating_sub(room.max(1));
            let mut lines: Vec<Line> = found
                .iter()
                .enumerate()
                .skip(from)
                .take(room)
                .map(|(i, action)| {
                    let mut line = action_line(*action, snapshot, state, width);
                    line.selected = i == *selected;
                    line
                })
                .collect();
            if lines.is_empty() {
                lines.push(Line::new("  no such action", Tone::Dim));
            }
            let ask = Line::new(format!("  : {typed}_"), Tone::Strong);
            boxed(c, body, "Command", "", &lines, &[ask], 76);
        }
        Modal::Note { typed } => {
            let shown: String = {
                let room = inner.saturating_sub(6);
                let skip = typed.chars().count().saturating_sub(room);
                typed.chars().skip(skip).collect()
            };
            let lines = [Line::new(
                "  One line for the journal. It is kept for good: no secrets, no customer data.",
                Tone::Dim,
            )];
            boxed(
                c,
                body,
                "Note",
                "",
                &lines,
                &[Line::default(), Line::new(format!("  > {shown}_"), Tone::Strong)],
                76,
            );
        }
    }
}

fn what_if_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let back = &snapshot.rollback;
    let head = Line::new(format!(" {}", pad("rollback", 10)), Tone::Dim)
        .then(back.text.clone(), Theme::tone(back.health))
        .cut(width);
    let mut lines = vec![head, Line::default()];
    for (label, text) in back.what_if.lines(snapshot.wall) {
        for (i, part) in wrap(&text, width.saturating_sub(13)).into_iter().enumerate() {
            let label = if i == 0 { label.as_str() } else { "" };
            lines.push(Line::new(format!(" {}", pad(label, 10)), Tone::Dim).then(part, Tone::Plain).cut(width));
        }
    }
    lines
}

/// Alerts that fired, the newest first.
fn alert_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for row in snapshot.alerts.iter().rev() {
        let tone = match (row.is_unseen(), row.firing.is_open()) {
            (true, true) if row.firing.about.is_bad() => Tone::Bad,
            (true, _) => Tone::Warn,
            (false, _) => Tone::Plain,
        };
        let headline = wrap(&row.headline(snapshot.now), width.saturating_sub(2)).into_iter();
        lines.extend(headline.map(|part| Line::new(format!(" {part}"), tone).cut(width)));
        for detail in row.details(snapshot.now) {
            let parts = wrap(&detail, width.saturating_sub(6)).into_iter();
            lines.extend(parts.map(|part| Line::new(format!("     {part}"), Tone::Dim).cut(width)));
        }
    }
    if lines.is_empty() {
        lines.push(Line::new(" no alert has fired", Tone::Dim));
    }
    lines
}

fn prod(snapshot: &Snapshot) -> String {
    match (snapshot.production, snapshot.environment.is_empty()) {
        (true, _) => "[ PROD ]".to_owned(),
        (false, false) => format!("[ {} ]", snapshot.environment),
        (false, true) => String::new(),
    }
}

fn gone(c: &mut Canvas<'_>, body: Rect) {
    boxed(c, body, "Gone", "", &[Line::plain("  this step is not in the plan any more; Esc closes")], &[], 60);
}

/// A box in the middle of the body; the footer always stays, the lines above it are cut first.
fn boxed(c: &mut Canvas<'_>, body: Rect, title: &str, right: &str, lines: &[Line], footer: &[Line], width: u16) {
    let width = width.min(body.width);
    let wanted = u16::try_from(lines.len() + footer.len() + 2).unwrap_or(u16::MAX);
    let height = wanted.min(body.height);
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y + (body.height - height) / 2, width, height };
    // A sliver of what lies beneath would only confuse.
    c.clear(if width + 8 >= body.width { Rect { x: body.x, width: body.width, ..area } } else { area });
    let inside = c.pane(area, title, right, true);
    let foot = footer.len().min(usize::from(inside.height));
    let room = usize::from(inside.height) - foot;
    let mut shown: Vec<Line> = lines.iter().take(room).cloned().collect();
    if lines.len() > room && room > 0 {
        shown[room - 1] = Line::new("  .. more: enlarge the terminal", Tone::Dim);
    }
    shown.resize(room, Line::default());
    shown.extend(footer.iter().take(foot).cloned());
    c.lines(inside, &shown);
}

/// A box over the whole body.
fn full(c: &mut Canvas<'_>, body: Rect, title: &str, right: &str, lines: &[Line], from: usize) {
    c.clear(body);
    let inside = c.pane(body, title, right, true);
    c.scrolled(inside, lines, from);
}

fn labelled(label: &str, text: &str, width: usize) -> Line {
    Line::new(format!("  {}", pad(label, 10)), Tone::Dim).then(fit(text, width.saturating_sub(14)), Tone::Plain)
}

/// Said beside buttons that do not listen yet.
const WAIT: &str = "wait..";

/// The buttons of a question as they stand.
#[derive(Clone, Copy)]
struct Buttons {
    focused: Button,
    deaf: bool,
}

impl Buttons {
    fn of(modal: &Modal, state: &ViewState, focused: Button) -> Self {
        Self { focused, deaf: modal.is_deaf(state.clock_ms) }
    }
}

/// A button; while the box ignores keys none has the focus, so that nobody presses a button that does nothing.
fn button_span(line: Line, text: &str, focused: bool, deaf: bool) -> Line {
    if deaf {
        line.then(format!("  {text}  "), Tone::Dim)
    } else if focused {
        line.then(format!("[ {text} ]"), Tone::Selected)
    } else {
        line.then(format!("  {text}  "), Tone::Plain)
    }
}

/// What a step back would set, and what stays as it is.
fn step_back_lines(snapshot: &Snapshot, step: &StepRow, width: usize) -> Vec<Line> {
    let mut lines = taken_back(snapshot, step, width);
    let text = "Each place is set and read back. The run stays under way: what was judged since is judged again, and a \
                person lets the step go forward again. Nothing else is undone; rollback takes everything back. b does it.";
    lines.push(Line::default());
    lines.extend(wrap(text, width.saturating_sub(4)).into_iter().map(|l| Line::plain(format!("  {l}"))));
    lines
}

/// The places of a step that is taken back, each with the value it goes to.
fn taken_back(snapshot: &Snapshot, step: &StepRow, width: usize) -> Vec<Line> {
    let line = |set: &SetRow| {
        let place = snapshot.switches.iter().find(|s| s.id == set.switch).map_or(set.switch.as_str(), |s| &s.place);
        let change = format!(" {} -> {}", set.to, set.from);
        let room = width.saturating_sub(change.width() + 4).clamp(12, 44);
        Line::plain("  ").then(pad(place, room), Tone::Strong).then(change, Tone::Strong).cut(width)
    };
    step.sets.iter().map(line).collect()
}

/// What will change, how it is undone, and what proves that it may be done.
fn confirm_lines(snapshot: &Snapshot, step: &StepRow, state: &ViewState, theme: &Theme, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let of = |set: &SetRow| snapshot.switches.iter().find(|s| s.id == set.switch);
    let sets: Vec<(&SetRow, &SwitchRow)> = step.sets.iter().filter_map(|set| Some((set, of(set)?))).collect();
    let touched: Vec<&SwitchRow> = sets.iter().map(|(_, s)| *s).collect();
    let back = step.kind == StepName::Thaw;
    let mut rows = Vec::new();
    for (set, s) in sets {
        let change = format!("{} -> {}", set.from, set.to);
        // The version that it will get is known only while nobody has changed the value since it was captured.
        let version = match s.version.filter(|_| !back && s.standing == SwitchStatus::Old) {
            Some(v) => format!("   version {v} -> {}", v + 1),
            None => String::new(),
        };
        let (now, tone) = standing(s);
        let place = width.saturating_sub(change.width() + version.width() + now.width() + 12).clamp(12, 34);
        rows.push((place, change, now, tone, version));
    }
    // One width for all, so that names cut to it stay distinct.
    let place = rows.iter().map(|(place, ..)| *place).min().unwrap_or(12);
    for (name, (_, change, now, tone, version)) in names(&touched, place).into_iter().zip(rows) {
        lines.push(
            Line::plain("  ")
                .then(pad(&name, place), Tone::Strong)
                .then(format!(" {change}"), Tone::Strong)
                .then(format!("   now {now}"), tone)
                .then(version, Tone::Dim)
                .cut(width),
        );
    }
    if touched.is_empty() {
        lines.extend(wrap(&step.does, width.saturating_sub(4)).into_iter().map(|l| Line::plain(format!("  {l}"))));
    }
    // A typed word is asked for below; any other reason is said here.
    if let Some(reason) = step.reason.as_ref().filter(|_| !matches!(step.need, Some(Need::Word(_)))) {
        lines.extend(wrap(reason, width.saturating_sub(4)).into_iter().take(2).map(|l| Line::plain(format!("  {l}"))));
    }
    let at_any_time = if step.mark == StepMark::Switch { rollback_presses(state) } else { String::new() };
    lines.push(labelled("undo", &format!("{at_any_time}{}", step.undo), width));
    lines.push(labelled("rollback", &snapshot.rollback.text, width));
    lines.push(Line::default());
    for s in snapshot.steps.iter().take(step.number.saturating_sub(1)).filter(|s| s.mark == StepMark::Gate) {
        let good = s.status == StepStatus::Done;
        let (sign, tone) = evidence::good_mark(good, theme);
        let values: Vec<String> = match s.evidence.as_slice() {
            [only] => vec![only.value.clone()],
            many => many.iter().map(Evidence::words).collect(),
        };
        let at = s.ended.map_or_else(|| evidence::status_words(s.status).to_owned(), |at| at.clock_on(snapshot.now));
        lines.push(
            Line::new(format!("  {sign} "), tone)
                .then(pad(&format!("{:02} {}", s.number, s.title), 34), Tone::Plain)
                .then(format!(" {at} "), Tone::Dim)
                .then(format!(" {}", values.join(", ")), Tone::Plain)
                .cut(width),
        );
    }
    if let (Some(_), Some(ms)) = (snapshot.downtime.refused, snapshot.downtime_running_ms) {
        let (sign, tone) = evidence::good_mark(true, theme);
        let text = format!("refused for {}", words::with_unit(ms as f64 / 1000.0, "s"));
        lines.push(
            Line::new(format!("  {sign} "), tone)
                .then(pad("freeze", 34), Tone::Plain)
                .then(format!(" {text}"), Tone::Plain)
                .cut(width),
        );
    }
    for e in &step.evidence {
        lines.push(evidence::evidence_line(e, snapshot.wall, theme, width));
    }
    lines
}

/// `R R at any time: `, or where a word is typed, and a letter is text, the key that works there.
fn rollback_presses(state: &ViewState) -> String {
    let (first, key) = rollback_key(state);
    format!("{first}{key} {key} at any time: ")
}

/// The key that rolls back where the person is now, and what must come before it.
pub(super) fn rollback_key(state: &ViewState) -> (&'static str, String) {
    if !takes_text(state) {
        return ("", key_label(Action::Rollback, state));
    }
    let key = chord_label(Action::Rollback, state);
    (if key.chars().count() == 1 { "Esc, then " } else { "" }, key)
}

fn confirm_ask(step: &StepRow, word: Option<&str>, typed: &str, buttons: Buttons, width: usize) -> Line {
    let verb = match step.kind {
        StepName::Switch => "Switch",
        StepName::Freeze => "Freeze",
        StepName::Thaw => "Thaw",
        StepName::Manual => "It is done",
        StepName::Restart => "Restart",
        StepName::Cleanup => "Delete",
        StepName::Preflight
        | StepName::SetUp
        | StepName::Capture
        | StepName::Load
        | StepName::CatchUp
        | StepName::Baseline
        | StepName::Verify
        | StepName::Arm
        | StepName::Drain
        | StepName::Smoke
        | StepName::Gate
        | StepName::GoNoGo
        | StepName::Backup
        | StepName::Command => "Start",
    };
    let mut line = match word {
        Some(word) => {
            let room = word.chars().count().max(16);
            let shown: String = typed.chars().take(room).collect();
            let field = format!("{shown}{}", "_".repeat(room.saturating_sub(shown.width())));
            let by_hand = step.kind == StepName::Manual;
            let when = if by_hand { "once it is done".to_owned() } else { format!("to {}", verb.to_lowercase()) };
            Line::plain(format!("  Type {word} {when}: [")).then(field, Tone::Strong).then("]", Tone::Plain)
        }
        None => Line::plain(match step.kind {
            StepName::Manual => "  Is this done?",
            StepName::Gate => "  Start watching this gate now?",
            StepName::GoNoGo => "  Start this decision now?",
            StepName::Preflight
            | StepName::SetUp
            | StepName::Capture
            | StepName::Load
            | StepName::CatchUp
            | StepName::Baseline
            | StepName::Verify
            | StepName::Arm
            | StepName::Drain
            | StepName::Smoke
            | StepName::Freeze
            | StepName::Switch
            | StepName::Restart
            | StepName::Backup
            | StepName::Command
            | StepName::Cleanup
            | StepName::Thaw => "  Start this step now?",
        }),
    };
    let column = width.saturating_sub(10 + 2 + verb.len() + 4 + 1);
    let Buttons { focused, deaf } = buttons;
    line = if deaf {
        line.cut(column.saturating_sub(WAIT.len() + 2))
            .at_column(column.saturating_sub(WAIT.len() + 1))
            .then(WAIT, Tone::Dim)
    } else {
        line.cut(column.saturating_sub(1))
    };
    line = button_span(line.at_column(column), "Cancel", focused == Button::Cancel, deaf);
    button_span(line, verb, focused == Button::Go, deaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_names_a_rollback_key_that_works_in_it() {
        let asks = |word: Option<&str>, keys: &[&str]| {
            let modal = Modal::Confirm {
                step: "writes".into(),
                word: word.map(str::to_owned),
                typed: String::new(),
                button: Button::Cancel,
                drawn_ms: None,
            };
            let mut state = ViewState { modals: vec![modal], ..ViewState::default() };
            if !keys.is_empty() {
                state.keys.insert(Action::Rollback, keys.iter().map(|k| (*k).to_owned()).collect());
            }
            rollback_presses(&state)
        };
        assert_eq!(asks(None, &[]), "R R at any time: ");
        assert_eq!(asks(Some("orders"), &[]), "Ctrl-R Ctrl-R at any time: ");
        assert_eq!(asks(Some("orders"), &["X", "f9"]), "F9 F9 at any time: ");
        assert_eq!(asks(Some("orders"), &["X"]), "Esc, then X X at any time: ");
    }
}
