//! The test's plan: two tables, one of which refers to the other, and a whole day's steps.

use crate::domain::plan::*;

fn column(name: &str, ty: ColumnType) -> Column {
    let from = ColumnSource::Attribute(vec![name.into()]);
    Column { name: name.into(), ty, from, absent: Fallback::Null, key: name == "id", declared: Declared::default() }
}

fn table(id: &str, columns: Vec<Column>) -> Table {
    Table {
        id: id.into(),
        from: OLD.to_owned(),
        source: format!("Shop-{id}"),
        to: NEW.to_owned(),
        target: id.into(),
        key: vec!["id".into()],
        columns,
        children: vec![],
        foreign_keys: vec![],
        ttl: Some("expires".into()),
        marker_prefix: "marker#".into(),
        ddl: None,
        triggers: vec![],
        leave_out: vec![],
        after_load: vec![],
        mover: None,
    }
}

fn switch(id: &str, to: &str) -> Switch {
    Switch {
        id: id.into(),
        title: id.into(),
        kind: SwitchKind::Parameter { name: format!("/{id}"), secure: id == "writes" },
        control: CONTROL.to_owned(),
        expect: None,
        to: ValueRef::Literal(to.into()),
        exercise: true,
    }
}

fn step(id: &str, kind: StepKind) -> Step {
    Step {
        id: id.into(),
        title: id.into(),
        at_ms: 0,
        takes_ms: 1_000,
        owner: "lead".into(),
        kind,
        start: Start::WhenReady,
        confirm: Confirm::None,
        two_person: false,
        undo: String::new(),
    }
}

/// The same with so many tables besides, none of which refers to another.
pub fn plan_of(tables: usize) -> Plan {
    let more = (0..tables).map(|n| table(&format!("more-{n:03}"), vec![column("id", ColumnType::Text)]));
    let mut plan = plan();
    plan.tables.extend(more);
    plan
}

/// The same, whose reads are switched by a variable of a stage.
pub fn plan_of_a_stage() -> Plan {
    let mut plan = plan();
    let reads = plan.switches.iter_mut().find(|s| s.id == "reads").unwrap();
    reads.kind = SwitchKind::StageVariable { api: "api1".into(), stage: "prod".into(), variable: "reads".into() };
    plan
}

/// The same, whose customers write in two regions: each is frozen by a switch of its own and has a probe.
pub fn plan_of_two_regions() -> Plan {
    let mut plan = plan();
    plan.switches.push(Switch { control: "control.eu".into(), ..switch("mode-eu", "frozen") });
    let write = plan.probes[0].clone();
    plan.probes.push(Probe { id: "write-eu".into(), url: "http://127.0.0.1:1/eu/write".into(), ..write });
    let freeze = plan.freeze.as_mut().expect("a freeze");
    freeze.switches.push("mode-eu".into());
    freeze.probes.push("write-eu".into());
    plan
}

/// The same, whose reads go up a ramp in two places before the freeze.
pub fn plan_of_a_ramp() -> Plan {
    let mut plan = plan();
    plan.switches.retain(|s| s.id != "reads");
    plan.switches.extend([switch("share", "100"), switch("share-text", "all")]);
    let position = |name: &str, share: u8, text: &str| Position {
        name: name.into(),
        serves: Serves {
            reads: Some(match share {
                0 => Side::Old,
                100 => Side::New,
                _ => Side::Both,
            }),
            writes: None,
            share: (1..100).contains(&share).then_some(share),
        },
        values: vec![ValueRef::Literal(share.to_string()), ValueRef::Literal(text.into())],
    };
    plan.dials = vec![Dial {
        id: "ramp".into(),
        title: "reads".into(),
        places: vec!["share".into(), "share-text".into()],
        positions: vec![
            position("0 %", 0, "none"),
            position("10 %", 10, "some"),
            position("50 %", 50, "some"),
            position("100 %", 100, "all"),
        ],
        effect_ms: 0,
    }];
    let to = |id: &str, name: &str| {
        step(id, StepKind::Switch { switches: vec![], to: [("ramp".to_owned(), name.to_owned())].into() })
    };
    let freeze = plan.steps.iter().position(|s| s.id == "freeze").expect("a freeze");
    plan.steps.splice(freeze..freeze, [to("to-10", "10 %"), to("to-50", "50 %"), to("to-100", "100 %")]);
    let last = plan.steps.iter_mut().find(|s| s.id == "switch").expect("a switch");
    last.kind = StepKind::Switch { switches: vec!["writes".into()], to: Default::default() };
    plan
}

