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
use super::owner;
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

/// Whether a foreign key of a table, or of its partitions, closes a circle: other keys lead from the table it refers to back
/// to its own. One to its own table does not. A partition stands for its whole table.
const CLOSES: &str = "
WITH RECURSIVE keys AS (
    SELECT conname, coalesce(pg_partition_root(conrelid), conrelid)::oid AS child,
           coalesce(pg_partition_root(confrelid), confrelid)::oid AS parent FROM pg_constraint WHERE contype = 'f'),
own AS (SELECT coalesce(pg_partition_root(to_regclass($1)), to_regclass($1))::oid AS oid),
leads(to_table) AS (
    SELECT parent FROM keys JOIN own ON own.oid = child WHERE conname = $2 AND parent <> child
    UNION SELECT keys.parent FROM leads JOIN keys ON keys.child = leads.to_table)
SELECT EXISTS (SELECT FROM leads JOIN own ON own.oid = leads.to_table)";

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

/// Makes a key unproven, unless it closes a circle: then all is as it was. Gives whether it is one that may stand.
async fn make_unless_it_closes(tx: &Transaction<'_>, on: &str, name: &str, sql: &str) -> Result<bool, Error> {
    tx.batch_execute("SAVEPOINT key").await?;
    make_key(tx, on, name, sql).await?;
    let closes = closes_a_circle(tx, on, name).await?;
    tx.batch_execute(if closes { "ROLLBACK TO SAVEPOINT key" } else { "RELEASE SAVEPOINT key" }).await?;
    Ok(!closes)
}

/// Drops a key from a table, or from those of its partitions that have it by themselves.
async fn drop_key(tx: &Transaction<'_>, on: &str, name: &str) -> Result<(), Error> {
    let parts = partitions(tx, on).await?.unwrap_or_default();
    for table in std::iter::once(on.to_owned()).chain(parts) {
        if proven(tx, &table, name).await?.is_some() {
            tx.batch_execute(&format!("ALTER TABLE {table} DROP CONSTRAINT {}", ident(name))).await?;
        }
    }
    Ok(())
}

/// What became of the proof of a key.
enum Proven {
    /// It is done, with the transaction.
    Now,
    /// There is nothing to do yet, or any more.
    Nothing,
    /// There is no such key, and there should be.
    Missing,
}

/// Proves a key; once nothing is on its way any more, one that closes a circle is made and proven.
async fn prove_or_close(tx: &Transaction<'_>, on: &str, name: &str, sql: &str, drained: bool) -> Result<Proven, Error> {
    match prove_key(tx, on, name, sql).await? {
        Some(true) => return Ok(Proven::Now),
        None => return Ok(Proven::Nothing),
        Some(false) => {}
    }
    tx.batch_execute(ONE_AT_A_TIME).await?;
    if make_unless_it_closes(tx, on, name, sql).await? {
        return Ok(Proven::Missing);
    }
    if !drained {
        return Ok(Proven::Nothing);
    }
    make_key(tx, on, name, sql).await?;
    prove_key(tx, on, name, sql).await?;
    Ok(Proven::Now)
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
    /// Takes statistics of a table and of its children.
    pub(super) async fn analyse(&self, table: &Table) -> PortResult<()> {
        let error = self.error("analyse", &table.target);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
        for name in table.children.iter().map(|c| &c.target).chain([&table.target]) {
            tx.batch_execute(&format!("ANALYZE {}", qualified(name))).await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)
    }

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
            let on = one.on().map_or_else(|| name_of.clone(), qualified);
            match one {
                AfterLoad::ForeignKey { name, sql, .. } => {
                    tx.batch_execute(ONE_AT_A_TIME).await.map_err(&of_one)?;
                    if !make_unless_it_closes(&tx, &on, name, sql).await.map_err(&of_one)?
                        && !is_open(&tx, self.plan(), table).await.map_err(&of_one)?
                    {
                        // An earlier run of the plan drained with it.
                        drop_key(&tx, &on, name).await.map_err(&of_one)?;
                    }
                }
                AfterLoad::Trigger { name, sql, .. } => {
                    if !has_trigger(&tx, &on, name).await.map_err(&of_one)? {
                        let quiet = format!("{sql}\nALTER TABLE {on} DISABLE TRIGGER {}", ident(name));
                        tx.batch_execute(&quiet).await.map_err(&of_one)?;
                    }
                }
                // Made empty with the tables; it is filled when the rows of all of them are there.
                AfterLoad::MaterializedView { .. } => {}
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
            let AfterLoad::ForeignKey { name, sql, on } = one else { continue };
            let on = on.as_deref().map_or_else(|| name_of.clone(), qualified);
            let tx = client.transaction().await.map_err(&error)?;
            tx.batch_execute("SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0").await.map_err(&error)?;
            match prove_or_close(&tx, &on, name, sql, drained).await {
                Ok(Proven::Now) => tx.commit().await.map_err(&error)?,
                Ok(Proven::Missing) => {
                    return Ok(Some(format!("{} has no foreign key {name}, which its load makes", table.target)));
                }
                // What was tried goes with the transaction.
                Ok(Proven::Nothing) => {}
                Err(e) if e.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
                    return Ok(Some(format!("rows of {} have no parent, says its foreign key {name}", table.target)));
                }
                Err(e) => return Err(error(e)),
            }
        }
        Ok(None)
    }

    /// See [`crate::ports::Target::fill_views`].
    pub(super) async fn refresh_views(&self, table: &Table) -> PortResult<Vec<String>> {
        let error = self.error("fill the materialized views made with", &table.target);
        let mut client = self.client().await?;
        let mut filled = Vec::new();
        if table.after_load.is_empty() || !ours(&client, self.plan(), table).await.map_err(&error)? {
            return Ok(filled);
        }
        for one in &table.after_load {
            let AfterLoad::MaterializedView { name } = one else { continue };
            let of_one = |e: Error| self.error("refresh the materialized view", name)(e);
            let tx = client.transaction().await.map_err(&of_one)?;
            tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&of_one)?;
            let sql = qualified(name);
            tx.batch_execute(&format!("REFRESH MATERIALIZED VIEW {sql}; ANALYZE {sql}")).await.map_err(&of_one)?;
            tx.commit().await.map_err(&of_one)?;
            filled.push(name.clone());
        }
        Ok(filled)
    }
}

