//! How far a job is.

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// What was last heard of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGauge {
    /// When that was, wall clock.
    pub at: At,
    /// Since when it is watched, wall clock.
    pub since: At,
    /// Percent done, where the service says so.
    pub percent: Option<u8>,
    /// The service's own words, or why it did not answer.
    pub said: String,
    /// Whether it ended, and whether it ended well.
    pub ended: Option<bool>,
}
