//! What a snapshot says at the moments of a day.

use std::collections::BTreeMap;

use super::fixture::{Moment, T0, plan, snapshot};
use super::*;
use crate::domain::gauge::{HELD_DELETE, Measured, Readiness, Reading, rows_kept_out};
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::{Plan, StepKind, StepName};
use crate::domain::run::{Action, Event, Fact, OutcomeResult, RunState, StepState, SwitchState, VerifySummary};

fn lamp(s: &Snapshot, word: &str) -> (String, Health) {
    let found = s.lamps.iter().find(|l| l.word == word).unwrap();
    (found.text.clone(), found.health)
}

fn says(text: &str, health: Health) -> (String, Health) {
    (text.to_owned(), health)
}

pub(super) fn built(plan: &Plan, state: &RunState, measured: &Measured, facts: &[Fact]) -> Snapshot {
    let series = BTreeMap::new();
    let now = measured.at;
    build(&Context { plan, state, measured, series: &series, facts, now, mode: Mode::Live, waiting: None, version: 1 })
}

#[test]
fn the_annunciator_has_fixed_words_in_a_fixed_order() {
    for moment in Moment::ALL {
        let words: Vec<String> = snapshot(moment).lamps.into_iter().map(|l| l.word).collect();
        assert_eq!(words, ["COPY", "LAG", "VERIFY", "ERR", "SWITCH", "GATES", "ROLLBACK"], "{moment:?}");
    }
}

#[test]
fn lamps_follow_the_day() {
    let s = snapshot(Moment::Loading);
    assert_eq!(lamp(&s, "COPY"), says("59% 18.8k/s", Health::Ok));
    assert_eq!(lamp(&s, "LAG"), says("-", Health::Idle), "nothing is applied yet");
    assert_eq!(lamp(&s, "SWITCH"), says("old", Health::Idle));
    let s = snapshot(Moment::Gate);
    assert_eq!(lamp(&s, "COPY"), says("done", Health::Ok));
    assert_eq!(lamp(&s, "LAG"), says("0.8s", Health::Ok));
    assert_eq!(lamp(&s, "VERIFY"), says("3 open", Health::Warn));
    assert_eq!(lamp(&s, "GATES"), says("0/3", Health::Idle));
    assert_eq!(lamp(&snapshot(Moment::Failed), "COPY"), says("failed", Health::Fail));
    assert_eq!(lamp(&snapshot(Moment::Frozen), "SWITCH"), says("1/2", Health::Watch));
    assert_eq!(lamp(&snapshot(Moment::Switched), "SWITCH"), says("new", Health::Ok));
    assert_eq!(lamp(&snapshot(Moment::RollingBack), "SWITCH"), says("?", Health::Unknown));
    assert_eq!(lamp(&snapshot(Moment::Stuck), "ROLLBACK"), says("STUCK", Health::Fail));
}

#[test]
fn what_is_not_known_is_never_ok() {
    let s = snapshot(Moment::Unknown);
    assert_eq!(lamp(&s, "ERR"), says("?", Health::Unknown));
    assert_eq!(lamp(&s, "COPY").1, Health::Unknown);
    for row in &s.signals {
        assert!(row.id == "parked" || row.health != Health::Ok, "{}", row.id);
    }
    for step in s.steps.iter().filter(|s| s.kind == StepName::Gate) {
        assert!(step.detail.contains("BLOCKING"), "{}", step.detail);
        assert!(step.evidence.iter().all(|e| !e.good));
    }
    for row in s.tables.iter().filter(|t| !t.target_name.is_empty()) {
        assert_eq!(row.difference, None);
    }
    let loss = s.criteria.iter().find(|k| k.name == "data loss").unwrap();
    assert_eq!((loss.measured.as_str(), loss.health), ("?", Health::Unknown));
    let nothing = built(&plan(), &RunState::default(), &Measured::default(), &[]);
    assert!(nothing.signals.iter().all(|s| s.health != Health::Ok), "{:?}", nothing.signals);
    assert!(nothing.criteria.iter().all(|k| k.health != Health::Ok));
}

