//! Accounts and payments as rows, with plain SQL.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error, GenericClient, Row};

use crate::rehearsal::records::{Account, Decimal, Kind, Moment, Payment, Record, RecordKey};

/// The columns of a kind in the order in which they are read; nothing for a kind that is not kept here.
const fn columns(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Account => Some(
            "id::text, holder, email, balance::text, (extract(epoch FROM opened_at) * 1000000)::bigint, \
             (extract(epoch FROM updated_at) * 1000000)::bigint",
        ),
        Kind::Payment => Some(
            "id::text, account_id::text, amount::text, currency, state, note, \
             (extract(epoch FROM created_at) * 1000000)::bigint, (extract(epoch FROM updated_at) * 1000000)::bigint",
        ),
        Kind::Book | Kind::User | Kind::Order | Kind::Cart | Kind::Session | Kind::Limit => None,
    }
}

/// Text of a column that must not be NULL.
fn text(row: &Row, at: usize) -> Option<String> {
    row.try_get::<_, Option<String>>(at).ok()?
}

fn moment(row: &Row, at: usize) -> Option<Moment> {
    row.try_get::<_, Option<i64>>(at).ok()?.map(Moment)
}

fn decimal(row: &Row, at: usize) -> Option<Decimal> {
    Decimal::parse(&text(row, at)?)
}

/// The record in a row. `None` when a column is NULL that must not be: the row is damaged.
fn decode(kind: Kind, row: &Row) -> Option<Record> {
    match kind {
        Kind::Account => Some(Record::Account(Account {
            id: text(row, 0)?,
            holder: text(row, 1)?,
            email: text(row, 2)?,
            balance: decimal(row, 3)?,
            opened_at: moment(row, 4)?,
            updated_at: moment(row, 5)?,
        })),
        Kind::Payment => Some(Record::Payment(Payment {
            id: text(row, 0)?,
            account: text(row, 1)?,
            amount: decimal(row, 2)?,
            currency: text(row, 3)?,
            state: text(row, 4)?,
            note: row.try_get(5).ok()?,
            created_at: moment(row, 6)?,
            updated_at: moment(row, 7)?,
        })),
        Kind::Book | Kind::User | Kind::Order | Kind::Cart | Kind::Session | Kind::Limit => None,
    }
}

/// One record, if it is there; `Some(None)` stands for a damaged row. With `lock` nobody else can change the row before
/// the transaction ends, while payments may still refer to it.
pub(super) async fn one(
    client: &impl GenericClient,
    key: &RecordKey,
    lock: bool,
) -> Result<Option<Option<Record>>, Error> {
    let Some(columns) = columns(key.kind) else { return Ok(None) };
    let lock = if lock { " FOR NO KEY UPDATE" } else { "" };
    let sql = format!("SELECT {columns} FROM {} WHERE id = $1::text::uuid{lock}", key.kind.plural());
    Ok(client.query_opt(&sql, &[&key.id]).await?.map(|row| decode(key.kind, &row)))
}

/// All rows of a kind by id. `None` stands for a damaged row.
pub(super) async fn all(client: &Client, kind: Kind) -> Result<BTreeMap<String, Option<Record>>, Error> {
    let Some(columns) = columns(kind) else { return Ok(BTreeMap::new()) };
    let rows = client.query(&format!("SELECT {columns} FROM {}", kind.plural()), &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), decode(kind, row))).collect())
}
