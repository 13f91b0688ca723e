//! What a foreign key or a trigger of the target would do to rows that the source still has.

use super::*;
use crate::domain::mapping::{RowError, RowErrorReason as R};
use crate::ports::{ChangeBatch, ErrorKind, ParkedRow, Target as _};

/// Customers and their orders, whose key to them says this, both with what the plan knows.
async fn customers(key_says: &str) -> (TestDatabase, Table) {
    let db = TestDatabase::new().await;
    let ddl = format!(
        "CREATE TABLE customers (id text PRIMARY KEY, email text UNIQUE CHECK (email <> 'bad'));
         CREATE TABLE orders (id integer PRIMARY KEY, customer text DEFAULT 'c9' REFERENCES customers {key_says})"
    );
    let table = table("customers", vec![key("id", ColumnType::Text), column("email", ColumnType::Text)], &ddl);
    db.create(&table).await.unwrap();
    put(&db, &table, vec![customer("c1", "one"), customer("c2", "two"), customer("c9", "nobody")]).await;
    db.sql.batch_execute("INSERT INTO orders SELECT n, 'c1' FROM generate_series(1, 4) n").await.unwrap();
    (db, table)
}

fn json(id: &str) -> String {
    format!(r#"{{"id":{{"S":"{id}"}}}}"#)
}

fn customer(id: &str, email: &str) -> RowChange {
    let row = vec![text(id), text(email)];
    RowChange::Upsert { key: Key(id.into()), key_json: json(id), row, children: vec![] }
}

fn gone(id: &str) -> RowChange {
    RowChange::Delete { key: Key(id.into()), key_json: json(id), row_key: vec![text(id)] }
}

fn unfit(id: &str) -> RowChange {
    let row_error = RowError::new("email", R::TooLong);
    RowChange::Park(ParkedRow { table: "customers".into(), key: Key(id.into()), row_error, key_json: json(id) })
}

async fn put(db: &TestDatabase, table: &Table, rows: Vec<RowChange>) -> crate::ports::Applied {
    db.target.apply(table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap()
}

const WHOLE: &str = "SELECT count(*) FROM orders WHERE customer = 'c1'";

const SAYINGS: [&str; 6] = [
    "ON DELETE CASCADE",
    "ON DELETE SET NULL",
    "ON DELETE SET DEFAULT",
    "ON DELETE NO ACTION",
    "ON DELETE RESTRICT",
    "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
];

#[tokio::test]
async fn a_parent_that_is_deleted_while_rows_refer_to_it_is_parked_and_takes_nothing_with_it() {
    for says in SAYINGS {
        let (db, table) = customers(says).await;
        // Alone, in a batch, and after an item that no longer fits: always the same.
        for (rows, reason) in [
            (vec![gone("c1")], R::StillReferenced),
            (vec![customer("c3", "three"), gone("c2"), gone("c1")], R::StillReferenced),
            (vec![unfit("c1")], R::TooLong),
            (vec![customer("c1", "bad")], R::Refused),
        ] {
            let applied = put(&db, &table, rows).await;
            assert_eq!(db.number(WHOLE).await, 4, "{says}: orders that the source has are touched");
            assert_eq!(db.number("SELECT count(*) FROM customers WHERE id = 'c1'").await, 1, "{says}");
            let parked = db.target.parked(&table, None, None, 10).await.unwrap();
            assert_eq!(parked.iter().map(|p| p.row_error.reason).collect::<Vec<_>>(), [reason], "{says}: {applied:?}");
            if reason == R::StillReferenced {
                let said = parked[0].row_error.to_string();
                assert!(said.starts_with("orders: still refers to the row, which the source has deleted"), "{said}");
                assert!(said.ends_with("(SQLSTATE 23503, constraint orders_customer_fkey)"), "{said}");
            }
        }
        // Once its orders are gone, so is the customer.
        db.sql.batch_execute("DELETE FROM orders").await.unwrap();
        assert_eq!(put(&db, &table, vec![gone("c1")]).await.deleted, 1, "{says}");
        assert!(db.target.ledger(&table).await.unwrap().0.is_empty(), "{says}");
    }
}

#[tokio::test]
async fn rows_that_belong_to_the_row_or_go_with_it_keep_nothing_back() {
    let db = TestDatabase::new().await;
    let mut table = books();
    table.ddl = table.ddl.map(|ddl| ddl.replace("REFERENCES books,", "REFERENCES books ON DELETE CASCADE,"));
    db.create(&table).await.unwrap();
    put(&db, &table, vec![upsert(book(1, "one", &["x", "y"]))]).await;
    let applied = put(&db, &table, vec![delete(1)]).await;
    assert_eq!((applied.deleted, applied.parked.len()), (1, 0));

    let ddl = "CREATE TABLE tree (id text PRIMARY KEY, email text REFERENCES tree ON DELETE CASCADE)";
    let tree = super::table("tree", vec![key("id", ColumnType::Text), column("email", ColumnType::Text)], ddl);
    db.create(&tree).await.unwrap();
    let grown = |id: &str, under: &str| customer(id, under);
    put(&db, &tree, vec![grown("a", "a"), grown("b", "a"), grown("c", "b")]).await;
    let applied = put(&db, &tree, vec![gone("a")]).await;
    assert_eq!((applied.deleted, applied.parked[0].row_error.reason), (0, R::StillReferenced));
    assert_eq!(db.number("SELECT count(*) FROM tree").await, 3);
    let applied = put(&db, &tree, vec![gone("a"), gone("b"), gone("c")]).await;
    assert_eq!((applied.deleted, db.number("SELECT count(*) FROM tree").await), (3, 0));
}

#[tokio::test]
async fn an_order_that_comes_in_while_its_customer_goes_is_kept_whole() {
    let (db, table) = customers("ON DELETE CASCADE").await;
    db.sql.batch_execute("BEGIN; INSERT INTO orders VALUES (5, 'c2')").await.unwrap();
    let delete = put(&db, &table, vec![gone("c2")]);
    let commit = async {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while db.number(waits).await == 0 {
            tokio::task::yield_now().await;
        }
        db.sql.batch_execute("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(delete, commit);
    assert_eq!(applied.parked[0].row_error.reason, R::StillReferenced);
    assert_eq!(db.number("SELECT count(*) FROM orders WHERE customer = 'c2'").await, 1);
}

#[tokio::test]
async fn emptying_a_table_for_a_new_load_touches_no_other_one() {
    for says in SAYINGS {
        let (db, table) = customers(says).await;
        let refused = db.target.reset(&table).await.unwrap_err();
        assert_eq!(db.number(WHOLE).await, 4, "{says}");
        assert_eq!(db.number("SELECT count(*) FROM customers").await, 3, "{says}");
        assert!(refused.kind != ErrorKind::Internal && refused.to_string().contains("orders"), "{says}: {refused}");
        db.sql.batch_execute("DELETE FROM orders").await.unwrap();
        db.target.reset(&table).await.unwrap();
        assert_eq!(db.number("SELECT count(*) FROM customers").await, 0, "{says}");
    }
}

#[tokio::test]
async fn keys_with_actions_are_named_and_those_that_nothing_can_hold_back_are_refused() {
    let (db, table) = customers("ON DELETE CASCADE").await;
    let found = db.target.describe(&table).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let noted = found.notices.join("\n");
    assert!(noted.contains("orders") && noted.contains("ON DELETE CASCADE"), "{noted}");
    // A key to a column that changes hands its changes on.
    let follows = "CREATE TABLE mails (email text REFERENCES customers (email) ON UPDATE CASCADE)";
    db.sql.batch_execute(follows).await.unwrap();
    let problems = db.target.describe(&table).await.unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("mails") && problems[0].contains("ON UPDATE"), "{problems:?}");
    // Rows of a child table are written anew with every change of their parent.
    let (db, table) = TestDatabase::with_books().await;
    let notes = "CREATE TABLE notes (b uuid, p integer, FOREIGN KEY (b, p) REFERENCES book_tags ON DELETE SET NULL)";
    db.sql.batch_execute(notes).await.unwrap();
    let problems = db.target.describe(&table).await.unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("notes"), "{problems:?}");
}

#[tokio::test]
async fn a_row_that_a_trigger_keeps_out_is_parked_and_never_counted_as_arrived() {
    for ddl in [
        "CREATE TABLE plain (id text PRIMARY KEY, email text)",
        "CREATE TABLE plain (id text PRIMARY KEY, email text, tags text[])",
    ] {
        let db = TestDatabase::new().await;
        let mut columns = vec![key("id", ColumnType::Text), column("email", ColumnType::Text)];
        if ddl.contains("tags") {
            columns.push(column("tags", ColumnType::TextArray));
        }
        let wide = columns.len() == 3;
        let table = super::table("plain", columns, ddl);
        db.create(&table).await.unwrap();
        let swallow = "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN IF NEW.email = 'no' THEN RETURN NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER swallow BEFORE INSERT OR UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION swallow()";
        db.sql.batch_execute(swallow).await.unwrap();
        let row = |id: &str, email: &str| {
            let mut row = vec![text(id), text(email)];
            row.extend(wide.then_some(Cell::Null));
            Mapped { key: id.into(), key_json: json(id), row, children: vec![] }
        };
        let loaded = db.load(&table, &[row("a", "yes"), row("b", "no"), row("c", "yes")]).await;
        assert_eq!(loaded.parked.iter().map(|p| p.key.0.as_str()).collect::<Vec<_>>(), ["b"], "{ddl}");
        let followed = put(&db, &table, vec![upsert(row("d", "yes")), upsert(row("a", "no"))]).await;
        assert_eq!(followed.parked.iter().map(|p| p.key.0.as_str()).collect::<Vec<_>>(), ["a"], "{ddl}");
        assert_eq!(db.number("SELECT count(*) FROM plain").await, 2, "{ddl}: c and d");
        assert_eq!(db.target.ledger(&table).await.unwrap().0.values().sum::<u64>(), 2, "{ddl}");
        // Named before anything is loaded, unless the plan says that it may fire.
        let problems = db.target.describe(&table).await.unwrap().problems;
        assert!(problems.len() == 1 && problems[0].contains("the trigger swallow"), "{problems:?}");
        let declared = Table { triggers: vec!["swallow".into()], ..table };
        assert_eq!(db.target.describe(&declared).await.unwrap().problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_circle_of_keys_that_somebody_else_made_is_named_with_a_way_on() {
    let db = TestDatabase::new().await;
    db.sql
        .batch_execute(
            "CREATE TABLE one (id text PRIMARY KEY, other text, own text REFERENCES one);
             CREATE TABLE two (id text PRIMARY KEY, other text REFERENCES one);
             CREATE TABLE away (id text PRIMARY KEY, other text REFERENCES two);
             ALTER TABLE one ADD CONSTRAINT there FOREIGN KEY (other) REFERENCES two",
        )
        .await
        .unwrap();
    let noted = async |name: &str| {
        let columns = vec![key("id", ColumnType::Text), column("other", ColumnType::Text)];
        db.target.describe(&table(name, columns, "")).await.unwrap().notices.join("\n")
    };
    let said = noted("one").await;
    assert!(
        said.contains("its key there to two is part of a circle of keys") && !said.contains("one_own_fkey to"),
        "{said}"
    );
    assert!(noted("two").await.contains("its key two_other_fkey to one is part of a circle"));
    assert!(!noted("away").await.contains("circle"), "it leads to a circle and is in none");
}
