//! Tables that are made as their source is made: the same definition; items expire once customers come, and not before.

use aws_sdk_dynamodb::types::AttributeValue as A;
use serde_json::{Value as Json, json};

use super::day::{Day, plan};
use super::items::column;
use super::*;
use crate::adapters::dynamodb::target::names::Of;
use crate::adapters::dynamodb::target::write::Write;
use crate::domain::plan::{Column, ColumnSource, ColumnType, Definition, Plan, Step, StepKind, Table};
use crate::domain::run::{Action, Event, OutcomeResult};
use crate::ports::{Catalogue as _, ErrorKind, Expiry, Outbox as _, PortResult};
use crate::workers::tests::world::{Entry, World};
use crate::workers::{Missing, check};

/// A table of provisioned capacity with both kinds of indexes and everything that can be set of one.
fn sessions() -> Json {
    let of = |name: &str, ty: &str| json!({"AttributeName": name, "AttributeType": ty});
    let key = |hash: &str, range: &str| json!([{"AttributeName": hash, "KeyType": "HASH"}, {"AttributeName": range, "KeyType": "RANGE"}]);
    let units = |read: u32, write: u32| json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write});
    json!({
        "TableName": "old-sessions",
        "AttributeDefinitions": [of("user", "S"), of("number", "N"), of("device", "S"), of("seen", "N"), of("raw", "B")],
        "KeySchema": key("user", "number"),
        "LocalSecondaryIndexes": [{"IndexName": "by-raw", "KeySchema": key("user", "raw"),
                                   "Projection": {"ProjectionType": "KEYS_ONLY"}}],
        "GlobalSecondaryIndexes": [{"IndexName": "by-device", "KeySchema": key("device", "seen"),
                                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["state", "place"]},
                                    "ProvisionedThroughput": units(70, 80)}],
        "BillingMode": "PROVISIONED", "ProvisionedThroughput": units(500, 600),
        "TableClass": "STANDARD_INFREQUENT_ACCESS", "DeletionProtectionEnabled": true,
        "SSESpecification": {"Enabled": true, "SSEType": "KMS"},
        "Tags": [{"Key": "team", "Value": "shop"}, {"Key": "cost", "Value": "7"}],
    })
}

async fn ask(account: &Account, operation: &str, body: Json) -> PortResult<Json> {
    account.target.store.call(operation, &body, ("ask", "the service")).await
}

async fn expire(account: &Account, table: &str, attribute: &str) {
    let how = json!({"AttributeName": attribute, "Enabled": true});
    ask(account, "UpdateTimeToLive", json!({"TableName": table, "TimeToLiveSpecification": how})).await.unwrap();
}

/// The attribute by which items expire, as the service itself says.
async fn expires(account: &Account, table: &str) -> Option<String> {
    let said = ask(account, "DescribeTimeToLive", json!({"TableName": table})).await.unwrap();
    let said = &said["TimeToLiveDescription"];
    let on = said["TimeToLiveStatus"].as_str().is_some_and(|status| status != "DISABLED");
    said["AttributeName"].as_str().filter(|_| on).map(str::to_owned)
}

/// What the service itself says a table is, without what no two tables share.
async fn told(account: &Account, table: &str) -> Json {
    let mut said = ask(account, "DescribeTable", json!({"TableName": table})).await.unwrap()["Table"].take();
    let tags = json!({"ResourceArn": said["TableArn"]});
    let mut tags = ask(account, "ListTagsOfResource", tags).await.unwrap()["Tags"].take();
    let sort = |all: &mut Json, by: &str| {
        if let Some(all) = all.as_array_mut() {
            all.sort_by_key(|one| one[by].to_string());
        }
    };
    sort(&mut tags, "Key");
    sort(&mut said["AttributeDefinitions"], "AttributeName");
    for kind in ["GlobalSecondaryIndexes", "LocalSecondaryIndexes"] {
        for index in said[kind].as_array_mut().into_iter().flatten() {
            let mut names = index["Projection"]["NonKeyAttributes"].take();
            if let Some(names) = names.as_array_mut() {
                names.sort_by_key(ToString::to_string);
            }
            let units = ["ReadCapacityUnits", "WriteCapacityUnits"].map(|n| index["ProvisionedThroughput"][n].clone());
            *index =
                json!([index["IndexName"], index["KeySchema"], index["Projection"]["ProjectionType"], names, units]);
        }
    }
    json!([
        said["AttributeDefinitions"],
        said["KeySchema"],
        said["GlobalSecondaryIndexes"],
        said["LocalSecondaryIndexes"],
        said["BillingModeSummary"]["BillingMode"],
        said["ProvisionedThroughput"]["ReadCapacityUnits"],
        said["ProvisionedThroughput"]["WriteCapacityUnits"],
        said["TableClassSummary"]["TableClass"],
        said["SSEDescription"]["SSEType"],
        said["DeletionProtectionEnabled"],
        tags
    ])
}

