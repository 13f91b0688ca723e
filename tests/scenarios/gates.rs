//! Gates with their evidence broken on purpose: everything that is not known, not fresh or not good must block.

use cutover::domain::at::At;
use cutover::domain::gauge::{Count, Lag, Measured, ProbeStats, Reading, TableGauge};
use cutover::domain::plan::{Gate, Plan, SignalSource};
use cutover::domain::run::{Downtime, Judgement, RunState, TableState, VerifySummary, judge_gate};

use super::shipped;

const NOW: At = At(1_795_312_800_000);
/// Longer than any signal of the shipped plan may be old.
const LONG_AGO: At = At(NOW.0 - 40 * 86_400_000);

/// Everything measured, fresh and good.
fn green(plan: &Plan) -> (Measured, RunState) {
    let mut m = Measured { at: NOW, at_risk: Some(0), journal_ok: true, ..Measured::default() };
    let mut state = RunState {
        downtime: Downtime { refused: Some(At(NOW.0 - 9_000)), accepted: Some(NOW), ms: Some(1_000) },
        ..RunState::default()
    };
    for table in &plan.tables {
        let reading = Reading::new(100.0, NOW);
        let gauge = TableGauge {
            source: Count::exact(10, NOW),
            target: Count::exact(10, NOW),
            lag: Lag { capture: reading, apply: reading, marker: reading },
            phase: cutover::domain::gauge::Phase::Following,
            parked_at: NOW,
            ..TableGauge::default()
        };
        m.tables.insert(table.id.clone(), gauge);
        let summary = VerifySummary {
            source: Count::exact(10, NOW),
            target: Count::exact(10, NOW),
            equal: 10,
            ..VerifySummary::default()
        };
        state.tables.insert(table.id.clone(), TableState { verified: Some((NOW, summary)), ..TableState::default() });
    }
    for probe in &plan.probes {
        let stats = ProbeStats { count: 100, p95_ms: Some(20.0), at: NOW, last_ok: true, ..ProbeStats::default() };
        m.probes.insert(probe.id.clone(), stats);
    }
    for signal in &plan.signals {
        if matches!(signal.source, SignalSource::CloudWatch(_)) {
            m.signals.insert(signal.id.clone(), Reading::new(0.5, NOW));
        }
    }
    (m, state)
}

/// One piece of evidence, broken.
type Break = Box<dyn Fn(&mut Measured, &mut RunState)>;

/// Every way to break what a signal depends on, for one table, probe or metric at a time.
fn breaks(plan: &Plan, gate: &Gate) -> Vec<(String, Break)> {
    let mut all: Vec<(String, Break)> = Vec::new();
    for criterion in &gate.criteria {
        let signal = plan.signals.iter().find(|s| s.id == criterion.signal).expect("a signal of the plan");
        let id = signal.id.clone();
        let mut add = |name: String, how: Break| all.push((name, how));
        match &signal.source {
            SignalSource::CloudWatch(_) => {
                let gone = id.clone();
                add(format!("{id}: no data"), Box::new(move |m, _| _ = m.signals.remove(&gone)));
                for (word, reading) in [
                    ("an answer without a value", Reading { value: None, at: NOW }),
                    ("a value of long ago", Reading::new(0.5, LONG_AGO)),
                    ("a value of a clock that ran ahead", Reading::new(0.5, At(2 * NOW.0 - LONG_AGO.0))),
                    ("a value that is no number", Reading::new(f64::NAN, NOW)),
                    ("a value over the limit", Reading::new(99_999.0, NOW)),
                ] {
                    let id = id.clone();
                    add(format!("{id}: {word}"), Box::new(move |m, _| _ = m.signals.insert(id.clone(), reading)));
                }
            }
            SignalSource::ProbeP95(probe) | SignalSource::ProbeErrors(probe) => {
                let p = probe.clone();
                add(format!("{id}: nobody probes"), Box::new(move |m, _| drop(m.probes.remove(&p))));
                for (word, stats) in [
                    ("no result yet", ProbeStats { at: NOW, ..ProbeStats::default() }),
                    (
                        "probes stopped",
                        ProbeStats { count: 100, p95_ms: Some(1.0), at: LONG_AGO, ..ProbeStats::default() },
                    ),
                    ("every probe fails", ProbeStats { count: 9, failed: 9, at: NOW, ..ProbeStats::default() }),
                ] {
                    let p = probe.clone();
                    add(format!("{id}: {word}"), Box::new(move |m, _| drop(m.probes.insert(p.clone(), stats.clone()))));
                }
            }
            SignalSource::Downtime => {
                add(format!("{id}: nothing measured"), Box::new(|_, s| s.downtime = Downtime::default()));
                add(format!("{id}: too long"), Box::new(|_, s| s.downtime.ms = Some(9_999_000)));
            }
            source => {
                if matches!(source, SignalSource::Lag) {
                    // The wall clock was stepped back: what was measured before seems to come from the future.
                    let future = |m: &mut Measured, _: &mut RunState| {
                        m.tables.values_mut().for_each(|g| g.lag.apply.at = At(2 * NOW.0 - LONG_AGO.0));
                    };
                    add(format!("{id}: measured by a clock that ran ahead"), Box::new(future));
                }
                if matches!(source, SignalSource::MatchRate) {
                    let nothing = |_: &mut Measured, s: &mut RunState| {
                        let verified = s.tables.values_mut().filter_map(|t| t.verified.as_mut());
                        verified.for_each(|(_, v)| v.equal = 0);
                    };
                    add(format!("{id}: no row was compared"), Box::new(nothing));
                }
                for table in plan.tables.iter().map(|t| t.id.clone()) {
                    all.extend(of_table(source, &id, &table));
                }
                continue;
            }
        }
    }
    all
}

