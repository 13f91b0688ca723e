//! Verifying everything a run recorded: every line of every file, the order over the files, and that the facts can
//! follow each other. Reads on after damage, so that all of it is found at once.

mod inspect;
mod locate;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use super::merge::{RunRecord, salvage_run};
use super::reader::TornTail;
use super::{Header, JournalError, RunFolder, SampleReader, fold, read_run};
use crate::domain::run::{Action, Event};

/// What an audit found.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Every journal file, the main one first.
    pub files: Vec<AuditedFile>,
    /// Everything that is not as it was written. Empty means that every check fits.
    pub findings: Vec<Damage>,
    /// The facts that can be believed, in order: all of them, or those before the damage.
    pub record: RunRecord,
    /// The record ends with a fact after which nothing needs to follow. Otherwise the process ended or still runs, or
    /// whole lines were cut off at the end: the file alone cannot show which.
    pub ended: bool,
}

/// One journal file.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditedFile {
    /// The file.
    pub path: PathBuf,
    /// Its first line, if it can be read.
    pub header: Option<Header>,
    /// Lines whose checks fit and that hold a fact.
    pub facts: u64,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The hash of its last line that fits: whoever kept it elsewhere can detect a file that was sealed again.
    pub head: String,
    /// A last line that was not wholly written: the mark of a crash, not of a change.
    pub torn: Option<TornTail>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; absent when it is about the file as a whole.
    pub line: Option<usize>,
    /// The line's first byte, from 0.
    pub from: u64,
    /// The byte after the line.
    pub to: u64,
    /// The one byte that was changed, where one change explains it.
    pub byte: Option<u64>,
    /// The fact at fault, or the one that was expected there. The header counts as 0.
    pub fact: Option<u64>,
    /// What does not fit.
    pub what: String,
}

impl Audit {
    /// Whether some file ends its chain in this hash, or passes through it: nothing up to there was sealed again.
    #[must_use]
    pub fn holds(&self, hash: &str) -> bool {
        self.files.iter().any(|f| inspect::chain(&f.path).iter().any(|h| h == hash))
    }
}

/// Audits a run's folder.
///
/// # Errors
/// The disk refused, a format of another major version, or a main journal in which nothing was ever recorded.
pub fn audit(folder: &RunFolder) -> Result<Audit, JournalError> {
    let main = folder.journal();
    let mut paths = vec![main.clone()];
    paths.extend(folder.side_journals().map_err(JournalError::io("list", folder.path()))?);
    let (mut files, mut findings) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = std::fs::read(&path).map_err(JournalError::io("read", &path))?;
        match inspect::file(&path, &bytes) {
            Ok((file, found)) => {
                files.push(file);
                findings.extend(found);
            }
            // Its process died before it could record anything.
            Err(JournalError::NoHeader { .. }) if path != main => {}
            Err(e) => return Err(e),
        }
    }
    let record = match read_run(folder) {
        Ok(record) => record,
        Err(e) => {
            if findings.is_empty() {
                // Each file fits by itself; together they do not.
                findings.push(Damage::whole(main.clone(), e.to_string()));
            }
            salvage_run(folder).map_or_else(|_| RunRecord::nothing(&files), |(record, _)| record)
        }
    };
    if findings.is_empty() {
        // Of a damaged record only a part can be put in order: that it ends early is not reported again.
        findings.extend(follows(&main, &record));
        findings.extend(seen_elsewhere(folder, &main, &record));
    }
    // An amendment may stand behind the damage: then the plan it was amended to is no finding.
    let amended_unseen = !findings.is_empty() && !folder.kept_plans().is_empty();
    if !amended_unseen {
        findings.extend(belongs(folder, &files, &record));
    }
    let last = record.facts.iter().map(|f| &f.event).rfind(|event| !follows_the_end(event));
    let ended = last.is_some_and(|event| matches!(event, Event::RunFinished | Event::RolledBack { .. }));
    Ok(Audit { files, findings, record, ended })
}

