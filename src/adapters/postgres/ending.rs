//! How a plan's hold on tables ends: it is released, or another plan takes over what it has ended.
//!
//! Capture triggers are dropped while customers write. All waits for tables together give up before the server looks
//! for deadlocks, and the whole is tried again a few times: no customer's transaction is ever the one that the server
//! ends. What was kept of the tables is deleted afterwards, when nothing of the customers is locked any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::names::ident;
use super::owner::{thaw, turn};
use super::retry::{Failure, Tries};
use super::target::PgTarget;
use super::{book, indexes, lease, leftovers};
use crate::ports::{ErrorKind, LeaseHolder, PortError, PortResult};

/// For each wait of a transaction that takes no table of the customers.
pub(super) const PATIENT: &str = "SET LOCAL lock_timeout = '800ms'";

/// For all waits for tables of the customers together: shorter than `deadlock_timeout`, which is a second unless
/// somebody changed it.
const PATIENCE: Duration = Duration::from_millis(800);

/// Every trigger that calls a capture function of these tables of a plan, and that function. Triggers name their plan in their arguments; one that somebody renamed, changed or added uses the function
/// all the same.
const TRIGGERS: &str = "
WITH called AS (
    SELECT DISTINCT t.tgfoid FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_namespace n ON n.oid = f.pronamespace
    CROSS JOIN (SELECT convert_to($1, getdatabaseencoding()) || '\\x00'::bytea AS plan) p
    WHERE n.nspname = 'cutover' AND starts_with(f.proname::text, 'capture_') AND NOT t.tgisinternal
      AND t.tgargs IN (SELECT p.plan || convert_to(id, getdatabaseencoding()) || '\\x00'::bytea
                       FROM unnest($2::text[]) id))
SELECT t.tgname::text, t.tgrelid::regclass::text, t.tgfoid::regprocedure::text
FROM pg_trigger t JOIN called USING (tgfoid)
WHERE NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY t.tgrelid::regclass::text, t.tgname";

/// These tables and all their partitions, in one order.
const TREES: &str = "SELECT DISTINCT format('%I.%I', n.nspname, c.relname) FROM unnest($1::text[]) t(name)
CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(to_regclass(name)) UNION SELECT to_regclass(name)) tree
JOIN pg_class c ON c.oid = tree.relid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1";

/// Locks tables with their partitions against everybody, and gives up when that takes longer than [`PATIENCE`] in all.
async fn lock_all(tx: &Transaction<'_>, tables: &BTreeSet<String>) -> Result<(), Error> {
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let trees = tx.query(TREES, &[&tables]).await?;
    let began = Instant::now();
    for row in trees {
        // 0 would be a wait without an end.
        let left = PATIENCE.saturating_sub(began.elapsed()).as_millis().max(1);
        let table: String = row.try_get(0)?;
        let lock = format!("SET LOCAL lock_timeout = '{left}ms'; LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE");
        tx.batch_execute(&lock).await?;
    }
    tx.batch_execute(PATIENT).await
}

/// Capture triggers to drop.
#[derive(Default)]
struct Captures {
    drops: Vec<String>,
    /// What they stand on.
    tables: BTreeSet<String>,
    /// What they call.
    functions: BTreeSet<String>,
}

impl Captures {
    /// Adds those of tables of a plan, wherever they stand.
    async fn add(&mut self, tx: &Transaction<'_>, plan: &str, ids: &[&str]) -> Result<(), Error> {
        for row in tx.query(TRIGGERS, &[&plan, &ids]).await? {
            let (name, on): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            self.drops.push(format!("DROP TRIGGER IF EXISTS {} ON {on}", ident(&name)));
            self.tables.insert(on);
            self.functions.insert(row.try_get::<_, String>(2)?);
        }
        Ok(())
    }

    /// Drops them. From here on nobody writes these tables until the transaction ends.
    async fn drop(self, tx: &Transaction<'_>) -> Result<(), Error> {
        lock_all(tx, &self.tables).await?;
        let functions = self.functions.into_iter().map(|f| format!("DROP FUNCTION IF EXISTS {f}"));
        for drop in self.drops.into_iter().chain(functions) {
            tx.batch_execute(&drop).await?;
        }
        Ok(())
    }
}

