//! Tables of the plan that are made: by their definition, or with their key alone where the plan has none.
//!
//! That a table is ours is noted before it is made: its expiry is turned on and off for it, and for no table that
//! somebody else made.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::call::{Stopped, Store, Tried, n};
use super::layout::{self, described, is_active};
use super::names::Of;
use super::rows::{Shape, key_type};
use super::write::Write;
use super::{bulk, expiry, lease, outbox, owner, permits};
use crate::domain::plan::{BillingMode, Definition, Table, shell_word};
use crate::ports::{ErrorKind, PortError, PortResult};

/// How long a table, its indexes or its end may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(300);

/// See [`crate::ports::Target::create`].
pub(super) async fn create(store: &Store, plan: &str, table: &Table) -> PortResult<bool> {
    let Some(definition) = table.definition() else { return with_key(store, table).await };
    let (at, of) = (("create", table.target.as_str()), Of::new(plan, table));
    let there = described(store, &table.target, at).await?.is_some();
    if there && !is_unfinished(store, &of, at).await? {
        return Ok(false);
    }
    if !there {
        note(store, &of, "SET #making = :now", at).await?;
        match ask(store, "CreateTable", &request(&table.target, &definition), at).await {
            Ok(_) => {}
            // Somebody else made it meanwhile.
            Err(e) if e.came_back.starts_with("ResourceInUse") => {
                note(store, &of, "REMOVE #making", at).await?;
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
    }
    usable(store, &table.target, at).await?;
    if definition.is_recoverable() {
        recoverable(store, table, at).await?;
    }
    // A right that is needed only when customers are let in is asked for while nothing is lost by its absence.
    if let Some(attribute) = definition.expires_by()
        && let Some(missing) = expiry::refused(store, table, attribute).await?
    {
        return Err(PortError::new(ErrorKind::Denied, at.0, at.1, missing.wrong).advise(missing.advice));
    }
    note(store, &of, "SET #made = :now REMOVE #making", at).await?;
    Ok(!there)
}

/// The body of `CreateTable`. What is set by calls of its own comes later.
pub(super) fn request(name: &str, definition: &Definition) -> Json {
    let mut body = serde_json::to_value(definition).unwrap_or_default();
    if let Some(body) = body.as_object_mut() {
        body.remove("TimeToLiveSpecification");
        body.remove("PointInTimeRecoverySpecification");
        if definition.billing_mode == BillingMode::PayPerRequest {
            body.remove("ProvisionedThroughput");
        }
        body.insert("TableName".to_owned(), name.into());
    }
    body
}

/// Makes a table of the plan with its key, paid by the request.
async fn with_key(store: &Store, table: &Table) -> PortResult<bool> {
    let at = ("create", table.target.as_str());
    let mut key = Vec::new();
    for column in table.columns.iter().filter(|c| c.key) {
        let ty = key_type(column.ty).ok_or_else(|| {
            let came_back = format!("column {} of type {} can be no key", column.name, column.ty.sql());
            PortError::new(ErrorKind::Invalid, at.0, at.1, came_back).advise("keys are text, numbers or bytes")
        })?;
        key.push((column.name.as_str(), ty));
    }
    if !matches!(key.len(), 1 | 2) {
        let came_back = format!("its key has {} columns", key.len());
        return Err(PortError::new(ErrorKind::Invalid, at.0, at.1, came_back)
            .advise("a key is a partition key, and a sort key if there is one"));
    }
    layout::make(store, &table.target, &key, at).await
}

/// One operation on a table as a whole. No item is in it, so what the service says may be told.
pub(super) async fn ask(store: &Store, operation: &str, body: &Json, at: Tried<'_>) -> PortResult<Json> {
    store.send(operation, body.to_string(), at, None).await.map_err(|refused| {
        let said: Json = serde_json::from_slice(&refused.said).unwrap_or_default();
        let message = said.get("message").or_else(|| said.get("Message")).and_then(Json::as_str);
        let mut error = refused.error;
        if let Some(message) = message.filter(|_| error.kind == ErrorKind::Invalid) {
            error.came_back = format!("{}: {message}", error.came_back);
        }
        error
    })
}

/// Whether this plan began to make the table and did not come to its end.
pub(super) async fn is_unfinished(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<bool> {
    has(store, of, &["making"], at).await
}

/// Whether this plan made the table, or was about to.
pub(super) async fn is_ours(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<bool> {
    has(store, of, &["making", "made"], at).await
}

async fn has(store: &Store, of: &Of, marks: &[&str], at: Tried<'_>) -> PortResult<bool> {
    match store.get(&of.table(), at).await {
        Ok(item) => Ok(item.is_some_and(|item| marks.iter().any(|mark| item.contains_key(*mark)))),
        // Before a run has begun nobody has made anything.
        Err(e) if e.kind == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes it beside whose the table is. A table that the plan does not have is nobody's to remember.
async fn note(store: &Store, of: &Of, what: &str, at: Tried<'_>) -> PortResult<()> {
    let mut write = Write::update(&of.table(), what).when("attribute_exists(#pk)");
    if what.contains(":now") {
        write = write.with("now", n(store.now().0));
    }
    match store.write(&write, at).await {
        Ok(_) | Err(Stopped::Condition(_)) => Ok(()),
        Err(stopped) => Err(stopped.error(at)),
    }
}

/// Waits until the table and each of its indexes can be used.
pub(super) async fn usable(store: &Store, table: &str, at: Tried<'_>) -> PortResult<()> {
    let began = tokio::time::Instant::now();
    loop {
        let found = described(store, table, at).await?;
        let built = |found: &Json| {
            let indexes = found.get("GlobalSecondaryIndexes").and_then(Json::as_array);
            let status = |index: &Json| index.get("IndexStatus").and_then(Json::as_str).unwrap_or("ACTIVE").to_owned();
            indexes.is_none_or(|all| all.iter().all(|index| status(index) == "ACTIVE"))
        };
        if found.is_some_and(|found| is_active(&found) && built(&found)) {
            return Ok(());
        }
        in_time(began, "it could not be used", at)?;
        tokio::time::sleep(POLL).await;
    }
}

fn in_time(began: tokio::time::Instant, what: &str, at: Tried<'_>) -> PortResult<()> {
    if began.elapsed() < PATIENCE {
        return Ok(());
    }
    let came_back = format!("{what} after {} s", PATIENCE.as_secs());
    Err(PortError::new(ErrorKind::TimedOut, at.0, at.1, came_back).advise("see its status, then try again"))
}

/// Turns on that it can be restored to any moment. A new table takes it after a while only.
async fn recoverable(store: &Store, table: &Table, at: Tried<'_>) -> PortResult<()> {
    let on = json!({"TableName": table.target,
                    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true}});
    let began = tokio::time::Instant::now();
    loop {
        match ask(store, "UpdateContinuousBackups", &on, at).await {
            Ok(_) => return Ok(()),
            Err(e) if e.came_back.starts_with("ContinuousBackupsUnavailable") && began.elapsed() < PATIENCE => {
                tokio::time::sleep(POLL).await;
            }
            Err(e) => return Err(e),
        }
    }
}

/// See [`crate::ports::Target::make_anew`]. All are looked at before the first one goes; it can die between two.
pub(super) async fn make_anew(store: &Store, plan: &str, tables: &[Table], epoch: Option<i64>) -> PortResult<()> {
    for table in tables {
        may_go(store, plan, table).await?;
    }
    for table in tables {
        let of = Of::new(plan, table);
        if table.definition().is_none() {
            bulk::empty(store, plan, &of, &Shape::new(table), epoch).await?;
            continue;
        }
        let at = ("make anew", table.target.as_str());
        // Refuses rows until it is there again, as emptying does.
        let began = Write::update(&of.table(), "SET #emptying = :now REMOVE #stream, #token, #made")
            .when("attribute_exists(#pk) AND attribute_not_exists(#opened)")
            .with("now", n(store.now().0));
        let writes: Vec<Write> = [began].into_iter().chain(epoch.map(|epoch| lease::fence(plan, epoch))).collect();
        match store.transact(&writes.iter().collect::<Vec<_>>(), at).await {
            Ok(()) => {}
            Err(Stopped::Condition(0)) => return Err(owner::is_open(at)),
            Err(Stopped::Condition(_)) => return Err(lease::overtaken(at)),
            Err(stopped) => return Err(stopped.error(at)),
        }
        permits::quiet(store, &of, at).await?;
        owner::forget(store, &of, at).await?;
        outbox::forget(store, &of, at).await?;
        delete(store, table, at).await?;
        create(store, plan, table).await?;
        note(store, &of, "REMOVE #emptying", at).await?;
    }
    Ok(())
}

/// Whether a table may be deleted: it is the plan's, nobody writes there but us, and nothing protects it.
async fn may_go(store: &Store, plan: &str, table: &Table) -> PortResult<()> {
    let (at, of) = (("make anew", table.target.as_str()), Of::new(plan, table));
    let refused = |came_back: String, advice: String| {
        Err(PortError::new(ErrorKind::Conflict, at.0, at.1, came_back).advise(advice))
    };
    if owner::judged(store.get(&of.table(), at).await?, false, plan, at)?.opened().is_some() {
        return Err(owner::is_open(at));
    }
    let waits = outbox::waits(store, &of, at).await?;
    if waits > 0 {
        return refused(
            format!("{waits} writes of the new side were never carried back"),
            format!("carry them with `cutover rollback`; or give them up: cutover release {}", shell_word(plan)),
        );
    }
    let found = described(store, &table.target, at).await?;
    let protected = found.and_then(|found| found.get("DeletionProtectionEnabled").and_then(Json::as_bool));
    if protected == Some(true) && table.definition().is_some() {
        return refused(
            "it is protected against deletion".to_owned(),
            "if it may go, turn that off yourself: aws dynamodb update-table --no-deletion-protection-enabled"
                .to_owned(),
        );
    }
    Ok(())
}

async fn delete(store: &Store, table: &Table, at: Tried<'_>) -> PortResult<()> {
    match ask(store, "DeleteTable", &json!({"TableName": table.target}), at).await {
        Ok(_) => {}
        Err(e) if e.kind == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let began = tokio::time::Instant::now();
    while described(store, &table.target, at).await?.is_some() {
        in_time(began, "it is still there", at)?;
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
