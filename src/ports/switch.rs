//! Things that can be switched.

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::plan::{Switch, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchValue {
    /// The value. Wrapped: it may be a secret.
    pub value: Secret,
    /// Its version, where the place has versions.
    pub version: Option<i64>,
    /// Whether the store calls it a secret, whatever the plan says: then it is shown nowhere.
    pub secret: bool,
}

/// Reads and writes switches.
#[async_trait]
pub trait Switches: Send + Sync {
    /// The value that stands there now, decrypted. `Conflict` when the place serves more than one value at once.
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue>;

    /// The value a version held, from the place's history.
    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue>;

    /// What the place keeps beside the value: of a version, from the place's history, or as it is now.
    async fn attributes(&self, switch: &Switch, version: Option<i64>) -> PortResult<Attributes>;

    /// How often the place can still be set before it refuses; `None` where there is no such end.
    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>>;

    /// Sets the value, and what the place keeps beside it. Does not read it back. An error never quotes the value.
    async fn set(&self, switch: &Switch, value: &Secret, attributes: &Attributes) -> PortResult<()>;

    /// Finds the value a reference points at; a parameter in the region and account of `control`
    /// ([`CONTROL`](crate::domain::plan::CONTROL) or another one of the plan's).
    async fn resolve(&self, value: &ValueRef, control: &str) -> PortResult<SwitchValue>;
}
