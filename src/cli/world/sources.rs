//! The stores that tables come from, each behind the ports of its kind.

use std::sync::Arc;

use super::super::failure::Failure;
use super::{aws_session, failing, password, pg_settings};
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::adapters::postgres::PgSettings;
use crate::adapters::postgres::source::{PgCatalogue, PgChanges, PgSource};
use crate::config::{Aws, Postgres, SavedConnections, StoreConnection};
use crate::domain::plan::{Plan, Table};
use crate::domain::secret::Secret;
use crate::ports::{ByStore, Catalogue, Changes, Items, PortResult, Source, Switches, Unavailable};

/// One store's ports.
pub(super) struct SourcePorts {
    source: Arc<dyn Source>,
    changes: Arc<dyn Changes>,
    items: Arc<dyn Items>,
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
        StoreConnection::Dynamodb(aws) => Ok(dynamodb(aws, &aws_session(aws).await)?),
        StoreConnection::Postgresql(postgres) => {
            let password = password(store, postgres, &**switches).await?;
            Ok(postgresql(store, postgres, password, plan, switches)?)
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
        StoreConnection::Dynamodb(aws) => Ok(Arc::new(dynamodb::connect(&aws_session(aws).await, &settings(aws))?.0)),
        StoreConnection::Postgresql(postgres) => {
            let password = password(store, postgres, &**switches).await?;
            Ok(Arc::new(PgCatalogue::new(&pg_settings(postgres, password, switches))?))
        }
    }
}

/// DynamoDB tables over a session that was made already.
///
/// # Errors
/// An address that is none.
pub(super) fn dynamodb(aws: &Aws, session: &aws_config::SdkConfig) -> PortResult<SourcePorts> {
    let (source, changes) = dynamodb::connect(session, &settings(aws))?;
    let source = Arc::new(source);
    Ok(SourcePorts {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        items: failing(source as _),
    })
}

/// Where DynamoDB is reached.
pub(super) fn settings(aws: &Aws) -> DynamoSettings {
    DynamoSettings {
        endpoint: aws.endpoints.dynamodb.clone(),
        streams_endpoint: aws.endpoints.streams.clone(),
        ..DynamoSettings::new(&aws.region)
    }
}

/// A PostgreSQL database, with those of the plan's tables that come from it.
fn postgresql(
    store: &str,
    postgres: &Postgres,
    password: Option<Secret>,
    plan: &Plan,
    switches: &Arc<dyn Switches>,
) -> PortResult<SourcePorts> {
    let tables: Vec<Table> = plan.tables.iter().filter(|table| table.from == store).cloned().collect();
    let (source, changes) = followed(&pg_settings(postgres, password, switches), &plan.key(), tables)?;
    Ok(SourcePorts {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        items: failing(source as _),
    })
}

/// A database and the changes of these tables in it, which a plan follows by its key.
fn followed(settings: &PgSettings, plan: &str, tables: Vec<Table>) -> PortResult<(Arc<PgSource>, PgChanges)> {
    let source = Arc::new(PgSource::new(settings, plan)?);
    let changes = PgChanges::new(Arc::clone(&source), settings.clone(), tables);
    Ok((source, changes))
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
                Ok(password) => followed(&pg_settings(postgres, password, switches), plan, Vec::new())
                    .map(|(_, changes)| failing(Arc::new(changes) as _))
                    .map_err(|e| e.to_string()),
                Err(trouble) => Err(Failure::from(trouble).words()),
            },
            Err(why) => Err(why.clone()),
        };
        stores = stores.with(name, changes.unwrap_or_else(|why| Arc::new(Unavailable(why)) as _));
    }
    stores
}
