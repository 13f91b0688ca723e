//! The outbox on a real server: what leaves a record, what is read, and what must never be missed.

use std::collections::BTreeMap;

use super::*;
use crate::domain::mapping::{Resolution, RowTree};
use crate::ports::{ChangeBatch, Cleared, ErrorKind, Outbox as _, OutboxChange, OwnWrite, Position, Unfinished};

async fn armed() -> (TestDatabase, Table) {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "one", &["x", "y"]), book(2, "two", &[]), book(3, "three", &[])]).await;
    let found = db.target.arm(std::slice::from_ref(&table)).await.unwrap();
    assert!(found[0].exercised);
    assert_eq!(found[0].tables, ["books", "book_tags"]);
    (db, table)
}

/// Another session in the same database.
async fn another(db: &TestDatabase) -> tokio_postgres::Client {
    connect(&format!(
        "postgres://{}:{}@{}:{}/{}",
        db.settings.user,
        db.settings.password.as_ref().unwrap().reveal(),
        db.settings.host,
        db.settings.port,
        db.settings.database
    ))
    .await
}

/// What waits, applied at once.
async fn carried(db: &TestDatabase, table: &Table) -> Vec<OutboxChange> {
    let Some(taken) = db.target.take(table, 100).await.unwrap() else { return Vec::new() };
    let changes = taken.changes().to_vec();
    let records: Vec<i64> = changes.iter().flat_map(|c| c.records.clone()).collect();
    taken.clear(&[Cleared::of(&key_of(0), &records, Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    changes
}

fn title(row_tree: &Option<RowTree>) -> Option<String> {
    row_tree.as_ref().map(|f| match &f.row[TITLE] {
        Cell::Text(t) => t.to_string(),
        other => format!("{other:?}"),
    })
}

fn tags(row_tree: &Option<RowTree>) -> Vec<String> {
    let tag = |row: &OwnedRow| match &row[2] {
        Cell::Text(t) => t.to_string(),
        other => format!("{other:?}"),
    };
    row_tree.as_ref().map(|f| f.children[0].iter().map(tag).collect()).unwrap_or_default()
}

#[tokio::test]
async fn arming_proves_the_way_and_changes_nothing() {
    let (db, table) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&table);
    assert!(!db.target.armed(tables).await.unwrap());
    assert!(!db.target.arm(tables).await.unwrap()[0].exercised, "an empty table has no row to touch");
    db.load(&table, &[book(1, "one", &["x"])]).await;
    assert_eq!(db.number("SELECT count(*) FROM cutover.outbox").await, 0, "the load is ours");
    let before = db.all(&table).await;
    assert!(db.target.arm(tables).await.unwrap()[0].exercised);
    assert!(db.target.armed(tables).await.unwrap());
    assert_eq!(db.all(&table).await, before);
    assert_eq!(db.number("SELECT count(*) FROM cutover.outbox").await, 0);
    // A mapping that changed needs other triggers.
    let mut other = table.clone();
    other.columns.pop();
    assert!(!db.target.armed(std::slice::from_ref(&other)).await.unwrap());
    // What a customer wrote is nowhere else.
    db.sql.batch_execute("UPDATE books SET title = 'theirs'").await.unwrap();
    let refused = db.target.disarm(tables).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert_eq!(db.number("SELECT count(*) FROM cutover.outbox").await, 1);
    carried(&db, &table).await;
    db.target.disarm(tables).await.unwrap();
    assert!(!db.target.armed(tables).await.unwrap());
}

#[tokio::test]
async fn arming_waits_for_changes_under_way_and_neither_waits_for_the_other() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "one", &["x"])]).await;
    // A batch that is being applied has begun with the child table.
    let forward = another(&db).await;
    let begun = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared({}); UPDATE book_tags SET tag = 'y'",
        crate::adapters::postgres::owner::thaw(PLAN)
    );
    forward.batch_execute(&begun).await.unwrap();
    let arming = db.target.arm(std::slice::from_ref(&table));
    let going_on = async {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while db.number(waits).await == 0 {
            tokio::task::yield_now().await;
        }
        forward.batch_execute("UPDATE books SET title = 'two'; COMMIT").await
    };
    let (armed, went_on) = tokio::join!(arming, going_on);
    went_on.unwrap();
    assert!(armed.unwrap()[0].exercised);
}

