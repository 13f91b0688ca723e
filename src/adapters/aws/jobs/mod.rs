//! Jobs of AWS: instance refreshes, snapshots, backups, deletions.

mod databases;
mod refresh;
mod secrets;
#[cfg(feature = "dynamodb")]
mod tables;

use async_trait::async_trait;
use aws_config::SdkConfig;

use crate::adapters::aws::is_unsigned;
use crate::domain::plan::{Job, JobKind, Resource};
use crate::ports::{Begin, ErrorKind, JobProgress, JobState, Jobs, PortError, PortResult};

/// Where the services of one region and account answer; `None` is AWS's own endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobEndpoints<'e> {
    /// Auto Scaling.
    pub autoscaling: Option<&'e str>,
    /// RDS.
    pub rds: Option<&'e str>,
    /// Secrets Manager.
    pub secretsmanager: Option<&'e str>,
    /// DynamoDB.
    pub dynamodb: Option<&'e str>,
}

/// What is kept of something that is deleted: its name is all there is to ask for.
const DELETED: &str = "deletion of";

/// Before the name of the snapshot that is made of it at the last.
const KEEPING: &str = ", keeping ";

fn deletion(resource: &Resource, begin: &Begin) -> String {
    let keeping = match resource {
        Resource::DbCluster { final_snapshot: Some(name), .. } => format!("{KEEPING}{}", named(name, begin)),
        Resource::DbCluster { final_snapshot: None, .. }
        | Resource::DbInstance { .. }
        | Resource::GlobalCluster(_)
        | Resource::Table(_)
        | Resource::Secret { .. } => String::new(),
    };
    format!("{DELETED} {}{keeping}", resource.words())
}

/// Jobs of one region and account.
#[derive(Clone, Debug)]
pub struct AwsJobs {
    autoscaling: aws_sdk_autoscaling::Client,
    rds: aws_sdk_rds::Client,
    secrets: aws_sdk_secretsmanager::Client,
    #[cfg(feature = "dynamodb")]
    dynamodb: aws_sdk_dynamodb::Client,
}

impl AwsJobs {
    /// Clients over one session.
    #[must_use]
    pub fn new(session: &SdkConfig, ends: JobEndpoints<'_>) -> Self {
        macro_rules! client {
            ($sdk:ident, $endpoint:expr) => {{
                let mut config = $sdk::config::Builder::from(session);
                if let Some(endpoint) = $endpoint {
                    config = config.endpoint_url(endpoint);
                }
                $sdk::Client::from_conf(config.build())
            }};
        }
        Self {
            autoscaling: client!(aws_sdk_autoscaling, ends.autoscaling),
            rds: client!(aws_sdk_rds, ends.rds),
            secrets: client!(aws_sdk_secretsmanager, ends.secretsmanager),
            #[cfg(feature = "dynamodb")]
            dynamodb: client!(aws_sdk_dynamodb, ends.dynamodb),
        }
    }
}

#[async_trait]
impl Jobs for AwsJobs {
    async fn look(&self, job: &Job) -> PortResult<String> {
        match &job.kind {
            JobKind::InstanceRefresh { group, .. } => refresh::look(&self.autoscaling, group).await,
            JobKind::ClusterSnapshot { cluster, .. } => databases::look_at_cluster(&self.rds, cluster).await,
            JobKind::InstanceSnapshot { instance, .. } => databases::look_at_instance(&self.rds, instance).await,
            JobKind::TableBackup { table, .. } => self.look_at(table, false).await,
            JobKind::Delete(Resource::Table(table)) => self.look_at(table, true).await,
            JobKind::Delete(Resource::DbInstance { instance, member_of }) => {
                databases::may_delete_instance(&self.rds, instance, member_of.as_deref()).await
            }
            JobKind::Delete(Resource::DbCluster { cluster, .. }) => {
                databases::may_delete_cluster(&self.rds, cluster).await
            }
            JobKind::Delete(Resource::GlobalCluster(global)) => databases::look_at_global(&self.rds, global).await,
            JobKind::Delete(Resource::Secret { secret, .. }) => secrets::look(&self.secrets, secret).await,
            JobKind::Command { .. } => Err(not_here(job)),
        }
    }

    async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String> {
        match &job.kind {
            JobKind::InstanceRefresh { group, min_healthy, warmup_ms } => {
                refresh::begin(&self.autoscaling, group, *min_healthy, *warmup_ms).await
            }
            JobKind::ClusterSnapshot { cluster, name, tags } => {
                databases::snapshot_cluster(&self.rds, cluster, &named(name, begin), tags).await
            }
            JobKind::InstanceSnapshot { instance, name, tags } => {
                databases::snapshot_instance(&self.rds, instance, &named(name, begin), tags).await
            }
            JobKind::TableBackup { table, name } => self.back_up(table, &named(name, begin)).await,
            JobKind::Delete(resource) => {
                let begun = match resource {
                    Resource::DbInstance { instance, member_of } => {
                        databases::delete_instance(&self.rds, instance, member_of.as_deref()).await
                    }
                    Resource::DbCluster { cluster, final_snapshot } => {
                        let last = final_snapshot.as_ref().map(|name| named(name, begin));
                        databases::delete_cluster(&self.rds, cluster, last).await
                    }
                    Resource::GlobalCluster(global) => databases::delete_global(&self.rds, global).await,
                    Resource::Table(table) => self.delete_table(table).await,
                    Resource::Secret { secret, recovery_days } => {
                        secrets::delete(&self.secrets, secret, *recovery_days).await
                    }
                };
                match begun {
                    // What is not there any more is deleted, if it is the service that says so.
                    Err(e) if e.kind != ErrorKind::NotFound || is_unsigned(&e) => Err(e),
                    Ok(()) | Err(_) => Ok(deletion(resource, begin)),
                }
            }
            JobKind::Command { .. } => Err(not_here(job)),
        }
    }

