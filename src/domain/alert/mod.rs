//! Alerts: what somebody is told of, and where. They say nothing of how data moves, so they are part of no plan: an alert may
//! be added to a run that is under way, and its plan's hash stays what it was.

mod about;
mod message;
mod place;

pub use about::About;
pub use message::{Message, Told};
pub use place::{CommandPlace, Desktop, OnScreen, Place, PlaceKind, Webhook, WebhookForm};

use crate::domain::plan::Criterion;

/// How long after a firing the same alert may fire again for the same thing, unless the file says otherwise, in milliseconds.
pub const EVERY_MS: i64 = 15 * 60_000;

/// One alert of the config.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Short name: `errors`.
    pub id: String,
    /// What of the run it is for.
    pub on: Vec<On>,
    /// Numbers it is for, each by itself.
    pub thresholds: Vec<Threshold>,
    /// How long a threshold must have been crossed without a break before it fires, in milliseconds.
    pub for_ms: i64,
    /// How long after a firing it may fire again for the same thing at the earliest, in milliseconds.
    pub every_ms: i64,
    /// Where it goes.
    pub places: Vec<Place>,
}

/// What of a run an alert is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// The run waits for a person.
    Waiting,
    /// A step failed, a rollback is stuck, or something could not be cleared away.
    Failed,
    /// The run was rolled back.
    RolledBack,
    /// The run is finished.
    Finished,
    /// A gate was broken while its step ran, or was not met in time.
    Gate,
}

/// A comparison of a signal with a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The comparison: it holds when the threshold is crossed.
    pub criterion: Criterion,
    /// As the file says it: `new-errors >= 1`.
    pub text: String,
}

impl On {
    /// Each of them, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Failed, Self::RolledBack, Self::Finished, Self::Gate];

    /// Its name in the config.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Finished => "finished",
            Self::Gate => "gate",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|on| on.name() == name)
    }
}

impl Alert {
    /// The place of this name.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }
}
