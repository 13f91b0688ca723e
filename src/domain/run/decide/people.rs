//! Second persons and voters.

use super::Draft;
use crate::domain::plan::{Confirm, Step, StepKind};
use crate::domain::run::approval::{Origin, Vote, basis, lacks_second, same_person, second_person_words};
use crate::domain::run::event::{Actor, Event};
use crate::domain::run::input::Refusal;
use crate::domain::run::state::StepStatus;

impl Draft<'_> {
    /// What a step asks of a person before it starts; without a screen, with the flag that answers it.
    pub(super) fn asks(&self, step: &Step) -> Option<String> {
        if let Some(by) = self.taken_back(step) {
            return Some(format!("{} took it back: somebody must let it go forward again", by.words()));
        }
        let words = match (&step.confirm, &step.kind) {
            (Confirm::Word(word), _) => format!("type {word} to go on"),
            // Done by hand, a step is confirmed when it is over; every other one before it begins. Keys are the
            // screen's.
            (_, StepKind::Manual { .. }) => "somebody must do it and then say so".to_owned(),
            (Confirm::Key, _) => "somebody must start it".to_owned(),
            (Confirm::None, _) => return None,
        };
        let flag = if answered_by_people(&step.kind) { "--answer" } else { "--yes, or --answer" };
        Some(match self.policy.unattended && !self.is_again(step) {
            true => format!("{words}; without a screen: {flag} {}=NAME", step.id),
            false => words,
        })
    }

    /// Who confirms a step by a flag: a person by name, a machine for what a machine does. `None` leaves it to somebody
    /// at a screen.
    pub(super) fn answer(&self, step: &Step) -> Option<Actor> {
        // What took itself back in a rehearsal goes forward once more in the name of the step's owner.
        let once = self.state.step(&step.id).is_some_and(|s| s.attempts <= 2);
        if self.policy.stand_ins && once && matches!(self.taken_back(step), Some(Actor::Auto)) {
            return Some(Actor::StandIn(step.owner.clone()));
        }
        // Whatever was said beforehand was said of the first time.
        if self.is_again(step) {
            return None;
        }
        if let Some(name) = self.policy.answers.get(&step.id).and_then(|names| names.first()) {
            return Some(Actor::Answered(name.clone()));
        }
        if answered_by_people(&step.kind) {
            return self.policy.stand_ins.then(|| Actor::StandIn(step.owner.clone()));
        }
        self.policy.auto_confirm.then_some(Actor::Auto)
    }

    /// Whether it was begun before a step back, and is done or judged again.
    fn is_again(&self, step: &Step) -> bool {
        self.state.step(&step.id).is_some_and(|s| s.again || s.taken_back.is_some())
    }

    /// Who took a switch step back, if it was not done again since.
    fn taken_back(&self, step: &Step) -> Option<&Actor> {
        self.state.step(&step.id).and_then(|s| s.taken_back.as_ref())
    }

    /// Casts the votes that were given beforehand, for whom has not voted yet: a vote that lapsed, however it was
    /// given, is for its voter to give again.
    pub(super) fn vote_as_answered(&mut self, step: &str, missing: &[String]) {
        if self.state.step(step).is_some_and(|s| s.again) {
            return;
        }
        for voter in missing {
            let named = self.policy.answers.get(step).is_some_and(|names| names.iter().any(|n| same_person(n, voter)));
            let (by, from) = match (named, self.policy.stand_ins) {
                (true, _) => (Actor::Answered(voter.clone()), "--answer"),
                (false, true) => (Actor::StandIn(voter.clone()), "rehearsal"),
                (false, false) => continue,
            };
            let votes = self.state.step(step).map_or(&[][..], |s| s.votes.as_slice());
            if votes.iter().any(|b| same_person(b.by.name(), voter)) {
                continue;
            }
            let (user, host) = (self.state.operator.clone(), self.state.host.clone());
            let origin = Origin { user, host, terminal: from.to_owned() };
            let basis = basis(&self.state, step);
            self.emit(Event::Voted { step: step.to_owned(), by, vote: Vote::Go, origin, basis, note: None });
        }
    }

    /// Holds a step that lacks its second person; `true` when it may start.
    pub(super) fn has_second(&mut self, step: &Step) -> bool {
        // The way back asks nobody else.
        let back = self.state.step(&step.id).is_some_and(|s| s.back.is_some());
        if back || !lacks_second(&self.state, step) {
            return true;
        }
        if self.policy.stand_ins {
            let (user, host) = (self.state.operator.clone(), self.state.host.clone());
            let origin = Origin { user, host, terminal: "rehearsal".to_owned() };
            let (by, basis) = (Actor::StandIn("a second person".to_owned()), basis(&self.state, &step.id));
            self.emit(Event::Approved { step: step.id.clone(), by, origin, basis, note: None });
            return !lacks_second(&self.state, step);
        }
        let reason = second_person_words(&self.state, &step.id);
        let said = self.state.step(&step.id).is_some_and(|s| s.held.as_ref() == Some(&reason));
        if !said {
            self.emit(Event::StepHeld { step: step.id.clone(), reason });
        }
        false
    }

    pub(super) fn approve(
        &mut self,
        id: &str,
        note: Option<&String>,
        origin: &Origin,
        drivers_terminal: bool,
        by: &Actor,
    ) -> Result<(), Refusal> {
        let step = self.the_current(id)?;
        if !step.two_person {
            return Err(Refusal(format!("{id} needs no second person")));
        }
        if matches!(self.state.step(id).map(|s| s.status), Some(StepStatus::Running)) {
            return Err(Refusal(format!("{id} runs already")));
        }
        named(by)?;
        let driver = &self.state.operator;
        if same_person(by.name(), driver) {
            return Err(Refusal(format!("{driver} drives this run; somebody else must approve, by name: --as NAME")));
        }
        if drivers_terminal {
            let why = "this is the terminal the run is driven from; a second person approves from another one";
            return Err(Refusal(why.to_owned()));
        }
        let basis = basis(&self.state, id);
        let (by, origin, note) = (by.clone(), origin.clone(), note.cloned());
        self.emit(Event::Approved { step: id.to_owned(), by, origin, basis, note });
        self.advance();
        Ok(())
    }

    pub(super) fn vote(
        &mut self,
        id: &str,
        vote: Vote,
        note: Option<&String>,
        origin: &Origin,
        by: &Actor,
    ) -> Result<(), Refusal> {
        let step = self.the_current(id)?;
        let StepKind::GoNoGo { voters, .. } = &step.kind else {
            return Err(Refusal(format!("{id} is not a go/no-go step")));
        };
        if self.state.step(id).is_none_or(|s| s.status != StepStatus::Running) {
            return Err(Refusal(format!("{id} takes no votes before it has started")));
        }
        named(by)?;
        if !voters.iter().any(|v| same_person(v, by.name())) {
            let all = if voters.is_empty() { "nobody".to_owned() } else { voters.join(", ") };
            return Err(Refusal(format!("{} has no vote on {id}; voters: {all}", by.name())));
        }
        let basis = basis(&self.state, id);
        let (by, origin, note) = (by.clone(), origin.clone(), note.cloned());
        self.emit(Event::Voted { step: id.to_owned(), by, vote, origin, basis, note });
        Ok(())
    }
}

fn named(by: &Actor) -> Result<(), Refusal> {
    let nobody = same_person(by.name(), "") || by.name().chars().any(char::is_control);
    if nobody { Err(Refusal("an approval needs a name: --as NAME".to_owned())) } else { Ok(()) }
}

/// Whether the person who confirms the step does or decides what it is for: no flag does that in nobody's name. Where
/// votes decide, starting to collect them decides nothing.
const fn answered_by_people(kind: &StepKind) -> bool {
    match kind {
        StepKind::Manual { .. } => true,
        StepKind::GoNoGo { voters, .. } => voters.is_empty(),
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
        | StepKind::Thaw
        | StepKind::Jobs { .. }
        | StepKind::Gate { .. } => false,
    }
}
