//! The payments application's accounts and payments in PostgreSQL, the same on both sides.

use std::sync::Mutex;

use deadpool_postgres::{Object, Pool, Transaction};
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::rows;
use crate::domain::secret::Secret;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::held;
use crate::rehearsal::oracle::{Form, Listed, Outcome, Stood};
use crate::rehearsal::records::{Account, Kind, Payment, Record, RecordKey, Write};
use crate::rehearsal::shop::PATIENCE;
use crate::rehearsal::shop::pool::{committed, connection, pool, said};

/// One side's database. Nothing is connected before it is needed.
#[derive(Debug, Default)]
pub(super) struct RowStore(Mutex<Option<(Secret, Pool)>>);

impl RowStore {
    /// A connection of the application; another connection text means another pool.
    async fn client(&self, to: &Secret) -> Result<Object, String> {
        let pool = {
            let mut current = held(&self.0);
            match &*current {
                Some((of, pool)) if of == to => pool.clone(),
                Some(_) | None => {
                    let pool = pool(to)?;
                    *current = Some((to.clone(), pool.clone()));
                    pool
                }
            }
        };
        connection(&pool).await
    }

    async fn written(&self, to: &Secret, write: &Write) -> (Outcome, Option<Stood>) {
        let Ok(mut client) = self.client(to).await else { return (Outcome::Refused, None) };
        let Ok(transaction) = client.transaction().await else { return (Outcome::Refused, None) };
        match apply(&transaction, write).await {
            // Nothing is kept of a transaction that was never committed.
            Err(e) => {
                tracing::debug!(key = %write.key(), why = said(&e), "a payments database refused a write");
                (Outcome::Refused, None)
            }
            Ok(None) => (Outcome::Refused, None),
            Ok(Some(stood)) => (committed(transaction.commit().await), Some(stood)),
        }
    }

    pub(super) async fn read(&self, to: &Secret, key: &RecordKey) -> Result<Option<Record>, String> {
        let read = async {
            let client = self.client(to).await?;
            rows::one(&**client, key, false).await.map_err(|e| said(&e))
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Err(_) => Err("no answer".to_owned()),
            Ok(Err(why)) => Err(why),
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(record))) => record.map(Some).ok_or_else(|| "the row is damaged".to_owned()),
        }
    }

    pub(super) async fn write(&self, to: &Secret, write: &Write) -> (Outcome, Option<Stood>) {
        match tokio::time::timeout(PATIENCE, self.written(to, write)).await {
            Ok(answer) => answer,
            Err(_) => (Outcome::Unknown, None),
        }
    }

    pub(super) async fn list(&self, to: &Secret, kind: Kind) -> RehearsalResult<Listed> {
        let client = self.client(to).await.map_err(|why| RehearsalError::new("compare with", "the database", why))?;
        let records = rows::all(&client, kind).await;
        let records = records.map_err(|e| RehearsalError::caused("compare with", kind.plural(), &e))?;
        Ok(Listed { records, form: Form::AsGiven, markers: 0 })
    }
}

/// Writes, and says what stood there before: read under a lock, so that nobody else's write is in between. `None` means
/// that there was nothing to change, or that it is no record of this application.
async fn apply(tx: &Transaction<'_>, write: &Write) -> Result<Option<Stood>, Error> {
    let key = write.key();
    // A row that somebody else makes between the look and the insert is looked at again.
    for _ in 0..8 {
        let before = match rows::one(&**tx, &key, true).await? {
            Some(Some(record)) => Some(record),
            // A damaged row is not written over: the comparison shall find it.
            Some(None) => return Ok(None),
            None => None,
        };
        let changed = match (write, before.is_some()) {
            (Write::Put(record), there) => put(tx, record, there).await?,
            (_, false) => return Ok(None),
            (_, true) => change(tx, write).await?,
        };
        if changed == 1 {
            return Ok(Some(Stood(before)));
        }
    }
    Ok(None)
}

