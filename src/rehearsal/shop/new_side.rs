//! The shop's data in PostgreSQL: where it goes.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::sync::OnceCell;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::pool::{committed, connection, pool, said};
use super::{PATIENCE, Store};
use crate::domain::secret::Secret;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::held;
use crate::rehearsal::oracle::{DEFAULT_CATEGORY, Form, Listed, Outcome, Stood};
use crate::rehearsal::records::{
    Address, Book, Kind, Order, Record, RecordKey, Shipping, TargetShape, User, Write, read_all, read_one,
};

/// The new side behind the secret that was last used. Nothing is connected before it is needed.
#[derive(Debug, Default)]
pub(in crate::rehearsal) struct NewSides(Mutex<Option<(Secret, Arc<NewSide>)>>);

impl NewSides {
    /// The side of a secret. A new secret means a new pool; requests on the old one finish there.
    fn of(&self, secret: &Secret) -> Result<Arc<NewSide>, String> {
        let mut current = held(&self.0);
        if let Some((of, side)) = &*current
            && of == secret
        {
            return Ok(Arc::clone(side));
        }
        let side = Arc::new(NewSide::new(secret)?);
        *current = Some((secret.clone(), Arc::clone(&side)));
        Ok(side)
    }

    pub(super) async fn read(&self, secret: &Secret, key: &RecordKey) -> Result<Option<Record>, String> {
        let side = self.of(secret)?;
        let read = async {
            let client = side.client().await?;
            let shape = side.shape(&client).await.map_err(|e| said(&e))?;
            read_one(&client, shape, key.kind, &key.id).await.map_err(|e| said(&e))
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Err(_) => Err("no answer".to_owned()),
            Ok(Err(why)) => Err(why),
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(record))) => record.map(Some).ok_or_else(|| "the row is damaged".to_owned()),
        }
    }

    pub(super) async fn write(&self, secret: &Secret, write: &Write) -> Outcome {
        let Ok(side) = self.of(secret) else { return Outcome::Refused };
        match tokio::time::timeout(PATIENCE, side.write(write)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown,
        }
    }
}

#[async_trait]
impl Store for NewSides {
    async fn read(&self, connection: &Secret, key: &RecordKey) -> Result<Option<Record>, String> {
        Self::read(self, connection, key).await
    }

    async fn write(&self, connection: &Secret, write: &Write) -> (Outcome, Option<Stood>) {
        (Self::write(self, connection, write).await, None)
    }

    async fn list(&self, connection: &Secret, kind: Kind) -> RehearsalResult<Listed> {
        let unreached = |why| RehearsalError::new("compare with", "the new side", why);
        let failed = |e: Error| RehearsalError::caused("compare with", "the new side", &e);
        let side = self.of(connection).map_err(unreached)?;
        let client = side.client().await.map_err(unreached)?;
        let shape = side.shape(&client).await.map_err(failed)?;
        let records = read_all(&client, shape, kind).await.map_err(failed)?;
        Ok(Listed { records, form: Form::Shelved { titled: shape.line_title }, markers: 0 })
    }
}

#[derive(Debug)]
struct NewSide {
    pool: Pool,
    shape: OnceCell<TargetShape>,
}

impl NewSide {
    fn new(secret: &Secret) -> Result<Self, String> {
        Ok(Self { pool: pool(secret)?, shape: OnceCell::new() })
    }

    async fn client(&self) -> Result<Object, String> {
        connection(&self.pool).await
    }

    async fn shape(&self, client: &Object) -> Result<&TargetShape, Error> {
        self.shape.get_or_try_init(|| TargetShape::of(client)).await
    }

    async fn write(&self, write: &Write) -> Outcome {
        let Ok(mut client) = self.client().await else { return Outcome::Refused };
        let Ok(shape) = self.shape(&client).await else { return Outcome::Refused };
        let Ok(transaction) = client.transaction().await else { return Outcome::Refused };
        match apply(&transaction, shape, write).await {
            // Nothing is kept of a transaction that was never committed.
            Err(e) => {
                tracing::debug!(key = %write.key(), why = said(&e), "new side refused a write");
                Outcome::Refused
            }
            Ok(0) => Outcome::Refused,
            Ok(_) => committed(transaction.commit().await),
        }
    }
}

/// Rows changed in the record's own table; 0 means that an update found nothing.
async fn apply(tx: &deadpool_postgres::Transaction<'_>, shape: &TargetShape, write: &Write) -> Result<u64, Error> {
    match write {
        Write::Put(Record::Book(book)) => put_book(tx, book).await,
        Write::Put(Record::User(user)) => put_user(tx, shape, user).await,
        Write::Put(Record::Order(order)) => put_order(tx, shape, order).await,
        // Carts stay in DynamoDB, payments are another application's.
        Write::Put(
            Record::Cart(_) | Record::Account(_) | Record::Payment(_) | Record::Session(_) | Record::Limit(_),
        )
        | Write::Balance { .. }
        | Write::Holder { .. }
        | Write::State { .. }
        | Write::Seen { .. }
        | Write::Spent { .. } => Ok(0),
        Write::Stock { id, stock, at } => {
            let sql = "UPDATE books SET stock_quantity = $2::bigint::integer, updated_at = $3::text::timestamptz \
                       WHERE id = $1::text::uuid";
            run(tx, sql, &[id, stock, &at.iso()]).await
        }
        Write::Price { id, price, at } => {
            let sql = "UPDATE books SET price = $2::text::numeric, updated_at = $3::text::timestamptz \
                       WHERE id = $1::text::uuid";
            run(tx, sql, &[id, &price.text(), &at.iso()]).await
        }
        Write::Status { id, status, at } => {
            let sql = "UPDATE orders SET status = $2, updated_at = $3::text::timestamptz WHERE id = $1::text::uuid";
            run(tx, sql, &[id, status, &at.iso()]).await
        }
        Write::Profile { id, name, address, favorites } => {
            let favorites: Option<Vec<&String>> = (!favorites.is_empty()).then(|| favorites.iter().collect());
            let city = if shape.user_city { ", city = $3::text::jsonb ->> 'city'" } else { "" };
            let sql = format!(
                "UPDATE users SET name = $2, address = $3::text::jsonb, favorites = $4{city} WHERE id = $1::text::uuid"
            );
            run(tx, &sql, &[id, name, &address_json(address).to_string(), &favorites]).await
        }
        Write::Delete(key) => {
            if key.kind == Kind::Order {
                run(tx, "DELETE FROM order_items WHERE order_id = $1::text::uuid", &[&key.id]).await?;
            }
            let table = key.kind.plural();
            run(tx, &format!("DELETE FROM {table} WHERE id = $1::text::uuid"), &[&key.id]).await
        }
    }
}

