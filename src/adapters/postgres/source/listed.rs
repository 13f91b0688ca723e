//! The tables of a database, for those that move by rule.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tokio_postgres::{Error, Transaction};

use super::{PgSource, catalogue, fit};
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::dump::{self, Chosen};
use crate::adapters::postgres::settings::PgSettings;
use crate::adapters::postgres::trouble;
use crate::domain::plan::{Column, ColumnSource, Declared, Fallback, Listed, ListedTable, Table};
use crate::ports::{Catalogue, ErrorKind, PortError, PortResult};

/// Everything that holds rows: tables, partitioned ones and foreign ones, with their kind; of a partition the table it is
/// part of. What belongs to the server, to an extension, to us or to one session is left out.
const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cutover') AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname";

/// Columns of the tables `$1`: what a row has of its own, with its type, its place in the primary key, whether it must be
/// there, and whether only the server gives its values.
const COLUMNS: &str = "
SELECT a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod),
       array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum), a.attnotnull, a.attidentity = 'a'
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attrelid, a.attnum";

/// Foreign keys of the tables `$1` and of their partitions: the table, its columns, and the table they refer to. What a
/// partition refers to its table refers to, and whoever refers to a partition refers to its table.
const REFERENCES: &str = "
SELECT DISTINCT coalesce(pg_partition_root(c.conrelid)::oid, c.conrelid), ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, place)
                         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.place),
       n.nspname::text, t.relname::text
FROM pg_constraint c JOIN pg_class t ON t.oid = coalesce(pg_partition_root(c.confrelid)::oid, c.confrelid)
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE c.contype = 'f' AND c.conparentid = 0 AND coalesce(pg_partition_root(c.conrelid)::oid, c.conrelid) = ANY ($1)
ORDER BY 1, 3, 4, 2";

/// What changes what a statement of ours does at the tables `$1` and their partitions: row level security that their owner
/// is under as well, and rules.
const REWRITES: &str = "
SELECT coalesce(pg_partition_root(c.oid)::oid, c.oid), c.relrowsecurity AND c.relforcerowsecurity,
       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid)
FROM pg_class c WHERE coalesce(pg_partition_root(c.oid)::oid, c.oid) = ANY ($1) AND c.relkind IN ('r', 'p')";

/// A table of the catalogue.
struct Found {
    oid: u32,
    schema: String,
    name: String,
    kind: String,
    /// Of a partition, the table it is part of, whatever is in between.
    root: Option<u32>,
}

impl Found {
    fn whole(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// The names of all tables, with their schema. Partitions are parts of theirs.
pub(in crate::adapters::postgres) async fn names(client: &Object) -> Result<Vec<String>, Error> {
    Ok(found(client).await?.iter().filter(|found| found.root.is_none()).map(Found::whole).collect())
}

async fn found(client: &Object) -> Result<Vec<Found>, Error> {
    let each = |row: &tokio_postgres::Row| {
        let (oid, schema, name) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Found { oid, schema, name, kind: row.try_get(3)?, root: row.try_get(4)? })
    };
    client.query(TABLES, &[]).await?.iter().map(each).collect()
}

/// A database whose tables are listed.
pub struct PgCatalogue {
    source: PgSource,
    settings: PgSettings,
}

impl PgCatalogue {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// Settings that name no server.
    pub fn new(settings: &PgSettings) -> PortResult<Self> {
        Ok(Self { source: PgSource::new(settings, String::new())?, settings: settings.clone() })
    }
}

#[async_trait]
impl Catalogue for PgCatalogue {
    async fn names(&self) -> PortResult<Vec<String>> {
        let client = self.source.client().await?;
        names(&client).await.map_err(|e| trouble::error(&e, "list the tables of", &self.source.place))
    }

