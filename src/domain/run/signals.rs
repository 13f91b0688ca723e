//! Values of signals, worked out from the plan, the folded facts and what was last measured.
//!
//! Gates and screens ask the same function, so a light and the gate behind it cannot disagree.

use super::trim::trim_clock;
use crate::domain::at::At;
use crate::domain::gauge::{CountKind, MEGABYTE, Measured, Reading, ReverseState, TableGauge, rows_kept_out};
use crate::domain::plan::{Plan, Signal, SignalSource};
use crate::domain::run::{RunState, VerifySummary};

/// The value of `signal` and when it was measured (wall clock). An absent value is `?` and must block.
///
/// A value over several tables is known only when it is known for every one of them, and is as old as its
/// oldest part. Staleness is left to the caller: [`Reading::fresh`] with [`Signal::stale_ms`].
#[must_use]
pub fn signal_value(plan: &Plan, state: &RunState, measured: &Measured, signal: &Signal) -> Reading {
    match &signal.source {
        SignalSource::Lag => over_tables(plan, measured, f64::max, |g| seconds(g.lag.apply)),
        SignalSource::MarkerRoundTrip => over_tables(plan, measured, f64::max, |g| seconds(g.lag.marker)),
        SignalSource::Mismatches => mismatches(plan, state),
        SignalSource::MatchRate => match_rate(plan, state),
        SignalSource::Parked => parked(plan, state, measured),
        SignalSource::Unaccounted => unaccounted(plan, state, measured),
        SignalSource::ProbeP95(probe) => {
            measured.probes.get(probe).map(|stats| Reading { value: stats.p95_ms, at: stats.at }).unwrap_or_default()
        }
        SignalSource::ProbeErrors(probe) => measured
            .probes
            .get(probe)
            .map(|stats| Reading { value: stats.error_share(), at: stats.at })
            .unwrap_or_default(),
        SignalSource::Trim => {
            let kept = plan.tables.iter().filter(|t| plan.keeps_ms(&t.id).is_some());
            fold(kept.map(|t| trim(plan, state, measured, &t.id)), f64::max)
        }
        SignalSource::RetainedLog => {
            let stores = plan.stores_that_retain_log().into_iter();
            fold(stores.map(|store| retained(measured, store)), f64::max)
        }
        SignalSource::Downtime => downtime(state, measured),
        SignalSource::ReverseLag => reverse_lag(measured),
        SignalSource::Strays => strays(plan, state, measured),
        SignalSource::CloudWatch(_) => measured.signals.get(&signal.id).copied().unwrap_or_default(),
    }
}

/// Rows of a table that `source = target + parked + expired` leaves over, and when they were counted; absent until
/// both sides were counted exactly. The later of the last verification and the last exact live counts is used.
///
/// A verification knows each key, so what is missing does not cancel out against what is extra. Live counts are as old
/// as the oldest of the three: source, target, ledger.
#[must_use]
pub fn unaccounted_rows(gauge: Option<&TableGauge>, verified: Option<&(At, VerifySummary)>) -> Option<(u64, At)> {
    let live = gauge.and_then(|g| {
        let exact = g.source.kind == CountKind::Exact && g.target.kind == CountKind::Exact;
        let (source, target) = (g.source.rows.filter(|_| exact)?, g.target.rows?);
        Some((gap(source, target, rows_kept_out(&g.parked)), g.source.at.min(g.target.at).min(g.parked_at)))
    });
    let compared = verified.and_then(|(_, v)| {
        v.source.rows.and(v.target.rows)?;
        Some((v.unaccounted(), counted_at(verified)))
    });
    match (live, compared) {
        (Some(a), Some(b)) => Some(if a.1 >= b.1 { a } else { b }),
        (a, b) => a.or(b),
    }
}

fn gap(source: u64, target: u64, kept_out: i128) -> u64 {
    let gap = i128::from(source) - i128::from(target) - kept_out;
    u64::try_from(gap.unsigned_abs()).unwrap_or(u64::MAX)
}

/// When a verification counted, on the wall clock. The fact's own time is the run's clock and only stands in
/// when the counts carry none.
#[must_use]
pub fn counted_at(verified: Option<&(At, VerifySummary)>) -> At {
    let Some((ended, v)) = verified else { return At::default() };
    [v.source.at, v.target.at].into_iter().filter(|at| at.0 > 0).min().unwrap_or(*ended)
}

