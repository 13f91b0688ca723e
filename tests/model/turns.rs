//! Every turn a state may take: the engine's, the workers', the customers', and what goes wrong.

use cutover::domain::at::At;
use cutover::domain::gauge::Measured;
use cutover::domain::plan::Plan;
use cutover::domain::run::{
    Action, Actor, Attributes, Cause, Effect, ErrorClass, Event, Fact, Input, OutcomeResult, Policy, RunState,
    RunStatus, StepError, StepStatus, apply, decide, rollback_plan,
};

use super::plan::{opened, plan};
use super::rules::Broken;
use super::state::{Budget, Data, Job, KEYS, Memory, Record, RollbackJob, State, Switches, Value};

/// The result of a worker's turn.
enum Worked {
    /// The step goes on from here.
    At(u8),
    /// The step is done.
    Done,
}

/// The model: the plan, the rule that is broken, and how customers' writes may be.
pub struct Model {
    plan: Plan,
    policy: Policy,
    broken: Broken,
}

impl Model {
    /// A model with one rule broken, or none.
    pub fn new(broken: Broken) -> Self {
        Self { plan: plan(), policy: Policy::default(), broken }
    }

    fn keeps(&self, rule: Broken) -> bool {
        self.broken != rule
    }

    /// Where everything begins: one key holds a row, the run is open.
    pub fn first(&self, budget: Budget) -> State {
        let mut held = [0; KEYS];
        held[0] = 1;
        let memory = Memory { alive: true, ..Memory::default() };
        let data = Data { old: held, acked: held, last_write: 1, budget, memory, ..Data::default() };
        let mut state = State { run: RunState::default(), data, bare_effect: false };
        fold(&mut state.run, vec![opened(&self.plan)]);
        state
    }

    /// Every state that may come next, with what was done.
    pub fn next(&self, state: &State) -> Vec<(String, State)> {
        let mut out = Vec::new();
        self.engine(state, &mut out);
        self.worker(state, &mut out);
        self.undo(state, &mut out);
        self.follow(state, &mut out);
        self.reverse(state, &mut out);
        customers(state, &mut out);
        self.trouble(state, &mut out);
        out
    }

    /// Whether rollback is taken here, as it must be from everywhere but a rollback.
    pub fn takes_rollback(&self, state: &State) -> bool {
        let order = Input::Rollback(Actor::Operator("alice".into()), Cause::Asked);
        let d = decide(&self.plan, &state.run, &self.policy, &order, At(0));
        d.refused.is_none() && d.effects.iter().any(|e| matches!(e, Effect::RollBack(..)))
    }

    /// Decides an input; facts first, effects after. `false` when it was refused.
    fn input(&self, state: &mut State, input: &Input<'_>) -> bool {
        let d = decide(&self.plan, &state.run, &self.policy, input, At(0));
        if d.refused.is_some() {
            return false;
        }
        fold(&mut state.run, d.events);
        for effect in d.effects {
            match effect {
                Effect::Perform { step, attempt, .. } => {
                    state.data.memory.job = Some(Job { step, attempt, at: 0 });
                }
                Effect::Cancel => self.cancel(state),
                Effect::RollBack(..) => self.begin_undo(state),
                Effect::Pause | Effect::Resume | Effect::Workers(_) => {}
            }
        }
        true
    }

    fn state_fact(&self, state: &mut State, event: Event) -> bool {
        self.input(state, &Input::Stated(event))
    }

    /// A step is dropped where it stands; a set that was sent goes on its way.
    fn cancel(&self, state: &mut State) {
        let Some(job) = state.data.memory.job.take() else { return };
        state.data.memory.scanned = None;
        state.data.on_the_wire = sent(&job).or(state.data.on_the_wire);
    }

    fn begin_undo(&self, state: &mut State) {
        let way = rollback_plan(&self.plan, &state.run);
        let left: Vec<String> = way.actions().map(|a| a.switch.clone()).collect();
        state.data.memory.undo = Some(RollbackJob { first: left.clone(), left, at: 0, second: false });
    }

