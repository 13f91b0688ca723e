//! Switches with positions: where they stand, what decides, and what is measured of which position.

use super::*;

/// The plan, whose reads go up a ramp of three positions in two places before the freeze.
pub(in crate::domain::run) fn plan_of_a_ramp() -> Plan {
    let mut plan = plan();
    let switch = plan.switch("reads").unwrap().clone();
    let share = |share: u8| Serves {
        reads: Some(match share {
            0 => Side::Old,
            100 => Side::New,
            _ => Side::Both,
        }),
        writes: None,
        share: (1..100).contains(&share).then_some(share),
    };
    let position = |n: u8| Position {
        name: format!("{n} %"),
        serves: share(n),
        values: vec![ValueRef::Literal(n.to_string()), ValueRef::Literal(format!("{n} of 100"))],
    };
    plan.switches.retain(|s| s.id != "reads");
    for id in ["share-1", "share-2"] {
        let kind = SwitchKind::Parameter { name: format!("/{id}"), secure: false };
        plan.switches.push(Switch { id: id.into(), kind, ..switch.clone() });
    }
    plan.dials = vec![Dial {
        id: "share".into(),
        title: "reads".into(),
        places: vec!["share-1".into(), "share-2".into()],
        positions: [0, 10, 100].into_iter().map(position).collect(),
        effect_ms: 5_000,
    }];
    let ramp = |id: &str, to: &str| Step {
        kind: StepKind::Switch { switches: vec![], to: [("share".to_owned(), to.to_owned())].into() },
        id: id.into(),
        confirm: Confirm::None,
        ..plan.step("arm").unwrap().clone()
    };
    let steps = [ramp("some", "10 %"), ramp("all", "100 %")];
    let freeze = plan.steps.iter().position(|s| s.id == "freeze").unwrap();
    plan.steps.splice(freeze..freeze, steps);
    let switch = plan.steps.iter_mut().find(|s| s.id == "switch").unwrap();
    switch.kind = StepKind::Switch { switches: vec!["writes".into()], to: Default::default() };
    plan
}

fn stands(places: [(SwitchStatus, Option<&str>); 2]) -> RunState {
    let mut state = RunState::default();
    for (id, (standing, position)) in ["share-1", "share-2"].into_iter().zip(places) {
        let position = position.map(str::to_owned);
        state.switches.insert(id.into(), SwitchState { standing, position, ..SwitchState::default() });
    }
    state
}

#[test]
fn a_dial_stands_where_all_of_its_places_were_read_back() {
    use SwitchStatus::{New, Old, Restored, Unknown};
    let plan = plan_of_a_ramp();
    let dial = &plan.dials[0];
    let table = [
        ([(Old, None), (Old, None)], Stands::At(0)),
        ([(New, Some("10 %")), (Old, None)], Stands::Between(0, 1)),
        ([(New, Some("10 %")), (New, Some("10 %"))], Stands::At(1)),
        ([(New, Some("100 %")), (New, Some("10 %"))], Stands::Between(1, 2)),
        ([(Unknown, Some("10 %")), (New, Some("10 %"))], Stands::Unknown),
        ([(New, None), (New, Some("10 %"))], Stands::Unknown),
        ([(New, Some("50 %")), (New, Some("50 %"))], Stands::Unknown),
        ([(Restored, None), (Restored, None)], Stands::At(0)),
        ([(Restored, None), (New, Some("100 %"))], Stands::Between(0, 2)),
    ];
    for (places, stood) in table {
        let state = RunState { status: RunStatus::Running, ..stands(places) };
        assert_eq!(state.stands(dial), stood, "{places:?}");
        assert_eq!(state.serves(dial).is_some(), matches!(stood, Stands::At(_)), "{places:?}");
        let resting = matches!(stood, Stands::At(_));
        assert_eq!(between(&plan, &state), !resting, "half-way up a ramp is no trouble, half of a step is: {places:?}");
    }
    assert_eq!(RunState::default().stands(dial), Stands::At(0));
}

/// Does what each step's workers would, up to the end of `last`.
fn up_to(last: &str) -> Run {
    let mut run = Run::open_with(plan_of_a_ramp(), Policy::default());
    run.drive_past(last);
    run
}

#[test]
fn a_ramp_decides_nothing_and_the_way_back_leads_to_where_it_began() {
    let run = up_to("all");
    assert_eq!(run.state.decided, None, "only writes are past turning back");
    assert_eq!(run.state.stands(&run.plan.dials[0]), Stands::At(2));
    let back = rollback_plan(&run.plan, &run.state);
    let restored: Vec<&str> = back.actions().map(|a| a.switch.as_str()).collect();
    assert_eq!(restored.len(), 2, "{restored:?}");
    let run = up_to("switch");
    assert!(run.state.decided.is_some());
}

