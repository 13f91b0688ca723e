//! The outbox: changes of the new side that wait to be carried back.
//!
//! A trigger writes the states before and after each change in the transaction of the change. A carrier reads the
//! records and the rows they speak of in one snapshot and removes exactly the records it read: a transaction that
//! commits late with an early number is simply in the next snapshot, so no gap between numbers can hide a change.

mod take;
mod trigger;

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::book::storable;
use super::connect::Pool;
use super::names::ident;
use super::retry::{self, Failure};
use super::target::PgTarget;
use super::trouble;
use crate::domain::mapping::Clash;
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::{Capture, ErrorKind, Image, Outbox, PortError, PortResult, Taken, Tally, Unfinished, Waiting};

pub(super) use trigger::OURS;

/// Marks a transaction as our own forward work, and refuses it once customers write here: a change of the old side must
/// never overwrite one of theirs, not even from a process that was away when they were let in.
pub(super) async fn ours(tx: &Transaction<'_>, let_in: &Statement, on: &str, rows: bool) -> Result<(), Failure> {
    let mark = format!("{OURS}; SELECT pg_advisory_xact_lock_shared({THAW})");
    // The second is read once the first has the lock.
    let (_, let_in) = tokio::try_join!(biased; tx.batch_execute(&mark), tx.query_one(let_in, &[]))?;
    if rows && let_in.try_get(0)? {
        let came_back = "customers were let in on the new side";
        return Err(PortError::new(ErrorKind::Conflict, "apply changes to", on, came_back)
            .advise("changes of the old side are only watched from now on")
            .into());
    }
    Ok(())
}

/// Whether customers were let in, for [`ours`].
pub(super) const LET_IN: &str = "SELECT EXISTS (SELECT FROM cutover.stream WHERE table_id = 'cutover:let-in')";

/// Held shared by forward work and alone by whoever lets customers in: no forward transaction is under way then.
pub(super) const THAW: i64 = 7_162_838_422;

/// Waits for our own forward transactions and keeps the next ones away until this one ends: they take a table and its
/// children in another order, and each would wait for the other.
async fn alone(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({THAW})")).await
}

/// Signed images are remembered longer than a stream keeps its records.
const REMEMBERED: &str = "30 hours";

/// Conflicts named at most; the tally counts them all.
const NAMED: u32 = 1_000;

impl PgTarget {
    /// Makes the triggers of one table that are not there, and those of an older mapping away.
    async fn capture(&self, tx: &Transaction<'_>, table: &Table) -> Result<Vec<String>, Error> {
        let mut named = Vec::new();
        for trigger in trigger::triggers(table, &self.shape(table)) {
            let sql = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal
                       AND starts_with(tgname::text, 'cutover_capture_')";
            let there: Vec<String> =
                tx.query(sql, &[&trigger.on]).await?.iter().map(|r| r.try_get(0)).collect::<Result<_, _>>()?;
            for old in there.iter().filter(|n| trigger.create.iter().all(|(name, _)| name != *n)) {
                tx.batch_execute(&format!("DROP TRIGGER {} ON {}", ident(old), trigger.on)).await?;
            }
            tx.batch_execute(&trigger.function).await?;
            for (_, create) in trigger.create.iter().filter(|(name, _)| !there.contains(name)) {
                tx.batch_execute(create).await?;
            }
            named.push(trigger.named);
        }
        Ok(named)
    }

    /// [`PgTarget::capture`] in a transaction of its own, run again when it collides: a trigger waits for whoever writes
    /// the table, and a writer that holds one of its child tables may wait for the trigger.
    async fn capture_alone(&self, table: &Table) -> PortResult<Vec<String>> {
        let (tried, on) = ("capture changes of", table.target.as_str());
        let mut client = self.client().await?;
        let mut tries = retry::Tries::default();
        loop {
            let attempt = async {
                let tx = client.transaction().await?;
                alone(&tx).await?;
                let named = self.capture(&tx, table).await?;
                tx.commit().await.map_err(Failure::Commit)?;
                Ok::<_, Failure>(named)
            };
            match attempt.await {
                Ok(named) => return Ok(named),
                Err(failure) => tries.after(failure, tried, on).await?,
            }
        }
    }

