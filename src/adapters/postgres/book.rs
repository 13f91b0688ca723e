//! Our own bookkeeping in the target: schema `cutover`, written in the transactions of the data it describes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Statement};

use super::connect::Ask;
use crate::domain::at::At;
use crate::domain::mapping::{Misfit, MisfitReason};
use crate::ports::{Checkpoint, LaneStand, ParkedRow, Position};

/// Makes the bookkeeping. Runs under an advisory lock: `IF NOT EXISTS` alone does not stand two at once.
pub(super) const TABLES: &str = r#"
SELECT pg_advisory_xact_lock(7162838421);
DO $$ BEGIN IF to_regnamespace('cutover') IS NULL THEN CREATE SCHEMA cutover; END IF; END $$;
CREATE TABLE IF NOT EXISTS cutover.load_checkpoint (
    table_id text NOT NULL, part integer NOT NULL, "of" integer NOT NULL, cursor text,
    rows bigint NOT NULL, parked bigint NOT NULL, done boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_id, part, "of"));
CREATE TABLE IF NOT EXISTS cutover.stream (
    table_id text PRIMARY KEY, stream text NOT NULL, started_at timestamptz NOT NULL DEFAULT now(),
    token bigint NOT NULL DEFAULT 0);
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'cutover.stream'::regclass AND attname = 'token') THEN
        ALTER TABLE cutover.stream ADD COLUMN token bigint NOT NULL DEFAULT 0;
    END IF;
END $$;
CREATE SEQUENCE IF NOT EXISTS cutover.token;
CREATE TABLE IF NOT EXISTS cutover.stream_position (
    table_id text NOT NULL, shard text NOT NULL, position text, finished boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_id, shard));
CREATE TABLE IF NOT EXISTS cutover.lane (
    table_id text NOT NULL, lane integer NOT NULL, "of" integer NOT NULL, shard text NOT NULL, position text,
    finished boolean NOT NULL DEFAULT false, PRIMARY KEY (table_id, lane, shard));
CREATE TABLE IF NOT EXISTS cutover.marker (
    table_id text NOT NULL, nonce text NOT NULL, applied_at bigint NOT NULL, PRIMARY KEY (table_id, nonce));
