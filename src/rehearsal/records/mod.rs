//! What the applications keep, and the writes that change it: books, users, orders and carts of the shop, accounts,
//! payments, sessions and limits of the payments application.
//!
//! These are the rehearsal's own types. Both stores are decoded into them, so that the oracle compares values
//! without using anything of the console's mapping.

mod decimal;
pub(super) mod item;
mod payments;
mod rows;

pub use decimal::Decimal;
pub(super) use item::address_value;
pub use item::{from_item, key_attribute, table_name, to_item};
pub use payments::{Account, Limit, Payment, Session};
pub use rows::{TargetShape, read_all, read_one};

use std::collections::BTreeSet;
use std::fmt;

/// Microseconds since the Unix epoch; written with three decimals, as JavaScript does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// Now, in whole milliseconds.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond() * 1000)
    }

    /// ISO 8601 in UTC: `2026-11-21T08:10:00.123Z`.
    #[must_use]
    pub fn iso(self) -> String {
        jiff::Timestamp::from_microsecond(self.0).map(|t| format!("{t:.3}")).unwrap_or_default()
    }

    /// Reads what [`Moment::iso`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }
}

/// The kinds of things that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A book.
    Book,
    /// A customer.
    User,
    /// An order.
    Order,
    /// A cart; stays in DynamoDB.
    Cart,
    /// An account.
    Account,
    /// A payment.
    Payment,
    /// A session.
    Session,
    /// A limit of what may be spent on a day.
    Limit,
}

impl Kind {
    /// What the shop keeps, parents before children.
    pub const SHOP: [Self; 4] = [Self::Book, Self::User, Self::Order, Self::Cart];

    /// What of the shop moves to the new side.
    pub const MOVING: [Self; 3] = [Self::Book, Self::User, Self::Order];

    /// What the payments application keeps in PostgreSQL, parents before children. All of it moves.
    pub const PAYMENT_ROWS: [Self; 2] = [Self::Account, Self::Payment];

    /// What it keeps in DynamoDB. All of it moves.
    pub const PAYMENT_ITEMS: [Self; 2] = [Self::Session, Self::Limit];

    /// All that it keeps.
    pub const PAYMENTS: [Self; 4] = [Self::Account, Self::Payment, Self::Session, Self::Limit];

    /// The plural, as in keys and messages.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Book => "books",
            Self::User => "users",
            Self::Order => "orders",
            Self::Cart => "carts",
            Self::Account => "accounts",
            Self::Payment => "payments",
            Self::Session => "sessions",
            Self::Limit => "limits",
        }
    }
}

/// Which record: kind and id. Printed `books/6f1c…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What it is.
    pub kind: Kind,
    /// Its id: a UUID as text; of a limit the account's, a slash and the day.
    pub id: String,
}

/// Ids of the records that only the write probe writes begin with this; a number follows. No random id does.
const PROBE: &str = "00000000-0000-4000-8000-";

impl RecordKey {
    /// A record of the write probe's own.
    #[must_use]
    pub fn probe(kind: Kind, number: u32) -> Self {
        Self { kind, id: format!("{PROBE}{number:012}") }
    }

    /// Whether the key is one of the write probe's own.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.id.starts_with(PROBE)
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.plural(), self.id)
    }
}

/// A book.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Book {
    pub id: String,
    pub title: String,
    pub author: String,
    pub description: String,
    pub price: Decimal,
    pub category: Option<String>,
    pub isbn: Option<String>,
    pub stock: i64,
    pub created_at: Moment,
    pub updated_at: Moment,
}

/// Where somebody lives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Address {
    pub street: String,
    pub city: String,
    pub zip: String,
    pub country: String,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct User {
    pub id: String,
    pub email: String,
    pub name: String,
    pub address: Address,
    /// Ids of books; an empty set and an absent one are the same.
    pub favorites: BTreeSet<String>,
    pub created_at: Moment,
}

/// One line of an order or a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Line {
    pub book: String,
    pub title: String,
    pub quantity: i64,
    pub unit_price: Decimal,
}

