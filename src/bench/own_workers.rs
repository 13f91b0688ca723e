//! The console's own workers on a bench's stores: real ports, real steps, nothing recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::books::{self, Settings};
use super::error::{BenchError, BenchResult, Tried as _};
use crate::adapters::aws::AwsSwitches;
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::adapters::http::{HttpProbes, http_client};
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode};
use crate::config;
use crate::domain::plan::{OLD, Plan, StepKind, Table};
use crate::domain::run::{Event, RunState};
use crate::domain::secret::Secret;
use crate::engine::MachineClock;
use crate::ports::{ByStore, Facts, NotRecorded, Unavailable};
use crate::private::clients::{self, REGION};
use crate::workers::{Ports, WorkerContext};

/// A bench is no run: facts are not kept.
struct Unrecorded;

#[async_trait]
impl Facts for Unrecorded {
    async fn state(&self, _event: Event) -> Result<(), NotRecorded> {
        Ok(())
    }
}

/// Workers on a source and a target.
pub(super) struct OwnWorkers {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The ports.
    pub ports: Ports,
    /// Who does the work.
    pub ctx: Arc<WorkerContext>,
}

/// The plan a bench keeps its progress under, as its config names it.
pub(super) const BENCH: &str = "bench/bench";

/// How a database is reached, over so many connections.
pub(super) fn pg_settings(config: &tokio_postgres::Config, connections: usize) -> PgSettings {
    PgSettings {
        host: books::host(config),
        port: config.get_ports().first().copied().unwrap_or(5432),
        database: config.get_dbname().unwrap_or("postgres").to_owned(),
        user: config.get_user().unwrap_or("postgres").to_owned(),
        password: config.get_password().map(|p| Secret::new(String::from_utf8_lossy(p).into_owned())),
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: connections,
    }
}

/// The target alone.
pub(super) fn target(config: &tokio_postgres::Config, connections: usize) -> BenchResult<PgTarget> {
    PgTarget::new(&pg_settings(config, connections), BENCH).tried("connect to", "the target")
}

/// The plan of a bench.
pub(super) fn plan(settings: &Settings) -> BenchResult<Arc<Plan>> {
    let text = books::config(settings);
    let config = config::load_str("bench", &text, Path::new("."), &BTreeMap::new());
    Ok(config.tried("read", "the bench's config")?.plan)
}

impl OwnWorkers {
    /// Workers that have not begun.
    pub(super) fn new(settings: &Settings) -> BenchResult<Self> {
        let plan = plan(settings)?;
        let session = clients::session(&settings.source, 3);
        let at = DynamoSettings::new(REGION).at(&settings.source);
        let (source, changes) = dynamodb::connect(&session, &at).tried("connect to", "the source")?;
        let client = http_client().tried("make", "an HTTP client")?;
        let ports = Ports {
            sources: ByStore::default().with(OLD, Arc::new(source)),
            changes: ByStore::default().with(OLD, Arc::new(changes)),
            movers: ByStore::default(),
            target: Arc::new(target(&settings.target, settings.segments as usize * 2 + 4)?),
            reverse: None,
            identity: None,
            switches: Arc::new(AwsSwitches::new(&session, None, None)),
            probes: Arc::new(HttpProbes::new(client)),
            jobs: Arc::new(Unavailable("no jobs are begun here".to_owned())),
            metrics: None,
            clock: Arc::new(MachineClock::default()),
        };
        let ctx = WorkerContext::new(Arc::clone(&plan), ports.clone(), Self::unrecorded());
        Ok(Self { plan, ports, ctx })
    }

    /// Where facts go that nobody keeps.
    pub(super) fn unrecorded() -> Arc<dyn Facts> {
        Arc::new(Unrecorded)
    }

    /// The one table.
    pub(super) fn table(&self) -> BenchResult<&Table> {
        self.plan.tables.first().ok_or_else(|| BenchError::new("find", "the bench's table", "the plan has none"))
    }

    /// Bookkeeping as it stands after the capture step, for a source that has no stream.
    pub(super) async fn prepare(&self) -> BenchResult<()> {
        self.ports.target.prepare().await.tried("prepare", "the target")?;
        self.ports.target.claim("bench", &self.plan.tables).await.tried("prepare", "the target")?;
        self.ports.target.start_positions(self.table()?, "bench", &BTreeMap::new()).await.tried("prepare", "the target")
    }

    /// Performs the step of one kind.
    pub(super) async fn perform(&self, wanted: impl Fn(&StepKind) -> bool) -> BenchResult<()> {
        let step = self.plan.steps.iter().find(|s| wanted(&s.kind));
        let step = step.ok_or_else(|| BenchError::new("find", "a step", "the bench's plan has none of this kind"))?;
        let done = self.ctx.perform(step, 1, &RunState::default()).await;
        done.map(drop).map_err(|e| BenchError::new("perform", &step.id, format!("{}; {}", e.message, e.advice)))
    }
}
