//! Removing the subscription from both ends. Neither waits for the other: a target that is gone keeps no log at the source,
//! and a source that is gone keeps no subscription at the target.

use std::time::Duration;

use tokio_postgres::Error;

use super::{PgSubscription, There, marks, told};
use crate::adapters::postgres::connect::{Ask as _, Object};
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::source::slot;
use crate::adapters::postgres::trouble;
use crate::ports::{PortError, PortResult};

/// What is tried.
const REMOVE: &str = "remove the subscription";
/// A slot that was freed may be taken again before it is dropped, by a worker that is started anew.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);
/// Looks in a row that find no slot of a copy, where the target could not be told to stop.
const LOOKS: u32 = 8;

/// Ends whoever reads the slots of a subscription's copying: they are called by its number and by its server's.
const FREE: &str = "
SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
WHERE active_pid IS NOT NULL AND slot_name::text ~ ('^pg_' || $1 || '_sync_[0-9]+_' || $2 || '$')";
const DROP: &str = "
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE database = current_database() AND slot_name::text ~ ('^pg_' || $1 || '_sync_[0-9]+_' || $2 || '$')";

impl PgSubscription {
    /// Removes it, at both ends.
    ///
    /// # Errors
    /// What is left at an end, and why; the other end is cleared all the same.
    pub(super) async fn remove_both(&self) -> PortResult<()> {
        let here = self.clear_target().await;
        let there = self.clear_source(here.is_ok()).await;
        match (here, there) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(e), Ok(())) => {
                let advice = format!(
                    "once the target answers: ALTER SUBSCRIPTION {0} DISABLE; ALTER SUBSCRIPTION {0} SET (slot_name = NONE); DROP \
                     SUBSCRIPTION {0}. The source keeps nothing for it any more",
                    self.called.subscription
                );
                Err(PortError { tried: REMOVE.to_owned(), ..e }.advise(advice))
            }
            (Ok(()), Err(e)) => {
                let advice = format!(
                    "the source may still keep its log for it: once it answers, drop the slots there whose names begin with {}, and those of its copies (pg_..._sync_...)",
                    self.names.prefix
                );
                Err(PortError { tried: REMOVE.to_owned(), ..e }.advise(advice))
            }
            (Err(here), Err(there)) => {
                let came_back = format!("{}; and at the source: {}", here.came_back, there.came_back);
                let advice = format!(
                    "once they answer, drop the subscription {} at the target, and at the source the slots whose names begin with {}",
                    self.called.subscription, self.names.prefix
                );
                Err(PortError { tried: REMOVE.to_owned(), came_back, ..here }.advise(advice))
            }
        }
    }

    async fn clear_target(&self) -> PortResult<()> {
        let client = self.target.client().await?;
        if let Some(there) = self.there(&client).await? {
            self.remove_from_target(&client, &there).await?;
        }
        let error = |e: Error| trouble::error(&e, REMOVE, &self.called.subscription);
        // Our schema may be gone with all it had.
        let sql = "SELECT to_regnamespace('cutover') IS NOT NULL";
        if client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(error)? {
            let marks = format!("DROP TABLE IF EXISTS {}", qualified(&self.called.marks));
            client.batch_execute(&marks).await.map_err(error)?;
        }
        Ok(())
    }

    /// Stops it and drops it without asking the source, whose slots are dropped there.
    pub(super) async fn remove_from_target(&self, client: &Object, there: &There) -> PortResult<()> {
        let on = self.called.subscription.as_str();
        let error = |e: Error| trouble::error(&e, REMOVE, on);
        self.end_work_over(client, told::STOPPED).await?;
        if !there.slot.is_empty() {
            let sql = format!("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", ident(on));
            client.batch_execute(&sql).await.map_err(error)?;
        }
        // It may still ask the source for slots of its copying, and waits for that as long as its connection says.
        client.batch_execute(&format!("DROP SUBSCRIPTION IF EXISTS {}", ident(on))).await.map_err(error)
    }

    /// Removes slots, publication and our table. `quiet` says that nothing at the target could make slots meanwhile.
    async fn clear_source(&self, quiet: bool) -> PortResult<()> {
        let client = self.source.client().await?;
        let mut tries = 0;
        loop {
            match self.slots_dropped(&client, quiet).await {
                Ok(()) => break,
                Err(e) if e.kind.transient() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e) => return Err(e),
            }
        }
        let error = |e: Error| trouble::error(&e, REMOVE, &self.called.subscription);
        marks::gone_from_source(&client, &self.called.marks).await.map_err(error)
    }

    async fn slots_dropped(&self, client: &Object, quiet: bool) -> PortResult<()> {
        let error = |e: Error| trouble::error(&e, REMOVE, &self.called.subscription);
        let sql = "SELECT obj_description(to_regclass($1)::oid, 'pg_class')";
        let note = client.ask_one(sql, &[&qualified(&self.called.marks)]).await.map_err(error)?;
        let note = note.map(|row| row.try_get::<_, Option<String>>(0)).transpose().map_err(error)?.flatten();
        let note = note.as_deref().and_then(|note| note.split_once(' '));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Without its own slot it begins no further copy.
        slot::drop_all(client, &self.names).await?;
        let Some((oid, system)) = note.filter(|(oid, system)| digits(oid) && digits(system)) else { return Ok(()) };
        // A copy that was just about to begin where nobody could stop it makes a slot yet.
        let (wanted, mut empty) = (if quiet { 1 } else { LOOKS }, 0);
        while empty < wanted {
            client.execute(FREE, &[&oid, &system]).await.map_err(error)?;
            let dropped = client.execute(DROP, &[&oid, &system]).await.map_err(error)?;
            empty = if dropped == 0 { empty + 1 } else { 0 };
            if empty < wanted {
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    }
}
