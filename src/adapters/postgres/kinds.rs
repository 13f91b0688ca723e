//! What kind of table a target is: whether it keeps what is written, takes every row, and shows every row again.

use tokio_postgres::Error;

use super::connect::Object;
use super::names::qualified;

const QUERY: &str = "
SELECT c.relkind::text, c.relpersistence::text, row_security_active(c.oid), pg_has_role(c.relowner, 'USAGE'),
       current_user::text, p.partstrat::text, coalesce(p.partdefid, 0) <> 0,
       (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid)
FROM pg_class c LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid WHERE c.oid = to_regclass($1)";

/// Names what about a table's kind is a problem, and what may surprise.
pub(super) async fn describe(
    client: &Object,
    name: &str,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let statement = client.prepare_cached(QUERY).await?;
    let Some(row) = client.query_opt(&statement, &[&qualified(name)]).await? else { return Ok(()) };
    let (kind, persistence): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let what = match kind.as_str() {
        "r" | "p" => None,
        "v" => Some("a view"),
        "m" => Some("a materialized view"),
        "f" => Some("a foreign table"),
        _ => Some("no table"),
    };
    if let Some(what) = what {
        problems.push(format!("{name} is {what}; name the table that holds the rows, ordinary or partitioned"));
        return Ok(());
    }
    match persistence.as_str() {
        "u" => problems.push(format!(
            "{name} is UNLOGGED: the server empties it after a crash and no standby has it; ALTER TABLE {} SET LOGGED",
            qualified(name)
        )),
        "t" => problems.push(format!(
            "{name} is TEMPORARY: it goes with the session that made it; create an ordinary table, or mend its DDL"
        )),
        _ => {}
    }
    if row.try_get(2)? {
        let (owner, role): (bool, String) = (row.try_get(3)?, row.try_get(4)?);
        let table = qualified(name);
        let advice = if owner {
            format!(
                "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY until the thaw, as its owner is {role} or one of its roles"
            )
        } else {
            format!(
                "ALTER ROLE {role} BYPASSRLS, run as the owner, or ALTER TABLE {table} DISABLE ROW LEVEL SECURITY until the thaw"
            )
        };
        problems.push(format!(
            "{name} has row level security that applies to {role}, so rows are refused or hidden; {advice}"
        ));
    }
    if kind == "p" {
        partitions(name, row.try_get(5)?, row.try_get(6)?, row.try_get(7)?, problems, notices);
        let statement = client.prepare_cached(UNFIT).await?;
        for row in client.query(&statement, &[&qualified(name)]).await? {
            let (part, foreign): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
            let (what, advice) = if foreign {
                ("a foreign table", "detach it".to_owned())
            } else {
                ("UNLOGGED, so the server empties it after a crash", format!("ALTER TABLE {part} SET LOGGED"))
            };
            problems.push(format!("{name}: its partition {part} is {what}; {advice}"));
        }
    }
    Ok(())
}

/// Partitions of a table that do not keep what is written, or keep it elsewhere.
const UNFIT: &str = "
SELECT c.oid::regclass::text, c.relkind = 'f' FROM pg_partition_tree(to_regclass($1)) p JOIN pg_class c ON c.oid = p.relid
WHERE c.relkind = 'f' OR c.relkind = 'r' AND c.relpersistence <> 'p' ORDER BY 1";

/// Every row needs a partition: with a default one every row has one, with no partitions none has.
fn partitions(
    name: &str,
    strategy: Option<String>,
    default: bool,
    count: i64,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) {
    let by = match strategy.as_deref() {
        Some("l") => "list",
        Some("r") => "range",
        Some("h") => "hash",
        _ => "an unknown rule",
    };
    if count > 0 {
        notices.push(format!(
            "{name} is partitioned: TRUNCATE, ATTACH, DETACH or DROP of one of its partitions is not captured for the reverse flow"
        ));
    }
    if count == 0 {
        problems
            .push(format!("{name} is partitioned by {by} and has no partition, so no row has a place; create them"));
    } else if !default {
        notices.push(format!(
            "{name} is partitioned by {by} without a default partition: rows that none of its {count} partitions takes \
             will be parked"
        ));
    }
}
