//! Tables as their own server's `pg_dump` writes them, each by itself.
//!
//! One dump of the schema is taken apart into its entries, whose dependencies the tool writes down. Each table gets what it
//! needs that no table before it has: schemas, types, domains, functions, sequences, the table with its partitions, its keys
//! and indexes. Foreign keys and triggers come after its rows. Views, and what else stands in the same schemas, come with the
//! last table; whatever is not made is named. Owners, privileges, tablespaces, publications, subscriptions and security labels
//! are not taken: who owns what on the new side is decided there.

mod entries;
mod split;
mod tool;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Error;

use super::connect::Object;
use super::names::ident;
use super::settings::PgSettings;
use super::trouble;
use crate::domain::plan::{AfterLoad, Fires};
use crate::ports::PortResult;

/// A table that moves, or one that does not.
pub(super) struct Chosen {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// Its partitions, on every level, by number.
    pub partitions: Vec<u32>,
}

/// What makes the tables, and what is made of nothing.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts {
    /// In the order of the tables.
    pub tables: Vec<Part>,
    /// What stands in their schemas and is not made, in words.
    pub left_out: Vec<String>,
}

/// What makes one table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Part {
    /// Before its rows.
    pub ddl: String,
    /// After them.
    pub after_load: Vec<AfterLoad>,
    /// What cannot be made, each with what to do.
    pub unfit: Vec<(String, String)>,
}

/// What belongs to the tables `$1`, by its class and number in the catalogue, and the table.
const OWNED: &str = "
SELECT 'pg_constraint'::regclass::oid, oid, conrelid FROM pg_constraint WHERE conrelid = ANY ($1)
UNION ALL SELECT 'pg_attrdef'::regclass::oid, oid, adrelid FROM pg_attrdef WHERE adrelid = ANY ($1)
UNION ALL SELECT 'pg_trigger'::regclass::oid, oid, tgrelid FROM pg_trigger WHERE tgrelid = ANY ($1)
UNION ALL SELECT 'pg_class'::regclass::oid, indexrelid, indrelid FROM pg_index WHERE indrelid = ANY ($1)
UNION ALL SELECT 'pg_statistic_ext'::regclass::oid, oid, stxrelid FROM pg_statistic_ext WHERE stxrelid = ANY ($1)
UNION ALL SELECT 'pg_policy'::regclass::oid, oid, polrelid FROM pg_policy WHERE polrelid = ANY ($1)
UNION ALL SELECT d.classid, d.objid, d.refobjid FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
          WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1)
            AND d.deptype IN ('a', 'i')";

/// Foreign keys and triggers of the tables `$1` by their number: the name, when a trigger fires, and of a partition's which
/// one has it.
const LATER: &str = "
SELECT l.oid, l.name::text, l.fires::text, CASE WHEN c.relispartition THEN n.nspname::text END, c.relname::text
FROM (SELECT oid, conname AS name, NULL::\"char\" AS fires, conrelid AS of FROM pg_constraint WHERE contype = 'f'
      UNION ALL SELECT oid, tgname, tgenabled, tgrelid FROM pg_trigger WHERE NOT tgisinternal) l
JOIN pg_class c ON c.oid = l.of JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.of = ANY ($1)";

/// What belongs to views, by its class and number in the catalogue, and the view.
const OF_VIEWS: &str = "
SELECT p.class, p.oid, p.of FROM (
    SELECT 'pg_attrdef'::regclass::oid AS class, oid, adrelid AS of FROM pg_attrdef
    UNION ALL SELECT 'pg_trigger'::regclass::oid, oid, tgrelid FROM pg_trigger
    UNION ALL SELECT 'pg_rewrite'::regclass::oid, oid, ev_class FROM pg_rewrite
    UNION ALL SELECT 'pg_class'::regclass::oid, indexrelid, indrelid FROM pg_index
    UNION ALL SELECT 'pg_statistic_ext'::regclass::oid, oid, stxrelid FROM pg_statistic_ext) p
JOIN pg_class c ON c.oid = p.of AND c.relkind IN ('v', 'm')";

/// What the index of a constraint needs and the tool does not write down, since to it the constraint is the index: operator
/// classes, functions and types, or the extension that they are of.
const OF_INDEXES: &str = "
SELECT DISTINCT 'pg_constraint'::regclass::oid, c.oid, coalesce(e.refclassid, d.refclassid), coalesce(e.refobjid, d.refobjid)
FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.conindid
LEFT JOIN pg_depend e ON e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'
WHERE c.contype IN ('p', 'u', 'x') AND c.conrelid = ANY ($1) AND d.refclassid <> 'pg_class'::regclass";

/// Materialized views that hold nothing at the source either.
const EMPTY: &str = "SELECT oid FROM pg_class WHERE relkind = 'm' AND NOT relispopulated";

