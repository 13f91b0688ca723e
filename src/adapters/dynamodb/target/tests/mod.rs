//! The target against servers: the embedded emulator, and the one that `CUTOVER_TEST_AWS_ENDPOINT` names.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::Client;
use aws_types::SdkConfig;

use super::DynamoTarget;
use crate::adapters::dynamodb::tests::{REGION, Server, sdk_config, server};
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::ports::tests::{Abilities, TargetStore, target_cases};
use crate::ports::{Budget, Target};

mod day;
mod fit;
mod follow;
mod items;
mod load;
mod made;
mod outbox;
mod plans;
mod restore;

const PLAN: &str = "shop/test";

/// An account of DynamoDB with nothing in it.
pub(super) struct Account {
    endpoint: String,
    sdk: SdkConfig,
    target: Arc<DynamoTarget>,
    _server: Option<Server>,
}

impl Account {
    fn at(endpoint: String, _server: Option<Server>) -> Self {
        // Emulators take twelve digits for an account, so each test has one of its own.
        let id = format!("{:012}", fastrand::u64(100_000_000_000..1_000_000_000_000));
        let credentials = Credentials::new(id, "secret", None, None, "test");
        let sdk = sdk_config().to_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        let target = Arc::new(connect(&sdk, &endpoint, PLAN));
        Self { endpoint, sdk, target, _server }
    }

    /// On the embedded emulator.
    pub(super) async fn embedded() -> Self {
        let server = server().await;
        Self::at(server.endpoint.clone(), Some(server))
    }

    /// On the emulator that the environment names.
    async fn of_the_neighbour() -> Self {
        match std::env::var("CUTOVER_TEST_AWS_ENDPOINT") {
            Ok(endpoint) => Self::at(endpoint, None),
            Err(_) => {
                let missing = "CUTOVER_TEST_AWS_ENDPOINT names no emulator; tests/run.sh starts one";
                let required = std::env::var_os("CUTOVER_TEST_NEIGHBOURS_REQUIRED").is_some_and(|v| !v.is_empty());
                assert!(!required, "{missing}");
                eprintln!("{missing}: the embedded one takes its place");
                Self::embedded().await
            }
        }
    }

    /// One account on each.
    async fn both() -> [Self; 2] {
        [Self::embedded().await, Self::of_the_neighbour().await]
    }

    /// The same account as another process sees it.
    fn elsewhere(&self) -> DynamoTarget {
        connect(&self.sdk, &self.endpoint, PLAN)
    }

    /// The same account for another plan.
    fn of_plan(&self, plan: &str) -> DynamoTarget {
        connect(&self.sdk, &self.endpoint, plan)
    }

    fn raw(&self) -> Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.sdk).endpoint_url(&self.endpoint).build();
        Client::from_conf(config)
    }
}

fn connect(sdk: &SdkConfig, endpoint: &str, plan: &str) -> DynamoTarget {
    dynamodb::target(sdk, &DynamoSettings::new(REGION).at(endpoint), plan, Budget::new(None).into()).unwrap()
}

impl TargetStore for Account {
    fn abilities(&self) -> Abilities {
        Abilities::ITEMS
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target) as _
    }

    fn another(&self) -> Arc<dyn Target> {
        Arc::new(self.elsewhere())
    }
}

mod on_the_embedded_one {
    use super::*;

    target_cases!(Account::embedded());
}

mod on_another_one {
    use super::*;

    target_cases!(Account::of_the_neighbour());
}
