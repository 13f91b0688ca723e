//! Tables of a database at one moment, each value as the text that its own type writes.
//!
//! Everything is read in one transaction that changes nothing. The tables are locked against being emptied, rewritten or
//! altered before the moment is fixed, because TRUNCATE and VACUUM FULL are seen by snapshots that are older than they
//! are. Customers' reads and writes go on; the server keeps old versions of rows as long as the transaction is open.

use std::collections::BTreeMap;
use std::pin::pin;

use async_trait::async_trait;
use bytes::BytesMut;
use deadpool_postgres::ClientWrapper;
use futures::TryStreamExt as _;
use tokio_postgres::Error;

use crate::adapters::postgres::encode::HEADER;
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{Cursor, ErrorKind, PointInTime, PortError, PortResult, TextPage};

/// Blocks of one page: 2 MB of rows, and what they keep elsewhere.
const STRIPE: i64 = 256;

const READ: &str = "read a snapshot of";

/// Names of a table's columns that rows have of their own, with their types.
const COLUMNS: &str = "
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum";

/// Ordinary tables that hold the rows of one, by number, with their blocks and quoted names.
const LEAVES: &str = "
SELECT c.oid::bigint, pg_relation_size(c.oid) / current_setting('block_size')::bigint, c.oid::regclass::text
FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) tree
JOIN pg_class c ON c.oid = tree.relid AND c.relkind = 'r' WHERE c.oid::bigint >= $2 ORDER BY c.oid::bigint LIMIT 2";

const MOMENT: &str = "
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || 'Z, snapshot ' || pg_current_snapshot()";

/// Rows that would be hidden from us are an error, and pages may be far apart: what they are written to may be slow.
const BEGIN: &str = "
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL row_security = off;
SET LOCAL idle_in_transaction_session_timeout = 0";

/// A transaction that reads.
pub(super) struct PgPointInTime {
    /// Taken out of the pool: it ends with this.
    client: ClientWrapper,
    moment: String,
    columns: BTreeMap<String, Vec<(String, String)>>,
}

/// Opens the transaction.
///
/// # Errors
/// `NotFound` for a table that is not there, `Denied` for one that may not be read, `TimedOut` when somebody holds one
/// of them locked.
pub(super) async fn open(client: ClientWrapper, tables: &[Table]) -> PortResult<PgPointInTime> {
    let tried = "open a snapshot of";
    let mut columns = BTreeMap::new();
    let first = tables.first().map_or("no table", |table| table.source.as_str());
    client.batch_execute(BEGIN).await.map_err(|e| trouble::error(&e, tried, first))?;
    for table in tables {
        let on = table.source.as_str();
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", qualified(on));
        client.batch_execute(&lock).await.map_err(|e| trouble::error(&e, tried, on))?;
    }
    // The first statement that reads fixes the moment.
    let row = client.query_one(MOMENT, &[]).await.map_err(|e| trouble::error(&e, tried, first))?;
    let moment = row.try_get(0).map_err(|e| trouble::error(&e, tried, first))?;
    for table in tables {
        let on = table.source.as_str();
        let error = |e: Error| trouble::error(&e, tried, on);
        let rows = client.query(COLUMNS, &[&qualified(on)]).await.map_err(error)?;
        let each = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        columns.insert(on.to_owned(), each.collect::<Result<Vec<_>, Error>>().map_err(error)?);
    }
    Ok(PgPointInTime { client, moment, columns })
}

/// The value's text, as its type's output function writes it under our settings; NULL for NULL alone.
fn text_of(name: &str) -> String {
    let name = ident(name);
    // A composite value of NULLs is one, and no NULL.
    format!("CASE WHEN t.{name} IS DISTINCT FROM NULL THEN concat(t.{name}) END AS {name}")
}

#[async_trait]
impl PointInTime for PgPointInTime {
    fn moment(&self) -> &str {
        &self.moment
    }

    fn columns(&self, table: &Table) -> Vec<(String, String)> {
        self.columns.get(&table.source).cloned().unwrap_or_default()
    }

    async fn page(&mut self, table: &Table, cursor: Option<&Cursor>) -> PortResult<TextPage> {
        let on = table.source.as_str();
        let columns = self
            .columns
            .get(on)
            .ok_or_else(|| PortError::new(ErrorKind::Invalid, READ, on, "it is no part of the snapshot"))?;
        text_page(&self.client, on, columns, cursor).await
    }
}

/// The next rows of a table as lines of text, of these columns in this order, as the session's transaction sees them.
///
/// # Errors
/// The server does not answer, or the cursor is none of ours.
pub(in crate::adapters::postgres) async fn text_page(
    client: &ClientWrapper,
    on: &str,
    columns: &[(String, String)],
    cursor: Option<&Cursor>,
) -> PortResult<TextPage> {
    let error = |e: Error| trouble::error(&e, READ, on);
    let invalid = |why: &str| PortError::new(ErrorKind::Invalid, READ, on, why);
    let (leaf, begin) = match cursor {
        None => (0, 0),
        Some(cursor) => parsed(cursor).ok_or_else(|| invalid("no cursor of ours"))?,
    };
    let rows = client.query(LEAVES, &[&qualified(on), &leaf]).await.map_err(error)?;
    let Some(first) = rows.first() else { return Ok(TextPage::default()) };
    let (oid, blocks): (i64, i64) = (first.try_get(0).map_err(error)?, first.try_get(1).map_err(error)?);
    let name: String = first.try_get(2).map_err(error)?;
    let begin = if oid == leaf { begin } else { 0 };
    let end = begin + STRIPE;
    let values = columns.iter().map(|(name, _)| text_of(name)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "COPY (SELECT row_to_json(r.*)::text FROM (SELECT {values} FROM ONLY {name} t \
         WHERE t.ctid >= '({begin},0)'::tid AND t.ctid < '({end},0)'::tid) r) TO STDOUT (FORMAT binary)"
    );
    let mut raw = BytesMut::new();
    if begin < blocks {
        let mut stream = pin!(client.copy_out(&sql).await.map_err(error)?);
        while let Some(piece) = stream.try_next().await.map_err(error)? {
            raw.extend_from_slice(&piece);
        }
    }
    let mut page = if raw.is_empty() { TextPage::default() } else { lines(&raw).ok_or_else(|| invalid("torn"))? };
    page.next = if end < blocks {
        Some(Cursor(format!("{oid}:{end}")))
    } else {
        let next: Option<i64> = rows.get(1).map(|row| row.try_get(0)).transpose().map_err(error)?;
        next.map(|oid| Cursor(format!("{oid}:0")))
    };
    Ok(page)
}

fn parsed(cursor: &Cursor) -> Option<(i64, i64)> {
    let (leaf, block) = cursor.0.split_once(':')?;
    Some((leaf.parse().ok()?, block.parse().ok()?))
}

/// The only column of each row, a line each.
fn lines(raw: &[u8]) -> Option<TextPage> {
    let mut page = TextPage { lines: Vec::with_capacity(raw.len()), ..TextPage::default() };
    let mut raw = raw.strip_prefix(&HEADER[..])?;
    loop {
        let (values, rest) = raw.split_first_chunk::<2>()?;
        match i16::from_be_bytes(*values) {
            -1 => return rest.is_empty().then_some(page),
            1 => {}
            _ => return None,
        }
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (line, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*len)).ok()?)?;
        page.lines.extend_from_slice(line);
        page.lines.push(b'\n');
        page.records += 1;
        raw = rest;
    }
}
