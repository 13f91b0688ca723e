//! The payments application's sessions and limits in the DynamoDB tables of one side.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{AttributeValue as Av, ReturnValue};

use super::items::{from_item, key_of, millis, table, text_key, to_item};
use crate::private::clients::session;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::oracle::{Form, Listed, Outcome, Side, Stood};
use crate::rehearsal::records::item::{n, s};
use crate::rehearsal::records::{Kind, Record, RecordKey, Write};
use crate::rehearsal::shop::PATIENCE;
use crate::rehearsal::shop::old_side::{MARKER, judge};

/// The attributes that an update sets, by name, and one that it removes.
type Change = (Vec<(&'static str, Av)>, Option<&'static str>);

/// Reads and writes through the official SDK. One attempt for writes: a retry could hide a late first attempt.
#[derive(Debug)]
pub(super) struct ItemStore {
    reader: Client,
    writer: Client,
    side: Side,
}

impl ItemStore {
    pub(super) fn new(endpoint: &str, side: Side) -> Self {
        Self { reader: Client::new(&session(endpoint, 5)), writer: Client::new(&session(endpoint, 1)), side }
    }

    pub(super) async fn read(&self, key: &RecordKey) -> Result<Option<Record>, String> {
        let Some(names) = key_of(key) else { return Ok(None) };
        let get = self.reader.get_item().table_name(table(key.kind, self.side)).set_key(Some(names));
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
        let (Some(names), kind) = (key_of(&key), key.kind) else { return (Outcome::Refused, None) };
        let (table, there) = (table(kind, self.side), text_key(kind));
        let (set, remove): Change = match write {
            Write::Put(record) => {
                let put = self.writer.put_item().table_name(table).set_item(to_item(record));
                let answer = put.return_values(ReturnValue::AllOld).send().await;
                // No attributes in the answer means that there was no item: only this write makes one.
                let before = answer.as_ref().ok().and_then(|o| match &o.attributes {
                    None => Some(Stood(None)),
                    Some(item) => from_item(kind, item).map(|record| Stood(Some(record))),
                });
                return (judge(&answer), before);
            }
            Write::Delete(_) => {
                let delete = self.writer.delete_item().table_name(table).set_key(Some(names));
                // Nobody deletes what is not there: the customer gets an error that says so.
                let delete = delete
                    .condition_expression("attribute_exists(#key)")
                    .expression_attribute_names("#key", there)
                    .return_values(ReturnValue::AllOld);
                let answer = delete.send().await;
                let before = answer.as_ref().ok().and_then(|o| from_item(kind, o.attributes()?));
                return (judge(&answer), before.map(|record| Stood(Some(record))));
            }
            Write::Seen { device, scopes, at, .. } => {
                let mut set = vec![("device", s(device)), ("seenAt", millis(*at))];
                // A set cannot be empty.
                let remove = scopes.is_empty().then_some("scopes");
                if remove.is_none() {
                    set.push(("scopes", Av::Ss(scopes.iter().cloned().collect())));
                }
                (set, remove)
            }
            Write::Spent { spent, at, .. } => (vec![("spent", n(spent)), ("changedAt", Av::S(at.iso()))], None),
            // Rows, or the shop's: nothing of them is here.
            Write::Stock { .. }
            | Write::Price { .. }
            | Write::Profile { .. }
            | Write::Status { .. }
            | Write::Balance { .. }
            | Write::Holder { .. }
            | Write::State { .. } => return (Outcome::Refused, None),
        };
        let sets: Vec<String> = (0..set.len()).map(|i| format!("#a{i} = :v{i}")).collect();
        let removes = if remove.is_some() { " REMOVE #gone" } else { "" };
        let mut update = self
            .writer
            .update_item()
            .table_name(table)
            .set_key(Some(names))
            .update_expression(format!("SET {}{removes}", sets.join(", ")))
            // An update of nothing would create a crippled record.
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", there)
            .return_values(ReturnValue::AllOld);
        for (i, (name, value)) in set.into_iter().enumerate() {
            update = update.expression_attribute_names(format!("#a{i}"), name);
            update = update.expression_attribute_values(format!(":v{i}"), value);
        }
        if let Some(gone) = remove {
            update = update.expression_attribute_names("#gone", gone);
        }
        let answer = update.send().await;
        let before = answer.as_ref().ok().and_then(|o| from_item(kind, o.attributes()?));
        (judge(&answer), before.map(|record| Stood(Some(record))))
    }

    pub(super) async fn list(&self, kind: Kind) -> RehearsalResult<Listed> {
        let table = table(kind, self.side);
        let mut listed = Listed { records: BTreeMap::new(), form: Form::AsGiven, markers: 0 };
        let mut start = None;
        loop {
            // A limit: the embedded emulator reads the rest of the table for every page that has none.
            let scan = self.reader.scan().table_name(table).limit(2_000).consistent_read(true);
            let page = scan.set_exclusive_start_key(start).send().await;
            let page = page.map_err(|e| RehearsalError::caused("compare with", table, &e))?;
            for item in page.items() {
                let Some(id) = item.get(text_key(kind)).and_then(|v| v.as_s().ok()) else { continue };
                if id.starts_with(MARKER) {
                    listed.markers += 1;
                    continue;
                }
                let id = match (kind, item.get("day").and_then(|v| v.as_n().ok())) {
                    (Kind::Limit, Some(day)) => format!("{id}/{day}"),
                    _ => id.clone(),
                };
                listed.records.insert(id, from_item(kind, item));
            }
            start = page.last_evaluated_key.filter(|k| !k.is_empty());
            if start.is_none() {
                return Ok(listed);
            }
        }
    }
}
