//! A whole rehearsal: stores, control plane, data, application, and the verdict at its end.

mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ssm::types::ParameterType;

use super::control::ControlPlane;
use super::fault::Faults;
use super::oracle::{Comparison, Oracle, Side};
use super::payments::{self, PaymentPlaces, PaymentSizes, PaymentStore};
use super::records::{Kind, table_name};
use super::scenario::Scenario;
use super::seed::{self, Dataset, Sizes};
use super::shop::{
    ALIAS_VARIABLE, Names, NewSides, OldSide, Places, Rates, Region, Settings, Shop, ShopOptions, Store, read_settings,
};
use crate::domain::secret::Secret;
use crate::private::clients::{self, session};
use crate::private::dynamo::EmbeddedDynamo;
use crate::private::{RehearsalError, RehearsalResult};
pub use report::{OracleReport, StoreFound};

/// The parameter that holds the new side's connection, for the plan to refer to.
pub const NEW_SECRET: &str = "/cloudshelf/prod/db/secret-v2";
/// What the secret says before the migration: the old code needs no database.
const OLD_SECRET: &str = "none";
/// The second region, where there are two.
pub const EU: &str = "eu-west-1";
/// The key that SecureStrings of the day are encrypted with, as most companies have one of their own.
pub const SECRETS_KEY: &str = "alias/cloudshelf";

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
            "host={} port={} user={} dbname={} connect_timeout=3 application_name=application",
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

/// Which day it is, with what it needs besides.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The shop: its old side is DynamoDB.
    Cloudshelf,
    /// The payments application.
    V1ToV2 {
        /// The old side: an empty database.
        v1: PgAddress,
        /// Records to begin with.
        sizes: PaymentSizes,
    },
}

impl Setting {
    /// The scenario.
    #[must_use]
    pub const fn scenario(&self) -> Scenario {
        match self {
            Self::Cloudshelf => Scenario::Cloudshelf,
            Self::V1ToV2 { .. } => Scenario::V1ToV2,
        }
    }
}

/// How a rehearsal is set up.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Which day it is.
    pub setting: Setting,
    /// Seed of data and traffic.
    pub seed: u64,
    /// Records of the shop to begin with.
    pub sizes: Sizes,
    /// Whether a few rows of the shop do not fit the target.
    pub awkward: bool,
    /// The new side. It is not touched before the parameters name it.
    pub pg: PgAddress,
    /// The application's traffic.
    pub rates: Rates,
    /// The application's pause between two readings of its parameters.
    pub poll: Duration,
    /// Whether the payments application runs in two regions, in each as the instances of an Auto Scaling group.
    pub two_regions: bool,
    /// Whether the shop's reads go over share by share: a parameter says how many percent the new side serves.
    pub read_share: bool,
    /// Faults; the caller reports steps to them.
    pub faults: Faults,
    /// A DynamoDB to use instead of the embedded one. It must not have the application's tables yet.
    pub dynamo_endpoint: Option<String>,
    /// A control plane to use instead of the stand-in. Faults of the control plane have no effect there.
    pub control_endpoint: Option<String>,
}

impl WorldOptions {
    /// The usual rehearsal of the shop against this PostgreSQL.
    #[must_use]
    pub fn new(pg: PgAddress) -> Self {
        Self {
            setting: Setting::Cloudshelf,
            seed: 7,
            sizes: Sizes::default(),
            awkward: true,
            pg,
            rates: Rates::default(),
            poll: Duration::from_millis(500),
            two_regions: false,
            read_share: false,
            faults: Faults::none(),
            dynamo_endpoint: None,
            control_endpoint: None,
        }
    }

    /// The usual rehearsal of the payments application, from one database to another.
    #[must_use]
    pub fn payments(v1: PgAddress, v2: PgAddress, sizes: PaymentSizes) -> Self {
        Self { setting: Setting::V1ToV2 { v1, sizes }, ..Self::new(v2) }
    }
}

/// A running rehearsal. Dropping it stops everything it started and removes its files.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the application before what it uses.
    shop: Shop,
    controls: Vec<ControlPlane>,
    dynamo: Option<EmbeddedDynamo>,
    /// Where DynamoDB answers.
    dynamo_endpoint: String,
    /// Where the application runs; the control plane of the first is the plan's own.
    regions: Vec<Region>,
    places: Places,
    old: Arc<dyn Store>,
    new: Arc<dyn Store>,
    pg: PgAddress,
    faults: Faults,
    data: (String, usize),
}

/// The stores of a day, filled.
struct Stores {
    dynamo: Option<EmbeddedDynamo>,
    dynamo_endpoint: String,
    old: Arc<dyn Store>,
    new: Arc<dyn Store>,
    data: Dataset,
}

