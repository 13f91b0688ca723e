//! What a store has: asked once, when the tables of a plan are chosen by rule.

use async_trait::async_trait;

use super::error::PortResult;
use crate::domain::plan::Listed;

/// A store that says which tables it has and what they are. Asked before there is a plan; changes nothing.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// The names of all its tables, ours left out, in order.
    async fn names(&self) -> PortResult<Vec<String>>;

    /// These tables as they are, parents before those that refer to them, each with everything that keeps it from moving.
    /// With `made`, what makes them elsewhere as well. `names` are those that the store has.
    async fn listed(&self, names: Vec<String>, wanted: &[String], made: bool) -> PortResult<Listed>;
}
