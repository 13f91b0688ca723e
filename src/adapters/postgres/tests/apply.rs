//! Changes: rows, ledger, positions, markers and counters move together or not at all.

use std::collections::BTreeMap;

use super::neighbours::until;
use super::{AUTHOR, ISBN, TITLE, TestDatabase, book, delete, key_json, key_of, text, upsert, uuid_of, with};
use crate::adapters::postgres::owner;
use crate::domain::mapping::{Mapped, RowError, RowErrorReason as R};
use crate::domain::plan::Table;
use crate::domain::value::Cell;
use crate::ports::{ChangeBatch, ErrorKind, ParkedRow, Position, RowChange, Target as _};

fn rows(rows: Vec<RowChange>) -> ChangeBatch {
    ChangeBatch { rows, ..ChangeBatch::default() }
}

/// A book of a table without children.
fn bare(n: u32, title: &str) -> Mapped<'static> {
    Mapped { children: Vec::new(), ..book(n, title, &[]) }
}

fn at(shard: &str, position: &str) -> BTreeMap<String, Position> {
    BTreeMap::from([(shard.to_owned(), Position(position.to_owned()))])
}

fn park(n: u32) -> ParkedRow {
    let row_error = RowError::new("price", R::NumberRange);
    ParkedRow { table: "books".into(), key: key_of(n), row_error, key_json: key_json(n) }
}

#[tokio::test]
async fn upserts_replace_rows_and_children_and_deletes_take_them_away() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &(0..4).map(|n| book(n, "old", &["a", "b", "c"])).collect::<Vec<_>>()).await;
    let batch = rows(vec![upsert(book(1, "new", &["z"])), delete(2), delete(77), upsert(book(9, "added", &[]))]);
    let applied = db.target.apply(&table, batch).await.unwrap();
    assert_eq!((applied.upserted, applied.deleted, applied.parked.len()), (2, 1, 0));
    let titles = db.text("SELECT string_agg(title, ' ' ORDER BY id) FROM books").await;
    assert_eq!(titles.unwrap(), "old new old added");
    let keys: Vec<_> = [1, 2, 3].map(|n| vec![Cell::Uuid(uuid_of(n))]).into();
    let found = db.target.fetch(&table, &keys).await.unwrap();
    let (row, children) = found[0].as_ref().unwrap();
    assert_eq!(row[TITLE], text("new"));
    assert_eq!(children, &vec![vec![vec![Cell::Uuid(uuid_of(1)), Cell::Int(0), text("z")]]]);
    assert_eq!(found[1], None);
    assert_eq!(found[2].as_ref().unwrap().1[0].len(), 3);
}

#[tokio::test]
async fn a_parked_row_leaves_the_table_and_comes_back_when_it_fits() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "here", &["t"]), book(2, "stays", &[])]).await;
    let applied = db.target.apply(&table, rows(vec![RowChange::Park(park(1)), RowChange::Park(park(5))])).await;
    assert_eq!(applied.unwrap().parked, vec![]);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), vec![park(1), park(5)]);
    let seen = db.text("SELECT min(first_seen)::text FROM cutover.parked").await;
    // Parked again: one entry, first seen when it was.
    db.target.apply(&table, rows(vec![RowChange::Park(park(1))])).await.unwrap();
    assert_eq!(db.text("SELECT min(first_seen)::text FROM cutover.parked").await, seen);
    assert_eq!(db.target.ledger(&table).await.unwrap().0, BTreeMap::from([(R::NumberRange, 2)]));
    // One fits again, the other is deleted at the source: neither is parked any more.
    db.target.apply(&table, rows(vec![upsert(book(1, "back", &[])), delete(5)])).await.unwrap();
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), vec![]);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 2);
}

#[tokio::test]
async fn refused_rows_are_parked_and_their_old_versions_removed() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &(0..6).map(|n| book(n, "old", &["t"])).collect::<Vec<_>>()).await;
    let batch = ChangeBatch {
        from: BTreeMap::new(),
        rows: vec![
            upsert(book(0, "new", &[])),
            upsert(with(book(1, "new", &[]), ISBN, text("isbn-5"))),
            upsert(with(book(2, "new", &[]), AUTHOR, text("nobody"))),
            upsert(book(3, "new", &["u"])),
            upsert(with(book(4, "", &[]), TITLE, Cell::Bool(true))),
        ],
        positions: at("shard-1", "200"),
        ..ChangeBatch::default()
    };
    db.target.start_positions(&table, "stream-a", &at("shard-1", "100")).await.unwrap();
    let applied = db.target.apply(&table, batch).await.unwrap();
    assert_eq!(applied.upserted, 2);
    let parked: Vec<_> = applied.parked.iter().map(|p| (p.key.clone(), p.row_error.reason)).collect();
    assert_eq!(parked, vec![(key_of(1), R::DuplicateUnique), (key_of(2), R::ForeignKey)]);
    let titles = db.text("SELECT string_agg(title || right(id::text, 1), ' ' ORDER BY id) FROM books").await;
    assert_eq!(titles.unwrap(), "new0 new3 old5");
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap().len(), 3);
    let (_, positions) = db.target.positions(&table).await.unwrap().unwrap();
    assert_eq!(positions["shard-1"], Some(Position("200".into())));
}

