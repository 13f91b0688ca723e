//! Why a journal was not read or written.

use std::io;
use std::path::{Path, PathBuf};

/// A journal that cannot be trusted, or cannot be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `truncate`.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file ends inside its first line: it was made, and nothing was recorded in it.
    #[error("{}: no complete header line; nothing was recorded here, start a new run", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
    /// A line in the middle is not what was written.
    #[error("{}:{line}: {why}; keep the folder as it is, and copy the file before repairing it by hand", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1; the header is line 1.
        line: usize,
        /// What does not fit.
        why: String,
    },
    /// The format is not known to this program.
    #[error(
        "{}: journal format {major}.{minor} is not known to this program (it knows {}.x); use cutover {tool}",
        path.display(), super::FORMAT_MAJOR
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
        /// The program that wrote it.
        tool: String,
    },
    /// The format may be read but not written by this program.
    #[error(
        "{}: written by cutover {tool} in journal format {major}.{minor}; this program may read it, not continue it",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
        /// The program that wrote it.
        tool: String,
    },
    /// A journal continues after facts that are in no file of the folder.
    #[error("{}: continues after fact #{after}, but the folder holds only {have}; a side journal is missing", path.display())]
    Missing {
        /// The file that continues.
        path: PathBuf,
        /// The position it continues after.
        after: u64,
        /// Facts that could be put in order.
        have: u64,
    },
}

impl JournalError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// The line at fault, if one is; the header is line 1.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::Damaged { line, .. } => Some(*line),
            Self::NoHeader { .. } | Self::UnknownFormat { .. } | Self::NewerFormat { .. } => Some(1),
            Self::Io { .. } | Self::Missing { .. } => None,
        }
    }
}
