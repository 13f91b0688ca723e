//! A password that is rotated while we run.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::join_all;

use super::TestDatabase;
use crate::adapters::postgres::{PasswordSource, PgSettings, PgTarget};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, Outbox as _, PortError, PortResult, Target as _};

/// A place that holds a password, and how often it was read.
#[derive(Clone, Default)]
struct Vault {
    holds: Arc<Mutex<Option<PortResult<Secret>>>>,
    read: Arc<AtomicU32>,
}

impl Vault {
    fn put(&self, found: PortResult<Secret>) {
        *self.holds.lock().unwrap() = Some(found);
    }

    fn source(&self) -> PasswordSource {
        let vault = self.clone();
        PasswordSource::new("the parameter /shop/password", move || {
            vault.read.fetch_add(1, Ordering::Relaxed);
            let found = vault.holds.lock().unwrap().clone().expect("something was put");
            async move {
                // Others are refused meanwhile.
                tokio::task::yield_now().await;
                found
            }
            .boxed()
        })
    }

    fn times(&self) -> u32 {
        self.read.swap(0, Ordering::Relaxed)
    }
}

/// A role of this test's own with the first password, and a target that connects as it.
async fn db() -> (TestDatabase, String, Vault, PgTarget) {
    let db = TestDatabase::new().await;
    let role = format!("rotated_{}", db.settings.database);
    let sql = format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'first-secret'");
    db.sql.batch_execute(&sql).await.unwrap();
    let vault = Vault::default();
    let settings = PgSettings {
        user: role.clone(),
        password: Some(Secret::new("first-secret")),
        password_source: Some(vault.source()),
        ..db.settings.clone()
    };
    let target = PgTarget::new(&settings, super::PLAN).unwrap();
    (db, role, vault, target)
}

/// From now on the server takes another password, and ends existing sessions.
async fn rotate(db: &TestDatabase, role: &str, password: &str) {
    let sql = format!("ALTER ROLE {role} PASSWORD '{password}'");
    db.sql.batch_execute(&sql).await.unwrap();
    let sql = format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{role}'");
    db.sql.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_rotated_password_is_read_again_once_however_many_are_refused() {
    let (db, role, vault, target) = db().await;
    target.prepare().await.unwrap();
    target.arm(&[]).await.unwrap();
    assert_eq!(vault.times(), 0);

    rotate(&db, &role, "second-secret").await;
    vault.put(Ok(Secret::new("second-secret")));
    // The lease, the bookkeeping and the outbox at once.
    let at_once = join_all((0..4).map(|_| target.client())).await;
    assert!(at_once.iter().all(Result::is_ok));
    drop(at_once);
    assert_eq!(vault.times(), 1);
    target.lease("run", "me", 60_000).await.unwrap();
    target.mark_rolled_back("run-1", &[]).await.unwrap();

    // What was read is kept: new connections do not read again.
    rotate(&db, &role, "second-secret").await;
    target.version().await.unwrap();
    assert_eq!(vault.times(), 0);
}

#[tokio::test]
async fn a_password_that_stays_wrong_is_read_once_an_attempt_and_said_clearly() {
    let (db, role, vault, target) = db().await;
    target.prepare().await.unwrap();
    rotate(&db, &role, "second-secret").await;

    vault.put(Ok(Secret::new("first-secret")));
    let error = target.version().await.unwrap_err();
    assert_eq!(vault.times(), 1);
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let wanted = "the parameter /shop/password was read again and holds the same password";
    assert!(error.came_back.contains(wanted) && error.came_back.contains("28P01"), "{error}");

    vault.put(Ok(Secret::new("third-secret")));
    let error = target.lease("run", "me", 60_000).await.unwrap_err();
    assert_eq!(vault.times(), 1);
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");

    let down =
        PortError::new(ErrorKind::Unreachable, "get", "the parameter", "no answer").advise("look at the network");
    vault.put(Err(down));
    let error = target.version().await.unwrap_err();
    assert_eq!(vault.times(), 1);
    assert!(error.came_back.contains("could not be read again: no answer"), "{error}");
    assert_eq!(error.advice, "look at the network");

    // And once it is right, the next attempt gets through.
    vault.put(Ok(Secret::new("second-secret")));
    target.version().await.unwrap();
}
