//! Rows of the runbook.

use super::build::Context;
use super::gates::{gate_live, go_no_go_live};
use super::progress::{catch_up, load, verify};
use super::words::{age, brief_list, length, limit};
use super::{SetRow, StepMark, StepRow, SwitchRow};
use crate::domain::at::At;
use crate::domain::plan::{Confirm, Gate, Moves, Plan, Signal, Step, StepKind, Switch, Switching, ValueRef};
use crate::domain::run::{
    Evidence, Need, RunState, RunStatus, StepState, StepStatus, SwitchStatus, approval, lacks_second,
};

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
        kind: step.kind.of(),
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
        sets: sets(cx, step),
        undo: if step.undo.is_empty() { "changes nothing that needs undoing".to_owned() } else { step.undo.clone() },
        evidence: found.evidence.clone(),
        goes_back: found.back.is_some(),
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
        StepKind::Switch { .. } => switch_lines(cx, current, &mut row),
        StepKind::Jobs { jobs, .. } if going_on => super::jobs::going_on(cx, jobs, &mut row),
        StepKind::Preflight
        | StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Arm
        | StepKind::Freeze
        | StepKind::Drain
        | StepKind::Smoke { .. }
        | StepKind::Thaw
        | StepKind::Gate { .. }
        | StepKind::GoNoGo { .. }
        | StepKind::Jobs { .. }
        | StepKind::Manual { .. } => {}
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
        StepKind::Preflight
        | StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Arm
        | StepKind::Drain
        | StepKind::Jobs { .. }
        | StepKind::Smoke { .. } => StepMark::Plain,
    }
}

fn title(plan: &Plan, step: &Step) -> String {
    match &step.kind {
        StepKind::Gate { gate } => match plan.gate(gate) {
            Some(gate) => format!("GATE {}", gate_words(plan, gate)),
            None => format!("GATE {}", step.title),
        },
        StepKind::GoNoGo { .. } => format!("GO/NO-GO {}", step.title),
        StepKind::Switch { switches, .. } => {
            let moves = plan.changes(&step.id).into_iter().filter_map(|change| change.moves);
            let moves = moves.map(|Moves { dial, from, to }| {
                let name = |at: usize| dial.positions.get(at).map_or("?", |position| position.name.as_str());
                format!("{} {} -> {}", dial.id, name(from), name(to))
            });
            format!("SWITCH {}", brief_list(&switches.iter().cloned().chain(moves).collect::<Vec<_>>()))
        }
        StepKind::Preflight
        | StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Arm
        | StepKind::Freeze
        | StepKind::Drain
        | StepKind::Smoke { .. }
        | StepKind::Thaw
        | StepKind::Jobs { .. }
        | StepKind::Manual { .. } => step.title.clone(),
    }
}

