//! From a config's connections to ports: the one place where adapters are chosen.

use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "failpoints")]
use super::failing::failing;
use super::failure::Failure;
use crate::adapters::aws::{AwsSettings, AwsSwitches, CloudWatchMetrics, session};
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::adapters::http::{HttpProbes, http_client};
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode as PgSslMode};
use crate::config::{Aws, Connections, Credentials, Endpoints, SslMode};
use crate::domain::plan::{Plan, SignalSource};
use crate::engine::MachineClock;
use crate::engine::undo::{UndoPorts, UndoSeat};
use crate::ports::{ErrorKind, PortError, ReversePorts, Switches};
use crate::workers::Ports;

/// Which AWS settings a config asks for. Without `[aws]` the usual chain is used for whatever needs it.
fn aws(connections: &Connections) -> Aws {
    connections.aws.clone().unwrap_or_else(|| Aws {
        region: String::new(),
        profile: None,
        credentials: Credentials::Chain,
        endpoints: Endpoints::default(),
    })
}

async fn aws_session(aws: &Aws) -> aws_config::SdkConfig {
    session(&AwsSettings {
        region: (!aws.region.is_empty()).then(|| aws.region.clone()),
        profile: aws.profile.clone(),
        emulator: aws.credentials == Credentials::Emulator,
    })
    .await
}

/// Builds every port. Nothing is called yet but the password's source.
pub async fn ports(plan: &Plan, connections: &Connections) -> Result<Ports, Failure> {
    let aws = aws(connections);
    let session = aws_session(&aws).await;
    let ends = &aws.endpoints;
    let settings = DynamoSettings {
        endpoint: ends.dynamodb.clone(),
        streams_endpoint: ends.streams.clone(),
        ..DynamoSettings::new(&aws.region)
    };
    let (source, changes) = dynamodb::connect(&session, &settings)?;
    let source = Arc::new(source);
    let switches = switches(&session, ends);
    let watched = plan.signals.iter().any(|s| matches!(s.source, SignalSource::CloudWatch(_)));
    let metrics = watched.then(|| CloudWatchMetrics::new(&session, ends.cloudwatch.as_deref()));
    let target = Arc::new(target(connections, &*switches).await?);
    Ok(Ports {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        target: failing(Arc::clone(&target) as _),
        reverse: Some(ReversePorts { outbox: failing(target as _), items: failing(source as _) }),
        switches,
        probes: failing(Arc::new(probes()?) as _),
        metrics: metrics.map(|m| failing(Arc::new(m) as _)),
        clock: Arc::new(MachineClock::default()),
    })
}

/// The target database; asks for its password where the config says.
async fn target(connections: &Connections, switches: &dyn Switches) -> Result<PgTarget, Failure> {
    let pg = &connections.postgres;
    let password = match &pg.password {
        Some(reference) => Some(switches.resolve(reference).await?),
        None => None,
    };
    Ok(PgTarget::new(&PgSettings {
        host: pg.host.clone(),
        port: pg.port,
        database: pg.database.clone(),
        user: pg.user.clone(),
        password,
        sslmode: match pg.sslmode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        },
        ca_file: pg.ca_file.clone(),
        pool: pg.pool,
    })?)
}

/// Both ends of the way back for data, with clients of their own.
async fn reverse(connections: &Connections) -> Result<ReversePorts, Failure> {
    let aws = aws(connections);
    let session = aws_session(&aws).await;
    let ends = &aws.endpoints;
    let settings = DynamoSettings {
        endpoint: ends.dynamodb.clone(),
        streams_endpoint: ends.streams.clone(),
        ..DynamoSettings::new(&aws.region)
    };
    let (source, _) = dynamodb::connect(&session, &settings)?;
    let target = target(connections, &*switches(&session, ends)).await?;
    Ok(ReversePorts { outbox: failing(Arc::new(target) as _), items: failing(Arc::new(source) as _) })
}

fn switches(session: &aws_config::SdkConfig, ends: &Endpoints) -> Arc<dyn Switches> {
    failing(Arc::new(AwsSwitches::new(session, ends.ssm.as_deref(), ends.apigateway.as_deref())) as _)
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

/// The way back's own clients. They are made on its runtime, so that no connection is shared with forward work.
pub fn undo_seat(connections: &Connections) -> Result<UndoSeat, Failure> {
    let aws = aws(connections);
    let probes = probes()?;
    let connections = connections.clone();
    Ok(Box::new(move || {
        Box::pin(async move {
            let session = aws_session(&aws).await;
            let ends = &aws.endpoints;
            UndoPorts {
                switches: switches(&session, ends),
                probes: failing(Arc::new(probes) as _),
                // Made only once the switches are back: nothing of it may keep them waiting.
                reverse: Box::new(move || {
                    let connections = connections.clone();
                    Box::pin(async move { reverse(&connections).await.map_err(|f| f.report.to_string()) })
                }),
            }
        })
    }))
}

/// Who sits here and where: for facts, locks and leases.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Login name.
    pub operator: String,
    /// Host name.
    pub host: String,
}

impl Seat {
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
    given.or_else(crate::journal::state_dir).ok_or_else(|| {
        Failure::new(super::exit::Exit::Journal, "no place for run folders: set HOME or pass --state-dir")
    })
}
