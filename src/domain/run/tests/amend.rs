//! What may change under a run, at each moment of it, and what an amendment does to its state.

use super::*;

/// A runbook with every kind of step.
fn whole() -> Plan {
    let step = |id: &str, kind: StepKind| Step {
        id: id.into(),
        title: id.into(),
        at_ms: 0,
        takes_ms: 60_000,
        owner: "lead".into(),
        kind,
        start: Start::WhenReady,
        confirm: Confirm::Key,
        two_person: false,
        undo: String::new(),
    };
    let gate = |id: &str| Gate { id: id.into(), title: id.into(), ..plan().gates[0].clone() };
    let signal = |id: &str, source| Signal { id: id.into(), source, ..plan().signals[0].clone() };
    let probe = |id: &str| Probe {
        id: id.into(),
        method: "GET".into(),
        url: format!("http://shop.test/{id}"),
        body: None,
        accept: vec![],
        refused: vec![503],
        contains: None,
        every_ms: 1_000,
        timeout_ms: 3_000,
    };
    let column = |name: &str, ty, key| Column {
        name: name.into(),
        ty,
        from: ColumnSource::Attribute(vec![name.into()]),
        absent: Fallback::Required,
        key,
        declared: Declared::default(),
    };
    let mut whole = plan();
    let books = &mut whole.tables[0];
    books.columns = vec![
        column("id", ColumnType::Text, true),
        column("title", ColumnType::Varchar(20), false),
        column("price", ColumnType::Numeric(Some((10, 2))), false),
    ];
    books.columns[2].absent = Fallback::Null;
    books.children = vec![ChildTable {
        target: "tags".into(),
        list: vec!["tags".into()],
        columns: vec![column("id", ColumnType::Text, true), column("tag", ColumnType::Varchar(5), false)],
        parent_key: vec!["id".into()],
        sparse: false,
    }];
    books.columns.push(Column {
        declared: Declared { unit: Some(Unit::Seconds), lossy: true, ..Declared::default() },
        ..column("sold_at", ColumnType::Timestamptz, false)
    });
    whole.stays = vec![StaysTable { id: "logs".into(), from: OLD.into(), source: "Logs".into() }];
    whole.probes = vec![probe("w"), probe("home")];
    whole.signals.push(signal("p95", SignalSource::ProbeP95("home".into())));
    whole.gates = vec![gate("sync"), gate("go"), gate("burn")];
    whole.gates[2].criteria = vec![Criterion::with("p95", Op::Below, 500.0)];
    let vote = StepKind::GoNoGo {
        gates: vec!["go".into()],
        voters: vec!["bob".into(), "carol".into(), "dan".into()],
        quorum: 2,
    };
    whole.steps = vec![
        step("preflight", StepKind::Preflight),
        step("set-up", StepKind::SetUp),
        step("capture", StepKind::Capture),
        step("load", StepKind::Load),
        step("catch-up", StepKind::CatchUp { max_lag_ms: 2_000 }),
        step("verify", StepKind::Verify),
        step("in-sync", StepKind::Gate { gate: "sync".into() }),
        step("vote", vote),
        step("team", StepKind::Manual { what: "call".into() }),
        step("arm", StepKind::Arm),
        step("freeze", StepKind::Freeze),
        step("drain", StepKind::Drain),
        step("switch", StepKind::Switch { switches: vec!["reads".into(), "writes".into()], to: Default::default() }),
        step("smoke", StepKind::Smoke { probes: vec!["home".into()] }),
        step("thaw", StepKind::Thaw),
        step("burn-in", StepKind::Gate { gate: "burn".into() }),
    ];
    whole.stores = [("new".to_owned(), Store::new(StoreKind::Postgresql))].into();
    whole
}

