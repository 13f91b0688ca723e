//! Targets of the same form as the plan's table that do not keep, take or show what is written.

use super::*;
use crate::domain::secret::Secret;
use crate::ports::{ChangeBatch, Outbox as _};

/// A table `kept` of two columns, as the plan has it.
fn kept() -> Table {
    table("kept", vec![key("k", ColumnType::Text), column("v", ColumnType::Text)], "")
}

async fn problems(db: &TestDatabase, table: &Table) -> Vec<String> {
    db.target.describe(table).await.unwrap().problems
}

/// Whether one of them says all of this.
fn says(problems: &[String], words: &[&str]) -> bool {
    problems.iter().any(|p| words.iter().all(|w| p.contains(w)))
}

fn row(k: &str, v: &str) -> Mapped<'static> {
    let text = |s: &str| Cell::Text(s.to_owned().into());
    Mapped {
        key: k.into(),
        key_json: format!(r#"{{"k":{{"S":"{k}"}}}}"#),
        row: vec![text(k), text(v)],
        children: vec![],
    }
}

#[tokio::test]
async fn a_table_that_does_not_keep_its_rows_is_refused() {
    let (db, books) = TestDatabase::with_books().await;
    assert_eq!(problems(&db, &books).await, Vec::<String>::new());
    // The referring one first: the server refuses the other order.
    for name in ["book_tags", "books"] {
        db.sql.batch_execute(&format!("ALTER TABLE {name} SET UNLOGGED")).await.unwrap();
        let found = problems(&db, &books).await;
        assert!(says(&found, &[&format!("{name} is UNLOGGED"), "SET LOGGED"]), "{found:?}");
    }
    db.sql.batch_execute("ALTER TABLE books SET LOGGED; ALTER TABLE book_tags SET LOGGED").await.unwrap();
    assert_eq!(problems(&db, &books).await, Vec::<String>::new());

    // Another session's, which its schema names.
    db.sql.batch_execute("CREATE TEMP TABLE kept (k text PRIMARY KEY, v text)").await.unwrap();
    let schema = db.text("SELECT pg_my_temp_schema()::regnamespace::text").await.unwrap();
    let found = problems(&db, &Table { target: format!("{schema}.kept"), ..kept() }).await;
    assert!(says(&found, &["kept is TEMPORARY", "ordinary table"]), "{found:?}");
}

#[tokio::test]
async fn what_is_no_table_is_refused_by_its_kind() {
    let db = TestDatabase::new().await;
    for (make, what) in [
        ("CREATE VIEW kept AS SELECT * FROM under", "a view"),
        ("CREATE MATERIALIZED VIEW kept AS SELECT * FROM under", "a materialized view"),
        (
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
             CREATE FOREIGN TABLE kept (k text, v text) SERVER s",
            "a foreign table",
        ),
        ("CREATE SEQUENCE kept", "no table"),
    ] {
        let all = format!(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE under (k text PRIMARY KEY, v text); {make}"
        );
        db.sql.batch_execute(&all).await.unwrap();
        let found = problems(&db, &kept()).await;
        assert!(says(&found, &[&format!("kept is {what};"), "ordinary or partitioned"]), "{what}: {found:?}");
    }
}

