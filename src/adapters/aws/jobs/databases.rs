//! Snapshots and deletions of RDS.

use std::collections::BTreeMap;

use aws_sdk_rds::Client;
use aws_sdk_rds::types::{DbCluster, DbInstance, Tag};

use crate::adapters::aws::port_error;
use crate::ports::{ErrorKind, JobProgress, JobState, PortError, PortResult};

fn on_cluster(id: &str) -> String {
    format!("cluster {id}")
}

fn on_instance(id: &str) -> String {
    format!("instance {id}")
}

fn absent(tried: &str, on: String) -> PortError {
    PortError::new(ErrorKind::NotFound, tried, on, "there is none").advise("check its name, the region and the account")
}

async fn cluster(client: &Client, id: &str) -> PortResult<DbCluster> {
    let asked = client.describe_db_clusters().db_cluster_identifier(id).send().await;
    let answer = asked.map_err(|e| port_error("look at", &on_cluster(id), &e))?;
    answer.db_clusters.unwrap_or_default().into_iter().next().ok_or_else(|| absent("look at", on_cluster(id)))
}

async fn instance(client: &Client, id: &str) -> PortResult<DbInstance> {
    let asked = client.describe_db_instances().db_instance_identifier(id).send().await;
    let answer = asked.map_err(|e| port_error("look at", &on_instance(id), &e))?;
    answer.db_instances.unwrap_or_default().into_iter().next().ok_or_else(|| absent("look at", on_instance(id)))
}

/// The status, as RDS says it.
pub(super) async fn cluster_status(client: &Client, id: &str) -> PortResult<String> {
    Ok(cluster(client, id).await?.status.unwrap_or_else(|| "?".to_owned()))
}

/// The status, as RDS says it.
pub(super) async fn instance_status(client: &Client, id: &str) -> PortResult<String> {
    Ok(instance(client, id).await?.db_instance_status.unwrap_or_else(|| "?".to_owned()))
}

/// Status and engine; `Conflict` when a snapshot would be refused now.
pub(super) async fn look_at_cluster(client: &Client, id: &str) -> PortResult<String> {
    let found = cluster(client, id).await?;
    let status = found.status().unwrap_or("?");
    let members = found.db_cluster_members().len();
    let engine = format!("{} {}", found.engine().unwrap_or("?"), found.engine_version().unwrap_or("?"));
    available(on_cluster(id), status, format!("{status}, {engine}, {members} members"))
}

/// The same for an instance.
pub(super) async fn look_at_instance(client: &Client, id: &str) -> PortResult<String> {
    let found = instance(client, id).await?;
    let status = found.db_instance_status().unwrap_or("?");
    let engine = format!("{} {}", found.engine().unwrap_or("?"), found.engine_version().unwrap_or("?"));
    available(on_instance(id), status, format!("{status}, {engine}"))
}

fn available(on: String, status: &str, words: String) -> PortResult<String> {
    if status == "available" {
        return Ok(words);
    }
    let error = PortError::new(ErrorKind::Conflict, "look at", on, format!("its status is {status}, not available"));
    Err(error.advise("wait until it is available"))
}

/// Whether it can be deleted; `Invalid` while it is protected.
pub(super) async fn may_delete_cluster(client: &Client, id: &str) -> PortResult<String> {
    let found = cluster(client, id).await?;
    let status = found.status().unwrap_or("?").to_owned();
    protected(on_cluster(id), found.deletion_protection().unwrap_or(false), status)
}

/// The same for an instance; `Invalid` too when it is not the member of the cluster that the plan takes it for: its data would go
/// with it, and no backup of the plan has them.
pub(super) async fn may_delete_instance(client: &Client, id: &str, member_of: Option<&str>) -> PortResult<String> {
    let found = instance(client, id).await?;
    if found.db_cluster_identifier() != member_of {
        let is = |of: Option<&str>| of.map_or("stands alone".to_owned(), |of| format!("is a member of {of}"));
        let why = format!("it {}, and the plan says that it {}", is(found.db_cluster_identifier()), is(member_of));
        let error = PortError::new(ErrorKind::Invalid, "look at", on_instance(id), why);
        return Err(error.advise("set `member_of`, and keep what the instance holds by a backup"));
    }
    let status = found.db_instance_status().unwrap_or("?").to_owned();
    protected(on_instance(id), found.deletion_protection().unwrap_or(false), status)
}

fn protected(on: String, protected: bool, status: String) -> PortResult<String> {
    if protected {
        let error = PortError::new(ErrorKind::Invalid, "look at", on, "deletion protection is on");
        return Err(error.advise("turn it off by hand when it may really go"));
    }
    Ok(status)
}

/// The status of a global cluster.
pub(super) async fn look_at_global(client: &Client, id: &str) -> PortResult<String> {
    let on = format!("global cluster {id}");
    let asked = client.describe_global_clusters().global_cluster_identifier(id).send().await;
    let answer = asked.map_err(|e| port_error("look at", &on, &e))?;
    let found = answer.global_clusters().first().ok_or_else(|| absent("look at", on))?;
    Ok(format!("{}, {} members", found.status().unwrap_or("?"), found.global_cluster_members().len()))
}

fn tagged(tags: &BTreeMap<String, String>) -> Option<Vec<Tag>> {
    let all: Vec<Tag> = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    (!all.is_empty()).then_some(all)
}

