//! What is not captured although our triggers exist: they are or were switched off, rows came in past them, or the table
//! they write into is missing or not theirs to write. One query asks for all tables at once.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::trigger::Trigger;
use crate::adapters::postgres::connect::Ask;
use crate::adapters::postgres::names::ident;
use crate::ports::CaptureGap;

/// The comment on a trigger that says which transaction made it and which partitions the table had when its capture
/// began, each with the transactions that attached it: `123;16401:90 16410:91,92`. It goes with the trigger. A
/// transaction of 0 is none: something was missed before that the trigger cannot show any more.
const BEGAN: &str = "cutover: captured from the beginning: ";

/// A partition `p` with the transactions that attached it and what it is in: detached and attached again, it is another.
const LINKED: &str = "p.relid::oid::text || ':' || (
    SELECT string_agg(h.xmin::text, ',' ORDER BY h.inhrelid) FROM pg_inherits h
    WHERE h.inhrelid IN (SELECT relid FROM pg_partition_ancestors(p.relid)))";

/// This transaction, and the partitions of a table.
fn now() -> String {
    format!(
        "SELECT pg_current_xact_id()::xid::text, (
             SELECT coalesce(string_agg({LINKED}, ' ' ORDER BY p.relid::oid), '')
             FROM pg_partition_tree(to_regclass($1)) p WHERE p.isleaf AND p.relid <> to_regclass($1))"
    )
}

/// Whether one of these triggers misses something, and which partitions they began with.
const BEFORE: &str = "
SELECT bool_or(t.tgenabled IN ('D', 'R') OR t.xmin::text IS DISTINCT FROM split_part(d.said, ';', 1)),
       min(split_part(d.said, ';', 2))
FROM pg_trigger t
CROSS JOIN LATERAL (SELECT substr(obj_description(t.oid, 'pg_trigger'), length($3) + 1) AS said) d
WHERE t.tgrelid = to_regclass($1) AND t.tgname = ANY ($2) HAVING count(*) > 0";

/// What triggers that are replaced while customers write say of their beginning: the ones that replace them say it on.
pub(super) struct Before {
    missed: bool,
    partitions: Option<String>,
}

/// What these triggers of a table say of their beginning.
pub(super) async fn before(tx: &Transaction<'_>, on: &str, names: &[String]) -> Result<Option<Before>, Error> {
    let row = tx.query_opt(BEFORE, &[&on, &names, &BEGAN]).await?;
    row.map(|row| Ok(Before { missed: row.try_get(0)?, partitions: row.try_get(1)? })).transpose()
}

/// Whether a trigger fires only for sessions that are no replica's.
const ORDINARY: &str = "SELECT tgenabled = 'O' FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = $2";

/// Makes triggers of ours fire in every session, a replica's too, and writes down how those begin that were `made` just
/// now. One that somebody switched off stays off, and of one that was off for a while that stays known: a person must
/// check what it missed meanwhile.
pub(super) async fn settled(
    tx: &Transaction<'_>,
    trigger: &Trigger,
    made: &[&str],
    before: Option<&Before>,
) -> Result<(), Error> {
    for (name, _) in &trigger.create {
        let Some(row) = tx.query_opt(ORDINARY, &[&trigger.on, name]).await? else { continue };
        if row.try_get(0)? {
            tx.batch_execute(&format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}", trigger.on, ident(name))).await?;
        }
        if made.contains(&name.as_str()) {
            let row = tx.query_one(&now(), &[&trigger.on]).await?;
            let (mut by, mut partitions): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(before) = before {
                if before.missed {
                    by = "0".to_owned();
                }
                partitions = before.partitions.clone().unwrap_or(partitions);
            }
            let says = format!("COMMENT ON TRIGGER {} ON {} IS '{BEGAN}{by};{partitions}'", ident(name), trigger.on);
            tx.batch_execute(&says).await?;
        }
    }
    Ok(())
}

/// Our triggers on these tables and on all their partitions that are switched off, or were altered after the transaction
/// that made them: the first one's, or the one that attached the partition. (`xmin` of a row of the catalogue is the
/// transaction that wrote it last.)
const OFF: &str = "
SELECT DISTINCT w.n, t.tgrelid::regclass::text, t.tgenabled::text, t.tgname::text
FROM unnest($1::text[], $2::text[], $3::bigint[]) w(tab, name, n)
JOIN pg_trigger own ON own.tgrelid = to_regclass(w.tab) AND own.tgname = w.name
CROSS JOIN LATERAL (SELECT to_regclass(w.tab)::oid AS relid UNION
                    SELECT relid FROM pg_partition_tree(to_regclass(w.tab))) tree
