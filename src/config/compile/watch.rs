//! Probes and signals.

use crate::config::error::Sink;
use crate::config::keys;
use crate::config::section::Section;
use crate::domain::plan::{Gate, Metric, Probe, Side, Signal, SignalSource};

const HOUR_MS: i64 = 3_600_000;

pub(super) fn probe(s: &Section<'_>) -> Probe {
    Probe {
        id: s.must("id"),
        method: s.text("method").unwrap_or_else(|| "GET".to_owned()),
        url: s.must("url"),
        body: s.text("body"),
        accept: s.statuses("accept"),
        refused: s.statuses("refused"),
        contains: s.text("contains"),
        every_ms: s.millis("every", 1_000),
        timeout_ms: s.millis("timeout", 3_000),
    }
}

/// Signals that are there without being declared only where a gate asks for them: what few plans have is in no other
/// plan's hash.
const ON_REQUEST: &[&str] = &["retained_log"];

/// Declared signals in file order, then the built-in ones that no declaration replaces. `gates` may ask for some.
pub(super) fn signals(
    declared: &[Section<'_>],
    gates: &[Gate],
    downtime_budget_ms: i64,
    sink: &mut Sink<'_>,
) -> Vec<Signal> {
    let mut all: Vec<Signal> = declared.iter().map(|s| signal(s, downtime_budget_ms, sink)).collect();
    let asked = |id: &str| gates.iter().flat_map(|gate| &gate.criteria).any(|criterion| criterion.signal == id);
    for id in keys::SOURCES {
        if !all.iter().any(|s| s.id == *id) && (!ON_REQUEST.contains(id) || asked(id)) {
            all.extend(built_in(id, downtime_budget_ms));
        }
    }
    all
}

fn signal(s: &Section<'_>, downtime_budget_ms: i64, sink: &mut Sink<'_>) -> Signal {
    let id = s.must("id");
    let kinds = ["source", "probe_p95", "probe_errors", "cloudwatch"];
    let given: Vec<&str> = kinds.into_iter().filter(|k| s.has(k)).collect();
    if given.len() > 1 {
        let message = format!("signal `{id}` has {} sources; keep one of {}", given.len(), given.join(", "));
        sink.error(s.offset_of(given[1]), &s.path_of(given[1]), message);
    }
    let from = |source, unit: &str, limit, stale_ms| {
        Some(Signal { id: String::new(), unit: unit.to_owned(), source, side: Side::Both, limit, stale_ms })
    };
    let base = match given.first() {
        Some(&"probe_p95") => from(SignalSource::ProbeP95(s.must("probe_p95")), "ms", None, 15_000),
        // More than one request in a hundred failing is red unless the file says otherwise (FEATURES B8).
        Some(&"probe_errors") => from(SignalSource::ProbeErrors(s.must("probe_errors")), "%", Some(1.0), 15_000),
        Some(&"cloudwatch") => {
            let metric = metric(&s.table("cloudwatch", keys::CLOUDWATCH));
            // CloudWatch publishes a period some time after it ends.
            let stale = i64::from(metric.period_s).saturating_mul(1_000).saturating_mul(3).max(180_000);
            from(SignalSource::CloudWatch(metric), "", None, stale)
        }
        Some(_) => built_in(&s.must("source"), downtime_budget_ms),
        None => built_in(&id, downtime_budget_ms),
    };
    if base.is_none() && given.is_empty() && !id.is_empty() {
        let message = format!("signal `{id}` has no source: give it source, probe_p95, probe_errors or cloudwatch");
        let near = crate::domain::lint::nearest(&id, keys::SOURCES.iter().copied());
        sink.error_near(s.offset_of("id"), &s.path_of("id"), message, near);
    }
    let mut signal = base.unwrap_or_else(|| Signal {
        id: String::new(),
        unit: String::new(),
        source: SignalSource::Lag,
        side: Side::Both,
        limit: None,
        stale_ms: HOUR_MS,
    });
    signal.id = id;
    signal.unit = s.text("unit").unwrap_or(signal.unit);
    signal.side = match s.text("side").as_deref() {
        Some("old") => Side::Old,
        Some("new") => Side::New,
        _ => Side::Both,
    };
    signal.limit = s.number("limit").or(signal.limit);
    signal.stale_ms = s.duration("stale").unwrap_or(signal.stale_ms);
    signal
}

/// The numbers the console measures itself, with the limits of FEATURES B8: lag over 30 s, conflicts over 10.
fn built_in(id: &str, downtime_budget_ms: i64) -> Option<Signal> {
    let (source, unit, limit, stale_ms) = match id {
        "lag" => (SignalSource::Lag, "s", Some(30.0), 15_000),
        "marker" => (SignalSource::MarkerRoundTrip, "s", Some(30.0), 30_000),
        "mismatches" => (SignalSource::Mismatches, "", Some(10.0), 4 * HOUR_MS),
        "match_rate" => (SignalSource::MatchRate, "%", None, 4 * HOUR_MS),
        "parked" => (SignalSource::Parked, "", Some(10.0), 60_000),
        "unaccounted" => (SignalSource::Unaccounted, "", Some(0.0), 4 * HOUR_MS),
        // Once measured it does not change: old evidence is good evidence.
        // An old side that somebody else still writes is red at the first write.
        "strays" => (SignalSource::Strays, "", Some(0.0), HOUR_MS),
        "reverse" => (SignalSource::ReverseLag, "s", Some(30.0), 15_000),
        "downtime" => (SignalSource::Downtime, "s", Some(downtime_budget_ms as f64 / 1000.0), 48 * HOUR_MS),
        // At 100 % the oldest record that was not read is trimmed; a little before that is red.
        "trim" => (SignalSource::Trim, "%", Some(95.0), 15_000),
        // How much is too much depends on the server's disk, which nobody tells us.
        "retained_log" => (SignalSource::RetainedLog, "MB", None, 15_000),
        _ => return None,
    };
    Some(Signal { id: id.to_owned(), unit: unit.to_owned(), source, side: Side::Both, limit, stale_ms })
}

fn metric(s: &Section<'_>) -> Metric {
    let period = s.duration("period").unwrap_or(60_000);
    Metric {
        namespace: s.must("namespace"),
        name: s.must("metric"),
        dimensions: s.pairs("dimensions"),
        statistic: s.text("statistic").unwrap_or_else(|| "Average".to_owned()),
        // A period that is not whole seconds is refused by the lint as 0.
        period_s: if period % 1000 == 0 { i32::try_from(period / 1000).unwrap_or(0) } else { 0 },
    }
}
