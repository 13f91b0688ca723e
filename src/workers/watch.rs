//! Watching: probes, metrics, counts, and whether the way back is open. Samples only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::crew::Crew;
use crate::domain::gauge::{Count, LatencyWindow, Phase, Readiness, ReverseState};
use crate::domain::plan::{Metric, Probe, SignalSource, Table};
use crate::ports::{PortResult, Verdict};

/// Tables up to this many rows are counted exactly while watching.
const EXACT_UP_TO: u64 = 1_000_000;
/// Counting pauses.
const COUNT: Duration = Duration::from_secs(2);
/// A larger table is counted exactly too, and after that rests so many times as long as it took.
const RESTS: u32 = 20;
/// Metrics are read this often; CloudWatch itself is slower.
const METRICS: Duration = Duration::from_secs(5);
/// The way back is read this often.
const WAY_BACK: Duration = Duration::from_secs(5);

/// Starts every watcher.
pub fn start(crew: &Arc<Crew>) {
    for probe in crew.plan.probes.clone() {
        crew.spawn(watch_probe(Arc::clone(crew), probe));
    }
    for table in crew.plan.tables.clone() {
        crew.spawn(watch_source(Arc::clone(crew), table.clone()));
        crew.spawn(watch_target(Arc::clone(crew), table));
    }
    for stays in &crew.plan.stays {
        crew.spawn(watch_estimate(Arc::clone(crew), Table::watched(&stays.id, &stays.source)));
    }
    crew.spawn(watch_metrics(Arc::clone(crew)));
    crew.spawn(watch_way_back(Arc::clone(crew)));
    crew.spawn(watch_risk(Arc::clone(crew)));
    crew.spawn(super::reverse::watch(Arc::clone(crew)));
}

