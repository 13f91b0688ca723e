//! Tables as their own server's `pg_dump` writes them, each by itself.
//!
//! One dump of the schema is taken apart into its entries, whose dependencies the tool writes down. Each table gets what it
//! needs that no table before it has: schemas, types, domains, functions, sequences, the table, its keys and indexes. Foreign
//! keys and triggers come after its rows. Owners, privileges, tablespaces, publications, subscriptions and security labels
//! are not taken: who owns what on the new side is decided there.

mod entries;
mod split;
mod tool;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Error;

use super::connect::Object;
use super::settings::PgSettings;
use super::trouble;
use crate::domain::plan::{AfterLoad, Fires};
use crate::ports::PortResult;

/// A table that moves, or one that does not.
pub(super) struct Chosen {
    pub oid: u32,
    pub schema: String,
    pub name: String,
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

/// Foreign keys and triggers of the tables `$1` by their number: the name, and when a trigger fires.
const LATER: &str = "
SELECT oid, conname::text, NULL::text FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY ($1)
UNION ALL SELECT oid, tgname::text, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = ANY ($1)";

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
    /// Foreign keys and triggers by number: the name, and when a trigger fires.
    later: BTreeMap<u32, (String, Option<Fires>)>,
    /// Views and functions of tables that do not move, by class and number.
    beyond: BTreeSet<(u32, u32)>,
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

async fn catalogue(client: &Object, chosen: &[&Chosen], others: &[Chosen]) -> Result<Catalogue, Error> {
    let oids: Vec<u32> = chosen.iter().map(|t| t.oid).collect();
    let mut found = Catalogue::default();
    for row in client.query(OWNED, &[&oids]).await? {
        found.owners.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
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
        found.later.insert(row.try_get(0)?, (row.try_get(1)?, fires));
    }
    Ok(found)
}
