//! The closing block of a run: what was planned, what happened, what was proven.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::words::{cause_words, parked_words};
use crate::domain::at::{At, brief, hms, t_offset};
use crate::domain::gauge::{Count, CountKind};
use crate::domain::run::{RunState, RunStatus, StepBackState, StepStatus, SwitchStatus};
use crate::snapshot::{Health, Mode, Snapshot, StepRow};

/// The block. `state` is the fold behind `s`; `journal` is where the facts are.
#[must_use]
pub fn summary(s: &Snapshot, state: &RunState, journal: &Path) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "RESULT      {}", result(s, state));
    let _ = writeln!(out, "RUN         {}, plan {} {}, {}", s.run, s.plan, s.plan_hash, s.environment);
    for a in &state.amended {
        let (from, to) = (a.from.get(..12).unwrap_or(&a.from), a.to.get(..12).unwrap_or(&a.to));
        let by = a.by.name();
        let _ = writeln!(out, "AMENDED     {} by {by}: plan {from} -> {to}, {} changes", a.at.date_clock(), a.changes);
    }
    for back in &state.steps_back {
        let number = s.steps.iter().find(|r| r.id == back.step).map_or(0, |r| r.number);
        let at = back.at.date_clock();
        let _ = writeln!(out, "STEP BACK   {at} step {number} {} was taken back{}", back.step, taken_by(back));
    }
    if matches!(s.mode, Mode::Rehearsal { .. }) {
        let _ = writeln!(
            out,
            "CLOCK       times and lengths of the day are of the rehearsed clock, which runs ahead while only a planned time \
             is waited for; downtime, the rollback and the ages of what is measured are real"
        );
    }
    timeline(&mut out, s, state);
    rows(&mut out, s, state.decided.is_some());
    downtime(&mut out, s);
    let _ = writeln!(out, "ACCOUNT     {}", s.account.text);
    for c in &s.criteria {
        let ok = match c.health {
            Health::Ok => "ok",
            Health::Fail | Health::Warn => "NOT MET",
            Health::Unknown | Health::Watch | Health::Idle => "not known",
        };
        let _ = writeln!(out, "CRITERION   {} {}: {} {ok}", c.name, c.wanted, c.measured);
    }
    baselines(&mut out, s, state);
    for row in &s.alerts {
        let _ = writeln!(out, "ALERT       {}", row.headline(s.now));
        let _ = writeln!(out, "            {}", row.details(s.now).join(", "));
    }
    rollback(&mut out, s, state);
    reverse(&mut out, state);
    for line in left_behind(state) {
        let _ = writeln!(out, "LEFT BEHIND {line}");
    }
    let _ = writeln!(out, "JOURNAL     {} ({} facts)", journal.display(), state.last_seq);
    if let Some(trouble) = &s.journal.trouble {
        let _ = writeln!(out, "NOT WRITTEN {}", trouble.why);
        let _ = writeln!(out, "            {}", trouble.stands);
        let _ = writeln!(out, "            {}", trouble.advice);
    }
    out
}

/// What was measured before the cutover, beside what was measured last.
fn baselines(out: &mut String, s: &Snapshot, state: &RunState) {
    for (id, baseline) in &state.baselines {
        let row = s.signals.iter().find(|row| row.id == *id);
        let unit = row.map_or("", |row| row.unit.as_str());
        let last = row.and_then(|row| Some(format!("{}{unit} at {}", row.value?, row.at.date_clock())));
        let (at, last) = (baseline.from.date_clock(), last.unwrap_or_else(|| "not measured".to_owned()));
        let _ = writeln!(out, "BASELINE    {id}: {} from {at}; last {last}", baseline.words(unit));
    }
}

/// What could not be cleared away, and what to do about it.
fn left_behind(state: &RunState) -> impl Iterator<Item = String> {
    state.left_behind.iter().map(|(what, why)| format!("{what}: {why}"))
}

fn result(s: &Snapshot, state: &RunState) -> String {
    let lasted = |end: Option<At>| end.map_or_else(|| "?".to_owned(), |e| brief(e.since(state.opened)));
    match state.status {
        RunStatus::Finished => format!("finished: every step done, in {}", lasted(state.ended)),
        RunStatus::RolledBack
            if s.switches.iter().any(|w| matches!(w.standing, SwitchStatus::New | SwitchStatus::Unknown)) =>
        {
            "rolled back, but NOT every switch is known to be back: `cutover rollback` looks again".to_owned()
        }
        RunStatus::RolledBack => "rolled back: everything stands on the old side, read back".to_owned(),
        RunStatus::Stuck => {
            "STUCK: not everything could be taken back; a person is needed, and BY HAND says for what".to_owned()
        }
        RunStatus::Prepared | RunStatus::Running | RunStatus::Paused | RunStatus::RollingBack => {
            let at =
                s.current.and_then(|i| s.steps.get(i)).map_or_else(String::new, |r| format!(" at step {}", r.number));
            // Written as the driver leaves. The data of a rehearsal is removed with it.
            let next = if matches!(s.mode, Mode::Rehearsal { .. }) {
                "its world ends with it, begin a new rehearsal"
            } else {
                "the run can be resumed"
            };
            format!("not ended: {}{at}; {next}", super::runs::status_word(state.status))
        }
    }
}

