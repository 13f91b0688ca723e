//! The way back into another PostgreSQL database where rows depend on each other: references that spread a removal, and
//! values that only one row may have.

use std::sync::Arc;

use super::{PLAN, TestDatabase, column, key};
use crate::adapters::postgres::PgTarget;
use crate::adapters::postgres::source::PgSource;
use crate::domain::mapping::Winner;
use crate::domain::plan::{ColumnType, OLD, Table, TypeName};
use crate::ports::{ByStore, Items, Outbox as _, ReversePorts, Target as _};
use crate::workers::reverse::{ReverseApplier, Round};

pub(super) struct Pair {
    pub(super) old: TestDatabase,
    pub(super) new: TestDatabase,
    pub(super) tables: Vec<Table>,
    pub(super) ports: ReversePorts,
    pub(super) applier: ReverseApplier,
}

impl Pair {
    /// Both sides with this schema and its rows, the new one captured.
    async fn armed(sql: &str, tables: Vec<Table>) -> Self {
        Self::with(sql, tables, |items| items).await
    }

    /// The same, with something round the old side's items.
    pub(super) async fn with(
        sql: &str,
        tables: Vec<Table>,
        round: impl FnOnce(Arc<dyn Items>) -> Arc<dyn Items>,
    ) -> Self {
        let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
        for db in [&old, &new] {
            db.sql.batch_execute(sql).await.unwrap();
        }
        new.target.claim("run-1", &tables).await.unwrap();
        new.target.arm(&tables).await.unwrap();
        let ports = ReversePorts {
            outbox: Arc::new(PgTarget::new(&new.settings, PLAN).unwrap()),
            items: ByStore::default().with(OLD, round(Arc::new(PgSource::new(&old.settings, PLAN).unwrap()))),
        };
        Self { old, new, tables, applier: ReverseApplier::new(&ports), ports }
    }

    /// One round over every table, in their order.
    async fn round(&mut self) -> Vec<Round> {
        let mut all = Vec::new();
        for table in &self.tables {
            let round = self.applier.round(table, 500, &|| Winner::Old).await.unwrap().unwrap_or_default();
            assert!(round.trouble.is_none(), "{:?}", round.trouble);
            assert_eq!(round.conflicts, [], "nobody changed the old side");
            all.push(round);
        }
        all
    }

