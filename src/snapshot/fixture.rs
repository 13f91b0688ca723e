//! A migration day at different moments, for tests and the drawing bench: built through [`super::build`], so that what
//! is drawn is what a run would show.

#![cfg_attr(not(test), allow(dead_code))]

use std::collections::BTreeMap;

use super::{Context, Mode, Snapshot, build};
use crate::domain::at::At;
use crate::domain::gauge::{Count, Lag, Measured, Phase, ProbeStats, Readiness, Reading, Series, TableGauge};
use crate::domain::plan::{
    CONTROL, Confirm, Criterion, Follow, Freeze, Gate, Load, NEW, OLD, OnFail, Op, Plan, Probe, Side, Signal,
    SignalSource, Start, StaysTable, Step, StepKind, Switch, SwitchKind, Table, ValueRef, Verify,
};
use crate::domain::run::{
    Action, Actor, Cause, Downtime, ErrorClass, Event, Evidence, Fact, GateState, Level, OutcomeResult, RollbackState,
    RunState, RunStatus, StepError, StepState, StepStatus, SwitchState, SwitchStatus, TableState, VerifySummary,
};

/// 2026-11-22 02:00:00Z.
pub(crate) const T0: At = At(1_795_312_800_000);
const MINUTE: i64 = 60_000;

/// The moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing measured, nothing journaled.
    Empty,
    /// Bulk copy under way.
    Loading,
    /// The load failed.
    Failed,
    /// A gate holds; another one blocks.
    Gate,
    /// The freeze waits for its typed word.
    Confirm,
    /// Writes are frozen, the switch waits for its typed word.
    Frozen,
    /// Both switches are new, writes go to the new side.
    Switched,
    /// No probe and no table reports any more.
    Unknown,
    /// Rolling back.
    RollingBack,
    /// Rolled back.
    RolledBack,
    /// A switch could not be put back.
    Stuck,
    /// Everything done.
    Finished,
}

impl Moment {
    pub(crate) const ALL: [Self; 12] = [
        Self::Empty,
        Self::Loading,
        Self::Failed,
        Self::Gate,
        Self::Confirm,
        Self::Frozen,
        Self::Switched,
        Self::Unknown,
        Self::RollingBack,
        Self::RolledBack,
        Self::Stuck,
        Self::Finished,
    ];

    /// Steps done at this moment, and the status of the next one.
    const fn place(self) -> (usize, StepStatus) {
        match self {
            Self::Empty => (0, StepStatus::Todo),
            Self::Loading | Self::Unknown => (3, StepStatus::Running),
            Self::Failed => (3, StepStatus::Failed),
            Self::Gate => (6, StepStatus::Running),
            Self::Confirm => (10, StepStatus::Held),
            Self::Frozen | Self::RollingBack | Self::Stuck => (13, StepStatus::Held),
            Self::Switched | Self::RolledBack => (16, StepStatus::Running),
            Self::Finished => (18, StepStatus::Done),
        }
    }

    const fn now(self) -> At {
        T0.plus(match self {
            Self::Empty => -121 * MINUTE,
            Self::Loading | Self::Unknown | Self::Failed => -66 * MINUTE - 44_000,
            Self::Gate => -30 * MINUTE,
            Self::Confirm => -5_000,
            Self::Frozen | Self::RollingBack | Self::Stuck => 72_000,
            Self::Switched | Self::RolledBack => 6 * MINUTE,
            Self::Finished => 40 * MINUTE,
        })
    }
}

/// The snapshot of a moment.
pub(crate) fn snapshot(moment: Moment) -> Snapshot {
    let plan = plan();
    let (state, measured, facts) = (state(&plan, moment), measured(moment), facts(moment));
    let mut series = BTreeMap::new();
    if moment != Moment::Empty {
        for (i, signal) in plan.signals.iter().enumerate() {
            series.insert(signal.id.clone(), history(i as i64, signal.limit.unwrap_or(100.0), moment));
        }
    }
    build(&Context {
        plan: &plan,
        state: &state,
        measured: &measured,
        series: &series,
        facts: &facts,
        now: moment.now(),
        mode: Mode::Live,
        waiting: None,
        version: 7,
    })
}

