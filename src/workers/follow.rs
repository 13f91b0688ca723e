//! Following changes: shard by shard, parents before children, in per-key order, with positions in the same
//! transaction as the rows (FEATURES A2, B2).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::changes::{Gathered, build};
use super::crew::Crew;
use super::pace::pause;
use super::parked;
use super::reach::{Reach, Read};
use super::reader::{Answer, Place, Reader, read};
use super::shards::Lineage;
use crate::domain::gauge::Phase;
use crate::domain::mapping::TableMapping;
use crate::domain::plan::Table;
use crate::domain::run::{Event, Level};
use crate::ports::{Ahead, Applied, ErrorKind, Hold, PortError, ReadFrom, Stream};

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
pub(super) enum Stopped {
    #[error("{0}")]
    Port(#[from] PortError),
    /// A shard could not be read.
    #[error("{0}")]
    Read(PortError),
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
            Stopped::Port(e) | Stopped::Read(e) => {
                matches!(e.kind, ErrorKind::Trimmed | ErrorKind::NotFound | ErrorKind::Invalid)
            }
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
    /// Shards that gave something within the last interval, each with when it did so last.
    busy: HashMap<String, Instant>,
    /// Whether the last round gave nothing.
    quiet: bool,
    /// Why a shard could not be read since the last sweep.
    unread: Option<ErrorKind>,
    /// Shards that are read on while what they gave is being applied.
    readers: HashMap<String, Reader>,
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
            busy: HashMap::new(),
            quiet: true,
            unread: None,
            readers: HashMap::new(),
            swept: None,
            sweeps: 0,
            reach: crew.reach(&table.id),
            last_retry: crew.mono(),
            last_ledger: 0,
            rate: (crew.mono(), 0),
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
            while *self.crew.paused.borrow() && !self.crew.let_in.load(std::sync::atomic::Ordering::Acquire) {
                self.crew.board.table(&self.table.id, |g| g.phase = Phase::Paused);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let went_on =
                if self.busy.is_empty() || rest.is_zero() { self.sweep().await } else { self.read_on().await };
            match went_on {
                Ok(()) => {}
                // What was read of the others is applied, and they go on; there is no whole sweep until this one answers.
                Err(Stopped::Read(e)) if e.kind.transient() => self.unread(&e),
                Err(stopped) => return stopped,
            }
        }
    }

    /// Lists shards when it is time, reads each readable one once, applies.
    async fn sweep(&mut self) -> Result<(), Stopped> {
        if self.crew.mono() - self.listed_mono >= self.list_every() {
            self.list().await?;
        }
        let listed_mono = self.listed_mono;
        let (began_mono, began) = (self.crew.mono(), Instant::now());
        let shards: Vec<String> = self.lineage.readable(&self.listing).map(|s| s.id.clone()).collect();
        let whole = self.lineage.all_within_reach(&self.listing);
        self.swept = Some(began);
        let something = self.round(shards, Some(began_mono)).await?;
        self.retry_parked().await?;
        self.sweeps += 1;
        self.unread = None;
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

    /// Reads the shards that gave something not long ago, applies. No sweep: it says nothing of the others.
    async fn read_on(&mut self) -> Result<(), Stopped> {
        let shards: Vec<String> = self.busy.keys().cloned().collect();
        self.round(shards, None).await.map(drop)
    }

    /// Reads each of these shards and applies what they give; with `since`, each by a read that began no earlier. `true`
    /// when there was something.
    async fn round(&mut self, shards: Vec<String>, since: Option<i64>) -> Result<bool, Stopped> {
        let crew = Arc::clone(self.crew);
        let mut asked = Vec::with_capacity(shards.len());
        for shard in shards {
            let from = self.lineage.read_from(&shard, crew.wall());
            let from = from.map_err(|gap| Stopped::Gap(format!("{} shard {shard}: {gap}", self.table.source)));
            let (reader, iterator) = (self.readers.remove(&shard), self.iterators.get(&shard).cloned());
            asked.push((self.place(&shard), reader, iterator, from));
        }
        let reads = asked.into_iter().map(|(place, reader, iterator, from)| {
            let crew = &crew;
            async move {
                let mut answers = Vec::new();
                let read = gather(crew, &place, reader, iterator, from, since, &mut answers).await;
                (place, answers, read)
            }
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut batch = Gathered::default();
        let (mut ended, mut something, mut failed) = (false, false, None);
        let most = crew.plan.follow.batch as usize * self.hold.lanes as usize;
        while let Some((place, answers, read)) = reads.next().await {
            let goes_on = answers.last().and_then(Answer::goes_on);
            match (read, goes_on) {
                (Ok(Some(reader)), Some(_)) => drop(self.readers.insert(place.shard.clone(), reader)),
                (Ok(None), Some((last, next))) if self.readers.len() < AT_ONCE => {
                    let reader = Reader::start(&crew, place.clone(), last, next);
                    self.readers.insert(place.shard.clone(), reader);
                }
                // A reader ends with an answer behind which nothing is known to be.
                (Ok(_), _) => {}
                // The other shards go on: one that is throttled must not keep their changes.
                (Err(stopped), _) => failed = failed.or(Some(stopped)),
            }
            if answers.iter().any(|answer| answer.goes_on().is_some()) {
                self.busy.insert(place.shard.clone(), Instant::now());
            }
            for Answer { mono, wall, batch: read } in answers {
                ended |= read.next.is_none();
                something |= !read.changes.is_empty();
                let reach = Read::new(&place.shard, mono, wall, read.changes.last().map(|c| c.at));
                self.reach.read(&reach);
                batch.take(&self.mapping, reach, read, &mut self.iterators);
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
            self.listed_mono = i64::MIN / 2;
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
        self.crew.board.table(&self.table.id, |g| {
            g.phase = Phase::Retrying;
            g.trouble = Some(e.to_string());
            g.retries += 1;
        });
    }

    /// How often a shard that gives nothing is read.
    fn poll(&self) -> Duration {
        Duration::from_millis(self.crew.plan.follow.poll_ms.max(5))
    }

    /// Where a shard stands, for reading it.
    fn place(&self, shard: &str) -> Place {
        Place { source: self.table.source.clone(), stream: self.stream.clone(), shard: shard.to_owned() }
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
        let mut batch = build(self.table, &self.mapping, gathered, self.hold, &self.ahead, &self.lineage);
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

/// Answers of one shard: what its reader has, or one read. Gives the reader back while it goes on.
async fn gather(
    crew: &Arc<Crew>,
    place: &Place,
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
    answers.push(read(crew, place, iterator.as_deref(), from).await?);
    Ok(None)
}
