//! What a DynamoDB table is made of: the DDL of such a table.
//!
//! It is the JSON that `CreateTable` takes, and beside it what is set by calls of their own, under the names that
//! CloudFormation gives it: expiry and point-in-time recovery.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::table::Table;

/// A table's definition. What a source does not say is absent, and the service's default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Definition {
    /// The table it was written for, if it says so: it has to be the one of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_name: Option<String>,
    /// Types of the attributes that are keys, of the table or of an index.
    pub attribute_definitions: Vec<AttributeDefinition>,
    /// The key: the partition key, then the sort key if there is one.
    pub key_schema: Vec<KeyElement>,
    /// Indexes by another sort key. They exist from the beginning or never.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_secondary_indexes: Vec<Index>,
    /// Indexes by another key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub global_secondary_indexes: Vec<Index>,
    /// How capacity is paid for.
    #[serde(default)]
    pub billing_mode: BillingMode,
    /// Capacity that is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned_throughput: Option<ProvisionedThroughput>,
    /// Limits of capacity on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_throughput: Option<OnDemandThroughput>,
    /// Storage class; absent is `STANDARD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_class: Option<String>,
    /// Encryption by KMS; absent is by a key that AWS owns.
    #[serde(default, rename = "SSESpecification", skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// Whether the service refuses to delete it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection_enabled: bool,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// How items expire. Off until customers are let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live_specification: Option<TimeToLive>,
    /// Whether it can be restored to any moment of the last weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time_recovery_specification: Option<PointInTimeRecovery>,
}

/// An attribute and its type: `S`, `N` or `B`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AttributeDefinition {
    /// The attribute.
    pub attribute_name: String,
    /// Its type.
    pub attribute_type: String,
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct KeyElement {
    /// The attribute.
    pub attribute_name: String,
    /// `HASH` for the partition key, `RANGE` for the sort key.
    pub key_type: String,
}

/// A secondary index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Index {
    /// Its name.
    pub index_name: String,
    /// Its key.
    pub key_schema: Vec<KeyElement>,
    /// Which attributes it holds.
    pub projection: Projection,
    /// Capacity that is reserved for it. A local index has that of its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned_throughput: Option<ProvisionedThroughput>,
    /// Limits of its capacity on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_throughput: Option<OnDemandThroughput>,
}

/// Which attributes an index holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Projection {
    /// `ALL`, `KEYS_ONLY` or `INCLUDE`.
    pub projection_type: String,
    /// With `INCLUDE`: those besides the keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_key_attributes: Vec<String>,
}

/// How capacity is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BillingMode {
    /// By the request.
    #[default]
    PayPerRequest,
    /// By what is reserved.
    Provisioned,
}

/// Capacity that is reserved, in units a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ProvisionedThroughput {
    /// For reads.
    pub read_capacity_units: u64,
    /// For writes.
    pub write_capacity_units: u64,
}

/// Limits of capacity on demand, in units a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct OnDemandThroughput {
    /// For reads; -1 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_read_request_units: Option<i64>,
    /// For writes; -1 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_write_request_units: Option<i64>,
}

/// Encryption by KMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Encryption {
    /// Whether it is on.
    pub enabled: bool,
    /// `KMS`.
    #[serde(default, rename = "SSEType", skip_serializing_if = "Option::is_none")]
    pub sse_type: Option<String>,
    /// The key; absent is the one that the account has for DynamoDB.
    #[serde(default, rename = "KMSMasterKeyId", skip_serializing_if = "Option::is_none")]
    pub kms_master_key_id: Option<String>,
}

impl Encryption {
    /// By this key of KMS, or by the one that the account has for DynamoDB.
    #[must_use]
    pub fn kms(key: Option<String>) -> Self {
        Self { enabled: true, sse_type: Some("KMS".to_owned()), kms_master_key_id: key }
    }
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Tag {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// How items expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct TimeToLive {
    /// The attribute that holds when, in seconds since 1970.
    pub attribute_name: String,
    /// Whether they do.
    pub enabled: bool,
}

/// Whether a table can be restored to any moment of the last weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PointInTimeRecovery {
    /// Whether it can.
    pub point_in_time_recovery_enabled: bool,
}

impl Table {
    /// The definition a DynamoDB table is made by; `None` where the plan has none, or DDL of another kind.
    #[must_use]
    pub fn definition(&self) -> Option<Definition> {
        self.ddl.as_deref().and_then(|ddl| Definition::read(ddl).ok())
    }

    /// The attribute by which items expire once customers are let in, where this plan makes the table so.
    #[must_use]
    pub fn expires_by(&self) -> Option<String> {
        self.definition().and_then(|definition| definition.expires_by().map(str::to_owned))
    }
}