/// A run that has come to its n-th step, which has begun or not.
fn at(plan: &Plan, n: usize, begun: bool) -> RunState {
    let place = |id: &str| plan.step_index(id).expect("a step");
    let is_begun = |id: &str| place(id) < n || (place(id) == n && begun);
    let is_done = |id: &str| place(id) < n;
    let steps = plan.steps.iter().map(|s| StepState {
        id: s.id.clone(),
        status: match (is_done(&s.id), is_begun(&s.id)) {
            (true, _) => StepStatus::Done,
            (false, true) => StepStatus::Running,
            (false, false) => StepStatus::Todo,
        },
        attempts: u32::from(is_begun(&s.id)),
        ..StepState::default()
    });
    let mut state = RunState {
        plan_hash: plan.hash(),
        status: RunStatus::Running,
        steps: steps.collect(),
        last_seq: 1,
        ..RunState::default()
    };
    for switch in &plan.switches {
        let freezes = switch.id == "mode";
        let moved = if freezes { is_begun("freeze") && !is_done("thaw") } else { is_done("switch") };
        let standing = if moved { SwitchStatus::New } else { SwitchStatus::Old };
        let captured = is_done("arm");
        state.switches.insert(switch.id.clone(), SwitchState { captured, standing, ..SwitchState::default() });
    }
    state.decided = is_begun("switch").then_some(At(1));
    state.downtime.accepted = is_done("thaw").then_some(At(2));
    state
}

