//! Watching: probes, metrics, counts, and whether a rollback is possible. Samples only.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::WorkerContext;
use crate::domain::gauge::{Count, LatencyWindow, Phase, Readiness, ReverseState};
use crate::domain::plan::{Metric, Probe, SignalSource, Table};
use crate::ports::{PortResult, ProbeOutcome};

/// Tables up to this many rows are counted exactly while watching.
const EXACT_UP_TO: u64 = 1_000_000;
/// Counting pauses.
const COUNT: Duration = Duration::from_secs(2);
/// A larger table is counted exactly too, and after that rests so many times as long as it took.
const RESTS: u32 = 20;
/// Metrics are read this often; CloudWatch itself is slower.
const METRICS: Duration = Duration::from_secs(5);
/// The places of a rollback are read this often.
const ROLLBACK_EVERY: Duration = Duration::from_secs(5);

/// Starts every watcher.
pub fn start(ctx: &Arc<WorkerContext>) {
    for probe in ctx.plan.probes.clone() {
        ctx.tasks.spawn(watch_probe(Arc::clone(ctx), probe));
    }
    for table in ctx.plan.tables.clone() {
        ctx.tasks.spawn(watch_source(Arc::clone(ctx), table.clone()));
        ctx.tasks.spawn(watch_target(Arc::clone(ctx), table));
    }
    for stays in &ctx.plan.stays {
        ctx.tasks.spawn(watch_estimate(Arc::clone(ctx), stays.watched()));
    }
    for store in ctx.plan.stores_that_retain_log() {
        ctx.tasks.spawn(super::retained::watch(Arc::clone(ctx), store.to_owned()));
    }
    ctx.tasks.spawn(watch_metrics(Arc::clone(ctx)));
    ctx.tasks.spawn(watch_rollback(Arc::clone(ctx)));
    ctx.tasks.spawn(watch_risk(Arc::clone(ctx)));
    ctx.tasks.spawn(super::reverse::watch(Arc::clone(ctx)));
}

async fn watch_probe(ctx: Arc<WorkerContext>, probe: Probe) {
    let mut window = LatencyWindow::default();
    let every = Duration::from_millis(probe.every_ms.max(20));
    let mut sides = ctx.sides.subscribe();
    loop {
        let result = ctx.ports.probes.probe(&probe).await;
        if sides.has_changed().unwrap_or(false) {
            // Traffic may have moved: the last minute of the side that served before is no evidence for this one,
            // nor is a request that was sent before.
            sides.mark_unchanged();
            window = LatencyWindow::default();
            ctx.latest.put(|m| m.probes.remove(&probe.id));
            continue;
        }
        let at = ctx.wall();
        let served = result.outcome == ProbeOutcome::Served;
        let refused = result.outcome == ProbeOutcome::Refused;
        // A refusal on purpose is not an error of the side that serves.
        if !refused {
            window.push(at, result.latency_ms, served);
        }
        let (count, failed, p95_ms) = window.stats();
        let last = match &result.outcome {
            ProbeOutcome::Served => format!("served in {}ms", result.latency_ms),
            ProbeOutcome::Refused => format!("refused with {}", result.status.unwrap_or_default()),
            ProbeOutcome::Failed(why) => why.clone(),
        };
        ctx.latest.put(|m| {
            let stats = m.probes.entry(probe.id.clone()).or_default();
            stats.count = count;
            stats.failed = failed;
            stats.p95_ms = p95_ms;
            stats.at = at;
            stats.last = last;
            stats.last_ok = served;
            stats.last_refused = refused;
        });
        tokio::time::sleep(every).await;
    }
}

/// The source's count: from the last full reading and the changes its log reported since; the store's estimate before
/// that.
async fn watch_source(ctx: Arc<WorkerContext>, table: Table) {
    loop {
        match source_count(&ctx, &table).await {
            Ok(Some(count)) => ctx.latest.table(&table.id, |g| g.source = count),
            Ok(None) => estimate(&ctx, &table).await,
            // The old count stays, with its age.
            Err(e) => tracing::debug!(table = %table.id, error = %e, "the source's count was not read"),
        }
        tokio::time::sleep(COUNT).await;
    }
}

/// The derived count, as of the oldest change that is not applied yet.
async fn source_count(ctx: &Arc<WorkerContext>, table: &Table) -> PortResult<Option<Count>> {
    // Before the count: it then holds at least what was applied up to here.
    let lag = ctx.progress(&table.id).lags(ctx.mono()).apply;
    let up_to = lag.map(|ms| ctx.wall().plus(-ms));
    let Some(found) = ctx.ports.target.source_count(table).await? else { return Ok(None) };
    let before = ctx.latest.table(&table.id, |g| g.source.read_at.map(|_| g.source.at));
    // While nobody knows how far changes are applied, it is as old as it last was known to be.
    let at = up_to.or(before).unwrap_or(found.read_at).max(found.read_at);
    Ok(Some(match found.items {
        Some(items) => Count::since(items, at, found.read_at, found.unsure),
        None => Count { at, ..Count::default() },
    }))
}

/// The store's own count, with the store's age.
async fn estimate(ctx: &Arc<WorkerContext>, table: &Table) {
    if let Ok(found) = ctx.ports.source(table).describe(table).await {
        ctx.latest.table(&table.id, |g| {
            if found.count.rows.is_some() {
                g.source = found.count;
            }
        });
    }
}

async fn watch_estimate(ctx: Arc<WorkerContext>, table: Table) {
    loop {
        estimate(&ctx, &table).await;
        tokio::time::sleep(COUNT).await;
    }
}

