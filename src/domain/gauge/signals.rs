//! What each signal says now. One place, used by gates, lamps and the signals pane.

use super::{Measured, Reading};
use crate::domain::plan::{Plan, Signal, SignalSource};
use crate::domain::run::RunState;

/// The signal's newest reading; without a value when any part of it is unknown.
#[must_use]
pub fn signal_value(plan: &Plan, state: &RunState, measured: &Measured, signal: &Signal) -> Reading {
    let known = |value: Option<f64>| Reading { value, at: measured.at };
    match &signal.source {
        SignalSource::Lag => worst(plan, measured, |g| g.lag.apply),
        SignalSource::MarkerRoundTrip => worst(plan, measured, |g| g.lag.marker),
        SignalSource::Mismatches => {
            known(verified(plan, state).map(|all| all.iter().map(|s| s.differing() as f64).sum()))
        }
        SignalSource::MatchRate => {
            known(verified(plan, state).map(|all| all.iter().map(|s| s.rate() * 100.0).fold(100.0, f64::min)))
        }
        SignalSource::Parked => known(
            plan.tables.iter().map(|t| measured.tables.get(&t.id).map(|g| g.parked.values().sum::<u64>() as f64)).sum(),
        ),
        SignalSource::Unaccounted => known(verified(plan, state).and_then(|all| {
            all.iter()
                .map(|s| {
                    let (source, target) = (s.source.rows?, s.target.rows?);
                    let found = target + s.parked + s.expired;
                    Some(source.abs_diff(found) as f64)
                })
                .sum()
        })),
        SignalSource::ProbeP95(id) => probe(measured, id, |p| p.p95_ms),
        SignalSource::ProbeErrors(id) => {
            probe(measured, id, |p| (p.count > 0).then(|| f64::from(p.failed) * 100.0 / f64::from(p.count)))
        }
        SignalSource::Downtime => {
            let ms = state.downtime.ms.or(measured.downtime_ms);
            let ms = if state.downtime.refused.is_none() { ms.or(Some(0)) } else { ms };
            known(ms.map(|ms| ms as f64 / 1000.0))
        }
        SignalSource::CloudWatch(_) => measured.signals.get(&signal.id).copied().unwrap_or_default(),
    }
}

/// The largest lag over all moving tables in seconds, as old as the oldest part; unknown if one is.
fn worst(plan: &Plan, measured: &Measured, of: impl Fn(&super::TableGauge) -> Reading) -> Reading {
    let mut worst = Reading { value: Some(0.0), at: measured.at };
    for table in &plan.tables {
        let reading = measured.tables.get(&table.id).map(&of).unwrap_or_default();
        let Some(ms) = reading.value else { return Reading { value: None, at: reading.at } };
        worst.value = worst.value.map(|v| v.max(ms / 1000.0));
        worst.at = worst.at.min(reading.at);
    }
    worst
}

fn verified<'s>(plan: &Plan, state: &'s RunState) -> Option<Vec<&'s crate::domain::run::VerifySummary>> {
    plan.tables.iter().map(|t| state.tables.get(&t.id)?.verified.as_ref().map(|(_, s)| s)).collect()
}

fn probe(measured: &Measured, id: &str, of: impl Fn(&super::ProbeStats) -> Option<f64>) -> Reading {
    measured.probes.get(id).map_or_else(Reading::default, |p| Reading { value: of(p), at: p.at })
}
