//! PostgreSQL as the side that rows come from.
//!
//! Pages are read block by block without a snapshot. A row that is written while its table is read may be read in either
//! state, twice, or not at all; whatever wrote it stands in the log behind the position that was recorded before the
//! first page, and is applied after the last one. What was not written meanwhile stands where it stood, and is read once.

mod as_text;
mod batch;
pub(super) mod catalogue;
mod files;
pub(super) mod fit;
mod hub;
mod items;
mod listed;
mod log;
pub(super) mod obstacles;
mod pages;
mod partitions;
mod pgoutput;
mod point_in_time;
mod pump;
mod retained;
mod rows;
pub(super) mod session;
pub(super) mod slot;
mod statement;
mod timeline;
mod together;
mod whole;

pub use listed::PgCatalogue;
pub(super) use listed::names as table_names;
pub use log::PgChanges;
pub(super) use point_in_time::text_page;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio_postgres::Error;

use self::slot::Names;
use super::connect::{Object, Pool};
use super::native;
use super::open;
use super::read;
use super::retry;
use super::sequences;
use super::settings::PgSettings;
use super::shape::Shape;
use super::subscription;
use super::surroundings;
use super::trouble;
use super::verbatim::Verbatim;
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::cell_of;
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::{Cell, OwnedRow, Record, Value};
use crate::ports::{
    CopiedRows, Cursor, ErrorKind, OpenWrite, Page, PageEnd, Partition, PointInTime, PortError, PortResult, Sequence,
    SequenceScan, Source, SourceTable, Surroundings,
};

/// Tables of a database, read.
pub struct PgSource {
    pool: Pool,
    place: String,
    /// The plan, as markers name it.
    plan: String,
    database: String,
    /// Each table as the catalogue has it, by the plan's name of it.
    tables: Mutex<HashMap<String, Arc<Shape>>>,
}

impl PgSource {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// Settings that name no server.
    pub fn new(settings: &PgSettings, plan: impl Into<String>) -> PortResult<Self> {
        let (pool, place, database) = (settings.pool()?, settings.place(), settings.database.clone());
        Ok(Self { pool, place, plan: plan.into(), database, tables: Mutex::default() })
    }

    async fn client(&self) -> PortResult<Object> {
        retry::client(&self.pool, &self.place).await
    }

    /// The table as the source has it: all of its columns that a row has of its own, by the names they have there.
    async fn shape(&self, client: &Object, table: &Table) -> PortResult<Arc<Shape>> {
        if let Some(known) = self.tables.lock().unwrap_or_else(PoisonError::into_inner).get(&table.source) {
            return Ok(Arc::clone(known));
        }
        let as_is = catalogue::table(client, table).await?;
        let error = |e: Error| trouble::error(&e, "describe", &table.source);
        let natives = native::of(client, &as_is.target, &as_is.columns).await.map_err(error)?;
        let found = Arc::new(Shape::new(&self.plan, &as_is, natives));
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(tables.entry(table.source.clone()).or_insert(found)))
    }
}

/// The letter by which a key's type is told: what a document store would call it.
fn letter(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Numeric(_)
        | ColumnType::Smallint
        | ColumnType::Integer
        | ColumnType::Bigint
        | ColumnType::Double => "N",
        ColumnType::Bytea => "B",
        ColumnType::Text
        | ColumnType::Varchar(_)
        | ColumnType::Uuid
        | ColumnType::Boolean
        | ColumnType::Timestamptz
        | ColumnType::Date
        | ColumnType::Jsonb
        | ColumnType::TextArray
        | ColumnType::Native(_)
        | ColumnType::Document => "S",
    }
}

