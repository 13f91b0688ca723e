//! What PostgreSQL stores are reached with. `without_postgresql.rs` takes its place in a build without them.

use std::sync::Arc;

use super::failing;
use super::sources::SourcePorts;
use super::targets::TargetPorts;
use crate::adapters::postgres::source::{PgCatalogue, PgChanges, PgSource};
use crate::adapters::postgres::{
    PasswordSource, PgRestore, PgSettings, PgSubscription, PgTarget, SslMode as PgSslMode, SubscriberSettings,
};
use crate::config::{Postgres, SslMode, Subscriber};
use crate::domain::plan::{CONTROL, Plan, Table, ValueRef};
use crate::domain::secret::Secret;
use crate::ports::{Catalogue, Changes, ErrorKind, Mover, PortResult, Restore, Switches};

/// The password's place, to be read again whenever the server refuses what was read before. One that is written down,
/// which no config allows, has none.
fn password_source(reference: &ValueRef, switches: &Arc<dyn Switches>) -> Option<PasswordSource> {
    let name = match reference {
        ValueRef::Env(name) => format!("the variable {name}"),
        ValueRef::File(path) => format!("the file {path}"),
        ValueRef::Parameter(name) => format!("the parameter {name}"),
        ValueRef::Literal(_) => return None,
    };
    let (reference, switches) = (reference.clone(), Arc::clone(switches));
    Some(PasswordSource::new(name, move || {
        let (reference, switches) = (reference.clone(), Arc::clone(&switches));
        Box::pin(async move { Ok(switches.resolve(&reference, CONTROL).await?.value) })
    }))
}

/// How a database is reached, for its adapters.
fn settings(pg: &Postgres, password: Option<Secret>, switches: &Arc<dyn Switches>) -> PgSettings {
    PgSettings {
        host: pg.host.clone(),
        port: pg.port,
        database: pg.database.clone(),
        user: pg.user.clone(),
        password,
        password_source: pg.password.as_ref().and_then(|reference| password_source(reference, switches)),
        sslmode: sslmode(pg.sslmode),
        ca_file: pg.ca_file.clone(),
        pool: pg.pool,
    }
}

const fn sslmode(said: SslMode) -> PgSslMode {
    match said {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    }
}

/// The subscription of a plan between two databases, each with its name, how it is reached and its password. Without a
/// subscriber it can be removed, and not made.
///
/// # Errors
/// Settings that name no server, or certificates that cannot be read.
pub(super) fn subscription(
    plan: &str,
    (from, source, source_password): (&str, &Postgres, Option<Secret>),
    (to, target, target_password): (&str, &Postgres, Option<Secret>),
    subscriber: Option<(&Subscriber, Option<Secret>)>,
    switches: &Arc<dyn Switches>,
) -> PortResult<Arc<dyn Mover>> {
    let subscriber = subscriber.map(|(said, password)| SubscriberSettings {
        host: said.host.clone(),
        port: said.port,
        user: said.user.clone(),
        password,
        sslmode: sslmode(said.sslmode),
        ca_file: said.ca_file.clone(),
    });
    let source = settings(source, source_password, switches);
    let target = settings(target, target_password, switches);
    Ok(failing(Arc::new(PgSubscription::new(plan, (from, &source), (to, &target), subscriber)?) as _))
}

/// A database, with those of the plan's tables that come from it and that the console moves itself.
///
/// # Errors
/// Settings that name no server.
pub(super) fn source(
    store: &str,
    postgres: &Postgres,
    password: Option<Secret>,
    plan: &Plan,
    switches: &Arc<dyn Switches>,
) -> PortResult<SourcePorts> {
    let tables: Vec<Table> = plan.own_tables().filter(|table| table.from == store).cloned().collect();
    let (source, changes) = followed(&settings(postgres, password, switches), &plan.key(), tables)?;
    Ok(SourcePorts {
        source: failing(Arc::clone(&source) as _),
        changes: failing(Arc::new(changes) as _),
        items: failing(source as _),
    })
}

