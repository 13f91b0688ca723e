//! A table as it stands in the target, compared with the plan.

use tokio_postgres::Error;

use super::connect::Object;
use super::names::qualified;
use super::owner::{self, Of};
use super::{after_load, indexes as set_aside};
use crate::domain::plan::{AfterLoad, ChildTable, Column, ColumnSource, ColumnType, Fallback, Table};
use crate::ports::TargetTable;

struct ColumnInfo {
    name: String,
    ty: String,
    required: bool,
    not_null: bool,
    generated: bool,
    /// Whether the server alone gives its values: an identity `GENERATED ALWAYS`.
    always: bool,
}

/// Columns in order, and the primary key in its own order. `None` when there is no such table.
async fn look(client: &Object, name: &str) -> Result<Option<(Vec<ColumnInfo>, Vec<String>)>, Error> {
    let name = qualified(name);
    let statement = client.prepare_cached("SELECT to_regclass($1)::oid").await?;
    let Some(oid) = client.query_one(&statement, &[&name]).await?.try_get::<_, Option<u32>>(0)? else {
        return Ok(None);
    };
    let statement = client
        .prepare_cached(
            "SELECT attname::text, format_type(atttypid, atttypmod),
                    attnotnull AND NOT atthasdef AND attidentity = '', attgenerated <> '', attnotnull,
                    attidentity = 'a'
             FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        )
        .await?;
    let columns = client
        .query(&statement, &[&oid])
        .await?
        .iter()
        .map(|row| {
            Ok(ColumnInfo {
                name: row.try_get(0)?,
                ty: row.try_get(1)?,
                required: row.try_get(2)?,
                generated: row.try_get(3)?,
                not_null: row.try_get(4)?,
                always: row.try_get(5)?,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let statement = client
        .prepare_cached(
            "SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, n), pg_attribute a
             WHERE i.indrelid = $1 AND i.indisprimary AND k.n <= i.indnkeyatts
               AND a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.n",
        )
        .await?;
    let key =
        client.query(&statement, &[&oid]).await?.iter().map(|r| r.try_get(0)).collect::<Result<Vec<_>, Error>>()?;
    Ok(Some((columns, key)))
}

/// Whether a table is there.
pub(super) async fn exists(client: &Object, name: &str) -> Result<bool, Error> {
    let statement = client.prepare_cached("SELECT to_regclass($1) IS NOT NULL").await?;
    client.query_one(&statement, &[&qualified(name)]).await?.try_get(0)
}

/// See [`crate::ports::Target::describe`].
pub(super) async fn describe(client: &Object, plan: &str, table: &Table) -> Result<TargetTable, Error> {
    let (mut problems, mut notices) = (Vec::new(), Vec::new());
    let main = look(client, &table.target).await?;
    match &main {
        None => problems.push(missing(&table.target, table.ddl.is_some())),
        Some((columns, key)) => {
            compare(&table.target, &table.columns, columns, &mut problems);
            updated(&table.target, &table.columns, columns, &mut problems);
            let of = Of { plan, table: &table.id };
            if key.is_empty() && owner::known(client).await? && set_aside::key_is_aside(client, of).await? {
                notices.push(format!(
                    "{}: its key is set aside since a load that never ended; it is built when a run empties the table or its \
                     load ends, and by `cutover release`",
                    table.target
                ));
            } else {
                compare_key(table, key, &mut problems);
            }
            nullable(&table.target, &table.columns, columns, &mut notices);
            super::native::describe(client, &table.target, &table.columns, &mut problems).await?;
        }
    }
    for child in &table.children {
        match look(client, &child.target).await? {
            None => problems.push(missing(&child.target, table.ddl.is_some())),
            Some((columns, key)) => {
                compare(&child.target, &child.columns, &columns, &mut problems);
                compare_child_key(child, &key, &mut notices);
                nullable(&child.target, &child.columns, &columns, &mut notices);
            }
        }
    }
    for name in table.children.iter().map(|c| &c.target).chain([&table.target]) {
        super::kinds::describe(client, name, &mut problems, &mut notices).await?;
        indexes(client, name, &mut problems).await?;
        triggers(client, (plan, table), name, &mut problems, &mut notices).await?;
    }
    super::collations::describe(client, table, &mut problems).await?;
    super::references::describe(client, table, &mut problems, &mut notices).await?;
    references(client, table, &mut notices).await?;
    let natives: Vec<&str> = table.columns.iter().filter(|c| c.ty.is_native()).map(|c| c.name.as_str()).collect();
    let types = super::native::types(client, &table.target, &natives).await?;
    Ok(match main {
        None => TargetTable { problems, ..TargetTable::default() },
        Some((columns, key)) => TargetTable {
            unfinished: false,
            exists: true,
            columns: columns.into_iter().map(|c| (c.name, c.ty)).collect(),
            types,
            key,
            problems,
            notices,
            index_keys: Vec::new(),
        },
    })
}

fn missing(name: &str, ddl: bool) -> String {
    if ddl {
        format!("table {name} is not there yet; its DDL will create it")
    } else {
        format!("table {name} is not there; create it, or give its DDL in the table's section")
    }
}

/// Indexes that are not kept or not used: a build that failed leaves them behind.
async fn indexes(client: &Object, name: &str, problems: &mut Vec<String>) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "SELECT indexrelid::regclass::text FROM pg_index
             WHERE indrelid = to_regclass($1) AND NOT (indisvalid AND indisready) ORDER BY 1",
        )
        .await?;
    for row in client.query(&statement, &[&qualified(name)]).await? {
        let index: String = row.try_get(0)?;
        problems.push(format!("{name}: the index {index} is not valid; REINDEX it or drop it"));
    }
    Ok(())
}

/// Triggers of the target's own that fire on rows we write: they may change, refuse or swallow rows and write others,
/// and none of that can be seen from outside. Refused unless the plan allows them by name.
async fn triggers(
    client: &Object,
    (plan, table): (&str, &Table),
    name: &str,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let made = |trigger: &str| {
        table.after_load.iter().any(|made| matches!(made, AfterLoad::Trigger { name, .. } if name == trigger))
    };
    let statement = client
        .prepare_cached(
            "SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal
             AND tgenabled IN ('O', 'A') AND tgname NOT LIKE 'cutover%' ORDER BY 1",
        )
        .await?;
    for row in client.query(&statement, &[&qualified(name)]).await? {
        let trigger: String = row.try_get(0)?;
        if table.triggers.contains(&trigger) {
            notices.push(format!(
                "{name}: the trigger {trigger} fires on rows that are loaded or followed, as the plan says"
            ));
            continue;
        }
        // An earlier run let it fire when it let customers in.
        if made(&trigger) && after_load::is_quieted(client, plan, table).await? {
            notices.push(format!(
                "{name}: the trigger {trigger} fires; it is disabled until the thaw when a run claims the table"
            ));
            continue;
        }
        problems.push(format!(
            "{name}: the trigger {trigger} would fire on every row that is loaded or followed, and may change rows here or \
             elsewhere; disable it until the thaw, or name it in the table's `triggers` if it may"
        ));
    }
    Ok(())
}

/// References of the plan that no valid constraint of the target enforces.
async fn references(client: &Object, table: &Table, notices: &mut Vec<String>) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "SELECT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = to_regclass($1) AND c.contype = 'f'
             AND c.convalidated AND ARRAY(SELECT a.attname::text FROM unnest(c.conkey) k
                JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k ORDER BY 1)
             = ARRAY(SELECT unnest($2::text[]) ORDER BY 1))",
        )
        .await?;
    let own = table.foreign_keys.iter().map(|fk| (&table.target, &fk.columns));
    for (name, columns) in own.chain(table.children.iter().map(|c| (&c.target, &c.parent_key))) {
        if !client.query_one(&statement, &[&qualified(name), columns]).await?.try_get::<_, bool>(0)? {
            notices.push(format!(
                "{name} ({}): no valid foreign key enforces this reference; the comparison looks for orphans",
                columns.join(", ")
            ));
        }
    }
    Ok(())
}

