//! The folder of an export, under another name until it is whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::ExportError;
use super::lines::LinesFile;
use super::manifest::{MANIFEST, Manifest};

/// An export that is being written. Dropped before [`ExportFolder::complete`], it removes what it has written.
#[derive(Debug)]
pub struct ExportFolder {
    to: PathBuf,
    partial: PathBuf,
    done: bool,
}

impl ExportFolder {
    /// Makes the folder that everything is written into first.
    ///
    /// # Errors
    /// A folder of either name is there, or the one around it is not.
    pub fn create(to: &Path) -> Result<Self, ExportError> {
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.is_empty() || to.symlink_metadata().is_ok() {
            return Err(ExportError::Exists(to.to_owned()));
        }
        let partial = to.with_file_name(format!("{name}.partial"));
        match DirBuilder::new().mode(0o700).create(&partial) {
            Ok(()) => Ok(Self { to: to.to_owned(), partial, done: false }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(ExportError::Partial(partial)),
            Err(e) => Err(ExportError::io("make", &partial)(e)),
        }
    }

    /// Opens the file of a table; gives its name in the folder with it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn table(&self, id: &str) -> Result<(String, LinesFile<File>), ExportError> {
        let name = format!("{}.ndjson.zst", file_name(id));
        let path = self.partial.join(&name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(ExportError::io("make", &path))?;
        Ok((name, LinesFile::new(file, path)?))
    }

    /// Writes the manifest and gives the folder its name, each on disk before the next.
    ///
    /// # Errors
    /// The disk takes no more, or somebody made a folder of that name meanwhile.
    pub fn complete(mut self, manifest: &Manifest) -> Result<(), ExportError> {
        let path = self.partial.join(MANIFEST);
        let error = || ExportError::io("write", &path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(error())?;
        let mut text = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::from).map_err(error())?;
        text.push(b'\n');
        file.write_all(&text).map_err(error())?;
        file.sync_all().map_err(error())?;
        sync(&self.partial)?;
        fs::rename(&self.partial, &self.to).map_err(ExportError::io("give its name to", &self.to))?;
        self.done = true;
        let around = self.to.parent().filter(|path| !path.as_os_str().is_empty());
        sync(around.unwrap_or_else(|| Path::new(".")))
    }
}

impl Drop for ExportFolder {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed still does not look complete.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

fn sync(folder: &Path) -> Result<(), ExportError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(ExportError::io("sync", folder))
}

/// A table's id as the name of a file: what is no letter, digit, `-` or `_` stands as its bytes.
fn file_name(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::export::{Checked, verify};

    fn manifest() -> Manifest {
        Manifest::begun("shelf/test", "0123", crate::domain::at::At(0))
    }

    #[test]
    fn an_export_has_its_name_once_it_is_whole_and_leaves_nothing_before() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("backup");
        let cut_off = ExportFolder::create(&to).unwrap();
        cut_off.table("books").unwrap();
        assert!(!to.exists() && dir.path().join("backup.partial").exists());
        assert!(matches!(ExportFolder::create(&to), Err(ExportError::Partial(_))), "two at once");
        drop(cut_off);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "what did not come to its end is removed");

        let folder = ExportFolder::create(&to).unwrap();
        let (_, mut file) = folder.table("b/../x").unwrap();
        file.write(b"{}\n", 1).unwrap();
        let written = file.finish().unwrap();
        assert_eq!((written.records, written.bytes), (1, 3));
        folder.complete(&manifest()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&to), mode(&to.join("manifest.json"))), (0o700, 0o600));
        assert_eq!(mode(&to.join("b%2f%2e%2e%2fx.ndjson.zst")), 0o600);
        assert!(matches!(ExportFolder::create(&to), Err(ExportError::Exists(_))), "never written over");
        assert_eq!(verify(&to, &mut |_: &Checked| {}).unwrap().plan_hash, "0123");
        let e = verify(dir.path(), &mut |_: &Checked| {}).unwrap_err();
        assert!(matches!(e, ExportError::NoManifest(_)), "{e}");
    }
}
