//! Indexes are dropped only where that is safe, and at every moment they exist or their definition is stored.

use super::{TestDatabase, book, books, checkpoint};
use crate::domain::plan::Table;
use crate::ports::{Checkpoint, Partition, Target as _};

const MORE: &str = "
    ALTER TABLE books ADD COLUMN seen timestamptz, ADD COLUMN words tsvector, ADD COLUMN free text;
    CREATE INDEX books_title ON books (title) WITH (fillfactor = 70);
    CREATE INDEX \"books Price\" ON books (price DESC, seen);
    CREATE INDEX books_words ON books USING gin (words);
    CREATE UNIQUE INDEX books_pair ON books (title, isbn);
    CREATE INDEX books_free ON books (free);
    CREATE INDEX books_part ON books (title) WHERE price > 1;
    CREATE INDEX books_lower ON books (lower(title));
    CREATE INDEX tags_book ON book_tags (book_id);
    CREATE INDEX tags_place ON book_tags (place, book_id);";

async fn db() -> (TestDatabase, Table) {
    let db = TestDatabase::new().await;
    let mut table = books();
    table.ddl.as_mut().unwrap().push_str(MORE);
    assert!(db.create(&table).await.unwrap());
    (db, table)
}

async fn defined(db: &TestDatabase) -> Vec<String> {
    let sql = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1";
    db.sql.query(sql, &[]).await.unwrap().iter().map(|r| r.get(0)).collect()
}

fn done() -> Checkpoint {
    Checkpoint { cursor: None, done: true, part: Partition { index: 0, of: 1 }, ..checkpoint(1) }
}

#[tokio::test]
async fn only_indexes_that_refuse_nothing_go_and_all_come_back_as_they_were() {
    let (db, table) = db().await;
    let before = defined(&db).await;
    let names = |all: Vec<crate::ports::SetAside>| all.into_iter().map(|i| i.name).collect::<Vec<_>>();
    let gone = names(db.target.begin_load(&table, None, false).await.unwrap());
    assert_eq!(gone, ["public.tags_place", "public.books_title", "public.\"books Price\"", "public.books_words"]);
    assert_eq!(defined(&db).await.len(), before.len() - 4);
    // A second call, as after a crash, changes nothing and forgets nothing.
    assert!(db.target.begin_load(&table, None, false).await.unwrap().is_empty());
    assert_eq!(db.target.set_aside(&table).await.unwrap().len(), 4);

    db.load(&table, &[book(1, "one", &["a"])]).await;
    assert!(db.target.begin_load(&table, Some(true), false).await.unwrap().is_empty());
    db.target.finish_load(&table).await.unwrap();
    assert_eq!(defined(&db).await, before);
    assert!(db.target.set_aside(&table).await.unwrap().is_empty());
    db.target.finish_load(&table).await.unwrap();
    assert_eq!(defined(&db).await, before);
}

#[tokio::test]
async fn a_load_that_was_interrupted_anywhere_finds_its_indexes_again() {
    let (db, table) = db().await;
    let before = defined(&db).await;
    db.target.begin_load(&table, None, false).await.unwrap();
    let mut bulk = db.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
    bulk.push(&book(1, "one", &[])).unwrap();
    bulk.flush(vec![], &done()).await.unwrap();
    // Killed between two indexes: one is built and its record deleted, one was built by hand, two are still dropped.
    let one = "DELETE FROM cutover.set_aside WHERE name = 'public.books_title' RETURNING definition";
    let one = db.text(one).await.unwrap();
    db.sql.batch_execute(&one).await.unwrap();
    let two = "SELECT definition FROM cutover.set_aside WHERE name = 'public.books_words'";
    let two = db.text(two).await.unwrap();
    db.sql.batch_execute(&two).await.unwrap();
    let (a, b) = tokio::join!(db.target.finish_load(&table), db.target.finish_load(&table));
    a.and(b).unwrap();
    assert_eq!(defined(&db).await, before);

    // Given up and begun anew: emptying the table builds them again.
    db.target.reset(&table).await.unwrap();
    assert_eq!(db.target.begin_load(&table, None, false).await.unwrap().len(), 4);
    db.target.reset(&table).await.unwrap();
    assert_eq!(defined(&db).await, before);
    assert!(db.target.set_aside(&table).await.unwrap().is_empty());
}

#[tokio::test]
async fn tables_that_are_not_ours_not_empty_or_in_use_keep_their_indexes() {
    let (db, table) = db().await;
    let before = defined(&db).await;
    assert!(db.target.begin_load(&table, Some(false), false).await.unwrap().is_empty());
    db.sql.batch_execute("DELETE FROM cutover.created").await.unwrap();
    assert!(db.target.begin_load(&table, None, false).await.unwrap().is_empty());
    // Somebody reads the table in a transaction of their own.
    db.sql.batch_execute("BEGIN; SELECT * FROM books").await.unwrap();
    assert!(db.target.begin_load(&table, Some(true), false).await.unwrap().is_empty());
    db.sql.batch_execute("COMMIT; INSERT INTO books (id, title) VALUES (gen_random_uuid(), 'x')").await.unwrap();
    assert!(db.target.begin_load(&table, Some(true), false).await.unwrap().is_empty());
    assert_eq!(defined(&db).await, before);
    assert!(db.target.set_aside(&table).await.unwrap().is_empty());
}