/// The partitions of a partitioned table that hold its rows, as SQL; `None` for a table that has none because it is no
/// partitioned one.
async fn partitions(tx: &Transaction<'_>, on: &str) -> Result<Option<Vec<String>>, Error> {
    let sql = "SELECT c.relkind = 'p', ARRAY(SELECT p.relid::regclass::text FROM pg_partition_tree(c.oid) p
                                             WHERE p.isleaf AND p.relid <> c.oid ORDER BY p.relid::oid)
               FROM pg_class c WHERE c.oid = to_regclass($1)";
    let Some(row) = tx.query_opt(sql, &[&on]).await? else { return Ok(None) };
    Ok(if row.try_get(0)? { Some(row.try_get(1)?) } else { None })
}

/// The statement of a foreign key of a partitioned table, for one of its partitions.
fn of_partition(sql: &str, partition: &str) -> String {
    let rest = sql.split_once("\n    ADD CONSTRAINT ").map_or(sql, |(_, rest)| rest);
    format!("ALTER TABLE ONLY {partition}\n    ADD CONSTRAINT {rest}")
}

/// Makes a foreign key that is not proven. A partitioned table has none of that kind: its partitions have it, until it is
/// proven for each of them.
async fn make_key(tx: &Transaction<'_>, on: &str, name: &str, sql: &str) -> Result<(), Error> {
    if proven(tx, on, name).await?.is_some() {
        return Ok(());
    }
    match partitions(tx, on).await? {
        Some(parts) if !parts.is_empty() => {
            for part in parts {
                if proven(tx, &part, name).await?.is_none() {
                    tx.batch_execute(&unproven(&of_partition(sql, &part))).await?;
                }
            }
            Ok(())
        }
        Some(_) => tx.batch_execute(sql).await,
        None => tx.batch_execute(&unproven(sql)).await,
    }
}

/// Proves a foreign key: `Some(true)` where it was done now, `None` where there is nothing to do, and `Some(false)` where
/// there is no such key. A partitioned table gets it once each partition's is proven, which reads no rows again.
async fn prove_key(tx: &Transaction<'_>, on: &str, name: &str, sql: &str) -> Result<Option<bool>, Error> {
    let validate = |on: &str| format!("ALTER TABLE {on} VALIDATE CONSTRAINT {}", ident(name));
    match proven(tx, on, name).await? {
        Some(true) => return Ok(None),
        Some(false) if says_unproven(sql) => return Ok(None),
        Some(false) => {
            tx.batch_execute(&validate(on)).await?;
            return Ok(Some(true));
        }
        None => {}
    }
    let Some(parts) = partitions(tx, on).await? else { return Ok(Some(false)) };
    let mut has = parts.is_empty();
    for part in parts {
        let is = proven(tx, &part, name).await?;
        has |= is.is_some();
        if is == Some(false) {
            tx.batch_execute(&validate(&part)).await?;
        }
    }
    if has {
        tx.batch_execute(sql).await?;
    }
    Ok(Some(has))
}

/// Lets the triggers fire that were made disabled: customers are let in.
pub(super) async fn wake(tx: &Transaction<'_>, plan: &str, tables: &[Table]) -> Result<(), Error> {
    each_trigger(tx, plan, tables, true).await
}

/// Whether the table is the plan's and customers are not in it.
const QUIETED: &str = "SELECT EXISTS (SELECT FROM cutover.plan_table WHERE plan = $1 AND table_id = $2
                                       AND (opened IS NULL OR rolled_back IS NOT NULL))";

/// Whether a run that claims the table keeps its triggers from firing: this plan made it, and customers are not in it.
pub(super) async fn is_quieted(client: &impl Ask, plan: &str, table: &Table) -> Result<bool, Error> {
    // Before the first run there is no bookkeeping.
    if !owner::known(client).await? {
        return Ok(false);
    }
    let asked = client.ask_one(QUIETED, &[&plan, &table.id]).await?;
    Ok(asked.map_or(Ok(false), |row| row.try_get(0))? && ours(client, plan, table).await?)
}

/// Keeps them from firing again: a later run loads tables that an earlier one made and opened to customers.
pub(super) async fn quiet(tx: &Transaction<'_>, plan: &str, tables: &[Table]) -> Result<(), Error> {
    for table in tables.iter().filter(|table| !table.after_load.is_empty()) {
        if tx.query_one(QUIETED, &[&plan, &table.id]).await?.try_get(0)? {
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
            let AfterLoad::Trigger { name, fires: as_source, on, .. } = one else { continue };
            let on = on.as_deref().map_or_else(|| name_of.clone(), qualified);
            if !has_trigger(tx, &on, name).await? {
                continue;
            }
            let how = if fires { as_source.sql() } else { "DISABLE" };
            tx.batch_execute(&format!("ALTER TABLE {on} {how} TRIGGER {}", ident(name))).await?;
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
        let part = "ALTER TABLE ONLY a.b_1\n    ADD CONSTRAINT c FOREIGN KEY (d) REFERENCES a.e(f)";
        assert_eq!(of_partition(&sql.replace("ONLY ", ""), "a.b_1"), part);
    }
}
