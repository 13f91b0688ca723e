//! What the source held at the last full reading, and what came and went since: kept beside the positions, so that a
//! change that comes again is not counted again.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::apply::BatchEnd;
use super::connect::Object;
use super::owner::Of;
use crate::domain::at::At;
use crate::ports::{FullRead, SourceCount};

/// How far the clock of the change log may be from ours. Changes so near to the reading are unsure.
const CLOCKS_MS: i64 = 2_000;

/// Makes the tables. One row a second, and a lane, since the last full reading; fewer for what is old ([`fold`]).
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cutover.source_read (
    plan text NOT NULL, table_id text NOT NULL, items bigint, began bigint NOT NULL, ended bigint,
    PRIMARY KEY (plan, table_id));
CREATE TABLE IF NOT EXISTS cutover.source_change (
    plan text NOT NULL, table_id text NOT NULL, second bigint NOT NULL, lane integer NOT NULL, inserted bigint NOT NULL,
    deleted bigint NOT NULL, PRIMARY KEY (plan, table_id, second, lane));
";

/// Adds what a batch counted, in the transaction that moves its positions; for a lane, its own part.
pub(super) async fn note(tx: &Transaction<'_>, of: Of<'_>, end: &BatchEnd) -> Result<(), Error> {
    let mine = end.counts.iter().filter(|c| end.lane.is_none_or(|lane| lane == c.lane));
    let (mut seconds, mut lanes, mut inserted, mut deleted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for c in mine {
        seconds.push(c.second);
        lanes.push(c.lane.cast_signed());
        inserted.push(c.inserted.cast_signed());
        deleted.push(c.deleted.cast_signed());
    }
    if seconds.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO cutover.source_change AS c (plan, table_id, second, lane, inserted, deleted)
             SELECT $1, $2, s, l, sum(i)::bigint, sum(d)::bigint
             FROM unnest($3::bigint[], $4::integer[], $5::bigint[], $6::bigint[]) t(s, l, i, d)
             GROUP BY s, l ORDER BY s, l
             ON CONFLICT (plan, table_id, second, lane) DO UPDATE
             SET inserted = c.inserted + EXCLUDED.inserted, deleted = c.deleted + EXCLUDED.deleted",
        )
        .await?;
    tx.execute(&statement, &[&of.plan, &of.table, &seconds, &lanes, &inserted, &deleted]).await.map(drop)
}

/// Deletes the counts: what was counted can no longer be separated from what will be counted again.
pub(super) async fn forget(tx: &Transaction<'_>, of: Of<'_>) -> Result<(), Error> {
    for kept in ["source_read", "source_change"] {
        tx.execute(&format!("DELETE FROM cutover.{kept} WHERE plan = $1 AND table_id = $2"), &[&of.plan, &of.table])
            .await?;
    }
    Ok(())
}

/// Adds up what is old, so that a watch of weeks stays small: after ten minutes a row a minute is left, after a day a
/// row an hour. Each keeps the last second it holds, and no row holds seconds of both sides of a reading's beginning or
/// end: what is derived stays the same, and a later reading that begins within a row counts the whole row as unsure.
///
/// Rows are added to one of their own and removed by one statement: when two processes do it at once, they are added
/// once.
const FOLD: &str = "
WITH old AS (
    SELECT c.table_id, c.second, c.lane,
           max(c.second) OVER (PARTITION BY c.table_id, c.lane, c.second >= (r.began - $3::bigint) / 1000,
                               c.second > (r.ended + $3::bigint) / 1000, c.second / $4::bigint) AS kept
    FROM cutover.source_change c JOIN cutover.source_read r ON r.plan = c.plan AND r.table_id = c.table_id
    WHERE c.plan = $1 AND r.ended IS NOT NULL AND c.second < $2::bigint - $2::bigint % $4::bigint),
gone AS (
    DELETE FROM cutover.source_change c USING old o
    WHERE c.plan = $1 AND c.table_id = o.table_id AND c.second = o.second AND c.lane = o.lane AND o.second < o.kept
    RETURNING c.table_id, o.kept, c.lane, c.inserted, c.deleted),
