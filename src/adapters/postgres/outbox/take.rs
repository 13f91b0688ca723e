//! Records with the rows they belong to, read in one snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Error;

use super::applied;
use crate::adapters::postgres::connect::{Ask, Object, Pool};
use crate::adapters::postgres::names::ident;
use crate::adapters::postgres::owner;
use crate::adapters::postgres::read::numbered;
use crate::adapters::postgres::shape::{Part, Shape};
use crate::adapters::postgres::{retry, trouble};
use crate::domain::at::At;
use crate::domain::mapping::RowTree;
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{Cleared, ErrorKind, OutboxChange, OwnWrite, PortError, PortResult, Taken, Unfinished};

/// States of one key that are kept at most: the oldest, and the newest ones.
const STATES: usize = 256;

/// Markers that wait.
pub(in crate::adapters::postgres) const MARKERS: &str =
    "SELECT id, key ->> 'nonce' FROM cutover.outbox WHERE plan = $1 AND table_id = $2 AND part = -1 ORDER BY id";

/// The records of the keys that have some of the oldest. Each key by the index of keys alone (`OFFSET 0`): without
/// statistics, as a table has that has just been filled, all of the table's records would be read for each key.
pub(in crate::adapters::postgres) const FIRSTS: &str = "
WITH firsts AS (SELECT id, key FROM cutover.outbox
                WHERE plan = $1 AND table_id = $2 AND part >= 0 ORDER BY id LIMIT $3),
     keys AS (SELECT key, min(id) AS first FROM firsts GROUP BY key)
SELECT o.id, k.first, o.part, (extract(epoch FROM o.at) * 1000)::bigint
FROM keys k CROSS JOIN LATERAL (SELECT id, plan, table_id, part, at FROM cutover.outbox WHERE key = k.key OFFSET 0) o
WHERE o.plan = $1 AND o.table_id = $2 AND o.part >= 0 ORDER BY k.first, o.id";

/// A snapshot is taken only after every other reverse applier, and every process that empties a table, is kept away:
/// `LOCK` takes no snapshot, the first query does. A snapshot from before a `TRUNCATE` would see the table empty and
/// not the records of it. A reverse applier that hangs loses its turn.
///
/// An outbox that has just been filled has no statistics, and looks small: all of it would be read, and sorted, for its oldest
/// records. Without bitmaps they are read in their order.
fn begin(shape: &Shape) -> String {
    let tables: Vec<&str> = std::iter::once(&shape.main).chain(&shape.children).map(|p| p.sql.as_str()).collect();
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '2s'; \
         SET LOCAL idle_in_transaction_session_timeout = '20s'; SET LOCAL enable_bitmapscan = off; LOCK TABLE {} IN EXCLUSIVE MODE; \
         LOCK TABLE {} IN ACCESS SHARE MODE",
        owner::turn(&shape.plan),
        tables.join(", ")
    )
}

/// Changes with the transaction they were read in.
pub(super) struct PgTaken {
    client: Option<Object>,
    pool: Pool,
    place: String,
    shape: Arc<Shape>,
    changes: Vec<OutboxChange>,
    markers: Vec<(i64, String)>,
    nonces: Vec<String>,
    rolled_back: bool,
}

