//! What a screen or a report may know of a run: one immutable, serialisable value.
//!
//! Built by [`build`] from the plan, the folded state and what was last measured. Live, replay and
//! `status --json` build it the same way. Holds no secret and no row value.

mod account;
mod alerts;
mod build;
#[cfg(any(test, feature = "rehearsal"))]
pub(crate) mod fixture;
mod gates;
mod jobs;
mod lamps;
mod log;
mod loss;
mod progress;
mod retained;
mod rollback;
mod rows;
mod steps;
#[cfg(test)]
mod tests;
mod unrecorded;
mod what_if;
pub mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use account::Account;
pub use alerts::{AlertRow, acknowledged_words};
pub use build::{Context, build};
pub use what_if::{RestoreRow, WhatIf};

use crate::domain::at::At;
use crate::domain::gauge::{Count, Lag, Outbox, Phase, RetainedLog, Series, TrimClock};
use crate::domain::plan::StepName;
use crate::domain::run::{Downtime, Evidence, Level, Need, RunStatus, StepStatus, SwitchStatus, VerifySummary};

/// How the run is being watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mode {
    /// The run itself, driven from here.
    #[default]
    Live,
    /// A rehearsal on embedded stores; planned waits run this much faster.
    Rehearsal {
        /// Speed of planned waits.
        speed: f64,
    },
    /// A recorded run.
    Replay {
        /// Speed.
        speed: f64,
        /// Whether it stands still.
        paused: bool,
    },
}

/// One moment of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    /// The run's clock: facts, steps and planned times. On a rehearsal it runs faster while the console waits.
    pub now: At,
    /// The wall clock: ages of everything measured (`Count::at`, `Reading::at`, `Evidence::at`) count from here.
    pub wall: At,
    /// How it is watched.
    pub mode: Mode,
    /// Run id.
    pub run: String,
    /// Plan name.
    pub plan: String,
    /// First 12 digits of the plan's hash.
    pub plan_hash: String,
    /// Environment name.
    pub environment: String,
    /// Whether the environment is production.
    pub production: bool,
    /// Who drives, on which host.
    pub driver: String,
    /// T-0.
    pub t0: At,
    /// Where the run stands.
    pub status: RunStatus,
    /// The runbook.
    pub steps: Vec<StepRow>,
    /// Place of the current step in `steps`.
    pub current: Option<usize>,
    /// Tables, moving ones first.
    pub tables: Vec<TableRow>,
    /// What sources keep of their logs for us, by store.
    #[serde(default)]
    pub retained: Vec<RetainedRow>,
    /// What waits to be applied to the old side; absent while nothing captures it.
    #[serde(default)]
    pub outbox: Option<OutboxRow>,
    /// Signals in the plan's order.
    pub signals: Vec<SignalRow>,
    /// Switches in the plan's order, the freeze included.
    pub switches: Vec<SwitchRow>,
    /// Switches with several positions.
    #[serde(default)]
    pub dials: Vec<DialRow>,
    /// What one step back would do.
    #[serde(default)]
    pub step_back: StepBackRow,
    /// Probes by id: p95, errors and the last answer in words.
    pub probes: BTreeMap<String, crate::domain::gauge::ProbeStats>,
    /// The annunciator: fixed words in a fixed order.
    pub lamps: Vec<Lamp>,
    /// The rollback.
    pub rollback: Rollback,
    /// The write interruption.
    pub downtime: Downtime,
    /// Write interruption still running, in milliseconds.
    pub downtime_running_ms: Option<i64>,
    /// In how many places customers may be kept out, and in how many the plan freezes writes.
    #[serde(default)]
    pub frozen_places: (usize, usize),
    /// Budget for it, in milliseconds.
    pub downtime_budget_ms: i64,
    /// Success criteria (FEATURES D5).
    pub criteria: Vec<Criterion>,
    /// What became of every row.
    #[serde(default)]
    pub account: Account,
    /// Alerts that fired, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<AlertRow>,
    /// Newest last; at most a few hundred.
    pub log: Vec<LogRow>,
    /// The journal.
    pub journal: JournalRow,
    /// Load workers running and wanted.
    pub workers: (u32, u32),
    /// Planned end of the last step, and the end as now expected.
    pub planned_end: At,
    /// Forecast of the end.
    pub forecast_end: At,
    /// What the console waits for until when, if it only waits.
    pub waiting: Option<(String, At)>,
    /// By how much the wall clock was stepped under the console, in milliseconds; planned times are not known since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_stepped_ms: Option<i64>,
}