async fn run(tx: &deadpool_postgres::Transaction<'_>, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, values).await
}

fn address_json(a: &Address) -> serde_json::Value {
    serde_json::json!({ "street": a.street, "city": a.city, "zip": a.zip, "country": a.country })
}

fn shipping_json(s: &Shipping) -> String {
    // The cost goes in as its own digits: a float is no price.
    let method = serde_json::Value::from(s.method.as_str());
    format!("{{\"method\":{method},\"cost\":{},\"address\":{}}}", s.cost, address_json(&s.address))
}

async fn put_book(tx: &deadpool_postgres::Transaction<'_>, b: &Book) -> Result<u64, Error> {
    let sql = "INSERT INTO books (id, title, author, description, price, category, isbn, stock_quantity, \
               created_at, updated_at) VALUES ($1::text::uuid, $2, $3, $4, $5::text::numeric, $6, $7, \
               $8::bigint::integer, $9::text::timestamptz, $10::text::timestamptz) \
               ON CONFLICT (id) DO UPDATE SET title = excluded.title, author = excluded.author, \
               description = excluded.description, price = excluded.price, category = excluded.category, \
               isbn = excluded.isbn, stock_quantity = excluded.stock_quantity, created_at = excluded.created_at, \
               updated_at = excluded.updated_at";
    let category = b.category.as_deref().unwrap_or(DEFAULT_CATEGORY);
    let (created, updated) = (b.created_at.iso(), b.updated_at.iso());
    run(
        tx,
        sql,
        &[
            &b.id,
            &b.title,
            &b.author,
            &b.description,
            &b.price.text(),
            &category,
            &b.isbn,
            &b.stock,
            &created,
            &updated,
        ],
    )
    .await
}

async fn put_user(tx: &deadpool_postgres::Transaction<'_>, shape: &TargetShape, u: &User) -> Result<u64, Error> {
    let (column, value, update) = if shape.user_city {
        (", city", ", $4::text::jsonb ->> 'city'", ", city = excluded.city")
    } else {
        ("", "", "")
    };
    let sql = format!(
        "INSERT INTO users (id, email, name, address, favorites, created_at{column}) VALUES ($1::text::uuid, $2, $3, \
         $4::text::jsonb, $5, $6::text::timestamptz{value}) ON CONFLICT (id) DO UPDATE SET email = excluded.email, \
         name = excluded.name, address = excluded.address, favorites = excluded.favorites, \
         created_at = excluded.created_at{update}"
    );
    let favorites: Option<Vec<&String>> = (!u.favorites.is_empty()).then(|| u.favorites.iter().collect());
    let address = address_json(&u.address).to_string();
    run(tx, &sql, &[&u.id, &u.email, &u.name, &address, &favorites, &u.created_at.iso()]).await
}

async fn put_order(tx: &deadpool_postgres::Transaction<'_>, shape: &TargetShape, o: &Order) -> Result<u64, Error> {
    let sql = "INSERT INTO orders (id, user_id, status, total, shipping, created_at, updated_at) \
               VALUES ($1::text::uuid, $2::text::uuid, $3, $4::text::numeric, $5::text::jsonb, \
               $6::text::timestamptz, $7::text::timestamptz) ON CONFLICT (id) DO UPDATE SET \
               user_id = excluded.user_id, status = excluded.status, total = excluded.total, \
               shipping = excluded.shipping, created_at = excluded.created_at, updated_at = excluded.updated_at";
    let (created, updated) = (o.created_at.iso(), o.updated_at.iso());
    let shipping = shipping_json(&o.shipping);
    let rows = run(tx, sql, &[&o.id, &o.user, &o.status, &o.total.text(), &shipping, &created, &updated]).await?;
    run(tx, "DELETE FROM order_items WHERE order_id = $1::text::uuid", &[&o.id]).await?;
    let price = shape.line_price;
    for (position, line) in (0_i64..).zip(&o.lines) {
        let unit_price = line.unit_price.text();
        if shape.line_title {
            let sql = format!(
                "INSERT INTO order_items (order_id, position, book_id, quantity, {price}, title) VALUES \
                 ($1::text::uuid, $2::bigint::integer, $3::text::uuid, $4::bigint::integer, $5::text::numeric, $6)"
            );
            run(tx, &sql, &[&o.id, &position, &line.book, &line.quantity, &unit_price, &line.title]).await?;
        } else {
            let sql = format!(
                "INSERT INTO order_items (order_id, position, book_id, quantity, {price}) VALUES \
                 ($1::text::uuid, $2::bigint::integer, $3::text::uuid, $4::bigint::integer, $5::text::numeric)"
            );
            run(tx, &sql, &[&o.id, &position, &line.book, &line.quantity, &unit_price]).await?;
        }
    }
    Ok(rows)
}
