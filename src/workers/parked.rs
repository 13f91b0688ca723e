//! Rows that could not be carried: counted from the ledger, and tried again when their parent may have come.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crew::Crew;
use super::follow::map_image;
use crate::domain::mapping::{Misfit, MisfitReason, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::{Attr, Item};
use crate::ports::{ChangeBatch, ParkedRow, PortResult, RowChange};

/// Most rows tried again at a time.
const BATCH: u32 = 500;

/// Puts the ledger's counts on the board.
pub async fn count(crew: &Arc<Crew>, table: &Table) -> PortResult<()> {
    let (parked, expired) = crew.ports.target.ledger(table).await?;
    let parked: BTreeMap<String, u64> = parked.into_iter().map(|(r, n)| (r.name().to_owned(), n)).collect();
    crew.board.table(&table.id, |g| {
        g.parked = parked;
        g.expired = expired;
    });
    Ok(())
}

/// Reads rows that wait for a parent (or met a unique value since moved) again from the source and applies what
/// they are now. Later changes of the same keys follow in the stream, so nothing newer is overwritten for good.
pub async fn retry(crew: &Arc<Crew>, table: &Table) -> PortResult<usize> {
    let waiting: Vec<ParkedRow> = crew
        .ports
        .target
        .parked(table, BATCH)
        .await?
        .into_iter()
        .filter(|r| matches!(r.misfit.reason, MisfitReason::ForeignKey | MisfitReason::DuplicateUnique))
        .collect();
    let keyed: Vec<(ParkedRow, Item<'static>)> =
        waiting.into_iter().filter_map(|r| key_item(&r.key_json).map(|k| (r, k))).collect();
    if keyed.is_empty() {
        return Ok(0);
    }
    let mapping = crew.mapping(table);
    let keys: Vec<Item<'static>> = keyed.iter().map(|(_, k)| k.clone()).collect();
    let images = crew.ports.source.get(table, &keys).await?;
    let rows: Vec<RowChange> = keyed
        .into_iter()
        .zip(images)
        .map(|((row, key), image)| match image {
            Some(image) => {
                upsert(&mapping, &image).unwrap_or_else(|misfit| RowChange::Park(ParkedRow { misfit, ..row }))
            }
            None => match mapping.row_key(&key) {
                Ok(row_key) => RowChange::Delete { key: row.key, key_json: row.key_json, row_key },
                Err(misfit) => RowChange::Park(ParkedRow { misfit, ..row }),
            },
        })
        .collect();
    let tried = rows.len();
    let applied = crew.ports.target.apply(table, ChangeBatch { rows, ..ChangeBatch::default() }).await?;
    Ok(tried - applied.parked.len())
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
