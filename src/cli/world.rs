//! From a config's connections to ports: the one place where adapters are chosen.

mod back;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(not(feature = "dynamodb"))]
#[path = "world/without_dynamodb.rs"]
mod dynamodb;
mod identity;
mod kinds;
mod movers;
#[cfg(feature = "postgresql")]
mod postgresql;
#[cfg(not(feature = "postgresql"))]
#[path = "world/without_postgresql.rs"]
mod postgresql;
mod restores;
mod sources;
mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use back::{kept_at_sources, movers_of, movers_of_stores, rollback_ports, target_of};
pub use kinds::all_built;
pub use restores::{named, restores};
use sources::AllSources;
use targets::TargetPorts;

use super::exit::Exit;
#[cfg(feature = "failpoints")]
use super::failing::failing;
use super::failure::Failure;
use crate::adapters::aws::{
    AwsJobs, AwsSettings, AwsSwitches, CloudWatchMetrics, JobEndpoints, Service, credentials, named_endpoints, session,
};
use crate::adapters::command::CommandJobs;
use crate::adapters::http::{HttpProbes, http_client};
use crate::adapters::notify::Notifier;
use crate::config::{Aws, Config, Connections, Credentials, Endpoints, Postgres, StoreConnection};
use crate::domain::alert::{Alert, Place};
use crate::domain::plan::{CONTROL, Plan, SignalSource, ValueRef};
use crate::domain::run::{Callers, other_accounts};
use crate::domain::secret::Secret;
use crate::engine::MachineClock;
use crate::ports::{
    ByStore, Catalogue, ErrorKind, Identity, Jobs, Mover, Notices, PortError, ReversePorts, SeveralJobs,
    SeveralSwitches, Source, Switches,
};
use crate::workers::{CheckRow, Missing, OTHER_ACCOUNT_ADVICE, Ports};

/// Which AWS settings a config asks for. Without `[aws]` the usual chain is used for whatever needs it.
fn aws(named: Option<&Aws>) -> Aws {
    named.cloned().unwrap_or_else(|| Aws {
        region: String::new(),
        profile: None,
        account: None,
        credentials: Credentials::Chain,
        endpoints: Endpoints::default(),
    })
}

fn aws_settings(aws: &Aws) -> AwsSettings {
    AwsSettings {
        region: (!aws.region.is_empty()).then(|| aws.region.clone()),
        profile: aws.profile.clone(),
        emulator: aws.credentials == Credentials::Emulator,
    }
}

async fn aws_session(aws: &Aws) -> aws_config::SdkConfig {
    session(&aws_settings(aws)).await
}

/// Fills in the endpoints that the environment or the profile names and the config does not: they say which stores
/// these are as much as the config does, and are kept with a run.
pub async fn with_named_endpoints(mut config: Config) -> Config {
    name_endpoints(&mut config.connections).await;
    Arc::make_mut(&mut config.plan).stores = config.connections.stores();
    config
}

/// The same for connections by themselves.
pub async fn name_endpoints(connections: &mut Connections) {
    let Connections { aws, sources, targets, controls, home: _ } = connections;
    let stores = sources.values_mut().chain(targets.values_mut()).filter_map(|store| match store {
        StoreConnection::Dynamodb(aws) => Some(aws),
        StoreConnection::Postgresql(_) => None,
    });
    for aws in aws.iter_mut().chain(stores).chain(controls.values_mut()) {
        fill_in(aws).await;
    }
}

/// What a store has, for tables that move by rule. Nothing is called yet but the source of a password.
///
/// # Errors
/// An address that is none, or a password that is not where the config says.
pub async fn catalogue(connections: &Connections, store: &str) -> Result<Arc<dyn Catalogue>, Failure> {
    let aws = aws(connections.aws.as_ref());
    let switches = switches(&aws_session(&aws).await, &aws.endpoints);
    let Some(at) = connections.sources().remove(store) else {
        return Err(Failure::new(Exit::Bug, format!("no tables come from the store {store}")));
    };
    sources::catalogue(store, &at, &switches).await
}

