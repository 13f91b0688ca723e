//! Instance refreshes of Auto Scaling groups.

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::retry::RetryConfig;
use aws_sdk_autoscaling::types::{
    InstanceRefresh, InstanceRefreshStatus, RefreshPreferences, RefreshStrategy, ScaleInProtectedInstances,
    StandbyInstances,
};

use crate::adapters::aws::port_error;
use crate::domain::at::At;
use crate::ports::{ErrorKind, JobProgress, JobState, PortError, PortResult};

/// How much earlier than the call a refresh may have begun by the service's clock.
const SKEW_MS: i64 = 5_000;

fn on(group: &str) -> String {
    format!("group {group}")
}

/// Instances of the group and how many are in service; `Conflict` while a refresh is under way.
pub(super) async fn look(client: &Client, group: &str) -> PortResult<String> {
    let asked = client.describe_auto_scaling_groups().auto_scaling_group_names(group).send().await;
    let answer = asked.map_err(|e| port_error("look at", &on(group), &e))?;
    let Some(found) = answer.auto_scaling_groups().first() else {
        return Err(PortError::new(ErrorKind::NotFound, "look at", on(group), "there is no such group")
            .advise("check its name, the region and the account"));
    };
    if let Some(busy) = refreshes(client, group).await?.iter().find(|refresh| goes_on(refresh)) {
        let why = format!("refresh {} is under way: {}", busy.instance_refresh_id().unwrap_or("?"), said(busy));
        return Err(PortError::new(ErrorKind::Conflict, "look at", on(group), why)
            .advise("wait for its end, or cancel it: a group has one refresh at a time"));
    }
    let stopped: Vec<&str> = found.suspended_processes().iter().filter_map(|p| p.process_name()).collect();
    let needed = ["Launch", "Terminate", "InstanceRefresh"];
    if let Some(process) = stopped.into_iter().find(|process| needed.contains(process)) {
        let why = format!("its process {process} is suspended: no refresh would come to an end");
        return Err(PortError::new(ErrorKind::Conflict, "look at", on(group), why).advise("resume it"));
    }
    let instances = found.instances();
    let serving = instances.iter().filter(|i| i.lifecycle_state().is_some_and(|s| s.as_str() == "InService")).count();
    Ok(format!("{} instances, {serving} in service", instances.len()))
}

/// Begins one. Every instance is replaced though the group's template is the same: what has changed is what they read.
pub(super) async fn begin(client: &Client, group: &str, min_healthy: u8, warmup_ms: Option<u64>) -> PortResult<String> {
    let warmup = warmup_ms.map(|ms| i32::try_from(ms.div_ceil(1000)).unwrap_or(i32::MAX));
    let preferences = RefreshPreferences::builder()
        .min_healthy_percentage(i32::from(min_healthy))
        .set_instance_warmup(warmup)
        .skip_matching(false)
        // An instance that is left out would go on with the value before, and one that is waited for keeps customers out.
        .scale_in_protected_instances(ScaleInProtectedInstances::Refresh)
        .standby_instances(StandbyInstances::Terminate)
        .build();
    // Sent once: a call whose answer is lost has begun one, and the same call again is refused because of it.
    let once = aws_sdk_autoscaling::config::Builder::new().retry_config(RetryConfig::disabled());
    let asked = client
        .start_instance_refresh()
        .auto_scaling_group_name(group)
        .strategy(RefreshStrategy::Rolling)
        .preferences(preferences)
        .customize()
        .config_override(once)
        .send()
        .await;
    let begun = asked.map_err(|e| {
        let error = port_error("refresh", &on(group), &e);
        if error.came_back.starts_with("InstanceRefreshInProgress") {
            return PortError { kind: ErrorKind::Conflict, ..error }.advise("wait for its end, or cancel it");
        }
        error
    })?;
    begun
        .instance_refresh_id
        .ok_or_else(|| PortError::new(ErrorKind::Internal, "refresh", on(group), "the answer names no refresh"))
}

