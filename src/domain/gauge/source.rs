//! The query or call behind a signal, in words: evidence says where its number comes from.

use crate::domain::plan::{Plan, Signal, SignalSource};

/// What was asked to get the signal's value.
#[must_use]
pub fn source_words(plan: &Plan, signal: &Signal) -> String {
    let probe = |id: &str| {
        plan.probe(id).map_or_else(|| format!("no probe {id}"), |p| format!("probe {id}: {} {}", p.method, p.place()))
    };
    match &signal.source {
        SignalSource::Lag => "GetRecords: age of the oldest change not committed in the target, worst table".to_owned(),
        SignalSource::MarkerRoundTrip => {
            "marker item written to the source, read back from the target, worst table".to_owned()
        }
        SignalSource::Mismatches => "last full comparison of every table, key by key".to_owned(),
        SignalSource::MatchRate => "last full comparison of every table, key by key".to_owned(),
        SignalSource::Parked => "rows of cutover.parked in the target".to_owned(),
        SignalSource::Unaccounted => "exact counts: source - target - parked - expired, all tables".to_owned(),
        SignalSource::Trim => "oldest unread stream record of each table against 24 h of retention".to_owned(),
        SignalSource::RetainedLog => {
            "pg_replication_slots: pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) of our slots, worst source"
                .to_owned()
        }
        SignalSource::ProbeP95(id) => format!("{}, p95 of the last minute", probe(id)),
        SignalSource::ProbeErrors(id) => format!("{}, failures of the last minute", probe(id)),
        SignalSource::ReverseLag => "oldest record in cutover.outbox".to_owned(),
        SignalSource::Strays => "changes in the old side's streams that are not ours".to_owned(),
        SignalSource::Downtime => match &plan.freeze {
            Some(freeze) => match freeze.probes.as_slice() {
                [one] => format!("{}, first refused to first accepted", probe(one)),
                several => {
                    let each: Vec<String> = several.iter().map(|id| probe(id)).collect();
                    format!("{}: first refused by any to accepted by all", each.join("; "))
                }
            },
            None => "no freeze in the plan".to_owned(),
        },
        SignalSource::CloudWatch(m) => {
            let dimensions: Vec<String> = m.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!(
                "GetMetricData {} {} {{{}}} {} over {} s",
                m.namespace,
                m.name,
                dimensions.join(","),
                m.statistic,
                m.period_s
            )
        }
    }
}
