//! The work itself: async, written against ports, started by effects; it reports facts.
//!
//! One [`WorkerContext`] per process performs steps, follows changes in the background and watches. It owns no run
//! state: it is given the folded state where it needs it, and what it does becomes facts.
//!
//! Convergence in short: the stream is on and its positions are recorded before the first row is read; the load
//! copies into empty tables; changes are applied to a table only after its load has ended, replayed from the
//! recorded start, in per-key order. No load row can overwrite a newer change, so each key ends at its last
//! change, or at the scanned value if it had none. Positions commit with the rows they describe and are read back
//! from the target after every restart.

mod appeared;
mod arm;
mod attached;
mod baseline;
mod bookkeeping;
mod capture;
mod catch_up;
mod changes;
mod column_types;
mod context;
mod continuous;
mod definitions;
mod drain;
mod dry_run;
pub mod end_capture;
mod exercise;
mod expiry;
mod export;
mod follow;
mod freeze;
mod index_keys;
mod job_checks;
mod jobs;
mod key_form;
mod latest;
mod listing;
mod load;
mod marker;
pub mod movers;
mod pace;
mod pages;
mod parked;
mod preflight;
mod progress;
mod rate;
mod reader;
mod references;
mod repair;
mod restore;
mod retained;
pub mod reverse;
pub mod rollback;
mod sampled;
mod schema;
mod sequences;
mod set_up;
mod smoke;
mod source_columns;
mod stray;
mod surroundings;
mod switch;
mod trouble;
mod undo_jobs;
mod verify;
mod watch;

pub use context::{CapturedValue, CapturedValues, KeepFindings, Ports, WorkerContext};
pub use dry_run::{DryRun, DryRunProgress, Extent, NeverExpire, dry_run};
pub use export::{ExportLines, ExportPace, ExportSink, export_moment, export_pages};
pub use latest::LatestSamples;
pub use load::in_order as parents_first;
pub use pace::ReadBudget;
pub use parked::Retried;
pub use preflight::{CheckRow, Missing, OTHER_ACCOUNT_ADVICE, check};
pub use repair::{Repaired, repair, retry_parked, source_is_the_truth};
pub use restore::{Before, OpenLines, RestoreEnd, RestoreError, RestoredTable, restore};
pub use undo_jobs::{TellJob, UndoJobs};
pub use verify::{Candidate, Compared, candidate, compare_keys, full_pass, sample, words as verify_words};

#[cfg(test)]
pub(crate) mod tests;
