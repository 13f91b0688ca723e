//! Jobs: begun once, found again after a death, watched until they end (FEATURES A11, C6, C10, E11).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::at::{At, brief};
use crate::domain::gauge::JobGauge;
use crate::domain::plan::{Job, JobKind, Purpose, Step};
use crate::domain::run::{Action, ErrorClass, Event, Evidence, JobBegun, OutcomeResult, RunState, StepError};
use crate::ports::{Begin, ErrorKind, JobProgress, JobState, Jobs, PortError, PortResult};

/// Pauses between two questions how far a job is: the first, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Begins the jobs of a step and waits for their end. One that fails fails the step, after all have ended.
pub(super) async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
    purpose: Purpose,
) -> Result<Vec<Evidence>, StepError> {
    let jobs: Vec<&Job> = step.kind.jobs().iter().filter_map(|id| ctx.plan.job(id)).collect();
    if purpose != Purpose::Cleanup {
        let each = jobs.into_iter().map(|job| one(ctx, (step, attempt), state, job));
        let all: Result<Vec<Evidence>, StepError> = futures::future::join_all(each).await.into_iter().collect();
        if purpose == Purpose::Restart {
            // What was measured before says nothing of the applications that run now.
            ctx.sides.send_modify(|n| *n += 1);
        }
        return all;
    }
    // Half a clean-up is the worst of both: nothing leads back, and not everything can go.
    for job in &jobs {
        match ctx.ports.jobs.look(job).await {
            Err(e) if e.kind == ErrorKind::Invalid => return Err(step_error(&e)),
            // What is gone already is no hindrance, and of the rest its own call says more.
            Ok(_) | Err(_) => {}
        }
    }
    ctx.end_the_way_back();
    let mut found = Vec::new();
    for job in jobs {
        found.push(one(ctx, (step, attempt), state, job).await?);
    }
    Ok(found)
}

async fn one(
    ctx: &Arc<WorkerContext>,
    (step, attempt): (&Step, u32),
    state: &RunState,
    job: &Job,
) -> Result<Evidence, StepError> {
    let began = Instant::now();
    let since = ctx.wall();
    let tell = |gauge: JobGauge| ctx.latest.put(|m| drop(m.jobs.insert(job.id.clone(), JobGauge { since, ..gauge })));
    // A command's end is the outcome of its beginning, which another attempt may have made.
    let mut intent = format!("{}/{}/{attempt}", step.id, job.id);
    let handle = match known(ctx, state, job).await? {
        Some(known) => {
            intent = known.intent.unwrap_or(intent);
            known.handle
        }
        None => begin(ctx, step, &intent, attempt, &state.run, job, &tell).await?,
    };
    let wall = || ctx.wall();
    let watched = watch(&*ctx.ports.jobs, job, &handle, &wall, &tell, None);
    let limit = Duration::from_millis(job.timeout_ms);
    let end = match tokio::time::timeout(limit.saturating_sub(began.elapsed()), watched).await {
        Ok(end) => end.map_err(|e| step_error(&e))?,
        Err(_) => {
            return Err(StepError {
                class: ErrorClass::Transient,
                message: format!("{} has not ended in {}", job.words(), length(limit)),
                advice: "it goes on by itself; try again to go on waiting for it, or roll back".to_owned(),
            });
        }
    };
    record_end(ctx, intent, job, &end).await?;
    let took = length(began.elapsed());
    match end.state {
        JobState::Done => Ok(evidence(format!("job {}", job.id), done_words(&end, &took), ctx.wall(), job.place())),
        JobState::Running | JobState::Failed => Err(world(
            format!("{} ended otherwise: {}", job.words(), said(&end)),
            "see why, then try again: it is begun anew; or roll back",
        )),
    }
}

fn done_words(end: &JobProgress, took: &str) -> String {
    if end.said.is_empty() { format!("done after {took}") } else { format!("{}, after {took}", end.said) }
}

fn said(end: &JobProgress) -> &str {
    if end.said.is_empty() { "nothing was said why" } else { &end.said }
}

