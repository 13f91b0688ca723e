//! How far the long steps are: loading, catching up, comparing; how fast they go, and until when.

use super::StepRow;
use super::build::Context;
use super::words::{age, bar, brief_list, human, minutes, rate, whole_percent, with_unit};
use crate::domain::at::At;
use crate::domain::gauge::{Phase, TableGauge};
use crate::domain::run::{Evidence, trim_clock};

/// Cells of the bar of one table.
const TABLE_BAR: usize = 20;

fn gauges<'a>(cx: &'a Context<'_>) -> impl Iterator<Item = (&'a str, Option<&'a TableGauge>)> {
    cx.plan.tables.iter().map(|t| (t.id.as_str(), cx.measured.tables.get(&t.id)))
}

/// Time left at this speed, and when that is.
fn eta(cx: &Context<'_>, left: u64, per_s: f64) -> Option<(i64, At)> {
    let ms = left as f64 / per_s * 1000.0;
    (per_s > 0.0 && ms.is_finite() && ms < 1e11).then(|| (ms as i64, cx.now.plus(ms as i64)))
}

pub(super) fn load(cx: &Context<'_>, row: &mut StepRow) {
    let (mut loaded, mut all, mut per_s, mut done) = (0_u64, Some(0_u64), 0.0_f64, 0_usize);
    for (id, gauge) in gauges(cx) {
        let journaled = cx.state.tables.get(id).and_then(|t| t.loaded);
        let Some(gauge) = gauge else {
            all = None;
            continue;
        };
        let rows = gauge.source.rows;
        let finished = journaled.is_some()
            || !matches!(gauge.phase, Phase::Waiting | Phase::Loading | Phase::Paused | Phase::Retrying);
        // A row that was parked is read and done with, like one that was written.
        let parked: u64 = gauge.parked.values().sum();
        let have = (gauge.loaded + parked).max(journaled.unwrap_or(0));
        loaded += have;
        // What a finished table did not write, it parked: it is whole.
        all = all.zip(if finished { Some(have) } else { rows.map(|r| r.max(have)) }).map(|(a, b)| a + b);
        if finished {
            done += 1;
            continue;
        }
        if matches!(gauge.phase, Phase::Waiting) {
            continue;
        }
        per_s += gauge.rate;
        row.lines.push(table_line(cx, id, have, rows, gauge));
    }
    row.progress = all.filter(|a| *a > 0).map(|a| (loaded, a));
    if let Some((have, all)) = row.progress {
        row.eta = eta(cx, all.saturating_sub(have), per_s).map(|(_, at)| at);
    }
    // Building indexes moves no row: what is done is said instead of a rate of nothing.
    let mut building = gauges(cx).filter_map(|(id, g)| Some(format!("{id} {}", doing(cx, g?)?)));
    let now = match building.next() {
        Some(what) if per_s == 0.0 => what,
        _ if row.eta.is_none() => format!("{}  ETA ?", rate(per_s)),
        _ => rate(per_s),
    };
    row.detail = match row.progress {
        Some((have, all)) => format!("{}%  {}/{}  {now}", whole_percent(have, all), human(have), human(all)),
        None => format!("?%  {}/?  {now}", human(loaded)),
    };
    let waiting = cx.plan.tables.len() - done - row.lines.len();
    let mut rest = Vec::new();
    if done > 0 {
        rest.push(format!("{done} {} done", tables(done)));
    }
    if waiting > 0 {
        rest.push(format!("{waiting} waiting"));
    }
    if !cx.plan.stays.is_empty() {
        rest.push(format!(
            "{} stays by plan",
            brief_list(&cx.plan.stays.iter().map(|s| s.id.clone()).collect::<Vec<_>>())
        ));
    }
    if !rest.is_empty() {
        row.lines.push(rest.join(", "));
    }
}

/// What is done to a whole table right now, and for how long already.
fn doing(cx: &Context<'_>, gauge: &TableGauge) -> Option<String> {
    let (what, since) = gauge.doing.as_ref()?;
    Some(format!("{what} {}", age(cx.measured.at.since(*since).max(0))))
}

const fn tables(n: usize) -> &'static str {
    if n == 1 { "table" } else { "tables" }
}