/// Views that read one of the tables `$1`, themselves or through other views, and functions that take or give its rows.
const BEYOND: &str = "
WITH RECURSIVE reads(oid) AS (
    SELECT unnest($1::oid[])
    UNION SELECT r.ev_class FROM reads JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = reads.oid
        AND d.classid = 'pg_rewrite'::regclass JOIN pg_rewrite r ON r.oid = d.objid)
SELECT 'pg_class'::regclass::oid, c.oid FROM reads JOIN pg_class c ON c.oid = reads.oid WHERE c.relkind IN ('v', 'm')
UNION SELECT d.classid, d.objid FROM pg_depend d JOIN pg_type t ON t.oid = d.refobjid LEFT JOIN pg_type e ON e.oid = t.typelem
      WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_type'::regclass
        AND (t.typrelid = ANY ($1) OR e.typrelid = ANY ($1))";

/// What the catalogue says that the dump does not.
#[derive(Debug, Default)]
struct Catalogue {
    /// The table that something belongs to, by class and number.
    owners: BTreeMap<(u32, u32), u32>,
    /// Foreign keys and triggers by number.
    later: BTreeMap<u32, Later>,
    /// The view that something belongs to, by class and number.
    of_views: BTreeMap<(u32, u32), u32>,
    /// What constraints need besides what the dump says, by class and number.
    also: BTreeMap<(u32, u32), Vec<(u32, u32)>>,
    /// Materialized views that hold nothing at the source either, by number.
    empty: BTreeSet<u32>,
    /// Schemas with tables that do not move.
    left: BTreeSet<String>,
    /// Views and functions of tables that do not move, by class and number.
    beyond: BTreeSet<(u32, u32)>,
}

/// A foreign key or a trigger.
#[derive(Clone, Debug, Default)]
struct Later {
    name: String,
    /// When a trigger fires.
    fires: Option<Fires>,
    /// The partition that has it, where the table has not.
    on: Option<String>,
}

/// Takes `chosen` apart, in this order. `others` are the tables that do not move: the dump neither has nor locks them.
///
/// # Errors
/// No tool that can read this server, or what the tool said.
pub(super) async fn of(
    client: &Object,
    settings: &PgSettings,
    chosen: &[&Chosen],
    others: &[Chosen],
) -> PortResult<Parts> {
    let place = settings.place();
    let error = |e: Error| trouble::error(&e, "read the DDL of the tables of", &place);
    let version = client.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]).await;
    let version: i32 = version.and_then(|row| row.try_get(0)).map_err(error)?;
    let text = tool::dump(settings, version.unsigned_abs(), others).await?;
    let catalogue = catalogue(client, chosen, others).await.map_err(error)?;
    Ok(split::by_table(&entries::read(&text), chosen, &catalogue))
}

/// A name with its schema, as a plan writes it: quoted where it could be read otherwise.
fn whole(schema: &str, name: &str) -> String {
    let part = |part: &str| if part.contains(['.', '"']) { ident(part) } else { part.to_owned() };
    format!("{}.{}", part(schema), part(name))
}

async fn catalogue(client: &Object, chosen: &[&Chosen], others: &[Chosen]) -> Result<Catalogue, Error> {
    // What a partition has belongs to its table.
    let each = |t: &&Chosen| t.partitions.iter().chain([&t.oid]).map(|part| (*part, t.oid)).collect::<Vec<_>>();
    let tables: BTreeMap<u32, u32> = chosen.iter().flat_map(each).collect();
    let oids: Vec<u32> = tables.keys().copied().collect();
    let mut found = Catalogue::default();
    for row in client.query(OWNED, &[&oids]).await? {
        let of: u32 = row.try_get(2)?;
        found.owners.insert((row.try_get(0)?, row.try_get(1)?), tables.get(&of).copied().unwrap_or(of));
    }
    for row in client.query(OF_VIEWS, &[]).await? {
        found.of_views.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    }
    for row in client.query(OF_INDEXES, &[&oids]).await? {
        let needs = found.also.entry((row.try_get(0)?, row.try_get(1)?)).or_default();
        needs.push((row.try_get(2)?, row.try_get(3)?));
    }
    found.left = others.iter().map(|t| t.schema.clone()).collect();
    for row in client.query(EMPTY, &[]).await? {
        found.empty.insert(row.try_get(0)?);
    }
    let beyond: Vec<u32> = others.iter().map(|t| t.oid).collect();
    for row in client.query(BEYOND, &[&beyond]).await? {
        found.beyond.insert((row.try_get(0)?, row.try_get(1)?));
    }
    for row in client.query(LATER, &[&oids]).await? {
        let fires = row.try_get::<_, Option<String>>(2)?.map(|letter| match letter.as_str() {
            "A" => Fires::Always,
            "R" => Fires::Replica,
            "D" => Fires::Never,
            _ => Fires::Usually,
        });
        let (schema, part): (Option<String>, String) = (row.try_get(3)?, row.try_get(4)?);
        let on = schema.map(|schema| whole(&schema, &part));
        found.later.insert(row.try_get(0)?, Later { name: row.try_get(1)?, fires, on });
    }
    Ok(found)
}
