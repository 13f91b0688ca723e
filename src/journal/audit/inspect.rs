//! One file, line by line, going on after damage.

use std::path::Path;

use super::super::JournalError;
use super::super::frame::{Format, HASH_AT, HASH_LEN, format_of, open, parse_fact};
use super::super::reader::{Line, Lines, TornTail, header};
use super::locate::{lost_newline, one_byte};
use super::{AuditedFile, Damage};

/// What is known while a file is read.
struct AuditReader<'f> {
    path: &'f Path,
    bytes: &'f [u8],
    /// The hash the next line must follow; absent after a line that could not be made out.
    chain: Option<String>,
    newer: bool,
    file: AuditedFile,
    /// Number of the last fact.
    last: u64,
    found: Vec<Damage>,
}

/// What became of a line.
enum Next {
    /// Go on with the line after it.
    Line,
    /// Go on at this byte: the line was two, or two lines were one.
    At(usize),
}

/// Audits one file.
///
/// # Errors
/// No complete header, or another major version.
pub(super) fn file(path: &Path, bytes: &[u8]) -> Result<(AuditedFile, Vec<Damage>), JournalError> {
    let mut audited = AuditReader {
        path,
        bytes,
        chain: Some(String::new()),
        newer: false,
        file: AuditedFile {
            path: path.to_owned(),
            header: None,
            facts: 0,
            bytes: bytes.len() as u64,
            head: String::new(),
            torn: None,
        },
        last: 0,
        found: Vec::new(),
    };
    let (mut from, mut number) = (0, 0);
    while let Some(line) = (Lines { bytes, from }).next() {
        number += 1;
        let next = if number == 1 { audited.first(from, &line)? } else { audited.line(number, from, &line) };
        from = match next {
            Next::Line => line.end,
            Next::At(at) => at,
        };
    }
    if number == 0 {
        return Err(JournalError::NoHeader { path: path.to_owned() });
    }
    Ok((audited.file, audited.found))
}

/// The hashes of a file's lines, as far as they fit.
pub(super) fn chain(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut chain = String::new();
    let mut all = Vec::new();
    for line in (Lines { bytes: &bytes, from: 0 }) {
        if open(line.text, &mut chain).is_err() {
            break;
        }
        all.push(chain.clone());
    }
    all
}

