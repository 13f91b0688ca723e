//! A primary key is set aside only where no key comes twice and nothing needs it, and comes back as it was.

use super::{TestDatabase, checkpoint, column, key, table};
use crate::domain::mapping::Mapped;
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::Cell;
use crate::ports::{Checkpoint, Partition, SetAside, Target as _};

fn notes() -> Table {
    table(
        "notes",
        vec![key("id", ColumnType::Bigint), column("text", ColumnType::Text)],
        "CREATE TABLE notes (id bigint, text text CHECK (text <> 'bad'), CONSTRAINT \"the key; of (it)\" PRIMARY KEY (id));
         CREATE INDEX notes_id ON notes (id);",
    )
}

async fn db() -> (TestDatabase, Table) {
    let db = TestDatabase::new().await;
    assert!(db.create(&notes()).await.unwrap());
    (db, notes())
}

fn note(id: i64, text: &str) -> Mapped<'static> {
    Mapped {
        key: id.to_string(),
        key_json: format!("{{\"id\":{{\"N\":\"{id}\"}}}}"),
        row: vec![Cell::Int(id), Cell::Text(text.to_owned().into())],
        children: vec![],
    }
}

async fn load(db: &TestDatabase, table: &Table, part: u32, rows: &[Mapped<'static>]) -> crate::ports::Applied {
    let part = Partition { index: part, of: 2 };
    let mut bulk = db.target.bulk(table, part).await.unwrap();
    rows.iter().for_each(|row| bulk.push(row).unwrap());
    bulk.flush(vec![], &Checkpoint { part, done: true, ..checkpoint(rows.len() as u64) }).await.unwrap()
}

/// Constraints and indexes of the table.
async fn defined(db: &TestDatabase) -> Vec<String> {
    let sql = "SELECT indexdef FROM pg_indexes WHERE tablename = 'notes' UNION ALL
               SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
               WHERE conrelid = 'notes'::regclass AND contype <> 'n' ORDER BY 1";
    db.sql.query(sql, &[]).await.unwrap().iter().map(|r| r.get(0)).collect()
}

fn names(all: Vec<SetAside>) -> Vec<String> {
    all.into_iter().map(|i| i.name).collect()
}

const KEY: &str = "public.\"the key; of (it)\"";

#[tokio::test]
async fn rows_that_were_read_twice_leave_one_and_the_key_comes_back_as_it_was() {
    let (db, table) = db().await;
    let before = defined(&db).await;
    assert_eq!(names(db.target.begin_load(&table, None, true).await.unwrap()), ["public.notes_id", KEY]);
    assert_eq!(names(db.target.begin_load(&table, None, true).await.unwrap()), Vec::<String>::new(), "once");
    load(&db, &table, 0, &[note(1, "as it was"), note(2, "two")]).await;
    // Updated meanwhile, it is read where it is now; and a row that the table refuses is parked as ever.
    let applied = load(&db, &table, 1, &[note(1, "as it is"), note(3, "bad"), note(4, "four")]).await;
    assert_eq!((applied.upserted, applied.parked.len()), (2, 1));
    assert_eq!(db.number("SELECT count(*) FROM notes").await, 4);
    db.target.finish_load(&table).await.unwrap();
    assert_eq!(defined(&db).await, before);
    assert_eq!(db.number("SELECT count(*) FROM notes").await, 3);
    assert_eq!(db.text("SELECT text FROM notes WHERE id = 1").await.as_deref(), Some("as it is"));
    assert!(db.target.set_aside(&table).await.unwrap().is_empty());
    db.target.finish_load(&table).await.unwrap();
}

#[tokio::test]
async fn wherever_it_is_interrupted_the_key_is_there_or_written_down() {
    let (db, table) = db().await;
    let before = defined(&db).await;
    for built_by_hand in [0, 1, 2] {
        db.target.begin_load(&table, None, true).await.unwrap();
        load(&db, &table, 0, &[note(1, "one")]).await;
        let sql = format!("SELECT definition FROM cutover.set_aside WHERE name = '{KEY}'");
        let definition = db.text(&sql).await.unwrap();
        let (build, attach) = definition.split_once("; ALTER").unwrap();
        // Killed after the index was built, or a person did all of it.
        if built_by_hand > 0 {
            db.sql.batch_execute(build).await.unwrap();
        }
        if built_by_hand > 1 {
            db.sql.batch_execute(&format!("ALTER{attach}")).await.unwrap();
        }
        let (a, b) = tokio::join!(db.target.finish_load(&table), db.target.finish_load(&table));
        a.and(b).unwrap();
        assert_eq!(defined(&db).await, before, "{built_by_hand}");
        // Begun anew, and given up: emptying the table builds it again.
        db.target.reset(&table).await.unwrap();
        db.target.begin_load(&table, None, true).await.unwrap();
        load(&db, &table, 0, &[note(1, "one"), note(1, "again")]).await;
        db.target.reset(&table).await.unwrap();
        assert_eq!(defined(&db).await, before, "{built_by_hand}");
    }
}

#[tokio::test]
async fn a_key_that_something_needs_or_that_may_come_twice_stays() {
    let (db, table) = db().await;
    assert_eq!(names(db.target.begin_load(&table, None, false).await.unwrap()), ["public.notes_id"]);
    for (makes, unmakes) in [
        ("CREATE TABLE refers (id bigint REFERENCES notes)", "DROP TABLE refers"),
        ("CREATE VIEW grouped AS SELECT id, text FROM notes GROUP BY id", "DROP VIEW grouped"),
        ("ALTER TABLE notes REPLICA IDENTITY FULL", "ALTER TABLE notes REPLICA IDENTITY DEFAULT"),
        ("CREATE PUBLICATION theirs FOR TABLE notes", "DROP PUBLICATION theirs"),
        ("CREATE TABLE part () INHERITS (notes)", "DROP TABLE part"),
        ("CREATE UNIQUE INDEX other ON notes (text)", "DROP INDEX other"),
        (
            "CREATE TRIGGER t BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "DROP TRIGGER t ON notes",
        ),
        (
            "COMMENT ON CONSTRAINT \"the key; of (it)\" ON notes IS 'ours'",
            "COMMENT ON CONSTRAINT \"the key; of (it)\" ON notes IS NULL",
        ),
    ] {
        db.target.reset(&table).await.unwrap();
        db.sql.batch_execute(makes).await.unwrap();
        assert_eq!(names(db.target.begin_load(&table, None, true).await.unwrap()), ["public.notes_id"], "{makes}");
        db.sql.batch_execute(unmakes).await.unwrap();
    }
    // Columns that are not the plan's key.
    db.target.reset(&table).await.unwrap();
    let mut other = notes();
    other.columns[1].key = true;
    assert_eq!(names(db.target.begin_load(&other, None, true).await.unwrap()), ["public.notes_id"]);
    // Something is mapped: two records may become one row.
    db.target.reset(&table).await.unwrap();
    let mut mapped = notes();
    mapped.columns[1].from = crate::domain::plan::ColumnSource::Constant("x".into());
    assert_eq!(names(db.target.begin_load(&mapped, None, true).await.unwrap()), ["public.notes_id"]);
}

#[tokio::test]
async fn after_a_load_that_never_ended_a_key_that_a_person_made_is_the_key() {
    let (db, table) = db().await;
    db.target.begin_load(&table, None, true).await.unwrap();
    load(&db, &table, 0, &[note(1, "one")]).await;
    let found = db.target.describe(&table).await.unwrap();
    assert!(found.problems.is_empty(), "it can begin again: {found:?}");
    assert!(found.notices.iter().any(|n| n.contains("its key is set aside")), "{found:?}");
    db.sql.batch_execute("ALTER TABLE notes ADD PRIMARY KEY (id)").await.unwrap();
    db.target.finish_load(&table).await.unwrap();
    assert!(db.target.set_aside(&table).await.unwrap().is_empty());
    let keys = "SELECT count(*) FROM pg_index WHERE indrelid = 'notes'::regclass AND indisunique";
    assert_eq!(db.number(keys).await, 1);
}

#[tokio::test]
async fn a_row_that_is_refused_leaves_no_older_version_of_itself_without_the_key_either() {
    let (db, table) = db().await;
    db.target.begin_load(&table, None, true).await.unwrap();
    load(&db, &table, 0, &[note(1, "as it was"), note(2, "two")]).await;
    let applied = load(&db, &table, 1, &[note(1, "bad"), note(3, "three"), note(4, "bad")]).await;
    assert_eq!(applied.parked.len(), 2);
    assert_eq!(db.number("SELECT count(*) FROM notes WHERE id IN (1, 4)").await, 0);
    db.target.finish_load(&table).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM notes").await, 2);
}

#[tokio::test]
async fn a_table_is_not_given_up_without_its_key_because_a_column_has_another_name() {
    let (db, table) = db().await;
    let before = defined(&db).await;
    db.target.begin_load(&table, None, true).await.unwrap();
    db.sql.batch_execute("ALTER TABLE notes RENAME id TO number").await.unwrap();
    let refused = db.target.disown().await.unwrap_err();
    assert!(refused.advice.contains("PRIMARY KEY USING INDEX"), "{refused}");
    assert!(names(db.target.set_aside(&table).await.unwrap()).contains(&KEY.to_owned()), "it is written down still");
    db.sql.batch_execute("ALTER TABLE notes RENAME number TO id").await.unwrap();
    db.target.disown().await.unwrap();
    assert_eq!(defined(&db).await, before);
}
