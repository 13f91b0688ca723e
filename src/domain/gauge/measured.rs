//! What the workers last measured, as plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::JobGauge;
use super::latency::ProbeStats;
use super::retained::RetainedLog;
use super::trim::{Outbox, Unread};
use crate::domain::at::At;

/// How a count was come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountKind {
    /// Nobody has counted.
    #[default]
    Unknown,
    /// Every row was counted.
    Exact,
    /// Worked out from what was written and deleted.
    Derived,
    /// The store's own estimate.
    Estimated,
}

/// A number of rows with its provenance and age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Rows; absent means `?`, never 0.
    pub rows: Option<u64>,
    /// How it was come by.
    pub kind: CountKind,
    /// As of when. For an estimate the oldest moment it may be of; 0 when nobody knows.
    pub at: At,
    /// Of a derived count: when every row was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<At>,
    /// Of a derived count: rows it may be off by, because they came or went while every row was read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unsure: u64,
}

/// Whether a field says nothing, and is left out of what is written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number, or honestly nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The value; absent means `?`.
    pub value: Option<f64>,
    /// When it was measured.
    pub at: At,
}

/// The four lags of a table, in milliseconds, each with its age (FEATURES B2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Age of the newest change that was read, or time since the last read that found the end.
    pub capture: Reading,
    /// Age of the oldest change that was read and is not yet durable in the target; grows while paused.
    pub apply: Reading,
    /// Time from writing a marker at the source to reading it back from the target.
    pub marker: Reading,
}

/// The reason under which a delete is parked whose row other rows still refer to: the row stays in the target.
pub const HELD_DELETE: &str = "still_referenced";

/// How many rows fewer than the source the target has because of parked rows, by reason: those that did not arrive, less
/// those whose delete is held.
#[must_use]
pub fn rows_kept_out(parked: &BTreeMap<String, u64>) -> i128 {
    let part =
        |(reason, rows): (&String, &u64)| if reason == HELD_DELETE { -i128::from(*rows) } else { i128::from(*rows) };
    parked.iter().map(part).sum()
}

/// What a table's workers are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing yet.
    #[default]
    Waiting,
    /// Bulk load.
    Loading,
    /// Loaded; changes not applied yet.
    Loaded,
    /// Applying changes.
    Following,
    /// Being compared.
    Verifying,
    /// Resting.
    Paused,
    /// Drained and fenced.
    Drained,
    /// Followed no more since a rollback: the new side stands as it did then.
    Ended,
    /// A worker stopped with an error and will try again.
    Retrying,
    /// Not moved by plan; watched.
    Stays,
}

/// Numbers of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableGauge {
    /// What its workers do.
    pub phase: Phase,
    /// Rows at the source.
    pub source: Count,
    /// Rows in the target.
    pub target: Count,
    /// The four lags.
    pub lag: Lag,
    /// Rows written so far by the load.
    pub loaded: u64,
    /// Segments done and in all.
    pub segments: (u32, u32),
    /// Rows or changes a second over the last seconds.
    pub rate: f64,
    /// Segments being read at this moment.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reading: u32,
    /// When the load last read or wrote a row; 0 before its first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub moved_at: At,
    /// What a worker does to the whole table right now, and since when: `builds 3 indexes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<(String, At)>,
    /// What holds its load back right now: `throttled by the target: 3 batches at a time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<String>,
    /// Changes applied so far.
    pub applied: u64,
    /// Rows parked now, by reason.
    pub parked: BTreeMap<String, u64>,
    /// When the ledger of parked rows was read; 0 before the first reading.
    #[serde(default)]
    pub parked_at: At,
    /// Source items removed by TTL since the start.
    pub expired: u64,
    /// Writes retried or batches split.
    pub retries: u64,
    /// Rows compared so far in the running verification.
    pub verified_rows: u64,
    /// The last trouble, without row values.
    pub trouble: Option<String>,
    /// Since when following has ended for good: what the source was given later never arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfollowed: Option<At>,
    /// The oldest record of its stream that may be unread; absent when nobody knows.
    #[serde(default)]
    pub unread: Option<Unread>,
}

/// Whether a rollback is possible.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Readiness {
    /// Not measured yet.
    #[default]
    Unknown,
    /// Values captured, places readable within this many milliseconds for all of them.
    Armed {
        /// Time to read every place, measured.
        read_ms: i64,
        /// When it was measured.
        at: At,
    },
    /// Something is missing.
    NotReady {
        /// What.
        why: String,
    },
}

/// Whether writes of the new side are applied to the old side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReverseState {
    /// The plan wants none, or nothing was measured yet.
    #[default]
    Off,
    /// Not possible, or not armed yet.
    NotReady {
        /// Why.
        why: String,
    },
    /// Changes are captured; customers are not on the new side.
    Armed {
        /// When this was last seen, wall clock.
        at: At,
    },
    /// Changes are applied to the old side.
    Running {
        /// When the last round ended, wall clock.
        at: At,
    },
    /// Changes are captured and nothing applies them to the old side.
    Down {
        /// Since when, wall clock.
        since: At,
        /// Why.
        why: String,
    },
}