    async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>> {
        match &job.kind {
            JobKind::InstanceRefresh { group, .. } => {
                refresh::find(&self.autoscaling, group, begin.since, begin.besides.as_deref()).await
            }
            JobKind::ClusterSnapshot { name, .. } => {
                databases::find_cluster_snapshot(&self.rds, &named(name, begin)).await
            }
            JobKind::InstanceSnapshot { name, .. } => {
                databases::find_instance_snapshot(&self.rds, &named(name, begin)).await
            }
            JobKind::TableBackup { table, name } => self.find_backup(table, &named(name, begin)).await,
            JobKind::Delete(resource) => {
                let now = self.progress(job, "").await?;
                let goes = now.state == JobState::Done || now.said.to_ascii_lowercase().starts_with("deleting");
                Ok(goes.then(|| deletion(resource, begin)))
            }
            JobKind::Command { .. } => Err(not_here(job)),
        }
    }

    async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress> {
        match &job.kind {
            JobKind::InstanceRefresh { group, .. } => refresh::progress(&self.autoscaling, group, handle).await,
            JobKind::ClusterSnapshot { .. } => databases::cluster_snapshot(&self.rds, handle).await,
            JobKind::InstanceSnapshot { .. } => databases::instance_snapshot(&self.rds, handle).await,
            JobKind::TableBackup { .. } => self.backup(handle).await,
            JobKind::Delete(resource) => {
                let left = match resource {
                    Resource::DbInstance { instance, .. } => databases::instance_status(&self.rds, instance).await,
                    Resource::DbCluster { cluster, .. } => databases::cluster_status(&self.rds, cluster).await,
                    Resource::GlobalCluster(global) => databases::look_at_global(&self.rds, global).await,
                    Resource::Table(table) => self.table_status(table).await,
                    Resource::Secret { secret, .. } => return secrets::deleted(&self.secrets, secret).await,
                };
                match (gone(left)?, handle.split_once(KEEPING)) {
                    // It is gone, and so is what it held, unless the last snapshot is there.
                    (gone, Some((_, last))) if gone.state == JobState::Done => {
                        databases::cluster_snapshot(&self.rds, last).await.map_err(|e| match e.kind {
                            ErrorKind::NotFound => e.advise("the cluster is gone without it: see who deleted it"),
                            _ => e,
                        })
                    }
                    (now, _) => Ok(now),
                }
            }
            JobKind::Command { .. } => Err(not_here(job)),
        }
    }

    async fn cancel(&self, job: &Job, handle: &str) -> PortResult<()> {
        match &job.kind {
            JobKind::InstanceRefresh { group, .. } => refresh::cancel(&self.autoscaling, group, handle).await,
            JobKind::ClusterSnapshot { .. }
            | JobKind::InstanceSnapshot { .. }
            | JobKind::TableBackup { .. }
            | JobKind::Delete(_) => {
                Err(PortError::new(ErrorKind::Invalid, "end", job.place(), "the service cannot end it early"))
            }
            JobKind::Command { .. } => Err(not_here(job)),
        }
    }
}

#[cfg(not(feature = "dynamodb"))]
impl AwsJobs {
    fn no_tables<T>(table: &str) -> PortResult<T> {
        let why = "this build knows no DynamoDB: build it with the feature `dynamodb`";
        Err(PortError::new(ErrorKind::Invalid, "reach", format!("table {table}"), why))
    }

    async fn look_at(&self, table: &str, _: bool) -> PortResult<String> {
        Self::no_tables(table)
    }

    async fn back_up(&self, table: &str, _: &str) -> PortResult<String> {
        Self::no_tables(table)
    }

    async fn delete_table(&self, table: &str) -> PortResult<()> {
        Self::no_tables(table)
    }

    async fn find_backup(&self, table: &str, _: &str) -> PortResult<Option<String>> {
        Self::no_tables(table)
    }

    async fn backup(&self, backup: &str) -> PortResult<JobProgress> {
        Self::no_tables(backup)
    }

    async fn table_status(&self, table: &str) -> PortResult<String> {
        Self::no_tables(table)
    }
}

/// What a beginning calls what it makes.
fn named(name: &str, begin: &Begin) -> String {
    // RDS keeps identifiers in small letters.
    format!("{}-{}", name.to_ascii_lowercase(), begin.token)
}

/// Whether what is deleted is gone; else what the service says of it.
fn gone(left: PortResult<String>) -> PortResult<JobProgress> {
    match left {
        Err(e) if e.kind == ErrorKind::NotFound && !is_unsigned(&e) => {
            Ok(JobProgress { state: JobState::Done, percent: None, said: "gone".to_owned() })
        }
        Err(e) => Err(e),
        Ok(said) => Ok(JobProgress { state: JobState::Running, percent: None, said }),
    }
}

fn not_here(job: &Job) -> PortError {
    PortError::new(ErrorKind::Invalid, "begin", job.place(), "it is no job of AWS")
}
