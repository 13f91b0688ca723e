//! What a rehearsal ends with: a comparison of the side in charge with the account of acknowledged writes.

use std::fmt;

use crate::rehearsal::oracle::{Aside, Comparison, Side, WriteCounts};
use crate::rehearsal::scenario::Scenario;

/// Most keys that a verdict lists.
const LISTED: usize = 20;

/// What was found in the stores of one kind, where they are of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFound {
    /// The kind of store.
    pub kind: &'static str,
    /// The side that serves what it holds.
    pub side: Side,
    /// What was found on that side.
    pub found: Comparison,
    /// What the other side was left with; `None` before customers have written on the new side.
    pub aside: Option<Aside>,
}

impl StoreFound {
    /// Adds what was found of another kind of records.
    pub(super) fn add(&mut self, found: Comparison, aside: Option<Aside>) {
        self.found.add(found);
        if let (Some(all), Some(more)) = (&mut self.aside, aside) {
            all.add(more);
        }
    }

    /// `PostgreSQL v1`.
    fn name(&self, side: Side) -> String {
        let version = match side {
            Side::Old => "v1",
            Side::New => "v2",
        };
        format!("{} {version}", self.kind)
    }
}

/// What a rehearsal ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OracleReport {
    /// Which day it was.
    pub scenario: Scenario,
    /// The side that the parameters name for writes.
    pub in_charge: Side,
    /// Whether writes are still frozen.
    pub frozen: bool,
    /// What was found there.
    pub comparison: Comparison,
    /// The same by store, where there are several.
    pub stores: Vec<StoreFound>,
    /// Writes over the whole rehearsal.
    pub tally: WriteCounts,
}

impl OracleReport {
    /// Whether one side is in charge of everything and holds every acknowledged write and nothing else, and the other
    /// side what it was left with.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.comparison.clean() && self.whole() && self.asides().all(|(_, aside)| aside.wrong.is_empty())
    }

    /// Whether one side serves everything.
    fn whole(&self) -> bool {
        self.stores.iter().all(|store| store.side == self.in_charge)
    }

    fn asides(&self) -> impl Iterator<Item = (String, &Aside)> {
        self.stores.iter().filter_map(|store| {
            let other = match store.side {
                Side::Old => Side::New,
                Side::New => Side::Old,
            };
            Some((store.name(other), store.aside.as_ref()?))
        })
    }

    /// The stores in charge, with their keys where there are several: `PostgreSQL v2 9,000 and DynamoDB v2 500`.
    fn named(&self) -> String {
        if self.stores.is_empty() {
            return self.scenario.stores(self.in_charge).to_owned();
        }
        let each = self.stores.iter().map(|store| format!("{} {}", store.name(store.side), store.found.checked));
        each.collect::<Vec<_>>().join(", ")
    }

    /// What the side that serves no more was left with.
    fn write_asides(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stores.iter().all(|store| store.aside.is_none()) {
            return Ok(());
        }
        let (mut each, mut behind, mut wrong) = (Vec::new(), 0, 0);
        for (name, aside) in self.asides() {
            each.push(format!("{name} {}", aside.checked));
            behind += aside.behind;
            wrong += aside.wrong.len();
        }
        let each = each.join(", ");
        if wrong == 0 {
            write!(f, "0 wrong on the side that serves no more: {each}")?;
        } else {
            write!(
                f,
                "WRONG: {wrong} keys on the side that serves no more ({each}) do not hold what it was left with"
            )?;
        }
        match behind {
            0 => writeln!(f)?,
            _ => writeln!(f, "; {behind} keys with changes that had not been carried back yet")?,
        }
        for finding in self.asides().flat_map(|(_, aside)| &aside.wrong).take(LISTED) {
            writeln!(f, "  {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for OracleReport {
    /// Begins with `0 lost` when, and only when, nothing was lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.comparison;
        let side = match self.whole() {
            true => format!("{} side ({})", self.in_charge.name(), self.named()),
            false => format!("stores that the parameters name, which are of both sides ({})", self.named()),
        };
        if c.clean() {
            writeln!(f, "0 lost: {} keys checked on the {side}", c.checked)?;
        } else {
            writeln!(
                f,
                "LOST: {} of {} keys on the {side} do not hold their last acknowledged write \
                 ({} missing, {} differing, {} that should not be there)",
                c.wrong(),
                c.checked,
                c.lost.len(),
                c.differing.len(),
                c.extra.len()
            )?;
            for finding in c.findings().take(LISTED) {
                writeln!(f, "  {finding}")?;
            }
            if c.wrong() > LISTED {
                writeln!(f, "  and {} more", c.wrong() - LISTED)?;
            }
            if self.in_charge == Side::Old && c.new_side_writes_lost() > 0 {
                writeln!(f, "  {} writes of the new side did not come back", c.new_side_writes_lost())?;
            }
        }
        self.write_asides(f)?;
        let t = &self.tally;
        write!(
            f,
            "{} writes acknowledged ({} old side, {} new side), {} refused while frozen, {} failed, {} unknown",
            t.old + t.new,
            t.old,
            t.new,
            t.frozen,
            t.refused,
            t.unknown
        )?;
        if self.in_charge == Side::New {
            write!(f, "; {} rows that cannot be carried stayed behind", c.parked)?;
        }
        if c.untold > 0 {
            write!(
                f,
                "; on {} keys a value that stood there already was written while a newer one was on its way",
                c.untold
            )?;
        }
        if c.set_back > 0 {
            write!(
                f,
                "; {} keys were set back after a carried change that a dead carrier had not cleared",
                c.set_back
            )?;
        }
        if self.frozen {
            f.write_str("; writes are still frozen")?;
        }
        Ok(())
    }
}
