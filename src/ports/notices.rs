//! Telling somebody who is not at the screen.

use std::time::Duration;

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::alert::{Message, Place};

/// A place was not told, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotTold {
    /// What was tried, and what came back. Never the place's address, which is a secret.
    pub why: String,
    /// After which time trying again may help; absent where it does not.
    pub again: Option<Duration>,
}

impl NotTold {
    /// Trying again does not help.
    pub fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: None }
    }

    /// Trying again after this time may help.
    pub fn for_now(why: impl Into<String>, again: Duration) -> Self {
        Self { why: why.into(), again: Some(again) }
    }
}

/// Tells places of alerts.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Tries once to tell a place, for no longer than its timeout. Says what came back.
    async fn tell(&self, place: &Place, message: &Message) -> Result<String, NotTold>;

    /// Whether the place can be reached, as far as can be seen without telling it anything. Says what was found.
    async fn look(&self, place: &Place) -> PortResult<String>;
}
