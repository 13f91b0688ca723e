//! Why, what and undo of one step, and the evidence for it.

use super::action::{Action, key_label};
use super::canvas::{Line, pad, wrap};
use super::result::course_lines;
use super::state::ViewState;
use super::theme::{Glyphs, Theme, Tone};
use crate::domain::at::{At, t_offset};
use crate::domain::plan::StepName;
use crate::domain::run::{Evidence, Need, StepStatus};
use crate::snapshot::{Snapshot, StepRow, words};

const LABEL: usize = 10;

/// The words of a step's status.
pub(super) const fn status_words(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Todo => "to do",
        StepStatus::Ready => "ready",
        StepStatus::Running => "running",
        StepStatus::Held => "waits for a person",
        StepStatus::Done => "done",
        StepStatus::Skipped => "left out",
        StepStatus::Failed => "FAILED",
        StepStatus::Unknown => "UNKNOWN",
    }
}

fn labelled(lines: &mut Vec<Line>, label: &str, text: &str, tone: Tone, width: usize) {
    for (i, part) in wrap(text, width.saturating_sub(LABEL + 1)).into_iter().enumerate() {
        let head = if i == 0 { label } else { "" };
        lines.push(Line::new(format!(" {}", pad(head, LABEL)), Tone::Dim).then(part, tone));
    }
}

/// A mark that shows by its shape whether a piece of evidence is in favour of going on.
pub(super) fn good_mark(good: bool, theme: &Theme) -> (&'static str, Tone) {
    match (good, theme.glyphs) {
        (true, Glyphs::Ascii) => ("v", Tone::Good),
        (true, Glyphs::Unicode) => ("✓", Tone::Good),
        (false, _) => ("!", Tone::Bad),
    }
}

/// `14:47`.
pub(super) fn hour_minute(at: At) -> String {
    at.clock().chars().take(5).collect()
}

/// One piece of evidence: mark, what, value, age, source.
pub(super) fn evidence_line(e: &Evidence, wall: At, theme: &Theme, width: usize) -> Line {
    let (sign, tone) = good_mark(e.good, theme);
    let age = if e.at.0 == 0 { "never".to_owned() } else { format!("{} ago", words::age(wall.since(e.at))) };
    let name = width.saturating_sub(4).min(if width >= 70 { 26 } else { 18 });
    let mut line = Line::new(format!(" {sign} "), tone).then(pad(&e.name, name), Tone::Plain).then(" ", Tone::Plain);
    line = line.then(pad(&e.value, 10.max(e.value.len())), if e.good { Tone::Plain } else { Tone::Strong });
    line = line.then(format!(" {}", pad(&age, 9)), Tone::Dim);
    if line.width() + 8 <= width { line.then(format!(" {}", e.source), Tone::Dim).cut(width) } else { line.cut(width) }
}

