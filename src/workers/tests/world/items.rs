//! Single items of the old side, each written only over what was read.

use async_trait::async_trait;

use super::old::OldStore;
use crate::domain::mapping::{ItemChange, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{Beyond, ErrorKind, ItemOutcome, Items, PortError, PortResult, Sequence, SequenceScan, Together};

/// Items on the first page.
const PAGE: usize = 16;

/// Whether the item is there as it must be, and holds what was read of it.
fn holds(item: Option<&Record<'static>>, exists: bool, expect: &[(String, Option<Value<'static>>)]) -> bool {
    item.is_some() == exists && expect.iter().all(|(name, value)| item.and_then(|i| i.get(name)) == value.as_ref())
}

#[async_trait]
impl Items for OldStore {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        let written = match change {
            ItemChange::Nothing => true,
            ItemChange::Delete { key, expect } => self.change(table, key, |i| holds(i, true, expect), |_| None)?,
            ItemChange::Write(write) => self.change(
                table,
                &write.key,
                |item| holds(item, write.exists, &write.expect),
                |item| {
                    let mut item = item.unwrap_or(&write.key).clone();
                    item.fields.retain(|(name, _)| !write.remove.iter().any(|gone| gone == name));
                    for (name, value) in &write.set {
                        match item.fields.iter_mut().find(|(n, _)| n == name) {
                            Some((_, stands)) => *stands = value.clone(),
                            None => item.fields.push((name.clone().into(), value.clone())),
                        }
                    }
                    Some(item)
                },
            )?,
        };
        Ok(if written { ItemOutcome::Written } else { ItemOutcome::Moved })
    }

    async fn write_together(&self, table: &Table, _: &[ItemChange]) -> PortResult<Together> {
        Err(PortError::new(ErrorKind::Invalid, "write together", &table.source, "it takes each item by itself"))
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        let (name, _) = TableMapping::new(table).key(key).unwrap();
        Ok(self.items(table).remove(&name.0))
    }

    fn of_columns(&self) -> bool {
        false
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        Ok(self.items(table).into_values().take(PAGE).collect())
    }

    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let name = Value::Text(format!("{}{nonce}", table.marker_prefix).into());
        let key = Record { fields: vec![(table.key[0].clone().into(), name)] };
        let mut marker = key.clone();
        marker.fields.push(("cutover".into(), Value::Text(nonce.to_owned().into())));
        // One that was written before a crash is there already.
        self.change(table, &key, |item| item.is_none(), |_| Some(marker.clone()))?;
        let there = Items::read(self, table, &key).await?;
        let gone = there == Some(marker) && self.change(table, &key, |item| item.is_some(), |_| None)?;
        let wrong = || PortError::new(ErrorKind::Invalid, "exercise", &table.source, "a marker did not read back");
        gone.then_some(()).ok_or_else(wrong)
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
