//! Where the stores and the control plane are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Sink;
use super::section::Section;
use super::{keys, stores};
use crate::domain::plan::{CONTROL, NEW, OLD, Store, StoreKind, Stores, ValueRef, control_called};

/// Where everything is. Secrets are references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Connections {
    /// AWS; absent when the file has no `[aws]`.
    pub aws: Option<Aws>,
    /// The stores that tables go to, by name.
    pub targets: BTreeMap<String, StoreConnection>,
    /// Which of them is home: its lease says who drives.
    pub home: String,
    /// The stores that tables come from, by name. Empty where that is the DynamoDB of `[aws]` alone, called [`OLD`].
    pub sources: BTreeMap<String, StoreConnection>,
    /// Further regions and accounts where switches stand, by the name of the plan's store: `control.eu`.
    pub controls: BTreeMap<String, Aws>,
}

/// Connections as they are kept with every run ([`super::SavedConnections`]): a field that is added later needs
/// `#[serde(default)]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written {
    aws: Option<Aws>,
    /// Home, where that is a PostgreSQL database.
    postgres: Option<Postgres>,
    /// What home is called.
    #[serde(default = "new", skip_serializing_if = "is_new")]
    target: String,
    /// Stores that tables go to, besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    targets: BTreeMap<String, StoreConnection>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sources: BTreeMap<String, StoreConnection>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    controls: BTreeMap<String, Aws>,
}

impl From<Written> for Connections {
    fn from(written: Written) -> Self {
        let Written { aws, postgres, target: home, mut targets, sources, controls } = written;
        targets.extend(postgres.map(|postgres| (home.clone(), StoreConnection::Postgresql(postgres))));
        Self { aws, targets, home, sources, controls }
    }
}

impl From<Connections> for Written {
    fn from(connections: Connections) -> Self {
        let Connections { aws, mut targets, home: target, sources, controls } = connections;
        let postgres = match targets.remove(&target) {
            Some(StoreConnection::Postgresql(postgres)) => Some(postgres),
            Some(other @ StoreConnection::Dynamodb(_)) => {
                targets.insert(target.clone(), other);
                None
            }
            None => None,
        };
        Self { aws, postgres, target, targets, sources, controls }
    }
}

/// How a store is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreConnection {
    /// DynamoDB tables and their streams.
    Dynamodb(Aws),
    /// A PostgreSQL database.
    Postgresql(Postgres),
}

fn new() -> String {
    NEW.to_owned()
}

fn is_new(store: &str) -> bool {
    store == NEW
}

impl Connections {
    /// Who the stores and the control plane are, however they are reached.
    #[must_use]
    pub fn stores(&self) -> Stores {
        let mut stores = Stores::new();
        for (name, store) in self.sources().into_iter().chain(self.targets.clone()) {
            let store = match store {
                StoreConnection::Dynamodb(aws) => aws.tables(),
                StoreConnection::Postgresql(postgres) => postgres.store(),
            };
            stores.insert(name, store);
        }
        stores.extend(self.aws.as_ref().map(|aws| (CONTROL.to_owned(), aws.control())));
        stores.extend(self.controls.iter().map(|(name, aws)| (name.clone(), aws.control())));
        stores
    }

    /// Parameters of Parameter Store that hold passwords of databases.
    #[must_use]
    pub fn password_parameters(&self) -> Vec<String> {
        let all = self.sources.values().chain(self.targets.values()).flat_map(|at| match at {
            StoreConnection::Postgresql(postgres) => postgres.passwords().collect::<Vec<_>>(),
            StoreConnection::Dynamodb(_) => Vec::new(),
        });
        let names = all.filter_map(|password| match password {
            ValueRef::Parameter(name) => Some(name.clone()),
            ValueRef::Literal(_) | ValueRef::Env(_) | ValueRef::File(_) => None,
        });
        names.collect()
    }

    /// Databases that tables go to.
    pub fn databases(&self) -> impl Iterator<Item = &Postgres> {
        self.targets.values().filter_map(|target| match target {
            StoreConnection::Postgresql(postgres) => Some(postgres),
            StoreConnection::Dynamodb(_) => None,
        })
    }

    /// Most connections at once to any of the targets.
    #[must_use]
    pub fn pool(&self) -> usize {
        self.databases().map(|postgres| postgres.pool).min().unwrap_or(POOL as usize)
    }