#[test]
fn what_customers_were_answered_before_a_switch_says_nothing_of_the_new_position() {
    let mut plan = plan_of_a_ramp();
    plan.signals.push(Signal {
        id: "errors".into(),
        unit: "%".into(),
        source: SignalSource::ProbeErrors("w".into()),
        side: Side::Both,
        limit: None,
        stale_ms: 60_000,
    });
    let gate = Gate { criteria: vec![Criterion::with("errors", Op::Below, 1.0)], ..plan.gates[0].clone() };
    let state = |settled: Option<i64>| {
        let evidence = settled.map(|at| Evidence {
            name: "effect".into(),
            value: String::new(),
            at: At(at),
            source: String::new(),
            good: true,
        });
        let step = StepState { id: "some".into(), evidence: evidence.into_iter().collect(), ..StepState::default() };
        RunState { steps: vec![step], ..RunState::default() }
    };
    let judged = |state: &RunState, at: i64| {
        let mut measured = Measured { at: At(30_000), ..Measured::default() };
        let stats = crate::domain::gauge::ProbeStats { count: 100, at: At(at), ..Default::default() };
        measured.probes.insert("w".into(), stats);
        judge_gate(&plan, state, &measured, &gate)
    };
    let early = judged(&state(Some(25_000)), 24_999);
    assert!(!early.met && !early.contradicted && early.evidence[0].value.contains("before the switch"), "{early:?}");
    assert!(judged(&state(Some(25_000)), 25_000).met);
    assert!(judged(&state(None), 10_000).met, "nothing has moved");
}

#[test]
fn as_good_as_before_is_judged_by_what_was_measured_before_and_by_nothing_else() {
    let mut plan = plan_of_a_ramp();
    let signal = |id: &str| Signal {
        id: id.into(),
        unit: "ms".into(),
        source: SignalSource::ProbeP95(id.into()),
        side: Side::Both,
        limit: None,
        stale_ms: 60_000,
    };
    plan.signals.extend([signal("p95"), signal("old")]);
    let from = |of: Option<&str>, percent| {
        let baseline = Some(FromBaseline { of: of.map(str::to_owned), percent });
        Gate {
            criteria: vec![Criterion { baseline, ..Criterion::with("p95", Op::AtMost, 5.0) }],
            ..plan.gates[0].clone()
        }
    };
    let mut measured = Measured { at: At(30_000), ..Measured::default() };
    let stats = crate::domain::gauge::ProbeStats { p95_ms: Some(125.0), at: At(30_000), ..Default::default() };
    measured.probes.insert("p95".into(), stats);
    let mut state = RunState::default();
    let judged = |state: &RunState, gate: &Gate| judge_gate(&plan, state, &measured, gate);

    let unknown = judged(&state, &from(None, 20.0));
    assert!(!unknown.met && !unknown.contradicted, "{unknown:?}");
    assert_eq!(unknown.evidence[0].name, "p95 <= baseline + 20% + 5ms");
    assert_eq!(unknown.evidence[0].value, "125ms, no baseline of p95");

    for (signal, value) in [("p95", 100.0), ("old", 10.0)] {
        let baseline = Baseline { value, median: value, p95: value, samples: 9, from: At(1), to: At(2) };
        state.baselines.insert(signal.into(), baseline);
    }
    let good = judged(&state, &from(None, 20.0));
    assert!(good.met, "{good:?}");
    assert_eq!(good.evidence[0].value, "125ms, limit 125ms");
    let bad = judged(&state, &from(None, 19.0));
    assert!(!bad.met && bad.contradicted, "{bad:?}");
    assert!(!judged(&state, &from(Some("old"), 20.0)).met, "the other one's is lower");
}

/// Takes the last switch step back, as its worker would.
fn take_back(run: &mut Run, step: &str) {
    assert_eq!(run.command(Command::StepBack { step: step.into() }), None);
    let (asked, attempt) = run.asked().expect("it is performed at once");
    assert_eq!(asked, step);
    let to = run.plan.changes(step)[0].moves.unwrap();
    let before = to.dial.positions[to.from].name.clone();
    for place in to.dial.places.clone() {
        let id = format!("{step}/{place}/{attempt}");
        let action = Action::SetSwitch { switch: place, to: "x".into(), position: Some(before.clone()) };
        run.input(&Input::Stated(Event::Intent { id: id.clone(), step: Some(step.into()), action }));
        let result = OutcomeResult::Done { read_back: "x".into(), version: Some(3) };
        run.input(&Input::Stated(Event::Outcome { id, result }));
    }
    run.performed(step, attempt, true);
}