JOIN pg_trigger t ON t.tgrelid = tree.relid AND t.tgname = w.name
WHERE t.tgenabled IN ('D', 'R') OR (
    t.xmin::text IS DISTINCT FROM split_part(substr(obj_description(own.oid, 'pg_trigger'), length($4) + 1), ';', 1)
    AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.xmin = t.xmin
                    AND h.inhrelid IN (SELECT relid FROM pg_partition_ancestors(t.tgrelid))))
ORDER BY 1, 2, 3, 4";

/// Columns that the tables have no more.
const GONE: &str = "
SELECT w.n, w.col FROM unnest($1::text[], $2::text[], $3::bigint[]) w(tab, col, n)
WHERE to_regclass(w.tab) IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(w.tab) AND a.attname = w.col AND NOT a.attisdropped)
ORDER BY 1, 2";

/// The roles whose rights the functions have, where they do not suffice for a record; `-` for an outbox that is gone.
const LOST: &str = "
SELECT w.n, CASE WHEN to_regclass('cutover.outbox') IS NULL THEN '-' ELSE pg_get_userbyid(p.proowner)::text END
FROM unnest($1::text[], $2::bigint[]) w(calls, n) JOIN pg_proc p ON p.oid = to_regprocedure(w.calls)
WHERE NOT coalesce(has_schema_privilege(p.proowner, 'cutover', 'USAGE')
                   AND has_table_privilege(p.proowner, to_regclass('cutover.outbox'), 'INSERT'), false)
ORDER BY 1";

