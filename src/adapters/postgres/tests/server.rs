//! The server and the database as a whole: what stands in the way is named before anything is written, and the check
//! itself writes nothing.

use super::*;
use crate::domain::secret::Secret;
use crate::ports::{Bookkeeping, Obstacle, TargetServer};

async fn inspected(settings: &PgSettings) -> TargetServer {
    PgTarget::new(settings, PLAN).unwrap().inspect().await.unwrap()
}

/// The one obstacle there is.
fn only(found: &TargetServer) -> &Obstacle {
    let [one] = &found.obstacles[..] else { panic!("not one obstacle: {found:?}") };
    one
}

/// A database of this server that nothing of ours was made in.
async fn fresh(db: &TestDatabase, name: &str, options: &str) -> PgSettings {
    let database = format!("{}_{name}", db.settings.database);
    db.sql.batch_execute(&format!("CREATE DATABASE {database} {options}")).await.unwrap();
    PgSettings { database, ..db.settings.clone() }
}

async fn plain(settings: &PgSettings) -> Client {
    let password = settings.password.as_ref().unwrap().reveal();
    let PgSettings { user, host, port, database, .. } = settings;
    connect(&format!("postgres://{user}:{password}@{host}:{port}/{database}")).await
}

/// Rows of every catalogue that a check could have written to. Statistics are the server's own affair, and shared
/// catalogues hold what tests beside this one do.
pub(super) async fn catalogues(client: &Client) -> Vec<(String, i64)> {
    let names =
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'
                 AND NOT relisshared AND relname NOT LIKE 'pg_statistic%' ORDER BY 1";
    let mut found = Vec::new();
    for name in client.query(names, &[]).await.unwrap() {
        let name: String = name.get(0);
        let rows = client.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await.unwrap().get(0);
        found.push((name, rows));
    }
    found
}

#[tokio::test]
async fn looking_at_an_empty_database_writes_nothing() {
    let db = TestDatabase::new().await;
    assert_eq!(inspected(&db.settings).await, TargetServer { bookkeeping: Bookkeeping::Ready, obstacles: vec![] });
    let settings = fresh(&db, "empty", "").await;
    let client = plain(&settings).await;
    let before = catalogues(&client).await;
    assert!(before.iter().any(|(name, rows)| name == "pg_namespace" && *rows > 2), "{before:?}");
    let target = PgTarget::new(&settings, PLAN).unwrap();
    let found = target.inspect().await.unwrap();
    assert_eq!(found, TargetServer { bookkeeping: Bookkeeping::Absent, obstacles: vec![] });
    assert!(!target.describe(&books()).await.unwrap().exists);
    assert!(target.sequences(&[books()]).await.unwrap().is_empty());
    target.claimable(&[books()]).await.unwrap();
    assert_eq!(catalogues(&client).await, before);
    target.prepare().await.unwrap();
    assert_eq!(target.inspect().await.unwrap().bookkeeping, Bookkeeping::Ready);
    assert_ne!(catalogues(&client).await, before, "what is counted would show it");
    // A bookkeeping of an older version, or one from which somebody removed something.
    client.batch_execute("DROP TABLE cutover.lane").await.unwrap();
    assert_eq!(target.inspect().await.unwrap().bookkeeping, Bookkeeping::Older);
}