#[tokio::test]
async fn row_level_security_is_refused_exactly_where_it_applies() {
    let db = TestDatabase::new().await;
    // The server is shared by tests, so the role has a name of its own.
    let role = format!("mover_{}", db.settings.database);
    let all = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; CREATE TABLE kept (k text PRIMARY KEY, v text);
         GRANT ALL ON kept TO {role}"
    );
    db.sql.batch_execute(&all).await.unwrap();
    let settings = PgSettings { user: role.clone(), password: Some(Secret::new("pw")), ..db.settings.clone() };
    let target = PgTarget::new(&settings, PLAN).unwrap();
    let kept = kept();
    let owner = db.settings.user.clone();
    for (change, applies, advice) in [
        ("SELECT".to_owned(), false, ""),
        ("ALTER TABLE kept ENABLE ROW LEVEL SECURITY".to_owned(), true, "BYPASSRLS"),
        (format!("ALTER ROLE {role} BYPASSRLS"), false, ""),
        (format!("ALTER ROLE {role} NOBYPASSRLS"), true, "BYPASSRLS"),
        (format!("ALTER TABLE kept OWNER TO {role}"), false, ""),
        ("ALTER TABLE kept FORCE ROW LEVEL SECURITY".to_owned(), true, "NO FORCE ROW LEVEL SECURITY"),
        ("ALTER TABLE kept NO FORCE ROW LEVEL SECURITY".to_owned(), false, ""),
        (format!("ALTER TABLE kept OWNER TO {owner}"), true, "DISABLE ROW LEVEL SECURITY"),
        ("ALTER TABLE kept DISABLE ROW LEVEL SECURITY".to_owned(), false, ""),
    ] {
        db.sql.batch_execute(&change).await.unwrap();
        let found = target.describe(&kept).await.unwrap().problems;
        let said = says(&found, &["kept has row level security that applies to", &role, advice]);
        assert_eq!(said, applies, "after {change}: {found:?}");
        assert_eq!(found.is_empty(), !applies, "after {change}: {found:?}");
    }
    // Whom it does not apply to is not kept from anything.
    db.sql.batch_execute("ALTER TABLE kept ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY").await.unwrap();
    assert_eq!(problems(&db, &kept).await, Vec::<String>::new(), "a superuser");
}

#[tokio::test]
async fn a_column_that_takes_no_changes_is_refused_and_a_key_given_by_the_server_is_not() {
    let db = TestDatabase::new().await;
    db.target.claim("run-1", &[kept()]).await.unwrap();
    let numbered = |kind: &str| format!("DROP TABLE IF EXISTS kept; CREATE TABLE kept (k text PRIMARY KEY, v {kind})");
    for (kind, words) in [
        ("text GENERATED ALWAYS AS ('x') STORED", Some("generated by the server")),
        ("bigint GENERATED ALWAYS AS IDENTITY", Some("GENERATED ALWAYS AS IDENTITY")),
        ("bigint GENERATED BY DEFAULT AS IDENTITY", None),
    ] {
        db.sql.batch_execute(&numbered(kind)).await.unwrap();
        let ty = if kind.starts_with("text") { ColumnType::Text } else { ColumnType::Bigint };
        let table = Table { columns: vec![key("k", ColumnType::Text), column("v", ty)], ..kept() };
        let found = problems(&db, &table).await;
        assert_eq!(words.is_some(), !found.is_empty(), "{kind}: {found:?}");
        assert!(words.is_none_or(|w| says(&found, &["kept.v", w])), "{kind}: {found:?}");
        // Refused, because the server would: and what is not refused works, twice.
        if ty == ColumnType::Bigint {
            for (turn, n) in [(1, 7), (2, 8)] {
                let m = Mapped { row: vec![Cell::Text("a".into()), Cell::Int(n)], ..row("a", "") };
                let batch = ChangeBatch { rows: vec![upsert(m)], ..ChangeBatch::default() };
                let applied = db.target.apply(&table, batch).await;
                assert_eq!(applied.is_ok_and(|a| a.parked.is_empty()), words.is_none(), "{kind}, turn {turn}");
            }
        }
    }
    db.sql
        .batch_execute("CREATE TABLE ids (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)")
        .await
        .unwrap();
    let ids = table("ids", vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text)], "");
    assert_eq!(problems(&db, &ids).await, Vec::<String>::new());
    db.target.claim("run-1", std::slice::from_ref(&ids)).await.unwrap();
    for v in ["first", "second"] {
        let m = Mapped { row: vec![Cell::Int(41), Cell::Text(v.into())], ..row("41", "") };
        let batch = ChangeBatch { rows: vec![upsert(m)], ..ChangeBatch::default() };
        assert_eq!(db.target.apply(&ids, batch).await.unwrap().upserted, 1);
        assert_eq!(db.text("SELECT v FROM ids WHERE id = 41").await.as_deref(), Some(v));
    }
}

