//! Reading DynamoDB tables.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, KeyType, KeysAndAttributes, StreamViewType, TableDescription,
};
use aws_smithy_types::Blob;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use super::wire::Wire;
use super::{DynamoSettings, attached, attr, definition, fault, listed, page, still_expires};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::{MARK, TableMapping, marker_number};
use crate::domain::plan::{Definition, Table};
use crate::domain::value::Record;
use crate::ports::{
    Cursor, ErrorKind, OpenWrite, Page, PageEnd, Partition, PointInTime, PortError, PortResult, Sequence, SequenceScan,
    Source, SourceColumn, SourceTable,
};

/// Keys in one BatchGetItem.
const BATCH: usize = 100;
/// Answers in a row without any item before a batch is given up.
const EMPTY_ANSWERS: u32 = 8;
/// DynamoDB updates `ItemCount` about every six hours: it may be that old.
const ITEM_COUNT_MS: i64 = 6 * 3_600_000;
/// Segments of a count.
const COUNTERS: u32 = 4;

/// DynamoDB as a [`Source`].
#[derive(Debug)]
pub struct DynamoSource {
    sdk: Client,
    wire: Wire,
    limit: u32,
    consistent: bool,
    /// Key schemas by table name, for markers.
    keys: Mutex<HashMap<String, Vec<(String, String)>>>,
}

impl DynamoSource {
    pub(super) fn new(sdk: Client, wire: Wire, settings: &DynamoSettings) -> Self {
        let (limit, consistent) = (settings.limit.max(1), settings.consistent);
        Self { sdk, wire, limit, consistent, keys: Mutex::default() }
    }

    pub(super) const fn sdk(&self) -> &Client {
        &self.sdk
    }

    pub(super) const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Asks for one page. `what` is added to the request: `"Select":"COUNT"`.
    async fn scan(
        &self,
        table: &Table,
        part: Partition,
        cursor: Option<&Cursor>,
        what: &str,
        tried: &str,
    ) -> PortResult<Page> {
        let on = format!("{} segment {}/{}", table.source, part.index + 1, part.of);
        let mut body = format!("{{\"TableName\":{}", serde_json::Value::from(table.source.as_str()));
        let _ = write!(body, ",\"Segment\":{},\"TotalSegments\":{}", part.index, part.of);
        let _ = write!(body, ",\"Limit\":{},\"ConsistentRead\":{}", self.limit, self.consistent);
        body.push_str(",\"ReturnConsumedCapacity\":\"TOTAL\"");
        body.push_str(what);
        if let Some(Cursor(key)) = cursor {
            // A cursor comes from a checkpoint: what is not one JSON value must not reach the request.
            serde_json::from_str::<&RawValue>(key).map_err(|_| {
                PortError::new(ErrorKind::Invalid, tried, &on, "the checkpoint's cursor is not JSON")
                    .advise("reset the table's load and start it again")
            })?;
            body.push_str(",\"ExclusiveStartKey\":");
            body.push_str(key);
        }
        body.push('}');
        self.wire.post("Scan", body, tried, &on).await.map(|body| Page { body })
    }

    async fn count_segment(&self, table: &Table, part: Partition) -> PortResult<u64> {
        let (mut rows, mut cursor) = (0, None);
        loop {
            let page = self.scan(table, part, cursor.as_ref(), ",\"Select\":\"COUNT\"", "count").await?;
            let end = self.read(&page, &mut |_| {})?;
            rows += u64::from(end.items);
            cursor = end.next;
            if cursor.is_none() {
                return Ok(rows);
            }
        }
    }

    /// The table's key attributes and their types; asked for once.
    async fn key_schema(&self, table: &str) -> PortResult<Vec<(String, String)>> {
        let mut known = self.keys.lock().await;
        if let Some(key) = known.get(table) {
            return Ok(key.clone());
        }
        let key = key_of(&describe_table(&self.sdk, table).await?);
        known.insert(table.to_owned(), key.clone());
        Ok(key)
    }

    pub(super) async fn marker_key(&self, table: &Table, nonce: &str) -> PortResult<HashMap<String, AttributeValue>> {
        if table.marker_prefix.is_empty() {
            return Err(PortError::new(
                ErrorKind::Invalid,
                "write a marker",
                &table.source,
                "the plan gives this table no marker prefix",
            ));
        }
        let schema = self.key_schema(&table.source).await?;
        let text = format!("{}{nonce}", table.marker_prefix);
        let each = schema.iter().map(|(name, ty)| {
            let value = match ty.as_str() {
                "S" => AttributeValue::S(text.clone()),
                "N" => AttributeValue::N(marker_number(nonce)),
                _ => AttributeValue::B(Blob::new(text.as_bytes())),
            };
            (name.clone(), value)
        });
        Ok(each.collect())
    }

