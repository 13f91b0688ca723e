//! Keys of `[[jobs]]`.

use super::Kind::{Bool, Count, Duration, Int, Map, Table, Text, Texts};
use super::{Key, may, must};

pub(in crate::config) static JOBS: &[Key] = &[
    must("id", Text, "Short name, unique."),
    may("title", Text, "Words for the screen. Default: the id."),
    may("control", Text, "In which region and account: a name under `control`. Default: those of `[aws]`."),
    may("timeout", Duration, "Longest it may take before its step fails; it is not stopped then. Default: 1h."),
    may(
        "instance_refresh",
        Table(INSTANCE_REFRESH),
        "Replaces the instances of an Auto Scaling group, some at a time.",
    ),
    may("cluster_snapshot", Table(CLUSTER_SNAPSHOT), "A snapshot of an Aurora or Multi-AZ cluster."),
    may("instance_snapshot", Table(INSTANCE_SNAPSHOT), "A snapshot of an RDS instance."),
    may("table_backup", Table(TABLE_BACKUP), "An on-demand backup of a DynamoDB table."),
    may("delete", Table(DELETE), "Deletes one thing of the old side for good."),
    may("command", Texts, "A program with its arguments, run on this machine without a shell. Exit code 0 is success."),
    may("undo", Texts, "For `command`: the program that a rollback runs, with its arguments. Default: none."),
    may(
        "repeatable",
        Bool,
        "For `command`: it may run again when nobody knows how far an earlier run came. Default: false, a person decides.",
    ),
];

pub(in crate::config) static INSTANCE_REFRESH: &[Key] = &[
    must("group", Text, "The Auto Scaling group."),
    may("min_healthy", Int, "Percent of the group's capacity that stays in service. Default: 90."),
    may("warmup", Duration, "How long a new instance may take before it counts. Default: as the group says."),
];

pub(in crate::config) static CLUSTER_SNAPSHOT: &[Key] = &[
    must("cluster", Text, "The cluster's identifier."),
    must("name", Text, "What the snapshot is called; the run's id is added."),
    may("tags", Map(&Text), "Its tags."),
];

pub(in crate::config) static INSTANCE_SNAPSHOT: &[Key] = &[
    must("instance", Text, "The instance's identifier."),
    must("name", Text, "What the snapshot is called; the run's id is added."),
    may("tags", Map(&Text), "Its tags."),
];

pub(in crate::config) static TABLE_BACKUP: &[Key] = &[
    must("table", Text, "The table's name."),
    must("name", Text, "What the backup is called; the run's id is added."),
];

pub(in crate::config) static DELETE: &[Key] = &[
    may("instance", Text, "An instance of RDS or of a cluster."),
    may("member_of", Text, "For `instance`: the cluster that it is a member of. Default: it stands alone."),
    may("cluster", Text, "A cluster whose instances are gone."),
    may(
        "final_snapshot",
        Text,
        "For `cluster`: what its last snapshot is called; the run's id is added. Default: none is taken.",
    ),
    may("global_cluster", Text, "A global cluster without members."),
    may("table", Text, "A DynamoDB table."),
    may("secret", Text, "A secret of Secrets Manager, by name or ARN."),
    may("recovery_days", Count, "For `secret`: days in which it can be restored, 7 to 30. Default: 30."),
];
