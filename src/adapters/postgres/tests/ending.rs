//! A plan that is released, or whose table another plan takes over: what it had ends, and nothing of the customers'
//! does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plans::open_to_customers;
use super::*;
use crate::domain::mapping::Resolution;
use crate::ports::{ChangeBatch, Cleared, ErrorKind, Outbox as _, Position};

fn batch(title: &str) -> ChangeBatch {
    ChangeBatch { rows: vec![upsert(book(1, title, &[]))], ..ChangeBatch::default() }
}

async fn titles(db: &TestDatabase) -> Option<String> {
    db.text("SELECT string_agg(title, ',' ORDER BY id) FROM books").await
}

/// Everything that a forward process could do to a table that is not its plan's.
async fn nothing_is_written(db: &TestDatabase, target: &PgTarget, books: &Table) {
    let tables = std::slice::from_ref(books);
    let before = titles(db).await;
    let mut bulk = target.bulk(books, Partition { index: 0, of: 1 }).await.unwrap();
    bulk.push(&book(7, "loaded", &[])).unwrap();
    let start = BTreeMap::from([("s".to_owned(), Position("1".into()))]);
    for refused in [
        target.reset(books).await.unwrap_err(),
        target.apply(books, batch("ours")).await.unwrap_err(),
        bulk.flush(vec![], &checkpoint(1)).await.unwrap_err(),
        target.start_positions(books, "stream", &start).await.unwrap_err(),
        target.arm(tables).await.unwrap_err(),
        target.open_to_customers(tables).await.unwrap_err(),
    ] {
        assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    }
    assert_eq!(titles(db).await, before);
}

