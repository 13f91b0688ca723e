//! Bulk load: everything or nothing per flush, and only refused rows are left out.

use std::collections::BTreeMap;

use super::{AUTHOR, ISBN, PRICE, TITLE, TestDatabase, book, checkpoint, key_of, text, uuid_of, with};
use crate::domain::mapping::{Mapped, RowError, RowErrorReason as R};
use crate::domain::value::Cell;
use crate::ports::{Checkpoint, ErrorKind, ParkedRow, Partition, Target as _};

const PART: Partition = Partition { index: 0, of: 1 };

fn reasons(parked: &[ParkedRow]) -> BTreeMap<String, (String, R)> {
    parked.iter().map(|p| (p.key.0.clone(), (p.row_error.column.clone(), p.row_error.reason))).collect()
}

#[tokio::test]
async fn rows_children_and_checkpoint_land_together() {
    let (db, table) = TestDatabase::with_books().await;
    let mut bulk = db.target.bulk(&table, PART).await.unwrap();
    assert_eq!(bulk.buffered(), 0);
    for n in 0..500 {
        bulk.push(&book(n, "a title", &["x", "y"])).unwrap();
    }
    assert!(bulk.buffered() > 500 * 50);
    let source_parked = ParkedRow {
        table: "books".into(),
        key: key_of(9_999),
        row_error: RowError::new("title", R::Missing),
        key_json: super::key_json(9_999),
    };
    let given = Checkpoint { parked: 1, ..checkpoint(500) };
    let applied = bulk.flush(vec![source_parked.clone()], &given).await.unwrap();
    assert_eq!((applied.upserted, applied.parked.len()), (500, 0));
    assert_eq!(bulk.buffered(), 0);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 500);
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 1000);
    assert_eq!(db.target.checkpoints(&table).await.unwrap(), vec![given]);
    assert_eq!(db.target.parked(&table, None, None, 10).await.unwrap(), vec![source_parked]);
    // The buffer is reused.
    bulk.push(&book(500, "another", &[])).unwrap();
    let done = Checkpoint { cursor: None, rows: 501, parked: 1, done: true, part: PART };
    assert_eq!(bulk.flush(vec![], &done).await.unwrap().upserted, 1);
    assert_eq!(db.target.checkpoints(&table).await.unwrap(), vec![done]);
    let mut children = Vec::new();
    db.target.scan_child(&table, 0, &mut |r| children.push(super::owned(r))).await.unwrap();
    assert_eq!(children.len(), 1000);
    assert_eq!(children[1], vec![Cell::Uuid(uuid_of(0)), Cell::Int(1), text("y")]);
    // A child table that the plan does not have is an error, not an empty table.
    assert_eq!(db.target.scan_child(&table, 1, &mut |_| {}).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn only_refused_rows_are_parked() {
    let (db, table) = TestDatabase::with_books().await;
    let mut rows: Vec<Mapped<'static>> = (0..200).map(|n| book(n, "fine", &["t"])).collect();
    rows[17] = with(book(17, "same isbn", &[]), ISBN, text("isbn-3"));
    rows[50] = with(book(50, "no author", &[]), AUTHOR, text("nobody"));
    rows[51] = with(book(51, "below zero", &[]), PRICE, Cell::Numeric("-1".into()));
    rows[99] = with(book(99, "", &[]), TITLE, Cell::Null);
    rows[120] = with(book(120, "", &[]), TITLE, text(&"long ".repeat(9)));
    rows[121] = with(book(121, "nul\0", &[]), TITLE, text("nul\0"));
    rows[150] = with(book(150, "too much", &[]), PRICE, Cell::Numeric("123456789.5".into()));
    rows[160] = with(book(160, "wrong cell", &[]), PRICE, Cell::Bool(true));
    // When the server refuses a child, its parent is parked too: half a row is not written.
    rows[199].children[0][0][2] = Cell::Null;
    let applied = db.load(&table, &rows).await;
    assert_eq!(applied.upserted, 191);
    let expected: BTreeMap<String, (String, R)> = [
        (17, "isbn", R::DuplicateUnique),
        (50, "author", R::ForeignKey),
        (51, "-", R::Refused),
        (99, "title", R::Refused),
        (120, "-", R::TooLong),
        (121, "-", R::Nul),
        (150, "-", R::NumberRange),
        (160, "price", R::WrongType),
        (199, "book_tags.tag", R::Refused),
    ]
    .into_iter()
    .map(|(n, column, reason)| (key_of(n).0, (column.to_owned(), reason)))
    .collect();
    assert_eq!(reasons(&applied.parked), expected);
    assert_eq!(reasons(&db.target.parked(&table, None, None, 100).await.unwrap()), expected);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 191);
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 191);
    let stored = &db.target.checkpoints(&table).await.unwrap()[0];
    assert_eq!((stored.rows, stored.parked), (191, 9));
    let (by_reason, expired) = db.target.ledger(&table).await.unwrap();
    assert_eq!((by_reason[&R::Refused], by_reason[&R::DuplicateUnique], expired), (3, 1, 0));
    assert_eq!(by_reason.values().sum::<u64>(), 9);
}