fn length(length: Duration) -> String {
    brief(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

/// What an earlier attempt began.
struct Known {
    handle: String,
    /// The intent that has no outcome yet: of a command that still runs.
    intent: Option<String>,
}

/// What an earlier attempt began and that goes on, or has ended well; what it began and that failed is begun anew.
async fn known(ctx: &Arc<WorkerContext>, state: &RunState, job: &Job) -> Result<Option<Known>, StepError> {
    let Some(begun) = state.jobs.get(&job.id).filter(|begun| !begun.undo) else { return Ok(None) };
    let open = state.open_intents.iter().find(|(_, action)| begins(action, job));
    let jobs = &ctx.ports.jobs;
    let handle = match &begun.handle {
        // A command is recorded as begun when it has ended well.
        Some(handle) if matches!(job.kind, JobKind::Command { .. }) => {
            return Ok(Some(Known { handle: handle.clone(), intent: None }));
        }
        // It may have been refused after all, for something else had to be gone before.
        Some(handle) if job.purpose() == Purpose::Cleanup => {
            let goes = jobs.find(job, &again(begun)).await.map_err(|e| step_error(&e))?;
            return Ok(goes.map(|_| Known { handle: handle.clone(), intent: None }));
        }
        Some(handle) => handle.clone(),
        None => {
            let found = jobs.find(job, &again(begun)).await.map_err(|e| step_error(&e))?;
            if matches!(job.kind, JobKind::Command { .. }) {
                return known_command(ctx, open.map(|(id, _)| id), found, job).await;
            }
            if let Some((id, _)) = open {
                let result = match &found {
                    Some(handle) => OutcomeResult::Done { read_back: handle.clone(), version: None },
                    // A service that has another clock may have begun one all the same: a rollback restarts once more.
                    None if job.purpose() == Purpose::Restart => {
                        OutcomeResult::Unknown { error: "nothing is found that was begun".to_owned() }
                    }
                    None => OutcomeResult::Failed { error: "nothing was begun".to_owned() },
                };
                let closed = Event::Outcome { id: id.clone(), result };
                ctx.facts.state(closed).await.map_err(|e| not_recorded(&e))?;
            }
            let Some(handle) = found else { return Ok(None) };
            handle
        }
    };
    match jobs.progress(job, &handle).await {
        Ok(progress) => Ok((progress.state != JobState::Failed).then_some(Known { handle, intent: None })),
        Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(step_error(&e)),
    }
}

/// A command without an end on record: it still runs here, or its process is gone.
async fn known_command(
    ctx: &Arc<WorkerContext>,
    open: Option<&String>,
    found: Option<String>,
    job: &Job,
) -> Result<Option<Known>, StepError> {
    let Some(id) = open else { return Ok(None) };
    if let Some(handle) = found {
        return Ok(Some(Known { handle, intent: Some(id.clone()) }));
    }
    if job.found_again() {
        return Ok(None);
    }
    let error = "the process that ran it is gone".to_owned();
    let closed = Event::Outcome { id: id.clone(), result: OutcomeResult::Unknown { error } };
    ctx.facts.state(closed).await.map_err(|e| not_recorded(&e))?;
    Err(world(
        format!("{} was begun by a process that is gone: how far it came is not known", job.words()),
        "see what it has done; try again to run it once more, or roll back",
    ))
}

fn begins(action: &Action, job: &Job) -> bool {
    matches!(action, Action::BeginJob { job: begun, .. } if *begun == job.id)
}

/// The beginning that is on record.
pub(super) fn again(begun: &JobBegun) -> Begin {
    Begin { token: begun.token.clone(), since: begun.since, undo: begun.undo, besides: None }
}

/// Small letters, digits and single hyphens, short enough for every service: of a long name of a run its beginning, which is when
/// it was opened, and its end; and which beginning of the job.
pub(super) fn token(run: &str, which: &str) -> String {
    let plain: String =
        run.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let run = if plain.len() > 24 { format!("{}-{}", &plain[..16], &plain[plain.len() - 4..]) } else { plain };
    let words: Vec<&str> = run.split('-').chain(which.split('-')).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// Begins a job: what is to be done is on record before, and what the service said of it after.
async fn begin(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    id: &str,
    attempt: u32,
    run: &str,
    job: &Job,
    tell: &(dyn Fn(JobGauge) + Send + Sync),
) -> Result<String, StepError> {
    let id = id.to_owned();
    let begin = Begin { token: token(run, &attempt.to_string()), since: ctx.wall(), undo: false, besides: None };
    let action = Action::BeginJob { job: job.id.clone(), token: begin.token.clone(), since: begin.since, undo: false };
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    tell(JobGauge { at: ctx.wall(), said: "beginning".to_owned(), ..JobGauge::default() });
    let mut begun = ctx.ports.jobs.begin(job, &begin).await;
    // What bears our name is ours: the call before, whose answer was lost and which was sent again. A refresh has no name, and
    // its call is sent once.
    let mut ours = false;
    if job.purpose() != Purpose::Restart && begun.as_ref().is_err_and(|e| e.kind == ErrorKind::Conflict) {
        match ctx.ports.jobs.find(job, &begin).await {
            Ok(Some(handle)) => begun = Ok(handle),
            Ok(None) => {}
            Err(_) => ours = true,
        }
    }
    // A command is at work in this process only: nothing is gained from its handle once this process is gone.
    if matches!(job.kind, JobKind::Command { .. }) && begun.is_ok() {
        return begun.map_err(|e| step_error(&e));
    }
    let result = match &begun {
        Ok(handle) => OutcomeResult::Done { read_back: handle.clone(), version: None },
        Err(e) if is_refusal(e) && !ours => OutcomeResult::Failed { error: e.to_string() },
        Err(e) => OutcomeResult::Unknown { error: e.to_string() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    begun.map_err(|e| step_error(&e))
}

/// Whether a service has said that it began nothing.
fn is_refusal(error: &PortError) -> bool {
    matches!(error.kind, ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Invalid)
}

/// A command's end is the outcome of its beginning.
async fn record_end(ctx: &Arc<WorkerContext>, id: String, job: &Job, end: &JobProgress) -> Result<(), StepError> {
    if !matches!(job.kind, JobKind::Command { .. }) {
        return Ok(());
    }
    let result = match end.state {
        JobState::Done => OutcomeResult::Done { read_back: said(end).to_owned(), version: None },
        JobState::Running | JobState::Failed => OutcomeResult::Unknown { error: said(end).to_owned() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))
}

/// Watches a job until it ends. A service that does not answer, or not now, is asked again; with `silent` no longer than that.
///
/// # Errors
/// What the service said when it will not answer at all, `TimedOut` when it was silent for too long.
pub(super) async fn watch(
    jobs: &dyn Jobs,
    job: &Job,
    handle: &str,
    wall: &(dyn Fn() -> At + Send + Sync),
    tell: &(dyn Fn(JobGauge) + Send + Sync),
    silent: Option<Duration>,
) -> PortResult<JobProgress> {
    let mut pause = FIRST;
    let mut heard = Instant::now();
    let mut percent = None;
    loop {
        let answer = tokio::time::timeout(ANSWER, jobs.progress(job, handle)).await;
        match answer {
            Ok(Ok(progress)) => {
                (percent, heard) = (progress.percent, Instant::now());
                let ended = match progress.state {
                    JobState::Running => None,
                    JobState::Done => Some(true),
                    JobState::Failed => Some(false),
                };
                tell(JobGauge { at: wall(), percent, said: progress.said.clone(), ended, ..JobGauge::default() });
                if ended.is_some() {
                    return Ok(progress);
                }
            }
            Ok(Err(e)) if e.kind.transient() => {
                let said = format!("no answer: {}", e.came_back);
                tell(JobGauge { at: wall(), percent, said, ..JobGauge::default() });
            }
            Ok(Err(e)) => return Err(e),
            Err(_) => {
                let said = format!("no answer in {}", length(ANSWER));
                tell(JobGauge { at: wall(), percent, said, ..JobGauge::default() });
            }
        }
        if let Some(longest) = silent.filter(|longest| heard.elapsed() > *longest) {
            let why = format!("no answer for {}", length(longest));
            return Err(PortError::new(ErrorKind::TimedOut, "ask after", job.place(), why));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn a_token_is_short_and_says_which_run_and_which_beginning() {
        assert_eq!(token("20261201T100554Z-v1-to-v2-f27f", "2"), "20261201t100554z-f27f-2");
        assert_eq!(token("short_run", "back-17-0"), "short-run-back-17-0");
        assert!(token(&"x".repeat(200), "back-123456-12").len() <= 40);
        assert_eq!(token("a--b-", "1"), "a-b-1");
    }
}