#[tokio::test]
async fn a_table_that_is_not_the_plans_is_never_written_emptied_or_captured() {
    let (db, books) = TestDatabase::with_books().await;
    open_to_customers(
        &db,
        &db.target,
        &books,
        upsert(book(1, "one", &[])),
        "run-1",
        "UPDATE books SET title = 'theirs'",
    )
    .await;
    let other = PgTarget::new(&db.settings, "other/test").unwrap();
    other.lease("run-2", "host:2", 60_000).await.unwrap();
    nothing_is_written(&db, &other, &books).await;
    // Its own plan does not empty it either, once the new side was open to customers.
    let refused = db.target.reset(&books).await.unwrap_err();
    assert!(refused.came_back.contains("open to customers"), "{refused}");
    let mut bulk = db.target.bulk(&books, Partition { index: 0, of: 1 }).await.unwrap();
    bulk.push(&book(7, "loaded", &[])).unwrap();
    let refused = bulk.flush(vec![], &checkpoint(1)).await.unwrap_err();
    assert!(refused.came_back.contains("open to customers"), "{refused}");
    assert_eq!(titles(&db).await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn a_driver_that_slept_through_a_release_is_refused() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    let slept = &db.target;
    slept.lease("run-1", "host:1", 60_000).await.unwrap();
    slept.apply(&books, batch("one")).await.unwrap();
    db.sql.batch_execute("UPDATE cutover.lease SET until = clock_timestamp()").await.unwrap();
    let by_hand = PgTarget::new(&db.settings, PLAN).unwrap();
    by_hand.disown().await.unwrap();
    assert_eq!(db.number("SELECT epoch FROM cutover.lease").await, 2);
    nothing_is_written(&db, slept, &books).await;
    // The plan begins again from another place: the process that was suspended is not its driver.
    by_hand.lease("run-2", "host:2", 60_000).await.unwrap();
    by_hand.claim("run-2", tables).await.unwrap();
    let mut bulk = slept.bulk(&books, Partition { index: 0, of: 1 }).await.unwrap();
    bulk.push(&book(7, "loaded", &[])).unwrap();
    assert_eq!(bulk.flush(vec![], &checkpoint(1)).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(slept.reset(&books).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(slept.apply(&books, batch("ours")).await.unwrap_err().kind, ErrorKind::Conflict);
    by_hand.release("host:2").await.unwrap();
    assert_eq!(slept.lease("run-1", "host:1", 60_000).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(titles(&db).await.as_deref(), Some("one"));
    by_hand.reset(&books).await.unwrap();
}

#[tokio::test]
async fn looking_before_a_release_writes_nothing_and_makes_nothing() {
    let db = TestDatabase::bare().await;
    let before = super::server::catalogues(&db.sql).await;
    assert_eq!(db.target.owned().await.unwrap(), crate::ports::Owned::default());
    db.target.claimable(&[books()]).await.unwrap();
    assert_eq!(super::server::catalogues(&db.sql).await, before);
}

#[tokio::test]
async fn nobody_begins_to_drive_a_plan_while_it_is_released() {
    let (db, _) = TestDatabase::with_books().await;
    // The lease is over: it is locked all the same.
    db.target.lease("run-1", "host:1", 60_000).await.unwrap();
    db.target.release("host:1").await.unwrap();
    db.sql.batch_execute("BEGIN").await.unwrap();
    db.sql.batch_execute("SELECT FROM cutover.lease FOR SHARE").await.unwrap();
    let by_hand = PgTarget::new(&db.settings, PLAN).unwrap();
    let released = by_hand.disown();
    tokio::pin!(released);
    assert!(tokio::time::timeout(Duration::from_millis(400), &mut released).await.is_err(), "it has not looked");
    db.sql.batch_execute("COMMIT").await.unwrap();
    released.await.unwrap();
}

/// Books with an index that is dropped for the load, loaded as far as its first page.
async fn set_aside(db: &TestDatabase, books: &Table) {
    db.sql.batch_execute("CREATE INDEX by_price ON books (price)").await.unwrap();
    let gone = db.target.begin_load(books, Some(true), false).await.unwrap();
    assert_eq!(gone.len(), 1);
    db.load(books, &[book(1, "one", &[])]).await;
}

const BY_PRICE: &str = "SELECT count(*) FROM pg_class WHERE relname = 'by_price'";

#[tokio::test]
async fn an_index_that_stepped_aside_is_built_again_when_its_plan_is_released() {
    let (db, books) = TestDatabase::with_books().await;
    set_aside(&db, &books).await;
    assert_eq!(db.target.owned().await.unwrap().tables[0].aside, 1);
    assert_eq!(db.number(BY_PRICE).await, 0);
    db.target.disown().await.unwrap();
    assert_eq!(db.number(BY_PRICE).await, 1);
    assert_eq!(db.number("SELECT count(*) FROM cutover.set_aside").await, 0);
}

#[tokio::test]
async fn a_table_that_is_gone_keeps_no_plan_from_being_released() {
    let (db, books) = TestDatabase::with_books().await;
    set_aside(&db, &books).await;
    db.sql.batch_execute("DROP TABLE books CASCADE").await.unwrap();
    db.target.disown().await.unwrap();
    assert_eq!(db.target.owned().await.unwrap().tables, []);
}

#[tokio::test]
async fn an_index_that_stepped_aside_goes_to_the_plan_that_takes_the_table_over() {
    let (db, books) = TestDatabase::with_books().await;
    set_aside(&db, &books).await;
    db.target.settle("run-1", std::slice::from_ref(&books)).await.unwrap();
    let other = PgTarget::new(&db.settings, "other/test").unwrap();
    let volumes = Table { id: "volumes".into(), ..books.clone() };
    other.claim("run-2", std::slice::from_ref(&volumes)).await.unwrap();
    assert_eq!(other.set_aside(&volumes).await.unwrap().len(), 1);
    other.reset(&volumes).await.unwrap();
    assert_eq!(db.number(BY_PRICE).await, 1);
}

#[tokio::test]
async fn a_write_that_comes_in_while_a_table_is_taken_over_is_not_lost() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    open_to_customers(
        &db,
        &db.target,
        &books,
        upsert(book(1, "one", &[])),
        "run-1",
        "UPDATE books SET title = 'theirs'",
    )
    .await;
    let taken = db.target.take(&books, 10).await.unwrap().unwrap();
    let records: Vec<i64> = taken.changes().iter().flat_map(|c| c.records.clone()).collect();
    taken.clear(&[Cleared::of(&key_of(1), &records, Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    db.target.settle("run-1", tables).await.unwrap();
    db.target.release("host:1").await.unwrap();
    // A customer has written and not committed yet: nothing waits that another could see.
    db.sql.batch_execute("BEGIN; UPDATE books SET title = 'late'").await.unwrap();
    let other = PgTarget::new(&db.settings, "other/test").unwrap();
    other.claimable(tables).await.unwrap();
    let claimed = other.claim("run-2", tables);
    tokio::pin!(claimed);
    assert!(tokio::time::timeout(Duration::from_millis(400), &mut claimed).await.is_err(), "it waits for the customer");
    db.sql.batch_execute("COMMIT").await.unwrap();
    let refused = claimed.await.unwrap_err();
    assert!(refused.came_back.contains("1 of their writes wait"), "{refused}");
    assert!(db.target.armed(tables).await.unwrap());
    assert_eq!(db.target.waiting(tables).await.unwrap()["books"].records, 1);
}

#[tokio::test]
async fn a_customer_who_holds_a_table_is_waited_for_and_never_ended() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    db.load(&books, &[book(1, "one", &["x"])]).await;
    db.target.arm(tables).await.unwrap();
    // As a customer does: the table that our lock takes first is the one they write last.
    db.sql.batch_execute("BEGIN; UPDATE books SET title = title").await.unwrap();
    let disarmed = db.target.disarm(tables);
    let customer = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        db.sql.batch_execute("UPDATE book_tags SET tag = tag; COMMIT").await
    };
    let (disarmed, customer) = tokio::join!(disarmed, customer);
    customer.expect("the customer's transaction comes to its end");
    disarmed.unwrap();
    assert!(!db.target.armed(tables).await.unwrap());
}

#[tokio::test]
async fn triggers_that_somebody_changed_go_with_the_function_they_call() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    db.target.arm(tables).await.unwrap();
    let always = "DO $$ DECLARE t record; BEGIN
        FOR t IN SELECT tgname, tgrelid::regclass AS named FROM pg_trigger WHERE tgname ~ '^cutover_capture_' LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.named, t.tgname);
        END LOOP; END $$";
    db.sql.batch_execute(always).await.unwrap();
    assert!(db.target.armed(tables).await.unwrap(), "one that always fires is switched on");
    let changed = "CREATE TABLE beside (id uuid, title text, isbn text, price numeric, author text);
        DO $$ DECLARE t record; f regproc; BEGIN
            SELECT tgname, tgfoid::regproc AS f INTO t FROM pg_trigger
            WHERE tgrelid = 'books'::regclass AND tgname ~ '^cutover_capture_' AND tgname !~ '_all$';
            EXECUTE format('CREATE TRIGGER theirs AFTER DELETE ON beside FOR EACH ROW EXECUTE FUNCTION %s()', t.f);
            EXECUTE format('ALTER TRIGGER %I ON books RENAME TO renamed', t.tgname);
            ALTER TABLE books DISABLE TRIGGER renamed;
        END $$";
    db.sql.batch_execute(changed).await.unwrap();
    db.target.disarm(tables).await.unwrap();
    let left = "SELECT count(*) FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                WHERE f.proname ~ '^capture_' AND f.proname <> 'capture_marker'";
    assert_eq!(db.number(left).await, 0);
    let left = "SELECT count(*) FROM pg_proc WHERE proname ~ '^capture_' AND proname <> 'capture_marker'";
    assert_eq!(db.number(left).await, 0);
}

#[tokio::test]
async fn what_is_advised_about_a_plan_with_a_strange_name_can_be_copied_into_a_shell() {
    let (db, books) = TestDatabase::with_books().await;
    db.target.disown().await.unwrap();
    let odd = PgTarget::new(&db.settings, "the shop/?").unwrap();
    odd.claim("run-1", std::slice::from_ref(&books)).await.unwrap();
    let refused = db.target.claim("run-2", std::slice::from_ref(&books)).await.unwrap_err();
    assert!(refused.advice.ends_with("cutover release 'the shop/?'"), "{refused}");
}

/// The table locks that a backend other than the test's own holds on books.
const LOCKED: &str =
    "SELECT count(*) FROM pg_locks WHERE relation = 'books'::regclass AND mode = 'AccessExclusiveLock'";

#[tokio::test]
async fn customers_write_on_while_what_was_kept_is_deleted() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    db.load(&books, &[book(1, "one", &["x"])]).await;
    db.target.arm(tables).await.unwrap();
    db.target.open_to_customers(tables).await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'theirs' FROM generate_series(1, 3)").await.unwrap();
    let many = format!(
        "INSERT INTO cutover.outbox (plan, table_id, part, key) SELECT '{PLAN}', 'books', 0, '{{}}' FROM generate_series(1, 25000)"
    );
    db.sql.batch_execute(&many).await.unwrap();
    // A reader of ours keeps one record: its deletion waits for him, and nobody else does.
    let reader = db.connect().await;
    reader.batch_execute("BEGIN; SELECT FROM cutover.outbox ORDER BY id LIMIT 1 FOR UPDATE").await.unwrap();
    let by_hand = PgTarget::new(&db.settings, PLAN).unwrap();
    let released = by_hand.disown();
    tokio::pin!(released);
    let left = "SELECT count(*) FROM cutover.leftover";
    let deleting = async {
        while db.number(left).await == 0 || db.number(LOCKED).await > 0 || captures(&db).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = &mut released => panic!("it cannot have ended: {done:?}"),
        () = deleting => {}
    }
    db.sql.batch_execute("UPDATE books SET title = 'on and on'").await.unwrap();
    // The plan begins again only when nothing is left of it.
    let again = PgTarget::new(&db.settings, PLAN).unwrap();
    let claimed = again.claim("run-2", tables);
    tokio::pin!(claimed);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut claimed).await.is_err());
    reader.batch_execute("COMMIT").await.unwrap();
    released.await.unwrap();
    claimed.await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM cutover.outbox").await, 0);
    assert_eq!(db.number(left).await, 0);
    assert_eq!(db.target.owned().await.unwrap().tables.len(), 1);
}