impl World {
    /// Starts stores and control plane, seeds them, and opens the application.
    pub async fn start(options: WorldOptions) -> RehearsalResult<Self> {
        let stores = match &options.setting {
            Setting::Cloudshelf => shelves(&options).await?,
            Setting::V1ToV2 { v1, sizes } => ledgers(&options, v1, *sizes).await?,
        };
        let (controls, regions, places) = Self::control(&options).await?;
        let shop = ShopOptions {
            scenario: options.setting.scenario(),
            old: Arc::clone(&stores.old),
            new: Arc::clone(&stores.new),
            regions: regions.clone(),
            places: places.clone(),
            poll: options.poll,
            rates: options.rates,
            seed: options.seed,
            faults: options.faults.clone(),
        };
        let shop = Shop::start(shop, Oracle::new(&stores.data)).await?;
        Ok(Self {
            shop,
            controls,
            dynamo: stores.dynamo,
            dynamo_endpoint: stores.dynamo_endpoint,
            regions,
            places,
            old: stores.old,
            new: stores.new,
            pg: options.pg,
            faults: options.faults,
            data: (stores.data.digest(), stores.data.records.len()),
        })
    }

    /// The control plane of each region, with everything on the old side.
    async fn control(options: &WorldOptions) -> RehearsalResult<(Vec<ControlPlane>, Vec<Region>, Places)> {
        let mut controls = Vec::new();
        let mut regions = Vec::new();
        for name in [clients::REGION, EU].into_iter().take(1 + usize::from(options.two_regions)) {
            let endpoint = match &options.control_endpoint {
                Some(endpoint) => endpoint.clone(),
                None => {
                    let control = ControlPlane::start(options.faults.clone()).await?;
                    let endpoint = control.endpoint().to_owned();
                    if options.two_regions {
                        control.put_group(payments::GROUP);
                        let replica = name != clients::REGION;
                        control.put_cluster(if replica { payments::REPLICA_CLUSTER } else { payments::OLD_CLUSTER });
                        control.put_secret(payments::OLD_PASSWORD);
                    }
                    controls.push(control);
                    endpoint
                }
            };
            let group = options.two_regions.then(|| payments::GROUP.to_owned());
            regions.push(Region { endpoint, name: name.to_owned(), group });
        }
        let home = regions.first().map(|region| region.endpoint.clone()).unwrap_or_default();
        let places = match &options.setting {
            Setting::Cloudshelf => Places::Shop(Self::shop_parameters(options, controls.first(), &home).await?),
            Setting::V1ToV2 { v1, .. } => {
                for region in &regions {
                    let ssm = aws_sdk_ssm::Client::new(&clients::session_in(&region.endpoint, &region.name, 3));
                    payment_parameters(&ssm, v1, &options.pg).await?;
                }
                Places::Payments(PaymentPlaces { v1: v1.clone(), v2: options.pg.clone() })
            }
        };
        Ok((controls, regions, places))
    }

    async fn shop_parameters(
        options: &WorldOptions,
        control: Option<&ControlPlane>,
        endpoint: &str,
    ) -> RehearsalResult<Names> {
        let ssm = aws_sdk_ssm::Client::new(&session(endpoint, 3));
        let mut names = Names::default();
        match control {
            Some(control) => control.put_stage(&names.api, &names.stage, &[(ALIAS_VARIABLE, "blue")]),
            None => names.api = create_api(endpoint, &names.stage).await?,
        }
        put(&ssm, &names.reads, "dynamodb", false).await?;
        if options.read_share {
            put(&ssm, &names.share, "0", false).await?;
        } else if control.is_none() {
            // Another day on the same emulator may have left it there, and where it is it decides; none is well.
            let _ = ssm.delete_parameter().name(&names.share).send().await;
        }
        put(&ssm, &names.writes, "dynamodb", false).await?;
        put(&ssm, &names.mode, "open", false).await?;
        put(&ssm, &names.secret, OLD_SECRET, true).await?;
        put(&ssm, NEW_SECRET, options.pg.connection().reveal(), true).await?;
        Ok(names)
    }

