//! Parked rows: counted, explained, and tried again when what they waited for has come.

use std::sync::Arc;

use super::faults::{Fault, Op};
use super::world::{World, until};
use crate::ports::ErrorKind;
use crate::workers::WorkerContext;

async fn loaded(world: &World) -> Arc<WorkerContext> {
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    ctx
}

/// Moves the clock so that retries come, until it is so.
async fn in_time(world: &World, what: &str, so: impl Fn() -> bool) {
    until(what, || {
        world.clock.advance(400);
        so()
    })
    .await;
}

#[tokio::test]
async fn every_source_row_is_in_the_target_or_in_the_ledger_never_in_both_or_in_neither() {
    let world = World::new();
    for n in 0..12 {
        let isbn = format!("isbn-{}", n % 9);
        let author = (n % 4 == 0).then(|| format!("nobody-{n}"));
        world.book_of(
            &format!("b{n:02}"),
            if n % 5 == 0 { "123456789" } else { "1.00" },
            Some(&isbn),
            author.as_deref(),
        );
    }
    let ctx = loaded(&world).await;
    let books = world.table("books");
    let stored = world.new.table(books);
    for key in world.old.items(books).keys() {
        let (row, parked) = (stored.rows.contains_key(key), stored.parked.contains_key(key));
        assert!(row != parked, "{key}: in the table {row}, in the ledger {parked}");
    }
    in_time(&world, "the board to know", || {
        ctx.measured().tables["books"].parked.values().sum::<u64>() == stored.parked.len() as u64
    })
    .await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_child_that_came_before_its_parent_comes_in_once_the_parent_is_there() {
    let world = World::new();
    world.author("a0");
    let ctx = loaded(&world).await;
    let books = world.table("books");
    world.book_of("b1", "1.00", None, Some("late"));
    until("the orphan to be parked", || world.new.table(books).parked.contains_key("b1")).await;
    world.author("late");
    in_time(&world, "the orphan to come in", || world.new.table(books).rows.contains_key("b1")).await;
    assert!(world.new.table(books).parked.is_empty());
    ctx.stop().await;
}

#[tokio::test]
async fn rows_that_wait_are_tried_however_many_others_are_parked() {
    let world = World::new();
    for n in 0..620 {
        world.book(&format!("misfit-{n:03}"), "123456789");
    }
    let ctx = loaded(&world).await;
    let books = world.table("books");
    assert_eq!(world.new.table(books).parked.len(), 620);
    world.book_of("b1", "1.00", None, Some("late"));
    until("the orphan to be parked", || world.new.table(books).parked.contains_key("b1")).await;
    world.author("late");
    in_time(&world, "an orphan behind 620 misfits to come in", || world.new.table(books).rows.contains_key("b1")).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_retry_that_fails_loses_nothing_and_comes_again() {
    let world = World::new();
    let ctx = loaded(&world).await;
    let books = world.table("books");
    world.book_of("b1", "1.00", None, Some("late"));
    until("the orphan to be parked", || world.new.table(books).parked.contains_key("b1")).await;
    world.author("late");
    world.faults.put(Op::Get, "books", 0, 1, Fault::Refuse(ErrorKind::Throttled));
    world.faults.put(Op::Apply, "books", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    in_time(&world, "the orphan to come in", || world.new.table(books).rows.contains_key("b1")).await;
    world.converged("books").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_parked_row_whose_item_is_deleted_leaves_the_ledger() {
    let world = World::new();
    world.book_of("b1", "1.00", None, Some("nobody"));
    let ctx = loaded(&world).await;
    let books = world.table("books");
    assert!(world.new.table(books).parked.contains_key("b1"));
    world.old.delete(books, "b1", false);
    in_time(&world, "the entry to go", || world.new.table(books).parked.is_empty()).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_parent_others_refer_to_is_not_dropped_silently() {
    let world = World::new();
    world.author("a1");
    world.book_of("b1", "1.00", None, Some("a1"));
    let ctx = loaded(&world).await;
    let authors = world.table("authors");
    world.old.delete(authors, "a1", false);
    until("the delete to be refused and said so", || world.new.table(authors).parked.contains_key("a1")).await;
    assert!(world.new.table(authors).rows.contains_key("a1"));
    // Once nobody refers to it the delete goes through.
    world.book_of("b1", "1.00", None, None);
    in_time(&world, "the parent to go", || !world.new.table(authors).rows.contains_key("a1")).await;
    assert!(world.new.table(authors).parked.is_empty());
    ctx.stop().await;
}

#[tokio::test]
async fn a_comparison_tries_what_waits_before_it_judges() {
    let world = World::new();
    for n in 0..3 {
        world.author(&format!("a{n}"));
        world.book_of(&format!("b{n}"), "1.00", None, Some(&format!("a{n}")));
    }
    let ctx = loaded(&world).await;
    let (authors, books) = (world.table("authors"), world.table("books"));
    // Two accounts become one: the parents go before the follower of the children has moved these.
    for n in 0..2 {
        world.old.delete(authors, &format!("a{n}"), false);
    }
    until("the deletes to be refused", || world.new.table(authors).parked.len() == 2).await;
    for n in 0..2 {
        world.book_of(&format!("b{n}"), "2.00", None, Some("a2"));
    }
    until("the children to have moved", || world.differing("books").is_empty()).await;
    assert_eq!(world.new.table(authors).parked.len(), 2, "the follower's own turn has not come");
    // A row that was refused for a value which has moved on meanwhile waits likewise.
    world.well(&ctx, &["verify"]).await;
    assert!(world.new.table(authors).parked.is_empty() && world.new.table(books).parked.is_empty());
    ctx.stop().await;
}
