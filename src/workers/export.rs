//! Reading tables whole, as lines of text for an export.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::load::UNDER_WAY;
use super::pace::ReadBudget;
use super::pages::read_page;
use crate::domain::mapping::{TableMapping, typed_record};
use crate::domain::plan::Table;
use crate::ports::{Cursor, ErrorKind, Partition, PointInTime, PortError, PortResult, Source};

/// Records as lines, on their way to a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportLines {
    /// One JSON object for each record, each followed by a line break.
    pub lines: Vec<u8>,
    /// How many.
    pub records: u64,
}

/// Where lines go. Whoever takes them has ended when they cannot be sent any more.
pub type ExportSink = mpsc::Sender<ExportLines>;

/// How a table is read.
#[derive(Clone, Copy, Debug)]
pub struct ExportPace {
    /// Segments it is read in.
    pub segments: u32,
    /// Segments under way at the same time.
    pub workers: u32,
}

/// Reads a table as it stands in a moment, from its first record to its last.
///
/// # Errors
/// The store does not answer, or nobody takes the lines any more.
pub async fn export_moment(moment: &mut dyn PointInTime, table: &Table, sink: &ExportSink) -> PortResult<()> {
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = moment.page(table, cursor.as_ref()).await?;
        give(sink, table, ExportLines { lines: page.lines, records: page.records }).await?;
        cursor = match page.next {
            Some(next) => Some(next),
            None => return Ok(()),
        };
    }
}

/// Reads a table segment by segment while it goes on changing; gives the read units that took. Each record is written in
/// the one form that keeps the type of each of its values; markers of our own are left out.
///
/// # Errors
/// The store does not answer, a record has no such form, or nobody takes the lines any more.
pub async fn export_pages(
    source: &Arc<dyn Source>,
    table: &Table,
    pace: ExportPace,
    budget: &Arc<ReadBudget>,
    sink: &ExportSink,
) -> PortResult<Option<f64>> {
    let of = pace.segments.max(1);
    let most = (pace.workers.max(1) as usize).min(UNDER_WAY);
    let mut left = (0..of).map(|index| Partition { index, of });
    let units = Arc::new(AtomicU64::new(0));
    let mut segments = JoinSet::new();
    loop {
        while segments.len() < most
            && let Some(part) = left.next()
        {
            let segment = Segment {
                source: Arc::clone(source),
                table: table.clone(),
                mapping: TableMapping::new(table),
                part,
                budget: Arc::clone(budget),
                sink: sink.clone(),
                units: Arc::clone(&units),
            };
            segments.spawn(segment.read());
        }
        match segments.join_next().await {
            None => break,
            Some(Ok(read)) => read?,
            Some(Err(e)) => {
                let why = format!("a reader stopped: {e}");
                return Err(PortError::new(ErrorKind::Internal, "read", &table.source, why));
            }
        }
    }
    let halves = units.load(Ordering::Relaxed);
    Ok((halves > 0).then_some(halves as f64 / 2.0))
}

struct Segment {
    source: Arc<dyn Source>,
    table: Table,
    mapping: TableMapping,
    part: Partition,
    budget: Arc<ReadBudget>,
    sink: ExportSink,
    /// Read units, in halves: reads that are not consistent cost half of one.
    units: Arc<AtomicU64>,
}

impl Segment {
    async fn read(self) -> PortResult<()> {
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = read_page(&*self.source, &self.table, self.part, cursor.as_ref(), &self.budget).await?;
            let (mut out, mut failed) = (ExportLines::default(), None);
            let end = self.source.read(&page, &mut |item| {
                if failed.is_some() || self.mapping.marker(item).is_some() {
                    return;
                }
                match typed_record(item) {
                    Ok(line) => {
                        out.lines.extend_from_slice(line.as_bytes());
                        out.lines.push(b'\n');
                        out.records += 1;
                    }
                    Err(reason) => {
                        let key = self.mapping.key(item).map_or_else(|_| "?".to_owned(), |(key, _)| key.0);
                        let why = format!("the record {key} cannot be written as text that keeps its types: {reason}");
                        failed = Some(PortError::new(ErrorKind::Invalid, "export", &self.table.source, why));
                    }
                }
            })?;
            if let Some(e) = failed {
                return Err(e);
            }
            if let Some(cost) = end.capacity {
                self.units.fetch_add((cost * 2.0) as u64, Ordering::Relaxed);
                self.budget.spend(cost);
            }
            give(&self.sink, &self.table, out).await?;
            cursor = match end.next {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }
}

async fn give(sink: &ExportSink, table: &Table, lines: ExportLines) -> PortResult<()> {
    if lines.records == 0 {
        return Ok(());
    }
    sink.send(lines)
        .await
        .map_err(|_| PortError::new(ErrorKind::Invalid, "export", &table.source, "its file takes no more lines"))
}
