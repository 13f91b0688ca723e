//! A pooler between us and the server is recognised before anything is done through it.

use super::connect;
use super::neighbours::{PgBouncer, own_server};
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode};
use crate::ports::{ErrorKind, Target as _};

#[tokio::test]
async fn a_pooler_is_refused_and_nothing_of_ours_is_left_in_its_sessions() {
    let server = own_server().await;
    let direct = PgSettings {
        host: "127.0.0.1".into(),
        port: server.port,
        database: server.database.clone(),
        user: server.user.clone(),
        password: Some(server.password.clone()),
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: 4,
    };
    let where_it_is = format!("127.0.0.1:{}", server.port);
    // One that refuses what it does not know, and one that is set to ignore it, as many are.
    for (mode, ignored) in
        [("transaction", ""), ("transaction", "extra_float_digits, options"), ("session", ""), ("statement", "options")]
    {
        let Some(pooler) = PgBouncer::before(&server, mode, ignored).await else { return };
        let url = server.url().replace(&format!(":{}/", server.port), &format!(":{}/", pooler.port));
        let other = connect(&url).await;
        let target = PgTarget::new(&PgSettings { port: pooler.port, ..direct.clone() }, super::PLAN).unwrap();
        for error in [
            target.version().await.unwrap_err(),
            target.prepare().await.unwrap_err(),
            target.lease("run", "me", 60_000).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Invalid, "{mode}: {error}");
            assert!(error.came_back.contains("pooler"), "{mode}: {error}");
            if mode != "session" {
                assert!(error.advice.contains(&where_it_is), "{mode}: {error}");
            }
        }
        // The pool has one session: the one we would have used is the one that the next customer gets.
        let sql = "SELECT name || '=' || setting FROM pg_settings WHERE source = 'session'";
        let left = other.simple_query(sql).await.unwrap();
        let left: Vec<_> = left
            .iter()
            .filter_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .filter(|s| !s.starts_with("client_encoding") && !s.starts_with("application_name"))
            .collect();
        assert!(left.is_empty(), "{mode}: {left:?}");
        let sql = connect(&server.url()).await;
        let made = sql.query_one("SELECT to_regnamespace('cutover') IS NOT NULL", &[]).await.unwrap();
        assert!(!made.get::<_, bool>(0), "{mode}: something was done through the pooler");
    }
    // The server itself is taken, and its sessions keep what was asked for, whatever is done in them.
    let target = PgTarget::new(&direct, super::PLAN).unwrap();
    let client = target.client().await.unwrap();
    for (name, value) in [
        ("statement_timeout", "1min"),
        ("lock_timeout", "15s"),
        ("idle_in_transaction_session_timeout", "2min"),
        ("TimeZone", "UTC"),
        ("default_transaction_isolation", "read committed"),
    ] {
        let row = client.query_one("SELECT current_setting($1)", &[&name]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), value, "{name}");
    }
    client.batch_execute("DISCARD ALL").await.unwrap();
    let row = client.query_one("SHOW statement_timeout", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "1min");
}

/// Says to everybody who connects what RDS Proxy says to whom brings settings along.
async fn like_rds_proxy() -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 1024]).await;
            let mut fields = Vec::new();
            for field in
                ["SFATAL", "VFATAL", "C0A000", "MRDS Proxy currently doesn\u{2019}t support command-line options."]
            {
                fields.extend_from_slice(field.as_bytes());
                fields.push(0);
            }
            fields.push(0);
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            let _ = socket.write_all(&[b"E", &length[..], &fields].concat()).await;
        }
    });
    port
}

#[tokio::test]
async fn rds_proxy_is_told_apart_from_a_server_by_what_it_refuses() {
    let settings = PgSettings {
        host: "127.0.0.1".into(),
        port: like_rds_proxy().await,
        database: "shop".into(),
        user: "cutover".into(),
        password: None,
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: 4,
    };
    let target = PgTarget::new(&settings, super::PLAN).unwrap();
    for error in [target.version().await.unwrap_err(), target.prepare().await.unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.came_back.contains("pooler") && error.came_back.contains("RDS Proxy"), "{error}");
    }
}
