//! What is said while the journal cannot be written.

use super::build::Context;
use super::{JournalTrouble, StepRow};
use crate::domain::plan::Switch;
use crate::domain::run::{Need, RunStatus, SwitchStatus, between};

/// Why, what stands where, and what to do; absent while all is well.
pub(super) fn trouble(cx: &Context<'_>) -> Option<JournalTrouble> {
    let error = cx.measured.journal_error.as_ref().filter(|_| !cx.measured.journal_ok)?;
    let back = matches!(cx.state.status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck);
    let why = if back {
        format!("the journal cannot be written ({error}): rollback goes on without it")
    } else {
        format!("the journal cannot be written ({error}): nothing goes forward")
    };
    let run = &cx.state.run;
    let advice = if back {
        format!("free space; while the rollback is not on disk, do not start the run again: `cutover rollback {run}`")
    } else if between(cx.plan, cx.state) {
        format!("free space and the run goes on by itself, or roll back: RR, or `cutover rollback {run}`")
    } else {
        "free space: it is tried again every second".to_owned()
    };
    Some(JournalTrouble { why, stands: stands(cx), advice })
}

/// `customers cannot write; reads stands on the new side; writes was being moved, where it stands is not known`.
fn stands(cx: &Context<'_>) -> String {
    let mut said = Vec::new();
    let places: Vec<&Switch> = cx.plan.freeze_switches().filter(|switch| kept_out(cx, switch)).collect();
    if cx.state.locked_out(cx.plan) && !places.is_empty() {
        let of = match cx.plan.freeze_switches().count() {
            all if all == places.len() => String::new(),
            _ => format!(" of {}", places.iter().map(|switch| switch.place()).collect::<Vec<_>>().join(", ")),
        };
        said.push(format!("customers{of} cannot write"));
    }
    for switch in cx.plan.switches.iter().filter(|s| !cx.plan.freezes(&s.id)) {
        let words = match cx.state.switches.get(&switch.id).map_or(SwitchStatus::Old, |s| s.standing) {
            SwitchStatus::Old | SwitchStatus::Restored => "stands on the old side",
            SwitchStatus::New => "stands on the new side",
            SwitchStatus::Unknown => "was being moved, where it stands is not known",
        };
        said.push(format!("{} {words}", switch.id));
    }
    said.join("; ")
}

/// Whether this place may still keep customers out.
fn kept_out(cx: &Context<'_>, switch: &Switch) -> bool {
    let found = cx.state.switches.get(&switch.id);
    found.is_some_and(|s| matches!(s.standing, SwitchStatus::New | SwitchStatus::Unknown))
}

/// The current step waits for a person, whatever it was doing: its end cannot be recorded.
pub(super) fn hold(trouble: &JournalTrouble, row: &mut StepRow) {
    row.need = Some(Need::Decision);
    row.reason = Some(format!("{}; {}", trouble.why, trouble.stands));
    row.advice = Some(trouble.advice.clone());
    row.eta = None;
}
