//! From plan, state and measurements to a snapshot.

use std::collections::BTreeMap;

use super::{
    Criterion, DialRow, Health, JournalRow, Mode, SignalRow, Snapshot, StepBackRow, StepRow, SwitchRow, TableRow,
};
use super::{account, alerts, lamps, log, loss, retained, rollback, rows, steps, unrecorded, words};
use crate::domain::at::At;
use crate::domain::gauge::{Measured, Series};
use crate::domain::plan::{Plan, SignalSource, Start};
use crate::domain::run::{Fact, RunState, RunStatus, StepStatus, step_back};

/// Everything a snapshot is built from.
pub struct Context<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The folded state.
    pub state: &'a RunState,
    /// What was last measured.
    pub measured: &'a Measured,
    /// Histories of signals by id, kept by the caller.
    pub series: &'a BTreeMap<String, Series>,
    /// The last facts, oldest first, for the log.
    pub facts: &'a [Fact],
    /// The run's clock.
    pub now: At,
    /// How it is watched.
    pub mode: Mode,
    /// What the console waits for.
    pub waiting: Option<(String, At)>,
    /// Version to stamp.
    pub version: u64,
}

/// Builds a snapshot. Pure.
#[must_use]
pub fn build(cx: &Context<'_>) -> Snapshot {
    let (plan, state, measured) = (cx.plan, cx.state, cx.measured);
    let mut steps = steps::step_rows(cx);
    let trouble = unrecorded::trouble(cx);
    let current = steps.iter().position(|s| !matches!(s.status, StepStatus::Done | StepStatus::Skipped));
    let going = matches!(state.status, RunStatus::Prepared | RunStatus::Running | RunStatus::Paused);
    if let (true, Some(trouble), Some(row)) = (going, &trouble, current.and_then(|i| steps.get_mut(i))) {
        unrecorded::hold(trouble, row);
    }
    let tables: Vec<TableRow> = rows::table_rows(cx);
    let signals: Vec<SignalRow> = plan.signals.iter().map(|s| rows::signal_row(cx, s)).collect();
    let switches: Vec<SwitchRow> = plan.switches.iter().map(|s| rows::switch_row(plan, state, s)).collect();
    let rollback = rollback::rollback(cx);
    let planned_end = steps.iter().map(|s| s.planned.plus(s.takes_ms)).max().unwrap_or(state.t0);
    let driver = match (state.operator.as_str(), state.host.as_str()) {
        ("", "") => "?".to_owned(),
        (who, "") => who.to_owned(),
        (who, host) => format!("{who}@{host}"),
    };
    let dials: Vec<DialRow> = plan.dials.iter().map(|dial| rows::dial_row(state, dial)).collect();
    let lamps = lamps::lamps(cx, &steps, &signals, (&switches, &dials), &rollback);
    Snapshot {
        version: cx.version,
        now: cx.now,
        wall: measured.at,
        mode: cx.mode,
        run: state.run.clone(),
        plan: plan.name.clone(),
        plan_hash: state.plan_hash.chars().take(12).collect(),
        environment: plan.environment.clone(),
        production: plan.production,
        driver,
        t0: state.t0,
        status: state.status,
        current,
        planned_end,
        forecast_end: forecast_end(cx, &steps),
        criteria: criteria(cx, &signals),
        account: account::account(cx),
        steps,
        tables,
        retained: retained::rows(cx),
        outbox: rows::outbox_row(measured),
        signals,
        switches,
        dials,
        step_back: match step_back(plan, state) {
            Ok(step) => StepBackRow { step: Some(step.id.clone()), why: String::new() },
            Err(why) => StepBackRow { step: None, why },
        },
        probes: measured.probes.clone(),
        lamps,
        rollback,
        downtime: state.downtime.clone(),
        downtime_running_ms: downtime_running(cx),
        frozen_places: cx.state.frozen_places(cx.plan),
        downtime_budget_ms: plan.downtime_budget_ms,
        alerts: alerts::rows(state, cx.now),
        log: log::log_rows(cx.facts),
        journal: JournalRow {
            last_seq: state.last_seq,
            age_ms: measured.journal_age_ms,
            ok: measured.journal_ok,
            trouble,
        },
        workers: measured.workers,
        waiting: cx.waiting.clone(),
        clock_stepped_ms: state.clock.stepped.map(|s| s.by_ms),
    }
}

