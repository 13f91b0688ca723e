//! Compares tables with the plan, and asks for the rights on them.

use serde_json::{Value as Json, json};

use super::call::{Stopped, Store};
use super::create;
use super::expiry::{self, Expires, expires};
use super::layout::{described, is_active};
use super::names::{self, BOOK, Of};
use super::read::nobodys_key;
use super::rows::{Shape, key_type};
use super::write::Write;
use crate::domain::plan::{Column, ColumnSource, Table};
use crate::ports::{ErrorKind, IndexKey, Obstacle, PortError, PortResult, TargetTable};

/// A table's key as the service says it: names with types, partition key first.
pub(super) fn key(described: &Json) -> Vec<(String, String)> {
    let ty = |name: &str| {
        let all = described.get("AttributeDefinitions").and_then(Json::as_array);
        let is = |one: &&Json| one.get("AttributeName").and_then(Json::as_str) == Some(name);
        let found = all.into_iter().flatten().find(is).and_then(|one| one.get("AttributeType"));
        found.and_then(Json::as_str).unwrap_or_default().to_owned()
    };
    schema(described).into_iter().map(|name| (name.clone(), ty(&name))).collect()
}

/// Attributes of a key schema, partition key first.
fn schema(of: &Json) -> Vec<String> {
    let mut all: Vec<&Json> = of.get("KeySchema").and_then(Json::as_array).into_iter().flatten().collect();
    all.sort_by_key(|one| one.get("KeyType").and_then(Json::as_str) != Some("HASH"));
    all.into_iter().filter_map(|one| Some(one.get("AttributeName")?.as_str()?.to_owned())).collect()
}

/// See [`crate::ports::Target::describe`].
pub(super) async fn describe(store: &Store, plan: &str, table: &Table) -> PortResult<TargetTable> {
    let at = ("describe", table.target.as_str());
    let (mut problems, mut notices, mut index_keys) = (of_the_plan(table), Vec::new(), Vec::new());
    let Some(found) = described(store, &table.target, at).await? else {
        let made = made(table, &mut problems, &mut notices);
        return Ok(TargetTable { problems, notices, index_keys: made, ..TargetTable::default() });
    };
    let unfinished = table.definition().is_some() && create::is_unfinished(store, &Of::new(plan, table), at).await?;
    let (has, wants) = (key(&found), wanted(table));
    if has != wants {
        let words = |key: &[(String, String)]| {
            key.iter().map(|(name, ty)| format!("{name} {ty}")).collect::<Vec<_>>().join(", ")
        };
        let (has, wants) = (words(&has), words(&wants));
        problems.push(format!(
            "its key is ({has}) and the plan's is ({wants}): a key cannot be changed, make the table anew"
        ));
    }
    if !is_active(&found) {
        let status = found.get("TableStatus").and_then(Json::as_str).unwrap_or("unknown");
        problems.push(format!("it is {status}: wait until it is ACTIVE"));
    }
    for (kind, local) in [("GlobalSecondaryIndexes", false), ("LocalSecondaryIndexes", true)] {
        for index in found.get(kind).and_then(Json::as_array).into_iter().flatten() {
            index_keys.extend(of_an_index(table, &found, index, local, &mut problems, &mut notices));
        }
    }
    match expires(store, table).await? {
        Expires::Never => {}
        // An earlier run turned it on when it let customers in.
        Expires::By(attribute)
            if table.expires_by().is_some() && expiry::is_quieted(store, &Of::new(plan, table), at).await? =>
        {
            notices.push(format!("items expire by {attribute}; that is turned off until the thaw when a run claims the table"));
        }
        Expires::By(attribute) => problems.push(format!(
            "items expire by {attribute}: rows would go while they are compared; turn TTL off until the run has ended"
        )),
        Expires::Ending(attribute) => problems.push(format!(
            "its expiry by {attribute} is being turned off, and items may still go for up to an hour: wait until it is off"
        )),
        Expires::Unknown => notices.push("whether items expire could not be asked".to_owned()),
    }
    let replicas = replicas(&found, store.region());
    if !replicas.is_empty() {
        notices.push(format!(
            "it is a global table with replicas in {}: what is loaded and followed is copied there too, and what customers \
             write there arrives here later, so that a rollback may miss it; let them write here only until the run has ended",
            replicas.join(", ")
        ));
    }
    if found.get("DeletionProtectionEnabled").and_then(Json::as_bool) != Some(true) {
        notices.push("it is not protected against deletion".to_owned());
    }
    let billing = found.get("BillingModeSummary").and_then(|b| b.get("BillingMode")).and_then(Json::as_str);
    if billing != Some("PAY_PER_REQUEST") {
        notices.push(
            "its capacity is provisioned: load and following are throttled at it, and changes cost two units for each \
             written kilobyte"
                .to_owned(),
        );
    }
    let streams = found.get("StreamSpecification").and_then(|stream| stream.get("StreamEnabled"));
    if streams.and_then(Json::as_bool) == Some(true) {
        notices.push(
            "its stream tells every row that is loaded: see that nothing acts on it before customers do".to_owned(),
        );
    }
    let key = has.iter().map(|(name, _)| name.clone()).collect();
    Ok(TargetTable {
        exists: true,
        columns: has,
        key,
        problems,
        notices,
        index_keys,
        unfinished,
        ..TargetTable::default()
    })
}

