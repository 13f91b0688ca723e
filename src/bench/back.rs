//! The way back between two databases: how fast what customers wrote on the new side is carried to the old one, against
//! what one connection can write there.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Client;

use super::error::{BenchError, BenchResult, Tried as _};
use super::measure::Sample;
use super::payments::{self, workers};
use super::server::{Brief, session};
use crate::adapters::postgres::PgTarget;
use crate::adapters::postgres::source::PgSource;
use crate::domain::mapping::Winner;
use crate::domain::plan::OLD;
use crate::ports::{ByStore, Outbox as _, ReversePorts, Target as _};
use crate::workers::reverse::ReverseApplier;

/// Rows that customers write on the new side.
pub(super) const KEYS: u64 = 100_000;
/// What is done on which server.
const ON: &str = "payments";
/// Rows of one upsert.
const ROWS: usize = 1_000;

/// What customers did: two columns of each of the first rows, in the form both sides must have in the end.
const WRITES: &str = "UPDATE payments SET note = 'carried ' || id, amount = amount + 1 WHERE id <= $1";
/// Makes the old side forget it.
pub(super) const AS_BEFORE: &str = "UPDATE payments SET note = 'payment ' || id % 977, \
     amount = (id * 7919 % 10000000)::numeric / 100 WHERE note = 'carried ' || id";
const CARRIED: &str = "SELECT count(*) FROM payments WHERE note = 'carried ' || id AND id <= $1";

/// A contestant, in its own process.
pub(super) async fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    Ok(Some(match brief.name.as_str() {
        "pair-back" => back(brief).await?,
        "pair-upsert" => upsert(brief).await?,
        _ => return Ok(None),
    }))
}

/// Captures the new side, lets customers write, and applies all of it as a rollback does.
async fn back(brief: &Brief) -> BenchResult<Sample> {
    let own = workers(brief)?;
    let (old, new) = payments::databases(brief)?;
    let source = PgSource::new(&old, super::own_workers::BENCH).tried("connect to", "the source")?;
    let target = PgTarget::new(&new, super::own_workers::BENCH).tried("connect to", "the target")?;
    target.prepare().await.tried("prepare", "the target")?;
    target.claim("bench", &own.plan.tables).await.tried("claim", ON)?;
    target.arm(&own.plan.tables).await.tried("capture", ON)?;
    let keys = i64::try_from(brief.rows).unwrap_or(i64::MAX);
    session(&brief.target).await?.execute(WRITES, &[&keys]).await.tried("write", ON)?;
    let outbox = Arc::new(target);
    let ports = ReversePorts { outbox, items: ByStore::default().with(OLD, Arc::new(source)) };
    let mut applier = ReverseApplier::new(&ports);
    let (table, batch) = (own.table()?, own.plan.reverse.batch);
    let began = Instant::now();
    let mut carried = 0;
    while let Some(round) = applier.round(table, batch, &|| Winner::Old).await.tried("carry back", ON)? {
        if let Some(e) = round.trouble {
            return Err(BenchError::new("carry back", ON, e));
        }
        if let Some((key, why)) = round.unfit.first() {
            return Err(BenchError::new("carry back", &key.0, why));
        }
        carried += round.tally.carried;
    }
    let sample = Sample::since(began, carried);
    expect(&session(&brief.source).await?, brief).await?;
    Ok(sample)
}

/// The same rows from memory, upserted over one connection.
async fn upsert(brief: &Brief) -> BenchResult<Sample> {
    let (from, to) = (session(&brief.target).await?, session(&brief.source).await?);
    let keys = i64::try_from(brief.rows).unwrap_or(i64::MAX);
    let sql = "SELECT id, account::text, amount::text, 'carried ' || id, made::text FROM payments WHERE id <= $1";
    let rows = from.query(sql, &[&keys]).await.tried("read", ON)?;
    let sql = "INSERT INTO payments (id, account, amount, note, made)
               SELECT id, account::uuid, amount::numeric, note, made::timestamptz
               FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) u(id, account, amount, note, made)
               ON CONFLICT (id) DO UPDATE SET account = EXCLUDED.account, amount = EXCLUDED.amount,
                 note = EXCLUDED.note, made = EXCLUDED.made";
    let statement = to.prepare(sql).await.tried("prepare", ON)?;
    let mut batches = Vec::new();
    for rows in rows.chunks(ROWS) {
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let texts = |n: usize| -> Vec<String> { rows.iter().map(|row| row.get(n)).collect() };
        batches.push((ids, texts(1), texts(2), texts(3), texts(4)));
    }
    let began = Instant::now();
    for (ids, accounts, amounts, notes, made) in &batches {
        to.execute(&statement, &[ids, accounts, amounts, notes, made]).await.tried("write", ON)?;
    }
    let sample = Sample::since(began, rows.len() as u64);
    expect(&to, brief).await?;
    Ok(sample)
}

/// That every row is there as customers wrote it.
async fn expect(old: &Client, brief: &Brief) -> BenchResult<()> {
    let keys = i64::try_from(brief.rows).unwrap_or(i64::MAX);
    let row = old.query_one(CARRIED, &[&keys]).await.tried("count", ON)?;
    let found: i64 = row.try_get(0).tried("count", ON)?;
    if found == keys {
        return Ok(());
    }
    Err(BenchError::new("trust", &brief.name, format!("{found} rows of {keys}")))
}
