//! Checks the server and the database as a whole before anything is written: can they keep what will be written, and
//! may we make our bookkeeping? Only catalogues are read.

use tokio_postgres::{Client, Error};

use super::connect::Object;
use super::names::{ident, qualified};
use super::{layout, target};
use crate::domain::plan::Table;
use crate::ports::{Bookkeeping, Obstacle, TargetServer};

/// The one encoding that holds every text a source has.
const ENCODING: &str = "UTF8";

/// The oldest server on which everything here works, as `server_version_num`.
const OLDEST: i32 = 130_000;

const QUERY: &str = "
SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
       (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'),
       pg_encoding_to_char(d.encoding)::text, d.datname::text, current_user::text,
       has_database_privilege(d.oid, 'CREATE'), has_database_privilege(d.oid, 'TEMP'),
       n.oid IS NOT NULL,
       coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE'), false)
FROM pg_database d LEFT JOIN pg_namespace n ON n.nspname = 'cutover' WHERE d.datname = current_database()";

/// Things of our bookkeeping that belong to a role whose rights are not ours, and that role.
const OF_OTHERS: &str = "
SELECT string_agg(name, ', ' ORDER BY name), min(owner) FROM (
    SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner FROM pg_class c
    WHERE c.relnamespace = 'cutover'::regnamespace AND c.relkind IN ('r', 'S') AND NOT pg_has_role(c.relowner, 'USAGE')
    UNION ALL
    SELECT p.proname::text || '()', pg_get_userbyid(p.proowner)::text FROM pg_proc p
    WHERE p.pronamespace = 'cutover'::regnamespace AND NOT pg_has_role(p.proowner, 'USAGE')) others";

/// Whether every one of these tables is there.
const THERE: &str = "SELECT bool_and(to_regclass('cutover.' || n) IS NOT NULL) FROM unnest($1::text[]) n";

/// See [`crate::ports::Target::inspect`].
pub(super) async fn inspect(client: &Client) -> Result<TargetServer, Error> {
    let row = client.query_one(QUERY, &[]).await?;
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    let (standby, read_only): (bool, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    let (encoding, database, role): (String, String, String) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
    let (may_create, may_stage): (bool, bool) = (row.try_get(7)?, row.try_get(8)?);
    let (schema, may_use): (bool, bool) = (row.try_get(9)?, row.try_get(10)?);
    let mut found = Obstacles { obstacles: Vec::new() };
    if number < OLDEST {
        found.wrong(
            format!("the server is PostgreSQL {version}, and capture needs {} or later", OLDEST / 10_000),
            "upgrade the server first",
        );
    }
    if standby {
        found.wrong(
            "the server is a standby: it takes no writes until it is promoted",
            "name the primary's address in the database's section of the config",
        );
    }
    if let Some(source) = read_only {
        found.wrong(
            format!(
                "transactions are read-only unless they say otherwise (default_transaction_read_only, set by: {source})"
            ),
            read_only_advice(&source, &database, &role),
        );
    }
    if encoding != ENCODING {
        let holds = if encoding == "SQL_ASCII" { "checks no text at all" } else { "holds only some of all characters" };
        found.wrong(
            format!("the database {database} is encoded in {encoding}, which {holds}"),
            format!("move into a database made with CREATE DATABASE ... ENCODING '{ENCODING}' TEMPLATE template0"),
        );
    }
    let (on, to) = (ident(&database), ident(&role));
    if !may_stage {
        found.denied(
            format!("{role} may not make temporary tables in {database}, through which changes are written"),
            format!("GRANT TEMPORARY ON DATABASE {on} TO {to}"),
        );
    }
    let bookkeeping = match (schema, may_create, may_use) {
        (false, false, _) => {
            found.denied(
                format!("{role} may not make the schema cutover, in which progress is kept, in {database}"),
                format!("GRANT CREATE ON DATABASE {on} TO {to}; or CREATE SCHEMA cutover AUTHORIZATION {to}"),
            );
            Bookkeeping::Absent
        }
        (false, true, _) => Bookkeeping::Absent,
        (true, _, false) => {
            found.denied(
                format!("{role} may not use and extend the schema cutover, in which progress is kept"),
                format!("GRANT USAGE, CREATE ON SCHEMA cutover TO {to}"),
            );
            // What cannot be read is not judged.
            Bookkeeping::Older
        }
        (true, _, true) => {
            let row = client.query_one(OF_OTHERS, &[]).await?;
            if let (Some(names), Some(owner)) =
                (row.try_get::<_, Option<String>>(0)?, row.try_get::<_, Option<String>>(1)?)
            {
                found.denied(
                    format!("in the schema cutover these belong to {owner} and not to {role}: {names}"),
                    format!("run as {owner}, or GRANT {} TO {to}", ident(&owner)),
                );
                Bookkeeping::Older
            } else if let Some(other) = layout::other(client).await? {
                found.wrong(format!("schema cutover: {}", other.wrong), other.advice);
                Bookkeeping::Older
            } else if client.query_one(THERE, &[&tables()]).await?.try_get(0)? {
                Bookkeeping::Ready
            } else {
                Bookkeeping::Older
            }
        }
    };
    Ok(TargetServer { bookkeeping, obstacles: found.obstacles })
}

struct Obstacles {
    obstacles: Vec<Obstacle>,
}

impl Obstacles {
    fn wrong(&mut self, wrong: impl Into<String>, advice: impl Into<String>) {
        self.obstacles.push(Obstacle { wrong: wrong.into(), advice: advice.into(), rights: false });
    }

    fn denied(&mut self, wrong: impl Into<String>, advice: impl Into<String>) {
        self.obstacles.push(Obstacle { wrong: wrong.into(), advice: advice.into(), rights: true });
    }
}

/// How the setting can be reset, by what `pg_settings` says of its source.
fn read_only_advice(source: &str, database: &str, role: &str) -> String {
    let (database, role) = (ident(database), ident(role));
    let setting = "default_transaction_read_only";
    match source {
        "database" => format!("ALTER DATABASE {database} RESET {setting}, if the database is meant to be written"),
        "user" => format!(
            "ALTER ROLE {role} RESET {setting}, or name a role in the database's section of the config that may write"
        ),
        "database user" => {
            format!("ALTER ROLE {role} IN DATABASE {database} RESET {setting}, or name a role that may write")
        }
        _ => format!("is this the server that takes writes? If so: ALTER SYSTEM RESET {setting} and reload it"),
    }
}

/// Tables that every run's bookkeeping has, as their statements name them.
fn tables() -> Vec<&'static str> {
    let named = target::MADE.into_iter().flat_map(|sql| sql.split("CREATE TABLE IF NOT EXISTS cutover.").skip(1));
    named.filter_map(|rest| rest.split([' ', '(']).next()).collect()
}

/// Rows that were written to these tables and their child tables since the server began to count.
pub(super) async fn writes(client: &Object, tables: &[Table]) -> Result<u64, Error> {
    let names: Vec<String> = tables
        .iter()
        .flat_map(|t| t.children.iter().map(|c| &c.target).chain([&t.target]))
        .map(|n| qualified(n))
        .collect();
    // Rows of a partitioned table are counted where they are.
    let sql = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables
               WHERE relid IN (SELECT to_regclass(n)::oid FROM unnest($1::text[]) n UNION
                               SELECT p.relid FROM unnest($1::text[]) n, pg_partition_tree(to_regclass(n)) p)";
    let statement = client.prepare_cached(sql).await?;
    client.query_one(&statement, &[&names]).await?.try_get::<_, i64>(0).map(i64::unsigned_abs)
}