/// Columns that must not be null although the plan writes NULL for an absent attribute: such rows will be parked.
fn nullable(name: &str, planned: &[Column], found: &[ColumnInfo], notices: &mut Vec<String>) {
    for column in planned.iter().filter(|c| !c.key && c.absent == Fallback::Null) {
        // A child's place and its parent's key are always there.
        if matches!(column.from, ColumnSource::Ordinal | ColumnSource::Parent(_)) {
            continue;
        }
        if found.iter().any(|f| f.name == column.name && f.not_null) {
            notices.push(format!(
                "{name}.{} must not be null: rows without the attribute will be parked; give it a default or mark it \
                 required",
                column.name
            ));
        }
    }
}

fn compare_key(table: &Table, key: &[String], problems: &mut Vec<String>) {
    let mut wanted: Vec<&str> = table.key_columns().collect();
    let mut found: Vec<&str> = key.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    if found.is_empty() {
        problems.push(format!("{} has no primary key; add one on ({})", table.target, wanted.join(", ")));
    } else if found != wanted {
        problems.push(format!(
            "{} has the primary key ({}), the plan says ({}); correct the mapping's key columns",
            table.target,
            found.join(", "),
            wanted.join(", ")
        ));
    }
}

/// A child row is identified by its parent's key and its own.
fn compare_child_key(child: &ChildTable, key: &[String], notices: &mut Vec<String>) {
    let own = child.columns.iter().filter(|c| c.key).map(|c| &c.name);
    let mut wanted: Vec<&String> = child.parent_key.iter().chain(own).collect();
    let mut found: Vec<&String> = key.iter().collect();
    wanted.sort_unstable();
    wanted.dedup();
    found.sort_unstable();
    if wanted.len() > child.parent_key.len() && found != wanted {
        let shown = |all: &[&String]| all.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
        let has = if found.is_empty() { "no primary key".to_owned() } else { format!("the key ({})", shown(&found)) };
        notices.push(format!("{} has {has}, the plan says ({}); make them the same", child.target, shown(&wanted)));
    }
}

