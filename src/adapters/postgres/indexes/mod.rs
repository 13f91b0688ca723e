//! Secondary indexes are dropped while an empty table is filled, and built again before anybody reads it.
//!
//! Building an index once over all rows is several times cheaper than keeping it up row by row. Its definition is
//! stored in the transaction that drops it, and forgotten in the one that builds it again, so that at every moment an
//! index is either there or written down. Only indexes that can refuse no row are touched: what a unique index or a
//! constraint refuses is parked while loading and must be found then. The primary key goes too where no key can come
//! twice (`key.rs`).

mod key;

use deadpool_postgres::Transaction;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row};

pub(super) use self::key::is_aside as key_is_aside;
use super::connect::{Object, Pool};
use super::names::qualified;
use super::owner::Of;
use super::verbatim::Verbatim;
use super::{retry, trouble};
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult, SetAside};

/// Indexes built at the same time.
const BUILDERS: usize = 2;

/// Secondary indexes of `$1` that hold for no constraint, identify no row, have nothing that their definition does
/// not say, cannot refuse a row (fixed-size types, bounded `varchar`s that fit an index page together, `tsvector`)
/// and do not begin with one of `$2`, by which children are found.
const MOVABLE: &str = "
SELECT quote_ident(n.nspname) || '.' || quote_ident(x.relname), pg_get_indexdef(i.indexrelid)
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = x.relnamespace
JOIN pg_class t ON t.oid = i.indrelid
WHERE i.indrelid = to_regclass($1) AND t.relkind = 'r' AND NOT t.relispartition
  AND NOT (i.indisunique OR i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered)
  AND i.indisvalid AND i.indisready AND i.indexprs IS NULL AND i.indpred IS NULL
  AND x.reltablespace = 0 AND obj_description(x.oid, 'pg_class') IS NULL
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = x.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = x.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = x.oid AND d.deptype = 'e')
  AND (SELECT bool_and(a.atttypid = ANY ('{bool,int2,int4,int8,float4,float8,numeric,uuid,date,time,timetz,timestamp,
              timestamptz,interval,inet,cidr,macaddr,tsvector}'::regtype[])
              OR a.atttypid = 'varchar'::regtype AND a.atttypmod > 0)
              AND coalesce(sum(4 * (a.atttypmod - 4)) FILTER (WHERE a.atttypid = 'varchar'::regtype), 0) < 2000
       FROM unnest(i.indkey::int2[]) k JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k)
  AND NOT coalesce((SELECT a.attname::text = ANY ($2) FROM pg_attribute a
                    WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0]), false)
ORDER BY i.indexrelid";

/// Drops what can be dropped of an empty table whose load has not begun, and says what. `wanted` absent means: if this
/// program created the table. Rows, checkpoints or a busy table mean that nothing is touched. The primary key is only
/// dropped where the source says that no key comes twice (`keys_are_unique`).
pub(super) async fn set_aside(
    client: &mut Object,
    plan: &str,
    table: &Table,
    wanted: Option<bool>,
    keys_are_unique: bool,
) -> Result<Vec<SetAside>, Error> {
    if wanted == Some(false) {
        return Ok(Vec::new());
    }
    let tx = client.transaction().await?;
    // When somebody reads an empty table for long, its indexes are kept and the load goes on.
    tx.batch_execute("SET LOCAL lock_timeout = '3s'").await?;
    let sql = "SELECT EXISTS (SELECT FROM cutover.created WHERE plan = $1 AND table_id = $2),
               EXISTS (SELECT FROM cutover.load_checkpoint WHERE plan = $1 AND table_id = $2)";
    let row = tx.query_one(sql, &[&plan, &table.id]).await?;
    let (ours, begun): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    if begun || !wanted.unwrap_or(ours) {
        return Ok(Vec::new());
    }
    let mut gone = Vec::new();
    let children = table.children.iter().map(|c| (&c.target, c.parent_key.clone()));
    for (name, found_by) in children.chain([(&table.target, Vec::new())]) {
        let sql = qualified(name);
        match tx.batch_execute(&format!("LOCK TABLE {sql} IN ACCESS EXCLUSIVE MODE")).await {
            Ok(()) => {}
            Err(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                tracing::warn!(table = %table.id, "another session holds the table: its indexes stay during the load");
                return Ok(Vec::new());
            }
            Err(e) => return Err(e),
        }
        let empty: bool = tx.query_one(&format!("SELECT NOT EXISTS (SELECT FROM {sql})"), &[]).await?.try_get(0)?;
        if !empty {
            return Ok(Vec::new());
        }
        for row in tx.query(MOVABLE, &[&sql, &found_by]).await? {
            let index = SetAside { name: row.try_get(0)?, definition: row.try_get(1)? };
            keep(&tx, plan, table, &index).await?;
            tx.batch_execute(&format!("DROP INDEX {}", index.name)).await?;
            gone.push(index);
        }
    }
    // Rows that nothing is mapped of have the keys that they have at the source.
    if keys_are_unique
        && Verbatim::of(table).is_some()
        && let Some(index) = key::movable(&tx, table).await?
    {
        keep(&tx, plan, table, &index).await?;
        key::drop(&tx, &index).await?;
        gone.push(index);
    }
    tx.commit().await?;
    Ok(gone)
}

