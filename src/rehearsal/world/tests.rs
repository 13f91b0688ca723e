//! Whole rehearsals, with and without damage.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue as Av;

use super::tests_support::{Switchboard, small, until};
use super::*;
use crate::rehearsal::records::{Record, from_item, key_attribute, to_item};
use crate::rehearsal::test_postgres::{Postgres, SCHEMA, SCHEMA_OF_PLAN};

fn nowhere() -> PgAddress {
    PgAddress { host: "127.0.0.1".into(), port: 1, user: "app".into(), database: "none".into(), password: None }
}

fn dynamo(world: &World) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&session(&world.vars()["AWS_ENDPOINT"], 3))
}

/// Some item of a table.
async fn some(client: &aws_sdk_dynamodb::Client, kind: Kind) -> std::collections::HashMap<String, Av> {
    client.scan().table_name(table_name(kind)).limit(1).send().await.unwrap().items()[0].clone()
}

#[tokio::test]
async fn a_day_on_the_old_side_loses_nothing_and_damage_is_named() {
    let world = World::start(small(nowhere())).await.unwrap();
    until("writes of all sorts", || world.shop().oracle().tally().old > 150).await;
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean(), "{verdict}");
    assert!(verdict.to_string().starts_with("0 lost: "), "{verdict}");
    assert_eq!(verdict.in_charge, Side::Old);
    assert!(verdict.comparison.checked >= 200);
    assert_eq!(verdict.tally.unknown, 0);

    // Changed in the store without the shop: a row changed, a row gone, a row too many.
    let client = dynamo(&world);
    let mut changed = some(&client, Kind::User).await;
    changed.insert("name".into(), Av::S("somebody else".into()));
    let changed_id = changed[key_attribute(Kind::User)].as_s().unwrap().clone();
    client.put_item().table_name(table_name(Kind::User)).set_item(Some(changed)).send().await.unwrap();
    let gone = some(&client, Kind::Order).await[key_attribute(Kind::Order)].clone();
    client.delete_item().table_name(table_name(Kind::Order)).key("orderId", gone.clone()).send().await.unwrap();
    let mut more = some(&client, Kind::Cart).await;
    more.insert("cartId".into(), Av::S("one-too-many".into()));
    client.put_item().table_name(table_name(Kind::Cart)).set_item(Some(more)).send().await.unwrap();
    // A marker of the console is nobody's row.
    let marker = client.put_item().table_name(table_name(Kind::Book)).item("bookId", Av::S("cutover-marker-n1".into()));
    marker.send().await.unwrap();

    let verdict = world.verdict().await.unwrap();
    let text = verdict.to_string();
    let c = &verdict.comparison;
    assert_eq!((c.differing.len(), c.lost.len(), c.extra.len(), c.markers), (1, 1, 1, 1), "{text}");
    assert!(text.starts_with("LOST: 3 of "), "{text}");
    assert!(text.contains(&format!("users/{changed_id} (name)")), "{text}");
    assert!(text.contains(gone.as_s().unwrap()) && text.contains("one-too-many"), "{text}");
    assert!(!text.contains("somebody else"), "values stay out of it: {text}");
    world.stop().await;
}

