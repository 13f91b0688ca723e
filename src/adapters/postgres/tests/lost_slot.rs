//! A slot that the server gave up is told as that, by name and with the setting that bounds it.

use std::sync::Arc;

use super::log::settings_of;
use super::neighbours::{connect_once_up, own_server, until};
use super::{column, key};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::plan::{ColumnType, Table};
use crate::ports::{Changes as _, ErrorKind, ReadFrom};

#[tokio::test]
async fn a_slot_that_was_kept_no_longer_is_named_with_the_limit_it_went_over() {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    sql.batch_execute("CREATE TABLE books (id bigint PRIMARY KEY, v text)").await.unwrap();
    let books = Table {
        key: vec!["id".into()],
        columns: vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text)],
        ..Table::watched("books", "public.books")
    };
    let settings = settings_of(&server);
    let source = Arc::new(PgSource::new(&settings, super::PLAN).unwrap());
    let changes = PgChanges::new(source, settings, vec![books.clone()]);
    let stream = changes.enable(&books).await.unwrap();
    assert_eq!(changes.why_gone(&stream.id).await.unwrap(), None, "it is there");

    sql.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let reader = connect_once_up(&server.url()).await;
    until(&reader, "current_setting('max_slot_wal_keep_size') = '1MB'").await;
    for _ in 0..4 {
        let more = "SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000)), pg_switch_wal()";
        sql.batch_execute(more).await.unwrap();
    }
    sql.batch_execute("CHECKPOINT").await.unwrap();
    until(&reader, "SELECT bool_and(wal_status = 'lost') FROM pg_replication_slots").await;

    assert_eq!(changes.stream(&books).await.unwrap(), None);
    let slot = stream.id.split('/').nth(1).unwrap();
    let why = changes.why_gone(&stream.id).await.unwrap().unwrap();
    let gone = changes.iterator(&stream.id, "books", &ReadFrom::Oldest).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::Trimmed, "{gone}");
    for said in [&why, &gone.came_back] {
        for part in [slot, "wal_status = lost", "max_slot_wal_keep_size = 1MB"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // One that somebody dropped is not said to be lost.
    sql.execute("SELECT pg_drop_replication_slot($1)", &[&slot]).await.unwrap();
    let why = changes.why_gone(&stream.id).await.unwrap().unwrap();
    assert!(why.contains(slot) && why.contains("dropped"), "{why}");
}