/// What the indexes of a table refuse that is made by its definition.
fn made(table: &Table, problems: &mut Vec<String>, notices: &mut Vec<String>) -> Vec<IndexKey> {
    let Some(definition) = table.definition() else { return Vec::new() };
    let found = serde_json::to_value(&definition).unwrap_or_default();
    let mut open = Vec::new();
    for (index, local) in definition.indexes() {
        let index = serde_json::to_value(index).unwrap_or_default();
        open.extend(of_an_index(table, &found, &index, local, problems, notices));
    }
    open
}

/// The key that the plan wants.
fn wanted(table: &Table) -> Vec<(String, String)> {
    let one = |c: &Column| (c.name.clone(), key_type(c.ty).unwrap_or_default().to_owned());
    table.columns.iter().filter(|c| c.key).map(one).collect()
}

/// What of the plan no DynamoDB table can do.
fn of_the_plan(table: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    for child in &table.children {
        problems.push(format!(
            "child table {}: keep the list as an attribute, a DynamoDB table has no children",
            child.target
        ));
    }
    if !table.triggers.is_empty() {
        problems.push("triggers are named, and a DynamoDB table has none".to_owned());
    }
    let keys = table.key_columns().count();
    if !matches!(keys, 1 | 2) {
        problems.push(format!("a key is a partition key and perhaps a sort key, not {keys} columns"));
    }
    let whole = table.columns.iter().find(|c| c.from == ColumnSource::Whole);
    for column in &table.columns {
        if column.key && key_type(column.ty).is_none() {
            problems.push(format!("key column {} of type {} can be no key", column.name, column.ty.sql()));
        }
        let itself = column.from == ColumnSource::Attribute(vec![column.name.clone()]);
        match whole {
            Some(whole) if column.key && !itself => problems.push(format!(
                "key column {} is named otherwise than its attribute, and {} holds the item as it is",
                column.name, whole.name
            )),
            Some(whole) if !column.key && column != whole => {
                problems
                    .push(format!("column {} would be written nowhere: {} is the whole item", column.name, whole.name));
            }
            _ => {}
        }
    }
    problems
}

/// Regions that have a replica of the table besides this one.
fn replicas(described: &Json, here: Option<&str>) -> Vec<String> {
    let all = described.get("Replicas").and_then(Json::as_array).into_iter().flatten();
    let regions = all.filter_map(|replica| replica.get("RegionName").and_then(Json::as_str));
    regions.filter(|region| Some(*region) != here).map(str::to_owned).collect()
}

/// What an index refuses, as far as the plan tells. Gives the keys of which only items themselves tell.
fn of_an_index(
    table: &Table,
    found: &Json,
    index: &Json,
    local: bool,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) -> Vec<IndexKey> {
    let mut open = Vec::new();
    let name = index.get("IndexName").and_then(Json::as_str).unwrap_or("?");
    let status = index.get("IndexStatus").and_then(Json::as_str).unwrap_or("ACTIVE");
    if status != "ACTIVE" || index.get("Backfilling").and_then(Json::as_bool) == Some(true) {
        problems.push(format!("index {name} is {status}: wait until it is built"));
    }
    if local {
        notices.push(format!(
            "index {name} is local: items of one partition key hold 10 GB at most with it, or are refused"
        ));
    }
    let typed = json!({
        "KeySchema": index.get("KeySchema").cloned().unwrap_or_default(),
        "AttributeDefinitions": found.get("AttributeDefinitions").cloned().unwrap_or_default(),
    });
    for (attribute, ty) in key(&typed) {
        let column = table.columns.iter().find(|c| c.name == attribute && c.from != ColumnSource::Whole);
        match column.map(|c| (c, key_type(c.ty))) {
            Some((column, written)) if written != Some(ty.as_str()) => problems.push(format!(
                "index {name} wants {attribute} as {ty}, and column {attribute} of type {} is {}: every row that has it would be \
                 refused; give the column a type that is written as {ty} ({}), or make the index anew on another attribute",
                column.ty.sql(),
                written.map_or_else(|| "no key of an index".to_owned(), |written| format!("written as {written}")),
                suited(&ty)
            )),
            Some((column, _)) if !column.key => notices.push(format!("index {name} refuses rows whose {attribute} is empty")),
            Some(_) => {}
            // Of a whole item only the store itself says.
            None => {
                notices.push(format!(
                    "index {name} refuses items whose {attribute} is not {ty} or empty; those are parked one by one"
                ));
                open.push(IndexKey { index: name.to_owned(), attribute, ty });
            }
        }
    }
    open
}

