//! Partitions of a source, and what happens to one that no change of a row says.
//!
//! The log names each partition by itself, so what is written to one, and that one is emptied, stands in it. That one is
//! detached, dropped, or attached with rows in it does not: its rows leave or join the table without a word. So the
//! publication's comment says which partitions each table had when its changes began to be captured, and the catalogue is
//! compared with it. One that comes later is added once a change of it is met in the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::fit;
use crate::adapters::postgres::connect::{Ask, Object};
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::outbox::brought_rows;
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What the comment on a publication begins with, and what comes before the files of tables that are loaded.
const BEGAN: &str = "cutover: partitions at the beginning: ";
const LOADED: &str = "\nfiles while tables are loaded: ";
/// Held while the comment is changed: each change of it writes all of it.
static CHANGING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What to do about rows that came or went without a word in the log.
const ANEW: &str = "repair the table (`cutover verify --full --repair`) and compare it once more: a comparison without a \
                    difference and without a repair proves its rows; let nothing detach, drop or attach partitions with rows \
                    from then on";

/// The partitions of tables that hold rows: the table's number and theirs, and what is said of each.
const NOW: &str = "
SELECT to_regclass(t.name)::oid, p.relid::oid, p.relid::regclass::text, (
           SELECT string_agg(h.xmin::text, ',' ORDER BY h.inhrelid) FROM pg_inherits h
           WHERE h.inhrelid IN (SELECT relid FROM pg_partition_ancestors(p.relid)))
FROM unnest($1::text[]) t(name) CROSS JOIN LATERAL pg_partition_tree(to_regclass(t.name)) p
WHERE p.isleaf AND p.relid <> to_regclass(t.name)";

/// Of the partition `$1`: the transaction of its youngest link to the table and its place there, and the transaction that
/// made the partition itself.
const LINK: &str = "
SELECT h.xmin::text, h.cmin::text::bigint,
       (SELECT a.xmin::text FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum < 0 ORDER BY age(a.xmin) DESC LIMIT 1)
FROM pg_inherits h WHERE h.inhrelid IN (SELECT relid FROM pg_partition_ancestors($1::oid::regclass))
ORDER BY age(h.xmin), 2 DESC LIMIT 1";

/// One partition, as it was when changes of it began to be captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    name: String,
    /// The transactions that attached it and what it is in: detached and attached again, it is another.
    link: String,
    /// Whether it had rows when it was attached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    filled: bool,
}

/// What a publication says of its tables.
#[derive(Debug, Default)]
pub(super) struct Began {
    /// By the number of the table, its partitions by theirs.
    parts: BTreeMap<u32, BTreeMap<u32, Part>>,
    /// By the number of a table whose load is not over, the files in which it and its partitions stood when it began.
    pub(super) files: BTreeMap<u32, BTreeMap<u32, u32>>,
}

async fn now(client: &impl Ask, tables: &[&str]) -> Result<Began, Error> {
    let mut found = Began::default();
    for row in client.ask(NOW, &[&tables]).await? {
        let part = Part { name: row.try_get(2)?, link: row.try_get(3)?, filled: false };
        found.parts.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?, part);
    }
    Ok(found)
}

/// What a publication says of its beginning; `None` where there is none, or it says nothing.
pub(super) async fn began(client: &impl Ask, publication: &str) -> Result<Option<Began>, Error> {
    let sql = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1";
    let Some(row) = client.ask_one(sql, &[&publication]).await? else { return Ok(None) };
    let said: Option<String> = row.try_get(0)?;
    Ok(said.and_then(|said| parse(&said)))
}

/// What a comment of ours says; `None` for another one.
fn parse(said: &str) -> Option<Began> {
    let said = said.strip_prefix(BEGAN)?;
    let (parts, files) = said.split_once(LOADED).unwrap_or((said, "{}"));
    Some(Began { parts: serde_json::from_str(parts).ok()?, files: serde_json::from_str(files).ok()? })
}

