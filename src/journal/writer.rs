//! Appending facts: written and on disk before the call returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::boot::{Boot, since_boot_ms};
use super::folder::sync_dir;
use super::frame::{Beside, Header, seal_fact, seal_header};
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
    /// The file's blocks are reserved up to here.
    reserved: u64,
    /// Milliseconds since the machine started when this process opened the file.
    opened: i64,
    /// Written into the next frame: the first of this process.
    boot: Option<Boot>,
    #[cfg(test)]
    disk: TestDisk,
}

/// What a rollback needs on disk, with much to spare: forward facts leave at least this much to it.
const ROOM: u64 = 1 << 20;

impl JournalWriter {
    /// Makes the main journal of a new run.
    ///
    /// # Errors
    /// The file exists already, or the disk refused.
    pub fn create(folder: &RunFolder, header: &Header) -> Result<Self, JournalError> {
        Self::make(&folder.journal(), folder.path(), header, 0)
    }

    /// Resumes the main journal: cuts a torn last line off and continues after everything the folder holds, side
    /// journals included. Take the run's lock first.
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
        // Cutting a file frees what was reserved for it, so only a torn one is cut.
        if file.metadata().map_err(JournalError::io("look at", &path))?.len() != main.whole {
            file.set_len(main.whole).map_err(JournalError::io("truncate", &path))?;
        }
        let mut writer = Self::continued(file, path, &mut main);
        let all = record.facts.len() as u64;
        writer.after = (all + 1 != writer.next).then_some(all);
        writer.next = all + 1;
        let end: &[u8] = if main.ends_open { b"\n" } else { b"" };
        if !end.is_empty() {
            writer.put(end).map_err(JournalError::io("write", &writer.path))?;
        }
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
        let opened = since_boot_ms();
        Ok(Self {
            file,
            path,
            chain,
            next: after + 1,
            after: None,
            whole,
            dirty: false,
            reserved: 0,
            opened,
            boot: Boot::at(opened),
            #[cfg(test)]
            disk: TestDisk::default(),
        })
    }

    fn continued(file: File, path: PathBuf, main: &mut Recovered) -> Self {
        let opened = since_boot_ms();
        Self {
            file,
            path,
            chain: std::mem::take(&mut main.chain),
            next: main.facts.last().map_or(0, |f| f.seq) + 1,
            after: None,
            whole: main.whole,
            dirty: false,
            reserved: 0,
            opened,
            boot: Boot::at(opened),
            #[cfg(test)]
            disk: TestDisk::default(),
        }
    }

    /// Sets disk space aside for a rollback's facts behind the next one. Going forward asks for it before each fact, so
    /// that a full disk stops the run while a rollback can still be recorded. File systems that cannot set space
    /// aside are not asked twice.
    ///
    /// # Errors
    /// There is no such space, or the disk refused.
    pub fn make_room(&mut self) -> io::Result<()> {
        // A disk that a test fills has no more space to reserve.
        #[cfg(test)]
        self.disk.takes(u64::MAX, self.reserved)?;
        if self.reserved >= self.whole + ROOM {
            return Ok(());
        }
        let (from, length) = (self.whole, 2 * ROOM);
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, from, length) {
            Ok(()) => self.reserved = from + length,
            // Not every file system can.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
                self.reserved = u64::MAX;
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Appends facts and returns once they are on disk (`fdatasync`). All of them or none: after an error the file
    /// is cut back before anything else is written, so the same facts may be offered again.
    ///
    /// # Errors
    /// Facts that do not follow, or what the disk said: full, read-only, I/O error.
    pub fn append(&mut self, facts: &[Fact]) -> io::Result<()> {
        let mut chain = self.chain.clone();
        let (mut next, mut after) = (self.next, self.after);
        let mono = u64::try_from(since_boot_ms() - self.opened).unwrap_or(0);
        let mut boot = self.boot.as_ref();
        let mut text = String::new();
        for fact in facts {
            if fact.seq != next {
                let why = format!("{}: fact #{} offered, #{next} is next", self.path.display(), fact.seq);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            text.push_str(
                &seal_fact(fact, Beside { after: after.take(), mono, boot: boot.take() }, &mut chain)
                    .map_err(io::Error::other)?,
            );
            next += 1;
        }
        if text.is_empty() {
            return Ok(());
        }
        self.put(text.as_bytes())?;
        (self.chain, self.next, self.after) = (chain, next, after);
        self.boot = None;
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

    /// The disk under this journal, in a test's hands.
    #[cfg(test)]
    pub(crate) fn disk(&self) -> TestDisk {
        self.disk.clone()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        drop(self.disk.hung.lock());
        #[cfg(test)]
        self.disk.takes(self.whole + bytes.len() as u64, self.reserved)?;
        if self.dirty {
            // What a failed write left behind was never acknowledged.
            self.file.set_len(self.whole)?;
            self.reserved = self.reserved.min(self.whole);
        }
        self.dirty = true;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.dirty = false;
        self.whole += bytes.len() as u64;
        Ok(())
    }
}

/// A disk that a test fills or breaks under a journal.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk {
    /// What was reserved can be written, nothing else.
    pub full: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// Nothing can be written.
    pub broken: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// The disk hangs while a test holds this lock.
    pub hung: std::sync::Arc<std::sync::Mutex<()>>,
}

#[cfg(test)]
impl TestDisk {
    fn takes(&self, end: u64, reserved: u64) -> io::Result<()> {
        let set = |flag: &std::sync::atomic::AtomicBool| flag.load(std::sync::atomic::Ordering::Acquire);
        if set(&self.broken) {
            return Err(rustix::io::Errno::IO.into());
        }
        if set(&self.full) && end > reserved { Err(rustix::io::Errno::NOSPC.into()) } else { Ok(()) }
    }
}
