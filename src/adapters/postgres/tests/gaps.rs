//! What is done to captured tables long after: customers' own writes go on, and what is not captured is named.

use tokio_util::task::AbortOnDropHandle;

use super::{TestDatabase, book, books};
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, Outbox as _, Target as _};

async fn armed() -> (TestDatabase, Table) {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &[book(1, "one", &["x"]), book(2, "two", &[])]).await;
    assert!(db.target.arm(std::slice::from_ref(&table)).await.unwrap()[0].exercised);
    assert_eq!(gaps(&db, &table).await, Vec::<String>::new());
    (db, table)
}

async fn gaps(db: &TestDatabase, table: &Table) -> Vec<String> {
    db.target.gaps(std::slice::from_ref(table)).await.unwrap().into_iter().map(|gap| gap.what).collect()
}

async fn records(db: &TestDatabase) -> i64 {
    db.number("SELECT count(*) FROM cutover.outbox").await
}

#[tokio::test]
async fn a_column_that_is_renamed_or_dropped_fails_no_write_and_is_not_taken_for_empty() {
    let (db, table) = armed().await;
    db.sql.batch_execute("ALTER TABLE books RENAME COLUMN author TO writer").await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'mine' WHERE title = 'one'").await.unwrap();
    db.sql.batch_execute("UPDATE books SET price = 3 WHERE title = 'two'").await.unwrap();
    db.sql.batch_execute("INSERT INTO authors VALUES ('a'); UPDATE books SET writer = 'a'").await.unwrap();
    assert_eq!(records(&db).await, 4, "a change of the column nobody knows any more is a change");
    let found = gaps(&db, &table).await;
    assert!(found.len() == 1 && found[0].contains("books: no column author"), "{found:?}");
    let held = db.target.take(&table, 10).await.err().expect("nothing is carried");
    assert_eq!(held.kind, ErrorKind::NotFound, "{held}");
    assert!(held.came_back.contains("author"), "{held}");
    // Once the column has its name again, what was written meanwhile is known by name and not applied.
    db.sql.batch_execute("ALTER TABLE books RENAME COLUMN writer TO author").await.unwrap();
    db.sql.batch_execute("UPDATE book_tags SET tag = 'y'").await.unwrap();
    let taken = db.target.take(&table, 10).await.unwrap().unwrap();
    let absent: Vec<_> = taken.changes().iter().map(|c| c.absent.as_deref()).collect();
    assert_eq!(absent, [Some("books.author"); 2]);
    drop(taken);
    assert_eq!(gaps(&db, &table).await, Vec::<String>::new());
    // What is dropped, a whole table emptied, and a key that goes.
    db.sql.batch_execute("ALTER TABLE books DROP COLUMN author; DELETE FROM book_tags").await.unwrap();
    db.sql
        .batch_execute("ALTER TABLE books RENAME COLUMN id TO other; DELETE FROM books WHERE title = 'two'")
        .await
        .unwrap();
    db.sql.batch_execute("TRUNCATE books CASCADE").await.unwrap();
    let nameless = "SELECT count(*) FROM cutover.outbox WHERE key = '{\"id\": null}'";
    assert_eq!(db.number(nameless).await, 2);
}