pub(super) async fn snapshot_cluster(
    client: &Client,
    id: &str,
    name: &str,
    tags: &BTreeMap<String, String>,
) -> PortResult<String> {
    let asked = client
        .create_db_cluster_snapshot()
        .db_cluster_identifier(id)
        .db_cluster_snapshot_identifier(name)
        .set_tags(tagged(tags))
        .send()
        .await;
    asked.map(|_| name.to_owned()).map_err(|e| busy(port_error("snapshot", &on_cluster(id), &e)))
}

pub(super) async fn snapshot_instance(
    client: &Client,
    id: &str,
    name: &str,
    tags: &BTreeMap<String, String>,
) -> PortResult<String> {
    let asked = client
        .create_db_snapshot()
        .db_instance_identifier(id)
        .db_snapshot_identifier(name)
        .set_tags(tagged(tags))
        .send()
        .await;
    asked.map(|_| name.to_owned()).map_err(|e| busy(port_error("snapshot", &on_instance(id), &e)))
}

/// A cluster or an instance that is busy with something else.
fn busy(error: PortError) -> PortError {
    let states = ["InvalidDBClusterStateFault", "InvalidDBInstanceState", "InvalidGlobalClusterStateFault"];
    if states.iter().any(|state| error.came_back.starts_with(state)) {
        return PortError { kind: ErrorKind::Conflict, ..error }.advise("wait until its status is available");
    }
    error
}

pub(super) async fn find_cluster_snapshot(client: &Client, name: &str) -> PortResult<Option<String>> {
    known(cluster_snapshot(client, name).await, name)
}

pub(super) async fn find_instance_snapshot(client: &Client, name: &str) -> PortResult<Option<String>> {
    known(instance_snapshot(client, name).await, name)
}

fn known(progress: PortResult<JobProgress>, name: &str) -> PortResult<Option<String>> {
    match progress {
        Ok(_) => Ok(Some(name.to_owned())),
        Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) async fn cluster_snapshot(client: &Client, name: &str) -> PortResult<JobProgress> {
    let on = format!("cluster snapshot {name}");
    let asked = client.describe_db_cluster_snapshots().db_cluster_snapshot_identifier(name).send().await;
    let answer = asked.map_err(|e| port_error("ask after", &on, &e))?;
    let found = answer.db_cluster_snapshots().first().ok_or_else(|| absent("ask after", on))?;
    Ok(snapshot(name, found.status(), found.percent_progress()))
}

pub(super) async fn instance_snapshot(client: &Client, name: &str) -> PortResult<JobProgress> {
    let on = format!("snapshot {name}");
    let asked = client.describe_db_snapshots().db_snapshot_identifier(name).send().await;
    let answer = asked.map_err(|e| port_error("ask after", &on, &e))?;
    let found = answer.db_snapshots().first().ok_or_else(|| absent("ask after", on))?;
    Ok(snapshot(name, found.status(), found.percent_progress()))
}

/// How far a snapshot is. It can be restored from once it is available.
fn snapshot(name: &str, status: Option<&str>, percent: Option<i32>) -> JobProgress {
    let status = status.unwrap_or("?");
    let state = match status {
        "available" => JobState::Done,
        "failed" | "deleted" | "deleting" => JobState::Failed,
        _ => JobState::Running,
    };
    JobProgress { state, percent: percent.and_then(|p| u8::try_from(p).ok()), said: format!("{name} {status}") }
}

pub(super) async fn delete_instance(client: &Client, id: &str, member_of: Option<&str>) -> PortResult<()> {
    may_delete_instance(client, id, member_of).await?;
    let call = client.delete_db_instance().db_instance_identifier(id).skip_final_snapshot(true);
    // Of a member the service keeps none.
    let asked = call.set_delete_automated_backups(member_of.is_none().then_some(false)).send().await;
    let Err(e) = asked else { return Ok(()) };
    refused(port_error("delete", &on_instance(id), &e), instance_status(client, id).await)
}

pub(super) async fn delete_cluster(client: &Client, id: &str, final_snapshot: Option<String>) -> PortResult<()> {
    let asked = client
        .delete_db_cluster()
        .db_cluster_identifier(id)
        .skip_final_snapshot(final_snapshot.is_none())
        .set_final_db_snapshot_identifier(final_snapshot)
        // Any moment of the days before can be restored for as long as they were to be kept.
        .delete_automated_backups(false)
        .send()
        .await;
    let Err(e) = asked else { return Ok(()) };
    refused(port_error("delete", &on_cluster(id), &e), cluster_status(client, id).await)
}

pub(super) async fn delete_global(client: &Client, id: &str) -> PortResult<()> {
    let asked = client.delete_global_cluster().global_cluster_identifier(id).send().await;
    let Err(e) = asked else { return Ok(()) };
    refused(port_error("delete", &format!("global cluster {id}"), &e), look_at_global(client, id).await)
}

/// What is being deleted already is not deleted again. The words of a refusal do not say so: a cluster is refused while it
/// has instances "in non-deleting state".
fn refused(error: PortError, status: PortResult<String>) -> PortResult<()> {
    match status {
        Ok(status) if status.starts_with("deleting") => Ok(()),
        Ok(_) | Err(_) => Err(busy(error)),
    }
}