#[tokio::test]
async fn a_trigger_that_is_swallowed_fails_the_proof() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "one", &[])]).await;
    let swallow = "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                   CREATE TRIGGER swallow BEFORE UPDATE ON books FOR EACH ROW EXECUTE FUNCTION swallow()";
    db.sql.batch_execute(swallow).await.unwrap();
    // Nothing was touched, so nothing was proven.
    assert!(!db.target.arm(std::slice::from_ref(&table)).await.unwrap()[0].exercised);
    // Once customers write there, a trigger that somebody switched off is not made anew.
    db.target.open_to_customers(std::slice::from_ref(&table)).await.unwrap();
    db.sql.batch_execute("DROP TRIGGER swallow ON books; ALTER TABLE books DISABLE TRIGGER USER").await.unwrap();
    let refused = db.target.arm(std::slice::from_ref(&table)).await.unwrap_err();
    assert!(refused.came_back.contains("left no record"), "{refused}");
    assert!(!db.target.armed(std::slice::from_ref(&table)).await.unwrap(), "a disabled trigger captures nothing");
}

#[tokio::test]
async fn customers_leave_records_and_our_own_changes_do_not() {
    let (db, table) = armed().await;
    let start = BTreeMap::from([("s".to_owned(), Position("1".into()))]);
    db.target.start_positions(&table, "stream", &start).await.unwrap();
    let batch = ChangeBatch { rows: vec![upsert(book(2, "ours", &["z"])), delete(3)], ..ChangeBatch::default() };
    db.target.apply(&table, batch).await.unwrap();
    assert_eq!(carried(&db, &table).await, vec![]);
    db.sql.batch_execute("UPDATE books SET title = 'theirs' WHERE title = 'one'").await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = title").await.unwrap();
    let changes = carried(&db, &table).await;
    assert_eq!(changes.len(), 1, "a change of nothing is no change");
    assert_eq!(changes[0].key, vec![Cell::Uuid(uuid_of(1))]);
    let titles: Vec<_> = changes[0].states.iter().map(title).collect();
    assert_eq!(titles, [Some("one".to_owned()), Some("theirs".to_owned())]);
    assert_eq!(carried(&db, &table).await, vec![]);
}

#[tokio::test]
async fn a_truncate_leaves_a_record_of_every_row() {
    let (db, table) = armed().await;
    db.sql.batch_execute("BEGIN; SET LOCAL cutover.origin = 'forward'; TRUNCATE book_tags; COMMIT").await.unwrap();
    assert_eq!(carried(&db, &table).await, vec![], "ours leave none");
    db.load(&table, &[book(4, "four", &["z"])]).await;
    db.sql.batch_execute("TRUNCATE books CASCADE").await.unwrap();
    let changes = carried(&db, &table).await;
    let gone: Vec<_> = changes.iter().map(|c| (title(&c.states[0]), c.states.last().unwrap().clone())).collect();
    assert_eq!(gone.len(), 4, "{changes:?}");
    assert!(gone.iter().all(|(title, last)| title.is_some() && last.is_none()), "{changes:?}");
    let four = changes.iter().find(|c| title(&c.states[0]).as_deref() == Some("four")).unwrap();
    assert_eq!(tags(&four.states[0]), ["z"]);
}

#[tokio::test]
async fn a_carrier_waits_for_whoever_empties_a_table() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'r1' WHERE title = 'one'").await.unwrap();
    let other = another(&db).await;
    other.batch_execute("BEGIN; TRUNCATE books CASCADE").await.unwrap();
    // A snapshot taken now would see neither the rows nor the records of their removal.
    let waits = db.target.take(&table, 10).await.err().expect("it waits");
    assert_eq!(waits.kind, ErrorKind::Throttled, "{waits}");
    other.batch_execute("COMMIT").await.unwrap();
    let changes = carried(&db, &table).await;
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes.iter().all(|c| c.states.last() == Some(&None)), "{changes:?}");
}

#[tokio::test]
async fn a_carrier_that_lost_its_turn_writes_and_clears_nothing_more() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'x' WHERE title = 'one'").await.unwrap();
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    let records = taken.changes()[0].records.clone();
    let image = OwnWrite { key: key_of(1), digest: 7, record: records[0], resolution: Resolution::None };
    taken.record_own_writes(std::slice::from_ref(&image)).await.unwrap();
    let end = "WITH idle AS MATERIALIZED (SELECT pid FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'idle in transaction')
               SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM idle";
    let ended = db.number(end).await;
    assert_eq!(ended, 1);
    assert!(taken.record_own_writes(std::slice::from_ref(&image)).await.is_err());
    assert!(taken.clear(&[Cleared::of(&key_of(1), &records, Resolution::None)]).await.is_err());
    assert!(taken.done().await.is_err());
    assert_eq!(carried(&db, &table).await.len(), 1, "the next one has it");
}