#[test]
fn one_step_back_leads_to_the_position_before_and_a_person_lets_it_go_on() {
    let mut run = up_to("all");
    let dial = run.plan.dials[0].clone();
    let begun = run.state.step("all").unwrap().started.unwrap();
    take_back(&mut run, "all");
    assert_eq!((run.state.stands(&dial), run.state.status), (Stands::At(1), RunStatus::Running));
    assert_eq!(run.state.step("all").unwrap().started, None, "it begins when it begins again");
    // What was said beforehand (`--yes`) was said of the first time.
    run.policy = Policy { auto_confirm: true, stand_ins: true, ..Policy::default() };
    run.tick(1_000, Some(0.5));
    assert_eq!(run.status("all"), StepStatus::Held);
    let held = run.state.step("all").unwrap().held.clone().unwrap();
    assert!(held.contains("alice took it back"), "{held}");
    assert!(run.asked().is_none());
    take_back(&mut run, "some");
    assert_eq!(run.state.stands(&dial), Stands::At(0));
    let refused = run.command(Command::StepBack { step: "some".into() });
    assert!(refused.is_some_and(|r| r.0.contains("switched anything")));
    run.policy = Policy::default();
    // Forward again, by hand, as often as it was taken back.
    for step in ["some", "all"] {
        run.tick(1_000, Some(0.5));
        assert_eq!(run.status(step), StepStatus::Held, "{step}");
        assert_eq!(run.confirm(step, None), None);
        run.drive_past(step);
    }
    assert_eq!(run.state.stands(&dial), Stands::At(2));
    let all = run.state.step("all").unwrap();
    assert_eq!(all.taken_back, None);
    assert!(all.started.is_some_and(|again| again > begun), "{all:?}");
    // Which steps went back, and by whom, stays on record.
    let back: Vec<(&str, &str)> =
        run.state.steps_back.iter().map(|b| (b.step.as_str(), b.by.as_ref().map_or("", Actor::name))).collect();
    assert_eq!(back, [("all", "alice"), ("some", "alice")]);
}

#[test]
fn a_step_back_is_refused_where_only_a_rollback_leads_back() {
    for (last, step, says) in [
        ("in-sync", "some", "switched anything"),
        ("freeze", "all", "freeze has begun since"),
        ("switch", "switch", "have no positions"),
    ] {
        let mut run = up_to(last);
        let refused = run.command(Command::StepBack { step: step.into() });
        assert!(refused.as_ref().is_some_and(|r| r.0.contains(says)), "{last}: {refused:?}");
    }
    let mut run = up_to("all");
    let refused = run.command(Command::StepBack { step: "some".into() });
    assert!(refused.is_some_and(|r| r.0.contains("that is all")), "what the person was shown is not what is last");
    run.input(&Input::Rollback(Actor::Auto, Cause::Asked));
    assert!(run.command(Command::StepBack { step: "all".into() }).is_some());
}

#[test]
fn what_a_step_that_moves_writes_did_is_not_taken_back_by_one_step() {
    let mut run = up_to("all");
    for position in &mut run.plan.dials[0].positions {
        position.serves.writes = position.serves.reads;
        position.serves.share = None;
    }
    let refused = run.command(Command::StepBack { step: "all".into() });
    assert!(refused.is_some_and(|r| r.0.contains("moved writes")));
}

#[test]
fn a_step_back_that_is_cut_off_is_taken_up_and_a_rollback_takes_over() {
    let mut run = up_to("all");
    assert_eq!(run.command(Command::StepBack { step: "all".into() }), None);
    assert!(run.effects.contains(&Effect::Cancel), "nothing else goes on meanwhile");
    assert!(run.asked().is_some());
    run.input(&Input::Stated(Event::RunResumed { operator: "bob".into(), host: "b".into() }));
    run.tick(1_000, Some(0.5));
    let (step, attempt) = run.asked().expect("taken up");
    assert!(step == "all" && run.state.step("all").unwrap().back.is_some());
    // Where it fails it is tried again, still back.
    run.performed("all", attempt, false);
    assert!(run.command(Command::Skip { step: "all".into() }).is_some());
    assert_eq!(run.command(Command::Retry { step: "all".into() }), None);
    assert!(run.state.step("all").unwrap().back.is_some());
    run.input(&Input::Rollback(Actor::Operator("alice".into()), Cause::Asked));
    assert_eq!(run.state.status, RunStatus::RollingBack);
    assert_eq!(rollback_plan(&run.plan, &run.state).actions().count(), 2);
}

