//! What a rehearsal ends with: a comparison of the side in charge with the account of acknowledged writes.

use std::fmt;

use crate::rehearsal::oracle::{Comparison, Side, WriteCounts};
use crate::rehearsal::scenario::Scenario;

/// Most keys that a verdict lists.
const LISTED: usize = 20;

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
    /// Writes over the whole rehearsal.
    pub tally: WriteCounts,
}

impl OracleReport {
    /// Whether the side in charge holds every acknowledged write and nothing else.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.comparison.clean()
    }
}

impl fmt::Display for OracleReport {
    /// Begins with `0 lost` when, and only when, nothing was lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.comparison;
        let side = format!("{} side ({})", self.in_charge.name(), self.scenario.stores(self.in_charge));
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