#[test]
fn a_stale_signal_keeps_its_value_but_not_its_health() {
    let plan = plan();
    let mut m = Measured { at: T0, ..Measured::default() };
    for t in &plan.tables {
        let mut g = crate::domain::gauge::TableGauge::default();
        g.lag.apply = Reading::new(800.0, T0.plus(-15_001));
        m.tables.insert(t.id.clone(), g);
    }
    let row = |m: &Measured| built(&plan, &RunState::default(), m, &[]).signals[0].clone();
    assert_eq!((row(&m).value, row(&m).health), (Some(0.8), Health::Unknown));
    for g in m.tables.values_mut() {
        g.lag.apply.at = T0.plus(-15_000);
    }
    assert_eq!(row(&m).health, Health::Ok);
    for g in m.tables.values_mut() {
        g.lag.apply.value = Some(1_700.0);
    }
    assert_eq!(row(&m).health, Health::Watch, "near its limit");
    for g in m.tables.values_mut() {
        g.lag.apply.value = Some(2_001.0);
    }
    assert_eq!(row(&m).health, Health::Fail);
}

#[test]
fn the_difference_is_source_less_target_less_parked() {
    let s = snapshot(Moment::Loading);
    let items = s.tables.iter().find(|t| t.id == "items").unwrap();
    assert_eq!(items.difference, Some(19_200_000 - 7_872_000 - 2));
    // A delete that waits leaves one row more in the target, and the same difference.
    assert_eq!(RowErrorReason::StillReferenced.name(), HELD_DELETE);
    assert_eq!(rows_kept_out(&BTreeMap::from([("nul".to_owned(), 2), (HELD_DELETE.to_owned(), 3)])), -1);
    let carts = s.tables.last().unwrap();
    assert_eq!((carts.id.as_str(), carts.difference), ("carts", None), "a table that stays has no other side");
}

#[test]
fn the_current_gate_shows_live_evidence_and_how_long_it_held() {
    let s = snapshot(Moment::Gate);
    let step = &s.steps[s.current.unwrap()];
    assert_eq!(step.title, "GATE lag < 2s for 10m");
    assert_eq!(step.progress, Some((250_000, 600_000)));
    assert_eq!(step.evidence.len(), 1);
    let e = &step.evidence[0];
    assert!(e.good && e.value == "0.8s" && s.wall.since(e.at) == 1_000, "{e:?}");
    assert!(e.source.starts_with("GetRecords: "), "the query behind it: {}", e.source);
    assert!(s.steps[7].detail.contains("now 3") && s.steps[7].detail.contains("BLOCKING"));
}

#[test]
fn a_broken_gate_shows_no_held_time_even_if_the_journal_lags() {
    let plan = plan();
    let mut state = RunState { t0: T0, ..RunState::default() };
    for s in &plan.steps[..6] {
        state.steps.push(crate::domain::run::StepState {
            id: s.id.clone(),
            status: StepStatus::Done,
            ..Default::default()
        });
    }
    state.gates.entry("in-sync".into()).or_default().met_since = Some(T0.plus(-60_000));
    let s = built(&plan, &state, &Measured { at: T0, ..Measured::default() }, &[]);
    assert!(s.steps[6].detail.ends_with("BLOCKING"), "{}", s.steps[6].detail);
    assert_eq!(s.steps[6].progress, None);
}

#[test]
fn rollback_is_priced() {
    let s = snapshot(Moment::Frozen);
    assert_eq!(s.rollback.text, "READY ~1s 0 at risk");
    assert_eq!(s.rollback.estimate_ms, Some(880), "two waves, each written and read back");
    assert_eq!(s.rollback.at_risk, Some(0), "nothing was accepted on the new side");
    assert!(s.rollback.actions.iter().any(|a| a == "then allow writes: /app/orders/read_only -> false (version 4)"));
    let s = snapshot(Moment::Switched);
    assert_eq!((s.rollback.text.as_str(), s.rollback.health), ("READY 12 writes stay behind", Health::Warn));
}

