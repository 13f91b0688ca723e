//! Bulk load: segments of a scan through the mapping into the target's bulk path (FEATURES A1, A12, A14).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::context::WorkerContext;
use super::movers;
use super::pace::{ReadBudget, pause};
use super::rate::{self, Doing};
use super::trouble::{cancelled, evidence, not_recorded, step_error, world};
use crate::domain::gauge::Phase;
use crate::domain::mapping::Mapped;
use crate::domain::plan::{Step, Table};
use crate::domain::run::{Event, Evidence, Level, StepError};
use crate::domain::value::Key;
use crate::ports::{Bulk, Checkpoint, ErrorKind, FullRead, PageEnd, ParkedRow, Partition, PortError};

/// Bytes of encoded rows that all segments of a table together may hold.
const BUFFERS: usize = 32 * 1024 * 1024;
/// Least and most that a segment writes at once: under a megabyte the commits cost more than the rows, and above
/// eight nothing is gained.
const FLUSH: (usize, usize) = (1024 * 1024, 8 * 1024 * 1024);
/// Segments of a table under way at the same time, and so buffers, however many there are.
pub(super) const UNDER_WAY: usize = 16;
/// Attempts at one segment without progress before the step fails.
const ATTEMPTS: u32 = 8;
/// Parked rows that wait for the rows beside them before both are sent.
const MOST_WAITING: usize = 10_000;

/// Tables with the ones they refer to first. References that go round in a circle keep the plan's order.
pub fn in_order(tables: &[Table]) -> Vec<&Table> {
    let mut done: Vec<&Table> = Vec::with_capacity(tables.len());
    while done.len() < tables.len() {
        let next = tables.iter().filter(|t| !done.iter().any(|d| d.id == t.id)).find(|t| {
            t.foreign_keys.iter().all(|fk| fk.references == t.id || done.iter().any(|d| d.id == fk.references))
        });
        let next = next.or_else(|| tables.iter().find(|t| !done.iter().any(|d| d.id == t.id)));
        let Some(next) = next else { break };
        done.push(next);
    }
    done
}

/// Loads every table, parents first, each from where its checkpoints stand. What others copy is begun first, and waited for
/// at the end.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    cancel: &CancellationToken,
) -> Result<Vec<Evidence>, StepError> {
    movers::started(ctx, step, attempt).await?;
    let budget = Arc::clone(&ctx.limits.budget);
    let mut found = Vec::new();
    for table in in_order(&ctx.plan.tables).into_iter().filter(|table| table.mover.is_none()) {
        found.push(one(ctx, table, &budget, cancel).await?);
    }
    found.extend(movers::loaded(ctx, cancel).await?);
    Ok(found)
}