/// Milliseconds writes have been refused for, while they still are.
pub(super) fn downtime_running(cx: &Context<'_>) -> Option<i64> {
    let d = &cx.state.downtime;
    let refused = d.refused.filter(|_| d.accepted.is_none())?;
    // The monotonic clock when there is one; after a restart the two wall clock times are left.
    Some(cx.measured.downtime_ms.unwrap_or_else(|| cx.measured.at.since(refused)))
}

/// When the last step ends if every remaining one takes as long as planned from now on.
fn forecast_end(cx: &Context<'_>, rows: &[StepRow]) -> At {
    if let Some(ended) = cx.state.ended {
        return ended;
    }
    let mut cursor = cx.now;
    for (row, step) in rows.iter().zip(&cx.plan.steps) {
        match row.status {
            StepStatus::Done | StepStatus::Skipped => {}
            StepStatus::Running => {
                let planned = row.started.map(|s| s.plus(row.takes_ms));
                cursor = row.eta.or(planned).map_or(cursor, |end| end.max(cx.now));
            }
            _ => {
                if step.start == Start::AtPlanned {
                    cursor = cursor.max(row.planned);
                }
                cursor = cursor.plus(row.takes_ms);
            }
        }
    }
    cursor
}

/// The success criteria: no data lost, fast enough, few enough errors, short enough an interruption.
fn criteria(cx: &Context<'_>, signals: &[SignalRow]) -> Vec<Criterion> {
    let mut list = vec![loss::data_loss(cx, signals)];
    for (signal, row) in cx.plan.signals.iter().zip(signals) {
        let what = match &signal.source {
            SignalSource::ProbeP95(probe) => format!("p95 {probe}"),
            SignalSource::ProbeErrors(probe) => format!("errors {probe}"),
            SignalSource::Lag
            | SignalSource::MarkerRoundTrip
            | SignalSource::Mismatches
            | SignalSource::MatchRate
            | SignalSource::Parked
            | SignalSource::Unaccounted
            | SignalSource::Trim
            | SignalSource::RetainedLog
            | SignalSource::Downtime
            | SignalSource::ReverseLag
            | SignalSource::Strays
            | SignalSource::CloudWatch(_) => continue,
        };
        let wanted =
            row.limit.map_or_else(|| "no limit set".to_owned(), |l| format!("<= {}", words::limit(l, &row.unit)));
        let measured = match row.health {
            Health::Unknown => "?".to_owned(),
            _ => row.value.map_or_else(|| "?".to_owned(), |v| words::with_unit(v, &row.unit)),
        };
        list.push(Criterion { name: what, wanted, measured, health: row.health });
    }
    list.push(downtime(cx));
    list
}

fn downtime(cx: &Context<'_>) -> Criterion {
    let d = &cx.state.downtime;
    let ms = match (d.refused, d.accepted) {
        (None, _) => None,
        (Some(_), None) => downtime_running(cx),
        (Some(refused), Some(accepted)) => Some(d.ms.unwrap_or_else(|| accepted.since(refused))),
    };
    let budget = cx.plan.downtime_budget_ms;
    let health = match ms {
        None => Health::Idle,
        Some(ms) if ms >= budget => Health::Fail,
        Some(_) if d.accepted.is_none() => Health::Watch,
        Some(_) => Health::Ok,
    };
    Criterion {
        name: "downtime".to_owned(),
        wanted: format!("< {}", words::length(budget)),
        measured: ms.map_or_else(|| "-".to_owned(), |ms| words::with_unit(ms as f64 / 1000.0, "s")),
        health,
    }
}
