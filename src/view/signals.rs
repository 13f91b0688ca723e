//! Watched numbers with their histories.

use super::canvas::{Line, pad, pad_left};
use super::theme::{Theme, Tone};
use crate::domain::at::At;
use crate::domain::run::SwitchStatus;
use crate::snapshot::{Health, SignalRow, Snapshot, SwitchRow, words};

/// A history in `width` cells, newest at the right. The scale runs from 0 to the limit or the largest value;
/// what nobody measured is blank.
pub(super) fn spark(values: &[Option<f64>], limit: Option<f64>, width: usize, theme: &Theme) -> String {
    let shown = &values[values.len().saturating_sub(width)..];
    let top = shown.iter().flatten().copied().fold(limit.unwrap_or(0.0), f64::max);
    let steps = theme.spark();
    let last = steps.len() - 1;
    let mut out = " ".repeat(width - shown.len());
    out.extend(shown.iter().map(|v| match v {
        None => ' ',
        Some(v) if top > 0.0 && v.is_finite() => {
            let place = (v.max(0.0) / top * last as f64).round();
            steps.get(place as usize).copied().unwrap_or(steps[last])
        }
        Some(_) => steps[0],
    }));
    out
}

/// The value of a signal as drawn: a stale value is `?` like an unknown one, its age says why.
pub(super) fn value_text(row: &SignalRow) -> String {
    match (row.health, row.value) {
        (Health::Idle, None) => "-".to_owned(),
        (Health::Unknown, _) | (_, None) => "?".to_owned(),
        (_, Some(v)) => words::with_unit(v, &row.unit),
    }
}

/// `1s`, or `never`.
pub(super) fn age_text(at: At, wall: At) -> String {
    if at.0 == 0 { "never".to_owned() } else { words::age(wall.since(at)) }
}

fn word(health: Health) -> &'static str {
    Theme::word(health)
}

fn row_line(row: &SignalRow, wall: At, theme: &Theme, width: usize) -> Line {
    let wide = width >= 80;
    let name = if wide { 14 } else { 10 };
    let value = if wide { 9 } else { 6 };
    let age_width = if wide { 6 } else { 0 };
    let limit = row.limit.map_or_else(String::new, |l| format!("limit {}", words::limit(l, &row.unit)));
    let fixed = name + 1 + value + 1 + 2 + 11 + age_width + 1 + 5;
    let room = width.saturating_sub(fixed + 1);
    let history = match (row.health, row.value) {
        // Why it is not drawn as known.
        (Health::Unknown, Some(_)) => format!("STALE {}", age_text(row.at, wall)),
        _ => spark(row.series.values(), row.limit, room, theme),
    };
    let tone = Theme::tone(row.health);
    let age = if wide && row.value.is_some() { age_text(row.at, wall) } else { String::new() };
    Line::plain(" ")
        .then(pad(&row.id, name), Tone::Plain)
        .then(" ", Tone::Plain)
        .then(pad(&value_text(row), value), tone)
        .then(" ", Tone::Plain)
        .then(pad(&history, room), Tone::Dim)
        .then("  ", Tone::Plain)
        .then(pad(&limit, 11), Tone::Dim)
        .then(pad_left(&age, age_width), Tone::Dim)
        .then(" ", Tone::Plain)
        .then(pad(word(row.health), 5), tone)
        .cut(width)
}