/// Types of columns that are written as attributes of this type.
fn suited(ty: &str) -> &'static str {
    match ty {
        "N" => "numeric or a whole number",
        "B" => "bytea",
        _ => "text, uuid, date or timestamptz",
    }
}

/// See [`crate::ports::Target::rights`]. Each right is asked for by a call that changes nothing: a write whose condition
/// never holds, a delete of a key that nobody has.
pub(super) async fn rights(store: &Store, tables: &[Table]) -> PortResult<Vec<Obstacle>> {
    let mut missing = Vec::new();
    for table in tables {
        let at = ("ask for rights on", table.target.as_str());
        if described(store, &table.target, at).await?.is_none() {
            continue;
        }
        if let Some(attribute) = table.expires_by() {
            missing.extend(expiry::refused(store, table, &attribute).await?);
        }
        let shape = Shape::new(table);
        let types: Vec<&str> = table.columns.iter().filter(|c| c.key).filter_map(|c| key_type(c.ty)).collect();
        // A key that does not fit is told by `describe`.
        let Some(nobody) = nobodys_key(&shape, &types) else { continue };
        let Some(first) = shape.key_names().next() else { continue };
        let never = |write: Write| never(write, first);
        let put = never(Write::put_row(&table.target, &nobody));
        let delete = never(Write::delete_row(&table.target, &nobody));
        let name = table.target.as_str();
        let batch =
            format!("{{\"RequestItems\":{{{}:[{{\"DeleteRequest\":{{\"Key\":{nobody}}}}}]}}}}", Json::from(name));
        let keys = format!("{{\"RequestItems\":{{{}:{{\"Keys\":[{nobody}]}}}}}}", Json::from(name));
        let scan = json!({"TableName": name, "Limit": 1, "Select": "COUNT"}).to_string();
        let ((put_op, put), (delete_op, delete)) = (put.alone(), delete.alone());
        let asked =
            [(put_op, put), (delete_op, delete), ("BatchWriteItem", batch), ("BatchGetItem", keys), ("Scan", scan)];
        for (operation, body) in asked {
            missing.extend(denied(store, operation, body, at).await?);
        }
    }
    // Conditions of transactions are looked at in our own table.
    let at = ("ask for rights on", BOOK);
    if described(store, BOOK, at).await?.is_some() {
        let check = Write::check(&names::token()).when("attribute_exists(#nothing)");
        match store.transact(&[&check], at).await {
            Ok(()) | Err(Stopped::Condition(_)) => {}
            Err(Stopped::Failed(e)) if e.kind == ErrorKind::Denied => {
                missing.push(obstacle("ConditionCheckItem", at.1, &e))
            }
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    Ok(missing)
}

/// A write that never happens, because an item with this key attribute neither is there nor is not.
fn never(write: Write, attribute: &str) -> Write {
    write.when_named("attribute_exists(#k) AND attribute_not_exists(#k)", "k", attribute)
}

async fn denied(store: &Store, operation: &str, body: String, at: (&str, &str)) -> PortResult<Option<Obstacle>> {
    match store.send(operation, body, at, None).await {
        Ok(_) => Ok(None),
        Err(refused) if refused.error.came_back.starts_with("ConditionalCheckFailed") => Ok(None),
        Err(refused) if refused.error.kind == ErrorKind::Denied => Ok(Some(obstacle(operation, at.1, &refused.error))),
        // The key is not the plan's: `describe` says so.
        Err(refused) if refused.error.kind == ErrorKind::Invalid => Ok(None),
        Err(refused) => Err(refused.error),
    }
}

fn obstacle(operation: &str, table: &str, error: &PortError) -> Obstacle {
    Obstacle {
        wrong: format!("{operation} on {table} is refused: {}", error.came_back),
        advice: format!("allow dynamodb:{operation} on table/{table}"),
        rights: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_in_other_regions_are_named_and_this_one_is_not() {
        let table = json!({"Replicas": [{"RegionName": "eu-west-1"}, {"RegionName": "us-east-1"}]});
        assert_eq!(replicas(&table, Some("eu-west-1")), ["us-east-1"]);
        assert_eq!(replicas(&json!({}), Some("eu-west-1")), [""; 0]);
    }
}
