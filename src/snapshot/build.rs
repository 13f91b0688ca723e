//! From plan, state and measurements to a snapshot.

use super::{Mode, Snapshot};
use crate::domain::at::At;
use crate::domain::gauge::{Measured, Series};
use crate::domain::plan::Plan;
use crate::domain::run::{Fact, RunState};
use std::collections::BTreeMap;

/// Everything a snapshot is built from.
pub struct Context<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The folded state.
    pub state: &'a RunState,
    /// What was last measured.
    pub measured: &'a Measured,
    /// Histories of signals by id, kept by the caller.
    pub series: &'a BTreeMap<String, Series>,
    /// The last facts, oldest first, for the log.
    pub facts: &'a [Fact],
    /// The run's clock.
    pub now: At,
    /// How it is watched.
    pub mode: Mode,
    /// What the console waits for.
    pub waiting: Option<(String, At)>,
    /// Version to stamp.
    pub version: u64,
}

/// Builds a snapshot. Pure.
#[must_use]
pub fn build(cx: &Context<'_>) -> Snapshot {
    Snapshot { version: cx.version, now: cx.now, wall: cx.measured.at, mode: cx.mode, ..Snapshot::default() }
}