/// Known only while the reverse flow is measured: an outbox nobody reads has an unknown lag, not a lag of zero.
fn reverse_lag(measured: &Measured) -> Reading {
    let at = measured.reverse.at;
    let value = match measured.reverse.state {
        ReverseState::Off | ReverseState::NotReady { .. } => None,
        _ => Some(measured.reverse.oldest_ms() as f64 / 1000.0),
    };
    Reading { value: value.filter(|_| at.0 > 0), at }
}

/// What the journal knows and what was counted since. That there are none is known only while every stream is read and
/// its records are checked: the reading is as old as the slowest of them.
fn strays(plan: &Plan, state: &RunState, measured: &Measured) -> Reading {
    let known: u64 = state.reverse.values().map(|r| r.strays).sum();
    let known = known.max(measured.reverse.strays());
    if known > 0 {
        return Reading::new(known as f64, measured.at);
    }
    let behind = over_tables(plan, measured, f64::max, |g| g.lag.apply);
    match behind.value {
        Some(ms) => Reading::new(0.0, behind.at.plus(-(ms as i64))),
        None => Reading::default(),
    }
}

fn seconds(ms: Reading) -> Reading {
    Reading { value: ms.value.map(|v| v / 1000.0), at: ms.at }
}

/// Folds one reading per moving table; unknown when there is no table or any part is unknown.
fn over_tables(
    plan: &Plan,
    measured: &Measured,
    join: impl Fn(f64, f64) -> f64,
    part: impl Fn(&TableGauge) -> Reading,
) -> Reading {
    fold(plan.tables.iter().map(|t| measured.tables.get(&t.id).map(&part).unwrap_or_default()), join)
}

fn fold(parts: impl Iterator<Item = Reading>, join: impl Fn(f64, f64) -> f64) -> Reading {
    parts
        .reduce(|a, b| Reading { value: a.value.zip(b.value).map(|(a, b)| join(a, b)), at: a.at.min(b.at) })
        .unwrap_or_default()
}

fn verified<'a>(state: &'a RunState, table: &str) -> Option<&'a (At, VerifySummary)> {
    state.tables.get(table).and_then(|t| t.verified.as_ref())
}

fn mismatches(plan: &Plan, state: &RunState) -> Reading {
    let part = |id: &str| {
        let v = verified(state, id);
        Reading { value: v.map(|(_, v)| v.differing() as f64), at: counted_at(v) }
    };
    fold(plan.tables.iter().map(|t| part(&t.id)), |a, b| a + b)
}

fn match_rate(plan: &Plan, state: &RunState) -> Reading {
    let (mut equal, mut all, mut at) = (0_u64, 0_u64, None::<At>);
    for table in &plan.tables {
        let v = verified(state, &table.id);
        // A table of which nothing could be compared is not made good by another one.
        let Some((_, summary)) = v.filter(|(_, summary)| !summary.compared_nothing()) else {
            return Reading::default();
        };
        equal += summary.equal;
        all += summary.equal + summary.differing();
        at = Some(at.map_or(counted_at(v), |at| at.min(counted_at(v))));
    }
    // A share of nothing is not known, however often nothing was compared.
    let value = (all > 0).then(|| equal as f64 * 100.0 / all as f64);
    at.map(|at| Reading { value, at }).unwrap_or_default()
}

fn parked(plan: &Plan, state: &RunState, measured: &Measured) -> Reading {
    let part = |id: &str| {
        let Some(gauge) = measured.tables.get(id) else { return Reading::default() };
        let now: u64 = gauge.parked.values().sum();
        // Before the ledger is read the journal still knows what the load parked: a number without a fresh age.
        let loaded: u64 = state.tables.get(id).map_or(0, |t| t.load_parked.values().sum());
        let unread = gauge.parked_at == At::default();
        Reading::new(if unread { now.max(loaded) } else { now } as f64, gauge.parked_at)
    };
    fold(plan.tables.iter().map(|t| part(&t.id)), |a, b| a + b)
}

fn unaccounted(plan: &Plan, state: &RunState, measured: &Measured) -> Reading {
    let part = |id: &str| {
        unaccounted_rows(measured.tables.get(id), verified(state, id))
            .map(|(rows, at)| Reading::new(rows as f64, at))
            .unwrap_or_default()
    };
    fold(plan.tables.iter().map(|t| part(&t.id)), |a, b| a + b)
}

