//! The shop's two data layers: DynamoDB as it is today, PostgreSQL as it will be.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue as Av;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::model::{BOOKS, Book, Kind, ORDERS, Order, Record, USERS, User, from_iso, iso, money};

/// Whether an operation happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It did not.
    No(String),
    /// Nobody knows.
    Unknown(String),
}

/// The old side.
#[derive(Clone, Debug)]
pub struct Dynamo(pub aws_sdk_dynamodb::Client);

const fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Book => BOOKS,
        Kind::User => USERS,
        Kind::Order => ORDERS,
    }
}

/// The key attribute of a kind.
pub const fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::Book => "bookId",
        Kind::User => "userId",
        Kind::Order => "orderId",
    }
}

fn s(text: impl Into<String>) -> Av {
    Av::S(text.into())
}

fn n(number: impl ToString) -> Av {
    Av::N(number.to_string())
}

fn place(address: &[String; 4]) -> Av {
    let names = ["street", "city", "zip", "country"];
    Av::M(names.iter().zip(address).map(|(k, v)| ((*k).to_owned(), s(v))).collect())
}

/// A record as an item.
pub fn item(record: &Record) -> HashMap<String, Av> {
    let mut out: HashMap<String, Av> = HashMap::new();
    let mut put = |name: &str, value: Av| drop(out.insert(name.to_owned(), value));
    match record {
        Record::Book(b) => {
            put("bookId", s(b.id.to_string()));
            put("title", s(&b.title));
            put("author", s(&b.author));
            put("description", s(&b.description));
            put("price", n(&b.price));
            b.category.iter().for_each(|c| put("category", s(c)));
            b.isbn.iter().for_each(|i| put("isbn", s(i)));
            put("stockQuantity", n(b.stock));
            put("createdAt", s(iso(b.created)));
            put("updatedAt", s(iso(b.updated)));
        }
        Record::User(u) => {
            put("userId", s(u.id.to_string()));
            put("email", s(&u.email));
            put("name", s(&u.name));
            put("address", place(&u.address));
            if !u.favorites.is_empty() {
                put("favorites", Av::Ss(u.favorites.clone()));
            }
            put("createdAt", s(iso(u.created)));
            put("updatedAt", s(iso(u.updated)));
        }
        Record::Order(o) => {
            put("orderId", s(o.id.to_string()));
            put("userId", s(o.user.to_string()));
            put("status", s(&o.status));
            put("total", n(money(o.total)));
            let line = |(book, quantity, price): &(Uuid, i64, i64)| {
                Av::M(HashMap::from([
                    ("bookId".into(), s(book.to_string())),
                    ("quantity".into(), n(quantity)),
                    ("price".into(), n(money(*price))),
                ]))
            };
            put("items", Av::L(o.items.iter().map(line).collect()));
            put("shipping", place(&o.shipping));
            put("createdAt", s(iso(o.created)));
            put("updatedAt", s(iso(o.updated)));
        }
    }
    out
}

fn text(item: &HashMap<String, Av>, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

fn cents(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<2}");
    (fraction.len() == 2).then(|| Some(whole.parse::<i64>().ok()? * 100 + fraction.parse::<i64>().ok()?))?
}

fn read_place(item: &HashMap<String, Av>, name: &str) -> Option<[String; 4]> {
    let map = item.get(name)?.as_m().ok()?;
    Some([text(map, "street")?, text(map, "city")?, text(map, "zip")?, text(map, "country")?])
}

