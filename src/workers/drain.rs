//! The drain proof: everything written before the freeze has arrived.
//!
//! First every transaction has to end that was open at the freeze and had written anything. Then markers with fresh
//! nonces go through the fenced path, more of them until every open shard has received one, and are read back from the
//! target; then two whole poll cycles that began after them, over a shard list that was made after them, found nothing
//! more. A shard that receives no marker counts only after five such poll cycles. A follower that is paused, stalled,
//! throttled or cut off makes no poll cycles, so it cannot be taken for drained.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use super::context::{TableWork, WorkerContext};
use super::marker::on_the_wire;
use super::pace::pause;
use super::parked;
use super::sequences;
use super::source_columns;
use super::trouble::{evidence, not_recorded, step_error, too_late, world};
use crate::domain::gauge::Phase;
use crate::domain::plan::{Step, Table};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, RunState, StepError};
use crate::ports::{OpenWrite, PortResult, SequenceScan, first_open};

/// How long a drain may take before writes are allowed again on the old side.
const PATIENCE_MS: i64 = 60_000;
/// How many markers of a table are removed side by side, and how long that may take for all of them: a stop waits for it.
const DELETES: usize = 8;
const DELETING: Duration = Duration::from_secs(30);

/// Proves the drain of every table at the same time, and then that nobody could write meanwhile.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    ctx.ensure_following();
    nobody_writes(ctx).await?;
    let proofs = ctx.plan.tables.iter().map(|table| one(ctx, step, attempt, table));
    let found = futures::future::try_join_all(proofs).await?;
    let mut found: Vec<Evidence> = found.into_iter().flatten().collect();
    // Each table has tried what waits once; what waits for rows of another table may need more rounds.
    if let Err(e) = parked::settle(ctx).await {
        tracing::warn!(error = %e, "rows that wait in the ledger were not tried again");
    }
    source_columns::still_fit(ctx).await?;
    if state.frozen(&ctx.plan) {
        found.extend(super::freeze::still_frozen(ctx, state).await?);
    }
    super::appeared::none(&ctx.plan, &ctx.ports).await?;
    found.extend(super::references::fill(ctx).await?);
    // Every id of the old side has arrived; from the switch on the target gives out its own.
    found.extend(sequences::advance(ctx, step, attempt, SequenceScan::Indexed).await?);
    // Last: a key that closes a circle would hold back what is followed, should the freeze be taken back.
    found.extend(super::references::prove(ctx, true).await?);
    Ok(found)
}

/// Waits until every transaction has ended that was open at the freeze and had written anything: what it writes would
/// stand behind the markers.
async fn nobody_writes(ctx: &Arc<WorkerContext>) -> Result<(), StepError> {
    let moving = ctx.plan.tables.iter().map(|table| table.from.as_str()).collect::<BTreeSet<_>>();
    let ended = moving.into_iter().map(|store| nobody_writes_in(ctx, store));
    futures::future::try_join_all(ended).await.map(drop)
}

