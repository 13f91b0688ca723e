//! Judging a gate: every criterion needs a fresh value, and missing evidence is not met.

use super::event::Evidence;
use super::state::RunState;
use crate::domain::gauge::{Measured, signal_value};
use crate::domain::plan::{Criterion, Gate, Plan};

/// Whether every criterion holds on fresh evidence, and the evidence itself.
#[must_use]
pub fn judge(plan: &Plan, state: &RunState, measured: &Measured, gate: &Gate) -> (bool, Vec<Evidence>) {
    let evidence: Vec<Evidence> = gate.criteria.iter().map(|c| one(plan, state, measured, c)).collect();
    (!evidence.is_empty() && evidence.iter().all(|e| e.good), evidence)
}

fn one(plan: &Plan, state: &RunState, measured: &Measured, c: &Criterion) -> Evidence {
    let name = format!("{} {} {}", c.signal, c.op.symbol(), number(c.value));
    let Some(signal) = plan.signals.iter().find(|s| s.id == c.signal) else {
        return Evidence {
            name,
            value: "?".to_owned(),
            at: measured.at,
            source: "no such signal".to_owned(),
            good: false,
        };
    };
    let reading = signal_value(plan, state, measured, signal);
    let fresh = reading.fresh(measured.at, signal.stale_ms);
    let value = match (fresh, reading.value) {
        (Some(v), _) => format!("{}{}", number(v), signal.unit),
        (None, Some(v)) => format!("{}{} stale", number(v), signal.unit),
        (None, None) => "?".to_owned(),
    };
    Evidence {
        name,
        value,
        at: reading.at,
        source: format!("signal {}", signal.id),
        good: fresh.is_some_and(|v| c.op.holds(v, c.value)),
    }
}

/// A number with at most three decimals and no trailing zeros.
fn number(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