    pub(super) async fn held(db: &TestDatabase, tables: &[Table]) -> Vec<String> {
        let mut all = Vec::new();
        for table in tables {
            let sql = format!("SELECT t::text FROM {} t ORDER BY id", table.target);
            all.extend(db.sql.query(&sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
        }
        all
    }

    async fn expect_equal(&self) {
        let (old, new) = (Self::held(&self.old, &self.tables).await, Self::held(&self.new, &self.tables).await);
        assert_eq!(old, new);
    }
}

pub(super) fn table(id: &str, columns: &[(&str, ColumnType)]) -> Table {
    let columns = std::iter::once(key("id", ColumnType::Integer)).chain(columns.iter().map(|(n, ty)| column(n, *ty)));
    Table {
        key: vec!["id".into()],
        columns: columns.collect(),
        target: format!("public.{id}"),
        marker_prefix: "marker-".into(),
        ..Table::watched(id, &format!("public.{id}"))
    }
}

#[tokio::test]
async fn a_removal_waits_until_nothing_refers_to_the_row_and_never_spreads() {
    let sql = "CREATE TABLE parents (id int PRIMARY KEY, name text);
         CREATE TABLE kept (id int PRIMARY KEY, parent int NOT NULL REFERENCES parents ON DELETE CASCADE, name text);
         CREATE TABLE loose (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE SET NULL);
         INSERT INTO parents SELECT n, 'parent ' || n FROM generate_series(1, 40) n;
         INSERT INTO kept SELECT n, n, 'kept ' || n FROM generate_series(1, 40) n;
         INSERT INTO loose SELECT n, n FROM generate_series(1, 40) n;";
    let int = ColumnType::Integer;
    let tables = vec![
        table("parents", &[("name", ColumnType::Text)]),
        table("kept", &[("parent", int), ("name", ColumnType::Text)]),
        table("loose", &[("parent", int)]),
    ];
    let mut pair = Pair::armed(sql, tables).await;
    // Accounts are merged: everything of one goes to another, and it goes.
    for n in 1..=20 {
        let merge = format!(
            "UPDATE kept SET parent = 40 WHERE id = {n}; UPDATE loose SET parent = 40 WHERE id = {n};
             DELETE FROM parents WHERE id = {n}"
        );
        pair.new.sql.batch_execute(&merge).await.unwrap();
    }
    // One goes with everything of it.
    pair.new.sql.batch_execute("DELETE FROM parents WHERE id = 30").await.unwrap();
    let first = pair.round().await;
    assert_eq!(first[0].unfit.len(), 21, "parents are taken first, and all of them wait");
    assert!(first[0].unfit[0].1.contains("refer to it"), "{:?}", first[0].unfit[0]);
    let second = pair.round().await;
    assert!(second.iter().all(|round| round.unfit.is_empty()), "{second:?}");
    pair.expect_equal().await;
    assert_eq!(pair.old.number("SELECT count(*) FROM kept WHERE parent = 40").await, 21);

    // A child that somebody made on the old side alone keeps its parent there, and both are named.
    pair.old.sql.batch_execute("INSERT INTO kept VALUES (99, 25, 'stray')").await.unwrap();
    pair.new.sql.batch_execute("DELETE FROM kept WHERE id = 25; DELETE FROM parents WHERE id = 25").await.unwrap();
    pair.round().await;
    let stays = pair.round().await;
    assert!(stays[0].unfit[0].1.contains("kept"), "{:?}", stays[0].unfit);
    assert_eq!(pair.old.number("SELECT count(*) FROM kept WHERE id = 99").await, 1);

    // The same of one whose transaction is open while the row is looked at.
    pair.new.sql.batch_execute("DELETE FROM kept WHERE id = 27; DELETE FROM loose WHERE id = 27").await.unwrap();
    pair.round().await;
    let customer = pair.old.connect().await;
    customer.batch_execute("BEGIN; INSERT INTO kept VALUES (97, 27, 'under way')").await.unwrap();
    pair.new.sql.batch_execute("DELETE FROM parents WHERE id = 27").await.unwrap();
    let watcher = pair.old.connect().await;
    let commit = async {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        customer.batch_execute("COMMIT").await.unwrap();
    };
    tokio::join!(pair.round(), commit);
    pair.round().await;
    assert_eq!(pair.old.number("SELECT count(*) FROM kept WHERE id = 97").await, 1);
}

#[tokio::test]
async fn a_row_that_refers_to_another_of_its_table_keeps_it_until_it_moved() {
    let sql = "CREATE TABLE tree (id int PRIMARY KEY, above int REFERENCES tree ON DELETE CASCADE);
         INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 4)";
    let mut pair = Pair::armed(sql, vec![table("tree", &[("above", ColumnType::Integer)])]).await;
    let write = "UPDATE tree SET above = 1 WHERE id = 3; DELETE FROM tree WHERE id = 2; DELETE FROM tree WHERE id = 4";
    pair.new.sql.batch_execute(write).await.unwrap();
    for _ in 0..3 {
        pair.round().await;
    }
    pair.expect_equal().await;
}

#[tokio::test]
async fn rows_that_traded_values_only_one_may_have_go_back_together() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, name text);
         CREATE TABLE ranks (id int PRIMARY KEY, pos int, CONSTRAINT one UNIQUE (pos) DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE bookings (id int PRIMARY KEY, days int4range, EXCLUDE USING gist (days WITH &&));
         INSERT INTO people SELECT n, 'e' || n, 'x' FROM generate_series(1, 50) n;
         INSERT INTO ranks SELECT n, n FROM generate_series(1, 50) n;
         INSERT INTO bookings SELECT n, int4range(n * 10, n * 10 + 10) FROM generate_series(1, 5) n;";
    let text = ColumnType::Text;
    let tables = vec![
        table("people", &[("email", text), ("name", text)]),
        table("ranks", &[("pos", ColumnType::Integer)]),
        table("bookings", &[("days", ColumnType::Native(TypeName::new("int4range")))]),
    ];
    let mut pair = Pair::armed(sql, tables).await;
    let trade = "BEGIN; UPDATE people SET email = 'none' WHERE id = 1; UPDATE people SET email = 'e1' WHERE id = 2;
         UPDATE people SET email = 'e2' WHERE id = 1; COMMIT;
         BEGIN; DELETE FROM people WHERE id = 3; INSERT INTO people VALUES (103, 'e3', 'again');
         UPDATE people SET email = 'gone' WHERE id = 4; INSERT INTO people VALUES (104, 'e4', 'taken over'); COMMIT;
         BEGIN; UPDATE ranks SET pos = pos % 50 + 1; COMMIT;
         BEGIN; UPDATE bookings SET days = '[900,901)' WHERE id = 1; UPDATE bookings SET days = '[10,20)' WHERE id = 2;
         UPDATE bookings SET days = '[20,30)' WHERE id = 1; COMMIT";
    pair.new.sql.batch_execute(trade).await.unwrap();
    // One that cannot stand, because the old side's own customer has the value, keeps no other waiting.
    pair.old.sql.batch_execute("INSERT INTO people VALUES (900, 'own', 'of the old side')").await.unwrap();
    pair.new.sql.batch_execute("UPDATE people SET email = 'own' WHERE id = 50").await.unwrap();
    for _ in 0..3 {
        pair.round().await;
    }
    let rounds = pair.round().await;
    assert_eq!(rounds[0].unfit.len(), 1, "{:?}", rounds[0].unfit);
    assert!(rounds[0].unfit[0].0.0 == "50" && rounds[1..].iter().all(|round| round.unfit.is_empty()));
    pair.old.sql.batch_execute("DELETE FROM people WHERE id = 900").await.unwrap();
    pair.round().await;
    pair.expect_equal().await;

    // The same under a constraint that is looked at last and does not say which row it refuses.
    pair.old.sql.batch_execute("INSERT INTO ranks VALUES (900, 900)").await.unwrap();
    let trade = "UPDATE ranks a SET pos = b.pos FROM ranks b WHERE (a.id, b.id) IN ((1, 2), (2, 1));
         UPDATE ranks SET pos = 900 WHERE id = 3";
    pair.new.sql.batch_execute(trade).await.unwrap();
    let rounds = pair.round().await;
    assert_eq!(rounds[1].unfit.iter().map(|(key, _)| key.0.as_str()).collect::<Vec<_>>(), ["3"]);
    pair.old.sql.batch_execute("DELETE FROM ranks WHERE id = 900").await.unwrap();
    pair.round().await;
    pair.expect_equal().await;
}

#[tokio::test]
async fn what_no_column_carries_stays_in_a_row_that_was_made_again_in_a_trade_and_nothing_of_it_is_a_stray() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, own text DEFAULT 'none');
         INSERT INTO people SELECT n, 'e' || n, 'kept ' || n FROM generate_series(1, 5) n;";
    let tables = vec![table("people", &[("email", ColumnType::Text)])];
    let mut pair = Pair::armed(sql, tables).await;
    let trade = "BEGIN; DELETE FROM people WHERE id = 1; UPDATE people SET email = 'e1' WHERE id = 2;
         INSERT INTO people VALUES (1, 'e2'); COMMIT";
    pair.new.sql.batch_execute(trade).await.unwrap();
    let rounds = pair.round().await;
    assert!(rounds[0].unfit.is_empty(), "{rounds:?}");
    let sql = "SELECT string_agg(email || ' ' || own, ', ' ORDER BY id) FROM people WHERE id < 3";
    let held: String = pair.old.sql.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(held, "e2 kept 1, e1 kept 2");
}
