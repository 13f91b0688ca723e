//! What is left of tables that a plan has no more: its triggers where it was interrupted, and rows of bookkeeping. The
//! rows may be many, so they are deleted after the transaction that took the table from the plan, in one that locks
//! nothing of the customers.

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Row};

use super::connect::{Ask, Object};
use super::owner::{self, KEPT};
use super::retry::{Failure, Tries};
use super::target::PgTarget;
use super::{ending, trouble};
use crate::domain::plan::Table;
use crate::ports::PortResult;

/// Tables that a plan has no more and something of which is left; `targets` as the plan had them.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cutover.leftover (
    plan text NOT NULL, table_id text NOT NULL, targets text[] NOT NULL, PRIMARY KEY (plan, table_id));
";

/// What is tried.
const DELETE: &str = "delete what is left of";

/// A table that a plan has no more and something of which is left.
#[derive(Clone, Debug)]
pub(super) struct Leftover {
    plan: String,
    table: String,
}

fn leftover(row: &Row) -> Result<Leftover, Error> {
    Ok(Leftover { plan: row.try_get(0)?, table: row.try_get(1)? })
}

/// Takes all its tables from a plan.
pub(super) async fn leave_all(tx: &Transaction<'_>, plan: &str) -> Result<(), Error> {
    let sql = "WITH gone AS (DELETE FROM cutover.plan_table WHERE plan = $1 RETURNING plan, table_id, targets)
               INSERT INTO cutover.leftover SELECT plan, table_id, targets FROM gone ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&plan]).await.map(drop)
}

/// Takes one table from a plan.
pub(super) async fn leave(tx: &Transaction<'_>, plan: &str, table: &str) -> Result<Leftover, Error> {
    let sql = "WITH gone AS (DELETE FROM cutover.plan_table WHERE plan = $1 AND table_id = $2
                             RETURNING plan, table_id, targets)
               INSERT INTO cutover.leftover SELECT plan, table_id, targets FROM gone ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&plan, &table]).await?;
    Ok(Leftover { plan: plan.to_owned(), table: table.to_owned() })
}

/// Deletes everything that is kept of a table of a plan.
pub(super) async fn delete_now(tx: &Transaction<'_>, plan: &str, table: &str) -> Result<(), Error> {
    for kept in KEPT {
        tx.execute(&format!("DELETE FROM cutover.{kept} WHERE plan = $1 AND table_id = $2"), &[&plan, &table]).await?;
    }
    Ok(())
}

/// What is left of a plan's tables.
pub(super) async fn of(client: &impl Ask, plan: &str) -> Result<Vec<Leftover>, Error> {
    let sql = "SELECT plan, table_id FROM cutover.leftover WHERE plan = $1 ORDER BY table_id";
    client.ask(sql, &[&plan]).await?.iter().map(leftover).collect()
}

/// What has to be gone before a plan may take these tables: rows under its own names, and triggers on the same tables,
/// which would capture for nobody.
pub(super) async fn in_the_way(client: &impl Ask, plan: &str, tables: &[Table]) -> Result<Vec<Leftover>, Error> {
    let (ids, mut targets): (Vec<&str>, Vec<String>) = (tables.iter().map(|t| t.id.as_str()).collect(), Vec::new());
    for table in tables {
        targets.extend(owner::server_names(client, table).await?);
    }
    let sql = "SELECT plan, table_id FROM cutover.leftover
               WHERE plan = $1 AND table_id = ANY ($2) OR targets && $3 ORDER BY plan, table_id";
    client.ask(sql, &[&plan, &ids, &targets]).await?.iter().map(leftover).collect()
}

/// Drops the triggers that captured this table for its plan.
async fn stop_capture(tx: &Transaction<'_>, left: &Leftover) -> Result<(), Error> {
    if locked(tx, left).await? {
        ending::stop_capture(tx, &left.plan, &[&left.table]).await?;
    }
    Ok(())
}

/// Locks a leftover until the transaction ends; `false` when nothing is left any more, so that the table may have been
/// claimed again.
async fn locked(tx: &Transaction<'_>, left: &Leftover) -> Result<bool, Error> {
    let sql = "SELECT FROM cutover.leftover WHERE plan = $1 AND table_id = $2 FOR UPDATE";
    Ok(tx.query_opt(sql, &[&left.plan, &left.table]).await?.is_some())
}

/// Deletes the rows and the leftover itself, once nothing captures for it any more.
async fn delete(client: &mut Object, left: &Leftover) -> Result<(), Error> {
    let tx = client.transaction().await?;
    tx.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
    if locked(&tx, left).await? {
        delete_now(&tx, &left.plan, &left.table).await?;
        let sql = "DELETE FROM cutover.leftover WHERE plan = $1 AND table_id = $2";
        tx.execute(sql, &[&left.plan, &left.table]).await?;
    }
    tx.commit().await
}

impl PgTarget {
    /// Deletes what is left of these tables. May be called again after it was interrupted anywhere.
    pub(super) async fn delete_leftovers(&self, client: &mut Object, all: &[Leftover]) -> PortResult<()> {
        for left in all {
            let mut tries = Tries::patient();
            loop {
                let attempt = async {
                    let tx = client.transaction().await?;
                    stop_capture(&tx, left).await?;
                    tx.commit().await.map_err(Failure::Commit)
                };
                match attempt.await {
                    Ok(()) => break,
                    Err(failure) => tries.after(failure, DELETE, &left.plan).await?,
                }
            }
            delete(client, left).await.map_err(|e| trouble::error(&e, DELETE, &left.plan))?;
        }
        Ok(())
    }
}
