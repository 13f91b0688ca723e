//! Pages of a table: ranges of its blocks, as the server's binary `COPY` writes them.
//!
//! A table is read in stripes of blocks, and a partition of the reading has every n-th of them; so it stays what it is
//! while the table grows. A partitioned table is read partition by partition.

use std::pin::pin;

use bytes::{BufMut as _, BytesMut};
use futures::TryStreamExt as _;
use tokio_postgres::Error;

use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::decode;
use crate::adapters::postgres::encode::{HEADER, TRAILER};
use crate::adapters::postgres::shape::Part;
use crate::adapters::postgres::trouble;
use crate::domain::plan::ColumnType;
use crate::domain::value::{Record, Value};
use crate::ports::{CopiedRows, Cursor, ErrorKind, Page, PageEnd, Partition, PortError, PortResult};

/// Blocks of one stripe. Cursors of every version count in stripes of this size: with another one a load that goes on would
/// leave rows out.
const STRIPE: i64 = 1_024;

/// Blocks of one page: pages are most of what a load holds, and smaller ones are not slower to read.
const PAGE: i64 = 256;

/// Bytes a page has room for before it has to move: as many as its blocks take at the server, where rows take a little more.
/// What is not used is never touched.
const ROOM: usize = PAGE as usize * 8_192;

/// What is tried.
const READ: &str = "read a page of";

const MOVED: &str = "it was rewritten while it was read (VACUUM FULL, CLUSTER, ALTER TABLE, TRUNCATE), or a partition is \
                     gone: rows may stand where nobody reads again";
const ANEW: &str = "load the table anew, and let nothing rewrite it meanwhile";

/// Where to read on: which table of the tree, as which file, from which page of which stripe.
struct At {
    leaf: i64,
    file: i64,
    stripe: i64,
    page: i64,
}

impl At {
    fn parse(cursor: &Cursor) -> Option<Self> {
        let mut parts = cursor.0.split(':').map(str::parse);
        let (leaf, file, stripe) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        let page = parts.next().unwrap_or(Ok(0)).ok()?;
        (parts.next().is_none() && (0..STRIPE / PAGE).contains(&page)).then_some(Self { leaf, file, stripe, page })
    }

    fn cursor(&self) -> Cursor {
        let Self { leaf, file, stripe, page } = self;
        // Its beginning is written as it was while a page was a stripe.
        Cursor(if *page == 0 { format!("{leaf}:{file}:{stripe}") } else { format!("{leaf}:{file}:{stripe}:{page}") })
    }
}

/// Ordinary tables that hold the rows of one, by number: each with its file, its blocks and its quoted name.
const LEAVES: &str = "
SELECT c.oid::bigint, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint, c.oid::regclass::text
FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) tree
JOIN pg_class c ON c.oid = tree.relid AND c.relkind = 'r' WHERE c.oid::bigint >= $2 ORDER BY c.oid::bigint LIMIT 2";