/// Until when a change may be made.
#[derive(Clone, Copy, Debug)]
enum Until {
    Always,
    Never,
    Begun(&'static str),
    Done(&'static str),
    /// Not while writes are frozen.
    NotFrozen,
}

impl Until {
    fn allows(self, plan: &Plan, n: usize, begun: bool) -> bool {
        let place = |id: &str| plan.step_index(id).expect("a step");
        let has_begun = |id: &str| n > place(id) || (n == place(id) && begun);
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Begun(step) => !has_begun(step),
            Self::Done(step) => n <= place(step),
            Self::NotFrozen => !has_begun("freeze") || n > place("thaw"),
        }
    }
}

type Turn = (&'static str, Until, fn(&mut Plan));

/// One change of each field of a plan.
fn turns() -> Vec<Turn> {
    use Until::{Always, Begun, Done, Never, NotFrozen};
    fn step<'p>(p: &'p mut Plan, id: &str) -> &'p mut Step {
        p.steps.iter_mut().find(|s| s.id == id).expect("a step")
    }
    fn vote(p: &mut Plan, change: fn(&mut Vec<String>, &mut Vec<String>, &mut u32)) {
        if let StepKind::GoNoGo { gates, voters, quorum } = &mut step(p, "vote").kind {
            change(gates, voters, quorum);
        }
    }
    vec![
        ("name", Never, |p| p.name = "other".into()),
        ("environment", Never, |p| p.environment = "other".into()),
        ("production", Never, |p| p.production = true),
        ("t0", Begun("freeze"), |p| p.t0 = Some(At(7))),
        ("downtime_budget", Done("thaw"), |p| p.downtime_budget_ms += 1),
        ("stores.new", Never, |p| p.stores.get_mut("new").expect("a store").port = Some(1)),
        ("stays.logs.source", Always, |p| p.stays[0].source = "Other".into()),
        ("stays.more", Always, |p| {
            p.stays.push(StaysTable { id: "more".into(), from: OLD.into(), source: "More".into() })
        }),
        ("tables.more", Never, |p| p.tables.push(Table { id: "more".into(), ..p.tables[0].clone() })),
        ("tables.books", Never, |p| p.tables.clear()),
        ("tables.books.source", Never, |p| p.tables[0].source = "Other".into()),
        ("tables.books.target", Never, |p| p.tables[0].target = "other".into()),
        ("tables.books.key", Never, |p| p.tables[0].key.push("other".into())),
        ("tables.books.marker_prefix", Never, |p| p.tables[0].marker_prefix.push('x')),
        ("tables.books.foreign_keys", Never, |p| {
            p.tables[0].foreign_keys.push(ForeignKey { columns: vec!["a".into()], references: "books".into() });
        }),
        ("tables.books.ttl", Begun("load"), |p| p.tables[0].ttl = Some("expires".into())),
        ("tables.books.ddl", Always, |p| p.tables[0].ddl = Some("CREATE TABLE books ()".into())),
        ("tables.books.triggers", Begun("thaw"), |p| p.tables[0].triggers.push("audit".into())),
        ("tables.books.leave_out", Always, |p| p.tables[0].leave_out.push("legacy".into())),
        ("tables.books.after_load", Begun("load"), |p| {
            let (name, sql) = ("fk".to_owned(), String::new());
            p.tables[0].after_load.push(crate::domain::plan::AfterLoad::ForeignKey { name, sql, on: None });
        }),
        ("moves", Always, |p| {
            let (from, to, include) = ("old".to_owned(), "new".to_owned(), vec!["public.*".to_owned()]);
            p.moves.push(crate::domain::plan::Move { from, to, include, exclude: vec![] });
        }),
        ("tables.books.columns.id.type", Never, |p| p.tables[0].columns[0].ty = ColumnType::Uuid),
        ("tables.books.columns.title.key", Never, |p| p.tables[0].columns[1].key = true),
        // What turns nothing but row errors into values.
        ("tables.books.columns.title.type", Begun("thaw"), |p| p.tables[0].columns[1].ty = ColumnType::Varchar(40)),
        ("tables.books.columns.title.type", Begun("thaw"), |p| p.tables[0].columns[1].ty = ColumnType::Text),
        ("tables.books.columns.price.type", Begun("thaw"), |p| p.tables[0].columns[2].ty = ColumnType::Numeric(None)),
        ("tables.books.columns.title.default", Begun("thaw"), |p| p.tables[0].columns[1].absent = Fallback::Null),
        ("tables.books.columns.price.lossy", Begun("thaw"), |p| p.tables[0].columns[2].declared.lossy = true),
        ("tables.books.columns.price.unit", Begun("thaw"), |p| {
            p.tables[0].columns[2].declared.unit = Some(Unit::Millis)
        }),
        ("tables.books.columns.sold_at.between", Begun("thaw"), |p| {
            p.tables[0].columns[3].declared.between = Some(Between(-99_999, 99_999));
        }),
        ("tables.books.columns.sold_at.between", Begun("load"), |p| {
            p.tables[0].columns[3].declared.between = Some(Between(0, 99_999));
        }),
        ("tables.books.columns.sold_at.unit", Begun("load"), |p| {
            p.tables[0].columns[3].declared.unit = Some(Unit::Micros);
        }),
        ("tables.books.columns.sold_at.lossy", Begun("load"), |p| p.tables[0].columns[3].declared.lossy = false),
        ("tables.books.columns.sold_at.sparse", Always, |p| p.tables[0].columns[3].declared.sparse = true),
        ("tables.books.children.tags.sparse", Always, |p| p.tables[0].children[0].sparse = true),
        ("tables.books.columns.title.default", Begun("thaw"), |p| {
            p.tables[0].columns[1].absent = Fallback::Literal("?".into());
        }),
        ("tables.books.children.tags.columns.tag.type", Begun("thaw"), |p| {
            p.tables[0].children[0].columns[1].ty = ColumnType::Text;
        }),
        // What could change a value that has arrived.
        ("tables.books.columns.title.type", Begun("load"), |p| p.tables[0].columns[1].ty = ColumnType::Varchar(10)),
        ("tables.books.columns.price.type", Begun("load"), |p| p.tables[0].columns[2].ty = ColumnType::Double),
        ("tables.books.columns.title.from", Begun("load"), |p| {
            p.tables[0].columns[1].from = ColumnSource::Attribute(vec!["name".into()]);
        }),
        ("tables.books.columns.price.default", Begun("load"), |p| {
            p.tables[0].columns[2].absent = Fallback::Literal("0".into());
        }),
        ("tables.books.columns.price.default", Begun("load"), |p| p.tables[0].columns[2].absent = Fallback::Required),
        ("tables.books.columns.note", Begun("load"), |p| {
            let note = Column { name: "note".into(), ..p.tables[0].columns[2].clone() };
            p.tables[0].columns.push(note);
        }),
        ("tables.books.columns.sold_at", Begun("load"), |p| drop(p.tables[0].columns.pop())),
        ("tables.books.columns", Begun("load"), |p| p.tables[0].columns.swap(1, 2)),
        ("tables.books.columns.id", Never, |p| drop(p.tables[0].columns.remove(0))),
        ("tables.books.children.tags", Begun("load"), |p| p.tables[0].children.clear()),
        ("tables.books.children.tags.list", Begun("load"), |p| p.tables[0].children[0].list = vec!["words".into()]),
        ("tables.books.children.tags.parent_key", Begun("load"), |p| p.tables[0].children[0].parent_key.clear()),
        ("switches.more", Never, |p| p.switches.push(Switch { id: "more".into(), ..p.switches[0].clone() })),
        ("switches.reads", Never, |p| drop(p.switches.remove(1))),
        ("switches", Never, |p| p.switches.swap(1, 2)),
        ("switches.reads.title", Always, |p| p.switches[1].title = "reads come from".into()),
        ("switches.reads", Never, |p| {
            p.switches[1].kind = SwitchKind::Parameter { name: "/elsewhere".into(), secure: false };
        }),
        ("switches.reads.expect", Done("arm"), |p| p.switches[1].expect = Some("old".into())),
        ("switches.reads.to", Done("arm"), |p| p.switches[1].to = ValueRef::Literal("newer".into())),
        ("freeze", Never, |p| p.freeze = None),
        ("freeze.switch", Never, |p| p.freeze.as_mut().expect("a freeze").switches = vec!["reads".into()]),
        ("freeze.probe", Begun("freeze"), |p| p.freeze.as_mut().expect("a freeze").probes = vec!["home".into()]),
        ("freeze.settle", Done("freeze"), |p| p.freeze.as_mut().expect("a freeze").settle_ms = 9),
        ("freeze.timeout", Done("freeze"), |p| p.freeze.as_mut().expect("a freeze").timeout_ms = 9),
        ("probes.w.url", NotFrozen, |p| p.probes[0].url = "http://other.test/".into()),
        ("probes.w.method", NotFrozen, |p| p.probes[0].method = "POST".into()),
        ("probes.w.body", NotFrozen, |p| p.probes[0].body = Some("{}".into())),
        ("probes.w.accept", NotFrozen, |p| p.probes[0].accept = vec![200]),
        ("probes.w.refused", NotFrozen, |p| p.probes[0].refused = vec![429]),
        ("probes.w.contains", NotFrozen, |p| p.probes[0].contains = Some("ok".into())),
        ("probes.w.every", Always, |p| p.probes[0].every_ms = 9),
        ("probes.w.timeout", Always, |p| p.probes[0].timeout_ms = 9),
        ("probes.w", NotFrozen, |p| drop(p.probes.remove(0))),
        ("probes.home.url", Always, |p| p.probes[1].url = "http://other.test/".into()),
        ("probes", Always, |p| p.probes.swap(0, 1)),
        ("signals.p95.source", Always, |p| p.signals[1].source = SignalSource::ProbeErrors("home".into())),
        ("signals.p95.unit", Always, |p| p.signals[1].unit = "%".into()),
        ("signals.p95.side", Always, |p| p.signals[1].side = Side::New),
        ("signals.p95.limit", Always, |p| p.signals[1].limit = None),
        ("signals.p95.stale", Always, |p| p.signals[1].stale_ms = 9),
        ("signals.lag", Always, |p| drop(p.signals.remove(0))),
        ("gates.sync.title", Done("in-sync"), |p| p.gates[0].title = "both sides".into()),
        ("gates.sync.criteria", Done("in-sync"), |p| p.gates[0].criteria[0].value = 5.0),
        ("gates.sync.hold", Done("in-sync"), |p| p.gates[0].hold_ms = 9),
        ("gates.go.hold", Done("vote"), |p| p.gates[1].hold_ms = 9),
        ("gates.burn.give_up", Done("burn-in"), |p| p.gates[2].give_up_ms = None),
        ("gates.burn.on_fail", Done("burn-in"), |p| p.gates[2].on_fail = OnFail::RollBack),
        ("gates.more", Always, |p| p.gates.push(Gate { id: "more".into(), ..p.gates[0].clone() })),
        ("steps.more", Never, |p| p.steps.push(Step { id: "more".into(), ..p.steps[0].clone() })),
        ("steps.team", Never, |p| drop(p.steps.remove(8))),
        ("steps", Never, |p| p.steps.swap(7, 8)),
        ("steps.team.title", Done("team"), |p| step(p, "team").title = "t".into()),
        ("steps.team.owner", Done("team"), |p| step(p, "team").owner = "dora".into()),
        ("steps.team.undo", Done("team"), |p| step(p, "team").undo = "call again".into()),
        ("steps.team.takes", Done("team"), |p| step(p, "team").takes_ms = 9),
        ("steps.team.at", Begun("team"), |p| step(p, "team").at_ms = 9),
        ("steps.team.start", Begun("team"), |p| step(p, "team").start = Start::AtPlanned),
        ("steps.team.confirm", Begun("team"), |p| step(p, "team").confirm = Confirm::Word("GO".into())),
        ("steps.team.confirm", Never, |p| step(p, "team").confirm = Confirm::None),
        ("steps.team.two_person", Done("team"), |p| step(p, "team").two_person = true),
        ("steps.team.what", Done("team"), |p| step(p, "team").kind = StepKind::Manual { what: "write".into() }),
        ("steps.team.kind", Never, |p| step(p, "team").kind = StepKind::Verify),
        ("steps.catch-up.max_lag", Done("catch-up"), |p| {
            step(p, "catch-up").kind = StepKind::CatchUp { max_lag_ms: 9 }
        }),
        ("steps.switch.switches", Never, |p| {
            step(p, "switch").kind = StepKind::Switch { switches: vec!["writes".into()], to: Default::default() };
        }),
        ("steps.smoke.probes", Done("smoke"), |p| step(p, "smoke").kind = StepKind::Smoke { probes: vec!["w".into()] }),
        ("steps.burn-in.gate", Done("burn-in"), |p| step(p, "burn-in").kind = StepKind::Gate { gate: "go".into() }),
        ("steps.vote.gates", Done("vote"), |p| vote(p, |gates, _, _| gates.push("sync".into()))),
        ("steps.vote.gates", Never, |p| vote(p, |gates, _, _| *gates = vec!["sync".into()])),
        ("steps.vote.voters", Done("vote"), |p| vote(p, |_, voters, _| voters.push("eve".into()))),
        ("steps.vote.voters", Never, |p| vote(p, |_, voters, _| voters[0] = "eve".into())),
        ("steps.vote.quorum", Done("vote"), |p| vote(p, |_, _, quorum| *quorum = 3)),
        ("steps.vote.quorum", Never, |p| vote(p, |_, _, quorum| *quorum = 1)),
        ("load.segments", Begun("load"), |p| p.load.segments = Some(9)),
        ("load.workers", Always, |p| p.load.workers = 9),
        ("load.read_budget_rcu", Always, |p| p.load.read_budget_rcu = Some(9.0)),
        ("load.write_budget_wcu", Always, |p| p.load.write_budget_wcu = Some(9.0)),
        ("load.defer_indexes", Begun("load"), |p| p.load.defer_indexes = Some(true)),
        ("load.sequences_by_hand", Begun("switch"), |p| p.load.sequences_by_hand.push("public.s".into())),
        ("follow.poll", Always, |p| p.follow.poll_ms = 9),
        ("follow.batch", Always, |p| p.follow.batch = 9),
        ("follow.lanes", Always, |p| p.follow.lanes = 9),
        ("follow.marker_every", Always, |p| p.follow.marker_every_ms = 9),
        ("verify.floor", Done("verify"), |p| p.verify.floor = 0.9),
        ("verify.settle", Always, |p| p.verify.settle_ms = 9),
        ("verify.segments", Always, |p| p.verify.segments = 9),
        ("verify.list_limit", Always, |p| p.verify.list_limit = 9),
        ("verify.continuous", Always, |p| p.verify.continuous = true),
        ("verify.every", Always, |p| p.verify.every_ms = 9),
        ("verify.stale", Always, |p| p.verify.stale_ms = 9),
        ("reverse.enabled", Never, |p| p.reverse.enabled = false),
        ("reverse.poll", Always, |p| p.reverse.poll_ms = 9),
        ("reverse.batch", Always, |p| p.reverse.batch = 9),
        ("reverse.settle", Always, |p| p.reverse.settle_ms = 9),
        ("reverse.patience", Always, |p| p.reverse.patience_ms = 9),
    ]
}

