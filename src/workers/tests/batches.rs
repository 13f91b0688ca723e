//! The way back in batches: the same as key by key, and nothing lost wherever it dies.

use std::collections::{BTreeMap, BTreeSet};

use super::converge::seeds;
use super::faults::{Fault, Latch, Op};
use super::new_side::{conflicts, drained, mark_rolled_back, open_to_customers, unfit_row};
use super::reverse::Oracle;
use super::world::World;
use crate::domain::mapping::{Resolution, Winner};
use crate::domain::run::RunState;
use crate::domain::value::OwnedRow;
use crate::ports::{ErrorKind, ReverseCounts};
use crate::workers::reverse::ReverseApplier;

/// Customers are on the new side and nothing is applied there until it is asked for.
async fn quiet(batch: usize) -> World {
    let (world, ctx) = open_to_customers().await;
    ctx.stop().await;
    world.old.back().batch = batch;
    world
}

/// Everything a history leaves.
#[derive(Debug, PartialEq)]
struct Left {
    old: BTreeMap<String, OwnedRow>,
    tally: ReverseCounts,
    conflicts: BTreeSet<(String, Resolution)>,
    unfit: BTreeSet<(String, String)>,
    waits: usize,
}

/// Writes on both sides, some rounds between them, under one seed.
async fn history(seed: u64, batch: usize) -> Left {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = quiet(batch).await;
    let winner = if rng.bool() { Winner::New } else { Winner::Old };
    let limit = rng.u32(1..20);
    for key in ["b1", "x2"].iter().filter(|_| rng.bool()) {
        world.old.back().refused.insert((*key).to_owned());
    }
    let (ports, books) = (world.reverse(), world.table("books").clone());
    let mut applier = ReverseApplier::new(&ports);
    let mut found = BTreeSet::new();
    for n in 0..rng.u32(20..90) {
        let price = format!("{}.00", rng.u8(0..6));
        let key = format!("{}{}", if rng.u8(0..4) == 0 { "x" } else { "b" }, rng.u8(0..8));
        match rng.u8(0..12) {
            0 => drop(world.new.foreign_delete(&books, &key)),
            1 => world.new.foreign_put(&books, unfit_row(&world, &key)),
            2 => world.new.foreign_put(&books, world.row_of(&key, &price, Some("a0"))),
            3 => drop(world.old.delete(&books, &key, false)),
            4 => world.book_of(&key, &price, None, Some("a0")),
            5 => world.book(&key, &price),
            6 if n % 2 == 0 => {
                let round = applier.round(&books, limit, &move || winner).await.unwrap().unwrap_or_default();
                assert_eq!(round.trouble, None, "seed {seed}");
                found.extend(round.conflicts.into_iter().map(|(key, how)| (key.0, how)));
            }
            _ => drop(world.customer_puts(&key, &price)),
        }
    }
    world.old.back().refused.remove("x2");
    // Until nothing moves any more.
    let mut before = None;
    let unfit = loop {
        let round = applier.round(&books, limit, &move || winner).await.unwrap().unwrap_or_default();
        assert_eq!(round.trouble, None, "seed {seed}");
        found.extend(round.conflicts.into_iter().map(|(key, how)| (key.0, how)));
        let unfit = round.unfit.into_iter().map(|(key, why)| (key.0, why)).collect();
        let left = (world.new.captured(), applier.stuck("books"), round.tally.carried);
        if before == Some(left) {
            break unfit;
        }
        before = Some(left);
    };
    let tally = ports.outbox.tally(&world.plan.tables).await.unwrap()["books"];
    Left { old: world.wanted("books"), tally, conflicts: found, unfit, waits: world.new.captured() }
}

#[tokio::test]
async fn a_batch_leaves_what_key_by_key_leaves_under_any_history() {
    let one = |seed: u64| {
        Box::pin(async move {
            let singly = history(seed, 1).await;
            for batch in [2, 5, 64] {
                assert_eq!(history(seed, batch).await, singly, "seed {seed}, {batch} at once");
            }
            (singly.conflicts.len(), singly.unfit.len())
        })
    };
    let all = futures::future::join_all(seeds().into_iter().chain(100..130).map(one)).await;
    let (conflicts, unfit) = all.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(conflicts > 20 && unfit > 20, "too little happened: {conflicts} conflicts, {unfit} unfit");
}

/// Eight keys of which one both sides changed, one went, one is new and one had states in between; gives what the old
/// side must hold in the end.
fn writes(world: &World) -> Oracle {
    let mut oracle = world.wanted("books");
    for (key, price) in
        [("b0", "2.00"), ("b1", "3.00"), ("b4", "9.00"), ("b4", "4.00"), ("b5", "5.00"), ("new", "6.00")]
    {
        oracle.insert(key.into(), world.customer_puts(key, price));
    }
    assert!(world.new.foreign_delete(world.table("books"), "b2"));
    oracle.remove("b2");
    oracle
}

fn strays(state: &RunState) -> u64 {
    state.reverse.values().map(|reverse| reverse.strays).sum()
}

