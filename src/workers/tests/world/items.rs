//! Single items of the old side, each written only over what was read.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::old::OldStore;
use crate::domain::mapping::{ItemChange, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{
    Beyond, ErrorKind, InBatch, ItemOutcome, Items, PortError, PortResult, Sequence, SequenceScan, Together,
};

/// Items on the first page.
const PAGE: usize = 16;

/// Whether the item is there as it must be, and holds what was read of it.
fn holds(item: Option<&Record<'static>>, exists: bool, expect: &[(String, Option<Value<'static>>)]) -> bool {
    item.is_some() == exists && expect.iter().all(|(name, value)| item.and_then(|i| i.get(name)) == value.as_ref())
}

/// The key of a change's item, in words.
fn key_of(table: &Table, change: &ItemChange) -> String {
    match change {
        ItemChange::Nothing => String::new(),
        ItemChange::Delete { key, .. } => TableMapping::new(table).key(key).unwrap().0.0,
        ItemChange::Write(write) => TableMapping::new(table).key(&write.key).unwrap().0.0,
    }
}

impl OldStore {
    fn refuses(&self, table: &Table, change: &ItemChange) -> bool {
        let back = self.back().clone();
        let key = key_of(table, change);
        if back.refused.contains(&key) {
            return true;
        }
        let (Some(unique), ItemChange::Write(write)) = (back.unique, change) else { return false };
        let wanted = write.after.get(unique).filter(|value| **value != Value::Null);
        let items = self.items(table);
        let mut others = items.iter().filter(|(of, _)| **of != key);
        wanted.is_some() && others.any(|(_, item)| item.get(unique) == wanted)
    }

    /// Writes one change.
    fn put_back(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        if self.refuses(table, change) {
            return Err(PortError::new(ErrorKind::Invalid, "write", &table.source, "it is refused"));
        }
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
                    for column in table.columns.iter().filter(|_| self.back().columns) {
                        if item.get(&column.name).is_none() {
                            item.fields.push((column.name.clone().into(), Value::Null));
                        }
                    }
                    Some(item)
                },
            )?,
        };
        Ok(if written { ItemOutcome::Written } else { ItemOutcome::Moved })
    }

    /// Writes changes in their order, as far as they can stand: one that is refused is tried again after those behind it,
    /// and changes of its item wait with it.
    fn put_together(&self, table: &Table, changes: &[ItemChange]) -> Result<(), Box<PortResult<Together>>> {
        let mut left: Vec<usize> = (0..changes.len()).collect();
        while !left.is_empty() {
            let (tried, mut waiting, mut held) = (left.len(), Vec::new(), BTreeSet::new());
            let (mut refused, mut first) = (Vec::new(), None);
            for place in left {
                let key = key_of(table, &changes[place]);
                if held.contains(&key) {
                    waiting.push(place);
                    continue;
                }
                match self.put_back(table, &changes[place]) {
                    Ok(ItemOutcome::Written) => {}
                    Ok(ItemOutcome::Moved) => return Err(Box::new(Ok(Together::Moved))),
                    Err(why) if why.kind == ErrorKind::Invalid => {
                        held.insert(key);
                        waiting.push(place);
                        refused.push(place);
                        first = first.or(Some(why));
                    }
                    Err(e) => return Err(Box::new(Err(e))),
                }
            }
            left = waiting;
            if let Some(why) = first.filter(|_| left.len() == tried) {
                return Err(Box::new(Ok(Together::Refused { places: refused, why })));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Items for OldStore {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        self.put_back(table, change)
    }

    async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>> {
        let mut keys: Vec<String> = changes.iter().map(|change| key_of(table, change)).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "two changes of one item: {keys:?}");
        assert!(changes.len() <= self.batch(), "more than it said it takes");
        // One that is refused takes all of them back.
        let written = self.whole(table, || {
            let each = changes.iter().map(|change| match self.put_back(table, change) {
                Ok(ItemOutcome::Written) => Ok(InBatch::Written),
                Ok(ItemOutcome::Moved) => Ok(InBatch::Apart),
                Err(e) => Err(e),
            });
            each.collect::<PortResult<Vec<_>>>()
        });
        match written {
            Err(e) if e.kind == ErrorKind::Invalid => Ok(vec![InBatch::Apart; changes.len()]),
            written => written,
        }
    }

    fn batch(&self) -> usize {
        self.back().batch
    }

    async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        let mut found = Vec::new();
        for key in keys {
            found.push(Items::read(self, table, key).await?);
        }
        Ok(found)
    }

    async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together> {
        if !self.of_columns() {
            let why = "it takes each item by itself";
            return Err(PortError::new(ErrorKind::Invalid, "write together", &table.source, why));
        }
        match self.whole(table, || self.put_together(table, changes)) {
            Ok(()) => Ok(Together::Written),
            Err(ended) => *ended,
        }
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        let (name, _) = TableMapping::new(table).key(key).unwrap();
        Ok(self.items(table).remove(&name.0))
    }

    fn of_columns(&self) -> bool {
        self.back().columns
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