#[test]
fn an_ordered_rollback_says_what_it_did_and_does() {
    use crate::domain::gauge::{Reverse, ReverseGauge, ReverseState};
    use crate::domain::run::{Actor, Cause, ReverseTable, RollbackState};
    let plan = plan();
    let mut state = RunState { t0: T0, decided: Some(T0.plus(-50_000)), ..RunState::default() };
    (state.downtime.refused, state.downtime.accepted) = (Some(T0.plus(-90_000)), Some(T0.plus(-40_000)));
    let thaw = plan.steps.iter().find(|s| s.kind == StepKind::Thaw).unwrap().id.clone();
    state.steps.push(StepState { id: thaw, attempts: 1, ..StepState::default() });
    let mut m = Measured { at: T0.plus(2_000), ..Measured::default() };
    m.reverse = Reverse { state: ReverseState::Running { at: T0 }, at: T0, ..Reverse::default() };
    for t in &plan.tables {
        let gauge = ReverseGauge { carried: 100, waiting: 7, ..ReverseGauge::default() };
        m.reverse.tables.insert(t.id.clone(), gauge);
    }
    let stands = |standing, read: i64| SwitchState {
        captured: true,
        captured_value: Some("was".into()),
        standing,
        read_at: Some(T0.plus(read)),
        ..SwitchState::default()
    };
    let ids: Vec<String> = plan.switches.iter().map(|s| s.id.clone()).collect();
    // The freeze was lifted long before: the rollback did not do that.
    state.switches.insert(ids[0].clone(), stands(SwitchStatus::Restored, -40_000));
    state.switches.insert(ids[1].clone(), stands(SwitchStatus::Restored, 1_000));
    state.switches.insert(ids[2].clone(), stands(SwitchStatus::New, -60_000));
    let course = |state: &RunState, m: &Measured| built(&plan, state, m, &[]).rollback.course;
    assert_eq!(course(&state, &m), [], "nobody has ordered it");
    state.status = RunStatus::RollingBack;
    state.rollback = Some(RollbackState {
        ordered: T0,
        by: Actor::Operator("alice".into()),
        cause: Cause::Asked,
        ended: None,
        took_ms: None,
        evidence: vec![],
        stuck: vec![],
    });
    let texts = |state: &RunState, m: &Measured| -> Vec<(String, bool)> {
        course(state, m).into_iter().map(|d| (d.text, d.done)).collect()
    };
    let read_back = format!("{} -> was, read back {}", plan.switches[1].place(), T0.plus(1_000).clock());
    let waits = format!("{} -> was, not read back yet", plan.switches[2].place());
    let carried = |rest: &str| format!("writes of the new side: 400 keys carried back, {rest}");
    let says = |rest: &str, done| [(read_back.clone(), true), (waits.clone(), false), (carried(rest), done)];
    assert_eq!(texts(&state, &m), says("28 wait", false));
    m.at = T0.plus(60_000);
    assert_eq!(texts(&state, &m), says("? wait", false), "an old number is not shown as of now");
    for t in &plan.tables {
        let counted = ReverseTable { carried: Some(100), left: Some(0), ..ReverseTable::default() };
        state.reverse.insert(t.id.clone(), counted);
    }
    assert_eq!(texts(&state, &m), says("none left", true));
    state.reverse.values_mut().for_each(|t| t.left = Some(2));
    assert_eq!(texts(&state, &m), says("8 LEFT", false));
    state.reverse.values_mut().for_each(|t| t.left = None);
    assert_eq!(texts(&state, &m), says("? LEFT", false));
    // Afterwards the price is what it was, and nobody knows of what came later.
    let what_if = |state: &RunState| {
        let s = built(&plan, &RunState { status: RunStatus::RolledBack, ..state.clone() }, &m, &[]);
        (s.rollback.what_if.carried.join("; "), s.rollback.what_if.lost.join("; "))
    };
    assert!(what_if(&state).1.starts_with("? writes of the new side"), "{:?}", what_if(&state));
    state.reverse.values_mut().for_each(|t| t.left = Some(0));
    let (carried, lost) = what_if(&state);
    assert_eq!(carried, "400 keys were carried back");
    assert!(lost.starts_with("no write up to then; ? writes that reached the new side since"), "{lost}");
    state.steps[0].attempts = 0;
    // Frozen and never thawed: the freeze is lifted by the rollback, and nobody wrote on the new side.
    state.switches.insert(ids[0].clone(), stands(SwitchStatus::New, -80_000));
    (state.downtime.accepted, state.decided) = (None, None);
    let list = texts(&state, &m);
    assert_eq!(list.len(), 3);
    assert!(list[2].0.starts_with("allow writes: "), "{list:?}");
    assert_eq!(what_if(&state).1, "no write");
    // Switched and never thawed: what is accepted after the order is the old side's.
    (state.downtime.accepted, state.decided) = (Some(T0.plus(1_500)), Some(T0.plus(-50_000)));
    state.reverse.clear();
    assert_eq!(what_if(&state), ("nothing: customers never were on the new side".into(), "no write".into()));
    assert_eq!(texts(&state, &m).len(), 3, "so nothing is said to be carried");
}