#[tokio::test]
async fn rows_that_wait_for_others_of_their_batch_land() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "one", &[]), book(2, "two", &[])]).await;
    // Book 2 takes the isbn that book 1 gives up, and comes before it in the batch; one row is refused for good.
    let batch = rows(vec![
        upsert(with(book(2, "two", &[]), ISBN, text("isbn-1"))),
        upsert(with(book(1, "one", &[]), ISBN, text("free"))),
        upsert(with(book(3, "three", &[]), AUTHOR, text("nobody"))),
    ]);
    let applied = db.target.apply(&table, batch).await.unwrap();
    assert_eq!(applied.parked.iter().map(|p| p.key.clone()).collect::<Vec<_>>(), vec![key_of(3)]);
    assert_eq!(db.text("SELECT string_agg(isbn, ' ' ORDER BY id) FROM books").await.unwrap(), "free isbn-1");
}

#[tokio::test]
async fn a_delete_that_is_refused_waits_in_the_ledger() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "ordered", &["t"]), book(2, "free", &[])]).await;
    db.sql
        .batch_execute(&format!(
            "CREATE TABLE orders (book uuid REFERENCES books); INSERT INTO orders VALUES ('{}')",
            key_of(1)
        ))
        .await
        .unwrap();
    let applied = db.target.apply(&table, rows(vec![delete(1), delete(2)])).await.unwrap();
    assert_eq!((applied.deleted, applied.upserted), (1, 0));
    assert_eq!(applied.parked[0].row_error.reason, R::StillReferenced);
    assert_eq!(applied.parked[0].key_json, key_json(1));
    // The refused row is whole: its children were not taken away.
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 1);
    db.sql.batch_execute("DELETE FROM orders").await.unwrap();
    assert_eq!(db.target.apply(&table, rows(vec![delete(1)])).await.unwrap().deleted, 1);
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), vec![]);
}