    /// One BatchGetItem, asked again until every key is answered.
    async fn get_batch(
        &self,
        table: &Table,
        mapping: &TableMapping,
        keys: Vec<HashMap<String, AttributeValue>>,
        found: &mut HashMap<String, Record<'static>>,
    ) -> PortResult<()> {
        const TRIED: &str = "get items";
        let on = &table.source;
        let unread = |why: String| PortError::new(ErrorKind::Invalid, TRIED, on, why);
        let mut left = keys;
        let mut empty = 0;
        while !left.is_empty() {
            let asked = left.len();
            let request = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(true)
                .build()
                .map_err(|e| unread(fault::chain(&e)))?;
            let answer = self
                .sdk
                .batch_get_item()
                .request_items(on, request)
                .send()
                .await
                .map_err(|e| fault::sdk(e, TRIED, on))?;
            let items = answer.responses.unwrap_or_default().remove(on).unwrap_or_default();
            for item in items {
                let item = attr::item_from_sdk(item).map_err(|_| unread("an attribute of unknown type".into()))?;
                let (key, _) = mapping.key(&item).map_err(|row_error| unread(row_error.to_string()))?;
                found.insert(key.0, item);
            }
            left = answer.unprocessed_keys.unwrap_or_default().remove(on).map(|k| k.keys).unwrap_or_default();
            empty = if left.len() < asked { 0 } else { empty + 1 };
            if empty >= EMPTY_ANSWERS {
                return Err(fault::unanswered(ErrorKind::Throttled, "no key was processed", TRIED, on));
            }
            if !left.is_empty() {
                let pause = Duration::from_millis(50 << empty.min(6));
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            }
        }
        Ok(())
    }
}

/// Regions of a global table besides this one.
fn replicas_of(described: &TableDescription, here: Option<&str>) -> Vec<String> {
    let all = described.replicas().iter().filter_map(|replica| replica.region_name());
    all.filter(|region| Some(*region) != here).map(str::to_owned).collect()
}

#[async_trait]
impl Source for DynamoSource {
    async fn describe(&self, table: &Table) -> PortResult<SourceTable> {
        let described = describe_table(&self.sdk, &table.source).await?;
        let ttl = match self.sdk.describe_time_to_live().table_name(&table.source).send().await {
            Ok(answer) => answer
                .time_to_live_description
                .filter(|ttl| ttl.time_to_live_status().is_some_and(|s| still_expires(s.as_str())))
                .and_then(|ttl| ttl.attribute_name),
            // Some emulators have no TTL, so nothing expires there.
            Err(e) if matches!(e.code(), Some("UnknownOperationException" | "UnknownOperation")) => None,
            Err(e) => return Err(fault::sdk(e, "describe time to live", &table.source)),
        };
        let count = described
            .item_count()
            .and_then(|n| u64::try_from(n).ok())
            .map_or_else(Count::default, |n| Count::estimated(n, now().plus(-ITEM_COUNT_MS)));
        Ok(SourceTable {
            key: key_of(&described),
            count,
            bytes: described.table_size_bytes().and_then(|n| u64::try_from(n).ok()),
            stream: stream_of(&described).map(|(arn, view)| (arn, view == Some(StreamViewType::NewAndOldImages))),
            ttl,
            replicas: replicas_of(&described, self.sdk.config().region().map(|region| region.as_ref())),
            columns: fixed(&described),
            ..SourceTable::default()
        })
    }

    async fn definition(&self, table: &Table) -> PortResult<Option<Definition>> {
        Ok(definition::of_table(&self.wire, &table.source).await?.map(|found| found.definition))
    }

    async fn attached(&self, table: &Table) -> PortResult<Option<Vec<String>>> {
        attached::to_table(&self.wire, &table.source).await.map(Some)
    }

    async fn page(&self, table: &Table, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page> {
        self.scan(table, part, cursor, "", "scan").await
    }

    fn read<'p>(&self, page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
        page::decode(&page.body, each).map_err(|e| {
            let why = format!("a page that cannot be read: {e}");
            PortError::new(ErrorKind::Invalid, "parse a page", "scan", why)
                .advise("the endpoint may not be DynamoDB; look at what stands between")
        })
    }

