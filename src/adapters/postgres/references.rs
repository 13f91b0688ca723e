//! Foreign keys of the target that act on other rows when a row goes or its key changes, and how deletes are held back.
//!
//! A key `ON DELETE CASCADE`, `SET NULL` or `SET DEFAULT` would take rows along that the source still has, without an
//! error. So a delete first locks its rows, which waits for whoever is about to refer to them, and is then refused like
//! one that meets `NO ACTION` when any row outside the delete still refers to them. Turning the actions off for a
//! session (`session_replication_role`) would need a right few roles have, and would turn the keys themselves off with
//! them.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::connect::Object;
use super::names::qualified;
use super::shape::Shape;
use crate::domain::plan::{ColumnSource, Table};

/// Makes what raises a refusal as the server does, so that it is found row by row and parked like any other.
pub(super) const REFUSE: &str = r#"
CREATE OR REPLACE FUNCTION cutover.refuse(state text, of_table text, of_constraint text, says text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = state, MESSAGE = says, TABLE = of_table, CONSTRAINT = of_constraint;
END $$;
"#;

/// Keys to the table `$1` that act on the rows of another when a row goes. Found by its triggers, which are indexed.
/// The pairs of columns are written out as `r.column = t.column`.
const ACTING: &str = "
SELECT DISTINCT c.conname::text, c.conrelid::regclass::text, x.relname::text, c.conrelid = c.confrelid,
       (SELECT string_agg(format('r.%I = t.%I', r.attname, t.attname), ' AND ')
        FROM unnest(c.conkey, c.confkey) k(r, t)
        JOIN pg_attribute r ON r.attrelid = c.conrelid AND r.attnum = k.r
        JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attnum = k.t)
FROM pg_trigger g JOIN pg_constraint c ON c.oid = g.tgconstraint JOIN pg_class x ON x.oid = c.conrelid
WHERE g.tgrelid = to_regclass($1) AND c.confrelid = g.tgrelid AND c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
ORDER BY 1";

/// A key that acts.
struct Acting {
    name: String,
    /// The table that refers, as SQL and by its bare name.
    sql: String,
    table: String,
    /// Whether rows refer to rows of their own table.
    own: bool,
    /// When row `r` refers to row `t`.
    refers: String,
}

async fn acting(tx: &Transaction<'_>, table: &str) -> Result<Vec<Acting>, Error> {
    let statement = tx.prepare_cached(ACTING).await?;
    let rows = tx.query(&statement, &[&table]).await?;
    let each = |row: &tokio_postgres::Row| {
        let (name, sql, table) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Acting { name, sql, table, own: row.try_get(3)?, refers: row.try_get(4)? })
    };
    rows.iter().map(each).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Locks main rows that are about to go, if a key acts on others when they do.
pub(super) struct Guard(Vec<Acting>);

impl Guard {
    /// `keys` are the arrays that the shape's statements take.
    pub(super) async fn lock(tx: &Transaction<'_>, shape: &Shape, keys: &[&(dyn ToSql + Sync)]) -> Result<Self, Error> {
        let acting = acting(tx, &shape.main.sql).await?;
        if !acting.is_empty() {
            let statement = tx.prepare_cached(&format!("SELECT FROM {} FOR UPDATE OF t", shape.keyed)).await?;
            tx.query(&statement, keys).await?;
        }
        Ok(Self(acting))
    }

    /// Refuses the delete when a row that does not go with it still refers to one of its rows.
    pub(super) async fn check(
        &self,
        tx: &Transaction<'_>,
        shape: &Shape,
        keys: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Error> {
        for key in &self.0 {
            let stays = if key.own { format!("AND NOT EXISTS ({})", shape.among("r")) } else { String::new() };
            let sql = format!(
                "SELECT cutover.refuse('23503', {table}, {name}, 'rows still refer to it') \
                 FROM (SELECT FROM {keyed} JOIN {refers_from} r ON {refers} {stays} LIMIT 1) found",
                table = quoted(&key.table),
                name = quoted(&key.name),
                keyed = shape.keyed,
                refers_from = key.sql,
                refers = key.refers,
            );
            let statement = tx.prepare_cached(&sql).await?;
            tx.query(&statement, keys).await?;
        }
        Ok(())
    }
}

/// Keys that act, and have rows to act on, when every row of these tables goes: `orders (constraint name)`.
pub(super) async fn in_the_way(tx: &Transaction<'_>, tables: &[String]) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for table in tables {
        for key in acting(tx, table).await? {
            // What is emptied with it loses nothing more.
            let sql = "SELECT to_regclass($1) = ANY (SELECT to_regclass(n) FROM unnest($2::text[]) n)";
            if key.own || tx.query_one(sql, &[&key.sql, &tables]).await?.try_get::<_, bool>(0)? {
                continue;
            }
            let sql = format!("SELECT EXISTS (SELECT FROM {table} t JOIN {} r ON {})", key.sql, key.refers);
            if tx.query_one(&sql, &[]).await?.try_get::<_, bool>(0)? {
                found.push(format!("{} ({})", key.sql, key.name));
            }
        }
    }
    Ok(found)
}

/// Every key to the table `$1`, with its actions and whether it refers to columns other than those of the primary key.
const KEYS: &str = "
SELECT c.conrelid::regclass::text, c.conname::text, c.confdeltype::text, c.confupdtype::text, ARRAY(
    SELECT a.attname::text FROM unnest(c.confkey) k JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k
    WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.confrelid AND i.indisprimary AND k = ANY (i.indkey))),
    c.conrelid = ANY (SELECT to_regclass(n)::oid FROM unnest($2::text[]) n)
