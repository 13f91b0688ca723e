//! Rolling back, rolled back, stuck, finished: what stands where, and what to do next.

use std::collections::BTreeSet;

use super::canvas::{Line, fit, fit_end, pad, wrap};
use super::evidence::{evidence_line, good_mark, hour_minute};
use super::runbook::now_mark;
use super::signals::{downtime_line, standing};
use super::tables::criteria_lines;
use super::theme::{Theme, Tone};
use crate::domain::at::{At, hms};
use crate::domain::run::{RunStatus, SwitchStatus};
use crate::snapshot::{DialRow, Snapshot, SwitchRow, words};

/// Whether this status has a screen of its own in front of the runbook.
pub(super) const fn has_result(status: RunStatus) -> bool {
    matches!(status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck | RunStatus::Finished)
}

/// The title of the pane that shows it.
pub(super) const fn title(status: RunStatus) -> &'static str {
    match status {
        RunStatus::RollingBack => "Going back",
        RunStatus::RolledBack => "Back on the old side",
        RunStatus::Stuck => "STUCK: a person is needed",
        _ => "Finished",
    }
}

/// What each of these switches is called in at most `width` cells so that no two are shown alike: their places, whole
/// or cut at the front, or at the end; where those are not distinct, their titles, and last their ids.
pub(super) fn names(switches: &[&SwitchRow], width: usize) -> Vec<String> {
    let ways: [fn(&SwitchRow, usize) -> String; 4] =
        [|s, w| fit_end(&s.place, w), |s, w| fit(&s.place, w), |s, w| fit(&s.title, w), |s, w| fit_end(&s.id, w)];
    let mut named = Vec::new();
    for way in ways {
        named = switches.iter().map(|s| way(s, width)).collect();
        let apart: BTreeSet<&String> = named.iter().collect();
        if apart.len() == named.len() {
            break;
        }
    }
    named
}

/// Where a switch with several positions stands, and who serves what there.
fn dial_line(dial: &DialRow, width: usize) -> Line {
    let tone = if dial.at.is_some() { Tone::Strong } else { Tone::Warn };
    let of = dial.at.map_or_else(String::new, |at| format!("   position {} of {}", at + 1, dial.positions.len()));
    Line::plain("   ")
        .then(pad(&dial.stands, 9), tone)
        .then(format!(" {}: {}", dial.title, dial.serves), Tone::Plain)
        .then(of, Tone::Dim)
        .cut(width)
}

/// Where every switch stands, one line each; long places are cut so that they differ, the standing never is.
pub(super) fn switch_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = snapshot.dials.iter().map(|dial| dial_line(dial, width)).collect();
    let place = width.saturating_sub(44).clamp(14, 44);
    let names = names(&snapshot.switches.iter().collect::<Vec<_>>(), place);
    for (s, name) in snapshot.switches.iter().zip(names) {
        let (now, tone) = standing(s);
        let value = match s.standing {
            SwitchStatus::Old | SwitchStatus::Restored => s.old.clone(),
            SwitchStatus::New => s.new.clone(),
            SwitchStatus::Unknown => format!("{} or {}", s.old, s.new),
        };
        let read = s.read_at.map_or_else(|| "not read".to_owned(), |at| format!("read {}", at.clock_on(snapshot.now)));
        lines.push(
            Line::plain("   ")
                .then(pad(now, 9), tone)
                .then(format!(" {} ", pad(&name, place)), Tone::Plain)
                .then(pad(&value, 14), Tone::Strong)
                .then(format!(" {read}"), Tone::Dim)
                .cut(width),
        );
    }
    if lines.is_empty() {
        lines.push(Line::new("   no switches in the plan", Tone::Dim));
    }
    lines
}

fn heading(text: &str) -> Line {
    Line::new(format!(" {text}"), Tone::Strong)
}