#[tokio::test]
async fn every_state_of_a_row_and_its_children_is_known() {
    let (db, table) = armed().await;
    let one = key_of(1).0;
    let sql = format!(
        "UPDATE book_tags SET tag = 'w' WHERE place = 0; DELETE FROM book_tags WHERE place = 1;
         INSERT INTO book_tags VALUES ('{one}', 5, 'v'); UPDATE books SET title = 'new' WHERE id = '{one}'"
    );
    db.sql.batch_execute(&sql).await.unwrap();
    let changes = carried(&db, &table).await;
    assert_eq!(changes.len(), 1, "a change of a child is a change of its parent");
    let (states, from) = (&changes[0].states, &changes[0].from);
    assert_eq!((from.len(), from[0], from.is_sorted()), (states.len(), 0, true));
    assert_eq!(changes[0].state_after(*changes[0].records.last().unwrap()), Some(states.len() - 1));
    let (first, last) = (&states[0], &states[states.len() - 1]);
    assert_eq!((title(first), tags(first).len()), (Some("one".to_owned()), 2));
    assert!(tags(first).contains(&"x".to_owned()) && tags(first).contains(&"y".to_owned()));
    assert_eq!((title(last), tags(last)), (Some("new".to_owned()), vec!["w".to_owned(), "v".to_owned()]));

    // Deleted, with its children: the first state is whole, the last one is nothing.
    let sql =
        format!("BEGIN; DELETE FROM book_tags WHERE book_id = '{one}'; DELETE FROM books WHERE id = '{one}'; COMMIT");
    db.sql.batch_execute(&sql).await.unwrap();
    let changes = carried(&db, &table).await;
    assert_eq!(tags(&changes[0].states[0]).len(), 2);
    assert_eq!(changes[0].states.last(), Some(&None));

    // A key that changes counts as one row removed and one added.
    let (two, nine) = (key_of(2).0, key_of(9).0);
    db.sql.batch_execute(&format!("UPDATE books SET id = '{nine}' WHERE id = '{two}'")).await.unwrap();
    let changes = carried(&db, &table).await;
    let ends: Vec<_> = changes.iter().map(|c| (c.key.clone(), c.states.last().map(title))).collect();
    assert_eq!(
        ends,
        [(vec![Cell::Uuid(uuid_of(2))], Some(None)), (vec![Cell::Uuid(uuid_of(9))], Some(Some("two".to_owned())))]
    );
}

#[tokio::test]
async fn a_transaction_that_commits_late_with_an_early_number_is_not_missed() {
    let (db, table) = armed().await;
    let late = another(&db).await;
    late.batch_execute("BEGIN; UPDATE books SET title = 'late' WHERE title = 'one'").await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'early' WHERE title = 'two'").await.unwrap();
    let first = carried(&db, &table).await;
    assert_eq!(first.len(), 1);
    assert_eq!(title(first[0].states.last().unwrap()), Some("early".to_owned()));
    late.batch_execute("COMMIT").await.unwrap();
    let second = carried(&db, &table).await;
    assert!(second[0].records[0] < first[0].records[0], "its number is the earlier one");
    assert_eq!(title(second[0].states.last().unwrap()), Some("late".to_owned()));
}

