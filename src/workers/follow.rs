//! Following changes: shard by shard, parents before children, in per-key order, with positions in the same
//! transaction as the rows (FEATURES A2, B2).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::changes::{Gathered, build};
use super::crew::Crew;
use super::pace::pause;
use super::parked;
use super::reach::{Reach, Read};
use super::shards::Lineage;
use crate::domain::at::At;
use crate::domain::gauge::Phase;
use crate::domain::mapping::TableMapping;
use crate::domain::plan::Table;
use crate::domain::run::{Event, Level};
use crate::ports::{Ahead, Applied, Batch, ErrorKind, Hold, PortError, Position, ReadFrom, Stream};

/// Shards of one table that are read at the same time. An answer holds a megabyte at most, so this bounds memory too.
const AT_ONCE: usize = 16;
/// How often shards are listed while nothing asks for it.
const LIST_EVERY_MS: i64 = 5_000;
/// How often rows that wait for their parent are tried again.
const RETRY_PARKED_MS: i64 = 3_000;
/// How often the ledger is counted.
const LEDGER_MS: i64 = 2_000;

/// One whole round over every shard of a table, in which every read came back and everything read was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Grows with every sweep.
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
enum Stopped {
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("{0}; only a new load closes the gap")]
    Gap(String),
}

/// Follows one table until the crew stops. Trouble that may pass is retried; a gap ends it with a fact, and the lag
/// is unknown from then on.
pub async fn follow(crew: Arc<Crew>, table: Table) {
    let mut attempt = 0;
    loop {
        let (stopped, sweeps) = match Follower::open(&crew, &table).await {
            Ok(mut follower) => (follower.run().await, follower.sweeps),
            Err(stopped) => (stopped, 0),
        };
        let fatal = match &stopped {
            Stopped::Gap(_) => true,
            Stopped::Port(e) => matches!(e.kind, ErrorKind::Trimmed | ErrorKind::NotFound | ErrorKind::Invalid),
        };
        tracing::warn!(table = %table.id, error = %stopped, fatal, "following stopped");
        crew.board.table(&table.id, |g| {
            g.phase = Phase::Retrying;
            g.trouble = Some(stopped.to_string());
            g.retries += 1;
            g.rate = 0.0;
        });
        if fatal {
            crew.reach(&table.id).end();
            crew.dead.put(&table.id, stopped.to_string());
            let text = format!("following {} has ended for good: {stopped}", table.id);
            let note = Event::Note { level: Level::Error, source: "follow".to_owned(), text };
            if let Err(e) = crew.facts.state(note).await {
                tracing::error!(table = %table.id, error = %e, "the end of following was not recorded");
            }
            return;
        }
        attempt = if sweeps > 0 { 1 } else { attempt + 1 };
        tokio::time::sleep(pause(attempt)).await;
    }
}

struct Follower<'c> {
    crew: &'c Arc<Crew>,
    table: &'c Table,
    mapping: Arc<TableMapping>,
    stream: String,
    /// The right to move positions, lost when somebody else takes the table up.
    hold: Hold,
    /// Lanes that had landed more than the positions tell when the table was taken up.
    ahead: Ahead,
    lineage: Lineage,
    listing: Stream,
    listed_mono: i64,
    iterators: HashMap<String, String>,
    /// Shards that gave something when they were last read.
    busy: BTreeSet<String>,
    /// Reads of busy shards that began while what they had given was being applied.
    under_way: HashMap<String, AbortOnDropHandle<Result<OneRead, Stopped>>>,
    /// When the last sweep began; without it one is due.
    swept: Option<Instant>,
    sweeps: u64,
    reach: Arc<Reach>,
    last_retry: i64,
    last_ledger: i64,
    rate: (i64, u64),
}

impl<'c> Follower<'c> {
    /// Takes up where the target says the last transaction ended.
    async fn open(crew: &'c Arc<Crew>, table: &'c Table) -> Result<Self, Stopped> {
        let Some(standing) = crew.ports.target.take_up(table, crew.plan.follow.lanes).await? else {
            return Err(Stopped::Gap(format!("{}: no start position is recorded", table.id)));
        };
        Ok(Self {
            crew,
            table,
            mapping: crew.mapping(table),
            stream: standing.stream,
            hold: standing.hold,
            ahead: standing.ahead,
            lineage: Lineage::new(standing.positions),
            listing: Stream { id: String::new(), shards: Vec::new() },
            listed_mono: i64::MIN / 2,
            iterators: HashMap::new(),
            busy: BTreeSet::new(),
            under_way: HashMap::new(),
            swept: None,
            sweeps: 0,
            reach: crew.reach(&table.id),
            last_retry: crew.mono(),
            last_ledger: 0,
            rate: (crew.mono(), 0),
        })
    }

