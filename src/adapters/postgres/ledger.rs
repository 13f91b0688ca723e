//! The ledger of parked rows, read.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Error, Row};

use super::book;
use super::connect::Object;
use crate::domain::at::At;
use crate::domain::mapping::{Misfit, MisfitReason};
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::ParkedRow;

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn parked_row(table: &Table, row: &Row) -> Result<ParkedRow, Error> {
    Ok(ParkedRow {
        table: table.id.clone(),
        key: Key(row.try_get(0)?),
        misfit: Misfit { column: row.try_get(1)?, reason: book::reason(row.try_get(2)?) },
        key_json: row.try_get(3)?,
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

/// One page in key order. See [`crate::ports::Target::parked`].
pub(super) async fn page(
    client: &Object,
    table: &Table,
    reasons: Option<&[MisfitReason]>,
    after: Option<&Key>,
    limit: u32,
) -> Result<Vec<ParkedRow>, Error> {
    // The primary key's order, so that a page costs its own rows however long the ledger is.
    let sql = r#"SELECT key, "column", reason, key_json FROM cutover.parked WHERE table_id = $1
                 AND ($2::text[] IS NULL OR reason = ANY ($2)) AND ($3::text IS NULL OR key > $3)
                 ORDER BY key LIMIT $4"#;
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
    let sql = r#"SELECT key, "column", reason, key_json, (extract(epoch FROM first_seen) * 1000)::bigint
                 FROM cutover.parked WHERE table_id = $1 AND key = ANY ($2)"#;
    let statement = client.prepare_cached(sql).await?;
    let stored: Vec<_> = keys.iter().map(|k| book::storable(&k.0)).collect();
    let asked: Vec<&str> = stored.iter().map(AsRef::as_ref).collect();
    let mut found = HashMap::new();
    for row in client.query(&statement, &[&table.id, &asked]).await? {
        let since = At(row.try_get(4)?);
        let parked = parked_row(table, &row)?;
        found.insert(parked.key.0.clone(), (parked, since));
    }
    Ok(asked.iter().map(|key| found.get(*key).cloned()).collect())
}