FROM pg_constraint c WHERE c.confrelid = to_regclass($1) AND c.contype = 'f' AND c.conparentid = 0 ORDER BY 1, 2";

/// Keys of the table `$1` that lead back to it by way of other tables: each with the table it refers to.
const CIRCLES: &str = "
WITH RECURSIVE leads(conname, first, to_table) AS (
    SELECT conname::text, confrelid, confrelid FROM pg_constraint
    WHERE conrelid = to_regclass($1) AND contype = 'f' AND confrelid <> conrelid AND conparentid = 0
    UNION SELECT leads.conname, leads.first, c.confrelid FROM leads
    JOIN pg_constraint c ON c.conrelid = leads.to_table AND c.contype = 'f')
SELECT conname, first::regclass::text FROM leads WHERE to_table = to_regclass($1)::oid ORDER BY 1";

fn action(code: &str) -> Option<&'static str> {
    match code {
        "c" => Some("CASCADE"),
        "n" => Some("SET NULL"),
        "d" => Some("SET DEFAULT"),
        _ => None,
    }
}

/// Names keys to the table and its children: those whose actions nothing could hold back are problems.
pub(super) async fn describe(
    client: &Object,
    table: &Table,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let statement = client.prepare_cached(KEYS).await?;
    let children: Vec<String> = table.children.iter().map(|c| qualified(&c.target)).collect();
    let written = |name: &str| {
        let column = table.columns.iter().find(|c| c.name == name);
        column.is_some_and(|c| !matches!(c.from, ColumnSource::Constant(_)))
    };
    for row in client.query(&statement, &[&qualified(&table.target), &children]).await? {
        let (from, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (deleted, updated) = (action(row.try_get(2)?), action(row.try_get(3)?));
        let (others, own_child): (Vec<String>, bool) = (row.try_get(4)?, row.try_get(5)?);
        if let Some(does) = updated.filter(|_| others.iter().any(|c| written(c))) {
            problems.push(format!(
                "{}: {name} of {from} refers to {} ON UPDATE {does}, and would change rows of {from} with every change \
                 that is followed; make it NO ACTION until the thaw",
                table.target,
                others.join(", ")
            ));
        }
        // Children are deleted with their parent, before it.
        if let Some(does) = deleted.filter(|_| !own_child) {
            notices.push(format!(
                "{}: {name} of {from} refers to it ON DELETE {does}: a row the source deletes while {from} still refers \
                 to it is parked, and {from} is left as it is",
                table.target
            ));
        }
    }
    let statement_of_circles = client.prepare_cached(CIRCLES).await?;
    for row in client.query(&statement_of_circles, &[&qualified(&table.target)]).await? {
        let (name, to): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        notices.push(format!(
            "{}: its key {name} to {to} is part of a circle of keys: rows of both that come or go together while changes are \
             followed wait for each other in the ledger; drop one key of the circle until the drain has ended, then make it again",
            table.target
        ));
    }
    for (child, sql) in table.children.iter().zip(&children) {
        for row in client.query(&statement, &[sql, &children]).await? {
            let (from, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(does) = action(row.try_get(2)?) {
                problems.push(format!(
                    "{}: {name} of {from} refers to it ON DELETE {does}, and its rows are written anew with every change \
                     of their parent; make it NO ACTION DEFERRABLE INITIALLY DEFERRED until the thaw",
                    child.target
                ));
            }
        }
    }
    Ok(())
}
