//! The oracle against a store, value by value, by rules of its own.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::model::{Kind, Record, plain};
use super::oracle::{Comparison, Oracle};
use super::sides::{Dynamo, Postgres};

/// Prefix of the console's markers, which are nobody's records.
const MARKER: &str = "cutover-marker-";

/// Compares with the old side.
pub async fn with_old(oracle: &Oracle, side: &Dynamo) -> Result<Comparison, String> {
    let mut all = BTreeMap::new();
    for kind in [Kind::Book, Kind::User, Kind::Order] {
        all.insert(kind, side.all(kind).await?);
    }
    Ok(compare(oracle, &all, &BTreeSet::new(), false))
}

/// Compares with the new side; `parked` rows must be absent there.
pub async fn with_new(oracle: &Oracle, side: &Postgres, parked: &BTreeSet<Uuid>) -> Result<Comparison, String> {
    let mut all = BTreeMap::new();
    for kind in [Kind::Book, Kind::User, Kind::Order] {
        all.insert(kind, side.all(kind).await?);
    }
    Ok(compare(oracle, &all, parked, true))
}

type Rows = BTreeMap<Kind, BTreeMap<String, Option<Record>>>;

fn compare(oracle: &Oracle, rows: &Rows, parked: &BTreeSet<Uuid>, new: bool) -> Comparison {
    let known = oracle.all();
    let mut out = Comparison::default();
    for ((kind, id), k) in &known {
        out.checked += 1;
        let found = rows.get(kind).and_then(|r| r.get(&id.to_string()));
        let found = match found {
            None => None,
            // A row that is there but cannot be read as a record is not what was written.
            Some(None) => {
                out.lost.push(format!("{kind:?} {id}: unreadable"));
                continue;
            }
            Some(Some(record)) => Some(record),
        };
        if parked.contains(id) && found.is_none() {
            out.parked += 1;
            continue;
        }
        out.unknown += usize::from(!k.maybe.is_empty());
        let right = |state: &Option<Record>| same(state.as_ref(), found, new);
        if !right(&k.acked) && !k.maybe.iter().any(right) {
            let what = match (&k.acked, found) {
                (Some(_), None) => "is missing",
                (None, Some(_)) => "was deleted, but is there",
                _ => "differs",
            };
            out.lost.push(format!("{kind:?} {id} {what}"));
        }
    }
    for (kind, rows) in rows {
        for id in rows.keys().filter(|id| !id.starts_with(MARKER)) {
            let ours = id.parse().is_ok_and(|id: Uuid| known.contains_key(&(*kind, id)));
            if !ours {
                out.extra.push(format!("{kind:?} {id}"));
            }
        }
    }
    out
}

/// Whether a row holds what was written, given what the new side makes of absent values.
fn same(wanted: Option<&Record>, found: Option<&Record>, new: bool) -> bool {
    match (wanted, found) {
        (None, None) => true,
        (Some(Record::Book(a)), Some(Record::Book(b))) => {
            let mut a = a.clone();
            let mut b = b.clone();
            a.price = plain(&a.price);
            b.price = plain(&b.price);
            if new {
                a.category.get_or_insert_with(|| "General".to_owned());
            }
            a == b
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::seed::Seeder;
    use super::*;

    fn rows(records: &[Record]) -> Rows {
        let mut rows = Rows::new();
        for r in records {
            rows.entry(r.kind()).or_default().insert(r.id().to_string(), Some(r.clone()));
        }
        rows
    }

    #[test]
    fn lost_extra_and_changed_rows_are_named() {
        let mut seeder = Seeder::new(1);
        let (a, b, c) = (seeder.book(Some(1)), seeder.book(Some(1)), seeder.book(Some(1)));
        let oracle = Oracle::default();
        oracle.acked(Record::Book(a.clone()));
        oracle.acked(Record::Book(b.clone()));
        let same = compare(&oracle, &rows(&[Record::Book(a.clone()), Record::Book(b.clone())]), &BTreeSet::new(), false);
        assert_eq!((same.lost.len(), same.extra.len(), same.checked), (0, 0, 2));
        let mut changed = b.clone();
        changed.stock += 1;
        let broken = rows(&[Record::Book(changed), Record::Book(c)]);
        let found = compare(&oracle, &broken, &BTreeSet::new(), false);
        assert_eq!((found.lost.len(), found.extra.len()), (2, 1), "{found}");
        oracle.deleted(Kind::Book, a.id);
        let found = compare(&oracle, &rows(&[Record::Book(a), Record::Book(b)]), &BTreeSet::new(), false);
        assert_eq!(found.lost.len(), 1, "a deleted row that is there is a lost delete");
    }

    #[test]
    fn either_outcome_of_an_unknown_write_is_right() {
        let mut seeder = Seeder::new(1);
        let before = seeder.book(Some(1));
        let mut after = before.clone();
        after.stock += 1;
        let oracle = Oracle::default();
        oracle.acked(Record::Book(before.clone()));
        oracle.unknown(Kind::Book, before.id, Some(Record::Book(after.clone())));
        for state in [before, after] {
            let found = compare(&oracle, &rows(&[Record::Book(state)]), &BTreeSet::new(), false);
            assert!(found.lost.is_empty());
        }
    }
}
