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
    if !store.abilities().references {
        assert_eq!((applied.deleted, applied.parked.len()), (1, 0), "nothing holds it back");
        assert!(keys(&*target, &parents).await.is_empty());
        return;
    }
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

pub(crate) async fn two_rows_with_one_unique_value_are_one_row_where_the_store_knows_unique_columns(
    store: &impl TargetStore,
) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let mut other = book("b2", "2");
    other.fields.retain(|(name, _)| name != "isbn");
    other.fields.push(("isbn".into(), crate::domain::value::Value::Text("isbn-b1".into())));
    let both = vec![upsert(&table, &book("b1", "1")), upsert(&table, &other)];
    let applied = target.apply(&table, rows(both)).await.unwrap();
    let refused: Vec<_> = applied.parked.iter().map(|p| p.row_error.reason).collect();
    let (landed, wanted) = match store.abilities().unique {
        true => (1, vec![RowErrorReason::DuplicateUnique]),
        false => (2, Vec::new()),
    };
    assert_eq!((applied.upserted, refused), (landed, wanted));
}

/// Books that no transaction of any store holds together.
fn many(price: &str) -> Vec<RowChange> {
    (0..450).map(|n| upsert(&books(), &book(&format!("b{n:03}"), price))).collect()
}

pub(crate) async fn a_large_batch_lands_whole_with_its_positions(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    target.start_positions(&table, "stream-1", &reached(1)).await.unwrap();
    for lanes in [1, 4] {
        let fence = target.resume_follow(&table, lanes).await.unwrap().unwrap().fence;
        let reaches = 100 * u64::from(lanes);
        let price_of = format!("{lanes}.5");
        let finished = if lanes == 4 { vec!["shard-0".to_owned()] } else { Vec::new() };
        let batch = ChangeBatch {
            rows: many(&price_of),
            positions: reached(reaches),
            finished,
            // One that was put twice, by an earlier run say, comes twice.
            markers: vec![format!("n-{lanes}"), format!("n-{lanes}")],
            expired: 3,
            fence: Some(fence),
            ..ChangeBatch::default()
        };
        let applied = target.apply(&table, batch).await.unwrap();
        assert_eq!((applied.upserted, applied.deleted, applied.parked.len()), (450, 0, 0));
        assert_eq!(keys(&*target, &table).await.len(), 450);
        assert_eq!(price(&*target, "b449").await.as_deref(), Some(price_of.as_str()));
        let (_, positions) = store.another().positions(&table).await.unwrap().unwrap();
        assert_eq!(positions["shard-1"], Some(Position(reaches.to_string())));
        assert!(target.marker(&table, &format!("n-{lanes}")).await.unwrap().is_some());
    }
    let (_, positions) = target.positions(&table).await.unwrap().unwrap();
    assert_eq!(positions["shard-0"], None, "its end");
    assert_eq!(target.ledger(&table).await.unwrap().1, 6, "rows that expired are counted once");
    let gone = (0..450).map(|n| delete(&format!("b{n:03}"))).collect();
    let applied = target.apply(&table, rows(gone)).await.unwrap();
    assert_eq!(applied.deleted, 450);
    assert!(keys(&*target, &table).await.is_empty());
}

pub(crate) async fn a_large_batch_of_an_overtaken_follower_lands_nowhere(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    target.start_positions(&table, "stream-1", &reached(1)).await.unwrap();
    let first = target.resume_follow(&table, 4).await.unwrap().unwrap().fence;
    let batch = |fence, n, price: &str| ChangeBatch {
        rows: many(price),
        positions: reached(n),
        fence: Some(fence),
        ..ChangeBatch::default()
    };
    let second = store.another().resume_follow(&table, 2).await.unwrap().unwrap();
    let refused = target.apply(&table, batch(first, 50, "1")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(keys(&*target, &table).await.is_empty());
    let applied = store.another().apply(&table, batch(second.fence, 50, "2")).await.unwrap();
    assert_eq!(applied.upserted, 450);
    // A late one of the first changes nothing, whatever it reached.
    assert_eq!(target.apply(&table, batch(first, 60, "3")).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(price(&*target, "b007").await.as_deref(), Some("2"));
    // Nor does anybody's once customers are there.
    target.open_to_customers(std::slice::from_ref(&table)).await.unwrap();
    let refused = store.another().apply(&table, batch(second.fence, 70, "4")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert_eq!(price(&*target, "b007").await.as_deref(), Some("2"));
}

pub(crate) async fn the_ledger_is_read_in_pages_and_by_key(store: &impl TargetStore) {
    use crate::domain::value::Key;
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let ids: Vec<String> = (0..25).map(|n| format!("b{n:02}")).collect();
    let reason = |n: usize| if n.is_multiple_of(5) { RowErrorReason::TooLong } else { RowErrorReason::NumberRange };
    let parks = ids.iter().enumerate().map(|(n, id)| RowChange::Park(parked(&table, id, reason(n)))).collect();
    target.apply(&table, rows(parks)).await.unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = target.parked(&table, None, after.as_ref(), 10).await.unwrap();
        let last = page.len() < 10;
        after = page.last().map(|row| row.key.clone());
        found.extend(page.into_iter().map(|row| row.key.0));
        if last {
            break;
        }
    }
    assert_eq!(found, ids, "each once, in order");
    let long = target.parked(&table, Some(&[RowErrorReason::TooLong]), Some(&Key("b05".into())), 9).await.unwrap();
    assert_eq!(long.iter().map(|row| row.key.0.as_str()).collect::<Vec<_>>(), ["b10", "b15", "b20"]);
    let by_key = target.parked_since(&table, &[Key("b07".into()), Key("none".into())]).await.unwrap();
    assert!(by_key[0].as_ref().is_some_and(|(row, at)| row.key.0 == "b07" && at.0 > 0) && by_key[1].is_none());
    let (reasons, expired) = target.ledger(&table).await.unwrap();
    assert_eq!((reasons[&RowErrorReason::TooLong], reasons[&RowErrorReason::NumberRange], expired), (5, 20, 0));
    target.apply(&table, rows(vec![upsert(&table, &book("b07", "1")), delete_without_row("b08")])).await.unwrap();
    let left = target.parked(&table, None, Some(&Key("b06".into())), 1).await.unwrap();
    assert_eq!(left[0].key.0, "b09", "what lands or goes leaves the ledger");
}

pub(crate) async fn a_load_that_goes_on_from_elsewhere_is_told_so(store: &impl TargetStore) {
    let (target, table) = (store.target(), books());
    prepared(&*target).await;
    let mut bulk = target.bulk(&table, WHOLE).await.unwrap();
    bulk.goes_on_from(None);
    push(&mut *bulk, &[book("b1", "1")]);
    bulk.flush(Vec::new(), &checkpoint(1, 0, false)).await.unwrap();
    // The same flush again is one whose answer was lost.
    push(&mut *bulk, &[book("b1", "1")]);
    bulk.flush(Vec::new(), &checkpoint(1, 0, false)).await.unwrap();
    let elsewhere = Cursor(r#"{"id":{"S":"b5"}}"#.to_owned());
    bulk.goes_on_from(Some(elsewhere));
    push(&mut *bulk, &[book("b2", "1")]);
    let refused = bulk.flush(Vec::new(), &checkpoint(2, 0, true)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Rewound, "{refused}");
    assert_eq!(target.checkpoints(&table).await.unwrap(), [checkpoint(1, 0, false)]);
}
