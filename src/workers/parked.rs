//! Parked rows: counted from the ledger, and tried again when their parent may have come or the mapping was corrected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::changes::map_image;
use super::context::WorkerContext;
use super::repair::put;
use super::verify::Candidate;
use crate::domain::mapping::{RowError, RowErrorReason, TableMapping, read_key};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record};
use crate::ports::{ParkedRow, PortResult, RowChange};

/// Rows the ledger is asked for at a time.
pub(super) const PAGE: u32 = 500;
/// Most rows tried again in one turn while changes are followed; the next turn goes on where this one ended.
const TURN: u64 = 5_000;
/// Most rounds in which what waits is tried again at once; what waits longer has its turn while changes are followed.
const ROUNDS: u32 = 100;
/// How often the ledger is counted while watching.
const COUNT: Duration = Duration::from_secs(2);
/// What may fit later by itself: a parent comes, a unique value moves, the row goes that excludes this one, or the last that
/// refers to a deleted one.
const WAITING: &[RowErrorReason] = &[
    RowErrorReason::ForeignKey,
    RowErrorReason::DuplicateUnique,
    RowErrorReason::Excluded,
    RowErrorReason::StillReferenced,
];

/// Puts the ledger's counts into the measurements, with the time they were read.
pub async fn count(ctx: &Arc<WorkerContext>, table: &Table) -> PortResult<()> {
    let (parked, expired) = ctx.ports.target.ledger(table).await?;
    let at = ctx.wall();
    let parked: BTreeMap<String, u64> = parked.into_iter().map(|(r, n)| (r.name().to_owned(), n)).collect();
    ctx.latest.table(&table.id, |g| {
        g.parked = parked;
        g.parked_at = at;
        g.expired = expired;
    });
    Ok(())
}

/// Keeps the counts fresh. When the ledger cannot be read, the counts stay and grow stale.
pub async fn watch(ctx: Arc<WorkerContext>, table: Table) {
    loop {
        if let Err(e) = count(&ctx, &table).await {
            tracing::debug!(table = %table.id, error = %e, "ledger not counted");
        }
        tokio::time::sleep(COUNT).await;
    }
}

/// Tries again rows that wait for a parent or met a unique value, a limited number at a time; gives how many went in.
pub async fn retry(ctx: &Arc<WorkerContext>, table: &Table) -> PortResult<usize> {
    let after = match ctx.table(&table.id) {
        Some(known) => known.retry_after.lock().await.clone(),
        None => None,
    };
    let (tried, last) = some(ctx, table, Some(WAITING), after, TURN).await?;
    if let Some(known) = ctx.table(&table.id) {
        *known.retry_after.lock().await = last;
    }
    Ok(usize::try_from(tried.landed).unwrap_or(usize::MAX))
}

/// Tries every waiting row again, once: before a drain is called one.
pub async fn retry_all(ctx: &Arc<WorkerContext>, table: &Table) -> PortResult<Retried> {
    some(ctx, table, Some(WAITING), None, u64::MAX).await.map(|(tried, _)| tried)
}

/// Tries the waiting rows of every table again until none of them lands: a parent that lands lets its children land, and a
/// child that moves lets its parent go. Gives how many landed. Does nothing once customers write on the new side, and leaves
/// alone what cannot have been followed.
pub async fn settle(ctx: &Arc<WorkerContext>) -> PortResult<u64> {
    let mut all = 0;
    // While customers write, there may always be one more.
    for _ in 0..ROUNDS {
        let mut landed = 0;
        for table in &ctx.plan.tables {
            if ctx.standing().open_to_customers {
                return Ok(all);
            }
            if ctx.table(&table.id).is_some_and(|known| known.was_followed() && known.ended().is_none()) {
                landed += retry_all(ctx, table).await?.landed;
            }
        }
        all += landed;
        if landed == 0 {
            break;
        }
    }
    Ok(all)
}