fn table_line(cx: &Context<'_>, id: &str, have: u64, rows: Option<u64>, gauge: &TableGauge) -> String {
    let name: String = id.chars().take(10).collect();
    let (shape, share) = match rows.filter(|r| *r > 0) {
        Some(all) => (bar(have, all, TABLE_BAR), format!("{}%", whole_percent(have, all))),
        None => (bar(0, 0, TABLE_BAR), "?%".to_owned()),
    };
    if let Some(doing) = doing(cx, gauge) {
        return format!("{name:<10} {shape} {share:>4}  {doing}");
    }
    let left = rows
        .and_then(|all| eta(cx, all.saturating_sub(have), gauge.rate))
        .map_or_else(|| "?".to_owned(), |(ms, _)| minutes(ms));
    let left = format!("{left}  {}", segments(gauge));
    let state = match gauge.phase {
        Phase::Paused => "paused",
        Phase::Retrying => "retrying",
        // What holds it back says more than how many segments wait for it.
        _ => gauge.held_back.as_deref().unwrap_or(&left),
    };
    format!("{name:<10} {shape} {share:>4}  {:>8}  {state}", rate(gauge.rate)).trim_end().to_owned()
}

/// Segments are read side by side and end together: how many are being read says more than how many ended.
fn segments(gauge: &TableGauge) -> String {
    format!("{} of {} reading", gauge.reading, gauge.segments.1)
}

pub(super) fn catch_up(cx: &Context<'_>, max_lag_ms: i64, row: &mut StepRow) {
    let mut worst = Some(0.0_f64);
    let mut per_s = 0.0;
    // Of the slowest table; unknown while that of any of them is.
    let mut left = None;
    for (id, gauge) in gauges(cx) {
        let lag = gauge.map(|g| g.lag.apply).unwrap_or_default();
        worst = worst.zip(lag.value).map(|(a, b)| a.max(b));
        per_s += gauge.map_or(0.0, |g| g.rate);
        let value = lag.value.map_or_else(|| "?".to_owned(), |ms| with_unit(ms / 1000.0, "s"));
        let good = lag.value.is_some_and(|ms| ms < max_lag_ms as f64);
        row.evidence.push(Evidence {
            name: format!("lag {id}"),
            value: format!("{value} < {}", age(max_lag_ms)),
            at: lag.at,
            source: "oldest change not yet durable in the target".to_owned(),
            good,
        });
        if !good {
            let read = trim_clock(cx.plan.keeps_ms(id), cx.state, cx.measured, id).and_then(|clock| clock.read_in_ms);
            left = match (left, read) {
                (None, read) => Some(read),
                (Some(others), read) => Some(others.zip(read).map(|(a, b): (i64, i64)| a.max(b))),
            };
            let note = gauge.and_then(|g| g.trouble.clone()).unwrap_or_default();
            row.lines.push(
                format!(
                    "{id:<10} lag {value:<8} {:>8}  {note}",
                    gauge.map_or_else(|| "?".to_owned(), |g| rate(g.rate))
                )
                .trim_end()
                .to_owned(),
            );
        }
    }
    let worst = worst.map_or_else(|| "?".to_owned(), |ms| with_unit(ms / 1000.0, "s"));
    row.detail = format!("lag {worst} < {}  {}", age(max_lag_ms), rate(per_s));
    row.eta = left.flatten().filter(|ms| *ms > 0).map(|ms| cx.now.plus(ms));
}