    async fn run(&mut self) -> Stopped {
        let poll = Duration::from_millis(self.crew.plan.follow.poll_ms.max(5));
        loop {
            // A shard that gave something is read on at once; the others only once an interval, for reads are counted.
            let rest = self.swept.map_or(Duration::ZERO, |at| poll.saturating_sub(at.elapsed()));
            if self.busy.is_empty() {
                tokio::time::sleep(rest).await;
            }
            // The old side is watched through a pause: a stray write must not go unseen.
            while *self.crew.paused.borrow() && !self.crew.let_in.load(std::sync::atomic::Ordering::Acquire) {
                self.crew.board.table(&self.table.id, |g| g.phase = Phase::Paused);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let went_on =
                if self.busy.is_empty() || rest.is_zero() { self.sweep().await } else { self.read_on().await };
            if let Err(stopped) = went_on {
                return stopped;
            }
        }
    }

    /// Lists shards when it is time, reads each readable one once, applies.
    async fn sweep(&mut self) -> Result<(), Stopped> {
        // A read that began before the sweep is none of it.
        let before: Vec<String> = self.under_way.keys().cloned().collect();
        if !before.is_empty() {
            self.round(before, false).await?;
        }
        if self.crew.mono() - self.listed_mono >= self.list_every() {
            self.list().await?;
        }
        let listed_mono = self.listed_mono;
        let (began_mono, began) = (self.crew.mono(), Instant::now());
        let shards: Vec<String> = self.lineage.readable(&self.listing).map(|s| s.id.clone()).collect();
        let whole = self.lineage.all_within_reach(&self.listing);
        self.swept = Some(began);
        let something = self.round(shards, true).await?;
        self.retry_parked().await?;
        self.sweeps += 1;
        let sweep = Sweep { number: self.sweeps, listed_mono, began_mono, empty: !something && whole };
        if let Some(told) = self.crew.sweeps.get(&self.table.id) {
            told.send_replace(sweep);
        }
        self.crew.board.table(&self.table.id, |g| {
            g.phase = Phase::Following;
            g.trouble = None;
        });
        Ok(())
    }

    /// Reads the shards that gave something the last time, applies. No sweep: it says nothing of the others.
    async fn read_on(&mut self) -> Result<(), Stopped> {
        let shards: Vec<String> = std::mem::take(&mut self.busy).into_iter().collect();
        self.round(shards, true).await.map(drop)
    }

    /// Reads each of these shards once and applies what they give. `true` when there was something. With `go_on`, shards
    /// that gave something are being read on meanwhile.
    async fn round(&mut self, shards: Vec<String>, go_on: bool) -> Result<bool, Stopped> {
        let (crew, table, stream) = (Arc::clone(self.crew), self.table, self.stream.clone());
        let mut asked = Vec::with_capacity(shards.len());
        for shard in shards {
            let from = self.lineage.read_from(&shard, crew.wall());
            let from = from.map_err(|gap| Stopped::Gap(format!("{} shard {shard}: {gap}", table.source)));
            let begun = self.under_way.remove(&shard);
            asked.push((begun, self.iterators.get(&shard).cloned(), from, shard));
        }
        let reads = asked.into_iter().map(|(begun, iterator, from, shard)| {
            let (crew, stream) = (&crew, &stream);
            async move {
                match begun {
                    Some(begun) => begun.await.unwrap_or_else(|e| Err(Stopped::Port(broken(&shard, &e)))),
                    None => read(crew, &table.source, stream, shard, iterator, from).await,
                }
            }
        });
        let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
        let mut batch = Gathered::default();
        let (mut ended, mut something) = (false, false);
        let most = self.crew.plan.follow.batch as usize * self.hold.lanes as usize;
        let mut failed = None;
        self.busy.clear();
        while let Some(one) = reads.next().await {
            let (mono, wall, shard, read) = match one {
                Ok(read) => read,
                // The other shards go on: one that is throttled must not keep their changes.
                Err(stopped) => {
                    failed = failed.or(Some(stopped));
                    continue;
                }
            };
            ended |= read.next.is_none();
            something |= !read.changes.is_empty();
            if let (Some(last), Some(next)) = (read.changes.last(), &read.next) {
                self.busy.insert(shard.clone());
                if go_on && self.under_way.len() < AT_ONCE {
                    self.read_on_ahead(&shard, next, &last.position);
                }
            }
            let reach = Read::new(&shard, mono, wall, read.changes.last().map(|c| c.at));
            self.reach.read(&reach);
            batch.take(&self.mapping, reach, read, &mut self.iterators);
            if batch.changes.len() >= most {
                self.apply(&mut batch).await?;
            }
        }
        self.apply(&mut batch).await?;
        if let Some(stopped) = failed {
            return Err(stopped);
        }
        if ended {
            // Children of a shard that has ended may be readable now.
            self.listed_mono = i64::MIN / 2;
            self.swept = None;
        }
        Ok(something || ended)
    }

    /// Begins a shard's next read: most of its time is spent waiting for the store, as an apply's is for the target.
    fn read_on_ahead(&mut self, shard: &str, next: &str, last: &Position) {
        let (crew, source, stream) = (Arc::clone(self.crew), self.table.source.clone(), self.stream.clone());
        let (next, from) = (next.to_owned(), ReadFrom::After(last.clone()));
        let name = shard.to_owned();
        let begun = async move { read(&crew, &source, &stream, name, Some(next), Ok(from)).await };
        self.under_way.insert(shard.to_owned(), AbortOnDropHandle::new(tokio::spawn(begun)));
    }

    /// A drain wants fresh listings; otherwise they are spared.
    fn list_every(&self) -> i64 {
        let frozen = self.crew.frozen.load(std::sync::atomic::Ordering::Acquire);
        if frozen { 200 } else { LIST_EVERY_MS }
    }

    async fn list(&mut self) -> Result<(), Stopped> {
        let before = self.crew.mono();
        match self.crew.ports.changes.stream(self.table).await? {
            Some(stream) if stream.id == self.stream => {
                if let Some(shard) = self.lineage.lost(&stream) {
                    return Err(Stopped::Gap(format!("{}: shard {shard} was trimmed unread", self.table.source)));
                }
                self.listing = stream;
                self.listed_mono = before;
                self.tell_open();
                Ok(())
            }
            Some(_) => Err(Stopped::Gap(format!("{}: the stream was replaced under us", self.table.source))),
            None => Err(Stopped::Gap(format!("{}: the stream was turned off", self.table.source))),
        }
    }

    /// Applies what was gathered and its positions in one transaction, then takes the positions up.
    async fn apply(&mut self, gathered: &mut Gathered) -> Result<(), Stopped> {
        let gathered = std::mem::take(gathered);
        if gathered.positions.is_empty() && gathered.finished.is_empty() {
            self.reach.applied(&gathered.reads);
            return Ok(());
        }
        let count = gathered.changes.len() as u64;
        let (reads, markers) = (gathered.reads.clone(), gathered.markers.clone());
        let watched = self.crew.let_in.load(std::sync::atomic::Ordering::Acquire);
        let images = watched.then(|| super::stray::images(&self.mapping, &gathered.changes));
        let mut batch = build(self.table, &self.mapping, gathered, self.hold, &self.ahead);
        if let Some(images) = images {
            // Customers write on the new side: nothing of the old one is applied there any more.
            super::stray::tell(self.crew, self.table, &images).await?;
            batch.rows.clear();
        }
        let (positions, finished) = (batch.positions.clone(), batch.finished.clone());
        let expired = batch.expired;
        let applied: Applied = self.crew.ports.target.apply(self.table, batch).await?;
        self.lineage.applied(&positions, &finished);
        self.reach.applied(&reads);
        self.reach.marked(markers);
        if !finished.is_empty() {
            self.tell_open();
        }
        for shard in &finished {
            self.iterators.remove(shard);
        }
        self.rate.1 += count;
        self.crew.board.table(&self.table.id, |g| {
            g.applied += applied.upserted + applied.deleted;
            g.expired += expired;
        });
        Ok(())
    }

    /// Shards that are not finished hold the lag back, children that wait for their parent included.
    fn tell_open(&self) {
        let open = self.listing.shards.iter().map(|s| s.id.as_str()).filter(|id| !self.lineage.finished(id));
        self.reach.listed(open);
    }

    async fn retry_parked(&mut self) -> Result<(), Stopped> {
        let now = self.crew.mono();
        if now - self.last_retry >= RETRY_PARKED_MS {
            self.last_retry = now;
            if !self.crew.let_in.load(std::sync::atomic::Ordering::Acquire) {
                parked::retry(self.crew, self.table).await?;
            }
        }
        if now - self.last_ledger >= LEDGER_MS {
            self.last_ledger = now;
            parked::count(self.crew, self.table).await?;
            let (since, applied) = self.rate;
            let rate = applied as f64 * 1000.0 / (now - since).max(1) as f64;
            self.rate = (now, 0);
            self.crew.board.table(&self.table.id, |g| g.rate = rate);
        }
        Ok(())
    }
}

/// One read of a shard: the monotonic time and the wall time before it, the shard, what it gave.
type OneRead = (i64, At, String, Batch);

fn broken(shard: &str, e: &tokio::task::JoinError) -> PortError {
    PortError::new(ErrorKind::Internal, "read on in", shard, format!("the reading task ended: {e}"))
}

/// Reads a shard once: on where its iterator stands, or from the stored position.
async fn read(
    crew: &Crew,
    source: &str,
    stream: &str,
    shard: String,
    iterator: Option<String>,
    from: Result<ReadFrom, Stopped>,
) -> Result<OneRead, Stopped> {
    let gap = |e: PortError| match e.kind {
        ErrorKind::Trimmed => Stopped::Gap(format!("{source}: {e}")),
        _ => Stopped::Port(e),
    };
    let (mono, wall) = (crew.mono(), crew.wall());
    if let Some(iterator) = iterator {
        match crew.ports.changes.read(&iterator).await {
            Ok(batch) => return Ok((mono, wall, shard, batch)),
            // An iterator lives a quarter of an hour; positions live in the target.
            Err(e) if e.kind == ErrorKind::Expired => {}
            Err(e) => return Err(gap(e)),
        }
    }
    let (mono, wall) = (crew.mono(), crew.wall());
    let fresh = crew.ports.changes.iterator(stream, &shard, &from?).await.map_err(gap)?;
    let batch = crew.ports.changes.read(&fresh).await.map_err(gap)?;
    Ok((mono, wall, shard, batch))
}
