//! Rows of the runbook.

use super::build::Context;
use super::gates::{gate_live, go_no_go_live};
use super::words::{age, bar, brief_list, human, length, limit, minutes, rate, whole_percent, with_unit};
use super::{StepMark, StepRow, SwitchRow};
use crate::domain::at::At;
use crate::domain::gauge::{Phase, TableGauge};
use crate::domain::plan::{Confirm, Gate, Plan, Signal, Step, StepKind};
use crate::domain::run::{
    Evidence, Need, RunState, RunStatus, StepState, StepStatus, SwitchStatus, approval, lacks_second, trim_clock,
};

/// Cells of the bar of one table.
const TABLE_BAR: usize = 20;

pub(super) fn step_rows(cx: &Context<'_>) -> Vec<StepRow> {
    let current = cx
        .plan
        .steps
        .iter()
        .position(|s| !matches!(status(cx.state.step(&s.id)), StepStatus::Done | StepStatus::Skipped));
    cx.plan.steps.iter().enumerate().map(|(i, step)| step_row(cx, i, step, current == Some(i))).collect()
}

/// Whether a switch has to move before the step at `i` is reached: what is measured now is of the old side.
fn switch_ahead(cx: &Context<'_>, i: usize) -> bool {
    let switch = |s: &&Step| matches!(s.kind, StepKind::Switch { .. });
    let mut before = cx.plan.steps.iter().take(i).filter(switch);
    before.any(|s| !matches!(status(cx.state.step(&s.id)), StepStatus::Done | StepStatus::Skipped))
}

fn status(found: Option<&StepState>) -> StepStatus {
    found.map_or(StepStatus::Todo, |s| s.status)
}

fn step_row(cx: &Context<'_>, index: usize, step: &Step, current: bool) -> StepRow {
    let nothing = StepState::default();
    let found = cx.state.step(&step.id).unwrap_or(&nothing);
    let planned = cx.state.t0.plus(step.at_ms);
    let ended = found.ended.filter(|_| !matches!(found.status, StepStatus::Running));
    let mut row = StepRow {
        id: step.id.clone(),
        number: index + 1,
        title: title(cx.plan, step),
        kind: step.kind.name().to_owned(),
        mark: mark(&step.kind),
        status: found.status,
        owner: step.owner.clone(),
        at_ms: step.at_ms,
        planned,
        takes_ms: step.takes_ms,
        started: found.started,
        ended,
        slip_ms: slip(cx, found, planned, current),
        need: need(cx.state, step, found),
        reason: reason(cx.state, step, found),
        advice: found.error.as_ref().map(|e| e.advice.clone()).filter(|a| !a.is_empty()),
        does: does(cx.plan, step),
        undo: if step.undo.is_empty() { "changes nothing that needs undoing".to_owned() } else { step.undo.clone() },
        evidence: found.evidence.clone(),
        ..StepRow::default()
    };
    let going_on = found.status == StepStatus::Running;
    let over = matches!(found.status, StepStatus::Done | StepStatus::Skipped);
    let stopped = matches!(cx.state.status, RunStatus::RolledBack | RunStatus::Finished);
    match &step.kind {
        StepKind::Load if going_on => load(cx, &mut row),
        StepKind::CatchUp { max_lag_ms } if going_on => catch_up(cx, *max_lag_ms, &mut row),
        StepKind::Verify if going_on => verify(cx, &mut row),
        StepKind::Gate { gate } if !over && !stopped => {
            if let Some(gate) = cx.plan.gate(gate) {
                gate_live(cx, gate, current, switch_ahead(cx, index), &mut row);
            }
        }
        StepKind::GoNoGo { .. } if !over && !stopped => go_no_go_live(cx, step, current, &mut row),
        StepKind::Freeze | StepKind::Thaw | StepKind::Smoke { .. } if going_on => probes(cx, &step.kind, &mut row),
        StepKind::Switch { switches } => switch_lines(cx, switches, current, &mut row),
        _ => {}
    }
    if row.detail.is_empty() && !over {
        row.detail = asks(step, found);
    }
    if step.two_person {
        row.evidence.extend(approvals(cx.state, step, found));
    }
    let measured = matches!(
        step.kind,
        StepKind::Load | StepKind::Verify | StepKind::CatchUp { .. } | StepKind::Gate { .. } | StepKind::GoNoGo { .. }
    );
    if row.eta.is_none() && going_on && !measured {
        // A planned end that is already past says nothing.
        row.eta = found.started.map(|s| s.plus(step.takes_ms)).filter(|end| *end > cx.now && step.takes_ms > 0);
    }
    row
}

