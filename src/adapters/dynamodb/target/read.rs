//! Reading rows back: whole tables in segments, single rows by key, counts.

use futures::StreamExt as _;
use serde_json::{Value as Json, json};

use super::batch;
use super::call::{Item, Store, Tried};
use super::layout;
use super::rows::Shape;
use crate::adapters::dynamodb::page;
use crate::domain::gauge::Count;
use crate::domain::mapping::push_typed;
use crate::domain::value::{Cell, OwnedRow, Record};
use crate::ports::{ErrorKind, Partition, PortError, PortResult, TargetVisitor};

/// Segments that a table is counted and emptied in, side by side.
const SEGMENTS: u32 = 4;
/// DynamoDB updates `ItemCount` about every six hours: it may be that old.
const ITEM_COUNT_MS: i64 = 6 * 3_600_000;
/// Keys in one read.
const KEYS: usize = 100;

/// One page of a segment. `more` is added to the request.
async fn page_of(
    store: &Store,
    table: &str,
    part: Partition,
    from: Option<Json>,
    more: &Json,
    at: Tried<'_>,
) -> PortResult<bytes::Bytes> {
    let mut body = json!({
        "TableName": table, "Segment": part.index, "TotalSegments": part.of.max(1), "ConsistentRead": true,
    });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
        body.extend(from.map(|from| ("ExclusiveStartKey".to_owned(), from)));
    }
    store.raw("Scan", &body, at).await
}

fn unreadable(at: Tried<'_>) -> PortError {
    PortError::new(ErrorKind::Invalid, at.0, at.1, "a page that cannot be read")
        .advise("the endpoint may not be DynamoDB; look at what stands between")
}

/// One segment, strongly consistent, in canonical form.
pub(super) async fn scan_part(
    store: &Store,
    shape: &Shape,
    part: Partition,
    each: &mut TargetVisitor<'_>,
) -> PortResult<()> {
    let at = ("scan", shape.target.as_str());
    let mut from = None;
    loop {
        let body = page_of(store, &shape.target, part, from.take(), &json!({}), at).await?;
        let mut one = |item: &Record<'_>| each(&shape.row(item));
        let end = page::decode(&body, &mut one).map_err(|_| unreadable(at))?;
        match end.next {
            Some(next) => from = Some(serde_json::from_str(&next.0).map_err(|_| unreadable(at))?),
            None => return Ok(()),
        }
    }
}

/// Rows as they are counted, by reading them.
async fn counted(store: &Store, table: &str, part: Partition, at: Tried<'_>) -> PortResult<u64> {
    let (mut rows, mut from) = (0, None);
    loop {
        let body = page_of(store, table, part, from.take(), &json!({"Select": "COUNT"}), at).await?;
        let end = page::decode(&body, &mut |_| {}).map_err(|_| unreadable(at))?;
        rows += u64::from(end.items);
        match end.next {
            Some(next) => from = Some(serde_json::from_str(&next.0).map_err(|_| unreadable(at))?),
            None => return Ok(rows),
        }
    }
}

/// See [`crate::ports::Target::count`].
pub(super) async fn count(store: &Store, table: &str, exact: bool) -> PortResult<Count> {
    let at = ("count", table);
    if exact {
        let segment = |index| counted(store, table, Partition { index, of: SEGMENTS }, at);
        let counts = futures::future::try_join_all((0..SEGMENTS).map(segment)).await?;
        return Ok(Count::exact(counts.iter().sum(), store.now()));
    }
    let Some(described) = layout::described(store, table, at).await? else {
        return Err(PortError::new(ErrorKind::NotFound, at.0, at.1, "no such table"));
    };
    let rows = described.get("ItemCount").and_then(Json::as_u64);
    Ok(rows.map_or_else(Count::default, |rows| Count::estimated(rows, store.now().plus(-ITEM_COUNT_MS))))
}

