//! Whether a table's changes can be followed, and whether publishing it would stop anybody who writes to it.

use tokio_postgres::Error;

use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const TRIED: &str = "capture changes of";

/// What the catalogue says of a table, and of the index by which its changes name their rows: whether it is the primary
/// key, is looked at at once, and has these columns.
const TABLE: &str = "
SELECT c.relkind::text, c.relpersistence::text, c.relispartition, c.relreplident::text, row_security_active(c.oid),
       pk.indexrelid IS NOT NULL, coalesce(pk.indimmediate AND pk.indisvalid, false),
       coalesce((SELECT i.indisvalid AND i.indimmediate
                        AND (pk.indkey::int2[])[0:pk.indnkeyatts - 1] <@ (i.indkey::int2[])[0:i.indnkeyatts - 1]
                 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident), false),
       EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhparent, h.inhrelid))
FROM pg_class c LEFT JOIN pg_index pk ON pk.indrelid = c.oid AND pk.indisprimary WHERE c.oid = to_regclass($1)";

/// Sees whether the changes of a table can be followed.
///
/// # Errors
/// `NotFound` for a table that is not there; `Invalid` for one whose changes the log does not have, or whose customers
/// could not change or delete a row any more once it is published.
pub(super) async fn table(client: &Object, table: &Table) -> PortResult<()> {
    let on = table.source.as_str();
    let error = |e: Error| trouble::error(&e, TRIED, on);
    let sql = qualified(on);
    let Some(row) = client.query_opt(TABLE, &[&sql]).await.map_err(error)? else {
        return Err(PortError::new(ErrorKind::NotFound, TRIED, on, "the table does not exist")
            .advise("name it with its schema, as the source has it"));
    };
    let text = |n: usize| row.try_get::<_, String>(n).map_err(error);
    let flag = |n: usize| row.try_get::<_, bool>(n).map_err(error);
    let refuse =
        |why: &str, advice: String| Err(PortError::new(ErrorKind::Invalid, TRIED, on, why.to_owned()).advise(advice));
    match text(0)?.as_str() {
        "r" => {}
        "p" => {
            let why = "it is partitioned: that a partition is emptied, attached or detached does not stand in the log";
            return refuse(why, "move it by pg_dump, or by the replication of the server itself".to_owned());
        }
        _ => return refuse("it is no ordinary table", "name the table that holds the rows".to_owned()),
    }
    if flag(2)? {
        let why = "it is a partition: that it is detached does not stand in the log";
        return refuse(why, "move the whole table by pg_dump, or by the replication of the server itself".to_owned());
    }
    if flag(8)? {
        let why = "it inherits, or is inherited from: the log names each table of the family by itself";
        return refuse(why, "move it by pg_dump, or by the replication of the server itself".to_owned());
    }
    if text(1)? != "p" {
        let why = "it is UNLOGGED or TEMPORARY: its changes do not stand in the log";
        return refuse(why, format!("ALTER TABLE {sql} SET LOGGED"));
    }
    if flag(4)? {
        let why = "row level security hides rows of it from the role that reads";
        return refuse(why, "ALTER ROLE ... BYPASSRLS, or read as the owner of the table".to_owned());
    }
    if !flag(5)? {
        return refuse("it has no primary key", format!("ALTER TABLE {sql} ADD PRIMARY KEY (...)"));
    }
    let (identity, key_holds, index_holds) = (text(3)?, flag(6)?, flag(7)?);
    match identity.as_str() {
        "f" => Ok(()),
        "d" if key_holds => Ok(()),
        "d" => refuse(
            "its primary key is DEFERRABLE: once it is published, the server refuses every UPDATE and DELETE",
            format!("make the key NOT DEFERRABLE, or ALTER TABLE {sql} REPLICA IDENTITY FULL"),
        ),
        "i" if index_holds => Ok(()),
        "i" => refuse(
            "its replica identity is an index that lacks columns of the primary key, by which changes find their row",
            format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT"),
        ),
        _ => refuse(
            "its replica identity is NOTHING: once it is published, the server refuses every UPDATE and DELETE",
            format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT"),
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
fn waits_for(names: &str, one: &str) -> bool {
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
