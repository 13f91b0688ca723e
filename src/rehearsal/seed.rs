//! The shop's data before the day: reproducible, of realistic shape, with a few rows that do not fit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue as Av, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    TableStatus, WriteRequest,
};
use sha2::{Digest, Sha256};

use super::records::{
    Address, Book, Cart, Decimal, Kind, Line, Moment, Order, Record, RecordKey, Shipping, User, key_attribute,
    table_name, to_item,
};
use crate::private::dynamo::EmbeddedDynamo;
use crate::private::{RehearsalError, RehearsalResult};

/// 2026-06-01T00:00:00Z, so that nothing in the data depends on the machine's clock.
pub(super) const BEGINNING: i64 = 1_780_272_000_000_000;
/// Items in one batch write: DynamoDB takes no more.
const BATCH: usize = 25;
/// Items in one direct import.
const IMPORT: usize = 5_000;

/// How many records of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sizes {
    pub books: usize,
    pub users: usize,
    pub orders: usize,
    pub carts: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { books: 5_000, users: 1_000, orders: 2_500, carts: 200 }
    }
}

/// Text that is not four numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not BOOKS,USERS,ORDERS,CARTS; write four whole numbers like 5000,1000,2500,200, books and users above 0"
)]
pub struct BadSizes(String);

impl FromStr for Sizes {
    type Err = BadSizes;

    fn from_str(text: &str) -> Result<Self, BadSizes> {
        let bad = || BadSizes(text.to_owned());
        let numbers: Vec<usize> =
            text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| bad())?;
        match numbers[..] {
            [books, users, orders, carts] if books > 0 && users > 0 => Ok(Self { books, users, orders, carts }),
            _ => Err(bad()),
        }
    }
}

/// All data of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// What an application keeps, parents before children.
    pub records: Vec<Record>,
    /// Records that no correct console can move, and why. They stay in DynamoDB.
    pub parked: BTreeMap<RecordKey, &'static str>,
}

impl Dataset {
    /// The data of a seed: the same seed and sizes give the same bytes.
    #[must_use]
    pub fn generate(sizes: Sizes, seed: u64, awkward: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut books: Vec<Book> = (0..sizes.books).map(|i| book(&mut rng, i)).collect();
        let users: Vec<User> = (0..sizes.users).map(|i| user(&mut rng, i, &books)).collect();
        let orders: Vec<Order> = (0..sizes.orders).map(|_| order(&mut rng, &users, &books)).collect();
        let carts: Vec<Cart> =
            (0..sizes.carts).map(|_| Cart { id: uuid(&mut rng), lines: lines(&mut rng, &books) }).collect();
        let mut parked = BTreeMap::new();
        if awkward {
            for (row, why) in awkward_books(&mut rng, sizes.books) {
                parked.insert(RecordKey { kind: Kind::Book, id: row.id.clone() }, why);
                books.push(row);
            }
        }
        let records = books
            .into_iter()
            .map(Record::Book)
            .chain(users.into_iter().map(Record::User))
            .chain(orders.into_iter().map(Record::Order))
            .chain(carts.into_iter().map(Record::Cart))
            .collect();
        Self { records, parked }
    }

    /// A digest of every byte of the data.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for record in &self.records {
            hash.update(format!("{record:?}\n"));
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |r| r.key().kind == kind)
    }
}

pub(super) fn uuid(rng: &mut fastrand::Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn pick<'a, T>(rng: &mut fastrand::Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(..all.len())]
}

const FIRST: &[&str] = &[
    "Ada", "Bruno", "Chloé", "Dmitri", "Elif", "Farid", "Greta", "Hana", "Igor", "Jürgen", "Kaori", "Lucía", "Mira",
    "Noor", "Oskar", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Ursula", "Vera", "Wanda", "Xin", "Yusuf", "Zoë",
];
const LAST: &[&str] = &[
    "Almeida",
    "Bergström",
    "Castillo",
    "Dubois",
    "Eriksson",
    "Fontaine",
    "García",
    "Hughes",
    "Ivanova",
    "Jensen",
    "Kowalski",
    "Lindqvist",
    "Müller",
    "Nakamura",
    "O'Brien",
    "Petrov",
    "Quiroga",
    "Rossi",
    "Schmidt",
    "Tanaka",
    "Ueda",
    "Vargas",
    "Weber",
    "Yıldız",
    "Zhang",
];
const WORDS: &[&str] = &[
    "river",
    "winter",
    "glass",
    "shadow",
    "garden",
    "silent",
    "northern",
    "lighthouse",
    "salt",
    "paper",
    "morning",
    "forgotten",
    "island",
    "letters",
    "clockmaker",
    "harbour",
    "thread",
    "atlas",
    "copper",
    "mirror",
    "storm",
    "orchard",
    "last",
    "hidden",
    "years",
    "house",
    "road",
    "night",
    "cartographer",
    "violin",
    "daughter",
    "bridge",
    "café",
    "naïve",
    "東京",
    "“quoted”",
    "d'été",
    "co-author",
    "50%",
    "tab\tbed",
];
const CATEGORIES: &[&str] =
    &["Fiction", "History", "Science", "Children", "Poetry", "Travel", "Cooking", "Computing", "Art & Design"];
