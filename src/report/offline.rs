//! A snapshot of a run from its folder alone, whether a console lives or not.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::unattended::Unattended;
use crate::domain::at::{At, brief};
use crate::domain::gauge::{Measured, Outbox, Readiness};
use crate::domain::plan::Plan;
use crate::domain::run::{Event, Fact, IllegalTransition, RunState};
use crate::journal::{JournalError, RunFolder, RunRecord, SampleReader, fold, read_run};
use crate::snapshot::{Context, Health, Mode, Snapshot, build};

/// Facts kept for the log of a snapshot.
const LOG: usize = 400;

/// Why a run's folder does not show where the run stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The facts do not follow each other.
    #[error("the journal does not add up: {0}")]
    Fold(#[from] IllegalTransition),
    /// The plan.
    #[error("read plan {path}: {why}")]
    Plan {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The plan is not the one the run goes by.
    #[error("plan {path} has hash {found}, the run goes by {wanted}; restore the file")]
    OtherPlan {
        /// The file.
        path: String,
        /// Its hash, shortened.
        found: String,
        /// The journal's, shortened.
        wanted: String,
    },
}

/// Everything a run's folder holds.
pub struct Offline {
    /// The plan.
    pub plan: Plan,
    /// Every fact.
    pub record: RunRecord,
    /// Their fold.
    pub state: RunState,
    /// What was last measured, as old as it is; its `at` is the `wall` that was passed in.
    pub measured: Measured,
    /// The moment, drawn together.
    pub snapshot: Snapshot,
    /// Set when the run is not at its end and nobody drives it.
    pub unattended: Option<Unattended>,
}

/// Reads a run's folder. `wall` is the time now: numbers of a run nobody drives grow old.
///
/// # Errors
/// A journal that cannot be trusted, or a plan that is not the run's.
pub fn offline(folder: &RunFolder, wall: At) -> Result<Offline, OfflineError> {
    let driven = folder.is_locked();
    let record = read_run(folder)?;
    let state = fold(&record.facts)?;
    let plan = read_plan(folder, plan_in_force(&record, &state))?;
    let mut measured = last_sample(folder).unwrap_or_default();
    measured.at = wall;
    if !folder.is_rehearsal() {
        // Customers are kept out until writes are seen accepted, whoever measured it last.
        measured.downtime_ms = None;
    }
    let last = record.facts.last().map_or(state.opened, |f| f.at);
    let now = if state.ended.is_some() { last } else { last.max(wall) };
    let tail: &[Fact] = &record.facts[record.facts.len().saturating_sub(LOG)..];
    let unattended = Unattended::of(folder, driven, &state, last);
    measured.journal_ok &= unattended.is_none();
    if !driven {
        // Customers may have gone on writing since somebody last counted.
        measured.at_risk = None;
        measured.outbox = measured.outbox.map(|o| Outbox { rows: None, growth: None, ..o });
    }
    let mut snapshot = build(&Context {
        plan: &plan,
        state: &state,
        measured: &measured,
        series: &BTreeMap::new(),
        facts: tail,
        now,
        mode: Mode::Live,
        waiting: None,
        version: state.last_seq,
    });
    if folder.is_rehearsal() && !driven {
        print_rollback(&mut snapshot, Health::Idle, "its world has ended: nothing can be taken back");
    } else if unattended.is_some() {
        doubt_rollback(&mut snapshot, &measured);
    }
    Ok(Offline { plan, record, state, measured, snapshot, unattended })
}

/// The driver proves that a rollback is possible. Without a driver it was only proven earlier, however recently.
fn doubt_rollback(snapshot: &mut Snapshot, measured: &Measured) {
    let Readiness::Armed { at, .. } = measured.rollback else { return };
    if snapshot.rollback.health != Health::Ok {
        return;
    }
    let text = format!("? proven {} ago, by nobody since", brief(measured.at.since(at).max(0)));
    print_rollback(snapshot, Health::Unknown, &text);
}

fn print_rollback(snapshot: &mut Snapshot, health: Health, text: &str) {
    for lamp in snapshot.lamps.iter_mut().filter(|l| l.word == "ROLLBACK") {
        lamp.health = health;
        lamp.text = text.to_owned();
    }
    snapshot.rollback.health = health;
    snapshot.rollback.text = text.to_owned();
}

/// The hash of the plan a run goes by: that of its last amendment, else the one it was opened with.
pub(crate) fn plan_in_force<'r>(record: &'r RunRecord, state: &'r RunState) -> &'r str {
    if state.plan_hash.is_empty() { &record.header.plan_hash } else { &state.plan_hash }
}

/// Reads the plan with this hash: `plan.json`, or after an amendment the file that keeps it by its hash. An amendment
/// that was cut off leaves `plan.json` one plan behind its journal.
pub(crate) fn read_plan(folder: &RunFolder, wanted: &str) -> Result<Plan, OfflineError> {
    plan_at(&folder.plan(), wanted).or_else(|why| plan_at(&folder.plan_of(wanted), wanted).map_err(|_| why))
}

/// Every plan a run has gone by.
#[derive(Debug)]
pub(crate) struct Plans {
    first: Plan,
    /// Each with the position of the fact that amended it.
    amended: Vec<(u64, Plan)>,
}

impl Plans {
    /// One plan from the first fact to the last.
    pub(crate) const fn one(plan: Plan) -> Self {
        Self { first: plan, amended: Vec::new() }
    }

    /// Reads them.
    ///
    /// # Errors
    /// One of them cannot be read, or is another plan.
    pub(crate) fn read(folder: &RunFolder, record: &RunRecord) -> Result<Self, OfflineError> {
        let mut plans = Self::one(read_plan(folder, &record.header.plan_hash)?);
        for fact in &record.facts {
            if let Event::PlanAmended(amended) = &fact.event {
                plans.amended.push((fact.seq, read_plan(folder, &amended.to)?));
            }
        }
        Ok(plans)
    }

    /// The plan in force once this fact was recorded.
    pub(crate) fn at(&self, seq: u64) -> &Plan {
        self.amended.iter().rev().find(|(from, _)| *from <= seq).map_or(&self.first, |(_, plan)| plan)
    }
}

fn plan_at(path: &Path, wanted: &str) -> Result<Plan, OfflineError> {
    let named = || path.display().to_string();
    let text = std::fs::read(path).map_err(|e: io::Error| OfflineError::Plan { path: named(), why: e.to_string() })?;
    let plan: Plan =
        serde_json::from_slice(&text).map_err(|e| OfflineError::Plan { path: named(), why: e.to_string() })?;
    let found = plan.hash();
    if found != wanted {
        let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
        return Err(OfflineError::OtherPlan { path: named(), found: short(&found), wanted: short(wanted) });
    }
    Ok(plan)
}

fn last_sample(folder: &RunFolder) -> Option<Measured> {
    // Samples may be missing or torn; then nothing is known, which is drawn as such.
    let mut samples = SampleReader::open(&folder.samples()).ok()?;
    let last = samples.len().checked_sub(1)?;
    samples.get(last).map(|s| s.measured)
}
