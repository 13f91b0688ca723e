//! What goes wrong before the first statement, in words that help.

use std::net::TcpListener;

use super::Place;
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode, trouble};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, Target as _};
use crate::rehearsal::postgres::{PostgresOptions, PrivatePostgres};

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

fn openssl(dir: &std::path::Path, args: &str) {
    let ran = std::process::Command::new("openssl").args(args.split(' ')).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn encryption_is_required_and_verified_as_asked() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    let dir = tempfile::tempdir().unwrap();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir.path(), &format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"));
    openssl(dir.path(), &format!("req -x509 {ec} -keyout o.key -out other.pem -subj /CN=other -days 2"));
    openssl(dir.path(), &format!("req {ec} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(dir.path().join("san"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE").unwrap();
    openssl(
        dir.path(),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile san",
    );

    let server = tokio::task::spawn_blocking(|| PrivatePostgres::start(&PostgresOptions::default(), |_| {}).unwrap())
        .await
        .unwrap();
    let data = server.directory().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    for file in ["server.key", "server.crt"] {
        let to = data.join(file);
        std::fs::copy(dir.path().join(file), &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let sql = super::connect(&server.url()).await;
    sql.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while sql.query_one("SHOW ssl", &[]).await.unwrap().get::<_, String>(0) != "on" {
        assert!(tokio::time::Instant::now() < limit, "the server never turned TLS on");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    let settings = |host: &str, sslmode, ca: Option<&str>| PgSettings {
        host: host.into(),
        port: server.port,
        database: server.database.clone(),
        user: server.user.clone(),
        password: Some(server.password.clone()),
        sslmode,
        ca_file: ca.map(|f| dir.path().join(f)),
        pool: 2,
    };
    // Required is not verified: neither the name nor the authority matters.
    let required = PgTarget::new(&settings("127.0.0.1", SslMode::Require, None)).unwrap();
    required.version().await.unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl WHERE ssl";
    assert_eq!(sql.query_one(encrypted, &[]).await.unwrap().get::<_, i64>(0), 1);

    let good = PgTarget::new(&settings("localhost", SslMode::VerifyFull, Some("ca.pem"))).unwrap();
    good.version().await.unwrap();
    let error = refused(settings("localhost", SslMode::VerifyFull, Some("other.pem"))).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let error = refused(settings("127.0.0.1", SslMode::VerifyFull, Some("ca.pem"))).await;
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.advice.contains("ca_file"), "{error}");
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
