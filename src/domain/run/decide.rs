//! What follows from an input. Pure: same plan, state, input and time give the same answer.

use std::collections::BTreeMap;

use super::apply::apply;
use super::approval::{confirmed, lacks_second, second_person_words};
use super::event::{Actor, Cause, Event, Evidence, Fact, Level, StepError};
use super::input::{Command, Input, Refusal};
use super::jobs::no_way_back;
use super::state::{RunState, RunStatus, StepStatus};
use super::step_back::{judged_again, step_back};
use super::unrecorded::rolls_back_by_itself;
use crate::domain::at::At;
use crate::domain::plan::{Confirm, Plan, Start, Step, StepKind};

mod alerts;
mod gates;
mod people;

/// How this process was asked to drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Confirm what the console performs by itself, typed words too (`--yes`). Never what a person does or decides.
    pub auto_confirm: bool,
    /// Who is responsible for a step that a person does or decides, by step (`--answer STEP=NAME`).
    pub answers: BTreeMap<String, Vec<String>>,
    /// A rehearsal that goes on in the names of the people its steps ask for.
    pub stand_ins: bool,
    /// Nobody is there to decide: failures while frozen roll back, others end the process.
    pub unattended: bool,
    /// Pause once this step is done (`--until`).
    pub until: Option<String>,
}

/// What the engine must do after the events are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Perform a step. After the first attempt an earlier one may have left traces: check before changing anything.
    Perform {
        /// Step id.
        step: String,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Stop whatever is being performed.
    Cancel,
    /// Let workers rest.
    Pause,
    /// Let workers go on.
    Resume,
    /// Change the number of load workers by this much.
    Workers(i32),
    /// Roll back.
    RollBack(Actor, Cause),
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Facts to journal and fold, in order.
    pub events: Vec<Event>,
    /// What to do once they are durable.
    pub effects: Vec<Effect>,
    /// Why a command was not taken.
    pub refused: Option<Refusal>,
    /// What the run waits for until when; the clock of a rehearsal may run faster meanwhile.
    pub waiting: Option<(String, At)>,
}

/// Decides.
#[must_use]
pub fn decide(plan: &Plan, state: &RunState, policy: &Policy, input: &Input<'_>, now: At) -> Decision {
    let mut d = Draft { plan, policy, now, state: state.clone(), out: Decision::default() };
    match input {
        Input::Tick(measured) => {
            d.judge_gates(measured);
            d.advance();
        }
        Input::Command(command, by) => {
            if let Err(refusal) = d.command(command, by) {
                d.out = Decision { refused: Some(refusal), ..Decision::default() };
            }
        }
        Input::Performed { step, attempt, result } => d.performed(step, *attempt, result),
        Input::Stated(event) => d.emit(event.clone()),
        Input::Rollback(by, cause) => d.roll_back(by.clone(), cause.clone()),
    }
    d.out
}

/// A decision in the making: events are folded into a copy of the state as they are emitted.
struct Draft<'a> {
    plan: &'a Plan,
    policy: &'a Policy,
    now: At,
    state: RunState,
    out: Decision,
}

