//! Rows that traded values only one may have go back together, under faults and deaths.

use std::collections::BTreeMap;

use super::converge::seeds;
use super::faults::{Fault, Latch, Op};
use super::new_side::{conflicts, drained, mark_rolled_back, open_to_customers};
use super::reverse::Oracle;
use super::world::{World, row_record, until};
use crate::domain::mapping::TableMapping;
use crate::domain::value::{Cell, OwnedRow};
use crate::ports::ErrorKind;

/// The old side's rows hold an isbn that no other may have, and it takes this many at once.
async fn rows_with_isbns(batch: usize) -> (World, std::sync::Arc<crate::workers::WorkerContext>) {
    let (world, ctx) = open_to_customers().await;
    ctx.stop().await;
    world.old.becomes_rows(&world.plan.tables);
    {
        let mut back = world.old.back();
        (back.unique, back.batch) = (Some("isbn"), batch);
    }
    for n in 0..8 {
        let row = row(&world, &format!("b{n}"), "1.00", Some(&format!("i{n}")));
        world.new.foreign_put(world.table("books"), row);
    }
    // One that never trades.
    world.new.foreign_put(world.table("books"), row(&world, "own", "1.00", None));
    let ctx = world.restart(ctx).await;
    ctx.ensure_following();
    until("the first isbns to be applied", || world.new.captured() == 0).await;
    (world, ctx)
}

fn row(world: &World, key: &str, price: &str, isbn: Option<&str>) -> OwnedRow {
    let mut row = world.row_of(key, price, None);
    row[2] = isbn.map_or(Cell::Null, |isbn| Cell::Text(isbn.to_owned().into()));
    row
}

/// A customer of the old side gives a row an author.
fn author(world: &World, key: &str) {
    let table = world.table("books");
    let mut item = world.old.items(table)[key].clone();
    for (name, value) in &mut item.fields {
        if name == "author" {
            *value = crate::domain::value::Value::Text("a0".into());
        }
    }
    world.old.put(table, row_record(table, &TableMapping::new(table), &item));
}

/// Customers of the new side, who hold what each isbn is whose.
struct Customers<'w> {
    world: &'w World,
    rng: fastrand::Rng,
    isbns: BTreeMap<String, Option<String>>,
    oracle: Oracle,
    prices: u32,
}

impl Customers<'_> {
    fn put(&mut self, key: &str, isbn: Option<String>) {
        self.prices += 1;
        let row = row(self.world, key, &format!("{}.00", self.prices), isbn.as_deref());
        self.world.new.foreign_put(self.world.table("books"), row.clone());
        self.isbns.insert(key.to_owned(), isbn);
        self.oracle.insert(key.to_owned(), row);
    }

    /// One step, or the three of a trade. No two rows have one isbn at any time.
    fn step(&mut self) {
        let (one, other) = (format!("b{}", self.rng.u8(0..6)), format!("b{}", self.rng.u8(0..6)));
        let held = |key: &str| self.isbns.get(key).cloned().flatten();
        let (of_one, of_other) = (held(&one), held(&other));
        match self.rng.u8(0..6) {
            0 if self.isbns.contains_key(&one) => {
                self.world.new.foreign_delete(self.world.table("books"), &one);
                self.isbns.remove(&one);
                self.oracle.remove(&one);
            }
            1 => {
                let isbn = format!("i{}", self.rng.u8(0..10));
                let free = !self.isbns.values().any(|held| held.as_ref() == Some(&isbn));
                self.put(&one, free.then_some(isbn));
            }
            2 => self.put(&one, of_one),
            _ if one != other => {
                self.put(&one, None);
                self.put(&other, of_one);
                self.put(&one, of_other);
            }
            _ => {}
        }
    }
}

async fn trial(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (world, ctx) = rows_with_isbns([1, 16][rng.usize(..2)]).await;
    let isbns = (0..8).map(|n| (format!("b{n}"), Some(format!("i{n}")))).collect();
    let oracle = world.wanted("books");
    let mut customers = Customers { world: &world, rng: fastrand::Rng::with_seed(seed + 7), isbns, oracle, prices: 10 };
    world.faults.at_random(seed, 12, 8);
    for _ in 0..rng.u8(5..20) {
        customers.step();
        tokio::task::yield_now().await;
        if rng.u8(0..4) == 0 {
            let before = world.faults.calls(Op::Take);
            until("a reverse applier to look", || world.faults.calls(Op::Take) > before).await;
        }
    }
    world.faults.calm();
    // A trade that certainly waits.
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    for _ in 0..3 {
        customers.step();
    }
    customers.put("own", None);
    customers.put("b6", None);
    customers.put("b7", Some("i6".to_owned()));
    customers.put("b6", Some("i7".to_owned()));
    let mut oracle = customers.oracle;
    let state = world.journal.state();
    assert!(state.reverse.values().all(|r| r.strays == 0), "seed {seed}: taken for a stranger's: {:?}", state.reverse);
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    world.faults.lift(off);
    world.faults.at_random(seed + 1, 8, 16);
    if rng.bool() {
        // Their own customers are back, and change another field of a row that waits.
        author(&world, "own");
        oracle.get_mut("own").unwrap()[3] = Cell::Text("a0".into());
    }
    loop {
        let (op, nth) = ([Op::Take, Op::ItemWrite, Op::Clear, Op::RecordOwnWrite][rng.usize(..4)], rng.u64(1..6));
        let before = world.faults.calls(op);
        let dies = async {
            if rng.u8(0..3) > 0 {
                std::future::pending::<()>().await;
            }
            until("some calls", || world.faults.calls(op) >= before + nth).await;
        };
        tokio::select! {
            ended = drained(&world) => {
                assert_eq!(ended.left, [""; 0], "seed {seed}");
                break;
            }
            () = dies => {}
        }
    }
    assert_eq!(world.wanted("books"), oracle, "seed {seed}");
    assert_eq!((world.new.captured(), conflicts(&world)), (0, vec![]), "seed {seed}");
}

