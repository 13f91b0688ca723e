//! Everything that keeps the changes of a plan's tables from being captured, found before anything is done.

use tokio_postgres::Error;

use super::fit;
use super::slot::Names;
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, Obstacle, PortError, PortResult};

/// Slots that are needed while one is made: it is made under one name and copied to another.
const SLOTS: i64 = 2;

/// The server: its version, `wal_level`, slots and senders that are free, slots of ours, whether the role may read the
/// log and publish, and its name.
const SERVER: &str = "
SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
       current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots),
       current_setting('max_wal_senders')::bigint - (SELECT count(*) FROM pg_stat_replication),
       (SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name::text, $1)),
       r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication'
                                                 AND pg_has_role(g.oid, 'USAGE')),
       has_database_privilege(current_database(), 'CREATE'), r.rolname::text, current_database()::text
FROM pg_roles r WHERE r.rolname = current_user";

/// Whose a table is, and whether the role may publish it.
const OWNER: &str = "
SELECT pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = to_regclass($1)";

/// Finds all of them.
///
/// # Errors
/// When the server cannot be asked.
pub(in crate::adapters::postgres) async fn of(
    client: &Object,
    names: &Names,
    tables: &[Table],
) -> PortResult<Vec<Obstacle>> {
    let mut found = server(client, names).await?;
    taken(&mut found, fit::standbys(client, &names.publication).await)?;
    for table in tables {
        taken(&mut found, fit::table(client, table).await)?;
        let error = |e: Error| trouble::error(&e, "ask whose is", &table.source);
        let Some(row) = client.query_opt(OWNER, &[&qualified(&table.source)]).await.map_err(error)? else { continue };
        let (owner, ours): (String, bool) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        if !ours {
            found.push(Obstacle {
                wrong: format!("{} belongs to {owner}, and only its owner publishes a table", table.source),
                advice: format!("GRANT {owner} TO the role of this store, or capture as {owner}"),
                rights: true,
            });
        }
    }
    Ok(found)
}

/// A refusal is an obstacle; anything else is an error.
fn taken(found: &mut Vec<Obstacle>, asked: PortResult<()>) -> PortResult<()> {
    match asked {
        Ok(()) => Ok(()),
        Err(PortError { kind: ErrorKind::Invalid | ErrorKind::NotFound, on, came_back, advice, .. }) => {
            found.push(Obstacle { wrong: format!("{on}: {came_back}"), advice, rights: false });
            Ok(())
        }
        Err(e) => Err(e),
    }
}

async fn server(client: &Object, names: &Names) -> PortResult<Vec<Obstacle>> {
    let error = |e: Error| trouble::error(&e, "look for what keeps changes from being captured at", &names.publication);
    let row = client.query_one(SERVER, &[&names.prefix]).await.map_err(error)?;
    let number = |n: usize| row.try_get::<_, i64>(n).map_err(error);
    let text = |n: usize| row.try_get::<_, String>(n).map_err(error);
    let flag = |n: usize| row.try_get::<_, bool>(n).map_err(error);
    let version: i32 = row.try_get(0).map_err(error)?;
    let (level, role, database) = (text(1)?, text(7)?, text(8)?);
    let mut found = Vec::new();
    let mut tell = |wrong: String, advice: String, rights: bool| found.push(Obstacle { wrong, advice, rights });
    if version < 140_000 {
        tell(
            format!("the server is version {}", version / 10_000),
            "changes are read from version 14 on; move this store by pg_dump".to_owned(),
            false,
        );
    }
    if level != "logical" {
        tell(
            format!("its wal_level is {level}"),
            "set wal_level = logical (on RDS and Aurora: rds.logical_replication = 1) and restart the server"
                .to_owned(),
            false,
        );
    }
    let (free, senders, ours) = (number(2)?, number(3)?, number(4)?);
    // What is ours goes before another one is made.
    if free + ours < SLOTS {
        tell(
            format!("{free} of its replication slots are free, and {SLOTS} are needed while one is made"),
            "raise max_replication_slots and restart the server, or drop slots that nobody reads".to_owned(),
            false,
        );
    }
    if senders < 1 && ours == 0 {
        tell(
            "none of its WAL senders is free, and one reads the log".to_owned(),
            "raise max_wal_senders and restart the server, or end readers that nobody needs".to_owned(),
            false,
        );
    }
    if !flag(5)? {
        tell(
            format!("{role} has no right to read the log"),
            format!("ALTER ROLE {role} REPLICATION (on RDS and Aurora: GRANT rds_replication TO {role})"),
            true,
        );
    }
    if !flag(6)? {
        tell(
            format!("{role} has no right to make a publication in {database}"),
            format!("GRANT CREATE ON DATABASE {database} TO {role}"),
            true,
        );
    }
    Ok(found)
}
