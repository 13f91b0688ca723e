//! The load: refused rows one by one, unprocessed ones again, late ones waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue as A;
use axum::extract::State;
use serde_json::{Value as Json, json};

use super::*;
use crate::adapters::dynamodb::target::batch::{self, Put};
use crate::adapters::dynamodb::target::call::Store;
use crate::adapters::dynamodb::target::names::{BOOK, Of};
use crate::adapters::dynamodb::target::permits::{Holder, Kept};
use crate::adapters::dynamodb::wire;
use crate::domain::mapping::{Mapped, RowErrorReason};
use crate::ports::tests::tables::{self, WHOLE, book, books, keys, prepared};
use crate::ports::{Bulk, ChangeBatch, Checkpoint, ErrorKind, Position, RowChange};

fn checkpoint(rows: u64, done: bool) -> Checkpoint {
    let cursor = (!done).then(|| crate::ports::Cursor("{}".to_owned()));
    Checkpoint { part: WHOLE, cursor, rows, parked: 0, done }
}

fn push(bulk: &mut dyn Bulk, id: &str, isbn: &str) {
    let mut item = book(id, "1");
    item.fields[1].1 = crate::domain::value::Value::Text(isbn.to_owned().into());
    let mapped: Mapped<'static> = tables::mapped(&books(), &item);
    bulk.push(&mapped).unwrap();
}

#[tokio::test]
async fn an_item_that_is_too_large_is_parked_and_the_others_land() {
    for account in Account::both().await {
        one_too_large(&account).await;
    }
}

