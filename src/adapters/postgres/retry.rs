//! Running a transaction again: once more in pieces when the data is refused, a few times when it collides.

use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::connect::{Object, Pool};
use super::{refusal, trouble};
use crate::ports::{ErrorKind, PortError, PortResult};

/// Why a transaction did not get through.
#[derive(Debug)]
pub(super) enum Failure {
    /// A statement failed: nothing is done.
    Statement(Error),
    /// The commit failed: refused, or it is not known.
    Commit(Error),
    /// Something that is an answer already.
    Port(PortError),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Statement(e)
    }
}

impl From<PortError> for Failure {
    fn from(e: PortError) -> Self {
        Self::Port(e)
    }
}

const COLLISIONS: u32 = 6;

/// A connection from the pool.
pub(super) async fn client(pool: &Pool, place: &str) -> PortResult<Object> {
    pool.get().await.map_err(|e| trouble::pool(e, place))
}

/// What has been tried so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Whether to go piece by piece from now on.
    pub piecewise: bool,
    /// Whether a lock that was not to be had in time is a collision too.
    patient: bool,
    collisions: u32,
}

impl Tries {
    /// For transactions that wait for locks only briefly: when such a wait times out, it is tried again.
    pub(super) fn patient() -> Self {
        Self { patient: true, piecewise: true, ..Self::default() }
    }

    /// After a failure: `Ok` when another attempt may help, otherwise the error for the caller.
    pub(super) async fn after(&mut self, failure: Failure, tried: &str, on: &str) -> PortResult<()> {
        match &failure {
            // In pieces, every answer is waited for, so the failure behind this one is seen.
            Failure::Statement(e) | Failure::Commit(e) if !self.piecewise && refuses_data(e) => self.piecewise = true,
            Failure::Statement(e) | Failure::Commit(e)
                if self.collisions < COLLISIONS
                    && (trouble::is_collision(e)
                        || (self.patient && e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))) =>
            {
                // Let the other transaction finish; which one waits longer is left to chance.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(5..=40 << self.collisions))).await;
                self.collisions += 1;
            }
            _ => return Err(answer(failure, tried, on)),
        }
        Ok(())
    }
}

fn refuses_data(e: &Error) -> bool {
    refusal::is_data(e) || trouble::is_behind(e)
}

/// Whether another attempt, alone or in pieces, may get through.
pub(super) fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Statement(e) | Failure::Commit(e) => refuses_data(e) || trouble::is_collision(e),
        Failure::Port(_) => false,
    }
}

/// The error for the caller after a failure that ended the attempts.
pub(super) fn answer(failure: Failure, tried: &str, on: &str) -> PortError {
    match failure {
        Failure::Port(e) => e,
        Failure::Commit(e) if trouble::is_unknown(&e) => {
            let came_back = format!("the connection broke at commit: {e}");
            PortError::new(ErrorKind::TimedOut, tried, on, came_back)
                .advise("it may be done or not: read the stored progress back, then go on from there")
        }
        Failure::Statement(e) | Failure::Commit(e) => trouble::error(&e, tried, on),
    }
}