/// Whether this may follow the end of a run: a source forgets what it kept for it.
fn follows_the_end(event: &Event) -> bool {
    match event {
        Event::Intent { action: Action::EndCapture { .. } | Action::TellMover { .. }, .. } => true,
        Event::Outcome { id, .. } => id.starts_with("end-capture/") || id.starts_with("mover/"),
        _ => false,
    }
}

impl Damage {
    fn whole(path: PathBuf, what: String) -> Self {
        Self { path, line: None, from: 0, to: 0, byte: None, fact: None, what }
    }
}

impl RunRecord {
    fn nothing(files: &[AuditedFile]) -> Self {
        let header = files.iter().find_map(|f| f.header.clone());
        let header = header.unwrap_or_else(|| Header::new("?", "?", "?", "?", crate::domain::at::At::default()));
        Self { header, facts: Vec::new(), last_time: None, torn: Vec::new(), sides: Vec::new() }
    }
}

/// Files of another run or plan, and plans that are not those that were reviewed.
fn belongs(folder: &RunFolder, files: &[AuditedFile], record: &RunRecord) -> Vec<Damage> {
    let mut found = Vec::new();
    let mut headers = files.iter().filter_map(|f| f.header.as_ref().map(|h| (&f.path, h)));
    let Some((_, first)) = headers.next() else { return found };
    // The plan it was opened with, and those it was amended to.
    let mut hashes = vec![first.plan_hash.as_str()];
    hashes.extend(record.facts.iter().filter_map(|fact| match &fact.event {
        Event::PlanAmended(amended) => Some(amended.to.as_str()),
        _ => None,
    }));
    for (path, header) in headers {
        if header.run != first.run || !hashes.contains(&header.plan_hash.as_str()) {
            let what = format!("belongs to run {} and plan {}, not to this run", header.run, header.plan_hash);
            found.push(Damage::whole(path.clone(), what));
        }
    }
    let path = folder.plan();
    let stands = plan_hash(&path);
    match &stands {
        Ok(hash) if hashes.contains(&hash.as_str()) => {}
        Ok(hash) => {
            let what = format!(
                "is another plan: its hash is {hash}, the run was opened with {}",
                hashes.join(" and amended to ")
            );
            found.push(Damage::whole(path, what));
        }
        Err(why) => found.push(Damage::whole(path, format!("cannot be read: {why}"))),
    }
    // The one that stands in plan.json need not be kept a second time.
    for hash in hashes.iter().filter(|hash| stands.as_deref() != Ok(hash) && hashes.len() > 1) {
        let path = folder.plan_of(hash);
        match plan_hash(&path) {
            Ok(is) if is == *hash => {}
            Ok(is) => found.push(Damage::whole(path, format!("is another plan: its hash is {is}, not {hash}"))),
            Err(why) => found.push(Damage::whole(path, format!("the plan {hash} cannot be read: {why}"))),
        }
    }
    found
}

fn plan_hash(path: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let plan: crate::domain::plan::Plan = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    Ok(plan.hash())
}

/// Facts whose checks fit but that cannot have happened in this order.
fn follows(main: &std::path::Path, record: &RunRecord) -> Option<Damage> {
    let wrong = fold(&record.facts).err()?;
    Some(Damage { fact: Some(wrong.seq), ..Damage::whole(main.to_owned(), wrong.to_string()) })
}

/// Samples name the last durable fact as they are taken: a journal that ends before it was cut.
fn seen_elsewhere(folder: &RunFolder, main: &std::path::Path, record: &RunRecord) -> Option<Damage> {
    let mut samples = SampleReader::open(&folder.samples()).ok()?;
    let seen = samples.get(samples.len().checked_sub(1)?)?.measured.journal_seq?;
    let have = record.facts.len() as u64;
    (seen > have).then(|| Damage {
        fact: Some(have + 1),
        ..Damage::whole(
            main.to_owned(),
            format!("ends at fact #{have}, but samples.jsonl saw fact #{seen} on disk: the end was cut off"),
        )
    })
}
