//! What the source holds, derived from its changes, after a watch of weeks.

use super::TestDatabase;
use crate::adapters::postgres::source_count::fold;
use crate::domain::at::At;
use crate::ports::{FullRead, Target as _};

/// A day of changes in two lanes: one insert a second, and a delete every third.
const CHANGES: &str = "INSERT INTO cutover.source_change (plan, table_id, second, lane, inserted, deleted)
    SELECT p.plan, t, s, l, 1, (s % 3 = 0)::int FROM (SELECT DISTINCT plan FROM cutover.source_read) p,
           unnest($1::text[]) t, generate_series(100000, 200000) s, generate_series(0, 1) l";

#[tokio::test]
async fn old_seconds_are_added_up_and_what_is_derived_stays_the_same() {
    let (db, table) = TestDatabase::with_books().await;
    // In the middle of an hour and of a minute.
    let ended = At(150_123_000);
    let read = FullRead { items: 1_000_000, began: Some(At(149_000_000)), ended };
    db.target.full_read(&table, read).await.unwrap();
    // The first read adds up what is old, and there is nothing yet; the next ones do not for a while.
    db.target.source_count(&table).await.unwrap();
    db.sql.execute(CHANGES, &[&vec![table.id.as_str()]]).await.unwrap();
    let rows = async || db.number("SELECT count(*) FROM cutover.source_change").await;
    let all = "SELECT sum(inserted * 1000000 + deleted)::bigint FROM cutover.source_change";
    let (before, sum) = (db.target.source_count(&table).await.unwrap().unwrap(), db.number(all).await);
    assert_eq!(rows().await, 200_002);

    let mut client = db.target.client().await.unwrap();
    fold(&mut client, super::PLAN, At(200_000_000)).await.unwrap();
    let after = db.target.source_count(&table).await.unwrap().unwrap();
    assert_eq!((after, db.number(all).await), (before, sum));
    // Two lanes: 600 seconds as they are, the minutes of a day, the hours before it.
    let left = rows().await;
    assert!((1_200 + 2 * 1_400..1_200 + 2 * 1_400 + 400).contains(&left), "{left}");

    // Another plan's are not touched, the same plan's only once.
    fold(&mut client, "another/plan", At(900_000_000)).await.unwrap();
    fold(&mut client, super::PLAN, At(200_000_000)).await.unwrap();
    assert_eq!((rows().await, db.number(all).await), (left, sum));
}
