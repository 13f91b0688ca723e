//! The run, driven by hand: a small plan, scripted performers, and random walks.

mod alerts;
mod amend;
mod clock;
pub(super) mod dials;
mod holds;
mod people;
mod places;
mod script;
mod walk;

use super::*;
use crate::domain::at::At;
use crate::domain::gauge::{Lag, Measured, Reading, TableGauge};
use crate::domain::plan::*;

/// A plan with every kind of turn a run can take.
pub(super) fn plan() -> Plan {
    let step = |id: &str, at_min: i64, kind: StepKind, confirm: Confirm| Step {
        id: id.into(),
        title: id.into(),
        at_ms: at_min * 60_000,
        takes_ms: 60_000,
        owner: "lead".into(),
        kind,
        two_person: false,
        start: Start::WhenReady,
        confirm,
        undo: String::new(),
    };
    let switch = |id: &str, to: &str| Switch {
        id: id.into(),
        title: id.into(),
        kind: SwitchKind::Parameter { name: format!("/{id}"), secure: false },
        control: CONTROL.to_owned(),
        expect: None,
        to: ValueRef::Literal(to.into()),
        exercise: true,
    };
    let gate = |id: &str, on_fail, hold_ms| Gate {
        id: id.into(),
        title: id.into(),
        criteria: vec![Criterion::with("lag", Op::Below, 2.0)],
        hold_ms,
        give_up_ms: Some(60_000),
        on_fail,
    };
    let mut thaw = step("thaw", 30, StepKind::Thaw, Confirm::None);
    thaw.start = Start::WhenReady;
    Plan {
        name: "shop".into(),
        environment: "test".into(),
        production: false,
        t0: None,
        downtime_budget_ms: 300_000,
        tables: vec![Table {
            id: "books".into(),
            from: OLD.to_owned(),
            source: "Books".into(),
            to: NEW.to_owned(),
            target: "books".into(),
            key: vec!["id".into()],
            columns: vec![],
            children: vec![],
            foreign_keys: vec![],
            ttl: None,
            marker_prefix: "m#".into(),
            ddl: None,
            triggers: vec![],
            leave_out: vec![],
            after_load: vec![],
            mover: None,
        }],
        moves: vec![],
        stays: vec![],
        switches: vec![switch("mode", "frozen"), switch("reads", "new"), switch("writes", "new")],
        freeze: Some(Freeze { switches: vec!["mode".into()], probes: vec!["w".into()], settle_ms: 0, timeout_ms: 1 }),
        probes: vec![],
        signals: vec![Signal {
            id: "lag".into(),
            unit: "s".into(),
            source: SignalSource::Lag,
            side: Side::Both,
            limit: Some(30.0),
            stale_ms: 5_000,
        }],
        gates: vec![
            gate("sync", OnFail::Hold, 10_000),
            gate("healthy", OnFail::RollBack, 1_000),
            gate("burn", OnFail::RollBack, 5_000),
        ],
        steps: vec![
            step("load", -60, StepKind::Load, Confirm::None),
            step("in-sync", -20, StepKind::Gate { gate: "sync".into() }, Confirm::None),
            step("team", -10, StepKind::Manual { what: "call".into() }, Confirm::Key),
            step("arm", -5, StepKind::Arm, Confirm::None),
            step("freeze", 0, StepKind::Freeze, Confirm::Word("GO".into())),
            step("drain", 5, StepKind::Drain, Confirm::None),
            step(
                "switch",
                15,
                StepKind::Switch { switches: vec!["reads".into(), "writes".into()], to: Default::default() },
                Confirm::None,
            ),
            step("healthy", 20, StepKind::Gate { gate: "healthy".into() }, Confirm::None),
            thaw,
            step("burn-in", 30, StepKind::Gate { gate: "burn".into() }, Confirm::None),
        ],
        load: Load { segments: Some(1), workers: 1, ..Load::default() },
        follow: Follow { lanes: 1, poll_ms: 100, batch: 100, marker_every_ms: 1000 },
        verify: Verify { floor: 0.999, settle_ms: 100, segments: 1, list_limit: 10, ..Verify::default() },
        reverse: crate::domain::plan::Reverse::default(),
        stores: crate::domain::plan::Stores::new(),
        dials: vec![],
        jobs: vec![],
    }
}

/// A run in the core's hands: the journal it would write and the effects it asked for.
pub(super) struct Run {
    pub plan: Plan,
    pub policy: Policy,
    pub state: RunState,
    pub facts: Vec<Fact>,
    pub effects: Vec<Effect>,
    pub now: At,
    pub waiting: Option<(String, At)>,
}

impl Run {
    pub fn open(policy: Policy) -> Self {
        Self::open_with(plan(), policy)
    }

