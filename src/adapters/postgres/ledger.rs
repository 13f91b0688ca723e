//! The ledger of parked rows: its table, and how it is read.
//!
//! It takes any key the source takes, and those are longer than an index entry may be (2,704 bytes): rows are kept by the
//! SHA-256 of their key, and listed by its beginning.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Error, Row};

use super::book;
use super::connect::Object;
use crate::domain::at::At;
use crate::domain::mapping::{Misfit, MisfitReason};
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::ParkedRow;

/// Makes the ledger, or takes over the one of an earlier version, which was kept by the key itself.
pub(super) const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS cutover.parked (
    table_id text NOT NULL, digest bytea NOT NULL, key text NOT NULL, "column" text NOT NULL, reason text NOT NULL,
    detail text NOT NULL DEFAULT '', key_json text NOT NULL, first_seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_id, digest));
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'cutover.parked'::regclass AND attname = 'digest') THEN
        ALTER TABLE cutover.parked ADD COLUMN digest bytea, ADD COLUMN detail text NOT NULL DEFAULT '';
        UPDATE cutover.parked SET digest = sha256(convert_to(key, 'UTF8'));
        ALTER TABLE cutover.parked DROP CONSTRAINT parked_pkey, ALTER COLUMN digest SET NOT NULL;
        ALTER TABLE cutover.parked ADD PRIMARY KEY (table_id, digest);
    END IF;
END $$;
CREATE INDEX IF NOT EXISTS parked_order ON cutover.parked (table_id, left(key, 200) COLLATE "C", digest);
"#;

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn parked_row(table: &Table, row: &Row) -> Result<ParkedRow, Error> {
    Ok(ParkedRow {
        table: table.id.clone(),
        key: Key(row.try_get(0)?),
        misfit: Misfit { column: row.try_get(1)?, reason: book::reason(row.try_get(2)?), detail: row.try_get(3)? },
        key_json: row.try_get(4)?,
    })
}

/// Parked rows by reason, and rows removed by TTL: both of one moment.
pub(super) async fn totals(client: &Object, table: &Table) -> Result<(BTreeMap<MisfitReason, u64>, u64), Error> {
    // A null reason stands for the rows that expired.
    let sql = "SELECT reason, count(*) FROM cutover.parked WHERE table_id = $1 GROUP BY reason
               UNION ALL SELECT NULL, rows FROM cutover.expired WHERE table_id = $1";
    let statement = client.prepare_cached(sql).await?;
    let (mut reasons, mut expired) = (BTreeMap::new(), 0);
    for row in client.query(&statement, &[&table.id]).await? {
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
    table: &Table,
    reasons: Option<&[MisfitReason]>,
    after: Option<&Key>,
    limit: u32,
) -> Result<Vec<ParkedRow>, Error> {
    // An index's order, so that a page costs its own rows however long the ledger is.
    let sql = r#"SELECT key, "column", reason, detail, key_json FROM cutover.parked WHERE table_id = $1
                 AND ($2::text[] IS NULL OR reason = ANY ($2))
                 AND ($3::text IS NULL OR (left(key, 200) COLLATE "C", digest)
                      > (left($3, 200) COLLATE "C", sha256(convert_to($3, 'UTF8'))))
                 ORDER BY left(key, 200) COLLATE "C", digest LIMIT $4"#;
    let statement = client.prepare_cached(sql).await?;
    let reasons: Option<Vec<&str>> = reasons.map(|all| all.iter().map(|r| r.name()).collect());
    let after = after.map(|k| book::storable(&k.0));
    let after: Option<&str> = after.as_deref();
    let rows = client.query(&statement, &[&table.id, &reasons, &after, &i64::from(limit)]).await?;
    rows.iter().map(|row| parked_row(table, row)).collect()
}

/// Rows by key, with when they were first parked. See [`crate::ports::Target::parked_since`].
pub(super) async fn by_key(
    client: &Object,
    table: &Table,
    keys: &[Key],
) -> Result<Vec<Option<(ParkedRow, At)>>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sql = r#"SELECT key, "column", reason, detail, key_json, (extract(epoch FROM first_seen) * 1000)::bigint
                 FROM cutover.parked WHERE table_id = $1
                 AND digest = ANY (ARRAY(SELECT sha256(convert_to(k, 'UTF8')) FROM unnest($2::text[]) k))"#;
    let statement = client.prepare_cached(sql).await?;
    let stored: Vec<_> = keys.iter().map(|k| book::storable(&k.0)).collect();
    let asked: Vec<&str> = stored.iter().map(AsRef::as_ref).collect();
    let mut found = HashMap::new();
    for row in client.query(&statement, &[&table.id, &asked]).await? {
        let since = At(row.try_get(5)?);
        let parked = parked_row(table, &row)?;
        found.insert(parked.key.0.clone(), (parked, since));
    }
    Ok(asked.iter().map(|key| found.get(*key).cloned()).collect())
}
