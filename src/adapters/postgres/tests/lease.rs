//! One driver at a time.

use std::time::Duration;

use super::{PLAN, PgTarget, TestDatabase, book, upsert, uuid_of};
use crate::ports::{ChangeBatch, ErrorKind, Target as _};

#[tokio::test]
async fn rows_are_written_again_only_by_whoever_holds_the_lease() {
    let (db, table) = TestDatabase::with_books().await;
    let one = || ChangeBatch { rows: vec![upsert(book(1, "one", &[]))], ..ChangeBatch::default() };
    db.target.lease("run", "a", 60_000).await.unwrap();
    db.target.apply(&table, one()).await.unwrap();
    let other = PgTarget::new(&db.settings, PLAN).unwrap();
    other.seize("run", "b", 60_000).await.unwrap();
    let refused = db.target.apply(&table, one()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(refused.came_back.contains("lease"), "{refused}");
    other.apply(&table, one()).await.unwrap();
}

#[tokio::test]
async fn a_write_that_was_under_way_when_the_lease_was_taken_is_not_committed() {
    let (db, table) = TestDatabase::with_books().await;
    db.target.lease("run", "a", 60_000).await.unwrap();
    let customer = db.connect().await;
    let theirs =
        format!("BEGIN; INSERT INTO books (id, title) VALUES ('{}', 'theirs')", uuid::Uuid::from_bytes(uuid_of(1)));
    customer.batch_execute(&theirs).await.unwrap();
    let one = ChangeBatch { rows: vec![upsert(book(1, "one", &[]))], ..ChangeBatch::default() };
    let late = db.target.apply(&table, one);
    let taken = async {
        while db
            .number(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted
            AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())",
            )
            .await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let other = PgTarget::new(&db.settings, PLAN).unwrap();
        other.seize("run", "b", 60_000).await.unwrap();
        customer.batch_execute("ROLLBACK").await.unwrap();
    };
    let (late, ()) = tokio::join!(late, taken);
    assert_eq!(late.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
}

#[tokio::test]
async fn the_epoch_grows_with_every_change_of_hands() {
    let db = TestDatabase::new().await;
    let t = &db.target;
    let first = t.lease("run-1", "a:1", 60_000).await.unwrap();
    assert_eq!((first.epoch, first.holder.as_str(), first.run.as_str()), (1, "a:1", "run-1"));
    let renewed = t.lease("run-1", "a:1", 90_000).await.unwrap();
    assert_eq!(renewed.epoch, 1);
    assert!(renewed.until > first.until);

    let refused = t.lease("run-1", "b:2", 60_000).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(refused.came_back.contains("a:1"), "{refused}");

    let seized = t.seize("run-1", "b:2", 60_000).await.unwrap();
    assert_eq!(seized.epoch, 2);
    assert_eq!(t.lease("run-1", "a:1", 60_000).await.unwrap_err().kind, ErrorKind::Conflict);
    // The old holder cannot give back what it does not have.
    t.release("a:1").await.unwrap();
    assert_eq!(t.lease("run-1", "a:1", 60_000).await.unwrap_err().kind, ErrorKind::Conflict);
    t.release("b:2").await.unwrap();
    assert_eq!(t.lease("run-2", "a:1", 60_000).await.unwrap().epoch, 3);
}

/// In containers every process may have the host's name and the number that others have.
#[tokio::test]
async fn a_holder_of_the_same_name_in_another_run_is_another_driver() {
    let db = TestDatabase::new().await;
    db.target.lease("run-1", "vm:1", 60_000).await.unwrap();
    let refused = db.target.lease("run-2", "vm:1", 60_000).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(refused.came_back.contains("run-1"), "{refused}");
    assert_eq!(db.target.lease("run-1", "vm:1", 60_000).await.unwrap().epoch, 1);
}

#[tokio::test]
async fn a_lease_that_is_over_can_be_taken() {
    let db = TestDatabase::new().await;
    db.target.lease("run", "a", 60_000).await.unwrap();
    db.sql.batch_execute("UPDATE cutover.lease SET until = clock_timestamp()").await.unwrap();
    assert_eq!(db.target.lease("run", "b", 60_000).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn of_many_who_ask_one_gets_it() {
    let db = TestDatabase::new().await;
    let asked = (0..8).map(|n| {
        let target = &db.target;
        async move { target.lease("run", &format!("h{n}"), 60_000).await }
    });
    let got = futures::future::join_all(asked).await;
    assert_eq!(got.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(got.iter().filter_map(|r| r.as_ref().err()).all(|e| e.kind == ErrorKind::Conflict));
}
