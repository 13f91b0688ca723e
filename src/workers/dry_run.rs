//! A dry run of a table's load: records are read, mapped and encoded as the load does it, and nothing is written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use super::context::Ports;
use super::load::UNDER_WAY;
use super::pace::ReadBudget;
use super::pages::read_page;
use crate::domain::at::At;
use crate::domain::mapping::{Found, Mapped, TableMapping, TableProfile};
use crate::domain::plan::{Plan, StoreKind, Table};
use crate::domain::verify::Ttl;
use crate::ports::{
    Cursor, ErrorKind, Page, PageEnd, Partition, PortError, PortResult, RowEncoder, Source, SourceTable,
};

/// Parts of a table that a sample is taken from.
const PARTS: u32 = 8;

/// How much of a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// About this many records, spread over the table.
    Sample(u64),
    /// Every record.
    Whole,
}

/// What a dry run found of one table.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The table's id.
    pub table: String,
    /// What its records would become.
    pub profile: TableProfile,
    /// Whether every record was looked at.
    pub whole: bool,
    /// Records whose TTL is over for so long that DynamoDB never removes them; absent where the table has no TTL.
    pub never_expire: Option<NeverExpire>,
    /// What the source says of the table.
    pub source: SourceTable,
    /// What kind of store the rows would go to.
    pub to: StoreKind,
    /// Read units that were spent; absent where the store sells none.
    pub units: Option<f64>,
    /// How long reading and judging took, in milliseconds.
    pub took_ms: i64,
    /// Bytes that came from the source.
    pub bytes: u64,
}

/// Records past a TTL that never removes them: it is over for more than five years.
#[derive(Clone, Debug)]
pub struct NeverExpire {
    /// The attribute with the time.
    pub attribute: String,
    /// How many, and the keys of the first ones.
    pub found: Found,
    /// How many records were looked at.
    pub of: u64,
}

/// How far a dry run of a table has come.
#[derive(Debug, Default)]
pub struct DryRunProgress {
    /// Records looked at.
    pub records: AtomicU64,
    /// Bytes that came from the source.
    pub bytes: AtomicU64,
}

/// Everything that reads one table.
struct Reading {
    table: Table,
    source: Arc<dyn Source>,
    mapping: TableMapping,
    profile: Mutex<TableProfile>,
    /// The table's TTL where it has one, the moment it is held against, and what will never expire.
    ttl: Option<(Ttl, At)>,
    never_expire: Mutex<Found>,
    budget: Arc<ReadBudget>,
    progress: Arc<DryRunProgress>,
}

/// Which records of a page are looked at: this many of so many, evenly.
#[derive(Clone, Copy)]
struct Share {
    taken: u64,
    of: u64,
}

impl Share {
    const ALL: Self = Self { taken: 1, of: 1 };

    /// Whether the record at this place is one of them.
    const fn has(self, place: u64) -> bool {
        self.of > 0 && (place + 1) * self.taken / self.of != place * self.taken / self.of
    }
}

impl Reading {
    async fn page(&self, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page> {
        let page = read_page(&*self.source, &self.table, part, cursor, &self.budget).await?;
        self.progress.bytes.fetch_add(page.body.len() as u64, Ordering::Relaxed);
        Ok(page)
    }

    /// Looks at records of a page.
    fn look(&self, page: &Page, share: Share, encoder: &mut dyn RowEncoder) -> PortResult<PageEnd> {
        let mut profile = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut mapped, mut place, mut looked) = (Mapped::default(), 0, 0);
        let end = self.source.read(page, &mut |item| {
            if self.mapping.marker(item).is_some() {
                return;
            }
            place += 1;
            if !share.has(place - 1) {
                return;
            }
            looked += 1;
            let judged = self.mapping.map(item, &mut mapped).and_then(|()| encoder.encode(&mapped));
            if self.ttl.as_ref().is_some_and(|(ttl, now)| ttl.item_never_expires(item, *now)) {
                self.never_expire.lock().unwrap_or_else(PoisonError::into_inner).note(&mapped.key);
            }
            profile.look(item, &mapped, judged);
        })?;
        self.progress.records.fetch_add(looked, Ordering::Relaxed);
        Ok(end)
    }

    /// Records of a page that are no markers, and where to read on.
    fn count(&self, page: &Page) -> PortResult<(u64, PageEnd)> {
        let mut records = 0;
        let end = self.source.read(page, &mut |item| records += u64::from(self.mapping.marker(item).is_none()))?;
        Ok((records, end))
    }
}