/// Reads the next page of a partition of the reading.
pub(super) async fn page(
    client: &mut Object,
    part: &Part,
    reading: Partition,
    cursor: Option<&Cursor>,
) -> PortResult<Page> {
    let on = part.name.as_str();
    let error = |e: Error| trouble::error(&e, READ, on);
    let invalid = |kind, why: &str| PortError::new(kind, READ, on, why);
    let from = cursor.map(|cursor| At::parse(cursor).ok_or_else(|| invalid(ErrorKind::Invalid, "no cursor of ours")));
    let from = from.transpose()?;
    let least = from.as_ref().map_or(0, |at| at.leaf);
    let rows = client.query(LEAVES, &[&part.sql, &least]).await.map_err(error)?;
    let begun = |next: Option<At>| {
        let head = head_of(part, next.map(|at| at.cursor()).as_ref());
        head.ok_or_else(|| invalid(ErrorKind::Invalid, "a name of it is too long for a page"))
    };
    let empty = |next: Option<At>| {
        let mut body = begun(next)?;
        no_rows(&mut body);
        Ok(Page { body: body.freeze() })
    };
    let Some(first) = rows.first() else {
        // A partitioned table without partitions has no rows.
        return if from.is_none() { empty(None) } else { Err(invalid(ErrorKind::Expired, MOVED).advise(ANEW)) };
    };
    let (leaf, file): (i64, i64) = (first.try_get(0).map_err(error)?, first.try_get(1).map_err(error)?);
    let (blocks, name): (i64, String) = (first.try_get(2).map_err(error)?, first.try_get(3).map_err(error)?);
    let (stripe, page) = match &from {
        None => (i64::from(reading.index), 0),
        Some(at) if (at.leaf, at.file) == (leaf, file) => (at.stripe, at.page),
        // A partition of which nothing was read yet.
        Some(at) if at.leaf == leaf && at.file == 0 => (at.stripe, at.page),
        Some(_) => return Err(invalid(ErrorKind::Expired, MOVED).advise(ANEW)),
    };
    let begin = stripe * STRIPE + page * PAGE;
    let next_stripe = stripe + i64::from(reading.of.max(1));
    let next = if (page + 1) * PAGE < STRIPE && begin + PAGE < blocks {
        Some(At { leaf, file, stripe, page: page + 1 })
    } else if next_stripe * STRIPE < blocks {
        Some(At { leaf, file, stripe: next_stripe, page: 0 })
    } else {
        let next_leaf = rows.get(1).map(|row| row.try_get(0)).transpose().map_err(error)?;
        next_leaf.map(|leaf| At { leaf, file: 0, stripe: i64::from(reading.index), page: 0 })
    };
    if begin >= blocks {
        return empty(next);
    }
    // The rows are added as they come: a page is most of what a load holds.
    let mut body = begun(next)?;
    copy(client, part, &name, begin, &mut body).await?;
    Ok(Page { body: body.freeze() })
}

/// Types in the form the decoder knows, by number.
const READ_AS: [ColumnType; 13] = [
    ColumnType::Text,
    ColumnType::Uuid,
    ColumnType::Numeric(None),
    ColumnType::Smallint,
    ColumnType::Integer,
    ColumnType::Bigint,
    ColumnType::Double,
    ColumnType::Boolean,
    ColumnType::Timestamptz,
    ColumnType::Date,
    ColumnType::Jsonb,
    ColumnType::TextArray,
    ColumnType::Bytea,
];

fn number(ty: ColumnType) -> Option<u8> {
    let form = decode::form(ty);
    u8::try_from(READ_AS.iter().position(|known| *known == form)?).ok()
}

/// How a page begins: names and types of the columns, so that it can be read by itself, and where to read on. The rows stand
/// behind it.
fn head_of(part: &Part, next: Option<&Cursor>) -> Option<BytesMut> {
    let mut body = BytesMut::with_capacity(ROOM);
    body.put_u16(u16::try_from(part.types.len()).ok()?);
    for (name, ty) in part.names().iter().zip(&part.types) {
        body.put_u8(number(*ty)?);
        body.put_u8(u8::try_from(name.len()).ok()?);
        body.put_slice(name.as_bytes());
    }
    let next = next.map_or("", |cursor| cursor.0.as_str());
    body.put_u8(u8::try_from(next.len()).ok()?);
    body.put_slice(next.as_bytes());
    Some(body)
}

/// What `COPY` writes where there is none.
fn no_rows(body: &mut BytesMut) {
    body.put_slice(&HEADER);
    body.put_slice(&TRAILER);
}

/// Rows of these blocks of an ordinary table, as `COPY` writes them.
async fn copy(client: &mut Object, part: &Part, name: &str, begin: i64, body: &mut BytesMut) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, READ, &part.name);
    let tx = client.build_transaction().read_only(true).start().await.map_err(error)?;
    // Rows that would be hidden are an error.
    tx.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL row_security = off").await.map_err(error)?;
    let (select, end) = (&part.select, begin + PAGE);
    let sql = format!(
        "COPY (SELECT {select} FROM {name} t WHERE t.ctid >= '({begin},0)'::tid AND t.ctid < '({end},0)'::tid) TO STDOUT (FORMAT binary)"
    );
    let mut stream = pin!(tx.copy_out(&sql).await.map_err(error)?);
    while let Some(piece) = stream.try_next().await.map_err(error)? {
        body.extend_from_slice(&piece);
    }
    Ok(())
}