fn history(seed: i64, limit: f64, moment: Moment) -> Series {
    let mut s = Series::new(5_000, 180);
    for i in 0..180_i64 {
        let at = moment.now().plus((i - 180) * 5_000);
        let wave = ((i * 7 + seed * 13) % 11 + (i / 9 + seed) % 5) as f64 / 30.0;
        let gap = (40..46).contains(&i);
        s.push(at, (!gap).then_some(wave * limit));
    }
    s
}

fn table(id: &str) -> Table {
    Table {
        id: id.into(),
        from: OLD.to_owned(),
        source: format!("CloudShelf-{id}"),
        to: NEW.to_owned(),
        target: id.into(),
        key: vec!["id".into()],
        columns: vec![],
        children: vec![],
        foreign_keys: vec![],
        ttl: None,
        marker_prefix: "~".into(),
        ddl: None,
        triggers: vec![],
        leave_out: vec![],
        after_load: vec![],
        mover: None,
    }
}

fn step(id: &str, title: &str, at_min: i64, takes_s: i64, kind: StepKind, confirm: Confirm, undo: &str) -> Step {
    Step {
        id: id.into(),
        title: title.into(),
        at_ms: at_min * MINUTE,
        takes_ms: takes_s * 1000,
        owner: "dba".into(),
        two_person: false,
        start: if kind == StepKind::Freeze { Start::AtPlanned } else { Start::WhenReady },
        kind,
        confirm,
        undo: undo.into(),
    }
}

fn signal(id: &str, unit: &str, source: SignalSource, limit: Option<f64>, stale_ms: i64) -> Signal {
    Signal { id: id.into(), unit: unit.into(), source, side: Side::Both, limit, stale_ms }
}

fn gate(id: &str, title: &str, criteria: &[(&str, Op, f64)], hold_min: i64) -> Gate {
    let criteria = criteria.iter().map(|(s, op, v)| Criterion::with(*s, *op, *v)).collect();
    Gate {
        id: id.into(),
        title: title.into(),
        criteria,
        hold_ms: hold_min * MINUTE,
        give_up_ms: None,
        on_fail: OnFail::Hold,
    }
}

fn switch(id: &str, title: &str, name: &str, to: &str) -> Switch {
    Switch {
        id: id.into(),
        title: title.into(),
        kind: SwitchKind::Parameter { name: name.into(), secure: false },
        control: CONTROL.to_owned(),
        expect: None,
        to: ValueRef::Literal(to.into()),
        exercise: true,
    }
}

fn probe(id: &str, method: &str) -> Probe {
    Probe {
        id: id.into(),
        method: method.into(),
        url: format!("https://api.cloudshelf.test/{id}"),
        body: None,
        accept: vec![],
        refused: vec![503],
        contains: None,
        every_ms: 1_000,
        timeout_ms: 2_000,
    }
}

