//! What a rollback does about jobs, once traffic points to the old side again: applications are started once more with the
//! values that are back, and commands are undone.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::jobs::{again, token, watch};
use super::rollback::FactSink;
use super::trouble::evidence;
use crate::domain::at::brief;
use crate::domain::gauge::JobGauge;
use crate::domain::plan::{Job, JobKind, Plan};
use crate::domain::run::{Action, Event, Evidence, JobBegun, Level, OutcomeResult, UndoJob};
use crate::ports::{Begin, Clock, ErrorKind, JobState, Jobs, PortResult};

/// Attempts at one call before a person is needed, and the pause after the first.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two.
const LONGEST: Duration = Duration::from_secs(6);
/// Longest wait for what still runs to end once it was told to.
const ENDS: Duration = Duration::from_secs(300);

/// How often it is recorded that the rollback goes on: oftener than another terminal gives up on it.
const BEAT: Duration = Duration::from_secs(10);
/// How long a service may be silent before a person is needed: customers may be kept out meanwhile.
const SILENT: Duration = Duration::from_secs(60);

/// Where it is told how far a job is.
pub type TellJob<'t> = &'t (dyn Fn(&str, JobGauge) + Send + Sync);

/// What undoes jobs.
pub struct UndoJobs<'u> {
    /// The plan.
    pub plan: &'u Plan,
    /// The run's id.
    pub run: &'u str,
    /// Begins and watches them.
    pub jobs: &'u dyn Jobs,
    /// This machine's time.
    pub clock: Arc<dyn Clock>,
    /// Where facts go.
    pub facts: &'u dyn FactSink,
    /// Where it is told how far they are.
    pub tell: TellJob<'u>,
    /// Makes intent ids unique: the pass, and who makes it.
    pub pass: String,
}

