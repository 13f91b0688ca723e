//! Whatever a database sets for its sessions, and whoever is open on its server: ours work all the same, or say whose it is.

use std::sync::Arc;
use std::time::Duration;

use super::log::settings_of;
use super::neighbours::{connect_once_up, own_server};
use super::{TestDatabase, book, books, column, key, upsert};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::adapters::postgres::{PgSettings, PgTarget, open};
use crate::domain::plan::{ColumnType, Table};
use crate::ports::{ChangeBatch, Changes as _, ErrorKind, Outbox as _, Source as _, Target as _};

#[tokio::test]
async fn a_database_whose_strings_have_escapes_can_be_prepared_loaded_and_captured() {
    let db = TestDatabase::bare().await;
    for setting in ["standard_conforming_strings = off", "backslash_quote = on", "transform_null_equals = on"] {
        let sql = format!("ALTER DATABASE {} SET {setting}", db.settings.database);
        db.sql.batch_execute(&sql).await.unwrap();
    }
    let table = books();
    db.sql.batch_execute(table.ddl.as_deref().unwrap()).await.unwrap();
    let target = PgTarget::new(&db.settings, super::PLAN).unwrap();
    target.prepare().await.unwrap();
    target.claim("run-1", std::slice::from_ref(&table)).await.unwrap();
    target.disarm(std::slice::from_ref(&table)).await.unwrap();
    let rows = vec![upsert(book(1, "back\\slash 'quote'", &["\\x00"]))];
    target.apply(&table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap();
    target.arm(std::slice::from_ref(&table)).await.unwrap();
    let title: String = db.sql.query_one("SELECT title FROM books", &[]).await.unwrap().get(0);
    assert_eq!(title, "back\\slash 'quote'");
}

#[tokio::test]
async fn what_sessions_begin_with_and_what_sees_ddl_is_told() {
    let db = TestDatabase::bare().await;
    let name = &db.settings.database;
    let (reader, group) = (format!("reader_{name}"), format!("group_{name}"));
    db.sql
        .batch_execute(&format!(
            "ALTER DATABASE {name} SET search_path = app, util;
             CREATE ROLE {reader} LOGIN; ALTER ROLE {reader} IN DATABASE {name} SET timezone = 'Asia/Kolkata';
             CREATE ROLE {group} NOLOGIN; ALTER ROLE {group} SET work_mem = '64MB';
             CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no: a secret'; END $$;
             CREATE EVENT TRIGGER asleep ON ddl_command_end EXECUTE FUNCTION no_ddl(); ALTER EVENT TRIGGER asleep DISABLE;
             CREATE EVENT TRIGGER guard ON ddl_command_start WHEN tag IN ('CREATE SCHEMA') EXECUTE FUNCTION no_ddl()"
        ))
        .await
        .unwrap();
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    let found = source.surroundings().await.unwrap().unwrap();
    assert_eq!((found.database.as_str(), found.encoding.as_str()), (name.as_str(), "UTF8"));
    assert_eq!(found.event_triggers, ["guard (ddl_command_start)"]);
    let ours: Vec<_> = found.settings.iter().filter(|s| s.here || s.role.as_deref() == Some(group.as_str())).collect();
    let said: Vec<_> = ours.iter().map(|s| (s.role.as_deref(), s.name.as_str(), s.value.as_str())).collect();
    assert_eq!(said, [(None, "search_path", "app, util"), (Some(reader.as_str()), "TimeZone", "Asia/Kolkata")]);
    assert_eq!(db.target.surroundings(&books()).await.unwrap().unwrap().settings, found.settings);

    // What it refuses is told with who refused, and never with the words, which may hold anything.
    let refused = db.target.prepare().await.unwrap_err();
    assert!(refused.came_back.contains("no_ddl() refused it (SQLSTATE P0001"), "{refused}");
    assert!(refused.advice.contains("event trigger") && !refused.to_string().contains("secret"), "{refused}");
}

#[tokio::test]
async fn the_order_of_texts_large_objects_and_who_may_do_what_are_told() {
    let db = TestDatabase::bare().await;
    let (reader, group) = (format!("seer_{}", db.settings.database), format!("seers_{}", db.settings.database));
    db.sql
        .batch_execute(&format!(
            "CREATE ROLE {group} NOLOGIN; CREATE ROLE {reader} LOGIN; GRANT {group} TO {reader};
             CREATE TABLE held (id int PRIMARY KEY); GRANT SELECT, INSERT ON held TO {group}; GRANT DELETE ON held TO PUBLIC;
             CREATE TABLE owned (id int PRIMARY KEY); ALTER TABLE owned OWNER TO {reader};
             SELECT lo_create(0), lo_create(0)"
        ))
        .await
        .unwrap();
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    let found = source.surroundings().await.unwrap().unwrap();
    assert_eq!(found.large_objects, 2);
    let grants = |role: Option<&str>| -> Vec<(String, String)> {
        let of = found.grants.iter().filter(|grant| grant.role.as_deref() == role);
        of.map(|grant| (grant.table.clone(), grant.rights.join(" "))).collect()
    };
    assert_eq!(grants(Some(&group)), [("public.held".to_owned(), "INSERT SELECT".to_owned())]);
    assert_eq!(grants(None), [("public.held".to_owned(), "DELETE".to_owned())]);
    let all = "DELETE INSERT REFERENCES SELECT TRIGGER TRUNCATE UPDATE".to_owned();
    assert_eq!(grants(Some(&reader)), [("public.owned".to_owned(), all)]);
    let role = found.roles.iter().find(|role| role.name == reader).unwrap();
    assert!(role.has == [group] && !role.anything, "{role:?}");
    assert!(found.roles.iter().any(|role| role.name == db.settings.user && role.anything));
    let collation = found.collation.unwrap();
    assert!(!collation.order.is_empty() && collation.version == collation.sorts_now, "{collation:?}");
}

#[tokio::test]
async fn a_transaction_that_a_capture_would_wait_for_is_named_whichever_database_it_is_in() {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    sql.batch_execute("CREATE DATABASE other").await.unwrap();
    sql.batch_execute("CREATE TABLE good (id bigint PRIMARY KEY, v text)").await.unwrap();
    let good = Table {
        key: vec!["id".into()],
        columns: vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text)],
        ..Table::watched("good", "public.good")
    };
    let settings = settings_of(&server);
    let target = PgTarget::new(&settings, super::PLAN).unwrap();
    let oldest = async |at_least| open::oldest(&target.client().await.unwrap(), at_least).await.unwrap();
    assert_eq!(oldest(Duration::ZERO).await, None);
    let there = settings_url(&PgSettings { database: "other".into(), ..settings.clone() });
    let customer = connect_once_up(&there).await;
    customer.batch_execute("SET application_name = 'nightly'; BEGIN; CREATE TABLE t ()").await.unwrap();
    let words = oldest(Duration::ZERO).await.unwrap().words;
    for part in ["process ", "of 'nightly' in database other", "open since", " UTC, for "] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!(oldest(Duration::from_secs(9_000)).await, None, "it began just now");

    let source = Arc::new(PgSource::new(&settings, super::PLAN).unwrap());
    let changes = PgChanges::new(source, settings, vec![good.clone()]);
    let refused = changes.enable(&good).await.unwrap_err();
    assert!(
        refused.kind == ErrorKind::Throttled && refused.came_back.contains("a transaction that does not end"),
        "{refused}"
    );
    assert!(refused.advice.contains("of 'nightly' in database other"), "{refused}");
    customer.batch_execute("ROLLBACK").await.unwrap();
    changes.enable(&good).await.unwrap();
    changes.close().await.unwrap();
}

fn settings_url(of: &PgSettings) -> String {
    let password = of.password.as_ref().map(|password| password.reveal().to_owned()).unwrap_or_default();
    format!("postgres://{}:{password}@{}:{}/{}", of.user, of.host, of.port, of.database)
}
