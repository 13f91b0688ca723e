//! Rows that could not be carried: counted from the ledger, and tried again when their parent may have come or the
//! mapping was mended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::changes::map_image;
use super::crew::Crew;
use super::repair::put;
use super::verify::Candidate;
use crate::domain::mapping::{Misfit, MisfitReason, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::{Attr, Item, Key};
use crate::ports::{ParkedRow, PortResult, RowChange};

/// Rows the ledger is asked for at a time.
pub(super) const PAGE: u32 = 500;
/// Most rows tried again in one turn while changes are followed; the next turn goes on where this one ended.
const TURN: u64 = 5_000;
/// How often the ledger is counted while watching.
const COUNT: Duration = Duration::from_secs(2);
/// What may fit later by itself: a parent comes, a unique value moves, the last row that refers to a deleted one goes.
const WAITING: &[MisfitReason] =
    &[MisfitReason::ForeignKey, MisfitReason::DuplicateUnique, MisfitReason::StillReferenced];

/// Puts the ledger's counts on the board, with the time they were read.
pub async fn count(crew: &Arc<Crew>, table: &Table) -> PortResult<()> {
    let (parked, expired) = crew.ports.target.ledger(table).await?;
    let at = crew.wall();
    let parked: BTreeMap<String, u64> = parked.into_iter().map(|(r, n)| (r.name().to_owned(), n)).collect();
    crew.board.table(&table.id, |g| {
        g.parked = parked;
        g.parked_at = at;
        g.expired = expired;
    });
    Ok(())
}

/// Keeps the counts fresh. A ledger that cannot be read leaves them to grow stale, which is what they are.
pub async fn watch(crew: Arc<Crew>, table: Table) {
    loop {
        if let Err(e) = count(&crew, &table).await {
            tracing::debug!(table = %table.id, error = %e, "ledger not counted");
        }
        tokio::time::sleep(COUNT).await;
    }
}

/// Tries rows again that wait for a parent or met a unique value, a turn's worth; gives how many went in.
pub async fn retry(crew: &Arc<Crew>, table: &Table) -> PortResult<usize> {
    let after = crew.retried.lock().await.get(&table.id).cloned();
    let (tried, last) = some(crew, table, Some(WAITING), after, TURN).await?;
    let mut retried = crew.retried.lock().await;
    match last {
        Some(key) => drop(retried.insert(table.id.clone(), key)),
        None => drop(retried.remove(&table.id)),
    }
    Ok(usize::try_from(tried.landed).unwrap_or(usize::MAX))
}

/// Tries every waiting row again, once: before a drain is called one.
pub async fn retry_all(crew: &Arc<Crew>, table: &Table) -> PortResult<Retried> {
    some(crew, table, Some(WAITING), None, u64::MAX).await.map(|(tried, _)| tried)
}

/// What trying again gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Rows tried.
    pub tried: u64,
    /// Of these, rows that are in the target now or gone from both sides.
    pub landed: u64,
    /// Of these, rows that are still parked.
    pub stayed: u64,
}

/// Tries parked rows of these reasons again, past `after`, until `most` were tried. Gives the last key when there may
/// be more.
pub async fn some(
    crew: &Arc<Crew>,
    table: &Table,
    reasons: Option<&[MisfitReason]>,
    mut after: Option<Key>,
    most: u64,
) -> PortResult<(Retried, Option<Key>)> {
    let mut sum = Retried::default();
    let mapping = crew.mapping(table);
    loop {
        let page = crew.ports.target.parked(table, reasons, after.as_ref(), PAGE).await?;
        let whole = page.len() == PAGE as usize;
        after = page.last().map(|r| r.key.clone());
        let candidates: Vec<Candidate> = page.iter().filter_map(|r| candidate(&mapping, r)).collect();
        let put = put(crew, table, &candidates).await?;
        sum.tried += page.len() as u64;
        sum.stayed += put.parked + put.left + (page.len() - candidates.len()) as u64;
        sum.landed += (candidates.len() as u64).saturating_sub(put.parked + put.left);
        if !whole {
            return Ok((sum, None));
        }
        if sum.tried >= most {
            return Ok((sum, after));
        }
    }
}

/// A ledger row as a key to read again; `None` when its key cannot be read.
pub(super) fn candidate(mapping: &TableMapping, row: &ParkedRow) -> Option<Candidate> {
    let item = key_item(&row.key_json)?;
    let cells = mapping.row_key(&item).unwrap_or_default();
    Some(Candidate { text: row.key.0.clone(), item, cells })
}

/// An image as an upsert.
pub fn upsert(mapping: &TableMapping, image: &Item<'_>) -> Result<RowChange, Misfit> {
    map_image(mapping, image).map(|(key, key_json, row, children)| RowChange::Upsert { key, key_json, row, children })
}

/// Key attributes from the ledger's JSON.
pub fn key_item(json: &str) -> Option<Item<'static>> {
    let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    let attrs = parsed
        .into_iter()
        .map(|(name, typed)| {
            let (kind, value) = typed.as_object()?.iter().next()?;
            let text = value.as_str()?.to_owned();
            let attr = match kind.as_str() {
                "S" => Attr::Str(text.into()),
                "N" => Attr::Num(text.into()),
                "B" => {
                    use base64::Engine as _;
                    Attr::Bin(base64::engine::general_purpose::STANDARD.decode(text).ok()?.into())
                }
                _ => return None,
            };
            Some((name.into(), attr))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Item { attrs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_the_ledger() {
        let item = key_item(r#"{"a":{"S":"x"},"n":{"N":"1.5"},"b":{"B":"AAE="}}"#).unwrap();
        assert_eq!(item.get("a"), Some(&Attr::Str("x".into())));
        assert_eq!(item.get("n"), Some(&Attr::Num("1.5".into())));
        assert_eq!(item.get("b"), Some(&Attr::Bin(vec![0, 1].into())));
        assert_eq!(key_item("not json"), None);
    }
}