/// How many triggers of ours stand on books.
async fn captures(db: &TestDatabase) -> i64 {
    db.number("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'books'::regclass AND tgname ~ '^cutover_capture_'")
        .await
}

#[tokio::test]
async fn what_an_interrupted_release_left_is_gone_once_another_plan_has_the_table() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    db.load(&books, &[book(1, "one", &["x"])]).await;
    db.target.arm(tables).await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'theirs'").await.unwrap();
    // As after a death behind the first of its transactions.
    let given_up = format!(
        "WITH gone AS (DELETE FROM cutover.plan_table WHERE plan = '{PLAN}' RETURNING *)
         INSERT INTO cutover.leftover SELECT plan, table_id, targets FROM gone"
    );
    db.sql.batch_execute(&given_up).await.unwrap();
    let owned = db.target.owned().await.unwrap();
    assert!(owned.tables.is_empty() && owned.interrupted, "the command that began it can end it");
    // Who does not want the table has nothing to do with it.
    let beside = PgTarget::new(&db.settings, "beside/test").unwrap();
    beside.claim("run-3", &[table("papers", vec![key("id", ColumnType::Text)], "")]).await.unwrap();
    assert!(captures(&db).await > 0);
    let other = PgTarget::new(&db.settings, "other/test").unwrap();
    other.claim("run-2", tables).await.unwrap();
    assert_eq!(captures(&db).await, 0, "a trigger of a plan that is gone would capture for nobody");
    for kept in crate::adapters::postgres::owner::KEPT {
        let rows = format!("SELECT count(*) FROM cutover.{kept} WHERE plan = '{PLAN}'");
        assert_eq!(db.number(&rows).await, 0, "{kept}");
    }
}