#[tokio::test]
async fn a_partition_read_again_replaces_what_is_there() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &(0..50).map(|n| book(n, "first", &["a", "b"])).collect::<Vec<_>>()).await;
    let again: Vec<_> = (0..80).map(|n| book(n, "second", &["c"])).collect();
    let applied = db.load(&table, &again).await;
    assert_eq!((applied.upserted, applied.parked.len()), (80, 0));
    assert_eq!(db.number("SELECT count(*) FROM books WHERE title = 'second'").await, 80);
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 80);
    assert_eq!(db.number("SELECT count(*) FROM books WHERE shout = 'SECOND'").await, 80);
}

#[tokio::test]
async fn two_source_rows_with_one_key_are_not_folded_into_one() {
    let (db, table) = TestDatabase::with_books().await;
    let mut twin = with(book(1, "twin", &["t"]), ISBN, text("other"));
    twin.key = "ANOTHER-SPELLING".into();
    let applied = db.load(&table, &[book(1, "first", &[]), twin, book(2, "last", &[])]).await;
    assert_eq!(applied.upserted, 2);
    assert_eq!(applied.parked.len(), 1);
    assert_eq!(applied.parked[0].key.0, "ANOTHER-SPELLING");
    assert_eq!(applied.parked[0].row_error.reason, R::DuplicateUnique);
    assert_eq!(db.text("SELECT string_agg(title, ' ' ORDER BY id) FROM books").await.unwrap(), "first last");
}

#[tokio::test]
async fn a_connection_that_is_killed_leaves_no_half_flush() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(0, "before", &[])]).await;
    // A lock holds the flush inside its transaction, rows already sent, until its backend is killed.
    db.sql.batch_execute("BEGIN; LOCK TABLE cutover.load_checkpoint IN EXCLUSIVE MODE").await.unwrap();
    let mut bulk = db.target.bulk(&table, PART).await.unwrap();
    for n in 1..=300 {
        bulk.push(&book(n, "lost?", &["t"])).unwrap();
    }
    let target = db.target.checkpoints(&table).await.unwrap();
    let after = checkpoint(301);
    let (failed, killed) = tokio::join!(bulk.flush(vec![], &after), async {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                       AND wait_event_type = 'Lock'";
        let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            if let Some(row) = db.sql.query_opt(waiting, &[]).await.unwrap() {
                let pid: i32 = row.get(0);
                let done = db.sql.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
                return done.get::<_, bool>(0);
            }
            assert!(tokio::time::Instant::now() < limit, "the flush never waited");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    assert!(killed);
    let error = failed.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    db.sql.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
    assert_eq!(db.target.checkpoints(&table).await.unwrap(), target);
    // The rows are still in the buffer: flushing again is safe.
    assert_eq!(bulk.flush(vec![], &after).await.unwrap().upserted, 300);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 301);
    assert_eq!(db.target.checkpoints(&table).await.unwrap(), vec![after]);
}

