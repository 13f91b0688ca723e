//! The whole world: stores, control plane, shop, and the verdict at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue as Av, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    WriteRequest,
};
use aws_sdk_ssm::types::ParameterType;
use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::compare;
use super::control::ControlPlane;
use super::dynamo::{DynamoError, EmbeddedDynamo};
use super::fault::Faults;
use super::model::{BOOKS, CARTS, Kind, ORDERS, Record, USERS};
use super::oracle::{Comparison, Oracle};
use super::seed::{Seeder, Sizes};
use super::shop::{Control, Rates, Shop};
use super::sides::{Dynamo, Postgres, item};

/// Where the new side's PostgreSQL is.
#[derive(Clone, Debug)]
pub struct PgAddress {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Database.
    pub database: String,
}

/// What kind of world.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Seed of data and traffic.
    pub seed: u64,
    /// How much there is to begin with.
    pub sizes: Sizes,
    /// The new side.
    pub postgres: PgAddress,
    /// Traffic.
    pub rates: Rates,
    /// Faults to come.
    pub faults: Faults,
    /// An independent DynamoDB instead of the embedded one.
    pub dynamodb: Option<String>,
    /// An independent control plane instead of the stand-in.
    pub control: Option<String>,
}

/// The world could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The embedded DynamoDB.
    #[error(transparent)]
    Dynamo(#[from] DynamoError),
    /// A loopback port.
    #[error("a loopback server could not be started: {0}")]
    Port(#[from] std::io::Error),
    /// A store did not take what the world is made of.
    #[error("{tried}: {came_back}")]
    Store {
        /// What was tried.
        tried: &'static str,
        /// What came back.
        came_back: String,
    },
}

fn refused<E: std::error::Error + 'static>(tried: &'static str) -> impl Fn(E) -> WorldError {
    move |e| WorldError::Store { tried, came_back: aws_sdk_dynamodb::error::DisplayErrorContext(e).to_string() }
}

/// A running world.
pub struct World {
    shop: Shop,
    oracle: Oracle,
    control: Control,
    old: Dynamo,
    parked: BTreeSet<Uuid>,
    vars: BTreeMap<String, String>,
    postgres: PgAddress,
    faults: Faults,
    _embedded: Option<EmbeddedDynamo>,
    _stand_in: Option<ControlPlane>,
}

/// What the oracle says at the end.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which side is in charge of writes.
    pub side: &'static str,
    /// What was compared.
    pub comparison: Comparison,
    /// Writes acknowledged by the old side, by the new one, refused while frozen, failed.
    pub traffic: [u64; 4],
}

impl Verdict {
    /// Whether nothing was lost and nothing is there that nobody wrote.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.comparison.lost.is_empty() && self.comparison.extra.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [old, new, refused, failed] = self.traffic;
        writeln!(f, "ORACLE      {} side in charge: {}", self.side, self.comparison)?;
        write!(f, "TRAFFIC     {old} writes acknowledged by the old side, {new} by the new, {refused} refused while frozen, {failed} failed")
    }
}

fn session(endpoint: &str) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(Credentials::new(
            "emulator", "emulator", None, None, "emulator",
        )))
        .http_client(http)
        .endpoint_url(endpoint)
        .sleep_impl(aws_smithy_async_sleep())
        .build()
}

fn aws_smithy_async_sleep() -> aws_sdk_dynamodb::config::SharedAsyncSleep {
    aws_sdk_dynamodb::config::SharedAsyncSleep::new(TokioSleep)
}

/// Pauses between the SDK's attempts, on tokio.
#[derive(Debug)]
struct TokioSleep;

impl aws_sdk_dynamodb::config::AsyncSleep for TokioSleep {
    fn sleep(&self, duration: std::time::Duration) -> aws_sdk_dynamodb::config::Sleep {
        aws_sdk_dynamodb::config::Sleep::new(tokio::time::sleep(duration))
    }
}

