//! What a target promises.

use std::collections::BTreeMap;

use super::TargetStore;
use super::tables::{
    WHOLE, authors, book, book_of, books, delete, delete_without_row, item, keys, mapped, parked, prepared, price,
    upsert,
};
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::Table;
use crate::domain::value::Record;
use crate::ports::{Bulk, ChangeBatch, Checkpoint, Cursor, ErrorKind, Fence, Position, RowChange, Target};

fn checkpoint(rows: u64, parked: u64, done: bool) -> Checkpoint {
    let cursor = (!done).then(|| Cursor(r#"{"id":{"S":"b9"}}"#.to_owned()));
    Checkpoint { part: WHOLE, cursor, rows, parked, done }
}

fn push(bulk: &mut dyn Bulk, items: &[Record<'static>]) {
    for item in items {
        bulk.push(&mapped(&books(), item)).unwrap();
    }
}

fn reached(n: u64) -> BTreeMap<String, Position> {
    BTreeMap::from([("shard-1".to_owned(), Position(n.to_string()))])
}

/// Rows alone, as a repair writes them.
fn rows(rows: Vec<RowChange>) -> ChangeBatch {
    ChangeBatch { rows, ..ChangeBatch::default() }
}

async fn followed(target: &dyn Target, table: &Table) -> Fence {
    target.start_positions(table, "stream-1", &reached(1)).await.unwrap();
    target.resume_follow(table, 1).await.unwrap().unwrap().fence
}

pub(crate) async fn a_flush_lands_rows_parked_rows_and_checkpoint_together(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let mut bulk = target.bulk(&table, WHOLE).await.unwrap();
    push(&mut *bulk, &[book("b1", "1"), book("b2", "2")]);
    assert!(bulk.buffered() > 0 && keys(&*target, &table).await.is_empty(), "nothing lands before a flush");
    let parked = parked(&table, "b3", RowErrorReason::NumberRange);
    let applied = bulk.flush(vec![parked.clone()], &checkpoint(2, 1, false)).await.unwrap();
    assert_eq!((applied.upserted, applied.parked.len(), bulk.buffered()), (2, 0, 0));
    assert_eq!(keys(&*store.another(), &table).await, ["b1", "b2"]);
    assert_eq!(target.checkpoints(&table).await.unwrap(), [checkpoint(2, 1, false)]);
    assert_eq!(target.parked(&table, None, None, 9).await.unwrap(), [parked]);
    // What was pushed and not flushed is nowhere.
    push(&mut *bulk, &[book("b4", "4")]);
    drop(bulk);
    assert_eq!(keys(&*target, &table).await, ["b1", "b2"]);
}

pub(crate) async fn two_rows_with_one_key_in_one_flush_are_not_folded_into_one(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let mut bulk = target.bulk(&table, WHOLE).await.unwrap();
    push(&mut *bulk, &[book("b1", "1"), book("b1", "2"), book("b2", "3")]);
    let applied = bulk.flush(Vec::new(), &checkpoint(3, 0, true)).await.unwrap();
    let refused: Vec<_> = applied.parked.iter().map(|p| (p.key.0.as_str(), p.row_error.reason)).collect();
    assert_eq!(refused, [("b1", RowErrorReason::DuplicateUnique)]);
    assert_eq!(target.checkpoints(&table).await.unwrap(), [checkpoint(2, 1, true)], "it is parked and not written");
    assert_eq!(keys(&*target, &table).await, ["b1", "b2"]);
    assert_eq!(price(&*target, "b1").await.as_deref(), Some("1"));
}

pub(crate) async fn a_flush_of_an_overtaken_process_writes_nothing(store: &impl TargetStore) {
    let (target, other, table) = (store.target(), store.another(), books());
    prepared(&*target).await;
    target.lease("run-1", "one", 60_000).await.unwrap();
    let mut bulk = target.bulk(&table, WHOLE).await.unwrap();
    push(&mut *bulk, &[book("b1", "1")]);
    other.seize("run-1", "two", 60_000).await.unwrap();
    let refused = bulk.flush(Vec::new(), &checkpoint(1, 0, true)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(keys(&*other, &table).await.is_empty() && other.checkpoints(&table).await.unwrap().is_empty());
    // Nor does what it opens from now on.
    let mut late = target.bulk(&table, WHOLE).await.unwrap();
    push(&mut *late, &[book("b1", "1")]);
    assert_eq!(late.flush(Vec::new(), &checkpoint(1, 0, true)).await.unwrap_err().kind, ErrorKind::Conflict);
}

pub(crate) async fn a_start_is_kept_and_another_stream_is_a_conflict(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    assert_eq!(target.positions(&table).await.unwrap(), None);
    assert!(target.resume_follow(&table, 1).await.unwrap().is_none(), "nobody follows before a start is stored");
    target.start_positions(&table, "stream-1", &reached(5)).await.unwrap();
    target.start_positions(&table, "stream-1", &reached(9)).await.unwrap();
    let (stream, positions) = store.another().positions(&table).await.unwrap().unwrap();
    assert_eq!(
        (stream.as_str(), &positions["shard-1"]),
        ("stream-1", &Some(Position("5".into()))),
        "the first start stays"
    );
    let refused = target.start_positions(&table, "stream-2", &reached(9)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
}

pub(crate) async fn a_token_is_never_given_out_twice_and_the_earlier_one_is_refused(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let first = followed(&*target, &table).await;
    let second = store.another().resume_follow(&table, 1).await.unwrap().unwrap().fence;
    assert!(second.token > first.token);
    let batch = |fence| ChangeBatch { positions: reached(7), fence: Some(fence), ..ChangeBatch::default() };
    let refused = target.apply(&table, batch(first)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    target.apply(&table, batch(second)).await.unwrap();
    target.reset(&table).await.unwrap();
    let third = followed(&*target, &table).await;
    assert!(third.token > second.token, "not even after a table began anew");
}

pub(crate) async fn following_is_not_resumed_by_a_process_that_lost_the_lease(store: &impl TargetStore) {
    let (target, other, table) = (store.target(), store.another(), books());
    prepared(&*target).await;
    target.lease("run-1", "one", 60_000).await.unwrap();
    target.start_positions(&table, "stream-1", &reached(1)).await.unwrap();
    target.resume_follow(&table, 1).await.unwrap().unwrap();
    other.seize("run-1", "two", 60_000).await.unwrap();
    let refused = target.resume_follow(&table, 1).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(other.resume_follow(&table, 1).await.unwrap().is_some());
}

pub(crate) async fn positions_never_go_back(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let fence = followed(&*target, &table).await;
    let batch = |n, rows| ChangeBatch { rows, positions: reached(n), fence: Some(fence), ..ChangeBatch::default() };
    target.apply(&table, batch(100, vec![upsert(&table, &book("b1", "1"))])).await.unwrap();
    // Fewer digits are less, whatever their text says; the same position again is no step back.
    let refused = target.apply(&table, batch(99, vec![upsert(&table, &book("b1", "2"))])).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    target.apply(&table, batch(100, Vec::new())).await.unwrap();
    assert_eq!(price(&*target, "b1").await.as_deref(), Some("1"), "nothing of a refused batch lands");
}

pub(crate) async fn only_rows_that_were_there_count_as_deleted(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let applied = target.apply(&table, rows(vec![upsert(&table, &book("b1", "1"))])).await.unwrap();
    assert_eq!(applied.upserted, 1);
    let gone = vec![delete("b1"), delete("never"), delete_without_row("odd")];
    let applied = target.apply(&table, rows(gone)).await.unwrap();
    assert_eq!((applied.upserted, applied.deleted, applied.parked.len()), (0, 1, 0));
}

pub(crate) async fn a_delete_that_a_reference_refuses_is_parked_as_still_referenced(store: &impl TargetStore) {
    let (target, parents, children) = (store.target(), authors(), books());
    prepared(&*target).await;
    target.apply(&parents, rows(vec![upsert(&parents, &item(&[("id", "a1"), ("name", "n")]))])).await.unwrap();
    target.apply(&children, rows(vec![upsert(&children, &book_of("b1", "1", "a1"))])).await.unwrap();
    let applied = target.apply(&parents, rows(vec![delete("a1")])).await.unwrap();
    let refused: Vec<_> = applied.parked.iter().map(|p| p.row_error.reason).collect();
    assert_eq!((applied.deleted, refused), (0, vec![RowErrorReason::StillReferenced]));
    assert_eq!(keys(&*target, &parents).await, ["a1"], "the row stays as long as anything refers to it");
    target.apply(&children, rows(vec![delete("b1")])).await.unwrap();
    let applied = target.apply(&parents, rows(vec![delete("a1")])).await.unwrap();
    let (parked, _) = target.ledger(&parents).await.unwrap();
    assert_eq!((applied.deleted, parked.len()), (1, 0), "it leaves the ledger when it goes");
}

pub(crate) async fn rows_of_a_process_without_the_lease_are_refused_without_positions_too(store: &impl TargetStore) {
    let (target, other, table) = (store.target(), store.another(), books());
    prepared(&*target).await;
    target.lease("run-1", "one", 60_000).await.unwrap();
    let repair = || rows(vec![upsert(&books(), &book("b1", "1"))]);
    target.apply(&table, repair()).await.unwrap();
    other.seize("run-1", "two", 60_000).await.unwrap();
    assert_eq!(target.apply(&table, repair()).await.unwrap_err().kind, ErrorKind::Conflict);
    let refused = target.lease("run-1", "one", 60_000).await.unwrap_err();
    assert_eq!(refused.held_by.map(|held| held.holder).as_deref(), Some("two"));
    other.apply(&table, repair()).await.unwrap();
}

pub(crate) async fn a_table_that_is_open_to_customers_refuses_rows_and_no_other_does(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let fence = followed(&*target, &table).await;
    let open = std::slice::from_ref(&table);
    target.open_to_customers(open).await.unwrap();
    let first = target.opened_to_customers(open).await.unwrap().unwrap();
    target.open_to_customers(open).await.unwrap();
    let opened = store.another().opened_to_customers(&[authors(), table.clone()]).await.unwrap().unwrap();
    assert_eq!(opened, first, "the first time stays");
    assert_eq!((opened.table.as_str(), opened.run.as_str()), ("books", "run-1"));
    assert_eq!(target.opened_to_customers(&[authors()]).await.unwrap(), None);
    let refused = target.apply(&table, rows(vec![upsert(&table, &book("b1", "1"))])).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    let author = upsert(&authors(), &item(&[("id", "a1"), ("name", "n")]));
    target.apply(&authors(), rows(vec![author])).await.unwrap();
    // The old side is still watched: positions move, rows do not.
    let watched = ChangeBatch { positions: reached(9), fence: Some(fence), ..ChangeBatch::default() };
    target.apply(&table, watched).await.unwrap();
}
