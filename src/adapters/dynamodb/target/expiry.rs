//! Expiry of items (TTL). A table that this plan makes expires nothing until customers are let in, as its triggers would
//! not fire: rows would go while both sides are compared.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::call::{Store, Tried};
use super::names::Of;
use super::{create, owner};
use crate::adapters::dynamodb::still_expires;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, Expiry, Obstacle, PortError, PortResult};

/// How long a change may take until it is read back.
const PATIENCE: Duration = Duration::from_secs(10);

/// How items of a table expire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expires {
    Never,
    By(String),
    /// It is being turned off, and may still remove items.
    Ending(String),
    Unknown,
}

/// Asks the service.
pub(super) async fn expires(store: &Store, table: &Table) -> PortResult<Expires> {
    let at = ("describe time to live of", table.target.as_str());
    let answer = match store.call("DescribeTimeToLive", &json!({"TableName": table.target}), at).await {
        Ok(answer) => answer,
        // Some emulators have no TTL, and a role may not ask.
        Err(e) if e.kind == ErrorKind::Denied || e.came_back.starts_with("UnknownOperation") => {
            return Ok(Expires::Unknown);
        }
        Err(e) => return Err(e),
    };
    Ok(said(&answer))
}

/// What the service says of a table's TTL.
fn said(answer: &Json) -> Expires {
    let said = answer.get("TimeToLiveDescription");
    let status = said.and_then(|ttl| ttl.get("TimeToLiveStatus")).and_then(Json::as_str).unwrap_or("DISABLED");
    let attribute = said.and_then(|ttl| ttl.get("AttributeName")).and_then(Json::as_str).unwrap_or("an attribute");
    match status {
        "DISABLING" => Expires::Ending(attribute.to_owned()),
        status if still_expires(status) => Expires::By(attribute.to_owned()),
        _ => Expires::Never,
    }
}

async fn set(store: &Store, table: &Table, attribute: &str, on: bool, at: Tried<'_>) -> PortResult<()> {
    let body = json!({"TableName": table.target,
                      "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": on}});
    create::ask(store, "UpdateTimeToLive", &body, at).await.map(drop)
}

/// The right to turn expiry on, if it is missing. Asked for by turning off what is off, which changes nothing.
pub(super) async fn refused(store: &Store, table: &Table, attribute: &str) -> PortResult<Option<Obstacle>> {
    let at = ("ask for rights on", table.target.as_str());
    if expires(store, table).await? != Expires::Never {
        return Ok(None);
    }
    match set(store, table, attribute, false, at).await {
        Ok(()) => Ok(None),
        Err(e) if e.kind == ErrorKind::Denied => Ok(Some(Obstacle {
            wrong: format!("UpdateTimeToLive on {} is refused: {}", at.1, e.came_back),
            advice: format!("allow dynamodb:UpdateTimeToLive on table/{}: expiry is turned on at the thaw", at.1),
            rights: true,
        })),
        // It is off already, says the service.
        Err(e) if e.kind == ErrorKind::Invalid => Ok(None),
        Err(e) => Err(e),
    }
}

/// See [`crate::ports::Target::turn_on_expiry`].
pub(super) async fn turn_on(store: &Store, plan: &str, table: &Table, attribute: &str) -> PortResult<Expiry> {
    let at = ("turn on the expiry of", table.target.as_str());
    if !create::is_ours(store, &Of::new(plan, table), at).await? {
        return Ok(Expiry::NotMadeHere);
    }
    let began = tokio::time::Instant::now();
    let mut asked = false;
    loop {
        let came_back = match expires(store, table).await? {
            Expires::By(stands) if stands == attribute => return Ok(Expiry::On(stands)),
            Expires::By(other) => format!("items expire by {other} already"),
            Expires::Ending(other) => format!("its expiry by {other} is being turned off"),
            Expires::Never | Expires::Unknown if asked => "it was turned on and is not read back so".to_owned(),
            Expires::Never | Expires::Unknown => {
                set(store, table, attribute, true, at).await?;
                asked = true;
                continue;
            }
        };
        if !asked || began.elapsed() >= PATIENCE {
            return Err(PortError::new(ErrorKind::Conflict, at.0, at.1, came_back));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether a run that claims the table turns its expiry off: this plan made it, and customers are not in it.
pub(super) async fn is_quieted(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<bool> {
    let known = match store.get(&of.table(), at).await {
        Ok(found) => found.map(owner::Known::of),
        // Before the first run there is no bookkeeping.
        Err(e) if e.kind == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    Ok(known.is_some_and(|known| known.opened().is_none()) && create::is_ours(store, of, at).await?)
}

/// Turns off what a thaw turned on: a later run loads tables that an earlier one made and opened to customers.
pub(super) async fn quiet(store: &Store, plan: &str, tables: &[Table]) -> PortResult<()> {
    for table in tables.iter().filter(|table| table.expires_by().is_some()) {
        let (at, of) = (("turn off the expiry of", table.target.as_str()), Of::new(plan, table));
        if !is_quieted(store, &of, at).await? {
            continue;
        }
        let on = match expires(store, table).await {
            Ok(Expires::By(attribute)) => attribute,
            Ok(Expires::Never | Expires::Ending(_) | Expires::Unknown) => continue,
            // It is not there yet.
            Err(e) if e.kind == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        set(store, table, &on, false, at).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_that_is_being_turned_off_may_still_remove_items() {
        let says = |status: &str| {
            said(&json!({"TimeToLiveDescription": {"TimeToLiveStatus": status, "AttributeName": "until"}}))
        };
        let by = || Expires::By("until".to_owned());
        assert_eq!([says("ENABLED"), says("ENABLING")], [by(), by()]);
        assert_eq!(says("DISABLING"), Expires::Ending("until".to_owned()));
        assert_eq!([says("DISABLED"), said(&json!({}))], [Expires::Never, Expires::Never]);
    }
}