/// Dies when `op` is called for the `nth` time, and once more in the second attempt; `cut` breaks the write in the middle
/// before that.
async fn dies(op: Op, nth: u32, batch: usize, cut: bool) {
    let case = format!("{op:?} {nth} of {batch}, {cut}");
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    world.old.back().batch = batch;
    let mut oracle = writes(&world);
    mark_rolled_back(&world, &ctx).await;
    // A customer is back, and has changed a key that waits.
    world.book("b5", "8.00");
    oracle.insert("b5".into(), world.wanted("books")["b5"].clone());
    world.faults.lift(off);
    for death in 0..2 {
        if cut {
            world.faults.put(Op::ItemWrite, "books", 0, 1, Fault::Cut);
        }
        let latch = Latch::default();
        let hold = world.faults.put(op, "books", nth - 1, 1, Fault::Latch(latch.clone()));
        tokio::select! {
            () = latch.caught() => {}
            ended = drained(&world) => {
                // The second one has less to do.
                assert!(death > 0 || nth > 1, "{case}: it was never called: {ended:?}");
            }
        }
        world.faults.lift(hold);
    }
    assert_eq!(drained(&world).await.left, [""; 0], "{case}");
    assert_eq!(world.wanted("books"), oracle, "{case}");
    assert_eq!(world.new.captured(), 0, "{case}");
    let state = world.journal.state();
    assert_eq!(strays(&state), 0, "{case}: our own write was taken for a stranger's");
    let books = &state.reverse["books"];
    assert_eq!((books.carried, books.conflicts, books.left), (Some(6), 1, Some(0)), "{case}");
    let told = conflicts(&world);
    assert!(
        !told.is_empty() && told.iter().all(|one| *one == (vec!["b5".to_owned()], "old".to_owned())),
        "{case}: {told:?}"
    );
    ctx.stop().await;
}

#[tokio::test]
async fn a_death_at_any_call_of_a_batch_loses_nothing_and_counts_each_key_once() {
    let calls = [Op::Take, Op::ItemRead, Op::Unfinished, Op::RecordOwnWrite, Op::ItemWrite, Op::Clear, Op::Done];
    let all = calls.into_iter().flat_map(|op| {
        [1, 2, 3].into_iter().flat_map(move |nth| [2, 3, 16].into_iter().map(move |batch| (op, nth, batch)))
    });
    futures::future::join_all(all.map(|(op, nth, batch)| dies(op, nth, batch, false))).await;
    // The connection breaks after half of the items, and it dies when it looks what stands there, or before it clears.
    let cut = [(Op::ItemRead, 2), (Op::Clear, 1)];
    futures::future::join_all(cut.map(|(op, nth)| dies(op, nth, 16, true))).await;
}

#[tokio::test]
async fn one_bad_key_keeps_no_other_of_its_batch_and_goes_alone_from_then_on() {
    let world = quiet(16).await;
    world.old.back().refused.insert("b3".into());
    let before = world.wanted("books")["b3"].clone();
    let mut oracle = world.wanted("books");
    for n in 0..8 {
        oracle.insert(format!("b{n}"), world.customer_puts(&format!("b{n}"), "7.00"));
    }
    oracle.insert("b3".into(), before);
    let (ports, books) = (world.reverse(), world.table("books").clone());
    let mut applier = ReverseApplier::new(&ports);
    let round = applier.round(&books, 100, &|| Winner::Old).await.unwrap().unwrap();
    assert_eq!((round.tally.carried, round.trouble), (7, None));
    assert_eq!(round.unfit.iter().map(|(key, _)| key.0.as_str()).collect::<Vec<_>>(), ["b3"]);
    assert_eq!((world.wanted("books"), world.new.captured()), (oracle.clone(), 1));
    // It is not tried among others again: they are one call, and it is one.
    for n in 4..8 {
        oracle.insert(format!("b{n}"), world.customer_puts(&format!("b{n}"), "8.00"));
    }
    let calls = world.faults.calls(Op::ItemWrite);
    let round = applier.round(&books, 100, &|| Winner::Old).await.unwrap().unwrap();
    assert_eq!((round.tally.carried, round.unfit.len()), (4, 1));
    assert_eq!(world.faults.calls(Op::ItemWrite) - calls, 2);
    // Nor does it stay behind once it may be written.
    world.old.back().refused.clear();
    let round = applier.round(&books, 100, &|| Winner::Old).await.unwrap().unwrap();
    assert_eq!((round.tally.carried, round.unfit.len(), world.new.captured()), (1, 0, 0));
}

#[tokio::test]
async fn a_batch_decided_before_the_rollback_is_decided_anew() {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    world.old.back().batch = 16;
    world.customer_puts("b1", "7.00");
    world.customer_puts("b2", "7.00");
    world.book("b1", "8.00");
    ctx.stop().await;
    world.faults.lift(off);
    let ports = world.reverse();
    let books = world.table("books").clone();
    let mut applier = ReverseApplier::new(&ports);
    let latch = Latch::default();
    world.faults.put(Op::RecordOwnWrite, "books", 0, 1, Fault::Latch(latch.clone()));
    // It stands still with what it decided while customers go back.
    let (round, ()) = tokio::join!(applier.round(&books, 100, &|| Winner::New), async {
        latch.caught().await;
        mark_rolled_back(&world, &ctx).await;
        ports.outbox.mark_rolled_back(&world.journal.state().run, &world.plan.tables).await.unwrap();
        latch.release();
    });
    let round = round.unwrap().unwrap();
    assert_eq!(round.trouble.map(|e| e.kind), Some(ErrorKind::Conflict));
    assert_eq!((round.tally.carried, world.new.captured()), (0, 2));
    assert_eq!(drained(&world).await.left, [""; 0]);
    assert_eq!(world.wanted("books")["b1"], world.row_of("b1", "8.00", None), "theirs is the newer one");
    assert_eq!(world.wanted("books")["b2"], world.row_of("b2", "7.00", None));
    assert_eq!(conflicts(&world), [(vec!["b1".to_owned()], "old".to_owned())]);
}