const CITIES: &[(&str, &str, &str)] = &[
    ("Lisboa", "1100-148", "PT"),
    ("Göteborg", "41108", "SE"),
    ("Kraków", "31-001", "PL"),
    ("Portland", "97205", "US"),
    ("Osaka", "530-0001", "JP"),
    ("São Paulo", "01310-100", "BR"),
    ("Leeds", "LS1 4DY", "GB"),
    ("Nantes", "44000", "FR"),
];
/// What an order goes through.
pub(super) const STATUSES: &[&str] = &["placed", "paid", "packed", "shipped", "delivered", "returned"];

pub(super) fn words(rng: &mut fastrand::Rng, count: usize) -> String {
    let words: Vec<&str> = (0..count).map(|_| *pick(rng, WORDS)).collect();
    words.join(" ")
}

pub(super) fn name(rng: &mut fastrand::Rng) -> String {
    format!("{} {}", pick(rng, FIRST), pick(rng, LAST))
}

pub(super) fn moment(rng: &mut fastrand::Rng, after: i64) -> Moment {
    // Whole milliseconds, up to 60 days later.
    Moment(after + rng.i64(0..60 * 86_400_000) * 1000)
}

pub(super) fn price(rng: &mut fastrand::Rng) -> Decimal {
    Decimal::cents(rng.i64(199..9_999))
}

/// A book that fits. `number` makes its ISBN unique.
pub(super) fn book(rng: &mut fastrand::Rng, number: usize) -> Book {
    let created_at = moment(rng, BEGINNING);
    let title_words = rng.usize(1..5);
    let mut description = words(rng, 22);
    // About 200 characters, a few of them none at all.
    if rng.u8(..) < 5 {
        description.clear();
    }
    Book {
        id: uuid(rng),
        title: words(rng, title_words),
        author: name(rng),
        description,
        price: price(rng),
        category: (rng.u8(..10) != 0).then(|| (*pick(rng, CATEGORIES)).to_owned()),
        isbn: (rng.u8(..20) != 0).then(|| format!("978{number:010}")),
        stock: rng.i64(0..500),
        created_at,
        updated_at: moment(rng, created_at.0),
    }
}

pub(super) fn address(rng: &mut fastrand::Rng) -> Address {
    let (city, zip, country) = *pick(rng, CITIES);
    let street = format!("{} {}", rng.u16(1..400), pick(rng, WORDS));
    Address { street, city: city.to_owned(), zip: zip.to_owned(), country: country.to_owned() }
}

pub(super) fn favorites(rng: &mut fastrand::Rng, books: &[impl AsRef<str>]) -> BTreeSet<String> {
    // One customer in four has none.
    let count = if rng.u8(..4) == 0 || books.is_empty() { 0 } else { rng.usize(1..6) };
    (0..count).map(|_| pick(rng, books).as_ref().to_owned()).collect()
}

fn user(rng: &mut fastrand::Rng, number: usize, books: &[Book]) -> User {
    let ids: Vec<&str> = books.iter().take(500).map(|b| b.id.as_str()).collect();
    new_user(rng, &format!("reader{number}@example.com"), &ids, None)
}

/// A customer. Without a time, one in the past is drawn.
pub(super) fn new_user(rng: &mut fastrand::Rng, email: &str, books: &[impl AsRef<str>], at: Option<Moment>) -> User {
    User {
        id: uuid(rng),
        email: email.to_owned(),
        name: name(rng),
        address: address(rng),
        favorites: favorites(rng, books),
        created_at: at.unwrap_or_else(|| moment(rng, BEGINNING)),
    }
}

fn line(rng: &mut fastrand::Rng, book: &Book) -> Line {
    Line { book: book.id.clone(), title: book.title.clone(), quantity: rng.i64(1..4), unit_price: book.price.clone() }
}

fn lines(rng: &mut fastrand::Rng, books: &[Book]) -> Vec<Line> {
    let count = rng.usize(1..5);
    (0..count)
        .map(|_| {
            let book = pick(rng, books);
            line(rng, book)
        })
        .collect()
}