    async fn listed(&self, names: Vec<String>, wanted: &[String], made: bool) -> PortResult<Listed> {
        let error = |e: Error| trouble::error(&e, "list the tables of", &self.source.place);
        let mut client = self.source.client().await?;
        let all = found(&client).await.map_err(error)?;
        let wanted: BTreeSet<&String> = wanted.iter().collect();
        let (chosen, others): (Vec<&Found>, Vec<&Found>) =
            all.iter().partition(|t| t.root.is_none() && wanted.contains(&t.whole()));
        let (parts, others): (Vec<&Found>, Vec<&Found>) =
            others.into_iter().partition(|t| chosen.iter().any(|table| t.root == Some(table.oid)));
        let parts_of = |table: u32| parts.iter().filter(move |part| part.root == Some(table));
        let mut tables = described(&mut client, &chosen).await.map_err(error)?;
        for (table, found) in tables.iter_mut().zip(&chosen) {
            table.partitions = parts_of(found.oid).map(|part| part.whole()).collect();
        }
        for (table, found) in tables.iter_mut().zip(&chosen) {
            unfit(&client, table, found).await?;
        }
        if made {
            for table in &mut tables {
                let beyond: BTreeSet<&String> =
                    table.references.iter().map(|(_, to)| to).filter(|to| !wanted.contains(to)).collect();
                let beyond: Vec<String> = beyond.into_iter().cloned().collect();
                for parent in beyond {
                    let why = format!("a foreign key of it refers to {parent}, which does not move by rule");
                    let advice = format!("include {parent}, or make the tables yourself and write ddl = \"none\"");
                    table.unfit.push((why, advice));
                }
            }
        }
        let mut left_out = Vec::new();
        if made && tables.iter().all(|t| t.unfit.is_empty()) && !tables.is_empty() {
            let of = |t: &&Found| {
                let partitions = parts_of(t.oid).map(|part| part.oid).collect();
                Chosen { oid: t.oid, schema: t.schema.clone(), name: t.name.clone(), partitions }
            };
            let others: Vec<Chosen> = others.iter().map(of).collect();
            let chosen: Vec<Chosen> = chosen.iter().map(of).collect();
            tables = parents_first(tables);
            let order: Vec<&Chosen> = tables
                .iter()
                .filter_map(|t| chosen.iter().find(|c| format!("{}.{}", c.schema, c.name) == t.name))
                .collect();
            let parts = dump::of(&client, &self.settings, &order, &others).await?;
            for (table, part) in tables.iter_mut().zip(parts.tables) {
                table.ddl = Some(part.ddl);
                table.after_load = part.after_load;
                table.unfit.extend(part.unfit);
            }
            left_out = parts.left_out;
        } else {
            tables = parents_first(tables);
        }
        Ok(Listed { names, tables, left_out })
    }
}

async fn described(client: &mut Object, chosen: &[&Found]) -> Result<Vec<ListedTable>, Error> {
    let tx = client.build_transaction().read_only(true).start().await?;
    // Types of the database's own are written with their schema then.
    tx.batch_execute("SET LOCAL search_path = ''").await?;
    let oids: Vec<u32> = chosen.iter().map(|t| t.oid).collect();
    let mut tables: BTreeMap<u32, ListedTable> =
        chosen.iter().map(|t| (t.oid, ListedTable { name: t.whole(), ..ListedTable::default() })).collect();
    columns(&tx, &oids, &mut tables).await?;
    for row in tx.query(REFERENCES, &[&oids]).await? {
        let (schema, name): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        if let Some(table) = tables.get_mut(&row.try_get(0)?) {
            table.references.push((row.try_get(1)?, format!("{schema}.{name}")));
        }
    }
    for row in tx.query(REWRITES, &[&oids]).await? {
        let Some(table) = tables.get_mut(&row.try_get(0)?) else { continue };
        if row.try_get(1)? {
            let advice = "ALTER TABLE ... NO FORCE ROW LEVEL SECURITY";
            table.unfit.push(("row level security is forced on its owner too".to_owned(), advice.to_owned()));
        }
        if row.try_get(2)? {
            let advice = "take them away, or make the table on the new side by hand";
            table.unfit.push(("rules rewrite what is written to it".to_owned(), advice.to_owned()));
        }
    }
    tx.commit().await?;
    Ok(chosen.iter().filter_map(|t| tables.remove(&t.oid)).collect())
}

async fn columns(tx: &Transaction<'_>, oids: &[u32], tables: &mut BTreeMap<u32, ListedTable>) -> Result<(), Error> {
    for row in tx.query(COLUMNS, &[&oids]).await? {
        let (oid, name, written): (u32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (place, required, always): (Option<i32>, bool, bool) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        let Some(table) = tables.get_mut(&oid) else { continue };
        if always && place.is_none() {
            let why =
                format!("the values of {name} are given by the server alone, so changes of them cannot be applied");
            let advice = format!("ALTER TABLE ... ALTER COLUMN {name} SET GENERATED BY DEFAULT");
            table.unfit.push((why, advice));
        }
        // In the order of the columns, in which everything here names a key.
        if place.is_some() {
            table.key.push(name.clone());
        }
        table.columns.push(Column {
            ty: catalogue::by_rule(&written),
            from: ColumnSource::Attribute(vec![name.clone()]),
            absent: if required { Fallback::Required } else { Fallback::Null },
            key: place.is_some(),
            declared: Declared::default(),
            name,
        });
    }
    Ok(())
}

/// What keeps the changes of a table from being followed, as the source says it for one that stands in a config by hand.
async fn unfit(client: &Object, table: &mut ListedTable, found: &Found) -> PortResult<()> {
    if found.kind == "f" {
        let advice = "move it in the store that has its rows".to_owned();
        table.unfit.push(("it is a foreign table: its rows are elsewhere".to_owned(), advice));
        return Ok(());
    }
    if [&found.schema, &found.name].iter().any(|part| part.contains(['.', '"', '*', '?'])) {
        let advice = "rename it".to_owned();
        table.unfit.push(("its name holds a dot, a quote or a sign of a pattern".to_owned(), advice));
        return Ok(());
    }
    match fit::table(client, &Table::watched(&table.name, &table.name)).await {
        Ok(()) => Ok(()),
        Err(PortError { kind: ErrorKind::Invalid | ErrorKind::NotFound, came_back, advice, .. }) => {
            table.unfit.push((came_back, advice));
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// Tables in an order in which each comes after those it refers to, as far as they do not refer to each other in a circle;
/// by name otherwise.
fn parents_first(mut tables: Vec<ListedTable>) -> Vec<ListedTable> {
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out: Vec<ListedTable> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let waits = |t: &ListedTable| {
            t.references.iter().any(|(_, parent)| *parent != t.name && tables.iter().any(|other| other.name == *parent))
        };
        let next = tables.iter().position(|t| !waits(t)).unwrap_or(0);
        out.push(tables.remove(next));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_after_those_it_refers_to_and_a_circle_ends_somewhere() {
        let table = |name: &str, parents: &[&str]| ListedTable {
            name: name.into(),
            references: parents.iter().map(|p| (vec![], (*p).to_owned())).collect(),
            ..ListedTable::default()
        };
        let order =
            |tables: Vec<ListedTable>| -> Vec<String> { parents_first(tables).into_iter().map(|t| t.name).collect() };
        let tables = vec![table("a", &["c", "a"]), table("b", &[]), table("c", &["d", "elsewhere"]), table("d", &[])];
        assert_eq!(order(tables), ["b", "d", "c", "a"]);
        let circle = vec![table("x", &["y"]), table("y", &["x"]), table("z", &["x"])];
        assert_eq!(order(circle), ["x", "y", "z"]);
    }
}