#[test]
fn nothing_waits_for_anybody_once_the_run_went_back() {
    let plan = plan();
    let freeze = plan.steps.iter().find(|s| s.kind == StepKind::Freeze).unwrap().id.clone();
    let held = StepState {
        id: freeze.clone(),
        status: StepStatus::Held,
        held: Some("type freeze".into()),
        ..StepState::default()
    };
    let asked = |status| {
        let state = RunState { status, steps: vec![held.clone()], ..RunState::default() };
        let row = built(&plan, &state, &Measured::default(), &[]).steps.into_iter().find(|s| s.id == freeze).unwrap();
        (row.need.is_some(), row.reason.unwrap())
    };
    assert_eq!(asked(RunStatus::Running), (true, "type freeze".to_owned()));
    for over in [RunStatus::RollingBack, RunStatus::RolledBack, RunStatus::Stuck] {
        assert_eq!(asked(over), (false, "never started: the run went back while it waited".to_owned()), "{over:?}");
    }
}

#[test]
fn what_is_measured_before_a_switch_does_not_hold_for_a_gate_behind_it() {
    let gate = |s: &Snapshot| s.steps.iter().rfind(|s| s.kind == StepName::Gate).unwrap().detail.clone();
    assert_eq!(gate(&snapshot(Moment::Gate)), "2 of 2     before the switch");
    assert!(!gate(&snapshot(Moment::Switched)).contains("before"), "{}", gate(&snapshot(Moment::Switched)));
}

#[test]
fn rollback_that_is_not_proven_is_not_green() {
    let plan = plan();
    let mut state = RunState { t0: T0, ..RunState::default() };
    let new = SwitchState { captured: true, standing: SwitchStatus::New, ..SwitchState::default() };
    state.switches.insert("writes".into(), new);
    let mut m = Measured { at: T0, ..Measured::default() };
    let back = |s: &RunState, m: &Measured| {
        let r = built(&plan, s, m, &[]).rollback;
        (r.text, r.health)
    };
    assert_eq!(back(&state, &m), says("?", Health::Unknown));
    m.rollback = Readiness::NotReady { why: "reads cannot be read".into() };
    assert_eq!(back(&state, &m), says("NOT READY: reads cannot be read", Health::Fail));
    m.rollback = Readiness::Armed { read_ms: 100, at: T0.plus(-180_000) };
    assert_eq!(back(&state, &m), says("? last proven 3m ago", Health::Unknown));
    m.rollback = Readiness::Armed { read_ms: 100, at: T0 };
    assert_eq!(back(&state, &m).1, Health::Ok);
    state.decided = Some(T0);
    state.downtime.refused = Some(T0);
    state.downtime.accepted = Some(T0);
    assert_eq!(back(&state, &m), says("READY ~1s ? at risk", Health::Unknown));
    state.switches.get_mut("writes").unwrap().captured = false;
    assert_eq!(back(&state, &m), says("NOT READY: 1 not captured", Health::Fail));
}

