//! Reading rows back in canonical form: whole tables, or rows by key.

use std::pin::pin;

use futures::TryStreamExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::connect::{Object, Pool};
use super::decode::{self, RowReader};
use super::retry;
use super::shape::{Part, Shape};
use super::trouble;
use crate::domain::plan::ColumnType;
use crate::domain::value::{Cell, OwnedRow};
use crate::ports::{ErrorKind, Partition, PortError, PortResult, TargetVisitor};

/// A column as the server sent it.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn unreadable(tried: &str, on: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, tried, on, "a value is not in the form its type promises")
        .advise("compare the column types with the plan: `cutover check`")
}

/// Reads a whole table at one moment.
pub(super) async fn scan(pool: &Pool, place: &str, part: &Part, each: &mut TargetVisitor<'_>) -> PortResult<()> {
    let mut client = retry::client(pool, place).await?;
    copy(&mut client, part, &part.copy_out, each).await
}

/// Blocks of a table are read in stripes, and a part has every n-th of them: so each block belongs to one part, however
/// the table grows while the parts ask one after the other how large it is. Small stripes come first, that small tables
/// are shared out too.
const fn stripe(n: i64) -> std::ops::Range<i64> {
    const SMALL: i64 = 32;
    const LARGE: i64 = 1_024;
    if n < SMALL {
        n..n + 1
    } else if n < 2 * SMALL {
        SMALL * (n - SMALL + 1)..SMALL * (n - SMALL + 2)
    } else {
        let begin = SMALL * (SMALL + 1) + LARGE * (n - 2 * SMALL);
        begin..begin + LARGE
    }
}

/// Reads one part of a table: some of its blocks. What is not read by its own blocks, or by a server that would read it
/// whole each time, is read as the first part.
pub(super) async fn scan_part(
    pool: &Pool,
    place: &str,
    part: &Part,
    share: Partition,
    each: &mut TargetVisitor<'_>,
) -> PortResult<()> {
    let on = part.name.as_str();
    let error = |e: tokio_postgres::Error| trouble::error(&e, "scan", on);
    let mut client = retry::client(pool, place).await?;
    let sql = "SELECT CASE WHEN relkind = 'r' AND current_setting('server_version_num')::int >= 140000
                        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
                      THEN pg_relation_size(c.oid) / current_setting('block_size')::bigint END
               FROM pg_class c WHERE c.oid = to_regclass($1)";
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    let row = client.query_opt(&statement, &[&part.sql]).await.map_err(error)?;
    let blocks: Option<i64> = row.map(|r| r.try_get(0)).transpose().map_err(error)?.flatten();
    match blocks {
        Some(blocks) if share.of > 1 => {
            let stripes = (i64::from(share.index)..).step_by(share.of as usize).map(stripe);
            for stripe in stripes.take_while(|stripe| stripe.start < blocks) {
                copy(&mut client, part, &part.copy_blocks(&stripe), each).await?;
            }
            Ok(())
        }
        _ if share.index > 0 => Ok(()),
        _ => copy(&mut client, part, &part.copy_out, each).await,
    }
}

async fn copy(client: &mut Object, part: &Part, sql: &str, each: &mut TargetVisitor<'_>) -> PortResult<()> {
    let on = part.name.as_str();
    let error = |e: tokio_postgres::Error| trouble::error(&e, "scan", on);
    let tx = client.build_transaction().read_only(true).start().await.map_err(error)?;
    tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(error)?;
    let mut reader = RowReader::default();
    {
        let mut stream = pin!(tx.copy_out(sql).await.map_err(error)?);
        while let Some(piece) = stream.try_next().await.map_err(error)? {
            reader.feed(&piece, &part.types, &mut |row| each(row)).map_err(|_| unreadable("scan", on))?;
        }
    }
    if !reader.complete() {
        return Err(unreadable("scan", on));
    }
    tx.commit().await.map_err(error)
}

/// A main row with the rows of each child table.
pub(super) type RowParts = (OwnedRow, Vec<Vec<OwnedRow>>);

/// Reads rows by key with their children, all at one moment, in the order of the keys.
pub(super) async fn fetch(
    pool: &Pool,
    place: &str,
    shape: &Shape,
    keys: &[OwnedRow],
) -> PortResult<Vec<Option<RowParts>>> {
    let on = shape.main.name.as_str();
    let error = |e: tokio_postgres::Error| trouble::error(&e, "fetch rows from", on);
    let mut found: Vec<Option<RowParts>> = vec![None; keys.len()];
    if keys.is_empty() || shape.key.is_empty() {
        return Ok(found);
    }
    let mut client = retry::client(pool, place).await?;
    let tx = client
        .build_transaction()
        .read_only(true)
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .start()
        .await
        .map_err(error)?;
    let arrays = shape.key_arrays(keys.iter().map(Vec::as_slice));
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a as _).collect();
    let statement = tx.prepare_cached(&shape.fetch).await.map_err(error)?;
    for row in tx.query(&statement, &params).await.map_err(error)? {
        let (place, cells) = numbered(&row, &shape.main.types).ok_or_else(|| unreadable("fetch rows from", on))?;
        if let Some(slot) = found.get_mut(place) {
            *slot = Some((cells, vec![Vec::new(); shape.children.len()]));
        }
    }
    for (i, child) in shape.children.iter().enumerate() {
        let statement = tx.prepare_cached(&shape.fetch_children[i]).await.map_err(error)?;
        for row in tx.query(&statement, &params).await.map_err(error)? {
            let (place, cells) = numbered(&row, &child.types).ok_or_else(|| unreadable("fetch rows from", on))?;
            if let Some(Some((_, children))) = found.get_mut(place) {
                children[i].push(cells);
            }
        }
    }
    tx.commit().await.map_err(error)?;
    Ok(found)
}

/// A row whose first column says which key it belongs to, from 1.
pub(super) fn numbered(row: &Row, types: &[ColumnType]) -> Option<(usize, OwnedRow)> {
    let n: i64 = row.try_get(0).ok()?;
    let cells = types
        .iter()
        .enumerate()
        .map(|(i, ty)| {
            let raw: Raw<'_> = row.try_get(i + 1).ok()?;
            decode::cell(*ty, raw.0).ok().map(Cell::into_owned)
        })
        .collect::<Option<Vec<_>>>()?;
    Some((usize::try_from(n - 1).ok()?, cells))
}

#[cfg(test)]
mod tests {
    use super::stripe;

    #[test]
    fn every_block_is_in_one_stripe() {
        let mut next = 0;
        for n in 0..200 {
            let stripe = stripe(n);
            assert_eq!(stripe.start, next, "{n}");
            assert!(stripe.end > stripe.start);
            next = stripe.end;
        }
    }
}
