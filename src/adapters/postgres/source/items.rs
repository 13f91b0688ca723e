//! Writing single rows of the source, each only over what was read: the way back into PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use super::{PgSource, catalogue, record, together};
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::encode;
use crate::adapters::postgres::names::{ident, list};
use crate::adapters::postgres::sequences::{self, Elsewhere};
use crate::adapters::postgres::shape::Shape;
use crate::adapters::postgres::trouble;
use crate::domain::mapping::{ItemChange, cell_of};
use crate::domain::plan::{ColumnSource, ColumnType, Table};
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{
    Beyond, ErrorKind, ItemOutcome, Items, PortError, PortResult, Sequence, SequenceScan, Source as _, Together,
};

/// What is tried.
pub(super) const WRITE: &str = "write a row of";
/// Longest wait of one write for its row. The server gives up before we do, so that a write that we gave up does not go
/// through later. (A commit that waits for a standby may.) Each statement sees what was committed before it began.
pub(super) const PATIENCE: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '3s'; \
                                   SET LOCAL lock_timeout = '3s'";
/// Longest time until a write is committed.
pub(super) const MOST: Duration = Duration::from_secs(7);
/// Rows that are shown of a table.
const SOME: u32 = 200;

/// A value in the form its type is sent in.
#[derive(Debug)]
struct Sent(Option<Vec<u8>>);

impl Sent {
    fn of(ty: ColumnType, cell: &Cell<'_>) -> Option<Self> {
        let mut out = BytesMut::new();
        encode::field(&mut out, ty, cell)?;
        // A length stands before it; it is less than 0 for NULL.
        Some(Self((!matches!(cell, Cell::Null)).then(|| out.get(4..).unwrap_or_default().to_vec())))
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
struct Statement<'s> {
    table: &'s Table,
    shape: &'s Shape,
    values: Vec<Sent>,
    /// Columns whose type makes its value of a text, each with the place of that text among the values.
    texts: Vec<(String, usize)>,
}

impl<'s> Statement<'s> {
    const fn new(table: &'s Table, shape: &'s Shape) -> Self {
        Self { table, shape, values: Vec::new(), texts: Vec::new() }
    }

