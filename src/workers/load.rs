//! Bulk load: segments of a scan through the mapping into the target's bulk path (FEATURES A1, A12, A14).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::crew::Crew;
use super::pace::{ReadBudget, pause};
use super::trouble::{cancelled, evidence, not_recorded, step_error, world};
use crate::domain::gauge::Phase;
use crate::domain::mapping::Mapped;
use crate::domain::plan::Table;
use crate::domain::run::{Event, Evidence, StepError};
use crate::domain::value::Key;
use crate::ports::{Bulk, Checkpoint, PageEnd, ParkedRow, Partition, PortError};

/// A segment's buffer is written once it holds this much.
const FLUSH_BYTES: usize = 2 * 1024 * 1024;
/// Attempts at one segment without progress before the step fails.
const ATTEMPTS: u32 = 8;

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

/// Loads every table, parents first, each from where its checkpoints stand.
pub async fn perform(crew: &Arc<Crew>, cancel: &CancellationToken) -> Result<Vec<Evidence>, StepError> {
    let budget = Arc::clone(&crew.budget);
    let mut found = Vec::new();
    for table in in_order(&crew.plan.tables) {
        found.push(one(crew, table, &budget, cancel).await?);
    }
    Ok(found)
}

async fn one(
    crew: &Arc<Crew>,
    table: &Table,
    budget: &Arc<ReadBudget>,
    cancel: &CancellationToken,
) -> Result<Evidence, StepError> {
    let target = &crew.ports.target;
    if target.positions(table).await.map_err(|e| step_error(&e))?.is_none() {
        return Err(world(
            format!("{}: no stream position is recorded, so changes made during the load would be lost", table.id),
            "run the capture step first",
        ));
    }
    let began = crew.mono();
    let known = target.checkpoints(table).await.map_err(|e| step_error(&e))?;
    // A table is read in as many segments as it was begun with: cursors belong to their segment.
    let of = known.first().map_or(crew.plan.load.segments.max(1), |c| c.part.of);
    crew.board.table(&table.id, |g| {
        g.phase = Phase::Loading;
        g.loaded = known.iter().map(|c| c.rows).sum();
        g.segments = (known.iter().filter(|c| c.done).count() as u32, of);
    });
    let mut segments = JoinSet::new();
    for index in 0..of {
        let part = Partition { index, of };
        if known.iter().any(|c| c.part == part && c.done) {
            continue;
        }
        let segment = Segment { crew: Arc::clone(crew), table: table.clone(), part, budget: Arc::clone(budget) };
        segments.spawn(segment.load());
    }
    loop {
        let ended = tokio::select! {
            () = cancel.cancelled() => return Err(cancelled()),
            ended = segments.join_next() => ended,
        };
        match ended {
            None => break,
            Some(Ok(result)) => result?,
            Some(Err(e)) => return Err(world(format!("a load worker stopped: {e}"), "see cutover.log")),
        }
        crew.board.table(&table.id, |g| g.segments.0 += 1);
    }
    target.finish_load(table).await.map_err(|e| step_error(&e))?;
    let checkpoints = target.checkpoints(table).await.map_err(|e| step_error(&e))?;
    if checkpoints.len() != of as usize || checkpoints.iter().any(|c| !c.done) {
        return Err(world(format!("{}: not every segment is at its end", table.id), "start the step again"));
    }
    let rows: u64 = checkpoints.iter().map(|c| c.rows).sum();
    let (parked, _) = target.ledger(table).await.map_err(|e| step_error(&e))?;
    let parked: BTreeMap<String, u64> = parked.into_iter().map(|(r, n)| (r.name().to_owned(), n)).collect();
    let total: u64 = parked.values().sum();
    crew.board.table(&table.id, |g| {
        g.phase = Phase::Loaded;
        g.loaded = rows;
        g.rate = 0.0;
        g.parked.clone_from(&parked);
        g.parked_at = crew.wall();
    });
    let took_ms = crew.mono() - began;
    let loaded = Event::TableLoaded { table: table.id.clone(), rows, parked, took_ms };
    crew.facts.state(loaded).await.map_err(|e| not_recorded(&e))?;
    Ok(evidence(
        format!("loaded {}", table.id),
        format!("{rows} rows, {total} parked, {of} segments"),
        crew.wall(),
        "cutover.load_checkpoint",
    ))
}