CREATE TABLE IF NOT EXISTS cutover.created (table_id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS cutover.set_aside (
    name text PRIMARY KEY, table_id text NOT NULL, definition text NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS cutover.expired (table_id text PRIMARY KEY, rows bigint NOT NULL);
CREATE TABLE IF NOT EXISTS cutover.lease (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), run text NOT NULL, holder text NOT NULL,
    epoch bigint NOT NULL, until timestamptz NOT NULL);
"#;

/// Wall clock of this machine.
pub(super) fn wall() -> At {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    At(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Text that can be stored: keys may hold U+0000, PostgreSQL text may not.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\\u0000")) } else { Cow::Borrowed(text) }
}

/// The reason a stored name stands for.
pub(super) fn reason(name: &str) -> MisfitReason {
    MisfitReason::ALL.into_iter().find(|r| r.name() == name).unwrap_or(MisfitReason::Refused)
}

/// Puts rows into the ledger. A row that is there keeps the moment it was first seen.
pub(super) async fn park(tx: &Transaction<'_>, table: &str, parked: &[ParkedRow]) -> Result<(), Error> {
    if parked.is_empty() {
        return Ok(());
    }
    // One statement may touch a key once; the last word counts.
    let last: BTreeMap<Cow<'_, str>, &ParkedRow> = parked.iter().map(|p| (storable(&p.key.0), p)).collect();
    let keys: Vec<&str> = last.keys().map(AsRef::as_ref).collect();
    let columns: Vec<&str> = last.values().map(|p| p.misfit.column.as_str()).collect();
    let reasons: Vec<&str> = last.values().map(|p| p.misfit.reason.name()).collect();
    let details: Vec<&str> = last.values().map(|p| p.misfit.detail.as_str()).collect();
    let json: Vec<Cow<'_, str>> = last.values().map(|p| storable(&p.key_json)).collect();
    let json: Vec<&str> = json.iter().map(AsRef::as_ref).collect();
    let statement = tx
        .prepare_cached(
            r#"INSERT INTO cutover.parked (table_id, digest, key, "column", reason, detail, key_json)
               SELECT $1, sha256(convert_to(k, 'UTF8')), k, c, r, d, j
               FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) p(k, c, r, d, j)
               ON CONFLICT (table_id, digest) DO UPDATE
               SET "column" = EXCLUDED."column", reason = EXCLUDED.reason, detail = EXCLUDED.detail,
                   key_json = EXCLUDED.key_json"#,
        )
        .await?;
    tx.execute(&statement, &[&table, &keys, &columns, &reasons, &details, &json]).await?;
    Ok(())
}

/// Whether the ledger holds any row of a table.
pub(super) async fn any_parked(tx: &Transaction<'_>, table: &str) -> Result<bool, Error> {
    let statement = tx.prepare_cached("SELECT EXISTS (SELECT FROM cutover.parked WHERE table_id = $1)").await?;
    tx.query_one(&statement, &[&table]).await?.try_get(0)
}

/// Takes rows that have landed out of the ledger.
pub(super) async fn unpark(tx: &Transaction<'_>, table: &str, keys: &[&str]) -> Result<(), Error> {
    if keys.is_empty() || !any_parked(tx, table).await? {
        return Ok(());
    }
    let keys: Vec<Cow<'_, str>> = keys.iter().map(|k| storable(k)).collect();
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    let sql = "DELETE FROM cutover.parked WHERE table_id = $1
               AND digest = ANY (ARRAY(SELECT sha256(convert_to(k, 'UTF8')) FROM unnest($2::text[]) k))";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&table, &keys]).await?;
    Ok(())
}

/// Stores a load checkpoint.
pub(super) async fn checkpoint(tx: &Transaction<'_>, table: &str, c: &Checkpoint) -> Result<(), Error> {
    let statement = tx
        .prepare_cached(
            r#"INSERT INTO cutover.load_checkpoint (table_id, part, "of", cursor, rows, parked, done)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (table_id, part, "of") DO UPDATE SET cursor = EXCLUDED.cursor, rows = EXCLUDED.rows,
               parked = EXCLUDED.parked, done = EXCLUDED.done, updated_at = now()"#,
        )
        .await?;
    let cursor = c.cursor.as_ref().map(|c| c.0.as_str());
    let (part, of) = (c.part.index.cast_signed(), c.part.of.cast_signed());
    let (rows, parked) = (c.rows.cast_signed(), c.parked.cast_signed());
    tx.execute(&statement, &[&table, &part, &of, &cursor, &rows, &parked, &c.done]).await?;
    Ok(())
}

/// For [`lock`]: alone.
pub(super) const STREAM: &str = "SELECT token FROM cutover.stream WHERE table_id = $1 FOR UPDATE";

/// Locks what is stored of a table's stream for this transaction, and says who may follow it: the token of whoever took it
/// up last. `None` when nothing is stored.
pub(super) async fn lock(tx: &Transaction<'_>, statement: &Statement, table: &str) -> Result<Option<i64>, Error> {
    tx.query_opt(statement, &[&table]).await?.map(|row| row.try_get(0)).transpose()
}

/// Positions of a table, for [`positions`].
pub(super) const POSITIONS: &str = "SELECT shard, position, finished FROM cutover.stream_position WHERE table_id = $1";

/// Positions by shard; `None` for one that is finished or has none.
pub(super) async fn positions(
    tx: &Transaction<'_>,
    statement: &Statement,
    table: &str,
) -> Result<BTreeMap<String, Option<Position>>, Error> {
    tx.query(statement, &[&table])
        .await?
        .iter()
        .map(|row| {
            let position: Option<String> = row.try_get(1)?;
            let finished: bool = row.try_get(2)?;
            Ok((row.try_get(0)?, position.filter(|_| !finished).map(Position)))
        })
        .collect()
}

/// Moves positions on and finishes shards.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    table: &str,
    positions: &BTreeMap<String, Position>,
    finished: &[String],
) -> Result<(), Error> {
    if !positions.is_empty() {
        let shards: Vec<&str> = positions.keys().map(String::as_str).collect();
        let values: Vec<&str> = positions.values().map(|p| p.0.as_str()).collect();
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.stream_position (table_id, shard, position)
                 SELECT $1, * FROM unnest($2::text[], $3::text[])
                 ON CONFLICT (table_id, shard) DO UPDATE SET position = EXCLUDED.position, updated_at = now()",
            )
            .await?;
        tx.execute(&statement, &[&table, &shards, &values]).await?;
    }
    if !finished.is_empty() {
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.stream_position (table_id, shard, finished)
                 SELECT DISTINCT $1, s, true FROM unnest($2::text[]) s
                 ON CONFLICT (table_id, shard) DO UPDATE SET position = NULL, finished = true, updated_at = now()",
            )
            .await?;
        tx.execute(&statement, &[&table, &finished]).await?;
    }
    Ok(())
}

