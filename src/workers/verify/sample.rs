//! A quick check: some keys of either side, field by field. It finds what is wrong everywhere and proves nothing.

use std::collections::HashSet;
use std::sync::Arc;

use super::pass::{Compared, subject};
use super::settle::settle;
use super::sides::candidate_of_row;
use crate::domain::mapping::read_key;
use crate::domain::plan::Table;
use crate::domain::value::Cell;
use crate::ports::{Partition, PortResult};
use crate::workers::context::WorkerContext;

/// Places of each side that are sampled.
const PLACES: u32 = 8;
/// DynamoDB's own limit of segments.
const SEGMENTS: u64 = 1_000_000;

/// Compares about `wanted` keys, taken from a few random places of either side.
///
/// # Errors
/// What reading either side gave.
pub async fn sample(ctx: &Arc<WorkerContext>, table: &Table, wanted: u64) -> PortResult<Compared> {
    let began = ctx.mono();
    let (subject, ttl) = subject(ctx, table).await?;
    let (source, target) = (ctx.ports.source(table), &ctx.ports.target);
    let rows = target.count(table, false).await?.rows.unwrap_or(0);
    let rows = rows.max(source.describe(table).await?.count.rows.unwrap_or(0)).max(1);
    let each = (wanted / u64::from(PLACES)).max(1);
    // Small enough parts that a few of them hold what is wanted; one part when everything is.
    let of = u32::try_from((rows / each).clamp(1, SEGMENTS)).unwrap_or(1);
    let mut places: Vec<u32> = (0..PLACES).map(|_| fastrand::u32(0..of)).collect();
    if of <= PLACES {
        places = (0..of).collect();
    }
    places.sort_unstable();
    places.dedup();
    let (mut candidates, mut named) = (Vec::new(), HashSet::new());
    for index in places {
        let part = Partition { index, of };
        let page = source.page(table, part, None).await?;
        let mut items = Vec::new();
        source.read(&page, &mut |item| {
            if subject.mapping.marker(item).is_none() && (items.len() as u64) < each {
                items.extend(subject.mapping.key(item).ok());
            }
        })?;
        for (key, json) in items {
            if let (true, Some(item)) = (named.insert(key.0.clone()), read_key(&json)) {
                let cells = subject.mapping.row_key(&item).unwrap_or_default();
                candidates.push(super::Candidate { text: key.0, item, cells });
            }
        }
        let mut there = Vec::new();
        let mut row = |row: &[Cell<'_>]| {
            if (there.len() as u64) < each {
                there.push(subject.keys.cells(row));
            }
        };
        target.scan_part(table, None, part, &mut row).await?;
        let there = there.into_iter().filter_map(|cells| candidate_of_row(&subject, cells));
        candidates.extend(there.filter(|c| named.insert(c.text.clone())));
    }
    let mut out = Compared::default();
    for (candidate, verdict) in settle(&subject, ttl.as_ref(), candidates).await? {
        out.count(&subject, candidate, verdict);
    }
    out.summary.took_ms = ctx.mono() - began;
    Ok(out)
}
