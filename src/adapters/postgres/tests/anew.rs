//! Tables that are dropped and made again, because somebody typed the plan's name.

use super::*;
use crate::ports::ErrorKind;

fn parent() -> Table {
    table("parents", vec![key("id", ColumnType::Text)], "CREATE TABLE parents (id text PRIMARY KEY);")
}

fn child() -> Table {
    let ddl = "CREATE TABLE children (id text PRIMARY KEY, parent text REFERENCES parents, note text);";
    table("children", vec![key("id", ColumnType::Text), column("parent", ColumnType::Text)], ddl)
}

#[tokio::test]
async fn tables_are_made_anew_all_or_none_and_never_what_customers_or_others_have() {
    let db = TestDatabase::new().await;
    let tables = [parent(), child()];
    // As somebody else made them, with other columns and with rows.
    let theirs = "CREATE TABLE parents (id text PRIMARY KEY, other text);
                  CREATE TABLE children (id integer PRIMARY KEY, parent text REFERENCES parents);
                  INSERT INTO parents VALUES ('a', 'x'); INSERT INTO children VALUES (1, 'a')";
    db.sql.batch_execute(theirs).await.unwrap();
    assert_eq!(db.target.make_anew(&tables).await.unwrap_err().kind, ErrorKind::Conflict, "not ours yet");
    db.target.claim("run-1", &tables).await.unwrap();

    // Where one cannot be made again, all of them stay.
    let mut wrong = tables.clone();
    wrong[1].ddl = Some("CREATE TABLE children (id text PRIMARY KEY, parent nonsense)".to_owned());
    db.target.make_anew(&wrong).await.unwrap_err();
    assert_eq!(db.number("SELECT count(*) FROM parents JOIN children ON parent = parents.id").await, 1);
    // What depends on them is not dropped with them.
    db.sql.batch_execute("CREATE VIEW totals AS SELECT count(*) FROM children").await.unwrap();
    db.target.make_anew(&tables).await.unwrap_err();
    assert_eq!(db.number("SELECT count(*) FROM children").await, 1);
    db.sql.batch_execute("DROP VIEW totals").await.unwrap();

    db.target.make_anew(&tables).await.unwrap();
    for table in &tables {
        let found = db.target.describe(table).await.unwrap();
        assert!(found.exists && found.problems.is_empty(), "{found:?}");
    }
    assert_eq!(db.number("SELECT count(*) FROM parents").await, 0);
    let ours = db.number("SELECT count(*) FROM cutover.created WHERE table_id IN ('parents', 'children')").await;
    assert_eq!(ours, 2, "they are the plan's own now");

    // Without DDL it is emptied.
    db.sql.batch_execute("INSERT INTO parents VALUES ('b')").await.unwrap();
    db.target.make_anew(&[Table { ddl: None, ..parent() }]).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM parents").await, 0);

    db.target.open_to_customers(&tables).await.unwrap();
    db.sql.batch_execute("INSERT INTO parents VALUES ('c')").await.unwrap();
    let refused = db.target.make_anew(&tables).await.unwrap_err();
    assert!(refused.kind == ErrorKind::Conflict && refused.came_back.contains("open to customers"), "{refused}");
    assert_eq!(db.number("SELECT count(*) FROM parents").await, 1);
}