sums AS (
    SELECT table_id, kept, lane, sum(inserted)::bigint AS inserted, sum(deleted)::bigint AS deleted
    FROM gone GROUP BY table_id, kept, lane)
UPDATE cutover.source_change c SET inserted = c.inserted + s.inserted, deleted = c.deleted + s.deleted
FROM sums s WHERE c.plan = $1 AND c.table_id = s.table_id AND c.second = s.kept AND c.lane = s.lane";

/// How old rows are, in seconds, that are added up, and how many seconds are then in one.
const FOLDED: [(i64, i64); 2] = [(600, 60), (86_400, 3_600)];

/// Adds up the old rows of all tables of a plan ([`FOLD`]).
pub(super) async fn fold(client: &mut Object, plan: &str, now: At) -> Result<(), Error> {
    let tx = client.transaction().await?;
    // Another process of this plan, or one that is no longer the driver, would change a row that this one removes.
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&format!("cutover fold {plan}")]).await?;
    for (age, width) in FOLDED {
        let before = now.0 / 1_000 - age;
        tx.execute(FOLD, &[&plan, &before, &CLOCKS_MS, &width]).await?;
    }
    tx.commit().await
}

/// See [`crate::ports::Target::load_reads`].
pub(super) async fn load_reads(client: &Object, of: Of<'_>, at: At) -> Result<(), Error> {
    let sql = "INSERT INTO cutover.source_read (plan, table_id, began) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&of.plan, &of.table, &at.0]).await.map(drop)
}

/// See [`crate::ports::Target::full_read`].
pub(super) async fn full_read(client: &mut Object, of: Of<'_>, read: FullRead) -> Result<(), Error> {
    let tx = client.transaction().await?;
    let (items, began) = (read.items.cast_signed(), read.began.map(|at| at.0));
    // Of a load whose beginning nobody noted nothing is known: what came since the stream began is unsure.
    let began: i64 = tx
        .query_one(
            "INSERT INTO cutover.source_read AS r (plan, table_id, items, began, ended) VALUES ($1, $2, $3, coalesce($4::bigint, 0), $5)
             ON CONFLICT (plan, table_id) DO UPDATE
             SET items = EXCLUDED.items, began = coalesce($4::bigint, r.began), ended = EXCLUDED.ended
             RETURNING began",
            &[&of.plan, &of.table, &items, &began, &read.ended.0],
        )
        .await?
        .try_get(0)?;
    // What lies before the reading is in it.
    let before = (began - CLOCKS_MS).div_euclid(1_000);
    tx.execute(
        "DELETE FROM cutover.source_change WHERE plan = $1 AND table_id = $2 AND second < $3",
        &[&of.plan, &of.table, &before],
    )
    .await?;
    tx.commit().await
}

/// See [`crate::ports::Target::source_count`].
pub(super) async fn source_count(client: &Object, of: Of<'_>) -> Result<Option<SourceCount>, Error> {
    // A second is of the reading when any part of it may be.
    let sql = "SELECT r.items, r.ended,
                   coalesce(sum(c.inserted - c.deleted) FILTER (WHERE c.second > (r.ended + $3) / 1000), 0)::bigint,
                   coalesce(sum(c.inserted) FILTER (WHERE c.second <= (r.ended + $3) / 1000), 0)::bigint,
                   coalesce(sum(c.deleted) FILTER (WHERE c.second <= (r.ended + $3) / 1000), 0)::bigint
               FROM cutover.source_read r
               LEFT JOIN cutover.source_change c ON c.plan = r.plan AND c.table_id = r.table_id AND c.second >= (r.began - $3) / 1000
               WHERE r.plan = $1 AND r.table_id = $2 AND r.items IS NOT NULL GROUP BY r.items, r.ended";
    let statement = client.prepare_cached(sql).await?;
    let Some(row) = client.query_opt(&statement, &[&of.plan, &of.table, &CLOCKS_MS]).await? else { return Ok(None) };
    let (items, ended, since): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (inserted, deleted): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
    Ok(Some(SourceCount {
        items: u64::try_from(items + since).ok(),
        read_at: At(ended),
        unsure: u64::try_from(inserted.max(deleted)).unwrap_or(0),
    }))
}
