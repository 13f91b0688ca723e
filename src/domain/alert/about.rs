//! What an alert fired for.

use serde::{Deserialize, Serialize};

/// What an alert fired for: with the alert's id it says which firing is meant, over restarts too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum About {
    /// A step waits for a person.
    Waiting {
        /// Step id.
        step: String,
    },
    /// A step failed.
    Failed {
        /// Step id.
        step: String,
    },
    /// A rollback is stuck.
    Stuck,
    /// Something could not be cleared away when the run was over.
    LeftBehind {
        /// What.
        what: String,
    },
    /// The run was rolled back.
    RolledBack,
    /// The run is finished.
    Finished,
    /// A gate was broken, or not met in time.
    Gate {
        /// Gate id.
        gate: String,
    },
    /// A threshold was crossed.
    Threshold {
        /// As the config says it.
        criterion: String,
    },
    /// Whether a threshold is crossed is not known: its signal is not measured any more.
    Unmeasured {
        /// As the config says it.
        criterion: String,
    },
}

impl About {
    /// `new-errors >= 1`, `step freeze waits`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Waiting { step } => format!("step {step} waits"),
            Self::Failed { step } => format!("step {step} failed"),
            Self::Stuck => "rollback is stuck".to_owned(),
            Self::LeftBehind { what } => format!("{what} was left behind"),
            Self::RolledBack => "rolled back".to_owned(),
            Self::Finished => "finished".to_owned(),
            Self::Gate { gate } => format!("gate {gate}"),
            Self::Threshold { criterion } => criterion.clone(),
            Self::Unmeasured { criterion } => format!("{criterion} is not known"),
        }
    }

    /// Whether something is wrong, rather than worth knowing.
    #[must_use]
    pub const fn is_bad(&self) -> bool {
        match self {
            Self::Failed { .. }
            | Self::Stuck
            | Self::LeftBehind { .. }
            | Self::RolledBack
            | Self::Gate { .. }
            | Self::Threshold { .. }
            | Self::Unmeasured { .. } => true,
            Self::Waiting { .. } | Self::Finished => false,
        }
    }
}
