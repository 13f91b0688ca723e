//! Facts: everything that happened on the day, in order. This is the journal's vocabulary.
//!
//! A fact never holds a secret or a row value. Keys, parameter names and versions may appear.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::amend::Amended;
use super::approval::{Origin, Vote};
use super::attributes::Attributes;
use super::baseline::Baseline;
use super::caller::Callers;
use super::verified::VerifySummary;
use crate::domain::alert::{About, Told};
use crate::domain::at::At;

/// One journaled event with its place in the total order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Position, from 1, without gaps.
    pub seq: u64,
    /// When it happened, on the run's clock.
    pub at: At,
    /// What happened.
    pub event: Event,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The console itself, following the plan.
    Auto,
    /// A person at this console.
    Operator(String),
    /// A person at another terminal.
    Terminal(String),
    /// A person who was named on the command line beforehand (`--answer STEP=NAME`); nobody was asked at the time.
    Answered(String),
    /// Nobody: a rehearsal goes on in the name of the step's owner.
    StandIn(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A run was opened. Always the first fact.
    RunOpened {
        /// Run id, also the name of its folder.
        run: String,
        /// The plan's name.
        plan: String,
        /// The plan's hash.
        plan_hash: String,
        /// Environment name.
        environment: String,
        /// Who drives.
        operator: String,
        /// On which host.
        host: String,
        /// Version of this program.
        version: String,
        /// T-0 of this run.
        t0: At,
        /// Step ids in order, so that a journal can be folded without the plan.
        steps: Vec<String>,
        /// Who the calls to each store are signed as.
        #[serde(default, skip_serializing_if = "Callers::is_empty")]
        callers: Callers,
    },
    /// A process resumed the run after another one ended. Steps that were running become unknown.
    RunResumed {
        /// Who drives now.
        operator: String,
        /// On which host.
        host: String,
    },
    /// Workers rest at their next safe point.
    RunPaused {
        /// Who asked.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Workers go on.
    RunContinued {
        /// Who asked.
        by: Actor,
    },
    /// A step waits for a person.
    StepHeld {
        /// Step id.
        step: String,
        /// What it waits for, in words.
        reason: String,
    },
    /// A person confirmed a step.
    Confirmed {
        /// Step id.
        step: String,
        /// Who.
        by: Actor,
    },
    /// A second person approved a step that needs one.
    Approved {
        /// Step id.
        step: String,
        /// Who, by their own word.
        by: Actor,
        /// From where, by the kernel's.
        origin: Origin,
        /// What they saw, summed up: 16 hex digits.
        basis: String,
        /// Their words.
        note: Option<String>,
    },
    /// Somebody voted on a go/no-go step. The last vote of a voter counts.
    Voted {
        /// Step id.
        step: String,
        /// Who, by their own word.
        by: Actor,
        /// How.
        vote: Vote,
        /// From where, by the kernel's.
        origin: Origin,
        /// What they saw, summed up: 16 hex digits.
        basis: String,
        /// Their words.
        note: Option<String>,
    },
    /// A step began. Durable before anything it does.
    StepStarted {
        /// Step id.
        step: String,
        /// From 1.
        attempt: u32,
    },
    /// A step reached its end, with what proves it.
    StepDone {
        /// Step id.
        step: String,
        /// What was read back.
        evidence: Vec<Evidence>,
    },
    /// A step ended without reaching its end.
    StepFailed {
        /// Step id.
        step: String,
        /// What went wrong.
        error: StepError,
    },
    /// A person left a step out.
    StepSkipped {
        /// Step id.
        step: String,
        /// Who.
        by: Actor,
    },
    /// A switch's value before anything was changed. Values that may be shown are kept, others by version.
    Captured {
        /// Switch id.
        switch: String,
        /// The parameter's version that holds it.
        version: Option<i64>,
        /// The value, unless it is secret.
        value: Option<String>,
        /// What the place keeps beside the value: it is restored with it.
        #[serde(default, skip_serializing_if = "Attributes::is_empty")]
        attributes: Attributes,
    },
    /// Something is about to be changed in the world. Durable before the effect.
    Intent {
        /// Unique in the run: `switch/writes/1`.
        id: String,
        /// The step it belongs to; absent in a rollback.
        step: Option<String>,
        /// What will be changed.
        action: Action,
    },
    /// What was read back after an intent.
    Outcome {
        /// The intent.
        id: String,
        /// What was found.
        result: OutcomeResult,
    },
    /// The point after which only *finish* or *roll back* exist.
    Decided {
        /// Who or what decided.
        by: Actor,
    },
    /// A table's stream is being captured from here on.
    CaptureStarted {
        /// Table id.
        table: String,
        /// The stream's identity (ARN).
        stream: String,
        /// Shard id to start position.
        positions: BTreeMap<String, String>,
    },
    /// A table's bulk load ended.
    TableLoaded {
        /// Table id.
        table: String,
        /// Rows written.
        rows: u64,
        /// Rows parked by reason.
        parked: BTreeMap<String, u64>,
        /// How long it took, monotonic, in milliseconds.
        took_ms: i64,
    },
    /// A full comparison of a table ended.
    Verified {
        /// Table id.
        table: String,
        /// What it found.
        summary: VerifySummary,
    },
    /// What a signal was before the cutover. The last one counts.
    BaselineTaken {
        /// Signal id.
        signal: String,
        /// What was measured.
        baseline: Baseline,
    },
    /// A gate's criteria began to hold.
    GateMet {
        /// Gate id.
        gate: String,
        /// Each criterion with value and age.
        evidence: Vec<Evidence>,
    },
    /// A gate's criteria went on holding: time that a restart does not take away.
    GateHeld {
        /// Gate id.
        gate: String,
        /// Watched without a break so far, in milliseconds.
        held_ms: i64,
    },
    /// A gate's criteria stopped holding (or evidence went missing).
    GateBroken {
        /// Gate id.
        gate: String,
        /// What broke it.
        evidence: Vec<Evidence>,
    },
    /// The write probe was refused for the first time: the downtime clock starts.
    WritesRefused {
        /// When the probe saw it, wall clock.
        at: At,
    },
    /// The write probe was accepted again: the downtime clock stops.
    WritesAccepted {
        /// When the probe saw it, wall clock.
        at: At,
        /// Interruption measured on the monotonic clock of one process; absent after a restart in between.
        downtime_ms: Option<i64>,
    },
    /// The machine's wall clock jumped against the clock that counts since the machine started.
    ClockStepped {
        /// By how much, in milliseconds: forward, or (negative) back.
        by_ms: i64,
        /// Who saw it.
        seen: StepSeen,
    },
    /// The run goes by another plan from here on.
    PlanAmended(Amended),
    /// Rollback was ordered.
    RollbackOrdered {
        /// Who.
        by: Actor,
        /// Why.
        cause: Cause,
    },
    /// Every switch is restored and read back.
    RolledBack {
        /// From order to last read-back, in milliseconds.
        took_ms: i64,
        /// What was read back.
        evidence: Vec<Evidence>,
    },
    /// A switch could not be put back, or writes of the new side were left there; a person is needed.
    RollbackStuck {
        /// What stands where, and what to do by hand.
        what: Vec<String>,
    },
    /// Writes of the new side were applied to the old side; one fact per table once a rollback has applied them.
    CarriedBack {
        /// Table id.
        table: String,
        /// Keys applied since the new side was opened to customers.
        carried: u64,
        /// Of these, keys both sides had changed in different fields; both are kept.
        merged: u64,
        /// Of these, keys where both sides had changed the same field.
        conflicts: u64,
        /// Writes that are not applied; absent when nobody could count them.
        left: Option<u64>,
        /// The first keys that are not applied, never values.
        keys: Vec<String>,
    },
    /// Keys where both sides changed the same field.
    ReverseConflicts {
        /// Table id.
        table: String,
        /// How many.
        count: u64,
        /// The first of them, never values.
        keys: Vec<String>,
        /// Whose value stays: `new` while customers are on the new side, `old` from the rollback order on.
        kept: String,
    },
    /// Somebody else wrote to the old side while customers were on the new one.
    StrayWrites {
        /// Table id.
        table: String,
        /// How many writes.
        count: u64,
        /// The first of their keys, never values.
        keys: Vec<String>,
    },
    /// What a switch step moved is to be put where it stood before. Later steps are to be done again.
    StepBackOrdered {
        /// The switch step.
        step: String,
        /// By whom.
        by: Actor,
    },
    /// It stands there, read back. The run is under way; a person lets it go forward again.
    SteppedBack {
        /// The switch step.
        step: String,
        /// Steps that are judged anew, by id.
        again: Vec<String>,
        /// What was read back.
        evidence: Vec<Evidence>,
    },
    /// An alert fired: what it is for came to be so.
    AlertFired {
        /// The alert.
        alert: String,
        /// What it fired for.
        about: About,
        /// What is the matter, in a sentence.
        text: String,
        /// Where it goes, by name.
        places: Vec<String>,
    },
    /// A place was told of an alert, or could not be.
    AlertTold {
        /// The alert.
        alert: String,
        /// What it fired for.
        about: About,
        /// The place.
        place: String,
        /// What came back.
        result: Told,
    },
    /// What an alert fired for is over.
    AlertCleared {
        /// The alert.
        alert: String,
        /// What it fired for.
        about: About,
    },
    /// Somebody has seen an alert.
    AlertAcknowledged {
        /// The alert.
        alert: String,
        /// What it fired for.
        about: About,
        /// Who, by their own word.
        by: Actor,
        /// From where, by the kernel's; absent at the console itself.
        origin: Option<Origin>,
        /// Their words.
        note: Option<String>,
    },
    /// The last step is done.
    RunFinished,
    /// Something worth a line in the log.
    Note {
        /// How serious.
        level: Level,
        /// Which part reports: `load`, `follow`, `aws`, `operator`.
        source: String,
        /// What it says.
        text: String,
    },
}

/// What was found after an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OutcomeResult {
    /// The place holds the value that was to be set.
    Done {
        /// What was read back: the value, or its version when it is secret.
        read_back: String,
        /// The version now, where there is one.
        version: Option<i64>,
    },
    /// The place was read and does not hold the value that was to be set.
    Failed {
        /// The error.
        error: String,
    },
    /// The world could not be read; nothing is known.
    Unknown {
        /// Why.
        error: String,
    },
}

