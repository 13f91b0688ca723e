//! The runbook's steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::Purpose;

/// One line of the migration-day checklist (FEATURES E1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Short name, unique: `freeze`.
    pub id: String,
    /// Words for the screen: `freeze writes`.
    pub title: String,
    /// Planned start relative to T-0, in milliseconds; negative before.
    pub at_ms: i64,
    /// How long it is expected to take, in milliseconds.
    pub takes_ms: i64,
    /// Who is responsible for it.
    pub owner: String,
    /// What it does.
    pub kind: StepKind,
    /// When it may start.
    pub start: Start,
    /// What a person must do before it starts.
    pub confirm: Confirm,
    /// Whether a second person must approve it from another terminal before it starts. Rollback never asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub two_person: bool,
    /// How it is undone, in words; empty means it changes nothing that needs undoing.
    pub undo: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Configuration, connections, permissions, tables, streams and parameters are as the plan says.
    Preflight,
    /// Target tables exist as the plan says; missing ones are created.
    SetUp,
    /// Streams are on and their start positions are recorded.
    Capture,
    /// Bulk load of every table.
    Load,
    /// Changes are applied until the lag is under this many milliseconds on every table.
    CatchUp {
        /// Largest apply lag that counts as caught up, in milliseconds.
        max_lag_ms: i64,
    },
    /// What these signals are before the cutover is measured, to be compared with later.
    Baseline {
        /// Ids of signals of probes and CloudWatch metrics.
        signals: Vec<String>,
        /// Requests or values of each that count.
        samples: u32,
        /// Requests of each probe that are sent before and do not count.
        warm_up: u32,
    },
    /// Both sides are compared, key by key and field by field.
    Verify,
    /// Captured values are read, rollback clients connected, and rollback proven to be possible.
    Arm,
    /// Writes are refused on the old side, proven by the probe.
    Freeze,
    /// Everything written before the freeze has arrived, proven by a nonce.
    Drain,
    /// These switches are set, in parallel, each read back. The first such step that moves writes is the decision.
    Switch {
        /// Ids of switches that have no positions.
        switches: Vec<String>,
        /// Ids of dials, each with the name of the position it goes to.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        to: BTreeMap<String, String>,
    },
    /// These probes must be served.
    Smoke {
        /// Probe ids.
        probes: Vec<String>,
    },
    /// Writes are allowed again, proven by the probe.
    Thaw,
    /// A gate must be met.
    Gate {
        /// Gate id.
        gate: String,
    },
    /// Criteria hold and the people named vote to go on.
    GoNoGo {
        /// Gate ids; each must be met and must have held.
        gates: Vec<String>,
        /// Who votes; nobody means the criteria alone decide.
        voters: Vec<String>,
        /// Votes for going on that are needed. One vote against blocks whatever the others say.
        quorum: u32,
    },
    /// These jobs are begun and must end well: of a clean-up one after the other, otherwise at the same time.
    Jobs {
        /// What they are for.
        purpose: Purpose,
        /// Job ids.
        jobs: Vec<String>,
    },
    /// A person does something and says so.
    Manual {
        /// What to do.
        what: String,
    },
}

/// A kind of step by itself. Written as in the config file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// [`StepKind::Preflight`].
    #[default]
    Preflight,
    /// [`StepKind::SetUp`].
    SetUp,
    /// [`StepKind::Capture`].
    Capture,
    /// [`StepKind::Load`].
    Load,
    /// [`StepKind::CatchUp`].
    CatchUp,
    /// [`StepKind::Baseline`].
    Baseline,
    /// [`StepKind::Verify`].
    Verify,
    /// [`StepKind::Arm`].
    Arm,
    /// [`StepKind::Freeze`].
    Freeze,
    /// [`StepKind::Drain`].
    Drain,
    /// [`StepKind::Switch`].
    Switch,
    /// [`StepKind::Smoke`].
    Smoke,
    /// [`StepKind::Thaw`].
    Thaw,
    /// [`StepKind::Gate`].
    Gate,
    /// [`StepKind::GoNoGo`].
    #[serde(rename = "go-no-go")]
    GoNoGo,
    /// [`StepKind::Jobs`] for [`Purpose::Restart`].
    Restart,
    /// [`StepKind::Jobs`] for [`Purpose::Backup`].
    Backup,
    /// [`StepKind::Jobs`] for [`Purpose::Command`].
    Command,
    /// [`StepKind::Jobs`] for [`Purpose::Cleanup`].
    Cleanup,
    /// [`StepKind::Manual`].
    Manual,
}