/// Who waits to have book tags for himself.
const WAITING: &str = "SELECT count(*) FROM pg_locks
    WHERE relation = 'book_tags'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted";

#[tokio::test]
async fn waiting_for_many_tables_ends_no_customer_either() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    db.load(&books, &[book(1, "one", &["x"])]).await;
    db.target.arm(tables).await.unwrap();
    // The second customer waits behind us for the first of our tables while we wait for the first customer to leave it.
    // Once we have it, the two of us wait for each other, and the customer has waited longer: a second wait of ours as
    // long as the first would let the server end that transaction.
    let (first, second) = (db.connect().await, db.connect().await);
    first.batch_execute("BEGIN; UPDATE book_tags SET tag = tag").await.unwrap();
    second.batch_execute("BEGIN; UPDATE books SET title = title").await.unwrap();
    let disarmed = db.target.disarm(tables);
    let customers = async {
        while db.number(WAITING).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let leaves = async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            first.batch_execute("COMMIT").await.unwrap();
        };
        let (written, ()) = tokio::join!(second.batch_execute("UPDATE book_tags SET tag = tag"), leaves);
        written?;
        second.batch_execute("COMMIT").await
    };
    let (disarmed, customers) = tokio::join!(disarmed, customers);
    customers.expect("the customer's transaction comes to its end");
    disarmed.unwrap();
}

#[tokio::test]
async fn a_run_of_before_marks_and_settles_nothing_of_the_run_that_has_the_tables_now() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    let write = "UPDATE books SET title = 'theirs'";
    open_to_customers(&db, &db.target, &books, upsert(book(1, "one", &[])), "run-2", write).await;
    let refused = db.target.mark_rolled_back("run-1", tables).await.unwrap_err();
    assert!(refused.came_back.contains("books belongs to run run-2"), "{refused}");
    assert!(!refused.kind.transient(), "asking again does not help");
    db.target.settle("run-1", tables).await.unwrap();
    let untouched =
        "SELECT count(*) FROM cutover.plan_table WHERE opened IS NOT NULL AND rolled_back IS NULL AND ended IS NULL";
    assert_eq!(db.number(untouched).await, 1);
    assert_eq!(db.target.seize("run-1", "host:9", 1_000).await.unwrap_err().kind, ErrorKind::Conflict);
    db.target.mark_rolled_back("run-2", tables).await.unwrap();
    assert_eq!(db.number(untouched).await, 0);
}
