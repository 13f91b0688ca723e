//! SDK clients for the rehearsal's own use, over plain HTTP on the loopback interface.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;

/// The region everything in a rehearsal claims to be in.
pub const REGION: &str = "us-east-1";
/// Access key of a rehearsal; emulators accept any.
pub const ACCESS_KEY: &str = "AKIAREHEARSAL0000000";
/// Secret key of a rehearsal; emulators accept any, so this protects nothing.
pub const SECRET_KEY: &str = "rehearsal";

/// How one endpoint is reached. `attempts` is 1 for writes whose outcome must be known: a retried attempt that
/// timed out may still land after a later write.
#[must_use]
pub fn session(endpoint: &str, attempts: u32) -> SdkConfig {
    session_in(endpoint, REGION, attempts)
}

/// The same in another region.
#[must_use]
pub fn session_in(endpoint: &str, region: &str, attempts: u32) -> SdkConfig {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "rehearsal");
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(8))
        .operation_timeout(Duration::from_secs(20))
        .build();
    SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(RetryConfig::standard().with_max_attempts(attempts))
        .timeout_config(timeouts)
        .endpoint_url(endpoint)
        .build()
}
