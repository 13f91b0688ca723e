//! Our own bookkeeping in the target: schema `cutover`, written in the transactions of the data it describes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::connect::Ask;
use super::owner::Of;
use crate::domain::at::At;
use crate::domain::mapping::{RowError, RowErrorReason};
use crate::ports::{Checkpoint, Cursor, LaneStand, ParkedRow, Position};

/// Held while bookkeeping is made, changed or given to another plan.
pub(super) const ALONE: &str = "SELECT pg_advisory_xact_lock(7162838421)";

/// Makes the bookkeeping, under [`ALONE`]: `IF NOT EXISTS` alone fails when two do it at once. Every row belongs to a
/// plan and to one of its tables.
pub(super) const TABLES: &str = r#"
DO $$ BEGIN IF to_regnamespace('cutover') IS NULL THEN CREATE SCHEMA cutover; END IF; END $$;
CREATE TABLE IF NOT EXISTS cutover.load_checkpoint (
    plan text NOT NULL, table_id text NOT NULL, part integer NOT NULL, "of" integer NOT NULL, cursor text,
    rows bigint NOT NULL, parked bigint NOT NULL, done boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (plan, table_id, part, "of"));
CREATE TABLE IF NOT EXISTS cutover.stream (
    plan text NOT NULL, table_id text NOT NULL, stream text NOT NULL, started_at timestamptz NOT NULL DEFAULT now(),
    token bigint NOT NULL DEFAULT 0, PRIMARY KEY (plan, table_id));
CREATE SEQUENCE IF NOT EXISTS cutover.token;
CREATE TABLE IF NOT EXISTS cutover.stream_position (
    plan text NOT NULL, table_id text NOT NULL, shard text NOT NULL, position text, finished boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (plan, table_id, shard));
CREATE TABLE IF NOT EXISTS cutover.lane (
    plan text NOT NULL, table_id text NOT NULL, lane integer NOT NULL, "of" integer NOT NULL, shard text NOT NULL, position text,
    finished boolean NOT NULL DEFAULT false, PRIMARY KEY (plan, table_id, lane, shard));
CREATE TABLE IF NOT EXISTS cutover.marker (
    plan text NOT NULL, table_id text NOT NULL, nonce text NOT NULL, applied_at bigint NOT NULL, PRIMARY KEY (plan, table_id, nonce));
CREATE TABLE IF NOT EXISTS cutover.created (
    plan text NOT NULL, table_id text NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (plan, table_id));
CREATE TABLE IF NOT EXISTS cutover.set_aside (
    name text PRIMARY KEY, plan text NOT NULL, table_id text NOT NULL, definition text NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS cutover.expired (
    plan text NOT NULL, table_id text NOT NULL, rows bigint NOT NULL, PRIMARY KEY (plan, table_id));
CREATE TABLE IF NOT EXISTS cutover.lease (
    plan text PRIMARY KEY, run text NOT NULL, holder text NOT NULL, epoch bigint NOT NULL, until timestamptz NOT NULL);
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
pub(super) fn reason(name: &str) -> RowErrorReason {
    RowErrorReason::ALL.into_iter().find(|r| r.name() == name).unwrap_or(RowErrorReason::Refused)
}

/// Puts rows into the ledger. A row that is there keeps the moment it was first seen.
pub(super) async fn park(tx: &Transaction<'_>, of: Of<'_>, parked: &[ParkedRow]) -> Result<(), Error> {
    if parked.is_empty() {
        return Ok(());
    }
    // One statement may touch a key once; the last entry counts.
    let last: BTreeMap<Cow<'_, str>, &ParkedRow> = parked.iter().map(|p| (storable(&p.key.0), p)).collect();
    let keys: Vec<&str> = last.keys().map(AsRef::as_ref).collect();
    let columns: Vec<&str> = last.values().map(|p| p.row_error.column.as_str()).collect();
    let reasons: Vec<&str> = last.values().map(|p| p.row_error.reason.name()).collect();
    let details: Vec<&str> = last.values().map(|p| p.row_error.detail.as_str()).collect();
    let json: Vec<Cow<'_, str>> = last.values().map(|p| storable(&p.key_json)).collect();
    let json: Vec<&str> = json.iter().map(AsRef::as_ref).collect();
    let statement = tx
        .prepare_cached(
            r#"INSERT INTO cutover.parked (plan, table_id, digest, key, "column", reason, detail, key_json)
               SELECT $1, $2, sha256(convert_to(k, 'UTF8')), k, c, r, d, j
               FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) p(k, c, r, d, j)
               ON CONFLICT (plan, table_id, digest) DO UPDATE
               SET "column" = EXCLUDED."column", reason = EXCLUDED.reason, detail = EXCLUDED.detail,
                   key_json = EXCLUDED.key_json"#,
        )
        .await?;
    tx.execute(&statement, &[&of.plan, &of.table, &keys, &columns, &reasons, &details, &json]).await?;
    Ok(())
}

