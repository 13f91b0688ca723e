//! Takes the place of `dynamodb.rs` in a build without DynamoDB: whatever is asked for is refused with what to do. Configs
//! that name such a store are refused before anything gets here; a run that was opened by another build may.

use std::sync::Arc;

use aws_config::SdkConfig;

use super::kinds::not_built;
use super::sources::SourcePorts;
use super::targets::TargetPorts;
use crate::config::Aws;
use crate::domain::plan::StoreKind;
use crate::ports::{Catalogue, PortResult, Restore};

fn refused<T>() -> PortResult<T> {
    Err(not_built(StoreKind::Dynamodb))
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn source(_: &Aws, _: &SdkConfig) -> PortResult<SourcePorts> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn catalogue(_: &Aws, _: &SdkConfig) -> PortResult<Arc<dyn Catalogue>> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn target(_: &Aws, _: &SdkConfig, _: &str, _: Arc<Budget>) -> PortResult<TargetPorts> {
    refused()
}

/// Nothing.
///
/// # Errors
/// Always.
pub(super) fn restore(_: &Aws, _: &SdkConfig) -> PortResult<Arc<dyn Restore>> {
    refused()
}
