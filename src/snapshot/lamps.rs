//! The annunciator: the same words in the same order on every screen.

use super::build::{Context, downtime_running};
use super::rows::{own_signal, proof, signal_row};
use super::words::{age, human, rate, whole_percent, with_unit};
use super::{DialRow, Health, Lamp, Proof, Rollback, SignalRow, StepRow, SwitchRow};
use crate::domain::gauge::{Phase, WalStatus};
use crate::domain::plan::{Signal, SignalSource, StepName};
use crate::domain::run::{RunStatus, StepStatus, SwitchStatus};

/// A load that moves no row, or a target that does not answer, for longer than this is not well, in milliseconds.
const SILENT_MS: i64 = 15_000;

/// How long the refusals of a freeze stay in the window of the write probe, in milliseconds.
const PROBE_WINDOW_MS: i64 = 60_000;

pub(super) fn lamps(
    cx: &Context<'_>,
    steps: &[StepRow],
    signals: &[SignalRow],
    (switches, dials): (&[SwitchRow], &[DialRow]),
    rollback: &Rollback,
) -> Vec<Lamp> {
    vec![
        lamp("COPY", copy(cx, steps)),
        lamp("LAG", lag(cx, steps, signals)),
        lamp("VERIFY", verify(cx, steps, signals)),
        lamp("ERR", errors(cx, signals)),
        lamp("SWITCH", switch(cx, steps, switches, dials)),
        lamp("GATES", gates(steps)),
        lamp("ROLLBACK", (rollback.text.clone(), rollback.health)),
    ]
}

fn lamp(word: &str, (text, health): (String, Health)) -> Lamp {
    Lamp { word: word.to_owned(), text, health }
}

fn of_kind(steps: &[StepRow], kind: StepName) -> Option<&StepRow> {
    steps.iter().find(|s| s.kind == kind)
}

fn idle() -> (String, Health) {
    ("-".to_owned(), Health::Idle)
}

fn unknown() -> (String, Health) {
    ("?".to_owned(), Health::Unknown)
}

fn copy(cx: &Context<'_>, steps: &[StepRow]) -> (String, Health) {
    let Some(step) = of_kind(steps, StepName::Load) else { return idle() };
    match step.status {
        StepStatus::Todo | StepStatus::Ready | StepStatus::Held => idle(),
        StepStatus::Skipped => ("skipped".to_owned(), Health::Idle),
        StepStatus::Done => copied(cx),
        StepStatus::Failed => ("failed".to_owned(), Health::Fail),
        StepStatus::Unknown => unknown(),
        StepStatus::Running => {
            let gauges = || cx.plan.tables.iter().filter_map(|t| cx.measured.tables.get(&t.id));
            let retrying = gauges().filter(|g| g.phase == Phase::Retrying).count();
            let per_s: f64 = gauges().filter(|g| g.phase == Phase::Loading).map(|g| g.rate).sum();
            let still = gauges().filter(|g| g.phase == Phase::Loading && g.doing.is_none() && g.moved_at.0 > 0);
            let still = still.map(|g| g.moved_at).max();
            let still = still.map_or(0, |at| cx.measured.at.since(at));
            let share = step.progress.map_or_else(|| "?%".to_owned(), |(d, a)| format!("{}%", whole_percent(d, a)));
            if cx.state.status == RunStatus::Paused {
                (format!("{share} paused"), Health::Watch)
            } else if retrying > 0 {
                (format!("{share} retrying"), Health::Warn)
            } else if still > SILENT_MS {
                (format!("{share} no row for {}", age(still)), Health::Warn)
            } else if step.progress.is_none() {
                (share, Health::Unknown)
            } else {
                (format!("{share} {}", rate(per_s)), Health::Ok)
            }
        }
    }
}

/// The rows are in, and the database that holds them answers.
fn copied(cx: &Context<'_>) -> (String, Health) {
    let going = matches!(cx.state.status, RunStatus::Running | RunStatus::Paused | RunStatus::RollingBack);
    let heard = cx.plan.tables.iter().map(|t| cx.measured.tables.get(&t.id).map(|g| g.parked_at).unwrap_or_default());
    let Some(oldest) = heard.min().filter(|_| going) else { return ("done".to_owned(), Health::Ok) };
    if oldest.0 == 0 {
        return ("? done, no answer yet".to_owned(), Health::Unknown);
    }
    let silent = cx.measured.at.since(oldest);
    if silent > SILENT_MS {
        return (format!("? done, no answer for {}", age(silent)), Health::Unknown);
    }
    ("done".to_owned(), Health::Ok)
}

/// The plan's own signal of this source, or one with the limits of the guides.
fn row_of(cx: &Context<'_>, signals: &[SignalRow], source: &SignalSource) -> SignalRow {
    let named = cx.plan.signals.iter().position(|s| s.source == *source).and_then(|i| signals.get(i));
    named.cloned().unwrap_or_else(|| signal_row(cx, &own_signal(source.clone())))
}

