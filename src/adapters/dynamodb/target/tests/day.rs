//! A whole day between DynamoDB tables, there and back, through the workers, with deaths on the way.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue as A;

use super::items::{column, orders};
use super::*;
use crate::domain::mapping::typed_record;
use crate::domain::plan::{ColumnType, Freeze, NEW, OLD, Plan, Store, StoreKind, Table};
use crate::engine::MachineClock;
use crate::ports::{ByStore, Outbox as _, ReversePorts};
use crate::workers::reverse::drain;
use crate::workers::tests::world::World;
use crate::workers::{CapturedValues, Ports, WorkerContext};

type Item = HashMap<String, A>;

/// Orders move as they are, books by columns.
fn tables() -> Vec<Table> {
    let marked = |table: Table| Table { marker_prefix: "marker-".to_owned(), ..table };
    let books = Table {
        target: "new-books".to_owned(),
        key: vec!["id".to_owned()],
        columns: vec![
            column("id", ColumnType::Text, true),
            column("price", ColumnType::Numeric(None), false),
            column("tags", ColumnType::TextArray, false),
        ],
        ..Table::watched("books", "old-books")
    };
    vec![marked(books), marked(orders())]
}

pub(super) fn plan() -> Plan {
    let base = crate::workers::tests::plan::plan();
    let freeze = Freeze { settle_ms: 400, ..base.freeze.clone().unwrap() };
    let stores = [OLD, NEW].map(|name| (name.to_owned(), Store::new(StoreKind::Dynamodb)));
    Plan { tables: tables(), freeze: Some(freeze), stores: stores.into(), ..base }
}

pub(super) struct Day {
    pub world: World,
    pub account: Account,
}

impl Day {
    async fn begun(account: Account) -> Self {
        let world = World::with(plan());
        account.target.prepare().await.unwrap();
        for table in tables() {
            account.target.create(&table).await.unwrap();
            account.target.create(&Table { target: table.source.clone(), ..table }).await.unwrap();
        }
        Self { world, account }
    }

    /// The target of the world's plan, as a process of its own.
    pub(super) fn target(&self) -> Arc<DynamoTarget> {
        Arc::new(connect(&self.account.sdk, &self.account.endpoint, &self.world.plan.key()))
    }

    fn ends(&self) -> (dynamodb::DynamoSource, dynamodb::DynamoChanges) {
        dynamodb::connect(&self.account.sdk, &DynamoSettings::new(REGION).at(&self.account.endpoint)).unwrap()
    }

    fn reverse(&self, target: &Arc<DynamoTarget>) -> ReversePorts {
        let outbox = Arc::clone(target);
        ReversePorts { outbox, items: ByStore::default().with(OLD, Arc::new(self.ends().0)) }
    }

    /// Connections of a process of its own.
    pub(super) fn ports(&self) -> Ports {
        let (source, changes) = self.ends();
        let target = self.target();
        Ports {
            sources: ByStore::default().with(OLD, Arc::new(source)),
            changes: ByStore::default().with(OLD, Arc::new(changes)),
            reverse: Some(self.reverse(&target)),
            movers: ByStore::default(),
            target,
            switches: Arc::new(self.world.switches.clone()),
            probes: Arc::new(self.world.switches.clone()),
            jobs: Arc::new(self.world.jobs.clone()),
            identity: None,
            metrics: None,
            clock: Arc::new(MachineClock::default()),
        }
    }

    /// A process with clients and memory of its own.
    pub(super) async fn process(&self) -> Arc<WorkerContext> {
        let facts = Arc::new(self.world.journal.clone());
        let ctx = WorkerContext::new(Arc::clone(&self.world.plan), self.ports(), facts);
        ctx.recapture(&self.world.journal.state()).await;
        ctx
    }

    async fn dies(&self, ctx: Arc<WorkerContext>) -> Arc<WorkerContext> {
        ctx.stop().await;
        drop(ctx);
        self.process().await
    }

    /// What a side holds: items by their table and key, each with the type of every value.
    async fn held(&self, new: bool) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for table in tables() {
            let name = if new { &table.target } else { &table.source };
            let scan = self.account.raw().scan().table_name(name).consistent_read(true).into_paginator().items();
            let items: Vec<Item> = scan.send().collect::<Result<_, _>>().await.unwrap();
            all.extend(items.into_iter().filter(|item| new || !of_ours(item)).map(|item| said(&table, item)));
        }
        all
    }
}

/// A marker that is under way.
fn of_ours(item: &Item) -> bool {
    ["id", "customer"]
        .iter()
        .any(|name| item.get(*name).is_some_and(|v| v.as_s().is_ok_and(|s| s.starts_with("marker-"))))
}

fn said(table: &Table, item: Item) -> (String, String) {
    let record = dynamodb::item(item).unwrap();
    let key: Vec<String> = table.key.iter().map(|name| format!("{:?}", record.get(name).unwrap())).collect();
    (format!("{} {}", table.id, key.join("|")), typed_record(&record).unwrap())
}

/// What customers were told, as [`Day::held`] says it.
type Oracle = BTreeMap<String, String>;

fn value(rng: &mut fastrand::Rng) -> A {
    match rng.u8(0..7) {
        0 => A::N(format!("{}.{}", rng.u16(..), rng.u8(1..10))),
        1 => A::Ss(vec![format!("x{}", rng.u8(..)), "y".to_owned()]),
        2 => A::M(HashMap::from([("l".to_owned(), A::L(vec![A::Bool(rng.bool()), A::Null(true)]))])),
        3 => A::B(Blob::new(vec![rng.u8(..), 0])),
        4 => A::Null(true),
        5 => A::Bool(rng.bool()),
        _ => A::S(format!("é{}", rng.u16(..))),
    }
}

