//! What goes wrong before the first statement, in words that help.

use std::net::TcpListener;

use super::{PLAN, TestDatabase};
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode, trouble};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, Target as _};

async fn refused(settings: PgSettings) -> PortError {
    PgTarget::new(&settings, PLAN).unwrap().version().await.unwrap_err()
}

#[tokio::test]
async fn each_trouble_has_its_kind_and_its_advice() {
    let db = TestDatabase::new().await;
    let good = db.settings.clone();

    let wrong = PgSettings { password: Some(Secret::new("hunter2")), ..good.clone() };
    let error = refused(wrong).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.advice.contains("password"), "{error}");
    assert!(!error.to_string().contains("hunter2"));

    let error = refused(PgSettings { password: None, ..good.clone() }).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");

    let error = refused(PgSettings { database: "nowhere".into(), ..good.clone() }).await;
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert!(error.on.contains("nowhere"));

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(PgSettings { port, ..good.clone() }).await;
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");

    let error = refused(PgSettings { host: "no-such-host.invalid".into(), ..good.clone() }).await;
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");

    // The private server has no TLS: required encryption must not fall back to plain text.
    let error = refused(PgSettings { sslmode: SslMode::Require, ..good.clone() }).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let plain = PgSettings { sslmode: SslMode::Prefer, ..good.clone() };
    assert!(PgTarget::new(&plain, PLAN).unwrap().version().await.is_ok());

    let no_file = PgSettings { sslmode: SslMode::VerifyFull, ca_file: Some("/nowhere/ca.pem".into()), ..good };
    let error = PgTarget::new(&no_file, PLAN).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("/nowhere/ca.pem"));
}

/// PostgreSQL searches for a table first in the schema that has the role's name.
#[tokio::test]
async fn a_role_that_is_called_like_our_schema_makes_its_tables_where_every_other_role_does() {
    let db = TestDatabase::new().await;
    // The server is shared by tests: another one may have made the role.
    let made = "DO $$ BEGIN CREATE ROLE cutover LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END $$";
    db.sql.batch_execute(made).await.unwrap();
    let database = &db.settings.database;
    let grants = format!("GRANT ALL ON DATABASE {database} TO cutover; GRANT ALL ON SCHEMA public, cutover TO cutover");
    db.sql.batch_execute(&grants).await.unwrap();
    db.sql.batch_execute("GRANT ALL ON ALL TABLES IN SCHEMA cutover TO cutover").await.unwrap();
    let settings = PgSettings { user: "cutover".to_owned(), password: Some(Secret::new("pw")), ..db.settings.clone() };
    let target = PgTarget::new(&settings, PLAN).unwrap();
    let table = super::books();
    assert!(target.create(&table).await.unwrap());
    assert!(target.describe(&table).await.unwrap().exists);
    let of = "SELECT string_agg(DISTINCT schemaname, ' ') FROM pg_tables WHERE tablename = 'books'";
    assert_eq!(db.text(of).await.as_deref(), Some("public"));
    // The search path that the role or its database sets still applies.
    let elsewhere =
        format!("CREATE SCHEMA shop; ALTER ROLE cutover IN DATABASE {database} SET search_path = \"$user\", shop");
    db.sql.batch_execute(&elsewhere).await.unwrap();
    let client = PgTarget::new(&settings, PLAN).unwrap().client().await.unwrap();
    assert_eq!(client.query_one("SHOW search_path", &[]).await.unwrap().get::<_, String>(0), "shop");
}

#[tokio::test]
async fn missing_rights_are_denied() {
    let db = TestDatabase::new().await;
    // The server is shared by tests, so the role has a name of its own.
    let role = format!("reader_{}", db.settings.database);
    db.sql.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await.unwrap();
    let settings = PgSettings { user: role, password: Some(Secret::new("pw")), ..db.settings.clone() };
    let error = PgTarget::new(&settings, PLAN).unwrap().prepare().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn a_statement_behind_one_that_failed_says_nothing_of_the_data() {
    let db = TestDatabase::new().await;
    db.sql.batch_execute("BEGIN; SELECT 1 / 0").await.unwrap_err();
    let behind = db.sql.batch_execute("SELECT 1").await.unwrap_err();
    let error = trouble::error(&behind, "apply changes to", "books");
    assert!(error.came_back.contains("25P02"), "{error}");
    // `Invalid` would end following for good.
    assert_eq!(error.kind, ErrorKind::Internal);
}

#[tokio::test]
async fn limits_of_the_database_that_would_end_long_work_do_not_hold_for_our_sessions() {
    let db = TestDatabase::new().await;
    let limit = |how: &str| format!("ALTER DATABASE {} {how} idle_session_timeout", db.settings.database);
    db.sql.batch_execute(&format!("{} = '1s'", limit("SET"))).await.unwrap();
    let target = PgTarget::new(&db.settings, PLAN).unwrap();
    let client = target.client().await.unwrap();
    let row = client.query_one("SELECT current_setting('idle_session_timeout')", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "0");
    drop(client);
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    target.version().await.unwrap();
    db.sql.batch_execute(&limit("RESET")).await.unwrap();
}
