//! Many keys at once: read together, signed together, written in one call of the store and cleared together. What holds
//! of one key by itself holds of each of them, in the same order: an image is signed before it is written, it is written
//! only over what was read, and its records go only once it is acknowledged.
//!
//! A key that cannot be written among the others is left to be written by itself.

use super::decide::{Address, Decided, address, asks, decide};
use super::{Applying, Done, WRITE, clear, gone_back, late};
use crate::domain::mapping::{Resolution, item_digest};
use crate::domain::value::{Key, Record};
use crate::ports::{Cleared, ErrorKind, InBatch, OutboxChange, PortError, PortResult};

/// What became of a batch.
#[derive(Default)]
pub(super) struct Applied<'c> {
    /// Keys with what became of them.
    pub done: Vec<(&'c OutboxChange, Done)>,
    /// Keys to be written by themselves.
    pub apart: Vec<&'c OutboxChange>,
    /// What stopped the rest.
    pub trouble: Option<PortError>,
}

/// A key of the batch with its item.
struct One<'c> {
    change: &'c OutboxChange,
    address: Address,
    item: Option<Record<'static>>,
}

/// Keys that are acknowledged, or found to say already what they should, with how they met the other side.
type Carried<'c> = Vec<(&'c OutboxChange, Key, Resolution)>;

/// Applies these keys.
pub(super) async fn apply<'c>(of: &Applying<'_>, changes: &[&'c OutboxChange]) -> Applied<'c> {
    let mut applied = Applied::default();
    let mut carried = Carried::new();
    if let Err(e) = write(of, changes, &mut applied, &mut carried).await {
        applied.trouble = Some(e);
    }
    let gone = carried.iter().map(|(change, named, how)| Cleared::of(named, &change.records, *how));
    let gone: Vec<Cleared> = gone.collect();
    match clear(of.taken, &gone).await {
        Ok(()) => applied.done.extend(carried.into_iter().map(|(change, _, how)| (change, Done::Carried(how)))),
        Err(e) => applied.trouble = Some(e),
    }
    applied
}

/// Writes what is to be written of them.
async fn write<'c>(
    of: &Applying<'_>,
    changes: &[&'c OutboxChange],
    applied: &mut Applied<'c>,
    carried: &mut Carried<'c>,
) -> PortResult<()> {
    let (mut wanted, mut own, mut each) = (Vec::new(), Vec::new(), Vec::new());
    for (one, decided) in decided(of, changes, applied).await? {
        match decided.own {
            None => carried.push((one.change, one.address.named, decided.resolution)),
            Some(image) => {
                own.push(image);
                wanted.push(decided.change);
                each.push((one, decided.resolution));
            }
        }
    }
    if own.is_empty() {
        return Ok(());
    }
    // Stored before any is written: after a crash in between our own writes must not be taken for stray ones.
    if of.taken.record_own_writes(&own).await? && !of.taken.rolled_back() {
        return Err(gone_back(of.table));
    }
    // Given up before the turn can be lost, as one by itself.
    let items = of.ports.items.of(of.table);
    let written = tokio::time::timeout(WRITE, items.write_batch(of.table, &wanted)).await;
    match written.unwrap_or_else(|_| Err(late(of.table))) {
        Ok(outcomes) => {
            for ((one, resolution), outcome) in each.into_iter().zip(outcomes) {
                match outcome {
                    InBatch::Written => carried.push((one.change, one.address.named, resolution)),
                    InBatch::Apart => applied.apart.push(one.change),
                    InBatch::Refused(why) => applied.done.push((one.change, Done::refused(&why))),
                }
            }
            Ok(())
        }
        Err(e) if e.kind == ErrorKind::Invalid => {
            applied.apart.extend(each.into_iter().map(|(one, _)| one.change));
            Ok(())
        }
        // Some may have been written: see what stands there, as of one by itself.
        Err(e) if e.kind.transient() => {
            let keys: Vec<Record<'static>> = each.iter().map(|(one, _)| one.address.key.clone()).collect();
            let stands = items.read_batch(of.table, &keys).await?;
            for (((one, resolution), own), item) in each.into_iter().zip(own).zip(stands) {
                if item_digest(item.as_ref()) == own.digest {
                    carried.push((one.change, one.address.named, resolution));
                }
            }
            Err(e)
        }
        Err(e) => Err(e),
    }
}

/// What is to be done to each of them; those that are no item's, or that no item can hold, are done with.
async fn decided<'c>(
    of: &Applying<'_>,
    changes: &[&'c OutboxChange],
    applied: &mut Applied<'c>,
) -> PortResult<Vec<(One<'c>, Decided)>> {
    let Applying { table, way, .. } = of;
    let mut placed = Vec::new();
    for change in changes {
        match address(way, change) {
            Ok(address) => placed.push((*change, address)),
            Err(why) => applied.done.push((change, Done::Unfit(why))),
        }
    }
    let keys: Vec<Record<'static>> = placed.iter().map(|(_, address)| address.key.clone()).collect();
    let items = match of.ports.items.of(table).read_batch(table, &keys).await {
        Ok(items) => items,
        // One of the keys is none that the store takes: by itself it is known which.
        Err(e) if e.kind == ErrorKind::Invalid => {
            applied.apart.extend(placed.into_iter().map(|(change, _)| change));
            return Ok(Vec::new());
        }
        Err(e) => return Err(e),
    };
    let all: Vec<One<'c>> =
        placed.into_iter().zip(items).map(|((change, address), item)| One { change, address, item }).collect();
    let asked: Vec<bool> = all.iter().map(|one| asks(way, one.change, one.item.as_ref())).collect();
    let names: Vec<Key> =
        all.iter().zip(&asked).filter(|(_, asked)| **asked).map(|(one, _)| one.address.named.clone()).collect();
    let found = if names.is_empty() { Vec::new() } else { of.taken.unfinished(&names).await? };
    let (mut found, mut each) = (found.into_iter(), Vec::new());
    for (one, asked) in all.into_iter().zip(asked) {
        let signed = if asked { found.next().unwrap_or_default() } else { Vec::new() };
        match decide(way, one.change, &one.address.named, one.item.as_ref(), &signed, (of.rule)()) {
            Ok(decided) => each.push((one, decided)),
            Err(row_error) => applied.done.push((one.change, Done::Unfit(row_error.to_string()))),
        }
    }
    Ok(each)
}
