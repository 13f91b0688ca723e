//! Baselines: what is measured before the cutover and what is compared with it.

use super::Diagnostics;
use crate::domain::plan::{Criterion, Plan, SignalSource, StepKind};

/// A step that takes baselines.
pub(super) fn step(plan: &Plan, n: usize, signals: &[String], found: &mut Diagnostics) {
    if signals.is_empty() {
        found.error(format!("steps[{n}].signals"), "names no signal");
    }
    for (s, id) in signals.iter().enumerate() {
        let path = format!("steps[{n}].signals[{s}]");
        found.name(&path, "signal", id, plan.signals.iter().map(|signal| signal.id.as_str()));
        if signals[..s].contains(id) {
            found.error(path, format!("`{id}` is named twice"));
        } else if plan.signals.iter().any(|signal| signal.id == *id && !measured_outside(&signal.source)) {
            let message =
                format!("`{id}` is this program's own number; a baseline is of a probe or a CloudWatch metric");
            found.error(path, message);
        }
    }
    let switched = plan.steps[..n].iter().find(|s| matches!(s.kind, StepKind::Switch { .. } | StepKind::Freeze));
    if let Some(before) = switched {
        let message = format!(
            "`{}` comes after `{}`: what is measured then is not how it was before",
            plan.steps[n].id, before.id
        );
        found.error(format!("steps[{n}].kind"), message);
    }
}

/// A criterion of a gate that step `n` waits for: what it is compared with has to be measured before.
pub(super) fn criterion(plan: &Plan, n: usize, criterion: &Criterion, path: &str, found: &mut Diagnostics) {
    let Some(of) = criterion.baseline_of() else { return };
    let takes = |kind: &StepKind| matches!(kind, StepKind::Baseline { signals, .. } if signals.iter().any(|s| s == of));
    if !plan.steps[..n].iter().any(|s| takes(&s.kind)) {
        let message = format!(
            "`{}` compares with the baseline of `{of}`, which no step before takes: add a step of kind `baseline` with \
             signals = [\"{of}\"]",
            criterion.words(|v| v.to_string())
        );
        found.error(path, message);
    }
    let unit = |id: &str| plan.signals.iter().find(|s| s.id == id).map(|s| s.unit.as_str());
    if let (Some(ours), Some(theirs)) = (unit(&criterion.signal), unit(of))
        && ours != theirs
    {
        let message =
            format!("`{}` is in {ours:?} and `{of}` in {theirs:?}: they cannot be compared", criterion.signal);
        found.error(path, message);
    }
}

/// Whether a signal is measured of the application, and not worked out by this program.
const fn measured_outside(source: &SignalSource) -> bool {
    match source {
        SignalSource::ProbeP95(_) | SignalSource::ProbeErrors(_) | SignalSource::CloudWatch(_) => true,
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
        | SignalSource::Strays => false,
    }
}
