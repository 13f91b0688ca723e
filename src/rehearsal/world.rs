//! A whole rehearsal: stores, control plane, data, shop, and the verdict at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_ssm::types::ParameterType;

use super::clients::{self, session};
use super::control::ControlPlane;
use super::dynamo::EmbeddedDynamo;
use super::error::{RehearsalError, RehearsalResult};
use super::fault::Faults;
use super::oracle::{Comparison, Oracle, Side, WriteCounts};
use super::records::{Kind, table_name};
use super::seed::{self, Dataset, Sizes};
use super::shop::{ALIAS_VARIABLE, Names, Rates, Settings, Shop, ShopOptions, read_settings};
use crate::domain::secret::Secret;

/// The parameter that holds the new side's connection, for the plan to refer to.
pub const NEW_SECRET: &str = "/cloudshelf/prod/db/secret-v2";
/// What the secret says before the migration: the old code needs no database.
const OLD_SECRET: &str = "none";
/// The key that SecureStrings of the day are encrypted with, as most companies have one of their own.
pub const SECRETS_KEY: &str = "alias/cloudshelf";
/// Most keys that a verdict lists.
const LISTED: usize = 20;

/// Where PostgreSQL answers.
#[derive(Clone, Debug)]
pub struct PgAddress {
    /// Host name, or the folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Password, when the server wants one.
    pub password: Option<Secret>,
}

impl PgAddress {
    /// The connection text of this address.
    pub fn connection(&self) -> Secret {
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut text = format!(
            "host={} port={} user={} dbname={} connect_timeout=3 application_name=cloudshelf",
            quoted(&self.host),
            self.port,
            quoted(&self.user),
            quoted(&self.database)
        );
        if let Some(password) = &self.password {
            text.push_str(&format!(" password={}", quoted(password.reveal())));
        }
        Secret::new(text)
    }
}

/// How a rehearsal is set up.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Seed of data and traffic.
    pub seed: u64,
    /// Records to begin with.
    pub sizes: Sizes,
    /// Whether a few rows do not fit the target.
    pub awkward: bool,
    /// The new side. It is not touched before the parameters name it.
    pub pg: PgAddress,
    /// The shop's traffic.
    pub rates: Rates,
    /// The shop's pause between two readings of its parameters.
    pub poll: Duration,
    /// Faults; the caller reports steps to them.
    pub faults: Faults,
    /// A DynamoDB to use instead of the embedded one. It must not have the shop's tables yet.
    pub dynamo_endpoint: Option<String>,
    /// A control plane to use instead of the stand-in. Faults of the control plane have no effect there.
    pub control_endpoint: Option<String>,
}

impl WorldOptions {
    /// The usual rehearsal against this PostgreSQL.
    #[must_use]
    pub fn new(pg: PgAddress) -> Self {
        Self {
            seed: 7,
            sizes: Sizes::default(),
            awkward: true,
            pg,
            rates: Rates::default(),
            poll: Duration::from_millis(500),
            faults: Faults::none(),
            dynamo_endpoint: None,
            control_endpoint: None,
        }
    }
}

/// A running rehearsal. Dropping it stops everything it started and removes its files.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the shop before what it uses.
    shop: Shop,
    _control: Option<ControlPlane>,
    dynamo: Option<EmbeddedDynamo>,
    dynamo_endpoint: String,
    control_endpoint: String,
    names: Names,
    pg: PgAddress,
    faults: Faults,
    data: (String, usize),
}

impl World {
    /// Starts stores and control plane, seeds them, and opens the shop.
    pub async fn start(options: WorldOptions) -> RehearsalResult<Self> {
        let generate = (options.sizes, options.seed, options.awkward);
        let data = tokio::task::spawn_blocking(move || Dataset::generate(generate.0, generate.1, generate.2));
        let (dynamo, dynamo_endpoint) = match &options.dynamo_endpoint {
            Some(endpoint) => (None, endpoint.clone()),
            None => {
                let started = tokio::task::spawn_blocking(|| EmbeddedDynamo::start(&EmbeddedDynamo::place())).await;
                let started = started.map_err(|e| RehearsalError::new("start", "the embedded DynamoDB", e))??;
                let endpoint = started.endpoint().to_owned();
                (Some(started), endpoint)
            }
        };
        let client = aws_sdk_dynamodb::Client::new(&session(&dynamo_endpoint, 5));
        seed::create_tables(&client).await?;
        let data = data.await.map_err(|e| RehearsalError::new("generate", "the shop's data", e))?;
        match &dynamo {
            Some(embedded) => {
                embedded.tune(&Kind::ALL.map(table_name))?;
                seed::import(embedded, &data).await?;
            }
            None => seed::write_items(&client, &data).await?,
        }
        let (control, control_endpoint, names) = Self::control(&options).await?;
        let shop = ShopOptions {
            dynamo_endpoint: dynamo_endpoint.clone(),
            control_endpoint: control_endpoint.clone(),
            names: names.clone(),
            poll: options.poll,
            rates: options.rates,
            seed: options.seed,
            faults: options.faults.clone(),
        };
        let shop = Shop::start(shop, Oracle::new(&data)).await?;
        Ok(Self {
            shop,
            _control: control,
            dynamo,
            dynamo_endpoint,
            control_endpoint,
            names,
            pg: options.pg,
            faults: options.faults,
            data: (data.digest(), data.records.len()),
        })
    }