/// Notes markers and rows removed by TTL.
pub(super) async fn notes(tx: &Transaction<'_>, table: &str, markers: &[String], expired: u64) -> Result<(), Error> {
    if !markers.is_empty() {
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.marker (table_id, nonce, applied_at)
                 SELECT DISTINCT $1, n, $3::bigint FROM unnest($2::text[]) n ON CONFLICT DO NOTHING",
            )
            .await?;
        tx.execute(&statement, &[&table, &markers, &wall().0]).await?;
    }
    if expired > 0 {
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.expired AS e (table_id, rows) VALUES ($1, $2)
                 ON CONFLICT (table_id) DO UPDATE SET rows = e.rows + EXCLUDED.rows",
            )
            .await?;
        tx.execute(&statement, &[&table, &expired.cast_signed()]).await?;
    }
    Ok(())
}

/// A ledger row from a misfit.
pub(super) fn parked_row(table: &str, key: crate::domain::value::Key, key_json: &str, misfit: Misfit) -> ParkedRow {
    ParkedRow { table: table.to_owned(), key, misfit, key_json: key_json.to_owned() }
}

/// Where a table's following stands: the stream, the stored positions by shard (`None` for a finished one), and how far
/// lanes have come. `None` before following began. One statement, so that all of it is of one moment.
#[allow(clippy::type_complexity)]
pub(super) async fn standing(
    client: &impl Ask,
    table: &str,
) -> Result<Option<(String, BTreeMap<String, Option<Position>>, Vec<LaneStand>)>, Error> {
    let sql = r#"SELECT s.stream, x.shard, p.table_id IS NOT NULL, CASE WHEN p.finished THEN NULL ELSE p.position END,
                        l.lane, l."of", CASE WHEN l.finished THEN NULL ELSE l.position END
                 FROM cutover.stream s
                 LEFT JOIN (SELECT table_id, shard FROM cutover.stream_position
                            UNION SELECT table_id, shard FROM cutover.lane) x USING (table_id)
                 LEFT JOIN cutover.stream_position p ON p.table_id = s.table_id AND p.shard = x.shard
                 LEFT JOIN cutover.lane l ON l.table_id = s.table_id AND l.shard = x.shard
                 WHERE s.table_id = $1"#;
    let mut found = None;
    for row in client.ask(sql, &[&table]).await? {
        let (_, positions, lanes) = match &mut found {
            Some(found) => found,
            None => found.insert((row.try_get(0)?, BTreeMap::new(), Vec::new())),
        };
        let Some(shard) = row.try_get::<_, Option<String>>(1)? else { continue };
        if let Some(lane) = row.try_get::<_, Option<i32>>(4)? {
            lanes.push(LaneStand {
                lane: lane.cast_unsigned(),
                of: row.try_get::<_, i32>(5)?.cast_unsigned(),
                shard: shard.clone(),
                position: row.try_get::<_, Option<String>>(6)?.map(Position),
            });
        }
        if row.try_get(2)? {
            positions.insert(shard, row.try_get::<_, Option<String>>(3)?.map(Position));
        }
    }
    Ok(found)
}
