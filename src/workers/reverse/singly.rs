//! One key by itself: read, signed, written and cleared before anything else of it is done.

use super::decide::{Decided, address, asks, decide};
use super::{ATTEMPTS, Applying, Done, WRITE, clear, gone_back, late};
use crate::domain::mapping::item_digest;
use crate::ports::{Cleared, ErrorKind, ItemOutcome, OutboxChange, PortError, PortResult};

/// Applies one key and clears its records at once: what was written and is not cleared yet when a reverse applier is
/// killed cannot be distinguished for certain from what customers set back since.
pub(super) async fn apply(of: &Applying<'_>, change: &OutboxChange) -> PortResult<Done> {
    let done = write(of, change).await?;
    if let Done::Carried(resolution) = done {
        clear(of.taken, &[Cleared::of(&super::name(of.way, change), &change.records, resolution)]).await?;
    }
    Ok(done)
}

/// Applies one key.
async fn write(of: &Applying<'_>, change: &OutboxChange) -> PortResult<Done> {
    let Applying { table, way, taken, rule, .. } = of;
    let items = of.ports.items.of(table);
    let address = match address(way, change) {
        Ok(address) => address,
        Err(why) => return Ok(Done::Unfit(why)),
    };
    for _ in 0..ATTEMPTS {
        let item = items.read(table, &address.key).await?;
        let signed = match asks(way, change, item.as_ref()) {
            true => taken.unfinished(std::slice::from_ref(&address.named)).await?.pop().unwrap_or_default(),
            false => Vec::new(),
        };
        let Decided { change: wanted, resolution, own } =
            match decide(way, change, &address.named, item.as_ref(), &signed, rule()) {
                Ok(decided) => decided,
                Err(row_error) => return Ok(Done::Unfit(row_error.to_string())),
            };
        let Some(own) = own else { return Ok(Done::Carried(resolution)) };
        // Stored before it is written: after a crash in between our own write must not be taken for a stray write.
        if taken.record_own_writes(std::slice::from_ref(&own)).await? && !taken.rolled_back() {
            return Err(gone_back(table));
        }
        // Given up before the turn can be lost: an attempt that is repeated later would go over newer writes.
        let written = tokio::time::timeout(WRITE, items.write(table, &wanted)).await;
        match written.unwrap_or_else(|_| Err(late(table))) {
            Ok(ItemOutcome::Written) => return Ok(Done::Carried(resolution)),
            Ok(ItemOutcome::Moved) => {}
            // The store cannot hold this item: trying again does not help, and others must not wait for it.
            Err(e) if e.kind == ErrorKind::Invalid => return Ok(Done::refused(&e)),
            // It may have been written. If it were taken again it would be taken for an item nobody had changed but us,
            // and the conflict would not be counted.
            Err(e) if e.kind.transient() => {
                let stands = items.read(table, &address.key).await?;
                return if item_digest(stands.as_ref()) == own.digest { Ok(Done::Carried(resolution)) } else { Err(e) };
            }
            Err(e) => return Err(e),
        }
    }
    Err(PortError::new(
        ErrorKind::Conflict,
        "carry back to",
        &table.source,
        "an item changes faster than it is written",
    )
    .advise("see who writes the old side; it is tried again by itself"))
}
