//! Work that somebody else does: begun here, watched until it ends.

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::at::At;
use crate::domain::plan::Job;

/// Which beginning of a job this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Small letters, digits and single hyphens, at most 40; the same whenever the same beginning is tried again, and different for
    /// every other one of this or another run. What the job makes is called after it.
    pub token: String,
    /// When it was first tried, wall clock.
    pub since: At,
    /// In a rollback: a command runs what takes it back.
    pub undo: bool,
    /// What an earlier beginning is asked about by, where it is known: it is not this one.
    pub besides: Option<String>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobProgress {
    /// Whether it goes on.
    pub state: JobState,
    /// Percent done, where the service says so.
    pub percent: Option<u8>,
    /// The service's own words, without secrets: `InProgress, 3 of 8 instances to update`. May be empty.
    pub said: String,
}

/// Whether a job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It has begun and has not ended.
    Running,
    /// It has ended as it should.
    Done,
    /// It has ended otherwise, whether it failed, was cancelled or was taken back by the service.
    Failed,
}

/// Begins, finds and watches jobs. Nothing here waits for a job's end.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Whether the job could begin now: what it works on is there and nothing stands in its way. What is worth knowing of
    /// it, in words (`8 instances, InService`). `NotFound` when it is not there; `Conflict` when something else is under way
    /// that it would have to wait for; `Invalid` when it can never begin as it is (deletion protection).
    async fn look(&self, job: &Job) -> PortResult<String>;

    /// Begins it and gives what it can be asked about by. `Conflict` when another one is under way.
    async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String>;

    /// What an earlier call of `begin` with the same token began, though its answer was lost; `None` when it began nothing.
    async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>>;

    /// How far it is. `NotFound` when the service knows nothing of it.
    async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress>;

    /// Asks the service to end it early. It goes on until `progress` says that it has ended. What has ended already is
    /// left as it is. `Invalid` for a job that cannot be ended early.
    async fn cancel(&self, job: &Job, handle: &str) -> PortResult<()>;
}
