//! Empties a target table for a new load.

use deadpool_postgres::Transaction;

use super::names::qualified;
use super::target::PgTarget;
use super::{describe, indexes, lease, outbox, owner, references, retry, source_count};
use crate::domain::plan::{Table, shell_word};
use crate::ports::{ErrorKind, PortError, PortResult};

impl PgTarget {
    /// Empties a table for a new load, and forgets how far the load before had come. See
    /// [`crate::ports::Target::reset`].
    pub(super) async fn empty_table(&self, table: &Table) -> PortResult<()> {
        let error = self.error("reset", &table.target);
        let mut client = self.client().await?;
        let mut there = Vec::new();
        for name in table.children.iter().map(|c| &c.target).chain([&table.target]) {
            if describe::exists(&client, name).await.map_err(&error)? {
                there.push(qualified(name));
            }
        }
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(outbox::OURS).await.map_err(&error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
        self.may_empty(&tx, table, "reset").await?;
        if !there.is_empty() {
            tx.batch_execute("SAVEPOINT quick").await.map_err(&error)?;
            match tx.batch_execute(&format!("TRUNCATE {}", there.join(", "))).await {
                Ok(()) => {}
                // Tables outside this one refer to it. CASCADE would empty them, so the rows are deleted one by one.
                Err(e) if e.code().is_some_and(|c| c.code() == "0A000") => {
                    tx.batch_execute("ROLLBACK TO SAVEPOINT quick").await.map_err(&error)?;
                    let acting = references::in_the_way(&tx, &there).await.map_err(&error)?;
                    if !acting.is_empty() {
                        let came_back = format!("rows of {} refer to it and would go or change too", acting.join(", "));
                        return Err(PortError::new(ErrorKind::Conflict, "reset", &table.target, came_back)
                            .advise("empty or detach them yourself first, if they may go, then try again"));
                    }
                    // As TRUNCATE does: whoever is writing is waited for.
                    let locked = format!("LOCK TABLE {} IN EXCLUSIVE MODE", there.join(", "));
                    tx.batch_execute(&locked).await.map_err(&error)?;
                    let deletes: Vec<String> = there.iter().map(|t| format!("DELETE FROM {t}")).collect();
                    tx.batch_execute(&deletes.join("; ")).await.map_err(&error)?;
                }
                Err(e) => return Err(error(e)),
            }
        }
        self.forget_load(&tx, table, "reset").await?;
        // Last, because a process that renews the lease waits from here on.
        let fenced = lease::fence(&tx, self.plan(), self.epoch(), ("reset", &table.target)).await;
        fenced.map_err(|failure| retry::answer(failure, "reset", &table.target))?;
        tx.commit().await.map_err(&error)?;
        drop(client);
        // A load that was given up may have left its indexes dropped; on an empty table building them costs nothing.
        indexes::restore(self.pool(), self.place(), self.of(table)).await
    }

    /// Forgets how far the load and the following of a table had come: its rows are gone. Refused while customers' writes to
    /// it wait.
    pub(super) async fn forget_load(&self, tx: &Transaction<'_>, table: &Table, tried: &str) -> PortResult<()> {
        let error = self.error(tried, &table.target);
        // Whoever was writing has ended now. What was captured of it would otherwise be read as rows that are gone.
        let waits = outbox::waits(tx, self.of(table)).await.map_err(&error)?;
        if waits > 0 {
            let came_back =
                format!("{waits} writes of the new side were never carried back; a new load would lose them");
            let plan = shell_word(self.plan());
            let advice = format!(
                "carry them with `cutover rollback` of the run that captured them; or let them stay where they are: \
                 cutover release {plan}"
            );
            return Err(PortError::new(ErrorKind::Conflict, tried, &table.target, came_back).advise(advice));
        }
        for kept in ["load_checkpoint", "stream_position", "lane", "stream", "marker", "parked", "expired"] {
            let sql = format!("DELETE FROM cutover.{kept} WHERE plan = $1 AND table_id = $2");
            tx.execute(&sql, &[&self.plan(), &table.id]).await.map_err(&error)?;
        }
        source_count::forget(tx, self.of(table)).await.map_err(&error)
    }

    /// Whether this process may empty a table: it is the plan's, it is not open to customers, and no later process
    /// holds the lease.
    pub(super) async fn may_empty(&self, tx: &Transaction<'_>, table: &Table, tried: &str) -> PortResult<()> {
        let at = (tried, table.target.as_str());
        let may = async {
            tx.batch_execute(&owner::shared(self.plan())).await?;
            owner::stands(tx, self.of(table), true, at).await?;
            match self.epoch() {
                // Checked before anybody waits for the table; checked once more before the commit, and that check
                // decides.
                Some(ours) if lease::driver(tx, self.plan()).await? != Some(ours) => Err(lease::overtaken(at).into()),
                _ => Ok(()),
            }
        };
        may.await.map_err(|failure| retry::answer(failure, at.0, at.1))
    }
}
