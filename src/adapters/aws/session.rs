//! Credentials, region, HTTP client and time-outs, shared by every AWS client of one side.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

/// How AWS is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// Region; absent means the usual chain (environment, profile).
    pub region: Option<String>,
    /// Named profile; absent means the usual chain.
    pub profile: Option<String>,
    /// Fixed keys that only an emulator takes, instead of the usual chain.
    pub emulator: bool,
}

/// Loads the usual credential chain. Nothing is called yet; wrong credentials show at the first call.
///
/// Attempts are bounded and short: a switch that hangs for a minute is worse than one that says so.
pub async fn session(settings: &AwsSettings) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(10))
        .operation_timeout(Duration::from_secs(30))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if settings.emulator {
        loader = loader.credentials_provider(Credentials::new("emulator", "emulator", None, None, "emulator"));
    }
    loader.load().await
}

/// The endpoint a client uses: the one given, or the session's.
pub(super) fn endpoint(session: &SdkConfig, given: Option<&str>) -> Option<String> {
    given.or(session.endpoint_url()).map(str::to_owned)
}
