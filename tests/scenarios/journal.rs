//! A day's journal, cut at any byte: what is left folds, a rollback is accepted, and whatever may have been changed is
//! restored.

use std::path::Path;

use cutover::domain::at::At;
use cutover::domain::gauge::Measured;
use cutover::domain::plan::{Plan, StepKind};
use cutover::domain::run::{
    Action, Actor, Attributes, Cause, Decision, Effect, Event, Fact, Input, OutcomeResult, Policy, RunState, RunStatus,
    apply, decide, rollback_plan,
};
use cutover::journal::{Header, JournalError, JournalWriter, RunFolder, fold, read};

use crate::model::plan::{opened, plan};

/// A day in the core's hands: each input's facts, as the engine would write them.
struct Day {
    plan: Plan,
    state: RunState,
    facts: Vec<Fact>,
}

impl Day {
    fn keep(&mut self, events: Vec<Event>) {
        for event in events {
            let seq = self.state.last_seq + 1;
            let fact = Fact { seq, at: At(seq.cast_signed() * 1_000), event };
            apply(&mut self.state, &fact).expect("a legal fact");
            self.facts.push(fact);
        }
    }

    fn input(&mut self, input: &Input<'_>) -> Vec<Effect> {
        let Decision { events, effects, refused, .. } =
            decide(&self.plan, &self.state, &Policy::default(), input, At(0));
        assert_eq!(refused, None);
        self.keep(events);
        effects
    }

    /// The facts a step's worker states.
    fn work(&mut self, step: &str, attempt: u32) {
        let set = |switch: &str, action: Action| {
            let id = format!("{step}/{switch}/{attempt}");
            let result = OutcomeResult::Done { read_back: "it".into(), version: Some(2) };
            [Event::Intent { id: id.clone(), step: Some(step.into()), action }, Event::Outcome { id, result }]
        };
        let to = |switch: &str| Action::SetSwitch { switch: switch.into(), to: "new".into(), position: None };
        let stated: Vec<Event> = match self.plan.step(step).map(|s| s.kind.clone()) {
            Some(StepKind::Arm) => ["mode", "writes"]
                .map(|s| Event::Captured {
                    switch: s.into(),
                    version: Some(1),
                    value: Some("old".into()),
                    attributes: Attributes::default(),
                })
                .into(),
            Some(StepKind::Freeze) => set("mode", to("mode")).into(),
            Some(StepKind::Switch { .. }) => set("writes", to("writes")).into(),
            Some(StepKind::Thaw) => {
                set("mode", Action::RestoreSwitch { switch: "mode".into(), version: Some(1) }).into()
            }
            _ => vec![],
        };
        for event in stated {
            self.input(&Input::Stated(event));
        }
    }

    /// A whole day that goes well.
    fn whole() -> Self {
        let plan = plan();
        let mut day = Self { state: RunState::default(), facts: vec![], plan };
        day.keep(vec![opened(&day.plan)]);
        let mut effects = day.input(&Input::Tick(&Measured::default()));
        while let Some(Effect::Perform { step, attempt, .. }) = effects.pop() {
            day.work(&step, attempt);
            effects = day.input(&Input::Performed { step, attempt, result: Ok(vec![]) });
        }
        assert_eq!(day.state.status, RunStatus::Finished);
        day
    }
}

/// Switches that a process which had written these facts may have changed and not put back.
fn touched(facts: &[Fact]) -> Vec<String> {
    let mut open = std::collections::BTreeMap::new();
    let mut touched = std::collections::BTreeSet::new();
    for fact in facts {
        match &fact.event {
            Event::Intent { id, action: Action::SetSwitch { switch, .. }, .. } => {
                touched.insert(switch.clone());
                open.insert(id.clone(), None);
            }
            Event::Intent { id, action: Action::RestoreSwitch { switch, .. }, .. } => {
                open.insert(id.clone(), Some(switch.clone()));
            }
            Event::Outcome { id, .. } => {
                if let Some(Some(restored)) = open.remove(id) {
                    touched.remove(&restored);
                }
            }
            _ => {}
        }
    }
    touched.into_iter().collect()
}

#[test]
fn a_journal_cut_anywhere_still_leads_back() {
    let day = Day::whole();
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), "model", At(0)).unwrap();
    let header = Header::new("model", "hash", "alice", "bastion", At(1));
    JournalWriter::create(&folder, &header).unwrap().append(&day.facts).unwrap();
    let bytes = std::fs::read(folder.journal()).unwrap();
    let cut_file = dir.path().join("cut");
    let (mut seen, mut shortest) = (std::collections::BTreeSet::new(), usize::MAX);
    for cut in 0..=bytes.len() {
        std::fs::write(&cut_file, &bytes[..cut]).unwrap();
        let left = match read(Path::new(&cut_file)) {
            Ok(left) => left,
            Err(JournalError::NoHeader { .. }) => continue,
            Err(e) => panic!("cut at {cut}: {e}"),
        };
        shortest = shortest.min(left.facts.len());
        assert!(day.facts.starts_with(&left.facts), "cut at {cut}: a fact that was never written");
        if left.facts.is_empty() || !seen.insert(left.facts.len()) {
            continue;
        }
        let state = fold(&left.facts).unwrap();
        let order = Input::Rollback(Actor::Operator("bob".into()), Cause::Asked);
        let back = decide(&day.plan, &state, &Policy::default(), &order, At(0));
        assert_eq!(back.refused, None, "{} facts", left.facts.len());
        let way = rollback_plan(&day.plan, &state);
        let mut undone: Vec<String> = way.actions().map(|a| a.switch.clone()).collect();
        undone.sort();
        assert_eq!(undone, touched(&left.facts), "{} facts", left.facts.len());
        assert!(way.actions().all(|a| a.captured), "{} facts: nothing to go back to", left.facts.len());
    }
    assert_eq!((shortest, seen.len()), (0, day.facts.len()), "every prefix was tried");
}
