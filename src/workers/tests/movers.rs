//! Watching a mover that says what it is told to say: what its words make of lag, poll cycles and trouble.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::plan::plan;
use super::world::{Entry, World, until};
use crate::domain::plan::{MoverKind, Plan, Table};
use crate::domain::run::{Event, Level};
use crate::ports::{
    ByStore, ErrorKind, Mover, MoverLook, MoverState, Obstacle, PortError, PortResult, Position, TableState,
};
use crate::workers::{CapturedValues, Ports, WorkerContext};

/// A mover that does what a test says.
#[derive(Clone)]
struct Scripted(Arc<Mutex<Script>>);

struct Script {
    /// What it says when it is looked at.
    look: PortResult<MoverLook>,
    /// How often it was looked at.
    looks: u32,
    /// What it was told.
    told: Vec<&'static str>,
    /// Whether each look finds another failure.
    fails_again: bool,
    /// Whether it does nothing of what it is told.
    refuses: bool,
}

impl Scripted {
    /// One that works and is in step.
    fn new() -> Self {
        let script = Script { look: Ok(at(10, 10)), looks: 0, told: Vec::new(), fails_again: false, refuses: false };
        Self(Arc::new(Mutex::new(script)))
    }

    fn says(&self, look: MoverLook) {
        self.0.lock().unwrap().look = Ok(look);
    }

    fn fails(&self) {
        self.0.lock().unwrap().look = Err(PortError::new(ErrorKind::Unreachable, "look at", "it", "no answer"));
    }

    fn told(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().told.clone()
    }

    fn tell(&self, order: &'static str, state: MoverState) -> PortResult<()> {
        let mut kept = self.0.lock().unwrap();
        kept.told.push(order);
        if kept.refuses {
            return Err(PortError::new(ErrorKind::Denied, order, "it", "permission denied"));
        }
        if let Ok(look) = &mut kept.look {
            look.state = state;
        }
        Ok(())
    }
}

#[async_trait]
impl Mover for Scripted {
    async fn obstacles(&self, _: &[Table]) -> PortResult<Vec<Obstacle>> {
        Ok(Vec::new())
    }

    async fn prepare(&self, _: &[Table]) -> PortResult<String> {
        Ok("scripted".to_owned())
    }

    async fn start(&self, _: &[Table]) -> PortResult<()> {
        self.tell("start", MoverState::Running)
    }

    async fn look(&self, _: &[Table]) -> PortResult<MoverLook> {
        let mut kept = self.0.lock().unwrap();
        kept.looks += 1;
        if kept.fails_again
            && let Ok(look) = &mut kept.look
        {
            look.errors += 1;
            // Its copy begins anew each time, and comes as far as before.
            let rows = if look.errors % 2 == 0 { Some(5) } else { None };
            look.tables.insert("books".to_owned(), TableState::Copying { rows, bytes: None });
        }
        kept.look.clone()
    }

    async fn pause(&self) -> PortResult<()> {
        self.tell("pause", MoverState::Paused)
    }

    async fn stop(&self) -> PortResult<()> {
        self.tell("stop", MoverState::Stopped)
    }

    async fn remove(&self) -> PortResult<()> {
        self.tell("remove", MoverState::Absent)
    }
}

/// Every table in step; the source's log reaches to `head`, and what is before `applied` is in the target.
fn at(head: u64, applied: u64) -> MoverLook {
    let position = |n: u64| Some(Position(n.to_string()));
    let tables = ["books", "authors"].map(|id| (id.to_owned(), TableState::Following));
    MoverLook {
        state: MoverState::Running,
        tables: tables.into(),
        head: position(head),
        received: position(applied),
        applied: position(applied),
        ..MoverLook::default()
    }
}

fn moved() -> Plan {
    let mut plan = plan();
    plan.tables.iter_mut().for_each(|table| table.mover = Some(MoverKind::Subscription));
    plan
}

