//! Streams of many tables come up side by side: never more than the bound, each with its intent and its outcome, and
//! one that fails is named.

use std::collections::BTreeSet;

use super::faults::{Fault, Latch, Op};
use super::plan::plan_of;
use super::world::{Entry, World};
use crate::domain::run::{Action, Event, OutcomeResult};
use crate::ports::ErrorKind;
use crate::workers::capture::AT_ONCE;

#[tokio::test]
async fn streams_come_up_side_by_side_and_never_more_than_the_bound() {
    let world = World::with(plan_of(2 * AT_ONCE));
    let all = world.plan.tables.len();
    let ctx = world.ctx().await;
    let (first, then) = (Latch::default(), Latch::default());
    world.faults.put(Op::Enable, "", 0, u32::try_from(AT_ONCE).unwrap(), Fault::Latch(first.clone()));
    world.faults.always(Op::Enable, Fault::Latch(then.clone()));
    let under_way = async {
        first.caught_all(AT_ONCE).await;
        // Any other that could begin would have begun by now.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.faults.calls(Op::Enable), AT_ONCE as u64, "no more are under way than may be");
        first.release();
        then.caught_all(AT_ONCE).await;
        then.release();
    };
    let (done, ()) = tokio::join!(world.perform(&ctx, "capture"), under_way);
    let found = done.unwrap();
    assert_eq!(found.len(), all);
    let ids: Vec<&str> = found.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), all, "each table has one line: {ids:?}");
    let state = world.journal.state();
    assert!(world.plan.tables.iter().all(|t| state.tables[&t.id].stream.is_some()));
    assert_eq!(open_intents(&world), [""; 0]);
    assert_eq!(world.faults.calls(Op::Enable), all as u64, "what turned a stream on knows where it stands");
    ctx.stop().await;
}

/// Intents without an outcome, and outcomes before their intent: none.
fn open_intents(world: &World) -> Vec<String> {
    let mut open = BTreeSet::new();
    for entry in world.journal.entries() {
        match entry {
            Entry::Fact(Event::Intent { id, action: Action::EnableStream { .. }, .. }) => assert!(open.insert(id)),
            Entry::Fact(Event::Outcome { id, .. }) => assert!(open.remove(&id), "an outcome without its intent: {id}"),
            _ => {}
        }
    }
    open.into_iter().collect()
}

#[tokio::test]
async fn a_stream_that_does_not_come_up_is_named_and_the_others_end_cleanly() {
    let world = World::with(plan_of(3 * AT_ONCE));
    let ctx = world.ctx().await;
    // The first read fails too: only a call that is repeated and gets the same answer is given up.
    let rule = world.faults.put(Op::Enable, "more-003", 0, 2, Fault::Refuse(ErrorKind::Denied));
    let held = Latch::default();
    world.faults.put(Op::Enable, "more-004", 0, 1, Fault::Latch(held.clone()));
    let under_way = async {
        held.caught().await;
        // Until the refusal is on record: the other one is still under way then.
        while !refused(&world) {
            tokio::task::yield_now().await;
        }
        held.release();
    };
    let (done, ()) = tokio::join!(world.perform(&ctx, "capture"), under_way);
    let error = done.expect_err("one stream is refused");
    assert!(error.message.contains("more-003"), "{error:?}");
    assert_eq!(open_intents(&world), [""; 0], "what was under way has its outcome");
    let state = world.journal.state();
    let recorded = |id: &str| state.tables.get(id).is_some_and(|t| t.stream.is_some());
    assert!(recorded("more-004"), "the one that was under way is recorded");
    assert!(!recorded("more-003"));
    assert!(!recorded("more-000"), "nothing new is begun after a failure");
    world.faults.lift(rule);
    world.well(&ctx, &["capture"]).await;
    let state = world.journal.state();
    assert!(world.plan.tables.iter().all(|t| state.tables[&t.id].stream.is_some()));
    ctx.stop().await;
}

fn refused(world: &World) -> bool {
    let unknown = |e: &Entry| matches!(e, Entry::Fact(Event::Outcome { result: OutcomeResult::Unknown { .. }, .. }));
    world.journal.entries().iter().any(unknown)
}

#[tokio::test]
async fn rows_of_an_earlier_run_that_a_capture_removes_are_said_to_go() {
    let world = World::new();
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load"]).await;
    assert!(!world.new.table(world.table("books")).rows.is_empty());
    let emptied = |world: &World| {
        let said = |entry: Entry| match entry {
            Entry::Fact(Event::Note { source, text, .. }) if source == "capture" => Some(text),
            _ => None,
        };
        world.journal.entries().into_iter().filter_map(said).collect::<Vec<_>>()
    };
    assert_eq!(emptied(&world), [""; 0], "nothing was there before");
    // A new run knows nothing of what the older one recorded.
    let mut state = world.journal.state();
    state.tables.clear();
    ctx.perform(&world.plan.step("capture").unwrap().clone(), 2, &state).await.unwrap();
    let said = emptied(&world);
    assert!(said.iter().any(|text| text.contains("books is emptied") && text.contains("1 rows")), "{said:?}");
    assert!(world.new.table(world.table("books")).rows.is_empty());
    ctx.stop().await;
}
