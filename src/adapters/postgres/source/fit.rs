//! Whether a table's changes can be followed, and whether publishing it would stop anybody who writes to it.

use tokio_postgres::{Error, Row};

use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const TRIED: &str = "capture changes of";

/// What the catalogue says of a table and of its partitions, the table first, and of the index by which the changes of each
/// name their rows: whether it is the primary key, is looked at at once, and has these columns. From version 18 on a server
/// refuses to change a published row whose identity holds a generated column that is not published.
const TABLE: &str = "
SELECT c.relkind::text, c.relpersistence::text, c.relispartition, c.relreplident::text, row_security_active(c.oid),
       pk.indexrelid IS NOT NULL, coalesce(pk.indimmediate AND pk.indisvalid, false),
       coalesce((SELECT i.indisvalid AND i.indimmediate
                        AND (pk.indkey::int2[])[0:pk.indnkeyatts - 1] <@ (i.indkey::int2[])[0:i.indnkeyatts - 1]
                 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident), false),
       EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhparent, h.inhrelid)) AND NOT c.relispartition AND c.relkind <> 'p',
       c.oid::regclass::text, c.oid = to_regclass($1), pg_partition_root(c.oid)::text,
       current_setting('server_version_num')::int >= 180000
       AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped)
FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) tree
JOIN pg_class c ON c.oid = tree.relid LEFT JOIN pg_index pk ON pk.indrelid = c.oid AND pk.indisprimary
ORDER BY c.oid <> to_regclass($1), c.oid";

/// Sees whether the changes of a table can be followed, those of all its partitions if it has any.
///
/// # Errors
/// `NotFound` for a table that is not there; `Invalid` for one whose changes the log does not have, or whose customers
/// could not change or delete a row any more once it is published.
pub(in crate::adapters::postgres) async fn table(client: &Object, table: &Table) -> PortResult<()> {
    let on = table.source.as_str();
    let error = |e: Error| trouble::error(&e, TRIED, on);
    let rows = client.query(TABLE, &[&qualified(on)]).await.map_err(error)?;
    if rows.is_empty() {
        return Err(PortError::new(ErrorKind::NotFound, TRIED, on, "the table does not exist")
            .advise("name it with its schema, as the source has it"));
    }
    for row in &rows {
        if let Some((why, advice)) = wrong(row).map_err(error)? {
            return Err(PortError::new(ErrorKind::Invalid, TRIED, on, why).advise(advice));
        }
    }
    Ok(())
}

/// What keeps the changes of a table, or of one of its partitions, from being followed, and what to do about it.
fn wrong(row: &Row) -> Result<Option<(String, String)>, Error> {
    let text = |n: usize| row.try_get::<_, String>(n);
    let flag = |n: usize| row.try_get::<_, bool>(n);
    let (name, is_the_table) = (text(9)?, flag(10)?);
    let of = if is_the_table { "it".to_owned() } else { format!("its partition {name}") };
    let refuse = |why: &str, advice: String| Ok(Some((format!("{of} {why}"), advice)));
    let kind = text(0)?;
    match kind.as_str() {
        "r" | "p" => {}
        "f" if !is_the_table => {
            return refuse(
                "is a foreign table: its rows are elsewhere, and their changes in no log here",
                format!("detach {name} and move it in the store that has its rows"),
            );
        }
        _ => return refuse("is no ordinary table", "name the table that holds the rows".to_owned()),
    }
    if is_the_table && flag(2)? {
        let root: Option<String> = row.try_get(11)?;
        let root = root.unwrap_or_default();
        return refuse("is a partition, which moves with its table", format!("name {root}, the table it is part of"));
    }
    if flag(8)? {
        return refuse(
            "inherits, or is inherited from: the log names each table of the family by itself",
            "move it by pg_dump, or by the replication of the server itself".to_owned(),
        );
    }
    if flag(4)? {
        return refuse(
            "is under row level security that hides rows of it from the role that reads",
            "ALTER ROLE ... BYPASSRLS, or read as the owner of the table".to_owned(),
        );
    }
    if !flag(5)? {
        return refuse("has no primary key", format!("ALTER TABLE {name} ADD PRIMARY KEY (...)"));
    }
    // A partitioned table holds no rows: what follows is about those that do.
    if kind == "p" {
        return Ok(None);
    }
    if text(1)? != "p" {
        return refuse(
            "is UNLOGGED or TEMPORARY: its changes do not stand in the log",
            format!("ALTER TABLE {name} SET LOGGED"),
        );
    }
    let (identity, key_holds, index_holds) = (text(3)?, flag(6)?, flag(7)?);
    match identity.as_str() {
        "f" if flag(12)? => refuse(
            "has the replica identity FULL and a generated column: once it is published, the server refuses every UPDATE and \
             DELETE",
            format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
        ),
        "f" => Ok(None),
        "d" if key_holds => Ok(None),
        "d" => refuse(
            "has a primary key that is DEFERRABLE: once it is published, the server refuses every UPDATE and DELETE",
            format!("make the key NOT DEFERRABLE, or ALTER TABLE {name} REPLICA IDENTITY FULL"),
        ),
        "i" if index_holds => Ok(None),
        "i" => refuse(
            "has an index for its replica identity that lacks columns of the primary key, by which changes find their row",
            format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
        ),
        _ => refuse(
            "has the replica identity NOTHING: once it is published, the server refuses every UPDATE and DELETE",
            format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
        ),
    }
}

/// Sees that no commit of a customer would wait for us: whoever reads the log is a standby to the server, and one that is
/// named as synchronous is waited for.
///
/// # Errors
/// `Invalid` with the setting.
pub(super) async fn standbys(client: &Object, name: &str) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, TRIED, name);
    let row = client.query_one("SELECT current_setting('synchronous_standby_names')", &[]).await.map_err(error)?;
    let names: String = row.try_get(0).map_err(error)?;
    if !waits_for(&names, super::session::NAME) {
        return Ok(());
    }
    let why = format!("synchronous_standby_names is {names}: commits of customers would wait until we read them");
    Err(PortError::new(ErrorKind::Invalid, TRIED, name, why)
        .advise("name the standbys there one by one; a session of ours is called cutover"))
}

/// Whether a list of synchronous standbys has this one. Names are compared without their case.
pub(in crate::adapters::postgres) fn waits_for(names: &str, one: &str) -> bool {
    let words = names.split(|c: char| matches!(c, ',' | '(' | ')') || c.is_whitespace());
    words.map(|word| word.trim_matches('"')).any(|word| word == "*" || word.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_standbys_has_us_by_name_or_by_having_all() {
        for (names, waits) in [
            ("", false),
            ("*", true),
            ("FIRST 1 (a, b)", false),
            ("ANY 1 (a, *)", true),
            ("a,Cutover", true),
            ("ANY 2 (\"cutover\",b)", true),
            ("cutover2", false),
        ] {
            assert_eq!(waits_for(names, "cutover"), waits, "{names}");
        }
    }
}
