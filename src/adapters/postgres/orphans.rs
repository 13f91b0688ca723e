//! Rows whose parent is not there. Asked of the data itself: a reference may be unenforced, deferred or not valid.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::connect::Object;
use super::names::{ident, qualified};
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::Orphans;

/// A reference to be checked.
struct Reference<'t> {
    table: &'t str,
    /// Columns that name a row of `table`.
    key: Vec<&'t str>,
    columns: Vec<&'t str>,
    parent: &'t str,
    parent_key: Vec<&'t str>,
}

/// See [`crate::ports::Target::orphans`].
pub(super) async fn look(
    mut client: Object,
    table: &Table,
    tables: &[Table],
    limit: u32,
) -> Result<Vec<Orphans>, Error> {
    let foreign = table.foreign_keys.iter().filter_map(|fk| {
        let parent = tables.iter().find(|t| t.id == fk.references)?;
        Some(Reference {
            table: &table.target,
            key: table.key_columns().collect(),
            columns: fk.columns.iter().map(String::as_str).collect(),
            parent: &parent.target,
            parent_key: parent.key_columns().collect(),
        })
    });
    let children = table.children.iter().map(|child| Reference {
        table: &child.target,
        key: child.columns.iter().filter(|c| c.key).map(|c| c.name.as_str()).collect(),
        columns: child.parent_key.iter().map(String::as_str).collect(),
        parent: &table.target,
        parent_key: table.key_columns().collect(),
    });
    let tx = client.build_transaction().read_only(true).start().await?;
    tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let mut found = Vec::new();
    for reference in foreign.chain(children).filter(|r| !r.columns.is_empty() && r.columns.len() == r.parent_key.len())
    {
        found.push(one(&tx, &reference, limit).await?);
    }
    Ok(found)
}

async fn one(client: &Transaction<'_>, r: &Reference<'_>, limit: u32) -> Result<Orphans, Error> {
    let on: Vec<String> =
        r.columns.iter().zip(&r.parent_key).map(|(c, k)| format!("p.{} = t.{}", ident(k), ident(c))).collect();
    // A reference with a part that is NULL refers to nothing.
    let refers: Vec<String> = r.columns.iter().map(|c| format!("t.{} IS NOT NULL", ident(c))).collect();
    let orphaned = format!(
        "FROM {} t WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})",
        qualified(r.table),
        refers.join(" AND "),
        qualified(r.parent),
        on.join(" AND ")
    );
    let count: i64 = client.query_one(&format!("SELECT count(*) {orphaned}"), &[]).await?.try_get(0)?;
    let mut keys = Vec::new();
    if count > 0 && limit > 0 {
        let parts: Vec<String> =
            r.key.iter().chain(&r.columns).take(r.key.len().max(1)).map(|c| format!("t.{}::text", ident(c))).collect();
        let key = format!("concat_ws('|', {})", parts.join(", "));
        let sql = format!("SELECT {key} {orphaned} ORDER BY 1 LIMIT $1");
        for row in client.query(&sql, &[&i64::from(limit)]).await? {
            keys.push(Key(row.try_get(0)?));
        }
    }
    Ok(Orphans {
        table: r.table.to_owned(),
        parent: r.parent.to_owned(),
        columns: r.columns.iter().map(|c| (*c).to_owned()).collect(),
        rows: u64::try_from(count).unwrap_or(0),
        keys,
    })
}