#[tokio::test]
async fn positions_markers_and_expiry_go_with_the_rows() {
    let (db, table) = TestDatabase::with_books().await;
    assert_eq!(db.target.positions(&table).await.unwrap(), None);
    let start: BTreeMap<_, _> = [("s1", "100"), ("s2", "9")].map(|(s, p)| (s.into(), Position(p.into()))).into();
    db.target.start_positions(&table, "arn:1", &start).await.unwrap();
    // Again: what is there stays, what is new is added.
    let mut again = start.clone();
    again.insert("s1".into(), Position("5".into()));
    again.insert("s3".into(), Position("1".into()));
    db.target.start_positions(&table, "arn:1", &again).await.unwrap();
    let (stream, positions) = db.target.positions(&table).await.unwrap().unwrap();
    assert_eq!(stream, "arn:1");
    assert_eq!(positions["s1"], Some(Position("100".into())));
    assert_eq!(positions.len(), 3);
    let other = db.target.start_positions(&table, "arn:2", &start).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::Conflict);

    assert_eq!(db.target.marker(&table, "n1").await.unwrap(), None);
    let batch = ChangeBatch {
        rows: vec![upsert(book(1, "x", &[]))],
        from: BTreeMap::new(),
        positions: at("s1", "1000"),
        finished: vec!["s2".into()],
        markers: vec!["n1".into(), "n1".into()],
        expired: 3,
        counts: Vec::new(),
        fence: None,
    };
    let before = super::super::book::wall();
    db.target.apply(&table, batch.clone()).await.unwrap();
    // Delivered again: nothing changes but the counter, which counts every delivery.
    db.target.apply(&table, batch).await.unwrap();
    let (_, positions) = db.target.positions(&table).await.unwrap().unwrap();
    assert_eq!((&positions["s1"], &positions["s2"]), (&Some(Position("1000".into())), &None));
    let applied_at = db.target.marker(&table, "n1").await.unwrap().unwrap();
    assert!(applied_at >= before && applied_at <= super::super::book::wall());
    assert_eq!(db.target.ledger(&table).await.unwrap(), (BTreeMap::new(), 6));

    // A follower that is no longer the driver: nothing of its batch is done.
    let stale = ChangeBatch { rows: vec![delete(1)], positions: at("s1", "999"), ..ChangeBatch::default() };
    assert_eq!(db.target.apply(&table, stale).await.unwrap_err().kind, ErrorKind::Conflict);
    let reopened = ChangeBatch { rows: vec![delete(1)], positions: at("s2", "10"), ..ChangeBatch::default() };
    assert_eq!(db.target.apply(&table, reopened).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);

    db.target.reset(&table).await.unwrap();
    assert_eq!(db.target.positions(&table).await.unwrap(), None);
    assert_eq!(db.target.marker(&table, "n1").await.unwrap(), None);
    let unstarted = ChangeBatch { positions: at("s1", "1"), ..ChangeBatch::default() };
    assert_eq!(db.target.apply(&table, unstarted).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_batch_that_dies_leaves_neither_rows_nor_positions() {
    let (db, table) = TestDatabase::with_books().await;
    db.target.start_positions(&table, "arn:1", &at("s1", "1")).await.unwrap();
    // The server refuses the very last statement of the transaction for a reason that is not the data's.
    db.dies_at("marker", "true").await;
    let batch = ChangeBatch {
        rows: vec![upsert(book(1, "x", &[]))],
        positions: at("s1", "2"),
        markers: vec!["n".into()],
        ..ChangeBatch::default()
    };
    let error = db.target.apply(&table, batch.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
    assert_eq!(db.target.positions(&table).await.unwrap().unwrap().1["s1"], Some(Position("1".into())));
    db.sql.batch_execute("DROP TRIGGER no ON cutover.marker").await.unwrap();
    assert_eq!(db.target.apply(&table, batch).await.unwrap().upserted, 1);
}

#[tokio::test]
async fn a_batch_whose_fence_is_refused_leaves_its_connection_as_it_was() {
    let (db, table) = TestDatabase::with_books().await;
    // Without children the merge and the bookkeeping are sent together.
    let table = Table { children: Vec::new(), ..table };
    db.target.start_positions(&table, "arn:1", &at("s1", "1")).await.unwrap();
    let batch = |n: u32| ChangeBatch {
        rows: vec![upsert(bare(n, "x"))],
        positions: at("s1", &n.to_string()),
        ..ChangeBatch::default()
    };
    db.target.apply(&table, batch(2)).await.unwrap();
    // Somebody holds the stream's row until the server gives up waiting for it.
    db.sql.batch_execute("BEGIN; SELECT FROM cutover.stream FOR UPDATE").await.unwrap();
    let cancel = async {
        let waiting = "SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while db.number(waiting).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    let (refused, ()) = tokio::join!(db.target.apply(&table, batch(3)), cancel);
    assert!(refused.unwrap_err().came_back.contains("57014"));
    db.sql.batch_execute("COMMIT").await.unwrap();
    for n in 3..9 {
        assert_eq!(db.target.apply(&table, batch(n)).await.unwrap().upserted, 1, "{n}");
    }
    assert_eq!(db.number("SELECT count(*) FROM books").await, 7);
}

#[tokio::test]
async fn a_merge_that_is_refused_parks_what_is_refused_and_nothing_else() {
    let (db, table) = TestDatabase::with_books().await;
    let table = Table { children: Vec::new(), ..table };
    db.target.start_positions(&table, "arn:1", &at("s1", "1")).await.unwrap();
    let twin = |n: u32| with(bare(n, "twin"), ISBN, text("978-0"));
    let batch = ChangeBatch {
        rows: vec![upsert(twin(1)), upsert(bare(2, "fine")), upsert(twin(3))],
        positions: at("s1", "2"),
        ..ChangeBatch::default()
    };
    let applied = db.target.apply(&table, batch).await.unwrap();
    assert_eq!((applied.upserted, applied.parked.len()), (2, 1));
    assert_eq!(applied.parked[0].row_error.reason, R::DuplicateUnique);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 2);
    assert_eq!(db.target.positions(&table).await.unwrap().unwrap().1["s1"], Some(Position("2".into())));
}

#[tokio::test]
async fn a_batch_that_waits_for_its_turn_holds_no_table() {
    let (db, mut table) = TestDatabase::with_books().await;
    table.children.clear();
    // Another session has the turn, as a process that arms the capture does, and will want the table next.
    let turn = format!("BEGIN; SELECT pg_advisory_xact_lock({})", owner::thaw(super::PLAN));
    db.sql.batch_execute(&turn).await.unwrap();
    let applied = db.target.apply(&table, rows(vec![upsert(bare(1, "waits"))]));
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let next = async {
        until(&db.sql, &format!("({waits})")).await;
        db.sql.batch_execute("LOCK TABLE books IN ACCESS EXCLUSIVE MODE NOWAIT").await.unwrap();
        db.sql.batch_execute("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(applied, next);
    assert_eq!(applied.unwrap().upserted, 1);
}
