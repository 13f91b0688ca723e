//! Credentials, region, HTTP client and time-outs, shared by every AWS client of one side.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::error::root_cause;
use crate::ports::{ErrorKind, PortError, PortResult};

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

/// Loads credentials: those of the named profile and no others, or else the usual chain. Nothing is called yet; wrong
/// credentials show at the first call.
///
/// Attempts are bounded and short: a switch that hangs for a minute is worse than one that says so.
pub async fn session(settings: &AwsSettings) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(10))
        .operation_timeout(Duration::from_secs(30))
        .build();
    let retries = RetryConfig::standard().with_max_attempts(4);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .retry_config(retries.clone())
        .timeout_config(timeouts.clone());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if settings.emulator {
        loader = loader.credentials_provider(Credentials::new("emulator", "emulator", None, None, "emulator"));
        return loader.load().await;
    }
    let Some(profile) = &settings.profile else { return loader.load().await };
    // The usual chain looks at the environment first, and behind the profile at containers and instances: whoever names
    // a profile wants none of these.
    let session = loader.no_credentials().load().await;
    let around = ProviderConfig::without_region()
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_http_client(http)
        .with_region(session.region().cloned())
        .with_use_fips(session.use_fips())
        .with_use_dual_stack(session.use_dual_stack())
        .with_retry_config(retries)
        .with_timeout_config(timeouts);
    let own = ProfileFileCredentialsProvider::builder().configure(&around).profile_name(profile).build();
    session.into_builder().credentials_provider(SharedCredentialsProvider::new(own)).build()
}

/// Asks the session's credentials for, once. Nothing is called with them.
///
/// # Errors
/// `Denied` when there are none: which were looked for, and what to set.
pub async fn credentials(session: &SdkConfig, settings: &AwsSettings) -> PortResult<()> {
    let refused = |why: String| {
        PortError::new(ErrorKind::Denied, "find", "AWS credentials", why).advise(
            "set AWS_PROFILE (or `profile` under [aws]), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; \
             sign in again if they have ended",
        )
    };
    let profile = settings.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok());
    let looked = match profile {
        Some(name) => format!("profile {name} of ~/.aws gives none"),
        None => "none in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in profile default of ~/.aws, from a web \
                 identity, a container or an instance role"
            .to_owned(),
    };
    let Some(provider) = session.credentials_provider() else { return Err(refused(looked)) };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(CredentialsError::CredentialsNotLoaded(_)) => Err(refused(looked)),
        Err(e) => Err(refused(format!("{looked}: {}", root_cause(&e)))),
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::{SharedCredentialsProvider, future};

    use super::*;

    /// A chain that ends like this.
    #[derive(Debug)]
    struct Ends(fn() -> CredentialsError);

    impl aws_credential_types::provider::ProvideCredentials for Ends {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err((self.0)()))
        }
    }

    async fn refusal(ends: fn() -> CredentialsError, profile: Option<&str>) -> PortError {
        let provider = SharedCredentialsProvider::new(Ends(ends));
        let session = SdkConfig::builder().credentials_provider(provider).build();
        let settings = AwsSettings { profile: profile.map(str::to_owned), ..AwsSettings::default() };
        credentials(&session, &settings).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_was_looked_for_is_said_in_one_line() {
        let error = refusal(|| CredentialsError::not_loaded("no providers in chain"), Some("migration")).await;
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(error.came_back, "profile migration of ~/.aws gives none");
        assert!(error.advice.contains("AWS_PROFILE") && error.advice.contains("AWS_ACCESS_KEY_ID"), "{error}");
        let error = refusal(|| CredentialsError::provider_error("the token\n  has expired"), Some("sso")).await;
        assert!(error.came_back.ends_with(": the token has expired"), "{error}");
        let fixed = session(&AwsSettings { emulator: true, ..AwsSettings::default() }).await;
        assert_eq!(credentials(&fixed, &AwsSettings::default()).await, Ok(()));
    }
}
