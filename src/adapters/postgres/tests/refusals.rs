//! A row that the target refuses, for whatever reason, costs that row and no other, and is told with what the server named.

use super::{Place, book, checkpoint, delete, key_of, upsert};
use crate::domain::mapping::{Mapped, MisfitReason as R};
use crate::ports::{Applied, ChangeBatch, ErrorKind, ParkedRow, Partition, RowChange, Target as _};

/// A trigger that raises this for the title `bad`.
async fn raises(place: &Place, table: &str, on: &str, raise: &str) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION objects() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF coalesce(NEW.title, OLD.title) = 'bad' THEN {raise}; END IF; RETURN coalesce(NEW, OLD); END $$;
         CREATE OR REPLACE TRIGGER objects {on} ON {table} FOR EACH ROW EXECUTE FUNCTION objects()"
    );
    place.sql.batch_execute(&sql).await.unwrap();
}

/// Thirty books, of which number 17 has the title `bad`.
fn thirty() -> Vec<Mapped<'static>> {
    (0..30).map(|n| book(n, if n == 17 { "bad" } else { "fine" }, &["t"])).collect()
}

fn told(parked: &[ParkedRow]) -> Vec<(String, R, String)> {
    parked.iter().map(|p| (p.key.0.clone(), p.misfit.reason, p.misfit.to_string())).collect()
}

