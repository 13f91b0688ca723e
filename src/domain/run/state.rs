//! The state of a run: the fold of its facts, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::alerts::Firing;
use super::amend::Amendment;
use super::approval::{Approval, Ballot};
use super::attributes::Attributes;
use super::baseline::Baseline;
use super::caller::Callers;
use super::event::{Actor, Cause, Evidence, StepError};
use super::jobs::JobBegun;
use super::verified::VerifySummary;
use crate::domain::at::At;
use crate::domain::plan::{Plan, StepKind, StepName};

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Opened, nothing started.
    #[default]
    Prepared,
    /// Going forward.
    Running,
    /// Resting at a safe point.
    Paused,
    /// Rolling back.
    RollingBack,
    /// Back on the old side, read back. Final.
    RolledBack,
    /// Every step done. Final.
    Finished,
    /// A switch could not be put back, or writes of the new side were left there; a person is needed. Rollback may be ordered again.
    Stuck,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not reached.
    #[default]
    Todo,
    /// Reached and confirmed; will start.
    Ready,
    /// Being performed.
    Running,
    /// Waits for a person.
    Held,
    /// Reached its end.
    Done,
    /// Left out by a person.
    Skipped,
    /// Ended without reaching its end; may be tried again.
    Failed,
    /// Was running when its process died; the places must be read.
    Unknown,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepState {
    /// Step id.
    pub id: String,
    /// Where it stands.
    pub status: StepStatus,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first attempt began.
    pub started: Option<At>,
    /// When the newest attempt began.
    #[serde(default)]
    pub attempt_started: Option<At>,
    /// When it ended, well or not.
    pub ended: Option<At>,
    /// Whether a person confirmed it.
    pub confirmed: Option<Actor>,
    /// Why it is held.
    pub held: Option<String>,
    /// What proves that it is done.
    pub evidence: Vec<Evidence>,
    /// Why it failed last.
    pub error: Option<StepError>,
    /// Approvals of second persons, void ones included, oldest first.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Votes, oldest first.
    #[serde(default)]
    pub votes: Vec<Ballot>,
    /// Who is taking it back, while it is being taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Actor>,
    /// Whether it was begun before a step back, and is done or judged again since: what was said beforehand was said of the
    /// first time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Who took it back last, until it is done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<Actor>,
}

/// What is known of where a switch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchStatus {
    /// Never touched by this run.
    #[default]
    Old,
    /// An intent has no outcome: it may be either.
    Unknown,
    /// Read back as the new value.
    New,
    /// Read back as the captured value after a restore.
    Restored,
}

/// One switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchState {
    /// The version that was captured.
    pub captured_version: Option<i64>,
    /// The captured value, unless it is secret.
    pub captured_value: Option<String>,
    /// What the place kept beside it.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub captured_attributes: Attributes,
    /// Whether anything was captured at all.
    pub captured: bool,
    /// Where it stands.
    pub standing: SwitchStatus,
    /// When it was last read back.
    pub read_at: Option<At>,
    /// What was last read back, or its version.
    pub read_back: Option<String>,
    /// The version that was last read back, where the place has versions.
    #[serde(default)]
    pub version: Option<i64>,
    /// Position of the fact that last set it; the latest is restored first.
    pub changed_seq: u64,
    /// By position of a dial, the version that this place was last read back as in it, where the place has versions: what
    /// stood in a position is found by it, whatever a reference gives by now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, i64>,
    /// The position that it was last read back in, of a place of a dial that stands as this run set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// The measured write interruption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Downtime {
    /// First refused write.
    pub refused: Option<At>,
    /// First accepted write after it.
    pub accepted: Option<At>,
    /// Measured length, in milliseconds.
    pub ms: Option<i64>,
}

/// What is known against the wall clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// The clock was stepped while this process drives: whether a planned time has come is not known until the run is
    /// resumed.
    pub stepped: Option<ClockStep>,
    /// How long writes were refused is not known: the machine was started anew meanwhile, with a clock that was wrong.
    pub gap: bool,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// When it was seen, on the run's clock.
    pub at: At,
    /// By how much altogether, in milliseconds: forward, or (negative) back.
    pub by_ms: i64,
}

impl ClockState {
    const fn is_well(&self) -> bool {
        self.stepped.is_none() && !self.gap
    }
}

