//! What is to be done to the item of one key: worked out from what was captured, what stands there, and what a reverse
//! applier that died had signed. Asks nobody.

use super::Way;
use crate::domain::mapping::{ItemChange, Resolution, ReverseChange, RowError, RowErrorReason, Winner, item_digest};
use crate::domain::value::{Key, Record};
use crate::ports::{OutboxChange, OwnWrite, Unfinished};

/// Where a change goes.
pub(super) struct Address {
    /// The item's key.
    pub key: Record<'static>,
    /// The key in words, under which images are signed and records cleared.
    pub named: Key,
}

/// What is to be done.
pub(super) struct Decided {
    /// The change.
    pub change: ItemChange,
    /// How it meets what the old side has done.
    pub resolution: Resolution,
    /// The image it leaves, to be signed before it is written; nothing where nothing is to be done.
    pub own: Option<OwnWrite>,
}

/// The item of a captured change.
///
/// # Errors
/// Why the change is no item's, in words.
pub(super) fn address(way: &Way, change: &OutboxChange) -> Result<Address, String> {
    if let Some(columns) = &change.absent {
        return Err(format!("it was written while there was no column {columns}: what it held is not known"));
    }
    let words = |row_error: RowError| row_error.to_string();
    let key = way.inverse.key(&change.key).map_err(words)?;
    // An item whose key does not lead to this very row belongs to another one, or was never moved here and is parked.
    if way.mapping.row_key(&key).map_err(words)? != change.key {
        return Err(words(RowError::new("-", RowErrorReason::KeyForm)));
    }
    let named = way.mapping.key(&key).map(|(key, _)| key).unwrap_or_else(|_| super::name(way, change));
    Ok(Address { key, named })
}

/// Whether what was signed of the key has to be known to decide: not where the item says what its row said before, and
/// there is no state in between.
pub(super) fn asks(way: &Way, change: &OutboxChange, item: Option<&Record<'static>>) -> bool {
    let first = change.states.first().and_then(Option::as_ref);
    change.states.len() > 2 || !way.inverse.says(first, item)
}

/// Works it out. `signed` is what was signed of the key, where [`asks`] said that it has to be known.
///
/// # Errors
/// The column whose value no attribute can hold.
pub(super) fn decide(
    way: &Way,
    change: &OutboxChange,
    named: &Key,
    item: Option<&Record<'static>>,
    signed: &[Unfinished],
    winner: Winner,
) -> Result<Decided, RowError> {
    let begun = began(way, change, item, signed);
    // Only what that reverse applier wrote can be ours: a customer's value may well equal another state of the row.
    let left = begun.and_then(|found| change.state_after(found.record));
    let ReverseChange { change: wanted, resolution } =
        way.inverse.carry(&change.key, &change.states, item, left, winner)?;
    // What the reverse applier that died had found is known only from its record.
    let resolution = begun.map_or(resolution, |found| found.resolution.max(resolution));
    let digest = match &wanted {
        ItemChange::Nothing => None,
        ItemChange::Write(write) => Some(item_digest(Some(&write.after))),
        ItemChange::Delete { .. } => Some(item_digest(None)),
    };
    let record = change.records.last().copied().unwrap_or_default();
    let own = digest.map(|digest| OwnWrite { key: named.clone(), digest, record, resolution });
    Ok(Decided { change: wanted, resolution, own })
}

/// Which image a reverse applier left in this item before it died: the item is that image still, or shows that it was
/// and that a customer wrote other fields since.
fn began(
    way: &Way,
    change: &OutboxChange,
    item: Option<&Record<'static>>,
    signed: &[Unfinished],
) -> Option<Unfinished> {
    let digest = item_digest(item);
    let shows = |found: &&Unfinished| {
        (change.state_after(found.record)).is_some_and(|state| way.inverse.shows(&change.states, state, item))
    };
    let whole = signed.iter().rfind(|found| found.digest == digest);
    whole.or_else(|| signed.iter().rfind(shows)).copied()
}
