//! The private PostgreSQL servers that a scenario needs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::payments::PaymentSizes;
use super::scenario::Scenario;
use super::seed::Sizes;
use super::world::{PgAddress, WorldOptions};
use crate::private::postgres::{PostgresOptions, PrivatePostgres, PrivatePostgresError};
use crate::private::{RehearsalError, RehearsalResult};

/// How many records a scenario begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amounts {
    /// Of the shop.
    Cloudshelf(Sizes),
    /// Of the payments application.
    V1ToV2(PaymentSizes),
    /// Of the shop whose reads go over share by share.
    AuroraGradual(Sizes),
}

impl Amounts {
    /// As somebody asked for them.
    ///
    /// # Errors
    /// In words: they are not the numbers that this scenario takes.
    pub fn parse(scenario: Scenario, text: &str) -> Result<Self, String> {
        match scenario {
            Scenario::Cloudshelf => text.parse().map(Self::Cloudshelf).map_err(|e| format!("{e}")),
            Scenario::V1ToV2 => text.parse().map(Self::V1ToV2).map_err(|e| format!("{e}")),
            Scenario::AuroraGradual => text.parse().map(Self::AuroraGradual).map_err(|e| format!("{e}")),
        }
    }

    /// As many as make a good rehearsal.
    #[must_use]
    pub fn usual(scenario: Scenario) -> Self {
        match scenario {
            Scenario::Cloudshelf => Self::Cloudshelf(Sizes::default()),
            Scenario::V1ToV2 => Self::V1ToV2(PaymentSizes::default()),
            Scenario::AuroraGradual => Self::AuroraGradual(Sizes::default()),
        }
    }

    /// As many as make a short day of a soak.
    #[must_use]
    pub const fn few(scenario: Scenario) -> Self {
        const SHOP: Sizes = Sizes { books: 1_000, users: 200, orders: 500, carts: 50 };
        match scenario {
            Scenario::Cloudshelf => Self::Cloudshelf(SHOP),
            Scenario::V1ToV2 => Self::V1ToV2(PaymentSizes { accounts: 300, payments: 900, sessions: 200, limits: 150 }),
            Scenario::AuroraGradual => Self::AuroraGradual(SHOP),
        }
    }

    /// The scenario they are of.
    #[must_use]
    pub const fn scenario(self) -> Scenario {
        match self {
            Self::Cloudshelf(_) => Scenario::Cloudshelf,
            Self::V1ToV2(_) => Scenario::V1ToV2,
            Self::AuroraGradual(_) => Scenario::AuroraGradual,
        }
    }
}

/// The servers of one scenario. Dropping them stops them and removes their files.
#[derive(Debug)]
pub enum Servers {
    /// One: the new side of the shop.
    Cloudshelf {
        /// Where books, users and orders go.
        new: PrivatePostgres,
        /// What the day begins with.
        sizes: Sizes,
        /// Whether its reads go over share by share.
        read_share: bool,
    },
    /// Two: both sides of the payments application.
    V1ToV2 {
        /// Where payments come from: the oldest version on this machine.
        v1: PrivatePostgres,
        /// Where they go: the newest.
        v2: PrivatePostgres,
        /// What the day begins with.
        sizes: PaymentSizes,
    },
}

impl Servers {
    /// Starts them. Blocks for some seconds; `announce` is called before binaries are fetched.
    ///
    /// # Errors
    /// There are no binaries, or a server does not come up; nothing is left behind then.
    pub fn start(amounts: Amounts, announce: impl Fn(&str)) -> Result<Self, PrivatePostgresError> {
        let options = PostgresOptions::default();
        Ok(match amounts {
            Amounts::Cloudshelf(sizes) | Amounts::AuroraGradual(sizes) => Self::Cloudshelf {
                new: PrivatePostgres::start(&options, announce)?,
                sizes,
                read_share: amounts.scenario() == Scenario::AuroraGradual,
            },
            Amounts::V1ToV2(sizes) => Self::V1ToV2 {
                v1: PrivatePostgres::start_oldest(&options, &announce)?,
                v2: PrivatePostgres::start(&options, announce)?,
                sizes,
            },
        })
    }

    /// The usual rehearsal on these servers.
    #[must_use]
    pub fn options(&self) -> WorldOptions {
        match self {
            Self::Cloudshelf { new, sizes, read_share } => {
                WorldOptions { sizes: *sizes, read_share: *read_share, ..WorldOptions::new(address(new, None)) }
            }
            Self::V1ToV2 { v1, v2, sizes } => WorldOptions {
                two_regions: true,
                ..WorldOptions::payments(address(v1, None), address(v2, None), *sizes)
            },
        }
    }

