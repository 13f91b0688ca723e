//! The publication that names a plan's tables, and the slot from which their changes are read.
//!
//! A slot is made after its publication: making one waits for every transaction that is open, so none that wrote before
//! its tables were published ends unseen behind the slot's beginning. A table that is added to the publication later
//! would be missed that way; then both are made anew, under another name, and what was followed before is over.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::{partitions, session};
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::{open, trouble};
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const ENABLE: &str = "capture changes of";

/// A slot that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapters::postgres) struct Slot {
    /// Its name, which says where it begins; no other slot of the server ever has the same.
    pub name: String,
    /// Where it began: transactions committed before this were never sent.
    pub begin: u64,
    /// Transactions committed before this are not sent any more.
    pub confirmed: u64,
    /// Which server it is on.
    pub system: String,
}

/// Names that belong to a plan in a database, and to no other: a server has one set of names for all its databases.
#[derive(Clone, Debug)]
pub(in crate::adapters::postgres) struct Names {
    /// The publication.
    pub publication: String,
    /// What the names of its slots begin with.
    pub prefix: String,
}

impl Names {
    pub(in crate::adapters::postgres) fn of(plan: &str, database: &str) -> Self {
        let word: String = plan.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        let digest = Sha256::digest(format!("{plan}\0{database}").as_bytes());
        let [a, b, c, d, ..] = *digest.as_slice() else { unreachable!("a digest of 32 bytes") };
        // A slot's name has 63 bytes at most, and no capital letters.
        let prefix = format!("cutover_{word:.24}_{a:02x}{b:02x}{c:02x}{d:02x}");
        Self { publication: prefix.clone(), prefix: format!("{prefix}_") }
    }
}

/// Version, `wal_level`, and which server it is.
const SERVER: &str = "SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
    (SELECT system_identifier::text FROM pg_control_system())";

/// Slots of ours in this database, the newest last: sorted by where they begin.
const SLOTS: &str =
    "SELECT slot_name::text, confirmed_flush_lsn::text, (SELECT system_identifier::text FROM pg_control_system())
FROM pg_replication_slots
WHERE database = current_database() AND plugin = 'pgoutput' AND starts_with(slot_name::text, $1)
  AND coalesce(to_jsonb(pg_replication_slots)->>'wal_status', '') <> 'lost'
  AND coalesce(to_jsonb(pg_replication_slots)->>'conflicting', 'false') <> 'true'
  AND length(slot_name::text) = length($1) + 16 ORDER BY 1";

/// How each of these tables is published: its entry and since when it and its publication are as they are, or nothing
/// where it is not published, or not whole.
const PUBLISHED: &str = "
SELECT t.n, r.entry
FROM unnest($1::text[]) WITH ORDINALITY t(name, n)
LEFT JOIN (SELECT concat_ws('-', r.oid, r.xmin, p.xmin) AS entry, r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
           WHERE p.pubname = $2 AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
             AND (NOT p.pubviaroot OR r.prrelid NOT IN (SELECT partrelid FROM pg_partitioned_table))
             AND to_jsonb(r)->>'prqual' IS NULL AND to_jsonb(r)->>'prattrs' IS NULL) r
       ON r.prrelid = to_regclass(t.name)::oid
ORDER BY t.n";

/// The slot of a plan; `None` when there is none whose changes are all kept.
pub(in crate::adapters::postgres) async fn find(client: &Object, names: &Names) -> PortResult<Option<Slot>> {
    let error = |e: Error| trouble::error(&e, "look for the slot of", &names.publication);
    let rows = client.query(SLOTS, &[&names.prefix]).await.map_err(error)?;
    let Some(row) = rows.last() else { return Ok(None) };
    let (name, confirmed): (String, Option<String>) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
    let Some(confirmed) = confirmed.as_deref().and_then(session::position) else { return Ok(None) };
    let Some(begin) = begin(&name) else { return Ok(None) };
    Ok(Some(Slot { name, begin, confirmed, system: row.try_get(2).map_err(error)? }))
}

