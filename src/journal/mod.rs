//! Facts on disk: run folders, the lock, and the journal with its writer, reader and recovery.
//!
//! The format and its recovery rules are written down in `docs/journal.md`. Only std I/O; nothing here is
//! async and nothing here knows the engine.

mod audit;
mod boot;
mod error;
mod folder;
mod frame;
mod lock;
mod merge;
mod reader;
#[cfg(test)]
pub(crate) mod sample_events;
mod samples;
#[cfg(test)]
mod torture;
mod writer;

pub use audit::{Audit, AuditedFile, Damage, audit};
pub use boot::{LastTime, boot_id, since_boot_ms};
pub use error::JournalError;
pub use folder::{FindError, RunFolder, state_dir};
pub use frame::{FORMAT_MAJOR, FORMAT_MINOR, Format, Header};
pub use lock::{Holder, LockError, RunLock};
pub use merge::{RunRecord, Side, read_run, salvage_run};
pub use reader::{Recovered, TornTail, read, salvage};
pub use samples::{Offered, Sample, SampleReader, SampleWriter};
pub use writer::JournalWriter;
#[cfg(test)]
pub(crate) use writer::TestDisk;

use crate::domain::run::{Fact, IllegalTransition, RunState, apply};

/// Folds facts as far as they follow one another, with the first one that does not. Only for a rollback, which must
/// stay possible whatever a record says.
#[must_use]
pub fn fold_believable(facts: &[Fact]) -> (RunState, Option<IllegalTransition>) {
    let mut state = RunState::default();
    let wrong = facts.iter().find_map(|fact| apply(&mut state, fact).err());
    (state, wrong)
}

/// Folds facts into the state they lead to.
///
/// # Errors
/// The first fact that cannot follow the ones before it: such a journal is not believed.
pub fn fold(facts: &[Fact]) -> Result<RunState, IllegalTransition> {
    let mut state = RunState::default();
    for fact in facts {
        apply(&mut state, fact)?;
    }
    Ok(state)
}