async fn followed(place: &Place, table: &crate::domain::plan::Table) -> Applied {
    let rows: Vec<RowChange> = thirty().into_iter().map(upsert).collect();
    place.target.apply(table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap()
}

#[tokio::test]
async fn a_row_that_a_trigger_objects_to_is_parked_whatever_it_raises() {
    let (place, table) = Place::with_books().await;
    let raise = |state: &str, named: &str| {
        format!("RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'a secret: ' || NEW.title{named}")
    };
    for (on, state, named, said) in [
        ("BEFORE INSERT OR UPDATE", "45000", "", "SQLSTATE 45000"),
        ("BEFORE INSERT OR UPDATE", "UF001", ", CONSTRAINT = 'no_bad'", "SQLSTATE UF001, constraint no_bad"),
        ("AFTER INSERT OR UPDATE", "P0002", "", "SQLSTATE P0002"),
        ("AFTER INSERT OR UPDATE", "38001", "", "SQLSTATE 38001"),
    ] {
        raises(&place, "books", on, &raise(state, named)).await;
        let wanted = (key_of(17).0, R::Refused, format!("-: the target refused the row ({said})"));
        for loads in [true, false] {
            place.target.reset(&table).await.unwrap();
            let applied = if loads { place.load(&table, &thirty()).await } else { followed(&place, &table).await };
            assert_eq!(told(&applied.parked), std::slice::from_ref(&wanted), "{state}");
            assert_eq!(applied.upserted, 29);
            assert_eq!(told(&place.target.parked(&table, None, None, 9).await.unwrap()), std::slice::from_ref(&wanted));
            assert_eq!(place.number("SELECT count(*) FROM books").await, 29);
            assert_eq!(place.number("SELECT count(*) FROM book_tags").await, 29);
        }
    }
}

#[tokio::test]
async fn a_trigger_that_objects_at_the_commit_costs_its_row_only() {
    let (place, table) = Place::with_books().await;
    let sql = "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.title = 'bad' THEN RAISE EXCEPTION USING ERRCODE = '45000'; END IF; RETURN NULL; END $$;
               CREATE CONSTRAINT TRIGGER late AFTER INSERT ON books DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION late()";
    place.sql.batch_execute(sql).await.unwrap();
    for loads in [true, false] {
        place.target.reset(&table).await.unwrap();
        let applied = if loads { place.load(&table, &thirty()).await } else { followed(&place, &table).await };
        assert_eq!((applied.upserted, applied.parked.len()), (29, 1));
        assert_eq!(applied.parked[0].misfit.detail, "SQLSTATE 45000");
        assert_eq!(place.number("SELECT count(*) FROM books").await, 29);
    }
}

#[tokio::test]
async fn a_delete_that_a_trigger_objects_to_waits_in_the_ledger() {
    let (place, table) = Place::with_books().await;
    place.load(&table, &thirty()).await;
    raises(&place, "books", "BEFORE DELETE", "RAISE EXCEPTION USING ERRCODE = '45000', CONSTRAINT = 'kept'").await;
    let rows = (0..30).map(delete).collect();
    let applied = place.target.apply(&table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap();
    assert_eq!((applied.deleted, applied.parked.len()), (29, 1));
    assert_eq!(applied.parked[0].misfit.detail, "SQLSTATE 45000, constraint kept");
    assert_eq!(place.number("SELECT count(*) FROM books").await, 1);
}

#[tokio::test]
async fn constraints_and_columns_are_named() {
    let (place, table) = Place::with_books().await;
    let sql = "ALTER TABLE books ADD CONSTRAINT titled CHECK (title <> 'bad');
               CREATE DOMAIN tag AS text CHECK (VALUE <> 'odd');
               ALTER TABLE book_tags ALTER tag TYPE tag";
    place.sql.batch_execute(sql).await.unwrap();
    let mut rows = thirty();
    rows[3] = book(3, "fine", &["odd"]);
    rows[4] = super::with(book(4, "fine", &[]), super::AUTHOR, super::text("nobody"));
    rows[5] = super::with(book(5, "", &[]), super::TITLE, crate::domain::value::Cell::Null);
    let applied = place.load(&table, &rows).await;
    let said: Vec<String> = applied.parked.iter().map(|p| p.misfit.to_string()).collect();
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
    let (place, table) = Place::with_books().await;
    for (raise, state) in [
        ("PERFORM no_such_function()", "42883"),
        ("RAISE EXCEPTION USING ERRCODE = '53200', MESSAGE = 'a secret: ' || NEW.title", "53200"),
        ("RAISE EXCEPTION USING ERRCODE = '57014'", "57014"),
    ] {
        raises(&place, "books", "BEFORE INSERT OR UPDATE", raise).await;
        let mut bulk = place.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
        thirty().iter().for_each(|row| bulk.push(row).unwrap());
        let error = bulk.flush(vec![], &super::checkpoint(30)).await.unwrap_err();
        assert!(error.came_back.contains(&format!("SQLSTATE {state}")), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(place.number("SELECT count(*) FROM books").await, 0);
        assert_eq!(place.number("SELECT count(*) FROM cutover.parked").await, 0);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_any_more_costs_no_row() {
    let (place, table) = Place::with_books().await;
    // Read-only from one statement to the next (25006), and a session that is ended (57P01).
    for does in ["SET transaction_read_only = on", "PERFORM pg_terminate_backend(pg_backend_pid())"] {
        for loads in [true, false] {
            place.target.reset(&table).await.unwrap();
            raises(&place, "books", "BEFORE INSERT OR UPDATE", does).await;
            let attempt = async {
                let rows: Vec<RowChange> = thirty().into_iter().map(upsert).collect();
                if !loads {
                    let batch = ChangeBatch { rows, ..ChangeBatch::default() };
                    return place.target.apply(&table, batch).await.map(drop);
                }
                let mut bulk = place.target.bulk(&table, Partition { index: 0, of: 1 }).await?;
                for row in &thirty() {
                    bulk.push(row)?;
                }
                bulk.flush(vec![], &checkpoint(30)).await.map(drop)
            };
            let error = attempt.await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unreachable, "{does}: {error}");
            assert_eq!(place.target.parked(&table, None, None, 9).await.unwrap(), vec![], "{does}");
            assert_eq!(place.number("SELECT count(*) FROM books").await, 0);
            // What comes next gets a connection that works.
            place.sql.batch_execute("DROP TRIGGER objects ON books").await.unwrap();
            let applied = if loads { place.load(&table, &thirty()).await } else { followed(&place, &table).await };
            assert_eq!((applied.upserted, applied.parked.len()), (30, 0));
        }
    }
}
