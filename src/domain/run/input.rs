//! The inputs of the core.

use serde::{Deserialize, Serialize};

use super::approval::{Origin, Vote};
use super::event::{Actor, Cause, Event, Evidence, StepError};
use crate::domain::alert::About;
use crate::domain::gauge::Measured;

/// One thing that happened to the engine.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time passed; this is what was last measured.
    Tick(&'a Measured),
    /// Somebody asked for something.
    Command(Command, Actor),
    /// A step's performer has finished.
    Performed {
        /// Step id.
        step: String,
        /// Which attempt.
        attempt: u32,
        /// Its evidence, or why it failed.
        result: Result<Vec<Evidence>, StepError>,
    },
    /// A worker states a fact.
    Stated(Event),
    /// Rollback was ordered.
    Rollback(Actor, Cause),
}

/// What a person can ask for. Names are used in the key table and on the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Let the held step start; `word` is what was typed.
    Confirm {
        /// Step id.
        step: String,
        /// What was typed, if a word is asked for.
        word: Option<String>,
    },
    /// Try a failed or unknown step again.
    Retry {
        /// Step id.
        step: String,
    },
    /// Leave a step out.
    Skip {
        /// Step id.
        step: String,
    },
    /// Put what a switch step moved where it stood before: the last one that has begun.
    StepBack {
        /// Step id: what the person was shown.
        step: String,
    },
    /// Rest at the next safe point.
    Pause,
    /// Go on.
    Continue,
    /// Change the number of load workers by this much.
    Workers {
        /// Positive for more.
        by: i32,
    },
    /// A second person approves a step that needs one.
    Approve {
        /// Step id.
        step: String,
        /// Their words.
        note: Option<String>,
        /// From where, as the kernel says.
        origin: Origin,
        /// Whether that is the terminal the run is driven from.
        drivers_terminal: bool,
    },
    /// Somebody votes on a go/no-go step.
    Vote {
        /// Step id.
        step: String,
        /// How.
        vote: Vote,
        /// Their words.
        note: Option<String>,
        /// From where, as the kernel says.
        origin: Origin,
    },
    /// Somebody has seen alerts.
    Acknowledge {
        /// Which alert; absent means all of them.
        alert: Option<String>,
        /// Position of the newest firing that they were shown; absent means every one.
        through: Option<u64>,
        /// Their words.
        note: Option<String>,
        /// From where, as the kernel says; absent at the console itself.
        origin: Option<Origin>,
    },
    /// The screen has told somebody of an alert.
    ToldOnScreen {
        /// The alert.
        alert: String,
        /// What it fired for.
        about: About,
        /// Which of the screen's places.
        place: String,
    },
    /// Put a line into the journal.
    Note {
        /// The line.
        text: String,
    },
}

/// Why a command was not accepted: shown to the person who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);