#[tokio::test]
async fn a_database_that_does_not_hold_every_text_is_refused() {
    let db = TestDatabase::new().await;
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let options = format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        let settings = fresh(&db, &encoding.to_lowercase(), &options).await;
        let found = inspected(&settings).await;
        let wrong = only(&found);
        assert!(wrong.wrong.contains(&format!("is encoded in {encoding}")) && !wrong.rights, "{wrong:?}");
        assert!(wrong.advice.contains("ENCODING 'UTF8' TEMPLATE template0"), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_server_or_role_that_does_not_write_is_refused_with_where_it_is_set() {
    let db = TestDatabase::new().await;
    let settings = fresh(&db, "still", "").await;
    let (database, role) = (&settings.database, format!("still_{}", db.settings.database));
    db.sql.batch_execute(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'")).await.unwrap();
    let as_role = PgSettings { user: role.clone(), password: Some(Secret::new("pw")), ..settings.clone() };
    for place_of_it in [
        format!("DATABASE \"{database}\""),
        format!("ROLE \"{role}\""),
        format!("ROLE \"{role}\" IN DATABASE \"{database}\""),
    ] {
        let set = format!("ALTER {place_of_it} SET default_transaction_read_only = on");
        db.sql.batch_execute(&set).await.unwrap();
        let found = inspected(&as_role).await;
        let wrong = only(&found);
        assert!(wrong.wrong.contains("default_transaction_read_only"), "{wrong:?}");
        let advised = format!("ALTER {place_of_it} RESET default_transaction_read_only");
        assert!(wrong.advice.starts_with(&advised), "{wrong:?}");
        // What is advised helps.
        db.sql.batch_execute(&advised).await.unwrap();
        assert_eq!(inspected(&as_role).await.obstacles, []);
    }
}

#[tokio::test]
async fn a_standby_is_refused() {
    let standby = tokio::task::spawn_blocking(|| {
        PrivatePostgres::start(&PostgresOptions { standby: true, ..PostgresOptions::default() }, |_| {}).unwrap()
    });
    let standby = standby.await.unwrap();
    let settings = PgSettings {
        host: standby.host.clone(),
        port: standby.port,
        database: standby.database.clone(),
        user: standby.user.clone(),
        password: Some(standby.password.clone()),
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: 2,
    };
    let found = inspected(&settings).await;
    let wrong = only(&found);
    assert!(wrong.wrong.contains("standby") && wrong.advice.contains("primary"), "{wrong:?}");
}

#[tokio::test]
async fn rights_that_the_bookkeeping_needs_are_asked_for_and_what_is_advised_grants_them() {
    let db = TestDatabase::new().await;
    let settings = fresh(&db, "rights", "").await;
    let admin = plain(&settings).await;
    let role = format!("keeper_{}", db.settings.database);
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await.unwrap();
    let as_role = PgSettings { user: role.clone(), password: Some(Secret::new("pw")), ..settings.clone() };
    let denied = async |words: &[&str]| {
        let found = inspected(&as_role).await;
        let wrong = only(&found).clone();
        assert!(wrong.rights && words.iter().all(|w| wrong.wrong.contains(w)), "{wrong:?}");
        wrong.advice
    };
    let advice = denied(&["may not make the schema cutover"]).await;
    let mut each = advice.split("; or ");
    let (grant, own) = (each.next().unwrap(), each.next().unwrap());
    admin.batch_execute(grant).await.unwrap();
    assert_eq!(inspected(&as_role).await.obstacles, []);
    let database = &settings.database;
    admin.batch_execute(&format!("REVOKE CREATE ON DATABASE \"{database}\" FROM \"{role}\"")).await.unwrap();
    admin.batch_execute(own).await.unwrap();
    assert_eq!(inspected(&as_role).await.obstacles, []);
    PgTarget::new(&as_role, PLAN).unwrap().prepare().await.unwrap();
    assert_eq!(inspected(&as_role).await.bookkeeping, Bookkeeping::Ready);

    admin.batch_execute(&format!("REVOKE TEMPORARY ON DATABASE \"{database}\" FROM PUBLIC")).await.unwrap();
    let advice = denied(&["may not make temporary tables"]).await;
    admin.batch_execute(&advice).await.unwrap();
    assert_eq!(inspected(&as_role).await.obstacles, []);

    // Somebody else's bookkeeping.
    admin.batch_execute("DROP SCHEMA cutover CASCADE").await.unwrap();
    PgTarget::new(&settings, PLAN).unwrap().prepare().await.unwrap();
    let advice = denied(&["may not use and extend the schema cutover"]).await;
    admin.batch_execute(&advice).await.unwrap();
    denied(&["belong to", "refuse()", "load_checkpoint"]).await;
    assert_eq!(inspected(&as_role).await.bookkeeping, Bookkeeping::Older);
}
