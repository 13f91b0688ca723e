//! One driver: the lock on a run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RunFolder;

/// `status` or `runs` hold the lock for microseconds to read it; a driver tries again before it gives up.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(20);

/// Who holds a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// The person.
    pub operator: String,
}

impl Holder {
    /// This process, driven by `operator` on `host`.
    #[must_use]
    pub fn me(operator: &str, host: &str) -> Self {
        Self { host: host.to_owned(), pid: std::process::id(), operator: operator.to_owned() }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {} (process {})", self.operator, self.host, self.pid)
    }
}

/// Why a run was not locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process drives the run.
    #[error("the run is driven by {}; see `cutover status`, or end that process first", who(holder.as_ref()))]
    Held {
        /// Who, as far as the lock file says.
        holder: Option<Holder>,
    },
    /// The disk refused.
    #[error("lock {path}: {source}")]
    Io {
        /// The lock file.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

fn who(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), ToString::to_string)
}

/// The lock; released when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunFolder {
    /// Takes the run's lock.
    ///
    /// # Errors
    /// Another process holds it, or the disk refused.
    pub fn lock(&self, holder: &Holder) -> Result<RunLock, LockError> {
        let path = self.lock_path();
        let failed = |source| LockError::Io { path: path.display().to_string(), source };
        let mut file = open(&path).map_err(failed)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < TRIES => std::thread::sleep(BETWEEN),
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: read(&mut file) }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let text = serde_json::to_string(holder).unwrap_or_default();
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(failed)?;
        Ok(RunLock { _file: file })
    }

    /// Whether a process drives the run now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked_by().is_some()
    }

    /// Who drives the run now, if anybody does; the default holder when the file does not say.
    #[must_use]
    pub fn locked_by(&self) -> Option<Holder> {
        let mut file = OpenOptions::new().read(true).open(self.lock_path()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read(&mut file).unwrap_or_default()),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;

    #[test]
    fn one_driver_and_the_other_hears_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "shop", At(0)).unwrap();
        assert!(!folder.is_locked());
        let alice = Holder::me("alice", "bastion-2");
        let lock = folder.lock(&alice).unwrap();
        assert_eq!(folder.locked_by(), Some(alice.clone()));
        let refused = folder.lock(&Holder::me("bob", "bastion-1")).unwrap_err();
        assert!(matches!(&refused, LockError::Held { holder: Some(h) } if *h == alice), "{refused}");
        assert!(refused.to_string().contains("alice on bastion-2"), "{refused}");
        drop(lock);
        assert!(!folder.is_locked());
        drop(folder.lock(&Holder::me("bob", "bastion-1")).unwrap());
    }
}
