//! A run's numbers for Prometheus: from a published snapshot, so that reading them asks nothing of the run.
//!
//! What is not known, or too old to count, is left out: a gap in a chart is true, an old number in it is not.

use std::fmt::Write as _;

use crate::domain::at::At;
use crate::domain::gauge::{Count, Reading};
use crate::domain::run::{RunStatus, counted_at};
use crate::snapshot::{AlertRow, Health, Snapshot};

/// A snapshot older than this is not the run's any more, in milliseconds: it is published ten times a second.
const SNAPSHOT_MS: i64 = 10_000;
/// A lag measured longer ago than this is left out, in milliseconds.
const LAG_MS: i64 = 30_000;

/// Labels of one number.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The page. `wall` is the wall clock now; `openmetrics` ends it as that format wants.
#[must_use]
pub fn metrics(s: &Snapshot, wall: At, openmetrics: bool) -> String {
    let mut page = Page::default();
    let production = if s.production { "true" } else { "false" };
    let info = vec![
        ("run", s.run.as_str()),
        ("plan", &s.plan),
        ("plan_hash", &s.plan_hash),
        ("environment", &s.environment),
        ("production", production),
    ];
    if s.version > 0 {
        page.gauge("cutover_run_info", "The run that is driven here.", [(info, 1.0)]);
        let age = wall.since(s.wall).max(0);
        page.one("cutover_snapshot_age_seconds", "How long ago the run said how it stands.", Some(seconds(age)));
        if age <= SNAPSHOT_MS {
            run(&mut page, s);
            tables(&mut page, s);
            signals(&mut page, s);
            ways(&mut page, s);
        }
    }
    if openmetrics {
        page.0.push_str("# EOF\n");
    }
    page.0
}

fn run(page: &mut Page, s: &Snapshot) {
    let all = [
        (RunStatus::Prepared, "prepared"),
        (RunStatus::Running, "running"),
        (RunStatus::Paused, "paused"),
        (RunStatus::RollingBack, "rolling_back"),
        (RunStatus::RolledBack, "rolled_back"),
        (RunStatus::Finished, "finished"),
        (RunStatus::Stuck, "stuck"),
    ];
    let status = all.map(|(status, name)| (vec![("status", name)], flag(s.status == status)));
    page.gauge("cutover_run_status", "1 for how the run stands, 0 for the others.", status);
    page.one("cutover_steps", "Steps of the plan.", Some(s.steps.len() as f64));
    let step = s.current.and_then(|at| s.steps.get(at));
    page.one("cutover_step_number", "The step the run is at, from 1.", step.map(|step| step.number as f64));
    let info = step.map(|step| (vec![("step", step.id.as_str()), ("kind", step.kind.word())], 1.0));
    page.gauge("cutover_step_info", "The step the run is at, and its kind.", info);
    let waits = step.is_some_and(|step| step.need.is_some());
    page.one("cutover_waiting_for_person", "1 while a step waits for a person.", Some(flag(waits)));
    page.one("cutover_journal_writable", "1 while facts can be written.", Some(flag(s.journal.ok)));
}

fn tables(page: &mut Page, s: &Snapshot) {
    let moving = || s.tables.iter().filter(|table| !table.target_name.is_empty());
    let lags = moving().flat_map(|t| {
        let all = [("capture", t.lag.capture), ("apply", t.lag.apply), ("marker", t.lag.marker)];
        all.map(|(lag, reading)| (vec![("table", t.id.as_str()), ("lag", lag)], fresh(reading, s.wall)))
    });
    page.known("cutover_table_lag_seconds", "How far the target is behind the source.", lags);
    let sides = || {
        let of = |t: &'_ crate::snapshot::TableRow| [("source", t.source), ("target", t.target)];
        s.tables
            .iter()
            .flat_map(move |t| of(t).map(|(side, count)| (vec![("table", t.id.as_str()), ("side", side)], count)))
    };
    let rows = sides().map(|(labels, count)| (labels, count.rows.map(|rows| rows as f64)));
    page.known("cutover_table_rows", "Rows of a table.", rows);
    let ages = sides().map(|(labels, count)| (labels, age_of(&count, s.wall)));
    page.known("cutover_table_rows_age_seconds", "How long ago they were counted, at most.", ages);
    let parked = moving().map(|t| (vec![("table", t.id.as_str())], t.parked.values().sum::<u64>() as f64));
    page.gauge("cutover_table_parked_rows", "Rows that do not fit the target and were set aside.", parked);
    let compared = || moving().filter_map(|t| Some((vec![("table", t.id.as_str())], t.verified.as_ref()?)));
    let differing = compared().map(|(labels, (_, found))| (labels, found.differing() as f64));
    page.gauge("cutover_table_differing_rows", "Rows that differed when the table was last compared.", differing);
    let ages = compared().map(|(labels, found)| (labels, seconds(s.wall.since(counted_at(Some(found))).max(0))));
    page.gauge("cutover_table_compared_age_seconds", "How long ago that was.", ages);
}

