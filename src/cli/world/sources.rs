//! The stores that tables come from, each behind the ports of its kind.

use std::sync::Arc;

use super::super::failure::Failure;
use super::{aws_session, dynamodb, password, postgresql};
use crate::config::{SavedConnections, StoreConnection};
use crate::domain::plan::Plan;
use crate::ports::{ByStore, Catalogue, Changes, Items, Source, Switches, Unavailable};

/// One store's ports.
pub(super) struct SourcePorts {
    pub source: Arc<dyn Source>,
    pub changes: Arc<dyn Changes>,
    pub items: Arc<dyn Items>,
}

impl SourcePorts {
    /// What reads the store.
    pub fn source(self) -> Arc<dyn Source> {
        self.source
    }
}

/// Every store's ports.
#[derive(Default)]
pub(super) struct AllSources {
    pub sources: ByStore<dyn Source>,
    pub changes: ByStore<dyn Changes>,
    pub items: ByStore<dyn Items>,
}

impl AllSources {
    /// Adds a store.
    pub fn add(&mut self, store: &str, ports: SourcePorts) {
        self.sources = std::mem::take(&mut self.sources).with(store, ports.source);
        self.changes = std::mem::take(&mut self.changes).with(store, ports.changes);
        self.items = std::mem::take(&mut self.items).with(store, ports.items);
    }
}

/// A store that cannot be reached, for this reason: each call says it.
pub(super) fn out_of_reach(why: &str) -> SourcePorts {
    let absent = || Unavailable(why.to_owned());
    SourcePorts { source: Arc::new(absent()), changes: Arc::new(absent()), items: Arc::new(absent()) }
}

/// The ports of one store. Nothing is called yet but the source of a password.
///
/// # Errors
/// An address that is none, or a password that is not where the config says.
pub(super) async fn connect(
    store: &str,
    at: &StoreConnection,
    plan: &Plan,
    switches: &Arc<dyn Switches>,
) -> Result<SourcePorts, Failure> {
    match at {
        StoreConnection::Dynamodb(aws) => Ok(dynamodb::source(aws, &aws_session(aws).await)?),
        StoreConnection::Postgresql(postgres) => {
            let password = password(store, postgres, &**switches).await?;
            Ok(postgresql::source(store, postgres, password, plan, switches)?)
        }
    }
}

/// What one store has. Nothing is called yet but the source of a password.
///
/// # Errors
/// An address that is none, or a password that is not where the config says.
pub(super) async fn catalogue(
    store: &str,
    at: &StoreConnection,
    switches: &Arc<dyn Switches>,
) -> Result<Arc<dyn Catalogue>, Failure> {
    match at {
        StoreConnection::Dynamodb(aws) => Ok(dynamodb::catalogue(aws, &aws_session(aws).await)?),
        StoreConnection::Postgresql(postgres) => {
            let password = password(store, postgres, &**switches).await?;
            Ok(postgresql::catalogue(postgres, password, switches)?)
        }
    }
}

/// Stores that keep changes until they are read, for what is left there of a plan: by its key, whatever its tables are. A
/// store that cannot be reached says so when it is asked.
pub(super) async fn kept(saved: &SavedConnections, plan: &str, switches: &Arc<dyn Switches>) -> ByStore<dyn Changes> {
    let mut stores = ByStore::default();
    for (name, at) in &saved.sources {
        let changes = match at {
            // Forgets by time alone.
            Ok(StoreConnection::Dynamodb(_)) => continue,
            Ok(StoreConnection::Postgresql(postgres)) => match password(name, postgres, &**switches).await {
                Ok(password) => postgresql::kept(postgres, password, plan, switches).map_err(|e| e.to_string()),
                Err(trouble) => Err(Failure::from(trouble).words()),
            },
            Err(why) => Err(why.clone()),
        };
        stores = stores.with(name, changes.unwrap_or_else(|why| Arc::new(Unavailable(why)) as _));
    }
    stores
}
