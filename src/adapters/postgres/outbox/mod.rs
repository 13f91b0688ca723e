//! The outbox: changes of the new side that wait to be applied to the old side.
//!
//! A trigger writes the states before and after each change in the transaction of the change. A reverse applier reads
//! the records and the rows they belong to in one snapshot and removes exactly the records it read: a transaction that
//! commits late with an early number is simply in the next snapshot, so no gap between numbers can hide a change.

mod applied;
mod gaps;
mod take;
mod trigger;

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::book::storable;
use super::ending;
use super::names::ident;
use super::open;
use super::owner::{self, Of};
use super::retry::{self, Failure};
use super::rights;
use super::sequences;
use super::shape::Shape;
use super::target::PgTarget;
use crate::domain::mapping::Resolution;
use crate::domain::plan::{Table, shell_word};
use crate::domain::value::Key;
use crate::ports::{
    CaptureGap, CaptureState, ErrorKind, OpenWrite, Outbox, OwnedTable, PortError, PortResult, ReverseCounts, Sequence,
    Taken, Waiting,
};

#[cfg(test)]
pub(super) use applied::forget;
use applied::{hex, resolution_of};
pub(super) use gaps::brought_rows;
#[cfg(test)]
pub(super) use take::{FIRSTS, MARKERS};
pub(super) use trigger::{OURS, TABLES};

/// Marks a transaction as our own forward work. Refuses it where the table is not the plan's, or once the table is open
/// to customers: a change of the old side must never overwrite one of theirs, not even from a process that was
/// suspended when the table was opened or the plan released.
pub(super) async fn ours(
    tx: &Transaction<'_>,
    stands: &Statement,
    shape: &Shape,
    (tried, rows): (&str, bool),
) -> Result<(), Failure> {
    let mark = format!("{OURS}; {}", owner::shared(&shape.plan));
    let values: [&(dyn ToSql + Sync); 2] = [&shape.plan, &shape.id];
    // The second is read once the first has the lock.
    let (_, row) = tokio::try_join!(biased; tx.batch_execute(&mark), tx.query_opt(stands, &values))?;
    owner::judged(row.as_ref(), shape.of(), rows, (tried, &shape.main.name))
}

/// Records of a table that were never applied; none where there is no outbox.
pub(super) async fn waits(tx: &Transaction<'_>, of: Of<'_>) -> Result<i64, Error> {
    if tx.query_one("SELECT to_regclass('cutover.outbox') IS NULL", &[]).await?.try_get(0)? {
        return Ok(0);
    }
    let sql = "SELECT count(*) FROM cutover.outbox WHERE plan = $1 AND table_id = $2 AND part >= 0";
    tx.query_one(sql, &[&of.plan, &of.table]).await?.try_get(0)
}

/// Waits for the plan's own forward transactions and keeps the next ones away until this one ends: they take a table
/// and its children in another order, and each would wait for the other.
async fn alone(tx: &Transaction<'_>, plan: &str) -> Result<(), Error> {
    tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({})", owner::thaw(plan))).await
}

/// How many conflicts are named at most; the counts include them all.
const NAMED: u32 = 1_000;

impl PgTarget {
    /// Makes the triggers of one table, and removes those of an older mapping.
    async fn capture(&self, tx: &Transaction<'_>, table: &Table, shape: &Shape) -> Result<Vec<String>, Error> {
        // As long as no customer writes there, nothing can be missed, and all begin anew.
        let open = tx.query_opt(owner::OPENED, &[&self.plan(), &table.id]).await?;
        let open: bool = open.map_or(Ok(false), |row| row.try_get(0))?;
        let mut named = Vec::new();
        for trigger in trigger::triggers(table, shape) {
            let there: Vec<String> = tx
                .query(trigger::THERE, &[&trigger.on, &self.plan(), &table.id])
                .await?
                .iter()
                .map(|r| r.try_get(0))
                .collect::<Result<_, _>>()?;
            let (kept, old): (Vec<String>, Vec<String>) =
                there.into_iter().partition(|n| open && trigger.create.iter().any(|(name, _)| name == n));
            let before = if open { gaps::before(tx, &trigger.on, &old).await? } else { None };
            for old in &old {
                tx.batch_execute(&format!("DROP TRIGGER {} ON {}", ident(old), trigger.on)).await?;
            }
            tx.batch_execute(&trigger.function).await?;
            let mut made = Vec::new();
            for (name, create) in trigger.create.iter().filter(|(name, _)| !kept.contains(name)) {
                tx.batch_execute(create).await?;
                made.push(name.as_str());
            }
            gaps::settled(tx, &trigger, &made, before.as_ref()).await?;
            named.push(trigger.named);
        }
        Ok(named)
    }

