//! Reading what a rollback starts from: the one thing it needs a disk for, with a time limit.

use std::time::Duration;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::opened::{Opened, opened};
use crate::cli::out::say;
use crate::cli::recorded::NEVER_BEGAN;
use crate::config::SavedConnections;
use crate::domain::plan::Plan;
use crate::domain::run::RunState;
use crate::journal::{JournalError, RunFolder, fold_believable, read_run, salvage_run};
use crate::report::plan_in_force;

/// How long the disk has to give what is kept of a run.
const READ: Duration = Duration::from_secs(20);

/// Reads on a thread of its own; `None` when the disk does not answer in time.
pub(super) async fn within<T: Send + 'static>(time: Duration, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::time::timeout(time, tokio::task::spawn_blocking(read)).await.ok().and_then(Result::ok)
}

/// Reads on a thread of its own.
///
/// # Errors
/// What the reading gives, or that the disk does not answer.
pub(super) async fn read<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    within(READ, read).await.unwrap_or_else(|| {
        Err(Failure::new(
            Exit::Journal,
            format!(
                "the disk with the run folders gives nothing in {} s, so nobody knows what to restore, and nothing was \
                 changed; press R twice in the run's console, or ask again once the disk answers",
                READ.as_secs()
            ),
        ))
    })
}

/// What is kept of a run, as far as it can be read.
pub(super) struct SavedRun {
    /// Its folder.
    pub folder: RunFolder,
    /// Its plan.
    pub plan: Plan,
    /// How its stores are reached.
    pub connections: SavedConnections,
    /// The fold of its facts.
    pub state: RunState,
    /// Whether the record is damaged: then it is believed up to the damage.
    pub damaged: bool,
}

impl SavedRun {
    /// Reads the folder and says what is wrong with it; `None`, and said, for a run that never began.
    ///
    /// # Errors
    /// Not even the beginning of the record, or no plan, can be read.
    pub fn read(folder: RunFolder) -> Result<Option<Self>, Failure> {
        let never_began = |folder: &RunFolder| {
            crate::cli::out::print(&format!("run {} {NEVER_BEGAN}\n", folder.id()));
            Ok(None)
        };
        // A damaged journal is believed up to the damage: a rollback must stay possible.
        let (record, damage) = match read_run(&folder) {
            Ok(record) => (record, Vec::new()),
            Err(JournalError::NoHeader { .. }) if !folder.is_locked() && folder.side_journals()?.is_empty() => {
                return never_began(&folder);
            }
            Err(_) => salvage_run(&folder)?,
        };
        for d in &damage {
            say(&format!("warning: {d}; going by what stands before it"));
        }
        if record.facts.is_empty() && damage.is_empty() && !folder.is_locked() {
            return never_began(&folder);
        }
        let (state, illegal) = fold_believable(&record.facts);
        if let Some(e) = &illegal {
            say(&format!("warning: {e}; going by what stands before it"));
        }
        let damaged = illegal.is_some() || !damage.is_empty();
        let Opened { plan, connections, warnings } = opened(&folder, plan_in_force(&record, &state))?;
        for warning in warnings {
            say(&format!("warning: {warning}"));
        }
        Ok(Some(Self { folder, plan, connections, state, damaged }))
    }

    /// Takes in what was recorded meanwhile, if the disk gives it quickly.
    pub async fn refresh(&mut self, time: Duration) {
        let folder = self.folder.clone();
        let now = within(time, move || read_run(&folder).ok().map(|r| fold_believable(&r.facts))).await.flatten();
        if let Some((state, None)) = now {
            self.state = state;
        }
    }
}
