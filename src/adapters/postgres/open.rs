//! Transactions that are open and have written something: what they wrote is seen by nobody until they commit.

use std::time::Duration;

use tokio_postgres::Error;

use super::connect::{Ask as _, Object};
use crate::ports::OpenWrite;

/// A transaction that writes, or locks a row, has a number and holds a lock on it until it ends; one that is prepared
/// holds it without a process. Whoever may connect sees these locks. A transaction that has only read so far is not seen.
const OPEN: &str = "
SELECT coalesce(l.pid::text, '-') || ':' || l.transactionid::text,
       CASE WHEN l.pid IS NULL THEN 'the prepared transaction ' || quote_literal(coalesce(p.gid, '?'))
            ELSE 'process ' || l.pid || coalesce(' of ' || quote_literal(nullif(a.application_name, '')), '') END
       || coalesce(' in database ' || quote_ident(coalesce(a.datname, p.database)), '')
       || coalesce(', open since ' || to_char(began.at AT TIME ZONE 'UTC', 'HH24:MI:SS') || ' UTC, for '
                   || greatest(extract(epoch FROM clock_timestamp() - began.at)::bigint, 0) || ' s', '')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
CROSS JOIN LATERAL (SELECT coalesce(a.xact_start, p.prepared) AS at) began
WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()";

/// Sessions of this program are left out: what they write is no customer's. The freeze outlasts readers.
const OF_CUSTOMERS: &str = "AND coalesce(a.datname, p.database) = current_database()
  AND NOT coalesce(a.usename = current_user AND a.application_name = 'cutover', false)
ORDER BY began.at NULLS FIRST";

/// Of any database of the server.
const OLDEST: &str = "AND ($1::float8 <= 0 OR began.at <= clock_timestamp() - make_interval(secs => $1::float8))
ORDER BY began.at NULLS LAST LIMIT 1";

/// Transactions of others that are open and have written something in this database, the oldest first.
pub(super) async fn writes(client: &Object) -> Result<Vec<OpenWrite>, Error> {
    let rows = client.ask(&format!("{OPEN} {OF_CUSTOMERS}"), &[]).await?;
    rows.iter().map(|row| Ok(OpenWrite { id: row.try_get(0)?, words: row.try_get(1)? })).collect()
}

/// The oldest transaction that is open anywhere on the server, for at least so long: a slot begins once all of them that
/// were open have ended. Absent also where this role is not told since when any of them is open.
pub(super) async fn oldest(client: &Object, at_least: Duration) -> Result<Option<OpenWrite>, Error> {
    let row = client.ask_one(&format!("{OPEN} {OLDEST}"), &[&at_least.as_secs_f64()]).await?;
    row.map(|row| Ok(OpenWrite { id: row.try_get(0)?, words: row.try_get(1)? })).transpose()
}
