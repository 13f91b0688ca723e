//! The engine over a world in memory, with a real journal on a disk in the test's hands.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::open::{DiskPatience, Engine, Opening, Setup};
use super::outcome::Ending;
use super::rollback::{RollbackPorts, RollbackPortsFactory};
use super::{AlertSetup, Closed, RunClock};
use crate::domain::alert::{Alert, CommandPlace, Message, On, Place, PlaceKind, Told};
use crate::domain::at::At;
use crate::domain::plan::Confirm;
use crate::domain::run::{Actor, Cause, Command, Event, Fact, Need, OutcomeResult, Policy, RunStatus, StepStatus};
use crate::journal::{Header, JournalWriter, RunFolder, TestDisk, fold, read_run};
use crate::ports::{NotTold, Notices, PortResult};
use crate::snapshot::{Mode, StepRow};
use crate::workers::tests::faults::{Fault, Latch, Op};
use crate::workers::tests::world::{World, until};

/// A run under way.
struct Running {
    world: World,
    engine: Engine,
    disk: TestDisk,
    folder: RunFolder,
    _dir: tempfile::TempDir,
}

async fn running(world: World, policy: Policy) -> Running {
    running_with(world, policy, AlertSetup::default()).await
}

async fn running_with(world: World, policy: Policy, alerts: AlertSetup) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), "trial", At(0)).unwrap();
    let journal =
        JournalWriter::create(&folder, &Header::new("trial", &world.plan.hash(), "alice", "bastion", At(0))).unwrap();
    let disk = journal.disk();
    let ports = world.ports();
    let (switches, probes, back) = (Arc::clone(&ports.switches), Arc::clone(&ports.probes), world.reverse());
    let jobs = Arc::clone(&ports.jobs);
    let rollback_ports: RollbackPortsFactory = Box::new(move || {
        Box::pin(async move {
            let reverse = Box::new(move || {
                let back = back.clone();
                Box::pin(async move { Ok(back) }) as _
            });
            RollbackPorts { switches, probes, jobs, reverse }
        })
    });
    let clock = Arc::new(RunClock::new(&*world.clock, None, 1.0, None));
    let opened = Event::RunOpened {
        run: "trial".into(),
        plan: world.plan.name.clone(),
        plan_hash: world.plan.hash(),
        environment: "test".into(),
        operator: "alice".into(),
        host: "bastion".into(),
        version: "0".into(),
        t0: At(0),
        steps: world.plan.steps.iter().map(|s| s.id.clone()).collect(),
        callers: Default::default(),
    };
    let setup = Setup {
        plan: Arc::clone(&world.plan),
        policy,
        ports,
        rollback_ports,
        clock,
        journal,
        disk: DiskPatience { one_write: Duration::from_millis(200), closing: Duration::from_secs(2) },
        samples: None,
        mode: Mode::Live,
        stepped: None,
        make_anew: false,
        operator: "alice".into(),
        host: "bastion".into(),
        step_began: None,
        alerts,
    };
    let engine = Engine::open(setup, Opening::New(Box::new(opened)), "trial", folder.path()).await.unwrap();
    Running { world, engine, disk, folder, _dir: dir }
}