async fn one(
    ctx: &Arc<WorkerContext>,
    table: &Table,
    budget: &Arc<ReadBudget>,
    cancel: &CancellationToken,
) -> Result<Evidence, StepError> {
    let target = &ctx.ports.target;
    if target.positions(table).await.map_err(|e| step_error(&e))?.is_none() {
        return Err(world(
            format!("{}: no stream position is recorded, so changes made during the load would be lost", table.id),
            "run the capture step first",
        ));
    }
    let began = ctx.mono();
    // A database keeps its keys apart itself.
    let unique = ctx.plan.kind(&table.from).of_columns();
    let deferred = target.begin_load(table, ctx.plan.load.defer_indexes, unique).await.map_err(|e| step_error(&e))?;
    if !deferred.is_empty() {
        let names: Vec<&str> = deferred.iter().map(|i| i.name.as_str()).collect();
        tracing::info!(table = %table.id, indexes = ?names, "set aside until the rows are in");
    }
    let known = target.checkpoints(table).await.map_err(|e| step_error(&e))?;
    if known.is_empty() {
        ctx.ports.source(table).begin_load(table).await.map_err(|e| step_error(&e))?;
    }
    target.load_reads(table, ctx.wall()).await.map_err(|e| step_error(&e))?;
    // A table is read in as many segments as it was begun with: cursors belong to their segment.
    let of = match (known.first(), ctx.plan.load.segments) {
        (Some(begun), _) => begun.part.of,
        (None, Some(segments)) => segments.max(1),
        (None, None) => {
            let source = ctx.ports.source(table).describe(table).await.map_err(|e| step_error(&e))?;
            ctx.plan.load.segments_of(source.bytes)
        }
    };
    ctx.latest.table(&table.id, |g| {
        g.phase = Phase::Loading;
        g.loaded = known.iter().map(|c| c.rows).sum();
        g.moved_at = ctx.wall();
        g.reading = 0;
        g.segments = (known.iter().filter(|c| c.done).count() as u32, of);
    });
    let shared = Arc::new(table.clone());
    let read = Arc::new(AtomicU64::new(0));
    let under_way = (of as usize).min(UNDER_WAY.max(ctx.plan.load.workers as usize));
    let to_do = (0..of).map(|index| Partition { index, of });
    let to_do = to_do.filter(|part| !known.iter().any(|c| c.part == *part && c.done));
    let mut to_do = to_do.map(|part| Segment {
        ctx: Arc::clone(ctx),
        table: Arc::clone(&shared),
        part,
        budget: Arc::clone(budget),
        read_rows: Arc::clone(&read),
        // Each segment has one buffer that fills and one on its way.
        flush_bytes: (BUFFERS / (2 * under_way)).clamp(FLUSH.0, FLUSH.1),
    });
    let mut segments = JoinSet::new();
    let rate = rate::watch(ctx, table, Arc::clone(&read));
    loop {
        while segments.len() < under_way
            && let Some(segment) = to_do.next()
        {
            segments.spawn(segment.load());
        }
        let ended = tokio::select! {
            () = cancel.cancelled() => return Err(cancelled()),
            ended = segments.join_next() => ended,
        };
        match ended {
            None => break,
            Some(Ok(result)) => result?,
            Some(Err(e)) => return Err(world(format!("a load worker stopped: {e}"), "see cutover.log")),
        }
        ctx.latest.table(&table.id, |g| g.segments.0 += 1);
    }
    drop(rate);
    ctx.ports.source(table).end_load(table).await.map_err(|e| step_error(&e))?;
    let aside = target.set_aside(table).await.map_err(|e| step_error(&e))?.len();
    // A table is not loaded before its indexes are back: what follows finds rows by them.
    let doing = match aside {
        0 => "takes statistics".to_owned(),
        n => format!("builds {n} indexes, takes statistics"),
    };
    let doing = Doing::start(ctx, table, doing);
    tokio::select! {
        () = cancel.cancelled() => return Err(cancelled()),
        done = target.finish_load(table) => done.map_err(|e| step_error(&e))?,
    }
    drop(doing);
    let checkpoints = target.checkpoints(table).await.map_err(|e| step_error(&e))?;
    if !Checkpoint::are_whole(&checkpoints) {
        return Err(world(format!("{}: not every segment is at its end", table.id), "start the step again"));
    }
    let rows: u64 = checkpoints.iter().map(|c| c.rows).sum();
    let (parked, _) = target.ledger(table).await.map_err(|e| step_error(&e))?;
    let parked: BTreeMap<String, u64> = parked.into_iter().map(|(r, n)| (r.name().to_owned(), n)).collect();
    let total: u64 = parked.values().sum();
    note_read(ctx, table, &checkpoints).await.map_err(|e| step_error(&e))?;
    ctx.latest.table(&table.id, |g| {
        g.phase = Phase::Loaded;
        g.loaded = rows;
        g.rate = 0.0;
        g.reading = 0;
        g.held_back = None;
        g.parked.clone_from(&parked);
        g.parked_at = ctx.wall();
    });
    let took_ms = ctx.mono() - began;
    let loaded = Event::TableLoaded { table: table.id.clone(), rows, parked, took_ms };
    ctx.facts.state(loaded).await.map_err(|e| not_recorded(&e))?;
    let built = if aside == 0 { String::new() } else { format!(", {aside} indexes built after") };
    Ok(evidence(
        format!("loaded {}", table.id),
        format!("{rows} rows, {total} parked, {of} segments{built}"),
        ctx.wall(),
        "cutover.load_checkpoint",
    ))
}