pub(super) fn verify(cx: &Context<'_>, row: &mut StepRow) {
    let (mut compared, mut all, mut done) = (0_u64, Some(0_u64), 0_usize);
    let started = row.started;
    for (id, gauge) in gauges(cx) {
        let finished = cx
            .state
            .tables
            .get(id)
            .and_then(|t| t.verified.as_ref())
            .filter(|(at, _)| started.is_some_and(|s| *at >= s));
        let rows = gauge.and_then(|g| g.source.rows);
        if let Some((_, summary)) = finished {
            let n = summary.equal + summary.differing();
            compared += n;
            all = all.map(|a| a + n);
            done += 1;
            row.lines.extend((summary.differing() > 0).then(|| {
                format!(
                    "{id:<10} {} differ of {}",
                    human(summary.differing()),
                    human(summary.equal + summary.differing())
                )
            }));
            continue;
        }
        let have = gauge.map_or(0, |g| g.verified_rows);
        compared += have;
        all = all.zip(rows.map(|r| r.max(have))).map(|(a, b)| a + b);
        if gauge.is_some_and(|g| g.phase == Phase::Verifying) {
            let name: String = id.chars().take(10).collect();
            let (shape, share) = match rows.filter(|r| *r > 0) {
                Some(r) => (bar(have, r, TABLE_BAR), format!("{}%", whole_percent(have, r))),
                None => (bar(0, 0, TABLE_BAR), "?%".to_owned()),
            };
            let now = gauge.and_then(|g| doing(cx, g)).unwrap_or_else(|| format!("{} compared", human(have)));
            row.lines.push(format!("{name:<10} {shape} {share:>4}  {now}"));
        }
    }
    row.progress = all.filter(|a| *a > 0).map(|a| (compared.min(a), a));
    row.detail = match row.progress {
        Some((have, all)) => format!("{}%  {}/{} compared", whole_percent(have, all), human(have), human(all)),
        None => format!("?%  {} compared", human(compared)),
    };
    if let (Some((have, all)), Some(started)) = (row.progress, started) {
        let spent = cx.now.since(started);
        if have > 0 && spent > 0 {
            let per_s = have as f64 * 1000.0 / spent as f64;
            row.detail.push_str(&format!("  {}", rate(per_s)));
            row.eta = eta(cx, all - have, per_s).map(|(_, at)| at);
        }
    }
    if done > 0 {
        row.lines.push(format!("{done} {} done", tables(done)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::gauge::Unread;
    use crate::domain::plan::StepName;
    use crate::domain::run::{RunState, StepStatus};
    use crate::snapshot::Mode;
    use crate::snapshot::fixture::{Moment, measured, plan, state};

    #[test]
    fn catching_up_and_comparing_say_how_fast_and_until_when() {
        let plan = plan();
        let (mut state, mut measured) = (state(&plan, Moment::Loading), measured(Moment::Loading));
        let now = measured.at;
        for table in &plan.tables {
            let kept = state.tables.entry(table.id.clone()).or_default();
            (kept.stream, kept.loaded) = (Some("arn".into()), Some(1_000));
            let gauge = measured.tables.entry(table.id.clone()).or_default();
            gauge.phase = Phase::Following;
            gauge.lag.apply = crate::domain::gauge::Reading::new(600_000.0, now);
            gauge.unread = Some(Unread { oldest: now.plus(-600_000), at: now, closing: Some(5.0) });
            gauge.verified_rows = 0;
        }
        let row = |state: &RunState, measured: &crate::domain::gauge::Measured, kind: StepName| {
            let series = BTreeMap::new();
            let facts = &[];
            let (mode, waiting, version) = (Mode::Live, None, 1);
            let cx = Context { plan: &plan, state, measured, series: &series, facts, now, mode, waiting, version };
            crate::snapshot::steps::step_rows(&cx)
                .into_iter()
                .find(|row| row.kind == kind && row.status == StepStatus::Running)
        };
        let mut running = |id: &str| {
            for (step, kept) in plan.steps.iter().zip(&mut state.steps) {
                let before = kept.status;
                kept.status = if step.id == id { StepStatus::Running } else { StepStatus::Done };
                kept.started = kept.started.or((before != kept.status).then(|| now.plus(-10_000)));
            }
            state.clone()
        };
        let catching_up = running("catch-up");
        let found = row(&catching_up, &measured, StepName::CatchUp).unwrap();
        assert_eq!(found.eta, Some(now.plus(120_000)), "ten minutes behind, five times as fast as time: {found:?}");
        measured.tables.values_mut().for_each(|g| g.unread = None);
        assert_eq!(row(&catching_up, &measured, StepName::CatchUp).unwrap().eta, None, "unknown is not now");

        let comparing = running("verify-1");
        measured.tables.values_mut().for_each(|g| (g.phase, g.verified_rows) = (Phase::Verifying, 500));
        let found = row(&comparing, &measured, StepName::Verify).unwrap();
        assert!(found.detail.contains("/s") && found.eta.is_some(), "{}", found.detail);
    }
}
