//! Lanes: several transactions for one batch, and nothing is lost, applied twice or let through late.

use std::cell::Cell as Flag;
use std::collections::BTreeMap;

use super::super::PgTarget;
use super::{ISBN, PLAN, TITLE, TestDatabase, book, delete, key_of, text, upsert, with};
use crate::domain::at::At;
use crate::domain::mapping::{Mapped, RowErrorReason as R};
use crate::domain::plan::Table;
use crate::domain::value::Cell;
use crate::ports::{
    ChangeBatch, CountChange, ErrorKind, Fence, FollowState, FullRead, Position, RowChange, Target as _,
};

const LANES: u32 = 3;
/// Enough rows that each lane is worth a transaction.
const MANY: u32 = 600;

fn at(shard: &str, position: &str) -> BTreeMap<String, Position> {
    BTreeMap::from([(shard.to_owned(), Position(position.to_owned()))])
}

fn batch(fence: Fence, position: &str, rows: impl IntoIterator<Item = Mapped<'static>>) -> ChangeBatch {
    let rows = rows.into_iter().map(upsert).collect();
    ChangeBatch { rows, positions: at("s1", position), fence: Some(fence), ..ChangeBatch::default() }
}

async fn followed() -> (TestDatabase, Table, Fence) {
    let (db, table) = TestDatabase::with_books().await;
    db.target.start_positions(&table, "arn:1", &at("s1", "1")).await.unwrap();
    let state = db.target.resume_follow(&table, LANES).await.unwrap().unwrap();
    assert!(state.ahead.is_empty());
    (db, table, state.fence)
}

async fn position(db: &TestDatabase, table: &Table) -> String {
    let (_, positions) = db.target.positions(table).await.unwrap().unwrap();
    positions["s1"].clone().unwrap().0
}

/// Rows that came with the position of a lane.
fn landed(state: &FollowState, n: u32, position: &str) -> bool {
    state.ahead.landed(&key_of(n), LANES, "s1", &Position(position.into()))
}

#[tokio::test]
async fn a_large_batch_lands_whole_with_its_children_deletes_parked_rows_and_counts() {
    let (db, table, fence) = followed().await;
    db.load(&table, &(0..MANY).map(|n| book(n, "old", &["a", "b"])).collect::<Vec<_>>()).await;
    let mut changes = batch(fence, "2", (0..MANY - 100).map(|n| book(n, "new", &["z"])));
    changes.rows.extend((MANY - 100..MANY).map(delete));
    changes.rows.push(upsert(with(book(MANY + 1, "", &[]), TITLE, Cell::Bool(true))));
    changes.markers = vec!["nonce".into()];
    changes.expired = 5;
    let applied = db.target.apply(&table, changes).await.unwrap();
    assert_eq!((applied.upserted, applied.deleted), (u64::from(MANY) - 100, 100));
    let transactions = "SELECT count(DISTINCT xmin::text) FROM books";
    assert_eq!(db.number(transactions).await, i64::from(LANES), "each lane has a transaction of its own");
    assert_eq!(db.number("SELECT count(*) FROM books WHERE title = 'new'").await, i64::from(MANY) - 100);
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, i64::from(MANY) - 100);
    assert_eq!(db.target.ledger(&table).await.unwrap(), (BTreeMap::from([(R::WrongType, 1)]), 5));
    assert!(db.target.marker(&table, "nonce").await.unwrap().is_some());
    assert_eq!(position(&db, &table).await, "2");
    // A row that landed leaves the ledger with its lane.
    db.target.apply(&table, batch(fence, "3", (0..MANY + 2).map(|n| book(n, "again", &[])))).await.unwrap();
    assert_eq!(db.target.ledger(&table).await.unwrap().0, BTreeMap::new());
}