const fn mark(kind: &StepKind) -> StepMark {
    match kind {
        StepKind::Gate { .. } | StepKind::GoNoGo { .. } => StepMark::Gate,
        StepKind::Switch { .. } | StepKind::Freeze | StepKind::Thaw => StepMark::Switch,
        StepKind::Manual { .. } => StepMark::Manual,
        _ => StepMark::Plain,
    }
}

fn title(plan: &Plan, step: &Step) -> String {
    match &step.kind {
        StepKind::Gate { gate } => match plan.gate(gate) {
            Some(gate) => format!("GATE {}", gate_words(plan, gate)),
            None => format!("GATE {}", step.title),
        },
        StepKind::GoNoGo { .. } => format!("GO/NO-GO {}", step.title),
        StepKind::Switch { switches } => format!("SWITCH {}", brief_list(switches)),
        _ => step.title.clone(),
    }
}

/// `lag < 2s for 10m`, or the gate's own title when it has several criteria.
fn gate_words(plan: &Plan, gate: &Gate) -> String {
    let what = match gate.criteria.as_slice() {
        [only] => {
            let unit = signal(plan, &only.signal).map_or("", |s| s.unit.as_str());
            format!("{} {} {}", only.signal, only.op.symbol(), limit(only.value, unit))
        }
        _ => gate.title.clone(),
    };
    if gate.hold_ms > 0 { format!("{what} for {}", length(gate.hold_ms)) } else { what }
}

fn signal<'a>(plan: &'a Plan, id: &str) -> Option<&'a Signal> {
    plan.signals.iter().find(|s| s.id == id)
}

fn slip(cx: &Context<'_>, found: &StepState, planned: At, current: bool) -> Option<i64> {
    match found.started {
        Some(started) => Some(started.since(planned)),
        None if current && cx.now > planned => Some(cx.now.since(planned)),
        None => None,
    }
}

/// Whether the run rolled back or is at its end: no step of it asks for anything any more.
const fn over(state: &RunState) -> bool {
    matches!(state.status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck | RunStatus::Finished)
}

fn need(state: &RunState, step: &Step, found: &StepState) -> Option<Need> {
    if over(state) {
        return None;
    }
    let confirmed = found.confirmed.is_some() || step.confirm == Confirm::None;
    if found.status == StepStatus::Held && confirmed && lacks_second(state, step) {
        return Some(Need::Second);
    }
    match (found.status, &step.confirm) {
        (StepStatus::Failed | StepStatus::Unknown, _) => Some(Need::Decision),
        (StepStatus::Held, Confirm::Word(word)) => Some(Need::Word(word.clone())),
        (StepStatus::Held, _) => Some(Need::Key),
        _ => None,
    }
}

fn reason(state: &RunState, step: &Step, found: &StepState) -> Option<String> {
    match found.status {
        StepStatus::Held if over(state) => {
            let what = match step.kind {
                StepKind::Manual { .. } => "not confirmed, see whether it was begun by hand",
                _ if found.attempts > 0 => "not started again",
                _ => "never started",
            };
            Some(format!("{what}: the run went back while it waited"))
        }
        StepStatus::Held => found.held.clone(),
        StepStatus::Failed => found.error.as_ref().map(|e| e.message.clone()),
        StepStatus::Unknown => Some(
            found
                .error
                .as_ref()
                .map_or_else(|| "was running when its process ended: ask the world".to_owned(), |e| e.message.clone()),
        ),
        _ => None,
    }
}