fn lag(cx: &Context<'_>, steps: &[StepRow], signals: &[SignalRow]) -> (String, Health) {
    let begun = |kind| of_kind(steps, kind).is_some_and(|s| !matches!(s.status, StepStatus::Todo | StepStatus::Ready));
    // A slot that is lost, or about to be, takes with it what nobody has read: from capture on, loads included.
    if cx.measured.retained.values().any(|log| log.status >= WalStatus::Unreserved) {
        return ("SLOT".to_owned(), Health::Fail);
    }
    let row = row_of(cx, signals, &SignalSource::Lag);
    if row.value.is_none() && !begun(StepName::CatchUp) {
        // Before changes are applied there is nothing to be behind with.
        return idle();
    }
    let drained =
        || cx.plan.tables.iter().all(|t| cx.measured.tables.get(&t.id).is_some_and(|g| g.phase == Phase::Drained));
    if row.health == Health::Ok && !cx.plan.tables.is_empty() && drained() {
        return ("drained".to_owned(), Health::Ok);
    }
    // Unread records that will be gone before they are read are the worst a lag can be.
    let trim = row_of(cx, signals, &SignalSource::Trim);
    if trim.health == Health::Fail {
        return ("TRIM".to_owned(), Health::Fail);
    }
    match row.value.filter(|_| row.health != Health::Unknown) {
        Some(v) => (with_unit(v, "s"), row.health),
        None => unknown(),
    }
}

fn verify(cx: &Context<'_>, steps: &[StepRow], signals: &[SignalRow]) -> (String, Health) {
    let running = steps.iter().find(|s| s.kind == StepName::Verify && s.status == StepStatus::Running);
    if let Some((done, all)) = running.and_then(|s| s.progress) {
        return (format!("{}%", whole_percent(done, all)), Health::Idle);
    }
    if running.is_some() {
        return ("running".to_owned(), Health::Idle);
    }
    let verified = cx.plan.tables.iter().filter(|t| cx.state.tables.get(&t.id).is_some_and(|t| t.verified.is_some()));
    if verified.count() == 0 && !steps.iter().any(|s| s.kind == StepName::Verify && s.status == StepStatus::Done) {
        return idle();
    }
    let proofs = || cx.plan.tables.iter().map(|t| proof(cx, &t.id));
    let row = row_of(cx, signals, &SignalSource::Mismatches);
    match row.value.filter(|_| row.health != Health::Unknown) {
        // Nobody set a limit: any open difference still needs attention.
        Some(v) if v > 0.0 => {
            (format!("{} open", human(v as u64)), if row.health == Health::Fail { Health::Fail } else { Health::Warn })
        }
        Some(_) if proofs().any(|p| matches!(p, Proof::Stale { .. })) => unknown(),
        Some(_) if proofs().any(|p| p == Proof::Repaired) => ("repaired".to_owned(), Health::Warn),
        Some(_) => ("0 open".to_owned(), Health::Ok),
        None => unknown(),
    }
}

/// The last stray write, by table and key.
fn stray(cx: &Context<'_>) -> Option<String> {
    let (table, gauge) = cx.measured.reverse.tables.iter().find(|(_, g)| g.strays > 0)?;
    let key = gauge.stray_key.as_deref().unwrap_or("?");
    Some(format!("stray write {table} {key}"))
}

/// The worst share of failed probes. Refusals that were ordered by the freeze do not count.
fn errors(cx: &Context<'_>, signals: &[SignalRow]) -> (String, Health) {
    // Data that somebody writes to the wrong side is worse than any failed request.
    if let Some(stray) = stray(cx) {
        return (stray, Health::Fail);
    }
    let mut watched: Vec<(&str, SignalRow)> = Vec::new();
    for (signal, row) in cx.plan.signals.iter().zip(signals) {
        if let Signal { source: SignalSource::ProbeErrors(probe), .. } = signal {
            watched.push((probe, row.clone()));
        }
    }
    if watched.is_empty() {
        for probe in &cx.plan.probes {
            let signal = own_signal(SignalSource::ProbeErrors(probe.id.clone()));
            watched.push((&probe.id, signal_row(cx, &signal)));
        }
    }
    let mut worst: Option<(String, Health)> = None;
    for (probe, row) in watched {
        let mut found = match row.value.filter(|_| row.health != Health::Unknown) {
            Some(v) => (with_unit(v, "%"), row.health),
            None => unknown(),
        };
        let stats = cx.measured.probes.get(probe);
        if cx.plan.freeze.as_ref().is_some_and(|f| f.is_proven_by(probe)) && found.1 != Health::Unknown {
            let recent = cx.state.downtime.accepted.is_some_and(|a| cx.measured.at.since(a) <= PROBE_WINDOW_MS);
            if downtime_running(cx).is_some() && stats.is_some_and(|s| s.last_refused) {
                found = ("frozen".to_owned(), Health::Idle);
            } else if recent && stats.is_some_and(|s| s.last_ok) {
                // The window still holds the refusals of the freeze for a minute.
                found.1 = if found.1 == Health::Idle { Health::Idle } else { found.1.min(Health::Watch) };
            }
        }
        let rank = |h: Health| match h {
            Health::Idle => 0,
            Health::Ok => 1,
            Health::Watch => 2,
            Health::Warn => 3,
            Health::Unknown => 4,
            Health::Fail => 5,
        };
        if worst.as_ref().is_none_or(|w| rank(found.1) > rank(w.1)) {
            worst = Some(found);
        }
    }
    worst.unwrap_or_else(unknown)
}

