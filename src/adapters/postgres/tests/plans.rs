//! Several plans in one database: each has its own tables, and none touches what is another's.

use std::collections::BTreeMap;

use super::*;
use crate::ports::{ChangeBatch, Cleared, ErrorKind, Outbox as _, Position};

/// Papers, a table of its own.
fn papers() -> Table {
    table(
        "papers",
        vec![key("id", ColumnType::Text), column("title", ColumnType::Text)],
        "CREATE TABLE papers (id text PRIMARY KEY, title text)",
    )
}

fn paper(title: &str) -> RowChange {
    RowChange::Upsert {
        key: Key("p".into()),
        key_json: r#"{"id":{"S":"p"}}"#.into(),
        row: vec![Cell::Text("p".into()), Cell::Text(title.to_owned().into())],
        children: vec![],
    }
}

/// Everything in the catalogue and in our tables that is of a plan, in one text.
async fn standing(db: &TestDatabase, plan: &str, table: &str) -> String {
    let mut all = String::new();
    let triggers = format!(
        "SELECT coalesce(string_agg(pg_get_triggerdef(oid) || ' ' || tgenabled::text || ' ' || oid::text, E'\\n' ORDER BY tgname), '-')
         FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal"
    );
    all.push_str(&db.text(&triggers).await.unwrap());
    for kept in crate::adapters::postgres::owner::KEPT.into_iter().chain(["lease"]) {
        let rows = format!(
            "SELECT coalesce(string_agg(to_jsonb(t)::text, E'\\n' ORDER BY to_jsonb(t)::text), '-')
             FROM cutover.{kept} t WHERE plan = '{plan}'"
        );
        all.push_str(&format!("\n{kept}: {}", db.text(&rows).await.unwrap()));
    }
    let turn = format!("SELECT coalesce(to_regclass('{}')::text, '-')", crate::adapters::postgres::owner::turn(plan));
    all.push_str(&db.text(&turn).await.unwrap());
    all
}

/// A plan as far as a thaw: claimed, followed, captured, open to customers, one write of theirs waiting.
pub(super) async fn open_to_customers(
    db: &TestDatabase,
    target: &PgTarget,
    table: &Table,
    row: RowChange,
    run: &str,
    write: &str,
) {
    let tables = std::slice::from_ref(table);
    target.lease(run, "host:1", 600_000).await.unwrap();
    target.claim(run, tables).await.unwrap();
    let at = |n: &str| BTreeMap::from([("s".to_owned(), Position(n.into()))]);
    target.start_positions(table, "stream", &at("1")).await.unwrap();
    let batch = ChangeBatch { rows: vec![row], positions: at("2"), ..ChangeBatch::default() };
    target.apply(table, batch).await.unwrap();
    assert!(target.arm(tables).await.unwrap()[0].exercised);
    target.open_to_customers(tables).await.unwrap();
    db.sql.batch_execute(write).await.unwrap();
}

