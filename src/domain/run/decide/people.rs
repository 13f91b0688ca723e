//! Second persons and voters.

use super::Draft;
use crate::domain::plan::{Step, StepKind};
use crate::domain::run::approval::{Origin, Vote, basis, lacks_second, same_person, second_person_words};
use crate::domain::run::event::{Actor, Event};
use crate::domain::run::input::Refusal;
use crate::domain::run::state::StepStatus;

impl Draft<'_> {
    /// Holds a step that lacks its second person; `true` when it may start.
    pub(super) fn has_second(&mut self, step: &Step) -> bool {
        if !lacks_second(&self.state, step) {
            return true;
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
