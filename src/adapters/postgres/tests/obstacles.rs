//! What keeps changes of a source from being captured is told all at once, and nothing is changed by asking.

use std::sync::Arc;

use super::{TestDatabase, column, key};
use crate::adapters::postgres::PgSettings;
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::plan::{ColumnType, Table};
use crate::domain::secret::Secret;
use crate::ports::{Changes as _, Obstacle};

const TABLES: [&str; 7] = ["good", "keyless", "unlogged", "nothing", "hidden", "parts", "gone"];

fn tables() -> Vec<Table> {
    let table = |id: &str| Table {
        key: vec!["id".into()],
        columns: vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text)],
        marker_prefix: "marker-".into(),
        ..Table::watched(id, &format!("public.{id}"))
    };
    TABLES.iter().map(|id| table(id)).collect()
}

fn changes(settings: &PgSettings) -> PgChanges {
    let source = Arc::new(PgSource::new(settings, super::PLAN).unwrap());
    PgChanges::new(source, settings.clone(), tables())
}

fn says<'o>(found: &'o [Obstacle], words: &str) -> Option<&'o Obstacle> {
    found.iter().find(|o| o.wrong.contains(words))
}

#[tokio::test]
async fn everything_that_stands_in_the_way_is_told_at_once_and_nothing_is_touched() {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute(
            "CREATE TABLE good (id bigint PRIMARY KEY, v text);
             CREATE TABLE keyless (id bigint, v text);
             CREATE UNLOGGED TABLE unlogged (id bigint PRIMARY KEY, v text);
             CREATE TABLE nothing (id bigint PRIMARY KEY, v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
             CREATE TABLE hidden (id bigint PRIMARY KEY, v text); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
             CREATE TABLE parts (id bigint PRIMARY KEY, v text) PARTITION BY RANGE (id);
             CREATE UNLOGGED TABLE parts_1 PARTITION OF parts DEFAULT",
        )
        .await
        .unwrap();
    let found = changes(&db.settings).obstacles(&tables()).await.unwrap();
    for (words, advice) in [
        ("public.keyless: it has no primary key", "ADD PRIMARY KEY"),
        ("public.unlogged: it is UNLOGGED", "SET LOGGED"),
        ("public.nothing: it has the replica identity NOTHING", "REPLICA IDENTITY DEFAULT"),
        ("public.parts: its partition parts_1 is UNLOGGED", "SET LOGGED"),
        ("public.gone: the table does not exist", "schema"),
    ] {
        let obstacle = says(&found, words).unwrap_or_else(|| panic!("{words}: {found:#?}"));
        assert!(obstacle.advice.contains(advice) && !obstacle.rights, "{obstacle:?}");
    }
    // The owner sees every row, and has every right.
    assert_eq!(found.len(), 5, "{found:#?}");

    let role = format!("reader_{}", db.settings.database);
    db.sql
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await
        .unwrap();
    let mut settings = db.settings.clone();
    (settings.user, settings.password) = (role.clone(), Some(Secret::new("pw")));
    let found = changes(&settings).obstacles(&tables()).await.unwrap();
    for (words, advice) in [
        (format!("{role} has no right to read the log"), format!("ALTER ROLE {role} REPLICATION")),
        (format!("{role} has no right to make a publication"), "GRANT CREATE ON DATABASE".to_owned()),
        ("public.good belongs to".to_owned(), "GRANT".to_owned()),
    ] {
        let obstacle = says(&found, &words).unwrap_or_else(|| panic!("{words}: {found:#?}"));
        assert!(obstacle.advice.contains(&advice) && obstacle.rights, "{obstacle:?}");
    }
    assert!(says(&found, "public.hidden: it is under row level security that hides rows").is_some(), "{found:#?}");
    let made = "SELECT (SELECT count(*) FROM pg_publication)
                     + (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())";
    assert_eq!(db.number(made).await, 0);
}

#[tokio::test]
async fn a_plan_that_captures_already_has_nothing_in_its_way() {
    let db = TestDatabase::bare().await;
    db.sql.batch_execute("CREATE TABLE good (id bigint PRIMARY KEY, v text)").await.unwrap();
    let changes = changes(&db.settings);
    let good = &tables()[..1];
    assert_eq!(changes.obstacles(good).await.unwrap(), []);
    changes.enable(&good[0]).await.unwrap();
    assert_eq!(changes.obstacles(good).await.unwrap(), []);
    changes.close().await.unwrap();
}