/// What trying again gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Rows tried.
    pub tried: u64,
    /// Of these, rows that are in the target now or gone from both sides.
    pub landed: u64,
    /// Of these, rows that are still parked.
    pub stayed: u64,
}

/// Tries parked rows of these reasons again, past `after`, until `most` were tried. Gives the last key when there may
/// be more.
pub async fn some(
    ctx: &Arc<WorkerContext>,
    table: &Table,
    reasons: Option<&[RowErrorReason]>,
    mut after: Option<Key>,
    most: u64,
) -> PortResult<(Retried, Option<Key>)> {
    let mut sum = Retried::default();
    let mapping = ctx.mapping(table);
    loop {
        let page = ctx.ports.target.parked(table, reasons, after.as_ref(), PAGE).await?;
        let whole = page.len() == PAGE as usize;
        after = page.last().map(|r| r.key.clone());
        let candidates: Vec<Candidate> = page.iter().filter_map(|r| candidate(&mapping, r)).collect();
        let put = put(ctx, table, &candidates).await?;
        sum.tried += page.len() as u64;
        sum.stayed += put.parked + put.left + (page.len() - candidates.len()) as u64;
        sum.landed += (candidates.len() as u64).saturating_sub(put.parked + put.left);
        if !whole {
            return Ok((sum, None));
        }
        if sum.tried >= most {
            return Ok((sum, after));
        }
    }
}

/// A ledger row as a key to read again; `None` when its key cannot be read.
pub(super) fn candidate(mapping: &TableMapping, row: &ParkedRow) -> Option<Candidate> {
    let item = read_key(&row.key_json)?;
    let cells = mapping.row_key(&item).unwrap_or_default();
    Some(Candidate { text: row.key.0.clone(), item, cells })
}

/// An image as an upsert.
pub fn upsert(mapping: &TableMapping, image: &Record<'_>) -> Result<RowChange, RowError> {
    map_image(mapping, image).map(|(key, key_json, row, children)| RowChange::Upsert { key, key_json, row, children })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_typed_columns_come_back_as_their_cells() {
        use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback};
        use crate::domain::value::{Cell, Value};
        let keyed = [
            (ColumnType::Bigint, Cell::Int(i64::MIN)),
            (ColumnType::Uuid, Cell::Uuid([7; 16])),
            (ColumnType::Numeric(Some((10, 2))), Cell::Numeric("-0.5".into())),
            (ColumnType::Timestamptz, Cell::Timestamp(1_795_358_836_220_001)),
            (ColumnType::Date, Cell::Date(-1)),
            (ColumnType::Text, Cell::Text("a|b\\".into())),
            (ColumnType::Bytea, Cell::Bytes(vec![0, 255].into())),
        ];
        let column = |(n, (ty, _)): (usize, &(ColumnType, Cell<'static>))| Column {
            name: format!("k{n}"),
            ty: *ty,
            from: ColumnSource::Attribute(vec![format!("k{n}")]),
            absent: Fallback::Null,
            key: true,
            declared: Declared::default(),
        };
        let columns: Vec<Column> = keyed.iter().enumerate().map(column).collect();
        let key = columns.iter().map(|c| c.name.clone()).collect();
        let mapping = TableMapping::new(&Table { key, columns, ..Table::watched("t", "T") });
        let field =
            |(n, (_, cell)): (usize, &(ColumnType, Cell<'static>))| (format!("k{n}").into(), Value::from(cell.clone()));
        let record = Record { fields: keyed.iter().enumerate().map(field).collect() };
        let (text, json) = mapping.key(&record).unwrap();
        let cells: Vec<Cell<'static>> = keyed.iter().map(|(_, cell)| cell.clone()).collect();
        assert_eq!(mapping.row_key(&record), Ok(cells.clone()));
        let again = read_key(&json).unwrap();
        assert_eq!(mapping.row_key(&again), Ok(cells), "{json}");
        assert_eq!(mapping.key(&again).unwrap(), (text, json));
    }
}
