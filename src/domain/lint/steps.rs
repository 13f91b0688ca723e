//! The runbook: names, the order of kinds, and the clock.

use std::collections::BTreeSet;

use super::{Diagnostics, baselines, dials, proofs};
use crate::domain::at::t_offset;
use crate::domain::plan::{AfterLoad, Confirm, Gate, OnFail, Plan, SignalSource, Start, Step, StepKind, StepName};
use crate::domain::run::{leads_back, same_person};

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    found.ids("steps", "step", plan.steps.iter().map(|s| s.id.as_str()));
    if plan.steps.is_empty() {
        found.error("steps", "a plan without steps does nothing");
    }
    clock(plan, found);
    names(plan, found);
    order(plan, found);
    proofs::lint(plan, found);
    gates(plan, found);
    people(plan, found);
    whole(plan, found);
}

fn clock(plan: &Plan, found: &mut Diagnostics) {
    for (n, pair) in plan.steps.windows(2).enumerate() {
        let ([before, step], path) = (pair, format!("steps[{}].at", n + 1)) else { continue };
        if step.at_ms < before.at_ms {
            let message = format!(
                "step `{}` is planned at {}, before `{}` above it at {}; steps run in the order of the file",
                step.id,
                t_offset(step.at_ms),
                before.id,
                t_offset(before.at_ms)
            );
            found.error(path, message);
        } else if step.start == Start::AtPlanned && before.at_ms.saturating_add(before.takes_ms) > step.at_ms {
            let message = format!("step `{}` is expected to run past the planned start of `{}`", before.id, step.id);
            found.warn(path, message);
        }
    }
    for (n, step) in plan.steps.iter().enumerate() {
        if step.kind == StepKind::Freeze && step.at_ms != 0 {
            found.warn(format!("steps[{n}].at"), format!("T-0 is the freeze; here it is at {}", t_offset(step.at_ms)));
        }
    }
}

fn names(plan: &Plan, found: &mut Diagnostics) {
    let mut switched = BTreeSet::new();
    for (n, step) in plan.steps.iter().enumerate() {
        match &step.kind {
            StepKind::Switch { switches, to } => {
                if switches.is_empty() && to.is_empty() {
                    found.error(format!("steps[{n}].switches"), "names no switch");
                }
                for (s, id) in switches.iter().enumerate() {
                    let path = format!("steps[{n}].switches[{s}]");
                    // Those with positions are named under `to`.
                    if plan.dial(id).is_some() {
                        continue;
                    }
                    found.name(&path, "switch", id, plan.switches.iter().map(|s| s.id.as_str()));
                    if plan.freezes(id) {
                        found.error(path, format!("`{id}` is the freeze switch: freeze and thaw set it"));
                    } else if !switched.insert(id.as_str()) {
                        found.error(path, format!("`{id}` is switched already by an earlier step"));
                    }
                }
            }
            StepKind::Smoke { probes } => {
                if probes.is_empty() {
                    found.error(format!("steps[{n}].probes"), "names no probe");
                }
                for (p, id) in probes.iter().enumerate() {
                    let path = format!("steps[{n}].probes[{p}]");
                    found.name(path, "probe", id, plan.probes.iter().map(|p| p.id.as_str()));
                }
            }
            StepKind::Baseline { signals, .. } => baselines::step(plan, n, signals, found),
            StepKind::GoNoGo { gates, voters, quorum } => go_no_go(plan, n, gates, voters, *quorum, found),
            StepKind::Gate { gate } => {
                found.name(format!("steps[{n}].gate"), "gate", gate, plan.gates.iter().map(|g| g.id.as_str()));
            }
            StepKind::Preflight
            | StepKind::SetUp
            | StepKind::Capture
            | StepKind::Load
            | StepKind::CatchUp { .. }
            | StepKind::Verify
            | StepKind::Arm
            | StepKind::Freeze
            | StepKind::Drain
            | StepKind::Thaw
            | StepKind::Jobs { .. }
            | StepKind::Manual { .. } => {}
        }
        if matches!(&step.confirm, Confirm::Word(w) if w.trim().is_empty()) {
            found.error(format!("steps[{n}].confirm"), "the word to type is empty");
        }
        if plan.production
            && matches!(step.kind, StepKind::Freeze | StepKind::Switch { .. })
            && !matches!(step.confirm, Confirm::Word(_))
        {
            let message = format!("`{}` changes production without a typed word; consider confirm = \"word\"", step.id);
            found.warn(format!("steps[{n}].confirm"), message);
        }
    }
    for (n, switch) in plan.switches.iter().enumerate() {
        let place = plan.dial_of(&switch.id).is_some();
        if !plan.freezes(&switch.id) && !place && !switched.contains(switch.id.as_str()) {
            found.warn(format!("switches[{n}].id"), format!("no step switches `{}`", switch.id));
        }
    }
}

