//! Whole images of rows of which a change did not send everything: a large value that is stored beside its row and was
//! not changed is left out of the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Error;

use super::PgSource;
use super::hub::Place;
use super::pump::READ;
use super::rows::{Entry, position};
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::domain::value::Record;
use crate::ports::{Change, ErrorKind, PortError, PortResult, Source as _};

/// Longest wait for a transaction to be visible, once it stands in the log.
const VISIBLE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Whether these transactions, each not long ago, are seen by whoever looks now. Their numbers count up to four billion
/// and begin again, those of a snapshot do not.
const SEEN: &str = "
SELECT bool_and(pg_visible_in_snapshot((CASE WHEN x > m THEN x - 4294967296 ELSE x END)::text::xid8, s))
FROM (SELECT pg_current_snapshot() AS s) now
CROSS JOIN LATERAL (SELECT pg_snapshot_xmax(s)::text::bigint AS m) most
CROSS JOIN LATERAL (SELECT m - m % 4294967296 + low AS x FROM unnest($1::bigint[]) low) whole";

/// The changes up to the first that cannot be followed, with whole images: values that were not sent are read where they
/// stand. They may be of a later state of the row, whose own change comes later.
///
/// # Errors
/// `Invalid` when the first of them cannot be followed.
pub(super) async fn changes(
    source: &PgSource,
    table: &Table,
    taken: &[(Place, Arc<Entry>)],
) -> PortResult<Vec<Change>> {
    let (mut changes, mut missing) = (Vec::with_capacity(taken.len()), Vec::new());
    for (at, entry) in taken {
        match &**entry {
            Entry::Row { change, partial } => {
                missing.extend(partial.map(|xid| (changes.len(), xid)));
                changes.push(Change { position: position(*at), ..change.clone() });
            }
            // What comes before it is followed; then it is met again, as the first.
            Entry::End(why) if changes.is_empty() => {
                let advice = "changes behind it are not followed; load the table anew";
                return Err(PortError::new(ErrorKind::Invalid, READ, &table.source, why.clone()).advise(advice));
            }
            Entry::End(_) => break,
        }
    }
    if missing.is_empty() {
        return Ok(changes);
    }
    // The log is ahead of what readers see: a commit is written before it is visible, long before where it waits for a
    // standby. Until then the row would be read as it was, or not be there.
    seen(source, table, missing.iter().map(|(_, xid)| i64::from(*xid)).collect()).await?;
    let keys: Vec<Record<'static>> =
        missing.iter().filter_map(|(n, _)| changes.get(*n)).map(|change| change.key.clone()).collect();
    let rows = source.get(table, &keys).await?;
    for ((n, _), row) in missing.into_iter().zip(rows) {
        let Some(change) = changes.get_mut(n) else { continue };
        change.image = match (change.image.take(), row) {
            (Some(image), Some(row)) => Some(filled(image, row)),
            // A later transaction removed it.
            _ => None,
        };
    }
    Ok(changes)
}

/// What was sent, and the rest as it stands.
fn filled(sent: Record<'static>, row: Record<'static>) -> Record<'static> {
    let rest: Vec<_> = row.fields.into_iter().filter(|(name, _)| sent.get(name).is_none()).collect();
    Record { fields: sent.fields.into_iter().chain(rest).collect() }
}

async fn seen(source: &PgSource, table: &Table, of: BTreeSet<i64>) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, READ, &table.source);
    let (of, began): (Vec<i64>, _) = (of.into_iter().collect(), Instant::now());
    let client = source.client().await?;
    loop {
        let row = client.query_one(SEEN, &[&of]).await.map_err(error)?;
        if row.try_get(0).map_err(error)? {
            return Ok(());
        }
        if began.elapsed() >= VISIBLE {
            let why =
                "a transaction stands in the log and is not visible yet: it waits for a standby that does not answer";
            return Err(PortError::new(ErrorKind::TimedOut, READ, &table.source, why)
                .advise("see pg_stat_replication and synchronous_standby_names; it is read on by itself"));
        }
        tokio::time::sleep(LOOK).await;
    }
}
