//! Other front ends over the same facts and snapshots: lines, JSON, the closing summary, status and the list of runs.
//!
//! Everything is written to a `std::io::Write` the caller brings; nothing here prints.

mod audit;
mod json;
mod line;
mod metrics;
mod offline;
mod runs;
mod status;
mod summary;
#[cfg(test)]
mod tests;
mod unattended;
mod words;

pub use audit::{audit_json, audit_text};
pub use json::event_line;
pub use line::LineReport;
pub use metrics::metrics;
pub use offline::{Offline, OfflineError, offline};
pub(crate) use offline::{Plans, plan_in_force, read_plan};
pub use runs::{RunChoice, RunEntry, choose_run, run_entries, runs_json, runs_table};
pub use status::{status, status_json};
pub use summary::summary;
pub use unattended::Unattended;
pub use words::{Words, words};