/// How an order is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Shipping {
    pub method: String,
    pub cost: Decimal,
    pub address: Address,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Order {
    pub id: String,
    pub user: String,
    pub status: String,
    pub total: Decimal,
    pub lines: Vec<Line>,
    pub shipping: Shipping,
    pub created_at: Moment,
    pub updated_at: Moment,
}

/// A cart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Cart {
    pub id: String,
    pub lines: Vec<Line>,
}

/// Anything that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A book.
    Book(Book),
    /// A customer.
    User(User),
    /// An order.
    Order(Order),
    /// A cart.
    Cart(Cart),
    /// An account.
    Account(Account),
    /// A payment.
    Payment(Payment),
    /// A session.
    Session(Session),
    /// A limit.
    Limit(Limit),
}

impl Record {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        let (kind, id) = match self {
            Self::Book(b) => (Kind::Book, &b.id),
            Self::User(u) => (Kind::User, &u.id),
            Self::Order(o) => (Kind::Order, &o.id),
            Self::Cart(c) => (Kind::Cart, &c.id),
            Self::Account(a) => (Kind::Account, &a.id),
            Self::Payment(p) => (Kind::Payment, &p.id),
            Self::Session(s) => (Kind::Session, &s.id),
            Self::Limit(l) => (Kind::Limit, &l.id()),
        };
        RecordKey { kind, id: id.clone() }
    }

    /// Names of the fields in which two records differ; never their values.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        let mut check = |name, same: bool| {
            if !same {
                fields.push(name);
            }
        };
        match (self, other) {
            (Self::Book(a), Self::Book(b)) => {
                check("id", a.id == b.id);
                check("title", a.title == b.title);
                check("author", a.author == b.author);
                check("description", a.description == b.description);
                check("price", a.price == b.price);
                check("category", a.category == b.category);
                check("isbn", a.isbn == b.isbn);
                check("stockQuantity", a.stock == b.stock);
                check("createdAt", a.created_at == b.created_at);
                check("updatedAt", a.updated_at == b.updated_at);
            }
            (Self::User(a), Self::User(b)) => {
                check("id", a.id == b.id);
                check("email", a.email == b.email);
                check("name", a.name == b.name);
                check("address", a.address == b.address);
                check("favorites", a.favorites == b.favorites);
                check("createdAt", a.created_at == b.created_at);
            }
            (Self::Order(a), Self::Order(b)) => {
                check("id", a.id == b.id);
                check("userId", a.user == b.user);
                check("status", a.status == b.status);
                check("total", a.total == b.total);
                check("items", a.lines == b.lines);
                check("shipping", a.shipping == b.shipping);
                check("createdAt", a.created_at == b.created_at);
                check("updatedAt", a.updated_at == b.updated_at);
            }
            (Self::Cart(a), Self::Cart(b)) => {
                check("id", a.id == b.id);
                check("items", a.lines == b.lines);
            }
            (Self::Account(a), Self::Account(b)) => {
                check("id", a.id == b.id);
                check("holder", a.holder == b.holder);
                check("email", a.email == b.email);
                check("balance", a.balance == b.balance);
                check("opened_at", a.opened_at == b.opened_at);
                check("updated_at", a.updated_at == b.updated_at);
            }
            (Self::Payment(a), Self::Payment(b)) => {
                check("id", a.id == b.id);
                check("account", a.account == b.account);
                check("amount", a.amount == b.amount);
                check("currency", a.currency == b.currency);
                check("state", a.state == b.state);
                check("note", a.note == b.note);
                check("created_at", a.created_at == b.created_at);
                check("updated_at", a.updated_at == b.updated_at);
            }
            (Self::Session(a), Self::Session(b)) => {
                check("sessionId", a.id == b.id);
                check("accountId", a.account == b.account);
                check("device", a.device == b.device);
                check("token", a.token == b.token);
                check("scopes", a.scopes == b.scopes);
                check("openedAt", a.opened_at == b.opened_at);
                check("seenAt", a.seen_at == b.seen_at);
            }
            (Self::Limit(a), Self::Limit(b)) => {
                check("accountId", a.account == b.account);
                check("day", a.day == b.day);
                check("most", a.most == b.most);
                check("spent", a.spent == b.spent);
                check("reason", a.reason == b.reason);
                check("changedAt", a.changed_at == b.changed_at);
            }
            _ => check("kind", false),
        }
        fields
    }
}