fn order(rng: &mut fastrand::Rng, users: &[User], books: &[Book]) -> Order {
    let user = pick(rng, users);
    let lines = lines(rng, books);
    let created_at = moment(rng, user.created_at.0);
    let updated_at = moment(rng, created_at.0);
    let mut order = new_order(rng, user, lines, created_at);
    order.status = (*pick(rng, STATUSES)).to_owned();
    order.updated_at = updated_at;
    order
}

/// An order that has just been placed.
pub(super) fn new_order(rng: &mut fastrand::Rng, user: &User, lines: Vec<Line>, at: Moment) -> Order {
    let (method, cost) = *pick(rng, &[("standard", 390), ("express", 990), ("pickup", 0)]);
    Order {
        id: uuid(rng),
        user: user.id.clone(),
        status: STATUSES[0].to_owned(),
        total: total(&lines, cost),
        lines,
        shipping: Shipping { method: method.to_owned(), cost: Decimal::cents(cost), address: user.address.clone() },
        created_at: at,
        updated_at: at,
    }
}

fn total(lines: &[Line], shipping: i64) -> Decimal {
    let cents = |d: &Decimal| {
        let (whole, part) = d.text().split_once('.').unwrap_or((d.text(), ""));
        format!("{whole}{part:0<2}").parse::<i64>().unwrap_or(0)
    };
    Decimal::cents(shipping + lines.iter().map(|l| l.quantity * cents(&l.unit_price)).sum::<i64>())
}

/// Books that do not fit the target's columns.
fn awkward_books(rng: &mut fastrand::Rng, first: usize) -> Vec<(Book, &'static str)> {
    let mut next = first;
    let mut made = |change: fn(&mut Book), why| {
        let mut book = book(rng, next);
        next += 1;
        change(&mut book);
        (book, why)
    };
    vec![
        made(|b| b.title = "The null\0byte".to_owned(), "its title holds U+0000"),
        made(|b| b.price = decimal("19.999"), "its price has three decimals"),
        made(|b| b.price = decimal("12345678901.5"), "its price has eleven digits before the point"),
    ]
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap_or_else(|| Decimal::cents(0))
}