/// One thing that was measured or read back, with its age and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What: `lag books`, `read-back writes`.
    pub name: String,
    /// The value, as shown.
    pub value: String,
    /// When it was measured, wall clock.
    pub at: At,
    /// The query or call behind it.
    pub source: String,
    /// Whether it is in favour of going on.
    pub good: bool,
}

impl Evidence {
    /// `lag < 5s: 0.2s`; evidence against going on says `NOT MET`.
    #[must_use]
    pub fn words(&self) -> String {
        let verdict = if self.good { "" } else { " NOT MET" };
        format!("{}: {}{verdict}", self.name, self.value)
    }

    /// The words of each, in a line.
    #[must_use]
    pub fn line(all: &[Self]) -> String {
        all.iter().map(Self::words).collect::<Vec<_>>().join(", ")
    }
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// What kind of trouble; decides the exit code and whether to try again.
    pub class: ErrorClass,
    /// What was tried, on what, and the answer.
    pub message: String,
    /// What to do next.
    pub advice: String,
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// May go away by itself: a throttle, a torn connection.
    Transient,
    /// Credentials or permissions.
    Permission,
    /// The plan does not fit the world: a missing table, a stream that is off.
    World,
    /// A gate gave up.
    Gate,
    /// Both sides differ by more than the floor allows.
    Verification,
    /// The lease is held elsewhere.
    Lease,
    /// Stopped because it was asked to.
    Cancelled,
    /// A bug: a panic, an illegal transition.
    Bug,
}