#[tokio::test]
async fn a_partitioned_table_takes_rows_where_they_have_a_place() {
    let db = TestDatabase::new().await;
    db.target.claim("run-1", &[kept()]).await.unwrap();
    let make = "CREATE TABLE kept (k text PRIMARY KEY, v text) PARTITION BY RANGE (k)";
    db.sql.batch_execute(make).await.unwrap();
    let kept = kept();
    let found = problems(&db, &kept).await;
    assert!(says(&found, &["kept is partitioned by range and has no partition"]), "{found:?}");

    db.sql.batch_execute("CREATE UNLOGGED TABLE low PARTITION OF kept FOR VALUES FROM ('a') TO ('m')").await.unwrap();
    let found = problems(&db, &kept).await;
    assert!(says(&found, &["its partition low is UNLOGGED", "SET LOGGED"]), "{found:?}");
    db.sql.batch_execute("ALTER TABLE low SET LOGGED").await.unwrap();
    db.sql.batch_execute("CREATE TABLE high PARTITION OF kept FOR VALUES FROM ('m') TO ('x')").await.unwrap();
    let described = db.target.describe(&kept).await.unwrap();
    assert_eq!(described.problems, Vec::<String>::new());
    assert!(says(&described.notices, &["none of its 2 partitions takes", "parked"]), "{:?}", described.notices);

    // Loaded, followed, read in parts, fetched and counted like an ordinary one; a row without a place is parked.
    let rows: Vec<_> = ["b", "c", "n", "o", "z"].iter().map(|k| row(k, "loaded")).collect();
    let loaded = db.load(&kept, &rows).await;
    assert_eq!((loaded.upserted, loaded.parked.len()), (4, 1));
    assert_eq!(loaded.parked[0].key.0, "z");
    let changes = vec![
        upsert(row("b", "changed")),
        upsert(row("y", "no place")),
        upsert(row("p", "new")),
        RowChange::Delete { key: Key("n".into()), key_json: "{}".into(), row_key: vec![Cell::Text("n".into())] },
    ];
    let applied = db.target.apply(&kept, ChangeBatch { rows: changes, ..ChangeBatch::default() }).await.unwrap();
    assert_eq!((applied.upserted, applied.deleted, applied.parked.len()), (2, 1, 1));
    let mut read = Vec::new();
    for index in 0..3 {
        let part = Partition { index, of: 3 };
        db.target.scan_part(&kept, None, part, &mut |r| read.push(owned(r))).await.unwrap();
    }
    read.sort_by_key(|r| format!("{r:?}"));
    let wanted: Vec<OwnedRow> =
        [("b", "changed"), ("c", "loaded"), ("o", "loaded"), ("p", "new")].iter().map(|(k, v)| row(k, v).row).collect();
    assert_eq!(read, wanted);
    assert_eq!(db.target.count(&kept, true).await.unwrap().rows, Some(4));
    db.target.finish_load(&kept).await.unwrap();
    assert_eq!(db.target.count(&kept, false).await.unwrap().rows, Some(4));

    // What customers write to it is counted and captured, and the capture ends.
    let tables = std::slice::from_ref(&kept);
    db.target.claim("run-1", tables).await.unwrap();
    assert!(db.target.arm(tables).await.unwrap()[0].exercised);
    assert!(db.target.armed(tables).await.unwrap());
    let before = db.target.writes(tables).await.unwrap();
    db.sql.batch_execute("INSERT INTO kept VALUES ('d', 'by a customer')").await.unwrap();
    db.sql.batch_execute("UPDATE kept SET k = 'q' WHERE k = 'd'").await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM cutover.outbox").await, 3, "an insert, and a move as two records");
    db.sql.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    assert!(db.target.writes(tables).await.unwrap() > before, "the writes of customers are counted");
    db.target.disown().await.unwrap();
    assert!(!db.target.armed(tables).await.unwrap());

    db.sql.batch_execute("CREATE TABLE rest PARTITION OF kept DEFAULT").await.unwrap();
    let notices = db.target.describe(&kept).await.unwrap().notices;
    assert!(!says(&notices, &["parked"]), "with a default partition every row has a place: {notices:?}");
}
