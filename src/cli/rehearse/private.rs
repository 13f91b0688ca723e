//! Private stores in the place of those that a config names: of the same kinds, under the same names, and empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::out::say;
use crate::config::{Aws, Connections, Credentials, Endpoints, Postgres, SslMode, StoreConnection, Subscriber};
use crate::domain::plan::ValueRef;
use crate::ports::{Cursor, FoundTable, HeldTable, PortResult, Restore, Restoring, TextPage};
use crate::private::dynamo::EmbeddedDynamo;
use crate::private::postgres::{PostgresOptions, PrivatePostgres};
use crate::rehearsal::servers::{create_database, private};

/// Servers that hold the private stores. Dropping them stops them and removes everything they hold.
pub(super) struct PrivateStores {
    /// How they are reached, by the names the config has for the stores.
    pub connections: Connections,
    server: Option<PrivatePostgres>,
    dynamo: BTreeMap<String, Arc<EmbeddedDynamo>>,
}

impl PrivateStores {
    /// Starts what stands in for each of the config's stores. Blocks for some seconds.
    ///
    /// # Errors
    /// A server does not start; nothing is left behind then.
    pub async fn start(named: &Connections) -> Result<Self, Failure> {
        let (sources, targets) = (named.sources(), named.targets.clone());
        let all: BTreeMap<String, StoreConnection> = sources.clone().into_iter().chain(targets.clone()).collect();
        let databases = all.values().any(|at| matches!(at, StoreConnection::Postgresql(_)));
        let server = if databases { Some(server().await?) } else { None };
        let (mut dynamo, mut stands) = (BTreeMap::new(), BTreeMap::new());
        for (n, (name, at)) in all.into_iter().enumerate() {
            let connection = match (at, &server) {
                (StoreConnection::Dynamodb(aws), _) => {
                    // Not in memory: an export may be larger than it.
                    let embedded = EmbeddedDynamo::start(&std::env::temp_dir());
                    let embedded = embedded.map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
                    let at = tables(&aws.region, embedded.endpoint());
                    dynamo.insert(name.clone(), Arc::new(embedded));
                    StoreConnection::Dynamodb(at)
                }
                (StoreConnection::Postgresql(postgres), Some(server)) => {
                    let database = format!("store_{n}");
                    let made = create_database(server, &database).await;
                    made.map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
                    StoreConnection::Postgresql(in_server(server, database, postgres.pool)?)
                }
                (StoreConnection::Postgresql(_), None) => {
                    return Err(Failure::new(Exit::Bug, format!("no server was started for the store {name}")));
                }
            };
            stands.insert(name, connection);
        }
        let of = |names: BTreeMap<String, StoreConnection>| {
            let each = names.into_keys().filter_map(|name| Some((name.clone(), stands.get(&name)?.clone())));
            each.collect::<BTreeMap<_, _>>()
        };
        let connections = Connections {
            aws: None,
            sources: of(sources),
            targets: of(targets),
            home: named.home.clone(),
            controls: BTreeMap::new(),
        };
        Ok(Self { connections, server, dynamo })
    }

    /// What restores into the store of this name.
    pub fn tuned(&self, store: &str, into: Arc<dyn Restore>) -> Arc<dyn Restore> {
        match self.dynamo.get(store) {
            Some(dynamo) => Arc::new(Tuned { into, dynamo: Arc::clone(dynamo) }),
            None => into,
        }
    }

    /// What was started, in words.
    pub fn words(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        if self.server.is_some() {
            all.push("a PostgreSQL server".to_owned());
        }
        if !self.dynamo.is_empty() {
            all.push(format!("{} embedded DynamoDB", self.dynamo.len()));
        }
        all.join(" and ")
    }

    /// Stops everything. Blocks for a moment.
    pub async fn stop(self) {
        tokio::task::spawn_blocking(move || drop(self)).await.ok();
    }
}

async fn server() -> Result<PrivatePostgres, Failure> {
    let options = PostgresOptions::default();
    let started = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options, say)).await;
    let started = started.map_err(|e| Failure::new(Exit::Bug, e.to_string()))?;
    started.map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))
}

fn in_server(server: &PrivatePostgres, database: String, pool: usize) -> Result<Postgres, Failure> {
    // Beside the server, and gone with it.
    let password = server.directory().join("console-password");
    match private(&password, server.password.reveal()) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(Exit::Unexpected, format!("write {}: {e}", password.display())));
        }
        Ok(()) | Err(_) => {}
    }
    let password = Some(ValueRef::File(password.to_string_lossy().into_owned()));
    // The other private server reaches it as we do.
    let subscriber = Subscriber {
        host: server.host.clone(),
        port: server.port,
        user: server.user.clone(),
        password: password.clone(),
        sslmode: SslMode::Disable,
        ca_file: None,
    };
    Ok(Postgres {
        host: server.host.clone(),
        port: server.port,
        database,
        user: server.user.clone(),
        password,
        sslmode: SslMode::Disable,
        ca_file: None,
        pool,
        subscriber: Some(subscriber),
    })
}

fn tables(region: &str, endpoint: &str) -> Aws {
    let at = || Some(endpoint.to_owned());
    Aws {
        region: region.to_owned(),
        profile: None,
        account: None,
        credentials: Credentials::Emulator,
        endpoints: Endpoints { dynamodb: at(), streams: at(), ..Endpoints::default() },
    }
}

/// The embedded store gets its indexes as soon as a table is there: without them every page of a scan sorts the table.
struct Tuned {
    into: Arc<dyn Restore>,
    dynamo: Arc<EmbeddedDynamo>,
}

#[async_trait]
impl Restore for Tuned {
    async fn open(&self, tables: &[HeldTable]) -> PortResult<Box<dyn Restoring>> {
        Ok(Box::new(TunedRestoring { into: self.into.open(tables).await?, dynamo: Arc::clone(&self.dynamo) }))
    }
}

struct TunedRestoring {
    into: Box<dyn Restoring>,
    dynamo: Arc<EmbeddedDynamo>,
}

#[async_trait]
impl Restoring for TunedRestoring {
    fn found(&self) -> &[FoundTable] {
        self.into.found()
    }

    fn takes_again(&self) -> bool {
        self.into.takes_again()
    }

    async fn make(&mut self, table: &HeldTable) -> PortResult<()> {
        self.into.make(table).await?;
        if let Err(e) = self.dynamo.tune(&[&table.name]) {
            // Slower, and right all the same.
            tracing::warn!(table = table.name, "{e}");
        }
        Ok(())
    }

    async fn write(&mut self, table: &HeldTable, lines: &[u8]) -> PortResult<()> {
        self.into.write(table, lines).await
    }

    async fn written(&mut self, table: &HeldTable) -> PortResult<()> {
        self.into.written(table).await
    }

    async fn page(&mut self, table: &HeldTable, cursor: Option<&Cursor>) -> PortResult<TextPage> {
        self.into.page(table, cursor).await
    }

    async fn keep(self: Box<Self>, tables: &[HeldTable]) -> PortResult<Vec<String>> {
        self.into.keep(tables).await
    }
}
