//! Takes the place of `postgresql.rs` in a build without PostgreSQL: whatever is asked for is refused with what to do.
//! Configs that name such a store are refused before anything gets here; a run that was opened by another build may.

use std::sync::Arc;

use super::kinds::not_built;
use super::sources::SourcePorts;
use super::targets::TargetPorts;
use crate::config::{Postgres, Subscriber};
use crate::domain::plan::{Plan, StoreKind};
use crate::domain::secret::Secret;
use crate::ports::{Catalogue, Changes, Mover, PortResult, Restore, Switches};

fn refused<T>() -> PortResult<T> {
    Err(not_built(StoreKind::Postgresql))
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn source(
    _: &str,
    _: &Postgres,
    _: Option<Secret>,
    _: &Plan,
    _: &Arc<dyn Switches>,
) -> PortResult<SourcePorts> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn kept(_: &Postgres, _: Option<Secret>, _: &str, _: &Arc<dyn Switches>) -> PortResult<Arc<dyn Changes>> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn catalogue(_: &Postgres, _: Option<Secret>, _: &Arc<dyn Switches>) -> PortResult<Arc<dyn Catalogue>> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn target(_: &Postgres, _: Option<Secret>, _: &Arc<dyn Switches>, _: &str) -> PortResult<TargetPorts> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) async fn target_in_our_layout(
    _: Postgres,
    _: Option<Secret>,
    _: Arc<dyn Switches>,
    _: String,
) -> PortResult<TargetPorts> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) async fn target_aside(
    _: Postgres,
    _: Option<Secret>,
    _: Arc<dyn Switches>,
    _: String,
) -> PortResult<TargetPorts> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn restore(_: &Postgres, _: Option<Secret>, _: &Arc<dyn Switches>) -> PortResult<Arc<dyn Restore>> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn subscription(
    _: &str,
    _: (&str, &Postgres, Option<Secret>),
    _: (&str, &Postgres, Option<Secret>),
    _: Option<(&Subscriber, Option<Secret>)>,
    _: &Arc<dyn Switches>,
) -> PortResult<Arc<dyn Mover>> {
    refused()
}