/// Changes what a publication says. `None` where it says nothing of ours: what nobody wrote down, or somebody wrote over,
/// stays unknown for all of its tables.
pub(super) async fn change<R>(
    client: &Object,
    publication: &str,
    change: impl FnOnce(&mut Began) -> R,
) -> Result<Option<R>, Error> {
    let _changing = CHANGING.lock().await;
    let Some(mut began) = began(client, publication).await? else { return Ok(None) };
    let changed = change(&mut began);
    client.batch_execute(&comment(publication, &began)).await?;
    Ok(Some(changed))
}

fn comment(publication: &str, began: &Began) -> String {
    let mut said = serde_json::to_string(&began.parts).unwrap_or_default();
    if !began.files.is_empty() {
        said = format!("{said}{LOADED}{}", serde_json::to_string(&began.files).unwrap_or_default());
    }
    let said = said.replace('\'', "''");
    // A backslash is one in every session, whatever `standard_conforming_strings` says.
    let said = said.replace('\\', "\\\\");
    format!("COMMENT ON PUBLICATION {} IS E'{BEGAN}{said}'", ident(publication))
}

/// The statement that writes down which partitions these tables have now.
pub(super) async fn noted(client: &impl Ask, publication: &str, tables: &[&str]) -> Result<String, Error> {
    Ok(comment(publication, &now(client, tables).await?))
}

/// The numbers under which the log may name a table: its own, those of its partitions, and of those that it had when its
/// changes began to be captured.
pub(super) async fn numbers(client: &impl Ask, publication: &str, table: u32, sql: &str) -> Result<Vec<u32>, Error> {
    let mut all = vec![table];
    let now = now(client, &[sql]).await?;
    let before = began(client, publication).await?.unwrap_or_default();
    let parts = [&now, &before].into_iter().filter_map(|known| known.parts.get(&table));
    all.extend(parts.flat_map(BTreeMap::keys));
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// A partition of which nobody knew comes in the log: gives the table that it is part of, of the published ones, and adds
/// it to what the publication says. `None` for one that is part of none of them any more.
pub(super) async fn met(client: &Object, publication: &str, partition: u32) -> Result<Option<u32>, Error> {
    let sql = "SELECT r.prrelid, r.prrelid::regclass::text FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
               WHERE p.pubname = $2 AND r.prrelid IN (SELECT relid FROM pg_partition_ancestors($1::oid::regclass))";
    let Some(row) = client.query_opt(sql, &[&partition, &publication]).await? else { return Ok(None) };
    let (table, name): (u32, String) = (row.try_get(0)?, row.try_get(1)?);
    let Some(mut part) =
        now(client, &[&name]).await?.parts.remove(&table).and_then(|mut parts| parts.remove(&partition))
    else {
        return Ok(None);
    };
    part.filled = filled(client, partition, &part.name).await?;
    let met = |began: &mut Began| {
        began.parts.entry(table).or_default().entry(partition).or_insert(part);
    };
    change(client, publication, met).await?;
    Ok(Some(table))
}

/// Whether a partition had rows when it was attached.
async fn filled(client: &impl Ask, partition: u32, name: &str) -> Result<bool, Error> {
    let Some(link) = client.ask_one(LINK, &[&partition]).await? else { return Ok(false) };
    brought_rows(client, name, link.try_get(0)?, link.try_get(1)?, link.try_get(2)?).await
}

/// What happened to a table's partitions since its changes are captured that the log does not say, each with what to do;
/// nothing where they are not captured yet. And which partitions it has now, in one text.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn unseen(
    client: &Object,
    publication: &str,
    table: &Table,
) -> PortResult<(Vec<(String, String)>, String)> {
    let (on, sql) = (table.source.as_str(), qualified(&table.source));
    let error = |e: Error| trouble::error(&e, "look for partitions that came or went of", on);
    let mut found = Vec::new();
    let Some((oid, true)) = partitioned(client, &sql).await.map_err(error)? else { return Ok((found, String::new())) };
    let now = now(client, &[&sql]).await.map_err(error)?.parts.remove(&oid).unwrap_or_default();
    let parts = said(&now);
    if !is_captured(client, publication).await.map_err(error)? {
        return Ok((found, parts));
    }
    // A partition that came since and is UNLOGGED or foreign writes nothing into the log.
    match fit::table(client, table).await {
        Ok(()) => {}
        Err(PortError { kind: ErrorKind::Invalid, came_back, advice, .. }) => {
            found.push((format!("changes of {on} are not all in the log: {came_back}"), advice));
        }
        Err(e) => return Err(e),
    }
    let Some(mut began) = began(client, publication).await.map_err(error)? else {
        let wrong =
            format!("which partitions {on} had when its changes began to be captured is not on record any more");
        found.push((wrong, format!("somebody changed the comment on the publication {publication}; {ANEW}")));
        return Ok((found, parts));
    };
    let mut before = began.parts.remove(&oid).unwrap_or_default();
    for (number, part) in now {
        let name = &part.name;
        let brought = match before.remove(&number) {
            Some(known) if known.link == part.link => known.filled,
            Some(_) => {
                found.push((format!("{name} was detached from {on} and attached again"), ANEW.to_owned()));
                continue;
            }
            None => match filled(client, number, name).await {
                Ok(filled) => filled,
                // It went while it was looked at; the next look says so.
                Err(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE) => continue,
                Err(e) => return Err(error(e)),
            },
        };
        if brought {
            let wrong = format!("{name} was attached to {on} with rows in it, which the log does not have");
            found.push((wrong, ANEW.to_owned()));
        }
    }
    for Part { name, .. } in before.into_values() {
        let wrong = format!("{name} was detached from {on} or dropped: its rows may still stand on the new side");
        found.push((wrong, ANEW.to_owned()));
    }
    Ok((found, parts))
}

