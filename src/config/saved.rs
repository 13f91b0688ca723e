//! Connections as a run resolved them, kept beside its plan: a rollback needs no config file, no environment variable
//! and no lint of a newer program.

use serde_json::Value;

use super::connections::{Aws, Connections, Credentials, Endpoints, Postgres};
use crate::domain::plan::{CONTROL, OLD, Stores};

/// What can be read of the connections a run was opened with. The parts do not depend on each other: one that cannot be
/// read keeps nobody from using the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedConnections {
    /// AWS; `None` inside when the run named none. The error says why it cannot be read.
    pub aws: Result<Option<Aws>, String>,
    /// The target database, or why it cannot be read.
    pub postgres: Result<Postgres, String>,
}

impl From<&Connections> for SavedConnections {
    fn from(c: &Connections) -> Self {
        Self { aws: Ok(c.aws.clone()), postgres: Ok(c.postgres.clone()) }
    }
}

impl SavedConnections {
    /// The text that is kept. Secrets stand in it as references only.
    ///
    /// # Errors
    /// None that plain data can bring about.
    pub fn text(connections: &Connections) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(connections)
    }

    /// Nothing can be read, for this reason.
    #[must_use]
    pub fn unreadable(why: &str) -> Self {
        Self { aws: Err(why.to_owned()), postgres: Err(why.to_owned()) }
    }

    /// Reads what was kept, part by part.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let document: Value = match serde_json::from_slice(text) {
            Ok(document) => document,
            Err(e) => return Self::unreadable(&e.to_string()),
        };
        let part = |name: &str| document.get(name).ok_or_else(|| format!("no `{name}` in it"));
        let wrong = |name: &str, e: &serde_json::Error| format!("`{name}` in it: {e}");
        Self {
            aws: part("aws").and_then(|v| serde_json::from_value(v.clone()).map_err(|e| wrong("aws", &e))),
            postgres: part("postgres")
                .and_then(|v| serde_json::from_value(v.clone()).map_err(|e| wrong("postgres", &e))),
        }
    }

    /// The same, with what cannot be read taken from `other` where that can.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            aws: self.aws.or_else(|why| other.aws.clone().map_err(|_| why)),
            postgres: self.postgres.or_else(|why| other.postgres.clone().map_err(|_| why)),
        }
    }

    /// What a plan itself says of the connections: where AWS is reached, with the usual chain of credentials. It does
    /// not know how to sign in to the target.
    #[must_use]
    pub fn from_stores(stores: &Stores) -> Self {
        let nowhere = || "the plan does not say it".to_owned();
        let aws = stores.get(CONTROL).ok_or_else(nowhere).map(|control| {
            let at = |store: &str, service: &str| stores.get(store)?.endpoints.get(service).cloned();
            Some(Aws {
                region: control.region.clone().unwrap_or_default(),
                profile: control.profile.clone(),
                account: control.account.clone(),
                credentials: Credentials::Chain,
                endpoints: Endpoints {
                    dynamodb: at(OLD, "dynamodb"),
                    streams: at(OLD, "streams"),
                    ssm: at(CONTROL, "ssm"),
                    apigateway: at(CONTROL, "apigateway"),
                    cloudwatch: at(CONTROL, "cloudwatch"),
                    sts: None,
                },
            })
        });
        Self { aws, postgres: Err(nowhere()) }
    }
}
