//! What the source held at the last full reading, and what came and went since: kept beside the positions, so that a
//! change that comes again is not counted again.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::apply::Reached;
use super::connect::Object;
use crate::domain::at::At;
use crate::ports::{FullRead, SourceCount};

/// How far the clock of the change log may be from ours. Changes so near to the reading are unsure.
const CLOCKS_MS: i64 = 2_000;

/// Makes the tables. One row a second, and a lane, for as long as the last full reading is old.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cutover.source_read (
    table_id text PRIMARY KEY, items bigint, began bigint NOT NULL, ended bigint);
CREATE TABLE IF NOT EXISTS cutover.source_change (
    table_id text NOT NULL, second bigint NOT NULL, lane integer NOT NULL, inserted bigint NOT NULL,
    deleted bigint NOT NULL, PRIMARY KEY (table_id, second, lane));
";

/// Adds what a batch tells, in the transaction that moves its positions: of a lane its own.
pub(super) async fn note(tx: &Transaction<'_>, table: &str, reached: &Reached) -> Result<(), Error> {
    let mine = reached.counts.iter().filter(|c| reached.lane.is_none_or(|lane| lane == c.lane));
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
            "INSERT INTO cutover.source_change AS c (table_id, second, lane, inserted, deleted)
             SELECT $1, s, l, sum(i)::bigint, sum(d)::bigint
             FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::bigint[]) t(s, l, i, d)
             GROUP BY s, l ORDER BY s, l
             ON CONFLICT (table_id, second, lane) DO UPDATE
             SET inserted = c.inserted + EXCLUDED.inserted, deleted = c.deleted + EXCLUDED.deleted",
        )
        .await?;
    tx.execute(&statement, &[&table, &seconds, &lanes, &inserted, &deleted]).await.map(drop)
}

/// What was counted can no longer be told from what will be counted again.
pub(super) async fn forget(tx: &Transaction<'_>, table: &str) -> Result<(), Error> {
    for kept in ["source_read", "source_change"] {
        tx.execute(&format!("DELETE FROM cutover.{kept} WHERE table_id = $1"), &[&table]).await?;
    }
    Ok(())
}

/// See [`crate::ports::Target::load_reads`].
pub(super) async fn load_reads(client: &Object, table: &str, at: At) -> Result<(), Error> {
    let sql = "INSERT INTO cutover.source_read (table_id, began) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&table, &at.0]).await.map(drop)
}

/// See [`crate::ports::Target::full_read`].
pub(super) async fn full_read(client: &mut Object, table: &str, read: FullRead) -> Result<(), Error> {
    let tx = client.transaction().await?;
    let (items, began) = (read.items.cast_signed(), read.began.map(|at| at.0));
    // Of a load whose beginning nobody noted nothing is known: what came since the stream began is unsure.
    let began: i64 = tx
        .query_one(
            "INSERT INTO cutover.source_read AS r (table_id, items, began, ended) VALUES ($1, $2, coalesce($3::bigint, 0), $4)
             ON CONFLICT (table_id) DO UPDATE
             SET items = EXCLUDED.items, began = coalesce($3::bigint, r.began), ended = EXCLUDED.ended
             RETURNING began",
            &[&table, &items, &began, &read.ended.0],
        )
        .await?
        .try_get(0)?;
    // What lies before the reading is in it.
    let before = (began - CLOCKS_MS).div_euclid(1_000);
    tx.execute("DELETE FROM cutover.source_change WHERE table_id = $1 AND second < $2", &[&table, &before]).await?;
    tx.commit().await
}

/// See [`crate::ports::Target::source_count`].
pub(super) async fn source_count(client: &Object, table: &str) -> Result<Option<SourceCount>, Error> {
    // A second is of the reading when any part of it may be.
    let sql = "SELECT r.items, r.ended,
                   coalesce(sum(c.inserted - c.deleted) FILTER (WHERE c.second > (r.ended + $2) / 1000), 0)::bigint,
                   coalesce(sum(c.inserted) FILTER (WHERE c.second <= (r.ended + $2) / 1000), 0)::bigint,
                   coalesce(sum(c.deleted) FILTER (WHERE c.second <= (r.ended + $2) / 1000), 0)::bigint
               FROM cutover.source_read r
               LEFT JOIN cutover.source_change c ON c.table_id = r.table_id AND c.second >= (r.began - $2) / 1000
               WHERE r.table_id = $1 AND r.items IS NOT NULL GROUP BY r.items, r.ended";
    let statement = client.prepare_cached(sql).await?;
    let Some(row) = client.query_opt(&statement, &[&table, &CLOCKS_MS]).await? else { return Ok(None) };
    let (items, ended, since): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (inserted, deleted): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
    Ok(Some(SourceCount {
        items: u64::try_from(items + since).ok(),
        read_at: At(ended),
        unsure: u64::try_from(inserted.max(deleted)).unwrap_or(0),
    }))
}
