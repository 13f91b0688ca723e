//! Work that somebody else does and this program starts, watches and waits for: restarts, backups, commands, deletions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::store::{CONTROL, other_control};

/// One piece of work that is started, watched until it ends, and may be taken back (FEATURES A11, C6, C10, E11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Short name: `web-eu`.
    pub id: String,
    /// Words for the screen: `restart the web servers in eu-west-1`.
    pub title: String,
    /// What it is.
    pub kind: JobKind,
    /// In which region and account: [`CONTROL`], or the name of another control plane of the plan's stores. A command runs
    /// on this machine whatever stands here.
    #[serde(default = "control", skip_serializing_if = "is_control")]
    pub control: String,
    /// Longest it may take before its step fails, in milliseconds. It is not stopped then.
    pub timeout_ms: u64,
}

fn control() -> String {
    CONTROL.to_owned()
}

fn is_control(name: &str) -> bool {
    name == CONTROL
}

/// What a job does. What belongs to a service is named as that service names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Replaces the instances of an Auto Scaling group, some at a time, so that each starts with the values that stand now.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-instance-refresh.html>
    InstanceRefresh {
        /// The group's name.
        group: String,
        /// Percent of the group's capacity that stays in service, 0 to 100.
        min_healthy: u8,
        /// How long a new instance may take before it counts, in milliseconds; absent: as the group says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warmup_ms: Option<u64>,
    },
    /// A snapshot of an Aurora (or Multi-AZ) cluster.
    ClusterSnapshot {
        /// The cluster's identifier.
        cluster: String,
        /// What the snapshot is called; the run is added to it.
        name: String,
        /// Its tags.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tags: BTreeMap<String, String>,
    },
    /// A snapshot of an RDS instance.
    InstanceSnapshot {
        /// The instance's identifier.
        instance: String,
        /// What the snapshot is called; the run is added to it.
        name: String,
        /// Its tags.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tags: BTreeMap<String, String>,
    },
    /// An on-demand backup of a DynamoDB table.
    TableBackup {
        /// The table's name.
        table: String,
        /// What the backup is called; the run is added to it.
        name: String,
    },
    /// Deletes something of the old side for good.
    Delete(Resource),
    /// A program on this machine, without a shell. Exit code 0 is success.
    Command {
        /// The program and its arguments.
        run: Vec<String>,
        /// What takes it back in a rollback; empty: nothing does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        undo: Vec<String>,
        /// Whether it may run again when nobody knows how far an earlier run of it came.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeatable: bool,
    },
}

/// What can be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// An instance of RDS or of a cluster.
    DbInstance {
        /// The instance's identifier.
        instance: String,
        /// The cluster that it is a member of. Absent: it stands alone, and what it holds goes with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member_of: Option<String>,
    },
    /// A cluster; its instances are gone by then. `final_snapshot` is taken with it where it is given.
    DbCluster {
        /// The cluster's identifier.
        cluster: String,
        /// What the last snapshot is called; the run is added to it. Absent: none is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        final_snapshot: Option<String>,
    },
    /// A global cluster without members.
    GlobalCluster(String),
    /// A DynamoDB table.
    Table(String),
    /// A secret of Secrets Manager, which can be restored for so many days.
    Secret {
        /// Its name or ARN.
        secret: String,
        /// Days in which it can be restored, 7 to 30.
        recovery_days: u8,
    },
}

/// What a step of jobs is for. What may follow it, and what a rollback does about it, depends on this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Applications start with the values that stand now. A rollback starts them once more, after the switches are back.
    Restart,
    /// Something is kept that did not change. A rollback leaves it.
    Backup,
    /// Whatever the person who wrote the plan wants done. A rollback runs what the job says for that.
    Command,
    /// The old side is deleted. Nothing leads back from here on.
    Cleanup,
}

impl Job {
    /// What a step of this job is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        match self.kind {
            JobKind::InstanceRefresh { .. } => Purpose::Restart,
            JobKind::ClusterSnapshot { .. } | JobKind::InstanceSnapshot { .. } | JobKind::TableBackup { .. } => {
                Purpose::Backup
            }
            JobKind::Command { .. } => Purpose::Command,
            JobKind::Delete(_) => Purpose::Cleanup,
        }
    }

    /// What it works on, for screens; in another region or account than the plan's own with the name of that one before it:
    /// `eu:group payments-prod`.
    #[must_use]
    pub fn place(&self) -> String {
        let place = match &self.kind {
            JobKind::InstanceRefresh { group, .. } => format!("group {group}"),
            JobKind::ClusterSnapshot { cluster, .. } => format!("cluster {cluster}"),
            JobKind::InstanceSnapshot { instance, .. } => format!("instance {instance}"),
            JobKind::TableBackup { table, .. } => format!("table {table}"),
            JobKind::Delete(resource) => resource.words(),
            JobKind::Command { run, .. } => return run.first().cloned().unwrap_or_default(),
        };
        match other_control(&self.control) {
            Some(elsewhere) => format!("{elsewhere}:{place}"),
            None => place,
        }
    }

    /// What it does, in a verb and its object: `refresh group payments-prod`.
    #[must_use]
    pub fn words(&self) -> String {
        let verb = match &self.kind {
            JobKind::InstanceRefresh { .. } => "refresh",
            JobKind::ClusterSnapshot { .. } | JobKind::InstanceSnapshot { .. } => "snapshot",
            JobKind::TableBackup { .. } => "back up",
            JobKind::Delete(_) => "delete",
            JobKind::Command { .. } => "run",
        };
        format!("{verb} {}", self.place())
    }

    /// Whether something that began it and was never heard of again can be found at the service, so that it is not begun
    /// twice. Of the others nobody knows.
    #[must_use]
    pub const fn found_again(&self) -> bool {
        match self.kind {
            JobKind::InstanceRefresh { .. }
            | JobKind::ClusterSnapshot { .. }
            | JobKind::InstanceSnapshot { .. }
            | JobKind::TableBackup { .. }
            | JobKind::Delete(_) => true,
            JobKind::Command { repeatable, .. } => repeatable,
        }
    }
}

impl Resource {
    /// `cluster payments-v1`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::DbInstance { instance, .. } => format!("instance {instance}"),
            Self::DbCluster { cluster, .. } => format!("cluster {cluster}"),
            Self::GlobalCluster(id) => format!("global cluster {id}"),
            Self::Table(name) => format!("table {name}"),
            Self::Secret { secret, .. } => format!("secret {secret}"),
        }
    }
}

impl Purpose {
    /// As a step's kind in the config file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Backup => "backup",
            Self::Command => "command",
            Self::Cleanup => "cleanup",
        }
    }
}
