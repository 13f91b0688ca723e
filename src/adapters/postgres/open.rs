//! Transactions that are open and have written something: what they wrote is seen by nobody until they commit.

use tokio_postgres::Error;

use super::connect::Object;
use crate::ports::OpenWrite;

/// A transaction that writes, or locks a row, has a number and holds a lock on it until it ends; one that is prepared
/// holds it without a process. Whoever may connect sees these locks. Sessions of this program are left out: what they
/// write is no customer's. A transaction that has only read so far is not seen; the freeze outlasts those.
const WRITES: &str = "
SELECT coalesce(l.pid::text, '-') || ':' || l.transactionid::text,
       CASE WHEN l.pid IS NULL THEN 'the prepared transaction ' || quote_literal(coalesce(p.gid, '?'))
            ELSE 'process ' || l.pid || coalesce(', open since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC', '')
       END
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND coalesce(a.datname, p.database) = current_database()
  AND NOT coalesce(a.usename = current_user AND a.application_name = 'cutover', false)
ORDER BY a.xact_start NULLS FIRST";

/// Transactions of others that are open and have written something in this database, the oldest first.
pub(super) async fn writes(client: &Object) -> Result<Vec<OpenWrite>, Error> {
    let statement = client.prepare_cached(WRITES).await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter().map(|row| Ok(OpenWrite { id: row.try_get(0)?, words: row.try_get(1)? })).collect()
}
