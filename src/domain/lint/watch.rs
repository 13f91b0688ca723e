//! Switches, the freeze, probes, signals and gates.

use super::Diagnostics;
use crate::domain::gauge::ENOUGH;
use crate::domain::plan::{OnFail, Plan, Probe, SignalSource, Step, Switch, ValueRef};

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    switches(plan, found);
    probes(plan, found);
    signals(plan, found);
    gates(plan, found);
    if !(0.0..=1.0).contains(&plan.verify.floor) {
        found.error("verify.floor", "the floor is a share from 0 to 1: 99.9 % is 0.999");
    }
    if plan.load.segments.is_some_and(|segments| plan.load.workers > segments) {
        found.warn("load.workers", "more workers than segments: some will have nothing to do");
    }
    if plan.load.read_budget_rcu.is_some_and(|b| b <= 0.0) {
        found.error("load.read_budget_rcu", "a budget of 0 would never read anything; leave it out for unlimited");
    }
}

fn switches(plan: &Plan, found: &mut Diagnostics) {
    found.ids("switches", "switch", plan.switches.iter().map(|s| s.id.as_str()));
    for (n, switch) in plan.switches.iter().enumerate() {
        // What the places of a dial go to is said of its positions.
        let place = plan.dial_of(&switch.id).is_some();
        if switch.secret() && !place && matches!(switch.to, ValueRef::Literal(_)) {
            let message =
                "the value of a SecureString must be referred to: { env = ... }, { file = ... } or { parameter = ... }";
            found.error(format!("switches[{n}].to"), message);
        }
        if switch.secret() && switch.expect.is_some() {
            found.error(format!("switches[{n}].expect"), "the value of a SecureString must not stand in a plan");
        }
        if switch.expect.is_some()
            && !place
            && matches!((&switch.expect, &switch.to), (Some(e), ValueRef::Literal(t)) if e == t)
        {
            found
                .error(format!("switches[{n}].to"), "the new value is the value expected before: nothing would switch");
        }
        // Two names may stand for one region and account.
        let there = |control: &str| plan.stores.get(control);
        let same = |s: &Switch| {
            s.kind == switch.kind && (s.control == switch.control || there(&s.control) == there(&switch.control))
        };
        if plan.switches[..n].iter().any(same) {
            found.error(format!("switches[{n}]"), format!("another switch stands at {} already", switch.place()));
        }
    }
    let Some(freeze) = &plan.freeze else { return };
    for (path, id) in listed("freeze.switch", &freeze.switches) {
        found.name(&path, "switch", id, plan.switches.iter().map(|s| s.id.as_str()));
        if freeze.switches.iter().filter(|other| *other == id).count() > 1 {
            found.error(path, format!("`{id}` is named twice"));
        }
    }
    for (path, id) in listed("freeze.probe", &freeze.probes) {
        found.name(&path, "probe", id, plan.probes.iter().map(|p| p.id.as_str()));
        if plan.probe(id).is_some_and(|p| p.refused.is_empty()) {
            found.error(path, format!("probe `{id}` names no `refused` status, so it cannot prove a freeze"));
        } else if freeze.probes.iter().filter(|other| *other == id).count() > 1 {
            found.error(path, format!("`{id}` is named twice"));
        }
    }
    // What customers of one place are answered says nothing of another one.
    if freeze.switches.len() > freeze.probes.len() {
        let places: Vec<String> = plan.freeze_switches().map(Switch::place).collect();
        let message =
            format!("writes are frozen at {}: name a probe of each, or nothing proves it there", places.join(", "));
        found.error("freeze.probe", message);
    }
    for (n, probe) in plan.freeze_probes().enumerate() {
        let same = |other: &Probe| (&other.method, &other.url) == (&probe.method, &probe.url);
        if let Some(other) = plan.freeze_probes().take(n).find(|other| same(other)) {
            found.warn(
                "freeze.probe",
                format!(
                    "probes `{}` and `{}` ask the same: one proves nothing that the other does not",
                    other.id, probe.id
                ),
            );
        }
    }
    if freeze.settle_ms >= freeze.timeout_ms {
        found.error("freeze.timeout", "must be longer than `settle`");
    }
}

/// Where each of these names stands: one is written as text, several as a list.
fn listed<'n>(path: &str, names: &'n [String]) -> Vec<(String, &'n String)> {
    match names {
        [one] => vec![(path.to_owned(), one)],
        several => several.iter().enumerate().map(|(n, name)| (format!("{path}[{n}]"), name)).collect(),
    }
}

