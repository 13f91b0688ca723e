//! Following changes: shard by shard, parents before children, in per-key order, with positions in the same
//! transaction as the rows (FEATURES A2, B2).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::changes::{Gathered, build};
use super::context::WorkerContext;
use super::listing::{Listed, Listing};
use super::pace::pause;
use super::parked;
use super::progress::{FollowProgress, Read};
use super::reader::{Answer, Reader, ShardRef, read};
use crate::domain::gauge::Phase;
use crate::domain::mapping::TableMapping;
use crate::domain::plan::Table;
use crate::domain::run::{Event, Level};
use crate::ports::{
    Ahead, Applied, Checkpoint, ErrorKind, Fence, Lineage, PortError, ReadFrom, refuse_rewound, rewound,
};

/// Shards of one table that are read at the same time. An answer holds a megabyte at most, so this bounds memory too.
const AT_ONCE: usize = 16;
/// Reads in an interval of a shard that gave something in the last one, while it gives nothing.
const BUSY_READS: u32 = 10;
/// How often shards are listed while nothing asks for it.
const LIST_EVERY_MS: i64 = 5_000;
/// How often rows that wait for their parent are tried again.
const RETRY_PARKED_MS: i64 = 3_000;
/// How often the ledger is counted.
const LEDGER_MS: i64 = 2_000;
/// How often it is checked whether the target still stands where it stood.
const LOOK_MS: i64 = 2_000;

/// One whole round over every shard of a table, in which every read was answered and everything read was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollCycle {
    /// Grows with every poll cycle.
    pub number: u64,
    /// Monotonic time before its shard listing.
    pub listed_mono: i64,
    /// Monotonic time before its first read.
    pub began_mono: i64,
    /// Whether no shard gave a change, and none waits for its parent.
    pub empty: bool,
}

/// Why following ended for good.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    #[error("{0}")]
    Port(#[from] PortError),
    /// A shard could not be read.
    #[error("{0}")]
    Read(PortError),
    #[error("{0}; only a new load closes the gap")]
    Gap(String),
}

/// Follows one table until the workers stops. Trouble that may pass is retried; a gap ends it with a fact, and the lag
/// is unknown from then on.
pub async fn follow(ctx: Arc<WorkerContext>, table: Table) {
    let mut attempt = 0;
    // Where the target stood when it was followed last: whatever made that end, it may stand earlier now.
    let mut before: Option<Lineage> = None;
    loop {
        let (stopped, cycles) = match Follower::open(&ctx, &table).await {
            Ok(mut follower) => {
                if let Some(before) = before.take() {
                    follower.tell_lost(&before).await;
                }
                let stopped = follower.run().await;
                before = Some(follower.lineage);
                (stopped, follower.cycles)
            }
            Err(stopped) => (stopped, 0),
        };
        let fatal = match &stopped {
            Stopped::Gap(_) => true,
            Stopped::Port(e) | Stopped::Read(e) => {
                matches!(e.kind, ErrorKind::Trimmed | ErrorKind::NotFound | ErrorKind::Invalid)
            }
        };
        tracing::warn!(table = %table.id, error = %stopped, fatal, "following stopped");
        ctx.latest.table(&table.id, |g| {
            g.phase = Phase::Retrying;
            g.trouble = Some(stopped.to_string());
            g.retries += 1;
            g.rate = 0.0;
        });
        if fatal {
            ctx.progress(&table.id).end();
            if let Some(known) = ctx.table(&table.id) {
                known.end(stopped.to_string());
            }
            ctx.latest.table(&table.id, |g| g.unfollowed = Some(ctx.wall()));
            // Whoever shows it says first who speaks.
            let text = format!("{} has ended for good: {stopped}", table.id);
            let note = Event::Note { level: Level::Error, source: "follow".to_owned(), text };
            if let Err(e) = ctx.facts.state(note).await {
                tracing::error!(table = %table.id, error = %e, "the end of following was not recorded");
            }
            return;
        }
        attempt = if cycles > 0 { 1 } else { attempt + 1 };
        tokio::time::sleep(pause(attempt)).await;
    }
}