/// What the load read of the source is its first count; a load that had ended before has noted it.
async fn note_read(ctx: &Arc<WorkerContext>, table: &Table, checkpoints: &[Checkpoint]) -> Result<(), PortError> {
    if ctx.ports.target.source_count(table).await?.is_some() {
        return Ok(());
    }
    let items = checkpoints.iter().map(|c| c.rows + c.parked).sum();
    ctx.ports.target.full_read(table, FullRead { items, began: None, ended: ctx.wall() }).await
}

/// One segment's way through.
struct Segment {
    ctx: Arc<WorkerContext>,
    table: Arc<Table>,
    part: Partition,
    budget: Arc<ReadBudget>,
    /// Rows of the table read so far, for the rate.
    read_rows: Arc<AtomicU64>,
    flush_bytes: usize,
}

/// How often a segment was tried without progress.
#[derive(Debug, Default)]
struct Patience {
    attempt: u32,
    /// Rows of the segment, and of the whole table, when it last failed.
    rows: Option<(u64, u64)>,
}

impl Patience {
    /// After an error of this kind the segment and the whole table stand at so many rows.
    fn saw(&mut self, kind: ErrorKind, own: u64, whole: u64) {
        let before = self.rows.replace((own, whole));
        // Segments share what a store gives: one that gets nothing of it waits as long as others get something.
        let moved = match (kind, before) {
            (_, None) => true,
            (ErrorKind::Throttled, Some(before)) => before != (own, whole),
            (_, Some((before, _))) => before != own,
        };
        if moved {
            self.attempt = 0;
        }
    }

    /// The number of the next attempt, from 1.
    const fn next(&mut self) -> u32 {
        self.attempt += 1;
        self.attempt
    }
}

/// A buffer on its way into the target; it is returned empty, with the number of rows that were refused.
/// When the segment is dropped, so is this.
type Landing = AbortOnDropHandle<Result<(Box<dyn Bulk>, u64), PortError>>;

/// What one page gave.
#[derive(Default)]
struct Decoded {
    end: PageEnd,
    rows: u64,
    parked: Vec<ParkedRow>,
}

