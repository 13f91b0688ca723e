//! One error for every port: what was tried, on what, the answer, what to do.

use std::fmt;

use crate::domain::secret::Secret;

/// What kind of trouble; decides whether to try again and what to show the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Asked to slow down. Try again later.
    Throttled,
    /// No connection, or it broke. Try again.
    Unreachable,
    /// This server takes no writes: a replica, or a server that was demoted. Try again: the next one may.
    ReadOnly,
    /// No answer in time; the effect may have happened. Try again after reading back.
    TimedOut,
    /// Credentials or permissions.
    Denied,
    /// The thing does not exist.
    NotFound,
    /// The thing exists already, or changed under us.
    Conflict,
    /// An iterator is too old; get a new one after the last position.
    Expired,
    /// The store stands at an earlier moment than the one it had confirmed: a failover lost transactions. Read back how
    /// far it is and go on from there.
    Rewound,
    /// Data was trimmed before it was read: a gap that only a new load closes.
    Trimmed,
    /// The request or the data is wrong; trying again will not help.
    Invalid,
    /// The other side failed inside. Try again.
    Internal,
}

impl ErrorKind {
    /// Whether trying again may help.
    #[must_use]
    pub const fn transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unreachable | Self::ReadOnly | Self::TimedOut | Self::Internal)
    }
}

/// A port's error. Never holds a secret or a row value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    /// What kind.
    pub kind: ErrorKind,
    /// What was tried: `scan`, `put parameter`.
    pub tried: String,
    /// On what: `CloudShelf-Books segment 3/8`.
    pub on: String,
    /// The answer, or the error that came instead.
    pub came_back: String,
    /// What to do next.
    pub advice: String,
    /// Who has the lease that was asked for, when somebody else has.
    pub held_by: Option<Box<LeaseHolder>>,
}

/// Who has a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The run it is held for.
    pub run: String,
    /// The process that holds it: `host:process id`.
    pub holder: String,
}

/// A port's result.
pub type PortResult<T> = Result<T, PortError>;

impl PortError {
    /// An error without advice; [`PortError::advise`] adds it.
    pub fn new(kind: ErrorKind, tried: impl Into<String>, on: impl Into<String>, came_back: impl Into<String>) -> Self {
        Self {
            kind,
            tried: tried.into(),
            on: on.into(),
            came_back: came_back.into(),
            advice: String::new(),
            held_by: None,
        }
    }

    /// The same error with who has the lease.
    #[must_use]
    pub fn held_by(mut self, run: &str, holder: &str) -> Self {
        self.held_by = Some(Box::new(LeaseHolder { run: run.to_owned(), holder: holder.to_owned() }));
        self
    }

    /// The same error without this value, should the store's own words quote it.
    #[must_use]
    pub fn without(mut self, value: &Secret) -> Self {
        if !value.reveal().is_empty() {
            self.came_back = self.came_back.replace(value.reveal(), "***");
        }
        self
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.tried, self.on, self.came_back)?;
        if !self.advice.is_empty() {
            write!(f, " ({})", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for PortError {}