fn taken_by(back: &StepBackState) -> String {
    back.by.as_ref().map_or_else(String::new, |by| format!(" by {}", by.words()))
}

fn timeline(out: &mut String, s: &Snapshot, state: &RunState) {
    let width = s.steps.iter().map(|r| r.title.chars().count()).max().unwrap_or(4).max(4);
    // A time of another day than the first one's names it.
    let first = s.steps.iter().filter_map(|r| r.started).min().unwrap_or(s.now);
    let clock = |at: Option<At>| at.map_or_else(|| "-".to_owned(), |at| at.clock_on(first));
    let times = s.steps.iter().flat_map(|r| [clock(r.started), clock(r.ended)]);
    let wide = times.map(|text| text.chars().count()).max().unwrap_or(9).max(9);
    let _ = writeln!(
        out,
        "TIMELINE    {:>2} {:9} {:width$} {:wide$} {:wide$} {:>9} {:>9} {:>9}",
        "#", "PLANNED", "STEP", "STARTED", "ENDED", "TOOK", "PLAN", "SLIP"
    );
    for row in &s.steps {
        let title = &row.title;
        let took = row.started.zip(row.ended).map_or_else(|| "-".to_owned(), |(a, b)| hms(b.since(a)));
        let slip = row.slip_ms.filter(|_| row.started.is_some()).map_or_else(|| "-".to_owned(), signed);
        let _ = writeln!(
            out,
            "            {:>2} {:9} {title:width$} {:wide$} {:wide$} {took:>9} {:>9} {slip:>9}{}",
            row.number,
            t_offset(row.at_ms),
            clock(row.started),
            clock(row.ended),
            hms(row.takes_ms),
            mark(row, s.status)
        );
        for back in state.steps_back.iter().filter(|back| back.step == row.id) {
            let at = back.at.clock_on(first);
            let _ = writeln!(out, "               {:9} {:width$} {at:wide$} taken back{}", "", "", taken_by(back));
        }
    }
}

fn mark(row: &StepRow, run: RunStatus) -> String {
    let back = matches!(run, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck);
    let said = match row.status {
        StepStatus::Done => return String::new(),
        StepStatus::Todo | StepStatus::Ready => "not reached",
        StepStatus::Running if back => "stopped",
        StepStatus::Running => "running",
        StepStatus::Held => "held",
        StepStatus::Skipped => "left out",
        StepStatus::Failed => "FAILED",
        StepStatus::Unknown => "UNKNOWN",
    };
    let reason = row.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    format!("  {said}{reason}")
}

fn signed(ms: i64) -> String {
    if ms < 0 { hms(ms) } else { format!("+{}", hms(ms)) }
}

fn rows(out: &mut String, s: &Snapshot, decided: bool) {
    let back = matches!(s.status, RunStatus::RolledBack | RunStatus::RollingBack | RunStatus::Stuck);
    for t in &s.tables {
        if t.target_name.is_empty() {
            let _ = writeln!(out, "ROWS        {}: {}, stays", t.id, count(&t.source, s.wall));
            continue;
        }
        let mut difference = t.difference.map_or_else(|| "?".to_owned(), |d| d.to_string());
        if back && t.difference != Some(0) {
            difference.push_str(" (the new side is not followed since the rollback)");
        } else if decided && t.difference != Some(0) {
            difference.push_str(" (counted while customers write; what was compared is the proof)");
        }
        let _ = writeln!(
            out,
            "ROWS        {}: source {}, target {}, difference {difference}, {}, {} expired",
            t.id,
            count(&t.source, s.wall),
            count(&t.target, s.wall),
            parked_words(&t.parked),
            t.expired
        );
        match &t.verified {
            None => {
                let _ = writeln!(out, "VERIFIED    {}: never compared", t.id);
            }
            Some((at, v)) => {
                let _ = writeln!(
                    out,
                    "VERIFIED    {}: {} equal, {} missing, {} extra, {} mismatched ({} % match), in {}, {}",
                    t.id,
                    v.equal,
                    v.missing,
                    v.extra,
                    v.mismatched,
                    // Cut, not rounded: 99.9996 must not read as all.
                    v.rate().map_or_else(|| "?".into(), |r| format!("{:.3}", (r * 100_000.0).floor() / 1_000.0)),
                    brief(v.took_ms),
                    age(*at, s.now)
                );
                if !v.causes.is_empty() {
                    let _ = writeln!(out, "            causes {}", listed(&v.causes));
                }
                if !v.keys.is_empty() {
                    let _ = writeln!(out, "            keys {}", v.keys.join(", "));
                }
            }
        }
    }
}

