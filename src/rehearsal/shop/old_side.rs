//! The shop's data in DynamoDB: where it comes from.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue as Av, ReturnValue};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::{PATIENCE, Store};
use crate::domain::secret::Secret;
use crate::private::clients;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::oracle::{Form, Listed, Outcome, Stood};
use crate::rehearsal::records::{
    Kind, Record, RecordKey, Write, address_value, from_item, key_attribute, table_name, to_item,
};

/// Reads and writes through the official SDK. One attempt for writes: a retry could hide a late first attempt.
#[derive(Clone, Debug)]
pub(in crate::rehearsal) struct OldSide {
    reader: Client,
    writer: Client,
}

fn key_of(key: &RecordKey) -> HashMap<String, Av> {
    HashMap::from([(key_attribute(key.kind).to_owned(), Av::S(key.id.clone()))])
}

/// Keys of the console's markers begin with this.
pub(in crate::rehearsal) const MARKER: &str = "cutover-marker-";

#[async_trait]
impl Store for OldSide {
    async fn read(&self, _: &Secret, key: &RecordKey) -> Result<Option<Record>, String> {
        Self::read(self, key).await
    }

    async fn write(&self, _: &Secret, write: &Write) -> (Outcome, Option<Stood>) {
        Self::write(self, write).await
    }

    async fn list(&self, _: &Secret, kind: Kind) -> RehearsalResult<Listed> {
        let (table, attribute) = (table_name(kind), key_attribute(kind));
        let mut listed = Listed { records: BTreeMap::new(), form: Form::AsGiven, markers: 0 };
        let mut start = None;
        loop {
            // A limit: the embedded emulator reads the rest of the table for every page that has none.
            let scan = self.reader.scan().table_name(table).limit(2_000).consistent_read(true);
            let page = scan.set_exclusive_start_key(start).send().await;
            let page = page.map_err(|e| RehearsalError::caused("compare with", table, &e))?;
            for item in page.items() {
                let Some(id) = item.get(attribute).and_then(|v| v.as_s().ok()) else { continue };
                if id.starts_with(MARKER) {
                    listed.markers += 1;
                } else {
                    listed.records.insert(id.clone(), from_item(kind, item));
                }
            }
            start = page.last_evaluated_key.filter(|k| !k.is_empty());
            if start.is_none() {
                return Ok(listed);
            }
        }
    }
}

impl OldSide {
    pub(in crate::rehearsal) fn new(endpoint: &str) -> Self {
        Self {
            // A verdict reads whole tables: one answer that is lost must not end it.
            reader: Client::new(&clients::session(endpoint, 5)),
            writer: Client::new(&clients::session(endpoint, 1)),
        }
    }

    pub(super) async fn read(&self, key: &RecordKey) -> Result<Option<Record>, String> {
        let get = self.reader.get_item().table_name(table_name(key.kind)).set_key(Some(key_of(key)));
        let got = tokio::time::timeout(PATIENCE, get.send()).await.map_err(|_| "no answer".to_owned())?;
        let got = got.map_err(|e| e.code().unwrap_or("no connection").to_owned())?;
        match got.item() {
            None => Ok(None),
            Some(item) => from_item(key.kind, item).map(Some).ok_or_else(|| "the item is damaged".to_owned()),
        }
    }

    /// The outcome, and what the item was before: DynamoDB's own answer.
    pub(super) async fn write(&self, write: &Write) -> (Outcome, Option<Stood>) {
        match tokio::time::timeout(PATIENCE, self.send(write)).await {
            Ok(answer) => answer,
            Err(_) => (Outcome::Unknown, None),
        }
    }