    /// [`PgTarget::capture`] in a transaction of its own, run again when it collides: a trigger waits for whoever
    /// writes the table, and a writer that holds one of its child tables may wait for the trigger.
    async fn capture_alone(&self, table: &Table) -> PortResult<Vec<String>> {
        let (tried, on) = ("capture changes of", table.target.as_str());
        let shape = self.shape(table).await?;
        let mut client = self.client().await?;
        let mut tries = retry::Tries::default();
        loop {
            let attempt = async {
                let tx = client.transaction().await?;
                alone(&tx, self.plan()).await?;
                owner::stands(&tx, self.of(table), false, (tried, on)).await?;
                let named = self.capture(&tx, table, &shape).await?;
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
        let shape = self.shape(table).await?;
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        alone(&tx, self.plan()).await.map_err(&error)?;
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
            let sql = "SELECT count(*) FROM cutover.outbox WHERE plan = $1 AND table_id = $2 AND part = $3
                       AND xmin::text = pg_current_xact_id()::xid::text";
            let row = tx.query_one(sql, &[&self.plan(), &table.id, &number]).await.map_err(&error)?;
            if row.try_get::<_, i64>(0).map_err(&error)? == 0 {
                let came_back = "a row was touched and left no record in the outbox";
                return Err(PortError::new(ErrorKind::Invalid, "exercise the capture of", &part.name, came_back)
                    .advise("see whether another trigger on the table swallows the change"));
            }
        }
        if touched {
            // What a reverse applier reads can be read: every state decodes as the mapping's types.
            take::read(&tx, &shape, 16).await?;
        }
        tx.rollback().await.map_err(&error)?;
        Ok(touched)
    }
}

/// Stops capturing, and forgets what was applied. Refused when anything waits.
async fn disarm(tx: &Transaction<'_>, plan: &str, ids: &[&str]) -> Result<(), Failure> {
    tx.batch_execute(ending::PATIENT).await?;
    alone(tx, plan).await?;
    ending::stop_capture(tx, plan, ids).await?;
    // Nobody writes the captured tables until this ends. What is deleted here exists nowhere else.
    let waits = "SELECT count(*), min(table_id) FROM (
                     SELECT table_id FROM cutover.outbox WHERE plan = $1 AND table_id = ANY ($2) AND part >= 0 LIMIT $3) o";
    let row = tx.query_one(waits, &[&plan, &ids, &OwnedTable::COUNTED.cast_signed()]).await?;
    let waits: i64 = row.try_get(0)?;
    if waits > 0 {
        let first: String = row.try_get(1)?;
        let came_back = format!(
            "{} writes were never carried back, some of them to {first}",
            OwnedTable::in_words(waits.unsigned_abs())
        );
        let advice = format!(
            "carry them with `cutover rollback` of the earlier run; or let them stay where they are: cutover release {}",
            shell_word(plan)
        );
        let conflict = PortError::new(ErrorKind::Conflict, "stop capturing in", "the target", came_back);
        return Err(conflict.advise(advice).into());
    }
    for kept in ["outbox", "reverse_tally", "reverse_marker"] {
        let sql = format!("DELETE FROM cutover.{kept} WHERE plan = $1 AND table_id = ANY ($2)");
        tx.execute(&sql, &[&plan, &ids]).await?;
    }
    let sql = "UPDATE cutover.plan_table SET rolled_back = NULL WHERE plan = $1 AND table_id = ANY ($2)";
    tx.execute(sql, &[&plan, &ids]).await?;
    Ok(())
}