fn asks(step: &Step, found: &StepState) -> String {
    let own = match (&step.confirm, &step.kind) {
        _ if found.confirmed.is_some() => "",
        (Confirm::Word(_), _) => "typed word",
        (Confirm::Key, _) => "one key",
        (Confirm::None, StepKind::Manual { .. }) => "by hand",
        (Confirm::None, _) => "",
    };
    match (own, step.two_person) {
        ("", true) => "two people".to_owned(),
        (own, true) => format!("{own}, two people"),
        (own, false) => own.to_owned(),
    }
}

/// The second person's approval, or what it lacks.
fn approvals(state: &RunState, step: &Step, found: &StepState) -> Vec<Evidence> {
    let stands = approval(state, &step.id);
    // Once the step has started its attempt has changed, and with it what an approval would be for.
    let used = found.attempts > 0 && matches!(found.status, StepStatus::Running | StepStatus::Done);
    let mut all: Vec<Evidence> = found
        .approvals
        .iter()
        .map(|a| {
            let good = stands == Some(a) || (used && found.approvals.last() == Some(a));
            let note = a.note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
            Evidence {
                name: format!("approval of {}", a.by.name()),
                value: if good { format!("given{note}") } else { "void: what it rested on changed".to_owned() },
                at: a.at,
                source: format!("from {}", a.origin.words()),
                good,
            }
        })
        .collect();
    if all.is_empty() {
        all.push(Evidence {
            name: "second person".to_owned(),
            value: "?".to_owned(),
            at: At::default(),
            source: format!("cutover approve {} {}", state.run, step.id),
            good: false,
        });
    }
    all
}

fn does(plan: &Plan, step: &Step) -> String {
    let tables = plan.tables.len();
    match &step.kind {
        StepKind::Preflight => "checks connections, permissions, tables, streams and parameters".to_owned(),
        StepKind::SetUp => format!("creates what is missing of {tables} target tables"),
        StepKind::Capture => format!("turns on {tables} streams and records where they start"),
        StepKind::Load => {
            let segments = plan.load.segments.map_or("segments by size".to_owned(), |n| format!("{n} segments each"));
            format!("copies {tables} tables, {} workers, {segments}", plan.load.workers)
        }
        StepKind::CatchUp { max_lag_ms } => format!("applies changes until every lag is under {}", age(*max_lag_ms)),
        StepKind::Verify => format!("compares both sides of {tables} tables, key by key and field by field"),
        StepKind::Arm => "captures every switch's value and proves the way back readable".to_owned(),
        StepKind::Freeze => match plan.freeze.as_ref().and_then(|f| plan.switch(&f.switch)) {
            Some(s) => format!("sets {} to {}: writes are refused, proven by the write probe", s.place(), s.to_label()),
            None => "refuses writes on the old side, proven by the write probe".to_owned(),
        },
        StepKind::Drain => "proves with a nonce that every write before the freeze has arrived".to_owned(),
        StepKind::Switch { switches } => {
            let each: Vec<String> = switches
                .iter()
                .filter_map(|id| plan.switch(id))
                .map(|s| format!("sets {} to {}", s.place(), s.to_label()))
                .collect();
            each.join("; ")
        }
        StepKind::Smoke { probes } => format!("asks {} and must be served", brief_list(probes)),
        StepKind::Thaw => match plan.freeze.as_ref().and_then(|f| plan.switch(&f.switch)) {
            Some(s) => format!("restores {}: writes are allowed, proven by the write probe", s.place()),
            None => "allows writes again, proven by the write probe".to_owned(),
        },
        StepKind::Gate { gate } => plan.gate(gate).map_or_else(String::new, |gate| {
            let each: Vec<String> = gate
                .criteria
                .iter()
                .map(|c| {
                    let unit = signal(plan, &c.signal).map_or("", |s| s.unit.as_str());
                    format!("{} {} {}", c.signal, c.op.symbol(), limit(c.value, unit))
                })
                .collect();
            let held = if gate.hold_ms > 0 { format!(", held {}", length(gate.hold_ms)) } else { String::new() };
            format!("waits for {}{held}", each.join(" and "))
        }),
        StepKind::GoNoGo { gates, voters, quorum } => {
            let criteria = if gates.is_empty() { "no gate".to_owned() } else { brief_list(gates) };
            match voters.len() {
                0 => format!("goes on when {criteria} holds; nobody votes"),
                _ => format!(
                    "goes on when {criteria} holds and {quorum} of {} vote go; one no-go blocks",
                    voters.join(", ")
                ),
            }
        }
        StepKind::Manual { what } => what.clone(),
    }
}