/// The same, with a backup before the freeze, restarts in two regions and a command after the switch, and a clean-up at the
/// end.
pub fn plan_of_jobs() -> Plan {
    let mut plan = plan();
    let job = |id: &str, kind: JobKind| Job {
        id: id.into(),
        title: id.into(),
        kind,
        control: if id.ends_with("-eu") { "control.eu".into() } else { CONTROL.to_owned() },
        timeout_ms: 60_000,
    };
    let refresh = || JobKind::InstanceRefresh { group: "web".into(), min_healthy: 90, warmup_ms: None };
    let table = |name: &str| JobKind::Delete(Resource::Table(name.into()));
    plan.jobs = vec![
        job("backup", JobKind::TableBackup { table: "Shop-books".into(), name: "before".into() }),
        job("web-us", refresh()),
        job("web-eu", refresh()),
        job("warm", JobKind::Command { run: vec!["warm".into()], undo: vec!["cool".into()], repeatable: false }),
        job("drop-books", table("Shop-books")),
        job("drop-authors", table("Shop-authors")),
    ];
    let of = |id: &str, purpose: Purpose, jobs: &[&str]| {
        step(id, StepKind::Jobs { purpose, jobs: jobs.iter().map(|id| (*id).to_owned()).collect() })
    };
    let at = |plan: &Plan, id: &str| plan.steps.iter().position(|s| s.id == id).expect("a step");
    let freeze = at(&plan, "freeze");
    plan.steps.insert(freeze, of("keep", Purpose::Backup, &["backup"]));
    let thaw = at(&plan, "thaw");
    plan.steps.insert(thaw, of("restart", Purpose::Restart, &["web-us", "web-eu"]));
    plan.steps.insert(thaw + 1, of("after", Purpose::Command, &["warm"]));
    plan.steps.push(of("delete", Purpose::Cleanup, &["drop-books", "drop-authors"]));
    plan
}

/// The plan.
pub fn plan() -> Plan {
    let mut books = table(
        "books",
        vec![
            column("id", ColumnType::Text),
            column("price", ColumnType::Numeric(Some((8, 2)))),
            column("isbn", ColumnType::Varchar(20)),
            column("author", ColumnType::Text),
        ],
    );
    books.foreign_keys = vec![ForeignKey { columns: vec!["author".into()], references: "authors".into() }];
    let authors = table("authors", vec![column("id", ColumnType::Text), column("name", ColumnType::Text)]);
    let probe = Probe {
        id: "write".into(),
        method: "POST".into(),
        url: "http://127.0.0.1:1/write".into(),
        body: None,
        accept: vec![],
        refused: vec![503],
        contains: None,
        every_ms: 1_000,
        timeout_ms: 1_000,
    };
    Plan {
        name: "trial".into(),
        environment: "test".into(),
        production: false,
        t0: None,
        downtime_budget_ms: 60_000,
        tables: vec![books, authors],
        moves: vec![],
        stays: vec![],
        switches: vec![switch("mode", "frozen"), switch("reads", "new"), switch("writes", "new")],
        freeze: Some(Freeze {
            switches: vec!["mode".into()],
            probes: vec!["write".into()],
            settle_ms: 3,
            timeout_ms: 5_000,
        }),
        probes: vec![probe],
        signals: vec![Signal {
            id: "lag".into(),
            unit: "s".into(),
            source: SignalSource::Lag,
            side: Side::Both,
            limit: Some(30.0),
            stale_ms: 5_000,
        }],
        gates: vec![Gate {
            id: "in-sync".into(),
            title: "in sync".into(),
            criteria: vec![Criterion::with("lag", Op::Below, 2.0)],
            hold_ms: 1_000,
            give_up_ms: None,
            on_fail: OnFail::Hold,
        }],
        steps: vec![
            step("capture", StepKind::Capture),
            step("load", StepKind::Load),
            step("catch-up", StepKind::CatchUp { max_lag_ms: 60_000 }),
            step("verify", StepKind::Verify),
            step("arm", StepKind::Arm),
            step("freeze", StepKind::Freeze),
            step("drain", StepKind::Drain),
            step(
                "switch",
                StepKind::Switch { switches: vec!["reads".into(), "writes".into()], to: Default::default() },
            ),
            step("thaw", StepKind::Thaw),
        ],
        load: Load { segments: Some(3), workers: 2, ..Load::default() },
        follow: Follow { poll_ms: 5, batch: 6, lanes: 3, marker_every_ms: 3_600_000 },
        verify: Verify { floor: 1.0, settle_ms: 2_000, segments: 2, list_limit: 50, ..Verify::default() },
        reverse: Reverse { poll_ms: 5, settle_ms: 20, patience_ms: 30_000, ..Reverse::default() },
        stores: crate::domain::plan::Stores::new(),
        dials: vec![],
        jobs: vec![],
    }
}