/// A go/no-go with no voters and no gates, or with a quorum that cannot be met.
fn go_no_go(plan: &Plan, n: usize, gates: &[String], voters: &[String], quorum: u32, found: &mut Diagnostics) {
    for (g, id) in gates.iter().enumerate() {
        found.name(format!("steps[{n}].gates[{g}]"), "gate", id, plan.gates.iter().map(|g| g.id.as_str()));
    }
    if gates.is_empty() && voters.is_empty() {
        found.error(format!("steps[{n}].kind"), "a go-no-go step needs `gates`, `voters` or both: nothing decides");
    }
    for (v, voter) in voters.iter().enumerate() {
        let path = format!("steps[{n}].voters[{v}]");
        if same_person(voter, "") {
            found.error(path, "a voter needs a name");
        } else if voters[..v].iter().any(|other| same_person(other, voter)) {
            found.error(path, format!("`{voter}` is a voter already: case and a host after @ make no other person"));
        }
    }
    if quorum as usize > voters.len() {
        let message = format!("quorum {quorum} can never be reached by {} voters", voters.len());
        found.error(format!("steps[{n}].quorum"), message);
    }
}

/// People who must be waited for while customers are kept out.
fn people(plan: &Plan, found: &mut Diagnostics) {
    let mut frozen = false;
    for (n, step) in plan.steps.iter().enumerate() {
        if step.kind == StepKind::Thaw {
            frozen = false;
        }
        let votes = matches!(&step.kind, StepKind::GoNoGo { voters, .. } if !voters.is_empty());
        if frozen && (votes || step.two_person) {
            let path = format!("steps[{n}].{}", if votes { "voters" } else { "two_person" });
            found.warn(
                path,
                format!("`{}` waits for people while customers cannot write; ask before the freeze", step.id),
            );
        }
        if step.kind == StepKind::Freeze {
            frozen = true;
        }
    }
}

/// What must have happened earlier, kind by kind, and why.
const NEEDS: [(StepName, StepName, &str); 12] = [
    (StepName::Load, StepName::Capture, "changes made during the load would be lost"),
    (StepName::CatchUp, StepName::Load, "there is nothing to catch up with"),
    (StepName::Verify, StepName::Load, "there is nothing to compare"),
    (StepName::Freeze, StepName::Load, "customers would wait for the whole load"),
    (StepName::Freeze, StepName::Arm, "the value to thaw with must be captured first"),
    (StepName::Drain, StepName::Freeze, "writes still come in, so nothing can be drained"),
    (StepName::Drain, StepName::Capture, "there is no stream to drain"),
    (StepName::Thaw, StepName::Freeze, "nothing is frozen"),
    (StepName::SetUp, StepName::Preflight, "nothing has looked at the stores yet"),
    (StepName::Capture, StepName::Preflight, "nothing has looked at the stores yet"),
    (StepName::Load, StepName::Preflight, "nothing has looked at the stores yet"),
    (StepName::Freeze, StepName::Preflight, "nothing has looked at the stores yet"),
];