#[tokio::test]
async fn rows_that_are_refused_or_wait_for_another_lane_are_sorted_out_at_the_end() {
    let (db, table, fence) = followed().await;
    db.load(&table, &(0..MANY).map(|n| book(n, "old", &[])).collect::<Vec<_>>()).await;
    // Each of a few books takes the isbn of the next one, across all lanes; the last one's is new. Two want the same
    // one.
    let chain = 40;
    let isbn = |n: u32| if n < chain { format!("next-{}", n + 1) } else { format!("isbn-{n}") };
    let first = (0..chain).map(|n| with(book(n, "old", &[]), ISBN, text(&format!("next-{n}"))));
    db.target.apply(&table, ChangeBatch { rows: first.map(upsert).collect(), ..ChangeBatch::default() }).await.unwrap();
    let mut books: Vec<_> = (0..MANY).map(|n| with(book(n, "new", &[]), ISBN, text(&isbn(n)))).collect();
    let twins = [MANY, MANY + 1];
    books.extend(twins.map(|n| with(book(n, "twin", &[]), ISBN, text("one of a kind"))));
    let applied = db.target.apply(&table, batch(fence, "2", books)).await.unwrap();
    assert_eq!(applied.parked.len(), 1);
    assert!(
        twins.map(key_of).contains(&applied.parked[0].key) && applied.parked[0].row_error.reason == R::DuplicateUnique
    );
    assert_eq!(applied.upserted, u64::from(MANY) + 1);
    assert_eq!(db.number("SELECT count(*) FROM books WHERE title = 'new'").await, i64::from(MANY));
    let shifted = "SELECT count(*) FROM books WHERE isbn = 'next-' || (('x' || right(id::text, 8))::bit(32)::int + 1)";
    assert_eq!(db.number(shifted).await, i64::from(chain));
    assert_eq!(position(&db, &table).await, "2");
}

#[tokio::test]
async fn lanes_that_wait_for_each_other_are_sorted_out_too() {
    let (db, table, fence) = followed().await;
    // Each of two lanes writes one isbn, waits until the other has written its own, and then wants that one.
    db.sql
        .batch_execute(
            "CREATE SEQUENCE met;
             CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.title = 'first' THEN PERFORM nextval('met'); END IF;
                 WHILE NEW.title = 'second' AND (SELECT last_value FROM met) < 2 LOOP PERFORM pg_sleep(0.005); END LOOP;
                 RETURN NEW; END $$;
             CREATE TRIGGER meet BEFORE INSERT ON books FOR EACH ROW EXECUTE FUNCTION meet()",
        )
        .await
        .unwrap();
    let of = |lane: u32| (MANY..).filter(move |n| key_of(*n).lane(LANES) == lane);
    let special = |n: u32, title: &str, isbn: &str| with(book(n, title, &[]), ISBN, text(isbn));
    let mut books: Vec<_> = (0..MANY).map(|n| book(n, "new", &[])).collect();
    for (lane, own, other) in [(0, "x", "y"), (1, "y", "x")] {
        let keys: Vec<u32> = of(lane).take(2).collect();
        books.extend([special(keys[0], "first", own), special(keys[1], "second", other)]);
    }
    let applied = db.target.apply(&table, batch(fence, "2", books)).await.unwrap();
    assert!(db.number("SELECT last_value FROM met").await > 2, "nothing of them was tried again: they never met");
    assert_eq!((applied.upserted, applied.parked.len()), (u64::from(MANY) + 2, 2));
    assert_eq!(db.number("SELECT count(*) FROM books").await, i64::from(MANY) + 2);
    assert_eq!(db.target.ledger(&table).await.unwrap().0, BTreeMap::from([(R::DuplicateUnique, 2)]));
    assert_eq!(position(&db, &table).await, "2");
}

