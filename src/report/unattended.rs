//! A run that is not at its end and that nobody drives: what it is called, for how long, and what to do about it.

use serde::{Deserialize, Serialize};

use crate::domain::at::{At, brief};
use crate::domain::run::{RunState, RunStatus};
use crate::journal::RunFolder;

/// A run that is not at its end while no process holds its lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unattended {
    /// `paused` when somebody asked for it, else `interrupted`.
    pub word: String,
    /// The run's last fact, on the run's clock.
    pub since: At,
    /// Whether it was a rehearsal, whose clock and world are its own.
    pub rehearsal: bool,
    /// What to do.
    pub advice: String,
}

impl Unattended {
    /// What became of a run whose lock nobody holds; `None` at its end, and for a run that is stuck and says so.
    ///
    /// `driven` is asked of the lock before the facts are read: a driver that ends its run in between is no trouble.
    pub(super) fn of(folder: &RunFolder, driven: bool, state: &RunState, last: At) -> Option<Self> {
        if driven || state.is_final() || state.status == RunStatus::Stuck {
            return None;
        }
        let rehearsal = folder.is_rehearsal();
        let advice = match state.status {
            _ if rehearsal => "the world of a rehearsal ends with its process; begin a new one",
            RunStatus::RollingBack => "it was rolling back; `cutover rollback` goes on with that",
            _ => "start the same command again to take it up",
        };
        let word = if state.status == RunStatus::Paused { "paused" } else { "interrupted" };
        Some(Self { word: word.to_owned(), since: last, rehearsal, advice: advice.to_owned() })
    }

    /// What is printed: for how long nobody has driven the run, and how to resume it. `wall` is the time now.
    #[must_use]
    pub fn words(&self, wall: At) -> String {
        // The clock of a rehearsal leaps ahead of the wall.
        let long =
            if self.rehearsal { String::new() } else { format!(" for {}", brief(wall.since(self.since).max(0))) };
        format!("nobody drives it{long}; {}", self.advice)
    }
}
