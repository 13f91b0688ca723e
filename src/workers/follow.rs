//! Following changes: shard by shard, parents before children, in per-key order, with positions in the same
//! transaction as the rows (FEATURES A2, B2).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::crew::Crew;
use super::pace::pause;
use super::parked;
use super::reach::{Reach, Read};
use super::shards::Lineage;
use super::trouble::{evidence, step_error};
use crate::domain::at::At;
use crate::domain::gauge::{Phase, Reading};
use crate::domain::mapping::{Mapped, Misfit, TableMapping};
use crate::domain::plan::Table;
use crate::domain::run::{Event, Evidence, Level, StepError};
use crate::domain::value::{Cell, Item, Key, OwnedRow};
use crate::ports::{
    Ahead, Applied, Batch, Change, ChangeBatch, ChangeKind, ErrorKind, Hold, ParkedRow, PortError, Position, ReadFrom,
    RowChange, Stream,
};

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
        if self.crew.mono() - self.listed_mono >= self.list_every() {
            self.list().await?;
        }
        let listed_mono = self.listed_mono;
        let (began_mono, began) = (self.crew.mono(), Instant::now());
        let shards: Vec<String> = self.lineage.readable(&self.listing).map(|s| s.id.clone()).collect();
        let whole = self.lineage.all_within_reach(&self.listing);
        self.swept = Some(began);
        let something = self.round(shards).await?;
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
        self.round(shards).await.map(drop)
    }

    /// Reads each of these shards once and applies what they give. `true` when there was something.
    async fn round(&mut self, shards: Vec<String>) -> Result<bool, Stopped> {
        let (crew, table, stream) = (Arc::clone(self.crew), self.table, self.stream.clone());
        let mut asked = Vec::with_capacity(shards.len());
        for shard in shards {
            let from = self.lineage.read_from(&shard, crew.wall());
            let from = from.map_err(|gap| Stopped::Gap(format!("{} shard {shard}: {gap}", table.source)));
            asked.push((self.iterators.get(&shard).cloned(), from, shard));
        }
        let reads = asked.into_iter().map(|(iterator, from, shard)| read(&crew, table, &stream, shard, iterator, from));
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
            if !read.changes.is_empty() && read.next.is_some() {
                self.busy.insert(shard.clone());
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

/// Reads a shard once: on where its iterator stands, or from the stored position. Gives the monotonic time and the
/// wall time before the read.
async fn read(
    crew: &Crew,
    table: &Table,
    stream: &str,
    shard: String,
    iterator: Option<String>,
    from: Result<ReadFrom, Stopped>,
) -> Result<(i64, At, String, Batch), Stopped> {
    let gap = |e: PortError| match e.kind {
        ErrorKind::Trimmed => Stopped::Gap(format!("{}: {e}", table.source)),
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

/// Changes of one round, before they become rows.
#[derive(Default)]
struct Gathered {
    changes: Vec<Change>,
    /// Which shard changes came from: its id and how many, in order.
    shards: Vec<(String, usize)>,
    reads: Vec<Read>,
    /// Nonces of markers with the shard they came through.
    markers: Vec<(String, String)>,
    positions: BTreeMap<String, Position>,
    finished: Vec<String>,
}

impl Gathered {
    fn take(&mut self, mapping: &TableMapping, reach: Read, read: Batch, iterators: &mut HashMap<String, String>) {
        let shard = reach.shard.as_str();
        let inserted = read.changes.iter().filter(|c| c.image.is_some());
        let nonces = inserted.filter_map(|c| mapping.marker(&c.key)).map(|n| (n.to_owned(), shard.to_owned()));
        self.markers.extend(nonces);
        if let Some(last) = read.changes.last() {
            self.positions.insert(shard.to_owned(), last.position.clone());
        }
        self.shards.push((shard.to_owned(), read.changes.len()));
        self.changes.extend(read.changes);
        match read.next {
            Some(next) => drop(iterators.insert(shard.to_owned(), next)),
            None => {
                // The end of a shard is a position of its own.
                self.positions.remove(shard);
                self.finished.push(shard.to_owned());
            }
        }
        self.reads.push(reach);
    }
}

/// Changes as rows: at most one per key, the last one. Changes of one key never come from two readable shards,
/// because a child is read only after its parent. What a lane had landed before is left out.
fn build(table: &Table, mapping: &TableMapping, gathered: Gathered, hold: Hold, ahead: &Ahead) -> ChangeBatch {
    let mut rows: HashMap<Key, (usize, RowChange)> = HashMap::new();
    let mut batch = ChangeBatch {
        positions: gathered.positions,
        finished: gathered.finished,
        hold: Some(hold),
        ..ChangeBatch::default()
    };
    let shards = gathered.shards.iter().flat_map(|(shard, changes)| std::iter::repeat_n(shard.as_str(), *changes));
    for (n, (change, shard)) in gathered.changes.iter().zip(shards).enumerate() {
        if let Some(nonce) = mapping.marker(&change.key) {
            if change.image.is_some() {
                batch.markers.push(nonce.to_owned());
            }
            continue;
        }
        // Counted with the positions, so not yet by a lane that is ahead.
        if change.kind == (ChangeKind::Remove { expired: true }) {
            batch.expired += 1;
        }
        let row = row_change(table, mapping, change);
        if ahead.is_empty() || !ahead.landed(row.key(), hold.lanes, shard, &change.position) {
            rows.insert(row.key().clone(), (n, row));
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by_key(|(n, _)| *n);
    batch.rows = rows.into_iter().map(|(_, row)| row).collect();
    batch
}

/// One change as a row.
fn row_change(table: &Table, mapping: &TableMapping, change: &Change) -> RowChange {
    let park = |misfit| {
        let (key, key_json) = mapping.key(&change.key).unwrap_or_else(|_| (Key("?".to_owned()), "{}".to_owned()));
        RowChange::Park(ParkedRow { table: table.id.clone(), key, misfit, key_json })
    };
    match &change.image {
        None => match (mapping.key(&change.key), mapping.row_key(&change.key)) {
            (Ok((key, key_json)), Ok(row_key)) => RowChange::Delete { key, key_json, row_key },
            (Err(misfit), _) | (_, Err(misfit)) => park(misfit),
        },
        Some(image) => parked::upsert(mapping, image).unwrap_or_else(park),
    }
}

/// Measures the way of a marker through the whole path, again and again.
pub async fn markers(crew: Arc<Crew>, table: Table) {
    let every = Duration::from_millis(crew.plan.follow.marker_every_ms.max(200));
    loop {
        tokio::time::sleep(every).await;
        if *crew.paused.borrow() {
            continue;
        }
        let nonce = uuid::Uuid::new_v4().to_string();
        let began = crew.mono();
        if let Err(e) = crew.ports.source.put_marker(&table, &nonce).await {
            tracing::warn!(table = %table.id, error = %e, "marker not written");
            continue;
        }
        let mut seen = false;
        while crew.mono() - began < 60_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if matches!(crew.ports.target.marker(&table, &nonce).await, Ok(Some(_))) {
                seen = true;
                break;
            }
        }
        let wall = crew.wall();
        let took = seen.then(|| (crew.mono() - began) as f64);
        crew.board.table(&table.id, |g| g.lag.marker = Reading { value: took, at: wall });
        if let Err(e) = crew.ports.source.delete_marker(&table, &nonce).await {
            tracing::warn!(table = %table.id, error = %e, "marker not removed");
        }
    }
}

/// Waits until every table's apply lag is under the limit, on fresh numbers.
pub async fn catch_up(crew: &Arc<Crew>, max_lag_ms: i64) -> Result<Vec<Evidence>, StepError> {
    for table in &crew.plan.tables {
        let stored = crew.ports.target.checkpoints(table).await.map_err(|e| step_error(&e))?;
        if stored.is_empty() || stored.iter().any(|c| !c.done) {
            return Err(super::trouble::world(
                format!("{}: the load has not ended, changes cannot be applied yet", table.id),
                "run the load step first",
            ));
        }
    }
    crew.ensure_following();
    loop {
        if let Some(why) = crew.dead.any() {
            return Err(super::trouble::world(why, "continuity is lost; open a new run, which loads again"));
        }
        let now = crew.wall();
        let board = crew.measured();
        let mut found = Vec::new();
        for table in &crew.plan.tables {
            let Some(gauge) = board.tables.get(&table.id) else { continue };
            let lag = gauge.lag.apply.fresh(now, 5_000).filter(|ms| *ms <= max_lag_ms as f64);
            let swept = crew.sweeps.get(&table.id).is_some_and(|s| s.borrow().number > 0);
            if let Some(ms) = lag.filter(|_| swept) {
                let value = format!("{ms:.0}ms, {} changes applied", gauge.applied);
                found.push(evidence(format!("lag {}", table.id), value, gauge.lag.apply.at, "stream sweep"));
            }
        }
        if found.len() == crew.plan.tables.len() {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A mapped image that owns everything: key, key as JSON, the row, and rows by child table.
pub(super) type OwnedImage = (Key, String, OwnedRow, Vec<Vec<OwnedRow>>);

/// One image as a row, shared with retries.
pub(super) fn map_image(mapping: &TableMapping, image: &Item<'_>) -> Result<OwnedImage, Misfit> {
    let mut mapped = Mapped::default();
    mapping.map(image, &mut mapped)?;
    let own = |row: Vec<Cell<'_>>| row.into_iter().map(Cell::into_owned).collect();
    Ok((
        Key(mapped.key),
        mapped.key_json,
        own(mapped.row),
        mapped.children.into_iter().map(|rows| rows.into_iter().map(own).collect()).collect(),
    ))
}
