//! Calls of one table service: single items, batches and transactions, each answered, refused for a reason, or failed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tokio::time::Instant;

use super::names::{BOOK, KEY, Place};
use super::pace::Paces;
use super::write::Write;
use crate::adapters::dynamodb::wire::{Refused, Terms, Throttles, Wire};
use crate::domain::at::At;
use crate::ports::{Budget, ErrorKind, PortError, PortResult};

/// An item as it is answered: attributes with their types.
pub(super) type Item = Map<String, Json>;

/// Keys in one read.
const READ: usize = 100;
/// Tries of what others are changing at the same time.
const TRIES: u32 = 14;

/// What is tried, and on what, for errors.
pub(super) type Tried<'a> = (&'a str, &'a str);

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum Stopped {
    /// A condition did not hold: the place of its action, and the item as it stands where it was asked for.
    Condition(usize),
    /// An action was refused for what it holds: its place, and what the service said.
    Refused(usize, String),
    /// The request as a whole was refused for what one of its actions holds.
    Whole(String, PortError),
    /// The call failed.
    Failed(PortError),
}

impl From<PortError> for Stopped {
    fn from(error: PortError) -> Self {
        Self::Failed(error)
    }
}

impl Stopped {
    /// The error, where a condition that does not hold means that something else changed it.
    pub(super) fn error(self, (tried, on): Tried<'_>) -> PortError {
        match self {
            Self::Failed(error) | Self::Whole(_, error) => error,
            Self::Condition(_) => PortError::new(ErrorKind::Conflict, tried, on, "something else has changed it")
                .advise("nothing was written; read it back and try again"),
            Self::Refused(..) => PortError::new(ErrorKind::Invalid, tried, on, "the store refused an item"),
        }
    }
}

/// A table service, with our bookkeeping in it.
#[derive(Debug)]
pub(super) struct Store {
    wire: Wire,
    /// How many batches of each table may be under way.
    paces: Paces,
    /// Write units a second for all batches.
    budget: Arc<Budget>,
}

impl Store {
    /// Over this client, with the write units a second that batches may spend.
    pub(super) fn new(wire: Wire, budget: Arc<Budget>) -> Self {
        Self { wire, paces: Paces::default(), budget }
    }

    /// How many batches of each table may be under way.
    pub(super) const fn paces(&self) -> &Paces {
        &self.paces
    }

    /// Write units a second for all batches.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How the service is called.
    pub(super) const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The region of its tables.
    pub(super) fn region(&self) -> Option<&str> {
        Some(self.wire.region()).filter(|region| !region.is_empty())
    }

    /// Now, by the service's clock.
    pub(super) fn now(&self) -> At {
        At(self.wire.now_ms())
    }

    /// One operation.
    pub(super) async fn call(&self, operation: &str, body: &Json, at: Tried<'_>) -> PortResult<Json> {
        self.send(operation, body.to_string(), at, None).await.map_err(|refused| refused.error)
    }

    /// One operation, of which nothing is under way after `until`. Errors hold no message that may quote a value; the
    /// refusal does.
    pub(super) async fn send(
        &self,
        operation: &str,
        body: String,
        at: Tried<'_>,
        until: Option<Instant>,
    ) -> Result<Json, Refused> {
        self.on_terms(operation, body, at, Terms { until, ..Terms::default() }).await
    }

    /// A batch of writes. `units` is what it may cost, within the write budget; what it cost is taken from the answer. `None`
    /// waits for no budget: what is kept beside the tables must not wait for what a load has spent. `until` is asked for once the budget allows it to be sent. Throttles are told at once: batches have a pace.
    pub(super) async fn batch<U>(
        &self,
        body: String,
        at: Tried<'_>,
        units: Option<f64>,
        until: U,
    ) -> Result<Json, Refused>
    where
        U: Future<Output = PortResult<Option<Instant>>>,
    {
        if let Some(units) = units {
            self.budget.take(units).await;
        }
        let sent = async {
            let terms = Terms { until: until.await?, throttles: Throttles::Told };
            self.on_terms("BatchWriteItem", body, at, terms).await
        };
        let answer = sent.await;
        let Some(units) = units else { return answer };
        let cost = match &answer {
            Ok(answer) => consumed(answer).unwrap_or(units),
            Err(_) => 0.0,
        };
        self.budget.spend(cost - units);
        answer
    }