/// Every signal, then the switches as last read, the interruption and what is open.
pub(super) fn lines(snapshot: &Snapshot, theme: &Theme, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = snapshot.signals.iter().map(|s| row_line(s, snapshot.wall, theme, width)).collect();
    if lines.is_empty() {
        lines.push(Line::new(" no signals in the plan", Tone::Dim));
    }
    // A clock that runs out goes first, where it is not scrolled away.
    let runs_out = snapshot.tables.iter().filter_map(|t| t.trim.as_ref()).any(|c| c.health > Health::Watch)
        || snapshot.retained.iter().any(|r| r.health > Health::Watch);
    let place = if runs_out { 0 } else { lines.len() };
    lines.splice(place..place, clock_lines(snapshot, width));
    for s in &snapshot.switches {
        let read = s
            .read_at
            .map_or_else(|| "not read yet".to_owned(), |at| format!("last read {}", at.clock_on(snapshot.now)));
        let (now, tone) = standing(s);
        lines.push(
            Line::plain(" ")
                .then(pad(&s.id, 9), Tone::Plain)
                .then(" ", Tone::Plain)
                .then(pad(now, 9), tone)
                .then(read, Tone::Dim)
                .cut(width),
        );
    }
    lines.extend(downtime_line(snapshot).map(|l| l.cut(width)));
    for t in &snapshot.tables {
        let open = t.verified.as_ref().map_or(0, |(_, v)| v.differing());
        let parked: u64 = t.parked.values().sum();
        if open > 0 || parked > 0 {
            let text = format!(" {} {} differ, {} parked", pad(&t.id, 9), words::human(open), words::human(parked));
            lines.push(Line::new(text, Tone::Warn).ending_at(width.saturating_sub(1), "OPEN", Tone::Warn));
        }
    }
    lines
}

/// The clocks after which something is gone for good: the table whose unread records go first, every other one that is
/// not well, what sources keep of their logs until we have read it, and what waits to be applied to the old side.
pub(super) fn clock_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let clocks = || snapshot.tables.iter().filter_map(|t| t.trim.as_ref().map(|c| (t.id.as_str(), c)));
    let first = clocks().min_by_key(|(_, c)| c.clock.trimmed_in_ms).map(|(id, _)| id);
    let shown =
        clocks().filter(|(id, c)| first == Some(*id) || c.health > Health::Watch || c.health == Health::Unknown);
    // The projection is what counts: a narrow pane must not cut it away.
    let fits = |text: &'_ str, brief: &'_ str| if width < 70 { brief.to_owned() } else { text.to_owned() };
    let mut lines: Vec<Line> = shown.map(|(id, c)| clock_line(id, fits(&c.text, &c.brief), c.health, width)).collect();
    let kept = snapshot.retained.iter();
    lines.extend(kept.map(|r| clock_line(&r.store, fits(&r.text, &r.brief), r.health, width)));
    lines.extend(snapshot.outbox.as_ref().map(|o| clock_line("outbox", fits(&o.text, &o.brief), o.health, width)));
    lines
}

fn clock_line(id: &str, text: String, health: Health, width: usize) -> Line {
    let tone = Theme::tone(health);
    Line::plain(" ")
        .then(pad(id, 9), Tone::Plain)
        .then(" ", Tone::Plain)
        .then(text, if health == Health::Ok { Tone::Dim } else { tone })
        .cut(width.saturating_sub(6))
        .ending_at(width.saturating_sub(1), word(health), tone)
}

/// The words of a switch's standing.
pub(super) fn standing(switch: &SwitchRow) -> (&str, Tone) {
    match (switch.standing, &switch.position) {
        (SwitchStatus::Old, _) => ("old", Tone::Plain),
        (SwitchStatus::Unknown, _) => ("?", Tone::Warn),
        (SwitchStatus::New, Some(position)) => (position, Tone::Strong),
        (SwitchStatus::New, None) => ("NEW", Tone::Strong),
        (SwitchStatus::Restored, _) => ("restored", Tone::Good),
    }
}