fn one(what: &str, old: &Plan, new: &Plan, state: &RunState) -> Change {
    let found = difference(old, new, state).changes;
    assert_eq!(found.len(), 1, "{what}: {found:#?}");
    assert_eq!(found[0].what, what);
    assert_ne!(found[0].old, found[0].new, "{what} is shown as it was");
    found[0].clone()
}

#[test]
fn each_field_may_change_as_long_as_nothing_rests_on_it() {
    let old = whole();
    for (what, until, turn) in turns() {
        let mut new = old.clone();
        turn(&mut new);
        for n in 0..=old.steps.len() {
            for begun in [false, true].into_iter().filter(|begun| n < old.steps.len() || !begun) {
                let change = one(what, &old, &new, &at(&old, n, begun));
                let place = old.steps.get(n).map_or("the end", |s| s.id.as_str());
                let wanted = until.allows(&old, n, begun);
                let is = matches!(change.decision, AmendDecision::Allowed(_));
                assert_eq!(is, wanted, "{what} {until:?} at {place}, begun {begun}: {change:?}");
            }
        }
    }
}

#[test]
fn nothing_changes_once_a_run_goes_back_or_is_over() {
    let old = whole();
    for status in [RunStatus::RollingBack, RunStatus::RolledBack, RunStatus::Stuck, RunStatus::Finished] {
        for (what, _, turn) in turns() {
            let mut new = old.clone();
            turn(&mut new);
            let state = RunState { status, ..at(&old, 3, false) };
            let change = one(what, &old, &new, &state);
            assert!(matches!(change.decision, AmendDecision::Refused(_)), "{status:?} {change:?}");
        }
    }
}