/// A store whose items can be read before there is a plan. Nothing is called yet.
///
/// # Errors
/// An address that is none.
pub async fn items(connections: &Connections, store: &str) -> Result<Arc<dyn Source>, Failure> {
    match connections.sources().remove(store) {
        Some(StoreConnection::Dynamodb(aws)) => Ok(dynamodb::source(&aws, &aws_session(&aws).await)?.source()),
        Some(StoreConnection::Postgresql(_)) | None => {
            Err(Failure::new(Exit::Bug, format!("the store {store} has no items")))
        }
    }
}

/// Endpoints that the environment or the profile names.
async fn fill_in(aws: &mut Aws) {
    let services = [
        Service::Dynamodb,
        Service::Streams,
        Service::Ssm,
        Service::Apigateway,
        Service::Cloudwatch,
        Service::Sts,
        Service::Autoscaling,
        Service::Rds,
        Service::Secretsmanager,
    ];
    let [dynamodb, streams, ssm, apigateway, cloudwatch, sts, autoscaling, rds, secretsmanager] =
        named_endpoints(&aws_settings(aws), services).await;
    let given = std::mem::take(&mut aws.endpoints);
    aws.endpoints = Endpoints {
        dynamodb: given.dynamodb.or(dynamodb),
        streams: given.streams.or(streams),
        ssm: given.ssm.or(ssm),
        apigateway: given.apigateway.or(apigateway),
        cloudwatch: given.cloudwatch.or(cloudwatch),
        // Fixed keys of an emulator are sent nowhere but where the config says.
        sts: given.sts.or(sts.filter(|_| aws.credentials == Credentials::Chain)),
        autoscaling: given.autoscaling.or(autoscaling),
        rds: given.rds.or(rds),
        secretsmanager: given.secretsmanager.or(secretsmanager),
    };
}

/// Builds every port. Nothing is called yet but the password's source.
///
/// # Errors
/// An address that is none, or a password that is not where the config says.
pub async fn ports(plan: &Plan, connections: &Connections) -> Result<Ports, Failure> {
    let aws = aws(connections.aws.as_ref());
    let session = aws_session(&aws).await;
    let switches = all_switches(connections, switches(&session, &aws.endpoints)).await;
    let target = targets::connect(connections, &switches, (&plan.key(), plan.load.write_budget_wcu)).await?;
    let stores = every_source(plan, connections, &aws, &session, &switches).await?;
    let movers = movers::connect(plan, connections, &switches).await;
    assemble(plan, connections, &session, switches, (target, stores, movers)).await
}

/// The ports of every store that tables come from.
async fn every_source(
    plan: &Plan,
    connections: &Connections,
    aws: &Aws,
    session: &aws_config::SdkConfig,
    switches: &Arc<dyn Switches>,
) -> Result<AllSources, Failure> {
    let mut stores = AllSources::default();
    for (name, at) in connections.sources() {
        let ports = match &at {
            // Over the session that there is.
            StoreConnection::Dynamodb(tables) if tables == aws => dynamodb::source(tables, session)?,
            StoreConnection::Dynamodb(_) | StoreConnection::Postgresql(_) => {
                sources::connect(&name, &at, plan, switches).await?
            }
        };
        stores.add(&name, ports);
    }
    Ok(stores)
}

/// Sources alone, for what reads them and asks no target; and whom calls to them are signed as.
///
/// # Errors
/// As [`ports`] and [`callers`].
pub async fn sources_alone(plan: &Plan, connections: &Connections) -> Result<(ByStore<dyn Source>, Callers), Failure> {
    let aws = aws(connections.aws.as_ref());
    let session = aws_session(&aws).await;
    let switches = all_switches(connections, switches(&session, &aws.endpoints)).await;
    let stores = every_source(plan, connections, &aws, &session, &switches).await?;
    let identity = identity::of_all(plan, connections, &session).await;
    Ok((stores.sources, signed_as(plan, connections, &identity).await?))
}