/// A world whose tables this mover moves.
fn unwatched(mover: &Scripted) -> (World, Arc<WorkerContext>) {
    let world = World::with(moved());
    let name = world.plan.movers()[0].name();
    let movers = ByStore::default().with(name, Arc::new(mover.clone()) as Arc<dyn Mover>);
    let ports = Ports { movers, ..world.ports() };
    let ctx = WorkerContext::new(Arc::clone(&world.plan), ports, Arc::new(world.journal.clone()));
    (world, ctx)
}

/// The same, watched.
fn watched(mover: &Scripted) -> (World, Arc<WorkerContext>) {
    let (world, ctx) = unwatched(mover);
    ctx.ensure_following();
    (world, ctx)
}

fn lag(ctx: &WorkerContext, table: &str) -> Option<f64> {
    ctx.measured().tables[table].lag.apply.value
}

fn cycles(ctx: &WorkerContext) -> u64 {
    ctx.table("books").map_or(0, |table| table.cycles.borrow().number)
}

fn trouble(ctx: &WorkerContext) -> String {
    ctx.measured().tables["books"].trouble.clone().unwrap_or_default()
}

#[tokio::test]
async fn a_lag_grows_by_itself_and_a_poll_cycle_needs_every_table_in_step() {
    let mover = Scripted::new();
    let (world, ctx) = watched(&mover);
    until("it to follow", || cycles(&ctx) > 1).await;
    assert!(lag(&ctx, "books").is_some_and(|ms| ms < 5_000.0));
    // The source has moved on, and it has not.
    mover.says(at(20, 10));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let before = cycles(&ctx);
    world.clock.advance(60_000);
    assert!(lag(&ctx, "books").is_some_and(|ms| ms >= 60_000.0), "{:?}", lag(&ctx, "books"));
    // What it says of the others says nothing of a table that is still copied.
    let mut half = at(20, 20);
    half.tables.insert("authors".to_owned(), TableState::CatchingUp);
    mover.says(half);
    until("books to be in step", || lag(&ctx, "books").is_some_and(|ms| ms < 30_000.0)).await;
    assert!(lag(&ctx, "authors").is_some_and(|ms| ms >= 60_000.0), "{:?}", lag(&ctx, "authors"));
    assert_eq!(cycles(&ctx), before);
    // Nobody says anything.
    mover.fails();
    until("the trouble to be told", || trouble(&ctx).contains("no answer")).await;
    world.clock.advance(60_000);
    assert!(lag(&ctx, "books").is_some_and(|ms| ms >= 60_000.0));
    mover.says(at(30, 30));
    until("it to follow again", || cycles(&ctx) > before && trouble(&ctx).is_empty()).await;
    assert!(lag(&ctx, "authors").is_some_and(|ms| ms < 30_000.0));
    ctx.stop().await;
}

#[tokio::test]
async fn failed_attempts_are_told_until_it_has_got_past_them() {
    let mover = Scripted::new();
    let (world, ctx) = watched(&mover);
    until("it to follow", || cycles(&ctx) > 0).await;
    mover.says(MoverLook { errors: 3, ..at(20, 10) });
    until("it to be told", || trouble(&ctx).contains("failed 3 times")).await;
    let noted =
        |e: &Entry| matches!(e, Entry::Fact(Event::Note { level: Level::Error, source, .. }) if source == "mover");
    until("it to be on record", || world.journal.entries().iter().any(noted)).await;
    mover.says(MoverLook { errors: 3, ..at(20, 20) });
    until("it to go on", || trouble(&ctx).is_empty()).await;
    assert_eq!(world.journal.entries().iter().filter(|e| noted(e)).count(), 1, "once for as long as it lasts");
    ctx.stop().await;
}