    /// Touches one row of every captured table, reads the record that left, and rolls back. `false` when every table
    /// is empty.
    async fn exercise(&self, table: &Table) -> PortResult<bool> {
        let error = self.error("exercise the capture of", &table.target);
        let shape = self.shape(table);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        alone(&tx).await.map_err(&error)?;
        tx.batch_execute("SELECT set_config('cutover.origin', 'exercise', true)").await.map_err(&error)?;
        let mut touched = false;
        let parts = std::iter::once((&shape.main, &table.columns))
            .chain(shape.children.iter().zip(table.children.iter().map(|c| &c.columns)));
        for (n, (part, columns)) in parts.enumerate() {
            let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1)
                       AND attname = ANY ($2::text[]) AND attidentity = '' AND attgenerated = ''
                       ORDER BY array_position($2::text[], attname::text) DESC LIMIT 1";
            let Some(plain) = tx.query_opt(sql, &[&part.sql, &names]).await.map_err(&error)? else { continue };
            let plain = ident(plain.try_get(0).map_err(&error)?);
            let touch = format!(
                "UPDATE {0} SET {plain} = {plain} WHERE ctid = (SELECT ctid FROM {0} LIMIT 1 FOR UPDATE SKIP LOCKED)",
                part.sql
            );
            if tx.execute(&touch, &[]).await.map_err(&error)? == 0 {
                continue;
            }
            touched = true;
            let number = i16::try_from(n).unwrap_or(i16::MAX);
            let sql = "SELECT count(*) FROM cutover.outbox WHERE table_id = $1 AND part = $2
                       AND xmin::text = pg_current_xact_id()::xid::text";
            let row = tx.query_one(sql, &[&table.id, &number]).await.map_err(&error)?;
            if row.try_get::<_, i64>(0).map_err(&error)? == 0 {
                let came_back = "a row was touched and left no record in the outbox";
                return Err(PortError::new(ErrorKind::Invalid, "exercise the capture of", &part.name, came_back)
                    .advise("see whether another trigger on the table swallows the change"));
            }
        }
        if touched {
            // What a carrier reads can be read: every state decodes as the mapping's types.
            take::read(&tx, &shape, &table.id, 16).await?;
        }
        tx.rollback().await.map_err(&error)?;
        Ok(touched)
    }
}

#[async_trait]
impl Outbox for PgTarget {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<Capture>> {
        let error = self.error("make", "the outbox");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(trigger::TABLES).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        let mut found = Vec::new();
        for table in tables {
            let named = self.capture_alone(table).await?;
            let exercised = self.exercise(table).await?;
            found.push(Capture { table: table.id.clone(), exercised, tables: named });
        }
        Ok(found)
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        let error = self.error("look for", "the outbox");
        let client = self.client().await?;
        let (mut on, mut names) = (Vec::new(), Vec::new());
        for trigger in tables.iter().flat_map(|t| trigger::triggers(t, &self.shape(t))) {
            for (name, _) in trigger.create {
                on.push(trigger.on.clone());
                names.push(name);
            }
        }
        let sql = "SELECT count(*) = cardinality($1::text[]) AND to_regclass('cutover.outbox') IS NOT NULL
                   FROM unnest($1::text[], $2::text[]) w(tab, name)
                   JOIN pg_trigger t ON t.tgrelid = to_regclass(w.tab) AND t.tgname = w.name AND t.tgenabled IN ('O', 'A')";
        let row = client.query_one(sql, &[&on, &names]).await.map_err(&error)?;
        row.try_get(0).map_err(error)
    }

    async fn disarm(&self, _: &[Table]) -> PortResult<()> {
        let error = self.error("stop capturing in", "the target");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        let made = "SELECT to_regprocedure('cutover.stop_capture()') IS NOT NULL";
        let made: bool = tx.query_one(made, &[]).await.and_then(|r| r.try_get(0)).map_err(&error)?;
        if made {
            // Whatever plan its table was in: what is forgotten here is nowhere else.
            tx.batch_execute("LOCK TABLE cutover.outbox IN ACCESS EXCLUSIVE MODE").await.map_err(&error)?;
            let waits = "SELECT count(*), min(table_id) FROM cutover.outbox WHERE part >= 0";
            let row = tx.query_one(waits, &[]).await.map_err(&error)?;
            let waits: i64 = row.try_get(0).map_err(&error)?;
            if waits > 0 {
                let first: String = row.try_get(1).map_err(&error)?;
                let came_back = format!("{waits} writes were never carried back, some of them to {first}");
                return Err(PortError::new(ErrorKind::Conflict, "stop capturing in", "the target", came_back).advise(
                    "carry them with `cutover rollback` of the earlier run, or drop them: SELECT cutover.stop_capture()",
                ));
            }
            tx.batch_execute("SELECT cutover.stop_capture()").await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)
    }

    async fn go_back(&self) -> PortResult<()> {
        let error = self.error("remember the way back in", "cutover.reverse_back");
        let client = self.client().await?;
        let sql = "INSERT INTO cutover.reverse_back VALUES (true) ON CONFLICT DO NOTHING";
        client.execute(sql, &[]).await.map(drop).map_err(error)
    }