/// When a step of the wall clock was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSeen {
    /// By the process that drives the run, whose own time does not follow it.
    Live,
    /// By a process that resumed the run: it was stepped since the last fact, and the run's clock with it.
    AtStart,
    /// By a process that resumed the run after the machine was started anew: how long that took is not known.
    AfterReboot,
}

/// Why a rollback was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A person pressed the key or typed the command.
    Asked,
    /// A step before the decision failed while writes were frozen.
    Cancel {
        /// The step.
        step: String,
    },
    /// A gate with `on_fail = "roll_back"` gave up, or a step failed with nobody there.
    Automatic {
        /// The step.
        step: String,
    },
}

/// How serious a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the record.
    Info,
    /// Worth attention.
    Warn,
    /// Needs a person.
    Error,
}

impl Actor {
    /// The name, with how it came to stand here unless the person was at the console: `bob (by --answer)`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Auto | Self::Operator(_) => self.name().to_owned(),
            Self::Terminal(name) => format!("{name} at another terminal"),
            Self::Answered(name) => format!("{name} (by --answer)"),
            Self::StandIn(name) => format!("stand-in for {name}"),
        }
    }

    /// The name for a log line.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Auto => "auto",
            Self::Operator(name) | Self::Terminal(name) | Self::Answered(name) | Self::StandIn(name) => name,
        }
    }
}