/// Partitions that came since; with the transaction of the youngest link to the table, and its place in it; and the
/// transaction that made the partition itself. Transactions, not their ages: these grow from one statement to the next.
fn since() -> String {
    format!("
SELECT w.n, p.relid::regclass::text, i.made_by, i.cmin,
       (SELECT a.xmin::text FROM pg_attribute a WHERE a.attrelid = p.relid AND a.attnum < 0 ORDER BY age(a.xmin) DESC LIMIT 1)
FROM unnest($1::text[], $2::text[], $3::bigint[]) w(tab, name, n)
JOIN pg_trigger t ON t.tgrelid = to_regclass(w.tab) AND t.tgname = w.name
CROSS JOIN LATERAL pg_partition_tree(to_regclass(w.tab)) p
CROSS JOIN LATERAL (SELECT h.xmin::text AS made_by, h.cmin::text::bigint AS cmin FROM pg_inherits h
                    WHERE h.inhrelid IN (SELECT relid FROM pg_partition_ancestors(p.relid))
                    ORDER BY age(h.xmin), 2 DESC LIMIT 1) i
WHERE p.isleaf AND p.relid <> to_regclass(w.tab) AND starts_with(obj_description(t.oid, 'pg_trigger'), $4)
  AND {LINKED} <> ALL (string_to_array(
          split_part(substr(obj_description(t.oid, 'pg_trigger'), length($4) + 1), ';', 2), ' '))
ORDER BY 1, 2")
}

/// What is not captured, table by table.
pub(super) async fn of(client: &impl Ask, triggers: &[Trigger]) -> Result<Vec<CaptureGap>, Error> {
    let mut found: BTreeMap<i64, Vec<CaptureGap>> = BTreeMap::new();
    let mut name = |n: i64, lost: bool, what: String| found.entry(n).or_default().push(CaptureGap { what, lost });
    let all = || (0_i64..).zip(triggers);
    let trigger = |n: i64| usize::try_from(n).ok().and_then(|n| triggers.get(n));

    let each = || all().flat_map(|(n, t)| t.create.iter().map(move |(name, _)| (t.on.as_str(), name.as_str(), n)));
    let (on, names, numbers): (Vec<&str>, Vec<&str>, Vec<i64>) = unzip(each());
    let mut off: BTreeMap<(i64, String, &str), Vec<String>> = BTreeMap::new();
    for row in client.ask(OFF, &[&on, &names, &numbers, &BEGAN]).await? {
        let how = match row.try_get::<_, &str>(2)? {
            "D" => "is switched off",
            "R" => "fires for replicas only",
            _ => "",
        };
        off.entry((row.try_get(0)?, row.try_get(1)?, how)).or_default().push(row.try_get(3)?);
    }
    for ((n, table, how), names) in off {
        let what = match how {
            "" => format!(
                "{table}: our trigger was altered since it was made; while it was switched off, writes were not captured"
            ),
            how => format!(
                "{table}: our trigger {how}, and writes are not captured; {}",
                names
                    .iter()
                    .map(|t| format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {}", ident(t)))
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        };
        name(n, true, what);
    }

    let each = || all().flat_map(|(n, t)| t.columns.iter().map(move |column| (t.on.as_str(), column.as_str(), n)));
    let (on, columns, numbers): (Vec<&str>, Vec<&str>, Vec<i64>) = unzip(each());
    let mut gone: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for row in client.ask(GONE, &[&on, &columns, &numbers]).await? {
        gone.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
    }
    for (n, columns) in gone {
        let (named, columns) = (trigger(n).map_or("", |t| &t.named), columns.join(", "));
        let what = format!(
            "{named}: no column {columns} any more; writes are captured without it and not carried back; give it its name back"
        );
        name(n, false, what);
    }

    let (calls, numbers): (Vec<&str>, Vec<i64>) = all().map(|(n, t)| (t.calls.as_str(), n)).unzip();
    for row in client.ask(LOST, &[&calls, &numbers]).await? {
        let (n, role): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let named = trigger(n).map_or("", |t| &t.named);
        let what = match role.as_str() {
            "-" => format!("{named}: cutover.outbox is gone, and every write to the table fails"),
            role => format!(
                "{named}: {role} may not write into cutover.outbox, and every write to the table fails; GRANT USAGE ON \
                 SCHEMA cutover, GRANT INSERT ON cutover.outbox"
            ),
        };
        // With the outbox, what waited in it is gone.
        name(n, role == "-", what);
    }

    let each = || all().map(|(n, t)| (t.on.as_str(), t.create[0].0.as_str(), n));
    let (on, names, numbers): (Vec<&str>, Vec<&str>, Vec<i64>) = unzip(each());
    for row in client.ask(&since(), &[&on, &names, &numbers, &BEGAN]).await? {
        let (n, part): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let named = trigger(n).map_or("", |t| &t.named);
        let what = match brought_rows(client, &part, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?).await {
            Ok(false) => continue,
            Ok(true) => format!(
                "{part} was attached to {named} with rows in it, whose changes were not captured; detach it and insert its \
                 rows into {named}"
            ),
            Err(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE) => continue,
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!(
                "{part} was attached to {named}, and whether rows were in it cannot be read; GRANT SELECT ON {part}"
            ),
            Err(e) => return Err(e),
        };
        name(n, true, what);
    }
    Ok(found.into_values().flatten().collect())
}

/// Three columns of rows.
fn unzip<'t>(rows: impl Iterator<Item = (&'t str, &'t str, i64)>) -> (Vec<&'t str>, Vec<&'t str>, Vec<i64>) {
    let (mut one, mut two, mut three) = (Vec::new(), Vec::new(), Vec::new());
    for (a, b, n) in rows {
        one.push(a);
        two.push(b);
        three.push(n);
    }
    (one, two, three)
}

/// Whether a partition holds rows that are older than its link to the table. In one that was made where it is, a row that
/// is older than the partition came later, of a transaction that had begun before. The oldest rows stand at the
/// beginning, so only the first pages are read. A frozen row keeps its number: one of more than two billion transactions
/// ago looks as if it were still to come. Within one transaction the order of statements separates them, as long as
/// nobody has touched the row since: an update or a lock overwrites that order.
pub(in crate::adapters::postgres) async fn brought_rows(
    client: &impl Ask,
    part: &str,
    linked: &str,
    place: i64,
    made: &str,
) -> Result<bool, Error> {
    let oldest = (made == linked).then_some(made);
    // By row, not by range: servers before 14 would read the whole partition. No page holds more than 291 rows.
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {part} t WHERE t.ctid = ANY (ARRAY(
               SELECT format('(%s,%s)', page, row)::tid FROM generate_series(0, 31) page, generate_series(1, 291) row))
           AND ($3::text IS NULL OR age(t.xmin) <= age($3::text::xid))
           AND (age(t.xmin) > age($1::text::xid) OR age(t.xmin) < 0
                OR age(t.xmin) = age($1::text::xid) AND t.xmax::text = '0' AND t.cmin::text::bigint < $2))"
    );
    client.ask_one(&sql, &[&linked, &place, &oldest]).await?.map_or(Ok(false), |row| row.try_get(0))
}