#[tokio::test]
async fn what_is_given_back_is_taken_again_and_only_one_carries() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'a' WHERE title = 'one'").await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'b' WHERE title = 'two'").await.unwrap();
    let taken = db.target.take(&table, 100).await.unwrap().unwrap();
    assert_eq!((taken.changes().len(), taken.rolled_back()), (2, false));
    let other = PgTarget::new(&db.settings, PLAN).unwrap();
    let Err(refused) = other.take(&table, 100).await else { panic!("two carriers at once") };
    assert_eq!(refused.kind, ErrorKind::Throttled);
    // What is committed while it is held belongs to the next turn.
    db.sql.batch_execute("UPDATE books SET title = 'a2' WHERE title = 'a'").await.unwrap();
    drop(taken);
    let taken = db.target.take(&table, 100).await.unwrap().unwrap();
    let one = taken.changes().iter().find(|c| c.key == vec![Cell::Uuid(uuid_of(1))]).unwrap().clone();
    assert_eq!(one.states.iter().map(title).collect::<Vec<_>>(), ["one", "a", "a2"].map(|t| Some(t.to_owned())));
    assert_eq!(one.from, [0, one.records[0], one.records[1]]);
    assert_eq!([0, 1].map(|n| one.state_after(one.records[n])), [Some(1), Some(2)]);
    assert!(!taken.rolled_back());
    db.target.mark_rolled_back("run-1", std::slice::from_ref(&table)).await.unwrap();
    // Only one of the two is applied.
    taken.clear(&[Cleared::of(&key_of(1), &one.records, Resolution::NewWon)]).await.unwrap();
    // An answer that was lost is asked for again, and counts once.
    taken.clear(&[Cleared::of(&key_of(1), &one.records, Resolution::NewWon)]).await.unwrap();
    taken.done().await.unwrap();
    let tally = db.target.tally(std::slice::from_ref(&table)).await.unwrap()[&table.id];
    assert_eq!((tally.carried, tally.conflicts), (1, 1));
    let waiting = db.target.waiting(std::slice::from_ref(&table)).await.unwrap()[&table.id];
    assert_eq!(waiting.records, 1);
    let taken = db.target.take(&table, 100).await.unwrap().unwrap();
    assert!(taken.rolled_back(), "every carrier sees it from its next turn on");
    drop(taken);
    assert_eq!(carried(&db, &table).await.len(), 1);
}

#[tokio::test]
async fn customers_need_no_rights_on_the_outbox() {
    let (db, table) = armed().await;
    let role = format!("app_{}", db.settings.database);
    let sql = format!(
        "CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON books, book_tags TO {role}; SET ROLE {role}"
    );
    db.sql.batch_execute(&sql).await.unwrap();
    assert!(db.sql.batch_execute("SELECT * FROM cutover.outbox").await.is_err());
    db.sql.batch_execute("UPDATE books SET title = 'by the app' WHERE title = 'one'").await.unwrap();
    assert_eq!(carried(&db, &table).await.len(), 1);
}

#[tokio::test]
async fn forward_changes_end_where_customers_begin() {
    let (db, table) = armed().await;
    let start = BTreeMap::from([("s".to_owned(), Position("1".into()))]);
    db.target.start_positions(&table, "stream", &start).await.unwrap();
    db.target.open_to_customers(std::slice::from_ref(&table)).await.unwrap();
    let batch = |rows| ChangeBatch {
        rows,
        positions: BTreeMap::from([("s".to_owned(), Position("2".into()))]),
        ..ChangeBatch::default()
    };
    let refused = db.target.apply(&table, batch(vec![delete(1)])).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(refused.came_back.contains("open to customers"), "{refused}");
    assert_eq!(db.number("SELECT count(*) FROM books").await, 3);
    // Positions go on: the old side is still watched.
    db.target.apply(&table, batch(vec![])).await.unwrap();
    // Once everything is applied to the old side, a later run may load again.
    db.target.settle("run-1", std::slice::from_ref(&table)).await.unwrap();
    db.target.apply(&table, batch(vec![delete(1)])).await.unwrap();
}

#[tokio::test]
async fn markers_travel_with_the_changes_and_images_are_known_again() {
    let (db, table) = armed().await;
    db.target.put_marker(&table, "n-1").await.unwrap();
    assert_eq!(db.target.waiting(std::slice::from_ref(&table)).await.unwrap()[&table.id].records, 0);
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    assert_eq!((taken.changes().len(), taken.markers()), (0, &["n-1".to_owned()][..]));
    let image = |n, digest, record, resolution| OwnWrite { key: key_of(n), digest, record, resolution };
    for image in [image(1, 7, 0, Resolution::None), image(1, 7, 0, Resolution::None), image(2, 0, 0, Resolution::None)]
    {
        taken.record_own_writes(std::slice::from_ref(&image)).await.unwrap();
    }
    drop(taken);
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    taken.done().await.unwrap();
    assert!(db.target.take(&table, 10).await.unwrap().is_none());
    let asked = [(key_of(2), 0), (key_of(1), 8), (key_of(1), 7)];
    assert_eq!(db.target.own_writes(&table, &asked).await.unwrap(), [true, false, true]);
}

