//! Who drives: one row, held by time and told apart by its epoch. The target's clock decides.

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Row};

use super::connect::Pool;
use super::retry;
use super::trouble;
use crate::domain::at::At;
use crate::ports::{ErrorKind, Lease, PortError, PortResult};

const ON: &str = "the lease (cutover.lease)";

/// `$4` is whether to take it from another holder whose time is not over.
const TAKE: &str = "INSERT INTO cutover.lease AS l (run, holder, epoch, until)
     VALUES ($1, $2, 1, clock_timestamp() + $3::bigint * interval '1 millisecond')
     ON CONFLICT (one) DO UPDATE SET run = EXCLUDED.run, holder = EXCLUDED.holder, until = EXCLUDED.until,
         epoch = CASE WHEN l.holder = EXCLUDED.holder AND l.run = EXCLUDED.run THEN l.epoch ELSE l.epoch + 1 END
     WHERE $4::boolean OR l.holder = EXCLUDED.holder OR l.until <= clock_timestamp()
     RETURNING run, holder, epoch, (extract(epoch FROM until) * 1000)::bigint";

const LOOK: &str = "SELECT run, holder, epoch, (extract(epoch FROM until) * 1000)::bigint,
     (extract(epoch FROM until - clock_timestamp()) * 1000)::bigint FROM cutover.lease";

/// The fencing number of whoever drives; no row while nobody ever did.
pub(super) const EPOCH: &str = "SELECT epoch FROM cutover.lease";

/// The epoch of whoever drives, within a transaction.
pub(super) async fn driver(tx: &Transaction<'_>) -> Result<Option<i64>, Error> {
    let statement = tx.prepare_cached(EPOCH).await?;
    tx.query_opt(&statement, &[]).await?.map(|row| row.try_get(0)).transpose()
}

fn lease(row: &Row) -> Result<Lease, Error> {
    Ok(Lease { run: row.try_get(0)?, holder: row.try_get(1)?, epoch: row.try_get(2)?, until: At(row.try_get(3)?) })
}

/// Takes, renews or (`seize`) takes over.
pub(super) async fn take(
    pool: &Pool,
    place: &str,
    run: &str,
    holder: &str,
    ttl_ms: i64,
    seize: bool,
) -> PortResult<Lease> {
    let tried = if seize { "seize" } else { "take" };
    let error = |e: Error| trouble::error(&e, tried, ON);
    let client = retry::client(pool, place).await?;
    let statement = client.prepare_cached(TAKE).await.map_err(error)?;
    if let Some(row) = client.query_opt(&statement, &[&run, &holder, &ttl_ms, &seize]).await.map_err(error)? {
        return lease(&row).map_err(error);
    }
    let statement = client.prepare_cached(LOOK).await.map_err(error)?;
    let conflict = |came_back: String| {
        PortError::new(ErrorKind::Conflict, tried, ON, came_back)
            .advise("attach to that run, or wait until its lease is over")
    };
    Err(match client.query_opt(&statement, &[]).await.map_err(error)? {
        Some(row) => {
            let other = lease(&row).map_err(error)?;
            let left: i64 = row.try_get(4).map_err(error)?;
            let left = crate::domain::at::brief(left.max(0));
            conflict(format!("{} holds it for run {}, for another {left}", other.holder, other.run))
                .held_by(&other.run, &other.holder)
        }
        None => conflict("it changed hands just now".to_owned()),
    })
}

/// Gives it back. The epoch stays, so that the next holder's is higher.
pub(super) async fn release(pool: &Pool, place: &str, holder: &str) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, "release", ON);
    let client = retry::client(pool, place).await?;
    let sql = "UPDATE cutover.lease SET holder = '', until = clock_timestamp() WHERE holder = $1";
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    client.execute(&statement, &[&holder]).await.map_err(error)?;
    Ok(())
}