    pub fn open_with(plan: Plan, policy: Policy) -> Self {
        let steps = plan.steps.iter().map(|s| s.id.clone()).collect();
        let opened = Event::RunOpened {
            run: "r1".into(),
            plan: "shop".into(),
            plan_hash: plan.hash(),
            environment: "test".into(),
            operator: "alice".into(),
            host: "bastion".into(),
            version: "0".into(),
            t0: At(3_600_000),
            steps,
            callers: Default::default(),
        };
        let mut run = Self {
            plan,
            policy,
            state: RunState::default(),
            facts: vec![],
            effects: vec![],
            now: At(0),
            waiting: None,
        };
        run.fold(vec![opened]);
        run
    }

    fn fold(&mut self, events: Vec<Event>) {
        for event in events {
            let fact = Fact { seq: self.state.last_seq + 1, at: self.now, event };
            apply(&mut self.state, &fact).expect("decide emits only legal events");
            self.facts.push(fact);
        }
    }

    pub fn input(&mut self, input: &Input<'_>) -> Option<Refusal> {
        let d = decide(&self.plan, &self.state, &self.policy, input, self.now);
        self.fold(d.events);
        self.effects.extend(d.effects);
        self.waiting = d.waiting;
        d.refused
    }

    pub fn tick(&mut self, ms: i64, lag_s: Option<f64>) {
        self.now = self.now.plus(ms);
        let lag = Lag {
            apply: lag_s.map_or_else(Reading::default, |s| Reading::new(s * 1000.0, self.now)),
            ..Lag::default()
        };
        let measured = Measured {
            at: self.now,
            tables: [("books".to_owned(), TableGauge { lag, ..TableGauge::default() })].into(),
            at_risk: Some(0),
            ..Measured::default()
        };
        self.input(&Input::Tick(&measured));
    }

    /// The step the core last asked to be performed, taken out.
    pub fn asked(&mut self) -> Option<(String, u32)> {
        let place = self.effects.iter().position(|e| matches!(e, Effect::Perform { .. }))?;
        match self.effects.remove(place) {
            Effect::Perform { step, attempt } => Some((step, attempt)),
            _ => None,
        }
    }

    pub fn performed(&mut self, step: &str, attempt: u32, ok: bool) {
        let result = if ok {
            Ok(vec![])
        } else {
            Err(StepError { class: ErrorClass::World, message: "no".into(), advice: "look".into() })
        };
        self.input(&Input::Performed { step: step.into(), attempt, result });
    }

    pub fn command(&mut self, command: Command) -> Option<Refusal> {
        self.input(&Input::Command(command, Actor::Operator("alice".into())))
    }

    pub fn confirm(&mut self, step: &str, word: Option<&str>) -> Option<Refusal> {
        self.command(Command::Confirm { step: step.into(), word: word.map(str::to_owned) })
    }

    pub fn status(&self, step: &str) -> StepStatus {
        self.state.step(step).expect("a step").status
    }

    /// States a switch's change as its worker would.
    pub fn set(&mut self, step: &str, switch: &str, id: &str) {
        let moves = self.plan.changes(step).into_iter().find(|c| c.places.iter().any(|(s, _)| s.id == switch));
        let moves = moves.and_then(|change| change.moves).map(|m| m.dial.positions[m.to].name.clone());
        let action = Action::SetSwitch { switch: switch.into(), to: "new".into(), position: moves };
        self.input(&Input::Stated(Event::Intent { id: id.into(), step: Some(step.into()), action }));
        let result = OutcomeResult::Done { read_back: "new".into(), version: Some(2) };
        self.input(&Input::Stated(Event::Outcome { id: id.into(), result }));
    }

    /// Goes forward to the first step after `until` with everything well.
    pub fn drive_past(&mut self, until: &str) {
        for _ in 0..200 {
            if matches!(self.status(until), StepStatus::Done) {
                return;
            }
            let held = self.state.current().map(|i| self.plan.steps[i].clone());
            if let Some(held) = held.filter(|s| self.status(&s.id) == StepStatus::Held) {
                assert_eq!(self.confirm(&held.id, Some("GO")), None);
            }
            self.tick(1_000, Some(0.5));
            if let Some((step, attempt)) = self.asked() {
                match step.as_str() {
                    "arm" => {
                        for switch in self.plan.switches.iter().map(|s| s.id.clone()).collect::<Vec<_>>() {
                            let value = Some("old".to_owned());
                            let attributes = crate::domain::run::Attributes::default();
                            let captured = Event::Captured { switch, version: Some(1), value, attributes };
                            self.input(&Input::Stated(captured));
                        }
                    }
                    "freeze" => self.set("freeze", "mode", "freeze/1"),
                    step => {
                        let places = self.plan.changes(step).into_iter().flat_map(|change| change.places);
                        for place in places.map(|(s, _)| s.id.clone()).collect::<Vec<_>>() {
                            self.set(
                                step,
                                &place,
                                &if step == "switch" {
                                    format!("{place}/{attempt}")
                                } else {
                                    format!("{step}/{place}/{attempt}")
                                },
                            );
                        }
                    }
                }
                self.performed(&step, attempt, true);
            }
        }
        panic!("never got past {until}: {:?}", self.state.current().map(|i| &self.state.steps[i]));
    }
}