/// Reads a table and says what its load would do with it. Writes nothing anywhere.
///
/// # Errors
/// The source does not answer, or refuses.
pub async fn dry_run(
    plan: &Plan,
    ports: &Ports,
    table: &Table,
    extent: Extent,
    budget: &Arc<ReadBudget>,
    progress: &Arc<DryRunProgress>,
) -> PortResult<DryRun> {
    let source = Arc::clone(ports.source(table));
    let described = source.describe(table).await?;
    let began = ports.clock.mono_ms();
    let reading = Arc::new(Reading {
        table: table.clone(),
        mapping: TableMapping::new(table),
        profile: Mutex::new(TableProfile::new(table)),
        ttl: described.ttl.as_deref().map(|attribute| (Ttl::new(table, attribute), ports.clock.wall())),
        never_expire: Mutex::default(),
        budget: Arc::clone(budget),
        progress: Arc::clone(progress),
        source,
    });
    let (whole, units) = match extent {
        Extent::Whole => {
            let of = plan.load.segments_of(described.bytes);
            (true, all(&reading, ports, of, plan.load.workers).await?)
        }
        Extent::Sample(records) => sample(&reading, ports, records).await?,
    };
    let profile = reading.profile.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let never_expire = described.ttl.clone().map(|attribute| NeverExpire {
        attribute,
        found: reading.never_expire.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        of: profile.records(),
    });
    Ok(DryRun {
        table: table.id.clone(),
        profile,
        whole,
        never_expire,
        source: described,
        to: plan.kind(&table.to),
        units,
        took_ms: ports.clock.mono_ms() - began,
        bytes: progress.bytes.load(Ordering::Relaxed),
    })
}

/// Adds what a page cost.
fn add(units: &mut Option<f64>, end: &PageEnd) {
    if let Some(cost) = end.capacity {
        *units = Some(units.unwrap_or(0.0) + cost);
    }
}

/// Every record, several segments at a time, as many as the load has workers.
async fn all(reading: &Arc<Reading>, ports: &Ports, of: u32, workers: u32) -> PortResult<Option<f64>> {
    let most = (workers.max(1) as usize).min(UNDER_WAY);
    let mut left = (0..of).map(|index| Partition { index, of });
    let (mut segments, mut units) = (JoinSet::new(), None);
    loop {
        while segments.len() < most
            && let Some(part) = left.next()
        {
            let encoder = ports.target.encoder(&reading.table)?;
            segments.spawn(segment(Arc::clone(reading), part, encoder));
        }
        let cost: Option<f64> = match segments.join_next().await {
            None => return Ok(units),
            Some(Ok(cost)) => cost?,
            Some(Err(e)) => {
                let why = format!("a reader stopped: {e}");
                return Err(PortError::new(ErrorKind::Internal, "read", &reading.table.source, why));
            }
        };
        units = cost.map(|cost| units.unwrap_or(0.0) + cost).or(units);
    }
}

async fn segment(reading: Arc<Reading>, part: Partition, mut encoder: Box<dyn RowEncoder>) -> PortResult<Option<f64>> {
    let (mut cursor, mut units) = (None, None);
    loop {
        let page = reading.page(part, cursor.as_ref()).await?;
        let end = reading.look(&page, Share::ALL, encoder.as_mut())?;
        add(&mut units, &end);
        if let Some(cost) = end.capacity {
            reading.budget.spend(cost);
        }
        cursor = match end.next {
            Some(next) => Some(next),
            None => return Ok(units),
        };
    }
}

/// About so many records: of the first page of each part an even share, and of later pages only where these are not
/// enough. Says whether that was every record.
async fn sample(reading: &Reading, ports: &Ports, wanted: u64) -> PortResult<(bool, Option<f64>)> {
    let mut encoder = ports.target.encoder(&reading.table)?;
    let (mut left, mut units, mut whole) = (wanted, None, true);
    let mut at: Vec<(Partition, Option<Cursor>)> =
        (0..PARTS).map(|index| (Partition { index, of: PARTS }, None)).collect();
    while !at.is_empty() && left > 0 {
        let mut pages = Vec::with_capacity(at.len());
        for (part, cursor) in at.drain(..) {
            let page = reading.page(part, cursor.as_ref()).await?;
            let (records, end) = reading.count(&page)?;
            add(&mut units, &end);
            if let Some(cost) = end.capacity {
                reading.budget.spend(cost);
            }
            pages.push((records, page, part, end.next));
        }
        // The pages with the fewest records first, so that what they lack is taken from the others.
        pages.sort_by_key(|(records, ..)| *records);
        let mut waiting = pages.len() as u64;
        for (records, page, part, next) in pages {
            let taken = left.div_ceil(waiting).min(records);
            waiting -= 1;
            left -= taken;
            whole &= taken == records;
            if records > 0 {
                reading.look(&page, Share { taken, of: records }, encoder.as_mut())?;
            }
            at.extend(next.map(|next| (part, Some(next))));
        }
    }
    Ok((whole && at.is_empty(), units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_page_is_as_many_records_as_it_says_and_spread_over_it() {
        for of in [1, 2, 7, 100, 1_000] {
            for taken in [0, 1, 2, 7, 99, of].into_iter().filter(|taken| *taken <= of) {
                let places: Vec<u64> = (0..of).filter(|place| Share { taken, of }.has(*place)).collect();
                assert_eq!(places.len() as u64, taken, "{taken} of {of}");
                let gaps = places.windows(2).map(|two| two[1] - two[0]);
                assert!(gaps.max().is_none_or(|most| most <= of.div_ceil(taken)), "{taken} of {of}: {places:?}");
            }
        }
    }
}
