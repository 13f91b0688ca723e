//! Judging a gate: every criterion needs a fresh value, and missing evidence is not met.

use super::event::Evidence;
use super::state::RunState;
use crate::domain::at::At;
use crate::domain::gauge::{Measured, source_words};
use crate::domain::plan::{Criterion, Gate, Plan};
use crate::domain::run::dials::covers_ms;
use crate::domain::run::signal_value;

/// What a gate's criteria say now.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Every criterion holds on fresh evidence.
    pub met: bool,
    /// Some criterion was freshly measured and does not hold. Not met and not contradicted: evidence is missing.
    pub contradicted: bool,
    /// Each criterion with its value, its age and the query behind it.
    pub evidence: Vec<Evidence>,
}

/// Judges every criterion of a gate.
#[must_use]
pub fn judge(plan: &Plan, state: &RunState, measured: &Measured, gate: &Gate) -> Judgement {
    let each: Vec<(Evidence, bool)> = gate.criteria.iter().map(|c| one(plan, state, measured, c)).collect();
    Judgement {
        met: !each.is_empty() && each.iter().all(|(e, _)| e.good),
        contradicted: each.iter().any(|(e, known)| *known && !e.good),
        evidence: each.into_iter().map(|(e, _)| e).collect(),
    }
}

/// One criterion, and whether its value is known and fresh.
fn one(plan: &Plan, state: &RunState, measured: &Measured, c: &Criterion) -> (Evidence, bool) {
    let Some(signal) = plan.signals.iter().find(|s| s.id == c.signal) else {
        let evidence = Evidence {
            name: format!("{} {} {}", c.signal, c.op.symbol(), number(c.value)),
            value: "?".to_owned(),
            at: At::default(),
            source: "no such signal in the plan".to_owned(),
            good: false,
        };
        return (evidence, false);
    };
    let reading = signal_value(plan, state, measured, signal);
    // A value is of everything that it was measured over, not of its last moment.
    let since = covers_ms(&signal.source).map(|ms| reading.at.plus(-ms));
    let before = since.is_some_and(|since| state.settled_at(plan).is_some_and(|at| since < at));
    let fresh = reading.fresh(measured.at, signal.stale_ms).filter(|_| !before);
    let value = match (fresh, reading.value) {
        (Some(v), _) => format!("{}{}", number(v), signal.unit),
        (None, Some(v)) if before => format!("? (was {}{}, before the switch)", number(v), signal.unit),
        (None, Some(v)) => format!("? (was {}{}, stale)", number(v), signal.unit),
        (None, None) => "?".to_owned(),
    };
    let evidence = Evidence {
        name: format!("{} {} {}{}", c.signal, c.op.symbol(), number(c.value), signal.unit),
        value,
        at: reading.at,
        source: source_words(plan, signal),
        good: fresh.is_some_and(|v| c.op.holds(v, c.value)),
    };
    (evidence, fresh.is_some())
}

/// A number with at most three decimals and no trailing zeros.
fn number(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
