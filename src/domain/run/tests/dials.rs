//! Switches with positions: where they stand, what decides, and what is measured of which position.

use super::*;

/// The plan, whose reads go up a ramp of three positions in two places before the freeze.
pub(super) fn plan_of_a_ramp() -> Plan {
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
    let mut run = Run::open_with(plan_of_a_ramp(), Policy { auto_confirm: true, stand_ins: true, ..Policy::default() });
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
    let gate = Gate {
        criteria: vec![Criterion { signal: "errors".into(), op: Op::Below, value: 1.0 }],
        ..plan.gates[0].clone()
    };
    let mut state = stands([(SwitchStatus::New, Some("10 %")); 2]);
    for switch in state.switches.values_mut() {
        switch.read_at = Some(At(20_000));
    }
    let judged = |state: &RunState, at: i64| {
        let mut measured = Measured { at: At(30_000), ..Measured::default() };
        let stats = crate::domain::gauge::ProbeStats { count: 100, at: At(at), ..Default::default() };
        measured.probes.insert("w".into(), stats);
        judge_gate(&plan, state, &measured, &gate)
    };
    let early = judged(&state, 24_999);
    assert!(!early.met && !early.contradicted && early.evidence[0].value.contains("before the switch"), "{early:?}");
    assert!(judged(&state, 25_000).met);
    assert!(judged(&stands([(SwitchStatus::Old, None); 2]), 10_000).met, "nothing has moved");
}
