//! Against a real server: one private PostgreSQL per test process, one database per test.

mod anew;
mod apply;
mod back;
mod batches;
mod beside;
mod circles;
mod connect;
mod contract;
mod day;
mod describe;
mod dump;
mod ending;
mod failover;
mod gaps;
mod indexes;
mod items;
mod key_aside;
mod keys;
mod kinds;
mod lanes;
mod layout;
mod lease;
mod load;
mod log;
mod lossy;
mod lost_slot;
mod mover_day;
mod movers;
mod moves;
mod natives;
mod neighbours;
mod obstacles;
mod odd_keys;
mod odd_sessions;
mod outbox;
mod partitions;
mod password;
mod plans;
mod point_in_time;
mod pooler;
mod references;
mod refusals;
mod restore;
mod retained;
mod rewound;
mod rights;
mod sequences;
mod server;
mod source;
mod source_columns;
mod source_count;
mod timeline;
mod tls;
mod values;
mod verbatim;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use super::{PgSettings, PgTarget, SslMode};
use crate::domain::mapping::Mapped;
use crate::domain::plan::{ChildTable, Column, ColumnSource, ColumnType, Declared, Fallback, NEW, OLD, Table};
use crate::domain::value::{Cell, Key, OwnedRow};
use crate::ports::{Checkpoint, Cursor, Partition, PortResult, RowChange, Target as _};
use crate::private::postgres::{PostgresOptions, PrivatePostgres};

/// The plan whose bookkeeping a place has.
pub(super) const PLAN: &str = "trial/test";

/// One database with a target on it and a plain connection beside it.
pub(crate) struct TestDatabase {
    pub settings: PgSettings,
    pub target: PgTarget,
    pub sql: Client,
}

fn server() -> &'static PrivatePostgres {
    // Never dropped: its guardian cleans up when this process ends.
    static SERVER: OnceLock<PrivatePostgres> = OnceLock::new();
    // Many tests follow at the same time.
    let settings = ["max_replication_slots = 60", "max_wal_senders = 60"].map(str::to_owned).to_vec();
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    SERVER.get_or_init(|| PrivatePostgres::start(&options, |_| {}).unwrap())
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A second server, for what goes from one to another. Its log has every statement.
fn second() -> &'static PrivatePostgres {
    static SERVER: OnceLock<PrivatePostgres> = OnceLock::new();
    let settings = [
        "max_replication_slots = 60",
        "max_wal_senders = 60",
        "max_worker_processes = 60",
        "max_logical_replication_workers = 40",
        "wal_retrieve_retry_interval = '200ms'",
        "log_statement = 'all'",
    ];
    let options = PostgresOptions { settings: settings.map(str::to_owned).to_vec(), ..PostgresOptions::default() };
    SERVER.get_or_init(|| PrivatePostgres::start(&options, |_| {}).unwrap())
}

async fn another(settings: &PgSettings) -> Client {
    let PgSettings { host, port, database, user, password, .. } = settings;
    let password = password.as_ref().map_or("", |password| password.reveal());
    connect(&format!("postgres://{user}:{password}@{host}:{port}/{database}")).await
}

impl TestDatabase {
    /// One more connection, of a customer or of a reader.
    pub(super) async fn connect(&self) -> Client {
        another(&self.settings).await
    }

    pub(crate) async fn new() -> Self {
        let db = Self::bare().await;
        db.target.prepare().await.unwrap();
        db
    }

    /// Without anything of ours in it.
    pub(super) async fn bare() -> Self {
        Self::bare_on(tokio::task::spawn_blocking(server).await.unwrap()).await
    }

    /// On the second server.
    pub(super) async fn elsewhere() -> Self {
        let db = Self::bare_on(tokio::task::spawn_blocking(second).await.unwrap()).await;
        db.target.prepare().await.unwrap();
        db
    }

    /// In a database of its own on this server.
    pub(super) async fn bare_on(server: &PrivatePostgres) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let database = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        connect(&server.url()).await.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let settings = PgSettings {
            host: server.host.clone(),
            port: server.port,
            database: database.clone(),
            user: server.user.clone(),
            password: Some(server.password.clone()),
            sslmode: SslMode::Disable,
            password_source: None,
            ca_file: None,
            pool: 4,
        };
        let target = PgTarget::new(&settings, PLAN).unwrap();
        let sql = another(&settings).await;
        Self { settings, target, sql }
    }

    /// Takes a table for the plan and creates it, as the `set_up` step does.
    pub(super) async fn create(&self, table: &Table) -> PortResult<bool> {
        self.target.claim("run-1", std::slice::from_ref(table)).await?;
        self.target.create(table).await
    }

    /// The same with the tables of [`books`].
    pub(super) async fn with_books() -> (Self, Table) {
        let db = Self::new().await;
        let table = books();
        assert!(db.create(&table).await.unwrap());
        (db, table)
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(&format!("SELECT ({sql})::bigint"), &[]).await.unwrap().get(0)
    }

    pub(super) async fn text(&self, sql: &str) -> Option<String> {
        self.sql.query_opt(sql, &[]).await.unwrap().and_then(|r| r.get(0))
    }

    pub(super) async fn all(&self, table: &Table) -> Vec<OwnedRow> {
        let mut rows = Vec::new();
        self.target.scan(table, &mut |row| rows.push(owned(row))).await.unwrap();
        rows
    }

    /// From now on the server ends every connection that inserts such a row into a table of ours.
    pub(super) async fn dies_at(&self, table: &str, row: &str) {
        let sql = format!(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF {row} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$;
             CREATE TRIGGER no BEFORE INSERT ON cutover.{table} FOR EACH ROW EXECUTE FUNCTION no()"
        );
        self.sql.batch_execute(&sql).await.unwrap();
    }

    /// Loads rows in one flush.
    pub(super) async fn load(&self, table: &Table, rows: &[Mapped<'_>]) -> crate::ports::Applied {
        let mut bulk = self.target.bulk(table, Partition { index: 0, of: 1 }).await.unwrap();
        for row in rows {
            bulk.push(row).unwrap();
        }
        bulk.flush(vec![], &checkpoint(rows.len() as u64)).await.unwrap()
    }
}