async fn nobody_writes_in(ctx: &Arc<WorkerContext>, store: &str) -> Result<(), StepError> {
    let (began, mut first) = (ctx.mono(), None::<Vec<OpenWrite>>);
    loop {
        let waited = match ctx.ports.sources.named(store).open_writes().await {
            Ok(now) => {
                let open = first.get_or_insert_with(|| now.clone());
                let Some(open) = first_open(open, &now) else { return Ok(()) };
                format!("a transaction of a customer has not ended: {}", open.words)
            }
            Err(e) if e.kind.transient() => e.to_string(),
            Err(e) => return Err(step_error(&e)),
        };
        if ctx.mono() - began >= PATIENCE_MS {
            return Err(too_late(
                format!("after {} s {waited}", PATIENCE_MS / 1000),
                "writes go back to the old side; end it or wait for it, then try again another time",
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn one(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32, table: &Table) -> Result<Vec<Evidence>, StepError> {
    let nonce = uuid::Uuid::new_v4().to_string();
    let id = format!("{}/{}/{attempt}", step.id, table.id);
    let action = Action::WriteMarker { table: table.id.clone(), nonce: nonce.clone() };
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let mut drain = Drain { ctx, table, began: ctx.mono(), nonces: BTreeSet::new() };
    let proof = drain.prove(nonce.clone()).await;
    let result = match &proof {
        Ok(_) => OutcomeResult::Done { read_back: nonce, version: None },
        Err(e) => OutcomeResult::Unknown { error: e.message.clone() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    drop(drain);
    let proof = proof?;
    ctx.latest.table(&table.id, |g| g.phase = Phase::Drained);
    let at = ctx.wall();
    let cycles = format!("{} empty, begun after the markers", proof.cycles);
    // A log has no shards.
    if table.mover.is_some() || !ctx.plan.kind(&table.from).markers_are_rows() {
        let of =
            if table.mover.is_some() { "what the source confirmed to its mover" } else { "the log, to where it ended" };
        return Ok(vec![
            evidence(format!("marker {}", table.id), format!("read back after {}ms", proof.took), at, "cutover.marker"),
            evidence(format!("readings {}", table.id), cycles, at, of),
        ]);
    }
    Ok(vec![
        evidence(format!("marker {}", table.id), format!("read back after {}ms", proof.took), at, "cutover.marker"),
        evidence(format!("shards {}", table.id), proof.shards, at, "markers by the shard they came through"),
        evidence(format!("poll cycles {}", table.id), cycles, at, "GetRecords on every open shard"),
    ])
}

/// What proves that a table is drained.
struct Proof {
    /// From the first marker's write to the last one's read-back, in milliseconds.
    took: i64,
    /// How many open shards received a marker.
    shards: String,
    /// Empty poll cycles after that.
    cycles: u32,
}

/// One table's drain under way. However it ends, cancelled too, its markers are removed.
struct Drain<'d> {
    ctx: &'d Arc<WorkerContext>,
    table: &'d Table,
    began: i64,
    /// Markers written since the fence.
    nonces: BTreeSet<String>,
}

impl Drain<'_> {
    async fn prove(&mut self, first: String) -> Result<Proof, StepError> {
        let progress = self.ctx.progress(&self.table.id);
        let started = self.ctx.mono();
        let mut written = self.mark(first).await?;
        let (_, mut unproven) = progress.unproven(&self.nonces);
        // Keys spread over shards by their hash: with this many more, almost certainly each of them receives one.
        for _ in 0..8 {
            if unproven == 0 {
                break;
            }
            for _ in 0..(2 * unproven).min(64) {
                written = self.mark(uuid::Uuid::new_v4().to_string()).await?;
            }
            (_, unproven) = progress.unproven(&self.nonces);
        }
        let took = self.ctx.mono() - started;
        let (mut after, mut cycles) = (written, 1);
        let (open, unproven) = loop {
            // Shards may be listed meanwhile that no marker of before came through.
            let (open, unproven) = progress.unproven(&self.nonces);
            if cycles >= if unproven == 0 { 2 } else { 5 } {
                break (open, unproven);
            }
            after = self.cycle_after(after).await?;
            cycles += 1;
        };
        // Rows that wait for their parent are tried a last time: nothing new comes.
        self.patiently("retry parked rows", || parked::retry_all(self.ctx, self.table)).await?;
        self.cycle_after(after).await?;
        self.patiently("count the ledger", || parked::count(self.ctx, self.table)).await?;
        let shards = format!("{} of {open} open shards carried a marker", open - unproven);
        Ok(Proof { took, shards, cycles })
    }

    /// Writes a marker and waits until it is read back from the target; gives the time it was written.
    async fn mark(&mut self, nonce: String) -> Result<i64, StepError> {
        self.nonces.insert(nonce.clone());
        let (ctx, table) = (self.ctx, self.table);
        self.patiently("write a marker", || ctx.ports.source(table).put_marker(table, &nonce)).await?;
        let written = ctx.mono();
        while self.patiently("read the marker", || ctx.ports.target.marker(table, &nonce)).await?.is_none() {
            self.waited("its marker has not arrived")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if table.mover.is_some() {
            // All changes of a mover come by one way, in the order of their commits.
            ctx.progress(&table.id).marked(vec![(nonce, table.id.clone())]);
        }
        Ok(written)
    }

    /// Waits for an empty poll cycle whose listing and reads began after `after`; gives the time its reads began.
    async fn cycle_after(&self, after: i64) -> Result<i64, StepError> {
        let Some(known) = self.ctx.table(&self.table.id) else {
            return Err(too_late(format!("{}: nobody follows it", self.table.id), "this is a bug; roll back"));
        };
        let mut cycles = known.cycles.subscribe();
        loop {
            let cycle = *cycles.borrow_and_update();
            if cycle.empty && cycle.listed_mono > after && cycle.began_mono > after {
                return Ok(cycle.began_mono);
            }
            self.waited("its stream has not been read to the end")?;
            let _ = tokio::time::timeout(Duration::from_millis(500), cycles.changed()).await;
        }
    }

    /// Tries until it works or patience is over: one throttle must not take a freeze back.
    async fn patiently<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T, StepError>
    where
        F: Future<Output = PortResult<T>>,
    {
        let mut tries = 0;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(e) if e.kind.transient() => {
                    tracing::warn!(table = %self.table.id, error = %e, "drain: could not {what}, trying again");
                    self.waited(&e.to_string())?;
                    tries += 1;
                    tokio::time::sleep(pause(tries).min(Duration::from_secs(1))).await;
                }
                Err(e) => return Err(step_error(&e)),
            }
        }
    }

    fn waited(&self, what: &str) -> Result<(), StepError> {
        if let Some(why) = self.ctx.table(&self.table.id).and_then(TableWork::ended) {
            return Err(world(why.to_owned(), "continuity is lost; writes go back to the old side; open a new run"));
        }
        if self.ctx.mono() - self.began < PATIENCE_MS {
            return Ok(());
        }
        let trouble = self.ctx.latest.table(&self.table.id, |g| g.trouble.clone());
        let trouble = trouble.unwrap_or_else(|| "no trouble is known".to_owned());
        Err(too_late(
            format!("{}: {what} in {} s ({trouble})", self.table.id, PATIENCE_MS / 1000),
            "writes go back to the old side; see the table's trouble, then try again another time",
        ))
    }
}

impl Drop for Drain<'_> {
    /// Removes its markers, without keeping customers waiting; one that stays is no harm, it is never taken for a row.
    fn drop(&mut self) {
        // Where the process is going down, nobody removes anything any more.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (ctx, table, nonces) = (Arc::clone(self.ctx), self.table.clone(), std::mem::take(&mut self.nonces));
        // Nobody waits for it but a stop.
        drop(self.ctx.tasks.finish(async move {
            let all = nonces.len();
            let mut removed = 0;
            let gone = stream::iter(nonces).map(|nonce| {
                let (ctx, table) = (&ctx, &table);
                async move { on_the_wire(ctx.ports.source(table).delete_marker(table, &nonce)).await }
            });
            let mut gone = std::pin::pin!(gone.buffer_unordered(DELETES));
            let each = async {
                while let Some(deleted) = gone.next().await {
                    match deleted {
                        Ok(()) => removed += 1,
                        Err(e) => tracing::warn!(table = %table.id, error = %e, "drain marker not removed"),
                    }
                }
            };
            if tokio::time::timeout(DELETING, each).await.is_err() {
                tracing::warn!(table = %table.id, left = all - removed, "drain markers were not removed in time");
            }
        }));
    }
}