impl World {
    /// Starts everything, seeds it and opens the shop. `PostgreSQL` is not touched.
    pub async fn start(options: WorldOptions) -> Result<Self, WorldError> {
        let embedded = match &options.dynamodb {
            None => Some(EmbeddedDynamo::start().await?),
            Some(_) => None,
        };
        let stand_in = match &options.control {
            None => Some(ControlPlane::start(options.faults.clone()).await?),
            Some(_) => None,
        };
        let dynamodb = options.dynamodb.clone().or(embedded.as_ref().map(|e| e.endpoint().to_owned()));
        let dynamodb = dynamodb.unwrap_or_default();
        let control = options.control.clone().or(stand_in.as_ref().map(|c| c.endpoint().to_owned())).unwrap_or_default();

        let client = aws_sdk_dynamodb::Client::new(&session(&dynamodb));
        create_tables(&client).await?;
        if let Some(embedded) = &embedded {
            embedded.tune(&[BOOKS, USERS, ORDERS, CARTS])?;
        }
        let mut seeder = Seeder::new(options.seed);
        let (records, awkward) = seeder.all(options.sizes);
        fill(&client, &records).await?;
        fill_carts(&client, options.sizes.carts, &mut seeder).await?;

        let session = session(&control);
        let cloudwatch = aws_sdk_cloudwatch::Client::new(&session);
        let gateway = aws_sdk_apigateway::Client::new(&session);
        let api = if stand_in.is_some() { "cloudshelf".to_owned() } else { front_door(&gateway).await? };
        let control_plane = Control { ssm: aws_sdk_ssm::Client::new(&session), gateway, cloudwatch, api: api.clone() };
        let pg = &options.postgres;
        let url = format!("host={} port={} user={} dbname={}", pg.host, pg.port, pg.user, pg.database);
        set_parameters(&control_plane.ssm, &url).await?;

        let oracle = Oracle::default();
        let mut keys: BTreeMap<Kind, Vec<Uuid>> = BTreeMap::new();
        for record in records {
            // Nobody buys a book that is meant not to fit: it would stay parked, and rightly so.
            if !awkward.contains(&record.id()) {
                keys.entry(record.kind()).or_default().push(record.id());
            }
            oracle.acked(record);
        }
        let old = Dynamo(client);
        let shop = Shop::open(
            control_plane.clone(),
            old.clone(),
            oracle.clone(),
            seeder,
            keys,
            options.rates,
            options.faults.clone(),
        )
        .await?;
        let vars = [
            ("AWS_ENDPOINT", dynamodb),
            ("CONTROL_ENDPOINT", control),
            ("PG_HOST", pg.host.clone()),
            ("PG_PORT", pg.port.to_string()),
            ("PG_USER", pg.user.clone()),
            ("PG_DATABASE", pg.database.clone()),
            ("SHOP_URL", shop.url().to_owned()),
            ("API_ID", api),
        ];
        Ok(Self {
            shop,
            oracle,
            control: control_plane,
            old,
            parked: awkward.into_iter().collect(),
            vars: vars.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            postgres: options.postgres,
            faults: options.faults,
            _embedded: embedded,
            _stand_in: stand_in,
        })
    }

    /// What a config needs to reach this world.
    #[must_use]
    pub const fn vars(&self) -> &BTreeMap<String, String> {
        &self.vars
    }

    /// The faults, to be told of steps.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The shop.
    #[must_use]
    pub const fn shop(&self) -> &Shop {
        &self.shop
    }

    /// Closes the shop and compares the side that is in charge of writes with every acknowledged write.
    pub async fn verdict(&self) -> Result<Verdict, WorldError> {
        let failed = |came_back: String| WorldError::Store { tried: "compare with the oracle", came_back };
        self.shop.close().await;
        let params = self.control.read().await.ok_or_else(|| failed("the parameters cannot be read".to_owned()))?;
        let (side, comparison) = if params.writes_new {
            let pg = &self.postgres;
            let url = format!("host={} port={} user={} dbname={}", pg.host, pg.port, pg.user, pg.database);
            let new = Postgres::connect(&url).map_err(failed)?;
            ("new", compare::with_new(&self.oracle, &new, &self.parked).await.map_err(failed)?)
        } else {
            ("old", compare::with_old(&self.oracle, &self.old).await.map_err(failed)?)
        };
        let t = self.shop.traffic();
        let traffic = [&t.old, &t.new, &t.refused, &t.failed].map(|n| n.load(std::sync::atomic::Ordering::Relaxed));
        Ok(Verdict { side, comparison, traffic })
    }
}

