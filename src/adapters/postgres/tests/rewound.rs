//! A failover that loses transactions takes progress and rows back together. A process that goes on from memory is
//! refused.

use std::collections::BTreeMap;

use super::{TestDatabase, book, checkpoint, upsert};
use crate::domain::plan::Table;
use crate::ports::{ChangeBatch, Checkpoint, Cursor, ErrorKind, Fence, Partition, Position, Target as _};

const LANES: u32 = 3;
/// Enough rows that each lane is worth a transaction.
const MANY: u32 = 600;

type Stands = BTreeMap<String, Option<Position>>;

fn at(shards: &[(&str, &str)]) -> BTreeMap<String, Position> {
    shards.iter().map(|(shard, position)| ((*shard).to_owned(), Position((*position).to_owned()))).collect()
}

fn known(shards: &[(&str, &str)]) -> Stands {
    at(shards).into_iter().map(|(shard, position)| (shard, Some(position))).collect()
}

fn batch(fence: Fence, from: Stands, to: &[(&str, &str)], rows: std::ops::Range<u32>, title: &str) -> ChangeBatch {
    let rows = rows.map(|n| upsert(book(n, title, &[]))).collect();
    ChangeBatch { rows, from, positions: at(to), fence: Some(fence), ..ChangeBatch::default() }
}

async fn followed(lanes: u32) -> (TestDatabase, Table, Fence) {
    let (db, table) = TestDatabase::with_books().await;
    db.target.start_positions(&table, "arn:1", &at(&[("s1", "oldest@1"), ("s2", "oldest@1")])).await.unwrap();
    let fence = db.target.resume_follow(&table, lanes).await.unwrap().unwrap().fence;
    (db, table, fence)
}

/// What a replica holds that did not receive the last transactions: everything as it is now.
async fn keep(db: &TestDatabase) {
    let sql = "CREATE SCHEMA kept; CREATE TABLE kept.books AS SELECT id, title, isbn, price, author FROM books;
               CREATE TABLE kept.stream_position AS TABLE cutover.stream_position;
               CREATE TABLE kept.lane AS TABLE cutover.lane";
    db.sql.batch_execute(sql).await.unwrap();
}

/// It is promoted.
async fn fail_over(db: &TestDatabase) {
    let sql = "DELETE FROM books; INSERT INTO books (id, title, isbn, price, author) TABLE kept.books;
               DELETE FROM cutover.stream_position; INSERT INTO cutover.stream_position TABLE kept.stream_position;
               DELETE FROM cutover.lane; INSERT INTO cutover.lane TABLE kept.lane; DROP SCHEMA kept CASCADE";
    db.sql.batch_execute(sql).await.unwrap();
}

async fn lost(db: &TestDatabase, table: &Table, batch: ChangeBatch) {
    let refused = db.target.apply(table, batch).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Rewound, "{refused}");
    assert!(refused.came_back.contains("lost transactions"), "{refused}");
    assert_eq!(db.target.parked(table, None, None, 9).await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_batch_behind_lost_ones_is_refused_and_what_was_lost_is_applied_anew() {
    let (db, table, fence) = followed(1).await;
    let start = known(&[("s1", "oldest@1"), ("s2", "oldest@1")]);
    let (one, two) = (known(&[("s1", "1"), ("s2", "oldest@1")]), known(&[("s1", "2"), ("s2", "oldest@1")]));
    db.target.apply(&table, batch(fence, start, &[("s1", "1")], 1..2, "one")).await.unwrap();
    keep(&db).await;
    db.target.apply(&table, batch(fence, one, &[("s1", "2")], 2..3, "two")).await.unwrap();
    fail_over(&db).await;
    // Also when it is another shard that goes on.
    lost(&db, &table, batch(fence, two.clone(), &[("s1", "3")], 3..4, "three")).await;
    lost(&db, &table, batch(fence, two, &[("s2", "9")], 3..4, "three")).await;
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
    let state = db.target.resume_follow(&table, 1).await.unwrap().unwrap();
    assert_eq!(state.positions["s1"], Some(Position("1".into())));
    let again = batch(state.fence, state.positions, &[("s1", "3")], 2..4, "again");
    db.target.apply(&table, again).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, 3);
}

