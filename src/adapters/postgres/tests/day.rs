//! A whole day between two PostgreSQL databases, there and back, through the workers, with deaths on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{PLAN, TestDatabase, column, key};
use crate::adapters::postgres::PgTarget;
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::plan::{ColumnType, Freeze, NEW, OLD, Plan, Store, StoreKind, Table};
use crate::domain::run::{Event, OutcomeResult};
use crate::engine::MachineClock;
use crate::ports::{ByStore, ReversePorts, Source as _};
use crate::workers::end_capture;
use crate::workers::reverse::drain;
use crate::workers::tests::world::World;
use crate::workers::{CapturedValues, Ports, WorkerContext};

const SCHEMA: &str = "
CREATE TABLE authors (id text PRIMARY KEY, name text);
CREATE TABLE books (id uuid PRIMARY KEY, price numeric(10,2), note text, at timestamptz, tags text[], author text REFERENCES authors)";

fn tables() -> Vec<Table> {
    let of = |id: &str, columns| Table {
        key: vec!["id".into()],
        columns,
        target: format!("public.{id}"),
        marker_prefix: "marker-".into(),
        ..Table::watched(id, &format!("public.{id}"))
    };
    use ColumnType as T;
    let books = vec![
        key("id", T::Uuid),
        column("price", T::Numeric(Some((10, 2)))),
        column("note", T::Text),
        column("at", T::Timestamptz),
        column("tags", T::TextArray),
        column("author", T::Text),
    ];
    vec![of("books", books), of("authors", vec![key("id", T::Text), column("name", T::Text)])]
}

fn plan() -> Plan {
    plan_of(tables())
}

pub(super) fn plan_of(tables: Vec<Table>) -> Plan {
    let base = crate::workers::tests::plan::plan();
    let freeze = Freeze { settle_ms: 400, ..base.freeze.clone().unwrap() };
    let stores = [OLD, NEW].map(|name| (name.to_owned(), Store::new(StoreKind::Postgresql)));
    Plan { tables, freeze: Some(freeze), stores: stores.into(), ..base }
}

pub(super) struct Day {
    pub world: World,
    pub old: TestDatabase,
    pub new: TestDatabase,
}

impl Day {
    async fn begun() -> Self {
        let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
        old.sql.batch_execute(SCHEMA).await.unwrap();
        new.sql.batch_execute(SCHEMA).await.unwrap();
        old.sql
            .batch_execute(
                "INSERT INTO authors SELECT 'a' || n, 'author ' || n FROM generate_series(1, 40) n;
                 INSERT INTO books SELECT gen_random_uuid(), n / 7.0, repeat('long ', n), now(), ARRAY['x', NULL], 'a' || (n % 40 + 1)
                 FROM generate_series(1, 1500) n",
            )
            .await
            .unwrap();
        Self { world: World::with(plan()), old, new }
    }

    pub(super) fn reverse(&self) -> ReversePorts {
        ReversePorts {
            outbox: Arc::new(PgTarget::new(&self.new.settings, PLAN).unwrap()),
            items: ByStore::default().with(OLD, Arc::new(PgSource::new(&self.old.settings, PLAN).unwrap())),
        }
    }

    /// A process with connections and memory of its own.
    pub(super) async fn process(&self) -> Arc<WorkerContext> {
        let source = Arc::new(PgSource::new(&self.old.settings, PLAN).unwrap());
        let changes = PgChanges::new(Arc::clone(&source), self.old.settings.clone(), self.world.plan.tables.clone());
        let ports = Ports {
            sources: ByStore::default().with(OLD, source),
            changes: ByStore::default().with(OLD, Arc::new(changes)),
            target: Arc::new(PgTarget::new(&self.new.settings, PLAN).unwrap()),
            switches: Arc::new(self.world.switches.clone()),
            probes: Arc::new(self.world.switches.clone()),
            reverse: Some(self.reverse()),
            identity: None,
            metrics: None,
            clock: Arc::new(MachineClock::default()),
        };
        let facts = Arc::new(self.world.journal.clone());
        let ctx = WorkerContext::new(Arc::clone(&self.world.plan), ports, facts);
        ctx.recapture(&self.world.journal.state()).await;
        ctx
    }

    pub(super) async fn dies(&self, ctx: Arc<WorkerContext>) -> Arc<WorkerContext> {
        ctx.stop().await;
        drop(ctx);
        self.process().await
    }

    /// What a side holds, in a form that is equal where the tables are.
    async fn held(db: &TestDatabase) -> Vec<String> {
        Self::held_of(db, &["authors", "books"]).await
    }

    pub(super) async fn held_of(db: &TestDatabase, tables: &[&str]) -> Vec<String> {
        let mut all = Vec::new();
        for table in tables {
            let sql = format!("SELECT t::text FROM {table} t ORDER BY id");
            let rows = db.sql.query(&sql, &[]).await.unwrap();
            all.extend(rows.iter().map(|row| format!("{table} {}", row.get::<_, String>(0))));
        }
        all
    }
}