#[tokio::test]
async fn an_image_is_unfinished_until_its_records_are_cleared() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'x' WHERE title = 'one'").await.unwrap();
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    let records = taken.changes()[0].records.clone();
    let image = OwnWrite { key: key_of(1), digest: 7, record: records[0], resolution: Resolution::NewWon };
    assert_eq!(taken.unfinished(&[key_of(1)]).await.unwrap()[0], []);
    taken.record_own_writes(std::slice::from_ref(&image)).await.unwrap();
    drop(taken);
    // The next reverse applier meets it.
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    let found = Unfinished { digest: 7, record: records[0], resolution: Resolution::NewWon };
    assert_eq!(taken.unfinished(&[key_of(1)]).await.unwrap()[0], [found]);
    assert_eq!(taken.unfinished(&[key_of(2)]).await.unwrap()[0], []);
    taken.clear(&[Cleared::of(&key_of(1), &records, Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'y' WHERE title = 'x'").await.unwrap();
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    assert_eq!(taken.unfinished(&[key_of(1)]).await.unwrap()[0], [], "its records are gone");
}

#[tokio::test]
async fn an_old_image_is_forgotten_once_nothing_waits_for_it() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'x' WHERE title = 'one'").await.unwrap();
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    let records = taken.changes()[0].records.clone();
    for (n, record) in [(1, records[0]), (2, 0)] {
        taken
            .record_own_writes(&[OwnWrite { key: key_of(n), digest: 7, record, resolution: Resolution::None }])
            .await
            .unwrap();
    }
    let asked = [(key_of(1), 7), (key_of(2), 7)];
    let known = async || db.target.own_writes(&table, &asked).await.unwrap();
    let forget = async || crate::adapters::postgres::outbox::forget(&db.sql, PLAN).await.unwrap();
    let older = "UPDATE cutover.reverse_image SET at = at - interval";
    // A stream shows what is 24 hours old, and a clock may be wrong.
    db.sql.batch_execute(&format!("{older} '29 hours'")).await.unwrap();
    forget().await;
    assert_eq!(known().await, [true, true]);
    db.sql.batch_execute(&format!("{older} '2 hours'")).await.unwrap();
    forget().await;
    assert_eq!(known().await, [true, false]);
    taken.clear(&[Cleared::of(&key_of(1), &records, Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    forget().await;
    assert_eq!(known().await, [false, false]);
}

#[tokio::test]
async fn transactions_that_are_open_are_seen_until_they_end() {
    let (db, table) = armed().await;
    let tables = std::slice::from_ref(&table);
    let open = async || -> Vec<String> {
        db.target.open_writes(&[]).await.unwrap().into_iter().map(|one| one.words).collect()
    };
    assert_eq!(open().await, [""; 0]);
    // Somebody who only reads has written nothing.
    let reads = another(&db).await;
    reads.batch_execute("BEGIN; SELECT * FROM books; SELECT * FROM book_tags").await.unwrap();
    let mut customer = another(&db).await;
    // It has not come to our tables yet.
    db.sql.batch_execute("CREATE TABLE audit (n int)").await.unwrap();
    let writes = customer.transaction().await.unwrap();
    writes.batch_execute("INSERT INTO audit VALUES (1)").await.unwrap();
    let found = open().await;
    assert!(found.len() == 1 && found[0].starts_with("process ") && found[0].contains("open since"), "{found:?}");
    writes.batch_execute("UPDATE book_tags SET tag = 'z'").await.unwrap();
    let (_, waiting) = db.target.waiting(tables).await.unwrap().pop_first().unwrap();
    assert_eq!((waiting.records, open().await.len()), (0, 1), "nobody sees what it wrote");
    writes.commit().await.unwrap();
    assert_eq!(open().await, [""; 0]);
    assert!(db.target.waiting(tables).await.unwrap()["books"].records > 0);
    // Of another database on the same server, and of ours.
    let elsewhere = TestDatabase::bare().await;
    elsewhere.sql.batch_execute("CREATE TABLE audit (n int); BEGIN; INSERT INTO audit VALUES (1)").await.unwrap();
    assert_eq!(open().await, [""; 0]);
}

#[tokio::test]
async fn a_table_whose_captured_writes_were_not_carried_is_not_emptied() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'theirs'").await.unwrap();
    let refused = db.target.reset(&table).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(refused.came_back.starts_with("3 writes"), "{refused}");
    assert_eq!(db.number("SELECT count(*) FROM books WHERE title = 'theirs'").await, 3);
    carried(&db, &table).await;
    db.target.reset(&table).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
}

#[tokio::test]
async fn what_is_captured_does_not_depend_on_how_a_customers_session_writes_numbers() {
    let db = TestDatabase::new().await;
    let columns = vec![key("id", ColumnType::Text), column("x", ColumnType::Double), column("raw", ColumnType::Bytea)];
    let points = table("points", columns, "CREATE TABLE points (id text PRIMARY KEY, x float8, raw bytea)");
    assert!(db.create(&points).await.unwrap());
    db.target.arm(std::slice::from_ref(&points)).await.unwrap();
    let customer = another(&db).await;
    customer
        .batch_execute(
            "SET extra_float_digits = 0; SET bytea_output = 'escape'; SET timezone = 'Asia/Tokyo';
             INSERT INTO points VALUES ('a', 0.1234567890123456, '\\x00ff')",
        )
        .await
        .unwrap();
    carried(&db, &points).await;
    // It differs in a digit that such a session does not write.
    customer.batch_execute("UPDATE points SET x = 0.1234567890123457").await.unwrap();
    let changes = carried(&db, &points).await;
    let states: Vec<_> = changes.iter().flat_map(|c| c.states.iter().flatten()).map(|tree| tree.row.clone()).collect();
    let x = |x: f64| vec![Cell::Text("a".into()), Cell::Float(x), Cell::Bytes(vec![0, 255].into())];
    assert!(states.contains(&x(0.123_456_789_012_345_6)), "the state before: {states:?}");
    assert!(states.contains(&x(0.123_456_789_012_345_7)), "the state after: {states:?}");
}

#[tokio::test]
async fn somebody_who_publishes_every_table_stops_no_marker_of_ours() {
    let (db, books) = armed().await;
    let without =
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'cutover'
        WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    assert_eq!(db.number(without).await, 0, "a table of ours has no primary key");
    db.sql.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
    db.target.put_marker(&books, "n-1").await.unwrap();
    let taken = db.target.take(&books, 10).await.unwrap().unwrap();
    assert_eq!(taken.markers(), ["n-1"]);
    // One of an earlier version of this program gets its key when it is armed.
    db.sql.batch_execute("ALTER TABLE cutover.reverse_marker DROP CONSTRAINT reverse_marker_pkey").await.unwrap();
    drop(taken);
    db.target.put_marker(&books, "n-2").await.unwrap_err();
    db.target.arm(std::slice::from_ref(&books)).await.unwrap();
    db.target.put_marker(&books, "n-2").await.unwrap();
}

#[tokio::test]
async fn keys_of_other_tables_are_not_read_as_this_tables_own() {
    let (db, table) = armed().await;
    db.sql.batch_execute("UPDATE books SET title = 'theirs'").await.unwrap();
    // Of a table whose keys are text; few rows, and the server knows it.
    db.sql
        .batch_execute(
            "CREATE TEMP TABLE other AS SELECT * FROM cutover.outbox LIMIT 1;
             UPDATE other SET id = id + 100000, table_id = 'vip', key = '{\"id\": \"a1\", \"book_id\": \"a1\"}';
             INSERT INTO cutover.outbox OVERRIDING SYSTEM VALUE SELECT * FROM other;
             ANALYZE cutover.outbox",
        )
        .await
        .unwrap();
    assert_eq!(carried(&db, &table).await.len(), 3);
}

/// How the server would run a statement of ours on the outbox of the plan's books.
async fn plan_of(db: &TestDatabase, sql: &str) -> String {
    let sql = sql.replace("$1", &format!("'{PLAN}'")).replace("$2", "'books'").replace("$3", "1000");
    let rows = db.sql.query(&format!("EXPLAIN {sql}"), &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

#[tokio::test]
async fn what_is_taken_reads_no_record_of_another_key() {
    use crate::adapters::postgres::outbox::{FIRSTS, MARKERS};
    let (db, _) = armed().await;
    // As every turn does.
    db.sql.batch_execute("SET enable_bitmapscan = off").await.unwrap();
    let fill = "INSERT INTO books SELECT gen_random_uuid(), 'title ' || n FROM generate_series(1, 20000) n";
    db.sql.batch_execute(fill).await.unwrap();
    for analyzed in [false, true] {
        let (firsts, markers) = (plan_of(&db, FIRSTS).await, plan_of(&db, MARKERS).await);
        assert!(firsts.contains("outbox_by_key") && firsts.contains("Limit"), "{analyzed}: {firsts}");
        assert!(!firsts.contains("Seq Scan") && !firsts.contains("Sort Key: outbox.id"), "{analyzed}: {firsts}");
        assert!(markers.contains("outbox_markers"), "{analyzed}: {markers}");
        db.sql.batch_execute("ANALYZE cutover.outbox").await.unwrap();
    }
}
