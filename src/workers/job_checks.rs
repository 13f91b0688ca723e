//! What `check` says of jobs, by calls that change nothing.

use super::context::Ports;
use super::preflight::{CheckRow, Missing};
use crate::domain::plan::{JobKind, Plan, Purpose};
use crate::ports::ErrorKind;

/// One row for each job, asked for side by side.
pub(super) async fn rows(plan: &Plan, ports: &Ports, missing: &Missing) -> Vec<CheckRow> {
    let each = plan.jobs.iter().map(|job| async move {
        let what = format!("job {}", job.id);
        if missing.aws.is_some() && !matches!(job.kind, JobKind::Command { .. }) {
            return CheckRow::denied(what, super::preflight::NO_AWS, "");
        }
        match ports.jobs.look(job).await {
            Ok(found) => CheckRow::ok(what, format!("{}: {found}", job.place())),
            // What still serves is protected on purpose; before the first deletion it is looked at again.
            Err(e) if job.purpose() == Purpose::Cleanup && e.kind == ErrorKind::Invalid => {
                CheckRow::ok(what, format!("{}: not yet ({})", job.place(), e.came_back))
            }
            Err(e) => CheckRow::port(what, &e),
        }
    });
    futures::future::join_all(each).await
}
