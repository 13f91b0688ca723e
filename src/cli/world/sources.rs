//! The stores that tables come from, each behind the ports of its kind.

use std::sync::Arc;

use super::super::failure::Failure;
use super::{aws_session, failing, password, pg_settings};
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::config::{Aws, Postgres, SourceConnection};
use crate::domain::plan::{Plan, Table};
use crate::domain::secret::Secret;
use crate::ports::{ByStore, Changes, Items, PortResult, Source, Switches, Unavailable};

/// One store's ports.
pub(super) struct SourcePorts {
    source: Arc<dyn Source>,
    changes: Arc<dyn Changes>,
    items: Arc<dyn Items>,
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
    at: &SourceConnection,
    plan: &Plan,
    switches: &Arc<dyn Switches>,
) -> Result<SourcePorts, Failure> {
    match at {
        SourceConnection::Dynamodb(aws) => Ok(dynamodb(aws, &aws_session(aws).await)?),
        SourceConnection::Postgresql(postgres) => {
            let password = password(store, postgres, &**switches).await?;
            Ok(postgresql(store, postgres, password, plan, switches)?)
        }
    }
}

/// DynamoDB tables over a session that was made already.
///
/// # Errors
/// An address that is none.
pub(super) fn dynamodb(aws: &Aws, session: &aws_config::SdkConfig) -> PortResult<SourcePorts> {
    let ends = &aws.endpoints;
    let settings = DynamoSettings {
        endpoint: ends.dynamodb.clone(),
        streams_endpoint: ends.streams.clone(),
        ..DynamoSettings::new(&aws.region)
    };
    let (source, changes) = dynamodb::connect(session, &settings)?;
    let source = Arc::new(source);
    Ok(SourcePorts {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        items: failing(source as _),
    })
}

/// A PostgreSQL database, with those of the plan's tables that come from it.
fn postgresql(
    store: &str,
    postgres: &Postgres,
    password: Option<Secret>,
    plan: &Plan,
    switches: &Arc<dyn Switches>,
) -> PortResult<SourcePorts> {
    let settings = pg_settings(postgres, password, switches);
    let source = Arc::new(PgSource::new(&settings, plan.key())?);
    let tables: Vec<Table> = plan.tables.iter().filter(|table| table.from == store).cloned().collect();
    let changes = PgChanges::new(Arc::clone(&source), settings, tables);
    Ok(SourcePorts {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        items: failing(source as _),
    })
}
