//! Indexes step aside only where that is safe, and are always there again or written down.

use super::{Place, book, books, checkpoint};
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

async fn place() -> (Place, Table) {
    let place = Place::new().await;
    let mut table = books();
    table.ddl.as_mut().unwrap().push_str(MORE);
    assert!(place.target.create(&table).await.unwrap());
    (place, table)
}

async fn defined(place: &Place) -> Vec<String> {
    let sql = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1";
    place.sql.query(sql, &[]).await.unwrap().iter().map(|r| r.get(0)).collect()
}

fn done() -> Checkpoint {
    Checkpoint { cursor: None, done: true, part: Partition { index: 0, of: 1 }, ..checkpoint(1) }
}

#[tokio::test]
async fn only_indexes_that_refuse_nothing_go_and_all_come_back_as_they_were() {
    let (place, table) = place().await;
    let before = defined(&place).await;
    let names = |all: Vec<crate::ports::SetAside>| all.into_iter().map(|i| i.name).collect::<Vec<_>>();
    let gone = names(place.target.begin_load(&table, None).await.unwrap());
    assert_eq!(gone, ["public.tags_place", "public.books_title", "public.\"books Price\"", "public.books_words"]);
    assert_eq!(defined(&place).await.len(), before.len() - 4);
    // A second look, as after a crash, changes nothing and forgets nothing.
    assert!(place.target.begin_load(&table, None).await.unwrap().is_empty());
    assert_eq!(place.target.set_aside(&table).await.unwrap().len(), 4);

    place.load(&table, &[book(1, "one", &["a"])]).await;
    assert!(place.target.begin_load(&table, Some(true)).await.unwrap().is_empty());
    place.target.finish_load(&table).await.unwrap();
    assert_eq!(defined(&place).await, before);
    assert!(place.target.set_aside(&table).await.unwrap().is_empty());
    place.target.finish_load(&table).await.unwrap();
    assert_eq!(defined(&place).await, before);
}

#[tokio::test]
async fn a_load_that_was_interrupted_anywhere_finds_its_indexes_again() {
    let (place, table) = place().await;
    let before = defined(&place).await;
    place.target.begin_load(&table, None).await.unwrap();
    let mut bulk = place.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
    bulk.push(&book(1, "one", &[])).unwrap();
    bulk.flush(vec![], &done()).await.unwrap();
    // Killed between two indexes: one is back and forgotten, one is back by hand, two are aside.
    let one = "DELETE FROM cutover.set_aside WHERE name = 'public.books_title' RETURNING definition";
    let one = place.text(one).await.unwrap();
    place.sql.batch_execute(&one).await.unwrap();
    let two = "SELECT definition FROM cutover.set_aside WHERE name = 'public.books_words'";
    let two = place.text(two).await.unwrap();
    place.sql.batch_execute(&two).await.unwrap();
    let (a, b) = tokio::join!(place.target.finish_load(&table), place.target.finish_load(&table));
    a.and(b).unwrap();
    assert_eq!(defined(&place).await, before);

    // Given up and begun anew: emptying the table brings them back.
    place.target.reset(&table).await.unwrap();
    assert_eq!(place.target.begin_load(&table, None).await.unwrap().len(), 4);
    place.target.reset(&table).await.unwrap();
    assert_eq!(defined(&place).await, before);
    assert!(place.target.set_aside(&table).await.unwrap().is_empty());
}

#[tokio::test]
async fn tables_that_are_not_ours_not_empty_or_in_use_keep_their_indexes() {
    let (place, table) = place().await;
    let before = defined(&place).await;
    assert!(place.target.begin_load(&table, Some(false)).await.unwrap().is_empty());
    place.sql.batch_execute("DELETE FROM cutover.created").await.unwrap();
    assert!(place.target.begin_load(&table, None).await.unwrap().is_empty());
    // Somebody reads the table in a transaction of their own.
    place.sql.batch_execute("BEGIN; SELECT * FROM books").await.unwrap();
    assert!(place.target.begin_load(&table, Some(true)).await.unwrap().is_empty());
    place.sql.batch_execute("COMMIT; INSERT INTO books (id, title) VALUES (gen_random_uuid(), 'x')").await.unwrap();
    assert!(place.target.begin_load(&table, Some(true)).await.unwrap().is_empty());
    assert_eq!(defined(&place).await, before);
    assert!(place.target.set_aside(&table).await.unwrap().is_empty());
}