/// How a step is shown in the runbook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepMark {
    /// An ordinary step.
    #[default]
    Plain,
    /// A gate.
    Gate,
    /// A switch (freeze and thaw included).
    Switch,
    /// Something a person does.
    Manual,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Step id.
    pub id: String,
    /// Number from 1.
    pub number: usize,
    /// Words.
    pub title: String,
    /// What kind it is; written as in the config.
    pub kind: StepName,
    /// How it is marked.
    pub mark: StepMark,
    /// Where it stands.
    pub status: StepStatus,
    /// Who is responsible for it.
    pub owner: String,
    /// Planned offset from T-0, in milliseconds.
    pub at_ms: i64,
    /// Planned start.
    pub planned: At,
    /// Planned length, in milliseconds.
    pub takes_ms: i64,
    /// Actual start.
    pub started: Option<At>,
    /// Actual end.
    pub ended: Option<At>,
    /// Actual (or, for a running step, current) start minus planned start; positive is late.
    pub slip_ms: Option<i64>,
    /// Forecast end of a running step.
    pub eta: Option<At>,
    /// Done and whole, in the step's own unit (rows, gates met ms of hold ms); absent when unknown.
    pub progress: Option<(u64, u64)>,
    /// A line of detail: `0.8s held 04:10`, `27.7M/44.0M 18.8k/s`.
    pub detail: String,
    /// Indented lines under a running step: one per table still busy.
    pub lines: Vec<String>,
    /// What a person must do.
    pub need: Option<Need>,
    /// Why it waits, failed or is unknown.
    pub reason: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
    /// What it does, in words.
    pub does: String,
    /// The switches it sets or restores.
    #[serde(default)]
    pub sets: Vec<SetRow>,
    /// Whether it is being taken back: what it sets goes from [`SetRow::to`] to [`SetRow::from`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_back: bool,
    /// How it is undone, in words.
    pub undo: String,
    /// Evidence, live while the step or gate is current.
    pub evidence: Vec<Evidence>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// Table id.
    pub id: String,
    /// Source name.
    pub source_name: String,
    /// Target name; empty for a table that stays.
    pub target_name: String,
    /// What its workers do.
    pub phase: Phase,
    /// Rows at the source.
    pub source: Count,
    /// Rows in the target.
    pub target: Count,
    /// `source - target - parked`, when both are known.
    pub difference: Option<i64>,
    /// The four lags.
    pub lag: Lag,
    /// Rows or changes a second.
    pub rate: f64,
    /// Rows loaded so far.
    pub loaded: u64,
    /// Segments done and in all.
    pub segments: (u32, u32),
    /// Segments being read at this moment.
    #[serde(default)]
    pub reading: u32,
    /// Changes applied so far.
    pub applied: u64,
    /// Parked rows by reason.
    pub parked: BTreeMap<String, u64>,
    /// Rows removed by TTL.
    pub expired: u64,
    /// Retries.
    pub retries: u64,
    /// The last full comparison and when it ended.
    pub verified: Option<(At, VerifySummary)>,
    /// What the last full comparison is worth now.
    #[serde(default)]
    pub proof: Proof,
    /// The last trouble.
    pub trouble: Option<String>,
    /// How long until unread records of its stream are gone; absent before the stream is captured.
    #[serde(default)]
    pub trim: Option<TrimRow>,
}

/// A table's retention clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrimRow {
    /// The numbers.
    pub clock: TrimClock,
    /// `records are trimmed in 21h; at this rate caught up in 04:00`.
    pub text: String,
    /// The same for a narrow pane: `trim 21h, caught up 04:00`.
    #[serde(default)]
    pub brief: String,
    /// How it stands: red when the trim comes first.
    pub health: Health,
}

/// What one source keeps of its log for us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetainedRow {
    /// The source.
    pub store: String,
    /// The numbers.
    pub log: RetainedLog,
    /// `the source keeps 3.2 GB of log for us, 2.0 MB/s are written; lost in 1h20m`.
    pub text: String,
    /// The same for a narrow pane: `log 3.2 GB, lost in 1h20m`.
    #[serde(default)]
    pub brief: String,
    /// How it stands: red once the server may remove what was not read.
    pub health: Health,
}

/// What waits to be applied to the old side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// The numbers.
    pub outbox: Outbox,
    /// In words.
    pub text: String,
    /// The same for a narrow pane.
    #[serde(default)]
    pub brief: String,
    /// How it stands.
    pub health: Health,
}

/// What the last full comparison of a table is worth now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// There was none.
    #[default]
    Never,
    /// It is too old to prove anything.
    Stale {
        /// When it counted, wall clock.
        at: At,
    },
    /// It found differences.
    Open {
        /// How many.
        rows: u64,
    },
    /// Rows were repaired while it ran: the next one decides.
    Repaired,
    /// Every row was compared, none differed, none was repaired.
    Verified {
        /// When it counted, wall clock.
        at: At,
    },
}

/// How something stands, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not measured: drawn `?`, and it blocks.
    #[default]
    Unknown,
    /// Measured, fresh, within its limit.
    Ok,
    /// Worth watching.
    Watch,
    /// Needs attention.
    #[serde(rename = "look")]
    Warn,
    /// Over its limit.
    Fail,
    /// Means nothing right now.
    Idle,
}