    /// The stores that tables come from.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<String, StoreConnection> {
        match &self.aws {
            Some(aws) if self.sources.is_empty() => {
                BTreeMap::from([(OLD.to_owned(), StoreConnection::Dynamodb(aws.clone()))])
            }
            _ => self.sources.clone(),
        }
    }
}

/// How AWS is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aws {
    /// Region.
    pub region: String,
    /// Named profile, if any.
    pub profile: Option<String>,
    /// The account that calls must be signed for, if the plan pins one.
    #[serde(default)]
    pub account: Option<String>,
    /// Where credentials come from.
    pub credentials: Credentials,
    /// Endpoints that differ from AWS's own.
    pub endpoints: Endpoints,
}

impl Aws {
    /// Its DynamoDB tables, as a store.
    fn tables(&self) -> Store {
        let ends = &self.endpoints;
        self.store(StoreKind::Dynamodb, &[("dynamodb", &ends.dynamodb), ("streams", &ends.streams)])
    }

    /// Its switches and metrics, as a store.
    fn control(&self) -> Store {
        let ends = &self.endpoints;
        let services = [("ssm", &ends.ssm), ("apigateway", &ends.apigateway), ("cloudwatch", &ends.cloudwatch)];
        self.store(StoreKind::Aws, &services)
    }

    fn store(&self, kind: StoreKind, services: &[(&str, &Option<String>)]) -> Store {
        let named = services.iter().filter_map(|(name, at)| Some(((*name).to_owned(), at.as_ref()?.clone())));
        Store {
            region: Some(self.region.clone()),
            account: self.account.clone(),
            // An account says whose store it is, whatever its profile is called.
            profile: self.profile.clone().filter(|_| self.account.is_none()),
            endpoints: named.collect(),
            ..Store::new(kind)
        }
    }
}

/// Where AWS credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// The usual chain: environment, profile, role.
    Chain,
    /// Fixed keys only an emulator takes; the file then names an endpoint.
    Emulator,
}

/// Endpoint by service; `None` is AWS's own. `endpoint` for all is already filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// DynamoDB.
    pub dynamodb: Option<String>,
    /// DynamoDB Streams.
    pub streams: Option<String>,
    /// Parameter Store.
    pub ssm: Option<String>,
    /// API Gateway.
    pub apigateway: Option<String>,
    /// CloudWatch.
    pub cloudwatch: Option<String>,
    /// The Security Token Service, which is asked whose calls these are.
    #[serde(default)]
    pub sts: Option<String>,
    /// Auto Scaling.
    #[serde(default)]
    pub autoscaling: Option<String>,
    /// RDS.
    #[serde(default)]
    pub rds: Option<String>,
    /// Secrets Manager.
    #[serde(default)]
    pub secretsmanager: Option<String>,
}

/// How a database is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postgres {
    /// Host name, or the folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Where the password is found; never [`ValueRef::Literal`].
    pub password: Option<ValueRef>,
    /// TLS.
    pub sslmode: SslMode,
    /// PEM file with the certificate authority; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Most connections at once.
    pub pool: usize,
    /// How the server of a target reaches this database, where one subscribes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<Subscriber>,
}

/// How the server of a target reaches a database that tables come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// Host name or address, as that server reaches it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User it signs in as.
    pub user: String,
    /// Where the password is found; never [`ValueRef::Literal`]. Absent where that server has it in a file of its own.
    pub password: Option<ValueRef>,
    /// TLS.
    pub sslmode: SslMode,
    /// File with the certificate authority, as that server names it.
    pub ca_file: Option<String>,
}

impl Postgres {
    /// Where passwords are found: its own, and that of its subscriber.
    pub fn passwords(&self) -> impl Iterator<Item = &ValueRef> {
        self.password.iter().chain(self.subscriber.iter().filter_map(|subscriber| subscriber.password.as_ref()))
    }

    /// Stands where a mistake was reported.
    pub(super) fn nowhere() -> Self {
        Self {
            host: String::new(),
            port: 5432,
            database: String::new(),
            user: String::new(),
            password: None,
            sslmode: SslMode::VerifyFull,
            ca_file: None,
            pool: POOL as usize,
            subscriber: None,
        }
    }

    /// Whether both lead to one database of one server, as far as their names tell.
    pub(super) fn is_same_database(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.database) == (&other.host, other.port, &other.database)
    }

    fn store(&self) -> Store {
        Store {
            host: Some(self.host.clone()),
            port: Some(self.port),
            database: Some(self.database.clone()),
            ..Store::new(StoreKind::Postgresql)
        }
    }
}

