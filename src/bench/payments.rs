//! The workload between two databases: payments with a key and two secondary indexes, and the plan that moves them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::books;
use super::error::{BenchResult, Tried as _};
use super::own_workers::{BENCH, OwnWorkers, pg_settings};
use super::server::Brief;
use crate::adapters::aws::AwsSwitches;
use crate::adapters::http::{HttpProbes, http_client};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::adapters::postgres::{PgSettings, PgTarget};
use crate::config;
use crate::domain::plan::{OLD, Plan};
use crate::engine::MachineClock;
use crate::ports::{ByStore, Unavailable};
use crate::private::clients;
use crate::workers::{Ports, WorkerContext};

/// The table with its key.
pub(super) const TABLE: &str = "
CREATE TABLE payments (
    id bigint PRIMARY KEY,
    account uuid NOT NULL,
    amount numeric(12,2) NOT NULL,
    note text,
    made timestamptz NOT NULL
);";

/// The secondary indexes, a statement each.
pub(super) const INDEXES: &str = "
CREATE INDEX payments_account ON payments (account);
CREATE INDEX payments_made ON payments (made);";

/// Fills the table with so many rows of some sixty bytes; the same rows each time.
pub(super) fn fill(rows: u64) -> String {
    format!(
        "INSERT INTO payments SELECT n, md5((n % 50021)::text)::uuid, (n * 7919 % 10000000)::numeric / 100,
           'payment ' || n % 977, '2026-01-01'::timestamptz + n * interval '1 second' FROM generate_series(1::bigint, {rows}) n"
    )
}

const CONFIG: &str = r#"
name = "bench"
production = false
[stores.old]
kind = "postgresql"
host = "{old host}"
port = {old port}
database = "{old database}"
user = "{old user}"
sslmode = "disable"
[stores.new]
kind = "postgresql"
host = "{new host}"
port = {new port}
database = "{new database}"
user = "{new user}"
sslmode = "disable"
[reverse]
enabled = false
[load]
defer_indexes = true
segments = {segments}
workers = {segments}
[follow]
poll = "{poll}ms"
marker_every = "5s"
[verify]
settle = "1s"
segments = {segments}
[[tables]]
id = "payments"
from = "old.public.payments"
to = "new.public.payments"
key = ["id"]
[tables.columns]
id = { type = "bigint", key = true }
account = { type = "uuid" }
amount = { type = "numeric(12,2)" }
note = { type = "text" }
made = { type = "timestamptz" }
"#;

fn plan(
    old: &tokio_postgres::Config,
    new: &tokio_postgres::Config,
    segments: u32,
    poll: u64,
) -> BenchResult<Arc<Plan>> {
    let mut text = [CONFIG, books::STEPS]
        .concat()
        .replace("{segments}", &segments.to_string())
        .replace("{poll}", &poll.to_string());
    for (name, at) in [("old", old), ("new", new)] {
        text = text
            .replace(&format!("{{{name} host}}"), &books::host(at))
            .replace(&format!("{{{name} port}}"), &at.get_ports().first().copied().unwrap_or(5432).to_string())
            .replace(&format!("{{{name} database}}"), at.get_dbname().unwrap_or("postgres"))
            .replace(&format!("{{{name} user}}"), at.get_user().unwrap_or("postgres"));
    }
    let config = config::load_str("bench", &text, Path::new("."), &BTreeMap::new());
    Ok(config.tried("read", "the bench's config")?.plan)
}

/// How both databases of a brief are reached, the source first.
pub(super) fn databases(brief: &Brief) -> BenchResult<(PgSettings, PgSettings)> {
    let read = |url: &str| url.parse::<tokio_postgres::Config>().tried("read", "a database's URL");
    let connections = brief.streams as usize * 2 + 4;
    Ok((pg_settings(&read(&brief.source)?, connections), pg_settings(&read(&brief.target)?, connections)))
}

/// Workers between the two databases of a brief: its source and its target are URLs, and its further number is the pause
/// between reads in milliseconds.
pub(super) fn workers(brief: &Brief) -> BenchResult<OwnWorkers> {
    let read = |url: &str| url.parse::<tokio_postgres::Config>().tried("read", "a database's URL");
    let (old, new) = (read(&brief.source)?, read(&brief.target)?);
    let plan = plan(&old, &new, brief.streams, brief.extra.max(1))?;
    let (from, to) = databases(brief)?;
    let source = Arc::new(PgSource::new(&from, BENCH).tried("connect to", "the source")?);
    let changes = PgChanges::new(Arc::clone(&source), from, plan.tables.clone());
    let target = PgTarget::new(&to, BENCH).tried("connect to", "the target")?;
    // Nothing of this plan is switched or probed.
    let session = clients::session("http://127.0.0.1:9", 1);
    let ports = Ports {
        sources: ByStore::default().with(OLD, source),
        changes: ByStore::default().with(OLD, Arc::new(changes)),
        movers: ByStore::default(),
        target: Arc::new(target),
        reverse: None,
        identity: None,
        switches: Arc::new(AwsSwitches::new(&session, None, None)),
        probes: Arc::new(HttpProbes::new(http_client().tried("make", "an HTTP client")?)),
        jobs: Arc::new(Unavailable("no jobs are begun here".to_owned())),
        metrics: None,
        clock: Arc::new(MachineClock::default()),
    };
    Ok(OwnWorkers { ctx: WorkerContext::new(Arc::clone(&plan), ports.clone(), OwnWorkers::unrecorded()), plan, ports })
}