#[test]
fn the_same_plan_has_no_difference_and_the_way_back_for_data_is_opened_before_it_is_armed() {
    let old = whole();
    assert_eq!(difference(&old, &old, &at(&old, 0, false)), Difference::default());
    let mut closed = old.clone();
    closed.reverse.enabled = false;
    let turned_on = |n| one("reverse.enabled", &closed, &old, &at(&closed, n, true)).decision;
    let arm = old.step_index("arm").expect("an arm step");
    assert!(matches!(turned_on(arm - 1), AmendDecision::Allowed(_)));
    assert!(matches!(turned_on(arm), AmendDecision::Refused(_)));
}

#[test]
fn a_table_whose_mapping_differs_is_asked_about() {
    let old = whole();
    let mut new = old.clone();
    new.tables[0].columns[1].ty = ColumnType::Text;
    assert_eq!(difference(&old, &new, &at(&old, 5, false)).tables, ["books"]);
    new = old.clone();
    new.tables[0].ttl = Some("expires".into());
    assert!(difference(&old, &new, &at(&old, 5, false)).tables.is_empty());
}

#[test]
fn a_hold_goes_on_only_under_the_conditions_it_was_held_by() {
    let old = whole();
    let n = old.step_index("burn-in").expect("a step");
    let mut state = at(&old, n, true);
    for gate in ["go", "burn"] {
        state.gates.insert(gate.into(), GateState { met_since: Some(At(1)), held_ms: 500, ..GateState::default() });
    }
    let anew = |turn: fn(&mut Plan)| {
        let mut new = old.clone();
        turn(&mut new);
        difference(&old, &new, &state).gates
    };
    assert_eq!(anew(|p| p.gates[2].give_up_ms = None), [""; 0]);
    assert_eq!(anew(|p| p.signals[1].limit = Some(9.0)), [""; 0]);
    assert_eq!(anew(|p| p.probes[1].every_ms = 9), [""; 0]);
    assert_eq!(anew(|p| p.gates[2].hold_ms = 9), ["burn"]);
    assert_eq!(anew(|p| p.gates[2].criteria[0].value = 9.0), ["burn"]);
    assert_eq!(anew(|p| p.signals[1].stale_ms = 9), ["burn"], "a signal it is judged by");
    assert_eq!(anew(|p| p.probes[1].url = "http://other.test/".into()), ["burn"], "the probe behind that signal");
    // Another step's time does not count for this one.
    assert_eq!(anew(|p| p.steps[15].kind = StepKind::Gate { gate: "go".into() }), ["go"]);
}

