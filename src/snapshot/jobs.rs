//! Jobs on the screen: what a step of them does, and how far they are.

use super::StepRow;
use super::build::Context;
use super::words::{age, length};
use crate::domain::gauge::JobGauge;
use crate::domain::plan::{Job, JobKind, Plan, Purpose};
use crate::domain::run::Evidence;

/// Older than this a word of a service is not known any more, in milliseconds.
const STALE_MS: i64 = 60_000;

/// What a step of these jobs does.
pub(super) fn does(plan: &Plan, purpose: Purpose, ids: &[String]) -> String {
    let each: Vec<String> = ids.iter().filter_map(|id| plan.job(id)).map(Job::words).collect();
    let end = match purpose {
        Purpose::Restart => "done when every one of them has ended well",
        Purpose::Backup => "done when every one of them can be restored from",
        Purpose::Command => "done when every one of them has ended well",
        Purpose::Cleanup => "one after the other, FOR GOOD: nothing leads back from here",
    };
    format!("{}; {end}", each.join("; "))
}

/// Each job of a step that is under way: the step's line, and one line of evidence each.
pub(super) fn going_on(cx: &Context<'_>, ids: &[String], row: &mut StepRow) {
    let jobs: Vec<&Job> = ids.iter().filter_map(|id| cx.plan.job(id)).collect();
    let gauge = |job: &Job| cx.measured.jobs.get(&job.id);
    // Of many those that are over say nothing new.
    let over = |job: &&Job| gauge(job).is_some_and(|gauge| gauge.ended == Some(true));
    let begun = |job: &&Job| gauge(job).is_some();
    let brief = |job: &Job| format!("{} {}", job.id, gauge(job).map_or_else(|| "?".to_owned(), far));
    row.detail = match jobs.len() {
        0..=2 => jobs.iter().copied().map(brief).collect::<Vec<_>>().join(", "),
        all => {
            let done = format!("{} of {all} done", jobs.iter().copied().filter(over).count());
            let left = jobs.iter().copied().filter(|job| begun(job) && !over(job)).map(brief);
            std::iter::once(done).chain(left).collect::<Vec<_>>().join(", ")
        }
    };
    let percents: Vec<u64> = jobs.iter().map(|job| gauge(job).map_or(0, done_percent)).collect();
    if jobs.iter().filter_map(|job| gauge(job)).any(|g| g.percent.is_some()) {
        row.progress = Some((percents.iter().sum(), 100 * percents.len() as u64));
    }
    for job in jobs {
        row.evidence.push(line(cx, job, gauge(job)));
    }
}

fn line(cx: &Context<'_>, job: &Job, gauge: Option<&JobGauge>) -> Evidence {
    let Some(gauge) = gauge else {
        return Evidence {
            name: job.id.clone(),
            value: "not begun".to_owned(),
            at: cx.measured.at,
            source: job.place(),
            good: true,
        };
    };
    let old = cx.measured.at.since(gauge.at);
    let said = if old > STALE_MS && gauge.ended.is_none() {
        format!("? last heard {} ago", age(old))
    } else {
        let end = gauge.ended.map_or(cx.measured.at, |_| gauge.at);
        let since = length(end.since(gauge.since).max(0));
        let words = if gauge.said.is_empty() { String::new() } else { format!("{}, ", gauge.said) };
        format!("{words}{} after {since}", far(gauge))
    };
    Evidence {
        name: job.id.clone(),
        value: said,
        at: gauge.at,
        source: job.place(),
        good: gauge.ended != Some(false) && old <= STALE_MS,
    }
}

/// `40 %`, `done`, `failed`, `runs`.
fn far(gauge: &JobGauge) -> String {
    match (gauge.ended, gauge.percent) {
        (Some(true), _) => "done".to_owned(),
        (Some(false), _) => "failed".to_owned(),
        (None, Some(percent)) => format!("{percent} %"),
        (None, None) => "runs".to_owned(),
    }
}

fn done_percent(gauge: &JobGauge) -> u64 {
    match gauge.ended {
        Some(true) => 100,
        Some(false) | None => u64::from(gauge.percent.unwrap_or(0).min(100)),
    }
}

/// What a rollback does about jobs, in the order in which it does it.
pub(super) fn on_the_way_back(plan: &Plan, jobs: &[crate::domain::run::UndoJob]) -> Vec<String> {
    let named = jobs.iter().filter_map(|undo| plan.job(&undo.job));
    named
        .map(|job| match job.purpose() {
            Purpose::Restart => format!("then {} again, so that the values that are back are read", job.words()),
            Purpose::Command if matches!(&job.kind, JobKind::Command { undo, .. } if undo.is_empty()) => {
                format!("then end {}", job.id)
            }
            Purpose::Command | Purpose::Backup | Purpose::Cleanup => format!("then run what undoes {}", job.id),
        })
        .collect()
}