/// Deletes every row.
pub(super) async fn delete_all(store: &Store, shape: &Shape, at: Tried<'_>) -> PortResult<()> {
    let table = shape.target.as_str();
    if layout::described(store, table, at).await?.is_none() {
        return Ok(());
    }
    let names: Vec<&str> = shape.key_names().collect();
    let short: Vec<String> = (0..names.len()).map(|n| format!("#k{n}")).collect();
    let named: serde_json::Map<String, Json> =
        short.iter().zip(&names).map(|(short, name)| (short.clone(), Json::from(*name))).collect();
    let only_keys = json!({"ProjectionExpression": short.join(","), "ExpressionAttributeNames": named});
    let segments = (0..SEGMENTS).map(|index| {
        let only_keys = &only_keys;
        async move {
            let mut from = None;
            loop {
                let part = Partition { index, of: SEGMENTS };
                let body = page_of(store, table, part, from.take(), only_keys, at).await?;
                let mut answer: Json = serde_json::from_slice(&body).map_err(|_| unreadable(at))?;
                let items = answer.get("Items").and_then(Json::as_array);
                let keys: Vec<String> = items.into_iter().flatten().map(Json::to_string).collect();
                batch::delete(store, table, &keys, at).await?;
                from = answer.get_mut("LastEvaluatedKey").map(Json::take).filter(|key| !key.is_null());
                if from.is_none() {
                    return Ok(());
                }
            }
        }
    });
    let mut under_way = futures::stream::iter(segments).buffer_unordered(SEGMENTS as usize);
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

/// Rows by key, in the order of the keys. See [`crate::ports::Target::fetch`].
#[allow(clippy::type_complexity)]
pub(super) async fn fetch(
    store: &Store,
    shape: &Shape,
    keys: &[OwnedRow],
) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
    let at = ("fetch rows of", shape.target.as_str());
    // A key that no item has is no row's.
    let wanted: Vec<Option<String>> = keys.iter().map(|key| shape.row_key(key).ok()).collect();
    let mut once: Vec<&String> = wanted.iter().flatten().collect();
    once.sort_unstable();
    once.dedup();
    let mut found = std::collections::HashMap::new();
    for some in once.chunks(KEYS) {
        let asked = some.iter().map(|key| serde_json::from_str(key).unwrap_or_default()).collect();
        for item in store.read_keys(&shape.target, asked, None, at).await? {
            let row = row_of(shape, &item).ok_or_else(|| unreadable(at))?;
            let key = shape.key_json(&shape.key_of(&row)).map_err(|_| unreadable(at))?;
            found.insert(key, row);
        }
    }
    let row = |key: &Option<String>| found.get(key.as_ref()?).map(|row| (row.clone(), Vec::new()));
    Ok(wanted.iter().map(row).collect())
}

/// An item that was answered by itself, as a row.
fn row_of(shape: &Shape, item: &Item) -> Option<Vec<Cell<'static>>> {
    let body = format!("{{\"Count\":1,\"Items\":[{}]}}", Json::Object(item.clone()));
    let mut row = None;
    let mut each = |item: &Record<'_>| row = Some(shape.row(item).into_iter().map(Cell::into_owned).collect());
    page::decode(body.as_bytes(), &mut each).ok()?;
    row
}

/// A key that no row has: for asking what may be done without doing it.
pub(super) fn nobodys_key(shape: &Shape, types: &[&str]) -> Option<String> {
    let nobody = uuid::Uuid::new_v4();
    let mut out = String::from("{");
    for (n, (name, ty)) in shape.key_names().zip(types).enumerate() {
        use crate::domain::value::Value;
        let value = match *ty {
            "S" => Value::Text(format!("cutover {nobody}").into()),
            "N" => Value::Decimal(format!("-{}", nobody.as_u128() >> 8).into()),
            "B" => Value::Bytes(nobody.into_bytes().to_vec().into()),
            _ => return None,
        };
        if n > 0 {
            out.push(',');
        }
        out.push_str(&Json::from(name).to_string());
        out.push(':');
        push_typed(&mut out, &value).ok()?;
    }
    out.push('}');
    Some(out)
}