    fn engine(&self, state: &State, out: &mut Vec<(String, State)>) {
        let m = &state.data.memory;
        if !m.alive || m.job.is_some() || m.undo.is_some() {
            return;
        }
        let mut next = state.clone();
        self.input(&mut next, &Input::Tick(&Measured::default()));
        if next.run.last_seq != state.run.last_seq {
            out.push(("tick".into(), next));
        }
    }

    fn worker(&self, state: &State, out: &mut Vec<(String, State)>) {
        let Some(job) = &state.data.memory.job else { return };
        let mut next = state.clone();
        let Some(worked) = self.work(&mut next, job) else { return };
        let name = format!("{} {}", job.step, job.at);
        match worked {
            Worked::At(at) => next.data.memory.job = Some(Job { at, ..job.clone() }),
            Worked::Done => {
                next.data.memory.job = None;
                let (step, attempt) = (job.step.clone(), job.attempt);
                self.input(&mut next, &Input::Performed { step, attempt, result: Ok(vec![]) });
            }
        }
        out.push((name, next));
    }

    /// One turn of a step, or nothing while it waits.
    fn work(&self, state: &mut State, job: &Job) -> Option<Worked> {
        let d = &mut state.data;
        match (job.step.as_str(), job.at) {
            ("capture", 0) => {
                if self.keeps(Broken::StreamBeforeLoad) {
                    d.stream.get_or_insert_with(Vec::new);
                }
                Some(Worked::At(1))
            }
            ("capture", _) => {
                // What a later attempt finds recorded stays: a start never moves.
                if self.keeps(Broken::StreamBeforeLoad) {
                    d.applied.get_or_insert(0);
                }
                Some(Worked::Done)
            }
            ("load", _) if usize::from(d.loaded) < KEYS => {
                match d.memory.scanned.take() {
                    None => {
                        d.memory.scanned = Some((d.loaded, d.old[usize::from(d.loaded)]));
                        if !self.keeps(Broken::RowsWithCheckpoint) {
                            d.loaded += 1;
                        }
                    }
                    Some((key, value)) => {
                        d.new[usize::from(key)] = value;
                        d.loaded = key + 1;
                    }
                }
                Some(Worked::At(0))
            }
            ("load", _) => {
                if let Some((key, value)) = d.memory.scanned.take() {
                    d.new[usize::from(key)] = value;
                    return Some(Worked::At(0));
                }
                if !self.keeps(Broken::StreamBeforeLoad) {
                    let end = d.stream.get_or_insert_with(Vec::new).len() as u8;
                    d.applied.get_or_insert(end);
                }
                d.memory.following = true;
                Some(Worked::Done)
            }
            ("arm", _) => {
                let captures = ["mode", "writes"].map(|switch| Event::Captured {
                    switch: switch.into(),
                    version: Some(1),
                    value: Some("old".into()),
                    attributes: Attributes::default(),
                });
                d.trigger = self.keeps(Broken::TriggerBeforeThaw);
                for captured in captures {
                    self.state_fact(state, captured);
                }
                Some(Worked::Done)
            }
            ("drain", 0) => {
                d.stream.as_mut()?.push(Record::Marker);
                Some(Worked::At(1))
            }
            ("drain", _) => {
                let all = d.stream.as_ref().map(Vec::len).is_some_and(|end| d.applied == Some(end as u8));
                (all || !self.keeps(Broken::Drain)).then_some(Worked::Done)
            }
            ("freeze", 3) => (d.seen.frozen || !self.keeps(Broken::FreezeIsProbed)).then_some(Worked::Done),
            ("switch", 3) => Some(Worked::Done),
            ("thaw", 3) => (!d.seen.frozen).then(|| {
                d.trigger = true;
                Worked::Done
            }),
            (step @ ("freeze" | "switch" | "thaw"), at) => self.set(state, step, job, at),
            (step, at) => panic!("nobody performs {step} {at}"),
        }
    }

