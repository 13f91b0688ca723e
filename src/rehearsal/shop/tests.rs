//! The shop on an embedded DynamoDB, driven through its parameters.

use super::*;
use crate::rehearsal::oracle::Stood;
use crate::rehearsal::records::Kind;
use crate::rehearsal::seed::Sizes;
use crate::rehearsal::test_postgres::{Postgres, SCHEMA};
use crate::rehearsal::world::tests_support::{Switchboard, http, small, until};
use crate::rehearsal::{PgAddress, World, WorldOptions};

/// An address where nothing answers: the shop must not touch the new side unasked.
fn nowhere() -> PgAddress {
    PgAddress { host: "127.0.0.1".into(), port: 1, user: "app".into(), database: "none".into(), password: None }
}

#[tokio::test]
async fn the_probe_is_served_refused_and_served_again() {
    let world = World::start(small(nowhere())).await.unwrap();
    let switchboard = Switchboard::of(&world);
    assert_eq!(http(&world, "POST", "/probe", r#"{"nonce":"n1"}"#).await.0, 200);
    assert_eq!(http(&world, "GET", "/health", "").await.0, 200);
    assert_eq!(http(&world, "GET", "/books/probe", "").await.0, 200);
    assert_eq!(http(&world, "GET", "/books/none", "").await.0, 404);

    switchboard.put("/cloudshelf/prod/writes-mode", "frozen").await;
    until("frozen", || world.shop().settings().frozen).await;
    let (status, body) = http(&world, "POST", "/probe", "{}").await;
    assert_eq!(status, 503);
    assert!(body.contains("read-only"), "{body}");
    // A write that began before the freeze was read may still be acknowledged; it holds a place until then.
    drop(world.shop().floor.places.acquire_many(IN_FLIGHT).await.unwrap());
    let before = world.shop().oracle().tally();
    until("refused writes", || world.shop().oracle().tally().frozen > before.frozen + 5).await;
    let after = world.shop().oracle().tally();
    assert_eq!((before.old, before.new), (after.old, after.new), "no write is acknowledged while frozen");

    switchboard.put("/cloudshelf/prod/writes-mode", "open").await;
    until("open", || !world.shop().settings().frozen).await;
    assert_eq!(http(&world, "POST", "/probe", "{}").await.0, 200);
    world.stop().await;
}

#[tokio::test]
async fn the_old_code_ignores_the_parameters_of_the_new() {
    let world = World::start(small(nowhere())).await.unwrap();
    let switchboard = Switchboard::of(&world);
    switchboard.put("/cloudshelf/prod/db/writes", "postgresql").await;
    switchboard.put("/cloudshelf/prod/db/reads", "postgresql").await;
    until("parameters", || world.shop().settings().writes == Side::New).await;
    assert_eq!(world.shop().settings().writes_to(), Side::Old);
    assert_eq!(http(&world, "POST", "/probe", "{}").await.0, 200);
    // The new code does not; and its store does not answer.
    switchboard.alias("green").await;
    until("green", || world.shop().settings().green).await;
    assert_eq!(http(&world, "POST", "/probe", "{}").await.0, 500);
    assert_eq!(http(&world, "GET", "/books/probe", "").await.0, 500);
    world.stop().await;
}

#[tokio::test]
async fn latency_and_errors_are_published() {
    let world = World::start(small(nowhere())).await.unwrap();
    let switchboard = Switchboard::of(&world);
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen = switchboard.metric("Latency", "old", "p95").await;
        if !seen.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.first().is_some_and(|ms| *ms > 0.0 && *ms < 5_000.0), "{seen:?}");
    assert_eq!(switchboard.metric("Errors", "old", "Average").await, [0.0]);
    assert!(switchboard.metric("Latency", "new", "p95").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn faults_of_the_new_side_spare_the_old() {
    let options = small(nowhere());
    options.faults.bring(Fault::SlowNew);
    options.faults.bring(Fault::ErrorsNew);
    let world = World::start(options).await.unwrap();
    let switchboard = Switchboard::of(&world);
    // One of several: a busy machine may hold up any single request.
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(http(&world, "GET", "/books/probe", "").await.0, 200);
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < SLOWNESS);
    // Green code on the old store: slow and failing, but never losing.
    switchboard.alias("green").await;
    until("green", || world.shop().settings().green).await;
    let began = Instant::now();
    http(&world, "GET", "/books/probe", "").await;
    assert!(began.elapsed() >= SLOWNESS);
    world.faults().lift(Fault::SlowNew);
    let mut failures = 0;
    for _ in 0..60 {
        failures += u32::from(http(&world, "GET", "/books/probe", "").await.0 == 500);
    }
    assert!((5..55).contains(&failures), "two in five requests fail, not {failures} of 60");
    until("refused writes", || world.shop().oracle().tally().refused > 2).await;
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean(), "{verdict}");
    world.stop().await;
}

#[tokio::test]
async fn every_kind_of_write_reaches_postgresql_as_written() {
    let Some(postgres) = Postgres::start() else { return };
    let client = postgres.client().await;
    client.batch_execute(SCHEMA).await.unwrap();
    let data = crate::rehearsal::seed::Dataset::generate(Sizes { books: 30, users: 8, orders: 12, carts: 0 }, 5, false);
    let secret = format!("host=127.0.0.1 port={} user=app dbname=postgres", postgres.address().port);
    let secret = crate::domain::secret::Secret::new(secret);
    let sides = NewSides::default();
    let oracle = Oracle::new(&data);
    for record in &data.records {
        assert_eq!(sides.write(&secret, &Write::Put(record.clone())).await, Outcome::Acknowledged, "{}", record.key());
    }
    let check = async |what: &str| {
        let found = oracle.compare(Side::New, &sides, &secret, &Kind::MOVING).await.unwrap();
        assert!(found.clean() && found.checked >= 50, "{what}: {found:?}");
    };
    check("seeded").await;

    let of = |kind| data.records.iter().filter(move |r| r.key().kind == kind).map(|r| r.key().id).collect::<Vec<_>>();
    let (books, users, orders) = (of(Kind::Book), of(Kind::User), of(Kind::Order));
    let at = Moment::now();
    let mut rng = fastrand::Rng::with_seed(1);
    let writes = [
        Write::Stock { id: books[0].clone(), stock: 4711, at },
        Write::Price { id: books[1].clone(), price: Decimal::cents(5), at },
        Write::Status { id: orders[0].clone(), status: "shipped".into(), at },
        Write::Profile {
            id: users[0].clone(),
            name: "O'Brien \"東京\" \\".into(),
            address: crate::rehearsal::seed::address(&mut rng),
            favorites: Default::default(),
        },
        Write::Profile {
            id: users[1].clone(),
            name: "Zoë".into(),
            address: crate::rehearsal::seed::address(&mut rng),
            favorites: [books[2].clone(), books[0].clone()].into(),
        },
        Write::Delete(RecordKey { kind: Kind::Order, id: orders[1].clone() }),
        Write::Delete(RecordKey { kind: Kind::Book, id: books[3].clone() }),
    ];
    for write in writes {
        let mut claim = oracle.claim(&write.key()).unwrap();
        claim.begin(write.clone(), Side::New);
        let outcome = sides.write(&secret, &write).await;
        assert_eq!(outcome, Outcome::Acknowledged, "{write:?}");
        claim.settle(outcome);
        check(&format!("{write:?}")).await;
    }
    // What is not there cannot be changed, and the store says so.
    let gone = Write::Stock { id: books[3].clone(), stock: 1, at };
    assert_eq!(sides.write(&secret, &gone).await, Outcome::Refused);
    let nowhere = crate::domain::secret::Secret::new("none");
    assert_eq!(sides.write(&nowhere, &gone).await, Outcome::Refused);
}

#[tokio::test]
async fn updates_of_nothing_are_refused_by_dynamodb_too() {
    let options = WorldOptions { rates: Rates { reads: 0.0, writes: 0.0 }, ..small(nowhere()) };
    let world = World::start(options).await.unwrap();
    let old = OldSide::new(&world.vars()["AWS_ENDPOINT"]);
    let id = uuid::Uuid::new_v4().to_string();
    let update = Write::Stock { id: id.clone(), stock: 1, at: Moment::now() };
    assert_eq!(old.write(&update).await, (Outcome::Refused, None));
    assert_eq!(old.read(&RecordKey { kind: Kind::Book, id }).await, Ok(None));
    assert_eq!(OldSide::new("http://127.0.0.1:1").write(&update).await, (Outcome::Unknown, None));
    world.stop().await;
}

#[tokio::test]
async fn dynamodb_says_what_stood_before_every_kind_of_write() {
    let options = WorldOptions { rates: Rates { reads: 0.0, writes: 0.0 }, ..small(nowhere()) };
    let world = World::start(options).await.unwrap();
    let old = OldSide::new(&world.vars()["AWS_ENDPOINT"]);
    let mut rng = fastrand::Rng::with_seed(2);
    let at = Moment::now();
    let id = |kind| world.shop().oracle().any(kind, &mut fastrand::Rng::with_seed(3)).unwrap().id;
    let (book, user, order) = (id(Kind::Book), id(Kind::User), id(Kind::Order));
    let address = crate::rehearsal::seed::address(&mut rng);
    let writes = [
        Write::Stock { id: book.clone(), stock: 4711, at },
        Write::Stock { id: book.clone(), stock: 4711, at },
        Write::Price { id: book.clone(), price: Decimal::cents(5), at },
        Write::Status { id: order, status: "shipped".into(), at },
        Write::Profile { id: user.clone(), name: "Zoë".into(), address, favorites: [book.clone()].into() },
        Write::Delete(RecordKey { kind: Kind::Book, id: book }),
    ];
    for write in writes {
        let stood = old.read(&write.key()).await.unwrap();
        assert_eq!(old.write(&write).await, (Outcome::Acknowledged, Some(Stood(stood.clone()))), "{write:?}");
        assert_eq!(old.read(&write.key()).await.unwrap(), write.apply(stood), "{write:?}");
    }
    let mut new = crate::rehearsal::seed::book(&mut rng, 0);
    let put = Write::Put(Record::Book(new.clone()));
    assert_eq!(old.write(&put).await, (Outcome::Acknowledged, Some(Stood(None))));
    new.stock += 1;
    let again = old.write(&Write::Put(Record::Book(new))).await;
    let Write::Put(first) = put else { panic!("a put") };
    assert_eq!(again, (Outcome::Acknowledged, Some(Stood(Some(first)))));
    world.stop().await;
}
