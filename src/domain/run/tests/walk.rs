//! Random walks: whatever happens in whatever order, the journal replays to the same state and a rollback is possible.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Turn {
    Tick(i64, Option<f64>),
    Perform(bool),
    Confirm,
    Skip,
    Retry,
    Pause,
    Continue,
    Restart,
    RollBack,
    StepBack,
    Undone(bool),
    Intent(u8, bool),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (0i64..20_000, prop::option::of(0.0f64..4.0)).prop_map(|(ms, lag)| Turn::Tick(ms, lag)),
        6 => prop::bool::weighted(0.9).prop_map(Turn::Perform),
        4 => Just(Turn::Confirm),
        1 => Just(Turn::Skip),
        2 => Just(Turn::Retry),
        1 => Just(Turn::Pause),
        2 => Just(Turn::Continue),
        1 => Just(Turn::Restart),
        1 => Just(Turn::RollBack),
        2 => Just(Turn::StepBack),
        1 => prop::bool::ANY.prop_map(Turn::Undone),
        2 => (0u8..4, prop::bool::ANY).prop_map(|(s, known)| Turn::Intent(s, known)),
    ]
}

fn take(run: &mut Run, turn: &Turn, n: usize) {
    let current = run.state.current().map(|i| run.plan.steps[i].id.clone()).unwrap_or_default();
    match turn {
        Turn::Tick(ms, lag) => run.tick(*ms, *lag),
        Turn::Perform(ok) => {
            if let Some((step, attempt)) = run.asked() {
                run.performed(&step, attempt, *ok);
            }
        }
        Turn::Confirm => drop(run.confirm(&current, Some("GO"))),
        Turn::Skip => drop(run.command(Command::Skip { step: current })),
        Turn::Retry => drop(run.command(Command::Retry { step: current })),
        Turn::Pause => drop(run.command(Command::Pause)),
        Turn::Continue => drop(run.command(Command::Continue)),
        Turn::Restart => {
            run.effects.clear();
            run.fold(vec![Event::RunResumed { operator: "bob".into(), host: "b".into() }]);
        }
        Turn::RollBack => drop(run.input(&Input::Rollback(Actor::Operator("a".into()), Cause::Asked))),
        Turn::StepBack => {
            let last = step_back(&run.plan, &run.state).map(|step| step.id.clone());
            if let Ok(step) = last {
                assert_eq!(run.command(Command::StepBack { step }), None, "what is offered is taken");
            }
        }
        Turn::Undone(ok) => {
            let event = if *ok {
                Event::RolledBack { took_ms: 1, evidence: vec![] }
            } else {
                Event::RollbackStuck { what: vec!["by hand".into()] }
            };
            drop(run.input(&Input::Stated(event)));
        }
        Turn::Intent(s, known) => {
            let switch = run.plan.switches[usize::from(*s) % run.plan.switches.len()].id.clone();
            let id = format!("{switch}/{n}");
            let dial = run.plan.dial_of(&switch);
            let position = dial.map(|dial| dial.positions[n % dial.positions.len()].name.clone());
            let action = Action::SetSwitch { switch, to: "new".into(), position };
            let intent = Event::Intent { id: id.clone(), step: Some(current), action };
            if run.input(&Input::Stated(intent)).is_none() && *known {
                let result = OutcomeResult::Done { read_back: "new".into(), version: None };
                drop(run.input(&Input::Stated(Event::Outcome { id, result })));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_journal_is_the_state_and_the_way_back_is_open(
        which in 0u8..3,
        turns in prop::collection::vec(turn(), 1..120),
    ) {
        let plan = match which {
            0 => plan(),
            1 => super::places::plan_of_two_regions(),
            _ => super::dials::plan_of_a_ramp(),
        };
        let mut run = Run::open_with(plan, Policy::default());
        for (n, turn) in turns.iter().enumerate() {
            let (locked_out, status) = (run.state.locked_out(&run.plan), run.state.status);
            take(&mut run, turn, n);
            if matches!(turn, Turn::Pause) && status != RunStatus::Paused && run.state.status == RunStatus::Paused {
                prop_assert!(!locked_out, "nobody pauses while customers are kept out");
            }
            prop_assert!(!run.state.frozen(&run.plan) || run.state.locked_out(&run.plan));
            // A switch that an intent touched is restored, whatever came of the intent, until it is read back as
            // restored: the end of a rollback is no such reading. The journal says what was touched, without the fold.
            let mut touched = BTreeSet::new();
            for fact in &run.facts {
                if let Event::Intent { action: Action::SetSwitch { switch, .. }, .. } = &fact.event {
                    touched.insert(switch.clone());
                }
            }
            let back = rollback_plan(&run.plan, &run.state);
            let undone: BTreeSet<String> = back.actions().map(|a| a.switch.clone()).collect();
            prop_assert_eq!(undone, touched);
        }
        // Replaying the journal gives the same state.
        let mut again = RunState::default();
        for fact in &run.facts {
            apply(&mut again, fact).expect("what was legal live is legal in replay");
        }
        prop_assert_eq!(&again, &run.state);
        // From wherever we are, rollback is taken and ends.
        if run.state.status != RunStatus::RollingBack {
            prop_assert_eq!(run.input(&Input::Rollback(Actor::Auto, Cause::Asked)), None);
            prop_assert!(run.effects.iter().any(|e| matches!(e, Effect::RollBack(..))));
        }
        prop_assert_eq!(run.state.status, RunStatus::RollingBack);
        prop_assert_eq!(run.input(&Input::Stated(Event::RolledBack { took_ms: 1, evidence: vec![] })), None);
        prop_assert_eq!(run.state.status, RunStatus::RolledBack);
    }

    #[test]
    fn a_switch_is_set_only_after_the_freeze_and_its_drain(turns in prop::collection::vec(turn(), 1..200)) {
        let mut run = Run::open(Policy::default());
        for (n, turn) in turns.iter().enumerate() {
            take(&mut run, turn, n);
            while let Some(place) = run.effects.iter().position(
                |e| matches!(e, Effect::Perform { step, .. } if step == "switch")) {
                prop_assert_eq!(run.status("drain"), StepStatus::Done);
                prop_assert_eq!(run.status("freeze"), StepStatus::Done);
                prop_assert!(run.state.decided.is_some(), "the decision is on record first");
                run.effects.remove(place);
            }
        }
    }
}