fn listed(map: &BTreeMap<String, u64>) -> String {
    map.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>().join(", ")
}

fn downtime(out: &mut String, s: &Snapshot) {
    let budget = brief(s.downtime_budget_ms);
    let _ = match (s.downtime.refused, s.downtime.ms) {
        (None, _) => writeln!(out, "DOWNTIME    none: writes were never refused (budget {budget})"),
        (Some(_), Some(ms)) => {
            let verdict = if ms <= s.downtime_budget_ms { "within" } else { "OVER" };
            writeln!(out, "DOWNTIME    {} measured, {verdict} the budget of {budget}", brief(ms))
        }
        (Some(from), None) => {
            writeln!(out, "DOWNTIME    ? refused {}, not seen accepted (budget {budget})", moment("since ", from, s))
        }
    };
}

fn rollback(out: &mut String, s: &Snapshot, state: &RunState) {
    let Some(r) = &state.rollback else { return };
    let took = r.took_ms.map_or_else(|| "not ended".to_owned(), |ms| format!("took {}", brief(ms)));
    let _ = writeln!(
        out,
        "ROLLBACK    ordered {} by {}: {} {took}",
        r.ordered.clock(),
        r.by.words(),
        cause_words(&r.cause)
    );
    for e in &r.evidence {
        let good = if e.good { "ok" } else { "NOT OK" };
        let _ =
            writeln!(out, "            {} = {} ({}, read {}) {good}", e.name, e.value, e.source, moment("", e.at, s));
    }
    for line in r.stuck.iter().filter(|_| s.status == RunStatus::Stuck) {
        let _ = writeln!(out, "BY HAND     {line}");
    }
}

/// What was applied to the old side by table, what was not, and who else wrote the old side.
fn reverse(out: &mut String, state: &RunState) {
    for (table, r) in &state.reverse {
        if let Some(carried) = r.carried {
            let left = match r.left {
                Some(0) => "none left".to_owned(),
                Some(n) => format!("{} NOT CARRIED", grouped(n)),
                None => "nobody knows how many are left".to_owned(),
            };
            let _ = writeln!(
                out,
                "REVERSE     {table}: {} keys carried back, {} merged, {} changed by both sides, {left}",
                grouped(carried),
                r.merged,
                r.conflicts
            );
        }
        for (what, keys) in [("conflicts", &r.conflict_keys), ("left", &r.left_keys)] {
            if !keys.is_empty() {
                let _ = writeln!(out, "            {what} {}", keys.join(", "));
            }
        }
        if r.strays > 0 {
            let _ = writeln!(out, "STRAY       {table}: {} writes to the old side by somebody else", grouped(r.strays));
            let _ = writeln!(out, "            keys {}", r.stray_keys.join(", "));
        }
    }
}

/// `1,234 exact` with its age when it is more than a minute old; `?` when nobody counted.
pub(super) fn count(c: &Count, wall: At) -> String {
    let Some(rows) = c.rows else { return "?".to_owned() };
    let kind = match c.kind {
        CountKind::Unknown => "unknown",
        CountKind::Exact => "exact",
        CountKind::Derived => "derived",
        CountKind::Estimated => "estimated",
    };
    let old = match (c.kind, wall.since(c.at)) {
        _ if c.at.0 == 0 => " at an unknown time".to_owned(),
        // The oldest it may be.
        (CountKind::Estimated, _) => format!(" up to {}", age(c.at, wall)),
        (_, old) if old > 60_000 => format!(" {}", age(c.at, wall)),
        _ => String::new(),
    };
    let unsure = if c.unsure > 0 { format!(" (+-{})", grouped(c.unsure)) } else { String::new() };
    format!("{} {kind}{unsure}{old}", grouped(rows))
}

/// A moment of the wall clock: in a rehearsal, whose times of day are of another clock, its age.
fn moment(since: &str, at: At, s: &Snapshot) -> String {
    match s.mode {
        Mode::Rehearsal { .. } => age(at, s.wall),
        Mode::Live | Mode::Replay { .. } => format!("{since}{}", at.clock()),
    }
}

/// `4.2s ago`.
pub(super) fn age(at: At, now: At) -> String {
    if at.0 == 0 { "never".to_owned() } else { format!("{} ago", brief(now.since(at).max(0))) }
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
