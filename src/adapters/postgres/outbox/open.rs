//! Transactions that are open and have written to captured tables.

/// Each in words, the oldest first: a transaction that writes to a table, or to a partition of it, holds a lock on it
/// until it ends; one that is prepared for a commit in two phases holds it without a process.
pub(super) const WRITES: &str = "
WITH ours AS (SELECT DISTINCT p.relid FROM unnest($1::text[]) name
              CROSS JOIN LATERAL (SELECT to_regclass(name)::oid AS relid
                                  UNION SELECT relid::oid FROM pg_partition_tree(to_regclass(name))) p)
SELECT CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
            ELSE 'process ' || l.pid || coalesce(', open since ' || to_char(min(a.xact_start) AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC', '')
       END || ' on ' || string_agg(DISTINCT l.relation::regclass::text, ', ')
FROM pg_locks l JOIN ours ON ours.relid = l.relation
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
GROUP BY l.pid, l.virtualtransaction ORDER BY min(a.xact_start)";
