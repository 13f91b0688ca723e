//! What a table that was made by its DDL gets once its rows are in it: foreign keys and triggers.
//!
//! While rows are loaded without a snapshot a child may be there before its parent, so a foreign key is made `NOT VALID`: it
//! holds for whatever is written from then on, and a row that comes too early is parked and tried again like any other. It
//! is proven for the rows that are there (`VALIDATE CONSTRAINT`, which keeps nobody from writing) when the way back is armed
//! and after the drain. A key that closes a circle of tables would make rows of both wait for each other while changes are
//! applied table by table, so it is made at the end of the drain only. Triggers are made disabled, because rows that are loaded or followed have been through them at the
//! source, and are enabled in the transaction that lets customers in.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::connect::Ask;
use super::names::{ident, qualified};
use super::target::PgTarget;
use crate::domain::plan::{AfterLoad, Table};
use crate::ports::{PortError, PortResult};

/// Whether this plan made the table: what others made is not changed.
async fn ours(client: &impl Ask, plan: &str, table: &Table) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM cutover.created WHERE plan = $1 AND table_id = $2)";
    client.ask_one(sql, &[&plan, &table.id]).await?.map_or(Ok(false), |row| row.try_get(0))
}

/// Whether a foreign key of the table is there, and whether it is proven.
const KEY: &str = "SELECT convalidated FROM pg_constraint
                   WHERE conrelid = to_regclass($1) AND conname = $2 AND contype = 'f'";

async fn proven(client: &impl Ask, sql_name: &str, name: &str) -> Result<Option<bool>, Error> {
    client.ask_one(KEY, &[&sql_name, &name]).await?.map(|row| row.try_get(0)).transpose()
}

async fn has_trigger(client: &impl Ask, sql_name: &str, name: &str) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = $2)";
    client.ask_one(sql, &[&sql_name, &name]).await?.map_or(Ok(false), |row| row.try_get(0))
}

/// Whether a foreign key of the table closes a circle: other keys lead from the table it refers to back to its own. One
/// to its own table does not.
const CLOSES: &str = "
WITH RECURSIVE leads(to_table) AS (
    SELECT confrelid FROM pg_constraint
    WHERE conrelid = to_regclass($1) AND conname = $2 AND contype = 'f' AND confrelid <> conrelid
    UNION SELECT c.confrelid FROM leads JOIN pg_constraint c ON c.conrelid = leads.to_table AND c.contype = 'f')
SELECT EXISTS (SELECT FROM leads WHERE to_table = to_regclass($1)::oid)";

/// Keys are made one at a time in a database, so that each sees those made before it: of a circle one is the last.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('cutover'), hashtext('foreign keys'))";

async fn closes_a_circle(client: &impl Ask, sql_name: &str, name: &str) -> Result<bool, Error> {
    client.ask_one(CLOSES, &[&sql_name, &name]).await?.map_or(Ok(false), |row| row.try_get(0))
}

/// Whether customers were let into the table and have not gone back.
async fn is_open(client: &impl Ask, plan: &str, table: &Table) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM cutover.plan_table WHERE plan = $1 AND table_id = $2
                              AND opened IS NOT NULL AND rolled_back IS NULL)";
    client.ask_one(sql, &[&plan, &table.id]).await?.map_or(Ok(false), |row| row.try_get(0))
}

/// Makes a key unproven, unless it closes a circle. Gives whether it did.
async fn make_unless_it_closes(tx: &Transaction<'_>, table: &str, name: &str, sql: &str) -> Result<bool, Error> {
    tx.batch_execute("SAVEPOINT key").await?;
    tx.batch_execute(&unproven(sql)).await?;
    let closes = closes_a_circle(tx, table, name).await?;
    tx.batch_execute(if closes { "ROLLBACK TO SAVEPOINT key" } else { "RELEASE SAVEPOINT key" }).await?;
    Ok(!closes)
}

/// The statement that makes a foreign key without looking at the rows that are there.
fn unproven(sql: &str) -> String {
    let whole = sql.trim_end().trim_end_matches(';').trim_end();
    if says_unproven(whole) { format!("{whole};") } else { format!("{whole} NOT VALID;") }
}

/// Whether the source has not proven it either.
fn says_unproven(sql: &str) -> bool {
    sql.trim_end().trim_end_matches(';').trim_end().ends_with("NOT VALID")
}

