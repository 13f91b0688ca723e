//! A table's definition as the service says it: in `DescribeTable`, and what is asked for by calls of their own.

use serde_json::{Value as Json, json};

use super::still_expires;
use super::wire::Wire;
use crate::domain::plan::{
    AttributeDefinition, BillingMode, Definition, Encryption, Index, KeyElement, OnDemandThroughput,
    PointInTimeRecovery, Projection, ProvisionedThroughput, Tag, TimeToLive,
};
use crate::ports::{ErrorKind, PortError, PortResult};

/// A table's definition, and what belongs to the table and cannot be told or is not taken elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub definition: Definition,
    /// In words: `key arn:… that encrypts Books: …`.
    pub left_out: Vec<String>,
}

/// Asks what a table is made of; `None` when there is no such table.
pub(super) async fn of_table(wire: &Wire, table: &str) -> PortResult<Option<Found>> {
    let at = ("read the definition of", table);
    let described = match ask(wire, "DescribeTable", &json!({"TableName": table}), at).await {
        Ok(answer) => answer.get("Table").cloned().unwrap_or_default(),
        Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut found = Found { definition: described_as(&described), left_out: Vec::new() };
    let key = text(described.get("SSEDescription").unwrap_or(&Json::Null), "KMSMasterKeyArn");
    if let Some(key) = key.filter(|key| found.definition.encryption.is_some() && !key.ends_with("alias/aws/dynamodb")) {
        found.left_out.push(format!(
            "the key {key} that encrypts {table}: the account's own key for DynamoDB takes its place unless `kms_key` \
             names one"
        ));
    }
    match may_ask(ask(wire, "DescribeTimeToLive", &json!({"TableName": table}), at).await)? {
        Some(answer) => found.definition.time_to_live_specification = expiry(&answer),
        None => found.left_out.push(format!("expiry of {table}: it may not be read")),
    }
    let arn = text(&described, "TableArn").unwrap_or_default();
    match tags(wire, &arn, at).await? {
        Some(tags) => {
            let (theirs, ours): (Vec<Tag>, Vec<Tag>) = tags.into_iter().partition(|tag| tag.key.starts_with("aws:"));
            found.definition.tags = ours;
            found
                .left_out
                .extend(theirs.iter().map(|tag| format!("the tag {} of {table}: AWS sets it itself", tag.key)));
        }
        None => found.left_out.push(format!("tags of {table}: they may not be read (dynamodb:ListTagsOfResource)")),
    }
    match may_ask(ask(wire, "DescribeContinuousBackups", &json!({"TableName": table}), at).await)? {
        Some(answer) => found.definition.point_in_time_recovery_specification = recovery(&answer),
        None => found.left_out.push(format!(
            "point-in-time recovery of {table}: whether it is on may not be read (dynamodb:DescribeContinuousBackups)"
        )),
    }
    Ok(Some(found))
}

async fn ask(wire: &Wire, operation: &str, body: &Json, (tried, on): (&str, &str)) -> PortResult<Json> {
    let answer = wire.post(operation, body.to_string(), tried, on).await?;
    serde_json::from_slice(&answer)
        .map_err(|_| PortError::new(ErrorKind::Internal, tried, on, format!("{operation}: an answer that is not JSON")))
}

/// Nothing where a role may not ask, or an emulator does not know the question.
fn may_ask(asked: PortResult<Json>) -> PortResult<Option<Json>> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if e.kind == ErrorKind::Denied || e.came_back.starts_with("UnknownOperation") => Ok(None),
        Err(e) => Err(e),
    }
}

async fn tags(wire: &Wire, arn: &str, at: (&str, &str)) -> PortResult<Option<Vec<Tag>>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let mut body = json!({"ResourceArn": arn});
        if let (Some(body), Some(after)) = (body.as_object_mut(), after.take()) {
            body.insert("NextToken".to_owned(), after);
        }
        let Some(answer) = may_ask(ask(wire, "ListTagsOfResource", &body, at).await)? else { return Ok(None) };
        let one = |tag: &Json| Some(Tag { key: text(tag, "Key")?, value: text(tag, "Value").unwrap_or_default() });
        all.extend(list(&answer, "Tags").iter().filter_map(one));
        match answer.get("NextToken").filter(|token| token.is_string()) {
            Some(token) => after = Some(token.clone()),
            None => break,
        }
    }
    all.sort();
    Ok(Some(all))
}

/// What `DescribeTable` says, in an order that does not depend on how it was said.
pub(super) fn described_as(table: &Json) -> Definition {
    let billing = text(table.get("BillingModeSummary").unwrap_or(&Json::Null), "BillingMode");
    let billing_mode = match billing.as_deref() {
        Some("PAY_PER_REQUEST") => BillingMode::PayPerRequest,
        // Tables that were never anything else do not say it.
        Some(_) | None => BillingMode::Provisioned,
    };
    let mut attributes: Vec<AttributeDefinition> = list(table, "AttributeDefinitions")
        .iter()
        .filter_map(|a| {
            Some(AttributeDefinition {
                attribute_name: text(a, "AttributeName")?,
                attribute_type: text(a, "AttributeType")?,
            })
        })
        .collect();
    attributes.sort_by(|a, b| a.attribute_name.cmp(&b.attribute_name));
    let class = text(table.get("TableClassSummary").unwrap_or(&Json::Null), "TableClass");
    let encrypted = table.get("SSEDescription");
    let encrypted = encrypted.and_then(|sse| text(sse, "Status")).is_some_and(|s| s == "ENABLED" || s == "UPDATING");
    let on_demand = billing_mode == BillingMode::PayPerRequest;
    let definition = Definition {
        table_name: None,
        attribute_definitions: attributes,
        key_schema: key_schema(table),
        local_secondary_indexes: indexes(table, "LocalSecondaryIndexes"),
        global_secondary_indexes: indexes(table, "GlobalSecondaryIndexes"),
        billing_mode,
        provisioned_throughput: reserved(table).filter(|_| !on_demand),
        on_demand_throughput: limits(table).filter(|_| on_demand),
        table_class: class.filter(|class| class != "STANDARD"),
        encryption: encrypted.then(|| Encryption::kms(None)),
        deletion_protection_enabled: table.get("DeletionProtectionEnabled").and_then(Json::as_bool) == Some(true),
        tags: Vec::new(),
        time_to_live_specification: None,
        point_in_time_recovery_specification: None,
    };
    // An index that is going leaves attributes behind that nothing else needs.
    definition.without(&[])
}