#[test]
fn secrets_are_stars_and_values_never_captured_are_unknown() {
    let mut plan = plan();
    let crate::domain::plan::SwitchKind::Parameter { secure, .. } = &mut plan.switches[1].kind else { unreachable!() };
    *secure = true;
    let mut state = RunState::default();
    assert_eq!(built(&plan, &state, &Measured::default(), &[]).switches[1].old, "?");
    // Even a value that should not be in the state does not get out.
    let leaked = SwitchState { captured: true, captured_value: Some("hunter2".into()), ..SwitchState::default() };
    state.switches.insert("reads".into(), leaked);
    let s = built(&plan, &state, &Measured::default(), &[]);
    assert_eq!((s.switches[1].old.as_str(), s.switches[1].new.as_str()), ("***", "***"));
    assert!(!serde_json::to_string(&s).unwrap().contains("hunter2"));
}

#[test]
fn needs_reasons_and_slip() {
    let s = snapshot(Moment::Confirm);
    let step = &s.steps[s.current.unwrap()];
    assert_eq!(step.need, Some(Need::Word("orders".into())));
    let s = snapshot(Moment::Failed);
    let step = &s.steps[s.current.unwrap()];
    assert_eq!(step.need, Some(Need::Decision));
    assert!(step.reason.as_deref().unwrap().contains("AccessDenied"));
    assert!(step.advice.as_deref().unwrap().contains("dynamodb:Scan"));
    assert_eq!(s.steps[0].slip_ms, Some(20_000));
}

#[test]
fn the_forecast_adds_what_is_left_to_now() {
    let s = snapshot(Moment::Switched);
    // The gate ends when it has held; the last comparison follows.
    assert_eq!(s.forecast_end, s.steps[16].eta.unwrap().plus(840_000));
    assert_eq!(s.planned_end, T0.plus(34 * 60_000));
    let s = snapshot(Moment::Gate);
    assert!(s.forecast_end >= T0, "the freeze does not start before its planned time");
    let s = snapshot(Moment::Finished);
    assert_eq!(s.forecast_end, s.now);
    assert_eq!(s.current, None);
}

#[test]
fn the_criteria_of_a_finished_run_are_met() {
    let s = snapshot(Moment::Finished);
    let all: Vec<(&str, Health)> = s.criteria.iter().map(|k| (k.name.as_str(), k.health)).collect();
    let ok = Health::Ok;
    assert_eq!(all, [("data loss", ok), ("errors reads", ok), ("p95 reads", ok), ("downtime", ok)]);
}

#[test]
fn missing_rows_are_data_loss_even_when_the_counts_agree() {
    let plan = plan();
    let mut state = RunState::default();
    for t in &plan.tables {
        let v = VerifySummary {
            source: Count::exact(10, T0),
            target: Count::exact(10, T0),
            equal: 9,
            missing: 1,
            extra: 1,
            ..VerifySummary::default()
        };
        state.tables.entry(t.id.clone()).or_default().verified = Some((T0, v));
    }
    let s = built(&plan, &state, &Measured { at: T0, ..Measured::default() }, &[]);
    // In each of four tables one row is lost and one is there that nobody knows: none makes up for another.
    assert_eq!((s.criteria[0].measured.as_str(), s.criteria[0].health), ("8", Health::Fail));
}