fn switch(cx: &Context<'_>, steps: &[StepRow], switches: &[SwitchRow], dials: &[DialRow]) -> (String, Health) {
    let traffic: Vec<&SwitchRow> =
        switches.iter().filter(|s| !cx.plan.freezes(&s.id) && cx.plan.dial_of(&s.id).is_none()).collect();
    if dials.iter().any(|d| d.at.is_none()) {
        return unknown();
    }
    let count = |standing| traffic.iter().filter(|s| s.standing == standing).count();
    let (all, new) = (traffic.len(), count(SwitchStatus::New));
    if count(SwitchStatus::Unknown) > 0 {
        return unknown();
    }
    // A position is where a plan stands on purpose, until everything else is new as well.
    let moved = dials.iter().filter(|d| d.at.is_some_and(|at| at > 0));
    let last = |d: &DialRow| d.at.is_some_and(|at| at + 1 == d.positions.len());
    match moved.max_by_key(|d| !last(d)) {
        Some(dial) if !last(dial) || new < all || all == 0 => return (dial.stands.replace(' ', ""), Health::Ok),
        Some(_) | None => {}
    }
    if all > 0 && new == all {
        return ("new".to_owned(), Health::Ok);
    }
    if new > 0 {
        // Half way is where a plan with several switch steps stands on purpose for a while.
        let more = steps
            .iter()
            .any(|s| s.kind == StepName::Switch && !matches!(s.status, StepStatus::Done | StepStatus::Skipped));
        return (format!("{new}/{all}"), if more { Health::Watch } else { Health::Warn });
    }
    if count(SwitchStatus::Restored) > 0 {
        return ("restored".to_owned(), Health::Ok);
    }
    if all == 0 { idle() } else { ("old".to_owned(), Health::Idle) }
}

fn gates(steps: &[StepRow]) -> (String, Health) {
    let gates: Vec<&StepRow> = steps.iter().filter(|s| matches!(s.kind, StepName::Gate | StepName::GoNoGo)).collect();
    if gates.is_empty() {
        return idle();
    }
    let done = gates.iter().filter(|s| s.status == StepStatus::Done).count();
    let is = |status| gates.iter().any(|s| s.status == status);
    let health = if is(StepStatus::Failed) {
        Health::Fail
    } else if is(StepStatus::Unknown) {
        Health::Unknown
    } else if done == gates.len() {
        Health::Ok
    } else if gates.iter().any(|s| s.status == StepStatus::Running && s.progress.is_none()) {
        Health::Watch
    } else {
        Health::Idle
    };
    (format!("{done}/{}", gates.len()), health)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gauge::Measured;
    use crate::domain::plan::{Dial, Position, Serves, Side, ValueRef};
    use crate::domain::run::{RunState, SwitchState};
    use crate::snapshot::fixture::plan;
    use crate::snapshot::tests::built;

    #[test]
    fn a_position_is_where_a_plan_stands_on_purpose() {
        let (mut plan, mut state) = (plan(), RunState::default());
        let id = plan.switches[1].id.clone();
        let position = |name: &str, reads| Position {
            name: name.into(),
            serves: Serves { reads: Some(reads), ..Serves::default() },
            values: vec![ValueRef::Literal(name.into())],
        };
        let positions = [("0 %", Side::Old), ("10 %", Side::Both), ("100 %", Side::New)];
        plan.dials = vec![Dial {
            id: "share".into(),
            title: "reads come from".into(),
            places: vec![id.clone()],
            positions: positions.map(|(name, reads)| position(name, reads)).into(),
            effect_ms: 0,
        }];
        let mut said = |standing, position: Option<&str>| {
            let stands = SwitchState { standing, position: position.map(str::to_owned), ..SwitchState::default() };
            state.switches.insert(id.clone(), stands);
            let s = built(&plan, &state, &Measured::default(), &[]);
            let lamp = s.lamps.iter().find(|l| l.word == "SWITCH").unwrap();
            (s.dials[0].stands.clone(), (lamp.text.clone(), lamp.health))
        };
        assert_eq!(said(SwitchStatus::Old, None).0, "0 %");
        assert_eq!(said(SwitchStatus::New, Some("10 %")), ("10 %".into(), ("10%".into(), Health::Ok)));
        assert_eq!(said(SwitchStatus::New, Some("100 %")), ("100 %".into(), ("100%".into(), Health::Ok)));
        let (stands, (_, health)) = said(SwitchStatus::Unknown, Some("10 %"));
        assert_eq!((stands.as_str(), health), ("?", Health::Unknown));
    }
}