/// Changes or removes a row that is there: how many rows that were.
async fn change(tx: &Transaction<'_>, write: &Write) -> Result<u64, Error> {
    match write {
        Write::Balance { id, balance, at } => {
            let sql = "UPDATE accounts SET balance = $2::text::numeric, updated_at = $3::text::timestamptz \
                       WHERE id = $1::text::uuid";
            run(tx, sql, &[id, &balance.text(), &at.iso()]).await
        }
        Write::Holder { id, holder, email } => {
            let sql = "UPDATE accounts SET holder = $2, email = $3 WHERE id = $1::text::uuid";
            run(tx, sql, &[id, holder, email]).await
        }
        Write::State { id, state, at } => {
            let sql = "UPDATE payments SET state = $2, updated_at = $3::text::timestamptz WHERE id = $1::text::uuid";
            run(tx, sql, &[id, state, &at.iso()]).await
        }
        Write::Delete(key) => {
            let sql = format!("DELETE FROM {} WHERE id = $1::text::uuid", key.kind.plural());
            run(tx, &sql, &[&key.id]).await
        }
        Write::Put(record) => put(tx, record, true).await,
        // Items, or the shop's: nothing of them is here.
        Write::Stock { .. }
        | Write::Price { .. }
        | Write::Profile { .. }
        | Write::Status { .. }
        | Write::Seen { .. }
        | Write::Spent { .. } => Ok(0),
    }
}

/// Writes a whole record over the row that is there, or makes it where none is.
async fn put(tx: &Transaction<'_>, record: &Record, there: bool) -> Result<u64, Error> {
    match record {
        Record::Account(a) => put_account(tx, a, there).await,
        Record::Payment(p) => put_payment(tx, p, there).await,
        Record::Book(_)
        | Record::User(_)
        | Record::Order(_)
        | Record::Cart(_)
        | Record::Session(_)
        | Record::Limit(_) => Ok(0),
    }
}

async fn put_account(tx: &Transaction<'_>, a: &Account, there: bool) -> Result<u64, Error> {
    let sql = if there {
        "UPDATE accounts SET holder = $2, email = $3, balance = $4::text::numeric, opened_at = $5::text::timestamptz, \
         updated_at = $6::text::timestamptz WHERE id = $1::text::uuid"
    } else {
        "INSERT INTO accounts (id, holder, email, balance, opened_at, updated_at) VALUES ($1::text::uuid, $2, $3, \
         $4::text::numeric, $5::text::timestamptz, $6::text::timestamptz) ON CONFLICT (id) DO NOTHING"
    };
    let (balance, opened, updated) = (a.balance.text(), a.opened_at.iso(), a.updated_at.iso());
    run(tx, sql, &[&a.id, &a.holder, &a.email, &balance, &opened, &updated]).await
}

async fn put_payment(tx: &Transaction<'_>, p: &Payment, there: bool) -> Result<u64, Error> {
    let sql = if there {
        "UPDATE payments SET account_id = $2::text::uuid, amount = $3::text::numeric, currency = $4, state = $5, \
         note = $6, created_at = $7::text::timestamptz, updated_at = $8::text::timestamptz WHERE id = $1::text::uuid"
    } else {
        "INSERT INTO payments (id, account_id, amount, currency, state, note, created_at, updated_at) VALUES \
         ($1::text::uuid, $2::text::uuid, $3::text::numeric, $4, $5, $6, $7::text::timestamptz, \
         $8::text::timestamptz) ON CONFLICT (id) DO NOTHING"
    };
    let (amount, created, updated) = (p.amount.text(), p.created_at.iso(), p.updated_at.iso());
    run(tx, sql, &[&p.id, &p.account, &amount, &p.currency, &p.state, &p.note, &created, &updated]).await
}

async fn run(tx: &Transaction<'_>, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, values).await
}
