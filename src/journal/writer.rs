//! Appending facts: written and on disk before the call returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::folder::sync_dir;
use super::frame::{Header, seal_fact, seal_header};
use super::merge::{RunRecord, read_run};
use super::reader::{Recovered, read};
use super::{JournalError, RunFolder};
use crate::domain::run::Fact;

/// The only writer of one journal file.
#[derive(Debug)]
pub struct JournalWriter {
    file: File,
    path: PathBuf,
    chain: String,
    /// Position of the next fact.
    next: u64,
    /// Written into the next frame: facts of other files come before it.
    after: Option<u64>,
    /// Bytes known to be whole and durable.
    whole: u64,
    /// A write failed: the file may be longer than `whole`.
    dirty: bool,
    opened: Instant,
}

impl JournalWriter {
    /// Makes the main journal of a new run.
    ///
    /// # Errors
    /// The file exists already, or the disk refused.
    pub fn create(folder: &RunFolder, header: &Header) -> Result<Self, JournalError> {
        Self::make(&folder.journal(), folder.path(), header, 0)
    }

    /// Takes the main journal up again: cuts a torn last line off and continues after everything the folder holds,
    /// side journals included. Take the run's lock first.
    ///
    /// # Errors
    /// What [`read_run`] refuses, a newer minor version, or the disk.
    pub fn reopen(folder: &RunFolder) -> Result<(Self, RunRecord), JournalError> {
        let record = read_run(folder)?;
        let path = folder.journal();
        let mut main = read(&path)?;
        if !main.writable() {
            return Err(JournalError::NewerFormat {
                path,
                major: main.header.format.major,
                minor: main.header.format.minor,
                tool: main.header.tool,
            });
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(JournalError::io("open", &path))?;
        file.set_len(main.whole).map_err(JournalError::io("truncate", &path))?;
        let mut writer = Self::continued(file, path, &mut main);
        let all = record.facts.len() as u64;
        writer.after = (all + 1 != writer.next).then_some(all);
        writer.next = all + 1;
        let end: &[u8] = if main.ends_open { b"\n" } else { b"" };
        writer.put(end).map_err(JournalError::io("write", &writer.path))?;
        Ok((writer, record))
    }

    /// Makes a side journal: for a process that must record while the driver hangs. It goes on after every fact the
    /// folder holds now. `holder` names the process: `bastion-2.4711`; other characters than letters, digits, `.`,
    /// `-` and `_` are replaced.
    ///
    /// # Errors
    /// What [`read_run`] refuses, a holder whose file exists already, or the disk.
    pub fn create_side(folder: &RunFolder, header: &Header, holder: &str) -> Result<(Self, RunRecord), JournalError> {
        let record = read_run(folder)?;
        let header = Header { holder: Some(holder.to_owned()), ..header.clone() };
        let mut writer = Self::make(&folder.side_journal(holder), folder.path(), &header, record.facts.len() as u64)?;
        writer.after = Some(record.facts.len() as u64);
        Ok((writer, record))
    }

    fn make(path: &Path, dir: &Path, header: &Header, after: u64) -> Result<Self, JournalError> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(JournalError::io("create", path))?;
        let mut chain = String::new();
        let write = || -> io::Result<u64> {
            let line = seal_header(header, &mut chain).map_err(io::Error::other)?;
            (&file).write_all(line.as_bytes())?;
            file.sync_all()?;
            sync_dir(dir)?;
            Ok(line.len() as u64)
        };
        let whole = { write }().map_err(JournalError::io("write", path))?;
        let path = path.to_owned();
        Ok(Self { file, path, chain, next: after + 1, after: None, whole, dirty: false, opened: Instant::now() })
    }

    fn continued(file: File, path: PathBuf, main: &mut Recovered) -> Self {
        Self {
            file,
            path,
            chain: std::mem::take(&mut main.chain),
            next: main.facts.last().map_or(0, |f| f.seq) + 1,
            after: None,
            whole: main.whole,
            dirty: false,
            opened: Instant::now(),
        }
    }

    /// Appends facts and returns once they are on disk (`fdatasync`). All of them or none: after an error the file
    /// is cut back before anything else is written, so the same facts may be offered again.
    ///
    /// # Errors
    /// Facts that do not follow, or what the disk said: full, read-only, I/O error.
    pub fn append(&mut self, facts: &[Fact]) -> io::Result<()> {
        let mut chain = self.chain.clone();
        let (mut next, mut after) = (self.next, self.after);
        let mono = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut text = String::new();
        for fact in facts {
            if fact.seq != next {
                let why = format!("{}: fact #{} offered, #{next} is next", self.path.display(), fact.seq);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            text.push_str(&seal_fact(fact, after.take(), mono, &mut chain).map_err(io::Error::other)?);
            next += 1;
        }
        if text.is_empty() {
            return Ok(());
        }
        self.put(text.as_bytes())?;
        (self.chain, self.next, self.after) = (chain, next, after);
        Ok(())
    }

    /// Position the next fact must have.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends what follows to another file: how a test fills the disk.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, to: &Path) -> io::Result<()> {
        self.file = OpenOptions::new().append(true).open(to)?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.dirty {
            // What a failed write left behind was never acknowledged.
            self.file.set_len(self.whole)?;
        }
        self.dirty = true;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.dirty = false;
        self.whole += bytes.len() as u64;
        Ok(())
    }
}
