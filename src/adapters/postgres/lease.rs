//! Who drives: one row a plan, limited in time, with an epoch that separates its holders. The target's clock decides.

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Row};

use super::connect::{Ask, Pool};
use super::retry::{self, Failure};
use super::trouble;
use crate::domain::at::At;
use crate::ports::{ErrorKind, Lease, LeaseHolder, PortError, PortResult};

const ON: &str = "the lease (cutover.lease)";

/// `$5` is whether to take it from another holder of the same run whose time is not over. `$6` is the epoch that is renewed: a driver
/// that was suspended while another had the lease, or while its plan was released, does not get it again; 0 takes it
/// anew.
const TAKE: &str = "INSERT INTO cutover.lease AS l (plan, run, holder, epoch, until)
     VALUES ($1, $2, $3, 1, clock_timestamp() + $4::bigint * interval '1 millisecond')
     ON CONFLICT (plan) DO UPDATE SET run = EXCLUDED.run, holder = EXCLUDED.holder,
         until = clock_timestamp() + $4::bigint * interval '1 millisecond',
         epoch = CASE WHEN l.holder = EXCLUDED.holder AND l.run = EXCLUDED.run THEN l.epoch ELSE l.epoch + 1 END
     WHERE $5::boolean AND l.run = EXCLUDED.run OR ($6::bigint = 0 OR l.epoch = $6)
         AND ((l.holder = EXCLUDED.holder AND l.run = EXCLUDED.run) OR l.until <= clock_timestamp())
     RETURNING run, holder, epoch, (extract(epoch FROM until) * 1000)::bigint";

const QUERY: &str = "SELECT run, holder, epoch, (extract(epoch FROM until) * 1000)::bigint,
     (extract(epoch FROM until - clock_timestamp()) * 1000)::bigint FROM cutover.lease WHERE plan = $1";

/// The fencing number of whoever drives; no row while nobody ever did.
const EPOCH: &str = "SELECT epoch FROM cutover.lease WHERE plan = $1";

/// The epoch of whoever drives a plan.
pub(super) async fn driver(client: &impl Ask, plan: &str) -> Result<Option<i64>, Error> {
    client.ask_one(EPOCH, &[&plan]).await?.map(|row| row.try_get(0)).transpose()
}

/// Who drives a plan, while somebody does.
pub(super) async fn holder(client: &impl Ask, plan: &str) -> Result<Option<LeaseHolder>, Error> {
    let sql = "SELECT run, holder FROM cutover.lease WHERE plan = $1 AND holder <> '' AND until > clock_timestamp()";
    let row = client.ask_one(sql, &[&plan]).await?;
    row.map(|row| Ok(LeaseHolder { run: row.try_get(0)?, holder: row.try_get(1)? })).transpose()
}

/// The same, and nobody takes the lease until the transaction ends, whether anybody had it before or not.
pub(super) async fn lock(tx: &Transaction<'_>, plan: &str) -> Result<Option<LeaseHolder>, Error> {
    let sql = "INSERT INTO cutover.lease (plan, run, holder, epoch, until) VALUES ($1, '', '', 0, clock_timestamp())
               ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&plan]).await?;
    tx.query_one("SELECT FROM cutover.lease WHERE plan = $1 FOR UPDATE", &[&plan]).await?;
    holder(tx, plan).await
}

/// Ends the lease. Whoever drove is refused by the epoch from then on.
pub(super) async fn end(tx: &Transaction<'_>, plan: &str) -> Result<(), Error> {
    let sql = "UPDATE cutover.lease SET holder = '', epoch = epoch + 1, until = clock_timestamp() WHERE plan = $1";
    tx.execute(sql, &[&plan]).await.map(drop)
}

/// Refuses a process that is no longer the driver. The answer holds until the transaction ends: a process that renews
/// or takes the lease waits for that.
pub(super) async fn fence(
    tx: &Transaction<'_>,
    plan: &str,
    epoch: Option<i64>,
    at: (&str, &str),
) -> Result<(), Failure> {
    let Some(ours) = epoch else { return Ok(()) };
    let row = tx.query_opt("SELECT epoch FROM cutover.lease WHERE plan = $1 FOR SHARE", &[&plan]).await?;
    if row.map(|row| row.try_get::<_, i64>(0)).transpose()? == Some(ours) {
        return Ok(());
    }
    Err(overtaken(at).into())
}

/// That a process is not the driver any more.
pub(super) fn overtaken((tried, on): (&str, &str)) -> PortError {
    let came_back = "another process has taken the lease since, or the plan was released";
    PortError::new(ErrorKind::Conflict, tried, on, came_back)
        .advise("nothing was written; attach to the run that drives now")
}

fn lease(row: &Row) -> Result<Lease, Error> {
    Ok(Lease { run: row.try_get(0)?, holder: row.try_get(1)?, epoch: row.try_get(2)?, until: At(row.try_get(3)?) })
}

/// Takes, renews or (`seize`) takes over.
#[allow(clippy::too_many_arguments)]
pub(super) async fn take(
    pool: &Pool,
    place: &str,
    plan: &str,
    run: &str,
    holder: &str,
    ttl_ms: i64,
    seize: bool,
    renews: i64,
) -> PortResult<Lease> {
    let tried = if seize { "seize" } else { "take" };
    let renews = if seize { 0 } else { renews };
    let error = |e: Error| trouble::error(&e, tried, ON);
    let client = retry::client(pool, place).await?;
    let statement = client.prepare_cached(TAKE).await.map_err(error)?;
    if let Some(row) =
        client.query_opt(&statement, &[&plan, &run, &holder, &ttl_ms, &seize, &renews]).await.map_err(error)?
    {
        return lease(&row).map_err(error);
    }
    let statement = client.prepare_cached(QUERY).await.map_err(error)?;
    let conflict = |came_back: String| {
        PortError::new(ErrorKind::Conflict, tried, ON, came_back)
            .advise("attach to that run, or wait until its lease is over")
    };
    Err(match client.query_opt(&statement, &[&plan]).await.map_err(error)? {
        Some(row) => {
            let other = lease(&row).map_err(error)?;
            let left: i64 = row.try_get(4).map_err(error)?;
            if other.holder.is_empty() || left <= 0 {
                return Err(conflict("another process had it meanwhile, or the plan was released".to_owned()));
            }
            let left = crate::domain::at::brief(left.max(0));
            conflict(format!("{} holds it for run {}, for another {left}", other.holder, other.run))
                .held_by(&other.run, &other.holder)
        }
        None => conflict("it changed hands just now".to_owned()),
    })
}

/// Gives it back, and says whether we had it. The epoch stays, so that the next holder's is higher.
pub(super) async fn release(pool: &Pool, place: &str, plan: &str, holder: &str) -> PortResult<bool> {
    let error = |e: Error| trouble::error(&e, "release", ON);
    let client = retry::client(pool, place).await?;
    let sql = "UPDATE cutover.lease SET holder = '', until = clock_timestamp() WHERE plan = $1 AND holder = $2";
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    Ok(client.execute(&statement, &[&plan, &holder]).await.map_err(error)? > 0)
}
