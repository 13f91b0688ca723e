//! Which stores and which control plane a plan is for: who they are, not how they are reached.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The store customers leave.
pub const OLD: &str = "old";
/// The store customers move to.
pub const NEW: &str = "new";
/// Where switches stand and metrics are read.
pub const CONTROL: &str = "control";

/// What the store of a further control plane is called, in another region or account: `control.eu`. Other stores have no
/// dot in their name.
#[must_use]
pub fn control_called(name: &str) -> String {
    format!("{CONTROL}.{name}")
}

/// What a further control plane is called in the config; `None` for [`CONTROL`] itself and for what is none.
#[must_use]
pub fn other_control(store: &str) -> Option<&str> {
    store.strip_prefix(CONTROL)?.strip_prefix('.')
}

/// The stores of a plan by name: [`OLD`], [`NEW`] and [`CONTROL`].
pub type Stores = BTreeMap<String, Store>;

/// What a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// DynamoDB tables and their streams.
    Dynamodb,
    /// A PostgreSQL database.
    Postgresql,
    /// The AWS control plane: Parameter Store, API Gateway, CloudWatch.
    Aws,
}

impl StoreKind {
    /// How long a change is kept at the source at least, in milliseconds; `None` for as long as it takes.
    #[must_use]
    pub const fn keeps_ms(self) -> Option<i64> {
        match self {
            Self::Dynamodb => Some(24 * 3_600_000),
            Self::Postgresql | Self::Aws => None,
        }
    }

    /// Whether values are those of typed columns: they say themselves how they were written.
    #[must_use]
    pub const fn of_columns(self) -> bool {
        match self {
            Self::Postgresql => true,
            Self::Dynamodb | Self::Aws => false,
        }
    }

    /// Whether a marker is a row of a table; elsewhere it goes through the log by itself.
    #[must_use]
    pub const fn markers_are_rows(self) -> bool {
        match self {
            Self::Dynamodb => true,
            Self::Postgresql | Self::Aws => false,
        }
    }

    /// Where our bookkeeping stands in such a store.
    #[must_use]
    pub const fn bookkeeping(self) -> &'static str {
        match self {
            Self::Postgresql => "schema cutover",
            Self::Dynamodb | Self::Aws => "table cutover-bookkeeping",
        }
    }

    /// Whether reads and writes cost units that are limited and paid for.
    #[must_use]
    pub const fn sells_units(self) -> bool {
        match self {
            Self::Dynamodb => true,
            Self::Postgresql | Self::Aws => false,
        }
    }

    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dynamodb => "DynamoDB",
            Self::Postgresql => "PostgreSQL",
            Self::Aws => "AWS control plane",
        }
    }
}

/// The identity of one store. Two stores are the same when all of it is equal; how they are reached (user, password,
/// TLS, pool) may change under a run. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// What it is.
    pub kind: StoreKind,
    /// AWS region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The AWS account that owns it, where the plan pins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The named profile, where no account is pinned: then it is all that says whose store it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Host name, or the folder of a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Endpoints that differ from AWS's own, by service: `dynamodb`, `streams`, `ssm`, `apigateway`, `cloudwatch`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, String>,
}

impl Store {
    /// Whether both may be the DynamoDB tables of one account in one region: then a name means the same table in both.
    #[must_use]
    pub fn may_be_tables_of(&self, other: &Self) -> bool {
        let differ = self.account.is_some() && other.account.is_some() && self.account != other.account;
        self.kind == StoreKind::Dynamodb
            && self.kind == other.kind
            && self.region == other.region
            && self.endpoints.get("dynamodb") == other.endpoints.get("dynamodb")
            && !differ
    }

    /// A store of this kind of which nothing else is known.
    #[must_use]
    pub const fn new(kind: StoreKind) -> Self {
        Self {
            kind,
            region: None,
            account: None,
            profile: None,
            host: None,
            port: None,
            database: None,
            endpoints: BTreeMap::new(),
        }
    }
}

/// `PostgreSQL, database shop, host db-1, port 5432`.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, region, account, profile, host, port, database, endpoints } = self;
        f.write_str(kind.name())?;
        let port = port.map(|p| p.to_string());
        let parts = [
            ("account", account),
            ("profile", profile),
            ("region", region),
            ("database", database),
            ("host", host),
            ("port", &port),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        for (service, endpoint) in endpoints {
            write!(f, ", {service} at {endpoint}")?;
        }
        Ok(())
    }
}

/// Where two plans are not for the same stores: each store by name, with what it was and what it is now. Empty when the
/// stores are the same.
#[must_use]
pub fn store_changes(was: &Stores, now: &Stores) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let said = |store: Option<&Store>| store.map_or_else(|| "not named".to_owned(), ToString::to_string);
    names
        .into_iter()
        .map(|name| (name, was.get(name), now.get(name)))
        .filter(|(_, was, now)| was != now)
        .map(|(name, was, now)| format!("the `{name}` store was {}; now it is {}", said(was), said(now)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_store_is_named_with_what_it_was_and_what_it_is() {
        let pg = Store {
            host: Some("db-1".into()),
            port: Some(5432),
            database: Some("shop".into()),
            ..Store::new(StoreKind::Postgresql)
        };
        let control = Store {
            region: Some("eu-west-1".into()),
            endpoints: [("ssm".to_owned(), "http://127.0.0.1:1".to_owned())].into(),
            ..Store::new(StoreKind::Aws)
        };
        let was: Stores = [(NEW.to_owned(), pg.clone()), (CONTROL.to_owned(), control.clone())].into();
        assert!(store_changes(&was, &was).is_empty());
        let moved = Store { database: Some("shop2".into()), ..pg };
        let now: Stores = [(NEW.to_owned(), moved)].into();
        assert_eq!(
            store_changes(&was, &now),
            [
                "the `control` store was AWS control plane, region eu-west-1, ssm at http://127.0.0.1:1; now it is not \
                 named",
                "the `new` store was PostgreSQL, database shop, host db-1, port 5432; now it is PostgreSQL, database \
                 shop2, host db-1, port 5432",
            ]
        );
    }
}