/// Everything known of one step.
pub(super) fn lines(snapshot: &Snapshot, step: &StepRow, state: &ViewState, theme: &Theme, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let before = step.number.checked_sub(2).and_then(|i| snapshot.steps.get(i));
    let status = status_words(step.status);
    let why = match (&step.reason, before) {
        // It does not wait any more: the reason says all.
        (Some(reason), _) if step.status == StepStatus::Held && step.need.is_none() => reason.clone(),
        (Some(reason), _) => format!("{status}: {reason}"),
        (None, Some(b)) if b.status == StepStatus::Done => {
            format!("{:02} {} done {}", b.number, b.title, b.ended.map_or_else(|| "?".to_owned(), At::clock))
        }
        (None, Some(b)) => format!("{status}, after {:02} {} ({})", b.number, b.title, status_words(b.status)),
        (None, None) => format!("{status}, the first step"),
    };
    let bad = matches!(step.status, StepStatus::Failed | StepStatus::Unknown);
    labelled(&mut lines, "why now", &why, if bad { Tone::Strong } else { Tone::Plain }, width);
    if let Some(advice) = &step.advice {
        labelled(&mut lines, "to do", advice, Tone::Accent, width);
    }
    if let Some(need) = &step.need {
        let text = match need {
            Need::Key => format!("one key: {}", key_label(Action::Next, state)),
            Need::Word(word) => format!("the word {word}, typed: {}", key_label(Action::Next, state)),
            Need::Second => "a second person, from another terminal".to_owned(),
            Need::Decision => "a decision: try again, leave out, or roll back".to_owned(),
        };
        labelled(&mut lines, "needs", &text, Tone::Accent, width);
    }
    labelled(&mut lines, "does", &step.does, Tone::Plain, width);
    labelled(&mut lines, "undo", &step.undo, Tone::Plain, width);
    let mut planned = format!("{} {}", t_offset(step.at_ms), hour_minute(step.planned));
    if step.takes_ms > 0 {
        planned.push_str(&format!(" for {}", words::length(step.takes_ms)));
    }
    if !step.owner.is_empty() {
        planned.push_str(&format!(", {}", step.owner));
    }
    labelled(&mut lines, "planned", &planned, Tone::Plain, width);
    if let Some(started) = step.started {
        let mut actual = started.clock_on(snapshot.now);
        match (step.ended, step.eta) {
            (Some(ended), _) => actual.push_str(&format!(" to {}", ended.clock_on(started))),
            (None, Some(eta)) => actual.push_str(&format!(", ends about {}", hour_minute(eta))),
            (None, None) => {}
        }
        if let Some(ms) = step.slip_ms.filter(|ms| ms.abs() >= 1_000) {
            let late = if ms < 0 { "early" } else { "late" };
            actual.push_str(&format!(", {} {late}", words::length(ms.saturating_abs())));
        }
        labelled(&mut lines, "actual", &actual, Tone::Plain, width);
    }
    if !step.evidence.is_empty() {
        lines.push(Line::default());
        for e in &step.evidence {
            let line = evidence_line(e, snapshot.wall, theme, width);
            // What was asked is never cut away: a line of its own when there is no room beside.
            let whole = e.source.is_empty() || line.spans.last().is_some_and(|s| s.text.ends_with(&e.source));
            if whole {
                lines.push(line);
            } else {
                let bare = Evidence { source: String::new(), ..e.clone() };
                lines.push(evidence_line(&bare, snapshot.wall, theme, width));
                let room = width.saturating_sub(6);
                lines.extend(wrap(&e.source, room).into_iter().map(|l| Line::new(format!("     {l}"), Tone::Dim)));
            }
        }
    }
    if step.kind == StepName::Load && step.status == StepStatus::Running {
        let (running, wanted) = snapshot.workers;
        let retries: u64 = snapshot.tables.iter().map(|t| t.retries).sum();
        let (done, all) = snapshot.tables.iter().fold((0, 0), |(d, a), t| (d + t.segments.0, a + t.segments.1));
        lines.push(Line::default());
        let more = key_label(Action::MoreWorkers, state);
        let less = key_label(Action::FewerWorkers, state);
        labelled(&mut lines, "workers", &format!("{running} of {wanted} wanted   {more} / {less}"), Tone::Plain, width);
        let reading: u32 = snapshot.tables.iter().map(|t| t.reading).sum();
        let text = format!("{done} of {all} done, {reading} being read   retried {retries}");
        labelled(&mut lines, "segments", &text, Tone::Plain, width);
    }
    lines.push(Line::default());
    let j = &snapshot.journal;
    let written = j.age_ms.map_or_else(|| "? ago".to_owned(), |ms| format!("{} ago", words::age(ms)));
    let text = if j.ok { format!("#{}   last written {written}", j.last_seq) } else { "CANNOT BE WRITTEN".to_owned() };
    labelled(&mut lines, "journal", &text, if j.ok { Tone::Plain } else { Tone::Bad }, width);
    lines
}

/// What rollback would do from here; once it was ordered, what it has done and is doing.
pub(super) fn rollback_lines(snapshot: &Snapshot, theme: &Theme, width: usize) -> Vec<Line> {
    let back = &snapshot.rollback;
    let tone = Theme::tone(back.health);
    let mut lines =
        vec![Line::new(format!(" {}", pad("rollback", LABEL)), Tone::Dim).then(back.text.clone(), tone).cut(width)];
    lines.extend(course_lines(snapshot, theme, width));
    let ahead = if back.course.is_empty() { back.actions.as_slice() } else { &[] };
    for (i, action) in ahead.iter().enumerate() {
        lines.push(Line::new(format!("   {} ", i + 1), Tone::Dim).then(action.clone(), Tone::Plain).cut(width));
    }
    lines
}