    async fn get(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        let mapping = TableMapping::new(table);
        let names = keys
            .iter()
            .map(|key| mapping.key(key).map(|(name, _)| name.0))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|m| PortError::new(ErrorKind::Invalid, "get items", &table.source, m.to_string()))?;
        // DynamoDB refuses a batch that names a key twice.
        let mut asked = HashSet::new();
        let once: Vec<_> = keys.iter().zip(&names).filter(|(_, name)| asked.insert(name.as_str())).collect();
        let mut found = HashMap::new();
        for batch in once.chunks(BATCH) {
            let batch = batch.iter().map(|(key, _)| attr::item_to_sdk(key, "get items", &table.source));
            let batch = batch.collect::<PortResult<_>>()?;
            self.get_batch(table, &mapping, batch, &mut found).await?;
        }
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    async fn names(&self) -> PortResult<Vec<String>> {
        listed::names(&self.sdk).await
    }

    /// Each call is a transaction of its own: what was acknowledged is in the stream.
    async fn open_writes(&self) -> PortResult<Vec<OpenWrite>> {
        Ok(Vec::new())
    }

    /// A table of DynamoDB is read at no single moment.
    async fn point_in_time(&self, _: &[Table]) -> PortResult<Option<Box<dyn PointInTime>>> {
        Ok(None)
    }

    async fn given_sequences(&self, _: &[Table], _: Option<SequenceScan>) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn count(&self, table: &Table) -> PortResult<Count> {
        let segment = |index| self.count_segment(table, Partition { index, of: COUNTERS });
        let counts = futures::future::try_join_all((0..COUNTERS).map(segment)).await?;
        Ok(Count::exact(counts.iter().sum(), now()))
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let mut item = self.marker_key(table, nonce).await?;
        item.insert(MARK.to_owned(), AttributeValue::S(nonce.to_owned()));
        let partition = self.key_schema(&table.source).await?.into_iter().next().map(|(name, _)| name);
        let put = self.sdk.put_item().table_name(&table.source).set_item(Some(item));
        // No item of anybody else is ever overwritten, whatever its key is called.
        let put = put
            .condition_expression("attribute_not_exists(#k)")
            .set_expression_attribute_names(partition.map(|name| HashMap::from([("#k".to_owned(), name)])));
        match put.send().await {
            Ok(_) => Ok(()),
            // No nonce is used twice: an attempt whose answer was lost has written it.
            Err(e) if e.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(e) => Err(fault::sdk(e, "write a marker", &table.source)),
        }
    }

    async fn delete_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let key = self.marker_key(table, nonce).await?;
        let delete = self.sdk.delete_item().table_name(&table.source).set_key(Some(key));
        delete.send().await.map(drop).map_err(|e| fault::sdk(e, "delete a marker", &table.source))
    }
}

/// DescribeTable, or why not.
pub(super) async fn describe_table(sdk: &Client, table: &str) -> PortResult<TableDescription> {
    const TRIED: &str = "describe table";
    let answer = sdk.describe_table().table_name(table).send().await.map_err(|e| fault::sdk(e, TRIED, table))?;
    answer.table.ok_or_else(|| PortError::new(ErrorKind::Internal, TRIED, table, "an answer without a table"))
}

/// The stream that is on, and what its records hold. A table keeps the name of a stream that is off.
pub(super) fn stream_of(table: &TableDescription) -> Option<(String, Option<StreamViewType>)> {
    let spec = table.stream_specification().filter(|spec| spec.stream_enabled())?;
    Some((table.latest_stream_arn()?.to_owned(), spec.stream_view_type().cloned()))
}

/// Attributes whose type the table fixes: those of its key and of the keys of its indexes.
fn fixed(table: &TableDescription) -> Vec<SourceColumn> {
    let one = |d: &AttributeDefinition| SourceColumn {
        name: d.attribute_name().to_owned(),
        written: d.attribute_type().as_str().to_owned(),
        ..SourceColumn::default()
    };
    table.attribute_definitions().iter().map(one).collect()
}

fn key_of(table: &TableDescription) -> Vec<(String, String)> {
    let mut schema: Vec<_> = table.key_schema().iter().collect();
    schema.sort_by_key(|k| *k.key_type() != KeyType::Hash);
    let ty = |name: &str| {
        let found = table.attribute_definitions().iter().find(|d| d.attribute_name() == name);
        found.map_or_else(String::new, |d| d.attribute_type().as_str().to_owned())
    };
    schema.into_iter().map(|k| (k.attribute_name().to_owned(), ty(k.attribute_name()))).collect()
}

fn now() -> At {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    At(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
