//! A row that the target refuses, for whatever reason, costs that row and no other, and is reported with what the
//! server named.

use super::super::trouble;
use super::{TestDatabase, book, checkpoint, delete, key_of, upsert};
use crate::domain::mapping::{Mapped, RowErrorReason as R};
use crate::ports::{Applied, ChangeBatch, ErrorKind, ParkedRow, Partition, RowChange, Target as _};

/// A trigger that raises this for the title `bad`.
async fn raises(db: &TestDatabase, table: &str, on: &str, raise: &str) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION objects() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF coalesce(NEW.title, OLD.title) = 'bad' THEN {raise}; END IF; RETURN coalesce(NEW, OLD); END $$;
         CREATE OR REPLACE TRIGGER objects {on} ON {table} FOR EACH ROW EXECUTE FUNCTION objects()"
    );
    db.sql.batch_execute(&sql).await.unwrap();
}

/// Thirty books, of which number 17 has the title `bad`.
fn thirty() -> Vec<Mapped<'static>> {
    (0..30).map(|n| book(n, if n == 17 { "bad" } else { "fine" }, &["t"])).collect()
}

fn told(parked: &[ParkedRow]) -> Vec<(String, R, String)> {
    parked.iter().map(|p| (p.key.0.clone(), p.row_error.reason, p.row_error.to_string())).collect()
}

async fn followed(db: &TestDatabase, table: &crate::domain::plan::Table) -> Applied {
    let rows: Vec<RowChange> = thirty().into_iter().map(upsert).collect();
    db.target.apply(table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap()
}

#[tokio::test]
async fn a_row_that_a_trigger_objects_to_is_parked_whatever_it_raises() {
    let (db, table) = TestDatabase::with_books().await;
    let raise = |state: &str, named: &str| {
        format!("RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'a secret: ' || NEW.title{named}")
    };
    for (on, state, named, said) in [
        ("BEFORE INSERT OR UPDATE", "45000", "", "SQLSTATE 45000"),
        ("BEFORE INSERT OR UPDATE", "UF001", ", CONSTRAINT = 'no_bad'", "SQLSTATE UF001, constraint no_bad"),
        ("AFTER INSERT OR UPDATE", "P0002", "", "SQLSTATE P0002"),
        ("AFTER INSERT OR UPDATE", "38001", "", "SQLSTATE 38001"),
    ] {
        raises(&db, "books", on, &raise(state, named)).await;
        let wanted = (key_of(17).0, R::Refused, format!("-: the target refused the row ({said})"));
        for loads in [true, false] {
            db.target.reset(&table).await.unwrap();
            let applied = if loads { db.load(&table, &thirty()).await } else { followed(&db, &table).await };
            assert_eq!(told(&applied.parked), std::slice::from_ref(&wanted), "{state}");
            assert_eq!(applied.upserted, 29);
            assert_eq!(told(&db.target.parked(&table, None, None, 9).await.unwrap()), std::slice::from_ref(&wanted));
            assert_eq!(db.number("SELECT count(*) FROM books").await, 29);
            assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 29);
        }
    }
}

#[tokio::test]
async fn a_trigger_that_objects_at_the_commit_costs_its_row_only() {
    let (db, table) = TestDatabase::with_books().await;
    let sql = "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.title = 'bad' THEN RAISE EXCEPTION USING ERRCODE = '45000'; END IF; RETURN NULL; END $$;
               CREATE CONSTRAINT TRIGGER late AFTER INSERT ON books DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION late()";
    db.sql.batch_execute(sql).await.unwrap();
    for loads in [true, false] {
        db.target.reset(&table).await.unwrap();
        let applied = if loads { db.load(&table, &thirty()).await } else { followed(&db, &table).await };
        assert_eq!((applied.upserted, applied.parked.len()), (29, 1));
        assert_eq!(applied.parked[0].row_error.detail, "SQLSTATE 45000");
        assert_eq!(db.number("SELECT count(*) FROM books").await, 29);
    }
}

#[tokio::test]
async fn a_delete_that_a_trigger_objects_to_waits_in_the_ledger() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &thirty()).await;
    raises(&db, "books", "BEFORE DELETE", "RAISE EXCEPTION USING ERRCODE = '45000', CONSTRAINT = 'kept'").await;
    let rows = (0..30).map(delete).collect();
    let applied = db.target.apply(&table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap();
    assert_eq!((applied.deleted, applied.parked.len()), (29, 1));
    assert_eq!(applied.parked[0].row_error.detail, "SQLSTATE 45000, constraint kept");
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
}