/// A database and the changes of these tables in it, which a plan follows by its key.
fn followed(settings: &PgSettings, plan: &str, tables: Vec<Table>) -> PortResult<(Arc<PgSource>, PgChanges)> {
    let source = Arc::new(PgSource::new(settings, plan)?);
    let changes = PgChanges::new(Arc::clone(&source), settings.clone(), tables);
    Ok((source, changes))
}

/// What a database keeps for a plan until it is read: by the plan's key, whatever its tables are.
///
/// # Errors
/// Settings that name no server.
pub(super) fn kept(
    postgres: &Postgres,
    password: Option<Secret>,
    plan: &str,
    switches: &Arc<dyn Switches>,
) -> PortResult<Arc<dyn Changes>> {
    let (_, changes) = followed(&settings(postgres, password, switches), plan, Vec::new())?;
    Ok(failing(Arc::new(changes) as _))
}

/// What tables a database has.
///
/// # Errors
/// Settings that name no server.
pub(super) fn catalogue(
    postgres: &Postgres,
    password: Option<Secret>,
    switches: &Arc<dyn Switches>,
) -> PortResult<Arc<dyn Catalogue>> {
    Ok(Arc::new(PgCatalogue::new(&settings(postgres, password, switches))?))
}

/// A database that tables go to. Reads certificates.
///
/// # Errors
/// Settings that name no server, or certificates that cannot be read.
pub(super) fn target(
    postgres: &Postgres,
    password: Option<Secret>,
    switches: &Arc<dyn Switches>,
    plan: &str,
) -> PortResult<TargetPorts> {
    Ok(shared(PgTarget::new(&settings(postgres, password, switches), plan)?))
}

/// The same, unless another version of this program keeps its bookkeeping there: that one does not become ours by waiting.
/// Any other error may pass.
///
/// # Errors
/// As [`target`], and `Conflict` for the other version's bookkeeping.
pub(super) async fn target_in_our_layout(
    postgres: Postgres,
    password: Option<Secret>,
    switches: Arc<dyn Switches>,
    plan: String,
) -> PortResult<TargetPorts> {
    let database = made(postgres, password, switches, plan).await?;
    match database.in_our_layout().await {
        Err(e) if e.kind == ErrorKind::Conflict => Err(e),
        Ok(()) | Err(_) => Ok(shared(database)),
    }
}

/// [`target`], on a thread of its own: a disk that hangs delays nothing else of a rollback.
///
/// # Errors
/// As [`target`].
pub(super) async fn target_aside(
    postgres: Postgres,
    password: Option<Secret>,
    switches: Arc<dyn Switches>,
    plan: String,
) -> PortResult<TargetPorts> {
    Ok(shared(made(postgres, password, switches, plan).await?))
}

async fn made(
    postgres: Postgres,
    password: Option<Secret>,
    switches: Arc<dyn Switches>,
    plan: String,
) -> PortResult<PgTarget> {
    let place = format!("{}:{}/{}", postgres.host, postgres.port, postgres.database);
    let made = move || PgTarget::new(&settings(&postgres, password, &switches), &plan);
    let made = tokio::task::spawn_blocking(made).await;
    made.map_err(|e| crate::ports::PortError::new(ErrorKind::Internal, "open", place, e.to_string()))?
}

/// Both ports of a database.
fn shared(database: PgTarget) -> TargetPorts {
    let database = Arc::new(database);
    TargetPorts { target: failing(Arc::clone(&database) as _), outbox: failing(database as _) }
}

/// A database that an export is written back into.
///
/// # Errors
/// Settings that name no server.
pub(super) fn restore(
    postgres: &Postgres,
    password: Option<Secret>,
    switches: &Arc<dyn Switches>,
) -> PortResult<Arc<dyn Restore>> {
    Ok(failing(Arc::new(PgRestore::new(&settings(postgres, password, switches))?) as _))
}