#[test]
fn a_parked_row_did_not_arrive_and_the_account_says_where_every_row_is() {
    let plan = plan();
    let mut state = RunState { status: RunStatus::Finished, ..RunState::default() };
    let v = VerifySummary {
        source: Count::exact(10, T0),
        target: Count::exact(9, T0),
        equal: 9,
        parked: 1,
        ..VerifySummary::default()
    };
    let mut measured = Measured { at: T0, ..Measured::default() };
    for (n, t) in plan.tables.iter().enumerate() {
        let v = if n == 0 { v.clone() } else { VerifySummary { equal: 10, parked: 0, target: v.source, ..v.clone() } };
        let parked: BTreeMap<String, u64> =
            (v.parked > 0).then(|| ("too long".to_owned(), v.parked)).into_iter().collect();
        state.tables.entry(t.id.clone()).or_default().verified = Some((T0, v));
        let gauge = measured.tables.entry(t.id.clone()).or_default();
        (gauge.parked, gauge.parked_at) = (parked, T0);
    }
    let s = built(&plan, &state, &measured, &[]);
    assert_eq!((s.criteria[0].measured.as_str(), s.criteria[0].health), ("0, 1 parked", Health::Warn));
    let said = format!("40 rows at {}: 39 arrived, 1 parked, 0 expired, 0 left behind", T0.clock());
    assert_eq!((s.account.text.as_str(), s.account.health), (said.as_str(), Health::Warn));
    let earlier = T0.plus(-60_000);
    let verified = state.tables.values_mut().next().and_then(|t| t.verified.as_mut()).unwrap();
    verified.0 = earlier;
    let s = built(&plan, &state, &measured, &[]);
    assert!(s.account.text.starts_with(&format!("40 rows at {}: ", earlier.clock())), "{}", s.account.text);
    measured.tables.values_mut().for_each(|g| g.parked = BTreeMap::from([("too long".to_owned(), 2)]));
    let s = built(&plan, &state, &measured, &[]);
    assert!(s.account.text.ends_with("0 left behind; 8 parked now"), "{}", s.account.text);
    state.tables.clear();
    let s = built(&plan, &state, &measured, &[]);
    assert_eq!(s.account.health, Health::Unknown, "{}", s.account.text);
}

#[test]
fn a_step_says_where_each_of_its_switches_stands() {
    let mut plan = plan();
    let at = plan.steps.iter().position(|s| matches!(s.kind, StepKind::Switch { .. })).unwrap();
    let ids: Vec<String> = plan.switches.iter().map(|s| s.id.clone()).collect();
    plan.steps[at].kind = StepKind::Switch { switches: ids.clone(), to: Default::default() };
    let mut state = RunState { status: RunStatus::Running, ..RunState::default() };
    let done = |n| if n < at { StepStatus::Done } else { StepStatus::Failed };
    let step = |(n, s): (usize, &crate::domain::plan::Step)| StepState {
        id: s.id.clone(),
        status: if n > at { StepStatus::Todo } else { done(n) },
        ..StepState::default()
    };
    state.steps = plan.steps.iter().enumerate().map(step).collect();
    let standings = [SwitchStatus::New, SwitchStatus::Unknown, SwitchStatus::Old];
    for (id, standing) in ids.iter().zip(standings) {
        let read_at = (standing == SwitchStatus::New).then_some(T0);
        state.switches.insert(id.clone(), SwitchState { standing, read_at, ..SwitchState::default() });
    }
    let s = built(&plan, &state, &Measured { at: T0, ..Measured::default() }, &[]);
    let row = &s.steps[at];
    assert!(row.detail.starts_with(&format!("1 of {} new, 1 ?", ids.len())), "{}", row.detail);
    assert!(row.lines[0].starts_with("NEW ") && row.lines[0].contains("  read "), "{}", row.lines[0]);
    assert!(row.lines[1].starts_with("? ") && !row.lines[1].contains("  read "), "{}", row.lines[1]);
}

