//! The shop's records as PostgreSQL rows, read with plain SQL.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tokio_postgres::{Client, Error, Row};

use super::{Address, Book, Decimal, Kind, Line, Moment, Order, Record, Shipping, User};

/// Which optional columns the target schema has. The shop's queries follow it, as a deployed application would
/// have been written for one schema or the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetShape {
    /// `users.city` repeats the address's city.
    pub user_city: bool,
    /// `order_items.title` keeps the line's title.
    pub line_title: bool,
    /// The column with a line's price: `unit_price` or `price`.
    pub line_price: &'static str,
}

impl TargetShape {
    /// Reads which columns are there.
    pub async fn of(client: &Client) -> Result<Self, Error> {
        let rows = client
            .query(
                "SELECT table_name::text, column_name::text FROM information_schema.columns \
                 WHERE table_schema = ANY (current_schemas(false)) AND table_name IN ('users', 'order_items')",
                &[],
            )
            .await?;
        let has = |table: &str, column: &str| {
            rows.iter().any(|r| r.get::<_, &str>(0) == table && r.get::<_, &str>(1) == column)
        };
        Ok(Self {
            user_city: has("users", "city"),
            line_title: has("order_items", "title"),
            line_price: if has("order_items", "unit_price") { "unit_price" } else { "price" },
        })
    }
}

const MICROS: &str = "* 1000000)::bigint";

fn select(kind: Kind, shape: &TargetShape) -> String {
    let time = |column: &str| format!("(extract(epoch FROM {column}) {MICROS}");
    match kind {
        Kind::Book => format!(
            "SELECT id::text, title, author, description, price::text, category, isbn, stock_quantity::bigint, {}, {} \
             FROM books",
            time("created_at"),
            time("updated_at")
        ),
        Kind::User => {
            // Two columns of one attribute that say different things are a damaged row.
            let address = match shape.user_city {
                true => "CASE WHEN city IS NOT DISTINCT FROM address ->> 'city' THEN address::text END",
                false => "address::text",
            };
            format!("SELECT id::text, email, name, {address}, favorites, {} FROM users", time("created_at"))
        }
        Kind::Order | Kind::Cart | Kind::Account | Kind::Payment | Kind::Session | Kind::Limit => format!(
            "SELECT id::text, user_id::text, status, total::text, shipping::text, {}, {} FROM orders",
            time("created_at"),
            time("updated_at")
        ),
    }
}

fn select_lines(shape: &TargetShape) -> String {
    let title = if shape.line_title { "title" } else { "''::text" };
    format!(
        "SELECT order_id::text, book_id::text, {title}, quantity::bigint, {}::text FROM order_items",
        shape.line_price
    )
}

/// Text of a column that must not be NULL.
fn text(row: &Row, at: usize) -> Option<String> {
    row.try_get::<_, Option<String>>(at).ok()?
}

fn moment(row: &Row, at: usize) -> Option<Moment> {
    row.try_get::<_, Option<i64>>(at).ok()?.map(Moment)
}

fn address(value: &Value) -> Option<Address> {
    let field = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    Some(Address { street: field("street")?, city: field("city")?, zip: field("zip")?, country: field("country")? })
}

fn book(row: &Row) -> Option<Record> {
    Some(Record::Book(Book {
        id: text(row, 0)?,
        title: text(row, 1)?,
        author: text(row, 2)?,
        description: text(row, 3)?,
        price: Decimal::parse(&text(row, 4)?)?,
        category: row.try_get(5).ok()?,
        isbn: row.try_get(6).ok()?,
        stock: row.try_get::<_, Option<i64>>(7).ok()??,
        created_at: moment(row, 8)?,
        updated_at: moment(row, 9)?,
    }))
}

fn user(row: &Row) -> Option<Record> {
    let favorites: Option<Vec<String>> = row.try_get(4).ok()?;
    Some(Record::User(User {
        id: text(row, 0)?,
        email: text(row, 1)?,
        name: text(row, 2)?,
        address: address(&serde_json::from_str(&text(row, 3)?).ok()?)?,
        favorites: favorites.unwrap_or_default().into_iter().collect(),
        created_at: moment(row, 5)?,
    }))
}

fn order(row: &Row, lines: Vec<Line>) -> Option<Record> {
    let shipping: Value = serde_json::from_str(&text(row, 4)?).ok()?;
    Some(Record::Order(Order {
        id: text(row, 0)?,
        user: text(row, 1)?,
        status: text(row, 2)?,
        total: Decimal::parse(&text(row, 3)?)?,
        lines,
        shipping: Shipping {
            method: shipping.get("method")?.as_str()?.to_owned(),
            cost: Decimal::parse(&shipping.get("cost")?.as_number()?.to_string())?,
            address: address(shipping.get("address")?)?,
        },
        created_at: moment(row, 5)?,
        updated_at: moment(row, 6)?,
    }))
}

fn line(row: &Row) -> Option<Line> {
    Some(Line {
        book: text(row, 1)?,
        title: text(row, 2)?,
        quantity: row.try_get::<_, Option<i64>>(3).ok()??,
        unit_price: Decimal::parse(&text(row, 4)?)?,
    })
}

/// All rows of a kind by id. `None` stands for a row that cannot be read as a record: it is damaged.
pub async fn read_all(
    client: &Client,
    shape: &TargetShape,
    kind: Kind,
) -> Result<BTreeMap<String, Option<Record>>, Error> {
    let mut lines: HashMap<String, Option<Vec<Line>>> = HashMap::new();
    if kind == Kind::Order {
        let sql = format!("{} ORDER BY order_id, position", select_lines(shape));
        for row in client.query(&sql, &[]).await? {
            let of = lines.entry(row.get(0)).or_insert_with(|| Some(Vec::new()));
            match (line(&row), of.as_mut()) {
                (Some(line), Some(of)) => of.push(line),
                // One unreadable line damages its order.
                _ => *of = None,
            }
        }
    }
    let mut records = BTreeMap::new();
    for row in client.query(&select(kind, shape), &[]).await? {
        let id: String = row.get(0);
        let record = decode(kind, &row, lines.remove(&id).unwrap_or_else(|| Some(Vec::new())));
        records.insert(id, record);
    }
    Ok(records)
}

fn decode(kind: Kind, row: &Row, lines: Option<Vec<Line>>) -> Option<Record> {
    match kind {
        Kind::Book => book(row),
        Kind::User => user(row),
        Kind::Order => order(row, lines?),
        // Carts stay in DynamoDB, payments are another application's.
        Kind::Cart | Kind::Account | Kind::Payment | Kind::Session | Kind::Limit => None,
    }
}

/// One record, if it is there. `Some(None)` stands for a damaged row.
pub async fn read_one(
    client: &Client,
    shape: &TargetShape,
    kind: Kind,
    id: &str,
) -> Result<Option<Option<Record>>, Error> {
    let mut lines = Some(Vec::new());
    if kind == Kind::Order {
        let sql = format!("{} WHERE order_id = $1::text::uuid ORDER BY position", select_lines(shape));
        lines = client.query(&sql, &[&id]).await?.iter().map(line).collect();
    }
    let sql = format!("{} WHERE id = $1::text::uuid", select(kind, shape));
    Ok(client.query_opt(&sql, &[&id]).await?.map(|row| decode(kind, &row, lines)))
}