#[tokio::test]
async fn lanes_that_landed_before_a_death_are_known_and_positions_have_not_moved() {
    let (db, table, fence) = followed().await;
    db.dies_at("lane", "NEW.lane = 1").await;
    let mut changes = batch(fence, "20", (0..MANY).map(|n| book(n, "new", &[])));
    changes.finished = vec!["s2".into()];
    changes.markers = vec!["nonce".into()];
    db.target.apply(&table, changes).await.unwrap_err();
    db.sql.batch_execute("DROP TRIGGER no ON cutover.lane").await.unwrap();
    assert_eq!(position(&db, &table).await, "1");
    assert_eq!(db.target.marker(&table, "nonce").await.unwrap(), None, "not everything before it has landed");
    // One lane died, and the last one was held back because there was more to record than rows.
    let there = |n: u32| key_of(n).lane(LANES) == 0;
    assert_eq!(db.number("SELECT count(*) FROM books").await, (0..MANY).filter(|n| there(*n)).count() as i64);

    let state = db.target.resume_follow(&table, LANES).await.unwrap().unwrap();
    assert!((0..MANY).all(|n| landed(&state, n, "20") == there(n) && landed(&state, n, "3") == there(n)));
    assert!((0..MANY).all(|n| !landed(&state, n, "21")), "nothing past it has landed");
    let ended = (0..MANY).all(|n| state.ahead.landed(&key_of(n), LANES, "s2", &Position("9".into())) == there(n));
    assert!(ended, "a shard's end is a place in it too");
    assert_eq!(state.positions["s1"], Some(Position("1".into())));

    // In another number of lanes keys stand elsewhere: everything comes again, and the old lanes never count any more.
    let other = db.target.resume_follow(&table, LANES + 1).await.unwrap().unwrap();
    assert!(other.ahead.is_empty());
    assert!(db.target.resume_follow(&table, LANES).await.unwrap().unwrap().ahead.is_empty());
    assert_eq!(db.number("SELECT count(*) FROM cutover.lane").await, 0);
}

#[tokio::test]
async fn what_all_lanes_have_landed_is_the_common_position_whoever_reads_it() {
    let (db, table, fence) = followed().await;
    db.target.apply(&table, batch(fence, "20", (0..MANY).map(|n| book(n, "new", &[])))).await.unwrap();
    let stored = "SELECT position::bigint FROM cutover.stream_position WHERE shard = 's1'";
    assert_eq!(db.number(stored).await, 1, "nothing but the lanes had to be written");
    assert_eq!(position(&db, &table).await, "20");
    // The token outlives the lanes: with another number of lanes their positions are deleted.
    let other = db.target.resume_follow(&table, LANES + 1).await.unwrap().unwrap();
    assert_eq!(other.positions["s1"], Some(Position("20".into())));
    assert!(other.ahead.is_empty());
    assert_eq!(db.number(stored).await, 20);
    assert_eq!(db.number("SELECT count(*) FROM cutover.lane").await, 0);
    let small = batch(other.fence, "21", [book(1, "newer", &[])]);
    db.target.apply(&table, small).await.unwrap();
    assert_eq!(position(&db, &table).await, "21");
    db.target.reset(&table).await.unwrap();
    assert_eq!(db.target.positions(&table).await.unwrap(), None);
}

#[tokio::test]
async fn a_follower_that_was_overtaken_lands_nothing_large_or_small() {
    let (db, table, fence) = followed().await;
    let other = PgTarget::new(&db.settings, PLAN).unwrap();
    let newer = other.resume_follow(&table, LANES).await.unwrap().unwrap().fence;
    assert!(newer.token > fence.token);
    for rows in [MANY, 1] {
        // Its position is not behind any other, so only the token can refuse it.
        let late = batch(fence, "9", (0..rows).map(|n| book(n, "late", &[])));
        let error = db.target.apply(&table, late).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.came_back.contains("resumed by another follower"), "{error}");
    }
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
    assert_eq!(db.number("SELECT count(*) FROM cutover.lane").await, 0);
    assert_eq!(position(&db, &table).await, "1");
    other.apply(&table, batch(newer, "2", [book(1, "new", &[])])).await.unwrap();
}

#[tokio::test]
async fn a_table_is_not_taken_up_while_a_lane_of_another_is_under_way() {
    let (db, table, _) = followed().await;
    // A lane of a follower whose console is gone: its statements are done, its commit is on the wire.
    db.sql.batch_execute("BEGIN").await.unwrap();
    db.sql.query(super::super::lanes::STREAM, &[&PLAN, &table.id]).await.unwrap();
    db.sql.batch_execute("INSERT INTO books (id, title, isbn) VALUES (gen_random_uuid(), 'late', '1')").await.unwrap();
    let committed = Flag::new(false);
    let taken = async {
        let taken = db.target.resume_follow(&table, LANES).await;
        assert!(committed.get(), "it did not wait");
        taken
    };
    let commit = async {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while db.number(waits).await == 0 {
            tokio::task::yield_now().await;
        }
        committed.set(true);
        db.sql.batch_execute("COMMIT").await.unwrap();
    };
    let (taken, ()) = tokio::join!(taken, commit);
    assert!(taken.unwrap().is_some());
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
}