    /// With its text.
    fn prepared(self, sql: String) -> Prepared {
        Prepared { sql, values: self.values, texts: self.texts }
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
        Ok(format!("${}", self.values.len()))
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

    fn condition(&mut self, key: &Record<'_>, expect: &[(String, Option<Value<'static>>)]) -> PortResult<String> {
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

    /// A refusal with the column whose type takes no such value, where there is one: the server names none.
    async fn named(&self, client: &Object, shape: &Shape, refused: PortError) -> PortError {
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

/// The statement of a change; nothing where there is nothing to be done.
pub(super) fn prepared(table: &Table, shape: &Shape, change: &ItemChange) -> PortResult<Option<Prepared>> {
    let mut statement = Statement::new(table, shape);
    let sql = match change {
        ItemChange::Nothing => return Ok(None),
        ItemChange::Delete { key, expect } => {
            format!("DELETE FROM {} t WHERE {}", shape.main.sql, statement.condition(key, expect)?)
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
            format!("UPDATE {} t SET {} WHERE {condition}", shape.main.sql, set.join(", "))
        }
        ItemChange::Write(write) => {
            let fields = write.key.fields.iter().map(|(name, value)| (name.as_ref(), value));
            let all: Vec<(&str, &Value<'_>)> =
                fields.chain(write.set.iter().map(|(name, value)| (name.as_str(), value))).collect();
            let mut values = Vec::new();
            for (name, value) in &all {
                values.push(statement.value(name, value)?);
            }
            // A row of this key is another's; one that another unique key keeps out is an error.
            format!(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT ({}) DO NOTHING",
                shape.main.sql,
                list(all.iter().map(|(name, _)| *name)),
                values.join(", "),
                list(shape.key_names())
            )
        }
    };
    Ok(Some(statement.prepared(sql)))
}

/// References to a table by which the removal of one of its rows would change or remove others: which, of what table,
/// and whether a row takes part, as SQL over `t`.
const SPREADS: &str = "
SELECT c.conname::text, c.conrelid::regclass::text,
       format('EXISTS (SELECT FROM %s x WHERE %s%s)', c.conrelid::regclass,
              (SELECT string_agg(format('x.%I = t.%I', r.attname, f.attname), ' AND ')
               FROM unnest(c.conkey, c.confkey) k(r, f)
               JOIN pg_attribute r ON r.attrelid = c.conrelid AND r.attnum = k.r
               JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.f),
              CASE WHEN c.conrelid = c.confrelid THEN ' AND (x.tableoid, x.ctid) <> (t.tableoid, t.ctid)' ELSE '' END)
FROM pg_constraint c
WHERE c.confrelid = to_regclass($1) AND c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0
ORDER BY 1";

/// What still refers to a row in a way that its removal would spread to: the removal of rows that customers meanwhile
/// moved to another one, by our own doing. Keeps new ones away until the transaction ends.
pub(super) async fn refers(
    tx: &Transaction<'_>,
    table: &Table,
    shape: &Shape,
    key: &Record<'static>,
) -> PortResult<Option<PortError>> {
    let error = |e: Error| trouble::error(&e, WRITE, &table.source);
    let statement = tx.prepare_cached(SPREADS).await.map_err(error)?;
    let found = tx.query(&statement, &[&shape.main.sql]).await.map_err(error)?;
    if found.is_empty() {
        return Ok(None);
    }
    // Locked first, and looked at by a statement of its own: one that is waited for may have brought a row that refers to it.
    let mut locking = Statement::new(table, shape);
    let sql = format!("SELECT FROM {} t WHERE {} FOR UPDATE", shape.main.sql, locking.condition(key, &[])?);
    locking.prepared(sql).execute(tx).await.map_err(error)?;
    for row in found {
        let name: String = row.try_get(0).map_err(error)?;
        let (child, exists): (String, String) = (row.try_get(1).map_err(error)?, row.try_get(2).map_err(error)?);
        let mut statement = Statement::new(table, shape);
        let sql = format!("SELECT {exists} FROM {} t WHERE {}", shape.main.sql, statement.condition(key, &[])?);
        let values: Vec<&(dyn ToSql + Sync)> = statement.values.iter().map(|value| value as _).collect();
        let prepared = tx.prepare_cached(&sql).await.map_err(error)?;
        let row = tx.query_opt(&prepared, &values).await.map_err(error)?;
        if row.map(|row| row.try_get(0)).transpose().map_err(error)?.unwrap_or(false) {
            let why = format!("rows of {child} refer to it ({name}), and would be changed or removed with it");
            return Ok(Some(
                PortError::new(ErrorKind::Invalid, WRITE, &table.source, why).advise("it is removed once none does"),
            ));
        }
    }
    Ok(None)
}

impl PgSource {
    pub(super) async fn known(&self, table: &Table) -> PortResult<Arc<Shape>> {
        let client = self.client().await?;
        self.shape(&client, table).await
    }
}

#[async_trait]
impl Items for PgSource {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        let shape = self.known(table).await?;
        let Some(statement) = prepared(table, &shape, change)? else { return Ok(ItemOutcome::Written) };
        // What the server says of a value may quote it.
        let error = |e: Error| {
            let refused = trouble::error(&e, WRITE, &table.source);
            // Rows that are written at the same time want each other's values: they have to be written together.
            let kind =
                if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) { ErrorKind::Invalid } else { refused.kind };
            PortError { kind, ..refused }
        };
        let mut client = self.client().await?;
        let began = tokio::time::Instant::now();
        let tx = client.transaction().await.map_err(error)?;
        tx.batch_execute(PATIENCE).await.map_err(error)?;
        if let ItemChange::Delete { key, .. } = change
            && let Some(by) = refers(&tx, table, &shape, key).await?
        {
            return Err(by);
        }
        let met = match statement.execute(&tx).await {
            Ok(met) => met,
            Err(e) => {
                tx.rollback().await.map_err(error)?;
                return Err(statement.named(&client, &shape, error(e)).await);
            }
        };
        // What is deferred is done here, within the limit, and not while it commits.
        tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(error)?;
        if began.elapsed() > MOST {
            tx.rollback().await.map_err(error)?;
            let why = format!("it took more than {} s and was taken back", MOST.as_secs());
            return Err(PortError::new(ErrorKind::TimedOut, WRITE, &table.source, why).advise("it is tried again"));
        }
        tx.commit().await.map_err(error)?;
        Ok(if met > 0 { ItemOutcome::Written } else { ItemOutcome::Moved })
    }

    async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together> {
        together::write(self, table, changes).await
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        Ok(self.get(table, std::slice::from_ref(key)).await?.pop().flatten())
    }

    fn of_columns(&self) -> bool {
        true
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        let error = |e: Error| trouble::error(&e, "read rows of", &table.source);
        let shape = self.known(table).await?;
        let client = self.client().await?;
        let sql = format!("SELECT 1::bigint, {} FROM {} t LIMIT {SOME}", shape.main.select, shape.main.sql);
        let rows = client.query(&sql, &[]).await.map_err(error)?;
        let numbered = rows.iter().filter_map(|row| crate::adapters::postgres::read::numbered(row, &shape.main.types));
        Ok(numbered.map(|(_, row)| record(shape.main.names(), row)).collect())
    }

    async fn exercise(&self, table: &Table, _: &str) -> PortResult<()> {
        let shape = self.known(table).await?;
        let error = |e: Error| trouble::error(&e, "exercise the way back into", &table.source);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(error)?;
        let (on, names) = (&shape.main.sql, list(shape.main.names().iter().map(String::as_str)));
        // A key is never changed on the way back.
        let keys: Vec<&str> = shape.key_names().collect();
        // Nor is a value that the server alone gives: a new row brings it, one that is there keeps it.
        let all = catalogue::columns(&tx, &table.source).await.map_err(error)?;
        let kept = |name: &str| keys.contains(&name) || all.iter().any(|c| c.always && c.name == name);
        let others: Vec<&String> = shape.main.names().iter().filter(|n| !kept(n)).collect();
        let set: Vec<String> = others.iter().map(|n| format!("{0} = t.{0}", ident(n))).collect();
        // Rights are asked for whether a row is met or not; no customer waits for a lock on one.
        let each = [
            format!("INSERT INTO {on} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {on} WHERE false"),
            format!("DELETE FROM {on} WHERE false"),
        ];
        let update = (!set.is_empty()).then(|| format!("UPDATE {on} t SET {} WHERE false", set.join(", ")));
        let each: Vec<String> = each.into_iter().chain(update).collect();
        tx.batch_execute(&each.join(";")).await.map_err(error)?;
        tx.rollback().await.map_err(error)
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        let error = |e: Error| trouble::error(&e, "look for", "sequences");
        sequences::list(&self.client().await?, &sources(tables)).await.map_err(error)
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        let error = |e: Error| trouble::error(&e, "advance", "sequences");
        let (mut client, names) = (self.client().await?, sources(tables));
        let place = |table: &str, column: &str| place(tables, table, column);
        let beyond: Vec<Elsewhere> = beyond.iter().filter_map(|given| Elsewhere::of(given, place)).collect();
        sequences::advance(&mut client, &names, look, by_hand, &beyond).await.map_err(error)
    }
}

/// The column of this store that a column of the target is read from: `public.books.number`.
fn place(tables: &[Table], table: &str, column: &str) -> Option<String> {
    let table = tables.iter().find(|one| one.id == table)?;
    match &table.columns.iter().find(|one| one.name == column)?.from {
        ColumnSource::Attribute(path) => Some(format!("{}.{}", table.source, path.first()?)),
        ColumnSource::Constant(_)
        | ColumnSource::Parent(_)
        | ColumnSource::Ordinal
        | ColumnSource::Element
        | ColumnSource::Whole => None,
    }
}

/// The tables as this store calls them.
fn sources(tables: &[Table]) -> Vec<&str> {
    tables.iter().map(|table| table.source.as_str()).collect()
}
