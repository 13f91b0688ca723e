//! What the shop keeps: books, users and orders, as the application knows them.

use uuid::Uuid;

/// Table names, as the seeds name them.
pub const BOOKS: &str = "CloudShelf-Books";
/// Users.
pub const USERS: &str = "CloudShelf-Users";
/// Orders.
pub const ORDERS: &str = "CloudShelf-Orders";
/// Carts, which stay.
pub const CARTS: &str = "CloudShelf-Carts";

/// Which kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A book.
    Book,
    /// A user.
    User,
    /// An order.
    Order,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A book.
    Book(Book),
    /// A user.
    User(User),
    /// An order.
    Order(Order),
}

/// A book. Prices are decimal text, because one of them is meant not to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    /// Key.
    pub id: Uuid,
    /// Title.
    pub title: String,
    /// Author.
    pub author: String,
    /// About two hundred characters.
    pub description: String,
    /// Decimal text.
    pub price: String,
    /// Sometimes absent.
    pub category: Option<String>,
    /// Unique; sometimes absent.
    pub isbn: Option<String>,
    /// Copies.
    pub stock: i64,
    /// Milliseconds since the epoch.
    pub created: i64,
    /// Milliseconds since the epoch.
    pub updated: i64,
}

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Key.
    pub id: Uuid,
    /// Mail address.
    pub email: String,
    /// Name.
    pub name: String,
    /// Street, city, zip, country.
    pub address: [String; 4],
    /// Sorted; may be empty.
    pub favorites: Vec<String>,
    /// Milliseconds since the epoch.
    pub created: i64,
    /// Milliseconds since the epoch.
    pub updated: i64,
}

/// An order with its lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Key.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// State.
    pub status: String,
    /// Cents.
    pub total: i64,
    /// Lines: book, quantity, price in cents.
    pub items: Vec<(Uuid, i64, i64)>,
    /// Street, city, zip, country.
    pub shipping: [String; 4],
    /// Milliseconds since the epoch.
    pub created: i64,
    /// Milliseconds since the epoch.
    pub updated: i64,
}

impl Record {
    /// Which kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Book(_) => Kind::Book,
            Self::User(_) => Kind::User,
            Self::Order(_) => Kind::Order,
        }
    }

    /// Its key.
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Book(b) => b.id,
            Self::User(u) => u.id,
            Self::Order(o) => o.id,
        }
    }
}

/// Cents as decimal text: `1250` is `12.50`.
pub fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Milliseconds since the epoch as ISO 8601.
pub fn iso(ms: i64) -> String {
    crate::domain::at::At(ms).rfc3339()
}

/// ISO 8601 as milliseconds since the epoch.
pub fn from_iso(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Decimal text without what does not count: `12.50` and `12.5` are one price.
pub fn plain(decimal: &str) -> String {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.').to_owned() } else { decimal.to_owned() }
}
