//! Tables of an export, written back and read back.
//!
//! A table has to be absent, empty, or hold nothing but records of this very export: those of a restore that was cut off, or
//! of one that came to its end and is asked for again. Anything else is somebody's, and nothing is written.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::domain::verify::{LinesDigest, each_line};
use crate::ports::{Cursor, FoundTable, HeldTable, PortError, PortResult, Restore, Restoring};

/// Opens the lines of a table of an export, whole lines at a time.
pub type OpenLines<'l> = dyn Fn(&HeldTable) -> mpsc::Receiver<PortResult<Vec<u8>>> + Send + Sync + 'l;

/// What stood where a table was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the table was made.
    Nothing,
    /// A table without a record.
    Empty,
    /// So many records of this export, of a restore that was cut off.
    Some(u64),
    /// All records of this export and no others: nothing was written.
    All,
}

/// A table that holds what the export holds, as was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredTable {
    /// Its id in the export.
    pub id: String,
    /// Its name in the store.
    pub name: String,
    /// Records that were read back, and what they add up to.
    pub digest: LinesDigest,
    /// What stood there before.
    pub before: Before,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreEnd {
    /// The tables, in the order they were written in.
    pub tables: Vec<RestoredTable>,
    /// What a person should know besides.
    pub notices: Vec<String>,
}

/// Why tables were not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Tables that may not be written to, a line each. Nothing was written.
    #[error("nothing was written:\n{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// What was read back is not what the export holds, a line for each table.
    #[error("what was read back is not what the export holds:\n{}", .0.join("\n"))]
    Differs(Vec<String>),
}

/// Restores these tables. The lines are those of files that were verified; `written` counts records on their way.
///
/// # Errors
/// The store does not answer or takes a record, a table may not be written to, or holds something else afterwards.
pub async fn restore(
    store: &dyn Restore,
    tables: &[HeldTable],
    lines: &OpenLines<'_>,
    written: &AtomicU64,
) -> Result<RestoreEnd, RestoreError> {
    let mut restoring = store.open(tables).await?;
    let found = restoring.found().to_vec();
    let (mut refused, mut order) = (Vec::new(), Vec::new());
    for found in &found {
        let Some(table) = tables.iter().find(|table| table.id == found.id) else { continue };
        match before(&mut *restoring, table, found, lines).await? {
            Ok(before) => order.push((table, before)),
            Err(why) => refused.extend(why),
        }
    }
    if !refused.is_empty() {
        return Err(RestoreError::Refused(refused));
    }
    // As they stand in the export: what makes one may need what makes another before it.
    for table in tables {
        if order.iter().any(|(one, before)| one.id == table.id && *before == Before::Nothing) {
            restoring.make(table).await?;
        }
    }
    let mut wanted = Vec::new();
    for (table, before) in &order {
        wanted.push(match before {
            Before::Nothing | Before::Empty | Before::Some(_) => write(&mut *restoring, table, lines, written).await?,
            Before::All => added_up(lines(table)).await?,
        });
    }
    let (mut end, mut differs) = (RestoreEnd::default(), Vec::new());
    for ((table, before), wanted) in order.into_iter().zip(wanted) {
        let digest = held(&mut *restoring, table).await?;
        differs.extend(difference(table, wanted, digest));
        end.tables.push(RestoredTable { id: table.id.clone(), name: table.name.clone(), digest, before });
    }
    if !differs.is_empty() {
        return Err(RestoreError::Differs(differs));
    }
    let notices = found.iter().flat_map(|found| found.notices.iter().map(|notice| format!("{}: {notice}", found.id)));
    end.notices.extend(notices);
    end.notices.extend(restoring.keep(tables).await?);
    Ok(end)
}

/// What stands where a table is to be restored; or why it may not be written to, a line for each reason.
async fn before(
    restoring: &mut dyn Restoring,
    table: &HeldTable,
    found: &FoundTable,
    lines: &OpenLines<'_>,
) -> PortResult<Result<Before, Vec<String>>> {
    if !found.problems.is_empty() {
        let each = found.problems.iter().map(|(wrong, advice)| format!("  {}: {wrong} ({advice})", table.name));
        return Ok(Err(each.collect()));
    }
    if !found.exists {
        return Ok(Ok(Before::Nothing));
    }
    if !found.holds {
        return Ok(Ok(Before::Empty));
    }
    let (known, all) = known(lines(table)).await?;
    let (mut holds, mut cursor) = (LinesDigest::default(), None);
    loop {
        let page = restoring.page(table, cursor.as_ref()).await?;
        let is_known = |line| known.binary_search(&short(line)).is_ok();
        if !each_line(&page.lines).all(is_known) {
            return Ok(Err(vec![theirs(table)]));
        }
        holds.add(&page.lines);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(match holds {
        holds if holds == all => Ok(Before::All),
        holds if restoring.takes_again() => Ok(Before::Some(holds.records)),
        LinesDigest { .. } => Err(vec![theirs(table)]),
    })
}

fn theirs(table: &HeldTable) -> String {
    format!(
        "  {}: it holds records that are not those of this export, and no record of anybody's is written over (empty it \
         yourself if they may go, restore under another name (--as), or into another store)",
        table.name
    )
}

/// Enough of a line to know it again.
fn short(line: &[u8]) -> u64 {
    (LinesDigest::of_line(line) & u128::from(u64::MAX)) as u64
}

/// Every line of an export's table, by what it is known by and in order; and what they add up to.
async fn known(mut lines: mpsc::Receiver<PortResult<Vec<u8>>>) -> PortResult<(Vec<u64>, LinesDigest)> {
    let (mut known, mut all) = (Vec::new(), LinesDigest::default());
    while let Some(piece) = lines.recv().await {
        let piece = piece?;
        all.add(&piece);
        known.extend(each_line(&piece).map(short));
    }
    known.sort_unstable();
    Ok((known, all))
}

async fn added_up(mut lines: mpsc::Receiver<PortResult<Vec<u8>>>) -> PortResult<LinesDigest> {
    let mut all = LinesDigest::default();
    while let Some(piece) = lines.recv().await {
        all.add(&piece?);
    }
    Ok(all)
}

/// Writes a table; gives what was written.
async fn write(
    restoring: &mut dyn Restoring,
    table: &HeldTable,
    lines: &OpenLines<'_>,
    written: &AtomicU64,
) -> PortResult<LinesDigest> {
    let (mut all, mut lines) = (LinesDigest::default(), lines(table));
    while let Some(piece) = lines.recv().await {
        let piece = piece?;
        restoring.write(table, &piece).await?;
        let so_far = all.records;
        all.add(&piece);
        written.fetch_add(all.records - so_far, Ordering::Relaxed);
    }
    restoring.written(table).await?;
    Ok(all)
}

/// Reads a table back.
async fn held(restoring: &mut dyn Restoring, table: &HeldTable) -> PortResult<LinesDigest> {
    let mut digest = LinesDigest::default();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = restoring.page(table, cursor.as_ref()).await?;
        digest.add(&page.lines);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(digest);
        }
    }
}

fn difference(table: &HeldTable, wanted: LinesDigest, found: LinesDigest) -> Option<String> {
    if wanted == found {
        return None;
    }
    let (wanted, held) = (wanted.records, found.records);
    Some(if wanted == held {
        format!(
            "  {}: {held} records, of which some are not as the export holds them: what the table makes of values \
             (types, triggers, another version of the server) differs from where the export comes from",
            table.name
        )
    } else {
        format!(
            "  {}: {held} records, and {wanted} are in the export: somebody else writes there, or it expires records",
            table.name
        )
    })
}