impl Segment {
    /// Loads to the end, starting over from the stored checkpoint after each trouble that may pass.
    async fn load(self) -> Result<(), StepError> {
        let mut patience = Patience::default();
        loop {
            let error = match self.go().await {
                Ok(()) => {
                    self.trouble(None);
                    return Ok(());
                }
                Err(error) => error,
            };
            if let Ok(all) = self.ctx.ports.target.checkpoints(&self.table).await {
                let rows = |c: &Checkpoint| c.rows + c.parked;
                let own = all.iter().filter(|c| c.part == self.part).map(rows).sum();
                patience.saw(error.kind, own, all.iter().map(rows).sum());
            }
            let attempt = patience.next();
            let lost = error.kind == ErrorKind::Rewound;
            if !(error.kind.transient() || lost) || attempt > ATTEMPTS {
                return Err(step_error(&error));
            }
            if lost {
                self.tell_lost().await;
            }
            self.trouble(Some(&error));
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    /// Reports that rows were lost and are read again: nobody would search for them otherwise.
    async fn tell_lost(&self) {
        let text = format!(
            "the target of {} went back to an earlier state: a failover lost transactions; segment {} is loaded anew from \
             where it stands now",
            self.table.id,
            self.part.index + 1
        );
        let note = Event::Note { level: Level::Warn, source: "load".to_owned(), text };
        if let Err(e) = self.ctx.facts.state(note).await {
            tracing::error!(table = %self.table.id, error = %e, "lost transactions were not recorded");
        }
    }

    fn trouble(&self, error: Option<&PortError>) {
        self.ctx.latest.table(&self.table.id, |g| {
            g.phase = if error.is_some() { Phase::Retrying } else { Phase::Loading };
            g.trouble = error.map(|e| format!("segment {}: {e}", self.part.index + 1));
            g.retries += u64::from(error.is_some());
        });
        if let Some(error) = error {
            tracing::warn!(table = %self.table.id, segment = self.part.index, %error, "load retries");
        }
    }

    /// Where this segment stands, as stored beside its rows.
    async fn stored(&self) -> Result<Checkpoint, PortError> {
        let all = self.ctx.ports.target.checkpoints(&self.table).await?;
        Ok(all.into_iter().find(|c| c.part == self.part).unwrap_or(Checkpoint {
            part: self.part,
            cursor: None,
            rows: 0,
            parked: 0,
            done: false,
        }))
    }

    /// Reads from the stored checkpoint to the end. One buffer fills while the one before it is on its way; they
    /// land one after the other, so a checkpoint never runs ahead of its rows.
    async fn go(&self) -> Result<(), PortError> {
        let mut landing = None;
        let read = self.read(&mut landing).await;
        match landing {
            // What is on its way is waited for even after an error: the next attempt reads the checkpoint it leaves.
            Some(last) => landed(last).await.and(read),
            None => read,
        }
    }

    async fn read(&self, landing: &mut Option<Landing>) -> Result<(), PortError> {
        let ctx = &self.ctx;
        let mut at = self.stored().await?;
        if at.done {
            return Ok(());
        }
        let mut stored = at.cursor.clone();
        let mut bulk = ctx.ports.target.bulk(&self.table, self.part).await?;
        let mut spare = Some(ctx.ports.target.bulk(&self.table, self.part).await?);
        let mut waiting: Vec<ParkedRow> = Vec::new();
        let mut rows = 0;
        loop {
            ctx.unpaused().await;
            let permit = ctx.limits.permits.acquire().await;
            ctx.latest.put(|m| {
                m.workers.0 += 1;
                m.tables.entry(self.table.id.clone()).or_default().reading += 1;
            });
            let page = async {
                self.budget.wait().await;
                ctx.ports.source(&self.table).page(&self.table, self.part, at.cursor.as_ref()).await
            };
            let page = page.await;
            let page_bytes = page.as_ref().map_or(0, |page| page.body.len());
            let decoded = page.and_then(|page| self.decode(&page, bulk.as_mut()));
            ctx.latest.put(|m| {
                m.workers.0 -= 1;
                let gauge = m.tables.entry(self.table.id.clone()).or_default();
                gauge.reading = gauge.reading.saturating_sub(1);
            });
            drop(permit);
            let decoded = decoded?;
            if let Some(units) = decoded.end.capacity {
                self.budget.spend(units);
            }
            rows += decoded.rows;
            waiting.extend(decoded.parked);
            let done = decoded.end.next.is_none();
            at.cursor = decoded.end.next;
            // While nothing is on its way the target waits for us; otherwise larger is cheaper.
            let idle = landing.as_ref().is_none_or(AbortOnDropHandle::is_finished);
            let enough = if idle { FLUSH.0 } else { self.flush_bytes };
            // Filled up, not over: pages of a database are as large as a buffer.
            if !done && bulk.buffered() + page_bytes <= enough && waiting.len() < MOST_WAITING {
                continue;
            }
            if let Some(before) = landing.take() {
                let (empty, refused) = landed(before).await?;
                // Rows the target refused one by one were counted as rows.
                at.rows -= refused;
                at.parked += refused;
                spare = Some(empty);
            }
            at.rows += rows;
            at.parked += waiting.len() as u64;
            at.done = done;
            let mut full = match spare.take() {
                Some(empty) => std::mem::replace(&mut bulk, empty),
                None => return Err(self.broken("a buffer is missing")),
            };
            full.goes_on_from(std::mem::replace(&mut stored, at.cursor.clone()));
            *landing = Some(self.land(full, std::mem::take(&mut waiting), at.clone(), rows));
            rows = 0;
            if done {
                return Ok(());
            }
        }
    }

    /// Sends a full buffer on its way.
    fn land(&self, mut bulk: Box<dyn Bulk>, parked: Vec<ParkedRow>, at: Checkpoint, rows: u64) -> Landing {
        let (ctx, table) = (Arc::clone(&self.ctx), Arc::clone(&self.table));
        AbortOnDropHandle::new(tokio::spawn(async move {
            let applied = bulk.flush(parked, &at).await?;
            let refused = applied.parked.len() as u64;
            ctx.latest.table(&table.id, |g| {
                g.loaded += rows - refused;
                g.moved_at = ctx.wall();
                g.trouble = None;
                for row in &applied.parked {
                    *g.parked.entry(row.row_error.reason.name().to_owned()).or_default() += 1;
                }
            });
            Ok((bulk, refused))
        }))
    }

    fn broken(&self, what: &str) -> PortError {
        PortError::new(ErrorKind::Internal, "load", &self.table.id, what)
    }

    /// Parses a page once and encodes its rows straight into the bulk buffer.
    fn decode(&self, page: &crate::ports::Page, bulk: &mut dyn Bulk) -> Result<Decoded, PortError> {
        let mapping = self.ctx.mapping(&self.table);
        let mut out = Decoded::default();
        let mut failed = None;
        let source = self.ctx.ports.source(&self.table);
        let copied = match source.copied(page) {
            Some(rows) => bulk.push_copied(&rows)?.map(|taken| (taken, rows.end)),
            None => None,
        };
        if let Some((rows, end)) = copied {
            (out.rows, out.end) = (rows, end);
        } else {
            let mut mapped = Mapped::default();
            out.end = source.read(page, &mut |item| {
                if failed.is_some() || mapping.marker(item).is_some() {
                    return;
                }
                match mapping.map(item, &mut mapped) {
                    Ok(()) => match bulk.push(&mapped) {
                        Ok(()) => out.rows += 1,
                        Err(e) => failed = Some(e),
                    },
                    Err(row_error) => out.parked.push(ParkedRow {
                        table: self.table.id.clone(),
                        key: Key(mapped.key.clone()),
                        row_error,
                        key_json: mapped.key_json.clone(),
                    }),
                }
            })?;
        }
        self.read_rows.fetch_add(out.rows + out.parked.len() as u64, Ordering::Relaxed);
        self.ctx.latest.table(&self.table.id, |g| {
            g.moved_at = self.ctx.wall();
            for row in &out.parked {
                *g.parked.entry(row.row_error.reason.name().to_owned()).or_default() += 1;
            }
        });
        failed.map_or(Ok(out), Err)
    }
}

/// Waits for a buffer to have landed.
async fn landed(landing: Landing) -> Result<(Box<dyn Bulk>, u64), PortError> {
    landing.await.unwrap_or_else(|e| {
        Err(PortError::new(ErrorKind::Internal, "load", "a segment", format!("its writer stopped: {e}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_segment_is_patient_as_long_as_the_table_gets_anything() {
        let mut patience = Patience::default();
        for n in 0..50 {
            patience.saw(ErrorKind::Throttled, 0, n);
            assert_eq!(patience.next(), 1, "others got something through");
        }
        let stuck: Vec<u32> = (0..3)
            .map(|_| {
                patience.saw(ErrorKind::Throttled, 0, 49);
                patience.next()
            })
            .collect();
        assert_eq!(stuck, [2, 3, 4], "nobody did");
        // Any other trouble is the segment's own, whatever the others do.
        patience.saw(ErrorKind::Unreachable, 0, 60);
        assert_eq!(patience.next(), 5);
        patience.saw(ErrorKind::Unreachable, 1, 60);
        assert_eq!(patience.next(), 1);
    }
}