#[tokio::test]
async fn whoever_lost_the_lease_cannot_take_a_table_back() {
    let (db, table, fence) = followed().await;
    db.target.lease("run-1", "first", 60_000).await.unwrap();
    let other = PgTarget::new(&db.settings, PLAN).unwrap();
    other.seize("run-1", "second", 60_000).await.unwrap();
    let newer = other.resume_follow(&table, LANES).await.unwrap().unwrap().fence;
    let error = db.target.resume_follow(&table, LANES).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    assert_eq!(newer.token, fence.token + 1);
    let row: Vec<RowChange> = vec![upsert(book(1, "new", &[]))];
    let mine = ChangeBatch { rows: row, positions: at("s1", "2"), fence: Some(newer), ..ChangeBatch::default() };
    assert_eq!(other.apply(&table, mine).await.unwrap().upserted, 1, "the refused one took nothing away");
}

#[tokio::test]
async fn a_table_nobody_follows_is_not_taken_up() {
    let (db, table) = TestDatabase::with_books().await;
    assert_eq!(db.target.resume_follow(&table, LANES).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_is_never_given_out_twice_even_when_a_table_starts_anew() {
    let (db, table, old) = followed().await;
    db.target.reset(&table).await.unwrap();
    db.target.start_positions(&table, "arn:1", &at("s1", "1")).await.unwrap();
    let late = |rows: u32| batch(old, "9", (0..rows).map(|n| book(n, "late", &[])));
    let newer = db.target.resume_follow(&table, LANES).await.unwrap().unwrap().fence;
    assert_ne!(newer.token, old.token);
    for rows in [1, MANY] {
        assert_eq!(db.target.apply(&table, late(rows)).await.unwrap_err().kind, ErrorKind::Conflict);
    }
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
}

#[tokio::test]
async fn rows_of_a_process_that_lost_the_lease_are_refused_though_its_token_is_right() {
    let (db, table, _) = followed().await;
    db.target.lease("run-1", "first", 60_000).await.unwrap();
    let fence = db.target.resume_follow(&table, LANES).await.unwrap().unwrap().fence;
    PgTarget::new(&db.settings, PLAN).unwrap().seize("run-1", "second", 60_000).await.unwrap();
    for rows in [1, MANY] {
        let late = batch(fence, "9", (0..rows).map(|n| book(n, "late", &[])));
        let error = db.target.apply(&table, late).await.unwrap_err();
        assert!(error.kind == ErrorKind::Conflict && error.came_back.contains("lease"), "{error}");
    }
    assert_eq!(db.number("SELECT count(*) FROM books").await, 0);
}

#[tokio::test]
async fn markers_and_expiry_are_told_once_although_the_end_of_a_batch_died() {
    let (db, table, fence) = followed().await;
    // The server ends the connection that stores the marker, after lanes have landed.
    db.dies_at("marker", "true").await;
    let changes = |fence: Fence| ChangeBatch {
        markers: vec!["nonce".into()],
        expired: 3,
        ..batch(fence, "20", (0..MANY).map(|n| book(n, "new", &[])))
    };
    db.target.apply(&table, changes(fence)).await.unwrap_err();
    db.sql.batch_execute("DROP TRIGGER no ON cutover.marker").await.unwrap();
    assert!(db.number("SELECT count(*) FROM books").await > 0, "some lanes have landed");
    let state = db.target.resume_follow(&table, LANES).await.unwrap().unwrap();
    assert_eq!(state.positions["s1"], Some(Position("1".into())), "so the marker comes again");
    // As the follower does it: what has landed is left out, what is still to be recorded is sent.
    let mut again = changes(state.fence);
    again.rows.retain(|row| !state.ahead.landed(row.key(), LANES, "s1", &Position("20".into())));
    assert!(!again.rows.is_empty() && again.rows.len() < MANY as usize);
    db.target.apply(&table, again).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, i64::from(MANY));
    assert_eq!(db.target.ledger(&table).await.unwrap().1, 3);
    assert!(db.target.marker(&table, "nonce").await.unwrap().is_some());
    assert_eq!(position(&db, &table).await, "20");
}

#[tokio::test]
async fn a_lane_that_is_ahead_is_never_set_back() {
    let (db, table, fence) = followed().await;
    db.dies_at("lane", "NEW.lane = 1").await;
    let first = batch(fence, "100", (0..MANY).map(|n| book(n, "new", &[])));
    db.target.apply(&table, first).await.unwrap_err();
    db.sql.batch_execute("DROP TRIGGER no ON cutover.lane").await.unwrap();
    let state = db.target.resume_follow(&table, LANES).await.unwrap().unwrap();
    // It comes again in smaller pieces, and the process dies once more.
    let part = batch(state.fence, "99", (0..MANY).map(|n| book(n, "part", &[])));
    db.target.apply(&table, part).await.unwrap();
    let again = db.target.resume_follow(&table, LANES).await.unwrap().unwrap();
    assert_eq!(again.positions["s1"], Some(Position("99".into())));
    assert!((0..MANY).all(|n| landed(&again, n, "100") == (key_of(n).lane(LANES) != 1)));
}

/// A reading at 100 to 200 s, then changes: before it, during it and after it.
#[tokio::test]
async fn the_sources_count_is_told_with_the_positions_whichever_lanes_had_landed() {
    let (db, table, fence) = followed().await;
    db.target.load_reads(&table, At(100_000)).await.unwrap();
    db.target.load_reads(&table, At(500_000)).await.unwrap();
    assert_eq!(db.target.source_count(&table).await.unwrap(), None, "not read to the end");
    let read = FullRead { items: 1_000, began: None, ended: At(200_000) };
    db.target.full_read(&table, read).await.unwrap();
    let counted = async |db: &TestDatabase| {
        let found = db.target.source_count(&table).await.unwrap().unwrap();
        (found.items, found.read_at, found.unsure)
    };
    assert_eq!(counted(&db).await, (Some(1_000), At(200_000), 0));
    // Each lane counts its own keys.
    let seconds = [(90, 7, 0), (150, 3, 1), (300, 20, 4)];
    let each = |lane| seconds.map(|(second, inserted, deleted)| CountChange { lane, second, inserted, deleted });
    let changes = |fence: Fence| ChangeBatch {
        counts: (0..LANES).flat_map(each).collect(),
        ..batch(fence, "20", (0..MANY).map(|n| book(n, "new", &[])))
    };
    db.dies_at("lane", "NEW.lane = 1").await;
    db.target.apply(&table, changes(fence)).await.unwrap_err();
    db.sql.batch_execute("DROP TRIGGER no ON cutover.lane").await.unwrap();
    let state = db.target.resume_follow(&table, LANES).await.unwrap().unwrap();
    // As the follower does it: what has landed is neither applied nor counted again.
    let mut again = changes(state.fence);
    let has_landed = |row: &RowChange| state.ahead.landed(row.key(), LANES, "s1", &Position("20".into()));
    let ahead: Vec<u32> = again.rows.iter().filter(|r| has_landed(r)).map(|r| r.key().lane(LANES)).collect();
    again.rows.retain(|row| !has_landed(row));
    again.counts.retain(|c| !ahead.contains(&c.lane));
    assert!(!ahead.is_empty() && !again.counts.is_empty());
    db.target.apply(&table, again).await.unwrap();
    assert_eq!(counted(&db).await, (Some(1_000 + 3 * 16), At(200_000), 9), "once each, those during it unsure");
    // A later reading takes its place, and what lies before it is forgotten.
    let later = FullRead { items: 1_050, began: Some(At(400_000)), ended: At(410_000) };
    db.target.full_read(&table, later).await.unwrap();
    assert_eq!(counted(&db).await, (Some(1_050), At(410_000), 0));
    assert_eq!(db.number("SELECT count(*) FROM cutover.source_change").await, 0);
    // With another number of lanes, changes that were counted come again: then the count is unknown.
    db.target.resume_follow(&table, LANES + 1).await.unwrap().unwrap();
    assert_eq!(db.target.source_count(&table).await.unwrap(), None);
}
