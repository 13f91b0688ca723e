//! What a command says when it cannot do what it was asked, and the exit code that goes with it.

use std::fmt;

use color_eyre::eyre::Report;

use super::exit::Exit;
use crate::config::ConfigErrors;
use crate::domain::run::{ErrorClass, StepError};
use crate::engine::EngineError;
use crate::journal::{FindError, JournalError, LockError};
use crate::ports::{ErrorKind, PortError};
use crate::report::OfflineError;

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to print on stderr.
    pub report: Report,
}

impl Failure {
    /// A failure in these words.
    pub fn new(exit: Exit, text: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { exit, report: Report::msg(text) }
    }

    /// What happened and why, in one line of words. Many errors quote their cause; it is not said twice.
    pub fn words(&self) -> String {
        let mut said = String::new();
        for cause in self.report.chain().map(ToString::to_string) {
            if !said.contains(&cause) {
                said = if said.is_empty() { cause } else { format!("{said}: {cause}") };
            }
        }
        said
    }
}

impl From<ConfigErrors> for Failure {
    fn from(e: ConfigErrors) -> Self {
        Self::new(Exit::Config, e.to_string())
    }
}

impl From<JournalError> for Failure {
    fn from(e: JournalError) -> Self {
        Self { exit: Exit::Journal, report: e.into() }
    }
}

impl From<FindError> for Failure {
    fn from(e: FindError) -> Self {
        Self { exit: Exit::Usage, report: e.into() }
    }
}

impl From<LockError> for Failure {
    fn from(e: LockError) -> Self {
        let exit = match &e {
            // Nothing is wrong, and it is not this command's turn.
            LockError::Held { .. } => Exit::Refused,
            LockError::Io { .. } => Exit::Unexpected,
        };
        Self { exit, report: e.into() }
    }
}

impl From<OfflineError> for Failure {
    fn from(e: OfflineError) -> Self {
        Self { exit: Exit::Journal, report: e.into() }
    }
}

impl From<PortError> for Failure {
    fn from(e: PortError) -> Self {
        Self { exit: exit_of(&e), report: e.into() }
    }
}

/// What a store's answer means for the exit code.
fn exit_of(e: &PortError) -> Exit {
    use ErrorKind as K;
    // Somebody drives: nothing is wrong, and it is not this command's turn.
    if e.held_by.is_some() {
        return Exit::Refused;
    }
    match e.kind {
        K::Denied => Exit::Denied,
        K::Throttled
        | K::Unreachable
        | K::TimedOut
        | K::NotFound
        | K::Conflict
        | K::Expired
        | K::Trimmed
        | K::Invalid
        | K::Internal
        | K::Rewound
        | K::ReadOnly => Exit::Unexpected,
    }
}

impl From<EngineError> for Failure {
    fn from(e: EngineError) -> Self {
        let exit = match &e {
            EngineError::Journal(..) => Exit::Journal,
            EngineError::Lease(p) => exit_of(p),
            EngineError::Thread(_) => Exit::Unexpected,
        };
        Self { exit, report: e.into() }
    }
}

impl From<StepError> for Failure {
    fn from(e: StepError) -> Self {
        let exit = match e.class {
            ErrorClass::Permission => Exit::Denied,
            ErrorClass::Verification => Exit::VerificationFailed,
            _ => Exit::Unexpected,
        };
        Self::new(exit, format!("{} ({})", e.message, e.advice))
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self { exit: Exit::Unexpected, report: e.into() }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self { exit: Exit::Unexpected, report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_because_somebody_drives_can_tell_it_by_the_code() {
        let error = |kind| PortError::new(kind, "take", "the lease", "r-1 is driven");
        let exit = |e: PortError| (Failure::from(e.clone()).exit, Failure::from(EngineError::Lease(e)).exit);
        let driven = error(ErrorKind::Conflict).held_by("r-1", "db1:7");
        assert_eq!(exit(driven), (Exit::Refused, Exit::Refused));
        assert_eq!(exit(error(ErrorKind::Conflict)), (Exit::Unexpected, Exit::Unexpected));
        assert_eq!(exit(error(ErrorKind::Denied)), (Exit::Denied, Exit::Denied));
    }

    #[test]
    fn a_cause_that_was_quoted_is_not_said_twice() {
        let quoting = LockError::Io { path: "/runs/1/lock".into(), source: std::io::Error::other("no space") };
        assert_eq!(Failure::from(quoting).words(), "lock /runs/1/lock: no space");
        let report = Report::msg("no space").wrap_err("write the lock");
        assert_eq!(Failure { exit: Exit::Journal, report }.words(), "write the lock: no space");
    }
}
