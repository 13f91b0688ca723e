//! Writing single items, each only over what was read.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::AttributeValue;

use super::source::DynamoSource;
use super::{attr, fault};
use crate::domain::mapping::{ItemChange, ItemWrite, MARK};
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{
    Beyond, ErrorKind, InBatch, ItemOutcome, Items, Partition, PortError, PortResult, Sequence, SequenceScan,
    Source as _, Together,
};

/// Attributes may have any name, so every name goes by a placeholder.
struct Expression {
    /// The table, for errors.
    on: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

/// What is tried.
const WRITE: &str = "write an item of";
/// Items written side by side: their records go once all of them are acknowledged, so few of them wait for one.
pub const ITEMS_AT_ONCE: usize = 16;

impl Expression {
    fn new(table: &Table) -> Self {
        Self { on: table.source.clone(), names: HashMap::new(), values: HashMap::new() }
    }

    fn name(&mut self, name: &str) -> String {
        let known = self.names.iter().find(|(_, n)| *n == name).map(|(short, _)| short.clone());
        known.unwrap_or_else(|| {
            let short = format!("#n{}", self.names.len());
            self.names.insert(short.clone(), name.to_owned());
            short
        })
    }

    fn value(&mut self, (name, value): (&str, &Value<'_>)) -> PortResult<String> {
        let short = format!(":v{}", self.values.len());
        let value = attr::to_sdk(value).map_err(|reason| attr::unheld(WRITE, &self.on, name, reason))?;
        self.values.insert(short.clone(), value);
        Ok(short)
    }

    /// That the item is there (or not), and that these attributes hold what was read.
    fn condition(
        &mut self,
        key: &Record<'_>,
        exists: bool,
        expect: &[(String, Option<Value<'static>>)],
    ) -> PortResult<String> {
        let mut all = Vec::new();
        if let Some((first, _)) = key.fields.first() {
            let name = self.name(first);
            all.push(format!("{}({name})", if exists { "attribute_exists" } else { "attribute_not_exists" }));
        }
        for (name, value) in expect {
            let short = self.name(name);
            all.push(match value {
                Some(value) => format!("{short} = {}", self.value((name, value))?),
                None => format!("attribute_not_exists({short})"),
            });
        }
        Ok(all.join(" AND "))
    }

    fn values(self) -> (HashMap<String, String>, Option<HashMap<String, AttributeValue>>) {
        // DynamoDB refuses an empty map of values.
        let values = (!self.values.is_empty()).then_some(self.values);
        (self.names, values)
    }
}

/// Moved, or the error.
fn judge<E, R>(error: aws_sdk_dynamodb::error::SdkError<E, R>, on: &str) -> PortResult<ItemOutcome>
where
    E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fault::Status + std::fmt::Debug + Send + Sync + 'static,
{
    if error.code() == Some("ConditionalCheckFailedException") {
        return Ok(ItemOutcome::Moved);
    }
    let mut error = fault::sdk(error, WRITE, on);
    if error.kind == ErrorKind::Invalid {
        // Its message may quote the value that did not fit. The index that refused it is behind that.
        let index = index_named(&error.came_back);
        error.came_back.truncate(error.came_back.find(':').unwrap_or(error.came_back.len()));
        if let Some(index) = index {
            error.came_back.push_str(&format!(" for the key of its index {index}"));
            error.advice = "the old table cannot hold this value: correct it on the new side".into();
        }
    }
    Err(error)
}

/// The index that a message names (`… IndexName: by-author, IndexKey: author`): the last one, for a quoted value may hold
/// anything.
pub(super) fn index_named(message: &str) -> Option<String> {
    // Other messages may quote a value, and that may hold anything.
    let about_an_index = ["Type mismatch for Index Key", "A value specified for a secondary index key"];
    about_an_index.iter().find(|words| message.contains(*words))?;
    let named = message.rsplit_once("IndexName: ").or_else(|| message.rsplit_once("Index Name: "))?.1;
    let name: String = named.chars().take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
    (!name.is_empty()).then_some(name)
}

impl DynamoSource {
    async fn update(&self, table: &Table, write: &ItemWrite) -> PortResult<ItemOutcome> {
        let mut e = Expression::new(table);
        let mut set = Vec::new();
        for (name, value) in &write.set {
            set.push(format!("{} = {}", e.name(name), e.value((name, value))?));
        }
        let remove: Vec<String> = write.remove.iter().map(|name| e.name(name)).collect();
        let mut update = String::new();
        if !set.is_empty() {
            update.push_str(&format!("SET {}", set.join(", ")));
        }
        if !remove.is_empty() {
            update.push_str(&format!(" REMOVE {}", remove.join(", ")));
        }
        let condition = e.condition(&write.key, write.exists, &write.expect)?;
        let (names, values) = e.values();
        let request = self
            .sdk()
            .update_item()
            .table_name(&table.source)
            .set_key(Some(attr::item_to_sdk(&write.key, WRITE, &table.source)?))
            // An item that is nothing but its key has no update.
            .set_update_expression((!update.is_empty()).then_some(update))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(values);
        match request.send().await {
            Ok(_) => Ok(ItemOutcome::Written),
            Err(e) => judge(e, &table.source),
        }
    }

    async fn delete(
        &self,
        table: &Table,
        key: &Record<'static>,
        expect: &[(String, Option<Value<'static>>)],
    ) -> PortResult<ItemOutcome> {
        let mut e = Expression::new(table);
        let condition = e.condition(key, true, expect)?;
        let (names, values) = e.values();
        let request = self
            .sdk()
            .delete_item()
            .table_name(&table.source)
            .set_key(Some(attr::item_to_sdk(key, WRITE, &table.source)?))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(values);
        match request.send().await {
            Ok(_) => Ok(ItemOutcome::Written),
            Err(e) => judge(e, &table.source),
        }
    }
}

#[async_trait]
impl Items for DynamoSource {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        match change {
            ItemChange::Nothing => Ok(ItemOutcome::Written),
            ItemChange::Write(write) => self.update(table, write).await,
            ItemChange::Delete { key, expect } => self.delete(table, key, expect).await,
        }
    }

    async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>> {
        let each = changes.iter().map(|change| self.write(table, change));
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut failed = None;
        // All of them end before one that failed is told: none is under way any more then.
        for written in futures::future::join_all(each).await {
            outcomes.push(match written {
                Ok(ItemOutcome::Written) => InBatch::Written,
                Ok(ItemOutcome::Moved) => InBatch::Apart,
                Err(e) if e.kind == ErrorKind::Invalid => InBatch::Refused(e),
                Err(e) => {
                    failed = failed.or(Some(e));
                    InBatch::Apart
                }
            });
        }
        failed.map_or(Ok(outcomes), Err)
    }

    fn batch(&self) -> usize {
        ITEMS_AT_ONCE
    }

    async fn write_together(&self, table: &Table, _: &[ItemChange]) -> PortResult<Together> {
        Err(PortError::new(ErrorKind::Invalid, "write together", &table.source, "it takes each item by itself"))
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        const TRIED: &str = "read an item of";
        let request = self.sdk().get_item().table_name(&table.source).consistent_read(true);
        let answer = request.set_key(Some(attr::item_to_sdk(key, TRIED, &table.source)?)).send().await;
        let answer = answer.map_err(|e| fault::sdk(e, TRIED, &table.source))?;
        answer
            .item
            .map(attr::item_from_sdk)
            .transpose()
            .map_err(|_| PortError::new(ErrorKind::Invalid, TRIED, &table.source, "an attribute of unknown type"))
    }

    async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.get(table, keys).await
    }

    fn of_columns(&self) -> bool {
        false
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        let page = self.page(table, Partition { index: 0, of: 1 }, None).await?;
        let mut items = Vec::new();
        crate::ports::Source::read(self, &page, &mut |item| items.push(item.clone().into_owned()))?;
        Ok(items)
    }

    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let key = attr::item_from_sdk(self.marker_key(table, nonce).await?);
        let wrong = |why: &str| PortError::new(ErrorKind::Invalid, "exercise the way back into", &table.source, why);
        let key = key.map_err(|_| wrong("its key has an unknown type"))?;
        let mark = Value::Text(nonce.to_owned().into());
        let mut after = key.clone();
        after.fields.push((MARK.into(), mark.clone()));
        let set = vec![(MARK.to_owned(), mark.clone())];
        let write = ItemWrite { key: key.clone(), exists: false, set, remove: vec![], expect: vec![], after };
        // A marker that was written before a crash is there already; its read-back counts all the same.
        self.update(table, &write).await?;
        let found = Items::read(self, table, &key).await?;
        if found.as_ref().and_then(|item| item.get(MARK)) != Some(&mark) {
            return Err(wrong("a marker was written and does not read back")
                .advise("see whether something else removes items of this table"));
        }
        let gone = self.delete(table, &key, &[(MARK.to_owned(), Some(mark))]).await?;
        if gone != ItemOutcome::Written || Items::read(self, table, &key).await?.is_some() {
            return Err(wrong("its marker could not be removed"));
        }
        Ok(())
    }

    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn advance_sequences(
        &self,
        _: &[Table],
        _: SequenceScan,
        _: &[String],
        _: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::index_named;

    #[test]
    fn the_index_is_found_in_either_form_of_the_message() {
        let empty = "One or more parameter values are not valid. A value specified for a secondary index key is not \
                     supported. The AttributeValue for a key attribute cannot contain an empty string value. IndexName: \
                     by-author, IndexKey: author";
        assert_eq!(index_named(empty).as_deref(), Some("by-author"));
        let type_of = "One or more parameter values were invalid: Type mismatch for Index Key author Expected: S Actual: \
                       N IndexName: by_author.2";
        assert_eq!(index_named(type_of).as_deref(), Some("by_author.2"));
        assert_eq!(index_named("Item size has exceeded the maximum allowed size"), None);
        let quoted = "The parameter cannot be converted to a numeric value: IndexName: secret";
        assert_eq!(index_named(quoted), None, "a value may hold anything");
    }
}