/// One segment's way through.
struct Segment {
    crew: Arc<Crew>,
    table: Table,
    part: Partition,
    budget: Arc<ReadBudget>,
}

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
        let mut attempt = 0;
        let mut progress = None;
        loop {
            let error = match self.go().await {
                Ok(()) => {
                    self.trouble(None);
                    return Ok(());
                }
                Err(error) => error,
            };
            let now = self.stored().await.ok().map(|c| (c.rows, c.parked));
            if now.is_some() && now != progress {
                attempt = 0;
                progress = now;
            }
            attempt += 1;
            if !error.kind.transient() || attempt > ATTEMPTS {
                return Err(step_error(&error));
            }
            self.trouble(Some(&error));
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    fn trouble(&self, error: Option<&PortError>) {
        self.crew.board.table(&self.table.id, |g| {
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
        let all = self.crew.ports.target.checkpoints(&self.table).await?;
        Ok(all.into_iter().find(|c| c.part == self.part).unwrap_or(Checkpoint {
            part: self.part,
            cursor: None,
            rows: 0,
            parked: 0,
            done: false,
        }))
    }

    async fn go(&self) -> Result<(), PortError> {
        let crew = &self.crew;
        let mut at = self.stored().await?;
        if at.done {
            return Ok(());
        }
        let mut bulk = crew.ports.target.bulk(&self.table, self.part).await?;
        let mut waiting: Vec<ParkedRow> = Vec::new();
        let mut rows = 0;
        loop {
            crew.unpaused().await;
            let permit = crew.load_permits.acquire().await;
            crew.board.put(|m| m.workers.0 += 1);
            let page = async {
                self.budget.wait().await;
                crew.ports.source.page(&self.table, self.part, at.cursor.as_ref()).await
            };
            let page = page.await;
            let decoded = page.and_then(|page| self.decode(&page, bulk.as_mut()));
            crew.board.put(|m| m.workers.0 -= 1);
            drop(permit);
            let decoded = decoded?;
            if let Some(units) = decoded.end.capacity {
                self.budget.spend(units).await;
            }
            rows += decoded.rows;
            waiting.extend(decoded.parked);
            let done = decoded.end.next.is_none();
            at.cursor = decoded.end.next;
            if done || bulk.buffered() >= FLUSH_BYTES {
                let found = waiting.len() as u64;
                at.rows += rows;
                at.parked += found;
                at.done = done;
                let applied = bulk.flush(std::mem::take(&mut waiting), &at).await?;
                // Rows the target refused one by one were counted as rows above.
                let refused = applied.parked.len() as u64;
                at.rows -= refused;
                at.parked += refused;
                crew.board.table(&self.table.id, |g| {
                    g.loaded += rows - refused;
                    g.trouble = None;
                    for row in &applied.parked {
                        *g.parked.entry(row.misfit.reason.name().to_owned()).or_default() += 1;
                    }
                });
                rows = 0;
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Parses a page once and encodes its rows straight into the bulk buffer.
    fn decode(&self, page: &crate::ports::Page, bulk: &mut dyn Bulk) -> Result<Decoded, PortError> {
        let mapping = self.crew.mapping(&self.table);
        let mut out = Decoded::default();
        let mut failed = None;
        {
            let mut mapped = Mapped::default();
            out.end = self.crew.ports.source.read(page, &mut |item| {
                if failed.is_some() || mapping.marker(item).is_some() {
                    return;
                }
                match mapping.map(item, &mut mapped) {
                    Ok(()) => match bulk.push(&mapped) {
                        Ok(()) => out.rows += 1,
                        Err(e) => failed = Some(e),
                    },
                    Err(misfit) => out.parked.push(ParkedRow {
                        table: self.table.id.clone(),
                        key: Key(mapped.key.clone()),
                        misfit,
                        key_json: mapped.key_json.clone(),
                    }),
                }
            })?;
        }
        self.crew.board.table(&self.table.id, |g| {
            for row in &out.parked {
                *g.parked.entry(row.misfit.reason.name().to_owned()).or_default() += 1;
            }
        });
        failed.map_or(Ok(out), Err)
    }
}