pub(crate) fn plan() -> Plan {
    use StepKind as K;
    let none = || Confirm::None;
    let word = || Confirm::Word("orders".into());
    Plan {
        name: "orders-2026".into(),
        environment: "production".into(),
        production: true,
        t0: Some(T0),
        downtime_budget_ms: 5 * MINUTE,
        tables: ["orders", "items", "books", "users"].map(table).to_vec(),
        moves: vec![],
        stays: vec![StaysTable { id: "carts".into(), from: OLD.into(), source: "CloudShelf-Carts".into() }],
        switches: vec![
            switch("freeze", "writes frozen", "/app/orders/read_only", "true"),
            switch("reads", "reads come from", "/app/orders/read_from", "new"),
            switch("writes", "writes go to", "/app/orders/write_to", "new"),
        ],
        freeze: Some(Freeze {
            switches: vec!["freeze".into()],
            probes: vec!["writes".into()],
            settle_ms: 2_000,
            timeout_ms: 60_000,
        }),
        probes: vec![probe("reads", "GET"), probe("writes", "POST")],
        signals: vec![
            signal("lag", "s", SignalSource::Lag, Some(2.0), 15_000),
            signal("marker", "s", SignalSource::MarkerRoundTrip, Some(30.0), 30_000),
            signal("errors", "%", SignalSource::ProbeErrors("reads".into()), Some(0.1), 15_000),
            signal("p95", "ms", SignalSource::ProbeP95("reads".into()), Some(500.0), 15_000),
            signal("mismatches", "", SignalSource::Mismatches, Some(10.0), 4 * 60 * MINUTE),
            signal("parked", "", SignalSource::Parked, Some(10.0), 60_000),
            signal("downtime", "s", SignalSource::Downtime, Some(300.0), 48 * 60 * MINUTE),
        ],
        gates: vec![
            gate("in-sync", "in sync", &[("lag", Op::Below, 2.0)], 10),
            gate("clean", "clean", &[("mismatches", Op::Equals, 0.0)], 0),
            gate("burn-in", "burn-in", &[("errors", Op::AtMost, 0.1), ("p95", Op::Below, 500.0)], 15),
        ],
        steps: vec![
            step("preflight", "preflight", -120, 41, K::Preflight, none(), ""),
            step("tables", "target tables", -118, 60, K::SetUp, none(), "drop the tables that were created"),
            step("capture", "capture start", -115, 5, K::Capture, none(), "turn the streams off"),
            step("load", "bulk copy", -98, 2_400, K::Load, none(), "truncate the target tables (safe: no reads yet)"),
            step("catch-up", "catch up", -58, 540, K::CatchUp { max_lag_ms: 2_000 }, none(), ""),
            step("verify-1", "verify pass 1", -49, 840, K::Verify, none(), ""),
            step("in-sync", "in sync", -35, 600, K::Gate { gate: "in-sync".into() }, none(), ""),
            step("clean", "clean", -25, 60, K::Gate { gate: "clean".into() }, none(), ""),
            step("arm", "arm the way back", -20, 10, K::Arm, none(), ""),
            step("go", "go / no-go", -10, 300, K::Manual { what: "every owner says go".into() }, Confirm::Key, ""),
            step("freeze", "freeze writes", 0, 15, K::Freeze, word(), "write the captured value back"),
            step("drain", "drain", 1, 20, K::Drain, none(), ""),
            step(
                "reads",
                "reads",
                1,
                5,
                K::Switch { switches: vec!["reads".into()], to: Default::default() },
                word(),
                "restore the captured value",
            ),
            step(
                "writes",
                "writes",
                1,
                5,
                K::Switch { switches: vec!["writes".into()], to: Default::default() },
                word(),
                "restore the captured value",
            ),
            step("smoke", "smoke tests", 2, 20, K::Smoke { probes: vec!["reads".into()] }, none(), ""),
            step("thaw", "thaw writes", 2, 10, K::Thaw, none(), "freeze again, then roll back"),
            step("burn-in", "burn-in", 3, 900, K::Gate { gate: "burn-in".into() }, none(), ""),
            step("verify-2", "verify pass 2", 20, 840, K::Verify, none(), ""),
        ],
        load: Load { segments: Some(8), workers: 6, ..Load::default() },
        follow: Follow { lanes: 1, poll_ms: 200, batch: 100, marker_every_ms: 5_000 },
        verify: Verify { floor: 0.999, settle_ms: 5_000, segments: 8, list_limit: 50, ..Verify::default() },
        reverse: crate::domain::plan::Reverse::default(),
        stores: crate::domain::plan::Stores::new(),
        dials: vec![],
        jobs: vec![],
    }
}

const ROWS: [(&str, u64); 4] = [("orders", 24_600_000), ("items", 19_200_000), ("books", 204_000), ("users", 12_334)];