#[async_trait]
impl Outbox for PgTarget {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>> {
        let error = self.error("make", "the outbox");
        let mut client = self.client().await?;
        rights::may_capture(&client, tables).await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(super::book::ALONE).await.map_err(&error)?;
        tx.batch_execute(trigger::TABLES).await.map_err(&error)?;
        let turn = owner::turn(self.plan());
        let turn = format!("CREATE TABLE IF NOT EXISTS {turn} (one boolean PRIMARY KEY)");
        tx.batch_execute(&turn).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        let mut found = Vec::new();
        for table in tables {
            let named = self.capture_alone(table).await?;
            let exercised = self.exercise(table).await?;
            found.push(CaptureState { table: table.id.clone(), exercised, tables: named });
        }
        Ok(found)
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        let error = self.error("look for", "the outbox");
        let client = self.client().await?;
        let (mut on, mut names, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for table in tables {
            let shape = self.shape(table).await?;
            for trigger in trigger::triggers(table, &shape) {
                for (name, _) in trigger.create {
                    on.push(trigger.on.clone());
                    names.push(name);
                    ids.push(table.id.as_str());
                }
            }
        }
        let row = client.query_one(trigger::ARMED, &[&on, &names, &ids, &self.plan()]).await.map_err(&error)?;
        row.try_get(0).map_err(error)
    }

    async fn gaps(&self, tables: &[Table]) -> PortResult<Vec<CaptureGap>> {
        let mut triggers = Vec::new();
        for table in tables {
            triggers.extend(trigger::triggers(table, &*self.shape(table).await?));
        }
        gaps::of(&self.client().await?, &triggers).await.map_err(self.error("look for", "the outbox"))
    }

    async fn disarm(&self, tables: &[Table]) -> PortResult<()> {
        let (tried, on) = ("stop capturing in", "the target");
        let ids: Vec<&str> = tables.iter().map(|t| t.id.as_str()).collect();
        let mut client = self.client().await?;
        let mut tries = retry::Tries::patient();
        loop {
            let attempt = async {
                let tx = client.transaction().await?;
                disarm(&tx, self.plan(), &ids).await?;
                tx.commit().await.map_err(Failure::Commit)
            };
            match attempt.await {
                Ok(()) => break,
                Err(failure) => tries.after(failure, tried, on).await?,
            }
        }
        // One row for each key that was carried: too many to be deleted while customers wait. What a death leaves here
        // is deleted when the next run begins.
        let forgotten = async {
            let tx = client.transaction().await?;
            tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
            for kept in ["reverse_image", "reverse_conflict"] {
                let sql = format!("DELETE FROM cutover.{kept} WHERE plan = $1 AND table_id = ANY ($2)");
                tx.execute(&sql, &[&self.plan(), &ids]).await?;
            }
            tx.commit().await
        };
        forgotten.await.map_err(self.error(tried, on))
    }

    async fn mark_rolled_back(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let (tried, on) = ("mark as rolled back", owner::TABLES_OF_TARGET);
        let client = self.client().await?;
        owner::mark_rolled_back(&client, self.plan(), run, tables).await.map_err(self.error(tried, on))?;
        match owner::of_another_run(&client, self.plan(), run, tables).await.map_err(self.error(tried, on))? {
            None => Ok(()),
            Some((table, theirs)) => {
                let came_back = format!("{table} belongs to run {theirs} of the same plan now");
                Err(PortError::new(ErrorKind::Invalid, tried, on, came_back)
                    .advise(format!("nothing of that run was touched; to take it back: cutover rollback {theirs}")))
            }
        }
    }