    async fn on_terms(
        &self,
        operation: &str,
        body: String,
        (tried, on): Tried<'_>,
        terms: Terms,
    ) -> Result<Json, Refused> {
        let answer = match self.wire.ask(operation, body, tried, on, terms).await {
            Ok(answer) => answer,
            Err(mut refused) => {
                if refused.error.kind == ErrorKind::Invalid {
                    let code = refused.error.came_back.find(':').unwrap_or(refused.error.came_back.len());
                    refused.error.came_back.truncate(code);
                }
                return Err(refused);
            }
        };
        serde_json::from_slice(&answer).map_err(|_| {
            PortError::new(ErrorKind::Internal, tried, on, "an answer that is not JSON")
                .advise("the endpoint may not be DynamoDB; look at what stands between")
                .into()
        })
    }

    /// The same with the body as it came.
    pub(super) async fn raw(&self, operation: &str, body: &Json, (tried, on): Tried<'_>) -> PortResult<bytes::Bytes> {
        self.wire.post(operation, body.to_string(), tried, on).await
    }

    /// An item of our bookkeeping.
    pub(super) async fn get(&self, place: &Place, at: Tried<'_>) -> PortResult<Option<Item>> {
        let body = json!({"TableName": BOOK, "Key": key_of(place), "ConsistentRead": true});
        let mut answer = self.call("GetItem", &body, at).await?;
        Ok(answer.get_mut("Item").and_then(|item| object(item.take())))
    }

    /// Items of our bookkeeping, in the order of their places.
    pub(super) async fn get_all(&self, places: &[Place], at: Tried<'_>) -> PortResult<Vec<Option<Item>>> {
        let mut once: Vec<&Place> = places.iter().collect();
        once.sort_unstable();
        once.dedup();
        let mut found = std::collections::HashMap::new();
        for some in once.chunks(READ) {
            let keys = some.iter().map(|place| key_of(place)).collect();
            for item in self.read_keys(BOOK, keys, None, at).await? {
                if let Some(place) = place_of(&item) {
                    found.insert(place, item);
                }
            }
        }
        Ok(places.iter().map(|place| found.get(place).cloned()).collect())
    }

    /// Items by key, in any order, asked for until all are answered. At most [`READ`] keys.
    pub(super) async fn read_keys(
        &self,
        table: &str,
        keys: Vec<Json>,
        project: Option<(&str, &Json)>,
        at: Tried<'_>,
    ) -> PortResult<Vec<Item>> {
        let (mut left, mut found, mut idle) = (keys, Vec::new(), 0);
        while !left.is_empty() {
            let asked = left.len();
            let mut of = json!({"Keys": left, "ConsistentRead": true});
            if let (Some((expression, names)), Some(of)) = (project, of.as_object_mut()) {
                of.insert("ProjectionExpression".to_owned(), expression.into());
                of.insert("ExpressionAttributeNames".to_owned(), names.clone());
            }
            let mut answer = self.call("BatchGetItem", &json!({"RequestItems": {table: of}}), at).await?;
            let items = answer.get_mut("Responses").and_then(|r| r.get_mut(table)).map(Json::take);
            found.extend(items.and_then(array).unwrap_or_default().into_iter().filter_map(object));
            let keys = answer.get_mut("UnprocessedKeys").and_then(|r| r.get_mut(table)).and_then(|k| k.get_mut("Keys"));
            left = keys.map(Json::take).and_then(array).unwrap_or_default();
            idle = if left.len() < asked { 0 } else { idle + 1 };
            if idle > 8 {
                return Err(throttled("no key was processed", at));
            }
            if !left.is_empty() {
                pause(idle).await;
            }
        }
        Ok(found)
    }