/// Connections to a database at once, unless the file says otherwise.
const POOL: u32 = 12;

/// TLS to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SslMode {
    /// None.
    Disable,
    /// Encrypted; the server's certificate is not checked.
    Require,
    /// Encrypted; certificate and name are checked.
    VerifyFull,
}

pub(super) fn read(root: &Section<'_>, base: &Path, sink: &mut Sink<'_>) -> Connections {
    let aws = root.has("aws").then(|| aws(&root.table("aws", keys::AWS)));
    let controls = root.map("control", keys::CONTROL).into_iter();
    let controls = controls.map(|(name, at)| (control_called(&name), tables(&at, aws.as_ref()))).collect();
    if root.has("stores") {
        return Connections { controls, ..stores::read(root, aws, base, sink) };
    }
    let target = StoreConnection::Postgresql(postgres(&root.table("postgres", keys::POSTGRES), base));
    Connections { aws, targets: BTreeMap::from([(new(), target)]), home: new(), sources: BTreeMap::new(), controls }
}

pub(super) fn postgres(pg: &Section<'_>, base: &Path) -> Postgres {
    Postgres {
        host: pg.must("host"),
        port: u16::try_from(pg.count("port", 5432)).unwrap_or_default(),
        database: pg.must("database"),
        user: pg.must("user"),
        password: resolve(pg.reference("password"), base),
        sslmode: sslmode(pg),
        ca_file: pg.text("ca_file").map(|f| base.join(f)),
        pool: pg.count("pool", POOL) as usize,
        subscriber: pg.has("subscriber").then(|| subscriber(pg, base)),
    }
}

fn sslmode(section: &Section<'_>) -> SslMode {
    match section.text("sslmode").as_deref() {
        Some("disable") => SslMode::Disable,
        Some("require") => SslMode::Require,
        _ => SslMode::VerifyFull,
    }
}

/// How a target's server reaches this store; what it does not say itself is as the store says.
fn subscriber(pg: &Section<'_>, base: &Path) -> Subscriber {
    let said = pg.table("subscriber", keys::SUBSCRIBER);
    Subscriber {
        host: said.must("host"),
        port: u16::try_from(said.count("port", pg.count("port", 5432))).unwrap_or_default(),
        user: said.text("user").unwrap_or_else(|| pg.must("user")),
        password: resolve(said.reference("password"), base),
        sslmode: sslmode(&said),
        ca_file: said.text("ca_file"),
    }
}

/// A DynamoDB store, or a further control plane: what it does not say is as `[aws]` says.
pub(super) fn tables(store: &Section<'_>, default: Option<&Aws>) -> Aws {
    let said = aws(store);
    let Some(default) = default else { return said };
    let own = ["endpoint", "endpoints"].iter().any(|key| store.has(key));
    Aws {
        region: if store.has("region") { said.region } else { default.region.clone() },
        profile: said.profile.or_else(|| default.profile.clone()),
        account: said.account.or_else(|| default.account.clone()),
        credentials: if store.has("credentials") { said.credentials } else { default.credentials },
        endpoints: if own { said.endpoints } else { default.endpoints.clone() },
    }
}

fn aws(aws: &Section<'_>) -> Aws {
    let all = aws.text("endpoint");
    let own = aws.table("endpoints", keys::ENDPOINTS);
    let of = |name: &str| own.text(name).or_else(|| all.clone());
    Aws {
        region: aws.must("region"),
        profile: aws.text("profile"),
        account: aws.text("account"),
        credentials: match aws.text("credentials").as_deref() {
            Some("emulator") => Credentials::Emulator,
            _ => Credentials::Chain,
        },
        endpoints: Endpoints {
            dynamodb: of("dynamodb"),
            streams: own.text("streams").or_else(|| of("dynamodb")),
            ssm: of("ssm"),
            apigateway: of("apigateway"),
            cloudwatch: of("cloudwatch"),
            sts: of("sts"),
            autoscaling: of("autoscaling"),
            rds: of("rds"),
            secretsmanager: of("secretsmanager"),
        },
    }
}

/// A file reference is relative to the config file.
pub(super) fn resolve(value: Option<ValueRef>, base: &Path) -> Option<ValueRef> {
    value.map(|v| match v {
        ValueRef::File(f) => ValueRef::File(base.join(f).to_string_lossy().into_owned()),
        other => other,
    })
}
