//! Rows of tables, signals and switches.

use super::build::Context;
use super::{Health, SignalRow, SwitchRow, TableRow};
use crate::domain::gauge::{Count, Phase, Series, TableGauge, signal_value};
use crate::domain::plan::{Side, Signal, SignalSource, Switch};
use crate::domain::run::{RunState, Standing};

/// Slots and their length for a signal nobody keeps a history of.
const NO_HISTORY: Series = Series::new(5_000, 0);

/// Share of a limit from which a value is worth watching.
const WATCH_FROM: f64 = 0.8;

pub(super) fn table_rows(cx: &Context<'_>) -> Vec<TableRow> {
    let moving = cx.plan.tables.iter().map(|t| (t.id.as_str(), t.source.as_str(), t.target.as_str()));
    let staying = cx.plan.stays.iter().map(|t| (t.id.as_str(), t.source.as_str(), ""));
    moving.chain(staying).map(|(id, source, target)| table_row(cx, id, source, target)).collect()
}

fn table_row(cx: &Context<'_>, id: &str, source_name: &str, target_name: &str) -> TableRow {
    let stays = target_name.is_empty();
    let nothing = TableGauge { phase: if stays { Phase::Stays } else { Phase::Waiting }, ..TableGauge::default() };
    let gauge = cx.measured.tables.get(id).unwrap_or(&nothing);
    let journaled = cx.state.tables.get(id);
    let mut parked = gauge.parked.clone();
    if gauge.phase == Phase::Waiting && parked.is_empty() {
        parked = journaled.map(|t| t.load_parked.clone()).unwrap_or_default();
    }
    let difference = difference(gauge.source, gauge.target, parked.values().sum()).filter(|_| !stays);
    TableRow {
        id: id.to_owned(),
        source_name: source_name.to_owned(),
        target_name: target_name.to_owned(),
        phase: gauge.phase,
        source: gauge.source,
        target: gauge.target,
        difference,
        lag: gauge.lag,
        rate: gauge.rate,
        loaded: gauge.loaded.max(journaled.and_then(|t| t.loaded).unwrap_or(0)),
        segments: gauge.segments,
        applied: gauge.applied,
        parked,
        expired: gauge.expired,
        retries: gauge.retries,
        verified: journaled.and_then(|t| t.verified.clone()),
        trouble: gauge.trouble.clone(),
    }
}

/// `source - target - parked`, when both counts are known.
fn difference(source: Count, target: Count, parked: u64) -> Option<i64> {
    let (source, target) = (i128::from(source.rows?), i128::from(target.rows?));
    i64::try_from(source - target - i128::from(parked)).ok()
}

pub(super) fn signal_row(cx: &Context<'_>, signal: &Signal) -> SignalRow {
    let reading = signal_value(cx.plan, cx.state, cx.measured, signal);
    let limit = match signal.source {
        // For a rate of equal rows the limit is the least that will do.
        SignalSource::MatchRate => Some(signal.limit.unwrap_or(cx.plan.verify.floor * 100.0)),
        _ => signal.limit,
    };
    let health = match reading.fresh(cx.measured.at, signal.stale_ms) {
        // An interruption that has not begun is not unknown.
        None if signal.source == SignalSource::Downtime && cx.state.downtime.refused.is_none() => Health::Idle,
        None => Health::Unknown,
        Some(value) => judge(&signal.source, value, limit),
    };
    SignalRow {
        id: signal.id.clone(),
        unit: signal.unit.clone(),
        value: reading.value,
        at: reading.at,
        limit,
        health,
        series: cx.series.get(&signal.id).cloned().unwrap_or(NO_HISTORY),
    }
}

fn judge(source: &SignalSource, value: f64, limit: Option<f64>) -> Health {
    let Some(limit) = limit else { return Health::Idle };
    match source {
        _ if !value.is_finite() => Health::Unknown,
        SignalSource::MatchRate if value < limit => Health::Fail,
        SignalSource::MatchRate if value < 100.0 => Health::Look,
        SignalSource::MatchRate => Health::Ok,
        _ if value > limit => Health::Fail,
        // Rows that need an explanation are never simply fine.
        SignalSource::Mismatches | SignalSource::Parked | SignalSource::Unaccounted if value > 0.0 => Health::Look,
        _ if limit > 0.0 && value >= limit * WATCH_FROM => Health::Watch,
        _ => Health::Ok,
    }
}

/// A signal the screen needs although the plan does not name it; limits as the guides set them.
pub(super) fn own_signal(source: SignalSource) -> Signal {
    let (unit, limit, stale_ms) = match source {
        SignalSource::Lag | SignalSource::MarkerRoundTrip => ("s", Some(30.0), 15_000),
        SignalSource::ProbeP95(_) => ("ms", None, 15_000),
        SignalSource::ProbeErrors(_) => ("%", Some(1.0), 15_000),
        SignalSource::Mismatches | SignalSource::Unaccounted => ("", Some(0.0), 4 * 3_600_000),
        _ => ("", None, 60_000),
    };
    Signal { id: String::new(), unit: unit.to_owned(), source, side: Side::Both, limit, stale_ms }
}

/// Where a signal's number comes from, in words for evidence.
pub(super) fn source_words(signal: &Signal) -> String {
    match &signal.source {
        SignalSource::Lag => "largest apply lag of all tables".to_owned(),
        SignalSource::MarkerRoundTrip => "slowest marker of all tables".to_owned(),
        SignalSource::Mismatches => "last full comparison".to_owned(),
        SignalSource::MatchRate => "last full comparison".to_owned(),
        SignalSource::Parked => "parked rows in the target".to_owned(),
        SignalSource::Unaccounted => "exact counts of both sides".to_owned(),
        SignalSource::ProbeP95(probe) | SignalSource::ProbeErrors(probe) => format!("probe {probe}, last minute"),
        SignalSource::Downtime => "write probe".to_owned(),
        SignalSource::CloudWatch(m) => format!("CloudWatch {} {} {}", m.namespace, m.name, m.statistic),
    }
}

pub(super) fn switch_row(state: &RunState, switch: &Switch) -> SwitchRow {
    let found = state.switches.get(&switch.id);
    let old = match found {
        Some(s) if s.captured && switch.secret() => "***".to_owned(),
        Some(s) if s.captured => s.captured_value.clone().unwrap_or_else(|| "***".to_owned()),
        _ => "?".to_owned(),
    };
    SwitchRow {
        id: switch.id.clone(),
        title: switch.title.clone(),
        place: switch.place(),
        old,
        new: switch.to_label(),
        standing: found.map_or(Standing::Old, |s| s.standing),
        read_at: found.and_then(|s| s.read_at),
        version: found.and_then(|s| s.captured_version),
    }
}