    /// Names and values for a configuration that points at this world. Holds no secret: `NEW_SECRET` is the name
    /// of a parameter.
    #[must_use]
    pub fn vars(&self) -> BTreeMap<String, String> {
        let mut vars: BTreeMap<String, String> = BTreeMap::new();
        let mut add = |name: &str, value: &str| vars.insert(name.to_owned(), value.to_owned());
        for (name, region) in ["CONTROL_ENDPOINT", "EU_CONTROL_ENDPOINT"].into_iter().zip(&self.regions) {
            add(name, &region.endpoint);
        }
        add("AWS_REGION", clients::REGION);
        add("SHOP_URL", self.shop.url());
        add("AWS_ENDPOINT", &self.dynamo_endpoint);
        let mut database = |prefix: &str, at: &PgAddress| {
            add(&format!("{prefix}_HOST"), &at.host);
            add(&format!("{prefix}_PORT"), &at.port.to_string());
            add(&format!("{prefix}_USER"), &at.user);
            add(&format!("{prefix}_DATABASE"), &at.database);
        };
        match &self.places {
            Places::Shop(names) => {
                database("PG", &self.pg);
                add("NEW_SECRET", NEW_SECRET);
                add("REST_API", &names.api);
                add("REST_STAGE", &names.stage);
            }
            Places::Payments(places) => {
                database("V1", &places.v1);
                database("V2", &places.v2);
            }
        }
        vars
    }

    /// The simulated application.
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
        self.verdict_so_far().await
    }

    /// The same without an end of writing: what is written meanwhile may be found wrong.
    pub(in crate::rehearsal) async fn verdict_so_far(&self) -> RehearsalResult<OracleReport> {
        let settings = self.agreed().await?;
        let (in_charge, frozen, tally) = (settings.writes_to(), settings.frozen, self.shop.oracle().tally());
        Ok(match &self.places {
            Places::Shop(_) => {
                let comparison = self.shelved(in_charge).await?;
                let scenario = Scenario::Cloudshelf;
                OracleReport { scenario, in_charge, frozen, comparison, stores: Vec::new(), tally }
            }
            Places::Payments(places) => {
                let stores = self.paid(places, &settings).await?;
                let mut comparison = Comparison::default();
                stores.iter().for_each(|store| comparison.add(store.found.clone()));
                OracleReport { scenario: Scenario::V1ToV2, in_charge, frozen, comparison, stores, tally }
            }
        })
    }

    /// What the parameters of every region say, and what every instance goes by.
    async fn agreed(&self) -> RehearsalResult<Settings> {
        let mut all = Vec::new();
        for region in &self.regions {
            all.push((region, read_settings(region, self.places.clone()).await?));
        }
        let differs = |a: &Settings, b: &Settings| (a.writes_to(), &a.placed) != (b.writes_to(), &b.placed);
        let (first, settings) = all.remove(0);
        if let Some((other, _)) = all.iter().find(|(_, other)| differs(&settings, other)) {
            let why = "their parameters name different sides";
            return Err(RehearsalError::new("judge", format!("{} and {}", first.name, other.name), why));
        }
        if self.regions.iter().any(|region| region.group.is_some()) {
            let instances = self.shop.instances();
            let behind = instances.iter().filter(|instance| differs(&settings, instance)).count();
            if behind > 0 {
                let why = format!("{behind} of {} go by other values than the parameters hold", instances.len());
                return Err(RehearsalError::new("judge", "the instances of the application", why));
            }
        }
        Ok(settings)
    }

    /// The stores of payments, each on the side that serves it, and what the other side was left with.
    async fn paid(&self, places: &PaymentPlaces, settings: &Settings) -> RehearsalResult<Vec<StoreFound>> {
        let oracle = self.shop.oracle();
        let mut all: Vec<StoreFound> = Vec::new();
        for (kinds, of) in [(Kind::PAYMENT_ROWS, payments::ROWS), (Kind::PAYMENT_ITEMS, payments::ITEMS)] {
            for kind in kinds {
                let (side, other) = match settings.writes_to_of(kind) {
                    Side::Old => (Side::Old, Side::New),
                    Side::New => (Side::New, Side::Old),
                };
                let store = |side| match side {
                    Side::Old => &*self.old,
                    Side::New => &*self.new,
                };
                let connection = |side| places.of(side).connection();
                let found = oracle.compare(side, store(side), &connection(side), &[kind]).await?;
                // Before customers write on the new side, nobody says what it must hold.
                let aside = if oracle.opened() {
                    let listed = store(other).list(&connection(other), kind).await?;
                    Some(oracle.judge_aside(other, kind, listed))
                } else {
                    None
                };
                match all.iter_mut().find(|one| (one.kind, one.side) == (of, side)) {
                    Some(one) => one.add(found, aside),
                    None => all.push(StoreFound { kind: of, side, found, aside }),
                }
            }
        }
        Ok(all)
    }

    /// The shop's stores of this side.
    async fn shelved(&self, in_charge: Side) -> RehearsalResult<Comparison> {
        let oracle = self.shop.oracle();
        let connection = self.pg.connection();
        match in_charge {
            Side::Old => oracle.compare(Side::Old, &*self.old, &connection, &Kind::SHOP).await,
            Side::New => {
                let mut found = oracle.compare(Side::New, &*self.new, &connection, &Kind::MOVING).await?;
                // Carts live on the old side whatever happens.
                found.add(oracle.compare(Side::Old, &*self.old, &connection, &[Kind::Cart]).await?);
                Ok(found)
            }
        }
    }

    /// Stops everything and removes every file, off the async threads.
    pub async fn stop(self) {
        let Self { shop, controls, dynamo, .. } = self;
        drop(shop);
        drop(controls);
        let _ = tokio::task::spawn_blocking(move || drop(dynamo)).await;
    }
}