struct Follower<'c> {
    ctx: &'c Arc<WorkerContext>,
    table: &'c Table,
    mapping: Arc<TableMapping>,
    stream: String,
    /// The right to move positions, lost when another process resumes the table.
    fence: Fence,
    /// Lanes that had landed more than the positions say when the table was resumed.
    ahead: Ahead,
    lineage: Lineage,
    listing: Listing,
    iterators: HashMap<String, String>,
    /// Shards that gave something within the last interval, each with when it did so last.
    busy: HashMap<String, Instant>,
    /// Whether the last round gave nothing.
    quiet: bool,
    /// Why a shard could not be read since the last poll cycle.
    unread: Option<ErrorKind>,
    /// Shards that are read on while what they gave is being applied.
    readers: HashMap<String, Reader>,
    /// When the last poll cycle began; without it one is due.
    swept: Option<Instant>,
    cycles: u64,
    progress: Arc<FollowProgress>,
    last_retry: i64,
    last_ledger: i64,
    last_look: i64,
    rate: (i64, u64),
}

impl<'c> Follower<'c> {
    /// Resumes where the target says the last transaction ended.
    async fn open(ctx: &'c Arc<WorkerContext>, table: &'c Table) -> Result<Self, Stopped> {
        let Some(state) = ctx.ports.target.resume_follow(table, ctx.plan.follow.lanes).await? else {
            return Err(Stopped::Gap(format!("{}: no start position is recorded", table.id)));
        };
        still_loaded(ctx, table).await?;
        Ok(Self {
            ctx,
            table,
            mapping: ctx.mapping(table),
            stream: state.stream,
            fence: state.fence,
            ahead: state.ahead,
            lineage: Lineage::new(state.positions),
            listing: Listing::default(),
            iterators: HashMap::new(),
            busy: HashMap::new(),
            quiet: true,
            unread: None,
            readers: HashMap::new(),
            swept: None,
            cycles: 0,
            progress: ctx.progress(&table.id),
            last_retry: ctx.mono(),
            last_ledger: 0,
            last_look: ctx.mono(),
            rate: (ctx.mono(), 0),
        })
    }

