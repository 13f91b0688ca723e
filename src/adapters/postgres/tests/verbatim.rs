//! Rows that go from one database to another as they are, and those that may not.

use super::{PLAN, TestDatabase, column, key};
use crate::adapters::postgres::source::PgSource;
use crate::domain::plan::{ColumnType, Fallback, Table};
use crate::ports::{Checkpoint, Partition, Source as _, Target as _};

const WHOLE: Partition = Partition { index: 0, of: 1 };

fn things() -> Table {
    use ColumnType as T;
    let columns = vec![
        key("id", T::Bigint),
        column("code", T::Varchar(5)),
        column("amount", T::Numeric(Some((10, 2)))),
        column("at", T::Timestamptz),
        column("doc", T::Jsonb),
    ];
    Table {
        key: vec!["id".into()],
        columns,
        target: "public.things".into(),
        marker_prefix: "marker-".into(),
        ..Table::watched("things", "public.things")
    }
}

const TARGET: &str = "CREATE TABLE things (id bigint PRIMARY KEY, code varchar(5) UNIQUE, amount numeric(10,2), at timestamptz, doc jsonb)";

/// The first page of a source table like this, with these rows, and a target for it.
async fn both(source: &str, rows: &str) -> (TestDatabase, TestDatabase, PgSource) {
    let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
    old.sql.batch_execute(&format!("CREATE TABLE things ({source}); INSERT INTO things VALUES {rows}")).await.unwrap();
    new.sql.batch_execute(TARGET).await.unwrap();
    let source = PgSource::new(&old.settings, PLAN).unwrap();
    new.target.claim("run-1", &[things()]).await.unwrap();
    (old, new, source)
}

/// How many rows were taken as they are; `None` where they have to be mapped.
async fn taken(table: &Table, source: &str, rows: &str) -> Option<u64> {
    let (_old, new, source) = both(source, rows).await;
    let page = source.page(table, WHOLE, None).await.unwrap();
    let mut bulk = new.target.bulk(table, WHOLE).await.unwrap();
    bulk.push_copied(&source.copied(&page).unwrap()).unwrap()
}

const SAME: &str = "id bigint PRIMARY KEY, code varchar(5), amount numeric(10,2), at timestamptz, doc jsonb";

#[tokio::test]
async fn rows_arrive_as_they_are_and_those_that_are_refused_are_parked_under_their_keys() {
    let rows = "(1, 'a', 1.10, 'infinity', '{\"b\": 1.0, \"a\": [null]}'), (2, 'b', NULL, '0044-03-15 BC', NULL),
                (3, 'a', -7, now(), '\"x\"'), (-9, NULL, 'NaN', NULL, NULL)";
    let (old, new, source) = both(SAME, rows).await;
    let page = source.page(&things(), WHOLE, None).await.unwrap();
    let mut bulk = new.target.bulk(&things(), WHOLE).await.unwrap();
    assert_eq!(bulk.push_copied(&source.copied(&page).unwrap()).unwrap(), Some(4));
    let at = Checkpoint { part: WHOLE, cursor: None, rows: 4, parked: 0, done: true };
    let applied = bulk.flush(Vec::new(), &at).await.unwrap();
    // `a` is there already; which of the two is kept is the order they stand in.
    assert_eq!((applied.upserted, applied.parked.len()), (3, 1));
    assert_eq!((applied.parked[0].key.0.as_str(), applied.parked[0].key_json.as_str()), ("3", r#"{"id":{"N":"3"}}"#));
    let sql = "SELECT t::text FROM things t WHERE id <> 3 ORDER BY id";
    let held = async |db: &TestDatabase| -> Vec<String> {
        db.sql.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(held(&new).await, held(&old).await);
}

#[tokio::test]
async fn what_a_column_would_change_without_a_word_is_mapped_row_by_row() {
    let fits = "(1, 'a', 1.1, now(), '{}')";
    assert_eq!(taken(&things(), SAME, fits).await, Some(1));
    // Digits that would be rounded away, and spaces that would be cut off.
    let longer = "id bigint PRIMARY KEY, code text, amount numeric, at timestamptz, doc jsonb";
    assert_eq!(taken(&things(), longer, fits).await, Some(1));
    assert_eq!(taken(&things(), longer, "(1, 'a', 1.005, now(), '{}')").await, None);
    assert_eq!(taken(&things(), longer, "(1, 'abcde   ', 1.1, now(), '{}')").await, None);
    // Another type, order or number of columns.
    let narrow = SAME.replace("id bigint", "id integer");
    assert_eq!(taken(&things(), &narrow, fits).await, None);
    let turned = "id bigint PRIMARY KEY, amount numeric(10,2), code varchar(5), at timestamptz, doc jsonb";
    assert_eq!(taken(&things(), turned, "(1, 1.1, 'a', now(), '{}')").await, None);
    assert_eq!(taken(&things(), &format!("{SAME}, more text"), "(1, 'a', 1.1, now(), '{}', 'x')").await, None);
    // What is mapped.
    let mut table = things();
    table.columns[1].absent = Fallback::Literal("none".into());
    assert_eq!(taken(&table, SAME, fits).await, None);
}