pub(super) fn measured(moment: Moment) -> Measured {
    let wall = moment.now();
    let mut m = Measured { at: wall, journal_ok: true, journal_age_ms: Some(200), ..Measured::default() };
    if moment == Moment::Empty {
        return Measured { journal_ok: true, ..Measured { at: wall, ..Measured::default() } };
    }
    let loading = matches!(moment, Moment::Loading | Moment::Failed | Moment::Unknown);
    for (i, (id, rows)) in ROWS.into_iter().enumerate() {
        let share = [74, 41, 100, 100][i];
        let done = share == 100;
        let loaded = if loading { rows * share / 100 } else { rows };
        let mut g = TableGauge {
            phase: match moment {
                _ if loading && done => Phase::Loaded,
                _ if loading => Phase::Loading,
                Moment::Gate | Moment::Confirm => Phase::Following,
                _ => Phase::Drained,
            },
            parked_at: wall.plus(-1_000),
            source: if loading {
                Count::estimated(rows, wall.plus(-61_000))
            } else {
                Count::exact(rows, wall.plus(-4_000))
            },
            target: if loading {
                Count::derived(loaded, wall.plus(-1_000))
            } else {
                Count::exact(rows, wall.plus(-4_000))
            },
            loaded,
            segments: if loading && !done { (0, 8) } else { (8, 8) },
            reading: if loading && !done { 8 } else { 0 },
            moved_at: if loading { wall.plus(-300) } else { At::default() },
            rate: if loading && !done {
                [11_000.0, 7_800.0, 0.0, 0.0][i]
            } else if loading {
                0.0
            } else {
                31.0
            },
            applied: if loading { 0 } else { 12_401 },
            ..TableGauge::default()
        };
        if !loading {
            g.lag = Lag {
                capture: Reading::new(300.0, wall.plus(-500)),
                apply: Reading::new(800.0 - 100.0 * i as f64, wall.plus(-1_000)),
                marker: Reading::new(1_400.0, wall.plus(-3_000)),
            };
        }
        if moment == Moment::Loading && i == 1 {
            g.retries = 12;
            g.parked = BTreeMap::from([("too long".into(), 2)]);
            g.trouble = Some("chunk 688 retry 1/5: 40001 serialization_failure".into());
        }
        m.tables.insert(id.to_owned(), g);
    }
    m.tables.insert(
        "carts".into(),
        TableGauge {
            phase: Phase::Stays,
            source: Count::estimated(48_211, wall.plus(-61_000)),
            ..TableGauge::default()
        },
    );
    let frozen = matches!(moment, Moment::Frozen | Moment::RollingBack | Moment::Stuck);
    let stats = |last: &str, ok: bool, failed| ProbeStats {
        count: 60,
        failed,
        p95_ms: Some(41.0),
        at: wall.plus(-700),
        last: last.into(),
        last_ok: ok,
        last_refused: !ok,
    };
    m.probes.insert("reads".into(), stats("200 in 38ms", true, 0));
    let writes = if frozen { stats("refused 503", false, 58) } else { stats("201 in 44ms", true, 0) };
    m.probes.insert("writes".into(), writes);
    m.workers = if loading { (6, 8) } else { (0, 6) };
    m.rollback = Readiness::Armed { read_ms: 220, at: wall.plus(-2_000) };
    m.downtime_ms = frozen.then_some(70_200);
    if matches!(moment, Moment::Switched | Moment::RolledBack | Moment::Finished) {
        m.at_risk = Some(if moment == Moment::Switched { 12 } else { 0 });
    }
    if moment == Moment::Unknown {
        // Nothing has reported for two minutes, and the source was never counted.
        m.rollback = Readiness::NotReady { why: "values not captured".into() };
        for g in m.tables.values_mut() {
            g.source = Count::default();
            g.target = Count::default();
        }
        for p in m.probes.values_mut() {
            p.at = wall.plus(-2 * MINUTE);
        }
        m.journal_age_ms = None;
        m.journal_ok = false;
    }
    m
}