/// Whether the ledger holds any row of a table.
pub(super) async fn any_parked(tx: &Transaction<'_>, of: Of<'_>) -> Result<bool, Error> {
    let statement =
        tx.prepare_cached("SELECT EXISTS (SELECT FROM cutover.parked WHERE plan = $1 AND table_id = $2)").await?;
    tx.query_one(&statement, &[&of.plan, &of.table]).await?.try_get(0)
}

/// Takes rows that have landed out of the ledger.
pub(super) async fn unpark(tx: &Transaction<'_>, of: Of<'_>, keys: &[&str]) -> Result<(), Error> {
    if keys.is_empty() || !any_parked(tx, of).await? {
        return Ok(());
    }
    let keys: Vec<Cow<'_, str>> = keys.iter().map(|k| storable(k)).collect();
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    let sql = "DELETE FROM cutover.parked WHERE plan = $1 AND table_id = $2
               AND digest = ANY (ARRAY(SELECT sha256(convert_to(k, 'UTF8')) FROM unnest($3::text[]) k))";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&of.plan, &of.table, &keys]).await?;
    Ok(())
}

/// Stores a load checkpoint. With `from`, only where this cursor is stored (`None`: none at all) or the new one
/// already: a server that lost transactions stands elsewhere. Says whether it was stored.
pub(super) async fn checkpoint(
    tx: &Transaction<'_>,
    of: Of<'_>,
    c: &Checkpoint,
    from: Option<Option<&Cursor>>,
) -> Result<bool, Error> {
    let statement = tx
        .prepare_cached(
            r#"INSERT INTO cutover.load_checkpoint AS c (plan, table_id, part, "of", cursor, rows, parked, done)
               SELECT $1, $2, $3, $4, $5, $6, $7, $8
               WHERE NOT $9 OR $10::text IS NULL OR EXISTS (
                   SELECT FROM cutover.load_checkpoint WHERE plan = $1 AND table_id = $2 AND part = $3 AND "of" = $4)
               ON CONFLICT (plan, table_id, part, "of") DO UPDATE SET cursor = EXCLUDED.cursor, rows = EXCLUDED.rows,
               parked = EXCLUDED.parked, done = EXCLUDED.done, updated_at = now()
               WHERE NOT $9 OR c.cursor = $10 OR c.cursor IS NOT DISTINCT FROM EXCLUDED.cursor AND c.done = EXCLUDED.done"#,
        )
        .await?;
    let text = |c: &Cursor| c.0.clone();
    let cursor = c.cursor.as_ref().map(text);
    let (part, parts) = (c.part.index.cast_signed(), c.part.of.cast_signed());
    let (rows, parked) = (c.rows.cast_signed(), c.parked.cast_signed());
    let (compared, from) = (from.is_some(), from.flatten().map(text));
    let values: [&(dyn ToSql + Sync); 10] =
        [&of.plan, &of.table, &part, &parts, &cursor, &rows, &parked, &c.done, &compared, &from];
    Ok(tx.execute(&statement, &values).await? > 0)
}

/// For [`lock`]: alone.
pub(super) const STREAM: &str = "SELECT token FROM cutover.stream WHERE plan = $1 AND table_id = $2 FOR UPDATE";

