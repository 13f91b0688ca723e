//! Watching the old side after customers left it: whatever is written there and not by us is a stray write.

use std::sync::Arc;

use super::context::WorkerContext;
use crate::domain::mapping::{TableMapping, item_digest};
use crate::domain::plan::Table;
use crate::domain::run::Event;
use crate::domain::value::Key;
use crate::ports::{Change, ChangeKind, PortResult};

/// Keys named in one fact.
const LISTED: usize = 20;

/// Images that changes left behind, without markers and without what TTL removed: that nobody wrote.
pub fn images(mapping: &TableMapping, changes: &[Change]) -> Vec<(Key, u128)> {
    changes
        .iter()
        .filter(|c| c.marker(mapping).is_none() && c.kind != (ChangeKind::Remove { expired: true }))
        .map(|c| {
            let key = mapping.key(&c.key).map_or_else(|_| Key("?".to_owned()), |(key, _)| key);
            (key, item_digest(c.image.as_ref()))
        })
        .collect()
}

/// Reports the writes that were not ours: in the measurements, and as a fact before the stream's position moves past
/// them.
pub async fn report(ctx: &Arc<WorkerContext>, table: &Table, images: &[(Key, u128)]) -> PortResult<()> {
    if images.is_empty() || ctx.standing().rolling_back {
        return Ok(());
    }
    let ours = match ctx.reverse_ports() {
        Some(ports) if ports.outbox.armed(std::slice::from_ref(table)).await? => {
            ports.outbox.own_writes(table, images).await?
        }
        _ => vec![false; images.len()],
    };
    let strays: Vec<&Key> = images.iter().zip(ours).filter(|(_, ours)| !ours).map(|((key, _), _)| key).collect();
    // A rollback that was ordered meanwhile lets customers write there.
    let Some(last) = strays.last().filter(|_| !ctx.standing().rolling_back) else { return Ok(()) };
    ctx.latest.put(|m| {
        let gauge = m.reverse.tables.entry(table.id.clone()).or_default();
        gauge.strays += strays.len() as u64;
        gauge.stray_key = Some(last.0.clone());
    });
    let mut keys: Vec<String> = strays.iter().map(|k| k.0.clone()).collect();
    keys.dedup();
    keys.truncate(LISTED);
    let event = Event::StrayWrites { table: table.id.clone(), count: strays.len() as u64, keys };
    if let Err(e) = ctx.facts.state(event).await {
        tracing::error!(table = %table.id, error = %e, "stray writes were not recorded");
    }
    Ok(())
}