fn whole(id: &str, key: &[(&str, ColumnType)], ddl: Option<String>) -> Table {
    let item = Column { from: ColumnSource::Whole, ..column("item", ColumnType::Document, false) };
    let of_key = key.iter().map(|(name, ty)| column(name, *ty, true));
    Table {
        target: format!("new-{id}"),
        key: key.iter().map(|(name, _)| (*name).to_owned()).collect(),
        columns: of_key.chain([item]).collect(),
        marker_prefix: "marker-".to_owned(),
        ddl,
        ..Table::watched(id, &format!("old-{id}"))
    }
}

fn day(account: Account, table: Table) -> Day {
    let plan = plan();
    let set_up = Step { id: "set-up".into(), kind: StepKind::SetUp, ..plan.steps[0].clone() };
    let steps = std::iter::once(set_up).chain(plan.steps).collect();
    Day { world: World::with(Plan { tables: vec![table], steps, ..plan }), account }
}

/// What the source's catalogue gives as DDL of one table.
async fn listed(account: &Account, table: &str) -> String {
    let settings = DynamoSettings::new(REGION).at(&account.endpoint);
    let (source, _) = dynamodb::connect(&account.sdk, &settings).unwrap();
    let mut found = source.listed(vec![table.to_owned()], &[table.to_owned()], true).await.unwrap();
    assert_eq!(found.tables[0].unfit, []);
    found.tables.remove(0).ddl.unwrap()
}

#[tokio::test]
async fn a_table_is_made_as_its_source_is_and_expires_items_once_customers_come() {
    as_its_source_is(Account::embedded().await).await;
}

#[tokio::test]
async fn a_table_of_another_emulator_is_made_as_its_source_is_and_expires_items_once_customers_come() {
    as_its_source_is(Account::of_the_neighbour().await).await;
}

async fn as_its_source_is(account: Account) {
    ask(&account, "CreateTable", sessions()).await.unwrap();
    expire(&account, "old-sessions", "until").await;
    let raw = account.raw();
    for n in 0..20 {
        let put = raw.put_item().table_name("old-sessions").item("user", A::S(format!("u{}", n % 3)));
        let put = put.item("number", A::N(n.to_string())).item("until", A::N("4102444800".to_owned()));
        put.item("device", A::S("d".to_owned())).item("seen", A::N("1".to_owned())).send().await.unwrap();
    }
    let ddl = listed(&account, "old-sessions").await;
    assert_eq!(Definition::read(&ddl).unwrap().expires_by(), Some("until"));
    let key = [("user", ColumnType::Text), ("number", ColumnType::Numeric(None))];
    account.target.prepare().await.unwrap();
    let day = day(account, Table { ttl: Some("until".to_owned()), ..whole("sessions", &key, Some(ddl)) });
    let (world, account) = (&day.world, &day.account);

    let ctx = day.process().await;
    world.well(&ctx, &["set-up", "capture", "load"]).await;
    assert_eq!(told(account, "new-sessions").await, told(account, "old-sessions").await);
    let rows = check(&world.plan, &day.ports(), &Missing::default()).await;
    let differs: Vec<_> = rows.iter().filter(|row| row.what == "definition sessions").collect();
    assert!(
        matches!(&differs[..], [one] if one.result.as_ref().is_ok_and(|r| r.contains("expire by until"))),
        "{differs:?}"
    );
    ctx.ensure_following();
    world.well(&ctx, &["catch-up", "verify", "arm", "freeze", "drain", "switch"]).await;
    assert_eq!(expires(account, "new-sessions").await, None, "none goes while both sides are compared");
    world.well(&ctx, &["thaw"]).await;
    assert_eq!(expires(account, "new-sessions").await.as_deref(), Some("until"));
    let facts: Vec<Event> = world.journal.entries().into_iter().filter_map(fact).collect();
    let intent = facts.iter().find_map(|event| match event {
        Event::Intent { id, action: Action::TurnOnExpiry { table }, .. } if table == "sessions" => Some(id.clone()),
        _ => None,
    });
    let read_back = facts.iter().find_map(|event| match event {
        Event::Outcome { id, result: OutcomeResult::Done { read_back, .. } } if Some(id) == intent.as_ref() => {
            Some(read_back.as_str())
        }
        _ => None,
    });
    assert_eq!(read_back, Some("items expire by until"));
    // A process that dies before it recorded that does it again.
    let table = &world.plan.tables[0];
    assert_eq!(day.target().turn_on_expiry(table, "until").await, Ok(Expiry::On("until".to_owned())));
    ctx.stop().await;
}