#[tokio::test]
async fn two_plans_in_one_database_leave_each_others_way_back_alone() {
    let (db, books) = TestDatabase::with_books().await;
    let (one, two) = (&db.target, PgTarget::new(&db.settings, "papers/test").unwrap());
    let papers = papers();
    two.create(&papers).await.unwrap();
    let write = "UPDATE books SET title = 'theirs'";
    open_to_customers(&db, one, &books, upsert(book(1, "one", &["x"])), "run-1", write).await;
    let write = "UPDATE papers SET title = 'theirs'";
    open_to_customers(&db, &two, &papers, paper("two"), "run-2", write).await;

    // Both drive at once, and each is refused only what is its own.
    assert_eq!(one.lease("run-9", "host:9", 1_000).await.unwrap_err().kind, ErrorKind::Conflict);
    let refused = one.apply(&books, ChangeBatch { rows: vec![delete(1)], ..ChangeBatch::default() }).await.unwrap_err();
    assert!(refused.came_back.contains("open to customers"), "{refused}");

    // The first rolls back and ends: applied, settled, loaded anew by its next run.
    let before = standing(&db, "papers/test", "papers").await;
    assert!(before.contains("cutover_capture_") && before.contains("theirs"), "{before}");
    let tables = std::slice::from_ref(&books);
    one.mark_rolled_back("run-1", tables).await.unwrap();
    assert!(!two.take(&papers, 10).await.unwrap().unwrap().rolled_back(), "nobody has gone back from there");
    let taken = one.take(&books, 10).await.unwrap().unwrap();
    assert!(taken.rolled_back());
    let other = two.take(&papers, 10).await;
    assert!(other.unwrap().is_some(), "one carrier does not wait for another plan's");
    let records: Vec<i64> = taken.changes().iter().flat_map(|c| c.records.clone()).collect();
    taken.clear(&[Cleared::of(&key_of(1), &records, crate::domain::mapping::Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    one.settle("run-1", tables).await.unwrap();
    assert_eq!(one.disown().await.unwrap_err().kind, ErrorKind::Conflict, "it is driven");
    one.release("host:1").await.unwrap();
    one.claim("run-3", tables).await.unwrap();
    one.disarm(tables).await.unwrap();
    one.reset(&books).await.unwrap();
    assert!(!one.armed(tables).await.unwrap());
    one.disown().await.unwrap();
    assert_eq!(standing(&db, "papers/test", "papers").await, before, "not one row, trigger or mark of it moved");

    // Its reverse flow goes on.
    assert!(two.armed(std::slice::from_ref(&papers)).await.unwrap());
    db.sql.batch_execute("UPDATE papers SET title = 'again'").await.unwrap();
    assert_eq!(two.waiting(std::slice::from_ref(&papers)).await.unwrap()["papers"].records, 2);
    let nothing = standing(&db, PLAN, "books").await;
    let left: Vec<&str> = nothing.lines().filter(|l| !l.ends_with('-') || l.starts_with("lease: ")).collect();
    // The lease alone, one epoch on.
    assert!(left.len() == 1 && left[0].contains("\"epoch\": 2"), "{left:?}");
}

#[tokio::test]
async fn the_same_id_of_a_table_in_two_plans_is_two_tables() {
    let (db, books) = TestDatabase::with_books().await;
    let two = PgTarget::new(&db.settings, "other/test").unwrap();
    let other = Table { id: "books".into(), ..papers() };
    two.create(&other).await.unwrap();
    open_to_customers(
        &db,
        &db.target,
        &books,
        upsert(book(1, "one", &[])),
        "run-1",
        "UPDATE books SET title = 'theirs'",
    )
    .await;
    two.claim("run-2", std::slice::from_ref(&other)).await.unwrap();
    assert_eq!(two.opened_to_customers(std::slice::from_ref(&other)).await.unwrap(), None);
    assert_eq!(two.positions(&other).await.unwrap(), None);
    assert_eq!(two.waiting(std::slice::from_ref(&other)).await.unwrap()["books"].records, 0);
    assert_eq!(two.ledger(&other).await.unwrap().0.len(), 0);
    two.disarm(std::slice::from_ref(&other)).await.unwrap();
    two.reset(&other).await.unwrap();
    assert!(db.target.armed(std::slice::from_ref(&books)).await.unwrap());
    assert_eq!(db.target.waiting(std::slice::from_ref(&books)).await.unwrap()["books"].records, 1);
    assert!(db.target.positions(&books).await.unwrap().is_some());
}

#[tokio::test]
async fn a_table_another_plan_has_is_refused_by_name_until_that_plan_has_ended() {
    let (db, books) = TestDatabase::with_books().await;
    let tables = std::slice::from_ref(&books);
    let two = PgTarget::new(&db.settings, "second/test").unwrap();
    // Another id and another way to write the name are the same table, and a child table is one too.
    let same = [
        Table { id: "volumes".into(), target: "public.books".into(), ..books.clone() },
        Table { id: "labels".into(), target: "\"book_tags\"".into(), children: vec![], ..books.clone() },
    ];
    let write = "UPDATE books SET title = 'theirs'";
    open_to_customers(&db, &db.target, &books, upsert(book(1, "one", &["x"])), "run-1", write).await;
    let before = standing(&db, PLAN, "books").await;
    for table in &same {
        let asked = std::slice::from_ref(table);
        for refused in [two.claimable(asked).await.unwrap_err(), two.claim("run-2", asked).await.unwrap_err()] {
            assert_eq!(refused.kind, ErrorKind::Conflict);
            let said = format!("{} {}: {}; {}", refused.tried, refused.on, refused.came_back, refused.advice);
            for wanted in [
                "it belongs to plan trial/test (run run-1, since ",
                "it was opened to customers there at ",
                "1 of their writes wait",
                "that run is driven now",
                "cutover rollback run-1",
                "cutover release trial/test",
            ] {
                assert!(said.contains(wanted), "{wanted:?} is not in: {said}");
            }
            assert!(!said.contains("DELETE") && !said.contains("DROP"), "{said}");
        }
    }
    assert_eq!(standing(&db, PLAN, "books").await, before);
    // The same plan under another name is another plan.
    let renamed = PgTarget::new(&db.settings, "trial/production").unwrap();
    assert_eq!(renamed.claim("run-2", tables).await.unwrap_err().kind, ErrorKind::Conflict);

    // Applied and settled, but a write comes late: the table is still theirs.
    db.target.release("host:1").await.unwrap();
    db.target.settle("run-1", tables).await.unwrap();
    let late = two.claim("run-2", tables).await.unwrap_err();
    assert!(late.came_back.contains("1 of their writes wait"), "{late}");
    let taken = db.target.take(&books, 10).await.unwrap().unwrap();
    let records: Vec<i64> = taken.changes().iter().flat_map(|c| c.records.clone()).collect();
    taken.clear(&[Cleared::of(&key_of(1), &records, crate::domain::mapping::Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    two.claimable(tables).await.unwrap();
    assert!(db.target.armed(tables).await.unwrap(), "asking takes nothing over");
    two.claim("run-2", tables).await.unwrap();
    assert!(!db.target.armed(tables).await.unwrap(), "what it captured for the first plan went with it");
    let refused = db.target.claim("run-3", tables).await.unwrap_err();
    assert!(refused.came_back.contains("it belongs to plan second/test (run run-2"), "{refused}");
}

#[tokio::test]
async fn a_partition_of_a_table_another_plan_has_is_refused_too() {
    let db = TestDatabase::new().await;
    let make = "CREATE TABLE kept (k text PRIMARY KEY) PARTITION BY RANGE (k);
                CREATE TABLE low PARTITION OF kept FOR VALUES FROM ('a') TO ('m');
                CREATE TABLE high PARTITION OF kept FOR VALUES FROM ('m') TO ('x')";
    db.sql.batch_execute(make).await.unwrap();
    let [kept, low, high] = ["kept", "low", "high"].map(|name| [table(name, vec![key("k", ColumnType::Text)], "")]);
    let plan = |name: &str| PgTarget::new(&db.settings, name).unwrap();
    let (two, three) = (plan("second/test"), plan("third/test"));
    db.target.claim("run-1", &kept).await.unwrap();
    let refused = two.claim("run-2", &low).await.unwrap_err();
    assert_eq!(refused.on, "public.kept");
    assert!(refused.came_back.contains("it belongs to plan trial/test (run run-1"), "{refused}");
    db.target.disown().await.unwrap();
    two.claim("run-2", &low).await.unwrap();
    let refused = three.claimable(&kept).await.unwrap_err();
    assert_eq!(refused.on, "public.low");
    assert!(refused.came_back.contains("it belongs to plan second/test"), "{refused}");
    three.claim("run-3", &high).await.unwrap();
}