fn order(plan: &Plan, found: &mut Diagnostics) {
    for (n, step) in plan.steps.iter().enumerate() {
        let kind = step.kind.of();
        let earlier = |name: StepName| plan.steps[..n].iter().any(|s| s.kind.of() == name);
        let path = format!("steps[{n}].kind");
        for (_, needed, why) in NEEDS.iter().filter(|(of, _, _)| *of == kind) {
            if !earlier(*needed) {
                found.error(&path, format!("`{}` ({kind}) has no `{needed}` step before it: {why}", step.id));
            }
        }
        let after = |later: StepName| format!("`{}` ({kind}) comes after a `{later}` step", step.id);
        match step.kind {
            StepKind::Thaw if !plan.steps[..n].iter().any(|s| may_move_writes(plan, s)) => {
                let why = "customers would write to the old side again";
                found.error(&path, format!("`{}` (thaw) has no `switch` step before it: {why}", step.id));
            }
            StepKind::Drain if earlier(StepName::Thaw) => {
                found.error(&path, format!("{}: writes are open again", after(StepName::Thaw)));
            }
            StepKind::Load | StepKind::Capture | StepKind::SetUp if earlier(StepName::Freeze) => {
                found.error(&path, format!("{}: customers would wait for it", after(StepName::Freeze)));
            }
            StepKind::SetUp if earlier(StepName::Load) => {
                found.error(&path, format!("{}: the tables must exist before", after(StepName::Load)));
            }
            StepKind::Drain if plan.steps[..n].iter().any(|s| may_move_writes(plan, s)) => {
                found.error(&path, format!("{}: it proves that switching is safe", after(StepName::Switch)));
            }
            StepKind::Preflight
            | StepKind::SetUp
            | StepKind::Capture
            | StepKind::Load
            | StepKind::CatchUp { .. }
            | StepKind::Baseline { .. }
            | StepKind::Verify
            | StepKind::Arm
            | StepKind::Freeze
            | StepKind::Drain
            | StepKind::Switch { .. }
            | StepKind::Smoke { .. }
            | StepKind::Thaw
            | StepKind::Gate { .. }
            | StepKind::GoNoGo { .. }
            | StepKind::Jobs { .. }
            | StepKind::Manual { .. } => {}
        }
        use StepName as N;
        let once = [N::Capture, N::Load, N::Arm, N::Freeze, N::Drain, N::Thaw];
        if once.contains(&kind) && earlier(kind) {
            found.error(&path, format!("a second `{kind}` step: there can be one"));
        }
        if step.kind == StepKind::Freeze && plan.freeze.is_none() {
            found.error(&path, "a `freeze` step needs a [freeze] section: which switch, proven by which probe");
        }
        let frozen_for_good = step.kind == StepKind::Freeze && !has_later(plan, n, StepName::Thaw);
        if frozen_for_good {
            found.error(&path, "no `thaw` step follows: customers could never write again");
        }
    }
}

/// Whether a step lets writes go to the new side. One whose names are not known is taken for one that does.
fn may_move_writes(plan: &Plan, step: &Step) -> bool {
    step.kind.of() == StepName::Switch
        && (plan.moves_writes(&step.id)
            || plan.changes(&step.id).is_empty() && dials::misnamed(plan, &step.kind).next().is_none())
}

fn has_later(plan: &Plan, n: usize, kind: StepName) -> bool {
    plan.steps[n..].iter().any(|s| s.kind.of() == kind)
}

/// A gate cannot judge what has not been measured, nor roll back to what was not captured.
fn gates(plan: &Plan, found: &mut Diagnostics) {
    for (n, step) in plan.steps.iter().enumerate() {
        let path = format!("steps[{n}].{}", if matches!(step.kind, StepKind::Gate { .. }) { "gate" } else { "gates" });
        for gate in step.kind.gates().iter().filter_map(|id| plan.gate(id)) {
            gate_fits(plan, n, gate, &path, found);
        }
    }
}

