//! What goes wrong before the first statement, in words that help.

use std::net::TcpListener;

use super::Place;
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode, trouble};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, Target as _};

async fn refused(settings: PgSettings) -> PortError {
    PgTarget::new(&settings).unwrap().version().await.unwrap_err()
}

#[tokio::test]
async fn each_trouble_has_its_kind_and_its_advice() {
    let place = Place::new().await;
    let good = place.settings.clone();

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

    // The private server speaks no TLS: required encryption must not fall back to plain text.
    let error = refused(PgSettings { sslmode: SslMode::Require, ..good.clone() }).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let plain = PgSettings { sslmode: SslMode::Prefer, ..good.clone() };
    assert!(PgTarget::new(&plain).unwrap().version().await.is_ok());

    let no_file = PgSettings { sslmode: SslMode::VerifyFull, ca_file: Some("/nowhere/ca.pem".into()), ..good };
    let error = PgTarget::new(&no_file).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("/nowhere/ca.pem"));
}

#[tokio::test]
async fn missing_rights_are_denied() {
    let place = Place::new().await;
    // The server is shared by tests, so the role has a name of its own.
    let role = format!("reader_{}", place.settings.database);
    place.sql.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await.unwrap();
    let settings = PgSettings { user: role, password: Some(Secret::new("pw")), ..place.settings.clone() };
    let error = PgTarget::new(&settings).unwrap().prepare().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn a_statement_behind_one_that_failed_says_nothing_of_the_data() {
    let place = Place::new().await;
    place.sql.batch_execute("BEGIN; SELECT 1 / 0").await.unwrap_err();
    let behind = place.sql.batch_execute("SELECT 1").await.unwrap_err();
    let error = trouble::error(&behind, "apply changes to", "books");
    assert!(error.came_back.contains("25P02"), "{error}");
    // `Invalid` would end following for good.
    assert_eq!(error.kind, ErrorKind::Internal);
}