    async fn settle(&self) -> PortResult<()> {
        let error = self.error("let a later run load", "the target");
        let client = self.client().await?;
        let sql = "DELETE FROM cutover.stream WHERE table_id = 'cutover:let-in'";
        client.execute(sql, &[]).await.map(drop).map_err(error)
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let error = self.error("put a marker into the outbox for", &table.target);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        let sql = "INSERT INTO cutover.reverse_marker (table_id, nonce) VALUES ($1, $2)";
        tx.execute(sql, &[&table.id, &nonce]).await.map_err(&error)?;
        // Its record is what counts.
        let sql = "DELETE FROM cutover.reverse_marker WHERE table_id = $1";
        tx.execute(sql, &[&table.id]).await.map_err(&error)?;
        tx.commit().await.map_err(&error)
    }

    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
        let shape = self.shape(table);
        let taken = take::take(self.pool(), self.place(), &shape, table, limit).await?;
        Ok(taken.map(|t| Box::new(t) as Box<dyn Taken>))
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        let error = self.error("count what waits in", "cutover.outbox");
        let client = self.client().await?;
        let sql = "SELECT table_id, count(*), (extract(epoch FROM clock_timestamp() - min(at)) * 1000)::bigint
                   FROM cutover.outbox WHERE part >= 0 GROUP BY table_id";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let mut found: BTreeMap<String, Waiting> = tables.iter().map(|t| (t.id.clone(), Waiting::default())).collect();
        for row in client.query(&statement, &[]).await.map_err(&error)? {
            let waiting = Waiting {
                records: row.try_get::<_, i64>(1).map_err(&error)?.unsigned_abs(),
                oldest_ms: row.try_get::<_, i64>(2).map_err(&error)?.max(0),
            };
            // Records of a table that is in no plan any more wait for nobody.
            if let Some(slot) = found.get_mut(row.try_get::<_, &str>(0).map_err(&error)?) {
                *slot = waiting;
            }
        }
        Ok(found)
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Tally>> {
        let error = self.error("read what was carried back from", "cutover.reverse_tally");
        let client = self.client().await?;
        let sql = "SELECT table_id, carried, merged, conflicts FROM cutover.reverse_tally";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let mut found: BTreeMap<String, Tally> = tables.iter().map(|t| (t.id.clone(), Tally::default())).collect();
        for row in client.query(&statement, &[]).await.map_err(&error)? {
            let number = |i| row.try_get::<_, i64>(i).map(i64::unsigned_abs).map_err(&error);
            let tally = Tally { carried: number(1)?, merged: number(2)?, conflicts: number(3)? };
            if let Some(slot) = found.get_mut(row.try_get::<_, &str>(0).map_err(&error)?) {
                *slot = tally;
            }
        }
        Ok(found)
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Clash)>> {
        let error = self.error("list conflicts of", &table.id);
        let client = self.client().await?;
        let sql =
            format!("SELECT key, clash FROM cutover.reverse_conflict WHERE table_id = $1 ORDER BY key LIMIT {NAMED}");
        let statement = client.prepare_cached(&sql).await.map_err(&error)?;
        let rows = client.query(&statement, &[&table.id]).await.map_err(&error)?;
        rows.iter()
            .map(|row| Ok((Key(row.try_get(0)?), clash_of(row.try_get(1)?))))
            .collect::<Result<_, Error>>()
            .map_err(error)
    }

    async fn signed(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        let error = self.error("look up images of", &table.id);
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.client().await?;
        let (keys, digests): (Vec<String>, Vec<String>) =
            images.iter().map(|(key, digest)| (storable(&key.0).into_owned(), hex(*digest))).unzip();
        let sql = "SELECT EXISTS (SELECT FROM cutover.reverse_image i WHERE i.table_id = $1
                       AND i.key_digest = sha256(convert_to(w.key, 'UTF8')) AND i.digest = w.digest)
                   FROM unnest($2::text[], $3::text[]) WITH ORDINALITY w(key, digest, n) ORDER BY w.n";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let rows = client.query(&statement, &[&table.id, &keys, &digests]).await.map_err(&error)?;
        rows.iter().map(|r| r.try_get(0)).collect::<Result<_, Error>>().map_err(error)
    }
}

fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

/// Names of clashes as they are stored.
const CLASHES: [(Clash, &str); 4] =
    [(Clash::None, "none"), (Clash::Merged, "merged"), (Clash::NewWon, "new"), (Clash::OldWon, "old")];

fn named(clash: Clash) -> &'static str {
    CLASHES.iter().find(|(c, _)| *c == clash).map_or("none", |(_, name)| name)
}