/// Who the calls to each store are signed as: asked before anything is written.
///
/// # Errors
/// There are no credentials, or a store is in another account than the plan pins or in one that is not known.
pub async fn callers(plan: &Plan, connections: &Connections, ports: &Ports) -> Result<Callers, Failure> {
    match &ports.identity {
        Some(identity) => signed_as(plan, connections, &**identity).await,
        None => Ok(Callers::new()),
    }
}

async fn signed_as(plan: &Plan, connections: &Connections, identity: &dyn Identity) -> Result<Callers, Failure> {
    for aws in identity::accounts(connections) {
        credentials(&aws_session(&aws).await, &aws_settings(&aws)).await?;
    }
    let callers = identity.callers().await;
    let wrong = other_accounts(plan, &callers);
    if wrong.is_empty() {
        return Ok(callers);
    }
    let text = format!("{}; nothing was begun ({OTHER_ACCOUNT_ADVICE})", wrong.join("; "));
    Err(Failure::new(Exit::Denied, text))
}

/// Whether anything of AWS is asked for.
fn asks_aws(plan: &Plan, connections: &Connections) -> bool {
    let passwords = connections.sources.values().flat_map(|source| match source {
        StoreConnection::Postgresql(postgres) => postgres.passwords().collect(),
        StoreConnection::Dynamodb(_) => Vec::new(),
    });
    let parameter = |reference: &ValueRef| matches!(reference, ValueRef::Parameter(_));
    let stores = connections.sources();
    stores.values().chain(connections.targets.values()).any(|store| matches!(store, StoreConnection::Dynamodb(_)))
        || !plan.switches.is_empty()
        || watched(plan)
        || passwords.chain(connections.databases().filter_map(|target| target.password.as_ref())).any(parameter)
}

/// Whether any signal is a metric of CloudWatch.
fn watched(plan: &Plan) -> bool {
    plan.signals.iter().any(|s| matches!(s.source, SignalSource::CloudWatch(_)))
}

/// Builds every port for a check, and says what is missing: missing credentials or a missing password do not stop the
/// other checks.
///
/// # Errors
/// An address that is none.
pub async fn ports_to_check(plan: &Plan, connections: &Connections) -> Result<(Ports, Missing), Failure> {
    let aws = aws(connections.aws.as_ref());
    let session = aws_session(&aws).await;
    let switches = all_switches(connections, switches(&session, &aws.endpoints)).await;
    // A plan that needs nothing of AWS is not asked for its credentials.
    let found = if asks_aws(plan, connections) { credentials(&session, &aws_settings(&aws)).await } else { Ok(()) };
    let denied = |e: PortError| CheckRow::denied(e.on, e.came_back, e.advice);
    let mut missing = Missing { aws: found.err().map(denied), ..Missing::default() };
    let (target, row) = targets::connect_to_check(connections, &switches, &plan.key(), missing.aws.is_some()).await?;
    missing.target = row;
    let mut stores = AllSources::default();
    for (name, at) in connections.sources() {
        let ports = match &at {
            StoreConnection::Dynamodb(tables) if *tables == aws => dynamodb::source(tables, &session)?,
            StoreConnection::Dynamodb(_) | StoreConnection::Postgresql(_) => {
                match sources::connect(&name, &at, plan, &switches).await {
                    Ok(ports) => ports,
                    Err(failure) => {
                        let row = CheckRow::denied(format!("store {name}"), failure.words(), "");
                        let absent = sources::out_of_reach(&failure.words());
                        missing.stores.insert(name.clone(), row);
                        absent
                    }
                }
            }
        };
        stores.add(&name, ports);
    }
    let movers = movers::connect(plan, connections, &switches).await;
    Ok((assemble(plan, connections, &session, switches, (target, stores, movers)).await?, missing))
}