pub(super) fn owned(row: &[Cell<'_>]) -> OwnedRow {
    row.iter().cloned().map(Cell::into_owned).collect()
}

pub(super) fn column(name: &str, ty: ColumnType) -> Column {
    let from = ColumnSource::Attribute(vec![name.to_owned()]);
    Column { name: name.to_owned(), ty, from, absent: Fallback::Null, key: false, declared: Declared::default() }
}

pub(super) fn key(name: &str, ty: ColumnType) -> Column {
    Column { key: true, ..column(name, ty) }
}

pub(super) fn table(id: &str, columns: Vec<Column>, ddl: &str) -> Table {
    Table {
        id: id.to_owned(),
        from: OLD.to_owned(),
        source: format!("Shop-{id}"),
        to: NEW.to_owned(),
        target: id.to_owned(),
        key: columns.iter().filter(|c| c.key).map(|c| c.name.clone()).collect(),
        columns,
        children: vec![],
        foreign_keys: vec![],
        ttl: None,
        marker_prefix: "cutover-marker-".into(),
        ddl: Some(ddl.to_owned()),
        triggers: vec![],
        leave_out: vec![],
        after_load: vec![],
        mover: None,
    }
}

/// Books with tags, a unique isbn, a generated column, a check, and an optional reference to authors.
pub(super) fn books() -> Table {
    let mut books = table(
        "books",
        vec![
            key("id", ColumnType::Uuid),
            column("title", ColumnType::Varchar(20)),
            column("isbn", ColumnType::Varchar(20)),
            column("price", ColumnType::Numeric(Some((10, 2)))),
            column("author", ColumnType::Text),
        ],
        "CREATE TABLE authors (id text PRIMARY KEY);
         CREATE TABLE books (
            id uuid PRIMARY KEY, title varchar(20) NOT NULL, isbn varchar(20) UNIQUE,
            price numeric(10,2) CHECK (price >= 0), author text REFERENCES authors,
            shout text GENERATED ALWAYS AS (upper(title)) STORED);
         CREATE TABLE book_tags (
            book_id uuid NOT NULL REFERENCES books, place integer NOT NULL, tag text NOT NULL,
            PRIMARY KEY (book_id, place));",
    );
    let child = |name: &str, ty, from| Column { from, ..column(name, ty) };
    books.children = vec![ChildTable {
        target: "book_tags".into(),
        list: vec!["tags".into()],
        columns: vec![
            child("book_id", ColumnType::Uuid, ColumnSource::Parent("id".into())),
            child("place", ColumnType::Integer, ColumnSource::Ordinal),
            child("tag", ColumnType::Text, ColumnSource::Element),
        ],
        parent_key: vec!["book_id".into()],
        sparse: false,
    }];
    books
}

pub(super) fn uuid_of(n: u32) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

fn key_text(n: u32) -> String {
    uuid::Uuid::from_bytes(uuid_of(n)).to_string()
}

pub(super) fn key_of(n: u32) -> Key {
    Key(key_text(n))
}

pub(super) fn key_json(n: u32) -> String {
    format!(r#"{{"id":{{"S":"{}"}}}}"#, key_text(n))
}

fn text(s: &str) -> Cell<'static> {
    Cell::Text(s.to_owned().into())
}

/// Book `n`; its isbn is its number unless said otherwise.
pub(super) fn book(n: u32, title: &str, tags: &[&str]) -> Mapped<'static> {
    Mapped {
        key: key_text(n),
        key_json: key_json(n),
        row: vec![
            Cell::Uuid(uuid_of(n)),
            text(title),
            text(&format!("isbn-{n}")),
            Cell::Numeric("19.9".into()),
            Cell::Null,
        ],
        children: vec![(0i64..).zip(tags).map(|(i, t)| vec![Cell::Uuid(uuid_of(n)), Cell::Int(i), text(t)]).collect()],
    }
}

pub(super) fn with(mut book: Mapped<'static>, column: usize, cell: Cell<'static>) -> Mapped<'static> {
    book.row[column] = cell;
    book
}

pub(super) const TITLE: usize = 1;
pub(super) const ISBN: usize = 2;
pub(super) const PRICE: usize = 3;
pub(super) const AUTHOR: usize = 4;

pub(super) fn upsert(m: Mapped<'static>) -> RowChange {
    RowChange::Upsert { key: Key(m.key), key_json: m.key_json, row: m.row, children: m.children }
}

pub(super) fn delete(n: u32) -> RowChange {
    RowChange::Delete { key: key_of(n), key_json: key_json(n), row_key: vec![Cell::Uuid(uuid_of(n))] }
}

pub(super) fn checkpoint(rows: u64) -> Checkpoint {
    Checkpoint {
        part: Partition { index: 0, of: 1 },
        cursor: Some(Cursor(format!("after {rows}"))),
        rows,
        parked: 0,
        done: false,
    }
}
