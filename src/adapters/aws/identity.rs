//! Whose account calls are signed for, where they go, and how far the clocks are apart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::clock::{Clock, Watch};
use super::error::port_error;
use crate::domain::run::{Caller, Callers};
use crate::ports::{Address, Identity};

/// Longest wait for the answer, attempts included: everything else waits for it.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks the Security Token Service, which needs no permission.
#[derive(Debug)]
pub struct AwsIdentity {
    /// The service, or why it is not asked.
    sts: Result<aws_sdk_sts::Client, String>,
    region: Option<String>,
    stores: Vec<(String, Vec<Address>)>,
    clock: Arc<Clock>,
}

impl AwsIdentity {
    /// For stores by name, each with where its calls go. `sts` overrides the service's own endpoint. Fixed keys of an
    /// emulator belong to no account, so without an endpoint no service is asked.
    #[must_use]
    pub fn new(session: &SdkConfig, sts: Option<&str>, emulator: bool, stores: Vec<(String, Vec<Address>)>) -> Self {
        let clock = Arc::new(Clock::default());
        let mut config = aws_sdk_sts::config::Builder::from(session)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(TimeoutConfig::builder().connect_timeout(PATIENCE / 3).operation_timeout(PATIENCE).build())
            .interceptor(Watch(Arc::clone(&clock)));
        if let Some(endpoint) = sts {
            config = config.endpoint_url(endpoint);
        }
        let sts = if emulator && sts.is_none() {
            Err("keys of an emulator, and no endpoint `sts` to ask".to_owned())
        } else {
            Ok(aws_sdk_sts::Client::from_conf(config.build()))
        };
        Self { sts, region: session.region().map(ToString::to_string), stores, clock }
    }

    async fn caller(&self) -> Caller {
        let region = self.region.clone();
        let unknown = |why: String| Caller { region: region.clone(), unknown: Some(why), ..Caller::default() };
        let sts = match &self.sts {
            Ok(sts) => sts,
            Err(why) => return unknown(why.clone()),
        };
        match sts.get_caller_identity().send().await {
            Ok(answer) => match answer.account.filter(|a| !a.is_empty()) {
                Some(account) => {
                    Caller { account: Some(account), arn: answer.arn.filter(|a| !a.is_empty()), region, unknown: None }
                }
                None => unknown("the answer of STS names no account".to_owned()),
            },
            Err(e) => {
                let e = port_error("ask", "STS who calls are signed as", &e);
                unknown(format!("{} {}: {}", e.tried, e.on, e.came_back))
            }
        }
    }
}

#[async_trait]
impl Identity for AwsIdentity {
    async fn callers(&self) -> Callers {
        if self.stores.is_empty() {
            return Callers::new();
        }
        // One set of credentials signs for all of them.
        let caller = self.caller().await;
        self.stores.iter().map(|(name, _)| (name.clone(), caller.clone())).collect()
    }

    fn addresses(&self, store: &str) -> Vec<Address> {
        self.stores.iter().find(|(name, _)| name == store).map(|(_, all)| all.clone()).unwrap_or_default()
    }

    fn clock_ahead_ms(&self) -> Option<i64> {
        self.clock.ahead_ms()
    }
}