/// Locks what is stored of a table's stream for this transaction, and says who may follow it: the token of the process
/// that resumed it last. `None` when nothing is stored.
pub(super) async fn lock(tx: &Transaction<'_>, statement: &Statement, of: Of<'_>) -> Result<Option<i64>, Error> {
    tx.query_opt(statement, &[&of.plan, &of.table]).await?.map(|row| row.try_get(0)).transpose()
}

/// Moves positions on and finishes shards.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    of: Of<'_>,
    positions: &BTreeMap<String, Position>,
    finished: &[String],
) -> Result<(), Error> {
    if !positions.is_empty() {
        let shards: Vec<&str> = positions.keys().map(String::as_str).collect();
        let values: Vec<&str> = positions.values().map(|p| p.0.as_str()).collect();
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.stream_position (plan, table_id, shard, position)
                 SELECT $1, $2, * FROM unnest($3::text[], $4::text[])
                 ON CONFLICT (plan, table_id, shard) DO UPDATE SET position = EXCLUDED.position, updated_at = now()",
            )
            .await?;
        tx.execute(&statement, &[&of.plan, &of.table, &shards, &values]).await?;
    }
    if !finished.is_empty() {
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.stream_position (plan, table_id, shard, finished)
                 SELECT DISTINCT $1, $2, s, true FROM unnest($3::text[]) s
                 ON CONFLICT (plan, table_id, shard) DO UPDATE SET position = NULL, finished = true, updated_at = now()",
            )
            .await?;
        tx.execute(&statement, &[&of.plan, &of.table, &finished]).await?;
    }
    Ok(())
}

/// Notes markers and rows removed by TTL.
pub(super) async fn notes(tx: &Transaction<'_>, of: Of<'_>, markers: &[String], expired: u64) -> Result<(), Error> {
    if !markers.is_empty() {
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.marker (plan, table_id, nonce, applied_at)
                 SELECT DISTINCT $1, $2, n, $4::bigint FROM unnest($3::text[]) n ON CONFLICT DO NOTHING",
            )
            .await?;
        tx.execute(&statement, &[&of.plan, &of.table, &markers, &wall().0]).await?;
    }
    if expired > 0 {
        let statement = tx
            .prepare_cached(
                "INSERT INTO cutover.expired AS e (plan, table_id, rows) VALUES ($1, $2, $3)
                 ON CONFLICT (plan, table_id) DO UPDATE SET rows = e.rows + EXCLUDED.rows",
            )
            .await?;
        tx.execute(&statement, &[&of.plan, &of.table, &expired.cast_signed()]).await?;
    }
    Ok(())
}

/// A ledger row from a row error.
pub(super) fn parked_row(
    table: &str,
    key: crate::domain::value::Key,
    key_json: &str,
    row_error: RowError,
) -> ParkedRow {
    ParkedRow { table: table.to_owned(), key, row_error, key_json: key_json.to_owned() }
}

/// Where a table's following stands: the stream, the stored positions by shard (`None` for a finished one), and how far
/// lanes have come. `None` before following began. One statement, so that all of it is of one moment.
#[allow(clippy::type_complexity)]
pub(super) async fn standing(
    client: &impl Ask,
    of: Of<'_>,
) -> Result<Option<(String, BTreeMap<String, Option<Position>>, Vec<LaneStand>)>, Error> {
    let sql = r#"SELECT s.stream, x.shard, p.table_id IS NOT NULL, CASE WHEN p.finished THEN NULL ELSE p.position END,
                        l.lane, l."of", CASE WHEN l.finished THEN NULL ELSE l.position END
                 FROM cutover.stream s
                 LEFT JOIN (SELECT plan, table_id, shard FROM cutover.stream_position
                            UNION SELECT plan, table_id, shard FROM cutover.lane) x USING (plan, table_id)
                 LEFT JOIN cutover.stream_position p ON p.plan = s.plan AND p.table_id = s.table_id AND p.shard = x.shard
                 LEFT JOIN cutover.lane l ON l.plan = s.plan AND l.table_id = s.table_id AND l.shard = x.shard
                 WHERE s.plan = $1 AND s.table_id = $2"#;
    let mut found = None;
    for row in client.ask(sql, &[&of.plan, &of.table]).await? {
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