    async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let error = self.error("let a later run load", "the target");
        owner::settle(&self.client().await?, self.plan(), run, tables).await.map_err(error)
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let error = self.error("put a marker into the outbox for", &table.target);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        let sql = "INSERT INTO cutover.reverse_marker (plan, table_id, nonce) VALUES ($1, $2, $3)";
        tx.execute(sql, &[&self.plan(), &table.id, &nonce]).await.map_err(&error)?;
        // Its record is what counts.
        let sql = "DELETE FROM cutover.reverse_marker WHERE plan = $1 AND table_id = $2";
        tx.execute(sql, &[&self.plan(), &table.id]).await.map_err(&error)?;
        tx.commit().await.map_err(&error)
    }

    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
        self.in_our_layout().await?;
        let shape = self.shape(table).await?;
        let taken = take::take(self.pool(), self.place(), shape, limit).await?;
        Ok(taken.map(|t| Box::new(t) as Box<dyn Taken>))
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        let error = self.error("count what waits in", "cutover.outbox");
        let client = self.client().await?;
        let sql = "SELECT table_id, count(*), (extract(epoch FROM clock_timestamp() - min(at)) * 1000)::bigint
                   FROM cutover.outbox WHERE plan = $1 AND part >= 0 GROUP BY table_id";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let mut found: BTreeMap<String, Waiting> = tables.iter().map(|t| (t.id.clone(), Waiting::default())).collect();
        for row in client.query(&statement, &[&self.plan()]).await.map_err(&error)? {
            let waiting = Waiting {
                records: row.try_get::<_, i64>(1).map_err(&error)?.unsigned_abs(),
                oldest_ms: row.try_get::<_, i64>(2).map_err(&error)?.max(0),
            };
            // Records of a table that is in no plan any more do not count as waiting.
            if let Some(slot) = found.get_mut(row.try_get::<_, &str>(0).map_err(&error)?) {
                *slot = waiting;
            }
        }
        Ok(found)
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        let error = self.error("look for", "sequences");
        let client = self.client().await?;
        sequences::list(&client, &sequences::targets(tables)).await.map_err(error)
    }

    async fn open_writes(&self, _: &[Table]) -> PortResult<Vec<OpenWrite>> {
        let error = self.error("look for open transactions at", self.place());
        let client = self.client().await?;
        open::writes(&client).await.map_err(&error)
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        let error = self.error("read what was carried back from", "cutover.reverse_tally");
        let client = self.client().await?;
        let sql = "SELECT table_id, carried, merged, conflicts FROM cutover.reverse_tally WHERE plan = $1";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let mut found: BTreeMap<String, ReverseCounts> =
            tables.iter().map(|t| (t.id.clone(), ReverseCounts::default())).collect();
        for row in client.query(&statement, &[&self.plan()]).await.map_err(&error)? {
            let number = |i| row.try_get::<_, i64>(i).map(i64::unsigned_abs).map_err(&error);
            let tally = ReverseCounts { carried: number(1)?, merged: number(2)?, conflicts: number(3)? };
            if let Some(slot) = found.get_mut(row.try_get::<_, &str>(0).map_err(&error)?) {
                *slot = tally;
            }
        }
        Ok(found)
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        let error = self.error("list conflicts of", &table.id);
        let client = self.client().await?;
        let sql = format!(
            "SELECT key, resolution FROM cutover.reverse_conflict WHERE plan = $1 AND table_id = $2 ORDER BY key LIMIT {NAMED}"
        );
        let statement = client.prepare_cached(&sql).await.map_err(&error)?;
        let rows = client.query(&statement, &[&self.plan(), &table.id]).await.map_err(&error)?;
        rows.iter()
            .map(|row| Ok((Key(row.try_get(0)?), resolution_of(row.try_get(1)?))))
            .collect::<Result<_, Error>>()
            .map_err(error)
    }

    async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        let error = self.error("look up images of", &table.id);
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.client().await?;
        let (keys, digests): (Vec<String>, Vec<String>) =
            images.iter().map(|(key, digest)| (storable(&key.0).into_owned(), hex(*digest))).unzip();
        let sql = "SELECT EXISTS (SELECT FROM cutover.reverse_image i WHERE i.plan = $1 AND i.table_id = $2
                       AND i.key_digest = sha256(convert_to(w.key, 'UTF8')) AND i.digest = w.digest)
                   FROM unnest($3::text[], $4::text[]) WITH ORDINALITY w(key, digest, n) ORDER BY w.n";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let rows = client.query(&statement, &[&self.plan(), &table.id, &keys, &digests]).await.map_err(&error)?;
        rows.iter().map(|r| r.try_get(0)).collect::<Result<_, Error>>().map_err(error)
    }
}
