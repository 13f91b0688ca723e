//! Run folders: `<state>/runs/<time>-<plan>-<4 hex>/`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::domain::at::At;

/// One run's folder. Mode 0700: keys of rows may appear in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
    id: String,
}

/// Why no run was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// There is no run at all.
    #[error("no runs in {}; `cutover run` or `cutover rehearse` makes one", .0.display())]
    None(PathBuf),
    /// No run has that name.
    #[error("no run is called {asked}; `cutover runs` lists them")]
    Unknown {
        /// What was asked for.
        asked: String,
    },
    /// More than one run fits.
    #[error("{asked} fits more than one run: {}", .fits.join(", "))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// What fits.
        fits: Vec<String>,
    },
    /// The disk refused.
    #[error("list {}: {source}", path.display())]
    Io {
        /// The folder of runs.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Where runs are kept: `$CUTOVER_STATE_DIR`, else `$XDG_STATE_HOME/cutover` (`~/.local/state/cutover`).
/// `None` when there is no home directory either.
#[must_use]
pub fn state_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CUTOVER_STATE_DIR").filter(|d| !d.is_empty()) {
        return Some(dir.into());
    }
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    base.state_dir().map(|d| d.join("cutover"))
}

impl RunFolder {
    /// Makes a new folder, durable before it is given back.
    ///
    /// # Errors
    /// What the disk said.
    pub fn create(state_dir: &Path, plan: &str, now: At) -> io::Result<Self> {
        let runs = state_dir.join("runs");
        DirBuilder::new().recursive(true).mode(0o700).create(&runs)?;
        let stem = format!("{}-{}", stamp(now), plain(plan, "run"));
        for _ in 0..64 {
            let id = format!("{stem}-{:04x}", fastrand::u16(..));
            let path = runs.join(&id);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    sync_dir(&runs)?;
                    return Ok(Self { path, id });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: too many runs in one second", runs.display())))
    }

    /// Finds a run by its id, the beginning of its id, or the four digits at its end; the newest when no name is given.
    /// The path of a run folder is taken as it is.
    ///
    /// # Errors
    /// Nothing fits, or more than one does.
    pub fn find(state_dir: &Path, asked: Option<&str>) -> Result<Self, FindError> {
        if let Some(path) = asked.map(Path::new).filter(|p| p.components().count() > 1 && p.join(JOURNAL).is_file()) {
            return Ok(Self::at(path));
        }
        let all = Self::list(state_dir).map_err(|source| FindError::Io { path: state_dir.join("runs"), source })?;
        let Some(asked) = asked else {
            return all.into_iter().next().ok_or_else(|| FindError::None(state_dir.join("runs")));
        };
        if let Some(exact) = all.iter().find(|f| f.id == asked) {
            return Ok(exact.clone());
        }
        let fits = |f: &&Self| !asked.is_empty() && (f.id.starts_with(asked) || f.id.ends_with(&format!("-{asked}")));
        let mut found: Vec<Self> = all.iter().filter(fits).cloned().collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(FindError::Unknown { asked: asked.to_owned() }),
            (Some(last), false) => {
                found.push(last);
                let fits = found.into_iter().map(|f| f.id).collect();
                Err(FindError::Ambiguous { asked: asked.to_owned(), fits })
            }
        }
    }

    /// Every run that has a journal, newest first; none when there is no state folder yet.
    ///
    /// # Errors
    /// What the disk said.
    pub fn list(state_dir: &Path) -> io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(state_dir.join("runs")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        for entry in entries {
            let folder = Self::at(&entry?.path());
            if folder.journal().is_file() {
                found.push(folder);
            }
        }
        found.sort_by_key(|f| std::cmp::Reverse(f.id.clone()));
        Ok(found)
    }

