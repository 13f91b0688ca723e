//! Keys of tables and of indexes against what the source holds, before a table is made or an item is copied.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue as A, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};

use super::day::{Day, plan};
use super::items::column;
use super::*;
use crate::domain::plan::{Column, ColumnSource, ColumnType, Plan, Step, StepKind, Table};
use crate::workers::tests::world::World;
use crate::workers::{CheckRow, Missing, check};

/// Makes a table with a key `id` of this type and, if there is one, an index on an attribute of this type.
async fn make(raw: &Client, name: &str, key: ScalarAttributeType, index: Option<(&str, ScalarAttributeType)>) {
    let define =
        |name: &str, ty| AttributeDefinition::builder().attribute_name(name).attribute_type(ty).build().unwrap();
    let hash = |name: &str| KeySchemaElement::builder().attribute_name(name).key_type(KeyType::Hash).build().unwrap();
    let mut made = raw.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    made = made.attribute_definitions(define("id", key)).key_schema(hash("id"));
    if let Some((attribute, ty)) = index {
        let all = Projection::builder().projection_type(ProjectionType::All).build();
        let by = GlobalSecondaryIndex::builder().index_name(format!("by-{attribute}")).key_schema(hash(attribute));
        made = made.attribute_definitions(define(attribute, ty));
        made = made.global_secondary_indexes(by.projection(all).build().unwrap());
    }
    made.send().await.unwrap();
}

/// A day on which one table moves as it is.
fn day(account: Account, table: Table) -> Day {
    let plan = plan();
    let set_up = Step { id: "set-up".into(), kind: StepKind::SetUp, ..plan.steps[0].clone() };
    let steps = std::iter::once(set_up).chain(plan.steps).collect();
    Day { world: World::with(Plan { tables: vec![table], steps, ..plan }), account }
}

fn whole(source: &str, target: &str, key: ColumnType) -> Table {
    let item = Column { from: ColumnSource::Whole, ..column("item", ColumnType::Document, false) };
    Table {
        target: target.to_owned(),
        key: vec!["id".to_owned()],
        columns: vec![column("id", key, true), item],
        marker_prefix: "marker-".to_owned(),
        ..Table::watched("things", source)
    }
}

async fn said(day: &Day) -> Vec<CheckRow> {
    check(&day.world.plan, &day.ports(), &Missing::default()).await
}

fn wrong(rows: &[CheckRow], what: &str) -> Vec<String> {
    let of_it = rows.iter().filter(|row| row.what == what);
    of_it.filter_map(|row| Some(format!("{} -> {}", row.result.as_ref().err()?, row.advice))).collect()
}

#[tokio::test]
async fn a_table_whose_key_has_another_type_than_the_source_is_not_made() {
    let account = Account::embedded().await;
    make(&account.raw(), "old-things", ScalarAttributeType::B, None).await;
    account.target.prepare().await.unwrap();
    let day = day(account, whole("old-things", "new-things", ColumnType::Text));
    let found = wrong(&said(&day).await, "source things");
    assert!(
        found.iter().any(|line| line.contains("is of type B, and text in the plan") && line.contains("bytea")),
        "{found:?}"
    );
    let ctx = day.process().await;
    let e = day.world.perform(&ctx, "set-up").await.unwrap_err();
    assert!(e.message.contains("is of type B, and text in the plan"), "{e:?}");
    let described = day.target().describe(&day.world.plan.tables[0]).await.unwrap();
    assert!(!described.exists, "a table with that key would take no item");
    ctx.stop().await;
}

#[tokio::test]
async fn an_index_that_would_refuse_the_items_is_told_with_what_to_do() {
    let account = Account::embedded().await;
    let raw = account.raw();
    make(&raw, "old-things", ScalarAttributeType::S, Some(("rank", ScalarAttributeType::N))).await;
    make(&raw, "new-things", ScalarAttributeType::S, Some(("active", ScalarAttributeType::S))).await;
    make(&raw, "new-ranks", ScalarAttributeType::S, Some(("rank", ScalarAttributeType::S))).await;
    let put = |n: u32, active: A| {
        let put = raw.put_item().table_name("old-things").item("id", A::S(format!("t{n}"))).item("active", active);
        async move { put.send().await.unwrap() }
    };
    for n in 0..3 {
        put(n, A::Bool(true)).await;
    }
    account.target.prepare().await.unwrap();
    let day_of = |account, target| day(account, whole("old-things", target, ColumnType::Text));
    let first = day_of(account, "new-things");
    let found = wrong(&said(&first).await, "indexes things");
    assert!(
        found.len() == 1 && found[0].contains("of 3 items looked at that have it 3 hold something else (BOOL in 3)"),
        "{found:?}"
    );
    assert!(found[0].contains("a key is text, a number or bytes"), "{found:?}");
    // Some of them are parked one by one, which is no reason not to begin.
    put(4, A::S("yes".to_owned())).await;
    let rows = said(&first).await;
    assert_eq!(wrong(&rows, "indexes things"), [""; 0]);
    let told =
        |row: &CheckRow| row.what == "indexes things" && row.result.as_ref().is_ok_and(|r| r.contains("BOOL in 3"));
    assert!(rows.iter().any(told), "{rows:?}");

    // What the definitions of both tables say needs no item.
    let second = day_of(first.account, "new-ranks");
    let found = wrong(&said(&second).await, "indexes things");
    assert!(found.len() == 1 && found[0].contains("wants rank as S, and old-things has it as N"), "{found:?}");
    let ctx = second.process().await;
    let e = second.world.perform(&ctx, "set-up").await.unwrap_err();
    assert!(e.message.contains("wants rank as S"), "{e:?}");
    ctx.stop().await;
    let boolean = Table {
        columns: vec![column("id", ColumnType::Text, true), column("active", ColumnType::Boolean, false)],
        ..whole("old-things", "new-things", ColumnType::Text)
    };
    let problems = second.account.target.describe(&boolean).await.unwrap().problems;
    assert!(
        problems.len() == 1
            && problems[0].contains("is no key of an index")
            && problems[0].contains("make the index anew"),
        "{problems:?}"
    );
}