fn probes(plan: &Plan, found: &mut Diagnostics) {
    found.ids("probes", "probe", plan.probes.iter().map(|p| p.id.as_str()));
    for (n, probe) in plan.probes.iter().enumerate() {
        if let Some(status) = probe.refused.iter().find(|s| probe.accept.contains(s)) {
            let message = format!("{status} cannot mean served and refused");
            found.error(format!("probes[{n}].refused"), message);
        }
        if probe.accept.is_empty() && probe.refused.iter().any(|s| (200..300).contains(s)) {
            found.error(format!("probes[{n}].refused"), "a 2xx means served unless `accept` says otherwise");
        }
        for (key, ms) in [("every", probe.every_ms), ("timeout", probe.timeout_ms)] {
            if ms == 0 {
                found.error(format!("probes[{n}].{key}"), "must be longer than nothing");
            }
        }
    }
}

fn signals(plan: &Plan, found: &mut Diagnostics) {
    found.ids("signals", "signal", plan.signals.iter().map(|s| s.id.as_str()));
    for (n, signal) in plan.signals.iter().enumerate() {
        let path = format!("signals[{n}]");
        if signal.stale_ms <= 0 {
            found.error(format!("{path}.stale"), "must be longer than nothing, or the signal is always stale");
        }
        let probes = plan.probes.iter().map(|p| p.id.as_str());
        match &signal.source {
            SignalSource::ProbeP95(id) => {
                found.name(format!("{path}.probe_p95"), "probe", id, probes);
                enough(plan, n, id, found);
            }
            SignalSource::ProbeErrors(id) => {
                found.name(format!("{path}.probe_errors"), "probe", id, probes);
                enough(plan, n, id, found);
            }
            SignalSource::CloudWatch(m) => {
                if !matches!(m.period_s, 1 | 5 | 10 | 30) && (m.period_s <= 0 || m.period_s % 60 != 0) {
                    let message = "CloudWatch knows periods of 1s, 5s, 10s, 30s and whole minutes";
                    found.error(format!("{path}.cloudwatch.period"), message);
                } else if signal.stale_ms < i64::from(m.period_s) * 1000 {
                    found.error(format!("{path}.stale"), "shorter than the metric's period: it would always be stale");
                }
            }
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
            | SignalSource::Strays => {}
        }
    }
}

/// A probe that is too slow for its signal would leave the signal unknown for ever.
fn enough(plan: &Plan, n: usize, probe: &str, found: &mut Diagnostics) {
    let most = 60_000 / u64::from(ENOUGH);
    if let Some(probe) = plan.probe(probe).filter(|p| p.every_ms > most) {
        let message = format!(
            "probe `{}` gives fewer than {ENOUGH} results a minute, which prove nothing; set its `every` to {most}ms or less",
            probe.id
        );
        found.error(format!("signals[{n}]"), message);
    }
}

fn gates(plan: &Plan, found: &mut Diagnostics) {
    found.ids("gates", "gate", plan.gates.iter().map(|g| g.id.as_str()));
    for (n, gate) in plan.gates.iter().enumerate() {
        let path = format!("gates[{n}]");
        if gate.criteria.is_empty() {
            found.error(format!("{path}.criteria"), "a gate without criteria proves nothing");
        }
        for (c, criterion) in gate.criteria.iter().enumerate() {
            let names = plan.signals.iter().map(|s| s.id.as_str());
            found.name(format!("{path}.criteria[{c}]"), "signal", &criterion.signal, names);
            let of = plan.signals.iter().find(|s| s.id == criterion.signal).map(|s| &s.source);
            if of == Some(&SignalSource::Trim) && plan.tables.iter().all(|t| plan.keeps_ms(&t.id).is_none()) {
                let message = "no source of this plan forgets changes by time, so this is never known; leave it out";
                found.error(format!("{path}.criteria[{c}]"), message);
            }
            if of == Some(&SignalSource::RetainedLog) && plan.stores_that_retain_log().is_empty() {
                let message =
                    "no source of this plan keeps a log until it is read, so this is never known; leave it out";
                found.error(format!("{path}.criteria[{c}]"), message);
            }
        }
        if gate.give_up_ms.is_some_and(|g| g <= gate.hold_ms) {
            found.error(
                format!("{path}.give_up"),
                "gives up before the criteria can have held; make it longer than `hold`",
            );
        }
        if gate.on_fail != OnFail::Hold && gate.give_up_ms.is_none() {
            found.warn(format!("{path}.on_fail"), "without `give_up` this gate waits for ever before it goes back");
        }
        let waits = |s: &Step| s.kind.gates().contains(&gate.id);
        if !plan.steps.iter().any(waits) {
            found.warn(format!("{path}.id"), format!("no step waits for gate `{}`", gate.id));
        }
    }
}