impl Definition {
    /// Reads DDL.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(ddl: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(ddl).map_err(|e| e.to_string())?;
        let mut wrong = Vec::new();
        if !matches!(read.key_schema.len(), 1 | 2) {
            wrong.push("KeySchema names a partition key and perhaps a sort key".to_owned());
        }
        let used = read.key_attributes();
        let known: BTreeSet<&str> = read.attribute_definitions.iter().map(|a| a.attribute_name.as_str()).collect();
        for name in used.difference(&known) {
            wrong.push(format!("AttributeDefinitions does not say the type of {name}, which is a key"));
        }
        for name in known.difference(&used) {
            wrong.push(format!("AttributeDefinitions has {name}, which is no key of the table or of an index"));
        }
        if read.billing_mode == BillingMode::Provisioned && read.provisioned_throughput.is_none() {
            wrong.push("BillingMode is PROVISIONED, and ProvisionedThroughput does not say how much".to_owned());
        }
        if wrong.is_empty() { Ok(read) } else { Err(wrong.join("; ")) }
    }

    /// As DDL.
    #[must_use]
    pub fn ddl(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The attribute by which items expire, where they do.
    #[must_use]
    pub fn expires_by(&self) -> Option<&str> {
        self.time_to_live_specification.as_ref().filter(|ttl| ttl.enabled).map(|ttl| ttl.attribute_name.as_str())
    }

    /// Whether it can be restored to any moment.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        self.point_in_time_recovery_specification.is_some_and(|pitr| pitr.point_in_time_recovery_enabled)
    }

    /// The key with its types, partition key first.
    #[must_use]
    pub fn key(&self) -> Vec<(&str, &str)> {
        self.typed(&self.key_schema)
    }

    /// Every index with whether it is local.
    pub fn indexes(&self) -> impl Iterator<Item = (&Index, bool)> {
        let local = self.local_secondary_indexes.iter().map(|index| (index, true));
        local.chain(self.global_secondary_indexes.iter().map(|index| (index, false)))
    }

    /// A key with its types, partition key first; a type that is not said is empty.
    #[must_use]
    pub fn typed<'d>(&'d self, key: &'d [KeyElement]) -> Vec<(&'d str, &'d str)> {
        let mut all: Vec<&KeyElement> = key.iter().collect();
        all.sort_by_key(|one| one.key_type != "HASH");
        let ty = |name: &str| {
            let found = self.attribute_definitions.iter().find(|a| a.attribute_name == name);
            found.map_or("", |a| a.attribute_type.as_str())
        };
        all.into_iter().map(|one| (one.attribute_name.as_str(), ty(&one.attribute_name))).collect()
    }

    fn key_attributes(&self) -> BTreeSet<&str> {
        let of_indexes = self.indexes().flat_map(|(index, _)| &index.key_schema);
        self.key_schema.iter().chain(of_indexes).map(|one| one.attribute_name.as_str()).collect()
    }

    /// The same without these indexes, and without the attributes that only they need.
    #[must_use]
    pub fn without(mut self, indexes: &[String]) -> Self {
        self.local_secondary_indexes.retain(|index| !indexes.contains(&index.index_name));
        self.global_secondary_indexes.retain(|index| !indexes.contains(&index.index_name));
        let used: BTreeSet<String> = self.key_attributes().into_iter().map(str::to_owned).collect();
        self.attribute_definitions.retain(|a| used.contains(&a.attribute_name));
        self
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const DDL: &str = r#"{
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "email", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{"IndexName": "by-email",
            "KeySchema": [{"AttributeName": "email", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["name"]}}],
        "BillingMode": "PAY_PER_REQUEST",
        "TimeToLiveSpecification": {"AttributeName": "until", "Enabled": true}}"#;

    fn definition() -> Definition {
        Definition::read(DDL).unwrap()
    }

    #[test]
    fn ddl_is_read_as_it_was_written_and_mistakes_are_named() {
        let read = definition();
        assert_eq!(Definition::read(&read.ddl()), Ok(read.clone()));
        assert_eq!((read.key(), read.expires_by()), (vec![("id", "S")], Some("until")));
        let wrong = |from: &str, to: &str| Definition::read(&DDL.replacen(from, to, 1)).unwrap_err();
        assert!(wrong("\"email\", \"AttributeType\"", "\"mail\", \"AttributeType\"").contains("the type of email"));
        assert!(wrong("PAY_PER_REQUEST", "PROVISIONED").contains("does not say how much"));
        assert!(wrong("BillingMode", "BilingMode").contains("BilingMode"));
        assert!(Definition::read("CREATE TABLE x").is_err());
        let alone = read.without(&["by-email".to_owned()]);
        assert_eq!((alone.indexes().count(), alone.attribute_definitions.len()), (0, 1));
    }
}
