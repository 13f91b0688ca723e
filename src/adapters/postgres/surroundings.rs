//! A database as its sessions find it: settings, event triggers, encoding, order of texts, who may do what with its
//! tables, and who is open for long.

use std::time::Duration;

use tokio_postgres::{Error, Row};

use super::connect::{Ask as _, Object};
use super::extensions;
use super::open;
use super::source::table_names;
use crate::ports::{Beside, Collation, Grant, Role, SessionSetting, Surroundings};

/// A transaction that has been open for so long may outlast what a capture waits: the lock limit of our sessions.
const LONG: Duration = Duration::from_secs(15);

const DATABASE: &str = "SELECT d.datname::text, pg_encoding_to_char(d.encoding)::text,
    coalesce((SELECT array_agg(e.evtname || ' (' || e.evtevent || ')' ORDER BY e.evtname) FROM pg_event_trigger e
              WHERE e.evtenabled <> 'D'), '{}')
FROM pg_database d WHERE d.datname = current_database()";

/// What the database sets, and what roles set that applications sign in as.
const SETTINGS: &str = "
SELECT r.rolname::text, s.setdatabase <> 0, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) c
WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR r.rolcanlogin)
ORDER BY r.rolname NULLS FIRST, s.setdatabase <> 0, 3";

/// How the database sorts; the names of some columns depend on the server's version.
const COLLATION: &str = "
SELECT CASE coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin'
            ELSE to_jsonb(d) ->> 'datlocprovider' END,
       d.datcollate::text, d.datctype::text, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
       to_jsonb(d) ->> 'datcollversion', d.oid, current_setting('server_version_num')::int >= 150000
FROM pg_database d WHERE d.datname = current_database()";

/// Servers before 15 do not know it.
const SORTS_NOW: &str = "SELECT pg_database_collation_actual_version($1)";

const LARGE_OBJECTS: &str = "SELECT count(*) FROM pg_largeobject_metadata";

/// What was granted on tables that people made, and what owners have, but for our own role and those that may do anything.
const GRANTS: &str = "
SELECT r.rolname::text, n.nspname || '.' || c.relname, array_agg(DISTINCT g.privilege_type::text ORDER BY g.privilege_type::text)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> 'cutover' AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema' AND (g.grantee = 0 OR NOT r.rolsuper AND r.rolname <> current_user)
  AND g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER')
GROUP BY 1, 2 ORDER BY 1 NULLS FIRST, 2";

/// Roles with the roles whose rights they have without being asked.
const ROLES: &str = "
WITH RECURSIVE has(role, of) AS (
    SELECT m.member, m.roleid FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member AND r.rolinherit
    UNION
    SELECT h.role, m.roleid FROM has h JOIN pg_auth_members m ON m.member = h.of
    JOIN pg_roles r ON r.oid = m.member AND r.rolinherit)
SELECT r.rolname::text, coalesce(array_agg(o.rolname::text ORDER BY o.rolname) FILTER (WHERE o.oid IS NOT NULL), '{}'),
       r.rolsuper
FROM pg_roles r LEFT JOIN has h ON h.role = r.oid LEFT JOIN pg_roles o ON o.oid = h.of
GROUP BY r.oid, r.rolname, r.rolsuper ORDER BY 1";

/// Whether pg_cron keeps its jobs in this database.
const CRON: &str = "SELECT to_regclass('cron.job') IS NOT NULL";

/// Jobs as rows, whatever columns the version has. A role sees its own, unless it may see all.
const JOBS: &str = "
SELECT coalesce(nullif(to_jsonb(j)->>'jobname', ''), 'job ' || (to_jsonb(j)->>'jobid')) || ' (' || (to_jsonb(j)->>'schedule') || ')'
FROM cron.job j WHERE coalesce(to_jsonb(j)->>'active', 'true') = 'true' ORDER BY 1";

/// Publications, subscriptions and slots of this database that are none of ours; the slots of a subscription's copies are
/// named after its number.
const BESIDE: &str = "
SELECT coalesce((SELECT array_agg(pubname::text ORDER BY pubname) FROM pg_publication WHERE NOT starts_with(pubname::text, 'cutover_')), '{}'),
       coalesce((SELECT array_agg(subname::text ORDER BY subname) FROM pg_subscription
                 WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND NOT starts_with(subname::text, 'cutover_')), '{}'),
       coalesce((SELECT array_agg(slot_name || ' (' || plugin || CASE WHEN active THEN ', read now)' ELSE ', nobody reads it)' END
                                  ORDER BY slot_name)
                 FROM pg_replication_slots WHERE database = current_database() AND slot_type = 'logical'
                   AND NOT starts_with(slot_name::text, 'cutover_') AND slot_name::text !~ '^pg_[0-9]+_sync_'), '{}')";

async fn beside(client: &Object) -> Result<Beside, Error> {
    let row = client.query_one(BESIDE, &[]).await?;
    let (publications, subscriptions, slots) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let jobs = if client.query_one(CRON, &[]).await?.try_get(0)? {
        // Not prepared: few servers have it. One that keeps them from us shows none.
        let rows = client.query(JOBS, &[]).await.unwrap_or_default();
        Some(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    } else {
        None
    };
    Ok(Beside { jobs, publications, subscriptions, slots })
}

async fn collation(client: &Object) -> Result<Option<Collation>, Error> {
    let Some(row) = client.query_opt(COLLATION, &[]).await? else { return Ok(None) };
    let (database, asked): (u32, bool) = (row.try_get(5)?, row.try_get(6)?);
    let sorts_now = if asked { client.query_one(SORTS_NOW, &[&database]).await?.try_get(0)? } else { None };
    Ok(Some(Collation {
        provider: row.try_get(0)?,
        order: row.try_get(1)?,
        letters: row.try_get(2)?,
        locale: row.try_get(3)?,
        version: row.try_get(4)?,
        sorts_now,
    }))
}

async fn grants(client: &Object) -> Result<Vec<Grant>, Error> {
    let rows = client.ask(GRANTS, &[]).await?;
    let grant = |row: &Row| Ok(Grant { role: row.try_get(0)?, table: row.try_get(1)?, rights: row.try_get(2)? });
    rows.iter().map(grant).collect()
}

async fn roles(client: &Object) -> Result<Vec<Role>, Error> {
    let rows = client.ask(ROLES, &[]).await?;
    rows.iter().map(|row| Ok(Role { name: row.try_get(0)?, has: row.try_get(1)?, anything: row.try_get(2)? })).collect()
}

pub(super) async fn of(client: &Object) -> Result<Surroundings, Error> {
    let row = client.query_one(DATABASE, &[]).await?;
    let mut settings = Vec::new();
    for row in client.ask(SETTINGS, &[]).await? {
        let (role, here) = (row.try_get(0)?, row.try_get(1)?);
        settings.push(SessionSetting { role, here, name: row.try_get(2)?, value: row.try_get(3)? });
    }
    Ok(Surroundings {
        database: row.try_get(0)?,
        encoding: row.try_get(1)?,
        settings,
        event_triggers: row.try_get(2)?,
        collation: collation(client).await?,
        large_objects: client.query_one(LARGE_OBJECTS, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs(),
        grants: grants(client).await?,
        roles: roles(client).await?,
        oldest: open::oldest(client, LONG).await?,
        tables: table_names(client).await?,
        extensions: extensions::installed(client).await?,
        available: extensions::available(client).await?,
        uses: extensions::uses(client).await?,
        beside: beside(client).await?,
    })
}