    /// All items of one part of our bookkeeping, in order, from behind `after` on and `limit` at most.
    pub(super) async fn query(
        &self,
        pk: &str,
        prefix: &str,
        after: Option<&str>,
        limit: Option<usize>,
        at: Tried<'_>,
    ) -> PortResult<Vec<Item>> {
        let (mut found, mut from) =
            (Vec::new(), after.map(|sk| key_of(&Place { pk: pk.to_owned(), sk: sk.to_owned() })));
        loop {
            let mut body = json!({
                "TableName": BOOK, "ConsistentRead": true, "KeyConditionExpression": "#pk = :pk",
                "ExpressionAttributeNames": {"#pk": KEY.0}, "ExpressionAttributeValues": {":pk": s(pk)},
            });
            if let Some(all) = body.as_object_mut() {
                if !prefix.is_empty() {
                    all.insert("KeyConditionExpression".into(), "#pk = :pk AND begins_with(#sk, :sk)".into());
                    all.insert("ExpressionAttributeNames".into(), json!({"#pk": KEY.0, "#sk": KEY.1}));
                    all.insert("ExpressionAttributeValues".into(), json!({":pk": s(pk), ":sk": s(prefix)}));
                }
                if let Some(from) = from.take() {
                    all.insert("ExclusiveStartKey".into(), from);
                }
                if let Some(limit) = limit {
                    all.insert("Limit".into(), limit.saturating_sub(found.len()).max(1).into());
                }
            }
            let mut answer = self.call("Query", &body, at).await?;
            let items = answer.get_mut("Items").map(Json::take).and_then(array).unwrap_or_default();
            found.extend(items.into_iter().filter_map(object));
            from = answer.get_mut("LastEvaluatedKey").map(Json::take).filter(|key| !key.is_null());
            if from.is_none() || limit.is_some_and(|limit| found.len() >= limit) {
                return Ok(found);
            }
        }
    }

    /// Writes one item, and gives the item before it (an update: the one after it).
    pub(super) async fn write(&self, write: &Write, at: Tried<'_>) -> Result<Option<Item>, Stopped> {
        let (operation, body) = write.alone();
        let mut tried = 0;
        loop {
            let refused = match self.send(operation, body.clone(), at, None).await {
                Ok(mut answer) => return Ok(answer.get_mut("Attributes").and_then(|item| object(item.take()))),
                Err(refused) => refused,
            };
            tried += 1;
            let code = &refused.error.came_back;
            if code.starts_with("ConditionalCheckFailed") {
                return Err(Stopped::Condition(0));
            }
            // A transaction has the item at this moment.
            if !code.starts_with("TransactionConflict") || tried >= TRIES {
                return Err(refused.error.into());
            }
            pause(tried).await;
        }
    }

    /// Writes all of these or none of them. What was answered by nobody is sent again under the same token, and happens
    /// once.
    pub(super) async fn transact(&self, writes: &[&Write], at: Tried<'_>) -> Result<(), Stopped> {
        let token = uuid::Uuid::new_v4().to_string();
        let mut body = format!("{{\"ClientRequestToken\":\"{token}\",\"TransactItems\":[");
        for (n, write) in writes.iter().enumerate() {
            if n > 0 {
                body.push(',');
            }
            write.push_action(&mut body);
        }
        body.push_str("]}");
        let mut tried = 0;
        loop {
            let refused = match self.send("TransactWriteItems", body.clone(), at, None).await {
                Ok(_) => return Ok(()),
                Err(refused) => refused,
            };
            tried += 1;
            match why(&refused) {
                // Somebody else has one of the items, or this very request is still under way.
                Why::Again if tried < TRIES => pause(tried).await,
                Why::Again => return Err(throttled("other transactions have its items", at).into()),
                Why::Stopped(stopped) => return Err(stopped),
                Why::Other => return Err(refused.error.into()),
            }
        }
    }
}

