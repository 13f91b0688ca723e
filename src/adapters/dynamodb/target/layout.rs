//! Our bookkeeping as a whole, and how a table is made that has nothing but its key.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::call::{Store, Tried, n, number};
use super::names::{self, BOOK, KEY, LAYOUT};
use super::write::Write;
use crate::ports::{Bookkeeping, ErrorKind, Obstacle, PortError, PortResult, TargetServer};

/// How long a new table may take until it can be used.
const PATIENCE: Duration = Duration::from_secs(180);

/// DescribeTable; `None` when there is no such table.
pub(super) async fn described(store: &Store, table: &str, at: Tried<'_>) -> PortResult<Option<Json>> {
    match store.call("DescribeTable", &json!({"TableName": table}), at).await {
        Ok(mut answer) => Ok(answer.get_mut("Table").map(Json::take)),
        Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a described table can be used.
pub(super) fn is_active(described: &Json) -> bool {
    matches!(described.get("TableStatus").and_then(Json::as_str), Some("ACTIVE" | "UPDATING"))
}

/// Makes a table with this key (names with `S`, `N` or `B`) and waits until it can be used. Says whether it made it.
pub(super) async fn make(store: &Store, table: &str, key: &[(&str, &str)], at: Tried<'_>) -> PortResult<bool> {
    let roles = ["HASH", "RANGE"];
    let schema: Vec<Json> =
        key.iter().zip(roles).map(|((name, _), role)| json!({"AttributeName": name, "KeyType": role})).collect();
    let definitions: Vec<Json> =
        key.iter().map(|(name, ty)| json!({"AttributeName": name, "AttributeType": ty})).collect();
    let made = if described(store, table, at).await?.is_some() {
        false
    } else {
        let body = json!({"TableName": table, "KeySchema": schema, "AttributeDefinitions": definitions,
                          "BillingMode": "PAY_PER_REQUEST"});
        match store.call("CreateTable", &body, at).await {
            Ok(_) => true,
            // Somebody else made it meanwhile.
            Err(e) if e.came_back.starts_with("ResourceInUse") => false,
            Err(e) => return Err(e),
        }
    };
    let began = tokio::time::Instant::now();
    loop {
        let found = described(store, table, at).await?;
        if found.as_ref().is_some_and(is_active) {
            return Ok(made);
        }
        if began.elapsed() > PATIENCE {
            let came_back = format!("it could not be used after {} s", PATIENCE.as_secs());
            return Err(PortError::new(ErrorKind::TimedOut, at.0, at.1, came_back)
                .advise("wait until the table is active, then try again"));
        }
        tokio::time::sleep(Duration::from_millis(if made { 300 } else { 50 })).await;
    }
}

/// Makes the bookkeeping. See [`crate::ports::Target::prepare`].
pub(super) async fn prepare(store: &Store) -> PortResult<()> {
    let at = ("prepare", BOOK);
    make(store, BOOK, &[(KEY.0, "S"), (KEY.1, "S")], at).await?;
    let ours = Write::update(&names::layout(), "SET #layout = if_not_exists(#layout, :ours)").with("ours", n(LAYOUT));
    let stands = store.write(&ours, at).await.map_err(|e| e.error(at))?;
    check(stands.as_ref().and_then(|item| number(item, "layout")), at)
}

/// Refuses the bookkeeping of another version.
fn check(stands: Option<i64>, (tried, on): Tried<'_>) -> PortResult<()> {
    match stands {
        Some(LAYOUT) => Ok(()),
        Some(other) => {
            let came_back = format!("another version of this program keeps its own there, in layout {other}");
            Err(PortError::new(ErrorKind::Conflict, tried, on, came_back)
                .advise("end its runs with the version that began them"))
        }
        None => Err(PortError::new(ErrorKind::NotFound, tried, on, "no run has begun here")
            .advise("the set_up step makes the bookkeeping")),
    }
}

/// Refuses to use what is not there or another version's.
pub(super) async fn in_our_layout(store: &Store) -> PortResult<()> {
    let at = ("read our bookkeeping in", BOOK);
    let stands = match store.get(&names::layout(), at).await {
        Ok(item) => item.as_ref().and_then(|item| number(item, "layout")),
        Err(e) if e.kind == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    check(stands, at)
}

/// See [`crate::ports::Target::inspect`].
pub(super) async fn inspect(store: &Store) -> PortResult<TargetServer> {
    let at = ("inspect", BOOK);
    let mut found = TargetServer::default();
    match described(store, BOOK, at).await {
        Ok(None) => {}
        Ok(Some(_)) => {
            found.bookkeeping = match in_our_layout(store).await {
                Ok(()) => Bookkeeping::Ready,
                Err(_) => Bookkeeping::Older,
            };
        }
        Err(e) if e.kind == ErrorKind::Denied => {
            found.bookkeeping = Bookkeeping::Older;
            found.obstacles.push(Obstacle {
                wrong: format!("table {BOOK} may not be described: {}", e.came_back),
                advice: format!("allow dynamodb:DescribeTable on table/{BOOK}"),
                rights: true,
            });
        }
        Err(e) => return Err(e),
    }
    Ok(found)
}
