//! Credentials, region, HTTP client and time-outs, shared by every AWS client of one side.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use super::address::{Service, configured};
use super::http::sdk_client;
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
/// Endpoints come with each client: what the environment or the profile names for them was read together with the
/// config ([`named_endpoints`]) and is kept with the run. A variable of another terminal must not send its rollback
/// elsewhere.
pub async fn session(settings: &AwsSettings) -> SdkConfig {
    let mut bare = loaded(settings).await.into_builder().service_config(NoEndpoints);
    bare.set_endpoint_url(None);
    bare.build()
}

/// The endpoints that the environment or the profile names, in the order of these services. `None` is AWS's own.
pub async fn named_endpoints<const N: usize>(settings: &AwsSettings, services: [Service; N]) -> [Option<String>; N] {
    let session = loaded(settings).await;
    services.map(|service| configured(&session, service))
}

/// A session that names no endpoint for any service.
#[derive(Debug)]
struct NoEndpoints;

impl LoadServiceConfig for NoEndpoints {
    fn load_config(&self, _: ServiceConfigKey<'_>) -> Option<String> {
        None
    }
}

/// Attempts are bounded and short: a switch that hangs for a minute is worse than one that fails.
async fn loaded(settings: &AwsSettings) -> SdkConfig {
    let http = sdk_client();
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
    // The usual chain reads the environment first, and after the profile it asks containers and instances: whoever
    // names a profile wants none of these.
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
/// `Denied` when there are none: where they were searched for, and what to do.
pub async fn credentials(session: &SdkConfig, settings: &AwsSettings) -> PortResult<()> {
    let refused = |why: String| PortError::new(ErrorKind::Denied, "find", "AWS credentials", why);
    let profile = settings.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok());
    let looked = match &profile {
        Some(name) => format!("profile {name} of ~/.aws gives none"),
        None => "none in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in profile default of ~/.aws, from a web \
                 identity, a container or an instance role"
            .to_owned(),
    };
    let usual = "set AWS_PROFILE (or `profile` under [aws]), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; \
                 sign in again if they have ended";
    let Some(provider) = session.credentials_provider() else { return Err(refused(looked).advise(usual)) };
    let error = match provider.provide_credentials().await {
        Ok(_) => return Ok(()),
        Err(CredentialsError::CredentialsNotLoaded(_)) => return Err(refused(looked).advise(usual)),
        Err(error) => error,
    };
    let why = causes(&error);
    let name = profile.as_deref().unwrap_or("default");
    Err(match Lacking::of(&why) {
        None => refused(format!("{looked}: {why}")).advise(usual),
        Some(lacking) => {
            refused(format!("profile {name} of ~/.aws signs in through {}", lacking.words())).advise(format!(
                "the AWS CLI does that and hands the credentials over: give a profile of its own the line \
             `credential_process = aws configure export-credentials --profile {name} --format process`, and name that \
             one as `profile` under [aws]"
            ))
        }
    })
}

/// A way to sign in that is left to the AWS CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacking {
    IdentityCenter,
    Login,
}

impl Lacking {
    /// The SDK says it as a part of it that was left out when this program was built.
    fn of(why: &str) -> Option<Self> {
        if !why.contains("cargo feature") {
            None
        } else if why.contains("login") {
            Some(Self::Login)
        } else {
            why.contains("sso").then_some(Self::IdentityCenter)
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::IdentityCenter => "IAM Identity Center (sso_session), which this program leaves to the AWS CLI",
            Self::Login => "`aws login`, which this program leaves to the AWS CLI",
        }
    }
}

/// An error and its causes in one line, without those that only say that there is a cause.
fn causes(error: &CredentialsError) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let says_nothing = cause.is::<CredentialsError>();
        if !says_nothing && !said.iter().any(|s| s.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    let said = if said.is_empty() { error.to_string() } else { said.join(": ") };
    // The SDK does not say which file it wanted.
    let file = ["No such file", "Permission denied", "Is a directory"].iter().any(|start| said.starts_with(start));
    if file { format!("a file that it names, like a web identity's token, cannot be read: {said}") } else { said }
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
        for (feature, says) in [("sso", "Identity Center"), ("credentials-login", "`aws login`")] {
            let why = format!("This behavior requires following cargo feature(s) enabled: {feature}");
            assert!(Lacking::of(&why).unwrap().words().contains(says));
        }
        let fixed = session(&AwsSettings { emulator: true, ..AwsSettings::default() }).await;
        assert_eq!(credentials(&fixed, &AwsSettings::default()).await, Ok(()));
    }
}