#[tokio::test]
async fn a_row_that_lands_leaves_the_ledger_and_reset_forgets_everything() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[with(book(1, "x", &[]), AUTHOR, text("ann")), book(2, "y", &["t"])]).await;
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap().len(), 1);
    db.sql.batch_execute("INSERT INTO authors VALUES ('ann')").await.unwrap();
    db.load(&table, &[with(book(1, "x", &[]), AUTHOR, text("ann"))]).await;
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), vec![]);
    db.sql.batch_execute("CREATE TABLE orders (book uuid REFERENCES books)").await.unwrap();
    db.target.reset(&table).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 0);
    assert_eq!(db.target.checkpoints(&table).await.unwrap(), vec![]);
}

#[tokio::test]
async fn the_ledger_is_paged_filtered_and_asked_by_key() {
    let (db, table) = TestDatabase::with_books().await;
    let row_error = |n: u32| match n % 3 {
        0 => RowError::new("author", R::ForeignKey),
        1 => RowError::new("title", R::TooLong),
        _ => RowError::new("isbn", R::DuplicateUnique),
    };
    let row = |n: u32| ParkedRow {
        table: "books".into(),
        key: key_of(n),
        row_error: row_error(n),
        key_json: super::key_json(n),
    };
    let mut bulk = db.target.bulk(&table, PART).await.unwrap();
    bulk.flush((0..30).map(row).collect(), &checkpoint(0)).await.unwrap();
    let keys = |rows: &[ParkedRow]| rows.iter().map(|r| r.key.clone()).collect::<Vec<_>>();
    let all = db.target.parked(&table, None, None, 100).await.unwrap();
    assert_eq!(keys(&all), (0..30).map(key_of).collect::<Vec<_>>());
    // Rows parked for another reason do not fill the page of those asked for.
    let wanted = [R::ForeignKey, R::DuplicateUnique];
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = db.target.parked(&table, Some(&wanted), after.as_ref(), 7).await.unwrap();
        found.extend(keys(&page));
        after = page.last().map(|r| r.key.clone());
        if page.len() < 7 {
            break;
        }
    }
    assert_eq!(found, (0..30).filter(|n| n % 3 != 1).map(key_of).collect::<Vec<_>>());
    let asked = [key_of(4), key_of(99), key_of(4), key_of(0)];
    let found = db.target.parked_since(&table, &asked).await.unwrap();
    assert_eq!(
        found.iter().map(|f| f.as_ref().map(|(r, _)| r.clone())).collect::<Vec<_>>(),
        [Some(row(4)), None, Some(row(4)), Some(row(0)),]
    );
    assert!(found[0].as_ref().unwrap().1.0 > 1_700_000_000_000);
}

#[tokio::test]
async fn a_page_of_a_process_that_was_overtaken_is_refused_whole() {
    let (db, table) = TestDatabase::with_books().await;
    db.target.lease("run-1", "a:1", 60_000).await.unwrap();
    let mut stale = db.target.bulk(&table, PART).await.unwrap();
    stale.push(&book(1, "as it was read", &["x"])).unwrap();
    // Another process takes over, loads the same page, and a newer change of the row is applied.
    db.target.seize("run-1", "b:2", 60_000).await.unwrap();
    let mut bulk = db.target.bulk(&table, PART).await.unwrap();
    bulk.push(&book(1, "newer", &[])).unwrap();
    let given = Checkpoint { done: true, ..checkpoint(1) };
    bulk.flush(vec![], &given).await.unwrap();

    let refused = stale.flush(vec![], &checkpoint(1)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(refused.came_back.contains("taken the lease"), "{refused}");
    assert_eq!(db.text("SELECT title FROM books").await.as_deref(), Some("newer"));
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 0);
    assert_eq!(db.target.checkpoints(&table).await.unwrap(), vec![given], "its checkpoint came in");
}
