//! The old side as the ports see it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use super::old::OldStore;
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::TableMapping;
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{
    Batch, Changes, Cursor, ErrorKind, OpenWrite, Page, PageEnd, Partition, PointInTime, PortError, PortResult,
    ReadFrom, Sequence, SequenceScan, Source, SourceTable, Stream,
};

/// Items on one page.
const PAGE: usize = 3;

#[async_trait]
impl Source for OldStore {
    async fn describe(&self, table: &Table) -> PortResult<SourceTable> {
        let rows = self.items(table).len() as u64;
        let stream = self.stream(table)?.map(|s| (s.id, true));
        let key = table.key.iter().map(|k| (k.clone(), "S".to_owned())).collect();
        // The store's own count is six hours old at best.
        Ok(SourceTable {
            key,
            count: Count::estimated(rows, At(0)),
            stream,
            ttl: table.ttl.clone(),
            ..SourceTable::default()
        })
    }

    async fn page(&self, table: &Table, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page> {
        let after = cursor.map(|c| c.0.clone());
        let items = self.items(table);
        let mine = items.iter().filter(|(k, _)| segment(k, part.of) == part.index);
        let left: Vec<_> = mine.filter(|(k, _)| after.as_ref().is_none_or(|a| *k > a)).collect();
        let taken: Vec<_> = left.iter().take(PAGE).collect();
        let mut body = json!({
            "Items": taken.iter().map(|(_, i)| write(i)).collect::<Vec<_>>(),
            "Count": taken.len(),
        });
        if taken.len() < left.len() {
            body["LastEvaluatedKey"] = json!(taken.last().map(|(k, _)| k.as_str()));
        }
        Ok(Page { body: Bytes::from(body.to_string()) })
    }

    fn read<'p>(&self, page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
        let torn = |_| PortError::new(ErrorKind::Invalid, "parse a page", "scan", "a page that cannot be read");
        let body: serde_json::Value = serde_json::from_slice(&page.body).map_err(torn)?;
        let items = body["Items"].as_array().cloned().unwrap_or_default();
        for item in &items {
            each(&read(item));
        }
        let next = body["LastEvaluatedKey"].as_str().map(|k| Cursor(k.to_owned()));
        Ok(PageEnd { items: items.len() as u32, next, capacity: None })
    }

    async fn get(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        let mapping = TableMapping::new(table);
        let items = self.items(table);
        Ok(keys.iter().map(|k| mapping.key(k).ok().and_then(|(k, _)| items.get(&k.0).cloned())).collect())
    }

    async fn names(&self) -> PortResult<Vec<String>> {
        Ok(self.names_of_tables())
    }

    async fn open_writes(&self) -> PortResult<Vec<OpenWrite>> {
        Ok(self.open_transactions())
    }

    async fn given_sequences(&self, _: &[Table], _: Option<SequenceScan>) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn count(&self, table: &Table) -> PortResult<Count> {
        Ok(Count::exact(self.items(table).len() as u64, At(0)))
    }

    async fn point_in_time(&self, _: &[Table]) -> PortResult<Option<Box<dyn PointInTime>>> {
        Ok(None)
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let key = Value::Text(format!("{}{nonce}", table.marker_prefix).into());
        self.put(table, Record { fields: vec![(table.key[0].clone().into(), key)] });
        Ok(())
    }

    async fn delete_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.delete(table, &format!("{}{nonce}", table.marker_prefix), false);
        Ok(())
    }
}

#[async_trait]
impl Changes for OldStore {
    async fn enable(&self, table: &Table) -> PortResult<Stream> {
        Self::enable(self, table)
    }

    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>> {
        Self::stream(self, table)
    }

    async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String> {
        Self::iterator(self, stream, shard, from)
    }

    async fn read(&self, iterator: &str) -> PortResult<Batch> {
        Self::read(self, iterator)
    }

    fn kept(&self) -> Option<Duration> {
        Some(Duration::from_secs(23 * 3_600))
    }
}

fn segment(key: &str, of: u32) -> u32 {
    key.bytes().fold(0_u32, |h, b| h.wrapping_mul(33).wrapping_add(u32::from(b))) % of
}

fn write(item: &Record<'_>) -> serde_json::Value {
    let typed = |a: &Value<'_>| match a {
        Value::Text(s) => json!({ "S": s }),
        Value::Decimal(n) => json!({ "N": n }),
        other => panic!("the trial tables hold no {}", other.kind()),
    };
    serde_json::Value::Object(item.fields.iter().map(|(n, a)| (n.to_string(), typed(a))).collect())
}

fn read(item: &serde_json::Value) -> Record<'static> {
    let attr = |v: &serde_json::Value| match (v["S"].as_str(), v["N"].as_str()) {
        (Some(s), _) => Value::Text(s.to_owned().into()),
        (_, Some(n)) => Value::Decimal(n.to_owned().into()),
        _ => panic!("neither text nor a number"),
    };
    let fields = item.as_object().unwrap();
    Record { fields: fields.iter().map(|(n, v)| (n.clone().into(), attr(v))).collect() }
}
