//! What each switch step changes: which places, and who serves reads and writes before and after it.

use super::Plan;
use super::dial::{Dial, Serves};
use super::probe::Side;
use super::step::StepKind;
use super::switch::{Switch, ValueRef};

/// What one switch step does to one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switching<'p> {
    /// The dial that moves and its positions before and after; absent for a switch that has none.
    pub moves: Option<Moves<'p>>,
    /// Who served what before.
    pub from: Serves,
    /// Who serves what after it.
    pub to: Serves,
    /// The places that are set, each with its value.
    pub places: Vec<(&'p Switch, &'p ValueRef)>,
}

/// A dial that goes from one position to another, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moves<'p> {
    /// The dial.
    pub dial: &'p Dial,
    /// Where it stands before.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
}

impl Switching<'_> {
    /// Whether the new side serves more reads after it, or (both, compared) any at all.
    #[must_use]
    pub fn more_new_reads(&self) -> bool {
        // An application that reads both and compares still answers with the old side's data.
        let reach = |serves: Serves| serves.new_reads().map(|share| (share, serves.reads == Some(Side::New)));
        reach(self.to).is_some_and(|to| reach(self.from).unwrap_or((0, false)) < to)
    }

    /// Whether writes go to the new side alone after it, and did not before.
    #[must_use]
    pub fn moves_writes(&self) -> bool {
        self.to.writes == Some(Side::New) && self.from.writes != Some(Side::New)
    }

    /// Whether the application begins to write to both sides.
    #[must_use]
    pub fn begins_both_writes(&self) -> bool {
        self.to.writes == Some(Side::Both) && self.from.writes == Some(Side::Old)
    }
}

impl Plan {
    /// The dial with this id.
    #[must_use]
    pub fn dial(&self, id: &str) -> Option<&Dial> {
        self.dials.iter().find(|dial| dial.id == id)
    }

    /// The dial that this switch is a place of.
    #[must_use]
    pub fn dial_of(&self, switch: &str) -> Option<&Dial> {
        self.dials.iter().find(|dial| dial.places.iter().any(|place| place == switch))
    }

    /// Every value that a switch may be set to: one, or that of each position.
    #[must_use]
    pub fn values_of<'p>(&'p self, switch: &'p Switch) -> Vec<&'p ValueRef> {
        match self.dial_of(&switch.id) {
            Some(dial) => (0..dial.positions.len()).filter_map(|at| dial.value(&switch.id, at)).collect(),
            None => vec![&switch.to],
        }
    }

    /// Where a dial stands before this step of the runbook (counted from 0) if everything before it was done.
    #[must_use]
    pub fn stands_before(&self, step: usize, dial: &Dial) -> usize {
        let to = |kind: &StepKind| {
            let StepKind::Switch { to, .. } = kind else { return None };
            to.get(&dial.id).and_then(|name| dial.position(name))
        };
        self.steps.iter().take(step).rev().find_map(|step| to(&step.kind)).unwrap_or(0)
    }

    /// What a step of the runbook switches: nothing, unless it is a switch step. Names that the plan does not know are left
    /// out; the lint names them.
    #[must_use]
    pub fn changes(&self, step: &str) -> Vec<Switching<'_>> {
        let Some(at) = self.steps.iter().position(|s| s.id == step) else { return Vec::new() };
        let StepKind::Switch { switches, to } = &self.steps[at].kind else { return Vec::new() };
        let two_valued = switches.iter().filter_map(|id| self.switch(id)).map(|switch| Switching {
            moves: None,
            from: Serves::OLD,
            to: Serves::NEW,
            places: vec![(switch, &switch.to)],
        });
        let dials = to.iter().filter_map(|(id, name)| {
            let dial = self.dial(id)?;
            let (from, to) = (self.stands_before(at, dial), dial.position(name)?);
            let values = |place: &String| Some((self.switch(place)?, dial.value(place, to)?));
            Some(Switching {
                moves: Some(Moves { dial, from, to }),
                from: dial.positions.get(from)?.serves,
                to: dial.positions.get(to)?.serves,
                places: dial.places.iter().filter_map(values).collect(),
            })
        });
        two_valued.chain(dials).collect()
    }

    /// Whether a step moves writes to the new side alone.
    #[must_use]
    pub fn moves_writes(&self, step: &str) -> bool {
        self.changes(step).iter().any(Switching::moves_writes)
    }
}