fn gauges<'a>(cx: &'a Context<'_>) -> impl Iterator<Item = (&'a str, Option<&'a TableGauge>)> {
    cx.plan.tables.iter().map(|t| (t.id.as_str(), cx.measured.tables.get(&t.id)))
}

/// Time left at this speed, and when that is.
fn eta(cx: &Context<'_>, left: u64, per_s: f64) -> Option<(i64, At)> {
    let ms = left as f64 / per_s * 1000.0;
    (per_s > 0.0 && ms.is_finite() && ms < 1e11).then(|| (ms as i64, cx.now.plus(ms as i64)))
}

fn load(cx: &Context<'_>, row: &mut StepRow) {
    let (mut loaded, mut all, mut per_s, mut done) = (0_u64, Some(0_u64), 0.0_f64, 0_usize);
    for (id, gauge) in gauges(cx) {
        let journaled = cx.state.tables.get(id).and_then(|t| t.loaded);
        let Some(gauge) = gauge else {
            all = None;
            continue;
        };
        let rows = gauge.source.rows;
        let finished = journaled.is_some()
            || !matches!(gauge.phase, Phase::Waiting | Phase::Loading | Phase::Paused | Phase::Retrying);
        // A row that was parked is read and done with, like one that was written.
        let parked: u64 = gauge.parked.values().sum();
        let have = (gauge.loaded + parked).max(journaled.unwrap_or(0));
        loaded += have;
        // What a finished table did not write, it parked: it is whole.
        all = all.zip(if finished { Some(have) } else { rows.map(|r| r.max(have)) }).map(|(a, b)| a + b);
        if finished {
            done += 1;
            continue;
        }
        if matches!(gauge.phase, Phase::Waiting) {
            continue;
        }
        per_s += gauge.rate;
        row.lines.push(table_line(cx, id, have, rows, gauge));
    }
    row.progress = all.filter(|a| *a > 0).map(|a| (loaded, a));
    if let Some((have, all)) = row.progress {
        row.eta = eta(cx, all.saturating_sub(have), per_s).map(|(_, at)| at);
    }
    // Building indexes moves no row: what is done is said instead of a rate of nothing.
    let mut building = gauges(cx).filter_map(|(id, g)| Some(format!("{id} {}", doing(cx, g?)?)));
    let now = match building.next() {
        Some(what) if per_s == 0.0 => what,
        _ if row.eta.is_none() => format!("{}  ETA ?", rate(per_s)),
        _ => rate(per_s),
    };
    row.detail = match row.progress {
        Some((have, all)) => format!("{}%  {}/{}  {now}", whole_percent(have, all), human(have), human(all)),
        None => format!("?%  {}/?  {now}", human(loaded)),
    };
    let waiting = cx.plan.tables.len() - done - row.lines.len();
    let mut rest = Vec::new();
    if done > 0 {
        rest.push(format!("{done} {} done", tables(done)));
    }
    if waiting > 0 {
        rest.push(format!("{waiting} waiting"));
    }
    if !cx.plan.stays.is_empty() {
        rest.push(format!(
            "{} stays by plan",
            brief_list(&cx.plan.stays.iter().map(|s| s.id.clone()).collect::<Vec<_>>())
        ));
    }
    if !rest.is_empty() {
        row.lines.push(rest.join(", "));
    }
}

/// What is done to a whole table right now, and for how long already.
fn doing(cx: &Context<'_>, gauge: &TableGauge) -> Option<String> {
    let (what, since) = gauge.doing.as_ref()?;
    Some(format!("{what} {}", age(cx.measured.at.since(*since).max(0))))
}

const fn tables(n: usize) -> &'static str {
    if n == 1 { "table" } else { "tables" }
}

