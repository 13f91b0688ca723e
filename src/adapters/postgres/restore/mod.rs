//! Tables of an export, written back in one transaction.
//!
//! Everything or nothing: tables that are not there are made, the rows go in by `COPY` as the text that the store itself
//! wrote, whatever of foreign keys and triggers the export holds comes after them, and all of it is read back before it is
//! committed. Tables that are there are locked against writers until then, so that what is empty at the first look is empty
//! at the last. Their triggers do not fire: the rows went through them where they came from.

mod look;
mod rows;
mod sequences;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::ClientWrapper;
use futures::SinkExt as _;
use tokio_postgres::{CopyInSink, Error};

use super::connect::{Object, Pool};
use super::ddl;
use super::names::{ident, list, qualified, schema_of};
use super::retry;
use super::settings::PgSettings;
use super::source::text_page;
use super::trouble;
use crate::domain::plan::AfterLoad;
use crate::ports::{Cursor, ErrorKind, FoundTable, HeldTable, PortError, PortResult, Restore, Restoring, TextPage};

use look::Trigger;

/// What is tried.
const TRIED: &str = "restore";

/// A restore may take as long as it takes, and rows that would be hidden from us are an error.
const LIMITS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
     SET LOCAL row_security = off";

/// A database that an export is written back into.
pub struct PgRestore {
    pool: Pool,
    place: String,
}

impl PgRestore {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// Settings that name no server.
    pub fn new(settings: &PgSettings) -> PortResult<Self> {
        Ok(Self { pool: settings.pool()?, place: settings.place() })
    }
}

#[async_trait]
impl Restore for PgRestore {
    async fn open(&self, tables: &[HeldTable]) -> PortResult<Box<dyn Restoring>> {
        // Taken out of the pool: what the export's statements set for their session goes with it.
        let client = Object::take(retry::client(&self.pool, &self.place).await?);
        let error = |e: Error| trouble::error(&e, "begin to restore into", &self.place);
        client.batch_execute("BEGIN").await.map_err(error)?;
        client.batch_execute(LIMITS).await.map_err(error)?;
        let (mut found, mut triggers) = (Vec::new(), Vec::new());
        for table in tables {
            let (of_table, own) = look::at(&client, table).await?;
            found.push(of_table);
            triggers.extend(own);
        }
        let found = look::parents_first(&client, tables, found).await?;
        Ok(Box::new(PgRestoring { client, place: self.place.clone(), found, triggers, sink: None }))
    }
}

/// A transaction that restores.
struct PgRestoring {
    client: ClientWrapper,
    place: String,
    found: Vec<FoundTable>,
    /// Triggers of tables that are there, which do not fire until the end.
    triggers: Vec<Trigger>,
    /// Where rows of the table that is being written go.
    sink: Option<Pin<Box<CopyInSink<Bytes>>>>,
}

impl PgRestoring {
    fn is_there(&self, table: &HeldTable) -> bool {
        self.found.iter().any(|found| found.id == table.id && found.exists)
    }

    /// Makes what the export says comes after the rows of a table that was made.
    async fn after(&self, table: &HeldTable) -> PortResult<()> {
        for one in &table.after_load {
            let error = |e: Error| trouble::error(&e, "make", &format!("{} of {}", one.name(), table.name));
            let on = qualified(one.on().unwrap_or(&table.name));
            let sql = match one {
                AfterLoad::ForeignKey { sql, .. } => sql.clone(),
                AfterLoad::Trigger { name, sql, fires, .. } => {
                    format!("{sql}\nALTER TABLE {on} {} TRIGGER {}", fires.sql(), ident(name))
                }
                AfterLoad::MaterializedView { name } => format!("REFRESH MATERIALIZED VIEW {}", qualified(name)),
            };
            self.client.batch_execute("SET LOCAL search_path = ''").await.map_err(error)?;
            self.client.batch_execute(&sql).await.map_err(error)?;
            self.client.batch_execute("RESET ALL").await.map_err(error)?;
            self.client.batch_execute(LIMITS).await.map_err(error)?;
        }
        Ok(())
    }

    /// Waits for the rows that are on their way, and says what the server made of them.
    async fn ended(&mut self, table: &HeldTable) -> PortResult<u64> {
        let Some(mut sink) = self.sink.take() else { return Ok(0) };
        sink.as_mut().finish().await.map_err(|e| refused(&e, table))
    }
}

