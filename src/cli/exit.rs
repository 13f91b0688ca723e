//! Exit codes. Constants of the command line's contract; documented in `docs/exit-codes.md`.

use std::process::ExitCode;

use crate::engine::Ending;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every step done, or the command did what it was asked.
    Finished = 0,
    /// Something unexpected.
    Unexpected = 1,
    /// The command line was wrong.
    Usage = 2,
    /// Rolled back cleanly.
    RolledBack = 3,
    /// A gate was not met.
    GateNotMet = 4,
    /// Both sides differ.
    VerificationFailed = 5,
    /// A switch could not be put back, or writes of the new side were left there; a person is needed.
    Stuck = 6,
    /// The record of a run is not what was written.
    Damaged = 7,
    /// The request was not accepted: an approval, a vote, an order; or somebody else drives.
    Refused = 8,
    /// A rehearsal ended and a fault it was asked for never struck.
    FaultNeverStruck = 9,
    /// A bug.
    Bug = 70,
    /// The journal cannot be written or read.
    Journal = 74,
    /// Paused; the run can be resumed.
    Paused = 75,
    /// Credentials or permissions.
    Denied = 77,
    /// The config is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Ending> for Exit {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Finished => Self::Finished,
            Ending::RolledBack => Self::RolledBack,
            Ending::GateNotMet => Self::GateNotMet,
            Ending::VerificationFailed => Self::VerificationFailed,
            Ending::Stuck => Self::Stuck,
            Ending::Paused => Self::Paused,
            Ending::Denied => Self::Denied,
            Ending::Journal => Self::Journal,
            Ending::Failed => Self::Unexpected,
        }
    }
}
