//! The runbook the model walks through, and the first fact of its run.

use cutover::domain::at::At;
use cutover::domain::plan::{
    CONTROL, Confirm, Follow, Freeze, Load, Plan, Start, Step, StepKind, Switch, SwitchKind, ValueRef, Verify,
};
use cutover::domain::run::Event;

fn step(id: &str, kind: StepKind) -> Step {
    Step {
        id: id.into(),
        title: id.into(),
        at_ms: 0,
        takes_ms: 1,
        owner: "lead".into(),
        kind,
        start: Start::WhenReady,
        confirm: Confirm::None,
        two_person: false,
        undo: String::new(),
    }
}

fn switch(id: &str, to: &str) -> Switch {
    let kind = SwitchKind::Parameter { name: format!("/{id}"), secure: false };
    let control = CONTROL.to_owned();
    let to = ValueRef::Literal(to.into());
    Switch { id: id.into(), title: id.into(), kind, control, expect: None, to, exercise: true }
}

/// Every step that moves data or changes a switch, in the shipped plan's order.
pub fn plan() -> Plan {
    Plan {
        name: "model".into(),
        environment: "model".into(),
        production: false,
        t0: None,
        downtime_budget_ms: 1,
        tables: vec![],
        moves: vec![],
        stays: vec![],
        switches: vec![switch("mode", "frozen"), switch("writes", "new")],
        freeze: Some(Freeze {
            switches: vec!["mode".into()],
            probes: vec!["write".into()],
            settle_ms: 0,
            timeout_ms: 1,
        }),
        probes: vec![],
        signals: vec![],
        gates: vec![],
        steps: vec![
            step("capture", StepKind::Capture),
            step("load", StepKind::Load),
            step("arm", StepKind::Arm),
            step("freeze", StepKind::Freeze),
            step("drain", StepKind::Drain),
            step("switch", StepKind::Switch { switches: vec!["writes".into()], to: Default::default() }),
            step("thaw", StepKind::Thaw),
        ],
        load: Load { segments: Some(1), workers: 1, ..Load::default() },
        follow: Follow { lanes: 1, poll_ms: 1, batch: 1, marker_every_ms: 1 },
        verify: Verify { floor: 1.0, settle_ms: 0, segments: 1, list_limit: 1, ..Verify::default() },
        reverse: cutover::domain::plan::Reverse::default(),
        stores: cutover::domain::plan::Stores::new(),
        dials: vec![],
        jobs: vec![],
    }
}

/// The run is opened.
pub fn opened(plan: &Plan) -> Event {
    Event::RunOpened {
        run: "model".into(),
        plan: plan.name.clone(),
        plan_hash: String::new(),
        environment: plan.environment.clone(),
        operator: "alice".into(),
        host: "bastion".into(),
        version: "0".into(),
        t0: At(0),
        steps: plan.steps.iter().map(|s| s.id.clone()).collect(),
        callers: Default::default(),
    }
}