    /// The same in databases of this name, which are made: one day of several.
    ///
    /// # Errors
    /// A server makes no database.
    pub async fn fresh(&self, database: &str) -> RehearsalResult<WorldOptions> {
        Ok(match self {
            Self::Cloudshelf { new, sizes, read_share } => {
                create_database(new, database).await?;
                let address = address(new, Some(database));
                WorldOptions { sizes: *sizes, read_share: *read_share, ..WorldOptions::new(address) }
            }
            Self::V1ToV2 { v1, v2, sizes } => {
                forget(v1).await?;
                create_database(v1, database).await?;
                create_database(v2, database).await?;
                let (v1, v2) = (address(v1, Some(database)), address(v2, Some(database)));
                WorldOptions { two_regions: true, ..WorldOptions::payments(v1, v2, *sizes) }
            }
        })
    }

    /// Writes the servers' passwords into files of this folder that only we can read; gives the variables of the plan
    /// that name them. Without a folder each lies beside its server and goes with it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn passwords(&self, folder: Option<&Path>) -> RehearsalResult<BTreeMap<String, String>> {
        let servers: &[(&str, &PrivatePostgres)] = match self {
            Self::Cloudshelf { new, .. } => &[("PG_PASSWORD_FILE", new)],
            Self::V1ToV2 { v1, v2, .. } => &[("V1_PASSWORD_FILE", v1), ("V2_PASSWORD_FILE", v2)],
        };
        let mut files = BTreeMap::new();
        for (name, server) in servers {
            let path = match folder {
                Some(folder) => folder.join(name.to_lowercase()),
                None => server.directory().join("console-password"),
            };
            private(&path, server.password.reveal())
                .map_err(|e| RehearsalError::new("write", path.display().to_string(), e))?;
            files.insert((*name).to_owned(), path.to_string_lossy().into_owned());
        }
        Ok(files)
    }
}

/// A new file that only we can read.
///
/// # Errors
/// It is there already, or cannot be written.
pub fn private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn address(server: &PrivatePostgres, database: Option<&str>) -> PgAddress {
    PgAddress {
        host: server.host.clone(),
        port: server.port,
        user: server.user.clone(),
        database: database.unwrap_or(&server.database).to_owned(),
        password: Some(server.password.clone()),
    }
}

/// Runs a statement as the server's own user.
async fn run(server: &PrivatePostgres, tried: &'static str, on: &str, statement: &str) -> RehearsalResult<()> {
    let failed = |e: tokio_postgres::Error| RehearsalError::caused(tried, on, &e);
    let mut config = tokio_postgres::Config::new();
    config.host(&server.host).port(server.port).user(&server.user).dbname(&server.database);
    config.password(server.password.reveal());
    let (client, driver) = config.connect(tokio_postgres::NoTls).await.map_err(failed)?;
    let driver = tokio::spawn(driver);
    let ran = client.batch_execute(statement).await;
    driver.abort();
    ran.map_err(failed)
}

/// Makes a database of this name, which is no keyword.
///
/// # Errors
/// There is one, or the server does not answer.
pub async fn create_database(server: &PrivatePostgres, database: &str) -> RehearsalResult<()> {
    run(server, "create database", database, &format!("CREATE DATABASE {database}")).await
}

/// Drops slots of days that are over: a day whose console was killed leaves its own, and a server has room for ten.
async fn forget(server: &PrivatePostgres) -> RehearsalResult<()> {
    let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
    run(server, "drop the slots of", "earlier days", slots).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_day_has_databases_of_its_own_and_begins_without_the_slots_of_earlier_ones() {
        let amounts = Amounts::V1ToV2(PaymentSizes { accounts: 1, payments: 1, sessions: 1, limits: 1 });
        let servers = tokio::task::spawn_blocking(move || Servers::start(amounts, |_| {})).await.unwrap().unwrap();
        let Servers::V1ToV2 { v1, .. } = &servers else { panic!("servers of another scenario") };
        servers.fresh("first").await.unwrap();
        let slot = "SELECT pg_create_logical_replication_slot('left', 'pgoutput')";
        run(v1, "make", "a slot", slot).await.unwrap();
        servers.fresh("second").await.unwrap();
        // Its name is free again.
        run(v1, "make", "a slot", slot).await.unwrap();
        assert!(servers.fresh("second").await.is_err(), "a database of that name is there");

        let folder = tempfile::tempdir().unwrap();
        let files = servers.passwords(Some(folder.path())).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["V1_PASSWORD_FILE", "V2_PASSWORD_FILE"]);
        assert_eq!(std::fs::read_to_string(&files["V1_PASSWORD_FILE"]).unwrap(), v1.password.reveal());
    }
}
