//! What is watched: tables that stay, probes, signals.

use super::show::{address, hidden, length, listed, option, text};
use super::{ChangeList, Member, allowed, as_long_as};
use crate::domain::plan::{Metric, Plan, Probe, Side, Signal, SignalSource, StaysTable};

const ANEW: &str = "a gate it decides begins its hold anew";
const FROZEN: &str = "writes are frozen by what this probe sees: let the run thaw or go back first";

pub(super) fn stays(found: &mut ChangeList<'_>, old: &[StaysTable], new: &[StaysTable]) {
    found.list(
        "stays",
        (old, new),
        |t| &t.id,
        |_, _| allowed(""),
        |found, what, old, new| {
            let StaysTable { id: _, from, source } = old;
            found.field(format!("{what}.from"), (from, &new.from), text, |_| allowed(""));
            found.field(format!("{what}.source"), (source, &new.source), text, |_| allowed(""));
        },
    );
}

pub(super) fn probes(found: &mut ChangeList<'_>, old: &[Probe], new: &[Probe]) {
    let member = |phase: &super::Phase<'_>, member: Member<'_, Probe>| match member {
        Member::Added(_) | Member::Order => allowed(""),
        Member::Gone(probe) => as_long_as(!(phase.locked_out() && phase.proves_the_freeze(&probe.id)), "", FROZEN),
    };
    found.list(
        "probes",
        (old, new),
        |p| &p.id,
        member,
        |found, what, old, new| {
            let Probe { id, method, url, body, accept, refused, contains, every_ms, timeout_ms } = old;
            let seen = |phase: &super::Phase<'_>| {
                as_long_as(!(phase.locked_out() && phase.proves_the_freeze(id)), ANEW, FROZEN)
            };
            let statuses = |all: &Vec<u16>| listed(&all.iter().map(u16::to_string).collect::<Vec<_>>());
            let millis = |ms: &u64| length(i64::try_from(*ms).unwrap_or(i64::MAX));
            found.field(format!("{what}.method"), (method, &new.method), Clone::clone, seen);
            found.field(format!("{what}.url"), (url, &new.url), address, seen);
            found.field(format!("{what}.body"), (body, &new.body), |b| option(b.as_ref(), hidden), seen);
            found.field(format!("{what}.accept"), (accept, &new.accept), statuses, seen);
            found.field(format!("{what}.refused"), (refused, &new.refused), statuses, seen);
            found.field(format!("{what}.contains"), (contains, &new.contains), |c| option(c.as_ref(), hidden), seen);
            found.field(format!("{what}.every"), (every_ms, &new.every_ms), millis, |_| allowed(""));
            found.field(format!("{what}.timeout"), (timeout_ms, &new.timeout_ms), millis, |_| allowed(""));
        },
    );
}

pub(super) fn signals(found: &mut ChangeList<'_>, old: &[Signal], new: &[Signal]) {
    found.list(
        "signals",
        (old, new),
        |s| &s.id,
        |_, _| allowed(""),
        |found, what, old, new| {
            let Signal { id: _, unit, source: from, side, limit, stale_ms } = old;
            found.field(format!("{what}.unit"), (unit, &new.unit), text, |_| allowed(""));
            found.field(format!("{what}.source"), (from, &new.source), source, |_| allowed(ANEW));
            found.field(format!("{what}.side"), (side, &new.side), side_words, |_| allowed(""));
            let number = |n: &Option<f64>| option(n.as_ref(), ToString::to_string);
            found.field(format!("{what}.limit"), (limit, &new.limit), number, |_| allowed(""));
            found.field(format!("{what}.stale"), (stale_ms, &new.stale_ms), |ms| length(*ms), |_| allowed(ANEW));
        },
    );
}

/// Whether a signal means the same by both plans, down to the probe behind it.
pub(super) fn measured_alike(old: &Plan, new: &Plan, signal: &str) -> bool {
    let of = |plan: &Plan| {
        let signal = plan.signals.iter().find(|s| s.id == signal)?.clone();
        let probe = match &signal.source {
            SignalSource::ProbeP95(id) | SignalSource::ProbeErrors(id) => plan.probe(id).cloned(),
            SignalSource::Lag
            | SignalSource::MarkerRoundTrip
            | SignalSource::Mismatches
            | SignalSource::MatchRate
            | SignalSource::Parked
            | SignalSource::Unaccounted
            | SignalSource::Trim
            | SignalSource::RetainedLog
            | SignalSource::Downtime
            | SignalSource::ReverseLag
            | SignalSource::Strays
            | SignalSource::CloudWatch(_) => None,
        };
        let probe = probe.map(|p| Probe { every_ms: 0, timeout_ms: 0, ..p });
        Some((signal.source, signal.stale_ms, probe))
    };
    of(old) == of(new)
}

fn side_words(side: &Side) -> String {
    match side {
        Side::Old => "old",
        Side::New => "new",
        Side::Both => "both",
    }
    .to_owned()
}

fn source(source: &SignalSource) -> String {
    match source {
        SignalSource::Lag => "lag".to_owned(),
        SignalSource::MarkerRoundTrip => "marker".to_owned(),
        SignalSource::Mismatches => "mismatches".to_owned(),
        SignalSource::MatchRate => "match_rate".to_owned(),
        SignalSource::Parked => "parked".to_owned(),
        SignalSource::Unaccounted => "unaccounted".to_owned(),
        SignalSource::Trim => "trim".to_owned(),
        SignalSource::RetainedLog => "retained_log".to_owned(),
        SignalSource::ProbeP95(probe) => format!("probe_p95 {probe}"),
        SignalSource::ProbeErrors(probe) => format!("probe_errors {probe}"),
        SignalSource::Downtime => "downtime".to_owned(),
        SignalSource::ReverseLag => "reverse".to_owned(),
        SignalSource::Strays => "strays".to_owned(),
        SignalSource::CloudWatch(Metric { namespace, name, dimensions, statistic, period_s }) => {
            let each: Vec<String> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("cloudwatch {namespace} {name} [{}] {statistic} over {period_s}s", each.join(", "))
        }
    }
}