/// Why a slot lacks what it had to keep: what the server says of it, with the limit it keeps to.
const STANDS: &str = "SELECT to_jsonb(s)->>'wal_status', to_jsonb(s)->>'invalidation_reason',
       coalesce(to_jsonb(s)->>'conflicting', 'false') = 'true', current_setting('max_slot_wal_keep_size')
FROM pg_replication_slots s WHERE slot_name = $1";

/// Why changes are not read from this slot any more, in words; `None` when they can be.
pub(in crate::adapters::postgres) async fn why_gone(client: &Object, slot: &str) -> PortResult<Option<String>> {
    let error = |e: Error| trouble::error(&e, "ask what became of the slot", slot);
    let Some(row) = client.query_opt(STANDS, &[&slot]).await.map_err(error)? else {
        return Ok(Some(format!("the slot {slot} is gone: somebody dropped it, or its server failed over")));
    };
    let (status, reason): (Option<String>, Option<String>) =
        (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
    let (conflicts, limit): (bool, String) = (row.try_get(2).map_err(error)?, row.try_get(3).map_err(error)?);
    let reason = reason.map(|reason| format!(", invalidation_reason = {reason}")).unwrap_or_default();
    if status.as_deref() == Some("lost") {
        return Ok(Some(format!(
            "the server has given up the slot {slot} (wal_status = lost{reason}): for a slot it keeps no more of its log \
             than max_slot_wal_keep_size = {limit}, and part of the log that was not read is removed"
        )));
    }
    Ok(conflicts.then(|| format!("the server has given up the slot {slot} (conflicting{reason})")))
}

/// Where a slot of ours begins, by its name.
pub(super) fn begin(name: &str) -> Option<u64> {
    u64::from_str_radix(name.get(name.len().checked_sub(16)?..)?, 16).ok()
}

/// The tables' entries in the publication; `None` for one that is not published whole. A table that is taken out and put
/// in again, or a publication that is altered, has other entries: changes may be missing.
pub(in crate::adapters::postgres) async fn published(
    client: &Object,
    names: &Names,
    tables: &[Table],
) -> PortResult<Vec<Option<String>>> {
    let error = |e: Error| trouble::error(&e, "read the publication of", &names.publication);
    let of: Vec<String> = tables.iter().map(|table| qualified(&table.source)).collect();
    let rows = client.query(PUBLISHED, &[&of, &names.publication]).await.map_err(error)?;
    rows.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>().map_err(error)
}

/// Publishes the tables and makes a slot, unless both are there and fit.
///
/// # Errors
/// `Invalid` for a server that does not write what is needed into its log, or whose customers would wait for us;
/// `Denied` without the right to; `TimedOut` when a transaction stays open for too long.
pub(in crate::adapters::postgres) async fn enable(
    client: &Object,
    names: &Names,
    tables: &[Table],
) -> PortResult<Slot> {
    let on = names.publication.as_str();
    let error = |e: Error| trouble::error(&e, ENABLE, on);
    let invalid = |why: String, advice: &str| PortError::new(ErrorKind::Invalid, ENABLE, on, why).advise(advice);
    let server = client.query_one(SERVER, &[]).await.map_err(error)?;
    let (version, level): (i32, String) = (server.try_get(0).map_err(error)?, server.try_get(1).map_err(error)?);
    if version < 140_000 {
        return Err(invalid(
            format!("the server is version {}", version / 10_000),
            "changes are read from version 14 on",
        ));
    }
    if level != "logical" {
        let advice = "set wal_level = logical (on RDS and Aurora: rds.logical_replication = 1) and restart the server";
        return Err(invalid(format!("its wal_level is {level}"), advice));
    }
    if published(client, names, tables).await?.iter().all(Option::is_some)
        && let Some(slot) = find(client, names).await?
    {
        return Ok(slot);
    }
    super::fit::standbys(client, on).await?;
    drop_all(client, names).await?;
    let of: Vec<String> = tables.iter().map(|table| qualified(&table.source)).collect();
    let noted: Vec<&str> = of.iter().map(String::as_str).collect();
    let noted = partitions::noted(client, &names.publication, &noted).await.map_err(error)?;
    // Each partition under its own name: that one is emptied stands in the log only so. Both statements or none.
    let sql = format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = false); {noted}",
        ident(&names.publication),
        of.join(", ")
    );
    client.batch_execute(&sql).await.map_err(error)?;
    // A name says where its slot begins, which is known once there is one: it is made under another name and copied. One
    // that is left over by a death in between goes when slots are made again, or removed.
    let first = format!("{}new_{:08x}", names.prefix, fastrand::u32(..));
    let sql = "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')";
    let made = match client.query_one(sql, &[&first]).await {
        Ok(made) => made,
        Err(e) => {
            let failed = error(e);
            // What it waits for is a lock on the transaction's number: mostly the lock limit strikes first.
            let in_vain = matches!(failed.kind, ErrorKind::TimedOut | ErrorKind::Throttled);
            return Err(if in_vain { waited(client, failed).await } else { failed });
        }
    };
    let at: String = made.try_get(0).map_err(error)?;
    let begin = session::position(&at).ok_or_else(|| invalid(format!("{at} is no position of the log"), ""))?;
    let name = format!("{}{begin:016x}", names.prefix);
    let sql = "SELECT pg_copy_logical_replication_slot($1, $2), pg_drop_replication_slot($1)";
    client.execute(sql, &[&first, &name]).await.map_err(error)?;
    let gone = || PortError::new(ErrorKind::NotFound, ENABLE, on, "the slot that was just made is not there");
    find(client, names).await?.ok_or_else(gone)
}