fn compare(name: &str, planned: &[Column], found: &[ColumnInfo], problems: &mut Vec<String>) {
    for column in planned {
        match found.iter().find(|f| f.name == column.name) {
            None => problems.push(format!("{name} has no column {}; add it or correct the mapping", column.name)),
            Some(f) if f.generated => problems.push(format!(
                "{name}.{} is generated by the server and cannot be written; take it out of the mapping",
                column.name
            )),
            Some(f) if !fits(column.ty, &f.ty) => problems.push(format!(
                "{name}.{} is {}, the plan says {}; make them the same",
                column.name,
                f.ty,
                column.ty.sql()
            )),
            Some(_) => {}
        }
    }
    for f in found.iter().filter(|f| f.required && !f.generated) {
        if !planned.iter().any(|c| c.name == f.name) {
            problems.push(format!(
                "{name}.{} must not be null, has no default and no mapping; map it or give it a default",
                f.name
            ));
        }
    }
}

/// Identity columns that take a value in a new row and never in an existing one: a change of such a value could not be
/// applied. A key does not change.
fn updated(name: &str, planned: &[Column], found: &[ColumnInfo], problems: &mut Vec<String>) {
    for column in planned.iter().filter(|c| !c.key) {
        if found.iter().any(|f| f.name == column.name && f.always) {
            problems.push(format!(
                "{name}.{0} is GENERATED ALWAYS AS IDENTITY, so changes of it are refused; ALTER TABLE ... ALTER COLUMN \
                 {0} SET GENERATED BY DEFAULT, or take it out of the mapping",
                column.name
            ));
        }
    }
}

/// Whether every value of the planned type can be stored unchanged, in the same wire format.
fn fits(planned: ColumnType, found: &str) -> bool {
    use ColumnType as T;
    let limit = |prefix: &str| -> Option<Vec<i64>> {
        let inside = found.strip_prefix(prefix)?.strip_prefix('(')?.strip_suffix(')')?;
        inside.split(',').map(|n| n.trim().parse().ok()).collect()
    };
    match planned {
        T::Text => matches!(found, "text" | "character varying"),
        T::Varchar(n) => {
            matches!(found, "text" | "character varying")
                || limit("character varying").is_some_and(|l| l.first().is_some_and(|m| *m >= i64::from(n)))
        }
        T::Numeric(None) => found == "numeric",
        T::Numeric(Some((p, s))) => {
            found == "numeric"
                || limit("numeric").is_some_and(|l| {
                    let (fp, fs) = (l.first().copied().unwrap_or(0), l.get(1).copied().unwrap_or(0));
                    fs >= i64::from(s) && fp - fs >= i64::from(p) - i64::from(s)
                })
        }
        T::Timestamptz => found == "timestamp with time zone",
        // The database compares names: one type has several.
        T::Native(_) => true,
        other => found == other.sql(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_fits_when_nothing_is_cut_or_rounded() {
        use ColumnType as T;
        for (planned, found) in [
            (T::Text, "text"),
            (T::Varchar(20), "character varying(20)"),
            (T::Varchar(20), "character varying(255)"),
            (T::Varchar(20), "text"),
            (T::Numeric(Some((10, 2))), "numeric(10,2)"),
            (T::Numeric(Some((10, 2))), "numeric(12,4)"),
            (T::Numeric(None), "numeric"),
            (T::Timestamptz, "timestamp with time zone"),
            (T::TextArray, "text[]"),
            (T::Double, "double precision"),
        ] {
            assert!(fits(planned, found), "{planned:?} {found}");
        }
        for (planned, found) in [
            (T::Text, "character varying(255)"),
            (T::Varchar(20), "character varying(10)"),
            (T::Numeric(Some((10, 2))), "numeric(10,4)"),
            (T::Numeric(Some((10, 2))), "numeric(10,1)"),
            (T::Numeric(None), "numeric(10,2)"),
            (T::Integer, "bigint"),
            (T::Timestamptz, "timestamp without time zone"),
            (T::Timestamptz, "timestamp(0) with time zone"),
            (T::Jsonb, "json"),
            // These hold different texts equal, or change them.
            (T::Text, "citext"),
            (T::Text, "character(10)"),
            (T::Varchar(10), "character(10)"),
            (T::Text, "name"),
            (T::Text, "a_domain"),
        ] {
            assert!(!fits(planned, found), "{planned:?} {found}");
        }
    }
}
