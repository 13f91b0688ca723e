//! The source fails over: a standby is promoted that has the slot, or has it not, or lacks what was followed already.

use std::sync::Arc;

use super::log::settings_of;
use super::neighbours::{Copied, HostName, Standby, connect_once_up, own_server, until};
use super::{column, key};
use crate::adapters::postgres::PgSettings;
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::plan::{ColumnType, Table};
use crate::ports::{Changes as _, ErrorKind, PortError, Position, ReadFrom};
use crate::private::postgres::PrivatePostgres;

fn books() -> Table {
    Table {
        key: vec!["id".into()],
        columns: vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text)],
        ..Table::watched("books", "public.books")
    }
}

fn changes(settings: &PgSettings) -> PgChanges {
    let source = Arc::new(PgSource::new(settings, super::PLAN).unwrap());
    PgChanges::new(source, settings.clone(), vec![books()])
}

/// Reads behind a place until so many changes came; gives where the last of them stands, and the iterator behind it.
async fn follow(changes: &PgChanges, stream: &str, from: ReadFrom, count: usize) -> (Position, String) {
    let mut iterator = changes.iterator(stream, "books", &from).await.unwrap();
    let mut came = Vec::new();
    while came.len() < count {
        let batch = changes.read(&iterator).await.unwrap();
        came.extend(batch.changes.into_iter().map(|change| change.position));
        iterator = batch.next.unwrap();
    }
    assert_eq!(came.len(), count);
    (came.pop().unwrap(), iterator)
}

/// What a reading ends with, once the server it was connected to is not the one any more.
async fn ends(changes: &PgChanges, iterator: &str) -> PortError {
    loop {
        match changes.read(iterator).await {
            Err(e) if e.kind.transient() => {}
            Err(e) => return e,
            Ok(batch) => assert!(batch.changes.is_empty(), "changes of another timeline"),
        }
    }
}

fn at(server: &PrivatePostgres, port: u16) -> PgSettings {
    PgSettings { port, ..settings_of(server) }
}

fn url(server: &PrivatePostgres, port: u16) -> String {
    server.url().replace(&format!(":{}/", server.port), &format!(":{port}/"))
}

async fn begun() -> Option<(PrivatePostgres, tokio_postgres::Client, Copied)> {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    sql.batch_execute("CREATE TABLE books (id bigint PRIMARY KEY, v text)").await.unwrap();
    let copied = Standby::copied(&server)?;
    Some((server, sql, copied))
}

#[tokio::test]
async fn a_promoted_standby_that_has_the_slot_is_followed_from_what_both_have_and_not_behind() {
    let Some((server, sql, copied)) = begun().await else { return };
    let name = HostName::of(server.port).await;
    let old = changes(&at(&server, name.port));
    let stream = old.enable(&books()).await.unwrap().id;
    copied.take_slots(&server);
    let standby = copied.start().await;
    let new = connect_once_up(&url(&server, standby.port)).await;

    sql.batch_execute("INSERT INTO books VALUES (1, 'both have it')").await.unwrap();
    let (common, _) = follow(&old, &stream, ReadFrom::Oldest, 1).await;
    let written: String = sql.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    until(&new, &format!("pg_last_wal_replay_lsn() >= '{written}'")).await;
    // It hears nothing more of the old server, which goes on.
    new.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    new.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until(&new, "NOT EXISTS (SELECT FROM pg_stat_wal_receiver)").await;
    sql.batch_execute("INSERT INTO books VALUES (2, 'the old one only')").await.unwrap();
    let (lost, iterator) = follow(&old, &stream, ReadFrom::After(common.clone()), 1).await;

    new.batch_execute("SELECT pg_promote()").await.unwrap();
    until(&new, "NOT pg_is_in_recovery()").await;
    // Its log reaches further than the old one's ever did.
    for id in 3..6 {
        new.batch_execute(&format!("INSERT INTO books VALUES ({id}, repeat('x', 100000))")).await.unwrap();
    }
    name.point_at(standby.port);
    sql.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        .await
        .ok();

    // The process that followed, and another one, are told; neither confirms what it has.
    let other = changes(&at(&server, standby.port));
    let told =
        [ends(&old, &iterator).await, other.iterator(&stream, "books", &ReadFrom::After(lost)).await.unwrap_err()];
    for e in told {
        assert_eq!(e.kind, ErrorKind::Trimmed, "{e}");
        assert!(e.came_back.contains("timeline 2") && e.came_back.contains("lost there"), "{e}");
    }
    drop((old, other));
    // What both have is followed on, and what is read from there on stands on the new timeline.
    let other = changes(&at(&server, standby.port));
    let (after, _) = follow(&other, &stream, ReadFrom::After(common.clone()), 3).await;
    assert_eq!(after.order(&common), Some(std::cmp::Ordering::Greater));
    drop(other);
    follow(&changes(&at(&server, standby.port)), &stream, ReadFrom::After(common), 3).await;
}

#[tokio::test]
async fn a_promoted_standby_without_the_slot_is_told_and_nothing_begins_anew_by_itself() {
    let Some((server, sql, copied)) = begun().await else { return };
    let name = HostName::of(server.port).await;
    let changes = changes(&at(&server, name.port));
    let stream = changes.enable(&books()).await.unwrap().id;
    let standby = copied.start().await;
    let new = connect_once_up(&url(&server, standby.port)).await;
    sql.batch_execute("INSERT INTO books VALUES (1, 'both have it')").await.unwrap();
    let (_, iterator) = follow(&changes, &stream, ReadFrom::Oldest, 1).await;
    until(&new, "EXISTS (SELECT FROM books)").await;
    new.batch_execute("SELECT pg_promote()").await.unwrap();
    until(&new, "NOT pg_is_in_recovery()").await;
    name.point_at(standby.port);
    sql.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        .await
        .ok();
    let gone = ends(&changes, &iterator).await;
    assert_eq!(gone.kind, ErrorKind::Trimmed, "{gone}");
    assert!(gone.came_back.contains("is gone") && gone.came_back.contains("failed over"), "{gone}");
    assert!(changes.why_gone(&stream).await.unwrap().is_some_and(|why| why.contains("failed over")));
    assert_eq!(changes.stream(&books()).await.unwrap(), None);
}