/// Writes a parameter. A secure one is encrypted with the key of the day.
async fn put(ssm: &aws_sdk_ssm::Client, name: &str, value: &str, secure: bool) -> RehearsalResult<()> {
    let kind = if secure { ParameterType::SecureString } else { ParameterType::String };
    let key = secure.then(|| SECRETS_KEY.to_owned());
    let put = ssm.put_parameter().name(name).value(value).r#type(kind).set_key_id(key).overwrite(true);
    put.send().await.map_err(|e| RehearsalError::caused("seed parameter", name, &e))?;
    Ok(())
}

/// The DynamoDB of the day, and where it answers.
async fn dynamo(options: &WorldOptions) -> RehearsalResult<(Option<EmbeddedDynamo>, String)> {
    if let Some(endpoint) = &options.dynamo_endpoint {
        return Ok((None, endpoint.clone()));
    }
    let started = tokio::task::spawn_blocking(|| EmbeddedDynamo::start(&EmbeddedDynamo::place())).await;
    let started = started.map_err(|e| RehearsalError::new("start", "the embedded DynamoDB", e))??;
    let endpoint = started.endpoint().to_owned();
    Ok((Some(started), endpoint))
}

/// The shop's stores. The new side is not touched.
async fn shelves(options: &WorldOptions) -> RehearsalResult<Stores> {
    let generate = (options.sizes, options.seed, options.awkward);
    let data = tokio::task::spawn_blocking(move || Dataset::generate(generate.0, generate.1, generate.2));
    let (dynamo, endpoint) = dynamo(options).await?;
    let client = aws_sdk_dynamodb::Client::new(&session(&endpoint, 5));
    seed::create_tables(&client).await?;
    let data = data.await.map_err(|e| RehearsalError::new("generate", "the shop's data", e))?;
    match &dynamo {
        Some(embedded) => {
            embedded.tune(&Kind::SHOP.map(table_name))?;
            seed::import(embedded, &data).await?;
        }
        None => seed::write_items(&client, &data).await?,
    }
    let old = Arc::new(OldSide::new(&endpoint));
    Ok(Stores { dynamo, dynamo_endpoint: endpoint, old, new: Arc::new(NewSides::default()), data })
}

/// The stores of the payments application: those of the old side are filled. The new database is not touched, the new
/// tables are there and empty.
async fn ledgers(options: &WorldOptions, v1: &PgAddress, sizes: PaymentSizes) -> RehearsalResult<Stores> {
    let seed = options.seed;
    let data = tokio::task::spawn_blocking(move || payments::generate(sizes, seed)).await;
    let data = data.map_err(|e| RehearsalError::new("generate", "the application's data", e))?;
    let on = || format!("PostgreSQL at {}", payments::endpoint_of(v1));
    let connected = tokio_postgres::connect(v1.connection().reveal(), tokio_postgres::NoTls).await;
    let (client, driver) = connected.map_err(|e| RehearsalError::caused("connect to", on(), &e))?;
    let driver = tokio::spawn(driver);
    let imported = payments::import(&client, &data).await;
    driver.abort();
    imported?;
    let (dynamo, endpoint) = dynamo(options).await?;
    payments::lay_tables(&endpoint, dynamo.as_ref(), &data).await?;
    let [old, new] = [Side::Old, Side::New].map(|side| Arc::new(PaymentStore::new(&endpoint, side)));
    Ok(Stores { dynamo, dynamo_endpoint: endpoint, old, new, data })
}

/// The payments application's parameters in one region, all on the old side.
async fn payment_parameters(ssm: &aws_sdk_ssm::Client, v1: &PgAddress, v2: &PgAddress) -> RehearsalResult<()> {
    put(ssm, payments::ENDPOINT, &payments::endpoint_of(v1), true).await?;
    put(ssm, payments::NEW_ENDPOINT, &payments::endpoint_of(v2), true).await?;
    put(ssm, payments::PASSWORD, payments::OLD_PASSWORD, false).await?;
    for (parameter, kind) in [(payments::SESSIONS, Kind::Session), (payments::LIMITS, Kind::Limit)] {
        put(ssm, parameter, payments::table_of(kind, Side::Old), false).await?;
    }
    put(ssm, payments::MODE, "open", false).await
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

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::rehearsal) mod tests_support;
