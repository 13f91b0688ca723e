//! Changes to the world, as an intent announces them.

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// A change to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// Set a switch.
    SetSwitch {
        /// Switch id.
        switch: String,
        /// The new value, or stars.
        to: String,
        /// The position that a place of a dial goes to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<String>,
    },
    /// Put a switch back to its captured value.
    RestoreSwitch {
        /// Switch id.
        switch: String,
        /// The captured version, where there is one.
        version: Option<i64>,
    },
    /// Write a switch's value over itself.
    ExerciseSwitch {
        /// Switch id.
        switch: String,
        /// The version that stands there, where there is one.
        version: Option<i64>,
    },
    /// Create a target table and what belongs to it.
    CreateTable {
        /// Table id.
        table: String,
    },
    /// Drop target tables and what is in them, and make them again; empty those that the plan cannot make.
    MakeAnew {
        /// Table ids.
        tables: Vec<String>,
    },
    /// Let items of a target table expire.
    TurnOnExpiry {
        /// Table id.
        table: String,
    },
    /// Turn a stream on at the source.
    EnableStream {
        /// Table id.
        table: String,
    },
    /// Let a source forget what it keeps for this plan's reading.
    EndCapture {
        /// The store.
        store: String,
    },
    /// Tell a mover what to do.
    TellMover {
        /// What the mover is called ([`crate::domain::plan::MoverOf::name`]).
        mover: String,
        /// What it is told.
        order: MoverOrder,
    },
    /// Write rows to the target again, as the source has them now.
    Repair {
        /// Table id.
        table: String,
        /// How many.
        rows: u64,
        /// Keys of the first of them.
        keys: Vec<String>,
    },
    /// Move the target's sequences past what was loaded.
    AdvanceSequences,
    /// Begin a job.
    BeginJob {
        /// The job.
        job: String,
        /// Which beginning: the same when it is tried again after a lost answer.
        token: String,
        /// When it was first tried, wall clock.
        since: At,
        /// A rollback begins it: a command runs its `undo`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
    },
    /// End a job before its time.
    CancelJob {
        /// The job.
        job: String,
    },
    /// Write a marker through the fenced path.
    WriteMarker {
        /// Table id.
        table: String,
        /// The nonce.
        nonce: String,
    },
}

/// What a mover is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoverOrder {
    /// To be made, and not to begin.
    Prepare,
    /// To work.
    Start,
    /// To rest.
    Pause,
    /// To write nothing any more.
    Stop,
    /// To be gone from both ends.
    Remove,
}

impl MoverOrder {
    /// Every order.
    pub const ALL: [Self; 5] = [Self::Prepare, Self::Start, Self::Pause, Self::Stop, Self::Remove];

    /// The order in a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Remove => "remove",
        }
    }
}
