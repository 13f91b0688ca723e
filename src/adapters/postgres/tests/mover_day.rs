//! A whole day between two servers whose rows the target's own subscription moves, there and back, with deaths on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::day::{Day, a_write, plan, subscription};
use super::{PLAN, TestDatabase};
use crate::domain::plan::{ForeignKey, MoverKind, Plan};
use crate::domain::run::{Action, Event, MoverOrder, OutcomeResult};
use crate::ports::{Mover as _, MoverState, Target as _};
use crate::workers::movers;
use crate::workers::tests::world::{Entry, World};

/// The day's plan, with every table moved by the subscription.
fn moved() -> Plan {
    let mut plan = plan();
    plan.tables.iter_mut().for_each(|table| table.mover = Some(MoverKind::Subscription));
    plan.tables[0].foreign_keys = vec![ForeignKey { columns: vec!["author".into()], references: "authors".into() }];
    plan
}

async fn begun() -> Day {
    Day::begun_between(moved(), TestDatabase::bare().await, TestDatabase::elsewhere().await).await
}

/// What a plan's subscription left anywhere.
pub(super) async fn left(old: &TestDatabase, new: &TestDatabase) -> Vec<String> {
    let at_source = "SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
                     UNION ALL SELECT 'publication ' || pubname FROM pg_publication
                     UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'cutover'";
    let at_target = "SELECT 'subscription ' || subname FROM pg_subscription
                     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                     UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relname LIKE 'mark\\_%' AND relkind = 'r'";
    let mut all = Vec::new();
    for (db, sql) in [(old, at_source), (new, at_target)] {
        all.extend(db.sql.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
    }
    all
}

/// The orders that movers were given, in order.
fn orders(world: &World) -> Vec<MoverOrder> {
    let told = |entry: &Entry| match entry {
        Entry::Fact(Event::Intent { action: Action::TellMover { order, .. }, .. }) => Some(*order),
        _ => None,
    };
    world.journal.entries().iter().filter_map(told).collect()
}

#[tokio::test]
async fn a_day_that_a_subscription_moves_loses_nothing_there_or_back() {
    let day = begun().await;
    let world = &day.world;
    let done = Arc::new(AtomicBool::new(false));
    let writing = day.customers(&done, 5).await;
    let mut ctx = day.process().await;
    world.well(&ctx, &["capture"]).await;
    // A process that dies here leaves a subscription that does nothing yet.
    ctx = day.dies(ctx).await;
    world.well(&ctx, &["load"]).await;
    ctx = day.dies(ctx).await;
    ctx.ensure_following();
    world.well(&ctx, &["catch-up", "verify", "arm"]).await;
    ctx = day.dies(ctx).await;
    ctx.ensure_following();
    // Somebody has begun before the freeze, and commits while the drain is under way.
    let late = day.old.connect().await;
    let begun = "BEGIN; UPDATE authors SET name = 'late' WHERE id = 'a7'; INSERT INTO authors VALUES ('late', '')";
    late.batch_execute(begun).await.unwrap();
    world.well(&ctx, &["freeze"]).await;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        late.batch_execute("COMMIT").await.unwrap();
    });
    world.well(&ctx, &["drain"]).await;
    assert_eq!(day.new.number("SELECT count(*) FROM authors WHERE name = 'late' OR id = 'late'").await, 2);
    done.store(true, Ordering::SeqCst);
    let writes = writing.await.unwrap();
    assert!(writes > 50, "{writes}");
    assert_eq!(Day::held(&day.old).await, Day::held(&day.new).await);
    // What the subscription applied since the capture was armed is no customer's.
    assert_eq!(day.new.number("SELECT count(*) FROM cutover.outbox WHERE part >= 0").await, 0);
    world.well(&ctx, &["switch"]).await;
    ctx = day.dies(ctx).await;
    world.well(&ctx, &["thaw"]).await;
    // Stopped before, and removed after customers were let in.
    assert_eq!(orders(world).iter().rev().take(2).collect::<Vec<_>>(), [&MoverOrder::Remove, &MoverOrder::Stop]);
    assert_eq!(left(&day.old, &day.new).await, [""; 0]);

    let mut rng = fastrand::Rng::with_seed(6);
    for n in 0..80 {
        day.new.sql.batch_execute(&a_write(&mut rng)).await.unwrap();
        if n == 40 {
            ctx = day.dies(ctx).await;
            ctx.ensure_following();
        }
    }
    assert_ne!(Day::held(&day.old).await, Day::held(&day.new).await);
    assert_eq!(day.taken_back(&ctx).await, [""; 0]);
    assert_eq!(Day::held(&day.old).await, Day::held(&day.new).await);
    ctx.stop().await;
}

