//! Batches: rows by the fewest calls, without conditions, at the table's pace. What is not processed is sent again; what
//! is refused is found.

use futures::StreamExt as _;
use serde_json::{Value as Json, json};

use super::call::{Store, Tried};
use super::permits::Kept;
use super::{names, rows};
use crate::domain::mapping::RowError;
use crate::ports::{ErrorKind, PortError, PortResult};

/// Writes in one batch, and the bytes it may have; DynamoDB allows 16 MB.
const WRITES: usize = 25;
const BYTES: usize = 8 << 20;
/// Batches of one call under way at a time; how many of a table are is its pace.
const AT_ONCE: usize = 8;

/// A row to put: its key and itself, as JSON.
pub(super) struct Put<'a> {
    /// The key.
    pub key: &'a str,
    /// The whole item.
    pub item: &'a str,
}

/// Puts rows, side by side. Gives the places of those that the store refuses one by one, each with the reason.
pub(super) async fn put(
    store: &Store,
    table: &str,
    rows: &[Put<'_>],
    permit: &Kept<'_>,
    at: Tried<'_>,
) -> PortResult<Vec<(usize, RowError)>> {
    let mut batches: Vec<Vec<usize>> = vec![Vec::new()];
    let mut bytes = 0;
    for (n, row) in rows.iter().enumerate() {
        let full =
            batches.last().is_some_and(|b| b.len() >= WRITES || (!b.is_empty() && bytes + row.item.len() > BYTES));
        if full {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += row.item.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(n);
        }
    }
    let puts = batches.into_iter().filter(|b| !b.is_empty()).map(|batch| one(store, table, rows, batch, permit, at));
    let mut under_way = futures::stream::iter(puts).buffer_unordered(AT_ONCE);
    let (mut refused, mut failed) = (Vec::new(), None);
    // All of them are waited for: nothing of a failed flush is under way when the next one begins.
    while let Some(done) = under_way.next().await {
        match done {
            Ok(some) => refused.extend(some),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(refused), Err)
}

/// One batch, until everything in it has landed or is refused.
async fn one(
    store: &Store,
    table: &str,
    rows: &[Put<'_>],
    batch: Vec<usize>,
    permit: &Kept<'_>,
    at: Tried<'_>,
) -> PortResult<Vec<(usize, RowError)>> {
    let pace = store.paces().of(table);
    let mut turn = pace.turn().await;
    let (mut waiting, mut refused) = (vec![batch], Vec::new());
    while let Some(batch) = waiting.pop() {
        let puts: Vec<&Put<'_>> = batch.iter().filter_map(|n| rows.get(*n)).collect();
        let requests: Vec<String> = puts.iter().map(|row| Writes::PUT.request(row.item)).collect();
        let units = puts.iter().map(|row| units(row.item)).sum();
        turn.sends();
        let until = async { permit.until(at).await.map(Some) };
        match store.batch(body(table, &requests), at, Some(units), until).await {
            Ok(answer) => {
                let left = unprocessed(&answer, table, &batch, &puts);
                turn.landed(batch.len() - left.len());
                if !left.is_empty() {
                    waiting.push(left);
                    turn.throttled(at).await?;
                }
            }
            Err(answer) if answer.error.kind == ErrorKind::Throttled => {
                waiting.push(batch);
                turn.throttled(at).await?;
            }
            // Only what the store says of items is an item's fault; a proxy's answer, say, is not.
            Err(answer) if answer.error.kind == ErrorKind::Invalid && of_items(&answer.error) => {
                let said: Json = serde_json::from_slice(&answer.said).unwrap_or_default();
                let message = said.get("message").or_else(|| said.get("Message")).and_then(Json::as_str);
                let Some(row_error) = rows::refusal(message.unwrap_or_default()) else { return Err(answer.error) };
                match batch.as_slice() {
                    [] => {}
                    [one] => refused.push((*one, row_error)),
                    // One of them is refused, and the batch with it: it is found by halves.
                    many => {
                        let (first, second) = many.split_at(many.len() / 2);
                        waiting.extend([first.to_vec(), second.to_vec()]);
                    }
                }
            }
            Err(answer) => return Err(answer.error),
        }
    }
    Ok(refused)
}

/// A batch's request. What it costs is asked for, indexes included.
fn body(table: &str, requests: &[String]) -> String {
    let all = requests.join(",");
    format!("{{\"ReturnConsumedCapacity\":\"TOTAL\",\"RequestItems\":{{{}:[{all}]}}}}", Json::from(table))
}

/// Write units that an item of so many bytes as JSON may cost, without indexes: one for each kilobyte it begins.
fn units(item: &str) -> f64 {
    item.len().div_ceil(1024).max(1) as f64
}

/// Which rows of a batch were not processed. When they cannot be told, it is all of them: a row put twice is put once.
fn unprocessed(answer: &Json, table: &str, batch: &[usize], puts: &[&Put<'_>]) -> Vec<usize> {
    let left = answer.get("UnprocessedItems").and_then(|all| all.get(table)).and_then(Json::as_array);
    let Some(left) = left.filter(|left| !left.is_empty()) else { return Vec::new() };
    let items: Vec<&Json> = left.iter().filter_map(|one| one.get("PutRequest")?.get("Item")).collect();
    let is_left = |put: &Put<'_>| {
        let Ok(Json::Object(key)) = serde_json::from_str::<Json>(put.key) else { return true };
        items.iter().any(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)))
    };
    let found: Vec<usize> = batch.iter().zip(puts).filter(|(_, put)| is_left(put)).map(|(n, _)| *n).collect();
    if found.len() == left.len() { found } else { batch.to_vec() }
}

/// One kind of write, as a batch has it.
#[derive(Clone, Copy)]
struct Writes {
    request: &'static str,
    member: &'static str,
}

impl Writes {
    const PUT: Self = Self { request: "PutRequest", member: "Item" };
    const DELETE: Self = Self { request: "DeleteRequest", member: "Key" };

    fn request(self, json: &str) -> String {
        format!("{{\"{}\":{{\"{}\":{json}}}}}", self.request, self.member)
    }

    /// What of an answer was not processed.
    fn left(self, answer: &Json, table: &str) -> Vec<String> {
        let left = answer.get("UnprocessedItems").and_then(|all| all.get(table)).and_then(Json::as_array);
        left.into_iter()
            .flatten()
            .filter_map(|one| one.get(self.request)?.get(self.member).map(Json::to_string))
            .collect()
    }
}

/// Deletes items by their keys, as JSON.
pub(super) async fn delete(store: &Store, table: &str, keys: &[String], at: Tried<'_>) -> PortResult<()> {
    every(store, table, Writes::DELETE, keys, at).await
}

/// Puts items, as JSON, without a permit: into a table that no plan loads.
pub(super) async fn put_all(store: &Store, table: &str, items: &[String], at: Tried<'_>) -> PortResult<()> {
    every(store, table, Writes::PUT, items, at).await
}

/// Writes in batches, side by side, until all have happened.
async fn every(store: &Store, table: &str, kind: Writes, all: &[String], at: Tried<'_>) -> PortResult<()> {
    // 25 of the largest items are 10 MB together, and 16 are allowed.
    let batches: Vec<Vec<String>> = all.chunks(WRITES).map(<[String]>::to_vec).collect();
    let batches = batches.into_iter().map(|batch| whole(store, table, kind, batch, at));
    let mut under_way = futures::stream::iter(batches).buffer_unordered(AT_ONCE);
    let mut failed = None;
    // All of them are waited for: nothing of a failed call is under way when the next one begins.
    while let Some(done) = under_way.next().await {
        failed = failed.or(done.err());
    }
    failed.map_or(Ok(()), Err)
}

/// One batch, until everything in it has happened.
async fn whole(store: &Store, table: &str, kind: Writes, batch: Vec<String>, at: Tried<'_>) -> PortResult<()> {
    let pace = store.paces().of(table);
    let mut turn = pace.turn().await;
    let mut left = batch;
    while !left.is_empty() {
        let requests: Vec<String> = left.iter().map(|json| kind.request(json)).collect();
        turn.sends();
        // A budget is for rows: a rollback waits for its outbox, and not for what a load has spent.
        let units = (table != names::BOOK).then(|| left.iter().map(|json| units(json)).sum());
        match store.batch(body(table, &requests), at, units, async { Ok(None) }).await {
            Ok(answer) => {
                let again = kind.left(&answer, table);
                turn.landed(left.len().saturating_sub(again.len()));
                left = again;
                if left.is_empty() {
                    break;
                }
            }
            Err(answer) if answer.error.kind == ErrorKind::Throttled => {}
            Err(answer) => return Err(answer.error),
        }
        turn.throttled(at).await?;
    }
    Ok(())
}

/// Which of these keys have a row. In the order of the keys.
pub(super) async fn there(
    store: &Store,
    table: &str,
    names: &[&str],
    keys: &[&str],
    at: Tried<'_>,
) -> PortResult<Vec<bool>> {
    let placeholders: Vec<String> = (0..names.len()).map(|n| format!("#k{n}")).collect();
    let named: serde_json::Map<String, Json> =
        placeholders.iter().zip(names).map(|(short, name)| (short.clone(), Json::from(*name))).collect();
    let (expression, named) = (placeholders.join(","), json!(named));
    let parsed: Vec<Json> = keys.iter().map(|key| serde_json::from_str(key).unwrap_or_default()).collect();
    let mut found = Vec::new();
    for some in parsed.chunks(100) {
        found.extend(store.read_keys(table, some.to_vec(), Some((&expression, &named)), at).await?);
    }
    // Numbers may come back in another spelling than they were asked for.
    let canonical = |item: &serde_json::Map<String, Json>| -> Option<Vec<String>> {
        names
            .iter()
            .map(|name| {
                let mut out = String::new();
                crate::domain::mapping::push_typed(&mut out, &rows::key_value(item.get(*name)?)?).ok()?;
                Some(out)
            })
            .collect()
    };
    let found: std::collections::HashSet<Option<Vec<String>>> = found.iter().map(canonical).collect();
    Ok(parsed.iter().map(|key| key.as_object().is_some_and(|key| found.contains(&canonical(key)))).collect())
}

/// Whether a refusal speaks of what was to be written.
fn of_items(error: &PortError) -> bool {
    ["ValidationException", "ItemCollectionSizeLimitExceededException"]
        .iter()
        .any(|code| error.came_back.starts_with(code))
}
