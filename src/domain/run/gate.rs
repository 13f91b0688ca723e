//! Judging a gate: every criterion needs a fresh value, and missing evidence is not met.

use super::event::Evidence;
use super::state::RunState;
use crate::domain::at::At;
use crate::domain::gauge::{Measured, Reading, source_words};
use crate::domain::plan::{Criterion, Gate, Plan, Signal};
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

/// What one criterion says now.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// What was last measured of its signal.
    pub reading: Reading,
    /// The value, where it is fresh and all of it was measured after the last switch settled.
    pub fresh: Option<f64>,
    /// Whether some of what the value sums up was measured before the last switch settled.
    pub before_switch: bool,
    /// What it is compared with; absent while the baseline that it follows from was not taken.
    pub limit: Option<f64>,
    /// Whether it holds.
    pub good: bool,
}

/// Compares a signal with the limit of a criterion.
#[must_use]
pub fn compare(plan: &Plan, state: &RunState, measured: &Measured, signal: &Signal, c: &Criterion) -> Compared {
    let reading = signal_value(plan, state, measured, signal);
    // A value is of everything that it was measured over, not of its last moment.
    let since = covers_ms(&signal.source).map(|ms| reading.at.plus(-ms));
    let before_switch = since.is_some_and(|since| state.settled_at(plan).is_some_and(|at| since < at));
    let fresh = reading.fresh(measured.at, signal.stale_ms).filter(|_| !before_switch);
    let baseline = c.baseline_of().and_then(|of| state.baselines.get(of));
    let limit = c.limit(baseline.map(|b| b.value));
    let good = fresh.zip(limit).is_some_and(|(value, limit)| c.op.holds(value, limit));
    Compared { reading, fresh, before_switch, limit, good }
}

impl Compared {
    /// The value in words: `9ms`, `9ms, limit 12ms`, `? (was 9ms, stale)`; `number` writes a number with its unit.
    #[must_use]
    pub fn words(&self, c: &Criterion, number: impl Fn(f64) -> String) -> String {
        let value = match (self.fresh, self.reading.value) {
            (Some(v), _) => number(v),
            (None, Some(v)) if self.before_switch => format!("? (was {}, before the switch)", number(v)),
            (None, Some(v)) => format!("? (was {}, stale)", number(v)),
            (None, None) => "?".to_owned(),
        };
        match (c.baseline_of(), self.limit) {
            (None, _) => value,
            (Some(_), Some(limit)) => format!("{value}, limit {}", number(limit)),
            (Some(of), None) => format!("{value}, no baseline of {of}"),
        }
    }
}

/// One criterion, and whether its value and what it is compared with are known.
fn one(plan: &Plan, state: &RunState, measured: &Measured, c: &Criterion) -> (Evidence, bool) {
    let Some(signal) = plan.signals.iter().find(|s| s.id == c.signal) else {
        let evidence = Evidence {
            name: c.words(number),
            value: "?".to_owned(),
            at: At::default(),
            source: "no such signal in the plan".to_owned(),
            good: false,
        };
        return (evidence, false);
    };
    let compared = compare(plan, state, measured, signal, c);
    let number = |v| format!("{}{}", number(v), signal.unit);
    let evidence = Evidence {
        name: c.words(number),
        value: compared.words(c, number),
        at: compared.reading.at,
        source: source_words(plan, signal),
        good: compared.good,
    };
    (evidence, compared.fresh.is_some() && compared.limit.is_some())
}

/// A number with at most three decimals and no trailing zeros.
fn number(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
