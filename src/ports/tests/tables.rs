//! Two tables that every target can have, and rows for them.

use std::borrow::Cow;

use crate::domain::mapping::{Mapped, RowError, RowErrorReason, TableMapping};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, ForeignKey, Table};
use crate::domain::value::{Cell, Key, Record, Value};
use crate::ports::{ParkedRow, Partition, RowChange, Target};

/// The whole of a table.
pub(crate) const WHOLE: Partition = Partition { index: 0, of: 1 };

fn column(name: &str, ty: ColumnType, key: bool) -> Column {
    let from = ColumnSource::Attribute(vec![name.to_owned()]);
    Column { name: name.to_owned(), ty, from, absent: Fallback::Null, key, declared: Declared::default() }
}

fn table(id: &str, columns: Vec<Column>, ddl: &str) -> Table {
    Table {
        target: id.to_owned(),
        key: vec!["id".to_owned()],
        columns,
        ddl: Some(ddl.to_owned()),
        ..Table::watched(id, &format!("Shop-{id}"))
    }
}

/// Authors, to whom books refer.
pub(crate) fn authors() -> Table {
    let columns = vec![column("id", ColumnType::Text, true), column("name", ColumnType::Text, false)];
    table("authors", columns, "CREATE TABLE authors (id text PRIMARY KEY, name text)")
}

/// Books: `isbn` is unique, `author` refers to [`authors`].
pub(crate) fn books() -> Table {
    let columns = vec![
        column("id", ColumnType::Text, true),
        column("isbn", ColumnType::Text, false),
        column("price", ColumnType::Numeric(Some((10, 2))), false),
        column("author", ColumnType::Text, false),
    ];
    let ddl = "CREATE TABLE books (id text PRIMARY KEY, isbn text UNIQUE, price numeric(10,2), author text REFERENCES authors)";
    let mut books = table("books", columns, ddl);
    books.foreign_keys = vec![ForeignKey { columns: vec!["author".to_owned()], references: "authors".to_owned() }];
    books
}

/// Both tables, parents first.
pub(crate) fn all() -> [Table; 2] {
    [authors(), books()]
}

/// Makes the tables and takes them for run `run-1`.
pub(crate) async fn prepared(target: &dyn Target) {
    target.prepare().await.unwrap();
    target.claim("run-1", &all()).await.unwrap();
    for table in all() {
        target.create(&table).await.unwrap();
    }
}

/// An item of text attributes.
pub(crate) fn item(attributes: &[(&'static str, &str)]) -> Record<'static> {
    let attr = |(name, value): &(&'static str, &str)| (Cow::Borrowed(*name), Value::Text((*value).to_owned().into()));
    Record { fields: attributes.iter().map(attr).collect() }
}

/// A book without author; its isbn is its id's.
pub(crate) fn book(id: &str, price: &str) -> Record<'static> {
    let mut book = item(&[("id", id), ("isbn", &format!("isbn-{id}"))]);
    book.fields.push(("price".into(), Value::Decimal(price.to_owned().into())));
    book
}

/// A book of an author.
pub(crate) fn book_of(id: &str, price: &str, author: &str) -> Record<'static> {
    let mut book = book(id, price);
    book.fields.push(("author".into(), Value::Text(author.to_owned().into())));
    book
}

/// The row of an item, as the workers make it.
pub(crate) fn mapped(table: &Table, item: &Record<'_>) -> Mapped<'static> {
    let (mapping, mut mapped) = (TableMapping::new(table), Mapped::default());
    mapping.map(item, &mut mapped).unwrap();
    let row = mapped.row.into_iter().map(Cell::into_owned).collect();
    Mapped { key: mapped.key, key_json: mapped.key_json, row, children: Vec::new() }
}

/// The change that writes an item's row.
pub(crate) fn upsert(table: &Table, item: &Record<'_>) -> RowChange {
    let Mapped { key, key_json, row, .. } = mapped(table, item);
    RowChange::Upsert { key: Key(key), key_json, row, children: Vec::new() }
}

fn key_json(id: &str) -> String {
    format!(r#"{{"id":{{"S":"{id}"}}}}"#)
}

/// The change that deletes a row.
pub(crate) fn delete(id: &str) -> RowChange {
    let row_key = vec![Cell::Text(id.to_owned().into())];
    RowChange::Delete { key: Key(id.to_owned()), key_json: key_json(id), row_key }
}

/// The deletion of an item that no row can have come from.
pub(crate) fn delete_without_row(id: &str) -> RowChange {
    RowChange::Delete { key: Key(id.to_owned()), key_json: key_json(id), row_key: Vec::new() }
}

/// A row of the ledger.
pub(crate) fn parked(table: &Table, id: &str, reason: RowErrorReason) -> ParkedRow {
    let row_error = RowError::new("price", reason);
    ParkedRow { table: table.id.clone(), key: Key(id.to_owned()), row_error, key_json: key_json(id) }
}

/// Keys of all rows, in order.
pub(crate) async fn keys(target: &dyn Target, table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    let mut each = |row: &[Cell<'_>]| match row.first() {
        Some(Cell::Text(id)) => found.push(id.to_string()),
        other => panic!("the first column is the key: {other:?}"),
    };
    target.scan_part(table, None, WHOLE, &mut each).await.unwrap();
    found.sort();
    found
}

/// The price of a book; `None` without such a row.
pub(crate) async fn price(target: &dyn Target, id: &str) -> Option<String> {
    let found = target.fetch(&books(), &[vec![Cell::Text(id.to_owned().into())]]).await.unwrap();
    match found.into_iter().next()?.map(|(row, _)| row.into_iter().nth(2))?? {
        Cell::Numeric(price) => Some(price.to_string()),
        other => panic!("a price is a number: {other:?}"),
    }
}