async fn create_tables(client: &aws_sdk_dynamodb::Client) -> Result<(), WorldError> {
    for (table, key) in [(BOOKS, "bookId"), (USERS, "userId"), (ORDERS, "orderId"), (CARTS, "cartId")] {
        let attribute =
            AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build();
        client
            .create_table()
            .table_name(table)
            .attribute_definitions(attribute.map_err(refused("create table"))?)
            .key_schema(schema.map_err(refused("create table"))?)
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .map_err(refused("create table"))?;
    }
    Ok(())
}

async fn batch(client: &aws_sdk_dynamodb::Client, table: &str, puts: Vec<WriteRequest>) -> Result<(), WorldError> {
    let mut left = Some(std::collections::HashMap::from([(table.to_owned(), puts)]));
    while let Some(items) = left.filter(|l| !l.is_empty()) {
        let answer = client
            .batch_write_item()
            .set_request_items(Some(items))
            .send()
            .await
            .map_err(refused("seed items"))?;
        left = answer.unprocessed_items;
    }
    Ok(())
}

fn put(item: std::collections::HashMap<String, Av>) -> Result<WriteRequest, WorldError> {
    let put = PutRequest::builder().set_item(Some(item)).build().map_err(refused("seed items"))?;
    Ok(WriteRequest::builder().put_request(put).build())
}

async fn fill(client: &aws_sdk_dynamodb::Client, records: &[Record]) -> Result<(), WorldError> {
    let mut batches = Vec::new();
    for (kind, table) in [(Kind::Book, BOOKS), (Kind::User, USERS), (Kind::Order, ORDERS)] {
        let of_kind: Vec<&Record> = records.iter().filter(|r| r.kind() == kind).collect();
        for chunk in of_kind.chunks(25) {
            batches.push((table, chunk.iter().map(|r| put(item(r))).collect::<Result<Vec<_>, _>>()?));
        }
    }
    stream::iter(batches)
        .map(|(table, puts)| batch(client, table, puts))
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

async fn fill_carts(client: &aws_sdk_dynamodb::Client, carts: usize, seeder: &mut Seeder) -> Result<(), WorldError> {
    let all: Vec<WriteRequest> = (0..carts)
        .map(|_| {
            let id = Av::S(seeder.id().to_string());
            put(std::collections::HashMap::from([("cartId".to_owned(), id), ("items".to_owned(), Av::L(vec![]))]))
        })
        .collect::<Result<_, _>>()?;
    for chunk in all.chunks(25) {
        batch(client, CARTS, chunk.to_vec()).await?;
    }
    Ok(())
}

async fn set_parameters(ssm: &aws_sdk_ssm::Client, new_url: &str) -> Result<(), WorldError> {
    for (name, value, secure) in [
        ("db/reads", "dynamodb", false),
        ("db/writes", "dynamodb", false),
        ("db/secret", "none: the tables are reached by role", true),
        ("db/secret-v2", new_url, true),
        ("writes-mode", "open", false),
    ] {
        ssm.put_parameter()
            .name(format!("/cloudshelf/prod/{name}"))
            .value(value)
            .r#type(if secure { ParameterType::SecureString } else { ParameterType::String })
            .overwrite(true)
            .send()
            .await
            .map_err(refused("set parameters"))?;
    }
    Ok(())
}

/// An API with a stage on an independent control plane; gives its id.
async fn front_door(gateway: &aws_sdk_apigateway::Client) -> Result<String, WorldError> {
    let api = gateway.create_rest_api().name("cloudshelf").send().await.map_err(refused("create an API"))?;
    let id = api.id().unwrap_or_default().to_owned();
    let deployment = gateway.create_deployment().rest_api_id(&id).send().await.map_err(refused("deploy the API"))?;
    gateway
        .create_stage()
        .rest_api_id(&id)
        .stage_name("prod")
        .deployment_id(deployment.id().unwrap_or_default())
        .variables("lambdaAlias", "blue")
        .send()
        .await
        .map_err(refused("create a stage"))?;
    Ok(id)
}