/// What a table's partitions are from now on taken to have been at the beginning: a comparison that began when they were
/// `parts` has proven all their rows. Nothing where they are others by now.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn made_good(client: &Object, publication: &str, table: &Table, parts: &str) -> PortResult<()> {
    let (on, sql) = (table.source.as_str(), qualified(&table.source));
    let error = |e: Error| trouble::error(&e, "note a comparison of", on);
    let Some((oid, true)) = partitioned(client, &sql).await.map_err(error)? else { return Ok(()) };
    let now = now(client, &[&sql]).await.map_err(error)?.parts.remove(&oid).unwrap_or_default();
    if said(&now) != parts || !is_captured(client, publication).await.map_err(error)? {
        return Ok(());
    }
    let proven = |began: &mut Began| drop(began.parts.insert(oid, now));
    change(client, publication, proven).await.map(drop).map_err(error)
}

/// A table's number, and whether it is partitioned.
async fn partitioned(client: &impl Ask, sql: &str) -> Result<Option<(u32, bool)>, Error> {
    let asked = "SELECT oid, relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)";
    client.ask_one(asked, &[&sql]).await?.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

pub(super) async fn is_captured(client: &impl Ask, publication: &str) -> Result<bool, Error> {
    let sql = "SELECT FROM pg_publication WHERE pubname = $1";
    Ok(client.ask_one(sql, &[&publication]).await?.is_some())
}

/// Partitions in one text.
fn said(parts: &BTreeMap<u32, Part>) -> String {
    parts.iter().map(|(number, part)| format!("{number}:{} ", part.link)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_comment_says_comes_back_whatever_a_partition_is_called() {
        let name = r#"shop."it's \ "" odd""#.to_owned();
        let part = Part { name, link: "90,91".into(), filled: true };
        let parts = BTreeMap::from([(16_385, BTreeMap::from([(16_401, part.clone())]))]);
        let files = BTreeMap::from([(16_385, BTreeMap::from([(16_401, 16_402)]))]);
        for files in [BTreeMap::new(), files] {
            let said = comment("cutover_shop", &Began { parts: parts.clone(), files: files.clone() });
            let said = said.strip_prefix("COMMENT ON PUBLICATION \"cutover_shop\" IS E'").unwrap();
            let text = said.strip_suffix('\'').unwrap().replace("''", "'").replace("\\\\", "\\");
            let back = parse(&text).unwrap();
            assert_eq!((&back.parts[&16_385][&16_401], back.files), (&part, files));
        }
        assert!(parse("somebody else's words").is_none());
    }
}