fn table_line(cx: &Context<'_>, id: &str, have: u64, rows: Option<u64>, gauge: &TableGauge) -> String {
    let name: String = id.chars().take(10).collect();
    let (shape, share) = match rows.filter(|r| *r > 0) {
        Some(all) => (bar(have, all, TABLE_BAR), format!("{}%", whole_percent(have, all))),
        None => (bar(0, 0, TABLE_BAR), "?%".to_owned()),
    };
    if let Some(doing) = doing(cx, gauge) {
        return format!("{name:<10} {shape} {share:>4}  {doing}");
    }
    let left = rows
        .and_then(|all| eta(cx, all.saturating_sub(have), gauge.rate))
        .map_or_else(|| "?".to_owned(), |(ms, _)| minutes(ms));
    let left = format!("{left}  {}", segments(gauge));
    let state = match gauge.phase {
        Phase::Paused => "paused",
        Phase::Retrying => "retrying",
        _ => left.as_str(),
    };
    format!("{name:<10} {shape} {share:>4}  {:>8}  {state}", rate(gauge.rate)).trim_end().to_owned()
}

/// Segments are read side by side and end together: how many are being read says more than how many ended.
fn segments(gauge: &TableGauge) -> String {
    format!("{} of {} reading", gauge.reading, gauge.segments.1)
}

fn catch_up(cx: &Context<'_>, max_lag_ms: i64, row: &mut StepRow) {
    let mut worst = Some(0.0_f64);
    let mut per_s = 0.0;
    // Of the slowest table; unknown while that of any of them is.
    let mut left = None;
    for (id, gauge) in gauges(cx) {
        let lag = gauge.map(|g| g.lag.apply).unwrap_or_default();
        worst = worst.zip(lag.value).map(|(a, b)| a.max(b));
        per_s += gauge.map_or(0.0, |g| g.rate);
        let value = lag.value.map_or_else(|| "?".to_owned(), |ms| with_unit(ms / 1000.0, "s"));
        let good = lag.value.is_some_and(|ms| ms < max_lag_ms as f64);
        row.evidence.push(Evidence {
            name: format!("lag {id}"),
            value: format!("{value} < {}", age(max_lag_ms)),
            at: lag.at,
            source: "oldest change not yet durable in the target".to_owned(),
            good,
        });
        if !good {
            let read = trim_clock(cx.state, cx.measured, id).and_then(|clock| clock.read_in_ms);
            left = match (left, read) {
                (None, read) => Some(read),
                (Some(others), read) => Some(others.zip(read).map(|(a, b): (i64, i64)| a.max(b))),
            };
            let note = gauge.and_then(|g| g.trouble.clone()).unwrap_or_default();
            row.lines.push(
                format!(
                    "{id:<10} lag {value:<8} {:>8}  {note}",
                    gauge.map_or_else(|| "?".to_owned(), |g| rate(g.rate))
                )
                .trim_end()
                .to_owned(),
            );
        }
    }
    let worst = worst.map_or_else(|| "?".to_owned(), |ms| with_unit(ms / 1000.0, "s"));
    row.detail = format!("lag {worst} < {}  {}", age(max_lag_ms), rate(per_s));
    row.eta = left.flatten().map(|ms| cx.now.plus(ms));
}

