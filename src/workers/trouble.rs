//! From port errors to step errors, and evidence in one line.

use crate::domain::at::At;
use crate::domain::run::{ErrorClass, Evidence, StepError};
use crate::ports::{ErrorKind, NotRecorded, PortError};

/// A port error as a step error.
pub fn step_error(error: &PortError) -> StepError {
    let class = match error.kind {
        k if k.transient() => ErrorClass::Transient,
        ErrorKind::Denied => ErrorClass::Permission,
        _ => ErrorClass::World,
    };
    let advice =
        if error.advice.is_empty() { "try again, or look at the place named".to_owned() } else { error.advice.clone() };
    StepError { class, message: format!("{} {}: {}", error.tried, error.on, error.came_back), advice }
}

/// A world that does not fit.
pub fn world(message: impl Into<String>, advice: impl Into<String>) -> StepError {
    StepError { class: ErrorClass::World, message: message.into(), advice: advice.into() }
}

/// Nothing came in time.
pub fn too_late(message: impl Into<String>, advice: impl Into<String>) -> StepError {
    StepError { class: ErrorClass::Transient, message: message.into(), advice: advice.into() }
}

/// Stopped because it was asked to.
pub fn cancelled() -> StepError {
    StepError {
        class: ErrorClass::Cancelled,
        message: "stopped as asked".to_owned(),
        advice: "start the step again to go on where it stopped".to_owned(),
    }
}

/// A fact could not be recorded, so the effect was left out.
pub fn not_recorded(error: &NotRecorded) -> StepError {
    StepError {
        class: ErrorClass::World,
        message: format!("nothing was changed: {error}"),
        advice: "free space for the journal, or see whether a rollback was ordered".to_owned(),
    }
}

/// One line of good evidence.
pub fn evidence(name: impl Into<String>, value: impl Into<String>, at: At, source: impl Into<String>) -> Evidence {
    Evidence { name: name.into(), value: value.into(), at, source: source.into(), good: true }
}