    /// Intent, effect, outcome.
    fn set(&self, state: &mut State, step: &str, job: &Job, at: u8) -> Option<Worked> {
        let switch = if step == "switch" { "writes" } else { "mode" };
        let id = format!("{step}/{}/{switch}", job.attempt);
        let action = match step {
            "thaw" => Action::RestoreSwitch { switch: switch.into(), version: Some(1) },
            _ => Action::SetSwitch { switch: switch.into(), to: "new".into(), position: None },
        };
        let early = !self.keeps(Broken::IntentBeforeEffect);
        let to = step != "thaw";
        match (at, early) {
            (0, false) | (1, true) => {
                let told = Event::Intent { id, step: Some(step.into()), action };
                self.state_fact(state, told).then_some(Worked::At(at + 1))
            }
            (1, false) | (0, true) => {
                land(state, switch, to);
                Some(Worked::At(at + 1))
            }
            _ => {
                let result = OutcomeResult::Done { read_back: "it".into(), version: Some(2) };
                self.state_fact(state, Event::Outcome { id, result }).then_some(Worked::At(3))
            }
        }
    }

    fn undo(&self, state: &State, out: &mut Vec<(String, State)>) {
        let Some(undo) = &state.data.memory.undo else { return };
        let mut next = state.clone();
        let Some(switch) = undo.left.first().cloned() else {
            self.end_undo(&mut next, undo, out);
            return;
        };
        let waits = self.keeps(Broken::ThawAfterTheWire) && self.keeps(Broken::SecondPass);
        if switch == "mode" && undo.at == 0 && waits {
            // The side is opened to customers once nothing is on the wire and the traffic switches were read again.
            if state.data.on_the_wire.is_some() {
                return;
            }
            if stands(state, "writes") {
                let mut after = undo.clone();
                after.left.insert(0, "writes".into());
                next.data.memory.undo = Some(after);
                out.push(("traffic moved once more".into(), next));
                return;
            }
        }
        let id = format!("undo/{}/{switch}", state.run.used_intents.len());
        let mut after = undo.clone();
        match undo.at {
            0 => {
                let action = Action::RestoreSwitch { switch: switch.clone(), version: Some(1) };
                self.state_fact(&mut next, Event::Intent { id, step: None, action });
                after.at = 1;
            }
            1 => {
                land(&mut next, &switch, false);
                after.at = 2;
            }
            _ => {
                let open = next.run.open_intents.iter();
                let mine = open.rev().find(|(id, a)| {
                    id.starts_with("undo/") && matches!(a, Action::RestoreSwitch { switch: s, .. } if *s == switch)
                });
                let id = mine.expect("its intent is open").0.clone();
                let result = OutcomeResult::Done { read_back: "it".into(), version: Some(3) };
                self.state_fact(&mut next, Event::Outcome { id, result });
                after.left.remove(0);
                after.at = 0;
            }
        }
        next.data.memory.undo = Some(after);
        out.push((format!("undo {switch} {}", undo.at), next));
    }

    /// The end of a pass: a second pass waits for what was on the wire when the order came.
    fn end_undo(&self, next: &mut State, undo: &RollbackJob, out: &mut Vec<(String, State)>) {
        if !undo.second && next.data.on_the_wire.is_some() && self.keeps(Broken::SecondPass) {
            return;
        }
        let moved = !undo.second && self.keeps(Broken::SecondPass);
        if moved {
            let mut left: Vec<String> =
                rollback_plan(&self.plan, &next.run).actions().map(|a| a.switch.clone()).collect();
            left.extend(undo.first.iter().filter(|s| !left.contains(s)).cloned().collect::<Vec<_>>());
            // Traffic is restored before the freeze is lifted.
            left.sort_by_key(|s| s == "mode");
            left.retain(|s| stands(next, s));
            if !left.is_empty() {
                next.data.memory.undo = Some(RollbackJob { left, at: 0, second: true, first: vec![] });
                out.push(("second look".into(), next.clone()));
                return;
            }
        }
        next.data.memory.undo = None;
        if !self.keeps(Broken::OutboxIsCarried) {
            next.data.outbox.clear();
            next.data.memory.carried = None;
        }
        self.state_fact(next, Event::RolledBack { took_ms: 1, evidence: vec![] });
        out.push(("rolled back".into(), next.clone()));
    }