fn verify(cx: &Context<'_>, row: &mut StepRow) {
    let (mut compared, mut all, mut done) = (0_u64, Some(0_u64), 0_usize);
    let started = row.started;
    for (id, gauge) in gauges(cx) {
        let finished = cx
            .state
            .tables
            .get(id)
            .and_then(|t| t.verified.as_ref())
            .filter(|(at, _)| started.is_some_and(|s| *at >= s));
        let rows = gauge.and_then(|g| g.source.rows);
        if let Some((_, summary)) = finished {
            let n = summary.equal + summary.differing();
            compared += n;
            all = all.map(|a| a + n);
            done += 1;
            row.lines.extend((summary.differing() > 0).then(|| {
                format!(
                    "{id:<10} {} differ of {}",
                    human(summary.differing()),
                    human(summary.equal + summary.differing())
                )
            }));
            continue;
        }
        let have = gauge.map_or(0, |g| g.verified_rows);
        compared += have;
        all = all.zip(rows.map(|r| r.max(have))).map(|(a, b)| a + b);
        if gauge.is_some_and(|g| g.phase == Phase::Verifying) {
            let name: String = id.chars().take(10).collect();
            let (shape, share) = match rows.filter(|r| *r > 0) {
                Some(r) => (bar(have, r, TABLE_BAR), format!("{}%", whole_percent(have, r))),
                None => (bar(0, 0, TABLE_BAR), "?%".to_owned()),
            };
            let now = gauge.and_then(|g| doing(cx, g)).unwrap_or_else(|| format!("{} compared", human(have)));
            row.lines.push(format!("{name:<10} {shape} {share:>4}  {now}"));
        }
    }
    row.progress = all.filter(|a| *a > 0).map(|a| (compared.min(a), a));
    row.detail = match row.progress {
        Some((have, all)) => format!("{}%  {}/{} compared", whole_percent(have, all), human(have), human(all)),
        None => format!("?%  {} compared", human(compared)),
    };
    if let (Some((have, all)), Some(started)) = (row.progress, started) {
        let spent = cx.now.since(started);
        if have > 0 && spent > 0 {
            let per_s = have as f64 * 1000.0 / spent as f64;
            row.detail.push_str(&format!("  {}", rate(per_s)));
            row.eta = eta(cx, all - have, per_s).map(|(_, at)| at);
        }
    }
    if done > 0 {
        row.lines.push(format!("{done} {} done", tables(done)));
    }
}

fn probes(cx: &Context<'_>, kind: &StepKind, row: &mut StepRow) {
    let asked: Vec<&str> = match kind {
        StepKind::Smoke { probes } => probes.iter().map(String::as_str).collect(),
        _ => cx.plan.freeze.iter().map(|f| f.probe.as_str()).collect(),
    };
    for id in asked {
        let stats = cx.measured.probes.get(id);
        let good = stats.is_some_and(|s| if *kind == StepKind::Freeze { s.last_refused } else { s.last_ok });
        row.evidence.push(Evidence {
            name: format!("probe {id}"),
            value: stats.map_or_else(|| "?".to_owned(), |s| s.last.clone()),
            at: stats.map(|s| s.at).unwrap_or_default(),
            source: cx.plan.probe(id).map(|p| format!("{} {}", p.method, p.place())).unwrap_or_default(),
            good,
        });
        if row.detail.is_empty() {
            row.detail = format!("probe {id}: {}", stats.map_or("?", |s| s.last.as_str()));
        }
    }
}

fn switch_lines(cx: &Context<'_>, ids: &[String], current: bool, row: &mut StepRow) {
    let each: Vec<SwitchRow> =
        ids.iter().filter_map(|id| cx.plan.switch(id)).map(|s| super::rows::switch_row(cx.state, s)).collect();
    let change = |s: &SwitchRow| format!("{}  {} -> {}", s.place, s.old, s.new);
    let count = |standing| each.iter().filter(|s| s.standing == standing).count();
    let touched = each.iter().any(|s| s.standing != SwitchStatus::Old);
    match each.as_slice() {
        [only] if !touched => row.detail = change(only),
        [only] => row.detail = format!("{}  {}", stands(only), change(only)),
        [] => {}
        all if !touched => row.detail = format!("{} switches", all.len()),
        all => {
            let (new, unknown, back) =
                (count(SwitchStatus::New), count(SwitchStatus::Unknown), count(SwitchStatus::Restored));
            row.detail = format!("{new} of {} new", all.len());
            for (n, word) in [(unknown, "?"), (back, "restored")].into_iter().filter(|(n, _)| *n > 0) {
                row.detail.push_str(&format!(", {n} {word}"));
            }
        }
    }
    if current && (touched || each.len() > 1) {
        row.lines = each.iter().map(|s| format!("{:<8} {}{}", stands(s), change(s), read(s, cx.now))).collect();
    }
}

/// Where a switch stands, from what was read of it.
const fn stands(switch: &SwitchRow) -> &'static str {
    match switch.standing {
        SwitchStatus::Old => "old",
        SwitchStatus::New => "NEW",
        SwitchStatus::Unknown => "?",
        SwitchStatus::Restored => "restored",
    }
}

fn read(switch: &SwitchRow, now: At) -> String {
    switch.read_at.map_or_else(String::new, |at| format!("  read {}", at.clock_on(now)))
}