impl Drop for PgTaken {
    fn drop(&mut self) {
        // A connection inside a transaction must not go back to the pool; closing it gives the records back.
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

#[async_trait]
impl Taken for PgTaken {
    fn changes(&self) -> &[OutboxChange] {
        &self.changes
    }

    fn markers(&self) -> &[String] {
        &self.nonces
    }

    fn rolled_back(&self) -> bool {
        self.rolled_back
    }

    async fn unfinished(&self, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>> {
        applied::unfinished(&self.pool, &self.place, self.shape.of(), keys).await
    }

    async fn record_own_writes(&self, images: &[OwnWrite]) -> PortResult<bool> {
        let back = applied::record_own_writes(&self.pool, &self.place, self.shape.of(), images).await?;
        self.turn().await?;
        Ok(back)
    }

    async fn clear(&self, applied: &[Cleared]) -> PortResult<()> {
        self.turn().await?;
        applied::clear(&self.pool, &self.place, self.shape.of(), applied).await
    }

    async fn done(mut self: Box<Self>) -> PortResult<()> {
        let on = self.shape.id.clone();
        let error = |e: Error| trouble::error(&e, "clear markers of", &on);
        let Some(client) = &self.client else { return Err(self.over("clear markers of")) };
        let records: Vec<i64> = self.markers.iter().map(|(id, _)| *id).collect();
        let statement = client.prepare_cached("DELETE FROM cutover.outbox WHERE id = ANY ($1)").await.map_err(error)?;
        client.execute(&statement, &[&records]).await.map_err(error)?;
        client.batch_execute("COMMIT").await.map_err(error)?;
        // Only now it is an ordinary connection again.
        drop(self.client.take());
        Ok(())
    }
}

impl PgTaken {
    /// Fails when the turn is lost, otherwise renews it: a reverse applier without the turn reads an old snapshot, in
    /// which another's write would look like a customer's.
    async fn turn(&self) -> PortResult<()> {
        let Some(client) = &self.client else { return Err(self.over("keep the turn of carrying")) };
        let error = |e: Error| trouble::error(&e, "keep the turn of carrying", &self.shape.id);
        client.batch_execute("").await.map_err(error)
    }

    fn over(&self, tried: &'static str) -> PortError {
        PortError::new(ErrorKind::Internal, tried, &self.shape.id, "no transaction is open")
    }
}

/// Takes changes of a table. See [`crate::ports::Outbox::take`].
pub(super) async fn take(pool: &Pool, place: &str, shape: Arc<Shape>, limit: u32) -> PortResult<Option<PgTaken>> {
    let (plan, on) = (&shape.plan, &shape.id);
    let error = |e: Error| trouble::error(&e, "take changes of", on);
    let client = retry::client(pool, place).await?;
    // Checked first without the lock: most reads find nothing.
    let any = "SELECT EXISTS (SELECT FROM cutover.outbox WHERE plan = $1 AND table_id = $2)";
    let any = client.prepare_cached(any).await.map_err(error)?;
    if !client.query_one(&any, &[plan, on]).await.and_then(|r| r.try_get::<_, bool>(0)).map_err(error)? {
        return Ok(None);
    }
    // From here on dropping it means giving the records back.
    let mut taken = PgTaken {
        client: Some(client),
        pool: pool.clone(),
        place: place.to_owned(),
        shape: Arc::clone(&shape),
        changes: Vec::new(),
        markers: Vec::new(),
        nonces: Vec::new(),
        rolled_back: false,
    };
    let Some(client) = &taken.client else { return Ok(None) };
    client.batch_execute(&begin(&shape)).await.map_err(error)?;
    let back: bool =
        client.query_one(owner::ROLLED_BACK, &[plan, on]).await.and_then(|r| r.try_get(0)).map_err(error)?;
    let markers: Result<Vec<(i64, String)>, Error> = async {
        let statement = client.prepare_cached(MARKERS).await?;
        client.query(&statement, &[plan, on]).await?.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
    }
    .await;
    let markers = markers.map_err(error)?;
    let changes = read(client, &shape, limit).await?;
    taken.nonces = markers.iter().map(|(_, nonce)| nonce.clone()).collect();
    (taken.changes, taken.markers, taken.rolled_back) = (changes, markers, back);
    Ok(Some(taken))
}

/// One record.
struct Record {
    id: i64,
    part: i16,
}

/// Reads records and rows in the client's transaction.
pub(super) async fn read<C: Ask>(client: &C, shape: &Shape, limit: u32) -> PortResult<Vec<OutboxChange>> {
    let (plan, table) = (&shape.plan, shape.id.as_str());
    let error = |e: Error| trouble::error(&e, "read the outbox of", table);
    let unreadable = || {
        PortError::new(ErrorKind::Invalid, "read the outbox of", table, "a value is not in the form its type promises")
            .advise("compare the column types with the plan: `cutover check`")
    };
    let rows = client.ask(FIRSTS, &[plan, &table, &i64::from(limit)]).await.map_err(error)?;
    let mut keys: Vec<(i64, At, Vec<Record>)> = Vec::new();
    for row in &rows {
        let (id, first): (i64, i64) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        if keys.last().is_none_or(|k| k.0 != first) {
            keys.push((first, At(row.try_get(3).map_err(error)?), Vec::new()));
        }
        if let Some((.., records)) = keys.last_mut() {
            records.push(Record { id, part: row.try_get(2).map_err(error)? });
        }
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let firsts: Vec<i64> = keys.iter().map(|k| k.0).collect();
    let every: Vec<i64> = keys.iter().flat_map(|k| k.2.iter().map(|r| r.id)).collect();

    // Keys and present rows, numbered by their place in `firsts`.
    let names: Vec<String> = shape.key_names().map(ident).collect();
    // Read by itself first (`OFFSET 0`): a plan that makes rows of keys before it joins would read the keys of other tables
    // as this one's, and fail.
    let places = "(SELECT k.n, o.key FROM unnest($1::bigint[]) WITH ORDINALITY k(first, n)
                   JOIN cutover.outbox o ON o.id = k.first OFFSET 0) k";
    let as_row = shape.recorded_key("k.key", "p");
    let on_main: Vec<String> = names.iter().map(|n| format!("t.{n} = p.{n}")).collect();
    let select_key = shape.key_select();
    let sql = format!("SELECT k.n, {select_key} FROM {places}, {}", shape.recorded_key("k.key", "t"));
    let mut key_cells: Vec<OwnedRow> = vec![Vec::new(); keys.len()];
    for row in client.ask(&sql, &[&firsts]).await.map_err(error)? {
        let (place, cells) = numbered(&row, &shape.key_types()).ok_or_else(unreadable)?;
        key_cells[place] = cells;
    }
    let main = &shape.main;
    let sql = format!(
        "SELECT k.n, {} FROM {places}, {as_row} JOIN {} t ON {}",
        main.select,
        main.sql,
        // A table without a key has no rows of a key.
        if on_main.is_empty() { "false".to_owned() } else { on_main.join(" AND ") }
    );
    let mut present: Vec<Option<OwnedRow>> = vec![None; keys.len()];
    for row in client.ask(&sql, &[&firsts]).await.map_err(error)? {
        let (place, cells) = numbered(&row, &main.types).ok_or_else(unreadable)?;
        present[place] = Some(cells);
    }
    let mut children: Vec<Vec<Vec<OwnedRow>>> = vec![vec![Vec::new(); shape.children.len()]; keys.len()];
    let mut before: BTreeMap<i64, OwnedRow> = states(client, main, 0, "before", &every).await?;
    let mut after: BTreeMap<i64, OwnedRow> = BTreeMap::new();
    for (n, child) in shape.children.iter().enumerate() {
        let on: Vec<String> =
            child.parent_key.iter().zip(&names).map(|(c, k)| format!("t.{} = p.{k}", ident(c))).collect();
        let sql = format!(
            "SELECT k.n, {} FROM {places}, {as_row} JOIN {} t ON {} ORDER BY k.n{}",
            child.select,
            child.sql,
            if on.is_empty() { "false".to_owned() } else { on.join(" AND ") },
            child.order
        );
        for row in client.ask(&sql, &[&firsts]).await.map_err(error)? {
            let (place, cells) = numbered(&row, &child.types).ok_or_else(unreadable)?;
            children[place][n].push(cells);
        }
        let part = i16::try_from(n + 1).unwrap_or(i16::MAX);
        before.extend(states(client, child, part, "before", &every).await?);
        after.extend(states(client, child, part, "after", &every).await?);
    }

    let mut absent = absences(client, main, 0, &every).await?;
    for (n, child) in shape.children.iter().enumerate() {
        absent.extend(absences(client, child, i16::try_from(n + 1).unwrap_or(i16::MAX), &every).await?);
    }

    let all = keys.into_iter().zip(key_cells).zip(present.into_iter().zip(children));
    Ok(all
        .map(|(((_, since, records), key), (row, children))| {
            let (states, from) = walk_back(row, children, &records, &mut before, &mut after);
            let absent = records.iter().find_map(|r| absent.remove(&r.id));
            OutboxChange { key, since, states, from, records: records.into_iter().map(|r| r.id).collect(), absent }
        })
        .collect())
}

/// Columns that records of one part were written without, by record: the table had none of that name then.
async fn absences<C: Ask>(client: &C, part: &Part, number: i16, ids: &[i64]) -> PortResult<BTreeMap<i64, String>> {
    let error = |e: Error| trouble::error(&e, "read the outbox of", &part.name);
    let sql =
        "SELECT o.id, string_agg($2::text || '.' || c, ', ' ORDER BY c) FROM cutover.outbox o, unnest($3::text[]) c
               WHERE o.id = ANY ($1) AND o.part = $4
                 AND NOT (jsonb_exists(coalesce(o.before, o.after), c) AND jsonb_exists(coalesce(o.after, o.before), c))
               GROUP BY o.id";
    let rows = client.ask(sql, &[&ids, &part.name, &part.names(), &number]).await.map_err(error)?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Error>>().map_err(error)
}

/// States of one part by record. `side` is a column of ours.
async fn states<C: Ask>(
    client: &C,
    part: &Part,
    number: i16,
    side: &str,
    ids: &[i64],
) -> PortResult<BTreeMap<i64, OwnedRow>> {
    let error = |e: Error| trouble::error(&e, "read the outbox of", &part.name);
    // Numbered from 1 by `numbered`'s custom, so the id goes in one higher.
    let (select, row) = part.recorded(&format!("o.{side}"));
    let sql = format!(
        "SELECT o.id + 1, {select} FROM cutover.outbox o, {row}
         WHERE o.id = ANY ($1) AND o.part = $2 AND o.{side} IS NOT NULL"
    );
    let mut found = BTreeMap::new();
    for row in client.ask(&sql, &[&ids, &number]).await.map_err(error)? {
        let Some((id, cells)) = numbered(&row, &part.types) else {
            let came_back = "a captured value is not in the form its type promises";
            return Err(PortError::new(ErrorKind::Invalid, "read the outbox of", &part.name, came_back)
                .advise("compare the column types with the plan: `cutover check`"));
        };
        found.insert(i64::try_from(id).unwrap_or(i64::MAX), cells);
    }
    Ok(found)
}

/// The states a key has had and the record each began with, oldest first, worked out from the present one by taking the
/// records back, newest first.
fn walk_back(
    row: Option<OwnedRow>,
    children: Vec<Vec<OwnedRow>>,
    records: &[Record],
    before: &mut BTreeMap<i64, OwnedRow>,
    after: &mut BTreeMap<i64, OwnedRow>,
) -> (Vec<Option<RowTree>>, Vec<i64>) {
    let (mut row, mut children) = (row, children);
    let whole = |row: &Option<OwnedRow>, children: &Vec<Vec<OwnedRow>>| {
        row.as_ref().map(|row| RowTree { row: row.clone(), children: children.clone() })
    };
    let mut states = vec![whole(&row, &children)];
    let mut from = vec![records.last().map_or(0, |r| r.id)];
    for (n, record) in records.iter().enumerate().rev() {
        match usize::try_from(record.part) {
            Ok(0) => row = before.remove(&record.id),
            Ok(part) => {
                let Some(rows) = children.get_mut(part - 1) else { continue };
                if let Some(gone) = after.remove(&record.id)
                    && let Some(place) = rows.iter().position(|r| *r == gone)
                {
                    rows.remove(place);
                }
                rows.extend(before.remove(&record.id));
            }
            Err(_) => continue,
        }
        let state = whole(&row, &children);
        let began = n.checked_sub(1).and_then(|n| records.get(n)).map_or(0, |r| r.id);
        if n > 0 && states.last() == Some(&state) {
            from.pop();
            from.push(began);
        } else if n == 0 || states.len() < STATES {
            states.push(state);
            from.push(began);
        }
    }
    states.reverse();
    from.reverse();
    (states, from)
}