    /// The folder at this path, whether it exists or not.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let id = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path: path.to_owned(), id }
    }

    /// The run's id: the folder's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The main journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The side journal of `holder`.
    #[must_use]
    pub fn side_journal(&self, holder: &str) -> PathBuf {
        self.path.join(format!("journal.{}.jsonl", plain(holder, "side")))
    }

    /// Side journals that exist, in name order.
    ///
    /// # Errors
    /// What the disk said.
    pub fn side_journals(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name != JOURNAL && name.starts_with("journal.") && name.ends_with(".jsonl") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Recorded measurements.
    #[must_use]
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples.jsonl")
    }

    /// The plan this run goes by.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// The name under which the plan with this hash is kept once the run was amended.
    #[must_use]
    pub fn plan_name(hash: &str) -> String {
        let hash: String = hash.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        format!("plan-{hash}.json")
    }

    /// The file that keeps the plan with this hash once the run was amended.
    #[must_use]
    pub fn plan_of(&self, hash: &str) -> PathBuf {
        self.path.join(Self::plan_name(hash))
    }

    /// Plans that are kept by their hash, in name order; none when the folder cannot be listed.
    #[must_use]
    pub fn kept_plans(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let kept = |name: &str| name.starts_with("plan-") && name.ends_with(".json");
        let mut found: Vec<PathBuf> =
            entries.filter(|e| e.file_name().to_str().is_some_and(kept)).map(|e| e.path()).collect();
        found.sort();
        found
    }

    /// A copy of the configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("cutover.log")
    }

    /// The lock.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The control socket of the driver.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Marks the run as a rehearsal's: its world ends with the process that drives it.
    ///
    /// # Errors
    /// What the disk said.
    pub fn mark_rehearsal(&self) -> io::Result<()> {
        self.write(REHEARSAL, b"the world of this run ended with the process that drove it\n")
    }

    /// Whether the run is a rehearsal's.
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.path.join(REHEARSAL).exists()
    }

    /// Writes a file of this folder whole or not at all: to a temporary name, synced, renamed, mode 0600.
    ///
    /// # Errors
    /// What the disk said.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let draft = self.path.join(format!(".{name}.new"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, self.path.join(name))?;
        sync_dir(&self.path)
    }
}

const JOURNAL: &str = "journal.jsonl";
const REHEARSAL: &str = "rehearsal";

/// A name in a folder is durable once the folder is.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn stamp(now: At) -> String {
    jiff::Timestamp::from_millisecond(now.0)
        .map_or_else(|_| "00000000T000000Z".to_owned(), |t| t.strftime("%Y%m%dT%H%M%SZ").to_string())
}

/// Only what every file system and shell takes as it is.
fn plain(name: &str, empty: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.chars().take(80).map(keep).collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    if name.is_empty() { empty.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn run(dir: &Path, plan: &str, at: i64) -> RunFolder {
        let folder = RunFolder::create(dir, plan, At(at)).unwrap();
        folder.write(JOURNAL, b"x").unwrap();
        folder
    }

    #[test]
    fn a_folder_is_named_after_time_and_plan_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = run(dir.path(), "cloud shelf/../x", 1_795_312_800_000);
        assert!(folder.id().starts_with("20261122T020000Z-cloud-shelf-..-x-"), "{}", folder.id());
        assert_eq!(folder.id().len(), "20261122T020000Z-cloud-shelf-..-x-".len() + 4);
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.journal()), 0o600);
    }

    #[test]
    fn runs_are_found_by_id_beginning_end_path_and_newest() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(RunFolder::find(dir.path(), None), Err(FindError::None(_))));
        let old = run(dir.path(), "shop", 1_000_000);
        let new = run(dir.path(), "shop", 2_000_000_000);
        std::fs::create_dir(dir.path().join("runs/not-a-run")).unwrap();
        let find = |asked: &str| RunFolder::find(dir.path(), Some(asked));
        assert_eq!(RunFolder::find(dir.path(), None).unwrap(), new);
        assert_eq!(find(old.id()).unwrap(), old);
        assert_eq!(find("19700101T0016").unwrap(), old);
        assert_eq!(find(&new.id()[new.id().len() - 4..]).unwrap(), new);
        assert_eq!(find(old.path().to_str().unwrap()).unwrap().id(), old.id());
        assert!(matches!(find("1970"), Err(FindError::Ambiguous { fits, .. }) if fits.len() == 2));
        assert!(matches!(find("zzz"), Err(FindError::Unknown { .. })));
        assert!(matches!(find(""), Err(FindError::Unknown { .. })));
        assert_eq!(RunFolder::list(dir.path()).unwrap(), [new, old]);
    }
}