async fn assemble(
    plan: &Plan,
    connections: &Connections,
    session: &aws_config::SdkConfig,
    switches: Arc<dyn Switches>,
    (target, stores, movers): (TargetPorts, AllSources, ByStore<dyn Mover>),
) -> Result<Ports, Failure> {
    let aws = aws(connections.aws.as_ref());
    let ends = &aws.endpoints;
    let metrics = watched(plan).then(|| CloudWatchMetrics::new(session, ends.cloudwatch.as_deref()));
    Ok(Ports {
        sources: stores.sources,
        changes: stores.changes,
        movers,
        target: target.target,
        reverse: Some(ReversePorts { outbox: target.outbox, items: stores.items }),
        switches,
        probes: failing(Arc::new(probes()?) as _),
        jobs: all_jobs(connections, session).await,
        identity: Some(Arc::new(identity::of_all(plan, connections, session).await)),
        metrics: metrics.map(|m| failing(Arc::new(m) as _)),
        clock: Arc::new(MachineClock::default()),
    })
}

/// Who tells places of alerts; `None` where no alert goes further than the screen.
///
/// # Errors
/// The machine's certificates cannot be read.
pub async fn notices(alerts: &[Alert], connections: &Connections) -> Result<Option<Arc<dyn Notices>>, Failure> {
    if alerts.iter().flat_map(|alert| &alert.places).all(Place::is_screen) {
        return Ok(None);
    }
    let aws = aws(connections.aws.as_ref());
    let switches = switches(&aws_session(&aws).await, &aws.endpoints);
    let client = http_client().map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    Ok(Some(Arc::new(Notifier::new(client, switches))))
}

/// Something that is not where the config says.
#[derive(Debug)]
struct Trouble {
    what: String,
    wrong: String,
    advice: String,
}

impl From<Trouble> for Failure {
    fn from(t: Trouble) -> Self {
        let advice = if t.advice.is_empty() { String::new() } else { format!(" ({})", t.advice) };
        Self::new(Exit::Denied, format!("{}: {}{advice}", t.what, t.wrong))
    }
}

/// The password of a database, from where the config says. `what` names the database in what is said.
async fn password(what: &str, postgres: &Postgres, switches: &dyn Switches) -> Result<Option<Secret>, Trouble> {
    let Some(reference) = &postgres.password else { return Ok(None) };
    match switches.resolve(reference, CONTROL).await {
        Ok(password) => Ok(Some(password.value)),
        Err(e) => Err(no_password(what, reference, e)),
    }
}

fn no_password(what: &str, reference: &ValueRef, e: PortError) -> Trouble {
    let elsewhere = "or name another place as `password` in the database's section of the config";
    let (wrong, advice) = match reference {
        ValueRef::Env(name) if std::env::var_os(name).is_none() => {
            (format!("the password's variable {name} is not set"), format!("set it, {elsewhere}"))
        }
        ValueRef::File(path) => (
            format!("the password's file {path} cannot be read: {}", e.came_back),
            format!("write it before starting, {elsewhere}"),
        ),
        ValueRef::Parameter(name) => {
            (format!("the password's parameter {name} cannot be read: {}", e.came_back), e.advice)
        }
        ValueRef::Env(_) | ValueRef::Literal(_) => (format!("the password cannot be read: {}", e.came_back), e.advice),
    };
    Trouble { what: what.to_owned(), wrong, advice }
}

fn switches(session: &aws_config::SdkConfig, ends: &Endpoints) -> Arc<dyn Switches> {
    failing(Arc::new(AwsSwitches::new(session, ends.ssm.as_deref(), ends.apigateway.as_deref())) as _)
}

