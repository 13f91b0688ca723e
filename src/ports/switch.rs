//! Things that can be switched.

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::plan::{Switch, ValueRef};
use crate::domain::secret::Secret;

/// What stands at a switch's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The value. Wrapped: it may be a secret.
    pub value: Secret,
    /// Its version, where the place has versions.
    pub version: Option<i64>,
}

/// Reads and writes switches.
#[async_trait]
pub trait Switches: Send + Sync {
    /// The value that stands there now, decrypted.
    async fn read(&self, switch: &Switch) -> PortResult<Reading>;

    /// The value a version held, from the place's history.
    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<Secret>;

    /// Sets the value. Does not read it back.
    async fn set(&self, switch: &Switch, value: &Secret) -> PortResult<()>;

    /// Finds the value a reference points at.
    async fn resolve(&self, value: &ValueRef) -> PortResult<Secret>;
}