/// Drops the capture triggers of tables of a plan.
pub(super) async fn stop_capture(tx: &Transaction<'_>, plan: &str, ids: &[&str]) -> Result<(), Error> {
    let mut captures = Captures::default();
    captures.add(tx, plan, ids).await?;
    captures.drop(tx).await
}

/// Stops the capture of tables that another plan is about to take over from these. Whoever counts what waits of them
/// after this has seen every write that was captured, and nobody begins to drive those plans meanwhile.
pub(super) async fn stand_aside(tx: &Transaction<'_>, plans: &BTreeMap<String, BTreeSet<String>>) -> Result<(), Error> {
    let mut captures = Captures::default();
    for (plan, ids) in plans {
        tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({})", thaw(plan))).await?;
        tx.execute("SELECT FROM cutover.lease WHERE plan = $1 FOR UPDATE", &[plan]).await?;
        captures.add(tx, plan, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    captures.drop(tx).await
}

/// What is tried.
pub(super) const RELEASE: &str = "release the tables of";

/// Why a plan that is driven is not released.
pub(super) fn driven(plan: &str, LeaseHolder { run, holder }: &LeaseHolder) -> PortError {
    PortError::new(ErrorKind::Conflict, RELEASE, plan, format!("run {run} is driven by {holder}"))
        .advise("pause that run or let it come to its end first")
        .held_by(run, holder)
}

/// Takes a plan its tables: nothing is applied, captured or carried back for it from here on. `Conflict` while somebody
/// drives it. Its lease stays, with the next epoch: a driver that was suspended meanwhile finds that it is not the
/// driver any more.
async fn give_up(tx: &Transaction<'_>, plan: &str) -> Result<(), Failure> {
    tx.batch_execute(PATIENT).await?;
    tx.batch_execute(book::ALONE).await?;
    if let Some(holder) = lease::lock(tx, plan).await? {
        return Err(driven(plan, &holder).into());
    }
    tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({})", thaw(plan))).await?;
    let sql = "SELECT count(*) FROM cutover.set_aside WHERE plan = $1";
    let aside: i64 = tx.query_one(sql, &[&plan]).await?.try_get(0)?;
    if aside > 0 {
        let came_back = format!("{aside} indexes of its tables were set aside just now and are not built again");
        let conflict = PortError::new(ErrorKind::Conflict, RELEASE, plan, came_back);
        return Err(conflict.advise("nothing was released; try again, which builds them").into());
    }
    leftovers::leave_all(tx, plan).await?;
    tx.batch_execute(&format!("DROP TABLE IF EXISTS {}", turn(plan))).await?;
    lease::end(tx, plan).await?;
    Ok(())
}

impl PgTarget {
    /// Ends everything the plan has. What dies on the way is ended by the next release or claim.
    pub(super) async fn release_tables(&self) -> PortResult<()> {
        let mut client = self.client().await?;
        // Checked first, so that no index is built while a load runs; the check within the transaction decides.
        let driven_by = lease::holder(&client, self.plan()).await.map_err(self.error(RELEASE, self.plan()))?;
        if let Some(holder) = driven_by {
            return Err(driven(self.plan(), &holder));
        }
        indexes::restore_all(self.pool(), self.place(), self.plan()).await?;
        let mut tries = Tries::patient();
        loop {
            let attempt = async {
                let tx = client.transaction().await?;
                give_up(&tx, self.plan()).await?;
                tx.commit().await.map_err(Failure::Commit)
            };
            match attempt.await {
                Ok(()) => break,
                Err(failure) => tries.after(failure, RELEASE, self.plan()).await?,
            }
        }
        let left = leftovers::of(&client, self.plan()).await.map_err(self.error(RELEASE, self.plan()))?;
        self.delete_leftovers(&mut client, &left).await
    }
}
