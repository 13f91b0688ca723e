//! Tables that refer to each other: rows that are made or deleted together arrive, and the keys hold in the end.

use super::*;
use crate::domain::plan::AfterLoad;
use crate::ports::{ChangeBatch, RowChange, Target as _};

/// A table whose rows refer to rows of another one, by a key that is made once its rows are there.
fn refers(id: &str, to: &str) -> Table {
    let ddl = format!("CREATE TABLE public.{id} (id bigint PRIMARY KEY, other bigint)");
    let mut one = table(id, vec![key("id", ColumnType::Bigint), column("other", ColumnType::Bigint)], &ddl);
    one.target = format!("public.{id}");
    let name = format!("{id}_to_{to}");
    let sql =
        format!("ALTER TABLE ONLY public.{id} ADD CONSTRAINT {name} FOREIGN KEY (other) REFERENCES public.{to}(id);");
    one.after_load = vec![AfterLoad::ForeignKey { name, sql, on: None }];
    one
}

fn row(id: i64, other: i64) -> RowChange {
    let json = format!(r#"{{"id":{{"N":"{id}"}}}}"#);
    RowChange::Upsert {
        key: Key(id.to_string()),
        key_json: json,
        row: vec![Cell::Int(id), Cell::Int(other)],
        children: vec![],
    }
}

fn gone(id: i64) -> RowChange {
    let json = format!(r#"{{"id":{{"N":"{id}"}}}}"#);
    RowChange::Delete { key: Key(id.to_string()), key_json: json, row_key: vec![Cell::Int(id)] }
}

const KEYS: &str = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated";

#[tokio::test]
async fn a_key_that_closes_a_circle_is_made_at_the_drain_and_holds_nothing_back_before() {
    let db = TestDatabase::new().await;
    // Of three tables two refer to each other by way of the third, and one refers to itself besides.
    let mut circle = [refers("x", "y"), refers("y", "z"), refers("z", "x")];
    let itself = "ALTER TABLE ONLY public.z ADD CONSTRAINT itself FOREIGN KEY (other) REFERENCES public.z(id);";
    circle[2].after_load.push(AfterLoad::ForeignKey { name: "itself".into(), sql: itself.into(), on: None });
    for table in &circle {
        assert!(db.create(table).await.unwrap());
    }
    db.sql
        .batch_execute("INSERT INTO x VALUES (3, 3); INSERT INTO y VALUES (3, 3); INSERT INTO z VALUES (3, 3)")
        .await
        .unwrap();
    for _ in 0..2 {
        for table in &circle {
            db.target.finish_load(table).await.unwrap();
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").await, 3, "all but one");
    }
    for table in &circle {
        assert_eq!(db.target.prove_references(table, false).await.unwrap(), None);
    }
    assert_eq!(db.number(KEYS).await, 3);

    // One transaction of the source each: they come table by table, and none waits for one that waits for it.
    let apply = async |rows: fn() -> Vec<RowChange>| {
        let mut waiting: Vec<&Table> = circle.iter().collect();
        for _ in 0..circle.len() {
            let mut parked = Vec::new();
            for table in waiting {
                let applied =
                    db.target.apply(table, ChangeBatch { rows: rows(), ..ChangeBatch::default() }).await.unwrap();
                if !applied.parked.is_empty() {
                    parked.push(table);
                }
            }
            waiting = parked;
        }
        assert_eq!(waiting.len(), 0, "{waiting:?}");
    };
    apply(|| vec![row(30, 30)]).await;
    apply(|| vec![gone(3)]).await;
    for table in ["x", "y", "z"] {
        assert_eq!(db.number(&format!("SELECT sum(id) FROM {table}")).await, 30, "{table}");
    }

    for _ in 0..2 {
        for table in &circle {
            assert_eq!(db.target.prove_references(table, true).await.unwrap(), None);
        }
        assert_eq!(db.number(KEYS).await, 4, "each of them is proven");
    }
    // Another run of the plan loads them anew.
    for table in &circle {
        db.target.finish_load(table).await.unwrap();
    }
    assert_eq!(db.number(KEYS).await, 3);
}

#[tokio::test]
async fn a_row_without_its_parent_fails_the_proof_and_leaves_no_key() {
    let db = TestDatabase::new().await;
    let circle = [refers("x", "y"), refers("y", "x")];
    for table in &circle {
        assert!(db.create(table).await.unwrap());
    }
    for table in &circle {
        db.target.finish_load(table).await.unwrap();
    }
    db.sql.batch_execute("INSERT INTO y VALUES (1, 2)").await.unwrap();
    assert_eq!(db.target.prove_references(&circle[1], false).await.unwrap(), None, "it is not looked at before");
    let wrong = db.target.prove_references(&circle[1], true).await.unwrap();
    assert_eq!(wrong.as_deref(), Some("rows of public.y have no parent, says its foreign key y_to_x"));
    assert_eq!(db.number("SELECT count(*) FROM pg_constraint WHERE conname = 'y_to_x'").await, 0);
    // One that somebody dropped is missed, before the drain and at its end.
    db.sql.batch_execute("ALTER TABLE x DROP CONSTRAINT x_to_y").await.unwrap();
    for drained in [false, true] {
        let wrong = db.target.prove_references(&circle[0], drained).await.unwrap();
        assert_eq!(wrong.as_deref(), Some("public.x has no foreign key x_to_y, which its load makes"));
    }
}