fn amend(run: &mut Run, turn: fn(&mut Plan)) {
    let mut new = run.plan.clone();
    turn(&mut new);
    let found = difference(&run.plan, &new, &run.state);
    assert_eq!(found.refused().count(), 0, "{found:?}");
    let changes = found.changes.into_iter().map(|c| PlanChange { what: c.what, old: c.old, new: c.new }).collect();
    let (from, to) = (run.plan.hash(), new.hash());
    let t0 = new.t0.unwrap_or(run.state.t0);
    let (by, host) = (Actor::Terminal("dora".into()), "b1".into());
    let amended = Amended { from, to, by, host, t0, gates: found.gates, changes };
    run.fold(vec![Event::PlanAmended(amended)]);
    run.plan = new;
}

#[test]
fn whoever_confirmed_a_step_that_has_not_started_is_asked_again() {
    let mut run = Run::open_with(
        {
            let mut plan = plan();
            plan.steps.iter_mut().filter(|s| s.id == "freeze").for_each(|s| s.two_person = true);
            plan
        },
        Policy::default(),
    );
    run.drive_past("arm");
    run.tick(100, Some(0.5));
    assert_eq!(run.confirm("freeze", Some("GO")), None);
    let approve = |run: &mut Run, name: &str| {
        let origin = Origin { user: "ops".into(), host: "b1".into(), terminal: "pts/2".into() };
        let command = Command::Approve { step: "freeze".into(), note: None, origin, drivers_terminal: false };
        run.input(&Input::Command(command, Actor::Terminal(name.into())))
    };
    // Approved beforehand, on the plan before.
    let origin = Origin { user: "ops".into(), host: "b1".into(), terminal: "pts/2".into() };
    let basis = basis(&run.state, "freeze");
    let by = Actor::Terminal("bob".into());
    let approved = Event::Approved { step: "freeze".into(), by, origin, basis, note: None };
    run.fold(vec![approved]);
    assert!(approval(&run.state, "freeze").is_some());
    amend(&mut run, |p| p.freeze.as_mut().expect("a freeze").timeout_ms = 90_000);
    assert_eq!(approval(&run.state, "freeze"), None, "bob saw another plan");
    assert_eq!((run.status("freeze"), run.state.plan_hash.clone()), (StepStatus::Todo, run.plan.hash()));
    run.tick(100, Some(0.5));
    assert_eq!(run.status("freeze"), StepStatus::Held, "the word is asked for again");
    assert_eq!(run.confirm("freeze", Some("GO")), None);
    let said = run.state.step("freeze").and_then(|s| s.held.clone()).expect("a reason");
    assert!(said.contains("the approval of bob is void"), "{said}");
    assert_eq!(approve(&mut run, "bob"), None);
    assert_eq!(run.status("freeze"), StepStatus::Running);
    assert_eq!(run.state.amended.len(), 1);
}

