//! One order over every journal file of a run.
//!
//! A run has one main journal and, rarely, side journals: written by a process that had to roll back while the driver
//! hung. Files are merged frame by frame. A frame that says `after: N` waits until N facts are in order; among the
//! frames that may come next the earlier `at` wins, and the main journal wins a tie. So side facts follow the main
//! facts their writer saw, and a main journal that was resumed follows the side facts it read.
//!
//! A driver that was only slow goes on recording for a moment what it still does, not knowing that another process
//! rolled the run back. What can no longer follow then is kept as a note in its place: the record stays readable and
//! says what happened. Only a switch it was about to set is kept as it is: it may have moved, and has to be read.

use std::path::PathBuf;

use super::boot::LastTime;
use super::reader::{Recovered, TornTail, read, salvage};
use super::{Header, JournalError, RunFolder};
use crate::domain::run::{Action, Event, Fact, Level, RunState, apply};

/// Everything a run recorded, in one order.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Header of the main journal.
    pub header: Header,
    /// Facts from 1 without gaps, over all files.
    pub facts: Vec<Fact>,
    /// When the last fact of the main journal was written, where that is known.
    pub last_time: Option<LastTime>,
    /// Torn last lines that were left out, with their file.
    pub torn: Vec<(PathBuf, TornTail)>,
    /// Side journals found.
    pub sides: Vec<Side>,
}

/// One side journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The file.
    pub path: PathBuf,
    /// Who kept it.
    pub holder: String,
    /// Facts in it.
    pub facts: usize,
}

struct Stream {
    path: PathBuf,
    facts: std::vec::IntoIter<(Fact, Option<u64>)>,
    head: Option<(Fact, Option<u64>)>,
}

impl Stream {
    fn new(path: PathBuf, file: &mut Recovered) -> Self {
        let facts = std::mem::take(&mut file.facts);
        let after = std::mem::take(&mut file.after);
        let mut facts = facts.into_iter().zip(after).collect::<Vec<_>>().into_iter();
        let head = facts.next();
        Self { path, facts, head }
    }
}

/// Reads the main journal and every side journal of a run, and puts their facts in one order.
///
/// # Errors
/// What [`read`] refuses in any of the files, or a file that continues after facts that are not there.
pub fn read_run(folder: &RunFolder) -> Result<RunRecord, JournalError> {
    let path = folder.journal();
    let main = read(&path)?;
    let mut sides = Vec::new();
    for path in folder.side_journals().map_err(JournalError::io("list", folder.path()))? {
        match read(&path) {
            Ok(side) => sides.push((path, side)),
            // Its process died before it could record anything.
            Err(JournalError::NoHeader { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    match merge(path, main, sides) {
        (record, None) => Ok(record),
        (_, Some(e)) => Err(e),
    }
}

/// Reads what can be believed of a run whose files are damaged, with everything that is wrong with them.
///
/// Only for a rollback, which must stay possible. Nothing may go forward on a salvaged record.
///
/// # Errors
/// Not even the header of the main journal can be read.
pub fn salvage_run(folder: &RunFolder) -> Result<(RunRecord, Vec<JournalError>), JournalError> {
    let path = folder.journal();
    let (main, damage) = salvage(&path)?;
    let mut wrong: Vec<_> = damage.into_iter().collect();
    let mut sides = Vec::new();
    for path in folder.side_journals().unwrap_or_default() {
        match salvage(&path) {
            Ok((side, damage)) => {
                sides.push((path, side));
                wrong.extend(damage);
            }
            Err(e) => wrong.push(e),
        }
    }
    let (record, gap) = merge(path, main, sides);
    wrong.extend(gap);
    Ok((record, wrong))
}

fn merge(path: PathBuf, mut main: Recovered, files: Vec<(PathBuf, Recovered)>) -> (RunRecord, Option<JournalError>) {
    let mut torn: Vec<_> = main.torn_tail.take().map(|t| (path.clone(), t)).into_iter().collect();
    let mut sides = Vec::new();
    let mut streams = vec![Stream::new(path, &mut main)];
    for (path, mut side) in files {
        torn.extend(side.torn_tail.take().map(|t| (path.clone(), t)));
        let holder = side.header.holder.clone().unwrap_or_default();
        sides.push(Side { path: path.clone(), holder, facts: side.facts.len() });
        streams.push(Stream::new(path, &mut side));
    }
    let (facts, gap) = order(&mut streams);
    (RunRecord { header: main.header, facts, last_time: main.last_time, torn, sides }, gap)
}

fn order(streams: &mut [Stream]) -> (Vec<Fact>, Option<JournalError>) {
    let mut facts: Vec<Fact> = Vec::new();
    let mut merged = streams.len() > 1;
    // Whether another process rolled back past the driver.
    let mut overtaken = false;
    let mut state = RunState::default();
    loop {
        let have = facts.len() as u64;
        let mut best: Option<(usize, crate::domain::at::At)> = None;
        for (i, stream) in streams.iter().enumerate() {
            let Some((fact, after)) = &stream.head else { continue };
            let may = after.is_none_or(|n| n <= have);
            if may && best.is_none_or(|(_, at)| fact.at < at) {
                best = Some((i, fact.at));
            }
        }
        let Some((i, _)) = best else {
            let waiting = streams.iter().find_map(|s| s.head.as_ref().map(|(_, after)| (s.path.clone(), *after)));
            let gap = waiting.map(|(path, after)| JournalError::Missing { path, after: after.unwrap_or(have), have });
            return (facts, gap);
        };
        let next = streams[i].facts.next();
        if let Some((fact, _)) = std::mem::replace(&mut streams[i].head, next) {
            let mut fact = Fact { seq: have + 1, ..fact };
            if merged && let Err(illegal) = apply(&mut state, &fact) {
                // Only the main journal's writer can have been slow; anything else that does not follow is damage.
                merged = i == 0 && overtaken;
                if merged {
                    fact.event = past(fact.event, &illegal.to_string());
                    let _ = apply(&mut state, &fact);
                }
            }
            overtaken |= i > 0 && matches!(fact.event, Event::RollbackOrdered { .. });
            facts.push(fact);
        }
    }
}

/// What is left of a fact that a driver recorded after another process rolled back.
fn past(event: Event, illegal: &str) -> Event {
    match event {
        Event::Intent { id, action: action @ Action::SetSwitch { .. }, .. } => Event::Intent { id, step: None, action },
        _ => {
            let text = format!("recorded by a driver that was overtaken, and without effect: {illegal}");
            Event::Note { level: Level::Warn, source: "journal".to_owned(), text }
        }
    }
}
