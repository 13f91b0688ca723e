//! What is said when the engine took a command.

use crate::domain::run::Command;

/// The words for a command that was taken.
pub(super) fn taken(command: &Command) -> String {
    match command {
        Command::Confirm { step, .. } => format!("{step}: confirmed"),
        Command::Retry { step } => format!("{step}: trying again"),
        Command::StepBack { step } => format!("{step}: being taken back"),
        Command::Skip { step } => format!("{step}: left out"),
        Command::Approve { step, .. } => format!("{step}: approved"),
        Command::Vote { step, vote, .. } => format!("{step}: {}", vote.name()),
        Command::Pause => "pausing at the next safe point".to_owned(),
        Command::Continue => "going on".to_owned(),
        Command::Workers { by } if *by > 0 => "one more load worker".to_owned(),
        Command::Workers { .. } => "one load worker less".to_owned(),
        Command::Acknowledge { alert: Some(alert), .. } => format!("{alert}: acknowledged"),
        Command::Acknowledge { alert: None, .. } => "alerts acknowledged".to_owned(),
        // Nobody asked for it; see `Session::answered`.
        Command::ToldOnScreen { alert, place, .. } => format!("{alert}: {place}"),
        Command::Note { .. } => "noted in the journal".to_owned(),
    }
}