impl PgTarget {
    /// Makes what is missing of it. Can be called again after it was interrupted anywhere.
    pub(super) async fn make_after_load(&self, table: &Table) -> PortResult<()> {
        let error = self.error("make foreign keys and triggers of", &table.target);
        let mut client = self.client().await?;
        if table.after_load.is_empty() || !ours(&client, self.plan(), table).await.map_err(&error)? {
            return Ok(());
        }
        let name_of = qualified(&table.target);
        for one in &table.after_load {
            let of_one = |e: Error| {
                let said = self.error("make", one.name())(e);
                PortError { came_back: format!("of {}: {}", table.target, said.came_back), ..said }
            };
            let tx = client.transaction().await.map_err(&of_one)?;
            tx.batch_execute("SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0").await.map_err(&of_one)?;
            match one {
                AfterLoad::ForeignKey { name, sql } => {
                    tx.batch_execute(ONE_AT_A_TIME).await.map_err(&of_one)?;
                    if proven(&tx, &name_of, name).await.map_err(&of_one)?.is_none() {
                        make_unless_it_closes(&tx, &name_of, name, sql).await.map_err(&of_one)?;
                    } else if closes_a_circle(&tx, &name_of, name).await.map_err(&of_one)?
                        && !is_open(&tx, self.plan(), table).await.map_err(&of_one)?
                    {
                        // An earlier run of the plan drained with it.
                        let drop = format!("ALTER TABLE {name_of} DROP CONSTRAINT {}", ident(name));
                        tx.batch_execute(&drop).await.map_err(&of_one)?;
                    }
                }
                AfterLoad::Trigger { name, sql, .. } => {
                    if !has_trigger(&tx, &name_of, name).await.map_err(&of_one)? {
                        let quiet = format!("{sql}\nALTER TABLE {name_of} DISABLE TRIGGER {}", ident(name));
                        tx.batch_execute(&quiet).await.map_err(&of_one)?;
                    }
                }
            }
            tx.commit().await.map_err(&of_one)?;
        }
        Ok(())
    }

    /// See [`crate::ports::Target::prove_references`].
    pub(super) async fn prove_foreign_keys(&self, table: &Table, drained: bool) -> PortResult<Option<String>> {
        let error = self.error("prove the foreign keys of", &table.target);
        let client = self.client().await?;
        if table.after_load.is_empty() || !ours(&client, self.plan(), table).await.map_err(&error)? {
            return Ok(None);
        }
        let mut client = client;
        let name_of = qualified(&table.target);
        for one in &table.after_load {
            let AfterLoad::ForeignKey { name, sql } = one else { continue };
            let missing = match proven(&client, &name_of, name).await.map_err(&error)? {
                Some(true) => continue,
                Some(false) if says_unproven(sql) => continue,
                Some(false) => false,
                None => true,
            };
            let tx = client.transaction().await.map_err(&error)?;
            tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
            if missing {
                // A key that is made here and fails its proof goes with the transaction.
                tx.batch_execute("SET LOCAL search_path = ''").await.map_err(&error)?;
                tx.batch_execute(ONE_AT_A_TIME).await.map_err(&error)?;
                if make_unless_it_closes(&tx, &name_of, name, sql).await.map_err(&error)? {
                    return Ok(Some(format!("{} has no foreign key {name}, which its load makes", table.target)));
                }
                if !drained {
                    continue;
                }
                tx.batch_execute(&unproven(sql)).await.map_err(&error)?;
                if says_unproven(sql) {
                    tx.commit().await.map_err(&error)?;
                    continue;
                }
            }
            let prove = format!("ALTER TABLE {name_of} VALIDATE CONSTRAINT {}", ident(name));
            match tx.batch_execute(&prove).await {
                Ok(()) => tx.commit().await.map_err(&error)?,
                Err(e) if e.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
                    return Ok(Some(format!("rows of {} have no parent, says its foreign key {name}", table.target)));
                }
                Err(e) => return Err(error(e)),
            }
        }
        Ok(None)
    }
}

/// Lets the triggers fire that were made disabled: customers are let in.
pub(super) async fn wake(tx: &Transaction<'_>, plan: &str, tables: &[Table]) -> Result<(), Error> {
    each_trigger(tx, plan, tables, true).await
}

/// Keeps them from firing again: a later run loads tables that an earlier one made and opened to customers.
pub(super) async fn quiet(tx: &Transaction<'_>, plan: &str, tables: &[Table]) -> Result<(), Error> {
    let sql = "SELECT EXISTS (SELECT FROM cutover.plan_table WHERE plan = $1 AND table_id = $2
                              AND (opened IS NULL OR rolled_back IS NOT NULL))";
    for table in tables.iter().filter(|table| !table.after_load.is_empty()) {
        if tx.query_one(sql, &[&plan, &table.id]).await?.try_get(0)? {
            each_trigger(tx, plan, std::slice::from_ref(table), false).await?;
        }
    }
    Ok(())
}

async fn each_trigger(tx: &Transaction<'_>, plan: &str, tables: &[Table], fires: bool) -> Result<(), Error> {
    for table in tables.iter().filter(|table| !table.after_load.is_empty()) {
        if !ours(tx, plan, table).await? {
            continue;
        }
        let name_of = qualified(&table.target);
        for one in &table.after_load {
            let AfterLoad::Trigger { name, fires: as_source, .. } = one else { continue };
            if !has_trigger(tx, &name_of, name).await? {
                continue;
            }
            let how = if fires { as_source.sql() } else { "DISABLE" };
            tx.batch_execute(&format!("ALTER TABLE {name_of} {how} TRIGGER {}", ident(name))).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_key_is_made_unproven_and_one_that_the_source_has_not_proven_stays_as_it_is() {
        let sql = "ALTER TABLE ONLY a.b\n    ADD CONSTRAINT c FOREIGN KEY (d) REFERENCES a.e(f)";
        assert_eq!(unproven(&format!("{sql};")), format!("{sql} NOT VALID;"));
        assert_eq!(unproven(&format!("{sql} NOT VALID;\n")), format!("{sql} NOT VALID;"));
        assert!(says_unproven(&format!("{sql} NOT VALID;")) && !says_unproven(sql));
    }
}