    fn follow(&self, state: &State, out: &mut Vec<(String, State)>) {
        let (d, m) = (&state.data, &state.data.memory);
        let early = !self.keeps(Broken::LoadBeforeFollow);
        let (Some(stream), Some(applied)) = (&d.stream, d.applied) else { return };
        if !m.alive || !(m.following || early) {
            return;
        }
        let Some((from, to)) = m.batch else {
            let end = stream.len() as u8;
            for to in [applied + 1, end].into_iter().filter(|to| *to <= end && *to > applied) {
                let mut next = state.clone();
                next.data.memory.batch = Some((applied, to));
                if !self.keeps(Broken::RowsWithPosition) {
                    next.data.applied = Some(to);
                }
                out.push((format!("read {applied}..{to}"), next));
            }
            return;
        };
        let mut next = state.clone();
        for record in &stream[usize::from(from)..usize::from(to)] {
            if let Record::Change { key, value, ours } = *record
                && !(ours && self.keeps(Broken::OriginIsTagged))
            {
                next.data.new[usize::from(key)] = value;
            }
        }
        next.data.applied = Some(to);
        next.data.memory.batch = None;
        out.push((format!("apply {from}..{to}"), next));
    }

    /// Applies the oldest row of the outbox: written on the old side first, removed after.
    fn reverse(&self, state: &State, out: &mut Vec<(String, State)>) {
        let m = &state.data.memory;
        let row = m.carried.or(state.data.outbox.first().copied());
        let Some((key, value)) = row.filter(|_| m.alive) else { return };
        let written_first = self.keeps(Broken::OutboxUntilWritten);
        let begins = m.carried.is_none();
        let mut next = state.clone();
        if begins == written_first {
            if !state.data.newer[usize::from(key)] || !self.keeps(Broken::NewerOldWriteWins) {
                next.data.old[usize::from(key)] = value;
                if let Some(stream) = &mut next.data.stream {
                    stream.push(Record::Change { key, value, ours: true });
                }
            }
        } else {
            next.data.outbox.remove(0);
        }
        next.data.memory.carried = begins.then_some((key, value));
        let what = if begins == written_first { "is written back" } else { "leaves the outbox" };
        out.push((format!("key {key} {what}"), next));
    }

    fn trouble(&self, state: &State, out: &mut Vec<(String, State)>) {
        let d = &state.data;
        if let Some((switch, to)) = d.on_the_wire {
            let mut next = state.clone();
            next.data.on_the_wire = None;
            land(&mut next, ["mode", "writes"][usize::from(switch)], to);
            out.push(("a late set lands".into(), next));
        }
        if !d.memory.alive {
            let mut next = state.clone();
            next.data.memory.alive = true;
            fold(&mut next.run, vec![Event::RunResumed { operator: "bob".into(), host: "b".into() }]);
            next.data.memory.following = next.done("load");
            if next.run.status == RunStatus::RollingBack {
                self.begin_undo(&mut next);
            }
            out.push(("restart".into(), next));
            return;
        }
        if d.budget.crashes > 0 {
            let landed = d.memory.job.as_ref().and_then(sent);
            for land_it in [false, true].into_iter().filter(|l| !l || landed.is_some()) {
                let mut next = state.clone();
                if let (true, Some((switch, to))) = (land_it, landed) {
                    land(&mut next, ["mode", "writes"][usize::from(switch)], to);
                }
                next.data.memory = Memory::default();
                next.data.budget.crashes -= 1;
                out.push((format!("crash (set landed: {land_it})"), next));
            }
        }
        if d.budget.failures > 0
            && let Some(job) = &d.memory.job
        {
            // A set without an answer is waited for until it cannot land any more: it did, or it never will.
            for land_it in [false, true].into_iter().filter(|l| !l || sent(job).is_some()) {
                let mut next = state.clone();
                next.data.budget.failures -= 1;
                next.data.memory.job = None;
                next.data.memory.scanned = None;
                if let (true, Some((switch, to))) = (land_it, sent(job)) {
                    land(&mut next, ["mode", "writes"][usize::from(switch)], to);
                }
                let error = StepError { class: ErrorClass::World, message: "no".into(), advice: "look".into() };
                let (step, attempt) = (job.step.clone(), job.attempt);
                self.input(&mut next, &Input::Performed { step, attempt, result: Err(error) });
                out.push((format!("{} fails (set landed: {land_it})", job.step), next));
            }
        }
        let failed = state.run.current().map(|i| &state.run.steps[i]).filter(|s| s.status == StepStatus::Failed);
        if let Some(failed) = failed.filter(|_| d.memory.undo.is_none()) {
            let mut next = state.clone();
            let retry = cutover::domain::run::Command::Retry { step: failed.id.clone() };
            if self.input(&mut next, &Input::Command(retry, Actor::Operator("alice".into()))) {
                out.push(("retry".into(), next));
            }
        }
        if d.budget.orders > 0 && state.run.status != RunStatus::RollingBack {
            let mut next = state.clone();
            next.data.budget.orders -= 1;
            self.input(&mut next, &Input::Rollback(Actor::Operator("alice".into()), Cause::Asked));
            out.push(("rollback is ordered".into(), next));
        }
    }
}