/// An item as a record; `None` when it is none of ours.
pub fn record(kind: Kind, item: &HashMap<String, Av>) -> Option<Record> {
    let id = text(item, key(kind))?.parse().ok()?;
    let at = |name| from_iso(&text(item, name)?);
    let number = |name: &str| item.get(name)?.as_n().ok().cloned();
    Some(match kind {
        Kind::Book => Record::Book(Book {
            id,
            title: text(item, "title")?,
            author: text(item, "author")?,
            description: text(item, "description")?,
            price: number("price")?,
            category: text(item, "category"),
            isbn: text(item, "isbn"),
            stock: number("stockQuantity")?.parse().ok()?,
            created: at("createdAt")?,
            updated: at("updatedAt")?,
        }),
        Kind::User => Record::User(User {
            id,
            email: text(item, "email")?,
            name: text(item, "name")?,
            address: read_place(item, "address")?,
            favorites: match item.get("favorites") {
                Some(set) => {
                    let mut set = set.as_ss().ok()?.clone();
                    set.sort_unstable();
                    set
                }
                None => Vec::new(),
            },
            created: at("createdAt")?,
            updated: at("updatedAt")?,
        }),
        Kind::Order => {
            let line = |line: &Av| {
                let m = line.as_m().ok()?;
                let number = |name: &str| m.get(name)?.as_n().ok().cloned();
                Some((text(m, "bookId")?.parse().ok()?, number("quantity")?.parse().ok()?, cents(&number("price")?)?))
            };
            Record::Order(Order {
                id,
                user: text(item, "userId")?.parse().ok()?,
                status: text(item, "status")?,
                total: cents(&number("total")?)?,
                items: item.get("items")?.as_l().ok()?.iter().map(line).collect::<Option<_>>()?,
                shipping: read_place(item, "shipping")?,
                created: at("createdAt")?,
                updated: at("updatedAt")?,
            })
        }
    })
}

impl Dynamo {
    /// Writes a record.
    pub async fn put(&self, r: &Record) -> Result<(), Failed> {
        let put = self.0.put_item().table_name(table(r.kind())).set_item(Some(item(r))).send().await;
        put.map(drop).map_err(|e| Failed::Unknown(e.to_string()))
    }

    /// Removes a record.
    pub async fn delete(&self, kind: Kind, id: Uuid) -> Result<(), Failed> {
        let key = s(id.to_string());
        let delete = self.0.delete_item().table_name(table(kind)).key(self::key(kind), key).send().await;
        delete.map(drop).map_err(|e| Failed::Unknown(e.to_string()))
    }

    /// Whether a record is there.
    pub async fn has(&self, kind: Kind, id: Uuid) -> Result<bool, Failed> {
        let key = s(id.to_string());
        let get = self.0.get_item().table_name(table(kind)).key(self::key(kind), key).send().await;
        get.map(|g| g.item.is_some()).map_err(|e| Failed::No(e.to_string()))
    }

    /// Every record of a kind; items that are none of ours come back by key.
    pub async fn all(&self, kind: Kind) -> Result<BTreeMap<String, Option<Record>>, String> {
        let mut out = BTreeMap::new();
        let mut from = None;
        loop {
            let page = self
                .0
                .scan()
                .table_name(table(kind))
                .consistent_read(true)
                .limit(2_000)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|e| aws_sdk_dynamodb::error::DisplayErrorContext(e).to_string())?;
            for item in page.items() {
                let id = text(item, key(kind)).unwrap_or_default();
                out.insert(id, record(kind, item));
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(out);
            }
        }
    }
}

/// The new side.
#[derive(Clone)]
pub struct Postgres(Pool);

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Book => "books",
        Kind::User => "users",
        Kind::Order => "orders",
    }
}

fn json(address: &[String; 4]) -> serde_json::Value {
    let [street, city, zip, country] = address;
    serde_json::json!({ "street": street, "city": city, "zip": zip, "country": country })
}

fn from_json(value: &serde_json::Value) -> Option<[String; 4]> {
    let field = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    Some([field("street")?, field("city")?, field("zip")?, field("country")?])
}

/// A commit that breaks off may have happened.
fn failed(e: &tokio_postgres::Error) -> Failed {
    if e.as_db_error().is_some() { Failed::No(e.to_string()) } else { Failed::Unknown(e.to_string()) }
}

