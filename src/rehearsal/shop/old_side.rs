//! The shop's data in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue as Av, ReturnValue};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::PATIENCE;
use crate::rehearsal::clients;
use crate::rehearsal::oracle::{Outcome, Stood};
use crate::rehearsal::records::{
    Kind, Record, RecordKey, Write, address_value, from_item, key_attribute, table_name, to_item,
};

/// Reads and writes through the official SDK. One attempt for writes: a retry could hide a late first attempt.
#[derive(Clone, Debug)]
pub(super) struct OldSide {
    reader: Client,
    writer: Client,
}

fn key_of(key: &RecordKey) -> HashMap<String, Av> {
    HashMap::from([(key_attribute(key.kind).to_owned(), Av::S(key.id.clone()))])
}

impl OldSide {
    pub(super) fn new(endpoint: &str) -> Self {
        Self {
            reader: Client::new(&clients::session(endpoint, 2)),
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
fn judge<T, E>(answer: &Result<T, SdkError<E, HttpResponse>>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Acknowledged,
        Err(SdkError::ConstructionFailure(_)) => Outcome::Refused,
        Err(SdkError::ServiceError(e)) if e.raw().status().is_client_error() => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}