impl StepName {
    /// As in the config file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::SetUp => "set_up",
            Self::Capture => "capture",
            Self::Load => "load",
            Self::CatchUp => "catch_up",
            Self::Baseline => "baseline",
            Self::Verify => "verify",
            Self::Arm => "arm",
            Self::Freeze => "freeze",
            Self::Drain => "drain",
            Self::Switch => "switch",
            Self::Smoke => "smoke",
            Self::Thaw => "thaw",
            Self::Gate => "gate",
            Self::GoNoGo => "go-no-go",
            Self::Restart => Purpose::Restart.word(),
            Self::Backup => Purpose::Backup.word(),
            Self::Command => Purpose::Command.word(),
            Self::Cleanup => Purpose::Cleanup.word(),
            Self::Manual => "manual",
        }
    }
}

impl std::fmt::Display for StepName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// When a step may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// As soon as the step before it is done.
    WhenReady,
    /// Not before its planned time.
    AtPlanned,
}

/// What a person must do before a step starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Nothing.
    None,
    /// One key.
    Key,
    /// Type this word.
    Word(String),
}

impl StepKind {
    /// The kind's name as in the config file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.of().word()
    }

    /// The kind without what it works on.
    #[must_use]
    pub const fn of(&self) -> StepName {
        match self {
            Self::Preflight => StepName::Preflight,
            Self::SetUp => StepName::SetUp,
            Self::Capture => StepName::Capture,
            Self::Load => StepName::Load,
            Self::CatchUp { .. } => StepName::CatchUp,
            Self::Baseline { .. } => StepName::Baseline,
            Self::Verify => StepName::Verify,
            Self::Arm => StepName::Arm,
            Self::Freeze => StepName::Freeze,
            Self::Drain => StepName::Drain,
            Self::Switch { .. } => StepName::Switch,
            Self::Smoke { .. } => StepName::Smoke,
            Self::Thaw => StepName::Thaw,
            Self::Gate { .. } => StepName::Gate,
            Self::GoNoGo { .. } => StepName::GoNoGo,
            Self::Jobs { purpose, .. } => match purpose {
                Purpose::Restart => StepName::Restart,
                Purpose::Backup => StepName::Backup,
                Purpose::Command => StepName::Command,
                Purpose::Cleanup => StepName::Cleanup,
            },
            Self::Manual { .. } => StepName::Manual,
        }
    }

    /// The gates that the step waits for.
    #[must_use]
    pub const fn gates(&self) -> &[String] {
        match self {
            Self::Gate { gate } => std::slice::from_ref(gate),
            Self::GoNoGo { gates, .. } => gates.as_slice(),
            Self::Preflight
            | Self::SetUp
            | Self::Capture
            | Self::Load
            | Self::CatchUp { .. }
            | Self::Baseline { .. }
            | Self::Verify
            | Self::Arm
            | Self::Freeze
            | Self::Drain
            | Self::Switch { .. }
            | Self::Smoke { .. }
            | Self::Thaw
            | Self::Jobs { .. }
            | Self::Manual { .. } => &[],
        }
    }

    /// The jobs that the step begins, by id.
    #[must_use]
    pub const fn jobs(&self) -> &[String] {
        match self {
            Self::Jobs { jobs, .. } => jobs.as_slice(),
            Self::Preflight
            | Self::SetUp
            | Self::Capture
            | Self::Load
            | Self::CatchUp { .. }
            | Self::Baseline { .. }
            | Self::Verify
            | Self::Arm
            | Self::Freeze
            | Self::Drain
            | Self::Switch { .. }
            | Self::Smoke { .. }
            | Self::Thaw
            | Self::Gate { .. }
            | Self::GoNoGo { .. }
            | Self::Manual { .. } => &[],
        }
    }

    /// Names of every kind, as in the config file.
    pub const NAMES: [&'static str; 20] = [
        "preflight",
        "set_up",
        "capture",
        "load",
        "catch_up",
        "baseline",
        "verify",
        "arm",
        "freeze",
        "drain",
        "switch",
        "smoke",
        "thaw",
        "gate",
        "go-no-go",
        "restart",
        "backup",
        "command",
        "cleanup",
        "manual",
    ];
}