fn now() -> At {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    At(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A row as it is handed on.
fn record(names: &[String], row: OwnedRow) -> Record<'static> {
    Record { fields: names.iter().cloned().map(Into::into).zip(row.into_iter().map(Value::from)).collect() }
}

#[async_trait]
impl Source for PgSource {
    async fn describe(&self, table: &Table) -> PortResult<SourceTable> {
        let error = |e: Error| trouble::error(&e, "describe", &table.source);
        let client = self.client().await?;
        let shape = self.shape(&client, table).await?;
        let key = shape.key_names().zip(shape.key_types()).map(|(n, ty)| (n.to_owned(), letter(ty).to_owned()));
        let (key, estimate) = (key.collect(), catalogue::size(&client, &shape.main.sql).await.map_err(error)?);
        let count =
            estimate.rows.map_or_else(Count::default, |rows| Count::estimated(rows, estimate.at.unwrap_or_default()));
        let names: Vec<&str> = shape.main.natives().keys().map(String::as_str).collect();
        let types = native::types(&client, &table.source, &names).await.map_err(error)?;
        let bytes = Some(estimate.bytes);
        // Not what was found when the table was read first: somebody may have changed it since.
        let columns = catalogue::columns(&client, &table.source).await.map_err(error)?;
        let mut misnamed = native::misnamed(&client, table, &columns, &types).await.map_err(error)?;
        misnamed.extend(native::of_the_source(&client, table).await.map_err(error)?);
        let publication = Names::of(&self.plan, &self.database).publication;
        let (unseen, parts) = partitions::unseen(&client, &publication, table).await?;
        Ok(SourceTable { key, count, bytes, types, columns, misnamed, unseen, parts, ..SourceTable::default() })
    }

    async fn made_good(&self, table: &Table, parts: &str) -> PortResult<()> {
        let client = self.client().await?;
        partitions::made_good(&client, &Names::of(&self.plan, &self.database).publication, table, parts).await
    }

    async fn begin_load(&self, table: &Table) -> PortResult<()> {
        let client = self.client().await?;
        files::begin_load(&client, &Names::of(&self.plan, &self.database).publication, table).await
    }

    async fn end_load(&self, table: &Table) -> PortResult<()> {
        let client = self.client().await?;
        files::end_load(&client, &Names::of(&self.plan, &self.database).publication, table).await
    }

    async fn page(&self, table: &Table, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page> {
        let mut client = self.client().await?;
        let shape = self.shape(&client, table).await?;
        pages::page(&mut client, &shape.main, part, cursor).await
    }

    fn read<'p>(&self, page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
        pages::read(page, each)
    }

    fn copied<'p>(&self, page: &'p Page) -> Option<CopiedRows<'p>> {
        pages::copied(page)
    }

    fn cells(&self, table: &Table, page: &Page, each: &mut dyn FnMut(&[Cell<'_>])) -> PortResult<Option<PageEnd>> {
        let (Some(verbatim), Some(rows)) = (Verbatim::of(table), pages::copied(page)) else { return Ok(None) };
        if !verbatim.fits(&rows.columns) || !verbatim.takes(rows.tuples) {
            return Ok(None);
        }
        let torn = || pages::torn("parse a page");
        verbatim.rows(rows.tuples, each).filter(|read| *read == rows.ends.len()).ok_or_else(torn)?;
        Ok(Some(rows.end))
    }

    async fn get(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        let shape = {
            let client = self.client().await?;
            self.shape(&client, table).await?
        };
        let wrong = |why: String| PortError::new(ErrorKind::Invalid, "get rows of", &table.source, why);
        let cells = |key: &Record<'static>| -> PortResult<OwnedRow> {
            let columns = shape.key_names().zip(shape.key_types());
            let cell = |(name, ty): (&str, ColumnType)| {
                let value = key.get(name).ok_or_else(|| wrong(format!("a key has no {name}")))?;
                cell_of(ty, value).map(Cell::into_owned).map_err(|reason| wrong(format!("the key's {name}: {reason}")))
            };
            columns.map(cell).collect()
        };
        let keys: Vec<OwnedRow> = keys.iter().map(cells).collect::<PortResult<_>>()?;
        let found = read::fetch(&self.pool, &self.place, &shape, &keys).await?;
        Ok(found.into_iter().map(|row| row.map(|(row, _)| record(shape.main.names(), row))).collect())
    }

    async fn count(&self, table: &Table) -> PortResult<Count> {
        let error = |e: Error| trouble::error(&e, "count", &table.source);
        let mut client = self.client().await?;
        let shape = self.shape(&client, table).await?;
        let tx = client.build_transaction().read_only(true).start().await.map_err(error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL row_security = off").await.map_err(error)?;
        let row = tx.query_one(&format!("SELECT count(*) FROM {}", shape.main.sql), &[]).await.map_err(error)?;
        Ok(Count::exact(row.try_get::<_, i64>(0).map_err(error)?.unsigned_abs(), now()))
    }

    async fn names(&self) -> PortResult<Vec<String>> {
        let client = self.client().await?;
        listed::names(&client).await.map_err(|e| trouble::error(&e, "list the tables of", &self.place))
    }

    async fn point_in_time(&self, tables: &[Table]) -> PortResult<Option<Box<dyn PointInTime>>> {
        let client = Object::take(self.client().await?);
        Ok(Some(Box::new(point_in_time::open(client, tables).await?)))
    }

    async fn open_writes(&self) -> PortResult<Vec<OpenWrite>> {
        let error = |e: Error| trouble::error(&e, "look for open transactions at", &self.place);
        let client = self.client().await?;
        open::writes(&client).await.map_err(error)
    }

    async fn surroundings(&self) -> PortResult<Option<Surroundings>> {
        let error = |e: Error| trouble::error(&e, "look at the settings of", &self.place);
        let client = self.client().await?;
        surroundings::of(&client).await.map(Some).map_err(error)
    }

    async fn given_sequences(&self, tables: &[Table], scan: Option<SequenceScan>) -> PortResult<Vec<Sequence>> {
        let error = |e: Error| trouble::error(&e, "look for", "sequences");
        let names: Vec<&str> = tables.iter().map(|table| table.source.as_str()).collect();
        let mut client = self.client().await?;
        match scan {
            None => sequences::list(&client, &names).await.map_err(error),
            Some(scan) => sequences::held(&mut client, &names, scan).await.map_err(error),
        }
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        if table.mover.is_some() {
            return subscription::put_mark(&self.client().await?, &self.plan, table, nonce).await;
        }
        let error = |e: Error| trouble::error(&e, "write a marker for", &table.source);
        // It stands in the log behind every change that was committed before, and in no table.
        let says = format!("{}/{}:{nonce}", self.plan, table.id);
        let client = self.client().await?;
        let sql = "SELECT pg_logical_emit_message(true, 'cutover', $1)";
        client.execute(sql, &[&says]).await.map(drop).map_err(error)
    }

    async fn delete_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        if table.mover.is_some() {
            return subscription::delete_mark(&self.client().await?, &self.plan, table, nonce).await;
        }
        Ok(())
    }
}