/// The newest refresh that began at or after this moment and is not the one that is known: a group has one at a time. Somebody
/// else's that began just then is taken for ours if it replaces every instance, as ours does.
pub(super) async fn find(client: &Client, group: &str, since: At, besides: Option<&str>) -> PortResult<Option<String>> {
    let all = refreshes(client, group).await?;
    let began = |refresh: &&InstanceRefresh| match refresh.start_time().and_then(|at| at.to_millis().ok()) {
        Some(at) => at >= since.0 - SKEW_MS,
        // One that still waits for its turn has no start yet.
        None => goes_on(refresh),
    };
    let other = |refresh: &&InstanceRefresh| besides.is_none() || refresh.instance_refresh_id() != besides;
    let newest = all
        .iter()
        .filter(began)
        .filter(other)
        .max_by_key(|refresh| refresh.start_time().map_or(i128::MAX, |at| at.as_nanos()));
    Ok(newest.and_then(|refresh| refresh.instance_refresh_id()).map(str::to_owned))
}

pub(super) async fn progress(client: &Client, group: &str, id: &str) -> PortResult<JobProgress> {
    let asked =
        client.describe_instance_refreshes().auto_scaling_group_name(group).instance_refresh_ids(id).send().await;
    let answer = asked.map_err(|e| port_error("ask after a refresh of", &on(group), &e))?;
    let found = answer.instance_refreshes().iter().find(|refresh| refresh.instance_refresh_id() == Some(id));
    let Some(refresh) = found else {
        return Err(PortError::new(ErrorKind::NotFound, "ask after", format!("refresh {id}"), "it is not known"));
    };
    let state = match refresh.status() {
        Some(InstanceRefreshStatus::Successful) => JobState::Done,
        _ if goes_on(refresh) => JobState::Running,
        _ => JobState::Failed,
    };
    let percent = refresh.percentage_complete().and_then(|p| u8::try_from(p).ok());
    Ok(JobProgress { state, percent, said: said(refresh) })
}

pub(super) async fn cancel(client: &Client, group: &str, id: &str) -> PortResult<()> {
    // The call names no refresh: it must not end one that somebody else has begun since.
    if progress(client, group, id).await?.state != JobState::Running {
        return Ok(());
    }
    // What is being terminated goes on by itself; nobody waits for its connections to drain.
    let call = client.cancel_instance_refresh().auto_scaling_group_name(group);
    match call.wait_for_transitioning_instances(false).send().await {
        Ok(_) => Ok(()),
        Err(e) => match port_error("cancel the refresh of", &on(group), &e) {
            over if over.came_back.starts_with("ActiveInstanceRefreshNotFound") => Ok(()),
            error => Err(error),
        },
    }
}

async fn refreshes(client: &Client, group: &str) -> PortResult<Vec<InstanceRefresh>> {
    // The newest come first.
    let asked = client.describe_instance_refreshes().auto_scaling_group_name(group).send().await;
    let answer = asked.map_err(|e| port_error("list the refreshes of", &on(group), &e))?;
    Ok(answer.instance_refreshes.unwrap_or_default())
}

/// Whether it has not ended. A status that is not known here is taken for one of those.
fn goes_on(refresh: &InstanceRefresh) -> bool {
    use InstanceRefreshStatus::{Cancelled, Failed, RollbackFailed, RollbackSuccessful, Successful};
    !matches!(refresh.status(), Some(Successful | Failed | Cancelled | RollbackFailed | RollbackSuccessful))
}

/// `InProgress, 3 to go: ...`.
fn said(refresh: &InstanceRefresh) -> String {
    let mut said = refresh.status().map_or("?", |status| status.as_str()).to_owned();
    if let Some(left) = refresh.instances_to_update().filter(|left| *left > 0) {
        said.push_str(&format!(", {left} instances to go"));
    }
    if let Some(reason) = refresh.status_reason() {
        said.push_str(&format!(": {reason}"));
    }
    said
}
