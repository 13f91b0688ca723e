//! Jobs: what they say, which step may begin them, and what must come before a clean-up.

use std::collections::BTreeSet;

use super::Diagnostics;
use crate::domain::plan::{Confirm, Job, JobKind, Plan, Purpose, Resource, Step, StepKind, StepName};

/// Longest name of a snapshot or backup: with the run behind it RDS takes 63 characters.
const NAME: usize = 36;

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    found.ids("jobs", "job", plan.jobs.iter().map(|job| job.id.as_str()));
    for (n, job) in plan.jobs.iter().enumerate() {
        said(n, job, found);
    }
    same_names(plan, found);
    let mut begun = BTreeSet::new();
    for (n, step) in plan.steps.iter().enumerate() {
        let StepKind::Jobs { purpose, jobs } = &step.kind else { continue };
        if jobs.is_empty() {
            found.error(format!("steps[{n}].jobs"), "names no job");
        }
        for (j, id) in jobs.iter().enumerate() {
            let path = format!("steps[{n}].jobs[{j}]");
            found.name(&path, "job", id, plan.jobs.iter().map(|job| job.id.as_str()));
            let Some(job) = plan.job(id) else { continue };
            if job.purpose() != *purpose {
                let message =
                    format!("`{id}` is for steps of kind `{}`; this one is `{}`", job.purpose().word(), purpose.word());
                found.error(path, message);
            } else if !begun.insert(id.as_str()) {
                found.error(
                    path,
                    format!("`{id}` is begun already by an earlier step: name a job of its own for this one"),
                );
            }
        }
        if *purpose == Purpose::Cleanup {
            cleanup(plan, n, step, found);
        }
    }
    for (n, job) in plan.jobs.iter().enumerate().filter(|(_, job)| !begun.contains(job.id.as_str())) {
        found.warn(format!("jobs[{n}].id"), format!("no step begins `{}`", job.id));
    }
}

/// What one job says by itself.
fn said(n: usize, job: &Job, found: &mut Diagnostics) {
    let path = |key: &str| format!("jobs[{n}].{key}");
    if job.timeout_ms == 0 {
        found.error(path("timeout"), "a job that may take no time at all always fails");
    }
    let name_of = |key: &str, name: &str, found: &mut Diagnostics| {
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !name.contains("--")
            && !name.ends_with('-')
            && name.len() <= NAME;
        if !fits {
            let message = format!(
                "`{name}` must begin with a letter and hold letters, digits and single hyphens, {NAME} at most: the run is added"
            );
            found.error(path(key), message);
        }
    };
    match &job.kind {
        JobKind::InstanceRefresh { group, min_healthy, .. } => {
            if group.trim().is_empty() {
                found.error(path("instance_refresh.group"), "the group's name is empty");
            }
            if *min_healthy > 100 {
                found.error(path("instance_refresh.min_healthy"), "a percentage is from 0 to 100");
            } else if *min_healthy == 0 {
                let message =
                    "with 0 % in service every instance is replaced at once: customers are not served meanwhile";
                found.warn(path("instance_refresh.min_healthy"), message);
            }
        }
        JobKind::ClusterSnapshot { name, .. } => name_of("cluster_snapshot.name", name, found),
        JobKind::InstanceSnapshot { name, .. } => name_of("instance_snapshot.name", name, found),
        JobKind::TableBackup { name, .. } => name_of("table_backup.name", name, found),
        JobKind::Delete(Resource::DbCluster { final_snapshot: Some(name), .. }) => {
            name_of("delete.final_snapshot", name, found);
        }
        JobKind::Delete(Resource::Secret { recovery_days, .. }) => {
            if !(7..=30).contains(recovery_days) {
                found.error(path("delete.recovery_days"), "Secrets Manager keeps a deleted secret for 7 to 30 days");
            }
        }
        JobKind::Delete(
            Resource::DbInstance { .. } | Resource::DbCluster { .. } | Resource::GlobalCluster(_) | Resource::Table(_),
        ) => {}
        JobKind::Command { run, undo, .. } => {
            for (key, words) in [("command", run), ("undo", undo)] {
                if words.first().is_some_and(|program| program.trim().is_empty())
                    || (key == "command" && run.is_empty())
                {
                    found.error(path(key), "names no program");
                }
            }
        }
    }
}