#[test]
fn a_running_gate_begins_its_hold_anew_and_t0_moves() {
    let mut run = Run::open(Policy::default());
    run.drive_past("load");
    run.tick(100, Some(0.5));
    run.tick(6_000, Some(0.5));
    assert!(run.state.gates["sync"].held(run.now) >= 6_000);
    amend(&mut run, |p| {
        p.gates[0].criteria[0].value = 1.0;
        p.t0 = Some(At(99_000_000));
    });
    assert_eq!((run.state.gates["sync"].held(run.now), run.state.t0), (0, At(99_000_000)));
    run.tick(100, Some(0.5));
    run.tick(6_000, Some(0.5));
    assert_eq!(run.status("in-sync"), StepStatus::Running, "six seconds of ten");
    run.tick(4_000, Some(0.5));
    assert_eq!(run.status("in-sync"), StepStatus::Done);
}

#[test]
fn an_amendment_follows_only_the_plan_it_was_made_for_and_a_run_that_goes_forward() {
    let mut run = Run::open(Policy::default());
    let amended = |from: &str| {
        let (by, host) = (Actor::Auto, String::new());
        let (gates, changes) = (vec![], vec![]);
        Event::PlanAmended(Amended { from: from.into(), to: "b".into(), by, host, t0: At(0), gates, changes })
    };
    let hash = run.plan.hash();
    assert!(legal(&run.state, &amended("another")).is_err());
    assert_eq!(legal(&run.state, &amended(&hash)), Ok(()));
    run.input(&Input::Rollback(Actor::Auto, Cause::Asked));
    assert!(legal(&run.state, &amended(&hash)).unwrap_err().contains("RollingBack"));
}