/// The whole screen, without the runbook below it.
pub(super) fn lines(snapshot: &Snapshot, theme: &Theme, width: usize) -> Vec<Line> {
    let back = &snapshot.rollback;
    let took = back.took_ms.map_or_else(|| "?".to_owned(), |ms| words::with_unit(ms as f64 / 1000.0, "s"));
    let mut lines = Vec::new();
    match snapshot.status {
        RunStatus::RollingBack => {
            lines.push(Line::new(format!(" ROLLING BACK  {took}"), Tone::Accent));
            lines.push(heading("What stands where"));
            lines.extend(switch_lines(snapshot, width));
            lines.push(heading("What is being done"));
            lines.extend(course_lines(snapshot, theme, width));
        }
        RunStatus::RolledBack => {
            let home = |s: &SwitchRow| matches!(s.standing, SwitchStatus::Old | SwitchStatus::Restored);
            let all = snapshot.switches.iter().all(home);
            let moved = snapshot.switches.iter().any(|s| s.standing == SwitchStatus::Restored);
            let rest = match (all, moved) {
                (true, true) => "Every switch stands on its old value.",
                (true, false) => "No switch was moved.",
                (false, _) => "NOT every switch is known to be back.",
            };
            let tone = if all { Tone::Good } else { Tone::Bad };
            lines.push(Line::new(format!(" ROLLED BACK in {took}. "), Tone::Strong).then(rest, tone).cut(width));
            lines.push(heading("What stands where"));
            lines.extend(switch_lines(snapshot, width));
            lines.extend(carried_line(snapshot).map(|l| l.cut(width)));
            lines.extend(account_lines(snapshot, width));
            lines.extend(downtime_line(snapshot).map(|l| l.cut(width)));
            lines.push(heading("What now"));
            let text = format!(
                "The run has ended; its facts are in the run folder. Read `cutover status {}`, \
                 mend the cause, then start a new run.",
                snapshot.run
            );
            lines.extend(wrap(&text, width.saturating_sub(4)).into_iter().map(|l| Line::plain(format!("   {l}"))));
        }
        RunStatus::Stuck => {
            lines.push(Line::new(" STUCK: not every switch could be put back. Do this by hand:", Tone::Bad).cut(width));
            for (i, what) in back.stuck.iter().enumerate() {
                for (k, part) in wrap(what, width.saturating_sub(6)).into_iter().enumerate() {
                    let lead = if k == 0 { format!("  {:>2} ", i + 1) } else { "     ".to_owned() };
                    lines.push(Line::new(lead, Tone::Accent).then(part, Tone::Strong));
                }
            }
            if back.stuck.is_empty() {
                lines.push(Line::new("   ? nothing was recorded: read every switch by hand", Tone::Warn));
            }
            lines.push(heading("What stands where"));
            lines.extend(switch_lines(snapshot, width));
            lines.push(staying_behind(back.at_risk));
            lines.extend(downtime_line(snapshot).map(|l| l.cut(width)));
            let text = "Rollback may be ordered again: what is already back stays as it is.";
            lines.push(Line::plain(format!("   {text}")).cut(width));
        }
        RunStatus::Finished => {
            let started = snapshot.steps.iter().filter_map(|s| s.started).min();
            let ended = snapshot.steps.iter().filter_map(|s| s.ended).max();
            let long = started.zip(ended).map_or_else(|| "?".to_owned(), |(a, b)| hms(b.since(a)));
            let fail = snapshot.criteria.iter().any(|k| k.health != crate::snapshot::Health::Ok);
            let text = format!(" FINISHED in {long}.");
            let rest = if fail { " Not every success criterion is met:" } else { " Every success criterion is met." };
            lines.push(Line::new(text, Tone::Strong).then(rest, if fail { Tone::Warn } else { Tone::Good }).cut(width));
            lines.extend(criteria_lines(snapshot, width));
            lines.extend(account_lines(snapshot, width));
            lines.push(heading("What stands where"));
            lines.extend(switch_lines(snapshot, width));
            lines.push(
                Line::new(format!(" {}", "rollback  "), Tone::Dim)
                    .then(back.text.clone(), Theme::tone(back.health))
                    .cut(width),
            );
        }
        _ => {}
    }
    lines.extend(back.evidence.iter().map(|e| evidence_line(e, snapshot.wall, theme, width)));
    lines
}

/// What became of every row.
fn account_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let account = &snapshot.account;
    let parts = wrap(&account.text, width.saturating_sub(1));
    parts.into_iter().map(|part| Line::plain(" ").then(part, Theme::tone(account.health)).cut(width)).collect()
}

