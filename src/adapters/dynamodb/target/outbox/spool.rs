//! Captured changes while they wait: each as it was and as it became, found by its number and by its key.
//!
//! A record is two kinds of items. One says that it waits, in the order of the numbers. The other holds both images,
//! in pieces where they are larger than an item may be, behind the digest of the key: so all records of a key are
//! found by one query. Both are spread over lanes, and a lane's item counts what waits in it, in the same transactions.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::call::{Item, Store, Tried, n, number, s, sk, text};
use super::super::names::{self, LANES, Of};
use super::super::write::Write;
use crate::domain::at::At;
use crate::domain::mapping::{push_typed, read_typed_record, typed_record};
use crate::domain::value::{Record, Value};
use crate::ports::{Change, ErrorKind, PortError, PortResult, ReverseCounts, Waiting};

/// Bytes of a piece; an item holds 400 KB.
const PIECE: usize = 300_000;

/// A record's place in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    /// Its number.
    pub id: i64,
    /// The lane of its key.
    pub lane: u8,
    /// The digest of its key.
    pub digest: String,
    /// When the change was made.
    pub at: At,
}

/// A captured change.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    /// Its number.
    pub id: i64,
    /// When it was made.
    pub at: At,
    /// Pieces it is kept in.
    pub pieces: usize,
    /// The item's key.
    pub key: Record<'static>,
    /// The item before it.
    pub before: Option<Record<'static>>,
    /// The item after it.
    pub after: Option<Record<'static>>,
}

/// The writes that put one record, their bytes, and the lane they count in.
pub(super) struct Spooled {
    pub writes: Vec<Write>,
    pub bytes: usize,
    pub lane: u8,
}

/// Text cut into pieces that an item holds.
fn pieces(text: &str) -> Vec<&str> {
    let (mut left, mut found) = (text, Vec::new());
    while left.len() > PIECE {
        let end = (0..=PIECE).rev().find(|end| left.is_char_boundary(*end)).unwrap_or(PIECE);
        let (piece, rest) = left.split_at(end);
        found.push(piece);
        left = rest;
    }
    found.push(left);
    found
}

/// What puts a change under this number; `None` for a change that changed nothing.
pub(super) fn put(
    of: &Of,
    id: i64,
    change: &Change,
    before: Option<&Record<'static>>,
    at: Tried<'_>,
) -> PortResult<Option<Spooled>> {
    let unsaid = |_| PortError::new(ErrorKind::Invalid, at.0, at.1, "a record with a value that has no form");
    let said = |record: Option<&Record<'static>>| record.map_or(Ok("null".to_owned()), typed_record).map_err(unsaid);
    let key = typed_record(&change.key).map_err(unsaid)?;
    let (before, after) = (said(before)?, said(change.image.as_ref())?);
    if before == after {
        return Ok(None);
    }
    let body = format!("{{\"key\":{key},\"before\":{before},\"after\":{after}}}");
    let (digest, lane) = names::digest(&key);
    let mut writes = vec![Write::put(&of.wait(lane, id), json!({"digest": s(&digest), "at": n(change.at.0)}))];
    let all = pieces(&body);
    let of_them = i64::try_from(all.len()).unwrap_or(i64::MAX);
    for (number, piece) in all.iter().enumerate() {
        let item = json!({"body": s(piece), "at": n(change.at.0), "of": n(of_them)});
        writes.push(Write::put(&of.state(lane, &digest, id, number), item));
    }
    Ok(Some(Spooled { writes, bytes: body.len() + 400 * all.len(), lane }))
}

/// What counts so many more, or fewer, in a lane.
pub(super) fn count(of: &Of, lane: u8, more: i64) -> Write {
    Write::update(&of.tally(lane), "ADD #waiting :more").with("more", n(more))
}

