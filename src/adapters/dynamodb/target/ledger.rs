//! The ledger of parked rows: by the beginning of their keys, and by key.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;

use super::call::{Item, Store, Tried, n, number, s, text};
use super::names::Of;
use super::write::Write;
use crate::domain::at::At;
use crate::domain::mapping::{RowError, RowErrorReason};
use crate::domain::value::Key;
use crate::ports::{ParkedRow, PortResult};

/// Puts a row into the ledger; when it was first parked stays.
pub(super) fn park(of: &Of, row: &ParkedRow, now: At) -> Write {
    let set = "SET #key = :key, #json = :json, #column = :column, #reason = :reason, #detail = :detail, \
               #first = if_not_exists(#first, :now)";
    Write::update(&of.parked(&row.key), set)
        .with("key", s(&row.key.0))
        .with("json", s(&row.key_json))
        .with("column", s(&row.row_error.column))
        .with("reason", s(row.row_error.reason.name()))
        .with("detail", s(&row.row_error.detail))
        .with("now", n(now.0))
}

/// Takes a row out of the ledger.
pub(super) fn unpark(of: &Of, key: &Key) -> Write {
    Write::delete(&of.parked(key))
}

/// Adds rows that expired.
pub(super) fn add_expired(of: &Of, rows: u64) -> Write {
    Write::update(&of.expired(), "ADD #rows :rows").with("rows", json!({"N": rows.to_string()}))
}

fn reason(name: &str) -> RowErrorReason {
    RowErrorReason::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(RowErrorReason::Refused)
}

fn parked_row(table: &str, item: &Item) -> ParkedRow {
    let part = |name| text(item, name).unwrap_or_default().to_owned();
    let row_error = RowError { column: part("column"), reason: reason(&part("reason")), detail: part("detail") };
    ParkedRow { table: table.to_owned(), key: Key(part("key")), row_error, key_json: part("json") }
}

/// Which of these keys stand in the ledger. Costs one read where it is empty.
pub(super) async fn standing(store: &Store, of: &Of, keys: &[&Key], at: Tried<'_>) -> PortResult<HashSet<Key>> {
    if keys.is_empty() || store.query(&of.ledger(), "", None, Some(1), at).await?.is_empty() {
        return Ok(HashSet::new());
    }
    let places: Vec<_> = keys.iter().map(|key| of.parked(key)).collect();
    let found = store.get_all(&places, at).await?;
    Ok(keys.iter().zip(found).filter(|(_, item)| item.is_some()).map(|(key, _)| (*key).clone()).collect())
}

/// See [`crate::ports::Target::ledger`].
pub(super) async fn totals(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)> {
    let mut reasons = BTreeMap::new();
    for item in store.query(&of.ledger(), "", None, None, at).await? {
        *reasons.entry(reason(text(&item, "reason").unwrap_or_default())).or_insert(0) += 1;
    }
    let expired = store.get(&of.expired(), at).await?;
    let expired = expired.and_then(|item| number(&item, "rows")).and_then(|rows| u64::try_from(rows).ok());
    Ok((reasons, expired.unwrap_or(0)))
}

/// See [`crate::ports::Target::parked`].
pub(super) async fn page(
    store: &Store,
    of: &Of,
    table: &str,
    reasons: Option<&[RowErrorReason]>,
    after: Option<&Key>,
    limit: u32,
    at: Tried<'_>,
) -> PortResult<Vec<ParkedRow>> {
    let (limit, mut found) = (limit as usize, Vec::new());
    let mut after = after.map(|key| of.parked(key).sk);
    while found.len() < limit {
        // Of other reasons there may be many in between: a page of the ledger is read as a whole.
        let asked = limit.max(100);
        let items = store.query(&of.ledger(), "", after.as_deref(), Some(asked), at).await?;
        let rows = items.iter().map(|item| parked_row(table, item));
        found.extend(rows.filter(|row| reasons.is_none_or(|all| all.contains(&row.row_error.reason))));
        after = items.last().map(|item| super::call::sk(item).to_owned());
        if items.len() < asked {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// See [`crate::ports::Target::parked_since`].
pub(super) async fn by_key(
    store: &Store,
    of: &Of,
    table: &str,
    keys: &[Key],
    at: Tried<'_>,
) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
    let places: Vec<_> = keys.iter().map(|key| of.parked(key)).collect();
    let found = store.get_all(&places, at).await?;
    let since = |item: &Item| At(number(item, "first").unwrap_or_default());
    Ok(found.iter().map(|item| item.as_ref().map(|item| (parked_row(table, item), since(item)))).collect())
}