/// Hands on every row of a page.
///
/// # Errors
/// `Invalid` for bytes that are no page, or one that is torn.
pub(super) fn read<'p>(page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
    decoded(&page.body, each).ok_or_else(|| torn("parse a page"))
}

/// A page that cannot be read.
pub(super) fn torn(tried: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, tried, "rows", "it is torn, or a value is not in the form of its type")
}

/// What stands before the rows of a page.
struct Head<'p> {
    columns: Vec<(&'p str, ColumnType)>,
    end: PageEnd,
    /// The rows, and the end behind them.
    rows: &'p [u8],
}

fn head(body: &[u8]) -> Option<Head<'_>> {
    let mut raw = body;
    let count = take(&mut raw).map(u16::from_be_bytes)?;
    let mut columns = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let ty = *READ_AS.get(usize::from(take(&mut raw).map(u8::from_be_bytes)?))?;
        columns.push((short(&mut raw)?, ty));
    }
    let next = Some(short(&mut raw)?).filter(|next| !next.is_empty()).map(|next| Cursor(next.to_owned()));
    let rows = raw.strip_prefix(&HEADER[..])?;
    Some(Head { columns, end: PageEnd { items: 0, next, capacity: None }, rows })
}

/// The rows of a page as they are; `None` where they are torn.
pub(super) fn copied(page: &Page) -> Option<CopiedRows<'_>> {
    let Head { columns, mut end, rows } = head(&page.body)?;
    let (mut raw, mut ends) = (rows, Vec::new());
    loop {
        match take(&mut raw).map(i16::from_be_bytes)? {
            -1 => break,
            values if usize::try_from(values).ok()? != columns.len() => return None,
            _ => {}
        }
        for _ in &columns {
            if let Ok(length) = usize::try_from(take(&mut raw).map(i32::from_be_bytes)?) {
                raw = raw.split_at_checked(length)?.1;
            }
        }
        ends.push(rows.len() - raw.len());
    }
    end.items = u32::try_from(ends.len()).ok()?;
    let tuples = &rows[..ends.last().copied().unwrap_or(0)];
    raw.is_empty().then_some(CopiedRows { columns, tuples, ends, end })
}

fn decoded<'p>(body: &'p [u8], each: &mut dyn FnMut(&Record<'p>)) -> Option<PageEnd> {
    let Head { columns, mut end, rows: mut raw } = head(body)?;
    let count = columns.len();
    let mut record = Record { fields: Vec::with_capacity(columns.len()) };
    loop {
        match take(&mut raw).map(i16::from_be_bytes)? {
            // The end that `COPY` writes behind the last row.
            -1 => return raw.is_empty().then_some(end),
            values if usize::try_from(values).ok()? != count => return None,
            _ => {}
        }
        record.fields.clear();
        for (name, ty) in &columns {
            let value = match take(&mut raw).map(i32::from_be_bytes)? {
                -1 => None,
                len => {
                    let (value, rest) = raw.split_at_checked(usize::try_from(len).ok()?)?;
                    raw = rest;
                    Some(value)
                }
            };
            record.fields.push(((*name).into(), Value::from(decode::cell(*ty, value).ok()?)));
        }
        each(&record);
        end.items += 1;
    }
}

fn take<const N: usize>(raw: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = raw.split_first_chunk::<N>()?;
    *raw = rest;
    Some(*taken)
}

/// Text of at most 255 bytes behind its length.
fn short<'p>(raw: &mut &'p [u8]) -> Option<&'p str> {
    let len = take(raw).map(u8::from_be_bytes)?;
    let (text, rest) = raw.split_at_checked(usize::from(len))?;
    *raw = rest;
    std::str::from_utf8(text).ok()
}
