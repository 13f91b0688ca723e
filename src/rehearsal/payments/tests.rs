//! The payments application on two databases, driven through its parameters.

use std::time::Duration;

use super::*;
use crate::rehearsal::clients::session;
use crate::rehearsal::oracle::{Oracle, Outcome, Stood};
use crate::rehearsal::records::{Account, Decimal, Kind, Moment, Record, RecordKey, Write};
use crate::rehearsal::shop::{Rates, Store as _};
use crate::rehearsal::test_postgres::Postgres;
use crate::rehearsal::world::tests_support::{http, until};
use crate::rehearsal::{World, WorldOptions};

const SMALL: PaymentSizes = PaymentSizes { accounts: 40, payments: 120 };

/// Both sides in one server.
async fn databases(postgres: &Postgres) -> Databases {
    postgres.client().await.batch_execute("CREATE DATABASE v2").await.unwrap();
    let v1 = postgres.address();
    Databases { v2: PgAddress { database: "v2".into(), ..v1.clone() }, v1 }
}

async fn client(at: &PgAddress) -> tokio_postgres::Client {
    let (client, driver) = tokio_postgres::connect(at.connection().reveal(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

#[test]
fn the_same_seed_gives_the_same_data_and_sizes_are_two_numbers() {
    assert_eq!(generate(SMALL, 7).digest(), generate(SMALL, 7).digest());
    assert_ne!(generate(SMALL, 7).digest(), generate(SMALL, 8).digest());
    assert_eq!("2000,8000".parse(), Ok(PaymentSizes::default()));
    for text in ["", "1", "1,x", "0,1", "1,2,3", "5000,1000,2500,200"] {
        assert!(text.parse::<PaymentSizes>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn every_kind_of_write_is_stored_as_written_and_says_what_stood_there() {
    let Some(postgres) = Postgres::start() else { return };
    let databases = databases(&postgres).await;
    let data = generate(SMALL, 5);
    import(&client(&databases.v1).await, &data).await.unwrap();
    let (store, to) = (PaymentStore::default(), databases.v1.connection());
    let oracle = Oracle::new(&data);
    let found = oracle.compare(Side::Old, &store, &to, &Kind::PAYMENTS).await.unwrap();
    assert!(found.clean() && found.checked == 160, "{found:?}");

    let id = |kind| data.records.iter().map(Record::key).find(|key| key.kind == kind).unwrap().id;
    let (account, payment) = (id(Kind::Account), id(Kind::Payment));
    let at = Moment::now();
    let gone = RecordKey { kind: Kind::Payment, id: payment.clone() };
    let made = store.read(&to, &gone).await.unwrap().unwrap();
    let opened = Account {
        id: uuid::Uuid::new_v4().to_string(),
        holder: "O'Brien \"東京\" \\".into(),
        email: "a@b.c".into(),
        balance: Decimal::cents(-5),
        opened_at: at,
        updated_at: at,
    };
    let writes = [
        Write::Balance { id: account.clone(), balance: Decimal::cents(-1_234_567), at },
        Write::Holder { id: account, holder: "Zoë".into(), email: "zoë@example.com".into() },
        Write::State { id: payment, state: "settled".into(), at },
        Write::Delete(gone.clone()),
        Write::Put(made.clone()),
        Write::Put(made),
        Write::Put(Record::Account(opened)),
    ];
    for write in writes {
        let before = store.read(&to, &write.key()).await.unwrap();
        let mut claim = oracle.claim(&write.key()).unwrap();
        claim.begin(write.clone(), Side::Old);
        let (outcome, stood) = store.write(&to, &write).await;
        assert_eq!((outcome, stood), (Outcome::Acknowledged, Some(Stood(before))), "{write:?}");
        claim.settle(outcome);
        let found = oracle.compare(Side::Old, &store, &to, &Kind::PAYMENTS).await.unwrap();
        assert!(found.clean(), "{write:?}: {found:?}");
    }

    // Nobody changes what is not there, pays from no account, or writes what is the shop's.
    let nobody = uuid::Uuid::new_v4().to_string();
    let mut rng = fastrand::Rng::with_seed(1);
    for refused in [
        Write::Balance { id: nobody.clone(), balance: Decimal::cents(1), at },
        Write::Delete(RecordKey { kind: Kind::Account, id: nobody.clone() }),
        Write::Put(Record::Payment(seed::payment(&mut rng, &nobody, at))),
        Write::Put(Record::Book(crate::rehearsal::seed::book(&mut rng, 1))),
    ] {
        assert_eq!(store.write(&to, &refused).await, (Outcome::Refused, None), "{refused:?}");
    }
    // What a store lost, gained or changed is told.
    let client = client(&databases.v1).await;
    client.batch_execute("DELETE FROM payments WHERE id = (SELECT min(id::text)::uuid FROM payments)").await.unwrap();
    client
        .batch_execute("UPDATE accounts SET email = 'x' WHERE id = (SELECT max(id::text)::uuid FROM accounts)")
        .await
        .unwrap();
    let found = oracle.compare(Side::Old, &store, &to, &Kind::PAYMENTS).await.unwrap();
    assert_eq!((found.lost.len(), found.differing.len(), found.extra.len()), (1, 1, 0), "{found:?}");
    assert_eq!(found.differing[0].fields, ["email"]);
}

#[tokio::test]
async fn the_application_goes_where_both_parameters_point_and_not_on_one_alone() {
    let Some(postgres) = Postgres::start() else { return };
    let databases = databases(&postgres).await;
    let options = WorldOptions {
        rates: Rates { reads: 50.0, writes: 0.0 },
        poll: Duration::from_millis(50),
        ..WorldOptions::payments(databases.v1.clone(), databases.v2.clone(), SMALL)
    };
    // As a console would have left it.
    import(&client(&databases.v2).await, &generate(SMALL, options.seed)).await.unwrap();
    let world = World::start(options).await.unwrap();
    let ssm = aws_sdk_ssm::Client::new(&session(&world.vars()["CONTROL_ENDPOINT"], 2));
    let put = async |name: &str, value: &str| {
        ssm.put_parameter().name(name).value(value).overwrite(true).send().await.unwrap();
    };
    let settings = || world.shop().settings();
    assert_eq!(http(&world, "GET", "/payments/probe", "").await.0, 200);
    assert_eq!(http(&world, "GET", "/books/probe", "").await.0, 404);
    assert_eq!(http(&world, "POST", "/probe", r#"{"nonce":"n"}"#).await.0, 200);

    put(MODE, "frozen").await;
    until("the freeze", || settings().frozen).await;
    assert_eq!(http(&world, "POST", "/probe", "{}").await.0, 503);
    // The endpoint of the one database with the password of the other opens nothing.
    put(PASSWORD, NEW_PASSWORD).await;
    until("readings that do not fit", || world.shop().polls_failed() > 2).await;
    assert_eq!(settings().writes_to(), Side::Old);
    put(ENDPOINT, &endpoint_of(&databases.v2)).await;
    until("the new side", || settings().writes_to() == Side::New).await;
    put(MODE, "open").await;
    until("open", || !settings().frozen).await;
    assert_eq!(http(&world, "POST", "/probe", "{}").await.0, 200);
    until("new reads", || world.shop().served(Side::New).0 > 10).await;
    assert_eq!(world.shop().served(Side::New).1, 0, "no request of the new side failed");
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean() && verdict.to_string().contains("new side (PostgreSQL v2)"), "{verdict}");
    assert_eq!((verdict.tally.old, verdict.tally.new), (1, 1), "{verdict}");
    world.stop().await;
}