impl Postgres {
    /// A pool from a connection string, as the application finds it in its secret.
    pub fn connect(url: &str) -> Result<Self, String> {
        let config: tokio_postgres::Config = url.parse().map_err(|e: tokio_postgres::Error| e.to_string())?;
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, NoTls, recycle);
        Pool::builder(manager).max_size(8).build().map(Self).map_err(|e| e.to_string())
    }

    async fn client(&self) -> Result<deadpool_postgres::Object, Failed> {
        self.0.get().await.map_err(|e| Failed::No(e.to_string()))
    }

    /// Writes a record.
    pub async fn put(&self, r: &Record) -> Result<(), Failed> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(|e| Failed::No(e.to_string()))?;
        let written = match r {
            Record::Book(b) => {
                let sql = "INSERT INTO books (id, title, author, description, price, category, isbn, stock_quantity,
                     created_at, updated_at) VALUES ($1,$2,$3,$4,$5::text::numeric,$6,$7,$8,
                     to_timestamp($9::bigint / 1000.0), to_timestamp($10::bigint / 1000.0))
                     ON CONFLICT (id) DO UPDATE SET title=excluded.title, author=excluded.author,
                     description=excluded.description, price=excluded.price, category=excluded.category,
                     isbn=excluded.isbn, stock_quantity=excluded.stock_quantity, created_at=excluded.created_at,
                     updated_at=excluded.updated_at";
                let stock = i32::try_from(b.stock).unwrap_or(i32::MAX);
                let category = b.category.as_deref().unwrap_or("General");
                tx.execute(
                    sql,
                    &[
                        &b.id, &b.title, &b.author, &b.description, &b.price, &category, &b.isbn, &stock, &b.created,
                        &b.updated,
                    ],
                )
                .await
            }
            Record::User(u) => {
                let sql = "INSERT INTO users (id, email, name, city, address, favorites, created_at, updated_at)
                     VALUES ($1,$2,$3,$4,$5,$6,to_timestamp($7::bigint / 1000.0), to_timestamp($8::bigint / 1000.0))
                     ON CONFLICT (id) DO UPDATE SET email=excluded.email, name=excluded.name, city=excluded.city,
                     address=excluded.address, favorites=excluded.favorites, created_at=excluded.created_at,
                     updated_at=excluded.updated_at";
                let favorites = (!u.favorites.is_empty()).then_some(&u.favorites);
                tx.execute(
                    sql,
                    &[&u.id, &u.email, &u.name, &u.address[1], &json(&u.address), &favorites, &u.created, &u.updated],
                )
                .await
            }
            Record::Order(o) => {
                let sql = "INSERT INTO orders (id, user_id, status, total, shipping, created_at, updated_at)
                     VALUES ($1,$2,$3,$4::text::numeric,$5,to_timestamp($6::bigint / 1000.0),
                     to_timestamp($7::bigint / 1000.0))
                     ON CONFLICT (id) DO UPDATE SET user_id=excluded.user_id, status=excluded.status,
                     total=excluded.total, shipping=excluded.shipping, created_at=excluded.created_at,
                     updated_at=excluded.updated_at";
                let total = money(o.total);
                let shipping = json(&o.shipping);
                let order = tx
                    .execute(sql, &[&o.id, &o.user, &o.status, &total, &shipping, &o.created, &o.updated])
                    .await;
                match order {
                    Ok(_) => Self::lines(&tx, o).await,
                    Err(e) => Err(e),
                }
            }
        };
        written.map_err(|e| failed(&e))?;
        tx.commit().await.map_err(|e| failed(&e))
    }

    async fn lines(tx: &deadpool_postgres::Transaction<'_>, o: &Order) -> Result<u64, tokio_postgres::Error> {
        tx.execute("DELETE FROM order_items WHERE order_id = $1", &[&o.id]).await?;
        for (position, (book, quantity, price)) in o.items.iter().enumerate() {
            let position = i32::try_from(position).unwrap_or(i32::MAX);
            let quantity = i32::try_from(*quantity).unwrap_or(i32::MAX);
            let sql = "INSERT INTO order_items (order_id, position, book_id, quantity, price)
                 VALUES ($1,$2,$3,$4,$5::text::numeric)";
            tx.execute(sql, &[&o.id, &position, book, &quantity, &money(*price)]).await?;
        }
        Ok(0)
    }

    /// Removes a record.
    pub async fn delete(&self, kind: Kind, id: Uuid) -> Result<(), Failed> {
        let client = self.client().await?;
        let sql = format!("DELETE FROM {} WHERE id = $1", name(kind));
        client.execute(&sql, &[&id]).await.map(drop).map_err(|e| failed(&e))
    }

    /// Whether a record is there.
    pub async fn has(&self, kind: Kind, id: Uuid) -> Result<bool, Failed> {
        let client = self.client().await?;
        let sql = format!("SELECT 1 FROM {} WHERE id = $1", name(kind));
        client.query_opt(&sql, &[&id]).await.map(|r| r.is_some()).map_err(|e| Failed::No(e.to_string()))
    }

    /// Changes some rows without telling anybody: what a verification must find.
    pub async fn corrupt(&self) -> Result<u64, Failed> {
        let client = self.client().await?;
        let sql = "UPDATE books SET stock_quantity = stock_quantity + 1 WHERE id IN (SELECT id FROM books LIMIT 20)";
        client.execute(sql, &[]).await.map_err(|e| failed(&e))
    }

    /// Every record of a kind.
    pub async fn all(&self, kind: Kind) -> Result<BTreeMap<String, Option<Record>>, String> {
        let client = self.0.get().await.map_err(|e| e.to_string())?;
        let ms = |column: &str| format!("round(extract(epoch from {column}) * 1000)::bigint");
        let (created, updated) = (ms("created_at"), ms("updated_at"));
        let sql = match kind {
            Kind::Book => format!(
                "SELECT id, title, author, description, price::text, category, isbn, stock_quantity::bigint, {created},
                 {updated} FROM books"
            ),
            Kind::User => format!("SELECT id, email, name, address, favorites, {created}, {updated} FROM users"),
            Kind::Order => format!(
                "SELECT id, user_id, status, (total * 100)::bigint, shipping, {created}, {updated} FROM orders"
            ),
        };
        let mut lines: HashMap<Uuid, Vec<(Uuid, i64, i64)>> = HashMap::new();
        if kind == Kind::Order {
            let sql = "SELECT order_id, book_id, quantity::bigint, (price * 100)::bigint FROM order_items
                 ORDER BY order_id, position";
            for row in client.query(sql, &[]).await.map_err(|e| e.to_string())? {
                lines.entry(row.get(0)).or_default().push((row.get(1), row.get(2), row.get(3)));
            }
        }
        let rows = client.query(&sql, &[]).await.map_err(|e| e.to_string())?;
        Ok(rows
            .iter()
            .map(|row| {
                let id: Uuid = row.get(0);
                let record = match kind {
                    Kind::Book => Some(Record::Book(Book {
                        id,
                        title: row.get(1),
                        author: row.get(2),
                        description: row.get(3),
                        price: row.get(4),
                        category: row.get(5),
                        isbn: row.get(6),
                        stock: row.get(7),
                        created: row.get(8),
                        updated: row.get(9),
                    })),
                    Kind::User => from_json(&row.get(3)).map(|address| {
                        Record::User(User {
                            id,
                            email: row.get(1),
                            name: row.get(2),
                            address,
                            favorites: row.get::<_, Option<Vec<String>>>(4).unwrap_or_default(),
                            created: row.get(5),
                            updated: row.get(6),
                        })
                    }),
                    Kind::Order => from_json(&row.get(4)).map(|shipping| {
                        Record::Order(Order {
                            id,
                            user: row.get(1),
                            status: row.get(2),
                            total: row.get(3),
                            items: lines.remove(&id).unwrap_or_default(),
                            shipping,
                            created: row.get(5),
                            updated: row.get(6),
                        })
                    }),
                };
                (id.to_string(), record)
            })
            .collect())
    }
}
