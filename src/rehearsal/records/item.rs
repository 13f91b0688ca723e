//! The shop's records as DynamoDB items.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as Av;

use super::{Address, Book, Cart, Decimal, Kind, Line, Moment, Order, Record, Shipping, User};

/// An item as the SDK has it.
pub type Item = HashMap<String, Av>;

/// The shop's table of a kind. What the payments application keeps is not there: no table has the names given for it.
#[must_use]
pub const fn table_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Book => "CloudShelf-Books",
        Kind::User => "CloudShelf-Users",
        Kind::Order => "CloudShelf-Orders",
        Kind::Cart => "CloudShelf-Carts",
        Kind::Account => "Payments-Accounts",
        Kind::Payment => "Payments-Payments",
        Kind::Session => "Payments-Sessions",
        Kind::Limit => "Payments-Limits",
    }
}

/// The partition key attribute of a kind's table.
#[must_use]
pub const fn key_attribute(kind: Kind) -> &'static str {
    match kind {
        Kind::Book => "bookId",
        Kind::User => "userId",
        Kind::Order => "orderId",
        Kind::Cart => "cartId",
        Kind::Account => "accountId",
        Kind::Payment => "paymentId",
        Kind::Session => "sessionId",
        Kind::Limit => "accountId",
    }
}

pub(in crate::rehearsal) fn s(text: &str) -> Av {
    Av::S(text.to_owned())
}

pub(in crate::rehearsal) fn n(number: &Decimal) -> Av {
    Av::N(number.text().to_owned())
}

pub(in crate::rehearsal) fn map<const N: usize>(fields: [(&str, Av); N]) -> Item {
    fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

pub(in crate::rehearsal) fn address_value(a: &Address) -> Av {
    Av::M(map([("street", s(&a.street)), ("city", s(&a.city)), ("zip", s(&a.zip)), ("country", s(&a.country))]))
}

fn lines_value(lines: &[Line]) -> Av {
    let line = |l: &Line| {
        Av::M(map([
            ("bookId", s(&l.book)),
            ("title", s(&l.title)),
            ("quantity", Av::N(l.quantity.to_string())),
            ("unitPrice", n(&l.unit_price)),
        ]))
    };
    Av::L(lines.iter().map(line).collect())
}

/// The item of a record; empty for what the shop does not keep, which DynamoDB refuses.
#[must_use]
pub fn to_item(record: &Record) -> Item {
    match record {
        Record::Book(b) => {
            let mut item = map([
                ("bookId", s(&b.id)),
                ("title", s(&b.title)),
                ("author", s(&b.author)),
                ("description", s(&b.description)),
                ("price", n(&b.price)),
                ("stockQuantity", Av::N(b.stock.to_string())),
                ("createdAt", Av::S(b.created_at.iso())),
                ("updatedAt", Av::S(b.updated_at.iso())),
            ]);
            if let Some(category) = &b.category {
                item.insert("category".to_owned(), s(category));
            }
            if let Some(isbn) = &b.isbn {
                item.insert("isbn".to_owned(), s(isbn));
            }
            item
        }
        Record::User(u) => {
            let mut item = map([
                ("userId", s(&u.id)),
                ("email", s(&u.email)),
                ("name", s(&u.name)),
                ("address", address_value(&u.address)),
                ("createdAt", Av::S(u.created_at.iso())),
            ]);
            if !u.favorites.is_empty() {
                item.insert("favorites".to_owned(), Av::Ss(u.favorites.iter().cloned().collect()));
            }
            item
        }
        Record::Order(o) => map([
            ("orderId", s(&o.id)),
            ("userId", s(&o.user)),
            ("status", s(&o.status)),
            ("total", n(&o.total)),
            ("items", lines_value(&o.lines)),
            (
                "shipping",
                Av::M(map([
                    ("method", s(&o.shipping.method)),
                    ("cost", n(&o.shipping.cost)),
                    ("address", address_value(&o.shipping.address)),
                ])),
            ),
            ("createdAt", Av::S(o.created_at.iso())),
            ("updatedAt", Av::S(o.updated_at.iso())),
        ]),
        Record::Cart(c) => map([("cartId", s(&c.id)), ("items", lines_value(&c.lines))]),
        Record::Account(_) | Record::Payment(_) | Record::Session(_) | Record::Limit(_) => Item::new(),
    }
}

pub(in crate::rehearsal) fn text(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

pub(in crate::rehearsal) fn decimal(item: &Item, name: &str) -> Option<Decimal> {
    Decimal::parse(item.get(name)?.as_n().ok()?)
}

pub(in crate::rehearsal) fn whole(item: &Item, name: &str) -> Option<i64> {
    decimal(item, name)?.text().parse().ok()
}

pub(in crate::rehearsal) fn moment(item: &Item, name: &str) -> Option<Moment> {
    Moment::parse(item.get(name)?.as_s().ok()?)
}

/// An attribute that may be absent, but not of another type.
pub(in crate::rehearsal) fn optional(item: &Item, name: &str) -> Option<Option<String>> {
    item.get(name).map_or(Some(None), |v| v.as_s().ok().map(|s| Some(s.clone())))
}

fn address(item: &Item, name: &str) -> Option<Address> {
    let a = item.get(name)?.as_m().ok()?;
    Some(Address {
        street: text(a, "street")?,
        city: text(a, "city")?,
        zip: text(a, "zip")?,
        country: text(a, "country")?,
    })
}

fn lines(item: &Item) -> Option<Vec<Line>> {
    let line = |v: &Av| {
        let l = v.as_m().ok()?;
        Some(Line {
            book: text(l, "bookId")?,
            title: text(l, "title")?,
            quantity: whole(l, "quantity")?,
            unit_price: decimal(l, "unitPrice")?,
        })
    };
    item.get("items")?.as_l().ok()?.iter().map(line).collect()
}

/// The record in an item. `None` when an attribute is missing or of another type: the item is damaged.
#[must_use]
pub fn from_item(kind: Kind, item: &Item) -> Option<Record> {
    Some(match kind {
        Kind::Book => Record::Book(Book {
            id: text(item, "bookId")?,
            title: text(item, "title")?,
            author: text(item, "author")?,
            description: text(item, "description")?,
            price: decimal(item, "price")?,
            category: optional(item, "category")?,
            isbn: optional(item, "isbn")?,
            stock: whole(item, "stockQuantity")?,
            created_at: moment(item, "createdAt")?,
            updated_at: moment(item, "updatedAt")?,
        }),
        Kind::User => Record::User(User {
            id: text(item, "userId")?,
            email: text(item, "email")?,
            name: text(item, "name")?,
            address: address(item, "address")?,
            favorites: match item.get("favorites") {
                None => Default::default(),
                Some(v) => v.as_ss().ok()?.iter().cloned().collect(),
            },
            created_at: moment(item, "createdAt")?,
        }),
        Kind::Order => {
            let shipping = item.get("shipping")?.as_m().ok()?;
            Record::Order(Order {
                id: text(item, "orderId")?,
                user: text(item, "userId")?,
                status: text(item, "status")?,
                total: decimal(item, "total")?,
                lines: lines(item)?,
                shipping: Shipping {
                    method: text(shipping, "method")?,
                    cost: decimal(shipping, "cost")?,
                    address: address(shipping, "address")?,
                },
                created_at: moment(item, "createdAt")?,
                updated_at: moment(item, "updatedAt")?,
            })
        }
        Kind::Cart => Record::Cart(Cart { id: text(item, "cartId")?, lines: lines(item)? }),
        Kind::Account | Kind::Payment | Kind::Session | Kind::Limit => return None,
    })
}