/// The write interruption, once it has begun.
pub(super) fn downtime_line(snapshot: &Snapshot) -> Option<Line> {
    let d = &snapshot.downtime;
    let budget = words::length(snapshot.downtime_budget_ms);
    let refused = d.refused?;
    Some(match (d.accepted, snapshot.downtime_running_ms) {
        (None, Some(ms)) => {
            let over = ms >= snapshot.downtime_budget_ms;
            let text = format!(" writes refused for {}, budget {budget}", words::with_unit(ms as f64 / 1000.0, "s"));
            Line::new(text, if over { Tone::Bad } else { Tone::Strong })
                .then(if over { " FAIL" } else { "" }, Tone::Bad)
        }
        (None, None) => Line::new(format!(" writes refused for ?, budget {budget}"), Tone::Warn),
        (Some(accepted), _) => {
            let ms = d.ms.unwrap_or_else(|| accepted.since(refused));
            let text =
                format!(" writes were refused for {}, budget {budget}", words::with_unit(ms as f64 / 1000.0, "s"));
            let fail = ms >= snapshot.downtime_budget_ms;
            Line::new(text, Tone::Plain)
                .then(if fail { " FAIL" } else { " ok" }, if fail { Tone::Bad } else { Tone::Good })
        }
    })
}

/// A chart of one signal: `height` rows with the limit as a dashed line, gaps blank.
pub(super) fn chart(row: &SignalRow, theme: &Theme, width: usize, height: usize) -> Vec<Line> {
    let label = 8;
    let room = width.saturating_sub(label + 3);
    let values = row.series.values();
    let shown = &values[values.len().saturating_sub(room)..];
    let top = shown.iter().flatten().copied().fold(row.limit.unwrap_or(0.0) * 1.25, f64::max);
    let head = Line::new(format!(" {} ", row.id), Tone::Strong)
        .then(value_text(row), Theme::tone(row.health))
        .then(format!("  {}", word(row.health)), Theme::tone(row.health));
    let mut lines = vec![head];
    if shown.iter().flatten().next().is_none() || top <= 0.0 || room == 0 {
        lines.push(Line::new(format!(" {}no data", " ".repeat(label)), Tone::Dim));
        return lines;
    }
    let full = if theme.spark().len() > 5 { '█' } else { '#' };
    for r in (0..height).rev() {
        let (low, high) = (top * r as f64 / height as f64, top * (r + 1) as f64 / height as f64);
        let is_limit = row.limit.is_some_and(|l| l > low && l <= high);
        let scale = match (is_limit, row.limit, r) {
            (true, Some(l), _) => words::limit(l, &row.unit),
            (_, _, 0) => "0".to_owned(),
            _ => String::new(),
        };
        let mut cells = " ".repeat(room - shown.len());
        if is_limit {
            cells = "-".repeat(room - shown.len());
        }
        cells.extend(shown.iter().map(|v| match v {
            Some(v) if *v > low || (r == 0 && *v >= 0.0) => full,
            _ if is_limit => '-',
            _ => ' ',
        }));
        lines.push(
            Line::new(format!(" {} ", pad_left(&scale, label)), Tone::Dim)
                .then(cells, if is_limit { Tone::Warn } else { Tone::Plain }),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gauge::Series;

    #[test]
    fn histories_keep_their_gaps_and_their_scale() {
        let theme = Theme::default();
        let values = [Some(0.0), None, Some(2.0), Some(1.0)];
        assert_eq!(spark(&values, Some(2.0), 6, &theme), "  _ #-");
        assert_eq!(spark(&values, Some(200.0), 4, &theme), "_ __", "far under the limit is flat");
        assert_eq!(spark(&values, None, 2, &theme), "#-");
        assert_eq!(spark(&[], None, 3, &theme), "   ");
    }

    #[test]
    fn a_stale_value_is_not_shown_as_known() {
        let row = SignalRow {
            id: "lag".into(),
            unit: "s".into(),
            value: Some(0.8),
            at: At(1_000),
            limit: Some(2.0),
            health: Health::Unknown,
            series: Series::new(1, 4),
        };
        assert_eq!(value_text(&row), "?");
        let line = row_line(&row, At(46_000), &Theme::default(), 60);
        let text: String = line.spans.iter().map(|s| s.text.as_str()).collect();
        assert!(text.contains("STALE 45s"), "{text}");
    }
}