fn clash_of(name: &str) -> Clash {
    CLASHES.iter().find(|(_, n)| *n == name).map_or(Clash::None, |(clash, _)| *clash)
}

/// Remembers an image on a connection of its own: it stays whatever becomes of the transaction the records are in. Says
/// whether customers have gone back, as seen after the image was stored.
async fn sign(pool: &Pool, place: &str, table: &str, image: &Image) -> PortResult<bool> {
    let error = |e: Error| trouble::error(&e, "remember images of", table);
    let client = retry::client(pool, place).await?;
    let sql = "INSERT INTO cutover.reverse_image (table_id, key_digest, key, digest, record, clash)
               VALUES ($1, sha256(convert_to($2::text, 'UTF8')), $2, $3, $4, $5)
               ON CONFLICT (table_id, key_digest, digest)
               DO UPDATE SET at = now(), record = EXCLUDED.record, clash = EXCLUDED.clash";
    let put = client.prepare_cached(sql).await.map_err(error)?;
    let back = client.prepare_cached("SELECT EXISTS (SELECT FROM cutover.reverse_back)").await.map_err(error)?;
    let (key, digest) = (storable(&image.key.0), hex(image.digest));
    let clash = named(image.clash);
    // Sent together and done in this order.
    let values: [&(dyn ToSql + Sync); 5] = [&table, &key.as_ref(), &digest, &image.record, &clash];
    let both = futures::try_join!(client.execute(&put, &values), client.query_one(&back, &[]));
    let (_, back) = both.map_err(error)?;
    if fastrand::u8(..) == 0 {
        forget(&client).await.map_err(error)?;
    }
    back.try_get(0).map_err(error)
}

/// Removes images too old for any stream to show again. What a carrier began and nobody has cleared is needed however
/// old it is.
pub(super) async fn forget(client: &tokio_postgres::Client) -> Result<(), Error> {
    let sql = format!(
        "DELETE FROM cutover.reverse_image i WHERE at < now() - interval '{REMEMBERED}'
         AND NOT EXISTS (SELECT FROM cutover.outbox o WHERE o.id = i.record)"
    );
    client.batch_execute(&sql).await
}

/// Removes the records of a key, and counts and names it if they were still there.
async fn clear(pool: &Pool, place: &str, table: &str, key: &Key, records: &[i64], clash: Clash) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, "clear carried records of", table);
    let client = retry::client(pool, place).await?;
    let sql = "WITH gone AS (DELETE FROM cutover.outbox WHERE id = ANY ($1) RETURNING id),
                    named AS (INSERT INTO cutover.reverse_conflict (table_id, key_digest, key, clash)
                              SELECT $2, sha256(convert_to($6::text, 'UTF8')), $6, $7
                              WHERE $5::bigint > 0 AND EXISTS (SELECT FROM gone)
                              ON CONFLICT (table_id, key_digest) DO UPDATE SET clash = EXCLUDED.clash)
               INSERT INTO cutover.reverse_tally AS t (table_id, carried, merged, conflicts)
               SELECT $2, $3, $4, $5 WHERE EXISTS (SELECT FROM gone)
               ON CONFLICT (table_id) DO UPDATE SET carried = t.carried + EXCLUDED.carried,
               merged = t.merged + EXCLUDED.merged, conflicts = t.conflicts + EXCLUDED.conflicts";
    let tally = Tally::of(clash);
    let [carried, merged, conflicts] = [tally.carried, tally.merged, tally.conflicts].map(u64::cast_signed);
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    let values: [&(dyn ToSql + Sync); 7] =
        [&records, &table, &carried, &merged, &conflicts, &storable(&key.0).into_owned(), &named(clash)];
    client.execute(&statement, &values).await.map(drop).map_err(error)
}

/// What a carrier found that signed this image and did not clear its records.
async fn unfinished(pool: &Pool, place: &str, table: &str, key: &Key, digest: u128) -> PortResult<Option<Unfinished>> {
    let error = |e: Error| trouble::error(&e, "look up images of", table);
    let client = retry::client(pool, place).await?;
    let sql = "SELECT i.record, i.clash FROM cutover.reverse_image i
               WHERE i.table_id = $1 AND i.key_digest = sha256(convert_to($2::text, 'UTF8')) AND i.digest = $3
                 AND EXISTS (SELECT FROM cutover.outbox o WHERE o.id = i.record)";
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    let (key, digest) = (storable(&key.0), hex(digest));
    let found = client.query_opt(&statement, &[&table, &key.as_ref(), &digest]).await.map_err(error)?;
    let Some(row) = found else { return Ok(None) };
    let (record, clash) = (row.try_get(0).map_err(error)?, clash_of(row.try_get(1).map_err(error)?));
    Ok(Some(Unfinished { record, clash }))
}