/// What a rollback that was ordered has done and is still doing.
pub(super) fn course_lines(snapshot: &Snapshot, theme: &Theme, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for deed in &snapshot.rollback.course {
        let (sign, tone) = match snapshot.status {
            RunStatus::RollingBack if !deed.done => (now_mark(theme), Tone::Accent),
            // Once it has ended, nothing is being done about the rest any more.
            _ => good_mark(deed.done, theme),
        };
        for (i, part) in wrap(&deed.text, width.saturating_sub(5)).into_iter().enumerate() {
            let sign = if i == 0 { sign } else { "" };
            lines.push(Line::plain("  ").then(pad(sign, 3), tone).then(part, Tone::Plain).cut(width));
        }
    }
    lines
}

/// What became of the writes of the new side, where the rollback applies them.
fn carried_line(snapshot: &Snapshot) -> Option<Line> {
    let deed = snapshot.rollback.course.iter().find(|d| d.writes)?;
    Some(Line::new(format!("   {}", deed.text), if deed.done { Tone::Good } else { Tone::Warn }))
}

fn staying_behind(at_risk: Option<u64>) -> Line {
    match at_risk {
        Some(0) => Line::new("   0 writes stay behind on the new side", Tone::Good),
        Some(n) => Line::new(format!("   {} writes stay behind on the new side", words::grouped(n)), Tone::Bad),
        None => Line::new("   ? writes stay behind on the new side: not known", Tone::Warn),
    }
}

/// Planned and forecast end, and the budget of the interruption: under the runbook where there is room.
pub(super) fn forecast_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let late = snapshot.forecast_end.since(snapshot.planned_end);
    let sign = if late < 0 { '-' } else { '+' };
    // A day that ends after midnight says on which date.
    let today = snapshot.now.date();
    let clock = |at: At| match at.date() {
        date if date == today => hour_minute(at),
        date => format!("{} {}", date.get(5..).unwrap_or(&date), hour_minute(at)),
    };
    let tone = if late > 60_000 { Tone::Warn } else { Tone::Plain };
    let running = snapshot.downtime_running_ms.or(snapshot.downtime.ms);
    let used = running.map_or_else(|| "none yet".to_owned(), |ms| words::with_unit(ms as f64 / 1000.0, "s"));
    vec![
        Line::plain(format!("  planned finish {}   ", clock(snapshot.planned_end)))
            .then(
                format!("forecast {} ({sign}{})", clock(snapshot.forecast_end), words::minutes(late.saturating_abs())),
                tone,
            )
            .cut(width),
        Line::plain(format!("  downtime budget {}   used {used}", words::length(snapshot.downtime_budget_ms)))
            .cut(width),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_switches_are_called_the_same() {
        let switch = |id: &str, place: &str, title: &str| SwitchRow {
            id: id.into(),
            place: place.into(),
            title: title.into(),
            ..SwitchRow::default()
        };
        let called = |all: &[SwitchRow], width| names(&all.iter().collect::<Vec<_>>(), width);
        let paths = [
            switch("books", "/cloudshelf/prod/database/books", "Books"),
            switch("orders", "/cloudshelf/prod/database/orders", "Orders"),
        ];
        assert_eq!(called(&paths, 40), ["/cloudshelf/prod/database/books", "/cloudshelf/prod/database/orders"]);
        assert_eq!(called(&paths, 18), ["..d/database/books", "../database/orders"]);
        let heads = [switch("a", "/north/shop/prod/read_from", "A"), switch("b", "/south/shop/prod/read_from", "B")];
        assert_eq!(called(&heads, 14), ["/north/shop/..", "/south/shop/.."]);
        let middles = [switch("a", "/shop/a/read/from", "Reads A"), switch("b", "/shop/b/read/from", "Reads B")];
        assert_eq!(called(&middles, 8), ["Reads A", "Reads B"]);
        let untitled = [switch("a", "/shop/a/read/from", "Reads"), switch("b", "/shop/b/read/from", "Reads")];
        assert_eq!(called(&untitled, 8), ["a", "b"]);
        assert!(called(&[], 8).is_empty());
        for width in 0..40 {
            assert!(called(&paths, width).iter().all(|n| n.chars().count() <= width));
        }
    }
}
