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

/// The transactions that whoever looks now sees: the least that may be open, the first that has no number yet, and
/// those in between that are open.
const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";

/// Whether a transaction is seen by whoever looks with this snapshot (`10:20:10,14`); `None` for text that is none.
///
/// The log has the lower half of a transaction's number, a snapshot has whole ones. It is the number nearest to the
/// snapshot's: a transaction may be in the log before the snapshot knows of its number.
fn is_seen(low: u32, snapshot: &str) -> Option<bool> {
    let mut parts = snapshot.split(':');
    let (least, next): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let open = parts.next()?;
    let ahead = low.wrapping_sub(u32::try_from(next & 0xFFFF_FFFF).ok()?).cast_signed();
    let number = next.checked_add_signed(ahead.into())?;
    let is_open = open.split(',').any(|one| one.parse() == Ok(number));
    Some(number < least || (number < next && !is_open))
}

/// The changes up to the first that cannot be followed, with whole images: values that were not sent are read where they
/// stand. They may be of a later state of the row, whose own change comes later.
///
/// `on` is the timeline they were read on.
///
/// # Errors
/// A row could not be read, or its transaction is not visible yet.
pub(super) async fn changes(
    source: &PgSource,
    table: &Table,
    on: u32,
    taken: &[(Place, Arc<Entry>)],
) -> PortResult<Vec<Change>> {
    let (mut changes, mut missing) = (Vec::with_capacity(taken.len()), Vec::new());
    for (at, entry) in taken {
        match &**entry {
            Entry::Row { change, partial } => {
                missing.extend(partial.map(|xid| (changes.len(), xid)));
                changes.push(Change { position: position(on, *at), ..change.clone() });
            }
            // What comes before it is followed; then it is met again, as the first.
            Entry::End(_) => break,
        }
    }
    if missing.is_empty() {
        return Ok(changes);
    }
    // The log is ahead of what readers see: a commit is written before it is visible, long before where it waits for a
    // standby. Until then the row would be read as it was, or not be there.
    seen(source, table, missing.iter().map(|(_, xid)| *xid).collect()).await?;
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

async fn seen(source: &PgSource, table: &Table, of: BTreeSet<u32>) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, READ, &table.source);
    let began = Instant::now();
    let client = source.client().await?;
    loop {
        let row = client.query_one(SNAPSHOT, &[]).await.map_err(error)?;
        let snapshot: String = row.try_get(0).map_err(error)?;
        let strange = || PortError::new(ErrorKind::Internal, READ, &table.source, format!("{snapshot} is no snapshot"));
        let seen = of.iter().map(|xid| is_seen(*xid, &snapshot)).collect::<Option<Vec<bool>>>().ok_or_else(strange)?;
        if seen.into_iter().all(|seen| seen) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_seen_once_a_snapshot_has_it_also_after_four_billion() {
        let e = 1_u64 << 32;
        for (low, snapshot, seen) in [
            (9, "10:20:10,14".to_owned(), Some(true)),
            (10, "10:20:10,14".to_owned(), Some(false)),
            (12, "10:20:10,14".to_owned(), Some(true)),
            (14, "10:20:10,14".to_owned(), Some(false)),
            (20, "10:20:10,14".to_owned(), Some(false)),
            (25, "10:20:10,14".to_owned(), Some(false)),
            (12, "13:13:".to_owned(), Some(true)),
            // The lower halves have begun again.
            (u32::MAX, format!("{}:{}:", e + 3, e + 5), Some(true)),
            (3, format!("{}:{}:{}", e - 3, e + 5, e + 3), Some(false)),
            (2, format!("{}:{}:{}", e - 3, e + 5, e + 3), Some(true)),
            (7, format!("{}:{}:", e - 3, e - 2), Some(false)),
            (7, "none".to_owned(), None),
        ] {
            assert_eq!(is_seen(low, &snapshot), seen, "{low} in {snapshot}");
        }
    }
}
