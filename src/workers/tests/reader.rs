//! Reading a shard on ahead of what is applied.

use std::sync::Arc;

use super::faults::{Fault, Op};
use super::world::{World, until};
use crate::ports::{ErrorKind, Position, ReadFrom};
use crate::workers::WorkerContext;
use crate::workers::reader::{Answer, Reader, ShardRef, read};

/// A stream with so many changes, read one at a time, and a reader behind the first of them.
async fn reading(changes: u32) -> (World, Arc<WorkerContext>, Answer, Reader) {
    let mut world = World::new();
    world.old.page = 1;
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture"]).await;
    for n in 0..changes {
        world.book(&format!("b{n}"), "1.00");
    }
    let stream = ctx.ports.changes(world.table("books")).stream(world.table("books")).await.unwrap().unwrap();
    let shard_ref = ShardRef {
        store: crate::domain::plan::OLD.into(),
        source: "Shop-books".into(),
        stream: stream.id,
        shard: stream.shards[0].id.clone(),
    };
    let first = read(&ctx, &shard_ref, None, Ok(ReadFrom::Oldest)).await.unwrap();
    let (last, next) = first.goes_on().map(|(last, next)| (last.clone(), next.to_owned())).unwrap();
    let reader = Reader::start(&ctx, shard_ref, &last, &next);
    (world, ctx, first, reader)
}

fn positions(answers: &[Answer]) -> Vec<&Position> {
    answers.iter().flat_map(|a| &a.batch.changes).map(|c| &c.position).collect()
}

#[tokio::test]
async fn answers_come_in_order_and_the_reading_ends_with_the_first_empty_one() {
    let (_world, ctx, first, mut reader) = reading(6).await;
    let mut answers = vec![first];
    while reader.take(None, &mut answers).await.unwrap() {}
    let seen: Vec<u64> = positions(&answers).iter().map(|p| p.0.parse().unwrap()).collect();
    assert_eq!(seen.len(), 6);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(answers.last().unwrap().goes_on().is_none());
    ctx.stop().await;
}

#[tokio::test]
async fn a_read_that_began_before_is_not_taken_for_one_that_began_after() {
    let (world, ctx, _, mut reader) = reading(9).await;
    // The reader is as far ahead as it may be, and waits.
    let calls = || world.faults.calls(Op::Read);
    until("two answers to wait", || calls() == 3).await;
    tokio::task::yield_now().await;
    assert_eq!(calls(), 3, "no more than may wait");
    world.clock.advance(1_000);
    let since = ctx.mono();
    let mut answers = Vec::new();
    assert!(reader.take(Some(since), &mut answers).await.unwrap());
    let fresh: Vec<bool> = answers.iter().map(|a| a.mono >= since).collect();
    assert!(fresh.len() >= 3 && !fresh[0] && !fresh[1] && fresh[2], "{fresh:?}");
    // Where the reading ended before, there is no such read: the caller has to make one.
    let (world, ctx, _, mut reader) = reading(2).await;
    until("the end of the reading", || world.faults.calls(Op::Read) == 3).await;
    world.clock.advance(1_000);
    let mut answers = Vec::new();
    assert!(!reader.take(Some(ctx.mono()), &mut answers).await.unwrap());
    assert_eq!(positions(&answers).len(), 1);
    ctx.stop().await;
}

#[tokio::test]
async fn what_was_read_before_a_failure_is_given_with_it() {
    let (world, ctx, _, mut reader) = reading(9).await;
    until("two answers to wait", || world.faults.calls(Op::Read) == 3).await;
    world.faults.always(Op::Read, Fault::Refuse(ErrorKind::Throttled));
    let mut answers = Vec::new();
    while let Ok(more) = reader.take(None, &mut answers).await {
        assert!(more, "it ended without saying why");
    }
    assert_eq!(positions(&answers).len(), 2);
    ctx.stop().await;
}