/// One watched number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalRow {
    /// Signal id.
    pub id: String,
    /// Unit.
    pub unit: String,
    /// Value; absent is `?`.
    pub value: Option<f64>,
    /// When it was measured.
    pub at: At,
    /// Its limit.
    pub limit: Option<f64>,
    /// How it stands.
    pub health: Health,
    /// History.
    pub series: Series,
}

/// One switch that a step sets, from which value to which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRow {
    /// Switch id.
    pub switch: String,
    /// What stands there before the step, or stars, or `?`.
    pub from: String,
    /// What it is set to, or stars, or `?`.
    pub to: String,
}

/// What one step back would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBackRow {
    /// The switch step that it would take back.
    pub step: Option<String>,
    /// Why there is none.
    pub why: String,
}

/// One switch with several positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRow {
    /// Its id.
    pub id: String,
    /// Words.
    pub title: String,
    /// The position it stands in: `25 %`; `between 2 and 3`; `?`.
    pub stands: String,
    /// Who serves what in it: `reads new 25 %`; `?` while it does not stand in one position.
    pub serves: String,
    /// Its positions in order, by name.
    pub positions: Vec<String>,
    /// Which of them it stands in, counted from 0.
    pub at: Option<usize>,
}

/// One switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchRow {
    /// Switch id.
    pub id: String,
    /// Words.
    pub title: String,
    /// Where it is.
    pub place: String,
    /// The captured value, or stars, or `?`.
    pub old: String,
    /// The new value, or stars; of a place of a dial the value of the position it stands in, or goes to first.
    pub new: String,
    /// Where it stands.
    pub standing: SwitchStatus,
    /// The position it stands in, of a place of a dial that this run has set.
    #[serde(default)]
    pub position: Option<String>,
    /// When it was last read back.
    pub read_at: Option<At>,
    /// Whether the value to restore was captured.
    #[serde(default)]
    pub captured: bool,
    /// Captured version; a place may have none (a stage variable has not).
    pub version: Option<i64>,
}

/// One annunciator lamp.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lamp {
    /// `COPY`, `LAG`, `VERIFY`, `ERR`, `SWITCH`, `GATES`, `ROLLBACK`.
    pub word: String,
    /// What it says: `0.8s`, `3 open`, `READY ~1s`.
    pub text: String,
    /// How it stands.
    pub health: Health,
}

/// The rollback and its price.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// Whether it is open: `ok` when ready or not needed yet, `look`/`unknown` when something is missing.
    pub health: Health,
    /// One line: `READY ~1s 0 at risk`.
    pub text: String,
    /// What pressing the key would do now, in order.
    pub actions: Vec<String>,
    /// Estimated length, in milliseconds, from measured reads.
    pub estimate_ms: Option<i64>,
    /// Writes that would stay behind on the new side; absent is `?`.
    pub at_risk: Option<u64>,
    /// The whole plan of it, priced.
    #[serde(default)]
    pub what_if: WhatIf,
    /// Whether the rollback itself applies these writes to the old side.
    #[serde(default)]
    pub carries: bool,
    /// What a rollback that was ordered has done and is doing; empty before.
    #[serde(default)]
    pub course: Vec<Deed>,
    /// When stuck: what to do by hand.
    pub stuck: Vec<String>,
    /// Ordered, and how long ago it began or how long it took.
    pub took_ms: Option<i64>,
    /// What was read back at its end.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

/// One thing a rollback does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// What, and once it is done what was read back.
    pub text: String,
    /// Whether it is done: read back, or counted.
    pub done: bool,
    /// Whether it is the reverse flow of what customers wrote on the new side.
    #[serde(default)]
    pub writes: bool,
}

/// One success criterion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// `data loss`, `p95`, `errors`, `downtime`.
    pub name: String,
    /// What is wanted: `0`, `< 500 ms`.
    pub wanted: String,
    /// What was measured; `?` when it was not.
    pub measured: String,
    /// How it stands.
    pub health: Health,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRow {
    /// When.
    pub at: At,
    /// How serious.
    pub level: Level,
    /// Which part reports.
    pub source: String,
    /// What it says.
    pub text: String,
    /// The fact's position.
    pub seq: u64,
}

/// The journal, as seen from the screen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalRow {
    /// Position of the last fact.
    pub last_seq: u64,
    /// Age of the last durable write, in milliseconds.
    pub age_ms: Option<i64>,
    /// Whether it can be written.
    pub ok: bool,
    /// While it cannot: why, what stands where, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<JournalTrouble>,
}

/// A run that cannot be recorded any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalTrouble {
    /// What the disk said, and what that stops.
    pub why: String,
    /// Where customers and switches stand.
    pub stands: String,
    /// What to do.
    pub advice: String,
}
