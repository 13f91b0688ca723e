//! The target as it is found: described, created, counted.

use super::{TestDatabase, book, books, column, key, table};
use crate::domain::gauge::CountKind;
use crate::domain::plan::ColumnType as T;
use crate::ports::{ErrorKind, Target as _};

#[tokio::test]
async fn a_table_that_fits_has_no_problems() {
    let db = TestDatabase::new().await;
    let table = books();
    let before = db.target.describe(&table).await.unwrap();
    assert!(!before.exists);
    assert_eq!(before.problems.len(), 2, "{:?}", before.problems);
    assert!(db.create(&table).await.unwrap());
    assert!(!db.create(&table).await.unwrap());
    let found = db.target.describe(&table).await.unwrap();
    assert!(found.exists);
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.key, vec!["id"]);
    assert_eq!(found.columns[1], ("title".to_owned(), "character varying(20)".to_owned()));
    assert_eq!(found.columns.len(), 6);
}

#[tokio::test]
async fn what_does_not_fit_is_listed() {
    let db = TestDatabase::new().await;
    let mut table = table(
        "shop.odd",
        vec![key("id", T::Uuid), column("missing", T::Text), column("cut", T::Varchar(50)), column("made", T::Text)],
        r#"CREATE SCHEMA shop; CREATE TABLE shop.odd (id uuid, cut varchar(10), made text GENERATED ALWAYS AS ('x') STORED,
           needed integer NOT NULL, has_default integer NOT NULL DEFAULT 0, serial bigint GENERATED ALWAYS AS IDENTITY)"#,
    );
    db.create(&table).await.unwrap();
    let problems = db.target.describe(&table).await.unwrap().problems;
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
    db.sql.batch_execute("ALTER TABLE shop.odd ADD PRIMARY KEY (needed)").await.unwrap();
    let problems = db.target.describe(&table).await.unwrap().problems;
    assert!(problems.iter().any(|p| p.contains("primary key (needed), the plan says (id)")), "{problems:?}");

    table.target = "elsewhere".into();
    let error = db.create(&table).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    table.ddl = None;
    assert_eq!(db.create(&table).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn what_fits_and_may_surprise_is_noted() {
    let (db, table) = TestDatabase::with_books().await;
    let said = |notices: Vec<String>| notices.join("\n");
    let before = said(db.target.describe(&table).await.unwrap().notices);
    assert!(before.contains("books.title must not be null"), "{before}");
    assert!(!before.contains("trigger") && !before.contains("book_id"), "{before}");
    db.sql
        .batch_execute(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER touched BEFORE UPDATE ON books FOR EACH ROW EXECUTE FUNCTION touch();
             CREATE TRIGGER cutover_capture AFTER UPDATE ON books FOR EACH ROW EXECUTE FUNCTION touch();
             ALTER TABLE book_tags DROP CONSTRAINT book_tags_book_id_fkey;
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'books_isbn_key'::regclass",
        )
        .await
        .unwrap();
    let found = db.target.describe(&table).await.unwrap();
    let notices = said(found.notices);
    assert!(notices.contains("book_tags (book_id): no valid foreign key"), "{notices}");
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(found.problems[0].contains("books_isbn_key is not valid"), "{:?}", found.problems);
    assert!(found.problems[1].contains("the trigger touched would fire"), "{:?}", found.problems);
}

#[tokio::test]
async fn parts_of_a_scan_are_the_whole_and_orphans_are_found() {
    let (db, table) = TestDatabase::with_books().await;
    db.load(&table, &(0..700).map(|n| book(n, "some title", &["a", "b"])).collect::<Vec<_>>()).await;
    db.sql.batch_execute("DELETE FROM books WHERE id::text LIKE '%7'").await.unwrap_err();
    for (child, rows) in [(None, 700), (Some(0), 1400)] {
        let mut each = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for index in 0..3 {
            let mut here = 0;
            let part = crate::ports::Partition { index, of: 3 };
            let mut visit = |row: &[crate::domain::value::Cell<'_>]| {
                here += 1;
                seen.insert(format!("{row:?}"));
            };
            db.target.scan_part(&table, child, part, &mut visit).await.unwrap();
            each.push(here);
        }
        assert_eq!((each.iter().sum::<i32>(), seen.len()), (rows, rows as usize), "{each:?}");
        assert!(each.iter().all(|n| *n > 0), "one part did everything: {each:?}");
    }
    // It grows between two parts, as it does under somebody who follows: what was there is read all the same.
    let mut seen = std::collections::HashSet::new();
    for index in 0..4 {
        let part = crate::ports::Partition { index, of: 4 };
        let mut visit = |row: &[crate::domain::value::Cell<'_>]| {
            seen.insert(format!("{:?}", row[0]));
        };
        db.target.scan_part(&table, None, part, &mut visit).await.unwrap();
        let more = 1_000 + 700 * index;
        db.load(&table, &(more..more + 700).map(|n| book(n, "some title", &[])).collect::<Vec<_>>()).await;
    }
    let missed =
        (0..700).filter(|n| !seen.contains(&format!("{:?}", crate::domain::value::Cell::Uuid(super::uuid_of(*n)))));
    assert_eq!(missed.collect::<Vec<_>>(), [0_u32; 0]);
    db.sql.batch_execute("DELETE FROM books WHERE isbn ~ '^isbn-[0-9]{4}'").await.unwrap();
    // Rows of tables that inherit are rows of it, and in none of its own blocks.
    db.sql
        .batch_execute(
            "CREATE TABLE family (id text PRIMARY KEY); CREATE TABLE child () INHERITS (family);
             INSERT INTO child SELECT n::text FROM generate_series(1, 9) n",
        )
        .await
        .unwrap();
    let family = super::table("family", vec![key("id", T::Text)], "");
    let mut rows = 0;
    for index in 0..4 {
        let part = crate::ports::Partition { index, of: 4 };
        db.target.scan_part(&family, None, part, &mut |_| rows += 1).await.unwrap();
    }
    assert_eq!(rows, 9);
    let authors = super::table("authors", vec![key("id", T::Text)], "");
    let mut linked = table.clone();
    linked.foreign_keys =
        vec![crate::domain::plan::ForeignKey { columns: vec!["author".into()], references: "authors".into() }];
    let tables = [authors, linked.clone()];
    let none = db.target.orphans(&linked, &tables, 5).await.unwrap();
    assert_eq!(none.iter().map(|o| (o.table.as_str(), o.rows)).collect::<Vec<_>>(), [("books", 0), ("book_tags", 0)]);
    db.sql
        .batch_execute(
            "ALTER TABLE books DROP CONSTRAINT books_author_fkey;
             ALTER TABLE book_tags DROP CONSTRAINT book_tags_book_id_fkey;
             UPDATE books SET author = 'nobody' WHERE title = 'some title' AND isbn IN ('isbn-1', 'isbn-2');
             DELETE FROM books WHERE isbn = 'isbn-9'",
        )
        .await
        .unwrap();
    let found = db.target.orphans(&linked, &tables, 1).await.unwrap();
    assert_eq!((found[0].rows, found[0].keys.len()), (2, 1));
    assert_eq!(found[0].keys[0], super::key_of(1));
    assert_eq!((found[1].rows, found[1].parent.as_str()), (2, "books"));
    assert_eq!(found[1].keys, [super::key_of(9)]);
}

#[tokio::test]
async fn ddl_that_fails_half_way_leaves_nothing() {
    let db = TestDatabase::new().await;
    let table = table("half", vec![key("id", T::Text)], "CREATE TABLE half (id text PRIMARY KEY); SELECT 1/0");
    db.create(&table).await.unwrap_err();
    assert!(!db.target.describe(&table).await.unwrap().exists);
}

#[tokio::test]
async fn counts_say_how_they_were_come_by() {
    let (db, table) = TestDatabase::with_books().await;
    let unknown = db.target.count(&table, false).await.unwrap();
    assert_eq!((unknown.rows, unknown.kind), (None, CountKind::Unknown));
    db.load(&table, &(0..120).map(|n| book(n, "x", &["t"])).collect::<Vec<_>>()).await;
    let exact = db.target.count(&table, true).await.unwrap();
    assert_eq!((exact.rows, exact.kind), (Some(120), CountKind::Exact));
    db.target.finish_load(&table).await.unwrap();
    let estimated = db.target.count(&table, false).await.unwrap();
    assert_eq!((estimated.rows, estimated.kind), (Some(120), CountKind::Estimated));
    let nowhere = super::table("nowhere", vec![key("id", T::Text)], "");
    assert_eq!(db.target.count(&nowhere, true).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(db.target.count(&nowhere, false).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn anybody_s_writes_are_counted() {
    let (db, table) = TestDatabase::with_books().await;
    let tables = [table];
    let before = db.target.writes(&tables).await.unwrap();
    db.sql
        .batch_execute(
            "INSERT INTO books (id, title) SELECT gen_random_uuid(), 'x' FROM generate_series(1, 5);
             UPDATE books SET title = 'y'; SELECT pg_stat_force_next_flush()",
        )
        .await
        .unwrap();
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    while db.target.writes(&tables).await.unwrap() < before + 10 {
        assert!(tokio::time::Instant::now() < limit, "the counter never moved");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(db.target.writes(&tables).await.unwrap(), before + 10);
}

#[tokio::test]
async fn preparing_twice_at_once_is_fine() {
    let db = TestDatabase::new().await;
    db.sql.batch_execute("DROP SCHEMA cutover CASCADE").await.unwrap();
    let (a, b, c) = tokio::join!(db.target.prepare(), db.target.prepare(), db.target.prepare());
    a.and(b).and(c).unwrap();
}