#[tokio::test]
async fn one_that_lost_changes_or_is_gone_ends_following_for_good() {
    for lost in [MoverLook { lost: Some("its slot is gone".to_owned()), ..at(20, 10) }, MoverLook::default()] {
        let mover = Scripted::new();
        let (_world, ctx) = watched(&mover);
        until("it to follow", || cycles(&ctx) > 0).await;
        mover.says(lost);
        until("its end", || ctx.any_ended().is_some()).await;
        assert_eq!((lag(&ctx, "books"), lag(&ctx, "authors")), (None, None));
        assert!(trouble(&ctx).contains("only a new load"), "{}", trouble(&ctx));
        ctx.stop().await;
    }
}

#[tokio::test]
async fn it_rests_while_the_run_does_and_goes_on_with_it() {
    let mover = Scripted::new();
    let (_world, ctx) = watched(&mover);
    until("it to follow", || cycles(&ctx) > 0).await;
    ctx.pause();
    until("it to rest", || mover.told() == ["pause"]).await;
    ctx.resume();
    until("it to go on", || mover.told() == ["pause", "start"]).await;
    // One that somebody else ended is theirs to let go on.
    mover.says(MoverLook { state: MoverState::EndedElsewhere, ..at(30, 20) });
    until("it to be told", || trouble(&ctx).contains("ended by somebody else")).await;
    assert_eq!(mover.told(), ["pause", "start"]);
    ctx.stop().await;
}

#[tokio::test]
async fn a_copy_that_fails_again_and_again_ends_the_load_with_what_to_do() {
    let mover = Scripted::new();
    let (world, ctx) = unwatched(&mover);
    world.well(&ctx, &["capture"]).await;
    assert_eq!(mover.told(), ["remove"], "what an older run left goes before anything is emptied");
    mover.0.lock().unwrap().fails_again = true;
    let failed = world.perform(&ctx, "load").await.unwrap_err();
    assert!(failed.message.contains("subscription-old-new failed 8 times"), "{failed:?}");
    assert!(failed.advice.contains("start the step again"), "{failed:?}");
    // Once somebody has seen to it.
    mover.0.lock().unwrap().fails_again = false;
    mover.says(MoverLook { errors: 12, ..at(20, 20) });
    world.well(&ctx, &["load"]).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_copy_whose_mover_somebody_removed_ends_the_load() {
    let mover = Scripted::new();
    let (world, ctx) = unwatched(&mover);
    world.well(&ctx, &["capture"]).await;
    let gone = async {
        until("it to be told to start", || mover.told().contains(&"start")).await;
        mover.says(MoverLook { state: MoverState::Absent, tables: Default::default(), ..at(20, 10) });
    };
    mover.says(MoverLook { tables: [("books".to_owned(), TableState::Waiting)].into(), ..at(10, 10) });
    let (failed, ()) = tokio::join!(world.perform(&ctx, "load"), gone);
    let failed = failed.unwrap_err();
    assert!(failed.message.contains("somebody removed it"), "{failed:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn an_order_that_is_refused_is_not_given_again_at_once() {
    let mover = Scripted::new();
    let (world, ctx) = watched(&mover);
    until("it to follow", || cycles(&ctx) > 0).await;
    mover.0.lock().unwrap().refuses = true;
    mover.says(MoverLook { state: MoverState::Paused, ..at(10, 10) });
    let looks = || mover.0.lock().unwrap().looks;
    until("it to be told", || mover.told() == ["start"]).await;
    let told = looks();
    until("some more looks, on a clock that stands still", || looks() > told + 4).await;
    assert_eq!(mover.told(), ["start"]);
    world.clock.advance(11_000);
    until("it to be told again", || mover.told() == ["start", "start"]).await;
    ctx.stop().await;
}

#[tokio::test]
async fn with_the_end_of_a_rollback_it_writes_no_more() {
    let mover = Scripted::new();
    let (world, ctx) = watched(&mover);
    until("it to follow", || cycles(&ctx) > 0).await;
    ctx.begin_rollback();
    assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
    ctx.rolled_back();
    until("it to be stopped", || mover.told() == ["stop"]).await;
    ctx.stop().await;
}