/// What a job has sent and has no answer to: from its intent until the effect.
fn sent(job: &Job) -> Option<(u8, bool)> {
    match (job.step.as_str(), job.at) {
        ("freeze", 1) => Some((0, true)),
        ("switch", 1) => Some((1, true)),
        ("thaw", 1) => Some((0, false)),
        _ => None,
    }
}

/// Whether a switch does not stand at its first value.
fn stands(state: &State, switch: &str) -> bool {
    let s = state.data.switches;
    if switch == "mode" { s.frozen } else { s.new }
}

/// An effect on a switch. It must be announced.
fn land(state: &mut State, switch: &str, to: bool) {
    let announced = state.run.open_intents.values().any(
        |a| matches!(a, Action::SetSwitch { switch: s, .. } | Action::RestoreSwitch { switch: s, .. } if s == switch),
    );
    let standing = state.run.switches.get(switch).map(|s| s.standing);
    // A late set belongs to an intent that a later read-back may have answered already.
    let known = standing.is_some_and(|s| s != cutover::domain::run::SwitchStatus::Old);
    state.bare_effect |= !announced && !known;
    match switch {
        "mode" => state.data.switches.frozen = to,
        _ => state.data.switches.new = to,
    }
}

/// The application reads its switches, all at once, and customers write.
fn customers(state: &State, out: &mut Vec<(String, State)>) {
    let d = &state.data;
    if d.seen != d.switches {
        let mut next = state.clone();
        next.data.seen = d.switches;
        out.push(("the application looks".into(), next));
    }
    if d.budget.writes == 0 || d.seen.frozen {
        return;
    }
    for key in 0..KEYS {
        for delete in [false, true] {
            if delete && d.acked[key] == 0 {
                continue;
            }
            let mut next = state.clone();
            let n = &mut next.data;
            n.budget.writes -= 1;
            n.last_write += 1;
            let value: Value = if delete { 0 } else { n.last_write };
            n.acked[key] = value;
            if n.seen.new {
                n.new[key] = value;
                if n.trigger {
                    n.outbox.push((key as u8, value));
                }
            } else {
                n.old[key] = value;
                n.newer[key] |= state.run.decided.is_some();
                if let Some(stream) = &mut n.stream {
                    stream.push(Record::Change { key: key as u8, value, ours: false });
                }
            }
            let side = if n.seen.new { "new" } else { "old" };
            out.push((format!("key {key} becomes {value} on the {side} side"), next));
        }
    }
}

/// Folds events through the real `apply`.
fn fold(run: &mut RunState, events: Vec<Event>) {
    for event in events {
        let fact = Fact { seq: run.last_seq + 1, at: At(0), event };
        apply(run, &fact).expect("decide emits only legal events");
    }
}

/// Switches as the customers' side sees them in the beginning.
#[test]
fn the_first_state_is_sound() {
    let first = Model::new(Broken::Nothing).first(Budget::default());
    assert_eq!(first.wrong(), None);
    assert_eq!(first.data.seen, Switches::default());
}