impl Running {
    /// Waits until this step waits for a key.
    async fn holds(&self, step: &str) {
        let handle = self.engine.handle();
        let held = |row: &StepRow| row.id == step && row.status == StepStatus::Held;
        for _ in 0..30_000 {
            if handle.snapshot().steps.iter().any(held) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let log: Vec<String> = handle.snapshot().log.iter().map(|row| row.text.clone()).collect();
        panic!("{step} never waits for a key:\n{}", log.join("\n"));
    }

    fn facts(&self) -> Vec<Fact> {
        read_run(&self.folder).unwrap().facts
    }

    /// Waits until the run has ended in this way.
    async fn ends(&self, wanted: Ending) {
        let mut ending = self.engine.ending();
        let ended = tokio::time::timeout(Duration::from_secs(300), ending.wait_for(Option::is_some)).await;
        assert_eq!(*ended.expect("it ends").unwrap(), Some(wanted));
    }

    /// Waits until the run has reached this end, whatever its state was before.
    async fn comes_to(&self, wanted: Ending) {
        let mut ending = self.engine.ending();
        let came = ending.wait_for(|e| *e == Some(wanted));
        tokio::time::timeout(Duration::from_secs(300), came).await.expect("it comes to it").unwrap();
    }

    fn stand(&self) -> (String, String, String) {
        let now = |place| self.world.switches.now(place);
        (now("/mode"), now("/reads"), now("/writes"))
    }
}

/// A run whose second switch is on the wire when the disk fills: one switch is on record, one is not.
async fn full_between_two_switches(policy: Policy, broken: bool) -> Running {
    let world = World::new();
    world.book("b1", "1.00");
    let latch = Latch::default();
    // The first one is the arm step's.
    world.faults.put(Op::SwitchSet, "writes", 1, 1, Fault::Latch(latch.clone()));
    let run = running(world, policy).await;
    latch.caught().await;
    let reads_recorded = |f: &Fact| matches!(&f.event, Event::Outcome { id, result: OutcomeResult::Done { .. } } if id == "switch/reads/1");
    until("the first switch to be on record", || run.facts().iter().any(reads_recorded)).await;
    if broken { &run.disk.broken } else { &run.disk.full }.store(true, SeqCst);
    latch.release();
    run
}

fn old() -> (String, String, String) {
    ("open".into(), "old".into(), "old".into())
}

#[tokio::test]
async fn a_full_disk_between_two_switches_goes_back_where_nobody_is_there_to_choose() {
    let run = full_between_two_switches(Policy { unattended: true, ..Policy::default() }, false).await;
    run.ends(Ending::RolledBack).await;
    assert_eq!(run.stand(), old());
    let why = run.engine.handle().snapshot().log.iter().any(|l| l.text.contains("No space left on device"));
    assert!(why, "the lines say why");
    let facts = run.facts();
    assert_eq!(fold(&facts).unwrap().status, RunStatus::RolledBack, "what was set aside for it holds its record");
    let Closed { state, unsaved } = run.engine.close().await;
    assert_eq!((state.status, unsaved), (RunStatus::RolledBack, 0));
}

#[tokio::test]
async fn a_broken_disk_between_two_switches_goes_back_and_says_that_this_is_on_no_record() {
    let run = full_between_two_switches(Policy { unattended: true, ..Policy::default() }, true).await;
    run.ends(Ending::Journal).await;
    assert_eq!(run.stand(), old());
    let trouble = run.engine.handle().snapshot().journal.trouble.clone().expect("it is said");
    assert!(trouble.advice.contains("do not start the run again"), "{trouble:?}");
    let Closed { state, unsaved } = run.engine.close().await;
    assert_eq!(state.status, RunStatus::RolledBack);
    assert!(unsaved > 0);
}

#[tokio::test]
async fn a_full_disk_between_two_switches_leaves_the_choice_to_whoever_is_there() {
    let run = full_between_two_switches(Policy::default(), false).await;
    let handle = run.engine.handle();
    until("it is said", || handle.snapshot().journal.trouble.is_some()).await;
    let snapshot = handle.snapshot();
    let row = &snapshot.steps[snapshot.current.unwrap()];
    assert_eq!((row.id.as_str(), &row.need), ("switch", &Some(Need::Decision)));
    let said = format!("{row:?}");
    for words in
        ["No space left on device", "customers cannot write", "reads stands on the new side", "writes was being"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(*run.engine.ending().borrow(), None, "leaving it half-way would be worse");
    // One key away.
    handle.roll_back();
    run.ends(Ending::RolledBack).await;
    assert_eq!(run.stand(), old());
    assert_eq!(fold(&run.facts()).unwrap().status, RunStatus::RolledBack);
    run.engine.close().await;
}

#[tokio::test]
async fn a_disk_that_has_space_again_lets_the_run_go_on() {
    let run = full_between_two_switches(Policy::default(), false).await;
    let handle = run.engine.handle();
    until("it is said", || handle.snapshot().journal.trouble.is_some()).await;
    run.disk.full.store(false, SeqCst);
    until("the end of the step to be on record", || {
        run.world.clock.advance(1_000);
        handle.snapshot().steps.iter().any(|s| s.id == "switch" && s.status == StepStatus::Failed)
    })
    .await;
    assert_eq!(handle.snapshot().journal.trouble, None);
    let answer = handle.command(Command::Retry { step: "switch".into() }).unwrap();
    answer.await.unwrap().unwrap();
    run.comes_to(Ending::Finished).await;
    assert_eq!(run.stand(), ("open".into(), "new".into(), "new".into()));
    assert_eq!(run.world.switches.writes("/reads"), 2, "nothing is done twice");
    run.engine.close().await;
}

#[tokio::test]
async fn a_full_disk_while_both_sides_stand_as_they_did_ends_the_process_and_says_why() {
    let world = World::new();
    world.book("b1", "1.00");
    let latch = Latch::default();
    world.faults.put(Op::Page, "books", 0, 1, Fault::Latch(latch.clone()));
    let run = running(world, Policy { unattended: true, ..Policy::default() }).await;
    latch.caught().await;
    run.disk.full.store(true, SeqCst);
    latch.release();
    run.ends(Ending::Journal).await;
    let trouble = run.engine.handle().snapshot().journal.trouble.clone().expect("it is said");
    assert!(trouble.why.contains("No space left on device"), "{trouble:?}");
    assert_eq!(run.stand(), old());
    run.engine.close().await;
}

/// After it returns every disk write hangs, until the thread is unparked.
fn hung(disk: &TestDisk) -> std::thread::JoinHandle<()> {
    let disk = Arc::clone(&disk.hung);
    let (held, holds) = std::sync::mpsc::channel();
    let hangs = std::thread::spawn(move || {
        let disk = disk.lock().unwrap();
        held.send(()).unwrap();
        std::thread::park();
        drop(disk);
    });
    holds.recv().unwrap();
    hangs
}

#[tokio::test]
async fn an_order_to_go_back_ends_the_run_though_the_disk_hangs() {
    let mut plan = crate::workers::tests::plan::plan();
    plan.steps.iter_mut().filter(|s| s.id == "thaw").for_each(|s| s.confirm = Confirm::Key);
    let world = World::with(plan);
    world.book("b1", "1.00");
    let run = running(world, Policy::default()).await;
    let handle = run.engine.handle();
    run.holds("thaw").await;
    assert_eq!(run.stand(), ("frozen".into(), "new".into(), "new".into()));
    let before = run.facts().len();

    // From here on disk writes hang. Forward work waits for the disk, a rollback does not.
    let hangs = hung(&run.disk);
    let answer = handle.command(Command::Confirm { step: "thaw".into(), word: None }).unwrap();
    // This runtime has one thread: the loop takes the command, and waits for the disk.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    handle.roll_back();
    run.comes_to(Ending::Journal).await;
    assert!(answer.await.unwrap().is_err(), "nothing goes forward without its record");
    assert_eq!(run.stand(), old());
    assert_eq!(run.facts().len(), before, "the disk hangs");
    let Running { engine, folder, _dir, .. } = run;
    let Closed { state, unsaved } = engine.close().await;
    assert_eq!(state.status, RunStatus::RolledBack);
    assert!(unsaved > 0, "it says that the disk has not taken it all");

    // The disk works again: all of it is on record, in order.
    hangs.thread().unpark();
    hangs.join().unwrap();
    until("the record", || read_run(&folder).is_ok_and(|r| r.facts.len() as u64 == state.last_seq)).await;
}

#[tokio::test]
async fn a_slow_disk_is_waited_for_before_a_rollback_is_called_unrecorded() {
    let mut plan = crate::workers::tests::plan::plan();
    plan.steps.iter_mut().filter(|s| s.id == "switch").for_each(|s| s.confirm = Confirm::Key);
    let run = running(World::with(plan), Policy::default()).await;
    let handle = run.engine.handle();
    run.holds("switch").await;
    let hangs = hung(&run.disk);
    handle.roll_back();
    until("the rollback to end", || handle.snapshot().status == RunStatus::RolledBack).await;
    let Running { engine, folder, _dir, .. } = run;
    let mut closing = Box::pin(engine.close());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut closing).await;
    assert!(early.is_err(), "the disk may answer yet");
    hangs.thread().unpark();
    let Closed { state, unsaved } = closing.await;
    assert_eq!((state.status, unsaved), (RunStatus::RolledBack, 0));
    assert_eq!(read_run(&folder).unwrap().facts.len() as u64, state.last_seq);
    hangs.join().unwrap();
}

#[tokio::test]
async fn a_disk_that_hangs_while_customers_are_kept_out_takes_the_run_back_by_itself() {
    let mut plan = crate::workers::tests::plan::plan();
    plan.steps.iter_mut().filter(|s| s.id == "switch").for_each(|s| s.confirm = Confirm::Key);
    let world = World::with(plan);
    world.book("b1", "1.00");
    let run = running(world, Policy::default()).await;
    let handle = run.engine.handle();
    run.holds("switch").await;
    assert_eq!(run.stand(), ("frozen".into(), "old".into(), "old".into()));
    let before = run.facts().len();

    // From here on disk writes hang. Forward work waits for the disk, a rollback does not.
    let hangs = hung(&run.disk);
    let answer = handle.command(Command::Confirm { step: "switch".into(), word: None }).unwrap();
    run.comes_to(Ending::Journal).await;
    assert!(answer.await.unwrap().is_err(), "nothing goes forward without its record");
    assert_eq!(run.stand(), old());
    assert_eq!(run.facts().len(), before, "the disk hangs");
    let Running { engine, folder, _dir, .. } = run;
    let Closed { state, unsaved } = engine.close().await;
    assert_eq!(state.status, RunStatus::RolledBack);
    assert!(unsaved > 0, "it says that the disk has not taken it all");

    // The disk works again: all of it is on record, in order.
    hangs.thread().unpark();
    hangs.join().unwrap();
    until("the record", || read_run(&folder).is_ok_and(|r| r.facts.len() as u64 == state.last_seq)).await;
}

#[tokio::test]
async fn a_step_of_the_wall_clock_is_on_record_and_on_the_screen() {
    for by in [3_600_000, -3_600_000] {
        let world = World::new();
        world.book("b1", "1.00");
        let latch = Latch::default();
        world.faults.put(Op::Flush, "", 0, 1, Fault::Latch(latch.clone()));
        let run = running(world, Policy::default()).await;
        latch.caught().await;
        run.world.clock.step_wall(by);
        let seen = |f: &Fact| matches!(f.event, Event::ClockStepped { by_ms, .. } if (by_ms - by).abs() < 60_000);
        until("the step to be on record", || run.facts().iter().any(seen)).await;
        let shown = || run.engine.handle().snapshot().clock_stepped_ms;
        until("the step to be shown", || shown().is_some_and(|ms| (ms - by).abs() < 60_000)).await;
        latch.release();
        run.engine.close().await;
    }
}

#[tokio::test]
async fn a_rollback_by_another_process_past_this_console_ends_it_rolled_back() {
    // A step that takes as long as a gate may: nothing else would ask whose the run is.
    let world = World::new();
    world.book("b1", "1.00");
    let latch = Latch::default();
    world.faults.put(Op::Flush, "", 0, 1, Fault::Latch(latch.clone()));
    let run = running(world, Policy::default()).await;
    latch.caught().await;
    let header = Header::new("trial", &run.world.plan.hash(), "bob", "elsewhere", At(0));
    let (mut side, record) = JournalWriter::create_side(&run.folder, &header, "elsewhere-7").unwrap();
    let last = record.facts.last().unwrap();
    let by = Actor::Terminal("bob@elsewhere".into());
    let event = Event::RollbackOrdered { by: by.clone(), cause: Cause::Asked };
    side.append(&[Fact { seq: last.seq + 1, at: last.at, event }]).unwrap();
    run.comes_to(Ending::RolledBack).await;
    latch.release();
    let Closed { state, .. } = run.engine.close().await;
    assert_eq!((state.status, state.rollback.map(|r| r.by)), (RunStatus::RolledBack, Some(by)));
}

/// A place that hangs until it is let go.
struct HangingPlace(tokio::sync::watch::Sender<bool>);

#[async_trait::async_trait]
impl Notices for HangingPlace {
    async fn tell(&self, _: &Place, message: &Message) -> Result<String, NotTold> {
        let _ = self.0.subscribe().wait_for(|free| *free).await;
        Ok(message.about.clone())
    }