/// A refusal of rows, with what may be behind it.
fn refused(e: &Error, table: &HeldTable) -> PortError {
    let said = trouble::error(e, TRIED, &table.name);
    match e.as_db_error().map(|db| db.code().code()) {
        Some("23503") => said.advise(
            "its rows refer to rows that are not there: restore their table with it, or drop that foreign key until both \
             are there; nothing was kept of this restore",
        ),
        Some("53100") => said.advise("free space at the server, then begin again; nothing was kept of this restore"),
        Some(_) if said.advice.is_empty() => said.advise(
            "the table does not take what the export holds: compare its columns and constraints with `columns` in \
             manifest.json; nothing was kept of this restore",
        ),
        Some(_) | None => said,
    }
}

#[async_trait]
impl Restoring for PgRestoring {
    fn found(&self) -> &[FoundTable] {
        &self.found
    }

    fn takes_again(&self) -> bool {
        false
    }

    async fn make(&mut self, table: &HeldTable) -> PortResult<()> {
        let error = |e: Error| trouble::error(&e, "make", &table.name);
        let sql = match &table.ddl {
            Some(text) => {
                let sql = ddl::sql(text).map_err(|e| ddl::refused(&e, &table.name))?;
                ddl::without_schemas(&*self.client, &sql).await.map_err(error)?
            }
            None => plain(table),
        };
        self.client.batch_execute(&sql).await.map_err(|e| ddl::failed(&e, &sql, &table.name))?;
        // What one dump set for its session must not affect what follows.
        self.client.batch_execute("RESET ALL").await.map_err(error)?;
        self.client.batch_execute(LIMITS).await.map_err(error)?;
        if look::exists(&self.client, &table.name).await.map_err(error)? {
            return Ok(());
        }
        let came_back = "the export's statements ran and made another table";
        Err(PortError::new(ErrorKind::Invalid, "make", &table.name, came_back)
            .advise("make the table yourself, then restore into it"))
    }

    async fn write(&mut self, table: &HeldTable, lines: &[u8]) -> PortResult<()> {
        let rows = rows::copied(table, lines)?;
        if self.sink.is_none() {
            let columns = list(table.columns.iter().map(|(name, _)| name.as_str()));
            let sql = format!("COPY {} ({columns}) FROM STDIN", qualified(&table.name));
            let sink = self.client.copy_in(sql.as_str()).await.map_err(|e| refused(&e, table))?;
            self.sink = Some(Box::pin(sink));
        }
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let Err(e) = sink.as_mut().send(rows).await else { return Ok(()) };
        // Why it takes no more is said where it ends.
        self.ended(table).await?;
        Err(refused(&e, table))
    }

    async fn written(&mut self, table: &HeldTable) -> PortResult<()> {
        self.ended(table).await.map(drop)
    }

    async fn page(&mut self, table: &HeldTable, cursor: Option<&Cursor>) -> PortResult<TextPage> {
        text_page(&self.client, &table.name, &table.columns, cursor).await
    }

    async fn keep(mut self: Box<Self>, tables: &[HeldTable]) -> PortResult<Vec<String>> {
        let place = self.place.clone();
        let error = |e: Error| trouble::error(&e, "end the restore into", &place);
        for table in tables.iter().filter(|table| !self.is_there(table)) {
            self.after(table).await?;
        }
        let said = sequences::moved(&mut self.client, tables).await?;
        for trigger in &self.triggers {
            self.client.batch_execute(&trigger.enabled()).await.map_err(error)?;
        }
        self.client.batch_execute("COMMIT").await.map_err(|e| {
            let failure = retry::Failure::Commit(e);
            let said = retry::answer(failure, "commit the restore into", &self.place);
            if said.kind != ErrorKind::TimedOut {
                return said;
            }
            said.advise("it may be done or not: begin again, which says what is there")
        })?;
        Ok(said)
    }
}

/// What makes a table of its columns and its key.
fn plain(table: &HeldTable) -> String {
    let schema = schema_of(&table.name);
    let schema = schema.map_or_else(String::new, |schema| format!("CREATE SCHEMA IF NOT EXISTS {schema};\n"));
    let mut parts: Vec<String> = table.columns.iter().map(|(name, ty)| format!("{} {ty}", ident(name))).collect();
    if !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(table.key.iter().map(|(name, _)| name.as_str()))));
    }
    format!("{schema}CREATE TABLE {} ({})", qualified(&table.name), parts.join(", "))
}