/// Share of the retention one table will use up, percent.
fn trim(plan: &Plan, state: &RunState, measured: &Measured, table: &str) -> Reading {
    trim_clock(plan.keeps_ms(table), state, measured, table)
        .map(|c| Reading { value: c.used, at: c.at })
        .unwrap_or_default()
}

/// What one source keeps of its log for us, MB. Nothing is known of it while no slot of ours is there.
fn retained(measured: &Measured, store: &str) -> Reading {
    let found = measured.retained.get(store);
    found.map(|log| Reading { value: log.bytes.map(|b| b as f64 / MEGABYTE), at: log.at }).unwrap_or_default()
}

fn downtime(state: &RunState, measured: &Measured) -> Reading {
    let d = &state.downtime;
    match (d.refused, d.accepted) {
        (None, _) => Reading { value: measured.downtime_ms.map(|ms| ms as f64 / 1000.0), at: measured.at },
        (Some(refused), Some(accepted)) => {
            // After a restart in between only the two wall clock times are left.
            let ms = d.ms.unwrap_or_else(|| accepted.since(refused));
            Reading::new(ms as f64 / 1000.0, accepted)
        }
        (Some(_), None) => Reading { value: measured.downtime_ms.map(|ms| ms as f64 / 1000.0), at: measured.at },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::gauge::{Count, HELD_DELETE, Lag, Phase, ProbeStats};
    use crate::domain::plan::{Follow, Load, NEW, OLD, Side, Table, Verify};
    use crate::domain::run::{Downtime, TableState};

    fn plan(tables: &[&str]) -> Plan {
        let table = |id: &&str| Table {
            id: (*id).into(),
            from: OLD.to_owned(),
            source: (*id).into(),
            to: NEW.to_owned(),
            target: (*id).into(),
            key: vec![],
            columns: vec![],
            children: vec![],
            foreign_keys: vec![],
            ttl: None,
            marker_prefix: String::new(),
            ddl: None,
            triggers: vec![],
            leave_out: vec![],
            after_load: vec![],
            mover: None,
        };
        Plan {
            name: "p".into(),
            environment: "test".into(),
            production: false,
            t0: None,
            downtime_budget_ms: 1,
            tables: tables.iter().map(table).collect(),
            moves: vec![],
            stays: vec![],
            switches: vec![],
            freeze: None,
            probes: vec![],
            signals: vec![],
            gates: vec![],
            steps: vec![],
            load: Load { segments: Some(1), workers: 1, ..Load::default() },
            follow: Follow { lanes: 1, poll_ms: 1, batch: 1, marker_every_ms: 1 },
            verify: Verify { floor: 0.999, settle_ms: 0, segments: 1, list_limit: 1, ..Verify::default() },
            reverse: crate::domain::plan::Reverse::default(),
            stores: crate::domain::plan::Stores::new(),
            dials: vec![],
            jobs: vec![],
        }
    }

    fn signal(source: SignalSource) -> Signal {
        Signal { id: "s".into(), unit: String::new(), source, side: Side::Both, limit: None, stale_ms: 1_000 }
    }

    fn gauge(lag_ms: Option<f64>, at: i64) -> TableGauge {
        let apply = Reading { value: lag_ms, at: At(at) };
        TableGauge { lag: Lag { apply, ..Lag::default() }, ..TableGauge::default() }
    }

    fn read(tables: &[&str], state: &RunState, measured: &Measured, source: SignalSource) -> Reading {
        signal_value(&plan(tables), state, measured, &signal(source))
    }

    fn gauges(of: impl IntoIterator<Item = (&'static str, TableGauge)>) -> Measured {
        let tables = of.into_iter().map(|(id, g)| (id.to_owned(), g)).collect();
        Measured { at: At(9), tables, ..Measured::default() }
    }

    fn verified_state(of: impl IntoIterator<Item = (&'static str, VerifySummary)>) -> RunState {
        let table = |v| TableState { verified: Some((At(7), v)), ..TableState::default() };
        let tables: BTreeMap<_, _> = of.into_iter().map(|(id, v)| (id.to_owned(), table(v))).collect();
        RunState { tables, ..RunState::default() }
    }

    #[test]
    fn lag_is_the_worst_table_in_seconds_and_as_old_as_the_oldest() {
        let m = gauges([("a", gauge(Some(800.0), 5)), ("b", gauge(Some(2_500.0), 8))]);
        assert_eq!(read(&["a", "b"], &RunState::default(), &m, SignalSource::Lag), Reading::new(2.5, At(5)));
    }

    #[test]
    fn lag_is_unknown_when_one_table_is_unknown_or_missing() {
        let state = RunState::default();
        let m = gauges([("a", gauge(Some(0.0), 5)), ("b", gauge(None, 8))]);
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::Lag).value, None);
        assert_eq!(read(&["a", "gone"], &state, &m, SignalSource::Lag).value, None);
        assert_eq!(read(&[], &state, &m, SignalSource::Lag).value, None);
        assert_eq!(read(&["a"], &state, &m, SignalSource::Lag).value, Some(0.0));
    }

    #[test]
    fn mismatches_need_every_table_verified() {
        let v = VerifySummary { equal: 97, missing: 1, extra: 1, mismatched: 1, ..VerifySummary::default() };
        let state = verified_state([("a", v.clone()), ("b", v)]);
        let m = Measured::default();
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::Mismatches), Reading::new(6.0, At(7)));
        assert_eq!(read(&["a", "b", "c"], &state, &m, SignalSource::Mismatches).value, None);
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::MatchRate).value, Some(97.0));
        assert_eq!(read(&["a", "c"], &state, &m, SignalSource::MatchRate).value, None);
        assert_eq!(read(&[], &state, &m, SignalSource::MatchRate).value, None);
    }

    #[test]
    fn a_share_of_no_rows_is_unknown_and_not_all() {
        let m = Measured::default();
        let nothing = VerifySummary { expired: 2, ..VerifySummary::default() };
        let state = verified_state([("a", nothing.clone()), ("b", VerifySummary::default())]);
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::MatchRate), Reading { value: None, at: At(7) });
        // An empty table beside one that holds rows says nothing and takes nothing away.
        let some = VerifySummary { equal: 3, ..VerifySummary::default() };
        let state = verified_state([("a", nothing), ("b", some.clone())]);
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::MatchRate), Reading::new(100.0, At(7)));
        // One whose rows are all parked is not made good by it.
        let parked = VerifySummary { parked: 4, ..VerifySummary::default() };
        let state = verified_state([("a", parked), ("b", some)]);
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::MatchRate), Reading::default());
    }

    #[test]
    fn the_age_of_a_verification_is_the_age_of_its_counts() {
        let v = VerifySummary {
            source: Count::exact(1, At(300)),
            target: Count::exact(1, At(200)),
            equal: 1,
            ..VerifySummary::default()
        };
        let state = verified_state([("a", v)]);
        assert_eq!(read(&["a"], &state, &Measured::default(), SignalSource::Mismatches), Reading::new(0.0, At(200)));
    }

    #[test]
    fn unaccounted_needs_exact_counts_and_does_not_cancel_out() {
        let with = |source, target, parked: u64| TableGauge {
            source,
            target,
            parked_at: At(4),
            parked: BTreeMap::from([("too long".to_owned(), parked)]),
            ..TableGauge::default()
        };
        let state = RunState::default();
        let m = gauges([
            ("a", with(Count::exact(10, At(3)), Count::exact(7, At(4)), 2)),
            ("b", with(Count::exact(10, At(3)), Count::exact(11, At(4)), 0)),
        ]);
        assert_eq!(read(&["a", "b"], &state, &m, SignalSource::Unaccounted), Reading::new(2.0, At(3)));
        let m = gauges([("a", with(Count::estimated(10, At(3)), Count::exact(10, At(4)), 0))]);
        assert_eq!(read(&["a"], &state, &m, SignalSource::Unaccounted).value, None);
        let v = VerifySummary {
            source: Count::exact(10, At(5)),
            target: Count::exact(8, At(5)),
            expired: 2,
            ..VerifySummary::default()
        };
        let state = verified_state([("a", v.clone())]);
        assert_eq!(read(&["a"], &state, &m, SignalSource::Unaccounted), Reading::new(0.0, At(5)));
        // One lost and one too many are two differences, though the counts agree; expired rows explain neither.
        let state = verified_state([("a", VerifySummary { missing: 1, extra: 1, ..v })]);
        assert_eq!(read(&["a"], &state, &m, SignalSource::Unaccounted), Reading::new(2.0, At(5)));
        // A delete that is held leaves its row in the target: one row more than the source, and that is accounted for.
        let held = |target| TableGauge {
            parked: BTreeMap::from([(HELD_DELETE.to_owned(), 1)]),
            ..with(Count::exact(9, At(3)), Count::exact(target, At(4)), 0)
        };
        let state = RunState::default();
        for (target, left) in [(10, 0.0), (8, 2.0)] {
            let m = gauges([("a", held(target))]);
            assert_eq!(read(&["a"], &state, &m, SignalSource::Unaccounted).value, Some(left), "{target}");
        }
        // Counts are as old as the ledger they are compared with.
        let old = TableGauge { parked_at: At(1), ..with(Count::exact(10, At(3)), Count::exact(10, At(4)), 0) };
        let state = RunState::default();
        assert_eq!(read(&["a"], &state, &gauges([("a", old)]), SignalSource::Unaccounted), Reading::new(0.0, At(1)));
    }

    #[test]
    fn parked_is_what_the_gauges_say_and_survives_a_restart() {
        let parked = BTreeMap::from([("NUL".to_owned(), 3)]);
        let mut state = RunState::default();
        state.tables.insert("a".into(), TableState { load_parked: parked.clone(), ..TableState::default() });
        let running = TableGauge { phase: Phase::Following, parked_at: At(6), ..TableGauge::default() };
        let read = |g| read(&["a"], &state, &gauges([("a", g)]), SignalSource::Parked);
        // Known from the journal, but nobody has read the ledger: stale for every gate.
        assert_eq!(read(TableGauge::default()), Reading::new(3.0, At(0)));
        assert_eq!(read(running), Reading::new(0.0, At(6)), "repaired rows leave");
        let loading = TableGauge { parked, phase: Phase::Loading, parked_at: At(8), ..TableGauge::default() };
        assert_eq!(read(loading), Reading::new(3.0, At(8)));
    }

    #[test]
    fn no_strays_are_known_only_while_the_streams_are_read() {
        let mut m = Measured { at: At(90_000), ..Measured::default() };
        let mut state = RunState::default();
        let strays = |state: &RunState, m: &Measured| read(&["a"], state, m, SignalSource::Strays);
        m.tables.insert("a".into(), TableGauge::default());
        assert_eq!(strays(&state, &m).value, None, "nobody reads");
        let read = Reading::new(30_000.0, At(90_000));
        let mut gauge = TableGauge { lag: Lag { capture: read, ..Lag::default() }, ..TableGauge::default() };
        m.tables.insert("a".into(), gauge.clone());
        assert_eq!(strays(&state, &m).value, None, "read and not looked at");
        gauge.lag.apply = read;
        m.tables.insert("a".into(), gauge);
        assert_eq!(strays(&state, &m), Reading::new(0.0, At(60_000)), "as old as the slowest stream");
        state.reverse.entry("a".into()).or_default().strays = 2;
        assert_eq!(strays(&state, &m), Reading::new(2.0, At(90_000)), "what was seen stays seen");
    }

    #[test]
    fn probes_without_results_are_unknown_not_zero() {
        let mut m = Measured::default();
        let state = RunState::default();
        assert_eq!(read(&[], &state, &m, SignalSource::ProbeErrors("w".into())).value, None);
        m.probes.insert("w".into(), ProbeStats { at: At(4), ..ProbeStats::default() });
        assert_eq!(read(&[], &state, &m, SignalSource::ProbeErrors("w".into())).value, None);
        let stats = ProbeStats { count: 8, failed: 2, p95_ms: Some(41.0), at: At(4), ..ProbeStats::default() };
        m.probes.insert("w".into(), stats);
        assert_eq!(read(&[], &state, &m, SignalSource::ProbeErrors("w".into())), Reading::new(25.0, At(4)));
        assert_eq!(read(&[], &state, &m, SignalSource::ProbeP95("w".into())), Reading::new(41.0, At(4)));
    }

    #[test]
    fn downtime_is_unknown_before_it_begins_and_stays_once_measured() {
        let mut state = RunState::default();
        let mut m = Measured { at: At(50), ..Measured::default() };
        assert_eq!(read(&[], &state, &m, SignalSource::Downtime).value, None);
        state.downtime = Downtime { refused: Some(At(10)), accepted: None, ms: None };
        m.downtime_ms = Some(1_500);
        assert_eq!(read(&[], &state, &m, SignalSource::Downtime), Reading::new(1.5, At(50)));
        state.downtime = Downtime { refused: Some(At(10)), accepted: Some(At(40)), ms: Some(2_000) };
        assert_eq!(read(&[], &state, &m, SignalSource::Downtime), Reading::new(2.0, At(40)));
        state.downtime.ms = None;
        assert_eq!(read(&[], &state, &m, SignalSource::Downtime).value, Some(0.03));
    }
}