impl UndoJobs<'_> {
    /// Undoes them, all at the same time, and waits for their end: by job what was read back, or what a person must do.
    pub async fn go(&self, all: &[&UndoJob]) -> BTreeMap<String, Result<Evidence, String>> {
        if all.is_empty() {
            return BTreeMap::new();
        }
        let began = Instant::now();
        // Who asked from another terminal takes a console that records nothing for one that hangs.
        let beats = async {
            loop {
                tokio::time::sleep(BEAT).await;
                let names: Vec<&str> = all.iter().map(|undo| undo.job.as_str()).collect();
                let text = format!("{} to be undone, for {} now", names.join(", "), length(began.elapsed()));
                self.facts.send(Event::Note { level: Level::Info, source: "rollback".to_owned(), text });
            }
        };
        let each = join_all(all.iter().map(|undo| async { (undo.job.clone(), self.one(undo).await) }));
        tokio::select! {
            results = each => results.into_iter().collect(),
            () = beats => BTreeMap::new(),
        }
    }

    async fn one(&self, undo: &UndoJob) -> Result<Evidence, String> {
        let Some(job) = self.plan.job(&undo.job) else {
            return Err(format!("{}: the plan does not name this job; undo it by hand", undo.job));
        };
        let began = Instant::now();
        let limit = Duration::from_millis(job.timeout_ms);
        let end = tokio::time::timeout(limit, self.undone(job, undo)).await;
        match end.unwrap_or_else(|_| Err(format!("it has not ended in {}", length(limit)))) {
            Ok(words) => {
                let took = length(began.elapsed());
                Ok(evidence(
                    format!("job {}", job.id),
                    format!("{words}, after {took}"),
                    self.clock.wall(),
                    job.place(),
                ))
            }
            Err(error) => Err(by_hand(job, &error)),
        }
    }

    /// Ends what still runs, then begins the job once more, or its `undo`. That it was undone is on record when it has ended
    /// well: whoever comes after does it again otherwise.
    async fn undone(&self, job: &Job, undo: &UndoJob) -> Result<String, String> {
        let besides = match &undo.begun {
            Some(begun) => self.ended(job, begun).await?,
            None if matches!(job.kind, JobKind::Command { .. }) => {
                return Err("the record is damaged: whether it was run is not known".to_owned());
            }
            None => None,
        };
        if matches!(&job.kind, JobKind::Command { undo, .. } if undo.is_empty()) {
            return Ok(match besides {
                Some(_) => "ended",
                None => "the process that ran it is gone; see that it has ended",
            }
            .to_owned());
        }
        let id = format!("undo/{}/{}", self.pass, job.id);
        let token = token(self.run, &format!("back-{}", self.pass));
        let begin = Begin { token, since: self.clock.wall(), undo: true, besides };
        let action =
            Action::BeginJob { job: job.id.clone(), token: begin.token.clone(), since: begin.since, undo: true };
        self.facts.send(Event::Intent { id: id.clone(), step: None, action });
        let end = async {
            let first = Cell::new(true);
            let handle = self.tried(|| self.begun(job, &begin, first.replace(false))).await?;
            let end = self.watched(job, &handle).await?;
            match end.state {
                JobState::Done if end.said.is_empty() => Ok((handle, "done".to_owned())),
                JobState::Done => Ok((handle, end.said)),
                JobState::Running | JobState::Failed => Err(format!("it ended otherwise: {}", end.said)),
            }
        };
        let end = end.await;
        let result = match &end {
            Ok((handle, _)) => OutcomeResult::Done { read_back: handle.clone(), version: None },
            Err(error) => OutcomeResult::Unknown { error: error.clone() },
        };
        self.facts.send(Event::Outcome { id, result });
        end.map(|(_, said)| said)
    }

    /// Begins it; after a first call an answer that was lost may have begun it already.
    async fn begun(&self, job: &Job, begin: &Begin, first: bool) -> PortResult<String> {
        if !first && let Some(handle) = self.jobs.find(job, begin).await? {
            return Ok(handle);
        }
        self.jobs.begin(job, begin).await
    }

    async fn watched(&self, job: &Job, handle: &str) -> Result<crate::ports::JobProgress, String> {
        let since = self.clock.wall();
        let tell = |gauge: JobGauge| (self.tell)(&job.id, JobGauge { since, ..gauge });
        let silent = Some(SILENT);
        watch(self.jobs, job, handle, &|| self.clock.wall(), &tell, silent).await.map_err(|e| e.to_string())
    }

    /// What the run or an earlier rollback began is told to end, and has ended: it would start applications with values that
    /// do not stand any more. Gives what it was asked about by.
    async fn ended(&self, job: &Job, begun: &JobBegun) -> Result<Option<String>, String> {
        let handle = match &begun.handle {
            // A command is recorded as begun when it has ended.
            Some(_) if matches!(job.kind, JobKind::Command { .. }) => return Ok(None),
            Some(handle) => Some(handle.clone()),
            None => {
                let before = again(begun);
                self.tried(|| self.jobs.find(job, &before)).await?
            }
        };
        let Some(handle) = handle else { return Ok(None) };
        let runs = self.tried(|| async {
            match self.jobs.progress(job, &handle).await {
                Ok(progress) => Ok(progress.state == JobState::Running),
                Err(e) if e.kind == ErrorKind::NotFound => Ok(false),
                Err(e) => Err(e),
            }
        });
        if !runs.await? {
            return Ok(Some(handle));
        }
        let id = format!("undo/{}/end-{}", self.pass, job.id);
        self.facts.send(Event::Intent {
            id: id.clone(),
            step: None,
            action: Action::CancelJob { job: job.id.clone() },
        });
        let told = self.tried(|| self.jobs.cancel(job, &handle)).await;
        let ended = match told {
            Ok(()) => match tokio::time::timeout(ENDS, self.watched(job, &handle)).await {
                Ok(end) => end.map(|end| end.said),
                Err(_) => Err(format!("it was told to end, and still runs after {}", length(ENDS))),
            },
            Err(error) => Err(error),
        };
        let result = match &ended {
            Ok(said) => OutcomeResult::Done { read_back: said.clone(), version: None },
            Err(error) => OutcomeResult::Unknown { error: error.clone() },
        };
        self.facts.send(Event::Outcome { id, result });
        ended.map(|_| Some(handle))
    }

    /// A call that may fail for a moment. Where something else is under way its end is waited for: the job's own time limits that.
    async fn tried<T, F: Future<Output = PortResult<T>>>(&self, call: impl Fn() -> F) -> Result<T, String> {
        let mut pause = PAUSE;
        let mut failed = 0;
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(e) if e.kind == ErrorKind::Conflict => {}
                Err(e) if e.kind.transient() && failed + 1 < ATTEMPTS => failed += 1,
                Err(e) => return Err(e.to_string()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

fn length(length: Duration) -> String {
    brief(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

fn by_hand(job: &Job, error: &str) -> String {
    match &job.kind {
        JobKind::Command { undo, .. } => {
            format!("{} was not undone ({error}); run `{}` by hand", job.id, undo.join(" "))
        }
        JobKind::InstanceRefresh { .. }
        | JobKind::ClusterSnapshot { .. }
        | JobKind::InstanceSnapshot { .. }
        | JobKind::TableBackup { .. }
        | JobKind::Delete(_) => format!(
            "{} was not done once more ({error}); {} by hand: applications that started since the switch may still use the \
             new side",
            job.id,
            job.words()
        ),
    }
}
