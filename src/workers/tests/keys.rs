//! Keys that would become one in the target, and keys that the target would not give back as they are.

use std::sync::Arc;

use super::faults::{Fault, Op};
use super::world::{Entry, World, until};
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::{ColumnType, Table};
use crate::domain::run::Event;
use crate::domain::value::{Cell, Record, Value};
use crate::ports::ErrorKind;
use crate::workers::reverse::drain;
use crate::workers::{CapturedValues, WorkerContext, candidate, repair, retry_parked};

const LOWER: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// The test's world with another type of the books' key.
fn world(ty: ColumnType) -> World {
    let mut plan = (*World::new().plan).clone();
    plan.tables[0].columns[0].ty = ty;
    World::with(plan)
}

/// Books by key: how many rows and parked rows, and the reason of this one.
fn stands(world: &World, key: &str) -> (usize, usize, Option<RowErrorReason>) {
    let stored = world.new.table(world.table("books"));
    let reason = stored.parked.get(key).map(|(_, row)| row.row_error.reason);
    (stored.rows.len(), stored.parked.len(), reason)
}

async fn loaded(world: &World) -> Arc<WorkerContext> {
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    ctx
}

#[tokio::test]
async fn two_spellings_of_one_uuid_stay_two_keys_in_load_and_follow() {
    let (world, upper) = (world(ColumnType::Uuid), LOWER.to_uppercase());
    world.book(LOWER, "1.00");
    world.book(&upper, "2.00");
    let ctx = loaded(&world).await;
    let books = world.table("books");
    assert_eq!(stands(&world, &upper), (1, 1, Some(RowErrorReason::KeyForm)));
    let checkpoints = world.new.table(books).checkpoints;
    let counted = checkpoints.values().fold((0, 0), |sum, c| (sum.0 + c.rows, sum.1 + c.parked));
    assert_eq!(counted, (1, 1), "the account of the load");
    assert_eq!(world.differing("books"), [""; 0]);

    // Changes of the one touch nothing of the other.
    let price = |world: &World| world.new.table(books).rows[LOWER][1].clone();
    let last = |n: u32| world.book("00000000-0000-4000-8000-000000000000", &format!("{n}.00"));
    let applied = |n: u32| {
        let world = &world;
        async move {
            let rows = || world.new.table(world.table("books")).rows;
            let want = Cell::Numeric(n.to_string().into());
            let there = || rows().get("00000000-0000-4000-8000-000000000000").is_some_and(|r| r[1] == want);
            until("what was written before to be applied", there).await;
        }
    };
    world.book(&upper, "3.00");
    last(1);
    applied(1).await;
    assert_eq!(price(&world), Cell::Numeric("1".into()));
    assert_eq!(stands(&world, &upper), (2, 1, Some(RowErrorReason::KeyForm)));
    // Tried again by hand it stays where it is, and still touches nothing.
    let tried = retry_parked(&ctx, books, None).await.unwrap();
    assert_eq!((tried.tried, tried.stayed), (1, 1));
    assert_eq!(price(&world), Cell::Numeric("1".into()));
    let key = candidate(&ctx, books, &upper).await.unwrap();
    // Not while another plan has a table: nothing is written, and no intent is on record.
    let intents = || {
        let all = world.journal.entries();
        all.iter().filter(|e| matches!(e, Entry::Fact(Event::Intent { .. }))).count()
    };
    let (before, rule) = (intents(), world.faults.always(Op::Claim, Fault::Refuse(ErrorKind::Conflict)));
    repair(&ctx, books, std::slice::from_ref(&key)).await.expect_err("another plan has it");
    retry_parked(&ctx, books, None).await.expect_err("another plan has it");
    assert_eq!(intents(), before);
    world.faults.lift(rule);
    let again = repair(&ctx, books, &[key]).await.unwrap();
    assert_eq!((again.parked, again.left), (1, 0));
    assert_eq!(price(&world), Cell::Numeric("1".into()));
    world.old.delete(books, &upper, false);
    last(2);
    applied(2).await;
    assert_eq!(stands(&world, &upper), (2, 0, None), "gone at the source: neither a row nor in the ledger");
    assert_eq!(price(&world), Cell::Numeric("1".into()));
    // One that comes by the stream is parked as well.
    world.book(&upper, "4.00");
    last(3);
    applied(3).await;
    assert_eq!(stands(&world, &upper), (2, 1, Some(RowErrorReason::KeyForm)));
    world.old.delete(books, LOWER, false);
    last(4);
    applied(4).await;
    assert_eq!(stands(&world, &upper), (1, 1, Some(RowErrorReason::KeyForm)));
    world.well(&ctx, &["verify"]).await;
    ctx.stop().await;
}

/// A customer of the new side puts a book under this key.
fn customer_puts(world: &World, table: &Table, id: Cell<'static>) {
    let mut row: Vec<Cell<'static>> = vec![Cell::Null; table.columns.len()];
    row[0] = id;
    row[1] = Cell::Numeric("9.5".into());
    world.new.foreign_put(table, row);
}

/// Every step, then what a customer does, then the rollback; gives what is left.
async fn round_trip(world: &World, customer: impl FnOnce(&Table)) -> Vec<String> {
    let ctx = world.ctx().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).collect();
    world.well(&ctx, &steps).await;
    ctx.stop().await;
    customer(world.table("books"));
    assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
    drain(&world.plan, &world.journal.state().run, &world.reverse(), &world.journal, &*world.clock, true).await.left
}

fn price(item: &Record<'static>) -> Value<'static> {
    item.get("price").unwrap().clone()
}

#[tokio::test]
async fn the_way_back_writes_to_the_items_of_its_rows_only() {
    let (world, upper) = (world(ColumnType::Uuid), LOWER.to_uppercase());
    let own = "00000000-0000-4000-8000-000000000001";
    world.book(own, "1.00");
    // More than the first page, which the arm step reads.
    for n in 0..40 {
        world.book(&format!("00000000-0000-4000-9000-{n:012}"), "1.00");
    }
    world.book(&upper, "2.00");
    let bytes = |text: &str| uuid::Uuid::parse_str(text).unwrap().into_bytes();
    let left = round_trip(&world, |books| {
        customer_puts(&world, books, Cell::Uuid(bytes(own)));
        customer_puts(&world, books, Cell::Uuid(bytes(LOWER)));
    })
    .await;
    assert_eq!(left, [""; 0]);
    let items = world.old.items(world.table("books"));
    assert_eq!(items.len(), 43, "the customer's own is new, and no other");
    let found = [own, LOWER, upper.as_str()].map(|key| price(&items[key]));
    assert_eq!(found, ["9.5", "9.5", "2.00"].map(|n| Value::Decimal(n.into())));
}

#[tokio::test]
async fn an_item_that_never_became_a_row_is_not_written_over_on_the_way_back() {
    let world = world(ColumnType::Varchar(4));
    world.book("b1", "1.00");
    world.book("longer", "2.00");
    let left = round_trip(&world, |books| customer_puts(&world, books, Cell::Text("longer".into()))).await;
    assert!(left.len() == 1 && left[0].contains("books") && left[0].contains("longer"), "{left:?}");
    let items = world.old.items(world.table("books"));
    assert_eq!(price(&items["longer"]), Value::Decimal("2.00".into()), "the parked item of another customer");
}