#[tokio::test]
async fn each_lane_looks_for_itself_and_a_shard_that_had_ended_may_be_open_again() {
    let (db, table, fence) = followed(LANES).await;
    let start = known(&[("s1", "oldest@1"), ("s2", "oldest@1")]);
    db.target.apply(&table, batch(fence, start.clone(), &[("s1", "10")], 0..MANY, "one")).await.unwrap();
    keep(&db).await;
    let one = known(&[("s1", "10"), ("s2", "oldest@1")]);
    db.target.apply(&table, batch(fence, one.clone(), &[("s1", "20")], 0..MANY, "two")).await.unwrap();
    let two = known(&[("s1", "20"), ("s2", "oldest@1")]);
    let mut third = batch(fence, two.clone(), &[("s1", "30")], 0..MANY, "three");
    third.finished = vec!["s2".into()];
    third.markers = vec!["nonce".into()];
    db.target.apply(&table, third).await.unwrap();
    let three = BTreeMap::from([("s1".to_owned(), Some(Position("30".into()))), ("s2".to_owned(), None)]);
    db.target.apply(&table, batch(fence, three.clone(), &[("s1", "40")], 0..MANY, "four")).await.unwrap();
    fail_over(&db).await;
    let four = BTreeMap::from([("s1".to_owned(), Some(Position("40".into()))), ("s2".to_owned(), None)]);
    lost(&db, &table, batch(fence, four.clone(), &[("s1", "50")], 0..MANY, "five")).await;
    lost(&db, &table, batch(fence, four, &[("s1", "50")], 0..3, "five")).await;
    assert_eq!(db.number("SELECT count(*) FROM books WHERE title <> 'one'").await, 0, "no lane wrote");
    db.target.apply(&table, batch(fence, one, &[("s1", "50")], 0..MANY, "all")).await.unwrap();
}

#[tokio::test]
async fn what_lanes_of_the_same_batch_landed_must_still_be_there_for_the_rest_of_it() {
    let (db, table, fence) = followed(LANES).await;
    let start = known(&[("s1", "oldest@1"), ("s2", "oldest@1")]);
    db.target.apply(&table, batch(fence, start, &[("s1", "10")], 0..MANY, "one")).await.unwrap();
    let from = known(&[("s1", "10"), ("s2", "oldest@1")]);
    let mut two = batch(fence, from, &[("s1", "20")], 0..MANY, "two");
    two.markers = vec!["nonce".into()];
    // The last lane is held back for the marker. A failover takes the first lane's part away before it comes.
    let lose = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    UPDATE cutover.lane SET position = '10' WHERE lane = 0 AND position = '20'; RETURN NULL; END $$;
                CREATE TRIGGER lose AFTER UPDATE ON cutover.lane FOR EACH ROW
                    WHEN (NEW.position = '20' AND NEW.lane = 0) EXECUTE FUNCTION lose()";
    db.sql.batch_execute(lose).await.unwrap();
    lost(&db, &table, two).await;
    assert_eq!(db.target.marker(&table, "nonce").await.unwrap(), None);
    assert_eq!(db.target.positions(&table).await.unwrap().unwrap().1["s1"], Some(Position("10".into())));
}

#[tokio::test]
async fn a_load_goes_on_only_where_its_cursor_stands() {
    let (db, table) = TestDatabase::with_books().await;
    let mut bulk = db.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
    let after = |n: u64| Some(Cursor(format!("after {n}")));
    bulk.goes_on_from(None);
    bulk.push(&book(1, "one", &[])).unwrap();
    bulk.flush(vec![], &checkpoint(1)).await.unwrap();
    // Once more, as after an answer that was lost.
    bulk.push(&book(1, "one", &[])).unwrap();
    bulk.flush(vec![], &checkpoint(1)).await.unwrap();
    bulk.goes_on_from(after(1));
    bulk.push(&book(2, "two", &[])).unwrap();
    bulk.flush(vec![], &checkpoint(2)).await.unwrap();
    for lost in ["UPDATE cutover.load_checkpoint SET cursor = 'after 1'", "DELETE FROM cutover.load_checkpoint"] {
        db.sql.batch_execute(&format!("DELETE FROM books WHERE title = 'two'; {lost}")).await.unwrap();
        bulk.goes_on_from(after(2));
        bulk.push(&book(3, "three", &[])).unwrap();
        let done = Checkpoint { cursor: None, done: true, ..checkpoint(3) };
        let refused = bulk.flush(vec![], &done).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Rewound, "{refused}");
        assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
        bulk = db.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
    }
    // Nothing of a segment may be stored that begins anew where rows of it stand.
    db.load(&table, &[book(2, "two", &[])]).await;
    bulk.goes_on_from(None);
    bulk.push(&book(3, "three", &[])).unwrap();
    assert_eq!(bulk.flush(vec![], &checkpoint(3)).await.unwrap_err().kind, ErrorKind::Rewound);
    assert_eq!(db.number("SELECT count(*) FROM books").await, 2);
}