/// What the journal knows of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// The captured stream.
    pub stream: Option<String>,
    /// Start positions by shard.
    pub positions: BTreeMap<String, String>,
    /// Rows the bulk load wrote.
    pub loaded: Option<u64>,
    /// Rows parked by the bulk load, by reason.
    pub load_parked: BTreeMap<String, u64>,
    /// Last full comparison, and when it ended.
    pub verified: Option<(At, VerifySummary)>,
}

/// What the journal knows of one table's reverse flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReverseTable {
    /// Keys applied to the old side, once a rollback has counted them.
    pub carried: Option<u64>,
    /// Keys both sides had changed in different fields.
    pub merged: u64,
    /// Keys where both sides had changed the same field.
    pub conflicts: u64,
    /// The first of them.
    pub conflict_keys: Vec<String>,
    /// Writes that are not applied; absent when nobody could count them.
    pub left: Option<u64>,
    /// The first keys that are not applied.
    pub left_keys: Vec<String>,
    /// Writes of somebody else on the old side since customers left it.
    pub strays: u64,
    /// The first of their keys.
    pub stray_keys: Vec<String>,
}

/// One gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateState {
    /// Since when all criteria hold without a break, or since when `held_ms` was last written down.
    pub met_since: Option<At>,
    /// Evidence of the last change.
    pub evidence: Vec<Evidence>,
    /// Held before `met_since`, watched, in milliseconds.
    #[serde(default)]
    pub held_ms: i64,
    /// When watching ended, while nobody watches.
    #[serde(default)]
    pub left: Option<At>,
    /// Time in between that nobody watched and that does not count, in milliseconds.
    #[serde(default)]
    pub unwatched_ms: i64,
    /// Position of the fact that last broke it.
    #[serde(default)]
    pub broken_seq: u64,
}

impl GateState {
    /// How long it has held, watched and without a break, in milliseconds.
    #[must_use]
    pub fn held(&self, now: At) -> i64 {
        self.held_ms + self.met_since.map_or(0, |since| now.since(since).max(0))
    }
}

/// A switch step that was taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepBackState {
    /// Step id.
    pub step: String,
    /// When everything it had moved stood where it stood before, read back.
    pub at: At,
    /// Who took it back, where that is on record.
    pub by: Option<Actor>,
}

/// A rollback under way or done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollbackState {
    /// When it was ordered.
    pub ordered: At,
    /// By whom.
    pub by: Actor,
    /// Why.
    pub cause: Cause,
    /// When it ended.
    pub ended: Option<At>,
    /// From order to last read-back, in milliseconds.
    pub took_ms: Option<i64>,
    /// What was read back.
    pub evidence: Vec<Evidence>,
    /// When stuck: what stands where, and what to do by hand.
    pub stuck: Vec<String>,
}

/// What a held step needs from a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// One key.
    Key,
    /// This word, typed.
    Word(String),
    /// A second person's approval, from another terminal.
    Second,
    /// A decision: try again, skip or roll back.
    Decision,
}

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Run id.
    pub run: String,
    /// Plan name.
    pub plan: String,
    /// Hash of the plan this run goes by: the one it was opened with, or the last amendment's.
    pub plan_hash: String,
    /// Environment name.
    pub environment: String,
    /// Who drives.
    pub operator: String,
    /// On which host.
    pub host: String,
    /// Who the calls to each store were signed as when it was opened.
    #[serde(default, skip_serializing_if = "Callers::is_empty")]
    pub callers: Callers,
    /// T-0.
    pub t0: At,
    /// When it was opened.
    pub opened: At,
    /// Where it stands.
    pub status: RunStatus,
    /// Steps in order.
    pub steps: Vec<StepState>,
    /// Switches by id.
    pub switches: BTreeMap<String, SwitchState>,
    /// Tables by id.
    pub tables: BTreeMap<String, TableState>,
    /// The reverse flow of tables by id; only tables with something to report.
    #[serde(default)]
    pub reverse: BTreeMap<String, ReverseTable>,
    /// Gates by id.
    pub gates: BTreeMap<String, GateState>,
    /// Intents without outcome.
    pub open_intents: BTreeMap<String, Action>,
    /// Every intent id ever used, so that none is used twice.
    pub used_intents: BTreeSet<String>,
    /// When the point of no return was passed.
    pub decided: Option<At>,
    /// The write interruption.
    pub downtime: Downtime,
    /// The rollback, if one was ordered.
    pub rollback: Option<RollbackState>,
    /// When the run ended, well or not.
    pub ended: Option<At>,
    /// Position of the last fact folded in.
    pub last_seq: u64,
    /// Times a process took the run up again.
    pub resumes: u32,
    /// What could not be cleared away when the run was over, in words, with what came back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_behind: BTreeMap<String, String>,
    /// Jobs that were begun, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, JobBegun>,
    /// What signals were before the cutover, by signal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baselines: BTreeMap<String, Baseline>,
    /// What is known against the wall clock.
    #[serde(default, skip_serializing_if = "ClockState::is_well")]
    pub clock: ClockState,
    /// Switch steps that were taken back, oldest first; one that was taken back twice stands here twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps_back: Vec<StepBackState>,
    /// Amendments of the plan, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amended: Vec<Amendment>,
    /// Firings of alerts, oldest first; of those that are over the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Firing>,
}

