//! The target as it is found: described, created, counted.

use super::{Place, book, books, column, key, table};
use crate::domain::gauge::CountKind;
use crate::domain::plan::ColumnType as T;
use crate::ports::{ErrorKind, Target as _};

#[tokio::test]
async fn a_table_that_fits_has_no_problems() {
    let place = Place::new().await;
    let table = books();
    let before = place.target.describe(&table).await.unwrap();
    assert!(!before.exists);
    assert_eq!(before.problems.len(), 2, "{:?}", before.problems);
    assert!(place.target.create(&table).await.unwrap());
    assert!(!place.target.create(&table).await.unwrap());
    let found = place.target.describe(&table).await.unwrap();
    assert!(found.exists);
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.key, vec!["id"]);
    assert_eq!(found.columns[1], ("title".to_owned(), "character varying(20)".to_owned()));
    assert_eq!(found.columns.len(), 6);
}

#[tokio::test]
async fn what_does_not_fit_is_listed() {
    let place = Place::new().await;
    let mut table = table(
        "shop.odd",
        vec![key("id", T::Uuid), column("missing", T::Text), column("cut", T::Varchar(50)), column("made", T::Text)],
        r#"CREATE SCHEMA shop; CREATE TABLE shop.odd (id uuid, cut varchar(10), made text GENERATED ALWAYS AS ('x') STORED,
           needed integer NOT NULL, has_default integer NOT NULL DEFAULT 0, serial bigint GENERATED ALWAYS AS IDENTITY)"#,
    );
    place.target.create(&table).await.unwrap();
    let problems = place.target.describe(&table).await.unwrap().problems;
    for (part, of) in [
        ("no column missing", 0),
        ("odd.cut is character varying(10)", 1),
        ("odd.made is generated", 2),
        ("odd.needed must", 3),
        ("no primary key", 4),
    ] {
        assert!(problems[of].contains(part), "{part}: {problems:?}");
    }
    assert_eq!(problems.len(), 5, "{problems:?}");
    place.sql.batch_execute("ALTER TABLE shop.odd ADD PRIMARY KEY (needed)").await.unwrap();
    let problems = place.target.describe(&table).await.unwrap().problems;
    assert!(problems.iter().any(|p| p.contains("primary key (needed), the plan says (id)")), "{problems:?}");

    table.target = "elsewhere".into();
    let error = place.target.create(&table).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    table.ddl = None;
    assert_eq!(place.target.create(&table).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn ddl_that_fails_half_way_leaves_nothing() {
    let place = Place::new().await;
    let table = table("half", vec![key("id", T::Text)], "CREATE TABLE half (id text PRIMARY KEY); SELECT 1/0");
    place.target.create(&table).await.unwrap_err();
    assert!(!place.target.describe(&table).await.unwrap().exists);
}

#[tokio::test]
async fn counts_say_how_they_were_come_by() {
    let (place, table) = Place::with_books().await;
    let unknown = place.target.count(&table, false).await.unwrap();
    assert_eq!((unknown.rows, unknown.kind), (None, CountKind::Unknown));
    place.load(&table, &(0..120).map(|n| book(n, "x", &["t"])).collect::<Vec<_>>()).await;
    let exact = place.target.count(&table, true).await.unwrap();
    assert_eq!((exact.rows, exact.kind), (Some(120), CountKind::Exact));
    place.target.finish_load(&table).await.unwrap();
    let estimated = place.target.count(&table, false).await.unwrap();
    assert_eq!((estimated.rows, estimated.kind), (Some(120), CountKind::Estimated));
    let nowhere = super::table("nowhere", vec![key("id", T::Text)], "");
    assert_eq!(place.target.count(&nowhere, true).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(place.target.count(&nowhere, false).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn anybody_s_writes_are_counted() {
    let (place, table) = Place::with_books().await;
    let tables = [table];
    let before = place.target.writes(&tables).await.unwrap();
    place
        .sql
        .batch_execute(
            "INSERT INTO books (id, title) SELECT gen_random_uuid(), 'x' FROM generate_series(1, 5);
             UPDATE books SET title = 'y'; SELECT pg_stat_force_next_flush()",
        )
        .await
        .unwrap();
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while place.target.writes(&tables).await.unwrap() < before + 10 {
        assert!(tokio::time::Instant::now() < limit, "the counter never moved");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(place.target.writes(&tables).await.unwrap(), before + 10);
}

#[tokio::test]
async fn preparing_twice_at_once_is_fine() {
    let place = Place::new().await;
    place.sql.batch_execute("DROP SCHEMA cutover CASCADE").await.unwrap();
    let (a, b, c) = tokio::join!(place.target.prepare(), place.target.prepare(), place.target.prepare());
    a.and(b).and(c).unwrap();
}
