//! What goes wrong with the files of an export.

use std::io;
use std::path::{Path, PathBuf};

/// An error with what was tried, on which file, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder is there already.
    #[error("{} is there already (name a folder that is not: an export is never written over another one)", .0.display())]
    Exists(PathBuf),
    /// Another export into the same folder is under way, or was cut off.
    #[error(
        "{} is there: another export is under way there, or one was cut off (if none is under way, remove that folder)",
        .0.display()
    )]
    Partial(PathBuf),
    /// The folder has no manifest.
    #[error("{} holds no manifest.json: it is no export, or one that did not come to its end", .0.display())]
    NoManifest(PathBuf),
    /// The manifest is not one of ours, or of a later version.
    #[error("{}: {why}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk, or its rights.
    #[error("{tried} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
}

impl ExportError {
    /// Names what was tried, and on what.
    pub(super) fn io(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { tried, path: path.to_owned(), source }
    }
}

fn advice(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            " (free space there, or name a folder on another disk; what this export had written is removed)"
        }
        io::ErrorKind::NotFound => " (the folder around it must be there)",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => " (name a folder that you may write to)",
        _ => "",
    }
}
