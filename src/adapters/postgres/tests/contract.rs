//! PostgreSQL keeps what every target promises, and what every source does.

use std::sync::Arc;

use async_trait::async_trait;

use super::{PLAN, TestDatabase};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::adapters::postgres::{PgSettings, PgTarget};
use crate::domain::plan::Table;
use crate::ports::tests::items::ItemsStore;
use crate::ports::tests::outbox::OutboxStore;
use crate::ports::tests::source::SourceStore;
use crate::ports::tests::{Abilities, TargetStore, items_cases, outbox_cases, source_cases, tables, target_cases};
use crate::ports::{Changes, Items, Outbox, Source, Target};

struct Database {
    settings: PgSettings,
    target: Arc<PgTarget>,
    /// A customer's session.
    sql: tokio_postgres::Client,
}

impl Database {
    async fn new() -> Self {
        let TestDatabase { settings, sql, .. } = TestDatabase::bare().await;
        Self { target: Arc::new(PgTarget::new(&settings, PLAN).unwrap()), settings, sql }
    }
}

impl TargetStore for Database {
    fn abilities(&self) -> Abilities {
        Abilities::RELATIONAL
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target) as _
    }

    fn another(&self) -> Arc<dyn Target> {
        Arc::new(PgTarget::new(&self.settings, PLAN).unwrap())
    }
}

mod as_a_target {
    use super::*;

    target_cases!(Database::new());
}

#[async_trait]
impl OutboxStore for Database {
    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.target) as _
    }

    fn outbox_elsewhere(&self) -> Arc<dyn Outbox> {
        Arc::new(PgTarget::new(&self.settings, PLAN).unwrap())
    }

    async fn put(&self, id: &str, price: u32) {
        let sql = format!(
            "INSERT INTO books (id, isbn, price) VALUES ('{id}', 'isbn-{id}', {price})
             ON CONFLICT (id) DO UPDATE SET price = EXCLUDED.price"
        );
        self.sql.batch_execute(&sql).await.unwrap();
    }

    async fn delete(&self, id: &str) {
        self.sql.execute("DELETE FROM books WHERE id = $1", &[&id]).await.unwrap();
    }
}

mod as_an_outbox {
    use super::*;

    outbox_cases!(Database::new());
}

/// A database that rows come from.
struct OldDatabase {
    db: TestDatabase,
    source: Arc<PgSource>,
}

impl OldDatabase {
    async fn new() -> Self {
        let db = TestDatabase::bare().await;
        db.sql.batch_execute("CREATE TABLE authors (id text PRIMARY KEY, name text)").await.unwrap();
        Self { source: Arc::new(PgSource::new(&db.settings, PLAN).unwrap()), db }
    }
}

#[async_trait]
impl SourceStore for OldDatabase {
    fn authors(&self) -> Table {
        Table { source: "public.authors".into(), marker_prefix: "marker-".into(), ..tables::authors() }
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source) as _
    }

    fn changes(&self) -> Arc<dyn Changes> {
        let settings = self.db.settings.clone();
        Arc::new(PgChanges::new(Arc::clone(&self.source), settings, vec![self.authors()]))
    }

    fn changes_elsewhere(&self) -> Arc<dyn Changes> {
        self.changes()
    }

    async fn put(&self, id: &str, name: &str) {
        let sql = "INSERT INTO authors VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name";
        self.db.sql.execute(sql, &[&id, &name]).await.unwrap();
    }

    async fn delete(&self, id: &str) {
        self.db.sql.execute("DELETE FROM authors WHERE id = $1", &[&id]).await.unwrap();
    }
}

mod as_a_source {
    use super::*;

    source_cases!(OldDatabase::new());
}

impl ItemsStore for OldDatabase {
    fn table(&self) -> Table {
        self.authors()
    }

    fn items(&self) -> Arc<dyn Items> {
        Arc::clone(&self.source) as _
    }
}

mod as_items {
    use super::*;

    items_cases!(OldDatabase::new());
}