/// `lag < 2s for 10m`, or the gate's own title when it has several criteria.
fn gate_words(plan: &Plan, gate: &Gate) -> String {
    let what = match gate.criteria.as_slice() {
        [only] => {
            let unit = signal(plan, &only.signal).map_or("", |s| s.unit.as_str());
            only.words(|v| limit(v, unit))
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
        (StepStatus::Held, Confirm::None | Confirm::Key) => Some(Need::Key),
        (
            StepStatus::Todo | StepStatus::Ready | StepStatus::Running | StepStatus::Done | StepStatus::Skipped,
            Confirm::None | Confirm::Key | Confirm::Word(_),
        ) => None,
    }
}

fn reason(state: &RunState, step: &Step, found: &StepState) -> Option<String> {
    match found.status {
        StepStatus::Held if over(state) => {
            let what = if matches!(step.kind, StepKind::Manual { .. }) {
                "not confirmed, see whether it was begun by hand"
            } else if found.attempts > 0 {
                "not started again"
            } else {
                "never started"
            };
            Some(format!("{what}: the run went back while it waited"))
        }
        StepStatus::Held => found.held.clone(),
        StepStatus::Failed => found.error.as_ref().map(|e| match &found.back {
            Some(by) => format!("it was being taken back by {}, and that failed: {}", by.words(), e.message),
            None => e.message.clone(),
        }),
        StepStatus::Unknown => Some(
            found
                .error
                .as_ref()
                .map_or_else(|| "was running when its process ended: ask the world".to_owned(), |e| e.message.clone()),
        ),
        StepStatus::Todo | StepStatus::Ready | StepStatus::Running | StepStatus::Done | StepStatus::Skipped => None,
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
        StepKind::Preflight => "checks connections, permissions, tables, change logs and parameters".to_owned(),
        StepKind::SetUp => format!("creates what is missing of {tables} target tables"),
        StepKind::Capture => format!("turns on the change logs of {tables} tables and records where they start"),
        StepKind::Load => {
            let segments = plan.load.segments.map_or("segments by size".to_owned(), |n| format!("{n} segments each"));
            format!("copies {tables} tables, {} workers, {segments}", plan.load.workers)
        }
        StepKind::CatchUp { max_lag_ms } => format!("applies changes until every lag is under {}", age(*max_lag_ms)),
        StepKind::Verify => format!("compares both sides of {tables} tables, key by key and field by field"),
        StepKind::Arm => "captures every switch's value and proves the way back readable".to_owned(),
        StepKind::Freeze => {
            let each: Vec<String> =
                plan.freeze_switches().map(|s| format!("sets {} to {}", s.place(), s.to_label())).collect();
            format!("{}: writes are refused, proven by {}", each.join("; "), write_probes(plan))
        }
        StepKind::Drain => "proves with a nonce that every write before the freeze has arrived".to_owned(),
        StepKind::Switch { .. } => {
            let changes = plan.changes(&step.id);
            let places = changes.iter().flat_map(|change| &change.places);
            let sets = places.map(|(s, value)| format!("sets {} to {}", s.place(), s.shown(value)));
            let serves = changes.iter().filter(|change| change.moves.is_some()).map(|change| change.to.words());
            sets.chain(serves).collect::<Vec<_>>().join("; ")
        }
        StepKind::Smoke { probes } => format!("asks {} and must be served", brief_list(probes)),
        StepKind::Baseline { signals, samples, .. } => {
            format!("measures {} {samples} times each, to compare with later", brief_list(signals))
        }
        StepKind::Thaw => {
            let each: Vec<String> = plan.freeze_switches().map(|s| format!("restores {}", s.place())).collect();
            format!("{}: writes are allowed, proven by {}", each.join("; "), write_probes(plan))
        }
        StepKind::Gate { gate } => plan.gate(gate).map_or_else(String::new, |gate| {
            let each: Vec<String> = gate
                .criteria
                .iter()
                .map(|c| {
                    let unit = signal(plan, &c.signal).map_or("", |s| s.unit.as_str());
                    c.words(|v| limit(v, unit))
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
        StepKind::Jobs { purpose, jobs } => super::jobs::does(plan, *purpose, jobs),
        StepKind::Manual { what } => what.clone(),
    }
}

/// The switches that a step sets or restores, each with the value it has before the step and the one it is set to.
fn sets(cx: &Context<'_>, step: &Step) -> Vec<SetRow> {
    let row = |switch: &Switch| {
        let row = super::rows::switch_row(cx.plan, cx.state, switch);
        SetRow { switch: row.id, from: row.old, to: row.new }
    };
    match &step.kind {
        StepKind::Switch { .. } => {
            let changes = cx.plan.changes(&step.id);
            let each = |change: &Switching<'_>| -> Vec<SetRow> {
                let one = |(switch, to): &(&Switch, &ValueRef)| match change.moves {
                    None => row(switch),
                    Some(moves) => SetRow {
                        switch: switch.id.clone(),
                        from: moves.dial.value(&switch.id, moves.from).map_or("?", |v| switch.shown(v)).to_owned(),
                        to: switch.shown(to).to_owned(),
                    },
                };
                change.places.iter().map(one).collect()
            };
            changes.iter().flat_map(each).collect()
        }
        StepKind::Freeze => cx.plan.freeze_switches().map(row).collect(),
        StepKind::Thaw => {
            let back = |SetRow { switch, from, to }| SetRow { switch, from: to, to: from };
            cx.plan.freeze_switches().map(row).map(back).collect()
        }
        StepKind::Preflight
        | StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Arm
        | StepKind::Drain
        | StepKind::Smoke { .. }
        | StepKind::Gate { .. }
        | StepKind::GoNoGo { .. }
        | StepKind::Jobs { .. }
        | StepKind::Manual { .. } => Vec::new(),
    }
}

/// What proves the freeze and the thaw.
fn write_probes(plan: &Plan) -> String {
    match plan.freeze_probes().count() {
        0 | 1 => "the write probe".to_owned(),
        n => format!("{n} write probes"),
    }
}

fn probes(cx: &Context<'_>, kind: &StepKind, row: &mut StepRow) {
    let asked: Vec<&str> = match kind {
        StepKind::Smoke { probes } => probes.iter().map(String::as_str).collect(),
        _ => cx.plan.freeze_probes().map(|p| p.id.as_str()).collect(),
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

fn switch_lines(cx: &Context<'_>, current: bool, row: &mut StepRow) {
    let sets = std::mem::take(&mut row.sets);
    let of = |set: &SetRow| cx.plan.switch(&set.switch).map(|s| super::rows::switch_row(cx.plan, cx.state, s));
    let each: Vec<(&SetRow, SwitchRow)> = sets.iter().filter_map(|set| Some((set, of(set)?))).collect();
    let change = |set: &SetRow, s: &SwitchRow| format!("{}  {} -> {}", s.place, set.from, set.to);
    // A place of a dial may have been moved by the step before.
    let moved = |set: &SetRow, s: &SwitchRow| match &s.position {
        Some(_) => s.new == set.to,
        None => s.standing != SwitchStatus::Old,
    };
    let count = |standing| each.iter().filter(|(set, s)| s.standing == standing && moved(set, s)).count();
    let touched = each.iter().any(|(set, s)| moved(set, s));
    match each.as_slice() {
        [(set, only)] if !touched => row.detail = change(set, only),
        [(set, only)] => row.detail = format!("{}  {}", stands(only), change(set, only)),
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
        let line = |(set, s): &(&SetRow, SwitchRow)| format!("{:<8} {}{}", stands(s), change(set, s), read(s, cx.now));
        row.lines = each.iter().map(line).collect();
    }
    row.sets = sets;
}

/// Where a switch stands, from what was read of it: of a place of a dial in which position.
fn stands(switch: &SwitchRow) -> &str {
    match (switch.standing, &switch.position) {
        (SwitchStatus::Old, _) => "old",
        (SwitchStatus::New, Some(position)) => position,
        (SwitchStatus::New, None) => "NEW",
        (SwitchStatus::Unknown, _) => "?",
        (SwitchStatus::Restored, _) => "restored",
    }
}

fn read(switch: &SwitchRow, now: At) -> String {
    switch.read_at.map_or_else(String::new, |at| format!("  read {}, {} ago", at.clock_on(now), age(now.since(at))))
}
