//! A source at one moment, as text: every value of every type comes back, and nothing moves meanwhile.

use std::pin::pin;

use bytes::Bytes;
use futures::SinkExt as _;

use super::TestDatabase;
use super::natives::{COLUMNS, MADE};
use crate::adapters::postgres::source::PgSource;
use crate::domain::plan::Table;
use crate::ports::Source as _;

/// Types beside those that only the database knows, with values that a number or a document would spoil.
const MORE: &[(&str, &str, &[&str])] = &[
    ("text_", "text", &["E'a \\\\ \"b\" \\n \\t {c}, é'", "''", "'null'"]),
    ("numeric_", "numeric", &["1.10", "'NaN'", "'Infinity'", "1e-30"]),
    ("price", "numeric(10,2)", &["1.1"]),
    ("float_", "double precision", &["0.1", "'-0'", "'NaN'", "1e300"]),
    ("moment", "timestamptz", &["'infinity'", "'2026-11-22 14:47:16.123456+05:30'", "'0044-03-15 12:00:00+00 BC'"]),
    ("jsonb_", "jsonb", &["'{\"a\": 1.10, \"b\": null}'", "'null'", "'\"x\"'"]),
    ("raw", "bytea", &["'\\x00ff'", "''"]),
    ("texts", "text[]", &["ARRAY['a', NULL, '', 'NULL', '{\"}']", "'[0:1]={a,b}'", "'{}'"]),
    ("yes", "boolean", &["true", "false"]),
    ("Odd \"Name", "integer", &["7"]),
];

pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes the table `every` with a column of each type, `restored` like it, and `before` with what it holds. Says how many
/// rows have values; one more has none.
pub(super) async fn every(db: &TestDatabase) -> usize {
    let all: Vec<_> = COLUMNS.iter().chain(MORE).collect();
    let columns: Vec<String> = all.iter().map(|(name, ty, _)| format!("{} {ty}", ident(name))).collect();
    let most = all.iter().map(|(_, _, values)| values.len()).max().unwrap();
    let rows: Vec<String> = (0..most)
        .map(|n| {
            let each = all.iter().map(|(_, ty, values)| format!("({})::{ty}", values[n % values.len()]));
            format!("({n}, {})", each.collect::<Vec<_>>().join(", "))
        })
        .collect();
    // NULL in each column whose type allows it.
    let nulls: Vec<&str> = all.iter().map(|(name, ..)| if *name == "isbn" { "'X'" } else { "NULL" }).collect();
    db.sql
        .batch_execute(&format!(
            "SET lc_monetary = 'C'; {MADE} CREATE TABLE every (id bigint PRIMARY KEY, {}, twice bigint GENERATED ALWAYS AS (id * 2) STORED);
             INSERT INTO every VALUES {}, (100, {});
             CREATE TABLE before AS TABLE every; CREATE TABLE restored (LIKE every INCLUDING GENERATED)",
            columns.join(", "),
            rows.join(", "),
            nulls.join(", ")
        ))
        .await
        .unwrap();
    most
}

#[tokio::test]
async fn every_value_comes_back_from_a_snapshot_which_later_changes_do_not_reach() {
    let db = TestDatabase::bare().await;
    let most = every(&db).await;

    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    let table = Table::watched("every", "public.every");
    let mut snapshot = source.point_in_time(std::slice::from_ref(&table)).await.unwrap().unwrap();
    // What comes later is in no page, and nobody empties the table under it.
    db.sql.batch_execute("DELETE FROM every WHERE id > 2; UPDATE every SET text_ = 'later'").await.unwrap();
    let emptied = db.sql.batch_execute("SET lock_timeout = '100ms'; TRUNCATE every").await;
    assert!(emptied.is_err(), "a snapshot is blind to TRUNCATE");

    let (mut cursor, mut lines, mut records) = (None, Vec::new(), 0);
    loop {
        let page = snapshot.page(&table, cursor.as_ref()).await.unwrap();
        records += page.records;
        lines.extend(page.lines);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let types = snapshot.columns(&table);
    assert_eq!(
        (records, types.len()),
        (most as u64 + 1, COLUMNS.len() + MORE.len() + 1),
        "what is generated is no value of its own"
    );
    assert!(snapshot.moment().contains("snapshot"), "{}", snapshot.moment());
    let names: Vec<String> = types.iter().map(|(name, _)| ident(name)).collect();
    let values = types.iter().map(|(name, ty)| format!("(r ->> '{}')::{ty}", name.replace('\'', "''")));
    let values: Vec<String> = values.collect();
    // As the document says how.
    db.sql.batch_execute("CREATE TEMP TABLE exported (r json)").await.unwrap();
    let copy = "COPY exported FROM STDIN (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')";
    let mut sink = pin!(db.sql.copy_in::<_, Bytes>(copy).await.unwrap());
    sink.send(Bytes::from(lines)).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), records);
    let restore = format!("INSERT INTO restored ({}) SELECT {} FROM exported", names.join(", "), values.join(", "));
    db.sql.batch_execute(&restore).await.unwrap();
    let differing =
        "SELECT count(*) FROM before b FULL JOIN restored r USING (id) WHERE b::text IS DISTINCT FROM r::text";
    assert_eq!(db.number(differing).await, 0);
    drop(snapshot);
    // Its transaction ends with it.
    db.sql.batch_execute("SET lock_timeout = '60s'; TRUNCATE every").await.unwrap();
}

#[tokio::test]
async fn a_column_may_be_called_as_we_call_something() {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute(
            "CREATE TABLE short (id int PRIMARY KEY, r text, t text); INSERT INTO short VALUES (1, 'one', 'two')",
        )
        .await
        .unwrap();
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    let table = Table::watched("short", "public.short");
    let mut reading = source.point_in_time(std::slice::from_ref(&table)).await.unwrap().unwrap();
    let page = reading.page(&table, None).await.unwrap();
    assert_eq!(String::from_utf8(page.lines).unwrap(), "{\"id\":\"1\",\"r\":\"one\",\"t\":\"two\"}\n");
}