#[tokio::test]
async fn rows_that_traded_come_back_under_any_seed() {
    futures::future::join_all(seeds().into_iter().map(trial)).await;
}

/// Two rows trade, a third changes; dies at the `nth` call of `op`, and the next one goes on.
async fn dies(op: Op, nth: u32, batch: usize, meanwhile: bool) -> bool {
    let case = format!("{op:?} {nth} of {batch}, {meanwhile}");
    let (world, ctx) = rows_with_isbns(batch).await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    let steps = [("b0", None), ("b1", Some("i0")), ("b0", Some("i1")), ("own", None)];
    let mut oracle = world.wanted("books");
    for (n, (key, isbn)) in steps.into_iter().enumerate() {
        let row = row(&world, key, &format!("{}.00", n + 5), isbn);
        world.new.foreign_put(world.table("books"), row.clone());
        oracle.insert(key.to_owned(), row);
    }
    mark_rolled_back(&world, &ctx).await;
    world.faults.lift(off);
    let latch = Latch::default();
    let hold = world.faults.put(op, "books", nth - 1, 1, Fault::Latch(latch.clone()));
    let died = tokio::select! {
        () = latch.caught() => true,
        ended = drained(&world) => {
            assert_eq!(ended.left, [""; 0], "{case}");
            false
        }
    };
    world.faults.lift(hold);
    if meanwhile {
        author(&world, "own");
        oracle.get_mut("own").unwrap()[3] = Cell::Text("a0".into());
    }
    assert_eq!(drained(&world).await.left, [""; 0], "{case}");
    assert_eq!(world.wanted("books"), oracle, "{case}");
    let state = world.journal.state();
    assert!(state.reverse.values().all(|r| r.strays == 0), "{case}: {:?}", state.reverse);
    assert_eq!(state.reverse["books"].left, Some(0), "{case}");
    let tally = world.reverse().outbox.tally(&world.plan.tables).await.unwrap()["books"];
    assert_eq!((tally.carried, tally.conflicts), (12, 0), "{case}: each key counts once, after the first nine");
    ctx.stop().await;
    died
}

#[tokio::test]
async fn a_death_at_any_call_of_a_trade_loses_nothing() {
    let calls = [Op::Take, Op::ItemRead, Op::Unfinished, Op::RecordOwnWrite, Op::ItemWrite, Op::Clear, Op::Done];
    for op in calls {
        for (batch, meanwhile) in [(1, false), (1, true), (16, false), (16, true)] {
            let all = (1..=9).map(|nth| dies(op, nth, batch, meanwhile));
            let died = futures::future::join_all(all).await;
            assert!(died[0], "{op:?} is never called");
        }
    }
}

#[tokio::test]
async fn a_trade_whose_answer_is_lost_is_made_once() {
    for kind in [ErrorKind::TimedOut, ErrorKind::Unreachable] {
        for fault in [Fault::FailAfter(kind), Fault::Refuse(kind)] {
            for nth in 0..5 {
                let (world, ctx) = rows_with_isbns(1).await;
                let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
                let mut oracle = world.wanted("books");
                for (key, isbn) in [("b0", None), ("b1", Some("i0")), ("b0", Some("i1"))] {
                    let row = row(&world, key, "7.00", isbn);
                    world.new.foreign_put(world.table("books"), row.clone());
                    oracle.insert(key.to_owned(), row);
                }
                mark_rolled_back(&world, &ctx).await;
                ctx.stop().await;
                world.faults.lift(off);
                // The first two are refused by themselves, the third is the trade.
                world.faults.put(Op::ItemWrite, "books", nth, 1, fault.clone());
                assert_eq!(drained(&world).await.left, [""; 0], "{fault:?} at {nth}");
                assert_eq!((world.wanted("books"), conflicts(&world)), (oracle, vec![]), "{fault:?} at {nth}");
            }
        }
    }
}