impl AuditReader<'_> {
    fn first(&mut self, from: usize, line: &Line<'_>) -> Result<Next, JournalError> {
        let mut chain = String::new();
        let error = match header(self.path, line, &mut chain) {
            Ok(header) => {
                self.newer = header.format > Format::OURS;
                self.file.header = Some(header);
                self.file.head.clone_from(&chain);
                self.chain = Some(chain);
                return Ok(Next::Line);
            }
            Err(error) => error,
        };
        if let Some(next) = self.changed_byte(1, 0, from, line) {
            return Ok(next);
        }
        match error {
            JournalError::Damaged { why, .. } => {
                self.find(1, from, line.end, None, 0, format!("the header was changed: {why}"));
                self.adopt(line.text);
                Ok(Next::Line)
            }
            other => Err(other),
        }
    }

    fn line(&mut self, number: usize, from: usize, line: &Line<'_>) -> Next {
        let Some(before) = self.chain.clone() else { return self.after_a_wreck(number, from, line) };
        let mut chain = before;
        match open(line.text, &mut chain) {
            Ok(object) => {
                self.take(number, from, line, &object);
                self.file.head.clone_from(&chain);
                self.chain = Some(chain);
                Next::Line
            }
            Err(why) => self.damaged(number, from, line, &why),
        }
    }

    /// A line whose checks fit: its number must follow.
    fn take(&mut self, number: usize, from: usize, line: &Line<'_>, object: &str) {
        match parse_fact(object, self.newer) {
            Ok(entry) => {
                let (n, last) = (entry.fact.seq, self.last);
                let fits = match entry.after {
                    None => n == last + 1,
                    Some(after) => n == after + 1 && after >= last,
                };
                if !fits {
                    self.find(number, from, line.end, None, n, out_of_order(last, n));
                }
                self.last = n;
                self.file.facts += 1;
            }
            Err(why) => self.find(number, from, line.end, None, self.last + 1, why),
        }
    }

    fn damaged(&mut self, number: usize, from: usize, line: &Line<'_>, why: &str) -> Next {
        let fact = self.last + 1;
        if let Some(next) = self.changed_byte(number, fact, from, line) {
            return next;
        }
        if !line.closed {
            // An interrupted write leaves a beginning without its newline.
            self.file.torn = Some(TornTail { line: number, bytes: line.text.len(), why: why.to_owned() });
            return Next::Line;
        }
        let Some(n) = self.number_in(line.text) else {
            let what = format!("fact #{fact} cannot be read: bytes were changed, put in or taken out ({why})");
            self.find(number, from, line.end, None, fact, what);
            self.adopt(line.text);
            return Next::Line;
        };
        if !checksum_fits(line.text) {
            self.find(number, from, line.end, None, n, format!("fact #{n}: more than one byte was changed ({why})"));
        } else if n == fact {
            let what = format!("fact #{n} was changed or put in, and its checksum made again: it does not follow");
            self.find(number, from, line.end, None, n, what);
        } else {
            self.find(number, from, line.end, None, n, out_of_order(self.last, n));
        }
        // A line that was moved back is passed over: what follows goes on from the highest one.
        if n > self.last {
            self.last = n;
            self.adopt(line.text);
        }
        Next::Line
    }

    /// One changed byte explains the damage: says which, and goes on as if it had not been changed.
    fn changed_byte(&mut self, number: usize, fact: u64, from: usize, line: &Line<'_>) -> Option<Next> {
        let chain = self.chain.clone()?;
        let (mended, at, was, end) = self.mend(from, line, &chain)?;
        let is = self.bytes.get(from + at).copied().unwrap_or_default();
        let (is, was_shown) = (shown(is), shown(was));
        let what = format!("fact #{fact}: byte {} was changed: it is {is}, it was {was_shown}", from + at);
        let what = if fact == 0 { what.replacen("fact #0", "the header", 1) } else { what };
        self.find(number, from, end, Some(from + at), fact, what);
        let mut chain = chain;
        if let Ok(object) = open(&mended, &mut chain) {
            if fact == 0 {
                self.newer = format_of(object.as_bytes()).is_some_and(|(f, _)| f > Format::OURS);
                self.file.header = serde_json::from_str(&object).ok();
            } else if let Ok(entry) = parse_fact(&object, self.newer) {
                self.last = entry.fact.seq;
            }
            self.chain = Some(chain);
        }
        Some(Next::At(end))
    }

    /// The line as it was, where the changed byte stands in it, what it was, and where the next line begins.
    fn mend(&self, from: usize, line: &Line<'_>, chain: &str) -> Option<(Vec<u8>, usize, u8, usize)> {
        if let Some(changed) = one_byte(line.text, chain) {
            let mut mended = line.text.to_vec();
            mended[changed.at] = changed.was;
            return Some((mended, changed.at, changed.was, line.end));
        }
        if let Some(at) = lost_newline(line.text, chain) {
            return Some((line.text[..at].to_vec(), at, b'\n', from + at + 1));
        }
        // A byte that became a newline: the line goes on in the next one.
        let rest = (Lines { bytes: self.bytes, from: line.end }).next().filter(|_| line.closed)?;
        let both = self.bytes.get(from..line.end + rest.text.len())?;
        let changed = one_byte(both, chain).filter(|c| c.at == line.text.len())?;
        let mut mended = both.to_vec();
        mended[changed.at] = changed.was;
        Some((mended, changed.at, changed.was, rest.end))
    }

    /// The first line after one that could not be made out: its own word is taken for the chain.
    fn after_a_wreck(&mut self, number: usize, from: usize, line: &Line<'_>) -> Next {
        if !checksum_fits(line.text) {
            if line.closed {
                let what = "cannot be read either".to_owned();
                self.find(number, from, line.end, None, self.last + 1, what);
            } else {
                let why = "not a whole line".to_owned();
                self.file.torn = Some(TornTail { line: number, bytes: line.text.len(), why });
            }
            return Next::Line;
        }
        if let Some(n) = self.number_in(line.text) {
            if n > self.last + 2 {
                let (a, b) = (self.last + 1, n - 1);
                self.find(number, from, line.end, None, a, format!("facts #{a} to #{b} are not there any more"));
            }
            self.last = n;
        }
        self.adopt(line.text);
        Next::Line
    }

    /// Takes a line's own word for its hash.
    fn adopt(&mut self, line: &[u8]) {
        let claimed = line.get(HASH_AT..HASH_AT + HASH_LEN).and_then(|h| std::str::from_utf8(h).ok());
        let hex = claimed.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()) && checksum_fits(line));
        self.chain = hex.map(str::to_owned);
    }

    fn number_in(&self, line: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(line).ok()?;
        serde_json::from_str::<Number>(text).ok().map(|n| n.n)
    }

    fn find(&mut self, line: usize, from: usize, to: usize, byte: Option<usize>, fact: u64, what: String) {
        self.found.push(Damage {
            path: self.path.to_owned(),
            line: Some(line),
            from: from as u64,
            to: to as u64,
            byte: byte.map(|b| b as u64),
            fact: Some(fact),
            what,
        });
    }
}

#[derive(serde::Deserialize)]
struct Number {
    n: u64,
}

/// Whether the CRC of a line fits its payload, wherever the line stands.
fn checksum_fits(line: &[u8]) -> bool {
    // With an empty chain only the hash can be at fault.
    match open(line, &mut String::new()) {
        Ok(_) => true,
        Err(why) => why.contains("hash chain"),
    }
}

fn out_of_order(last: u64, n: u64) -> String {
    match n.checked_sub(last + 1) {
        Some(0) => format!("fact #{n} does not follow"),
        Some(1) => format!("fact #{n} follows #{last}: fact #{} was taken out or moved", n - 1),
        Some(_) => format!("fact #{n} follows #{last}: facts #{} to #{} were taken out or moved", last + 1, n - 1),
        None => format!("fact #{n} stands after #{last}: it was moved or put in again"),
    }
}

/// A byte as people read it.
fn shown(byte: u8) -> String {
    match byte {
        b'\n' => "a newline".to_owned(),
        b if b.is_ascii_graphic() => format!("{:?}", char::from(b)),
        b => format!("0x{b:02x}"),
    }
}
