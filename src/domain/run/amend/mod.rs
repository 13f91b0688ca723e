//! Amending the plan of a run: what may change at this moment, what may not, and why not.
//!
//! Two plans are compared field by field. Every struct of the plan is taken apart without `..`: a field that is added
//! to the plan does not compile here until somebody decides whether it may change under a run. The rules in words are
//! in `docs/amend.md`.

mod day;
mod phase;
mod record;
mod show;
mod tables;
mod watch;

use std::collections::BTreeSet;

pub use self::record::{Amended, Amendment, PlanChange};
pub(super) use self::record::{fold, may_follow};

use self::phase::Phase;
use self::show::{length, listed, on, option, text};
use super::state::RunState;
use crate::domain::at::At;
use crate::domain::plan::{Follow, Gate, Load, Plan, Reverse, Stores, Verify};

/// One field that differs between two plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, named as in the config: `steps.freeze.owner`.
    pub what: String,
    /// What the run goes by now.
    pub old: String,
    /// What it would go by.
    pub new: String,
    /// Whether it may change at this moment.
    pub decision: AmendDecision,
}

/// Whether a field may change at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmendDecision {
    /// It may. What follows from it, in words; empty when nothing but the change itself does.
    Allowed(String),
    /// It may not: why, and what to do instead.
    Refused(String),
}

/// How two plans differ for a run that stands where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Every field that differs, in the order of the plan.
    pub changes: Vec<Change>,
    /// Gates whose time held so far was held by other conditions: it begins anew.
    pub gates: Vec<String>,
    /// Tables whose mapping differs: the target has to be asked whether it still fits.
    pub tables: Vec<String>,
}

impl Difference {
    /// Changes that may not be made now.
    pub fn refused(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| matches!(c.decision, AmendDecision::Refused(_)))
    }
}

/// Compares the plan a run goes by with another one. Pure: the same plans and the same state give the same answer.
#[must_use]
pub fn difference(old: &Plan, new: &Plan, state: &RunState) -> Difference {
    let mut found = ChangeList { phase: Phase::of(old, state), changes: Vec::new() };
    plan(&mut found, old, new);
    let mapping = |id: &str| old.table(id).map(|t| (&t.columns, &t.children, &t.triggers));
    let differs = |id: &str| new.table(id).map(|t| (&t.columns, &t.children, &t.triggers)) != mapping(id);
    let tables = new.tables.iter().map(|t| t.id.clone()).filter(|id| differs(id)).collect();
    Difference { gates: gates_anew(old, new, state), tables, changes: found.changes }
}

/// Changes as they are found.
struct ChangeList<'a> {
    phase: Phase<'a>,
    changes: Vec<Change>,
}