/// The target's count: exact in one reading, as often as its size allows. While a large table is loaded, what the load
/// has written.
async fn watch_target(ctx: Arc<WorkerContext>, table: Table) {
    loop {
        let (loading, loaded, known) = ctx.latest.table(&table.id, |g| {
            let loading = matches!(g.phase, Phase::Loading | Phase::Paused | Phase::Retrying) && g.segments.1 > 0;
            (loading, g.loaded, g.target)
        });
        let large = known.rows.unwrap_or(0).max(loaded) > EXACT_UP_TO;
        if large && loading {
            ctx.latest.table(&table.id, |g| g.target = Count::derived(loaded, ctx.ports.clock.wall()));
            tokio::time::sleep(COUNT).await;
            continue;
        }
        if large && !known.is_sure() {
            count_target(&ctx, &table, false).await;
        }
        let began = Instant::now();
        count_target(&ctx, &table, true).await;
        let rest = if large { began.elapsed() * RESTS } else { Duration::ZERO };
        tokio::time::sleep(rest.max(COUNT)).await;
    }
}

async fn count_target(ctx: &Arc<WorkerContext>, table: &Table, exact: bool) {
    // Counting a table that does not exist yet is no news.
    if let Ok(count) = ctx.ports.target.count(table, exact).await {
        ctx.latest.table(&table.id, |g| g.target = count);
    }
}

async fn watch_metrics(ctx: Arc<WorkerContext>) {
    let Some(metrics) = ctx.ports.metrics.clone() else { return };
    let wanted: Vec<(String, Metric)> = ctx
        .plan
        .signals
        .iter()
        .filter_map(|s| match &s.source {
            SignalSource::CloudWatch(metric) => Some((s.id.clone(), metric.clone())),
            SignalSource::Lag
            | SignalSource::MarkerRoundTrip
            | SignalSource::Mismatches
            | SignalSource::MatchRate
            | SignalSource::Parked
            | SignalSource::Unaccounted
            | SignalSource::Trim
            | SignalSource::RetainedLog
            | SignalSource::ProbeP95(_)
            | SignalSource::ProbeErrors(_)
            | SignalSource::Downtime
            | SignalSource::ReverseLag
            | SignalSource::Strays => None,
        })
        .collect();
    let asked: Vec<Metric> = wanted.iter().map(|(_, m)| m.clone()).collect();
    if asked.is_empty() {
        return;
    }
    loop {
        match metrics.latest(&asked, ctx.wall()).await {
            Ok(readings) => ctx.latest.put(|m| {
                for ((id, _), reading) in wanted.iter().zip(readings) {
                    m.signals.insert(id.clone(), reading);
                }
            }),
            // Old values stay and grow stale.
            Err(e) => tracing::warn!(error = %e, "metrics not read"),
        }
        tokio::time::sleep(METRICS).await;
    }
}

async fn watch_rollback(ctx: Arc<WorkerContext>) {
    loop {
        read_rollback(&ctx).await;
        tokio::time::sleep(ROLLBACK_EVERY).await;
    }
}

/// Reads every place a rollback would write, all at once, and times it.
pub async fn read_rollback(ctx: &Arc<WorkerContext>) {
    if ctx.plan.switches.is_empty() {
        return;
    }
    let ready = if ctx.captured.holds_all(ctx.plan.switches.iter().map(|s| s.id.as_str())) {
        let began = ctx.mono();
        let reads = ctx.plan.switches.iter().map(|s| ctx.ports.switches.read(s));
        match futures::future::try_join_all(reads).await {
            Ok(_) => Readiness::Armed { read_ms: ctx.mono() - began, at: ctx.wall() },
            Err(e) => Readiness::NotReady { why: e.to_string() },
        }
    } else {
        Readiness::NotReady { why: "previous values are not captured yet".to_owned() }
    };
    ctx.latest.put(|m| m.rollback = ready);
}

/// Changes of our own in the target so far.
pub fn own_changes(ctx: &WorkerContext) -> u64 {
    ctx.latest.put(|m| m.tables.values().map(|g| g.applied).sum())
}

/// Prices rollback: writes customers made on the new side since it was opened to them, without our own.
async fn watch_risk(ctx: Arc<WorkerContext>) {
    let mut settling = 3;
    while settling > 0 {
        // Where changes are captured, what waits is counted exactly.
        let captured =
            ctx.latest.put(|m| !matches!(m.reverse.state, ReverseState::Off | ReverseState::NotReady { .. }));
        if captured {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let standing = ctx.standing();
        let risk = if let Some(at_thaw) = ctx.customers.at_thaw() {
            let own = own_changes(&ctx).saturating_sub(at_thaw.own);
            // Unknown stays unknown: an old count is not shown as a new one.
            // A counter under its base was reset: nobody knows then.
            let now = ctx.ports.target.writes(&ctx.plan.tables).await.ok();
            now.and_then(|now| now.checked_sub(at_thaw.writes)).map(|n| n.saturating_sub(own))
        } else if standing.open_to_customers {
            None
        } else {
            Some(0)
        };
        ctx.latest.put(|m| m.at_risk = risk);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The application takes a moment to follow its parameters; then nothing more is written there.
        settling -= i32::from(standing.rolled_back);
    }
}

/// Marks every table as resting or at work; for the pause key.
pub fn resting(ctx: &WorkerContext, paused: bool) {
    ctx.latest.put(|m| {
        for gauge in m.tables.values_mut() {
            match (gauge.phase, paused) {
                (Phase::Loading, true) => gauge.phase = Phase::Paused,
                (Phase::Paused, false) => gauge.phase = Phase::Loading,
                _ => {}
            }
        }
    });
}