    async fn run(&mut self) -> Stopped {
        let poll = self.poll();
        loop {
            // Reads are counted. A shard that gave something is read on at once, one that did so not long ago after a
            // short pause, the others only once an interval.
            let rest = self.swept.map_or(Duration::ZERO, |at| poll.saturating_sub(at.elapsed()));
            match (self.busy.is_empty(), self.quiet) {
                (true, _) => tokio::time::sleep(rest).await,
                (false, true) => tokio::time::sleep(rest.min(poll / BUSY_READS)).await,
                (false, false) => {}
            }
            // The old side is watched through a pause: a stray write must not go unseen.
            while *self.ctx.limits.paused.borrow() && !self.ctx.standing().open_to_customers {
                self.ctx.latest.table(&self.table.id, |g| g.phase = Phase::Paused);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let went_on =
                if self.busy.is_empty() || rest.is_zero() { self.cycle().await } else { self.read_on().await };
            match went_on {
                Ok(()) => {}
                // What was read of the others is applied, and they go on; there is no whole poll cycle until this one
                // answers.
                Err(Stopped::Read(e)) if e.kind.transient() => self.unread(&e),
                // It was listed a moment ago and is gone: a new listing says whether anything is lost.
                Err(Stopped::Read(e)) if e.kind == ErrorKind::NotFound => {
                    self.listing.is_old();
                    self.unread(&e);
                }
                Err(stopped) => return stopped,
            }
        }
    }

    /// Lists shards when it is time, reads each readable one once, applies.
    async fn cycle(&mut self) -> Result<(), Stopped> {
        self.list().await?;
        let listed_mono = self.listing.mono;
        let (began_mono, began) = (self.ctx.mono(), Instant::now());
        let shards: Vec<String> = self.lineage.readable(&self.listing.stream).map(|s| s.id.clone()).collect();
        let whole = self.lineage.all_within_horizon(&self.listing.stream);
        self.swept = Some(began);
        let something = self.round(shards, Some(began_mono)).await?;
        self.retry_parked().await?;
        self.still_there().await?;
        self.cycles += 1;
        self.unread = None;
        let cycle = PollCycle { number: self.cycles, listed_mono, began_mono, empty: !something && whole };
        if let Some(known) = self.ctx.table(&self.table.id) {
            known.cycles.send_replace(cycle);
        }
        self.ctx.latest.table(&self.table.id, |g| {
            g.phase = Phase::Following;
            g.trouble.clone_from(&self.listing.trouble);
        });
        Ok(())
    }

    /// Reads the shards that gave something not long ago, applies. No poll cycle: it says nothing of the others.
    async fn read_on(&mut self) -> Result<(), Stopped> {
        let shards: Vec<String> = self.busy.keys().cloned().collect();
        self.round(shards, None).await.map(drop)
    }

    /// Reads each of these shards and applies what they give; with `since`, each by a read that began no earlier.
    /// `true` when there was something.
    async fn round(&mut self, shards: Vec<String>, since: Option<i64>) -> Result<bool, Stopped> {
        let ctx = Arc::clone(self.ctx);
        let mut asked = Vec::with_capacity(shards.len());
        for shard in shards {
            let from = self.lineage.read_from(&shard, ctx.wall(), ctx.ports.changes(self.table).kept());
            let from = from.map_err(|gap| Stopped::Gap(format!("{} shard {shard}: {gap}", self.table.source)));
            let (reader, iterator) = (self.readers.remove(&shard), self.iterators.get(&shard).cloned());
            asked.push((self.shard_ref(&shard), reader, iterator, from));
        }
        let reads = asked.into_iter().map(|(shard_ref, reader, iterator, from)| {
            let ctx = &ctx;
            async move {
                let mut answers = Vec::new();
                let read = gather(ctx, &shard_ref, reader, iterator, from, since, &mut answers).await;
                (shard_ref, answers, read)
            }
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut batch = Gathered::default();
        let (mut ended, mut something, mut failed) = (false, false, None);
        let most = ctx.plan.follow.batch as usize * self.fence.lanes as usize;
        while let Some((shard_ref, answers, read)) = reads.next().await {
            let goes_on = answers.last().and_then(Answer::goes_on);
            match (read, goes_on) {
                (Ok(Some(reader)), Some(_)) => drop(self.readers.insert(shard_ref.shard.clone(), reader)),
                (Ok(None), Some((last, next))) if self.readers.len() < AT_ONCE => {
                    let reader = Reader::start(&ctx, shard_ref.clone(), last, next);
                    self.readers.insert(shard_ref.shard.clone(), reader);
                }
                // A reader ends with an answer behind which nothing is known to be.
                (Ok(_), _) => {}
                // The other shards go on: one that is throttled must not keep their changes.
                (Err(stopped), _) => failed = failed.or(Some(stopped)),
            }
            if answers.iter().any(|answer| answer.goes_on().is_some()) {
                self.busy.insert(shard_ref.shard.clone(), Instant::now());
            }
            for Answer { mono, wall, batch: read } in answers {
                ended |= read.next.is_none();
                something |= !read.changes.is_empty();
                let one = Read::new(&shard_ref.shard, mono, wall, read.changes.last().map(|c| c.at));
                self.progress.read(&one);
                batch.take(&self.mapping, one, read, &mut self.iterators);
                if batch.changes.len() >= most {
                    self.apply(&mut batch).await?;
                }
            }
        }
        self.apply(&mut batch).await?;
        let poll = self.poll();
        self.busy.retain(|shard, gave| gave.elapsed() < poll && !self.lineage.finished(shard));
        self.quiet = !something;
        if let Some(stopped) = failed {
            return Err(stopped);
        }
        if ended {
            // Children of a shard that has ended may be readable now.
            self.listing.is_old();
            self.swept = None;
        }
        Ok(something || ended)
    }

    /// Says what could not be read. The lag of that shard grows by itself.
    fn unread(&mut self, e: &PortError) {
        // Once for as long as it lasts: it is tried again several times a second.
        if self.unread.replace(e.kind) != Some(e.kind) {
            tracing::warn!(table = %self.table.id, error = %e, "a shard is not read");
        }
        self.ctx.latest.table(&self.table.id, |g| {
            g.phase = Phase::Retrying;
            g.trouble = Some(e.to_string());
            g.retries += 1;
        });
    }

    /// How often a shard that gives nothing is read.
    fn poll(&self) -> Duration {
        Duration::from_millis(self.ctx.plan.follow.poll_ms.max(5))
    }

    /// Where a shard stands, for reading it.
    fn shard_ref(&self, shard: &str) -> ShardRef {
        let (store, source) = (self.table.from.clone(), self.table.source.clone());
        ShardRef { store, source, stream: self.stream.clone(), shard: shard.to_owned() }
    }

    /// A drain wants fresh listings; otherwise they are spared.
    fn list_every(&self) -> i64 {
        if self.ctx.standing().locked_out { 200 } else { LIST_EVERY_MS }
    }

    async fn list(&mut self) -> Result<(), Stopped> {
        let every = self.list_every();
        let Listed::Answered(listed, before) = self.listing.renew(self.ctx, self.table, every).await? else {
            return Ok(());
        };
        match listed {
            Some(stream) if stream.id == self.stream => {
                let kept = self.ctx.ports.changes(self.table).kept();
                if let Some(shard) = self.lineage.lost(&stream, self.ctx.wall(), kept) {
                    return Err(Stopped::Gap(format!("{}: shard {shard} was trimmed unread", self.table.source)));
                }
                (self.listing.stream, self.listing.mono) = (stream, before);
                // Durably: later nothing tells them from shards that were lost.
                let finished = self.lineage.gone(&self.listing.stream);
                if !finished.is_empty() {
                    self.apply(&mut Gathered { finished, ..Gathered::default() }).await?;
                }
                self.tell_open();
                Ok(())
            }
            Some(_) => Err(Stopped::Gap(format!("{}: the stream was replaced under us", self.table.source))),
            None => {
                let why = self.ctx.ports.changes(self.table).why_gone(&self.stream).await?;
                let why = why.unwrap_or_else(|| "the stream was turned off".to_owned());
                Err(Stopped::Gap(format!("{}: {why}", self.table.source)))
            }
        }
    }

    /// Applies what was gathered and its positions in one transaction, then keeps these positions in memory.
    async fn apply(&mut self, gathered: &mut Gathered) -> Result<(), Stopped> {
        let gathered = std::mem::take(gathered);
        if gathered.positions.is_empty() && gathered.finished.is_empty() {
            self.progress.applied(&gathered.reads);
            return Ok(());
        }
        let count = gathered.changes.len() as u64;
        let (reads, markers) = (gathered.reads.clone(), gathered.markers.clone());
        let watched = self.ctx.standing().open_to_customers;
        let images = watched.then(|| super::stray::images(&self.mapping, &gathered.changes));
        let mut batch = build(self.table, &self.mapping, gathered, self.fence, &self.ahead, &self.lineage);
        if let Some(images) = images {
            // Customers write on the new side: nothing of the old one is applied there any more.
            super::stray::report(self.ctx, self.table, &images).await?;
            batch.rows.clear();
        }
        let (positions, finished) = (batch.positions.clone(), batch.finished.clone());
        let expired = batch.expired;
        let applied: Applied = self.ctx.ports.target.apply(self.table, batch).await?;
        self.lineage.applied(&positions, &finished);
        for (shard, position) in &positions {
            self.ctx.ports.changes(self.table).durable(&self.stream, shard, position);
        }
        self.progress.applied(&reads);
        self.progress.marked(markers);
        if !finished.is_empty() {
            self.tell_open();
        }
        for shard in &finished {
            self.iterators.remove(shard);
        }
        self.rate.1 += count;
        self.ctx.latest.table(&self.table.id, |g| {
            g.applied += applied.upserted + applied.deleted;
            g.expired += expired;
        });
        Ok(())
    }

    /// Shards that are not finished hold the lag back, children that wait for their parent included, and finished ones
    /// whose children are not listed yet.
    fn tell_open(&self) {
        let listed = &self.listing.stream;
        let open = listed.shards.iter().filter(|s| !self.lineage.finished(&s.id));
        let open = open.chain(self.lineage.childless(listed)).map(|s| s.id.as_str());
        self.progress.listed(open);
    }

    /// Checks whether what was made durable still is, also while nothing is to be applied that would show it. A drain
    /// depends on it, so it checks each time.
    async fn still_there(&mut self) -> Result<(), Stopped> {
        let now = self.ctx.mono();
        if now - self.last_look < LOOK_MS && !self.ctx.standing().locked_out {
            return Ok(());
        }
        self.last_look = now;
        let stored = self.ctx.ports.target.positions(self.table).await?.map(|(_, positions)| positions);
        if let Some(shard) = rewound(self.lineage.stored(), &stored.unwrap_or_default()) {
            return Err(refuse_rewound("follow", &self.table.target, &format!("shard {shard}")).into());
        }
        still_loaded(self.ctx, self.table).await
    }

    /// Reports that changes were lost and come again, where they were: nobody would search for them otherwise.
    async fn tell_lost(&self, before: &Lineage) {
        let behind = before.behind(self.lineage.stored());
        if behind.is_empty() {
            return;
        }
        self.progress.lost();
        let named = behind.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more = if behind.len() > 3 { format!(" and {} more shards", behind.len() - 3) } else { String::new() };
        let text = format!(
            "the target of {} went back to an earlier position: a failover lost transactions; applied anew: {named}{more}",
            self.table.id
        );
        tracing::warn!(table = %self.table.id, text);
        let note = Event::Note { level: Level::Warn, source: "follow".to_owned(), text };
        if let Err(e) = self.ctx.facts.state(note).await {
            tracing::error!(table = %self.table.id, error = %e, "lost transactions were not recorded");
        }
    }

    async fn retry_parked(&mut self) -> Result<(), Stopped> {
        let now = self.ctx.mono();
        if now - self.last_retry >= RETRY_PARKED_MS {
            self.last_retry = now;
            if !self.ctx.standing().open_to_customers {
                parked::retry(self.ctx, self.table).await?;
            }
        }
        if now - self.last_ledger >= LEDGER_MS {
            self.last_ledger = now;
            parked::count(self.ctx, self.table).await?;
            let (since, applied) = self.rate;
            let rate = applied as f64 * 1000.0 / (now - since).max(1) as f64;
            self.rate = (now, 0);
            self.ctx.latest.table(&self.table.id, |g| g.rate = rate);
        }
        Ok(())
    }
}

/// Checks that the load is as whole as it was when following began: changes do not bring back what was only loaded.
async fn still_loaded(ctx: &Arc<WorkerContext>, table: &Table) -> Result<(), Stopped> {
    if Checkpoint::are_whole(&ctx.ports.target.checkpoints(table).await?) {
        return Ok(());
    }
    Err(Stopped::Gap(format!("{}: rows of the load are missing in the target, as after a failover", table.id)))
}

/// Answers of one shard: what its reader has, or one read. Gives the reader back while it goes on.
async fn gather(
    ctx: &Arc<WorkerContext>,
    shard_ref: &ShardRef,
    reader: Option<Reader>,
    mut iterator: Option<String>,
    mut from: Result<ReadFrom, Stopped>,
    since: Option<i64>,
    answers: &mut Vec<Answer>,
) -> Result<Option<Reader>, Stopped> {
    if let Some(mut reader) = reader {
        let fresh = reader.take(since, answers).await?;
        if fresh && answers.iter().any(|answer| !answer.batch.changes.is_empty()) {
            return Ok(Some(reader));
        }
        // It has ended with the shard, or with an answer that gave nothing: that one began before the last changes were
        // applied, and says little of now.
        if let Some(last) = answers.last() {
            let Some(next) = last.batch.next.clone() else { return Ok(None) };
            iterator = Some(next);
            if let Some(change) = answers.iter().rev().find_map(|answer| answer.batch.changes.last()) {
                from = Ok(ReadFrom::After(change.position.clone()));
            }
        }
    }
    answers.push(read(ctx, shard_ref, iterator.as_deref(), from).await?);
    Ok(None)
}