#[test]
fn gates_between_two_positions_are_judged_again() {
    let mut plan = plan_of_a_ramp();
    let gate = Step { id: "between".into(), ..plan.step("in-sync").unwrap().clone() };
    let all = plan.steps.iter().position(|s| s.id == "all").unwrap();
    plan.steps.insert(all, gate);
    let mut run = Run::open_with(plan, Policy::default());
    run.drive_past("all");
    take_back(&mut run, "all");
    assert_eq!(run.status("between"), StepStatus::Running, "judged again, from the beginning of its hold");
    assert_eq!(run.status("some"), StepStatus::Done);
    assert_eq!(run.status("in-sync"), StepStatus::Done, "it let the day begin, and says nothing of a position");
}

#[test]
fn a_step_back_ends_while_the_run_is_paused() {
    let mut run = up_to("all");
    assert_eq!(run.command(Command::StepBack { step: "all".into() }), None);
    let (step, attempt) = run.asked().expect("it is performed at once");
    assert_eq!(run.command(Command::Pause), None);
    run.performed(&step, attempt, true);
    assert_eq!(run.state.step("all").unwrap().back, None);
    assert_eq!(run.state.status, RunStatus::Paused);
    assert_eq!(run.command(Command::Continue), None);
    assert_eq!(run.status("all"), StepStatus::Held, "somebody lets it go forward again");
}

#[test]
fn a_step_that_waits_again_half_way_is_what_is_taken_back() {
    let mut run = up_to("some");
    let state = run.state.steps.iter_mut().find(|s| s.id == "all").unwrap();
    (state.status, state.attempts) = (StepStatus::Held, 1);
    assert_eq!(step_back(&run.plan, &run.state).map(|s| s.id.as_str()), Ok("all"));
    let state = run.state.steps.iter_mut().find(|s| s.id == "all").unwrap();
    state.taken_back = Some(Actor::Auto);
    assert_eq!(step_back(&run.plan, &run.state).map(|s| s.id.as_str()), Ok("some"));
}

#[test]
fn what_a_metric_was_measured_over_may_reach_back_before_a_switch() {
    use crate::domain::run::dials::covers_ms;
    let metric = |statistic: &str| {
        covers_ms(&SignalSource::CloudWatch(Metric {
            namespace: "App".into(),
            name: "Success".into(),
            dimensions: vec![],
            statistic: statistic.into(),
            period_s: 60,
        }))
    };
    assert_eq!((metric("Average"), metric("p95")), (Some(60_000), Some(60_000)));
    assert_eq!(metric("Sum"), Some(300_000), "a minute that is under way, and those before it");
    assert_eq!(covers_ms(&SignalSource::Mismatches), None);
}

#[test]
fn what_was_answered_beforehand_does_not_speak_again_where_a_step_back_has_it_judged_again() {
    let mut plan = plan_of_a_ramp();
    let board = Step {
        id: "board".into(),
        kind: StepKind::GoNoGo { gates: vec![], voters: vec![], quorum: 0 },
        confirm: Confirm::Key,
        ..plan.step("arm").unwrap().clone()
    };
    let all = plan.steps.iter().position(|s| s.id == "all").unwrap();
    plan.steps.insert(all, board);
    let mut policy = Policy { unattended: true, ..Policy::default() };
    policy.answers.insert("board".into(), vec!["dora".into()]);
    let mut run = Run::open_with(plan, policy);
    run.drive_past("all");
    assert_eq!(run.state.step("board").unwrap().confirmed, Some(Actor::Answered("dora".into())));
    take_back(&mut run, "all");
    run.tick(1_000, Some(0.5));
    let board = run.state.step("board").unwrap();
    assert_eq!((board.status, board.confirmed.as_ref()), (StepStatus::Held, None), "dora spoke of the first time");
    assert_eq!(board.held.as_deref(), Some("somebody must start it"), "no flag is named that would not be heard");
    assert_eq!(run.confirm("board", None), None);
    run.drive_past("board");
    assert!(!run.state.step("board").unwrap().again);
}