    /// The control plane with everything on the old side.
    async fn control(options: &WorldOptions) -> RehearsalResult<(Option<ControlPlane>, String, Names)> {
        let mut names = Names::default();
        let (control, endpoint) = match &options.control_endpoint {
            Some(endpoint) => (None, endpoint.clone()),
            None => {
                let control = ControlPlane::start(options.faults.clone()).await?;
                control.put_stage(&names.api, &names.stage, &[(ALIAS_VARIABLE, "blue")]);
                let endpoint = control.endpoint().to_owned();
                (Some(control), endpoint)
            }
        };
        if control.is_none() {
            names.api = create_api(&endpoint, &names.stage).await?;
        }
        let ssm = aws_sdk_ssm::Client::new(&session(&endpoint, 3));
        let new_secret = options.pg.connection();
        for (name, value, kind) in [
            (names.reads.as_str(), "dynamodb", ParameterType::String),
            (&names.writes, "dynamodb", ParameterType::String),
            (&names.mode, "open", ParameterType::String),
            (&names.secret, OLD_SECRET, ParameterType::SecureString),
            (NEW_SECRET, new_secret.reveal(), ParameterType::SecureString),
        ] {
            let key = (kind == ParameterType::SecureString).then(|| SECRETS_KEY.to_owned());
            let put = ssm.put_parameter().name(name).value(value).r#type(kind).set_key_id(key).overwrite(true);
            put.send().await.map_err(|e| RehearsalError::caused("seed parameter", name, &e))?;
        }
        Ok((control, endpoint, names))
    }

