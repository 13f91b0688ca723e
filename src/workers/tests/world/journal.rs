//! One order of facts and effects, so that a test can ask what came before what.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::domain::at::At;
use crate::domain::plan::Plan;
use crate::domain::run::{Event, Evidence, Fact, RunState, StepError, StepStatus, apply};
use crate::ports::{Facts, NotRecorded};
use crate::workers::rollback::FactSink;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a few hundred of them in a test")]
pub enum Entry {
    /// A fact that was folded and is on disk.
    Fact(Event),
    /// Something outside was changed.
    Effect(String),
}

#[derive(Default)]
struct Kept {
    state: RunState,
    entries: Vec<Entry>,
    full: bool,
}

/// The journal of the test, folded by the real `apply`. Cloning shares.
#[derive(Clone, Default)]
pub struct FakeJournal(Arc<Mutex<Kept>>);

impl FakeJournal {
    /// Opens a run of a plan.
    pub fn open(&self, plan: &Plan) {
        let opened = Event::RunOpened {
            run: "trial".into(),
            plan: plan.name.clone(),
            plan_hash: plan.hash(),
            environment: "test".into(),
            operator: "alice".into(),
            host: "bastion".into(),
            version: "0".into(),
            t0: At(0),
            steps: plan.steps.iter().map(|s| s.id.clone()).collect(),
            callers: Default::default(),
        };
        self.fact(opened).unwrap();
    }

    /// States a fact; an illegal one, or one on a full disk, is refused.
    pub fn fact(&self, event: Event) -> Result<(), String> {
        let mut kept = self.0.lock().unwrap();
        if kept.full {
            return Err("no space left on device".into());
        }
        let seq = kept.state.last_seq + 1;
        apply(&mut kept.state, &Fact { seq, at: At(seq.cast_signed()), event: event.clone() })
            .map_err(|e| e.to_string())?;
        kept.entries.push(Entry::Fact(event));
        Ok(())
    }

    /// Notes an effect.
    pub fn effect(&self, what: String) {
        self.0.lock().unwrap().entries.push(Entry::Effect(what));
    }

    /// From now on the disk is full, or no longer.
    pub fn disk_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// The folded state.
    pub fn state(&self) -> RunState {
        self.0.lock().unwrap().state.clone()
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.clone()
    }

    /// Starts a step; the ones before it that nobody performed count as done.
    pub fn start(&self, id: &str) -> u32 {
        loop {
            let state = self.state();
            let current = state.current().expect("a step is left");
            let s = state.steps[current].clone();
            let attempt = s.attempts + 1;
            if s.status != StepStatus::Running {
                self.fact(Event::StepStarted { step: s.id.clone(), attempt }).unwrap();
            }
            if s.id == id {
                return attempt;
            }
            self.fact(Event::StepDone { step: s.id, evidence: vec![] }).unwrap();
        }
    }

    /// Ends a step as its performer said.
    pub fn end(&self, id: &str, result: &Result<Vec<Evidence>, StepError>) {
        let step = id.to_owned();
        let event = match result {
            Ok(evidence) => Event::StepDone { step, evidence: evidence.clone() },
            Err(error) => Event::StepFailed { step, error: error.clone() },
        };
        // A disk that is full has no room for this one either.
        let _ = self.fact(event);
    }

    /// For each effect on a switch, whether the intent to change that switch came before it and was open.
    pub fn effects_without_intent(&self) -> Vec<String> {
        use crate::domain::run::Action::{ExerciseSwitch, RestoreSwitch, SetSwitch};
        let mut open: Vec<(String, String)> = Vec::new();
        let mut bare = Vec::new();
        for entry in self.entries() {
            match entry {
                Entry::Fact(Event::Intent {
                    id,
                    action: SetSwitch { switch, .. } | RestoreSwitch { switch, .. } | ExerciseSwitch { switch, .. },
                    ..
                }) => {
                    open.push((id, switch));
                }
                Entry::Fact(Event::Outcome { id, .. }) => open.retain(|(o, _)| *o != id),
                Entry::Effect(what) => {
                    let switch = what.split(' ').nth(1).unwrap_or_default().to_owned();
                    if !open.iter().any(|(_, s)| *s == switch) {
                        bare.push(what);
                    }
                }
                Entry::Fact(_) => {}
            }
        }
        bare
    }
}

#[async_trait]
impl Facts for FakeJournal {
    async fn state(&self, event: Event) -> Result<(), NotRecorded> {
        self.fact(event).map_err(NotRecorded)
    }
}

impl FactSink for FakeJournal {
    fn send(&self, event: Event) {
        let _ = self.fact(event);
    }
}