/// Says which transaction a slot waits for.
async fn waited(client: &Object, failed: PortError) -> PortError {
    let oldest = open::oldest(client, Duration::ZERO).await.ok().flatten();
    let of = oldest.map(|open| format!("; the oldest is {}", open.words)).unwrap_or_default();
    let came_back = format!("a slot waits for a transaction that does not end: {}", failed.came_back);
    let advice = format!(
        "a slot begins once every transaction that is open on the server has ended{of}; end it, then try again"
    );
    PortError { came_back, ..failed }.advise(advice)
}

/// Removes what belongs to the plan: nothing is kept for it any more, and whoever reads it is ended.
pub(in crate::adapters::postgres) async fn drop_all(client: &Object, names: &Names) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, "remove the slot of", &names.publication);
    let sql = "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
               WHERE database = current_database() AND active_pid IS NOT NULL AND starts_with(slot_name::text, $1)";
    match client.execute(sql, &[&names.prefix]).await {
        Ok(_) => {}
        // The reader is another role's, and may have gone by itself: whether the slot can be dropped says the next statement.
        Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            tracing::warn!(error = %e, "whoever reads the slot could not be ended");
        }
        Err(e) => return Err(error(e)),
    }
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
               WHERE database = current_database() AND plugin = 'pgoutput' AND starts_with(slot_name::text, $1)";
    client.execute(sql, &[&names.prefix]).await.map_err(error)?;
    let sql = format!("DROP PUBLICATION IF EXISTS {}", ident(&names.publication));
    client.batch_execute(&sql).await.map_err(error)
}

/// Ends a session that still reads the slot, and waits for its end: one of a process that is gone, but for its server.
pub(super) async fn free(client: &Object, slot: &str) -> PortResult<()> {
    let sql = "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
               WHERE slot_name = $1 AND active_pid IS NOT NULL";
    client.execute(sql, &[&slot]).await.map(drop).map_err(|e| trouble::error(&e, "free the slot", slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ones_that_a_server_takes_and_of_one_plan_only() {
        let long = "Shop / eu-west-1: a plan with a very long name, so long that it would not fit";
        for (one, other) in [("shop", "Shop"), (long, &long[..70]), ("éà", "é")] {
            assert_ne!(Names::of(one, "a").prefix, Names::of(one, "b").prefix);
            let (one, other) = (Names::of(one, "a"), Names::of(other, "a"));
            assert_ne!(one.prefix, other.prefix);
            let name = format!("{}{:016x}", one.prefix, u64::MAX);
            assert_eq!(begin(&name), Some(u64::MAX));
            assert!(name.len() <= 63, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        }
    }
}