fn of_table(source: &SignalSource, id: &str, table: &str) -> Vec<(String, Break)> {
    let mut all: Vec<(String, Break)> = Vec::new();
    let mut gauge = |word: &str, change: fn(&mut TableGauge)| {
        let table = table.to_owned();
        let how = move |m: &mut Measured, _: &mut RunState| change(m.tables.get_mut(&table).expect("a table"));
        all.push((format!("{id} of {}: {word}", how_named(source)), Box::new(how)));
    };
    match source {
        SignalSource::Lag => {
            gauge("unknown", |g| g.lag.apply = Reading { value: None, at: NOW });
            gauge("nought, but of long ago", |g| g.lag.apply = Reading::new(0.0, LONG_AGO));
            gauge("a quarter of an hour", |g| g.lag.apply = Reading::new(900_000.0, NOW));
        }
        SignalSource::MarkerRoundTrip => {
            gauge("no marker came back", |g| g.lag.marker = Reading { value: None, at: NOW });
        }
        SignalSource::Parked => {
            gauge("a ledger read long ago", |g| g.parked_at = LONG_AGO);
            gauge("a ledger nobody has read", |g| g.parked_at = At(0));
            gauge("parked rows", |g| _ = g.parked.insert("nul".into(), 1_000));
        }
        SignalSource::Unaccounted => {
            // The later count is used: a live exact one that does not add up, in either direction.
            gauge("rows missing", |g| g.source = Count::exact(13, At(NOW.0 + 1)));
            gauge("rows too many", |g| g.source = Count::exact(7, At(NOW.0 + 1)));
        }
        _ => {}
    }
    let mut facts = |word: &str, change: fn(&mut TableState)| {
        let table = table.to_owned();
        let how = move |_: &mut Measured, s: &mut RunState| change(s.tables.get_mut(&table).expect("a table"));
        all.push((format!("{id} of {table_name}: {word}", table_name = how_named(source)), Box::new(how)));
    };
    if matches!(source, SignalSource::Mismatches | SignalSource::MatchRate) {
        facts("never compared", |t| t.verified = None);
        facts("compared long ago", |t| {
            let (at, v) = t.verified.as_mut().expect("a comparison");
            (*at, v.source.at, v.target.at) = (LONG_AGO, LONG_AGO, LONG_AGO);
        });
        facts("rows differ", |t| t.verified.as_mut().expect("a comparison").1.mismatched = 5);
        facts("rows are missing", |t| t.verified.as_mut().expect("a comparison").1.missing = 5);
        facts("rows too many", |t| t.verified.as_mut().expect("a comparison").1.extra = 5);
    }
    if matches!(source, SignalSource::Unaccounted) {
        let table = table.to_owned();
        let how = move |m: &mut Measured, s: &mut RunState| {
            s.tables.get_mut(&table).expect("a table").verified = None;
            m.tables.get_mut(&table).expect("a table").source = Count::estimated(10, NOW);
        };
        all.push((format!("{id}: only the store's own estimate"), Box::new(how)));
    }
    all
}

const fn how_named(source: &SignalSource) -> &'static str {
    match source {
        SignalSource::Lag => "lag",
        SignalSource::MarkerRoundTrip => "marker",
        SignalSource::Mismatches => "mismatches",
        SignalSource::MatchRate => "match rate",
        SignalSource::Parked => "parked",
        SignalSource::Unaccounted => "unaccounted",
        _ => "signal",
    }
}

#[test]
fn a_gate_with_any_piece_of_its_evidence_broken_is_not_met() {
    let plan = shipped();
    let mut broken = 0;
    for gate in &plan.gates {
        let (measured, state) = green(&plan);
        let Judgement { met, evidence, .. } = judge_gate(&plan, &state, &measured, gate);
        assert!(met, "{} is not met by good evidence: {evidence:#?}", gate.id);
        for (name, change) in breaks(&plan, gate) {
            let (mut measured, mut state) = green(&plan);
            change(&mut measured, &mut state);
            let Judgement { met, evidence, .. } = judge_gate(&plan, &state, &measured, gate);
            assert!(!met, "{} is met although {name}: {evidence:#?}", gate.id);
            assert!(evidence.iter().any(|e| !e.good), "{}: nothing says what broke ({name})", gate.id);
            broken += 1;
        }
    }
    println!("{} gates, {broken} ways to break their evidence, none of them met", plan.gates.len());
    assert!(broken > 50, "only {broken} ways were tried");
}

#[test]
fn a_gate_without_criteria_is_never_met() {
    let plan = shipped();
    let (measured, state) = green(&plan);
    let empty = Gate { criteria: vec![], ..plan.gates[0].clone() };
    assert!(!judge_gate(&plan, &state, &measured, &empty).met);
}