fn proof(name: &str, value: &str, at: At, good: bool) -> Evidence {
    Evidence { name: name.into(), value: value.into(), at, source: "GetParameter".into(), good }
}

pub(super) fn state(plan: &Plan, moment: Moment) -> RunState {
    let now = moment.now();
    if moment == Moment::Empty {
        return RunState { t0: T0, ..RunState::default() };
    }
    let (done, next) = moment.place();
    let mut s = RunState {
        run: "0192f3".into(),
        plan: plan.name.clone(),
        plan_hash: "9f2c41aa07d3e1".into(),
        environment: plan.environment.clone(),
        operator: "alice".into(),
        host: "bastion-2".into(),
        t0: T0,
        opened: T0.plus(-121 * MINUTE),
        status: match moment {
            Moment::RollingBack => RunStatus::RollingBack,
            Moment::RolledBack => RunStatus::RolledBack,
            Moment::Stuck => RunStatus::Stuck,
            Moment::Finished => RunStatus::Finished,
            _ => RunStatus::Running,
        },
        last_seq: 2_231,
        ..RunState::default()
    };
    for (i, step) in plan.steps.iter().enumerate() {
        let started = T0.plus(step.at_ms + 20_000).min(now);
        let mut one = StepState { id: step.id.clone(), ..StepState::default() };
        if i < done {
            one.status = StepStatus::Done;
            one.started = Some(started);
            one.ended = Some(started.plus(step.takes_ms).min(now));
            one.evidence = vec![proof(&step.id, "as planned", one.ended.unwrap_or(now), true)];
        } else if i == done {
            one.status = next;
            one.started = matches!(next, StepStatus::Running | StepStatus::Failed).then_some(started);
            one.ended = (next == StepStatus::Failed).then_some(now.plus(-9_000));
            one.held = (next == StepStatus::Held).then(|| "asks for the typed word orders".to_owned());
            one.error = (next == StepStatus::Failed).then(|| StepError {
                class: ErrorClass::Permission,
                message: "Scan on CloudShelf-items was refused: AccessDeniedException".into(),
                advice: "Allow dynamodb:Scan for role cutover, then try again.".into(),
            });
        }
        s.steps.push(one);
    }
    if done > 6 {
        for (id, rows) in ROWS {
            let v = VerifySummary {
                source: Count::exact(rows, T0.plus(-40 * MINUTE)),
                target: Count::exact(rows, T0.plus(-40 * MINUTE)),
                equal: rows,
                took_ms: 250_000,
                ..VerifySummary::default()
            };
            s.tables.insert(
                id.into(),
                TableState { loaded: Some(rows), verified: Some((T0.plus(-36 * MINUTE), v)), ..TableState::default() },
            );
        }
    }
    if moment == Moment::Gate {
        for (i, (id, rows)) in ROWS.into_iter().enumerate() {
            let bad = if i == 3 { 3 } else { 0 };
            let v = VerifySummary {
                source: Count::exact(rows, T0.plus(-40 * MINUTE)),
                target: Count::exact(rows, T0.plus(-40 * MINUTE)),
                equal: rows - bad,
                mismatched: bad,
                causes: (bad > 0).then(|| ("trailing spaces".to_owned(), bad)).into_iter().collect(),
                keys: (0..bad).map(|k| format!("id=user-{k:04}")).collect(),
                took_ms: 250_000,
                ..VerifySummary::default()
            };
            s.tables.insert(
                id.into(),
                TableState { loaded: Some(rows), verified: Some((T0.plus(-36 * MINUTE), v)), ..TableState::default() },
            );
        }
        s.gates.insert("in-sync".into(), GateState { met_since: Some(now.plus(-250_000)), ..GateState::default() });
    }
    if matches!(moment, Moment::Switched) {
        s.gates.insert("burn-in".into(), GateState { met_since: Some(now.plus(-150_000)), ..GateState::default() });
    }
    if done > 8 {
        for (i, sw) in plan.switches.iter().enumerate() {
            let changed = match moment {
                Moment::Confirm => SwitchStatus::Old,
                Moment::Frozen if i < 2 => SwitchStatus::New,
                Moment::Frozen => SwitchStatus::Old,
                Moment::Switched | Moment::Finished => {
                    if i == 0 {
                        SwitchStatus::Restored
                    } else {
                        SwitchStatus::New
                    }
                }
                Moment::RollingBack => [SwitchStatus::New, SwitchStatus::Unknown, SwitchStatus::Old][i],
                Moment::RolledBack => SwitchStatus::Restored,
                _ => [SwitchStatus::Unknown, SwitchStatus::Restored, SwitchStatus::Old][i],
            };
            s.switches.insert(
                sw.id.clone(),
                SwitchState {
                    captured: true,
                    captured_version: Some(4),
                    captured_value: Some(if i == 0 { "false" } else { "old" }.into()),
                    standing: changed,
                    read_at: Some(now.plus(-6_000)),
                    read_back: None,
                    changed_seq: 2_000 + i as u64,
                    ..SwitchState::default()
                },
            );
        }
    }
    if done > 10 {
        s.downtime.refused = Some(T0.plus(1_800));
        s.decided = Some(T0.plus(60_000));
    }
    if done > 15 {
        s.downtime = Downtime { refused: Some(T0.plus(1_800)), accepted: Some(T0.plus(96_000)), ms: Some(94_200) };
    }
    if matches!(moment, Moment::RollingBack | Moment::RolledBack | Moment::Stuck) {
        let ended = moment != Moment::RollingBack;
        s.rollback = Some(RollbackState {
            ordered: now.plus(-3_200),
            by: Actor::Operator("alice".into()),
            cause: Cause::Asked,
            ended: ended.then_some(now),
            took_ms: ended.then_some(3_200),
            evidence: if moment == Moment::RolledBack {
                vec![proof("read-back writes", "old", now, true), proof("read-back reads", "old", now, true)]
            } else {
                vec![]
            },
            stuck: if moment == Moment::Stuck {
                vec![
                    "/app/orders/read_only may be true or false: PutParameter did not answer in 5 s".into(),
                    "aws ssm put-parameter --name /app/orders/read_only --value false --overwrite".into(),
                ]
            } else {
                vec![]
            },
        });
    }
    s.ended = s.is_final().then_some(now);
    s
}