#[tokio::test]
async fn writes_of_a_replica_session_are_captured_and_a_trigger_that_is_off_is_named() {
    let (db, table) = armed().await;
    db.sql
        .batch_execute("SET session_replication_role = replica; UPDATE books SET title = 'r' WHERE title = 'one'")
        .await
        .unwrap();
    assert_eq!(records(&db).await, 1);
    let ours = "BEGIN; SET LOCAL cutover.origin = 'forward'; UPDATE books SET title = 'f'; COMMIT; SET session_replication_role = origin";
    db.sql.batch_execute(ours).await.unwrap();
    assert_eq!(records(&db).await, 1, "ours leave none in any session");
    let tables = std::slice::from_ref(&table);
    for off in ["DISABLE TRIGGER USER", "ENABLE REPLICA TRIGGER ALL"] {
        let off = match off {
            "DISABLE TRIGGER USER" => "ALTER TABLE book_tags DISABLE TRIGGER USER".to_owned(),
            _ => {
                let name = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'book_tags'::regclass AND tgname LIKE 'cutover%' LIMIT 1";
                let name = db.text(name).await.unwrap();
                format!("ALTER TABLE book_tags ENABLE REPLICA TRIGGER {name}")
            }
        };
        db.sql.batch_execute("ALTER TABLE book_tags ENABLE TRIGGER USER").await.unwrap();
        db.sql.batch_execute(&off).await.unwrap();
        assert!(!db.target.armed(tables).await.unwrap(), "{off}");
        let found = gaps(&db, &table).await;
        // The one that is on again was off before.
        let off_now: Vec<_> = found.iter().filter(|gap| gap.contains("ENABLE ALWAYS")).collect();
        assert!(off_now.len() == 1 && off_now[0].starts_with("book_tags: our trigger"), "{off}: {found:?}");
    }
    // What an earlier version made fires for ordinary sessions only; arming again corrects it.
    let earlier = "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname, tgrelid::regclass r FROM pg_trigger WHERE tgname LIKE 'cutover_capture_%'
                   LOOP EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', t.r, t.tgname); END LOOP; END $$";
    db.sql.batch_execute(earlier).await.unwrap();
    db.target.arm(tables).await.unwrap();
    let always = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover_capture_%' AND tgenabled = 'A'";
    assert_eq!(db.number(always).await, 4);
}

#[tokio::test]
async fn rights_and_tables_that_records_need_are_missed_before_a_write_fails() {
    let (db, table) = armed().await;
    let role = format!("writer_{}", db.settings.database);
    let sql = format!(
        "CREATE ROLE {role}; DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE proname LIKE 'capture_trial%' LOOP
                 EXECUTE format('ALTER FUNCTION %s OWNER TO {role}', f); END LOOP; END $$"
    );
    db.sql.batch_execute(&sql).await.unwrap();
    let found = gaps(&db, &table).await;
    assert!(found.len() == 2 && found[0].contains(&format!("{role} may not write into cutover.outbox")), "{found:?}");
    let granted = format!("GRANT USAGE ON SCHEMA cutover TO {role}; GRANT INSERT ON cutover.outbox TO {role}");
    db.sql.batch_execute(&granted).await.unwrap();
    assert_eq!(gaps(&db, &table).await, Vec::<String>::new());
    db.sql.batch_execute("UPDATE books SET title = 'x'").await.unwrap();
    db.sql.batch_execute("ALTER TABLE cutover.outbox RENAME TO gone").await.unwrap();
    let found = gaps(&db, &table).await;
    assert!(found.len() == 2 && found[0].contains("cutover.outbox is gone"), "{found:?}");
}

