//! Where the run stands, as far as workers must know it while they work: read from the fold, never kept beside it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::plan::{Plan, StepKind};
use crate::domain::run::{RunState, SwitchStatus};

/// What decides what a worker may do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Customers are kept out somewhere, or are about to be.
    pub locked_out: bool,
    /// They are in every place, as far as it was set: nothing moves.
    pub frozen_everywhere: bool,
    /// Customers may write on the new side, from the moment the thaw begins.
    pub open_to_customers: bool,
    /// A rollback was ordered: the old side's customers win, and their writes are no strays.
    pub rolling_back: bool,
    /// A rollback has ended: the new side is followed no more, and the price is what it was then.
    pub rolled_back: bool,
}

/// The [`Standing`] of now, with the number of the fact it was read from.
#[derive(Debug, Default)]
pub(super) struct Current(Mutex<(u64, Standing)>);

impl Current {
    /// Takes what the fold says; one that is older than the last is ignored. The rollback thread waits for no fold, so
    /// what it has said of itself stays.
    pub fn learn(&self, plan: &Plan, state: &RunState) {
        let mut kept = self.locked();
        if state.last_seq < kept.0 {
            return;
        }
        let before = kept.1;
        let thaw = plan.steps.iter().find(|s| s.kind == StepKind::Thaw).and_then(|s| state.step(&s.id));
        *kept = (
            state.last_seq,
            Standing {
                locked_out: state.locked_out(plan) && (state.downtime.refused.is_some() || freezes(plan, state)),
                frozen_everywhere: state.frozen_everywhere(plan),
                open_to_customers: thaw.is_some_and(|s| s.attempts > 0),
                rolling_back: before.rolling_back || state.rollback.is_some(),
                rolled_back: before.rolled_back,
            },
        );
    }

    /// A rollback was ordered.
    pub fn begin_rollback(&self) {
        self.locked().1.rolling_back = true;
    }

    /// A rollback has ended.
    pub fn end_rollback(&self) {
        self.locked().1.rolled_back = true;
    }

    /// What stands now.
    pub fn now(&self) -> Standing {
        self.locked().1
    }

    fn locked(&self) -> MutexGuard<'_, (u64, Standing)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a switch that freezes writes may have been set: before that, customers write whatever step has begun.
fn freezes(plan: &Plan, state: &RunState) -> bool {
    let mut switches = plan.freeze_switches().filter_map(|switch| state.switches.get(&switch.id));
    switches.any(|switch| matches!(switch.standing, SwitchStatus::New | SwitchStatus::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;
    use crate::domain::run::{Action, Event, OutcomeResult};
    use crate::workers::tests::world::World;

    #[test]
    fn an_older_fold_says_nothing_any_more() {
        let world = World::new();
        let current = Current::default();
        world.journal.start("freeze");
        let frozen = world.journal.state();
        world.journal.start("thaw");
        current.learn(&world.plan, &world.journal.state());
        current.learn(&world.plan, &frozen);
        assert!(current.now().open_to_customers, "once open, open");
        let before = current.now();
        current.learn(&world.plan, &RunState::default());
        assert_eq!(current.now(), before);
    }

    #[test]
    fn an_ordered_rollback_waits_for_no_fold_and_no_fold_takes_it_back() {
        let world = World::new();
        let current = Current::default();
        current.begin_rollback();
        current.end_rollback();
        current.learn(&world.plan, &world.journal.state());
        let Standing { rolling_back, rolled_back, .. } = current.now();
        assert!(rolling_back && rolled_back);
    }

    #[test]
    fn writes_are_not_frozen_before_the_switch_may_have_been_set() {
        let world = World::new();
        let current = Current::default();
        let frozen = || {
            current.learn(&world.plan, &world.journal.state());
            current.now().locked_out
        };
        world.journal.start("freeze");
        assert!(!frozen(), "the step looks around first, and may end there");
        let action = Action::SetSwitch {
            switch: world.plan.freeze.clone().unwrap().switches[0].clone(),
            to: "frozen".into(),
            position: None,
        };
        world.journal.fact(Event::Intent { id: "freeze/1".into(), step: Some("freeze".into()), action }).unwrap();
        assert!(frozen(), "nobody knows");
        let result = OutcomeResult::Done { read_back: "frozen".into(), version: None };
        world.journal.fact(Event::Outcome { id: "freeze/1".into(), result }).unwrap();
        assert!(frozen());
        world.journal.fact(Event::WritesRefused { at: At(1) }).unwrap();
        assert!(frozen());
    }
}