fn signals(page: &mut Page, s: &Snapshot) {
    let labels = |row: &'_ crate::snapshot::SignalRow| row.health != Health::Unknown;
    let values = s.signals.iter().map(|row| {
        let value = row.value.filter(|_| labels(row));
        (vec![("signal", row.id.as_str()), ("unit", &row.unit)], value)
    });
    page.known("cutover_signal", "A watched number; absent while it is not measured or stale.", values);
    let known = s.signals.iter().map(|row| {
        let known = row.value.is_some() && labels(row);
        (vec![("signal", row.id.as_str())], flag(known))
    });
    page.gauge("cutover_signal_known", "0 while the number is not measured or stale.", known);
    let ages = s.signals.iter().map(|row| {
        let age = (row.at.0 > 0).then(|| seconds(s.wall.since(row.at).max(0)));
        (vec![("signal", row.id.as_str())], age)
    });
    page.known("cutover_signal_age_seconds", "How long ago it was last measured.", ages);
    let limits = s.signals.iter().map(|row| (vec![("signal", row.id.as_str())], row.limit));
    page.known("cutover_signal_limit", "Above this it is red.", limits);
}

/// The write interruption, the way back, and alerts.
fn ways(page: &mut Page, s: &Snapshot) {
    let refused = s.downtime.refused.is_some() && s.downtime.accepted.is_none();
    page.one("cutover_writes_refused", "1 while customers cannot write.", Some(flag(refused)));
    let ms = s.downtime.ms.or(s.downtime_running_ms);
    page.one("cutover_downtime_seconds", "How long writes were refused, or have been so far.", ms.map(seconds));
    let budget = Some(seconds(s.downtime_budget_ms));
    page.one("cutover_downtime_budget_seconds", "How long still counts as success.", budget);
    let ready = match s.rollback.health {
        Health::Ok => Some(1.0),
        Health::Watch | Health::Warn | Health::Fail => Some(0.0),
        Health::Unknown | Health::Idle => None,
    };
    page.one("cutover_rollback_ready", "1 while a rollback is open, as far as was measured.", ready);
    let estimate = s.rollback.estimate_ms.map(seconds);
    page.one("cutover_rollback_estimate_seconds", "How long a rollback would take.", estimate);
    let at_risk = s.rollback.at_risk.map(|writes| writes as f64);
    page.one("cutover_writes_at_risk", "Writes of the new side that a rollback would leave there.", at_risk);
    let mut firing: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for row in &s.alerts {
        *firing.entry(&row.firing.alert).or_default() += flag(row.firing.is_open());
    }
    let firing = firing.into_iter().map(|(alert, n)| (vec![("alert", alert)], n));
    page.gauge("cutover_alert_firing", "For how many things an alert that has fired still holds.", firing);
    let unseen = s.alerts.iter().filter(|row| AlertRow::is_unseen(row)).count();
    page.one("cutover_alerts_unacknowledged", "Firings that nobody has acknowledged.", Some(unseen as f64));
}

/// Lines of the page so far.
#[derive(Default)]
struct Page(String);

impl Page {
    /// One family. Without a number it is left out.
    fn gauge<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let mut first = true;
        for (labels, value) in samples.into_iter().filter(|(_, value)| value.is_finite()) {
            // Writing to a String cannot fail.
            if std::mem::replace(&mut first, false) {
                let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n");
            }
            let labels: Vec<String> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    /// A family whose unknown numbers are left out.
    fn known<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, Option<f64>)>) {
        self.gauge(name, help, samples.into_iter().filter_map(|(labels, value)| Some((labels, value?))));
    }

    /// A family of one number without labels.
    fn one(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.gauge(name, help, value.map(|value| (Vec::new(), value)));
    }
}

/// A label's value, as both formats want it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// A lag in seconds, while it is fresh.
fn fresh(reading: Reading, wall: At) -> Option<f64> {
    reading.fresh(wall, LAG_MS).map(|ms| ms / 1000.0)
}

fn age_of(count: &Count, wall: At) -> Option<f64> {
    (count.rows.is_some() && count.at.0 > 0).then(|| seconds(wall.since(count.at).max(0)))
}

#[cfg(test)]
mod tests;
