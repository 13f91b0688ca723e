//! The server changes during a run: connections made before must not stay on the old one.

use futures::future::join_all;

use super::neighbours::{HostName, Standby, connect_once_up, own_server, until};
use super::{book, books, checkpoint, connect, delete, upsert, uuid_of};
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode};
use crate::domain::plan::Table;
use crate::ports::{ChangeBatch, Cleared, ErrorKind, Outbox as _, Partition, PortResult, Target as _};

/// One of each kind of work that writes.
async fn work(target: &PgTarget, table: &Table, n: u32) -> Vec<PortResult<()>> {
    let batch = |rows| ChangeBatch { rows, ..ChangeBatch::default() };
    let load = async {
        let mut bulk = target.bulk(table, Partition { index: 0, of: 1 }).await?;
        bulk.push(&book(n, "loaded", &["a"]))?;
        bulk.flush(vec![], &checkpoint(1)).await.map(drop)
    };
    vec![
        target.lease("run", "me", 60_000).await.map(drop),
        load.await,
        target.apply(table, batch(vec![upsert(book(n + 1, "followed", &[])), delete(n + 2)])).await.map(drop),
        target.put_marker(table, &format!("nonce-{n}")).await,
        async {
            while let Some(taken) = target.take(table, 10).await? {
                if taken.changes().is_empty() {
                    return taken.done().await;
                }
                for change in taken.changes() {
                    let key = super::key_of(n);
                    taken
                        .clear(&[Cleared::of(&key, &change.records, crate::domain::mapping::Resolution::None)])
                        .await?;
                }
            }
            Ok(())
        }
        .await,
        target.mark_rolled_back("run-1", std::slice::from_ref(table)).await,
    ]
}

#[tokio::test]
async fn after_a_failover_nothing_stays_on_the_old_server() {
    let old = own_server().await;
    let old_sql = connect(&old.url()).await;
    let name = HostName::of(old.port).await;
    let settings = PgSettings {
        host: "127.0.0.1".into(),
        port: name.port,
        database: old.database.clone(),
        user: old.user.clone(),
        password: Some(old.password.clone()),
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: 4,
    };
    let table = books();
    let target = PgTarget::new(&settings, super::PLAN).unwrap();
    target.prepare().await.unwrap();
    target.claim("run-1", std::slice::from_ref(&table)).await.unwrap();
    target.create(&table).await.unwrap();
    target.arm(std::slice::from_ref(&table)).await.unwrap();
    // The pool is full of connections to the first server.
    let held = join_all((0..4).map(|_| target.client())).await;
    drop(held);
    for done in work(&target, &table, 10).await {
        done.unwrap();
    }

    let Some(standby) = Standby::of(&old).await else { return };
    let url = old.url().replace(&format!(":{}/", old.port), &format!(":{}/", standby.port));
    let new_sql = connect_once_up(&url).await;
    // A managed service demotes it: every session is read-only from one moment to the next, and stays connected.
    old_sql.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    old_sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until(&old_sql, "current_setting('default_transaction_read_only') = 'on'").await;
    let at_old = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cutover'";

    // The name still points at it: nothing is done there, and it will be tried again.
    for done in work(&target, &table, 20).await {
        let error = done.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ReadOnly, "{error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    // None of the old connections is left, idle or not.
    until(&old_sql, &format!("({at_old}) = 0")).await;

    // Then at one that recovers still.
    name.point_at(standby.port);
    for done in work(&target, &table, 30).await {
        let error = done.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ReadOnly, "{error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }

    // It takes over: the very next attempt lands there.
    assert!(new_sql.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    let waiting = async || target.waiting(std::slice::from_ref(&table)).await.unwrap()[&table.id].records;
    let customer = format!(
        "INSERT INTO books (id, title, isbn, price) VALUES ('{}', 'written', 'isbn-50', 1)",
        uuid::Uuid::from_bytes(uuid_of(50))
    );
    new_sql.batch_execute(&customer).await.unwrap();
    assert_eq!(waiting().await, 1);
    for done in work(&target, &table, 40).await {
        done.unwrap();
    }
    assert_eq!(waiting().await, 0);
    let left = "SELECT count(*) FROM cutover.outbox";
    assert_eq!(new_sql.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let titles = "SELECT string_agg(title, ' ' ORDER BY title) FROM books";
    let there: String = new_sql.query_one(titles, &[]).await.unwrap().get(0);
    assert_eq!(there, "followed followed loaded loaded written");
    assert_eq!(old_sql.query_one(at_old, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_server_that_is_shut_down_and_another_that_takes_its_place() {
    let old = own_server().await;
    let name = HostName::of(old.port).await;
    let new = own_server().await;
    let new_sql = connect(&new.url()).await;
    new_sql.batch_execute(&format!("ALTER ROLE {} PASSWORD '{}'", new.user, old.password.reveal())).await.unwrap();
    let settings = PgSettings {
        host: "127.0.0.1".into(),
        port: name.port,
        database: old.database.clone(),
        user: old.user.clone(),
        password: Some(old.password.clone()),
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: 4,
    };
    let target = PgTarget::new(&settings, super::PLAN).unwrap();
    target.prepare().await.unwrap();
    drop(join_all((0..4).map(|_| target.client())).await);
    drop(old);
    let error = target.lease("run", "me", 60_000).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    name.point_at(new.port);
    target.prepare().await.unwrap();
    target.lease("run", "me", 60_000).await.unwrap();
}