fn fact(entry: Entry) -> Option<Event> {
    match entry {
        Entry::Fact(event) => Some(event),
        Entry::Effect(_) => None,
    }
}

/// DDL of a small table.
fn ddl(key: &str, index: bool) -> String {
    let of = |name: &str, ty: &str| json!({"AttributeName": name, "AttributeType": ty});
    let hash = |name: &str| json!([{"AttributeName": name, "KeyType": "HASH"}]);
    let mut all = json!({
        "AttributeDefinitions": [of("id", key)], "KeySchema": hash("id"), "BillingMode": "PAY_PER_REQUEST",
        "TimeToLiveSpecification": {"AttributeName": "until", "Enabled": true},
    });
    if index {
        all["AttributeDefinitions"] = json!([of("id", key), of("mail", "S")]);
        all["GlobalSecondaryIndexes"] = json!([{"IndexName": "by-mail", "KeySchema": hash("mail"),
                                                "Projection": {"ProjectionType": "ALL"}}]);
    }
    all.to_string()
}

/// Makes a table as somebody else would.
async fn by_others(account: &Account, name: &str, ddl: &str) {
    let mut body: Json = serde_json::from_str(ddl).unwrap();
    body.as_object_mut().unwrap().remove("TimeToLiveSpecification");
    body["TableName"] = name.into();
    ask(account, "CreateTable", body).await.unwrap();
}

#[tokio::test]
async fn what_a_dead_process_began_is_ended_and_what_others_made_stays_as_it_is() {
    for account in Account::both().await {
        let target = &account.target;
        let table = whole("things", &[("id", ColumnType::Text)], Some(ddl("S", true)));
        let tables = std::slice::from_ref(&table);
        target.prepare().await.unwrap();
        target.claim("run-1", tables).await.unwrap();
        by_others(&account, "new-things", &ddl("S", true)).await;
        assert_eq!(target.create(&table).await, Ok(false));
        assert!(!target.describe(&table).await.unwrap().unfinished);
        assert_eq!(target.turn_on_expiry(&table, "until").await, Ok(Expiry::NotMadeHere));
        assert_eq!(expires(&account, "new-things").await, None);

        // Killed after the table was asked for, and before it was known to be there.
        ask(&account, "DeleteTable", json!({"TableName": "new-things"})).await.unwrap();
        let begun = Write::update(&Of::new(PLAN, &table).table(), "SET #making = :now");
        let begun = begun.with("now", json!({"N": "1"}));
        target.store.write(&begun, ("test", "test")).await.unwrap();
        by_others(&account, "new-things", &ddl("S", true)).await;
        let another = account.elsewhere();
        assert!(another.describe(&table).await.unwrap().unfinished);
        another.create(&table).await.unwrap();
        assert!(!another.describe(&table).await.unwrap().unfinished);

        another.open_to_customers(tables).await.unwrap();
        assert_eq!(another.turn_on_expiry(&table, "until").await, Ok(Expiry::On("until".to_owned())));
        // A later run of the plan loads it again: nothing expires then.
        let in_the_way = async || {
            let found = another.describe(&table).await.unwrap();
            let says = |texts: &[String]| texts.iter().any(|text| text.contains("items expire by until"));
            (says(&found.problems), says(&found.notices))
        };
        assert_eq!(in_the_way().await, (true, false), "customers are in");
        another.settle("run-1", tables).await.unwrap();
        assert_eq!(in_the_way().await, (false, true), "the next run sees to it");
        another.claim("run-2", tables).await.unwrap();
        assert_eq!(expires(&account, "new-things").await, None);
    }
}