/// What waits and what was applied, lane by lane.
async fn tallies(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Vec<Option<Item>>> {
    let places: Vec<_> = (0..LANES).map(|lane| of.tally(lane)).collect();
    store.get_all(&places, at).await
}

fn told(item: &Item, name: &str) -> u64 {
    number(item, name).and_then(|n| u64::try_from(n).ok()).unwrap_or_default()
}

/// How many wait in each lane where some do.
async fn lanes(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Vec<(u8, u64)>> {
    let tallies = tallies(store, of, at).await?;
    let each = (0..LANES).zip(&tallies).map(|(lane, item)| (lane, item.as_ref().map_or(0, |i| told(i, "waiting"))));
    Ok(each.filter(|(_, waiting)| *waiting > 0).collect())
}

/// The first records of each of these lanes, the oldest first.
async fn first(store: &Store, of: &Of, lanes: &[(u8, u64)], limit: usize, at: Tried<'_>) -> PortResult<Vec<Waits>> {
    let lanes = lanes.iter().map(|(lane, _)| async move {
        let items = store.query(&of.waits(*lane), "", None, Some(limit), at).await?;
        let waits = |item: &Item| {
            let id = sk(item).parse().ok()?;
            let at = At(number(item, "at").unwrap_or_default());
            Some(Waits { id, lane: *lane, digest: text(item, "digest")?.to_owned(), at })
        };
        PortResult::Ok(items.iter().filter_map(waits).collect::<Vec<_>>())
    });
    let mut all: Vec<Waits> = futures::future::try_join_all(lanes).await?.into_iter().flatten().collect();
    all.sort_by_key(|waits| waits.id);
    all.truncate(limit);
    Ok(all)
}

/// The keys of the oldest records, at most so many records, in the order they were first changed.
pub(super) async fn oldest(store: &Store, of: &Of, limit: usize, at: Tried<'_>) -> PortResult<Vec<Waits>> {
    let lanes = lanes(store, of, at).await?;
    let mut found = first(store, of, &lanes, limit, at).await?;
    let mut seen = std::collections::HashSet::new();
    found.retain(|waits| seen.insert(waits.digest.clone()));
    Ok(found)
}

/// How much waits.
pub(super) async fn waiting(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Waiting> {
    let lanes = lanes(store, of, at).await?;
    let records = lanes.iter().map(|(_, waiting)| waiting).sum();
    let oldest = first(store, of, &lanes, 1, at).await?;
    let oldest_ms = oldest.first().map_or(0, |waits| store.now().since(waits.at).max(0));
    Ok(Waiting { records, oldest_ms })
}

/// What was applied so far.
pub(super) async fn applied(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<ReverseCounts> {
    let mut all = ReverseCounts::default();
    for item in tallies(store, of, at).await?.iter().flatten() {
        let [carried, merged, conflicts] = ["carried", "merged", "conflicts"].map(|name| told(item, name));
        all.add(ReverseCounts { carried, merged, conflicts });
    }
    Ok(all)
}

/// All records of a key, oldest first.
pub(super) async fn of_key(store: &Store, of: &Of, key: &Waits, at: Tried<'_>) -> PortResult<Vec<Captured>> {
    let items = store.query(&of.states(key.lane), &format!("{}/", key.digest), None, None, at).await?;
    let mut bodies: BTreeMap<i64, (At, usize, String)> = BTreeMap::new();
    for item in &items {
        let id = sk(item).split('/').nth(1).and_then(|id| id.parse().ok()).unwrap_or_default();
        let (.., pieces, body) =
            bodies.entry(id).or_insert_with(|| (At(number(item, "at").unwrap_or_default()), 0, String::new()));
        *pieces += 1;
        body.push_str(text(item, "body").unwrap_or_default());
    }
    let unreadable = || {
        PortError::new(ErrorKind::Invalid, at.0, at.1, "a captured change is not as this program wrote it")
            .advise("compare the table by hand; release the plan once nobody wants to go back")
    };
    let one = |(id, (at, pieces, body)): (i64, (At, usize, String))| {
        let all: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(&body).ok()?;
        let image = |name: &str| match all.get(name)?.get() {
            "null" => Some(None),
            text => read_typed_record(text).ok().map(Some),
        };
        Some(Captured { id, at, pieces, key: image("key")??, before: image("before")?, after: image("after")? })
    };
    bodies.into_iter().map(|body| one(body).ok_or_else(unreadable)).collect()
}

/// A key's text for its places: two spellings of a key have one.
pub(super) fn said(value: &Value<'_>) -> Option<String> {
    let mut out = String::new();
    push_typed(&mut out, value).ok().map(|()| out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_is_cut_between_letters() {
        let text = "é".repeat(PIECE);
        let cut = pieces(&text);
        assert!(cut.len() > 1 && cut.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(cut.concat(), text);
        assert_eq!(pieces(""), [""]);
    }
}