    async fn send(&self, write: &Write) -> (Outcome, Option<Stood>) {
        let key = write.key();
        let table = table_name(key.kind);
        let (fields, values): (&[(&str, &str)], Vec<Av>) = match write {
            Write::Put(record) => {
                let put = self.writer.put_item().table_name(table).set_item(Some(to_item(record)));
                let answer = put.return_values(ReturnValue::AllOld).send().await;
                // No attributes in the answer means that there was no item: only this write makes one.
                let before = answer.as_ref().ok().and_then(|o| match &o.attributes {
                    None => Some(Stood(None)),
                    Some(item) => stood(key.kind, item),
                });
                return (judge(&answer), before);
            }
            Write::Delete(key) => {
                let delete = self.writer.delete_item().table_name(table).set_key(Some(key_of(key)));
                // Nobody deletes what is not there, on either side: the customer gets an error that says so.
                let there = delete
                    .condition_expression("attribute_exists(#key)")
                    .expression_attribute_names("#key", key_attribute(key.kind))
                    .return_values(ReturnValue::AllOld);
                let answer = there.send().await;
                let before = answer.as_ref().ok().and_then(|o| stood(write.key().kind, o.attributes()?));
                return (judge(&answer), before);
            }
            // Payments are another application's, and nothing of them is here.
            Write::Balance { .. }
            | Write::Holder { .. }
            | Write::State { .. }
            | Write::Seen { .. }
            | Write::Spent { .. } => return (Outcome::Refused, None),
            Write::Stock { stock, at, .. } => {
                (&[("#a", "stockQuantity"), ("#b", "updatedAt")], vec![Av::N(stock.to_string()), Av::S(at.iso())])
            }
            Write::Price { price, at, .. } => {
                (&[("#a", "price"), ("#b", "updatedAt")], vec![Av::N(price.text().to_owned()), Av::S(at.iso())])
            }
            Write::Status { status, at, .. } => {
                (&[("#a", "status"), ("#b", "updatedAt")], vec![Av::S(status.clone()), Av::S(at.iso())])
            }
            Write::Profile { name, address, favorites, .. } => {
                let mut values = vec![Av::S(name.clone()), address_value(address)];
                if favorites.is_empty() {
                    (&[("#a", "name"), ("#b", "address"), ("#gone", "favorites")], values)
                } else {
                    values.push(Av::Ss(favorites.iter().cloned().collect()));
                    (&[("#a", "name"), ("#b", "address"), ("#c", "favorites")], values)
                }
            }
        };
        let set: Vec<String> = fields
            .iter()
            .filter(|(short, _)| *short != "#gone")
            .enumerate()
            .map(|(i, (short, _))| format!("{short} = :v{i}"))
            .collect();
        let remove = if fields.iter().any(|(short, _)| *short == "#gone") { " REMOVE #gone" } else { "" };
        let mut update = self
            .writer
            .update_item()
            .table_name(table)
            .set_key(Some(key_of(&key)))
            .update_expression(format!("SET {}{remove}", set.join(", ")))
            // An update of nothing would create a crippled record.
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", key_attribute(key.kind))
            .return_values(ReturnValue::AllOld);
        for (short, name) in fields {
            update = update.expression_attribute_names(*short, *name);
        }
        for (i, value) in values.into_iter().enumerate() {
            update = update.expression_attribute_values(format!(":v{i}"), value);
        }
        let answer = update.send().await;
        let before = answer.as_ref().ok().and_then(|o| stood(key.kind, o.attributes()?));
        (judge(&answer), before)
    }
}

/// What DynamoDB says the item was; nothing when it cannot be read as a record.
fn stood(kind: Kind, item: &HashMap<String, Av>) -> Option<Stood> {
    from_item(kind, item).map(|record| Stood(Some(record)))
}

/// What an answer means for a write. Only an explicit refusal counts as not written.
pub(in crate::rehearsal) fn judge<T, E>(answer: &Result<T, SdkError<E, HttpResponse>>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Acknowledged,
        Err(SdkError::ConstructionFailure(_)) => Outcome::Refused,
        Err(SdkError::ServiceError(e)) if e.raw().status().is_client_error() => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}
