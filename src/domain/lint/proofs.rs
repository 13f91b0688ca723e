//! What must have been proven before a step may change who serves reads and writes. It follows from the change itself.

use std::collections::BTreeSet;

use super::{Diagnostics, dials};
use crate::domain::plan::{Confirm, Plan, Side, StepKind, StepName, Switching};

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    // Switches that a step before sends to a position they do not have: from where a later step moves them is not known.
    let mut lost: BTreeSet<&str> = BTreeSet::new();
    for (n, step) in plan.steps.iter().enumerate() {
        let StepKind::Switch { to, .. } = &step.kind else { continue };
        lost.extend(dials::misnamed(plan, &step.kind));
        if to.keys().any(|id| lost.contains(id.as_str())) {
            continue;
        }
        let changes = plan.changes(&step.id);
        // One whose names are not known is taken for the most that a step can do.
        let unknown = changes.is_empty();
        let moves_writes = unknown || changes.iter().any(Switching::moves_writes);
        // Beside tables that this program moves both sides are refused altogether.
        let both_sides = |c: &Switching<'_>| c.moves_writes() && c.from.writes == Some(Side::Both);
        let from_both = plan.tables.is_empty() && changes.iter().any(both_sides);
        needs(plan, n, StepName::Arm, "the values to go back to must be captured first", found);
        if moves_writes && !from_both {
            needs(plan, n, StepName::Freeze, "both sides would take writes", found);
            let why = "writes made before the freeze could be missing on the new side";
            needs(plan, n, StepName::Drain, why, found);
        }
        if moves_writes && earlier(plan, n, StepName::Thaw) {
            let message = format!("`{}` (switch) comes after a `thaw` step: writes are open again", step.id);
            found.error(format!("steps[{n}].kind"), message);
        }
        for change in changes.iter().filter(|c| c.moves.is_some()) {
            reads(plan, n, change, found);
            both(plan, n, change, found);
        }
    }
}

fn earlier(plan: &Plan, n: usize, kind: StepName) -> bool {
    plan.steps[..n].iter().any(|s| s.kind.of() == kind)
}

fn needs(plan: &Plan, n: usize, needed: StepName, why: &str, found: &mut Diagnostics) {
    if !earlier(plan, n, needed) {
        let message = format!("`{}` (switch) has no `{needed}` step before it: {why}", plan.steps[n].id);
        found.error(format!("steps[{n}].kind"), message);
    }
}

/// What must be so before readers see (more of) the new side.
fn reads(plan: &Plan, n: usize, change: &Switching<'_>, found: &mut Diagnostics) {
    if !change.more_new_reads() || change.moves_writes() {
        return;
    }
    if plan.tables.is_empty() {
        judged(plan, n, "readers get the new side's data", found);
        return;
    }
    needs(plan, n, StepName::Load, "readers of the new side would find nothing", found);
    needs(plan, n, StepName::CatchUp, "readers of the new side would find what is long changed", found);
    needs(plan, n, StepName::Verify, "nothing says that readers of the new side are answered the same", found);
}

/// The application writing to both sides, and the end of that.
fn both(plan: &Plan, n: usize, change: &Switching<'_>, found: &mut Diagnostics) {
    let step = &plan.steps[n];
    let both_sides = change.to.writes == Some(Side::Both) || change.from.writes == Some(Side::Both);
    if both_sides && !plan.tables.is_empty() {
        let message = format!(
            "`{}` lets the application write to both sides while this program carries the old side's changes to the new one: \
             an older change would overwrite what the application wrote. Leave the tables to the application, or let the \
             application write to one side",
            step.id
        );
        found.error(format!("steps[{n}].to"), message);
    } else if change.begins_both_writes() {
        judged(plan, n, "the application writes to the new side", found);
    }
    if change.moves_writes() && change.from.writes == Some(Side::Both) {
        judged(plan, n, "the old side gets no more writes", found);
        if !matches!(step.confirm, Confirm::Word(_)) {
            let message = format!(
                "from `{}` on writes are on the new side only, and nothing carries them back: no rollback brings them to the \
                 old side; ask for a typed word: confirm = \"word\"",
                step.id
            );
            found.error(format!("steps[{n}].confirm"), message);
        }
    }
}

/// That a gate judges, since the change before this one, whether the application is ready: this program sees no data.
fn judged(plan: &Plan, n: usize, what: &str, found: &mut Diagnostics) {
    let since = plan.steps[..n].iter().rposition(|s| s.kind.of() == StepName::Switch).map_or(0, |at| at + 1);
    let decided = |kind: &StepKind| !kind.gates().is_empty();
    if !plan.steps[since..n].iter().any(|s| decided(&s.kind)) {
        let message = format!(
            "from `{}` on {what}, and no gate since the change before it says that it may: put a `gate` step before it",
            plan.steps[n].id
        );
        found.error(format!("steps[{n}].kind"), message);
    }
}