/// Units that a batch cost, indexes included; `None` where the service does not say.
fn consumed(answer: &Json) -> Option<f64> {
    let all = answer.get("ConsumedCapacity")?.as_array()?;
    Some(all.iter().filter_map(|of| of.get("CapacityUnits")?.as_f64()).sum())
}

enum Why {
    Again,
    Stopped(Stopped),
    Other,
}

fn why(refused: &Refused) -> Why {
    let code = &refused.error.came_back;
    let said: Json = serde_json::from_slice(&refused.said).unwrap_or_default();
    if code.starts_with("TransactionInProgress") || code.starts_with("TransactionConflict") {
        return Why::Again;
    }
    if code.starts_with("ValidationException") {
        let message = said.get("message").or_else(|| said.get("Message")).and_then(Json::as_str).unwrap_or_default();
        return Why::Stopped(Stopped::Whole(message.to_owned(), refused.error.clone()));
    }
    if !code.starts_with("TransactionCanceled") {
        return Why::Other;
    }
    let reasons = said.get("CancellationReasons").and_then(Json::as_array).cloned().unwrap_or_default();
    let code = |reason: &Json| reason.get("Code").and_then(Json::as_str).unwrap_or("None").to_owned();
    if let Some(n) = reasons.iter().position(|reason| code(reason) == "ConditionalCheckFailed") {
        return Why::Stopped(Stopped::Condition(n));
    }
    let of_the_item =
        |reason: &Json| matches!(code(reason).as_str(), "ValidationError" | "ItemCollectionSizeLimitExceeded");
    if let Some(n) = reasons.iter().position(of_the_item) {
        let reason = reasons.get(n).cloned().unwrap_or_default();
        let message = reason.get("Message").and_then(Json::as_str).unwrap_or_default();
        return Why::Stopped(Stopped::Refused(n, format!("{}: {message}", code(&reason))));
    }
    let passes = ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"];
    if reasons.iter().any(|reason| passes.contains(&code(reason).as_str())) { Why::Again } else { Why::Other }
}

/// That the store asks for patience.
pub(super) fn throttled(why: &str, (tried, on): Tried<'_>) -> PortError {
    PortError::new(ErrorKind::Throttled, tried, on, why)
        .advise("raise the table's capacity or lower the budgets; it is tried again by itself")
}

/// Waits a little longer each time, and each time for another while.
pub(super) async fn pause(tried: u32) {
    let full = Duration::from_millis(10 << tried.min(7));
    tokio::time::sleep(full.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
}

/// An item's key in our bookkeeping.
pub(super) fn key_of(place: &Place) -> Json {
    json!({KEY.0: s(&place.pk), KEY.1: s(&place.sk)})
}

fn place_of(item: &Item) -> Option<Place> {
    Some(Place { pk: text(item, KEY.0)?.to_owned(), sk: text(item, KEY.1)?.to_owned() })
}

fn object(value: Json) -> Option<Item> {
    match value {
        Json::Object(item) => Some(item),
        _ => None,
    }
}

fn array(value: Json) -> Option<Vec<Json>> {
    match value {
        Json::Array(all) => Some(all),
        _ => None,
    }
}

/// Text as an attribute.
pub(super) fn s(text: &str) -> Json {
    json!({"S": text})
}

/// A number as an attribute.
pub(super) fn n(number: i64) -> Json {
    json!({"N": number.to_string()})
}

/// An attribute's text.
pub(super) fn text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.get("S")?.as_str()
}

/// An attribute's number.
pub(super) fn number(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.get("N")?.as_str()?.parse().ok()
}

/// The last part of an item's place.
pub(super) fn sk(item: &Item) -> &str {
    text(item, KEY.1).unwrap_or_default()
}
