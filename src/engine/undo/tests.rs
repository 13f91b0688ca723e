//! The rollback thread's order of things, with a set of the forward work on the wire.

use super::*;
use crate::domain::run::{Actor, Cause, Standing};
use crate::workers::tests::faults::{Fault, Hold, Op};
use crate::workers::tests::world::{World, until};

#[tokio::test]
async fn customers_are_let_in_only_when_no_set_is_on_the_wire_any_more() {
    let world = World::new();
    world.book("b1", "1.00");
    let crew = world.crew().await;
    world.well(&crew, &["capture", "load", "catch-up", "arm", "freeze", "drain"]).await;
    // The new value of the traffic switch is on the wire when the order comes.
    let hold = Hold::default();
    let on_the_wire = world.faults.put(Op::SwitchSet, "writes", 0, u32::MAX, Fault::Hold(hold.clone()));
    tokio::select! {
        result = world.perform(&crew, "switch") => panic!("it was to be held: {result:?}"),
        () = hold.caught() => {}
    }
    assert!(crew.in_flight());
    world.faults.lift(on_the_wire);

    world.diary.fact(Event::RollbackOrdered { by: Actor::Auto, cause: Cause::Asked }).unwrap();
    let (_order, orders) = watch::channel(None);
    let (_state, state) = watch::channel(Arc::new(world.diary.state()));
    let (_performing, performing) = watch::channel(false);
    let (tell, mut told) = mpsc::unbounded_channel();
    let clock: Arc<dyn Clock> = Arc::<crate::workers::tests::world::HandClock>::clone(&world.clock);
    let plan = Arc::clone(&world.plan);
    let stop = CancellationToken::new();
    let crew_of = Arc::clone(&crew);
    let wires = Wires { plan, orders, state, crew: crew_of, clock, performing, tell, stop };
    let ports = world.ports();
    let captured = crew.captured();
    let diary = world.diary.clone();
    let mut undo = Undo {
        plan: &world.plan,
        switches: &*ports.switches,
        probes: &*ports.probes,
        clock: Arc::clone(&wires.clock),
        captured: &captured,
        tell: &diary,
        pass: "1".into(),
    };
    let way = way_back(&world.plan, &world.diary.state());
    let back = first_pass(&mut undo, &way, &wires);
    let (report, ()) = tokio::join!(back, async {
        until("reads to go back", || world.places.now("/reads") == "old").await;
        // Nothing can be observed to not happen, but a thaw that did not wait would have come by now.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(4)).await;
            assert_eq!(world.places.now("/mode"), "frozen", "customers were let in before the set landed");
        }
        hold.let_go();
    });
    assert_eq!(report.stuck, [""; 0]);
    let stand = |place| world.places.now(place);
    assert_eq!((stand("/reads"), stand("/writes"), stand("/mode")), ("old".into(), "old".into(), "open".into()));
    let state = world.diary.state();
    assert!(state.switches.values().all(|s| s.standing == Standing::Restored), "{:?}", state.switches);
    assert!(told.try_recv().is_err(), "its facts went elsewhere");
    crew.stop().await;
}

#[tokio::test]
async fn a_trigger_that_went_missing_leaves_the_run_stuck_and_says_so() {
    let world = World::new();
    world.book("b1", "1.00");
    let crew = world.crew().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).collect();
    world.well(&crew, &steps).await;
    world.new.drop_trigger(world.table("authors"));

    world.diary.fact(Event::RollbackOrdered { by: Actor::Auto, cause: Cause::Asked }).unwrap();
    let order = RollbackOrder { by: Actor::Auto, cause: Cause::Asked };
    let (give, orders) = watch::channel(None);
    let (_state, state) = watch::channel(Arc::new(world.diary.state()));
    let (_performing, performing) = watch::channel(false);
    let (tell, mut told) = mpsc::unbounded_channel();
    let clock: Arc<dyn Clock> = Arc::<crate::workers::tests::world::HandClock>::clone(&world.clock);
    let stop = CancellationToken::new();
    let plan = Arc::clone(&world.plan);
    let wires = Wires { plan, orders, state, crew: Arc::clone(&crew), clock, performing, tell, stop: stop.clone() };
    let (ports, reverse) = (world.ports(), world.reverse());
    let reverse: ReverseSeat = Box::new(move || {
        let ports = reverse.clone();
        Box::pin(async move { Ok(ports) })
    });
    give.send_replace(Some(order));
    let (_, stuck) =
        tokio::join!(serve(UndoPorts { switches: ports.switches, probes: ports.probes, reverse }, wires), async {
            let mut stuck = None;
            while stuck.is_none() {
                let event = told.recv().await.expect("it ends in one way or the other");
                assert!(!matches!(event, Event::RolledBack { .. }), "nobody knows what was written since");
                world.diary.fact(event.clone()).unwrap();
                if let Event::RollbackStuck { what } = event {
                    stuck = Some(what);
                }
            }
            stop.cancel();
            stuck.unwrap_or_default()
        });
    assert!(stuck.len() == 1 && stuck[0].contains("not captured any more"), "{stuck:?}");
    let state = world.diary.state();
    assert_eq!(state.status, RunStatus::Stuck);
    assert_eq!(state.rollback.expect("a rollback").stuck, stuck);
    let stand = |place| world.places.now(place);
    assert_eq!((stand("/reads"), stand("/writes"), stand("/mode")), ("old".into(), "old".into(), "open".into()));
    crew.stop().await;
}