    async fn look(&self, _: &Place) -> PortResult<String> {
        Ok(String::new())
    }
}

#[tokio::test]
async fn a_place_that_hangs_delays_no_rollback_and_what_it_says_is_recorded_afterwards() {
    let mut plan = crate::workers::tests::plan::plan();
    plan.steps.iter_mut().filter(|s| s.id == "thaw").for_each(|s| s.confirm = Confirm::Key);
    let world = World::with(plan);
    world.book("b1", "1.00");
    let command = CommandPlace { run: vec!["page".into()], timeout_ms: 600_000 };
    let alert = Alert {
        id: "pager".into(),
        on: vec![On::Waiting, On::RolledBack],
        thresholds: vec![],
        for_ms: 0,
        every_ms: 0,
        places: vec![Place { name: "command 1".into(), kind: PlaceKind::Command(command) }],
    };
    let hangs = Arc::new(HangingPlace(tokio::sync::watch::channel(false).0));
    let alerts = AlertSetup { alerts: vec![alert].into(), notices: Some(Arc::clone(&hangs) as _) };
    let run = running_with(world, Policy::default(), alerts).await;
    run.holds("thaw").await;
    let fired = |f: &Fact| matches!(&f.event, Event::AlertFired { .. });
    until("the alert to be on record", || run.facts().iter().any(fired)).await;
    run.engine.handle().roll_back();
    run.ends(Ending::RolledBack).await;
    assert_eq!(run.stand(), old());
    hangs.0.send_replace(true);
    run.engine.close().await;
    let facts = read_run(&run.folder).unwrap().facts;
    let names: Vec<&str> = facts.iter().map(|f| f.event.name()).collect();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    let (ordered, back) = (at("rollback_ordered"), at("rolled_back"));
    assert!(names[ordered..back].iter().all(|name| !name.starts_with("alert_")), "{names:?}");
    let told: Vec<&Event> = facts[back..].iter().map(|f| &f.event).collect();
    let told = told.iter().filter_map(|event| match event {
        Event::AlertTold { result: Told::Delivered { answer }, .. } => Some(answer.as_str()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), ["step thaw waits", "rolled back"]);
}