/// One write of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Write {
    /// Writes a whole record, new or not.
    Put(Record),
    /// Sets a book's stock.
    Stock { id: String, stock: i64, at: Moment },
    /// Sets a book's price.
    Price { id: String, price: Decimal, at: Moment },
    /// Sets a customer's name, address and favourites.
    Profile { id: String, name: String, address: Address, favorites: BTreeSet<String> },
    /// Sets an order's status.
    Status { id: String, status: String, at: Moment },
    /// Sets an account's balance.
    Balance { id: String, balance: Decimal, at: Moment },
    /// Sets an account's holder and e-mail address.
    Holder { id: String, holder: String, email: String },
    /// Sets a payment's state.
    State { id: String, state: String, at: Moment },
    /// Sets a session's device, what it may do and when it was last seen.
    Seen { id: String, device: String, scopes: BTreeSet<String>, at: Moment },
    /// Sets what was spent of a limit.
    Spent { id: String, spent: Decimal, at: Moment },
    /// Removes a record.
    Delete(RecordKey),
}

impl Write {
    /// The record it changes.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Put(record) => record.key(),
            Self::Stock { id, .. } | Self::Price { id, .. } => RecordKey { kind: Kind::Book, id: id.clone() },
            Self::Profile { id, .. } => RecordKey { kind: Kind::User, id: id.clone() },
            Self::Status { id, .. } => RecordKey { kind: Kind::Order, id: id.clone() },
            Self::Balance { id, .. } | Self::Holder { id, .. } => RecordKey { kind: Kind::Account, id: id.clone() },
            Self::State { id, .. } => RecordKey { kind: Kind::Payment, id: id.clone() },
            Self::Seen { id, .. } => RecordKey { kind: Kind::Session, id: id.clone() },
            Self::Spent { id, .. } => RecordKey { kind: Kind::Limit, id: id.clone() },
            Self::Delete(key) => key.clone(),
        }
    }

    /// What stands there afterwards, given what stood there before. Partial writes on nothing change nothing.
    #[must_use]
    pub fn apply(&self, before: Option<Record>) -> Option<Record> {
        match (self, before) {
            (Self::Put(record), _) => Some(record.clone()),
            (Self::Delete(_), _) => None,
            (Self::Stock { stock, at, .. }, Some(Record::Book(b))) => {
                Some(Record::Book(Book { stock: *stock, updated_at: *at, ..b }))
            }
            (Self::Price { price, at, .. }, Some(Record::Book(b))) => {
                Some(Record::Book(Book { price: price.clone(), updated_at: *at, ..b }))
            }
            (Self::Profile { name, address, favorites, .. }, Some(Record::User(u))) => Some(Record::User(User {
                name: name.clone(),
                address: address.clone(),
                favorites: favorites.clone(),
                ..u
            })),
            (Self::Status { status, at, .. }, Some(Record::Order(o))) => {
                Some(Record::Order(Order { status: status.clone(), updated_at: *at, ..o }))
            }
            (Self::Balance { balance, at, .. }, Some(Record::Account(a))) => {
                Some(Record::Account(Account { balance: balance.clone(), updated_at: *at, ..a }))
            }
            (Self::Holder { holder, email, .. }, Some(Record::Account(a))) => {
                Some(Record::Account(Account { holder: holder.clone(), email: email.clone(), ..a }))
            }
            (Self::State { state, at, .. }, Some(Record::Payment(p))) => {
                Some(Record::Payment(Payment { state: state.clone(), updated_at: *at, ..p }))
            }
            (Self::Seen { device, scopes, at, .. }, Some(Record::Session(s))) => {
                Some(Record::Session(Session { device: device.clone(), scopes: scopes.clone(), seen_at: *at, ..s }))
            }
            (Self::Spent { spent, at, .. }, Some(Record::Limit(l))) => {
                Some(Record::Limit(Limit { spent: spent.clone(), changed_at: *at, ..l }))
            }
            (_, before) => before,
        }
    }
}
