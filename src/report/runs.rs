//! The list of runs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::unattended::Unattended;
use crate::domain::at::{At, brief};
use crate::domain::run::RunStatus;
use crate::journal::{JournalError, RunFolder, fold, read_run};

/// One run of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEntry {
    /// Run id.
    pub run: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Plan name; empty when the journal cannot be read.
    pub plan: String,
    /// Environment name.
    pub environment: String,
    /// Who drives or drove.
    pub operator: String,
    /// Where it stands; absent when the journal cannot be read, or holds no fact.
    pub status: Option<RunStatus>,
    /// Whether a process drives it now.
    pub driven: bool,
    /// Set when the run is not at its end and nobody drives it.
    #[serde(default)]
    pub unattended: Option<Unattended>,
    /// When it was opened.
    pub opened: Option<At>,
    /// When its last fact was recorded.
    pub last: Option<At>,
    /// Facts recorded.
    pub facts: u64,
    /// Steps done or left out, and in all.
    pub steps: (usize, usize),
    /// Why the journal cannot be read.
    pub problem: Option<String>,
}

impl RunEntry {
    /// Where it stands, in one or two words.
    #[must_use]
    pub fn word(&self) -> &str {
        match (self.status, &self.problem, &self.unattended) {
            (_, Some(_), _) => "unreadable",
            (_, None, Some(unattended)) => unattended.word.as_str(),
            (Some(status), None, None) => status_word(status),
            (None, None, None) if self.driven => "opening",
            (None, None, None) => "never began",
        }
    }
}

/// Every run of a state folder, newest first. A run whose journal is damaged is listed with its problem.
///
/// # Errors
/// What the disk said about the folder of runs.
pub fn run_entries(state_dir: &Path) -> io::Result<Vec<RunEntry>> {
    Ok(RunFolder::list(state_dir)?.iter().map(entry).collect())
}

/// Which run is chosen when none is named.
#[derive(Clone, Debug, PartialEq)]
pub enum RunChoice {
    /// No run has begun yet.
    None,
    /// This one.
    One(Box<RunEntry>),
    /// It could be any of these; one of them may be the only one that is not at its end.
    Several(Vec<RunEntry>),
}

/// Which run is chosen when none is named: the only one that is not at its end, or for a rollback of a `finished` one
/// the only one of these. A real run that is driven is chosen before rehearsals. When all are at their end, it is the
/// one that was recorded in last. Rehearsals that nobody drives have ended with their world, and runs without a fact
/// never began.
///
/// A run that nobody drives is not chosen when a real run is newer, and one that cannot be read is not chosen while
/// there is any other: it may have ended long ago.
///
/// # Errors
/// What the disk said about the folder of runs.
pub fn choose_run(state_dir: &Path, finished: bool) -> io::Result<RunChoice> {
    let ended = |f: &RunFolder| f.is_rehearsal() && !f.is_locked();
    let never_began = |e: &RunEntry| e.status.is_none() && e.problem.is_none() && !e.driven;
    let real = |e: &RunEntry| !RunFolder::at(&e.folder).is_rehearsal();
    let folders = RunFolder::list(state_dir)?;
    let all: Vec<RunEntry> = folders.iter().filter(|f| !ended(f)).map(entry).filter(|e| !never_began(e)).collect();
    let meant = |e: &&RunEntry| match e.status {
        Some(RunStatus::Finished) => finished,
        Some(RunStatus::RolledBack) => false,
        _ => !finished,
    };
    let mut open: Vec<&RunEntry> = all.iter().filter(meant).collect();
    let reals: Vec<&RunEntry> = open.iter().copied().filter(|e| real(e)).collect();
    if let [only] = reals[..]
        && only.driven
    {
        open = vec![only];
    }
    let one = |e: &RunEntry| RunChoice::One(Box::new(e.clone()));
    Ok(match open[..] {
        [] => all.iter().max_by_key(|e| e.last).map_or(RunChoice::None, one),
        [only] => {
            let newest = all.iter().find(|e| real(e) && e.run != only.run);
            let in_doubt = |other: &&RunEntry| only.problem.is_some() || other.opened > only.opened;
            match newest.filter(in_doubt).filter(|_| !only.driven && !finished) {
                Some(other) => RunChoice::Several(vec![other.clone(), only.clone()]),
                None => one(only),
            }
        }
        _ => RunChoice::Several(open.into_iter().cloned().collect()),
    })
}