impl ChangeList<'_> {
    /// A field that is one value.
    fn field<T: PartialEq>(
        &mut self,
        what: impl Into<String>,
        (old, new): (&T, &T),
        show: impl Fn(&T) -> String,
        rule: impl FnOnce(&Phase<'_>) -> AmendDecision,
    ) {
        if old != new {
            self.push(what.into(), (show(old), show(new)), rule);
        }
    }

    fn push(&mut self, what: String, (old, new): (String, String), rule: impl FnOnce(&Phase<'_>) -> AmendDecision) {
        let decision = self.phase.over().map_or_else(|| rule(&self.phase), AmendDecision::Refused);
        self.changes.push(Change { what, old, new, decision });
    }

    /// A list of things with names. `membership` judges what was added or taken away, and another order; `each`
    /// compares two of the same name.
    fn list<T>(
        &mut self,
        what: &str,
        (old, new): (&[T], &[T]),
        id: impl Fn(&T) -> &str,
        membership: impl Fn(&Phase<'_>, Member<'_, T>) -> AmendDecision,
        mut each: impl FnMut(&mut Self, &str, &T, &T),
    ) {
        let of = |all: &[T], name: &str| all.iter().position(|t| id(t) == name);
        for gone in old.iter().filter(|t| of(new, id(t)).is_none()) {
            let shown = ("there".to_owned(), "not there".to_owned());
            self.push(format!("{what}.{}", id(gone)), shown, |phase| membership(phase, Member::Gone(gone)));
        }
        for added in new.iter().filter(|t| of(old, id(t)).is_none()) {
            let shown = ("not there".to_owned(), "there".to_owned());
            self.push(format!("{what}.{}", id(added)), shown, |phase| membership(phase, Member::Added(added)));
        }
        let common = |all: &[T], other: &[T]| -> Vec<String> {
            all.iter().map(|t| id(t).to_owned()).filter(|name| of(other, name).is_some()).collect()
        };
        let (before, after) = (common(old, new), common(new, old));
        if before != after {
            self.push(what.to_owned(), (before.join(", "), after.join(", ")), |phase| membership(phase, Member::Order));
        }
        for one in old {
            if let Some(other) = of(new, id(one)).and_then(|place| new.get(place)) {
                each(self, &format!("{what}.{}", id(one)), one, other);
            }
        }
    }
}

/// What became of a list beside the things both have.
enum Member<'t, T> {
    Added(&'t T),
    Gone(&'t T),
    Order,
}

fn allowed(effect: &str) -> AmendDecision {
    AmendDecision::Allowed(effect.to_owned())
}

fn refused(why: impl Into<String>) -> AmendDecision {
    AmendDecision::Refused(why.into())
}

/// Allowed as long as `open`, else refused.
fn as_long_as(open: bool, effect: &str, why: &str) -> AmendDecision {
    if open { allowed(effect) } else { refused(why) }
}

const NEW_RUN: &str = "a run keeps it from its first fact to its last: open another run with `cutover run --new`";

fn plan(found: &mut ChangeList<'_>, old: &Plan, new: &Plan) {
    let Plan {
        name,
        environment,
        production,
        t0,
        downtime_budget_ms,
        tables,
        moves,
        stays,
        switches,
        freeze,
        probes,
        signals,
        gates,
        steps,
        load,
        follow,
        verify,
        reverse,
        stores,
        dials,
        jobs,
    } = old;
    found.field("name", (name, &new.name), text, |_| refused(NEW_RUN));
    found.field("environment", (environment, &new.environment), text, |_| refused(NEW_RUN));
    found.field("production", (production, &new.production), |b| on(*b), |_| refused(NEW_RUN));
    found.field(
        "t0",
        (t0, &new.t0),
        |t| option(t.as_ref(), |at: &At| at.date_clock()),
        |phase| {
            as_long_as(
                !phase.freeze_begun(),
                "every planned time moves with it",
                "T-0 has passed: the freeze has begun",
            )
        },
    );
    found.field(
        "downtime_budget",
        (downtime_budget_ms, &new.downtime_budget_ms),
        |ms| length(*ms),
        |phase| as_long_as(!phase.downtime_measured(), "", "the interruption is over and was measured against it"),
    );
    tables::tables(found, tables, &new.tables);
    tables::moves(found, moves, &new.moves);
    watch::stays(found, stays, &new.stays);
    day::switches(found, switches, &new.switches);
    day::dials(found, dials, &new.dials);
    day::jobs(found, jobs, &new.jobs);
    day::freeze(found, freeze.as_ref(), new.freeze.as_ref());
    watch::probes(found, probes, &new.probes);
    watch::signals(found, signals, &new.signals);
    day::gates(found, gates, &new.gates);
    day::steps(found, steps, &new.steps);
    moving(found, (load, &new.load), (follow, &new.follow));
    proving(found, (verify, &new.verify), (reverse, &new.reverse));
    stores_of(found, stores, &new.stores);
}

fn moving(found: &mut ChangeList<'_>, (load, new_load): (&Load, &Load), (follow, new_follow): (&Follow, &Follow)) {
    let Load { segments, workers, read_budget_rcu, write_budget_wcu, defer_indexes, sequences_by_hand } = load;
    let loading = |phase: &Phase<'_>| as_long_as(!phase.load_begun(), "", "the load has begun with it");
    let number = |n: &Option<u32>| option(n.as_ref(), ToString::to_string);
    found.field("load.segments", (segments, &new_load.segments), number, loading);
    found.field("load.workers", (workers, &new_load.workers), ToString::to_string, |_| allowed(""));
    let budget = |n: &Option<f64>| option(n.as_ref(), ToString::to_string);
    found.field("load.read_budget_rcu", (read_budget_rcu, &new_load.read_budget_rcu), budget, |_| allowed(""));
    found.field("load.write_budget_wcu", (write_budget_wcu, &new_load.write_budget_wcu), budget, |_| allowed(""));
    let defer = |b: &Option<bool>| option(b.as_ref(), |b| on(*b));
    found.field("load.defer_indexes", (defer_indexes, &new_load.defer_indexes), defer, loading);
    let by_hand = (sequences_by_hand, &new_load.sequences_by_hand);
    found.field(
        "load.sequences_by_hand",
        by_hand,
        |all| listed(all),
        |phase| as_long_as(!phase.decided(), "", "the switch has begun: sequences were moved before it"),
    );
    let Follow { poll_ms, batch, lanes, marker_every_ms } = follow;
    let millis = |ms: &u64| length(i64::try_from(*ms).unwrap_or(i64::MAX));
    found.field("follow.poll", (poll_ms, &new_follow.poll_ms), millis, |_| allowed(""));
    found.field("follow.batch", (batch, &new_follow.batch), ToString::to_string, |_| allowed(""));
    found.field("follow.lanes", (lanes, &new_follow.lanes), ToString::to_string, |_| allowed(""));
    found.field("follow.marker_every", (marker_every_ms, &new_follow.marker_every_ms), millis, |_| allowed(""));
}

fn proving(
    found: &mut ChangeList<'_>,
    (verify, new_verify): (&Verify, &Verify),
    (reverse, new_reverse): (&Reverse, &Reverse),
) {
    let millis = |ms: &u64| length(i64::try_from(*ms).unwrap_or(i64::MAX));
    let Verify { floor, settle_ms, segments, list_limit, continuous, every_ms, stale_ms } = verify;
    found.field("verify.floor", (floor, &new_verify.floor), ToString::to_string, |phase| {
        as_long_as(!phase.verify_done(), "", "every verify step is done and was judged by it")
    });
    found.field("verify.settle", (settle_ms, &new_verify.settle_ms), millis, |_| allowed(""));
    found.field("verify.segments", (segments, &new_verify.segments), ToString::to_string, |_| allowed(""));
    found.field("verify.list_limit", (list_limit, &new_verify.list_limit), ToString::to_string, |_| allowed(""));
    found.field("verify.continuous", (continuous, &new_verify.continuous), |b| on(*b), |_| allowed(""));
    found.field("verify.every", (every_ms, &new_verify.every_ms), millis, |_| allowed(""));
    found.field("verify.stale", (stale_ms, &new_verify.stale_ms), |ms| length(*ms), |_| allowed(""));
    let Reverse { enabled, poll_ms, batch, settle_ms, patience_ms } = reverse;
    found.field(
        "reverse.enabled",
        (enabled, &new_reverse.enabled),
        |b| on(*b),
        |phase| match *enabled {
            true => refused("the reverse flow is not closed under a run"),
            false => as_long_as(!phase.arm_begun(), "", "the arm step has begun, which is what makes it ready"),
        },
    );
    found.field("reverse.poll", (poll_ms, &new_reverse.poll_ms), millis, |_| allowed(""));
    found.field("reverse.batch", (batch, &new_reverse.batch), ToString::to_string, |_| allowed(""));
    found.field("reverse.settle", (settle_ms, &new_reverse.settle_ms), millis, |_| allowed(""));
    found.field("reverse.patience", (patience_ms, &new_reverse.patience_ms), millis, |_| allowed(""));
}

fn stores_of(found: &mut ChangeList<'_>, old: &Stores, new: &Stores) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (was, is) = (old.get(name), new.get(name));
        found.field(
            format!("stores.{name}"),
            (&was, &is),
            |store| option(store.as_ref(), ToString::to_string),
            |_| refused("a run is never taken to other stores: open another run there with `cutover run --new`"),
        );
    }
}

/// Gates that have held for a time by other conditions than the new plan's, or for another step.
fn gates_anew(old: &Plan, new: &Plan, state: &RunState) -> Vec<String> {
    let held = |id: &str| state.gates.get(id).is_some_and(|g| g.met_since.is_some() || g.held_ms > 0);
    let named = |plan: &Plan, step: &str| -> Vec<String> {
        plan.step(step).map(|s| s.kind.gates().to_vec()).unwrap_or_default()
    };
    let moved = |id: &String| {
        let open = new.steps.iter().filter(|s| !Phase::of(old, state).step_done(&s.id));
        open.into_iter().any(|s| named(new, &s.id).contains(id) && !named(old, &s.id).contains(id))
    };
    let judged = |gate: &Gate| {
        let same = old.gate(&gate.id).is_some_and(|was| was.criteria == gate.criteria && was.hold_ms == gate.hold_ms);
        same && gate.criteria.iter().all(|c| watch::measured_alike(old, new, &c.signal))
    };
    let anew = new.gates.iter().filter(|gate| held(&gate.id) && (!judged(gate) || moved(&gate.id)));
    anew.map(|gate| gate.id.clone()).collect()
}
