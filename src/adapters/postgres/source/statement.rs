//! A change of one row as a statement: by itself, or one text for many changes that set and expect the same columns.

use bytes::BytesMut;
use deadpool_postgres::Transaction;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};

use super::items::WRITE;
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::{ident, list};
use crate::adapters::postgres::shape::Shape;
use crate::adapters::postgres::{columns, encode};
use crate::domain::mapping::{ItemChange, cell_of};
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{ErrorKind, PortError, PortResult};

/// A value in the form its type is sent in.
#[derive(Debug)]
pub(super) struct Sent(Option<Vec<u8>>);

impl Sent {
    fn of(ty: ColumnType, cell: &Cell<'_>) -> Option<Self> {
        let mut out = BytesMut::new();
        encode::field(&mut out, ty, cell)?;
        // A length stands before it; it is less than 0 for NULL.
        Some(Self((!matches!(cell, Cell::Null)).then(|| out.get(4..).unwrap_or_default().to_vec())))
    }

    /// The bytes; `None` is NULL.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

impl ToSql for Sent {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            None => IsNull::Yes,
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// A statement that is being put together, with its values.
pub(super) struct Statement<'s> {
    table: &'s Table,
    shape: &'s Shape,
    /// Whether it is one text for many changes: a value is then a column of the rows `v`, which are numbered `v.n`.
    many: bool,
    values: Vec<Sent>,
    /// Of one text for many: the type of each value's array, and its number in the catalogue.
    elements: Vec<(&'static str, u32)>,
    /// Whether a value can be no element of an array.
    alone: bool,
    /// Columns whose type makes its value of a text, each with the place of that text among the values.
    texts: Vec<(String, usize)>,
}

impl<'s> Statement<'s> {
    /// For one change.
    pub(super) const fn new(table: &'s Table, shape: &'s Shape) -> Self {
        Self { table, shape, many: false, values: Vec::new(), elements: Vec::new(), alone: false, texts: Vec::new() }
    }

    /// For many changes.
    pub(super) fn of_many(table: &'s Table, shape: &'s Shape) -> Self {
        let mut statement = Self::new(table, shape);
        statement.many = true;
        statement
    }

    /// With its text.
    pub(super) fn prepared(self, sql: String) -> Prepared {
        Prepared { sql, values: self.values, texts: self.texts }
    }

    /// With its text, as a change that goes with others of the same text; `None` when a value of it can be no element of
    /// an array.
    pub(super) fn among(self, sql: String) -> Option<Among> {
        (!self.alone).then_some(Among { sql, values: self.values, elements: self.elements })
    }

    /// The rows of many changes, for `FROM`.
    pub(super) fn rows(&self) -> String {
        let arrays: Vec<String> =
            self.elements.iter().zip(1..).map(|((name, _), place)| format!("${place}::{name}[]")).collect();
        let names: Vec<String> = (1..=self.elements.len()).map(|place| format!("c{place}")).collect();
        format!("unnest({}) WITH ORDINALITY AS v({}, n)", arrays.join(", "), names.join(", "))
    }

    fn wrong(&self, why: String) -> PortError {
        PortError::new(ErrorKind::Invalid, WRITE, &self.table.source, why)
    }

    fn column(&self, name: &str) -> PortResult<ColumnType> {
        let place = self.shape.main.names().iter().position(|column| column == name);
        let ty = place.and_then(|place| self.shape.main.types.get(place)).copied();
        ty.ok_or_else(|| self.wrong(format!("the table has no column {name} of its own")))
    }

    /// A value as its column's type.
    fn value(&mut self, name: &str, value: &Value<'_>) -> PortResult<String> {
        let placed = self.placed(name, value)?;
        Ok(match self.shape.main.native(name) {
            Some(native) => {
                self.texts.push((name.to_owned(), self.values.len() - 1));
                native.bare(&format!("{placed}::text"))
            }
            None => placed,
        })
    }

    /// The placeholder of a value.
    fn placed(&mut self, name: &str, value: &Value<'_>) -> PortResult<String> {
        let ty = self.column(name)?;
        let cell = match value {
            Value::Null => Cell::Null,
            value => cell_of(ty, value).map_err(|reason| self.wrong(format!("{name}: {reason}")))?,
        };
        let sent =
            Sent::of(ty, &cell).ok_or_else(|| self.wrong(format!("{name}: it is out of the range of its type")))?;
        self.values.push(sent);
        if !self.many {
            return Ok(format!("${}", self.values.len()));
        }
        match columns::element(ty) {
            Some(element) => self.elements.push(element),
            None => self.alone = true,
        }
        Ok(format!("v.c{}", self.values.len()))
    }

    /// That a column still holds what was read. Text is compared byte by byte, whatever its collation calls equal.
    fn holds(&mut self, name: &str, value: Option<&Value<'_>>) -> PortResult<String> {
        let placed = self.placed(name, value.unwrap_or(&Value::Null))?;
        if let Some(native) = self.shape.main.native(name) {
            // Some types have no equality, and to some of them two texts are equal.
            let read = native.read(&format!("t.{}", ident(name)));
            return Ok(format!("({read}) COLLATE \"C\" IS NOT DISTINCT FROM {placed}::text"));
        }
        let exact = match self.column(name)? {
            ColumnType::Text | ColumnType::Varchar(_) => " COLLATE \"C\"",
            _ => "",
        };
        Ok(format!("t.{}{exact} IS NOT DISTINCT FROM {placed}", ident(name)))
    }