/// Creates the shop's four tables, without streams: turning those on is the console's job.
pub async fn create_tables(client: &Client) -> RehearsalResult<()> {
    for kind in Kind::SHOP {
        let (table, key) = (table_name(kind), key_attribute(kind));
        let failed = |e: &(dyn std::error::Error + 'static)| RehearsalError::caused("create table", table, e);
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build();
        let attribute =
            AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
        client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(schema.map_err(|e| failed(&e))?)
            .attribute_definitions(attribute.map_err(|e| failed(&e))?)
            .send()
            .await
            .map_err(|e| failed(&e))?;
        until_active(client, table).await?;
    }
    Ok(())
}

/// Waits until a new table can be used.
pub(super) async fn until_active(client: &Client, table: &str) -> RehearsalResult<()> {
    for _ in 0..100 {
        let told = client.describe_table().table_name(table).send().await;
        let told = told.map_err(|e| RehearsalError::caused("create table", table, &e))?;
        if told.table().and_then(|t| t.table_status()) == Some(&TableStatus::Active) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Writes the data through the SDK, eight batches at a time.
pub async fn write_items(client: &Client, data: &Dataset) -> RehearsalResult<()> {
    for kind in Kind::SHOP {
        put_items(client, table_name(kind), data.of(kind).map(to_item).collect()).await?;
    }
    Ok(())
}

/// Puts items into a table through the SDK.
pub(super) async fn put_items(client: &Client, table: &str, items: Vec<HashMap<String, Av>>) -> RehearsalResult<()> {
    use futures::TryStreamExt;
    let batches = futures::stream::iter(items.chunks(BATCH).map(Ok));
    batches.try_for_each_concurrent(8, |batch| write_batch(client, table, batch)).await
}

async fn write_batch(client: &Client, table: &str, items: &[HashMap<String, Av>]) -> RehearsalResult<()> {
    let mut left = Vec::with_capacity(items.len());
    for item in items {
        let put = PutRequest::builder().set_item(Some(item.clone())).build();
        let put = put.map_err(|e| RehearsalError::caused("seed", table, &e))?;
        left.push(WriteRequest::builder().put_request(put).build());
    }
    for attempt in 0..12_u32 {
        let answer = client.batch_write_item().request_items(table, left).send().await;
        let answer = answer.map_err(|e| RehearsalError::caused("seed", table, &e))?;
        left = answer.unprocessed_items.and_then(|mut u| u.remove(table)).unwrap_or_default();
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20 << attempt.min(8))).await;
    }
    Err(RehearsalError::new("seed", table, format!("{} items stayed unprocessed", left.len())))
}

/// Loads the data straight into the embedded store: several times faster than over HTTP.
pub async fn import(dynamo: &EmbeddedDynamo, data: &Dataset) -> RehearsalResult<()> {
    let tables = Kind::SHOP.map(|kind| (table_name(kind), data.of(kind).map(to_item).collect()));
    import_items(dynamo, tables.into()).await
}

/// Loads items straight into tables of the embedded store.
pub(super) async fn import_items(
    dynamo: &EmbeddedDynamo,
    tables: Vec<(&'static str, Vec<HashMap<String, Av>>)>,
) -> RehearsalResult<()> {
    let Some(db) = dynamo.database().cloned() else { return Ok(()) };
    let loaded = tokio::task::spawn_blocking(move || {
        for (table, items) in tables {
            let mut items: Vec<_> = items.into_iter().map(raw_item).collect();
            while !items.is_empty() {
                let batch = items.split_off(items.len().saturating_sub(IMPORT));
                db.import_items(table, batch, dynoxide::ImportOptions::default())
                    .map_err(|e| RehearsalError::new("seed", table, e))?;
            }
        }
        Ok(())
    });
    loaded.await.map_err(|e| RehearsalError::new("seed", "the embedded DynamoDB", e))?
}

fn raw_item(item: HashMap<String, Av>) -> dynoxide::types::Item {
    item.into_iter().map(|(k, v)| (k, raw(v))).collect()
}

fn raw(value: Av) -> dynoxide::types::AttributeValue {
    use dynoxide::types::AttributeValue as Raw;
    match value {
        Av::S(s) => Raw::S(s),
        Av::N(n) => Raw::N(n),
        Av::B(b) => Raw::B(b.into_inner()),
        Av::Bool(b) => Raw::BOOL(b),
        Av::Ss(s) => Raw::SS(s),
        Av::L(l) => Raw::L(l.into_iter().map(raw).collect()),
        Av::M(m) => Raw::M(raw_item(m)),
        // The applications' records hold no other types.
        _ => Raw::NULL(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Sizes = Sizes { books: 60, users: 20, orders: 40, carts: 5 };

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let one = Dataset::generate(SMALL, 7, true);
        assert_eq!(one, Dataset::generate(SMALL, 7, true));
        assert_eq!(one.digest(), Dataset::generate(SMALL, 7, true).digest());
        assert_ne!(one.digest(), Dataset::generate(SMALL, 8, true).digest());
    }

    #[test]
    fn the_data_has_the_promised_shape() {
        let sizes = Sizes { books: 400, users: 100, orders: 200, carts: 5 };
        let data = Dataset::generate(sizes, 7, true);
        assert_eq!(data.records.len(), 400 + 100 + 200 + 5 + 3);
        assert_eq!(data.parked.len(), 3);
        assert_eq!(Dataset::generate(sizes, 7, false).parked.len(), 0);
        let books: Vec<&Book> =
            data.records.iter().filter_map(|r| if let Record::Book(b) = r { Some(b) } else { None }).collect();
        let isbns: BTreeSet<_> = books.iter().filter_map(|b| b.isbn.as_ref()).collect();
        assert_eq!(isbns.len(), books.iter().filter(|b| b.isbn.is_some()).count());
        assert!(books.iter().any(|b| b.isbn.is_none()) && books.iter().any(|b| b.category.is_none()));
        let users: BTreeSet<_> = data.of(Kind::User).map(|r| r.key().id).collect();
        for record in data.of(Kind::Order) {
            let Record::Order(order) = record else { unreachable!() };
            assert!(users.contains(&order.user));
            assert!(!order.lines.is_empty());
        }
        // Every record survives its item.
        for record in &data.records {
            let key = record.key();
            assert_eq!(
                crate::rehearsal::records::from_item(key.kind, &to_item(record)).as_ref(),
                Some(record),
                "{key}"
            );
        }
    }

    #[test]
    fn totals_are_exact() {
        let line = |quantity, cents| Line {
            book: String::new(),
            title: String::new(),
            quantity,
            unit_price: Decimal::cents(cents),
        };
        assert_eq!(total(&[line(3, 1_990), line(1, 5), line(2, 700)], 390).text(), "77.65");
    }

    #[test]
    fn sizes_are_four_numbers() {
        assert_eq!("5000,1000,2500,200".parse(), Ok(Sizes::default()));
        for text in ["", "1,2,3", "1,2,3,x", "0,1,1,1", "1,0,1,1", "1,2,3,4,5"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
