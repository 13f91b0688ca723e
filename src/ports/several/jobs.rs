//! Jobs of several regions and accounts, and of this machine, behind one port.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::plan::{Job, JobKind, other_control};
use crate::ports::{Begin, ErrorKind, JobProgress, Jobs, PortError, PortResult};

/// Each call goes to the region and account where its job stands; commands to this machine.
pub struct SeveralJobs {
    controls: BTreeMap<String, Arc<dyn Jobs>>,
    commands: Arc<dyn Jobs>,
}

impl SeveralJobs {
    /// Jobs by the name of the plan's store, and this machine's.
    #[must_use]
    pub fn as_one(controls: BTreeMap<String, Arc<dyn Jobs>>, commands: Arc<dyn Jobs>) -> Arc<dyn Jobs> {
        Arc::new(Self { controls, commands })
    }

    fn of(&self, job: &Job) -> PortResult<&dyn Jobs> {
        if matches!(job.kind, JobKind::Command { .. }) {
            return Ok(&*self.commands);
        }
        self.controls.get(&job.control).map(|jobs| &**jobs).ok_or_else(|| {
            let why = match other_control(&job.control) {
                Some(name) => format!("there is no [control.{name}]"),
                None => "there is no [aws]".to_owned(),
            };
            PortError::new(ErrorKind::Invalid, "reach", job.place(), why)
        })
    }
}

#[async_trait]
impl Jobs for SeveralJobs {
    async fn look(&self, job: &Job) -> PortResult<String> {
        self.of(job)?.look(job).await
    }

    async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String> {
        self.of(job)?.begin(job, begin).await
    }

    async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>> {
        self.of(job)?.find(job, begin).await
    }

    async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress> {
        self.of(job)?.progress(job, handle).await
    }

    async fn cancel(&self, job: &Job, handle: &str) -> PortResult<()> {
        self.of(job)?.cancel(job, handle).await
    }
}