/// Writes a definition down, in the transaction that drops what it defines.
async fn keep(tx: &Transaction<'_>, plan: &str, table: &Table, index: &SetAside) -> Result<(), Error> {
    let sql = "INSERT INTO cutover.set_aside (plan, table_id, name, definition) VALUES ($1, $2, $3, $4)
               ON CONFLICT (name) DO UPDATE SET plan = EXCLUDED.plan, table_id = EXCLUDED.table_id, definition = EXCLUDED.definition";
    tx.execute(sql, &[&plan, &table.id, &index.name, &index.definition]).await.map(drop)
}

/// The indexes of a table that are dropped at this moment.
pub(super) async fn missing(client: &Object, of: Of<'_>) -> Result<Vec<SetAside>, Error> {
    let sql = "SELECT name, definition FROM cutover.set_aside WHERE plan = $1 AND table_id = $2 ORDER BY name";
    let rows = client.query(sql, &[&of.plan, &of.table]).await?;
    rows.iter().map(|row| Ok(SetAside { name: row.try_get(0)?, definition: row.try_get(1)? })).collect()
}

/// Builds the dropped indexes of a table again, a few at a time. Can be called again after it was interrupted anywhere.
pub(super) async fn restore(pool: &Pool, place: &str, of: Of<'_>) -> PortResult<()> {
    let client = retry::client(pool, place).await?;
    let all = missing(&client, of).await.map_err(|e| trouble::error(&e, "read set-aside indexes of", of.table))?;
    drop(client);
    built(pool, place, all).await
}

/// Builds the dropped indexes of all tables of a plan again. Of a table that no longer exists, none is built.
pub(super) async fn restore_all(pool: &Pool, place: &str, plan: &str) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, "read set-aside indexes of", plan);
    let client = retry::client(pool, place).await?;
    let sql = "SELECT name, definition FROM cutover.set_aside WHERE plan = $1 ORDER BY name";
    let rows = client.query(sql, &[&plan]).await.map_err(error)?;
    let index = |row: &Row| Ok(SetAside { name: row.try_get(0)?, definition: row.try_get(1)? });
    let all: Vec<SetAside> = rows.iter().map(index).collect::<Result<_, Error>>().map_err(error)?;
    drop(client);
    for index in all {
        let name = index.name.clone();
        match built(pool, place, vec![index.clone()]).await {
            Err(e) if e.kind == ErrorKind::NotFound => {
                let client = retry::client(pool, place).await?;
                // A table is not left without its key because a column of it has another name now.
                if key::table_is_there(&client, &index).await.map_err(error)? {
                    return Err(e);
                }
                let gone = "DELETE FROM cutover.set_aside WHERE plan = $1 AND name = $2";
                client.execute(gone, &[&plan, &name]).await.map_err(error)?;
                tracing::warn!(index = %name, "its table or one of its columns is gone: it is not built again");
            }
            built => built?,
        }
    }
    Ok(())
}

async fn built(pool: &Pool, place: &str, mut all: Vec<SetAside>) -> PortResult<()> {
    // Keys first, because they have a second step.
    all.sort_by_key(|index| !key::is_key(index));
    let keys: Vec<SetAside> = all.iter().filter(|index| key::is_key(index)).cloned().collect();
    stream::iter(all)
        .map(|index| async move {
            let mut client = retry::client(pool, place).await?;
            if !key::is_key(&index) {
                return build(&mut client, &index).await.map_err(|e| failed(&e, &index));
            }
            let twice = key::build(&mut client, &index).await.map_err(|e| failed(&e, &index))?;
            if twice > 0 {
                tracing::info!(index = %index.name, rows = twice, "were read twice while they changed: one of each stays");
            }
            Ok(())
        })
        .buffer_unordered(BUILDERS)
        .try_collect::<()>()
        .await?;
    for index in keys {
        let mut client = retry::client(pool, place).await?;
        key::attach(&mut client, &index).await.map_err(|e| failed(&e, &index))?;
    }
    Ok(())
}

fn failed(e: &Error, index: &SetAside) -> PortError {
    let said = trouble::error(e, "build", &index.name);
    PortError { advice: format!("{}; by hand: {}", said.advice, index.definition), ..said }
}

/// Sorting in memory is most of the cost of an index; a server with a larger setting keeps it.
async fn roomy(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.batch_execute(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
         SELECT set_config('maintenance_work_mem', '256MB', true)
         WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('256MB')",
    )
    .await
}

/// Locks what is stored of an index, so that two who restore at once do not build it twice; says whether it is still stored.
/// What stands in the catalogue is asked by a statement of its own: one that waits for a lock has looked before it waited.
async fn locked(tx: &Transaction<'_>, index: &SetAside) -> Result<bool, Error> {
    let sql = "SELECT FROM cutover.set_aside WHERE name = $1 FOR UPDATE";
    Ok(tx.query_opt(sql, &[&index.name]).await?.is_some())
}

async fn build(client: &mut Object, index: &SetAside) -> Result<(), Error> {
    let tx = client.transaction().await?;
    roomy(&tx).await?;
    if !locked(&tx, index).await? {
        return Ok(());
    }
    // A person may have built it by hand meanwhile.
    let row = tx.query_one("SELECT to_regclass($1) IS NOT NULL", &[&index.name]).await?;
    if !row.try_get::<_, bool>(0)? {
        tx.batch_execute(&index.definition).await?;
    }
    tx.execute("DELETE FROM cutover.set_aside WHERE name = $1", &[&index.name]).await?;
    tx.commit().await
}

/// What [`set_aside`] says when the role may not.
pub(super) fn refused(e: &Error, table: &Table) -> PortError {
    let said = trouble::error(e, "set aside the indexes of", &table.target);
    if said.kind == ErrorKind::Denied {
        return said.advise("own the table, or write `defer_indexes = false` in [load]");
    }
    said
}