fn gate_fits(plan: &Plan, n: usize, gate: &Gate, path: &str, found: &mut Diagnostics) {
    let earlier = |name: StepName| plan.steps[..n].iter().any(|s: &Step| s.kind.of() == name);
    for criterion in &gate.criteria {
        baselines::criterion(plan, n, criterion, path, found);
        let Some(signal) = plan.signals.iter().find(|s| s.id == criterion.signal) else { continue };
        let needs = match signal.source {
            SignalSource::Lag | SignalSource::MarkerRoundTrip | SignalSource::Parked => StepName::Load,
            SignalSource::Mismatches | SignalSource::MatchRate | SignalSource::Unaccounted => StepName::Verify,
            SignalSource::Trim | SignalSource::RetainedLog => StepName::Capture,
            SignalSource::Downtime => StepName::Freeze,
            SignalSource::ProbeP95(_)
            | SignalSource::ProbeErrors(_)
            | SignalSource::ReverseLag
            | SignalSource::Strays
            | SignalSource::CloudWatch(_) => continue,
        };
        if !earlier(needs) {
            let message = format!(
                "gate `{}` asks for `{}`, which nothing has measured before a `{needs}` step",
                gate.id, signal.id
            );
            found.error(path, message);
        }
    }
    if gate.on_fail == OnFail::StepBack
        && let Err(why) = leads_back(plan, n)
    {
        let message = format!(
            "gate `{}` takes back what switched last, and only a rollback leads back from here: {why}",
            gate.id
        );
        found.error(path, message);
    }
    if gate.on_fail == OnFail::RollBack && !earlier(StepName::Arm) {
        let message =
            format!("gate `{}` rolls back, but no `arm` step before it captured what rollback needs", gate.id);
        found.error(path, message);
    }
}

/// What the runbook lacks as a whole.
fn whole(plan: &Plan, found: &mut Diagnostics) {
    let place = |kind: StepName| plan.steps.iter().position(|s| s.kind.of() == kind);
    if !plan.tables.is_empty() && place(StepName::Load).is_none() && !plan.steps.is_empty() {
        found.error("steps", "tables are declared to move, but no `load` step moves them");
    }
    if plan.tables.is_empty() && place(StepName::Load).is_some() {
        found.error("tables", "a `load` step, but no table to move");
    }
    if place(StepName::Load).is_some() {
        unfinished(plan, found);
    }
    let switch = plan.steps.iter().position(|s| may_move_writes(plan, s));
    if let (Some(freeze), Some(switch)) = (place(StepName::Freeze), switch) {
        let proven = |s: &Step| matches!(s.kind, StepKind::Verify);
        if freeze < switch && !plan.steps[freeze..switch].iter().any(proven) {
            let message = "nothing compares the data between the freeze and the switch; consider a `verify` step";
            found.warn(format!("steps[{switch}].kind"), message);
        }
    }
}

/// What tables lack at the end of a plan that has no step for it.
fn unfinished(plan: &Plan, found: &mut Diagnostics) {
    let has = |kind: StepName| plan.steps.iter().any(|s| s.kind.of() == kind);
    let names = |wanted: fn(&AfterLoad) -> bool| {
        let with = plan.tables.iter().filter(|t| t.after_load.iter().any(wanted));
        with.map(|t| t.target.as_str()).collect::<Vec<_>>().join(", ")
    };
    let keys = names(|one| matches!(one, AfterLoad::ForeignKey { .. }));
    if !has(StepName::Arm) && !has(StepName::Drain) && !keys.is_empty() {
        let message = format!(
            "no `arm` or `drain` step, which prove foreign keys: those of {keys} hold for new rows only when this plan ends"
        );
        found.warn("steps", message);
    }
    let views = plan.tables.iter().flat_map(|t| &t.after_load);
    let views: Vec<&str> =
        views.filter(|one| matches!(one, AfterLoad::MaterializedView { .. })).map(AfterLoad::name).collect();
    if !has(StepName::Arm) && !has(StepName::Drain) && !views.is_empty() {
        let message = format!(
            "no `arm` or `drain` step, which fill materialized views: {} hold nothing when this plan ends",
            views.join(", ")
        );
        found.warn("steps", message);
    }
    let triggers = names(|one| matches!(one, AfterLoad::Trigger { .. }));
    if !has(StepName::Thaw) && !triggers.is_empty() {
        found.warn("steps", format!("no `thaw` step, which enables triggers: those of {triggers} stay disabled"));
    }
    let expire: Vec<&str> =
        plan.tables.iter().filter(|t| t.expires_by().is_some()).map(|t| t.target.as_str()).collect();
    if !has(StepName::Thaw) && !expire.is_empty() {
        let message = format!("no `thaw` step, which turns expiry on: items of {} go on being kept", expire.join(", "));
        found.warn("steps", message);
    }
}