impl RunState {
    /// The step with this id.
    #[must_use]
    pub fn step(&self, id: &str) -> Option<&StepState> {
        self.steps.iter().find(|s| s.id == id)
    }

    /// Position of the first step that is neither done nor skipped.
    #[must_use]
    pub fn current(&self) -> Option<usize> {
        self.steps.iter().position(|s| !matches!(s.status, StepStatus::Done | StepStatus::Skipped))
    }

    /// Whether nobody can have been let in on the new side since the freeze was begun: no thaw was, or every place still
    /// stands as the freeze set it. Steps are found by the plan's kinds, so this takes the plan.
    #[must_use]
    pub fn frozen(&self, plan: &Plan) -> bool {
        // A thaw that was begun may have opened the new side to customers of one place, whatever became of it.
        self.in_freeze(plan) && (!self.thaw_begun(plan) || self.freeze_places(plan).all(|s| s == SwitchStatus::New))
    }

    /// Whether customers may be kept out somewhere right now: in every place, or in some while a thaw has opened others.
    /// Where writes are [frozen](Self::frozen), they are.
    #[must_use]
    pub fn locked_out(&self, plan: &Plan) -> bool {
        let kept_out = |s| matches!(s, SwitchStatus::New | SwitchStatus::Unknown);
        self.in_freeze(plan) && (!self.thaw_begun(plan) || self.freeze_places(plan).any(kept_out))
    }

    /// Whether the freeze was begun, and neither a thaw nor a rollback has come to its end.
    fn in_freeze(&self, plan: &Plan) -> bool {
        let thawed = self.step_of(plan, StepName::Thaw).is_some_and(|s| s.status == StepStatus::Done);
        let begun = self.step_of(plan, StepName::Freeze).is_some_and(|s| s.attempts > 0);
        begun && !thawed && self.status != RunStatus::RolledBack
    }

    fn thaw_begun(&self, plan: &Plan) -> bool {
        self.step_of(plan, StepName::Thaw).is_some_and(|s| s.attempts > 0)
    }

    /// The first step of a kind.
    fn step_of(&self, plan: &Plan, kind: StepName) -> Option<&StepState> {
        plan.steps.iter().find(|s| s.kind.of() == kind).and_then(|s| self.step(&s.id))
    }

    /// Where each switch of the freeze stands.
    fn freeze_places(&self, plan: &Plan) -> impl Iterator<Item = SwitchStatus> {
        let standing = |id: &String| self.switches.get(id).map_or(SwitchStatus::Old, |s| s.standing);
        plan.freeze.iter().flat_map(|freeze| &freeze.switches).map(standing)
    }

    /// In how many places customers may be kept out, and in how many the plan freezes writes.
    #[must_use]
    pub fn frozen_places(&self, plan: &Plan) -> (usize, usize) {
        let touched = |s: &SwitchStatus| matches!(s, SwitchStatus::New | SwitchStatus::Unknown);
        (self.freeze_places(plan).filter(touched).count(), self.freeze_places(plan).count())
    }

    /// Whether writes may have been frozen in every place: nothing is read back yet of those that are being set.
    #[must_use]
    pub fn frozen_everywhere(&self, plan: &Plan) -> bool {
        let (touched, all) = self.frozen_places(plan);
        self.frozen(plan) && touched == all
    }

    /// Whether customers can have written on the new side: from the moment the thaw begins, not from the first write
    /// that was seen. Without a thaw, writes may land there from the first switch on.
    #[must_use]
    pub fn open_to_customers(&self, plan: &Plan) -> bool {
        let thaw = plan.steps.iter().find(|s| s.kind == StepKind::Thaw).and_then(|s| self.step(&s.id));
        thaw.map_or(self.decided.is_some(), |s| s.attempts > 0)
    }

    /// Whether the run can change no more (short of a new rollback order).
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self.status, RunStatus::RolledBack | RunStatus::Finished)
    }
}
