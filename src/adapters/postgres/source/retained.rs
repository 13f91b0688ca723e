//! How much of its log the server keeps for the plan's slots, and how much it is let keep.

use tokio_postgres::{Error, Row};

use super::session;
use super::slot::Names;
use crate::adapters::postgres::connect::{Ask as _, Object};
use crate::domain::gauge::WalStatus;
use crate::ports::{LogLook, LogWritten, RetainingSlot};

/// Where the log ends, and the limit: as it is written, and in bytes. A standby has no log of its own.
const SERVER: &str = "
SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END,
       current_setting('max_slot_wal_keep_size', true), pg_size_bytes(current_setting('max_slot_wal_keep_size', true))";

/// The plan's slots `$1`, and those of a subscription's copies: they are called by its number and its server's, which the
/// comment on the table of its marks says; that table is in the plan's publication `$2`.
const SLOTS: &str = "
SELECT s.slot_name::text,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint END,
       to_jsonb(s)->>'wal_status', (to_jsonb(s)->>'safe_wal_size')::bigint, to_jsonb(s)->>'invalidation_reason'
FROM pg_replication_slots s
WHERE s.database = current_database() AND (starts_with(s.slot_name::text, $1) OR EXISTS (
    SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
    JOIN pg_class c ON c.oid = r.prrelid AND c.relnamespace = to_regnamespace('cutover')::oid
    CROSS JOIN LATERAL (SELECT string_to_array(obj_description(c.oid, 'pg_class'), ' ') AS said) m
    WHERE p.pubname = $2 AND c.relname ~ '^mark_' AND cardinality(m.said) = 2
      AND s.slot_name::text ~ ('^pg_' || m.said[1] || '_sync_[0-9]+_' || m.said[2] || '$')))
ORDER BY 1";

/// What was written since the last checkpoint began, and how long ago that was.
const WRITTEN: &str = "
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), c.redo_lsn)::float8,
       extract(epoch FROM clock_timestamp() - c.checkpoint_time)::float8
FROM pg_control_checkpoint() c WHERE NOT pg_is_in_recovery()";

/// Looks; with `written` also at how much was written lately.
pub(super) async fn look(client: &Object, names: &Names, written: bool) -> Result<LogLook, Error> {
    let mut look = LogLook::default();
    if let Some(row) = client.ask_one(SERVER, &[]).await? {
        look.end = row.try_get::<_, Option<String>>(0)?.as_deref().and_then(session::position);
        let bytes: Option<i64> = row.try_get(2)?;
        look.limit_bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        look.limit = row.try_get::<_, Option<String>>(1)?.filter(|_| look.limit_bytes.is_some());
    }
    look.slots =
        client.ask(SLOTS, &[&names.prefix, &names.publication]).await?.iter().map(slot).collect::<Result<_, _>>()?;
    if written {
        // A service may keep it from its customers: then nobody knows.
        look.written = client.ask_one(WRITTEN, &[]).await.ok().flatten().and_then(|row| {
            let (bytes, seconds): (f64, f64) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
            (bytes >= 0.0 && seconds > 0.0).then_some(LogWritten { bytes, seconds })
        });
    }
    Ok(look)
}

fn slot(row: &Row) -> Result<RetainingSlot, Error> {
    // Behind the end of the log by less than nothing: a slot that was just made somewhere else.
    let positive = |bytes: Option<i64>| bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    let (status, reason): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(4)?);
    let lost = status.as_deref() == Some("lost");
    Ok(RetainingSlot {
        name: row.try_get(0)?,
        // What a slot that is lost once needed is not kept.
        bytes: positive(row.try_get(1)?).filter(|_| !lost),
        status: match status.as_deref() {
            Some("reserved") => WalStatus::Reserved,
            Some("extended") => WalStatus::Extended,
            Some("unreserved") => WalStatus::Unreserved,
            Some("lost") => WalStatus::Lost,
            Some(_) | None => WalStatus::Unknown,
        },
        left: positive(row.try_get(3)?),
        reason: reason.map(|reason| format!("invalidation_reason = {reason}")),
    })
}