#[tokio::test]
async fn after_the_verdict_nobody_writes() {
    let world = World::start(small(nowhere())).await.unwrap();
    let first = world.verdict().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = world.verdict().await.unwrap();
    assert_eq!((first.tally.old, first.tally.new), (second.tally.old, second.tally.new));
    world.stop().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_world() {
    let quiet = || WorldOptions { rates: Rates { reads: 0.0, writes: 0.0 }, ..small(nowhere()) };
    let (one, two) = (World::start(quiet()).await.unwrap(), World::start(quiet()).await.unwrap());
    assert_eq!(one.data(), two.data());
    for kind in Kind::SHOP {
        let mut sides = Vec::new();
        for world in [&one, &two] {
            let scan = dynamo(world).scan().table_name(table_name(kind)).send().await.unwrap();
            let mut records: Vec<String> =
                scan.items().iter().map(|i| format!("{:?}", from_item(kind, i).unwrap())).collect();
            records.sort();
            sides.push(records);
        }
        assert_eq!(sides[0], sides[1]);
        assert!(!sides[0].is_empty());
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn nothing_is_left_lying_about() {
    let world = World::start(small(nowhere())).await.unwrap();
    let folder = world.dynamo.as_ref().unwrap().folder().to_owned();
    assert!(folder.exists());
    let shop = world.vars()["SHOP_URL"].trim_start_matches("http://").to_owned();
    world.stop().await;
    assert!(!folder.exists());
    for _ in 0..50 {
        if std::net::TcpStream::connect(&shop).is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the shop still listens");
}

/// Copies what is in DynamoDB to PostgreSQL, as a console that does its work would have.
async fn carry(world: &World, postgres: &Postgres) {
    let client = postgres.client().await;
    let shape = crate::rehearsal::records::TargetShape::of(&client).await.unwrap();
    let dynamo = dynamo(world);
    for kind in Kind::MOVING {
        for item in dynamo.scan().table_name(table_name(kind)).send().await.unwrap().items() {
            let record = from_item(kind, item).unwrap();
            insert(&client, &shape, record).await;
        }
    }
}

async fn insert(client: &tokio_postgres::Client, shape: &crate::rehearsal::records::TargetShape, record: Record) {
    let done = match record {
        Record::Book(b) => {
            // Rows that do not fit are parked.
            if b.title.contains('\0') || matches!(b.price.text(), "19.999" | "12345678901.5") {
                return;
            }
            let category = b.category.unwrap_or("General".into());
            let sql = "INSERT INTO books VALUES ($1::text::uuid, $2, $3, $4, $5::text::numeric, $6, $7, $8::bigint::int, \
                       $9::text::timestamptz, $10::text::timestamptz)";
            let (created, updated) = (b.created_at.iso(), b.updated_at.iso());
            client
                .execute(
                    sql,
                    &[
                        &b.id,
                        &b.title,
                        &b.author,
                        &b.description,
                        &b.price.text(),
                        &category,
                        &b.isbn,
                        &b.stock,
                        &created,
                        &updated,
                    ],
                )
                .await
        }
        Record::User(u) => {
            let address = format!(
                r#"{{"street": {:?}, "city": {:?}, "zip": {:?}, "country": {:?}}}"#,
                u.address.street, u.address.city, u.address.zip, u.address.country
            );
            let favorites: Vec<String> = u.favorites.into_iter().collect();
            let sql = "INSERT INTO users (id, email, name, address, favorites, created_at) VALUES ($1::text::uuid, $2, \
                       $3, $4::text::jsonb, $5, $6::text::timestamptz)";
            client.execute(sql, &[&u.id, &u.email, &u.name, &address, &favorites, &u.created_at.iso()]).await
        }
        Record::Order(o) => {
            let a = &o.shipping.address;
            let shipping = format!(
                r#"{{"cost": {}, "method": {:?}, "address": {{"street": {:?}, "city": {:?}, "zip": {:?}, "country": {:?}}}}}"#,
                o.shipping.cost, o.shipping.method, a.street, a.city, a.zip, a.country
            );
            let sql = "INSERT INTO orders VALUES ($1::text::uuid, $2::text::uuid, $3, $4::text::numeric, $5::text::jsonb, \
                       $6::text::timestamptz, $7::text::timestamptz)";
            let (created, updated) = (o.created_at.iso(), o.updated_at.iso());
            client
                .execute(sql, &[&o.id, &o.user, &o.status, &o.total.text(), &shipping, &created, &updated])
                .await
                .unwrap();
            for (position, l) in (0_i64..).zip(&o.lines) {
                let (column, value) = if shape.line_title { (", title", ", $6") } else { ("", "") };
                let sql = format!(
                    "INSERT INTO order_items (order_id, position, book_id, quantity, {}{column}) VALUES ($1::text::uuid, \
                     $2::bigint::int, $3::text::uuid, $4::bigint::int, $5::text::numeric{value})",
                    shape.line_price
                );
                let price = l.unit_price.text();
                let mut values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                    vec![&o.id, &position, &l.book, &l.quantity, &price];
                if shape.line_title {
                    values.push(&l.title);
                }
                client.execute(&sql, &values).await.unwrap();
            }
            Ok(1)
        }
        Record::Cart(_) | Record::Account(_) | Record::Payment(_) | Record::Session(_) | Record::Limit(_) => Ok(1),
    };
    assert_eq!(done.unwrap(), 1);
}

async fn freeze(world: &World, switchboard: &Switchboard, frozen: bool) {
    switchboard.put("/cloudshelf/prod/writes-mode", if frozen { "frozen" } else { "open" }).await;
    until("the freeze", || world.shop().settings().frozen == frozen).await;
    if frozen {
        // What had begun ends on the side it began.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn switch(world: &World, switchboard: &Switchboard, side: Side) {
    let (db, alias) = if side == Side::New { ("postgresql", "green") } else { ("dynamodb", "blue") };
    switchboard.put("/cloudshelf/prod/db/reads", db).await;
    switchboard.put("/cloudshelf/prod/db/writes", db).await;
    let secret = if side == Side::New { switchboard.get(NEW_SECRET).await } else { OLD_SECRET.to_owned() };
    switchboard.put("/cloudshelf/prod/db/secret", &secret).await;
    switchboard.alias(alias).await;
    until("the switch", || {
        world.shop().settings().writes_to() == side && world.shop().settings().secret.reveal() == secret
    })
    .await;
}

async fn cut_over(plan_schema: bool) {
    let Some(postgres) = Postgres::start() else { return };
    let world = World::start(small(postgres.address())).await.unwrap();
    // The target's tables come after the shop, as on the day.
    let client = postgres.client().await;
    client.batch_execute(SCHEMA).await.unwrap();
    if plan_schema {
        client.batch_execute(SCHEMA_OF_PLAN).await.unwrap();
    }
    let switchboard = Switchboard::of(&world);
    let oracle = world.shop().oracle().clone();
    until("old writes", || oracle.tally().old > 60).await;
    freeze(&world, &switchboard, true).await;
    carry(&world, &postgres).await;
    if plan_schema {
        client.batch_execute("UPDATE users SET city = address ->> 'city'").await.unwrap();
    }
    switch(&world, &switchboard, Side::New).await;
    freeze(&world, &switchboard, false).await;
    until("new writes", || oracle.tally().new > 120).await;
    until("new reads", || world.shop().served(Side::New).0 > oracle.tally().new + 20).await;
    assert_eq!(world.shop().served(Side::New).1, 0, "no request of the new side failed");
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean(), "{verdict}");
    assert_eq!((verdict.in_charge, verdict.comparison.parked), (Side::New, 3), "{verdict}");

    // A single lost cent is found.
    client
        .execute("UPDATE orders SET total = total + 0.01 WHERE id = (SELECT min(id::text)::uuid FROM orders)", &[])
        .await
        .unwrap();
    let verdict = world.verdict().await.unwrap();
    assert_eq!(verdict.comparison.wrong(), 1, "{verdict}");
    assert_eq!(verdict.comparison.differing[0].fields, ["total"]);
    world.stop().await;
}

#[tokio::test]
async fn a_cutover_moves_the_traffic_and_loses_nothing() {
    cut_over(false).await;
}

#[tokio::test]
async fn a_cutover_works_with_the_columns_of_the_shipped_plan() {
    cut_over(true).await;
}

#[tokio::test]
async fn a_rollback_without_the_way_back_lists_the_writes_of_the_new_side() {
    let Some(postgres) = Postgres::start() else { return };
    let world = World::start(small(postgres.address())).await.unwrap();
    postgres.client().await.batch_execute(SCHEMA).await.unwrap();
    let switchboard = Switchboard::of(&world);
    let oracle = world.shop().oracle().clone();
    freeze(&world, &switchboard, true).await;
    carry(&world, &postgres).await;
    switch(&world, &switchboard, Side::New).await;
    // Rolled back before the thaw: nothing was written there, nothing is lost.
    switch(&world, &switchboard, Side::Old).await;
    freeze(&world, &switchboard, false).await;
    let old = oracle.tally().old;
    until("old writes", || oracle.tally().old > old + 20).await;
    freeze(&world, &switchboard, true).await;
    assert_eq!(oracle.tally().new, 0);
    let found = oracle.compare(Side::Old, &*world.old, &Secret::new("none"), &Kind::SHOP).await.unwrap();
    assert!(found.clean(), "{found:?}");

    // Rolled back after the thaw, and nobody applied the writes to the old side.
    let client = postgres.client().await;
    client.batch_execute("TRUNCATE books, users, orders, order_items").await.unwrap();
    carry(&world, &postgres).await;
    switch(&world, &switchboard, Side::New).await;
    freeze(&world, &switchboard, false).await;
    until("new writes", || oracle.tally().new > 30).await;
    freeze(&world, &switchboard, true).await;
    switch(&world, &switchboard, Side::Old).await;
    let verdict = world.verdict().await.unwrap();
    assert!(!verdict.clean());
    let lost = verdict.comparison.new_side_writes_lost();
    assert!(lost > 0 && lost <= verdict.tally.new, "{verdict}");
    assert!(
        verdict.comparison.findings().all(|f| f.new_writes > 0),
        "only writes of the new side are missing: {verdict}"
    );
    assert!(verdict.to_string().contains("writes of the new side did not come back"), "{verdict}");

    // Applied to the old side by hand, they are there again.
    let dynamo = dynamo(&world);
    let shape = crate::rehearsal::records::TargetShape::of(&client).await.unwrap();
    for finding in verdict.comparison.findings() {
        let key = &finding.key;
        match crate::rehearsal::records::read_one(&client, &shape, key.kind, &key.id).await.unwrap() {
            Some(record) => {
                let mut record = record.unwrap();
                // What was absent stays absent: the new side's default is no customer's.
                if let (Record::Book(book), Some(Record::Book(want))) = (&mut record, oracle.certain(key)) {
                    book.category = want.category;
                }
                let item = to_item(&record);
                dynamo.put_item().table_name(table_name(key.kind)).set_item(Some(item)).send().await.unwrap();
            }
            None => {
                let delete = dynamo.delete_item().table_name(table_name(key.kind));
                delete.key(key_attribute(key.kind), Av::S(key.id.clone())).send().await.unwrap();
            }
        }
    }
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean(), "{verdict}");
    world.stop().await;
}

/// The same world on emulators that are not ours, when they are named.
#[tokio::test]
async fn a_day_on_independent_emulators_loses_nothing() {
    let Ok(endpoint) = std::env::var("CUTOVER_TEST_AWS_ENDPOINT") else {
        eprintln!("skipped: CUTOVER_TEST_AWS_ENDPOINT names no emulator; tests/run.sh starts one");
        return;
    };
    let options =
        WorldOptions { dynamo_endpoint: Some(endpoint.clone()), control_endpoint: Some(endpoint), ..small(nowhere()) };
    let world = World::start(options).await.unwrap();
    until("writes of all sorts", || world.shop().oracle().tally().old > 60).await;
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean(), "{verdict}");
    world.stop().await;
}

/// Run by hand: `cargo test --lib big_world -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute or so"]
async fn a_big_world_starts_and_is_compared() {
    let began = std::time::Instant::now();
    let options =
        WorldOptions { sizes: Sizes { books: 100_000, users: 20_000, orders: 50_000, carts: 200 }, ..small(nowhere()) };
    let world = World::start(options).await.unwrap();
    println!("started after {:?}", began.elapsed());
    until("writes of all sorts", || world.shop().oracle().tally().old > 100).await;
    let began = std::time::Instant::now();
    let verdict = world.verdict().await.unwrap();
    println!("compared in {:?}: {verdict}", began.elapsed());
    assert!(verdict.clean(), "{verdict}");
    assert!(verdict.comparison.checked > 170_000);
    world.stop().await;
}
