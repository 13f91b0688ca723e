//! What DynamoDB stores are reached with. `without_dynamodb.rs` takes its place in a build without them.

use std::sync::Arc;

use aws_config::SdkConfig;

use super::failing;
use super::sources::SourcePorts;
use super::targets::TargetPorts;
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::config::Aws;
use crate::ports::{Budget, Catalogue, PortResult, Restore};

/// Where DynamoDB is reached.
fn settings(aws: &Aws) -> DynamoSettings {
    DynamoSettings {
        endpoint: aws.endpoints.dynamodb.clone(),
        streams_endpoint: aws.endpoints.streams.clone(),
        ..DynamoSettings::new(&aws.region)
    }
}

/// Tables that are read, and their streams.
///
/// # Errors
/// An address that is none, or no credentials.
pub(super) fn source(aws: &Aws, session: &SdkConfig) -> PortResult<SourcePorts> {
    let (source, changes) = dynamodb::connect(session, &settings(aws))?;
    let source = Arc::new(source);
    Ok(SourcePorts {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        items: failing(source as _),
    })
}

/// What tables there are.
///
/// # Errors
/// As [`source`].
pub(super) fn catalogue(aws: &Aws, session: &SdkConfig) -> PortResult<Arc<dyn Catalogue>> {
    Ok(Arc::new(dynamodb::connect(session, &settings(aws))?.0))
}

/// Tables that are written, and their own streams as the outbox.
///
/// # Errors
/// As [`source`].
pub(super) fn target(aws: &Aws, session: &SdkConfig, plan: &str, budget: Arc<Budget>) -> PortResult<TargetPorts> {
    let tables = Arc::new(dynamodb::target(session, &settings(aws), plan, budget)?);
    Ok(TargetPorts { target: failing(Arc::clone(&tables) as _), outbox: failing(tables as _) })
}

/// Tables that an export is written back into.
///
/// # Errors
/// As [`source`].
pub(super) fn restore(aws: &Aws, session: &SdkConfig) -> PortResult<Arc<dyn Restore>> {
    Ok(failing(Arc::new(dynamodb::restore(session, &settings(aws))?) as _))
}