fn key_schema(of: &Json) -> Vec<KeyElement> {
    let one = |k: &Json| Some(KeyElement { attribute_name: text(k, "AttributeName")?, key_type: text(k, "KeyType")? });
    let mut all: Vec<KeyElement> = list(of, "KeySchema").iter().filter_map(one).collect();
    all.sort_by_key(|one| one.key_type != "HASH");
    all
}

fn indexes(table: &Json, kind: &str) -> Vec<Index> {
    let local = kind == "LocalSecondaryIndexes";
    let one = |index: &Json| {
        if text(index, "IndexStatus").is_some_and(|status| status == "DELETING") {
            return None;
        }
        let projection = index.get("Projection").unwrap_or(&Json::Null);
        let mut others: Vec<String> =
            list(projection, "NonKeyAttributes").iter().filter_map(|n| Some(n.as_str()?.to_owned())).collect();
        others.sort();
        Some(Index {
            index_name: text(index, "IndexName")?,
            key_schema: key_schema(index),
            projection: Projection {
                projection_type: text(projection, "ProjectionType").unwrap_or_else(|| "ALL".to_owned()),
                non_key_attributes: others,
            },
            provisioned_throughput: reserved(index).filter(|_| !local),
            on_demand_throughput: limits(index).filter(|_| !local),
        })
    };
    let mut all: Vec<Index> = list(table, kind).iter().filter_map(one).collect();
    all.sort_by(|a, b| a.index_name.cmp(&b.index_name));
    all
}

/// Reserved capacity; on demand it is said to be none.
fn reserved(of: &Json) -> Option<ProvisionedThroughput> {
    let units = |name: &str| of.get("ProvisionedThroughput")?.get(name)?.as_u64();
    let found = ProvisionedThroughput {
        read_capacity_units: units("ReadCapacityUnits")?,
        write_capacity_units: units("WriteCapacityUnits")?,
    };
    (found.read_capacity_units > 0 && found.write_capacity_units > 0).then_some(found)
}

fn limits(of: &Json) -> Option<OnDemandThroughput> {
    let units = |name: &str| of.get("OnDemandThroughput")?.get(name)?.as_i64().filter(|n| *n >= 0);
    let found = OnDemandThroughput {
        max_read_request_units: units("MaxReadRequestUnits"),
        max_write_request_units: units("MaxWriteRequestUnits"),
    };
    (found.max_read_request_units.is_some() || found.max_write_request_units.is_some()).then_some(found)
}

/// How items expire, where they do.
fn expiry(answer: &Json) -> Option<TimeToLive> {
    let said = answer.get("TimeToLiveDescription")?;
    let status = text(said, "TimeToLiveStatus")?;
    let on = still_expires(&status) && status != "DISABLING";
    text(said, "AttributeName").filter(|_| on).map(|attribute_name| TimeToLive { attribute_name, enabled: true })
}

fn recovery(answer: &Json) -> Option<PointInTimeRecovery> {
    let said = answer.get("ContinuousBackupsDescription")?.get("PointInTimeRecoveryDescription")?;
    let on = text(said, "PointInTimeRecoveryStatus")? == "ENABLED";
    on.then_some(PointInTimeRecovery { point_in_time_recovery_enabled: true })
}

fn list<'j>(of: &'j Json, name: &str) -> &'j [Json] {
    of.get(name).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn text(of: &Json, name: &str) -> Option<String> {
    Some(of.get(name)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_capacity_on_demand_and_of_indexes_that_go_makes_no_table() {
        let none = json!({"ReadCapacityUnits": 0, "WriteCapacityUnits": 0, "NumberOfDecreasesToday": 0});
        let hash = |name: &str| json!([{"AttributeName": name, "KeyType": "HASH"}]);
        let index = |name: &str, status: &str| {
            json!({"IndexName": format!("by-{name}"), "KeySchema": hash(name), "IndexStatus": status,
                   "Projection": {"ProjectionType": "ALL"}, "ProvisionedThroughput": none.clone()})
        };
        let of = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
        let table = json!({
            "AttributeDefinitions": [of("name"), of("id"), of("mail")], "KeySchema": hash("id"),
            "ProvisionedThroughput": none, "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "GlobalSecondaryIndexes": [index("name", "ACTIVE"), index("mail", "DELETING")],
            "OnDemandThroughput": {"MaxReadRequestUnits": -1, "MaxWriteRequestUnits": -1},
            "TableClassSummary": {"TableClass": "STANDARD"},
        });
        let read = described_as(&table);
        assert_eq!(Definition::read(&read.ddl()), Ok(read.clone()));
        let names: Vec<&str> = read.attribute_definitions.iter().map(|a| a.attribute_name.as_str()).collect();
        assert_eq!(names, ["id", "name"]);
        let index = &read.global_secondary_indexes[..];
        assert!(matches!(index, [one] if one.provisioned_throughput.is_none()), "{index:?}");
        assert_eq!((read.provisioned_throughput, read.on_demand_throughput, read.table_class), (None, None, None));
    }
}