#[test]
fn a_load_says_what_is_going_on_when_no_row_moves() {
    let plan = plan();
    let mut measured = super::fixture::measured(Moment::Loading);
    let (state, at) = (super::fixture::state(&plan, Moment::Loading), measured.at);
    let load = |m: &Measured| {
        let s = built(&plan, &state, m, &[]);
        let row = s.steps.iter().find(|s| s.kind == StepName::Load).cloned().unwrap();
        (row, lamp(&s, "COPY"))
    };
    let (row, _) = load(&measured);
    assert!(row.eta.is_some() && row.lines[0].ends_with("  8 of 8 reading"), "{row:?}");
    measured
        .tables
        .values_mut()
        .for_each(|g| g.held_back = Some("throttled by the target: 3 batches at a time".into()));
    let (row, _) = load(&measured);
    assert!(row.lines[0].ends_with("/s  throttled by the target: 3 batches at a time"), "{row:?}");
    measured.tables.values_mut().for_each(|g| (g.rate, g.held_back) = (0.0, None));
    let (row, _) = load(&measured);
    assert!(row.eta.is_none() && row.detail.ends_with("ETA ?"), "{}", row.detail);
    measured.tables.values_mut().for_each(|g| g.moved_at = at.plus(-40_000));
    let (_, copy) = load(&measured);
    assert!(copy.0.ends_with("no row for 40s") && copy.1 == Health::Warn, "{copy:?}");
    let building = Some(("builds 3 indexes, takes statistics".to_owned(), at.plus(-12_000)));
    measured.tables.values_mut().filter(|g| g.phase == Phase::Loading).for_each(|g| g.doing.clone_from(&building));
    let (row, copy) = load(&measured);
    assert!(row.detail.contains("builds 3 indexes, takes statistics 12s"), "{}", row.detail);
    assert_eq!(copy.1, Health::Ok, "{copy:?}");
}

#[test]
fn what_was_copied_into_a_database_that_does_not_answer_is_not_ok() {
    let plan = plan();
    let mut measured = super::fixture::measured(Moment::Gate);
    let state = super::fixture::state(&plan, Moment::Gate);
    assert_eq!(lamp(&built(&plan, &state, &measured, &[]), "COPY"), says("done", Health::Ok));
    measured.at = measured.at.plus(40_000);
    let s = built(&plan, &state, &measured, &[]);
    assert_eq!(lamp(&s, "COPY").1, Health::Unknown);
    assert!(lamp(&s, "COPY").0.starts_with("? done, no answer for "), "{:?}", lamp(&s, "COPY"));
    // One table that was never heard of does not hide how long the others are silent.
    let id = &plan.tables[0].id;
    measured.tables.insert(id.clone(), Default::default());
    assert_eq!(lamp(&built(&plan, &state, &measured, &[]), "COPY"), says("? done, no answer yet", Health::Unknown));
}

#[test]
fn routine_facts_are_folded_and_nothing_else() {
    let fact = |seq, event| Fact { seq, at: T0.plus(seq as i64), event };
    let note = |text: &str| Event::Note { level: Level::Info, source: "aws".into(), text: text.into() };
    let intent = Event::Intent {
        id: "switch/writes/1".into(),
        step: None,
        action: Action::SetSwitch { switch: "writes".into(), to: "new".into(), position: None },
    };
    let outcome = |result| Event::Outcome { id: "switch/writes/1".into(), result };
    let done = outcome(OutcomeResult::Done { read_back: "new".into(), version: Some(5) });
    let unknown = outcome(OutcomeResult::Unknown { error: "no answer".into() });
    let facts = [
        fact(1, note("throttled")),
        fact(2, note("throttled")),
        fact(3, note("throttled")),
        fact(4, note("other")),
        fact(5, intent.clone()),
        fact(6, done),
        fact(7, intent),
        fact(8, unknown),
    ];
    let rows = super::log::log_rows(&facts);
    let text: Vec<(u64, &str)> = rows.iter().map(|r| (r.seq, r.text.as_str())).collect();
    assert_eq!(
        text,
        [
            (3, "throttled  x3"),
            (4, "other"),
            (6, "set writes to new: read back new, version 5"),
            (7, "set writes to new"),
            (8, "set writes to new: UNKNOWN, no answer"),
        ]
    );
    assert_eq!(rows[4].level, Level::Error);
}