/// Two jobs that would call what they make by one name in one place.
fn same_names(plan: &Plan, found: &mut Diagnostics) {
    let mut taken = BTreeSet::new();
    for (n, job) in plan.jobs.iter().enumerate() {
        let (service, name) = match &job.kind {
            JobKind::ClusterSnapshot { name, .. } => ("cluster", name),
            JobKind::Delete(Resource::DbCluster { final_snapshot: Some(name), .. }) => ("cluster", name),
            JobKind::InstanceSnapshot { name, .. } => ("instance", name),
            JobKind::TableBackup { .. }
            | JobKind::InstanceRefresh { .. }
            | JobKind::Delete(_)
            | JobKind::Command { .. } => continue,
        };
        if !taken.insert((service, job.control.as_str(), name.to_lowercase())) {
            found.error(format!("jobs[{n}].id"), format!("another job calls its snapshot `{name}` already"));
        }
    }
}

/// What must have come before the old side is deleted, and what may not come after.
fn cleanup(plan: &Plan, n: usize, step: &Step, found: &mut Diagnostics) {
    let path = format!("steps[{n}].kind");
    let before = &plan.steps[..n];
    let decision = before.iter().rposition(|s| s.kind.of() == StepName::Switch && plan.moves_writes(&s.id));
    let Some(decision) = decision else {
        let message =
            format!("`{}` deletes the old side, and no step before it has moved writes to the new one", step.id);
        return found.error(path, message);
    };
    if !before[decision..].iter().any(|s| !s.kind.gates().is_empty()) {
        let message =
            format!("`{}` deletes the old side, and no gate since the switch says that the new one is well", step.id);
        found.error(&path, message);
    }
    let kept: Vec<&Job> = before.iter().flat_map(|s| s.kind.jobs()).filter_map(|id| plan.job(id)).collect();
    let deleted: Vec<&Job> = step.kind.jobs().iter().filter_map(|id| plan.job(id)).collect();
    for job in deleted.iter().filter(|job| !is_kept(job, &kept, &deleted)) {
        let message =
            format!("`{}` deletes {}, and no `backup` step before it keeps what is in there", step.id, job.place());
        found.error(&path, message);
    }
    if !matches!(step.confirm, Confirm::Word(_)) {
        let message =
            format!("`{}` deletes for good; ask for a typed word: confirm = {{ word = \"DELETE-V1\" }}", step.id);
        found.error(format!("steps[{n}].confirm"), message);
    }
    if !step.two_person {
        let message = format!("`{}` deletes for good; ask for a second person: two_person = true", step.id);
        found.error(format!("steps[{n}].two_person"), message);
    }
    let after = plan.steps[n + 1..].iter().find(|s| match s.kind.of() {
        StepName::Cleanup
        | StepName::Smoke
        | StepName::Gate
        | StepName::GoNoGo
        | StepName::Manual
        | StepName::Backup
        | StepName::Command => false,
        StepName::Preflight
        | StepName::SetUp
        | StepName::Capture
        | StepName::Load
        | StepName::CatchUp
        | StepName::Baseline
        | StepName::Verify
        | StepName::Arm
        | StepName::Freeze
        | StepName::Drain
        | StepName::Switch
        | StepName::Thaw
        | StepName::Restart => true,
    });
    if let Some(after) = after {
        let message = format!(
            "`{}` deletes the old side, and `{}` after it may need it, or a rollback of it would",
            step.id, after.id
        );
        found.error(path, message);
    }
}

/// Whether a backup before, or a last snapshot, keeps what a job deletes. What a member of a cluster holds is the cluster's.
fn is_kept(job: &Job, before: &[&Job], deleted: &[&Job]) -> bool {
    let backed_up = |of: &dyn Fn(&JobKind) -> bool| before.iter().any(|b| b.control == job.control && of(&b.kind));
    let cluster = |id: &String| {
        let last = |other: &&&Job| match &other.kind {
            JobKind::Delete(Resource::DbCluster { cluster, final_snapshot: Some(_) }) => cluster == id,
            _ => false,
        };
        backed_up(&|kind| matches!(kind, JobKind::ClusterSnapshot { cluster, .. } if cluster == id))
            || deleted.iter().filter(|other| other.control == job.control).any(|other| last(&other))
    };
    let JobKind::Delete(resource) = &job.kind else { return true };
    match resource {
        Resource::GlobalCluster(_) | Resource::Secret { .. } => true,
        Resource::DbCluster { cluster: id, .. } => cluster(id),
        Resource::DbInstance { member_of: Some(id), .. } => cluster(id),
        Resource::DbInstance { instance: id, member_of: None } => {
            backed_up(&|kind| matches!(kind, JobKind::InstanceSnapshot { instance, .. } if instance == id))
        }
        Resource::Table(id) => backed_up(&|kind| matches!(kind, JobKind::TableBackup { table, .. } if table == id)),
    }
}