#[tokio::test]
async fn a_partition_that_is_attached_with_rows_in_it_is_named_and_an_empty_one_is_not() {
    let db = TestDatabase::new().await;
    // Others write all the time, as on a production server: the age of a transaction never stands still.
    let others = db.connect().await;
    let _writing = AbortOnDropHandle::new(tokio::spawn(async move {
        while others.batch_execute("SELECT pg_current_xact_id()").await.is_ok() {}
    }));
    let mut kept = books();
    (kept.id, kept.target) = ("kept".into(), "kept".into());
    kept.children.clear();
    kept.ddl = Some(
        "CREATE TABLE kept (id uuid PRIMARY KEY, title varchar(20), isbn varchar(20), price numeric(10,2), author text)
             PARTITION BY RANGE (id);
         CREATE TABLE kept_1 PARTITION OF kept FOR VALUES FROM (MINVALUE) TO ('10000000-0000-0000-0000-000000000000')"
            .into(),
    );
    assert!(db.target.create(&kept).await.unwrap());
    db.target.claim("run-1", std::slice::from_ref(&kept)).await.unwrap();
    db.target.arm(std::slice::from_ref(&kept)).await.unwrap();
    db.target.open_to_customers(std::slice::from_ref(&kept)).await.unwrap();
    let next = |n: u32| {
        format!(
            "FOR VALUES FROM ('{n}0000000-0000-0000-0000-000000000000') TO ('{}0000000-0000-0000-0000-000000000000')",
            n + 1
        )
    };
    let row = |n: u32| format!("('{n}0000000-0000-0000-0000-000000000000', 'title')");
    // Made where it is, also with rows in the same transaction; attached empty and filled then.
    let fine = format!(
        "BEGIN; CREATE TABLE kept_2 PARTITION OF kept {}; INSERT INTO kept VALUES {}; COMMIT;
         CREATE TABLE kept_3 (LIKE kept INCLUDING ALL); ALTER TABLE kept ATTACH PARTITION kept_3 {};
         INSERT INTO kept VALUES {}",
        next(1),
        row(1),
        next(2),
        row(2)
    );
    db.sql.batch_execute(&fine).await.unwrap();
    assert_eq!(records(&db).await, 2);
    assert_eq!(gaps(&db, &kept).await, Vec::<String>::new());
    for (n, begin, end) in [(4, "", ""), (5, "BEGIN;", "COMMIT")] {
        let attached = format!(
            "{begin} CREATE TABLE kept_{n} (LIKE kept INCLUDING ALL); INSERT INTO kept_{n} VALUES {};
             ALTER TABLE kept ATTACH PARTITION kept_{n} {}; {end}",
            row(n),
            next(n)
        );
        if begin.is_empty() {
            // One string is one transaction.
            for statement in attached.split(';') {
                db.sql.batch_execute(statement).await.unwrap();
            }
        } else {
            db.sql.batch_execute(&attached).await.unwrap();
        }
        let found = gaps(&db, &kept).await;
        assert!(found.len() == 1 && found[0].contains(&format!("kept_{n} was attached")), "{found:?}");
        // Arming again does not take as captured what was not.
        if begin.is_empty() {
            db.target.arm(std::slice::from_ref(&kept)).await.unwrap();
            assert_eq!(gaps(&db, &kept).await, found);
        }
        // As it is said.
        let mended = format!(
            "ALTER TABLE kept DETACH PARTITION kept_{n}; ALTER TABLE kept_{n} RENAME TO aside_{n};
             CREATE TABLE kept_{n}b PARTITION OF kept {}; INSERT INTO kept TABLE aside_{n}",
            next(n)
        );
        db.sql.batch_execute(&mended).await.unwrap();
        assert_eq!(gaps(&db, &kept).await, Vec::<String>::new());
    }
    assert_eq!(records(&db).await, 4);
    // Empty when it was made, attached while somebody writes to it through the table; and the other way round.
    let (first, second) = (db.connect().await, db.connect().await);
    first.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    second.batch_execute(&format!("CREATE TABLE kept_6 PARTITION OF kept {}", next(6))).await.unwrap();
    first.batch_execute(&format!("INSERT INTO kept VALUES {}; COMMIT", row(6))).await.unwrap();
    assert_eq!(gaps(&db, &kept).await, Vec::<String>::new(), "a transaction that began before the partition");
    first.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    second.batch_execute("CREATE TABLE kept_7 (LIKE kept INCLUDING ALL)").await.unwrap();
    first.batch_execute(&format!("INSERT INTO kept_7 VALUES {}; COMMIT", row(7))).await.unwrap();
    second.batch_execute(&format!("ALTER TABLE kept ATTACH PARTITION kept_7 {}", next(7))).await.unwrap();
    let found = gaps(&db, &kept).await;
    assert!(found.len() == 1 && found[0].contains("kept_7 was attached"), "{found:?}");
    db.sql.batch_execute("DROP TABLE kept_7").await.unwrap();
    // There when capture began; detached, changed and attached again.
    let first = "FOR VALUES FROM (MINVALUE) TO ('10000000-0000-0000-0000-000000000000')";
    db.sql.batch_execute(&format!("INSERT INTO kept VALUES {}", row(0))).await.unwrap();
    assert_eq!(gaps(&db, &kept).await, Vec::<String>::new());
    for statement in [
        "ALTER TABLE kept DETACH PARTITION kept_1",
        "UPDATE kept_1 SET title = 'unseen'",
        &format!("ALTER TABLE kept ATTACH PARTITION kept_1 {}", first),
    ] {
        db.sql.batch_execute(statement).await.unwrap();
    }
    let found = gaps(&db, &kept).await;
    assert!(found.len() == 1 && found[0].contains("kept_1 was attached"), "{found:?}");
    db.sql.batch_execute("DROP TABLE kept_1; CREATE TABLE kept_1 (LIKE kept INCLUDING ALL)").await.unwrap();
    db.sql.batch_execute(&format!("ALTER TABLE kept ATTACH PARTITION kept_1 {}", first)).await.unwrap();
    db.sql.batch_execute("ALTER TABLE kept_1 DISABLE TRIGGER USER").await.unwrap();
    let found = gaps(&db, &kept).await;
    assert!(found.len() == 1 && found[0].starts_with("kept_1: our trigger"), "{found:?}");
}

