//! The ledger of parked rows: its table, and how it is read.
//!
//! It takes any key the source takes, and those are longer than an index entry may be (2,704 bytes): rows are kept by
//! the SHA-256 of their key, and listed by its beginning.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Error, Row};

use super::book;
use super::connect::Object;
use super::owner::Of;
use crate::domain::at::At;
use crate::domain::mapping::{RowError, RowErrorReason};
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::ParkedRow;

/// Makes the ledger.
pub(super) const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS cutover.parked (
    plan text NOT NULL, table_id text NOT NULL, digest bytea NOT NULL, key text NOT NULL, "column" text NOT NULL,
    reason text NOT NULL, detail text NOT NULL DEFAULT '', key_json text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (plan, table_id, digest));
DO $$ BEGIN
    IF to_regclass('cutover.parked_plan_order') IS NULL THEN
        CREATE INDEX parked_plan_order ON cutover.parked (plan, table_id, left(key, 200) COLLATE "C", digest);
    END IF;
END $$;
"#;

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn parked_row(table: &Table, row: &Row) -> Result<ParkedRow, Error> {
    Ok(ParkedRow {
        table: table.id.clone(),
        key: Key(row.try_get(0)?),
        row_error: RowError { column: row.try_get(1)?, reason: book::reason(row.try_get(2)?), detail: row.try_get(3)? },
        key_json: row.try_get(4)?,
    })
}

/// Parked rows by reason, and rows removed by TTL: both of one moment.
pub(super) async fn totals(
    client: &Object,
    plan: &str,
    table: &Table,
) -> Result<(BTreeMap<RowErrorReason, u64>, u64), Error> {
    // A null reason stands for the rows that expired.
    let sql = "SELECT reason, count(*) FROM cutover.parked WHERE plan = $1 AND table_id = $2 GROUP BY reason
               UNION ALL SELECT NULL, rows FROM cutover.expired WHERE plan = $1 AND table_id = $2";
    let of = Of { plan, table: &table.id };
    let statement = client.prepare_cached(sql).await?;
    let (mut reasons, mut expired) = (BTreeMap::new(), 0);
    for row in client.query(&statement, &[&of.plan, &of.table]).await? {
        let n = unsigned(row.try_get(1)?);
        match row.try_get::<_, Option<&str>>(0)? {
            Some(name) => *reasons.entry(book::reason(name)).or_insert(0) += n,
            None => expired += n,
        }
    }
    Ok((reasons, expired))
}

/// One page. See [`crate::ports::Target::parked`].
pub(super) async fn page(
    client: &Object,
    plan: &str,
    table: &Table,
    reasons: Option<&[RowErrorReason]>,
    after: Option<&Key>,
    limit: u32,
) -> Result<Vec<ParkedRow>, Error> {
    // An index's order, so that a page costs its own rows however long the ledger is.
    let sql = r#"SELECT key, "column", reason, detail, key_json FROM cutover.parked WHERE plan = $1 AND table_id = $2
                 AND ($3::text[] IS NULL OR reason = ANY ($3))
                 AND ($4::text IS NULL OR (left(key, 200) COLLATE "C", digest)
                      > (left($4, 200) COLLATE "C", sha256(convert_to($4, 'UTF8'))))
                 ORDER BY left(key, 200) COLLATE "C", digest LIMIT $5"#;
    let of = Of { plan, table: &table.id };
    let statement = client.prepare_cached(sql).await?;
    let reasons: Option<Vec<&str>> = reasons.map(|all| all.iter().map(|r| r.name()).collect());
    let after = after.map(|k| book::storable(&k.0));
    let after: Option<&str> = after.as_deref();
    let rows = client.query(&statement, &[&of.plan, &of.table, &reasons, &after, &i64::from(limit)]).await?;
    rows.iter().map(|row| parked_row(table, row)).collect()
}

/// Rows by key, with when they were first parked. See [`crate::ports::Target::parked_since`].
pub(super) async fn by_key(
    client: &Object,
    plan: &str,
    table: &Table,
    keys: &[Key],
) -> Result<Vec<Option<(ParkedRow, At)>>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sql = r#"SELECT key, "column", reason, detail, key_json, (extract(epoch FROM first_seen) * 1000)::bigint
                 FROM cutover.parked WHERE plan = $1 AND table_id = $2
                 AND digest = ANY (ARRAY(SELECT sha256(convert_to(k, 'UTF8')) FROM unnest($3::text[]) k))"#;
    let of = Of { plan, table: &table.id };
    let statement = client.prepare_cached(sql).await?;
    let stored: Vec<_> = keys.iter().map(|k| book::storable(&k.0)).collect();
    let asked: Vec<&str> = stored.iter().map(AsRef::as_ref).collect();
    let mut found = HashMap::new();
    for row in client.query(&statement, &[&of.plan, &of.table, &asked]).await? {
        let since = At(row.try_get(5)?);
        let parked = parked_row(table, &row)?;
        found.insert(parked.key.0.clone(), (parked, since));
    }
    Ok(asked.iter().map(|key| found.get(*key).cloned()).collect())
}