async fn watch_probe(crew: Arc<Crew>, probe: Probe) {
    let mut window = LatencyWindow::default();
    let every = Duration::from_millis(probe.every_ms.max(20));
    let mut sides = crew.sides.subscribe();
    loop {
        let result = crew.ports.probes.probe(&probe).await;
        if sides.has_changed().unwrap_or(false) {
            // Traffic may have moved: the last minute of the side that served before is no evidence for this one,
            // nor is a request that was sent before.
            sides.mark_unchanged();
            window = LatencyWindow::default();
            crew.board.put(|m| m.probes.remove(&probe.id));
            continue;
        }
        let at = crew.wall();
        let served = result.verdict == Verdict::Served;
        let refused = result.verdict == Verdict::Refused;
        // A refusal on purpose is not an error of the side that serves.
        if !refused {
            window.push(at, result.latency_ms, served);
        }
        let (count, failed, p95_ms) = window.stats();
        let last = match &result.verdict {
            Verdict::Served => format!("served in {}ms", result.latency_ms),
            Verdict::Refused => format!("refused with {}", result.status.unwrap_or_default()),
            Verdict::Failed(why) => why.clone(),
        };
        crew.board.put(|m| {
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

/// The source's count: from the last full reading and what its change log told since; the store's estimate before that.
async fn watch_source(crew: Arc<Crew>, table: Table) {
    loop {
        match source_count(&crew, &table).await {
            Ok(Some(count)) => crew.board.table(&table.id, |g| g.source = count),
            Ok(None) => estimate(&crew, &table).await,
            // The old count stays and grows old, which is what it is.
            Err(e) => tracing::debug!(table = %table.id, error = %e, "the source's count was not read"),
        }
        tokio::time::sleep(COUNT).await;
    }
}

/// The derived count, as of the oldest change that is not applied yet.
async fn source_count(crew: &Arc<Crew>, table: &Table) -> PortResult<Option<Count>> {
    // Before the count: it then holds at least what was applied up to here.
    let lag = crew.reach(&table.id).lags(crew.mono()).apply;
    let up_to = lag.map(|ms| crew.wall().plus(-ms));
    let Some(found) = crew.ports.target.source_count(table).await? else { return Ok(None) };
    let before = crew.board.table(&table.id, |g| g.source.read_at.map(|_| g.source.at));
    // While nobody knows how far changes are applied, it is as old as it last was known to be.
    let at = up_to.or(before).unwrap_or(found.read_at).max(found.read_at);
    Ok(Some(match found.items {
        Some(items) => Count::since(items, at, found.read_at, found.unsure),
        None => Count { at, ..Count::default() },
    }))
}

/// The store's own count, with the store's age.
async fn estimate(crew: &Arc<Crew>, table: &Table) {
    if let Ok(found) = crew.ports.source.describe(table).await {
        crew.board.table(&table.id, |g| {
            if found.count.rows.is_some() {
                g.source = found.count;
            }
        });
    }
}

async fn watch_estimate(crew: Arc<Crew>, table: Table) {
    loop {
        estimate(&crew, &table).await;
        tokio::time::sleep(COUNT).await;
    }
}

/// The target's count: exact in one reading, as often as its size allows. While a large table is loaded, what the load
/// has written.
async fn watch_target(crew: Arc<Crew>, table: Table) {
    loop {
        let (loading, loaded, known) = crew.board.table(&table.id, |g| {
            let loading = matches!(g.phase, Phase::Loading | Phase::Paused | Phase::Retrying) && g.segments.1 > 0;
            (loading, g.loaded, g.target)
        });
        let large = known.rows.unwrap_or(0).max(loaded) > EXACT_UP_TO;
        if large && loading {
            crew.board.table(&table.id, |g| g.target = Count::derived(loaded, crew.ports.clock.wall()));
            tokio::time::sleep(COUNT).await;
            continue;
        }
        if large && !known.is_sure() {
            count_target(&crew, &table, false).await;
        }
        let began = Instant::now();
        count_target(&crew, &table, true).await;
        let rest = if large { began.elapsed() * RESTS } else { Duration::ZERO };
        tokio::time::sleep(rest.max(COUNT)).await;
    }
}

async fn count_target(crew: &Arc<Crew>, table: &Table, exact: bool) {
    // Counting a table that does not exist yet is no news.
    if let Ok(count) = crew.ports.target.count(table, exact).await {
        crew.board.table(&table.id, |g| g.target = count);
    }
}

async fn watch_metrics(crew: Arc<Crew>) {
    let Some(metrics) = crew.ports.metrics.clone() else { return };
    let wanted: Vec<(String, Metric)> = crew
        .plan
        .signals
        .iter()
        .filter_map(|s| match &s.source {
            SignalSource::CloudWatch(metric) => Some((s.id.clone(), metric.clone())),
            _ => None,
        })
        .collect();
    let asked: Vec<Metric> = wanted.iter().map(|(_, m)| m.clone()).collect();
    if asked.is_empty() {
        return;
    }
    loop {
        match metrics.latest(&asked, crew.wall()).await {
            Ok(readings) => crew.board.put(|m| {
                for ((id, _), reading) in wanted.iter().zip(readings) {
                    m.signals.insert(id.clone(), reading);
                }
            }),
            // Old values stay and grow stale, which is what they are.
            Err(e) => tracing::warn!(error = %e, "metrics not read"),
        }
        tokio::time::sleep(METRICS).await;
    }
}

async fn watch_way_back(crew: Arc<Crew>) {
    loop {
        read_way_back(&crew).await;
        tokio::time::sleep(WAY_BACK).await;
    }
}

/// Reads every place the way back would write, all at once, and times it.
pub async fn read_way_back(crew: &Arc<Crew>) {
    if crew.plan.switches.is_empty() {
        return;
    }
    let ready = if crew.captured.holds_all(crew.plan.switches.iter().map(|s| s.id.as_str())) {
        let began = crew.mono();
        let reads = crew.plan.switches.iter().map(|s| crew.ports.switches.read(s));
        match futures::future::try_join_all(reads).await {
            Ok(_) => Readiness::Armed { read_ms: crew.mono() - began, at: crew.wall() },
            Err(e) => Readiness::NotReady { why: e.to_string() },
        }
    } else {
        Readiness::NotReady { why: "previous values are not captured yet".to_owned() }
    };
    crew.board.put(|m| m.way_back = ready);
}

/// Changes of our own in the target so far.
pub fn own_changes(crew: &Crew) -> u64 {
    crew.board.put(|m| m.tables.values().map(|g| g.applied).sum())
}

/// Prices rollback: writes customers made on the new side since they were let in there, without our own.
async fn watch_risk(crew: Arc<Crew>) {
    let mut settling = 3;
    while settling > 0 {
        // Where changes are captured, what waits is counted exactly.
        let captured =
            crew.board.put(|m| !matches!(m.reverse.state, ReverseState::Off | ReverseState::NotReady { .. }));
        if captured {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let base = crew.writes_at_thaw.load(Ordering::Acquire);
        let risk = if base >= 0 {
            let own = own_changes(&crew) - crew.applied_at_thaw.load(Ordering::Acquire).min(own_changes(&crew));
            // Unknown stays unknown: an old count is not shown as a new one.
            // A counter under its base was reset: nobody knows then.
            let now = crew.ports.target.writes(&crew.plan.tables).await.ok();
            now.and_then(|now| now.checked_sub(u64::try_from(base).ok()?)).map(|n| n.saturating_sub(own))
        } else if crew.let_in.load(Ordering::Acquire) {
            None
        } else {
            Some(0)
        };
        crew.board.put(|m| m.at_risk = risk);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The application takes a moment to follow its parameters; then nothing more is written there.
        settling -= i32::from(crew.priced.load(Ordering::Acquire));
    }
}

/// Marks every table as resting or at work; for the pause key.
pub fn resting(crew: &Crew, paused: bool) {
    crew.board.put(|m| {
        for gauge in m.tables.values_mut() {
            match (gauge.phase, paused) {
                (Phase::Loading, true) => gauge.phase = Phase::Paused,
                (Phase::Paused, false) => gauge.phase = Phase::Loading,
                _ => {}
            }
        }
    });
}