#[tokio::test]
async fn a_trigger_that_was_off_for_a_while_stays_named() {
    let (db, table) = armed().await;
    let tables = std::slice::from_ref(&table);
    db.sql.batch_execute("ALTER TABLE books DISABLE TRIGGER USER").await.unwrap();
    db.sql.batch_execute("UPDATE books SET title = 'unseen' WHERE title = 'one'").await.unwrap();
    db.sql.batch_execute("ALTER TABLE books ENABLE TRIGGER USER").await.unwrap();
    assert_eq!(records(&db).await, 0);
    assert!(db.target.armed(tables).await.unwrap(), "nothing shows it any more but this:");
    let found = db.target.gaps(tables).await.unwrap();
    assert!(found.len() == 1 && found[0].lost, "{found:?}");
    assert!(found[0].what.starts_with("books: our trigger was altered"), "{found:?}");
    // Before the thaw nothing can be missed: starting again makes the trigger anew.
    db.target.arm(tables).await.unwrap();
    assert_eq!(gaps(&db, &table).await, Vec::<String>::new());
    // Later it does not go away when the run is started again, with another mapping or not, or the catalogue rewritten.
    db.target.open_to_customers(tables).await.unwrap();
    db.sql
        .batch_execute("ALTER TABLE books DISABLE TRIGGER USER; ALTER TABLE books ENABLE TRIGGER USER")
        .await
        .unwrap();
    assert_eq!(db.target.gaps(tables).await.unwrap(), found);
    db.target.arm(tables).await.unwrap();
    db.sql.batch_execute("VACUUM FULL pg_trigger").await.unwrap();
    db.sql.batch_execute("VACUUM FREEZE pg_trigger").await.unwrap();
    assert_eq!(db.target.gaps(tables).await.unwrap(), found);
    let mut amended = table.clone();
    amended.columns.pop();
    let tables = std::slice::from_ref(&amended);
    db.target.arm(tables).await.unwrap();
    assert_eq!(db.target.gaps(tables).await.unwrap(), found, "its successor says it on");
    // A new beginning ends it.
    db.target.disarm(tables).await.unwrap();
    db.target.arm(tables).await.unwrap();
    db.sql.batch_execute("VACUUM FULL pg_trigger").await.unwrap();
    db.sql.batch_execute("VACUUM FREEZE pg_trigger").await.unwrap();
    assert_eq!(gaps(&db, &amended).await, Vec::<String>::new());
    // Somebody who makes the trigger again has not captured what came between.
    let again = "DO $$ DECLARE d text; n text; BEGIN
        SELECT pg_get_triggerdef(oid), tgname INTO d, n FROM pg_trigger
        WHERE tgrelid = 'books'::regclass AND tgname ~ '^cutover_capture_' AND tgname !~ '_all$';
        EXECUTE format('DROP TRIGGER %I ON books', n); EXECUTE d;
    END $$";
    db.sql.batch_execute(again).await.unwrap();
    assert_eq!(gaps(&db, &amended).await.len(), 1);
}