#[test]
fn the_log_is_bounded() {
    let facts: Vec<Fact> = (0..5_000)
        .map(|i| Fact {
            seq: i,
            at: T0,
            event: Event::Note { level: Level::Info, source: "x".into(), text: format!("line {i}") },
        })
        .collect();
    let rows = super::log::log_rows(&facts);
    assert_eq!((rows.len(), rows.last().unwrap().seq), (300, 4_999));
}

#[test]
fn a_snapshot_survives_the_socket() {
    for moment in Moment::ALL {
        let mut s = snapshot(moment);
        for row in &mut s.signals {
            // JSON may round the last bit of a fraction; whole numbers show that nothing else is lost.
            row.series = Series::new(1_000, 4);
            row.series.push(T0, Some(3.0));
            row.series.push(T0.plus(2_000), None);
        }
        let text = serde_json::to_string(&s).unwrap();
        assert!(serde_json::from_str::<Snapshot>(&text).unwrap() == s, "{moment:?}");
    }
}

#[test]
fn refusals_of_a_freeze_are_no_errors() {
    let mut plan = plan();
    for s in &mut plan.signals {
        if let crate::domain::plan::SignalSource::ProbeErrors(probe) = &mut s.source {
            *probe = "writes".into();
        }
    }
    let mut state = RunState { t0: T0, ..RunState::default() };
    let stats = crate::domain::gauge::ProbeStats {
        count: 10,
        failed: 9,
        p95_ms: Some(4.0),
        at: T0,
        last: "refused 503".into(),
        last_ok: false,
        last_refused: true,
    };
    let mut m = Measured { at: T0, ..Measured::default() };
    m.probes.insert("writes".into(), stats);
    assert_eq!(lamp(&built(&plan, &state, &m, &[]), "ERR").1, Health::Fail, "nobody froze anything");
    state.downtime.refused = Some(T0.plus(-5_000));
    assert_eq!(lamp(&built(&plan, &state, &m, &[]), "ERR"), says("frozen", Health::Idle));
    let p = m.probes.get_mut("writes").unwrap();
    (p.last_ok, p.last_refused, p.last) = (true, false, "201".into());
    state.downtime.accepted = Some(T0.plus(-1_000));
    assert_eq!(lamp(&built(&plan, &state, &m, &[]), "ERR").1, Health::Watch, "the window still holds them");
    state.downtime.accepted = Some(T0.plus(-61_000));
    assert_eq!(lamp(&built(&plan, &state, &m, &[]), "ERR").1, Health::Fail);
}

#[test]
fn a_retention_clock_says_when_and_whether_it_is_in_time() {
    use crate::domain::gauge::{Phase, TableGauge, Unread};
    use crate::domain::run::TableState;
    let plan = plan();
    let id = plan.tables[0].id.clone();
    let table = TableState { stream: Some("arn".into()), loaded: Some(9), ..TableState::default() };
    let state = RunState { t0: T0, tables: [(id.clone(), table)].into(), ..RunState::default() };
    let row = |closing: f64| {
        let unread = Some(Unread { oldest: T0.plus(-3 * 3_600_000), at: T0, closing: Some(closing) });
        let gauge = TableGauge { phase: Phase::Following, unread, ..TableGauge::default() };
        let measured = Measured { at: T0, tables: [(id.clone(), gauge)].into(), ..Measured::default() };
        let s = built(&plan, &state, &measured, &[]);
        let trim = s.tables[0].trim.clone().expect("a clock");
        (trim.text, trim.brief, trim.health)
    };
    let (text, brief, health) = row(45.0);
    assert_eq!(text, "records are trimmed in 21h; at this rate caught up in 04:00");
    assert_eq!((brief.as_str(), health), ("trim 21h, caught up 04:00", Health::Watch));
    let (text, brief, health) = row(-0.5);
    assert_eq!(text, "records are trimmed in 21h; at this rate NEVER caught up");
    assert_eq!((brief.as_str(), health), ("trim 21h, NEVER caught up", Health::Fail));
}
