//! Reading one journal file back, believing only what can be checked.

use std::path::Path;

use super::JournalError;
use super::boot::{Boot, LastTime};
use super::frame::{Entry, FORMAT_MAJOR, Format, Header, format_of, least_line, open, parse_fact};
use crate::domain::run::Fact;

/// What was in a journal file.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// The first line.
    pub header: Header,
    /// Every fact that can be checked, in file order, numbered as in the file.
    pub facts: Vec<Fact>,
    /// The last line, if it was torn and left out.
    pub torn_tail: Option<TornTail>,
    /// When the last of them was written, where that is known.
    pub last_time: Option<LastTime>,
    pub(super) after: Vec<Option<u64>>,
    pub(super) whole: u64,
    pub(super) chain: String,
    pub(super) ends_open: bool,
    last_mono: Option<i64>,
}

/// A last line that was not wholly written: its fact was never acknowledged, so it never happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Its line number, from 1.
    pub line: usize,
    /// Its length.
    pub bytes: usize,
    /// What does not fit.
    pub why: String,
}

impl Recovered {
    /// Whether this program may append to the file.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.header.format <= Format::OURS
    }
}

/// Reads a journal file.
///
/// # Errors
/// A file without a complete header, of an unknown major version, or with a line that does not fit anywhere but at
/// the end. Nothing after such a line is believed, so nothing is given back.
pub fn read(path: &Path) -> Result<Recovered, JournalError> {
    match salvage(path)? {
        (found, None) => Ok(found),
        (_, Some(damage)) => Err(damage),
    }
}

/// Reads a journal file up to the first line that does not fit, and says what is wrong with that line.
///
/// Only for a rollback, which must not be stopped by a damaged disk: the captured values are near the beginning.
/// Nothing may go forward on a salvaged journal.
///
/// # Errors
/// Not even the header can be read.
pub fn salvage(path: &Path) -> Result<(Recovered, Option<JournalError>), JournalError> {
    let bytes = std::fs::read(path).map_err(JournalError::io("read", path))?;
    recover(path, &bytes)
}

pub(super) fn recover(path: &Path, bytes: &[u8]) -> Result<(Recovered, Option<JournalError>), JournalError> {
    let mut lines = Lines { bytes, from: 0 };
    let mut chain = String::new();
    let first = lines.next().unwrap_or(Line { text: &[], end: 0, closed: false });
    let header = header(path, &first, &mut chain)?;
    let newer = header.format > Format::OURS;
    let mut found = Recovered {
        header,
        facts: Vec::new(),
        torn_tail: None,
        last_time: None,
        after: Vec::new(),
        whole: first.end as u64,
        chain,
        ends_open: !first.closed,
        last_mono: None,
    };
    let mut boot: Option<Boot> = None;
    for (number, line) in (2..).zip(lines) {
        match check(&found, line.text, newer) {
            Ok((entry, chain)) => {
                // A process that does not say in which boot it writes leaves that unknown: its `mono` begins anew.
                let anew = found.last_mono.is_some_and(|last| entry.mono < last);
                found.last_mono = Some(entry.mono);
                boot = entry.boot.or(boot.filter(|_| !anew));
                found.last_time = boot.as_ref().map(|boot| LastTime {
                    at: entry.fact.at,
                    boot: boot.id.clone(),
                    since_boot_ms: boot.ms.saturating_add(entry.mono),
                });
                found.facts.push(entry.fact);
                found.after.push(entry.after);
                found.chain = chain;
                found.whole = line.end as u64;
                found.ends_open = !line.closed;
            }
            // An interrupted write leaves a beginning without its newline. A last line that has one was whole once.
            Err(Why::Seal(why)) if !line.closed => {
                found.torn_tail = Some(TornTail { line: number, bytes: line.text.len(), why });
            }
            Err(Why::Seal(why) | Why::Sense(why)) => {
                let damage = JournalError::Damaged { path: path.to_owned(), line: number, why };
                return Ok((found, Some(damage)));
            }
        }
    }
    Ok((found, None))
}

enum Why {
    Seal(String),
    Sense(String),
}

fn check(found: &Recovered, line: &[u8], newer: bool) -> Result<(Entry, String), Why> {
    let mut chain = found.chain.clone();
    let object = open(line, &mut chain).map_err(Why::Seal)?;
    let entry = parse_fact(&object, newer).map_err(Why::Sense)?;
    let last = found.facts.last().map_or(0, |f| f.seq);
    let n = entry.fact.seq;
    let fits = match entry.after {
        None => n == last + 1,
        // Positions in between belong to other files of the folder; the merge finds them.
        Some(after) => n == after + 1 && after >= last,
    };
    if fits { Ok((entry, chain)) } else { Err(Why::Sense(format!("fact #{n} follows #{last}: facts are missing"))) }
}

pub(super) fn header(path: &Path, line: &Line<'_>, chain: &mut String) -> Result<Header, JournalError> {
    let path_of = || path.to_owned();
    match open(line.text, chain) {
        Ok(object) => {
            let (format, tool) = format_of(object.as_bytes()).ok_or_else(|| JournalError::Damaged {
                path: path_of(),
                line: 1,
                why: "the header names no format".to_owned(),
            })?;
            if format.major != FORMAT_MAJOR {
                return Err(JournalError::UnknownFormat {
                    path: path_of(),
                    major: format.major,
                    minor: format.minor,
                    tool,
                });
            }
            serde_json::from_str(&object).map_err(|e| JournalError::Damaged {
                path: path_of(),
                line: 1,
                why: format!("not a header: {e}"),
            })
        }
        Err(_) if !line.closed || line.text.len() < least_line() => Err(JournalError::NoHeader { path: path_of() }),
        Err(why) => match format_of(line.text) {
            // Another major version may seal its lines in another way.
            Some((format, tool)) if format.major != FORMAT_MAJOR => {
                Err(JournalError::UnknownFormat { path: path_of(), major: format.major, minor: format.minor, tool })
            }
            _ => Err(JournalError::Damaged { path: path_of(), line: 1, why }),
        },
    }
}

/// One line of a file.
pub(super) struct Line<'a> {
    /// Without its newline.
    pub(super) text: &'a [u8],
    /// Where the next line begins.
    pub(super) end: usize,
    /// Whether it ends in a newline.
    pub(super) closed: bool,
}

/// The lines of a file from a place on.
pub(super) struct Lines<'a> {
    /// The whole file.
    pub(super) bytes: &'a [u8],
    /// Where the next line begins.
    pub(super) from: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.bytes.get(self.from..).filter(|r| !r.is_empty())?;
        let found = rest.iter().position(|b| *b == b'\n');
        let length = found.unwrap_or(rest.len());
        self.from += length + usize::from(found.is_some());
        Some(Line { text: &rest[..length], end: self.from, closed: found.is_some() })
    }
}