/// Numbers of one table's reverse flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReverseGauge {
    /// Records that wait.
    pub waiting: u64,
    /// Age of the oldest one, in milliseconds.
    pub oldest_ms: i64,
    /// Keys applied to the old side so far.
    pub carried: u64,
    /// Of these, changed by both sides in different fields.
    pub merged: u64,
    /// Of these, changed by both sides in the same field.
    pub conflicts: u64,
    /// Keys the old side cannot hold; they wait.
    pub unfit: u64,
    /// Writes of somebody else on the old side since customers left it.
    pub strays: u64,
    /// The key of the last one.
    pub stray_key: Option<String>,
}

/// The reverse flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reverse {
    /// Whether it is open.
    pub state: ReverseState,
    /// Tables by id.
    pub tables: BTreeMap<String, ReverseGauge>,
    /// Keys applied to the old side a second, over the last seconds.
    pub rate: f64,
    /// When the numbers were read, wall clock.
    pub at: At,
}

impl Reverse {
    /// Records that wait, over all tables.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.tables.values().map(|t| t.waiting).sum()
    }

    /// Age of the oldest record over all tables, in milliseconds.
    #[must_use]
    pub fn oldest_ms(&self) -> i64 {
        self.tables.values().map(|t| t.oldest_ms).max().unwrap_or(0)
    }

    /// Writes of somebody else on the old side, over all tables.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.tables.values().map(|t| t.strays).sum()
    }

    /// Whether everything customers write is applied to the old side: proven no longer than `stale_ms` ago, and nothing
    /// that waits is refused by the old side.
    #[must_use]
    pub fn healthy(&self, now: At, stale_ms: i64) -> bool {
        let fresh = matches!(self.state, ReverseState::Running { at } if now.since(at) <= stale_ms);
        fresh && self.tables.values().all(|t| t.unfit == 0)
    }
}

/// Everything measured at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Wall clock when this was put together; ages of everything in it count from here.
    pub at: At,
    /// Tables by id, the ones that stay included.
    pub tables: BTreeMap<String, TableGauge>,
    /// CloudWatch signals by id; everything else is derived by `domain::gauge`.
    pub signals: BTreeMap<String, Reading>,
    /// Probes by id.
    pub probes: BTreeMap<String, ProbeStats>,
    /// Load workers running and wanted.
    pub workers: (u32, u32),
    /// Whether a rollback is possible.
    #[serde(rename = "way_back")]
    pub rollback: Readiness,
    /// Writes made on the new side since the thaw; absent means not known.
    pub at_risk: Option<u64>,
    /// What sources keep of their logs for us, by store; none where no slot of ours is there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retained: BTreeMap<String, RetainedLog>,
    /// Jobs that are watched or were, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, JobGauge>,
    /// Rows that wait to be applied to the old side; absent when nothing captures them.
    #[serde(default)]
    pub outbox: Option<Outbox>,
    /// The reverse flow.
    #[serde(default)]
    pub reverse: Reverse,
    /// Write interruption so far, monotonic, in milliseconds.
    pub downtime_ms: Option<i64>,
    /// Age of the last durable journal write, in milliseconds; absent before the first.
    pub journal_age_ms: Option<i64>,
    /// Whether the journal can be written.
    pub journal_ok: bool,
    /// Why it cannot, as the disk said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_error: Option<String>,
    /// Position of the last fact known to be on disk: a sample is a second witness of how long the journal was.
    #[serde(default)]
    pub journal_seq: Option<u64>,
}

impl Count {
    /// An exact count.
    #[must_use]
    pub const fn exact(rows: u64, at: At) -> Self {
        Self { rows: Some(rows), kind: CountKind::Exact, at, read_at: None, unsure: 0 }
    }

    /// A derived count.
    #[must_use]
    pub const fn derived(rows: u64, at: At) -> Self {
        Self { rows: Some(rows), kind: CountKind::Derived, at, read_at: None, unsure: 0 }
    }

    /// The same, worked out from a full reading at `read_at` and what came and went since.
    #[must_use]
    pub const fn since(rows: u64, at: At, read_at: At, unsure: u64) -> Self {
        Self { rows: Some(rows), kind: CountKind::Derived, at, read_at: Some(read_at), unsure }
    }

    /// Whether the number is the number of rows at its time, and not just near it.
    #[must_use]
    pub const fn is_sure(&self) -> bool {
        match self.kind {
            CountKind::Exact => true,
            CountKind::Derived => self.unsure == 0,
            CountKind::Estimated | CountKind::Unknown => false,
        }
    }

    /// The store's own estimate.
    #[must_use]
    pub const fn estimated(rows: u64, at: At) -> Self {
        Self { rows: Some(rows), kind: CountKind::Estimated, at, read_at: None, unsure: 0 }
    }
}

impl Reading {
    /// A value measured at `at`.
    #[must_use]
    pub const fn new(value: f64, at: At) -> Self {
        Self { value: Some(value), at }
    }

    /// The value, unless it is missing or older than `stale_ms`. One that appears to come from the future is no fresher
    /// than one of the past: a clock was stepped, and its age is unknown.
    #[must_use]
    pub fn fresh(&self, now: At, stale_ms: i64) -> Option<f64> {
        self.value.filter(|_| now.since(self.at).saturating_abs() <= stale_ms)
    }
}
