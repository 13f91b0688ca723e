//! What a database has where tables are to be restored.

use std::collections::BTreeSet;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::trouble;
use crate::domain::plan::shell_word;
use crate::ports::{FoundTable, HeldTable, PortResult};

/// The table's kind, and whether it takes rows.
const KIND: &str = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)";

/// Columns with their types, and whether the server makes their values.
const COLUMNS: &str = "
SELECT attname::text, format_type(atttypid, atttypmod), attgenerated <> '' FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";

/// Triggers of the table and its partitions that would fire, those that come from the table's own last; whether one is a
/// capture of ours.
const TRIGGERS: &str = "
SELECT g.tgrelid::regclass::text, g.tgname::text, g.tgenabled::text, n.nspname = 'cutover'
FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_namespace n ON n.oid = f.pronamespace
WHERE NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
  AND g.tgrelid IN (SELECT to_regclass($1) UNION SELECT relid FROM pg_partition_tree(to_regclass($1)))
ORDER BY g.tgparentid <> 0, 1, 2";

/// The plan that the table belongs to. Only where a run has begun.
const PLAN: &str = "
SELECT p.plan FROM cutover.plan_table p, unnest(p.targets) target
WHERE to_regclass(target) = to_regclass($1) AND p.ended IS NULL ORDER BY p.since LIMIT 1";

/// Which of the tables `$1` refer to which others of them.
const REFERENCES: &str = "
SELECT DISTINCT child.place::int, parent.place::int
FROM unnest($1::text[]) WITH ORDINALITY child(sql, place) CROSS JOIN unnest($1::text[]) WITH ORDINALITY parent(sql, place)
JOIN pg_constraint c ON coalesce(pg_partition_root(c.conrelid), c.conrelid) = to_regclass(child.sql)
    AND coalesce(pg_partition_root(c.confrelid), c.confrelid) = to_regclass(parent.sql)
WHERE c.contype = 'f' AND child.place <> parent.place";

/// A trigger that does not fire while rows are restored.
pub(super) struct Trigger {
    table: String,
    name: String,
    always: bool,
}

impl Trigger {
    /// What lets it fire again as before.
    pub fn enabled(&self) -> String {
        let how = if self.always { "ENABLE ALWAYS" } else { "ENABLE" };
        format!("ALTER TABLE ONLY {} {how} TRIGGER {}", self.table, ident(&self.name))
    }

    fn disabled(&self) -> String {
        format!("ALTER TABLE ONLY {} DISABLE TRIGGER {}", self.table, ident(&self.name))
    }
}

/// Whether there is a table, or anything else, of this name.
pub(super) async fn exists(client: &ClientWrapper, name: &str) -> Result<bool, Error> {
    client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&qualified(name)]).await?.try_get(0)
}

/// Looks at one table. One that is there is locked against writers, and its triggers are quiet until the end.
pub(super) async fn at(client: &ClientWrapper, table: &HeldTable) -> PortResult<(FoundTable, Vec<Trigger>)> {
    let error = |e: Error| trouble::error(&e, super::TRIED, &table.name);
    let sql = qualified(&table.name);
    let mut found = FoundTable { id: table.id.clone(), ..FoundTable::default() };
    let Some(kind) = client.query_opt(KIND, &[&sql]).await.map_err(error)? else {
        if table.ddl.is_none() {
            found.notices.push(
                "it is made with its columns and its key alone: the export holds no defaults, constraints and indexes of it"
                    .to_owned(),
            );
        }
        return Ok((found, Vec::new()));
    };
    found.exists = true;
    let elsewhere = || "restore it under another name (--as), or into another store".to_owned();
    if !matches!(kind.try_get::<_, String>(0).map_err(error)?.as_str(), "r" | "p") {
        found.problems.push(("what has its name is no table that takes rows".to_owned(), elsewhere()));
        return Ok((found, Vec::new()));
    }
    client.batch_execute(&format!("LOCK TABLE {sql} IN EXCLUSIVE MODE")).await.map_err(error)?;
    let holds = client.query_one(&format!("SELECT EXISTS (SELECT FROM {sql})"), &[]).await;
    found.holds = holds.and_then(|row| row.try_get(0)).map_err(error)?;
    columns(client, &sql, table, &mut found).await.map_err(error)?;
    let begun = client.query_one("SELECT to_regclass('cutover.plan_table') IS NOT NULL", &[]).await;
    if begun.and_then(|row| row.try_get(0)).map_err(error)?
        && let Some(row) = client.query_opt(PLAN, &[&sql]).await.map_err(error)?
    {
        let plan: String = row.try_get(0).map_err(error)?;
        let advice = format!("{}, or give it up: cutover release {}", elsewhere(), shell_word(&plan));
        found.problems.push((format!("it belongs to plan {plan}, which loads it"), advice));
    }
    let mut quiet = Vec::new();
    for row in client.query(TRIGGERS, &[&sql]).await.map_err(error)? {
        let state: String = row.try_get(2).map_err(error)?;
        let (table, name) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        quiet.push(Trigger { table, name, always: state == "A" });
    }
    if found.problems.is_empty() && !found.holds {
        for trigger in &quiet {
            client.batch_execute(&trigger.disabled()).await.map_err(error)?;
        }
    } else {
        quiet.clear();
    }
    Ok((found, quiet))
}

/// Whether the table takes every column of the export.
async fn columns(client: &ClientWrapper, sql: &str, table: &HeldTable, found: &mut FoundTable) -> Result<(), Error> {
    let mut has = Vec::new();
    for row in client.query(COLUMNS, &[&sql]).await? {
        has.push((row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?, row.try_get::<_, bool>(2)?));
    }
    let advice =
        || "make the table as it was where the export comes from, or restore under another name (--as)".to_owned();
    for (name, ty) in &table.columns {
        match has.iter().find(|(own, ..)| own == name) {
            None => found.problems.push((format!("it has no column {name}"), advice())),
            Some((.., true)) => found.problems.push((format!("its column {name} is generated"), advice())),
            Some((_, own, _)) if own != ty => {
                found
                    .notices
                    .push(format!("its column {name} is {own}, and was {ty}: what it makes of it is read back"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What was found, parents before the tables that refer to them. Where tables refer to each other in a circle the server
/// has the last word.
pub(super) async fn parents_first(
    client: &ClientWrapper,
    tables: &[HeldTable],
    found: Vec<FoundTable>,
) -> PortResult<Vec<FoundTable>> {
    let names: Vec<String> = tables.iter().map(|table| qualified(&table.name)).collect();
    let error = |e: Error| trouble::error(&e, super::TRIED, "its tables");
    let mut refers = BTreeSet::new();
    for row in client.query(REFERENCES, &[&names]).await.map_err(error)? {
        let (child, parent): (i32, i32) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        refers.insert((child, parent));
    }
    let mut left: Vec<(i32, FoundTable)> = (1..).zip(found).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let free = |(n, _): &(i32, FoundTable)| left.iter().all(|(other, _)| !refers.contains(&(*n, *other)));
        let next = left.iter().position(free).unwrap_or(0);
        order.push(left.remove(next).1);
    }
    Ok(order)
}