/// A customer's next write.
fn a_write(rng: &mut fastrand::Rng) -> String {
    let some = format!("id = (SELECT id FROM books ORDER BY md5(id::text || '{}') LIMIT 1)", rng.u32(..));
    match rng.u8(0..7) {
        0 => format!("DELETE FROM books WHERE {some}"),
        1 => format!("UPDATE books SET id = gen_random_uuid() WHERE {some}"),
        // Not `a7`: somebody holds it over the freeze, and whoever waited for it would be the last to name it.
        2 => format!("UPDATE authors SET name = 'renamed {}' WHERE id = 'a{}'", rng.u16(..), rng.u8(8..41)),
        3 | 4 => format!("UPDATE books SET price = {}, at = 'infinity' WHERE {some}", rng.u16(..)),
        _ => format!(
            "INSERT INTO books VALUES (gen_random_uuid(), {}, repeat(md5('{}'), 400), clock_timestamp(), '{{y}}', 'a{}')",
            rng.u16(..),
            rng.u32(..),
            rng.u8(1..41)
        ),
    }
}

#[tokio::test]
async fn a_day_between_two_databases_loses_nothing_there_or_back() {
    let day = Day::begun().await;
    let world = &day.world;
    let done = Arc::new(AtomicBool::new(false));
    let customers = {
        let (client, switches, done) = (day.old.connect().await, world.switches.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(5);
            let mut writes = 0;
            while !done.load(Ordering::SeqCst) {
                if switches.now("/mode") == "open" {
                    client.batch_execute(&a_write(&mut rng)).await.unwrap();
                    writes += 1;
                }
                tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            }
            writes
        })
    };
    let mut ctx = day.process().await;
    world.well(&ctx, &["capture"]).await;
    ctx = day.dies(ctx).await;
    world.well(&ctx, &["load"]).await;
    ctx = day.dies(ctx).await;
    ctx.ensure_following();
    world.well(&ctx, &["catch-up", "verify", "arm"]).await;
    ctx = day.dies(ctx).await;
    ctx.ensure_following();
    // Somebody has begun before the freeze, and commits while the drain is under way.
    let late = day.old.connect().await;
    late.batch_execute(
        "BEGIN; UPDATE authors SET name = 'late' WHERE id = 'a7'; INSERT INTO authors VALUES ('late', '')",
    )
    .await
    .unwrap();
    let source = PgSource::new(&day.old.settings, PLAN).unwrap();
    assert!(!source.open_writes().await.unwrap().is_empty());
    world.well(&ctx, &["freeze"]).await;
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        late.batch_execute("COMMIT").await.unwrap();
    });
    world.well(&ctx, &["drain", "switch"]).await;
    assert_eq!(day.new.number("SELECT count(*) FROM authors WHERE name = 'late' OR id = 'late'").await, 2);
    done.store(true, Ordering::SeqCst);
    let writes = customers.await.unwrap();
    assert!(writes > 100, "{writes}");
    assert_eq!(Day::held(&day.old).await, Day::held(&day.new).await);
    world.well(&ctx, &["thaw"]).await;

    // Customers are on the new side, and go back.
    let mut rng = fastrand::Rng::with_seed(6);
    for n in 0..120 {
        day.new.sql.batch_execute(&a_write(&mut rng)).await.unwrap();
        if n == 60 {
            ctx = day.dies(ctx).await;
            ctx.ensure_following();
        }
    }
    assert_ne!(Day::held(&day.old).await, Day::held(&day.new).await);
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    let run = world.journal.state().run;
    let found = drain(&world.plan, &run, &day.reverse(), &world.journal, &MachineClock::default(), true).await;
    assert_eq!(found.left, [""; 0]);
    assert_eq!(Day::held(&day.old).await, Day::held(&day.new).await);
    ctx.stop().await;
}

/// What the old server keeps for somebody who reads its changes.
async fn kept(db: &TestDatabase) -> Vec<String> {
    let sql = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()
               UNION ALL SELECT pubname::text FROM pg_publication";
    db.sql.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_later_run_begins_a_capture_of_its_own_and_at_the_end_the_source_keeps_nothing() {
    let first = Day::begun().await;
    let ctx = first.process().await;
    first.world.well(&ctx, &["capture", "load", "catch-up"]).await;
    let of_the_first = kept(&first.old).await;
    assert_eq!(of_the_first.len(), 2, "a slot and a publication: {of_the_first:?}");
    // Its console is gone, and nobody took it back.
    ctx.stop().await;
    drop(ctx);

    let second = Day { world: World::with(plan()), ..first };
    let ctx = second.process().await;
    second.old.sql.batch_execute("DELETE FROM books WHERE price < 10; UPDATE authors SET name = 'new'").await.unwrap();
    second.world.well(&ctx, &["capture", "load", "catch-up"]).await;
    let of_the_second = kept(&second.old).await;
    assert!(of_the_second.len() == 2 && of_the_second[0] != of_the_first[0], "{of_the_first:?} {of_the_second:?}");
    second.old.sql.batch_execute("UPDATE authors SET name = 'newer'").await.unwrap();
    // Books were read before their authors; those that waited for them are tried again.
    while second.new.number("SELECT count(*) FROM cutover.parked").await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    second.world.well(&ctx, &["verify"]).await;
    assert_eq!(Day::held(&second.old).await, Day::held(&second.new).await);

    ctx.stop().await;
    let stores: Vec<&str> = end_capture::kept_for_us(&second.world.plan).collect();
    assert_eq!(stores, [OLD]);
    for pass in ["1", "2"] {
        let (outcome, left) = ctx.end_capture(OLD, pass.to_owned()).await;
        assert!(
            left.is_none() && matches!(outcome, Event::Outcome { result: OutcomeResult::Done { .. }, .. }),
            "{left:?}"
        );
        assert_eq!(kept(&second.old).await, [""; 0]);
    }
}