fn entry(folder: &RunFolder) -> RunEntry {
    let mut entry = RunEntry {
        run: folder.id().to_owned(),
        folder: folder.path().to_owned(),
        plan: String::new(),
        environment: String::new(),
        operator: String::new(),
        status: None,
        driven: folder.is_locked(),
        unattended: None,
        opened: None,
        last: None,
        facts: 0,
        steps: (0, 0),
        problem: None,
    };
    let record = match read_run(folder) {
        Ok(record) => record,
        // Its process ended while the file was made.
        Err(JournalError::NoHeader { .. }) if !entry.driven && folder.side_journals().is_ok_and(|s| s.is_empty()) => {
            return entry;
        }
        Err(e) => return RunEntry { problem: Some(e.to_string()), ..entry },
    };
    entry.facts = record.facts.len() as u64;
    entry.last = record.facts.last().map(|f| f.at);
    entry.operator = record.header.operator;
    if record.facts.is_empty() {
        return entry;
    }
    match fold(&record.facts) {
        Ok(state) => {
            let current = state.current().unwrap_or(state.steps.len());
            entry.steps = (current, state.steps.len());
            entry.opened = record.facts.first().map(|f| f.at);
            let last = entry.last.unwrap_or(state.opened);
            entry.unattended = Unattended::of(folder, entry.driven, &state, last);
            (entry.plan, entry.environment) = (state.plan, state.environment);
            entry.status = Some(state.status);
        }
        Err(e) => entry.problem = Some(e.to_string()),
    }
    entry
}

/// Writes the runs as a table for people. `wall` is the time now.
///
/// # Errors
/// What the writer said.
pub fn runs_table(entries: &[RunEntry], wall: At, out: &mut impl Write) -> io::Result<()> {
    if entries.is_empty() {
        return writeln!(out, "no runs yet");
    }
    let width = entries.iter().map(|e| e.run.chars().count()).max().unwrap_or(3).max(3);
    writeln!(
        out,
        "{:width$}  {:12}  {:7}  {:20}  {:>8}  {:>6}  DRIVER",
        "RUN", "STATUS", "STEPS", "OPENED", "LASTED", "FACTS"
    )?;
    for e in entries {
        let status = e.word();
        let opened = e.opened.map_or_else(|| "?".to_owned(), At::date_clock);
        let lasted = e.opened.zip(e.last).map_or_else(|| "?".to_owned(), |(a, b)| brief(b.since(a)));
        let steps = format!("{}/{}", e.steps.0, e.steps.1);
        let driver = match &e.unattended {
            Some(unattended) => unattended.words(wall),
            None if e.driven => format!("{} (now)", e.operator),
            None => e.operator.clone(),
        };
        writeln!(out, "{:width$}  {status:12}  {steps:7}  {opened:20}  {lasted:>8}  {:>6}  {driver}", e.run, e.facts)?;
        if let Some(problem) = &e.problem {
            writeln!(out, "    {problem}")?;
        }
    }
    Ok(())
}

/// Writes the runs as one JSON array.
///
/// # Errors
/// What the writer said.
pub fn runs_json(entries: &[RunEntry], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, entries)?;
    out.write_all(b"\n")
}

/// A run's status in one or two words.
pub(super) const fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Prepared => "prepared",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::RollingBack => "rolling back",
        RunStatus::RolledBack => "rolled back",
        RunStatus::Finished => "finished",
        RunStatus::Stuck => "stuck",
    }
}