#[test]
fn a_value_that_a_reference_gave_is_put_back_only_by_the_version_it_had() {
    let of = |version: Option<i64>| {
        let mut plan = plan_of_a_ramp();
        plan.dials[0].positions[1].values[1] = ValueRef::Env("SHARE".into());
        let mut run = Run::open_with(plan, Policy::default());
        run.drive_past("all");
        let place = run.state.switches.get_mut("share-2").unwrap();
        place.versions = version.map(|version| ("10 %".to_owned(), version)).into_iter().collect();
        step_back(&run.plan, &run.state).map(|step| step.id.clone())
    };
    assert_eq!(of(Some(4)), Ok("all".to_owned()));
    let refused = of(None).unwrap_err();
    assert!(refused.contains("`share-2`") && refused.contains("only a rollback"), "{refused}");
}

/// The ramp with a gate behind its last position that takes it back by itself.
fn plan_that_steps_back() -> Plan {
    let mut plan = plan_of_a_ramp();
    let (on_fail, give_up_ms) = (OnFail::StepBack, Some(5_000));
    plan.gates.push(Gate { id: "share".into(), on_fail, give_up_ms, hold_ms: 1_000, ..plan.gates[0].clone() });
    let kind = StepKind::Gate { gate: "share".into() };
    let gate = Step { id: "share-well".into(), kind, ..plan.step("in-sync").unwrap().clone() };
    let all = plan.steps.iter().position(|s| s.id == "all").unwrap();
    plan.steps.insert(all + 1, gate);
    plan
}

/// A breach until the gate gives up, and the step back performed; the attempt it was.
fn breach(run: &mut Run) -> u32 {
    for _ in 0..7 {
        run.tick(1_000, Some(9.0));
    }
    let (step, attempt) = run.asked().expect("the last position is taken back");
    assert_eq!((step.as_str(), run.state.step("all").unwrap().back.clone()), ("all", Some(Actor::Auto)));
    run.performed("all", attempt, true);
    attempt
}

#[test]
fn a_gate_takes_the_last_position_back_by_itself_and_a_person_lets_it_go_on() {
    let mut run = Run::open_with(plan_that_steps_back(), Policy::default());
    run.drive_past("all");
    breach(&mut run);
    assert_eq!((run.status("all"), run.status("share-well")), (StepStatus::Held, StepStatus::Todo));
    assert_eq!((run.status("some"), run.state.status), (StepStatus::Done, RunStatus::Running));
    let said =
        |e: &Event| matches!(e, Event::Note { text, .. } if text == "share was not met: all is taken back by itself");
    assert_eq!(run.facts.iter().filter(|f| said(&f.event)).count(), 1);
    assert_eq!(run.confirm("all", None), None);
    run.drive_past("all");
    assert_eq!(run.status("share-well"), StepStatus::Running, "judged from the beginning");
}

#[test]
fn in_a_rehearsal_what_took_itself_back_goes_forward_once_more_and_not_for_ever() {
    let policy = Policy { auto_confirm: true, stand_ins: true, unattended: true, ..Policy::default() };
    let mut run = Run::open_with(plan_that_steps_back(), policy);
    run.drive_past("all");
    breach(&mut run);
    let (step, attempt) = run.asked().expect("in the name of its owner");
    assert_eq!((step.as_str(), attempt), ("all", 3));
    run.performed("all", attempt, true);
    breach(&mut run);
    assert_eq!((run.status("all"), run.asked()), (StepStatus::Held, None));
}

#[test]
fn a_gate_steps_back_only_where_one_step_leads_back() {
    let plan = plan_that_steps_back();
    let at = |id: &str| plan.steps.iter().position(|s| s.id == id).unwrap();
    assert_eq!(leads_back(&plan, at("share-well")).map(|s| s.id.as_str()), Ok("all"));
    assert_eq!(leads_back(&plan, at("freeze")).map(|s| s.id.as_str()), Ok("all"));
    for (before, says) in
        [("in-sync", "switches anything"), ("drain", "`freeze` after `all`"), ("healthy", "no positions")]
    {
        let why = leads_back(&plan, at(before)).unwrap_err();
        assert!(why.contains(says), "{before}: {why}");
    }
}

#[test]
fn a_baseline_is_kept_by_the_record_and_the_last_one_counts() {
    let mut run = up_to("all");
    for value in [7.0, 9.0] {
        let baseline = Baseline { value, median: 1.0, p95: value, samples: 20, from: At(1), to: At(2) };
        run.input(&Input::Stated(Event::BaselineTaken { signal: "p95".into(), baseline }));
    }
    assert_eq!(run.state.baselines["p95"].value, 9.0);
}
