//! DynamoDB and DynamoDB Streams.
//!
//! Scanning a table and reading its stream are the hot paths and are ours: a signed HTTP request, a body kept as it
//! came, parsed once with strings borrowed from it. Everything else goes through the SDK.

mod attached;
mod attr;
mod call_rate;
mod changes;
mod definition;
mod fault;
mod items;
mod json;
mod listed;
mod page;
mod records;
mod source;
mod target;
mod wire;

#[cfg(all(test, feature = "embedded-dynamodb"))]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use aws_types::endpoint_config::AccountIdEndpointMode;
use aws_types::region::Region;

pub use changes::DynamoChanges;
pub use items::ITEMS_AT_ONCE;
pub use source::DynamoSource;
pub use target::{DynamoRestore, DynamoTarget};

use crate::domain::value::Record;
use crate::ports::{Budget, PortResult};

/// Items asked for per page. DynamoDB cuts a page at 1 MB anyway; emulators without a limit read on and on.
const PAGE_LIMIT: u32 = 2600;
/// Longest wait for one SDK call attempt, unless the SDK configuration has its own.
const ATTEMPT: Duration = Duration::from_secs(15);

/// Where a DynamoDB is and how it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamoSettings {
    /// The region, also for signing.
    pub region: String,
    /// Another endpoint than the region's own: `http://127.0.0.1:8000`.
    pub endpoint: Option<String>,
    /// Another endpoint for streams; `endpoint` when absent.
    pub streams_endpoint: Option<String>,
    /// Items per page at most.
    pub limit: u32,
    /// Strongly consistent scans. They cost twice as much. Without them a write made just before the stream
    /// was turned on may be in neither the scan nor the stream.
    pub consistent: bool,
}

/// Whether items may still be removed for their age, by what the service says of a table's TTL. One that is being turned
/// off goes on for up to an hour.
fn still_expires(status: &str) -> bool {
    status != "DISABLED"
}

impl DynamoSettings {
    /// The region's own endpoints, strongly consistent.
    pub fn new(region: impl Into<String>) -> Self {
        Self { region: region.into(), endpoint: None, streams_endpoint: None, limit: PAGE_LIMIT, consistent: true }
    }

    /// The same with another endpoint for tables and streams.
    #[must_use]
    pub fn at(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }
}

/// Makes both ports over one configuration, which brings the credentials and the SDK's HTTP client.
/// Does not connect yet: the first call does.
pub fn connect(sdk: &SdkConfig, settings: &DynamoSettings) -> PortResult<(DynamoSource, DynamoChanges)> {
    let sdk = &of_the_region(sdk, settings);
    let mut tables = aws_sdk_dynamodb::config::Builder::from(sdk);
    let mut streams = aws_sdk_dynamodbstreams::config::Builder::from(sdk);
    if sdk.timeout_config().is_none() {
        let timeouts = aws_sdk_dynamodb::config::timeout::TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(ATTEMPT)
            .build();
        tables = tables.timeout_config(timeouts.clone());
        streams = streams.timeout_config(timeouts);
    }
    if let Some(endpoint) = &settings.endpoint {
        tables = tables.endpoint_url(endpoint);
    }
    if let Some(endpoint) = settings.streams_endpoint.as_ref().or(settings.endpoint.as_ref()) {
        streams = streams.endpoint_url(endpoint);
    }
    let tables = aws_sdk_dynamodb::Client::from_conf(tables.build());
    let streams = aws_sdk_dynamodbstreams::Client::from_conf(streams.build());
    let wire = |service| wire::Wire::new(sdk, settings, service);
    let (scans, reads) = (wire(wire::Service::Tables)?, wire(wire::Service::Streams)?);
    Ok((DynamoSource::new(tables.clone(), scans, settings), DynamoChanges::new(tables, streams, reads)))
}

/// Makes the target of a plan over one configuration. Does not connect yet: the first call does. What a load writes keeps to
/// `budget`, in write units a second, with every other target that has the same one.
///
/// # Errors
/// `Invalid` for an address that is none, `Denied` without credentials.
pub fn target(sdk: &SdkConfig, settings: &DynamoSettings, plan: &str, budget: Arc<Budget>) -> PortResult<DynamoTarget> {
    let (_, changes) = connect(sdk, settings)?;
    let sdk = of_the_region(sdk, settings);
    Ok(DynamoTarget::new(wire::Wire::new(&sdk, settings, wire::Service::Tables)?, changes, plan, budget))
}

/// Makes what writes an export back over one configuration. Does not connect yet: the first call does.
///
/// # Errors
/// `Invalid` for an address that is none, `Denied` without credentials.
pub fn restore(sdk: &SdkConfig, settings: &DynamoSettings) -> PortResult<DynamoRestore> {
    let (source, _) = connect(sdk, settings)?;
    let sdk = of_the_region(sdk, settings);
    Ok(DynamoRestore::new(source, wire::Wire::new(&sdk, settings, wire::Service::Tables)?))
}

/// The configuration for the settings' region, and no account's own endpoint: the SDK would go to one once it knows the
/// account, while our client signs for whatever credentials there are at the time.
fn of_the_region(sdk: &SdkConfig, settings: &DynamoSettings) -> SdkConfig {
    sdk.to_builder()
        .region(Region::new(settings.region.clone()))
        .account_id_endpoint_mode(AccountIdEndpointMode::Disabled)
        .build()
}

/// An item as the SDK reads it, in our form; `None` for a type that is not known here. The reference that the scan
/// path is measured and tested against.
#[must_use]
pub fn item(
    fields: std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>,
) -> Option<Record<'static>> {
    attr::item_from_sdk(fields).ok()
}