async fn one_too_large(account: &Account) {
    let (target, table) = (&account.target, books());
    prepared(&**target).await;
    let large = "x".repeat(410 * 1024);
    let mut bulk = target.bulk(&table, WHOLE).await.unwrap();
    for n in 0..60 {
        push(&mut *bulk, &format!("b{n:02}"), if n == 33 { &large } else { "isbn" });
    }
    push(&mut *bulk, "", "isbn");
    let applied = bulk.flush(Vec::new(), &checkpoint(61, true)).await.unwrap();
    let refused: Vec<_> = applied.parked.iter().map(|p| (p.key.0.as_str(), p.row_error.reason)).collect();
    assert_eq!(refused, [("b33", RowErrorReason::TooLong), ("", RowErrorReason::Refused)]);
    assert!(!format!("{:?}", applied.parked).contains("xxx"), "no value is told");
    assert_eq!((applied.upserted, keys(&**target, &table).await.len()), (59, 59));
    let stored = target.checkpoints(&table).await.unwrap();
    assert_eq!((stored[0].rows, stored[0].parked, stored[0].done), (59, 2, true));
    // The same while changes are followed: the older row leaves the table.
    let upsert = |id: &str, isbn: &str| {
        let mut item = book(id, "2");
        item.fields[1].1 = crate::domain::value::Value::Text(isbn.to_owned().into());
        tables::upsert(&table, &item)
    };
    let mut rows: Vec<RowChange> = (0..30).map(|n| upsert(&format!("b{n:02}"), "isbn")).collect();
    rows[7] = upsert("b07", &large);
    let applied = target.apply(&table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap();
    let refused: Vec<_> = applied.parked.iter().map(|p| (p.key.0.as_str(), p.row_error.reason)).collect();
    assert_eq!((applied.upserted, refused), (29, vec![("b07", RowErrorReason::TooLong)]));
    assert_eq!(keys(&**target, &table).await.len(), 58);
    assert_eq!(target.ledger(&table).await.unwrap().0[&RowErrorReason::TooLong], 2);
}

#[tokio::test]
async fn nothing_is_resumed_while_rows_of_a_load_may_still_land() {
    let account = Account::embedded().await;
    let (target, table, raw) = (&account.target, books(), account.raw());
    prepared(&**target).await;
    let mut bulk = target.bulk(&table, WHOLE).await.unwrap();
    push(&mut *bulk, "b1", "isbn");
    bulk.flush(Vec::new(), &checkpoint(1, false)).await.unwrap();
    let permits = || async {
        let query = raw.scan().table_name("cutover-bookkeeping").filter_expression("begins_with(sk, :p)");
        query.expression_attribute_values(":p", A::S("permit/".to_owned())).send().await.unwrap().items.unwrap()
    };
    assert_eq!(permits().await.len(), 1, "more may come of it");
    push(&mut *bulk, "b2", "isbn");
    bulk.flush(Vec::new(), &checkpoint(2, true)).await.unwrap();
    assert!(permits().await.is_empty(), "its end is the load's");
    // A checkpoint of a loader whose permit was taken away says nothing of what stands there now.
    let mut slow = target.bulk(&table, WHOLE).await.unwrap();
    slow.flush(Vec::new(), &checkpoint(2, false)).await.unwrap();
    let permit = permits().await.pop().unwrap();
    let key = ["pk", "sk"].map(|name| (name.to_owned(), permit[name].clone()));
    raw.delete_item().table_name("cutover-bookkeeping").set_key(Some(key.into())).send().await.unwrap();
    assert_eq!(slow.flush(Vec::new(), &checkpoint(9, false)).await.unwrap_err().kind, ErrorKind::Conflict);
    drop(slow);
    // A loader died, and something it sent may land for another second.
    let now = target.store.now().0;
    let load = target.of(&table).load();
    let left =
        raw.put_item().table_name("cutover-bookkeeping").item("pk", A::S(load)).item("sk", A::S("permit/x".into()));
    left.item("until", A::N((now - 500).to_string())).send().await.unwrap();
    let start = BTreeMap::from([("s".to_owned(), Position("1".into()))]);
    target.start_positions(&table, "stream-1", &start).await.unwrap();
    let began = Instant::now();
    assert!(target.resume_follow(&table, 1).await.unwrap().is_some());
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(permits().await.is_empty());
    target.reset(&table).await.unwrap();
    assert!(keys(&**target, &table).await.is_empty());
    assert!(target.checkpoints(&table).await.unwrap().is_empty());
}

/// How often it was asked, and what it took.
pub(super) type Taken = Arc<std::sync::Mutex<(u32, Vec<Json>)>>;

/// A service that takes the first rows of each batch only, and is overloaded every third time. It gives every permit.
pub(super) async fn takes_some(
    State(taken): State<Taken>,
    headers: axum::http::HeaderMap,
    body: String,
) -> (axum::http::StatusCode, String) {
    if !is_batch(&headers) {
        return (axum::http::StatusCode::OK, "{}".to_owned());
    }
    some_taken(&taken, &body)
}

fn is_batch(headers: &axum::http::HeaderMap) -> bool {
    headers["x-amz-target"].to_str().unwrap().ends_with(".BatchWriteItem")
}

fn some_taken(taken: &std::sync::Mutex<(u32, Vec<Json>)>, body: &str) -> (axum::http::StatusCode, String) {
    let body: Json = serde_json::from_str(body).unwrap();
    let mut taken = taken.lock().unwrap();
    taken.0 += 1;
    if taken.0.is_multiple_of(3) {
        let said = json!({"__type": "x#ProvisionedThroughputExceededException", "message": "slower"});
        return (axum::http::StatusCode::BAD_REQUEST, said.to_string());
    }
    let mut all = body["RequestItems"]["t"].as_array().unwrap().clone();
    let left = all.split_off(all.len().min(4));
    taken.1.extend(all);
    let answer =
        if left.is_empty() { json!({"UnprocessedItems": {}}) } else { json!({"UnprocessedItems": {"t": left}}) };
    (axum::http::StatusCode::OK, answer.to_string())
}

fn store_at(endpoint: &str) -> Store {
    store_with(endpoint, None)
}

fn store_with(endpoint: &str, units: Option<f64>) -> Store {
    let settings = DynamoSettings::new(REGION).at(endpoint);
    Store::new(wire::Wire::new(&sdk_config(), &settings, wire::Service::Tables).unwrap(), Budget::new(units).into())
}

pub(super) async fn serve(app: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    endpoint
}

#[tokio::test]
async fn rows_that_were_not_processed_are_sent_again_and_no_others() {
    let taken = Arc::new(std::sync::Mutex::new((0, Vec::new())));
    let app = axum::Router::new().fallback(takes_some).with_state(Arc::clone(&taken));
    let store = store_at(&serve(app).await);
    let rows: Vec<(String, String)> = (0..60)
        .map(|n| (format!(r#"{{"id":{{"N":"{n}"}}}}"#), format!(r#"{{"id":{{"N":"{n}"}},"v":{{"S":"x"}}}}"#)))
        .collect();
    let puts: Vec<Put<'_>> = rows.iter().map(|(key, item)| Put { key, item }).collect();
    let of = Of::id("p", "t");
    let holder = Holder { plan: "p", of: &of, epoch: None };
    let permit = Kept::new(&store, holder, None);
    assert_eq!(batch::put(&store, "t", &puts, &permit, ("load", "t")).await.unwrap().len(), 0);
    let taken = &taken.lock().unwrap().1;
    let once: std::collections::BTreeSet<String> = taken.iter().map(Json::to_string).collect();
    assert_eq!((taken.len(), once.len()), (60, 60), "each once");
}

#[tokio::test]
async fn a_service_that_processes_nothing_is_given_up_as_throttled() {
    let app = axum::Router::new().fallback(|headers: axum::http::HeaderMap, body: String| async move {
        if !is_batch(&headers) {
            return "{}".to_owned();
        }
        let body: Json = serde_json::from_str(&body).unwrap();
        json!({"UnprocessedItems": body["RequestItems"]}).to_string()
    });
    let store = store_at(&serve(app).await);
    let puts = [Put { key: r#"{"id":{"S":"a"}}"#, item: r#"{"id":{"S":"a"}}"# }];
    let of = Of::id("p", "t");
    let permit = Kept::new(&store, Holder { plan: "p", of: &of, epoch: None }, None);
    let error = batch::put(&store, "t", &puts, &permit, ("load", "t")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttled, "{error}");
    // And nothing is sent that could still be under way when the permit is over.
    let body = r#"{"RequestItems":{"t":[]}}"#.to_owned();
    let soon = tokio::time::Instant::now() + wire::BRIEF - Duration::from_secs(1);
    let late = store.send("BatchWriteItem", body.clone(), ("load", "t"), Some(soon)).await.unwrap_err();
    assert_eq!(late.error.kind, ErrorKind::TimedOut);
    let enough = soon + Duration::from_secs(60);
    store.send("BatchWriteItem", body, ("load", "t"), Some(enough)).await.unwrap();
}

/// What a service with a table of so much capacity was asked and said.
#[derive(Default)]
struct Scripted {
    /// Answers to batches, the first of them next: how many writes it takes of it, or `None` for a throttle. Afterwards it
    /// takes all.
    answers: std::collections::VecDeque<Option<usize>>,
    /// Batches under way at a time, at most, in each try.
    under_way: usize,
    most: usize,
    taken: Vec<Json>,
    asked: u32,
    /// Bodies of batches that did not ask what they cost.
    not_asked: u32,
}

type Script = Arc<std::sync::Mutex<Scripted>>;

/// A table that throttles as its script says, and says what a batch cost: two units for each write, as with an index.
async fn scripted(
    State(script): State<Script>,
    headers: axum::http::HeaderMap,
    body: String,
) -> (axum::http::StatusCode, String) {
    if !is_batch(&headers) {
        return (axum::http::StatusCode::OK, "{}".to_owned());
    }
    let body: Json = serde_json::from_str(&body).unwrap();
    let mut all = body["RequestItems"]["t"].as_array().unwrap().clone();
    {
        let mut script = script.lock().unwrap();
        script.asked += 1;
        script.under_way += 1;
        script.most = script.most.max(script.under_way);
        script.not_asked += u32::from(body["ReturnConsumedCapacity"] != "TOTAL");
    }
    // Whoever else is sent at the same time arrives meanwhile.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let mut script = script.lock().unwrap();
    script.under_way -= 1;
    let Some(takes) = script.answers.pop_front().unwrap_or(Some(usize::MAX)) else {
        let said = json!({"__type": "x#ThrottlingException", "message": "slower"});
        return (axum::http::StatusCode::BAD_REQUEST, said.to_string());
    };
    let left = all.split_off(all.len().min(takes));
    let cost = json!([{"TableName": "t", "CapacityUnits": 2.0 * all.len() as f64}]);
    script.taken.extend(all);
    let left = if left.is_empty() { json!({}) } else { json!({"t": left}) };
    (axum::http::StatusCode::OK, json!({"UnprocessedItems": left, "ConsumedCapacity": cost}).to_string())
}

async fn put_many(store: &Store, n: usize) -> crate::ports::PortResult<usize> {
    let rows: Vec<(String, String)> = (0..n)
        .map(|n| (format!(r#"{{"id":{{"N":"{n}"}}}}"#), format!(r#"{{"id":{{"N":"{n}"}},"v":{{"S":"x"}}}}"#)))
        .collect();
    let puts: Vec<Put<'_>> = rows.iter().map(|(key, item)| Put { key, item }).collect();
    let of = Of::id("p", "t");
    let permit = Kept::new(store, Holder { plan: "p", of: &of, epoch: None }, None);
    batch::put(store, "t", &puts, &permit, ("load", "t")).await.map(|refused| refused.len())
}

fn once(taken: &[Json]) -> (usize, usize) {
    (taken.len(), taken.iter().map(Json::to_string).collect::<std::collections::BTreeSet<_>>().len())
}

#[tokio::test]
async fn a_table_that_throttles_is_written_slower_and_everything_lands() {
    let script = Script::default();
    // Both ways of saying it: nothing of a batch is taken, and some of it.
    script.lock().unwrap().answers = [None, Some(3), None, None, Some(0), None, Some(1)].into();
    let store = store_at(&serve(axum::Router::new().fallback(scripted).with_state(Arc::clone(&script))).await);
    assert_eq!(put_many(&store, 400).await.unwrap(), 0);
    let words = store.paces().of("t").words().expect("it is told while it is so");
    assert!(words.starts_with("throttled by the target: "), "{words}");
    assert_eq!(store.paces().of("u").words(), None, "another table has its own pace");
    let script = script.lock().unwrap();
    assert_eq!(once(&script.taken), (400, 400), "each once");
    assert_eq!(script.not_asked, 0);
    assert!(script.most <= 8, "a call sends eight batches at a time: {}", script.most);
}

#[tokio::test]
async fn a_load_is_not_given_up_while_the_table_takes_anything() {
    let script = Script::default();
    // Far more throttles than a batch alone would bear, with one write now and then.
    let now_and_then = (0..36).map(|n| (n % 6 == 5).then_some(1));
    script.lock().unwrap().answers = now_and_then.collect();
    let store = store_at(&serve(axum::Router::new().fallback(scripted).with_state(Arc::clone(&script))).await);
    assert_eq!(put_many(&store, 75).await.unwrap(), 0);
    let script = script.lock().unwrap();
    assert_eq!(once(&script.taken), (75, 75));
    assert!(script.asked >= 36);
}

#[tokio::test]
async fn batches_keep_to_the_write_budget_by_what_the_service_says_they_cost() {
    let script = Script::default();
    let endpoint = serve(axum::Router::new().fallback(scripted).with_state(Arc::clone(&script))).await;
    let began = Instant::now();
    let store = store_with(&endpoint, Some(1_000.0));
    assert_eq!(put_many(&store, 300).await.unwrap(), 0);
    // 600 units by the service's word, of which those of the last eight batches, 400, may still be owed. The lower bound
    // says that they were waited for; there is no upper one.
    assert!(began.elapsed() > Duration::from_millis(199), "{:?}", began.elapsed());
    store.budget().wait().await;
    assert!(began.elapsed() > Duration::from_millis(599), "what was spent is owed: {:?}", began.elapsed());
    assert_eq!(once(&script.lock().unwrap().taken), (300, 300));
    // What was throttled cost nothing.
    let free = store_with(&endpoint, Some(1e-3));
    script.lock().unwrap().answers = [None].into();
    free.budget().spend(-1.0);
    let refused =
        free.batch(r#"{"RequestItems":{"t":[]}}"#.into(), ("load", "t"), Some(25.0), async { Ok(None) }).await;
    assert_eq!(refused.unwrap_err().error.kind, ErrorKind::Throttled);
    free.budget().wait().await;
}

#[tokio::test]
async fn what_is_kept_beside_the_tables_does_not_wait_for_what_a_load_has_spent() {
    let store = store_with(&serve(axum::Router::new().fallback(async || "{}")).await, Some(1e-3));
    // Paid back in some days: who waits for it does not end.
    store.budget().spend(1_000.0);
    let key = ["{}".to_owned()];
    batch::delete(&store, BOOK, &key, ("clear", BOOK)).await.unwrap();
    let mut rows = std::pin::pin!(batch::delete(&store, "t", &key, ("clear", "t")));
    assert!(futures::poll!(rows.as_mut()).is_pending());
    assert!(store.budget().is_waited_for(), "rows are what a budget is for");
}