    /// That a row has this key and holds what was read.
    pub(super) fn condition(
        &mut self,
        key: &Record<'_>,
        expect: &[(String, Option<Value<'static>>)],
    ) -> PortResult<String> {
        let mut all = Vec::new();
        for (name, value) in &key.fields {
            let placed = self.value(name, value)?;
            all.push(format!("t.{} = {placed}", ident(name)));
        }
        if all.is_empty() {
            return Err(self.wrong("a change without a key".to_owned()));
        }
        for (name, value) in expect {
            all.push(self.holds(name, value.as_ref())?);
        }
        Ok(all.join(" AND "))
    }
}

/// A statement with its values, ready to be run.
pub(super) struct Prepared {
    sql: String,
    values: Vec<Sent>,
    texts: Vec<(String, usize)>,
}

impl Prepared {
    /// Runs it; how many rows it met.
    pub(super) async fn execute(&self, tx: &Transaction<'_>) -> Result<u64, Error> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| value as _).collect();
        let statement = tx.prepare_cached(&self.sql).await?;
        tx.execute(&statement, &values).await
    }

    /// Runs it; the first row it gives.
    pub(super) async fn first(&self, tx: &Transaction<'_>) -> Result<Option<Row>, Error> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| value as _).collect();
        let statement = tx.prepare_cached(&self.sql).await?;
        tx.query_opt(&statement, &values).await
    }

    /// A refusal with the column whose type takes no such value, where there is one: the server names none.
    pub(super) async fn named(&self, client: &Object, shape: &Shape, refused: PortError) -> PortError {
        if refused.kind != ErrorKind::Invalid {
            return refused;
        }
        for (column, place) in &self.texts {
            let (Some(native), Some(text)) = (shape.main.native(column), self.values.get(*place)) else { continue };
            let Err(e) = client.query_one(&format!("SELECT {}", native.bare("$1::text")), &[text]).await else {
                continue;
            };
            let Some(code) = e.code().map(SqlState::code).filter(|code| code.starts_with("22")) else { continue };
            let ty = native.name();
            let advice = if native.labels() {
                format!(
                    "the new side has a label that this side has not: ALTER TYPE {ty} ADD VALUE ... here, then try again"
                )
            } else {
                format!("make the type {ty} here as it is on the new side, then try again")
            };
            let why = format!("its column {column} takes no such value of the type {ty} (SQLSTATE {code})");
            return PortError { came_back: why, ..refused }.advise(advice);
        }
        refused
    }
}

/// One of many changes with the same text.
pub(super) struct Among {
    /// The text.
    pub sql: String,
    /// The values, in the order of the text's arrays.
    pub values: Vec<Sent>,
    /// The type of each array's elements, and its number in the catalogue.
    pub elements: Vec<(&'static str, u32)>,
}

/// The statement of a change; nothing where there is nothing to be done.
pub(super) fn prepared(table: &Table, shape: &Shape, change: &ItemChange) -> PortResult<Option<Prepared>> {
    let mut statement = Statement::new(table, shape);
    Ok(text(&mut statement, change)?.map(|sql| statement.prepared(sql)))
}

/// The text of a change, its values put into the statement; nothing where there is nothing to be done. One text for many
/// says the numbers of those it met, but for new rows.
pub(super) fn text(statement: &mut Statement<'_>, change: &ItemChange) -> PortResult<Option<String>> {
    let (on, many) = (statement.shape.main.sql.clone(), statement.many);
    let returning = if many { " RETURNING v.n" } else { "" };
    Ok(Some(match change {
        ItemChange::Nothing => return Ok(None),
        ItemChange::Delete { key, expect } => {
            let condition = statement.condition(key, expect)?;
            let rows = if many { format!(" USING {}", statement.rows()) } else { String::new() };
            format!("DELETE FROM {on} t{rows} WHERE {condition}{returning}")
        }
        ItemChange::Write(write) if write.exists => {
            let mut set = Vec::new();
            for (name, value) in &write.set {
                set.push(format!("{} = {}", ident(name), statement.value(name, value)?));
            }
            set.extend(write.remove.iter().map(|name| format!("{} = NULL", ident(name))));
            if set.is_empty() {
                return Ok(None);
            }
            let condition = statement.condition(&write.key, &write.expect)?;
            let rows = if many { format!(" FROM {}", statement.rows()) } else { String::new() };
            format!("UPDATE {on} t SET {}{rows} WHERE {condition}{returning}", set.join(", "))
        }
        ItemChange::Write(write) => {
            let fields = write.key.fields.iter().map(|(name, value)| (name.as_ref(), value));
            let all: Vec<(&str, &Value<'_>)> =
                fields.chain(write.set.iter().map(|(name, value)| (name.as_str(), value))).collect();
            let mut values = Vec::new();
            for (name, value) in &all {
                values.push(statement.value(name, value)?);
            }
            let (names, values) = (list(all.iter().map(|(name, _)| *name)), values.join(", "));
            let values = if many {
                format!("SELECT {values} FROM {} ORDER BY v.n", statement.rows())
            } else {
                format!("VALUES ({values})")
            };
            // A row of this key is another's; one that another unique key keeps out is an error.
            let key = list(statement.shape.key_names());
            format!("INSERT INTO {on} ({names}) OVERRIDING SYSTEM VALUE {values} ON CONFLICT ({key}) DO NOTHING")
        }
    }))
}
