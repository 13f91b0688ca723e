//! Programs of this machine: those that are jobs, and those that are run to their end.

mod run;

use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

pub use self::run::{Ran, run};
use crate::domain::plan::{Job, JobKind};
use crate::ports::{Begin, ErrorKind, JobProgress, JobState, Jobs, PortError, PortResult};

/// Lines that are kept of what a program prints, and characters of each.
const LINES: usize = 20;
const CHARACTERS: usize = 200;
/// Bytes that are kept of a line while it is read.
const BYTES: usize = 4 * CHARACTERS;
/// How long a program may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// Programs of this process, by what began them. What another process runs is not known here.
#[derive(Clone, Debug, Default)]
pub struct CommandJobs(Arc<Mutex<BTreeMap<String, Running>>>);

#[derive(Debug)]
struct Running {
    group: Pid,
    last: VecDeque<String>,
    /// How it ended.
    end: Option<Result<(), String>>,
    /// When it was told to end, with everything that it started.
    told: Option<Instant>,
}

impl CommandJobs {
    /// Those of this process, whoever asks: a rollback ends what a step has begun.
    #[must_use]
    pub fn of_this_process() -> Self {
        static ALL: LazyLock<CommandJobs> = LazyLock::new(CommandJobs::default);
        ALL.clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the last lines that a program prints, whatever it prints, and reads to the end: a program whose pipe is closed is
    /// ended by its next word.
    async fn keep(self, handle: String, mut from: impl AsyncRead + Unpin) {
        let mut line: Vec<u8> = Vec::new();
        let mut chunk = [0_u8; 4096];
        loop {
            let read = from.read(&mut chunk).await.unwrap_or(0);
            for byte in &chunk[..read] {
                match byte {
                    // A progress bar begins its line anew.
                    b'\n' | b'\r' if line.is_empty() => {}
                    b'\n' | b'\r' => self.line(&handle, &std::mem::take(&mut line)),
                    _ if line.len() < BYTES => line.push(*byte),
                    _ => {}
                }
            }
            if read == 0 {
                break;
            }
        }
        if !line.is_empty() {
            self.line(&handle, &line);
        }
    }

    fn line(&self, handle: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if let Some(one) = self.all().get_mut(handle) {
            if one.last.len() == LINES {
                one.last.pop_front();
            }
            one.last.push_back(text.chars().take(CHARACTERS).collect());
        }
    }
}

/// The program and its arguments: of the job, or of what takes it back.
fn words<'j>(job: &'j Job, begin: &Begin) -> PortResult<&'j [String]> {
    match &job.kind {
        JobKind::Command { undo, .. } if begin.undo => Ok(undo),
        JobKind::Command { run, .. } => Ok(run),
        JobKind::InstanceRefresh { .. }
        | JobKind::ClusterSnapshot { .. }
        | JobKind::InstanceSnapshot { .. }
        | JobKind::TableBackup { .. }
        | JobKind::Delete(_) => Err(PortError::new(ErrorKind::Invalid, "run", job.place(), "it is no command")),
    }
}

/// Starts a program in a process group of its own: a key pressed at the console is not for it.
fn spawn(words: &[String], stdin: Stdio) -> PortResult<(Child, Option<Pid>)> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(PortError::new(ErrorKind::Invalid, "run", "a program", "it names none"));
    };
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let child = spawned.map_err(|e| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Invalid,
        };
        PortError::new(kind, "run", program.clone(), e.to_string())
    })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok((child, group))
}

#[async_trait]
impl Jobs for CommandJobs {
    async fn look(&self, job: &Job) -> PortResult<String> {
        let JobKind::Command { run, undo, .. } = &job.kind else { return Ok(String::new()) };
        let mut found = Vec::new();
        for program in [run.first(), undo.first()].into_iter().flatten() {
            let path = on_the_path(program).ok_or_else(|| {
                PortError::new(ErrorKind::NotFound, "find", format!("program {program}"), "it is not on the path")
                    .advise("install it, or write its whole path")
            })?;
            found.push(path);
        }
        Ok(found.join(", "))
    }

    async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String> {
        let words = words(job, begin)?;
        if words.is_empty() {
            return Err(PortError::new(ErrorKind::Invalid, "run", job.id.clone(), "it names no program"));
        }
        let handle = format!("{}/{}", job.id, begin.token);
        let (mut child, group) = spawn(words, Stdio::null())?;
        let Some(group) = group else {
            return Err(PortError::new(ErrorKind::Internal, "run", words.join(" "), "it has no process"));
        };
        self.all().insert(handle.clone(), Running { group, last: VecDeque::new(), end: None, told: None });
        // Read to their end, which may come long after the program's: what it left at work writes to them too.
        let mut readers = tokio::task::JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(self.clone().keep(handle.clone(), out));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(self.clone().keep(handle.clone(), err));
        }
        let (this, of) = (self.clone(), handle.clone());
        tokio::spawn(async move {
            let end = match child.wait().await {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(status.to_string()),
                Err(e) => Err(e.to_string()),
            };
            let all = async { while readers.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_millis(200), all).await;
            readers.detach_all();
            if let Some(one) = this.all().get_mut(&of) {
                one.end = Some(end);
            }
        });
        Ok(handle)
    }

    async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>> {
        let handle = format!("{}/{}", job.id, begin.token);
        Ok(self.all().contains_key(&handle).then_some(handle))
    }

    async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress> {
        let all = self.all();
        let Some(one) = all.get(handle) else {
            let why = "the process that ran it is gone";
            return Err(PortError::new(ErrorKind::NotFound, "ask after", job.place(), why));
        };
        let last = one.last.back().cloned().unwrap_or_default();
        Ok(match one.end.as_ref().filter(|_| !one.is_at_work()) {
            None => JobProgress { state: JobState::Running, percent: None, said: last },
            Some(Ok(())) => {
                let said = if last.is_empty() { "exit status: 0".to_owned() } else { last };
                JobProgress { state: JobState::Done, percent: None, said }
            }
            Some(Err(status)) => {
                let tail: Vec<&str> = one.last.iter().rev().take(3).rev().map(String::as_str).collect();
                let said = [status.as_str()].into_iter().chain(tail).collect::<Vec<_>>().join("; ");
                JobProgress { state: JobState::Failed, percent: None, said }
            }
        })
    }

    async fn cancel(&self, _: &Job, handle: &str) -> PortResult<()> {
        let signal = |this: &Self, signal: Signal| {
            if let Some(one) = this.all().get_mut(handle).filter(|one| one.end.is_none()) {
                one.told = Some(Instant::now());
                let _ = kill_process_group(one.group, signal);
            }
        };
        signal(self, Signal::TERM);
        let (this, handle) = (self.clone(), handle.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            if let Some(one) = this.all().get(&handle).filter(|one| one.is_at_work()) {
                let _ = kill_process_group(one.group, Signal::KILL);
            }
        });
        Ok(())
    }
}

impl Running {
    /// Whether the program has not ended, or something that it started and that was told to end with it. After the last
    /// signal nothing runs any more, though something may wait to be reaped.
    fn is_at_work(&self) -> bool {
        let told = self.told.is_some_and(|at| at.elapsed() < GRACE + Duration::from_secs(1));
        self.end.is_none() || told && test_kill_process_group(self.group).is_ok()
    }
}

/// Where a program is; `None` when it cannot be run.
#[must_use]
pub fn on_the_path(program: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |path: &std::path::Path| {
        path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(std::path::Path::new(program)).then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|at| runs(at))
        .map(|at| at.display().to_string())
}

#[cfg(test)]
mod tests;