#[tokio::test]
async fn constraints_and_columns_are_named() {
    let (db, table) = TestDatabase::with_books().await;
    let sql = "ALTER TABLE books ADD CONSTRAINT titled CHECK (title <> 'bad');
               CREATE DOMAIN tag AS text CHECK (VALUE <> 'odd');
               ALTER TABLE book_tags ALTER tag TYPE tag";
    db.sql.batch_execute(sql).await.unwrap();
    let mut rows = thirty();
    rows[3] = book(3, "fine", &["odd"]);
    rows[4] = super::with(book(4, "fine", &[]), super::AUTHOR, super::text("nobody"));
    rows[5] = super::with(book(5, "", &[]), super::TITLE, crate::domain::value::Cell::Null);
    let applied = db.load(&table, &rows).await;
    let said: Vec<String> = applied.parked.iter().map(|p| p.row_error.to_string()).collect();
    assert_eq!(
        said,
        [
            "-: the target refused the row (SQLSTATE 23514, constraint tag_check)",
            "author: refers to a parent row that is not in the target (SQLSTATE 23503, constraint books_author_fkey)",
            "title: the target refused the row (SQLSTATE 23502)",
            "-: the target refused the row (SQLSTATE 23514, constraint titled)",
        ]
    );
    assert_eq!(applied.upserted, 26);
}

#[tokio::test]
async fn what_is_not_the_rows_fault_parks_nothing() {
    let (db, table) = TestDatabase::with_books().await;
    for (raise, state) in [
        ("PERFORM no_such_function()", "42883"),
        ("RAISE EXCEPTION USING ERRCODE = '53200', MESSAGE = 'a secret: ' || NEW.title", "53200"),
        ("RAISE EXCEPTION USING ERRCODE = '57014'", "57014"),
    ] {
        raises(&db, "books", "BEFORE INSERT OR UPDATE", raise).await;
        let mut bulk = db.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
        thirty().iter().for_each(|row| bulk.push(row).unwrap());
        let error = bulk.flush(vec![], &super::checkpoint(30)).await.unwrap_err();
        assert!(error.came_back.contains(&format!("SQLSTATE {state}")), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM cutover.parked").await, 0);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_any_more_costs_no_row() {
    let (db, table) = TestDatabase::with_books().await;
    // Read-only from one statement to the next (25006), and a session that is ended (57P01).
    for (does, kind) in [
        ("SET transaction_read_only = on", ErrorKind::ReadOnly),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", ErrorKind::Unreachable),
    ] {
        for loads in [true, false] {
            db.target.reset(&table).await.unwrap();
            raises(&db, "books", "BEFORE INSERT OR UPDATE", does).await;
            let attempt = async {
                let rows: Vec<RowChange> = thirty().into_iter().map(upsert).collect();
                if !loads {
                    let batch = ChangeBatch { rows, ..ChangeBatch::default() };
                    return db.target.apply(&table, batch).await.map(drop);
                }
                let mut bulk = db.target.bulk(&table, Partition { index: 0, of: 1 }).await?;
                for row in &thirty() {
                    bulk.push(row)?;
                }
                bulk.flush(vec![], &checkpoint(30)).await.map(drop)
            };
            let error = attempt.await.unwrap_err();
            assert_eq!(error.kind, kind, "{does}: {error}");
            assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), vec![], "{does}");
            assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
            // What comes next gets a connection that works.
            db.sql.batch_execute("DROP TRIGGER objects ON books").await.unwrap();
            let applied = if loads { db.load(&table, &thirty()).await } else { followed(&db, &table).await };
            assert_eq!((applied.upserted, applied.parked.len()), (30, 0));
        }
    }
}

#[tokio::test]
async fn a_row_that_another_one_excludes_waits_like_one_whose_unique_value_is_taken() {
    let (db, table) = TestDatabase::with_books().await;
    // As a unique key would be, but by another operator: no two books of a kind.
    let sql = "ALTER TABLE books ADD CONSTRAINT alone EXCLUDE USING btree (price WITH =) WHERE (title = 'bad')";
    db.sql.batch_execute(sql).await.unwrap();
    let mut rows = thirty();
    rows[3] = book(3, "bad", &[]);
    let applied = db.load(&table, &rows).await;
    let excluded = |reason: R| reason.name() == "excluded";
    assert!(matches!(&applied.parked[..], [one] if excluded(one.row_error.reason)), "{:?}", applied.parked);
    let waiting: Vec<R> = R::ALL.into_iter().filter(|reason| excluded(*reason)).collect();
    let kept = db.target.parked(&table, Some(&waiting), None, 9).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].row_error.to_string().contains("constraint alone"), "{}", kept[0].row_error);
}

#[tokio::test]
async fn a_character_that_an_encoding_does_not_have_is_told_from_a_text_that_is_none() {
    let db = TestDatabase::bare().await;
    let of = async |sql: &str| {
        let e = db.sql.query_one(sql, &[]).await.unwrap_err();
        trouble::error(&e, "apply changes of", "books").advice
    };
    let advice = of("SELECT convert_to('20 \u{20ac}', 'LATIN1')").await;
    assert!(advice.contains("has no such character") && !advice.contains("SQL_ASCII"), "{advice}");
    let advice = of("SELECT convert_from('\\xff', 'UTF8')").await;
    assert!(advice.contains("not valid in its encoding") && advice.contains("SQL_ASCII"), "{advice}");
}
