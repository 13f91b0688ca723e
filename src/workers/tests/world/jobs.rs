//! Jobs of a service: each ends after some questions how far it is, and one at a time works on one thing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::domain::plan::Job;
use crate::ports::{Begin, ErrorKind, JobProgress, JobState, Jobs, PortError, PortResult};

/// Questions after which a job has ended.
const ENDS_AFTER: u32 = 3;

/// One beginning.
#[derive(Clone, Debug)]
pub struct Begun {
    pub job: String,
    pub undo: bool,
    /// How often it was asked.
    asked: u32,
    pub state: JobState,
}

/// The service. Cloning shares.
#[derive(Clone, Default)]
pub struct FakeJobs {
    begun: Arc<Mutex<Vec<Begun>>>,
    /// Jobs that fail, each so many times more.
    failing: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Jobs that do not end by themselves.
    endless: Arc<Mutex<Vec<String>>>,
}

fn held<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeJobs {
    /// Everything that was begun, in order.
    pub fn begun(&self) -> Vec<Begun> {
        held(&self.begun).clone()
    }

    /// The next beginnings of a job fail.
    pub fn fails(&self, job: &str, times: u32) {
        held(&self.failing).insert(job.to_owned(), times);
    }

    /// What the run begins of a job does not end by itself; what a rollback begins does.
    pub fn never_ends(&self, job: &str) {
        held(&self.endless).push(job.to_owned());
    }

    /// What was begun of it ends by itself after all.
    pub fn end(&self, job: &str) {
        held(&self.endless).retain(|endless| endless != job);
    }

    /// The process that ran commands is gone, and what it knew of them.
    pub fn forget(&self, job: &str) {
        held(&self.begun).retain(|begun| begun.job != job);
    }

    fn refused<T>(kind: ErrorKind, job: &Job, came_back: &str) -> PortResult<T> {
        Err(PortError::new(kind, "begin", job.place(), came_back))
    }
}

#[async_trait]
impl Jobs for FakeJobs {
    async fn look(&self, job: &Job) -> PortResult<String> {
        match held(&self.begun).iter().any(|b| b.job == job.id && b.state == JobState::Running) {
            true => Self::refused(ErrorKind::Conflict, job, "another one is under way"),
            false => Ok("is there".to_owned()),
        }
    }

    async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String> {
        let mut begun = held(&self.begun);
        if begun.iter().any(|b| b.job == job.id && b.state == JobState::Running) {
            return Self::refused(ErrorKind::Conflict, job, "another one is under way");
        }
        begun.push(Begun { job: job.id.clone(), undo: begin.undo, asked: 0, state: JobState::Running });
        Ok(format!("{}#{}", job.id, begun.len()))
    }

    async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>> {
        let begun = held(&self.begun);
        let handle = |at: usize| format!("{}#{}", job.id, at + 1);
        // As a service that knows no tokens: the last one of the job, unless it is the one that is known.
        let last = begun.iter().rposition(|b| b.job == job.id).map(handle);
        Ok(last.filter(|last| begin.besides.as_ref() != Some(last)))
    }

    async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress> {
        let at: Option<usize> = handle.rsplit_once('#').and_then(|(_, n)| n.parse().ok());
        let mut begun = held(&self.begun);
        let Some(one) = at.and_then(|at| begun.get_mut(at - 1)) else {
            return Self::refused(ErrorKind::NotFound, job, "nothing is known of it");
        };
        if one.state == JobState::Running {
            one.asked += 1;
            let endless = !one.undo && held(&self.endless).contains(&job.id);
            let ends = one.asked >= ENDS_AFTER && !endless;
            let mut failing = held(&self.failing);
            let fails = failing.get_mut(&job.id).filter(|left| **left > 0);
            match (ends, fails) {
                (true, Some(left)) => {
                    *left -= 1;
                    one.state = JobState::Failed;
                }
                (true, None) => one.state = JobState::Done,
                (false, _) => {}
            }
        }
        let said = match one.state {
            JobState::Running => "InProgress",
            JobState::Done => "Successful",
            JobState::Failed => "Failed: no capacity",
        };
        let percent = u8::try_from(one.asked * 30).ok().map(|p| p.min(100));
        Ok(JobProgress { state: one.state, percent, said: said.to_owned() })
    }

    async fn cancel(&self, _: &Job, handle: &str) -> PortResult<()> {
        let at: Option<usize> = handle.rsplit_once('#').and_then(|(_, n)| n.parse().ok());
        let mut begun = held(&self.begun);
        if let Some(one) = at.and_then(|at| begun.get_mut(at - 1)).filter(|one| one.state == JobState::Running) {
            one.state = JobState::Failed;
        }
        Ok(())
    }
}