    /// Names and values for a configuration that points at this world. Holds no secret: `NEW_SECRET` is the name
    /// of a parameter.
    #[must_use]
    pub fn vars(&self) -> BTreeMap<String, String> {
        [
            ("AWS_ENDPOINT", self.dynamo_endpoint.clone()),
            ("CONTROL_ENDPOINT", self.control_endpoint.clone()),
            ("AWS_REGION", clients::REGION.to_owned()),
            ("PG_HOST", self.pg.host.clone()),
            ("PG_PORT", self.pg.port.to_string()),
            ("PG_USER", self.pg.user.clone()),
            ("PG_DATABASE", self.pg.database.clone()),
            ("SHOP_URL", self.shop.url().to_owned()),
            ("NEW_SECRET", NEW_SECRET.to_owned()),
            ("REST_API", self.names.api.clone()),
            ("REST_STAGE", self.names.stage.clone()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }

    /// The shop.
    #[must_use]
    pub const fn shop(&self) -> &Shop {
        &self.shop
    }

    /// The faults, to which steps are reported.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A digest of the seeded data and how many records it has.
    #[must_use]
    pub fn data(&self) -> (&str, usize) {
        (&self.data.0, self.data.1)
    }

    /// Ends all writing, waits for what was in flight, and compares the side in charge with the oracle. Which side that
    /// is, the parameters say; they are read afresh. Call it when the console has ended.
    pub async fn verdict(&self) -> RehearsalResult<OracleReport> {
        self.shop.quiesce().await?;
        let settings: Settings = read_settings(&self.control_endpoint, self.names.clone()).await?;
        let in_charge = settings.writes_to();
        let oracle = self.shop.oracle();
        let dynamo = aws_sdk_dynamodb::Client::new(&session(&self.dynamo_endpoint, 5));
        let comparison = match in_charge {
            Side::Old => oracle.compare_old(&dynamo, &Kind::ALL).await?,
            Side::New => {
                let mut comparison = self.compare_new(oracle).await?;
                // Carts live on the old side whatever happens.
                comparison.add(oracle.compare_old(&dynamo, &[Kind::Cart]).await?);
                comparison
            }
        };
        let frozen = settings.frozen;
        Ok(OracleReport { in_charge, frozen, comparison, tally: oracle.tally() })
    }

    async fn compare_new(&self, oracle: &Oracle) -> RehearsalResult<Comparison> {
        let on = format!("PostgreSQL at {}:{}", self.pg.host, self.pg.port);
        let connection = self.pg.connection();
        let connected = tokio_postgres::connect(connection.reveal(), tokio_postgres::NoTls).await;
        let (client, driver) = connected.map_err(|e| RehearsalError::caused("connect to", on, &e))?;
        let driver = tokio::spawn(driver);
        let found = oracle.compare_new(&client, &Kind::MOVING).await;
        driver.abort();
        found
    }

    /// Stops everything and removes every file, off the async threads.
    pub async fn stop(self) {
        let Self { shop, _control, dynamo, .. } = self;
        drop(shop);
        drop(_control);
        let _ = tokio::task::spawn_blocking(move || drop(dynamo)).await;
    }
}

/// An API with a stage in a control plane that is not ours. Gives the API's id.
pub(crate) async fn create_api(endpoint: &str, stage: &str) -> RehearsalResult<String> {
    let failed = |e: &(dyn std::error::Error + 'static)| RehearsalError::caused("create", "the shop's API", e);
    let gateway = aws_sdk_apigateway::Client::new(&session(endpoint, 3));
    let api = gateway.create_rest_api().name("cloudshelf").send().await.map_err(|e| failed(&e))?;
    let id = api.id().unwrap_or_default().to_owned();
    let parent = gateway.get_resources().rest_api_id(&id).send().await.map_err(|e| failed(&e))?;
    let root = parent.items().first().and_then(|r| r.id()).unwrap_or_default();
    // A deployment needs a method, and a method something behind it.
    let method = gateway.put_method().rest_api_id(&id).resource_id(root).http_method("GET").authorization_type("NONE");
    method.send().await.map_err(|e| failed(&e))?;
    let behind = gateway.put_integration().rest_api_id(&id).resource_id(root).http_method("GET");
    let behind = behind.r#type(aws_sdk_apigateway::types::IntegrationType::Mock);
    behind.send().await.map_err(|e| failed(&e))?;
    let deploy = gateway.create_deployment().rest_api_id(&id).send().await.map_err(|e| failed(&e))?;
    gateway
        .create_stage()
        .rest_api_id(&id)
        .stage_name(stage)
        .deployment_id(deploy.id().unwrap_or_default())
        .variables(ALIAS_VARIABLE, "blue")
        .send()
        .await
        .map_err(|e| failed(&e))?;
    Ok(id)
}

/// What a rehearsal ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OracleReport {
    /// The side that the parameters name for writes.
    pub in_charge: Side,
    /// Whether writes are still frozen.
    pub frozen: bool,
    /// What was found there.
    pub comparison: Comparison,
    /// Writes over the whole rehearsal.
    pub tally: WriteCounts,
}

impl OracleReport {
    /// Whether the side in charge holds every acknowledged write and nothing else.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.comparison.clean()
    }
}

impl fmt::Display for OracleReport {
    /// Begins with `0 lost` when, and only when, nothing was lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.comparison;
        let side = match self.in_charge {
            Side::Old => "old side (DynamoDB)",
            Side::New => "new side (PostgreSQL)",
        };
        if c.clean() {
            writeln!(f, "0 lost: {} keys checked on the {side}", c.checked)?;
        } else {
            writeln!(
                f,
                "LOST: {} of {} keys on the {side} do not hold their last acknowledged write \
                 ({} missing, {} differing, {} that should not be there)",
                c.wrong(),
                c.checked,
                c.lost.len(),
                c.differing.len(),
                c.extra.len()
            )?;
            for finding in c.findings().take(LISTED) {
                writeln!(f, "  {finding}")?;
            }
            if c.wrong() > LISTED {
                writeln!(f, "  and {} more", c.wrong() - LISTED)?;
            }
            if self.in_charge == Side::Old && c.new_side_writes_lost() > 0 {
                writeln!(f, "  {} writes of the new side did not come back", c.new_side_writes_lost())?;
            }
        }
        let t = &self.tally;
        write!(
            f,
            "{} writes acknowledged ({} old side, {} new side), {} refused while frozen, {} failed, {} unknown",
            t.old + t.new,
            t.old,
            t.new,
            t.frozen,
            t.refused,
            t.unknown
        )?;
        if self.in_charge == Side::New {
            write!(f, "; {} rows that cannot be carried stayed behind", c.parked)?;
        }
        if c.untold > 0 {
            write!(
                f,
                "; on {} keys a value that stood there already was written while a newer one was on its way",
                c.untold
            )?;
        }
        if c.set_back > 0 {
            write!(
                f,
                "; {} keys were set back after a carried change that a dead carrier had not cleared",
                c.set_back
            )?;
        }
        if self.frozen {
            f.write_str("; writes are still frozen")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::rehearsal) mod tests_support;
