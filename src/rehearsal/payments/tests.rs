//! The payments application on two databases, driven through its parameters.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;
use crate::private::clients::session;
use crate::rehearsal::oracle::{Oracle, Outcome, Stood};
use crate::rehearsal::records::{Account, Decimal, Kind, Moment, Record, RecordKey, Write};
use crate::rehearsal::shop::{Rates, Store as _};
use crate::rehearsal::test_postgres::Postgres;
use crate::rehearsal::world::tests_support::{http, until};
use crate::rehearsal::{World, WorldOptions};

const SMALL: PaymentSizes = PaymentSizes { accounts: 40, payments: 120, sessions: 30, limits: 30 };

/// Both sides in one server.
async fn databases(postgres: &Postgres) -> PaymentPlaces {
    postgres.client().await.batch_execute("CREATE DATABASE v2").await.unwrap();
    let v1 = postgres.address();
    PaymentPlaces { v2: PgAddress { database: "v2".into(), ..v1.clone() }, v1 }
}

async fn client(at: &PgAddress) -> tokio_postgres::Client {
    let (client, driver) = tokio_postgres::connect(at.connection().reveal(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

#[test]
fn the_same_seed_gives_the_same_data_and_sizes_are_four_numbers() {
    assert_eq!(generate(SMALL, 7).digest(), generate(SMALL, 7).digest());
    assert_ne!(generate(SMALL, 7).digest(), generate(SMALL, 8).digest());
    assert_eq!("2000,8000,800,500".parse(), Ok(PaymentSizes::default()));
    for text in ["", "1", "1,2", "1,2,3,x", "0,1,1,1", "1,2,3", "1,2,3,4,5"] {
        assert!(text.parse::<PaymentSizes>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn every_kind_of_write_is_stored_as_written_and_says_what_stood_there() {
    let Some(postgres) = Postgres::start() else { return };
    let databases = databases(&postgres).await;
    let data = generate(SMALL, 5);
    import(&client(&databases.v1).await, &data).await.unwrap();
    let dynamo = EmbeddedDynamo::start(&EmbeddedDynamo::place()).unwrap();
    lay_tables(dynamo.endpoint(), Some(&dynamo), &data).await.unwrap();
    let (store, to) = (PaymentStore::new(dynamo.endpoint(), Side::Old), databases.v1.connection());
    let oracle = Oracle::new(&data);
    let found = oracle.compare(Side::Old, &store, &to, &Kind::PAYMENTS).await.unwrap();
    assert!(found.clean() && found.checked == data.records.len(), "{found:?}");

    let id = |kind| data.records.iter().map(Record::key).find(|key| key.kind == kind).unwrap().id;
    let (account, payment) = (id(Kind::Account), id(Kind::Payment));
    let (signed_in, limit) = (id(Kind::Session), id(Kind::Limit));
    let shut = RecordKey { kind: Kind::Session, id: signed_in.clone() };
    let lifted = RecordKey { kind: Kind::Limit, id: limit.clone() };
    let (open, set) =
        (store.read(&to, &shut).await.unwrap().unwrap(), store.read(&to, &lifted).await.unwrap().unwrap());
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
        Write::Seen { id: signed_in.clone(), device: "téléphone".into(), scopes: ["pay".into()].into(), at },
        Write::Seen { id: signed_in, device: String::new(), scopes: Default::default(), at },
        Write::Spent { id: limit, spent: Decimal::cents(-7), at },
        Write::Delete(shut),
        Write::Put(open.clone()),
        Write::Put(open),
        Write::Delete(lifted),
        Write::Put(set),
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
        Write::Seen { id: nobody.clone(), device: String::new(), scopes: Default::default(), at },
        Write::Spent { id: format!("{nobody}/1"), spent: Decimal::cents(1), at },
        Write::Delete(RecordKey { kind: Kind::Limit, id: format!("{nobody}/1") }),
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
    // An attribute that nobody wrote is damage.
    let tables = aws_sdk_dynamodb::Client::new(&session(dynamo.endpoint(), 2));
    let key = items::key_of(&RecordKey { kind: Kind::Limit, id: id(Kind::Limit) }).unwrap();
    let update = tables.update_item().table_name("limit-table-prod").set_key(Some(key)).update_expression("SET x = :x");
    update.expression_attribute_values(":x", AttributeValue::Bool(true)).send().await.unwrap();
    let found = oracle.compare(Side::Old, &store, &to, &[Kind::Limit]).await.unwrap();
    assert_eq!(found.differing.iter().map(|m| &m.fields[..]).collect::<Vec<_>>(), [["unreadable"]], "{found:?}");
}

#[tokio::test]
async fn sessions_of_an_account_are_found_by_it_on_both_sides() {
    let data = generate(SMALL, 5);
    let dynamo = EmbeddedDynamo::start(&EmbeddedDynamo::place()).unwrap();
    lay_tables(dynamo.endpoint(), Some(&dynamo), &data).await.unwrap();
    let tables = aws_sdk_dynamodb::Client::new(&session(dynamo.endpoint(), 2));
    let account = data.records.iter().find_map(|r| match r {
        Record::Session(session) => Some(session.account.clone()),
        _ => None,
    });
    let query = |table: &str| {
        let query =
            tables.query().table_name(table).index_name("by-account").key_condition_expression("accountId = :a");
        query.expression_attribute_values(":a", AttributeValue::S(account.clone().unwrap())).send()
    };
    assert!(query("session-table-prod").await.unwrap().count() > 0);
    assert_eq!(query("session-table-v2-prod").await.unwrap().count(), 0, "the new table is there, and empty");
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
    let data = generate(SMALL, options.seed);
    import(&client(&databases.v2).await, &data).await.unwrap();
    let world = World::start(options).await.unwrap();
    let (new, nowhere) = (PaymentStore::new(&world.vars()["AWS_ENDPOINT"], Side::New), databases.v2.connection());
    for record in data.records.iter().filter(|r| Kind::PAYMENT_ITEMS.contains(&r.key().kind)) {
        assert_eq!(new.write(&nowhere, &Write::Put(record.clone())).await.0, Outcome::Acknowledged);
    }
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
    // The tables are chosen each by itself.
    put(SESSIONS, "session-table-v2-prod").await;
    until("the new table of sessions", || settings().writes_to_of(Kind::Session) == Side::New).await;
    assert_eq!(settings().writes_to_of(Kind::Limit), Side::Old);
    let mixed = world.verdict_so_far().await.unwrap();
    assert!(!mixed.clean() && mixed.to_string().contains("which are of both sides ("), "{mixed}");
    put(LIMITS, "limit-table-v2-prod").await;
    until("the new table of limits", || settings().writes_to_of(Kind::Limit) == Side::New).await;
    put(MODE, "open").await;
    until("open", || !settings().frozen).await;
    assert_eq!(http(&world, "POST", "/probe", "{}").await.0, 200);
    until("new reads", || world.shop().served(Side::New).0 > 10).await;
    assert_eq!(world.shop().served(Side::New).1, 0, "no request of the new side failed");
    let verdict = world.verdict().await.unwrap();
    assert!(verdict.clean() && verdict.to_string().contains("new side (PostgreSQL v2 161, DynamoDB v2 "), "{verdict}");
    assert!(verdict.to_string().contains("0 wrong on the side that serves no more: PostgreSQL v1 161, "), "{verdict}");
    assert_eq!((verdict.tally.old, verdict.tally.new), (1, 1), "{verdict}");
    world.stop().await;
}