#[tokio::test]
async fn a_run_that_is_taken_back_before_customers_moved_leaves_nothing_at_either_side() {
    let day = begun().await;
    let world = &day.world;
    let ctx = day.process().await;
    world.well(&ctx, &["capture", "load"]).await;
    ctx.ensure_following();
    world.well(&ctx, &["catch-up"]).await;
    assert!(left(&day.old, &day.new).await.len() >= 5, "{:?}", left(&day.old, &day.new).await);
    ctx.stop().await;
    // From another terminal, twice.
    let ports = day.ports();
    for pass in ["1", "2"] {
        for of in world.plan.movers() {
            let (id, _) = movers::intent(&of, pass);
            let (outcome, still) = movers::remove(&ports.movers, &of, id).await;
            assert!(
                still.is_none() && matches!(outcome, Event::Outcome { result: OutcomeResult::Done { .. }, .. }),
                "{still:?}"
            );
        }
        assert_eq!(left(&day.old, &day.new).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_later_run_removes_what_an_older_one_left_at_work() {
    let first = begun().await;
    let ctx = first.process().await;
    first.world.well(&ctx, &["capture", "load"]).await;
    ctx.stop().await;
    drop(ctx);
    let mover = subscription(&first.old.settings, &first.new.settings);
    assert_eq!(mover.look(&first.world.plan.tables).await.unwrap().state, MoverState::Running);
    // A plan whose tables the console moves itself does not load beside it.
    let own = Day { world: World::with(plan()), ..first };
    let ctx = own.process().await;
    let refused = own.world.perform(&ctx, "capture").await.unwrap_err();
    assert!(
        refused.message.contains("the subscription cutover_") && refused.advice.contains("cutover release"),
        "{refused:?}"
    );
    ctx.stop().await;

    let second = Day { world: World::with(moved()), ..own };
    second.old.sql.batch_execute("DELETE FROM books WHERE price < 10; UPDATE authors SET name = 'new'").await.unwrap();
    let ctx = second.process().await;
    second.world.well(&ctx, &["capture", "load", "catch-up", "verify"]).await;
    assert_eq!(orders(&second.world)[..3], [MoverOrder::Remove, MoverOrder::Prepare, MoverOrder::Start]);
    assert_eq!(Day::held(&second.old).await, Day::held(&second.new).await);
    ctx.stop().await;
    mover.remove().await.unwrap();
}

#[tokio::test]
async fn a_change_that_cannot_be_applied_holds_the_run_and_is_never_called_drained() {
    let day = begun().await;
    let world = &day.world;
    let ctx = day.process().await;
    world.well(&ctx, &["capture", "load"]).await;
    ctx.ensure_following();
    world.well(&ctx, &["catch-up"]).await;
    // Somebody else's row stands where one of the old side comes to.
    day.new.sql.batch_execute("INSERT INTO authors VALUES ('taken', 'in the way')").await.unwrap();
    day.old.sql.batch_execute("INSERT INTO authors VALUES ('taken', 'by a customer')").await.unwrap();
    let trouble = || ctx.measured().tables["authors"].trouble.clone().unwrap_or_default();
    crate::workers::tests::world::until("the error to be told", || trouble().contains("failed")).await;
    let lag = ctx.measured().tables["books"].lag.apply.value.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(ctx.measured().tables["books"].lag.apply.value.unwrap() > lag, "it grows while nothing is applied");
    let noted = |entry: &Entry| matches!(entry, Entry::Fact(Event::Note { text, .. }) if text.contains("failed"));
    assert!(world.journal.entries().iter().any(noted), "it is on record");
    // A person sees to it, and it goes on by itself.
    day.new.sql.batch_execute("DELETE FROM authors WHERE id = 'taken'").await.unwrap();
    crate::workers::tests::world::until("it to go on", || trouble().is_empty()).await;
    world.well(&ctx, &["verify"]).await;
    assert_eq!(Day::held(&day.old).await, Day::held(&day.new).await);
    // Nothing is written beside it.
    let refused = crate::workers::repair(&ctx, world.table("books"), &[]).await.unwrap_err();
    assert!(refused.message.contains("moved by a subscription"), "{refused:?}");
    ctx.stop().await;
    subscription(&day.old.settings, &day.new.settings).remove().await.unwrap();
}

#[tokio::test]
async fn a_pause_lets_it_rest_and_another_process_lets_it_go_on() {
    let day = begun().await;
    let world = &day.world;
    let ctx = day.process().await;
    world.well(&ctx, &["capture", "load"]).await;
    ctx.ensure_following();
    let mover = subscription(&day.old.settings, &day.new.settings);
    ctx.pause();
    let rests = async {
        while mover.look(&world.plan.tables).await.unwrap().state != MoverState::Paused {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), rests).await.expect("it was told to rest");
    day.old.sql.batch_execute("INSERT INTO authors VALUES ('meanwhile', '')").await.unwrap();
    let ctx = day.dies(ctx).await;
    assert_eq!(mover.look(&world.plan.tables).await.unwrap().state, MoverState::Paused, "a death changes nothing");
    ctx.ensure_following();
    world.well(&ctx, &["catch-up", "verify"]).await;
    assert_eq!(day.new.number("SELECT count(*) FROM authors WHERE id = 'meanwhile'").await, 1);
    ctx.stop().await;
    mover.remove().await.unwrap();
}

#[tokio::test]
async fn customers_are_let_in_only_once_nothing_of_it_can_write() {
    let day = begun().await;
    let world = &day.world;
    let ctx = day.process().await;
    world.well(&ctx, &["capture", "load"]).await;
    let tables = &world.plan.tables;
    let refused = day.new.target.open_to_customers(tables).await.unwrap_err();
    assert!(refused.came_back.contains("is enabled"), "{refused}");
    let mover = subscription(&day.old.settings, &day.new.settings);
    mover.stop().await.unwrap();
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication worker' AND datname = current_database()";
    assert_eq!(day.new.number(workers).await, 0);
    day.new.target.open_to_customers(tables).await.unwrap();
    // A console that was suspended, or a second one, cannot let it work any more.
    let late = mover.start(tables).await.unwrap_err();
    assert!(late.came_back.contains("open to customers"), "{late}");
    assert_eq!(mover.look(tables).await.unwrap().state, MoverState::Stopped);
    ctx.stop().await;
    mover.remove().await.unwrap();
    assert_eq!(PLAN, world.plan.key());
}