/// A customer's next write to one side.
async fn a_write(day: &Day, new: bool, rng: &mut fastrand::Rng, oracle: &mut Oracle) {
    let raw = day.account.raw();
    let all = tables();
    let table = &all[usize::from(rng.bool())];
    let name = if new { &table.target } else { &table.source };
    let number = rng.u8(0..30);
    let key: Item = if table.id == "books" {
        HashMap::from([("id".to_owned(), A::S(format!("b{number}")))])
    } else {
        let customer = ("customer".to_owned(), A::S(format!("c{}", number % 4)));
        HashMap::from([customer, ("number".to_owned(), A::N(number.to_string()))])
    };
    let mut item = key.clone();
    match rng.u8(0..6) {
        0 => {
            raw.delete_item().table_name(name).set_key(Some(key.clone())).send().await.unwrap();
            oracle.remove(&said(table, key).0);
            return;
        }
        1 if table.id == "orders" => {
            let update = raw.update_item().table_name(name).set_key(Some(key));
            let update =
                update.update_expression("SET a1 = :v REMOVE a2").expression_attribute_values(":v", value(rng));
            let update = update.return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
            item = update.send().await.unwrap().attributes.unwrap();
        }
        _ if table.id == "books" => {
            item.insert("price".to_owned(), A::N(rng.u16(..).to_string()));
            item.insert("tags".to_owned(), A::L(vec![A::S(format!("t{}", rng.u8(..)))]));
            raw.put_item().table_name(name).set_item(Some(item.clone())).send().await.unwrap();
        }
        _ => {
            for n in 0..rng.u8(0..4) {
                item.insert(format!("a{n}"), value(rng));
            }
            raw.put_item().table_name(name).set_item(Some(item.clone())).send().await.unwrap();
        }
    }
    let (key, text) = said(table, item);
    oracle.insert(key, text);
}

async fn differing(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differs = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
    differs.map(|key| format!("{key}: {:?} / {:?}", one.get(key), other.get(key))).collect()
}

#[tokio::test]
async fn a_day_between_two_tables_loses_nothing_there_or_back() {
    there_and_back(Account::embedded().await).await;
}

#[tokio::test]
async fn a_day_on_another_emulator_loses_nothing_there_or_back() {
    there_and_back(Account::of_the_neighbour().await).await;
}

async fn there_and_back(account: Account) {
    let day = Arc::new(Day::begun(account).await);
    let world = &day.world;
    let (mut rng, mut oracle) = (fastrand::Rng::with_seed(5), Oracle::new());
    for _ in 0..60 {
        a_write(&day, false, &mut rng, &mut oracle).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let customers = {
        let (day, done) = (Arc::clone(&day), Arc::clone(&done));
        tokio::spawn(async move {
            let mut writes = 0;
            while !done.load(Ordering::SeqCst) {
                if day.world.switches.now("/mode") == "open" {
                    a_write(&day, false, &mut rng, &mut oracle).await;
                    writes += 1;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            (writes, oracle)
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
    world.well(&ctx, &["freeze", "drain", "switch"]).await;
    done.store(true, Ordering::SeqCst);
    let (writes, mut oracle) = customers.await.unwrap();
    assert!(writes > 20, "{writes}");
    let (old, new) = (day.held(false).await, day.held(true).await);
    assert_eq!(differing(&old, &oracle).await, [""; 0]);
    assert_eq!(differing(&old, &new).await, [""; 0]);
    world.well(&ctx, &["thaw"]).await;

    // Customers are on the new side; the console dies twice.
    let mut rng = fastrand::Rng::with_seed(6);
    for n in 0..150 {
        a_write(&day, true, &mut rng, &mut oracle).await;
        if n == 40 || n == 80 {
            ctx = day.dies(ctx).await;
            ctx.ensure_following();
        }
        if n == 100 {
            // It is gone for good, and customers go on.
            ctx.stop().await;
        }
    }
    assert_eq!(differing(&day.held(true).await, &oracle).await, [""; 0]);
    assert_ne!(day.held(false).await, oracle);
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    let run = world.journal.state().run;
    // A terminal of its own carries the rest, and dies; the next one ends it.
    let clock = MachineClock::default();
    let first = day.reverse(&day.target());
    let dies = drain(&world.plan, &run, &first, &world.journal, &clock, true);
    let _ = tokio::time::timeout(std::time::Duration::from_millis(150), dies).await;
    drop(first);
    let target = day.target();
    let found = drain(&world.plan, &run, &day.reverse(&target), &world.journal, &clock, true).await;
    assert_eq!(found.left, [""; 0]);
    let (old, new) = (day.held(false).await, day.held(true).await);
    assert_eq!(differing(&old, &oracle).await, [""; 0], "the old side does not hold what customers were told");
    assert_eq!(differing(&old, &new).await, [""; 0]);
    let waiting = target.waiting(&world.plan.tables).await.unwrap();
    assert!(waiting.values().all(|waiting| waiting.records == 0), "{waiting:?}");
    let state = world.journal.state();
    assert!(
        state.reverse.values().all(|r| r.left == Some(0) && r.conflicts == 0 && r.strays == 0),
        "{:?}",
        state.reverse
    );
    assert!(state.reverse.values().any(|r| r.carried.unwrap_or_default() > 20), "{:?}", state.reverse);

    // What reaches the new side late is carried when the command is given again.
    a_write(&day, true, &mut rng, &mut oracle).await;
    let found = drain(&world.plan, &run, &day.reverse(&day.target()), &world.journal, &clock, true).await;
    assert_eq!(found.left, [""; 0]);
    assert_eq!(differing(&day.held(false).await, &oracle).await, [""; 0]);
}
