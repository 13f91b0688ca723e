//! The rollback thread's order of things, with a set of the forward work on the wire.

use super::*;
use crate::domain::run::{Actor, Cause, SwitchStatus};
use crate::workers::tests::faults::{Fault, Latch, Op};
use crate::workers::tests::world::{World, until};

#[tokio::test]
async fn customers_are_let_in_only_when_no_set_is_on_the_wire_any_more() {
    let world = World::new();
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up", "arm", "freeze", "drain"]).await;
    // The new value of the traffic switch is on the wire when the order comes.
    let latch = Latch::default();
    let on_the_wire = world.faults.put(Op::SwitchSet, "writes", 0, u32::MAX, Fault::Latch(latch.clone()));
    tokio::select! {
        result = world.perform(&ctx, "switch") => panic!("it was to be held: {result:?}"),
        () = latch.caught() => {}
    }
    assert!(ctx.in_flight());
    world.faults.lift(on_the_wire);

    world.journal.fact(Event::RollbackOrdered { by: Actor::Auto, cause: Cause::Asked }).unwrap();
    let (_order, orders) = watch::channel(None);
    let (_state, state) = watch::channel(Arc::new(world.journal.state()));
    let (_performing, performing) = watch::channel(false);
    let (facts, mut told) = mpsc::unbounded_channel();
    let clock: Arc<dyn Clock> = Arc::<crate::workers::tests::world::HandClock>::clone(&world.clock);
    let plan = Arc::clone(&world.plan);
    let stop = CancellationToken::new();
    let ctx_of = Arc::clone(&ctx);
    let wires = Wires { plan, orders, state, ctx: ctx_of, clock, performing, facts, stop };
    let ports = world.ports();
    let captured = ctx.captured();
    let journal = world.journal.clone();
    let mut undo = Rollback {
        plan: &world.plan,
        switches: &*ports.switches,
        probes: &*ports.probes,
        clock: Arc::clone(&wires.clock),
        captured: &captured,
        facts: &journal,
        pass: "1".into(),
        run: "run",
        jobs: &*ports.jobs,
        tell: &|_, _| {},
    };
    let way = rollback_plan(&world.plan, &world.journal.state());
    let back = first_pass(&mut undo, &way, &wires);
    let (report, ()) = tokio::join!(back, async {
        until("reads to go back", || world.switches.now("/reads") == "old").await;
        // Nothing can be observed to not happen, but a thaw that did not wait would have come by now.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(4)).await;
            assert_eq!(world.switches.now("/mode"), "frozen", "customers were let in before the set landed");
        }
        latch.release();
    });
    assert_eq!(report.stuck, [""; 0]);
    let stand = |place| world.switches.now(place);
    assert_eq!((stand("/reads"), stand("/writes"), stand("/mode")), ("old".into(), "old".into(), "open".into()));
    let state = world.journal.state();
    assert!(state.switches.values().all(|s| s.standing == SwitchStatus::Restored), "{:?}", state.switches);
    assert!(told.try_recv().is_err(), "its facts went elsewhere");
    ctx.stop().await;
}

#[tokio::test]
async fn a_trigger_that_went_missing_leaves_the_run_stuck_and_says_so() {
    let world = World::new();
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).collect();
    world.well(&ctx, &steps).await;
    world.new.drop_trigger(world.table("authors"));

    world.journal.fact(Event::RollbackOrdered { by: Actor::Auto, cause: Cause::Asked }).unwrap();
    let order = RollbackOrder { by: Actor::Auto, cause: Cause::Asked };
    let (give, orders) = watch::channel(None);
    let (_state, state) = watch::channel(Arc::new(world.journal.state()));
    let (_performing, performing) = watch::channel(false);
    let (facts, mut told) = mpsc::unbounded_channel();
    let clock: Arc<dyn Clock> = Arc::<crate::workers::tests::world::HandClock>::clone(&world.clock);
    let stop = CancellationToken::new();
    let plan = Arc::clone(&world.plan);
    let wires = Wires { plan, orders, state, ctx: Arc::clone(&ctx), clock, performing, facts, stop: stop.clone() };
    let (ports, reverse) = (world.ports(), world.reverse());
    let reverse: ReversePortsFactory = Box::new(move || {
        let ports = reverse.clone();
        Box::pin(async move { Ok(ports) })
    });
    give.send_replace(Some(order));
    let (_, stuck) = tokio::join!(
        serve(RollbackPorts { switches: ports.switches, probes: ports.probes, jobs: ports.jobs, reverse }, wires),
        async {
            let mut stuck = None;
            while stuck.is_none() {
                let event = told.recv().await.expect("it ends in one way or the other");
                assert!(!matches!(event, Event::RolledBack { .. }), "nobody knows what was written since");
                world.journal.fact(event.clone()).unwrap();
                if let Event::RollbackStuck { what } = event {
                    stuck = Some(what);
                }
            }
            stop.cancel();
            stuck.unwrap_or_default()
        }
    );
    assert!(stuck.len() == 1 && stuck[0].contains("not captured any more"), "{stuck:?}");
    let state = world.journal.state();
    assert_eq!(state.status, RunStatus::Stuck);
    assert_eq!(state.rollback.expect("a rollback").stuck, stuck);
    let stand = |place| world.switches.now(place);
    assert_eq!((stand("/reads"), stand("/writes"), stand("/mode")), ("old".into(), "old".into(), "open".into()));
    ctx.stop().await;
}
