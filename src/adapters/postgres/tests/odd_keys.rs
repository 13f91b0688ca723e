//! Keys of types and values that are rarely keys: followed, compared and carried back like others.

use super::day::{Day, plan_of};
use super::{TestDatabase, column, key};
use crate::domain::plan::{ColumnType, Table};
use crate::workers::full_pass;
use crate::workers::tests::world::World;

const FLAGS: &str = "CREATE TABLE flags (id bigint, main boolean, v bigint, PRIMARY KEY (id, main))";

fn flags() -> Table {
    Table {
        key: vec!["id".into(), "main".into()],
        columns: vec![key("id", ColumnType::Bigint), key("main", ColumnType::Boolean), column("v", ColumnType::Bigint)],
        target: "public.flags".into(),
        marker_prefix: "marker-".into(),
        ..Table::watched("flags", "public.flags")
    }
}

const PRICES: &str = "CREATE TABLE prices (id bigint, until timestamptz, v bigint, PRIMARY KEY (id, until))";

fn prices() -> Table {
    Table {
        key: vec!["id".into(), "until".into()],
        columns: vec![
            key("id", ColumnType::Bigint),
            key("until", ColumnType::Timestamptz),
            column("v", ColumnType::Bigint),
        ],
        target: "public.prices".into(),
        marker_prefix: "marker-".into(),
        ..Table::watched("prices", "public.prices")
    }
}

async fn begun(table: Table, schema: &str, rows: &str) -> Day {
    let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
    for db in [&old, &new] {
        db.sql.batch_execute(schema).await.unwrap();
    }
    old.sql.batch_execute(rows).await.unwrap();
    Day { world: World::with(plan_of(vec![table])), old, new }
}

#[tokio::test]
async fn a_key_with_a_boolean_is_followed_and_carried_back() {
    let rows = "INSERT INTO flags SELECT n / 2, n % 2 = 0, 1 FROM generate_series(1, 100) n";
    let day = begun(flags(), FLAGS, rows).await;
    let ctx = day.process().await;
    day.world.well(&ctx, &["capture", "load"]).await;
    ctx.ensure_following();
    let changes = "UPDATE flags SET v = 2 WHERE id < 10; DELETE FROM flags WHERE id = 12 AND main;
                   UPDATE flags SET main = NOT main WHERE id = 50; INSERT INTO flags VALUES (900, true, 1)";
    day.old.sql.batch_execute(changes).await.unwrap();
    day.world.well(&ctx, &["catch-up", "verify", "arm", "freeze", "drain", "switch", "thaw"]).await;
    assert_eq!(Day::held_of(&day.old, &["flags"]).await, Day::held_of(&day.new, &["flags"]).await);
    assert_eq!(day.new.number("SELECT count(*) FROM cutover.parked").await, 0);

    let changes = "UPDATE flags SET v = 3 WHERE id = 20 AND main; DELETE FROM flags WHERE id = 21 AND NOT main;
                   INSERT INTO flags VALUES (901, false, 1)";
    day.new.sql.batch_execute(changes).await.unwrap();
    assert_eq!(day.taken_back(&ctx).await, [""; 0]);
    assert_eq!(Day::held_of(&day.old, &["flags"]).await, Day::held_of(&day.new, &["flags"]).await);
    ctx.stop().await;
}

#[tokio::test]
async fn every_moment_that_the_server_knows_is_a_key_like_any_other() {
    for late in ["294276-12-31 23:59:59.999999+00", "91026-06-01 12:34:56.789013+00", "4713-01-02 00:00:00.1+00 BC"] {
        the_moment_is_a_key(late).await;
    }
}

async fn the_moment_is_a_key(late: &str) {
    let rows = format!(
        "INSERT INTO prices VALUES (1, '2024-01-01+00', 1), (1, '{late}', 2), (2, '{late}', 3), (3, '{late}', 4)"
    );
    let day = begun(prices(), PRICES, &rows).await;
    let ctx = day.process().await;
    day.world.well(&ctx, &["capture", "load"]).await;
    ctx.ensure_following();
    day.world.well(&ctx, &["catch-up"]).await;
    let wrong = format!(
        "DELETE FROM prices WHERE id = 2; UPDATE prices SET v = 777 WHERE id = 3; INSERT INTO prices VALUES (8, '{late}', 5)"
    );
    day.new.sql.batch_execute(&wrong).await.unwrap();
    let counts = async || {
        let found = full_pass(&ctx, &day.world.plan.tables[0]).await.unwrap().summary;
        (found.missing, found.extra, found.mismatched)
    };
    assert_eq!(counts().await, (1, 1, 1));
    let right = format!(
        "DELETE FROM prices WHERE id = 8; UPDATE prices SET v = 4 WHERE id = 3; INSERT INTO prices VALUES (2, '{late}', 3)"
    );
    day.new.sql.batch_execute(&right).await.unwrap();
    day.world.well(&ctx, &["verify", "arm", "freeze", "drain", "switch", "thaw"]).await;

    let changes = format!(
        "UPDATE prices SET v = v + 100 WHERE id > 1; DELETE FROM prices WHERE id = 2; INSERT INTO prices VALUES (9, '{late}', 9)"
    );
    day.new.sql.batch_execute(&changes).await.unwrap();
    assert_eq!(day.taken_back(&ctx).await, [""; 0]);
    assert_eq!(Day::held_of(&day.old, &["prices"]).await, Day::held_of(&day.new, &["prices"]).await);
    ctx.stop().await;
}