/// Switches of every region and account that a config names.
async fn all_switches(connections: &Connections, own: Arc<dyn Switches>) -> Arc<dyn Switches> {
    let mut others = BTreeMap::new();
    for (name, aws) in &connections.controls {
        others.insert(name.clone(), switches(&aws_session(aws).await, &aws.endpoints));
    }
    SeveralSwitches::as_one(own, others)
}

/// Jobs of one region and account.
fn jobs(session: &aws_config::SdkConfig, ends: &Endpoints) -> Arc<dyn Jobs> {
    let ends = JobEndpoints {
        autoscaling: ends.autoscaling.as_deref(),
        rds: ends.rds.as_deref(),
        secretsmanager: ends.secretsmanager.as_deref(),
        dynamodb: ends.dynamodb.as_deref(),
    };
    failing(Arc::new(AwsJobs::new(session, ends)) as _)
}

/// Jobs of every region and account that a config names, and commands.
async fn all_jobs(connections: &Connections, own: &aws_config::SdkConfig) -> Arc<dyn Jobs> {
    let mut all = BTreeMap::new();
    if let Some(aws) = &connections.aws {
        all.insert(CONTROL.to_owned(), jobs(own, &aws.endpoints));
    }
    for (name, aws) in &connections.controls {
        all.insert(name.clone(), jobs(&aws_session(aws).await, &aws.endpoints));
    }
    SeveralJobs::as_one(all, failing(Arc::new(CommandJobs::of_this_process()) as _))
}

/// Without the feature no port fails by order.
#[cfg(not(feature = "failpoints"))]
const fn failing<P>(port: P) -> P {
    port
}

fn probes() -> Result<HttpProbes, PortError> {
    let client =
        http_client().map_err(|e| PortError::new(ErrorKind::Invalid, "build", "the HTTP client", e.to_string()))?;
    Ok(HttpProbes::new(client))
}

/// Who sits here and where: for facts, locks and leases.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Login name.
    pub operator: String,
    /// Host name.
    pub host: String,
}

impl Driver {
    /// Asks the environment and the kernel.
    #[must_use]
    pub fn here() -> Self {
        let named = ["CUTOVER_OPERATOR", "SUDO_USER", "USER", "LOGNAME"];
        let operator = named.iter().find_map(|v| std::env::var(v).ok().filter(|s| !s.is_empty()));
        let uname = rustix::system::uname();
        Self {
            operator: operator.unwrap_or_else(|| "operator".to_owned()),
            host: uname.nodename().to_string_lossy().into_owned(),
        }
    }

    /// `alice@bastion-2`
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.operator, self.host)
    }
}

/// Where run folders are kept.
pub fn state_dir(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    given
        .or_else(crate::journal::state_dir)
        .ok_or_else(|| Failure::new(Exit::Journal, "no place for run folders: set HOME or pass --state-dir"))
}

#[cfg(all(test, feature = "rehearsal"))]
mod tests {
    use super::*;
    use crate::config::{self, Config, SavedConnections, SslMode};