fn facts(moment: Moment) -> Vec<Fact> {
    if moment == Moment::Empty {
        return vec![];
    }
    let now = moment.now();
    let note = |level, source: &str, text: &str| Event::Note { level, source: source.into(), text: text.into() };
    let mut events = vec![
        Event::StepStarted { step: "load".into(), attempt: 1 },
        Event::TableLoaded { table: "books".into(), rows: 204_000, parked: BTreeMap::new(), took_ms: 41_000 },
        Event::TableLoaded { table: "users".into(), rows: 12_334, parked: BTreeMap::new(), took_ms: 4_000 },
        note(Level::Info, "operator", "alice acknowledged W-3"),
        note(Level::Info, "capture", "checkpoint seq=88120041 lag=0.8s"),
        note(Level::Warn, "load", "items chunk 688 retry 1/5 40001 serialization_failure"),
        note(Level::Info, "load", "items chunk 690/1680 10,000 rows 1.28s"),
    ];
    if matches!(moment, Moment::Switched | Moment::RollingBack | Moment::Stuck) {
        events.push(Event::Intent {
            id: "switch/writes/1".into(),
            step: Some("writes".into()),
            action: Action::SetSwitch { switch: "writes".into(), to: "new".into(), position: None },
        });
        events.push(Event::Outcome {
            id: "switch/writes/1".into(),
            result: OutcomeResult::Done { read_back: "new".into(), version: Some(5) },
        });
    }
    let n = events.len() as i64;
    events
        .into_iter()
        .enumerate()
        .map(|(i, event)| Fact { seq: 2_200 + i as u64, at: now.plus((i as i64 - n) * 7_310), event })
        .collect()
}
