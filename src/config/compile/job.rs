//! `[[jobs]]`: work that somebody else does.

use std::collections::BTreeMap;

use crate::config::error::Sink;
use crate::config::keys;
use crate::config::section::Section;
use crate::domain::plan::{CONTROL, Job, JobKind, Resource, control_called};

/// Longest a job may take where the file does not say it.
const TIMEOUT_MS: u64 = 3_600_000;

/// What a job is: one of these keys.
const KINDS: [&str; 6] =
    ["instance_refresh", "cluster_snapshot", "instance_snapshot", "table_backup", "delete", "command"];

pub(super) fn jobs(root: &Section<'_>, sink: &mut Sink<'_>) -> Vec<Job> {
    root.list("jobs", keys::JOBS).iter().map(|s| job(s, sink)).collect()
}

fn job(s: &Section<'_>, sink: &mut Sink<'_>) -> Job {
    let id = s.must("id");
    let said: Vec<&str> = KINDS.into_iter().filter(|key| s.has(key)).collect();
    if said.len() != 1 {
        let message = match said.as_slice() {
            [] => format!("missing what the job does: one of {}", listed(&KINDS)),
            several => format!("{} exclude each other: a job does one thing", listed(several)),
        };
        sink.error(s.offset_of("id"), &s.path_of("id"), message);
    }
    for key in ["undo", "repeatable"].into_iter().filter(|key| s.has(key) && !s.has("command")) {
        let message = format!("`{key}` is for a job that runs a `command`");
        sink.error(s.offset_of(key), &s.path_of(key), message);
    }
    let kind = kind(s, said.first().copied().unwrap_or("command"), sink);
    let title = s.text("title").unwrap_or_else(|| id.clone());
    Job {
        title,
        kind,
        control: s.text("control").map_or_else(|| CONTROL.to_owned(), |name| control_called(&name)),
        timeout_ms: s.millis("timeout", TIMEOUT_MS),
        id,
    }
}

fn kind(s: &Section<'_>, key: &str, sink: &mut Sink<'_>) -> JobKind {
    match key {
        "instance_refresh" => {
            let of = s.table(key, keys::INSTANCE_REFRESH);
            JobKind::InstanceRefresh {
                group: of.must("group"),
                min_healthy: u8::try_from(of.count("min_healthy", 90)).unwrap_or(u8::MAX),
                warmup_ms: of.has("warmup").then(|| of.millis("warmup", 0)),
            }
        }
        "cluster_snapshot" => {
            let of = s.table(key, keys::CLUSTER_SNAPSHOT);
            JobKind::ClusterSnapshot { cluster: of.must("cluster"), name: of.must("name"), tags: tags(&of) }
        }
        "instance_snapshot" => {
            let of = s.table(key, keys::INSTANCE_SNAPSHOT);
            JobKind::InstanceSnapshot { instance: of.must("instance"), name: of.must("name"), tags: tags(&of) }
        }
        "table_backup" => {
            let of = s.table(key, keys::TABLE_BACKUP);
            JobKind::TableBackup { table: of.must("table"), name: of.must("name") }
        }
        "delete" => JobKind::Delete(resource(&s.table(key, keys::DELETE), sink)),
        _ => JobKind::Command { run: s.texts("command"), undo: s.texts("undo"), repeatable: s.flag("repeatable") },
    }
}

fn tags(of: &Section<'_>) -> BTreeMap<String, String> {
    of.pairs("tags").into_iter().collect()
}

fn resource(of: &Section<'_>, sink: &mut Sink<'_>) -> Resource {
    const RESOURCES: [&str; 5] = ["instance", "cluster", "global_cluster", "table", "secret"];
    let said: Vec<&str> = RESOURCES.into_iter().filter(|key| of.has(key)).collect();
    if said.len() != 1 {
        let message = match said.as_slice() {
            [] => format!("missing what is deleted: one of {}", listed(&RESOURCES)),
            several => format!("{} exclude each other: one job deletes one thing", listed(several)),
        };
        sink.error(of.offset_of("table"), &of.path, message);
    }
    for (key, belongs_to) in [("member_of", "instance"), ("final_snapshot", "cluster"), ("recovery_days", "secret")] {
        if of.has(key) && !of.has(belongs_to) {
            let message = format!("`{key}` belongs to `{belongs_to}`");
            sink.error(of.offset_of(key), &of.path_of(key), message);
        }
    }
    match said.first().copied().unwrap_or("table") {
        "instance" => Resource::DbInstance { instance: of.must("instance"), member_of: of.text("member_of") },
        "cluster" => Resource::DbCluster { cluster: of.must("cluster"), final_snapshot: of.text("final_snapshot") },
        "global_cluster" => Resource::GlobalCluster(of.must("global_cluster")),
        "secret" => Resource::Secret {
            secret: of.must("secret"),
            recovery_days: u8::try_from(of.count("recovery_days", 30)).unwrap_or(u8::MAX),
        },
        _ => Resource::Table(of.text("table").unwrap_or_default()),
    }
}

/// `a`, `b` and `c`.
fn listed(keys: &[&str]) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => quoted.concat(),
    }
}