#[tokio::test]
async fn a_table_that_lacks_an_index_or_has_another_key_stops_the_run() {
    let account = Account::embedded().await;
    by_others(&account, "old-things", &ddl("S", true)).await;
    by_others(&account, "new-things", &ddl("S", false)).await;
    account.target.prepare().await.unwrap();
    let table = whole("things", &[("id", ColumnType::Text)], None);
    let first = day(account, table.clone());
    let wrong = |rows: Vec<crate::workers::CheckRow>, what: &str| {
        let of_it = rows.into_iter().filter(|row| row.what == what);
        of_it.filter_map(|row| Some(format!("{} -> {}", row.result.err()?, row.advice))).collect::<Vec<_>>()
    };
    let found = wrong(check(&first.world.plan, &first.ports(), &Missing::default()).await, "definition things");
    assert!(found.len() == 1 && found[0].contains("index by-mail of the source is not there"), "{found:?}");
    assert!(found[0].contains("leave_out = [\"by-mail\"]"), "{found:?}");
    let ctx = first.process().await;
    let e = first.world.perform(&ctx, "set-up").await.unwrap_err();
    assert!(e.message.contains("by-mail of the source is not there"), "{e:?}");
    ctx.stop().await;

    // Accepted by name.
    let accepted = day(first.account, Table { leave_out: vec!["by-mail".to_owned()], ..table.clone() });
    let found = wrong(check(&accepted.world.plan, &accepted.ports(), &Missing::default()).await, "definition things");
    assert_eq!(found, [""; 0]);

    let account = accepted.account;
    ask(&account, "DeleteTable", json!({"TableName": "new-things"})).await.unwrap();
    by_others(&account, "new-things", &ddl("N", true)).await;
    let other = day(account, Table { ddl: Some(ddl("S", true)), ..table });
    let found = wrong(check(&other.world.plan, &other.ports(), &Missing::default()).await, "target new-things");
    assert!(found.len() == 1 && found[0].contains("its key is (id N) and the plan's is (id S)"), "{found:?}");
    let ctx = other.process().await;
    let e = other.world.perform(&ctx, "set-up").await.unwrap_err();
    assert!(e.message.contains("its key is (id N)"), "{e:?}");
    // Somebody typed the plan's name: it goes, and comes as the plan has it.
    ctx.allow_make_anew();
    let rows = other.account.raw().put_item().table_name("new-things").item("id", A::N("1".to_owned()));
    rows.item("mail", A::S("m".to_owned())).send().await.unwrap();
    other.world.well(&ctx, &["set-up", "capture", "load"]).await;
    let definition = other.target().definition(&other.world.plan.tables[0]).await.unwrap().unwrap();
    assert_eq!((definition.key(), definition.indexes().count()), (vec![("id", "S")], 1));
    ctx.stop().await;
}

#[tokio::test]
async fn what_customers_write_or_another_plan_has_is_never_made_anew() {
    for account in Account::both().await {
        let target = &account.target;
        let table = whole("things", &[("id", ColumnType::Text)], Some(ddl("S", false)));
        let tables = std::slice::from_ref(&table);
        target.prepare().await.unwrap();
        assert_eq!(target.make_anew(tables).await.unwrap_err().kind, ErrorKind::Conflict, "not ours yet");
        target.claim("run-1", tables).await.unwrap();
        target.create(&table).await.unwrap();
        let put = account.raw().put_item().table_name("new-things").item("id", A::S("a".to_owned()));
        put.send().await.unwrap();
        let other = account.of_plan("other/test");
        assert_eq!(other.make_anew(tables).await.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(target.count(&table, true).await.unwrap().rows, Some(1));
        target.make_anew(tables).await.unwrap();
        assert_eq!(target.count(&table, true).await.unwrap().rows, Some(0));
        let refused = target.apply(&table, crate::ports::ChangeBatch::default()).await;
        assert!(refused.is_ok(), "it takes rows again: {refused:?}");
        assert_eq!(target.turn_on_expiry(&table, "until").await, Ok(Expiry::On("until".to_owned())), "made by us");

        target.open_to_customers(tables).await.unwrap();
        let put = account.raw().put_item().table_name("new-things").item("id", A::S("b".to_owned()));
        put.send().await.unwrap();
        let refused = target.make_anew(tables).await.unwrap_err();
        assert!(refused.kind == ErrorKind::Conflict && refused.came_back.contains("open to customers"), "{refused}");
        assert_eq!(target.count(&table, true).await.unwrap().rows, Some(1));
    }
}