impl Draft<'_> {
    /// Emits an event, unless it may not follow; workers learn that from the missing fact.
    fn emit(&mut self, event: Event) {
        let fact = Fact { seq: self.state.last_seq + 1, at: self.now, event };
        if apply(&mut self.state, &fact).is_ok() {
            self.out.events.push(fact.event);
        } else if self.out.refused.is_none() {
            self.out.refused = Some(Refusal(format!("{} cannot follow now", fact.event.name())));
        }
    }

    fn roll_back(&mut self, by: Actor, cause: Cause) {
        if self.state.status == RunStatus::RollingBack {
            return;
        }
        if let Some(why) = no_way_back(self.plan, &self.state) {
            return self.emit(Event::Note { level: Level::Error, source: "rollback".to_owned(), text: why });
        }
        self.emit(Event::RollbackOrdered { by: by.clone(), cause: cause.clone() });
        self.out.effects.push(Effect::Cancel);
        self.out.effects.push(Effect::RollBack(by, cause));
    }

    fn current(&self) -> Option<&Step> {
        self.state.current().and_then(|i| self.plan.steps.get(i))
    }

    /// Goes as far forward as nothing stands in the way.
    fn advance(&mut self) {
        while matches!(self.state.status, RunStatus::Prepared | RunStatus::Running) {
            let Some(i) = self.state.current() else {
                self.emit(Event::RunFinished);
                return;
            };
            let (Some(step), Some(s)) = (self.plan.steps.get(i), self.state.steps.get(i)) else { return };
            if !matches!(s.status, StepStatus::Todo | StepStatus::Held | StepStatus::Ready | StepStatus::Unknown) {
                return;
            }
            let confirmed = s.confirmed.is_some() || s.status == StepStatus::Unknown;
            let held = s.status == StepStatus::Held;
            let planned = self.state.t0.plus(step.at_ms);
            if step.start == Start::AtPlanned && !confirmed && self.state.clock.stepped.is_some() {
                self.hold_for_the_clock(step.id.clone(), held);
                return;
            }
            if step.start == Start::AtPlanned && !confirmed && self.now < planned {
                self.out.waiting = Some((format!("planned start of {}", step.title), planned));
                return;
            }
            if !confirmed && let Some(reason) = self.asks(step) {
                let Some(by) = self.answer(step) else {
                    if !held {
                        self.emit(Event::StepHeld { step: step.id.clone(), reason });
                    }
                    return;
                };
                self.emit(Event::Confirmed { step: step.id.clone(), by });
            }
            let step = step.clone();
            if !self.has_second(&step) || !self.start(step) {
                return;
            }
        }
    }

    /// Whether a planned time has come is not known once the wall clock was stepped: a person has to say it.
    fn hold_for_the_clock(&mut self, step: String, held: bool) {
        if !held {
            let reason = "the wall clock was stepped: whether its planned time has come is not known, start it by hand";
            self.emit(Event::StepHeld { step, reason: reason.to_owned() });
        }
    }

    /// Starts a step; `true` when it is already over and the next one may follow.
    fn start(&mut self, step: Step) -> bool {
        let cut_off = self.state.step(&step.id).is_some_and(|s| s.status == StepStatus::Unknown);
        let attempt = self.state.step(&step.id).map_or(0, |s| s.attempts) + 1;
        self.emit(Event::StepStarted { step: step.id.clone(), attempt });
        match &step.kind {
            StepKind::Manual { .. } => {
                let by = self.state.step(&step.id).and_then(|s| s.confirmed.clone()).unwrap_or(Actor::Auto);
                let evidence = Evidence {
                    name: "confirmed by".to_owned(),
                    value: by.words(),
                    at: self.now,
                    source: "operator".to_owned(),
                    // Without a name nobody says that it was done.
                    good: !matches!(by, Actor::Auto),
                };
                self.done(&step.id, vec![evidence]);
                self.state.status == RunStatus::Running
            }
            StepKind::Gate { gate } => {
                self.start_gates(std::slice::from_ref(gate), cut_off);
                false
            }
            StepKind::GoNoGo { gates, .. } => {
                self.start_gates(gates, cut_off);
                false
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
            | StepKind::Jobs { .. }
            | StepKind::Thaw => {
                if self.plan.moves_writes(&step.id) && self.state.decided.is_none() {
                    let by = self.state.step(&step.id).and_then(|s| s.confirmed.clone()).unwrap_or(Actor::Auto);
                    self.emit(Event::Decided { by });
                }
                self.out.effects.push(Effect::Perform { step: step.id, attempt });
                false
            }
        }
    }

    fn done(&mut self, step: &str, evidence: Vec<Evidence>) {
        self.emit(Event::StepDone { step: step.to_owned(), evidence });
        let asked = self.policy.until.as_deref() == Some(step);
        if asked && self.state.current().is_some() && !self.state.locked_out(self.plan) {
            self.emit(Event::RunPaused { by: Actor::Auto, reason: format!("asked to stop after {step}") });
            self.out.effects.push(Effect::Pause);
        }
    }

    fn performed(&mut self, step: &str, attempt: u32, result: &Result<Vec<Evidence>, StepError>) {
        let expected = self.state.step(step).is_some_and(|s| s.status == StepStatus::Running && s.attempts == attempt);
        if !expected {
            return;
        }
        match result {
            Ok(evidence) if self.state.step(step).is_some_and(|s| s.back.is_some()) => {
                let (again, evidence) = (judged_again(self.plan, step), evidence.clone());
                self.emit(Event::SteppedBack { step: step.to_owned(), again, evidence });
                self.advance();
            }
            Ok(evidence) => {
                self.done(step, evidence.clone());
                self.advance();
            }
            Err(error) => self.failed(step, error.clone()),
        }
    }

    fn failed(&mut self, step: &str, error: StepError) {
        self.emit(Event::StepFailed { step: step.to_owned(), error });
        if let Some(cause) = rolls_back_by_itself(self.plan, &self.state, self.policy, step) {
            self.roll_back(Actor::Auto, cause);
        }
    }

    fn command(&mut self, command: &Command, by: &Actor) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal(why.to_owned()));
        match command {
            Command::Note { text } => {
                self.emit(Event::Note { level: Level::Info, source: by.name().to_owned(), text: text.clone() });
                Ok(())
            }
            Command::Acknowledge { alert, through, note, origin } => {
                self.acknowledge(alert.as_ref(), *through, note.as_ref(), origin.as_ref(), by)
            }
            Command::ToldOnScreen { alert, about, place } => self.told_on_screen(alert, about, place),
            Command::Workers { by } => {
                self.out.effects.push(Effect::Workers(*by));
                Ok(())
            }
            Command::Pause => {
                if !matches!(self.state.status, RunStatus::Prepared | RunStatus::Running) {
                    return refuse("the run is not going");
                }
                if self.state.locked_out(self.plan) {
                    return refuse("writes are frozen: finish or roll back, pausing keeps customers out");
                }
                self.emit(Event::RunPaused { by: by.clone(), reason: "asked".to_owned() });
                self.out.effects.push(Effect::Pause);
                Ok(())
            }
            Command::Continue => {
                if self.state.status != RunStatus::Paused {
                    return refuse("the run is not paused");
                }
                self.emit(Event::RunContinued { by: by.clone() });
                self.out.effects.push(Effect::Resume);
                self.advance();
                Ok(())
            }
            Command::Approve { step, note, origin, drivers_terminal } => {
                self.approve(step, note.as_ref(), origin, *drivers_terminal, by)
            }
            Command::Vote { step, vote, note, origin } => self.vote(step, *vote, note.as_ref(), origin, by),
            Command::Confirm { step, word } => self.confirm(step, word.as_deref(), by),
            Command::Retry { step } => {
                let step = self.the_current(step)?;
                let status = self.state.step(&step.id).map(|s| s.status);
                if !matches!(status, Some(StepStatus::Failed | StepStatus::Unknown)) {
                    return refuse("only a failed step can be tried again");
                }
                if self.has_second(&step) {
                    self.start(step);
                }
                Ok(())
            }
            Command::StepBack { step } => {
                if self.plan.step(step).is_none() {
                    return Err(Refusal(format!("the plan has no step {step}")));
                }
                let last = step_back(self.plan, &self.state).map_err(Refusal)?;
                if last.id != *step {
                    return Err(Refusal(format!("{step} is not what switched last: that is {}", last.id)));
                }
                self.emit(Event::StepBackOrdered { step: step.clone(), by: by.clone() });
                self.out.effects.push(Effect::Cancel);
                self.advance();
                Ok(())
            }
            Command::Skip { step } => {
                let step = self.the_current(step)?;
                if self.state.step(&step.id).is_some_and(|s| s.back.is_some()) {
                    return refuse("the step is being taken back: try again, or roll back");
                }
                if !skippable(&step.kind) {
                    return refuse("this step cannot be skipped: later steps rest on it");
                }
                let running = self.state.step(&step.id).is_some_and(|s| s.status == StepStatus::Running);
                if running && !matches!(step.kind, StepKind::Gate { .. }) {
                    return refuse("the step is running");
                }
                if step.two_person {
                    // An approval is for performing the step; skipping it would be one person's decision.
                    return refuse("a step for two people cannot be skipped: go on with it, or roll back");
                }
                self.emit(Event::StepSkipped { step: step.id, by: by.clone() });
                self.advance();
                Ok(())
            }
        }
    }

    fn the_current(&self, id: &str) -> Result<Step, Refusal> {
        if !matches!(self.state.status, RunStatus::Prepared | RunStatus::Running) {
            return Err(Refusal("the run is not going forward".to_owned()));
        }
        self.current().filter(|s| s.id == id).cloned().ok_or_else(|| Refusal(format!("{id} is not the current step")))
    }

    fn confirm(&mut self, id: &str, word: Option<&str>, by: &Actor) -> Result<(), Refusal> {
        let step = self.the_current(id)?;
        let status = self.state.step(id).map(|s| s.status);
        if !matches!(status, Some(StepStatus::Held | StepStatus::Todo)) {
            return Err(Refusal(format!("{id} does not wait for anybody")));
        }
        let done = self.state.step(id).is_some_and(|s| status == Some(StepStatus::Held) && confirmed(&step, s));
        if done && lacks_second(&self.state, &step) {
            return Err(Refusal(second_person_words(&self.state, id)));
        }
        if let Confirm::Word(wanted) = &step.confirm
            && word.map(str::trim) != Some(wanted.as_str())
        {
            return Err(Refusal(format!("type {wanted} to go on")));
        }
        self.emit(Event::Confirmed { step: id.to_owned(), by: by.clone() });
        self.advance();
        Ok(())
    }
}

/// Steps that no later step depends on.
const fn skippable(kind: &StepKind) -> bool {
    matches!(
        kind,
        StepKind::Manual { .. }
            | StepKind::Gate { .. }
            | StepKind::Smoke { .. }
            | StepKind::Baseline { .. }
            | StepKind::Verify
    )
}