    /// The rehearsal's config with this password and these credentials; nobody is at its addresses.
    fn config(password: &str, credentials: &str) -> Config {
        let text = include_str!("../../assets/rehearsal.toml");
        let text = text.replace("password = { file = \"${PG_PASSWORD_FILE}\" }", password);
        let text = text.replace("credentials = \"emulator\"", credentials).replace("\"${PG_PORT}\"", "5432");
        let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned());
        let vars = names.map(|name| (name, "http://127.0.0.1:1".to_owned())).collect();
        config::load_str("c.toml", &text, std::path::Path::new(""), &vars).unwrap()
    }

    #[tokio::test]
    async fn a_password_that_is_not_there_is_one_row_of_a_check_and_the_end_of_a_run() {
        let here = |p: &str| config(&format!("password = {p}"), "credentials = \"emulator\"");
        let cases = [
            ("{ env = \"CUTOVER_NO_SUCH_VARIABLE\" }", "the password's variable CUTOVER_NO_SUCH_VARIABLE is not set"),
            ("{ file = \"/nowhere/password\" }", "the password's file /nowhere/password cannot be read: "),
        ];
        for (password, wanted) in cases {
            let config = here(password);
            let (_, missing) = ports_to_check(&config.plan, &config.connections).await.unwrap();
            assert!(missing.aws.is_none(), "{:?}", missing.aws);
            let row = missing.target.expect("a row for the target");
            let wrong = row.result.unwrap_err();
            assert!(wrong.starts_with(wanted) && row.denied && row.what == "target", "{wrong}");
            assert!(row.advice.contains("`password` in the database's section"), "{}", row.advice);
            let failure = ports(&config.plan, &config.connections).await.err().expect("no password");
            assert_eq!(failure.exit, Exit::Denied);
            assert!(failure.words().contains(wanted), "{}", failure.words());
        }
        let (_, missing) = {
            let config = here("{ file = \"/dev/null\" }");
            ports_to_check(&config.plan, &config.connections).await.unwrap()
        };
        assert!(missing.target.is_none());
    }

    #[tokio::test]
    async fn a_password_that_is_rotated_is_read_again_from_where_the_config_says() {
        let db = crate::adapters::postgres::tests::TestDatabase::new().await;
        let role = format!("filed_{}", db.settings.database);
        let rotate = async |password: &str| {
            let sql = format!(
                "ALTER ROLE {role} PASSWORD '{password}';
                 SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{role}'"
            );
            db.sql.batch_execute(&sql).await.unwrap();
        };
        db.sql.batch_execute(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'first'")).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "first").unwrap();
        let mut config =
            config(&format!("password = {{ file = \"{}\" }}", file.display()), "credentials = \"emulator\"");
        let settings = &db.settings;
        let Some(StoreConnection::Postgresql(postgres)) = config.connections.targets.get_mut("new") else { panic!() };
        (postgres.host, postgres.port) = (settings.host.clone(), settings.port);
        (postgres.database, postgres.user) = (settings.database.clone(), role.clone());
        postgres.sslmode = SslMode::Disable;

        // Of a run, and of the way back from another terminal.
        let run = ports(&config.plan, &config.connections).await.unwrap();
        let saved = SavedConnections::from(&config.connections);
        let key = config.plan.key();
        let back = target_of(&saved, &key).await.unwrap();
        for target in [&run.target, &back] {
            target.lease("run", "me", 1_000).await.unwrap();
        }
        rotate("second").await;
        std::fs::write(&file, "second").unwrap();
        for target in [&run.target, &back] {
            let again = target.lease("run", "me", 1_000).await;
            assert!(again.is_ok(), "{again:?}");
        }
    }

    /// Says of every caller that it is this account; says nothing without one.
    async fn sts(account: Option<&'static str>) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 8192]).await;
                let Some(account) = account else { continue };
                let body = format!(
                    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::{account}:user/a</Arn>\
                     <Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
                );
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        at
    }

    #[tokio::test]
    async fn the_way_back_writes_to_no_other_account_and_waits_for_nobody_who_does_not_say() {
        let config =
            config("password = { file = \"/dev/null\" }", "credentials = \"emulator\"\naccount = \"111122223333\"");
        let switch = &config.plan.switches[0];
        for (account, kept_away) in [(Some("444455556666"), true), (Some("111122223333"), false), (None, false)] {
            let mut saved = SavedConnections::from(&config.connections);
            let aws = saved.aws.as_mut().unwrap().as_mut().unwrap();
            aws.endpoints.sts = Some(sts(account).await);
            let driver = rollback_ports(saved, &config.plan)().await;
            let error = driver.switches.read(switch).await.unwrap_err().to_string();
            let named = error.contains("444455556666") && error.contains("111122223333");
            assert_eq!(named, kept_away, "{account:?}: {error}");
        }
    }
}
