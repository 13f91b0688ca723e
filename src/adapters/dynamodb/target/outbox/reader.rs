//! Reading the new table's own stream into the spool.
//!
//! Before the table is open to customers everything in it is ours, and reading only moves on. From the opening on every
//! change is stored before the position that lies behind it, in one transaction with that position. A shard is read
//! once its parent is finished, so all records of a key come in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::batch;
use super::super::call::{Stopped, Store, Tried, key_of, n, s, sk};
use super::super::names::{self, Of};
use super::super::write::Write;
use super::capture::{self, Capture};
use super::marker::Markers;
use super::spool;
use crate::adapters::dynamodb::changes::DynamoChanges;
use crate::domain::at::At;
use crate::domain::plan::Table;
use crate::domain::value::Record;
use crate::ports::{
    Batch, Changes as _, ErrorKind, Gap, Lineage, PortError, PortResult, Position, ReadFrom, Stream, start_now,
};

/// Actions of one transaction, with some left for lanes and positions.
const ACTIONS: usize = 76;
/// Bytes of one transaction.
const BYTES: usize = 3 << 20;
/// How often shards are listed while nothing asks for it.
const LISTED: Duration = Duration::from_secs(10);
/// Pause between two looks at a stream that gave nothing.
const PAUSE: Duration = Duration::from_millis(50);
/// That all was read is noted this often.
const NOTED_MS: i64 = 60_000;
/// How long a marker may take to come through.
const THROUGH: Duration = Duration::from_secs(60);
/// Markers that are sent at most to reach every shard.
const SPREAD: usize = 16;

/// What one process knows of the stream of a table while it reads it.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    /// The version of the capture that the rest belongs to; 0 while nothing was read.
    version: i64,
    stream: Option<Stream>,
    listed: Option<Instant>,
    lineage: Lineage,
    iterators: BTreeMap<String, String>,
    /// The version at which nothing waited. Whatever is stored begins another one.
    empty: i64,
}

impl Reader {
    /// The version of the capture that was read last; 0 when it has to be read anew.
    pub(super) const fn version(&self) -> i64 {
        self.version
    }

    /// Nothing waited at this version.
    pub(super) const fn found_empty(&mut self, version: i64) {
        self.empty = version;
    }

    /// Whether nothing can wait, because nothing was stored since nothing did.
    pub(super) const fn is_empty(&self) -> bool {
        self.version != 0 && self.version == self.empty
    }
}

/// What one round over all shards found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Every shard was read, and gave nothing that is older than the moment asked for.
    Whole,
    /// Something was found, or not every shard could be read yet.
    More,
}

/// Where a stream is read from and what is done with it.
pub(super) struct Way<'a> {
    pub store: &'a Store,
    pub changes: &'a DynamoChanges,
    pub of: Of,
    /// The target as a table that is followed.
    pub table: Table,
    pub markers: Markers,
}

impl Way<'_> {
    fn at(&self) -> Tried<'_> {
        ("read what customers write to", &self.table.source)
    }

    /// Reads until all that was written before this call is stored, as far as the stream says, or `patience` ends. Says
    /// whether it was.
    pub(super) async fn read_on(&self, reader: &mut Reader, patience: Duration) -> PortResult<bool> {
        let (began, since) = (Instant::now(), self.store.now());
        loop {
            match self.round(reader, since, false).await? {
                Round::Whole => return Ok(true),
                Round::More if began.elapsed() >= patience => return Ok(false),
                Round::More => {}
            }
        }
    }

    /// Sends a marker, with others beside it so that every shard is likely to have one, and reads until all of them came
    /// through and a whole round over all shards, listed and begun after that, found nothing older.
    pub(super) async fn through(&self, reader: &mut Reader, nonce: &str) -> PortResult<()> {
        let at = ("put a marker through", self.table.source.as_str());
        self.sweep(at).await?;
        let shards = reader.stream.as_ref().map_or(1, |stream| stream.shards.iter().filter(|s| !s.closed).count());
        let more = (1..(2 * shards).min(SPREAD)).map(|number| format!("{nonce}.{number}"));
        let nonces: Vec<String> = std::iter::once(nonce.to_owned()).chain(more).collect();
        let sends = nonces.iter().map(|nonce| async move {
            let sent = Write::put(&self.of.sent(nonce), json!({}));
            self.store.write(&sent, at).await.map_err(|e| e.error(at))?;
            self.markers.send(self.store, &self.table.source, nonce, at).await
        });
        futures::future::try_join_all(sends).await?;
        let (since, began) = (self.store.now().plus(1_000), Instant::now());
        let (mut came, mut listed) = (false, false);
        loop {
            // What was listed before the markers may lack the shard they are in.
            let round = self.round(reader, since, !listed).await?;
            listed = true;
            if reader.stream.is_none() {
                let advice = "arm the reverse flow again, which turns it on";
                return Err(PortError::new(ErrorKind::Invalid, at.0, at.1, "its stream is off").advise(advice));
            }
            if came && round == Round::Whole {
                break;
            }
            if !came {
                let places: Vec<_> = nonces.iter().map(|nonce| self.of.came(nonce)).collect();
                came = self.store.get_all(&places, at).await?.iter().all(Option::is_some);
            }
            if began.elapsed() > THROUGH {
                let came_back = format!("it did not come through its stream in {} s", THROUGH.as_secs());
                return Err(PortError::new(ErrorKind::TimedOut, at.0, at.1, came_back)
                    .advise("see whether its stream is read by too many others; it is tried again"));
            }
            if !came {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let others = nonces.iter().filter(|other| *other != nonce).map(|other| self.of.came(other));
        let over: Vec<_> = others.chain(nonces.iter().map(|nonce| self.of.sent(nonce))).collect();
        let keys: Vec<String> = over.iter().map(|place| key_of(place).to_string()).collect();
        batch::delete(self.store, names::BOOK, &keys, at).await
    }

    /// Takes away what a process that died has left in the table.
    async fn sweep(&self, at: Tried<'_>) -> PortResult<()> {
        for left in self.store.query(&self.of.back_markers(), names::SENT, None, None, at).await? {
            let Some(nonce) = sk(&left).strip_prefix(names::SENT) else { continue };
            self.markers.remove(self.store, &self.table.source, nonce, at).await?;
            let gone = Write::delete(&self.of.sent(nonce));
            self.store.write(&gone, at).await.map_err(|e| e.error(at))?;
        }
        Ok(())
    }

    /// Lets customers in: what comes from here on is theirs. Holds when it was done before.
    pub(super) async fn open(&self, reader: &mut Reader) -> PortResult<()> {
        let at = ("let customers in on", self.table.source.as_str());
        loop {
            let Some(capture) = Capture::load(self.store, &self.of, at).await? else { return Ok(()) };
            if capture.opened.is_some() {
                return Ok(());
            }
            // Nothing of ours lands any more, and nobody else writes yet. When all of it is read, the rest is theirs.
            let nonce = format!("{}.open", uuid::Uuid::new_v4());
            self.through(reader, &nonce).await?;
            let gone = Write::delete(&self.of.came(&nonce));
            self.store.write(&gone, at).await.map_err(|e| e.error(at))?;
            let Some(capture) = Capture::load(self.store, &self.of, at).await? else { return Ok(()) };
            let opened = capture.step(&self.of, ", #opened = :now").with("now", n(self.store.now().0));
            match self.store.write(&opened.and("attribute_not_exists(#opened)"), at).await {
                Ok(_) => return Ok(()),
                // Another process has read on, or let them in.
                Err(Stopped::Condition(_)) => {}
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
    }

    /// One round over every shard that may be read.
    async fn round(&self, reader: &mut Reader, since: At, list: bool) -> PortResult<Round> {
        let at = self.at();
        let capture = Capture::load(self.store, &self.of, at).await?;
        let mut capture = capture.ok_or_else(|| not_captured(at))?;
        if capture.version != reader.version {
            reader.lineage = Lineage::new(capture::positions(self.store, &self.of, at).await?);
            reader.iterators.clear();
            reader.version = capture.version;
        }
        let old = reader.listed.is_none_or(|listed| listed.elapsed() > LISTED);
        let childless = reader.stream.as_ref().is_some_and(|stream| reader.lineage.childless(stream).next().is_some());
        if list || old || childless || reader.stream.is_none() {
            let now = Instant::now();
            reader.stream = match self.changes.stream(&self.table).await {
                // A table that is gone has no stream either.
                Err(e) if e.kind == ErrorKind::NotFound => None,
                stream => stream?,
            };
            reader.listed = Some(now);
        }
        let Some(stream) = reader.stream.clone() else {
            return self.broken(reader, &capture, Broken::Off).await;
        };
        if stream.id != capture.stream {
            return self.broken(reader, &capture, Broken::Replaced(&stream)).await;
        }
        let (now, kept) = (self.store.now(), self.changes.kept());
        if let Some(shard) = reader.lineage.lost(&stream, now, kept) {
            return self.broken(reader, &capture, Broken::Shard(&shard, None)).await;
        }
        for gone in reader.lineage.gone(&stream) {
            // Nothing of it is wanted; it is kept as finished so that it is no loss later either.
            if !self.store_read(reader, &mut capture, &gone, Vec::new(), true).await? {
                return Ok(Round::More);
            }
        }
        let readable: Vec<String> = reader.lineage.readable(&stream).map(|shard| shard.id.clone()).collect();
        let mut whole = reader.lineage.all_within_horizon(&stream);
        for shard in readable {
            let (batch, before) = match self.read(reader, &stream, &shard, now, kept).await {
                Ok(Some(read)) => read,
                // Another iterator is asked for in the next round.
                Ok(None) => {
                    whole = false;
                    continue;
                }
                Err(Unread::Trimmed) => {
                    return self.broken(reader, &capture, Broken::Shard(&shard, Some(now))).await;
                }
                Err(Unread::Failed(e)) => {
                    // It may be gone since it was listed.
                    reader.listed = None;
                    return Err(e);
                }
            };
            let finished = batch.next.is_none();
            whole &= !finished && batch.changes.last().is_none_or(|change| change.at >= since);
            let read: Vec<_> = batch.changes.into_iter().zip(before).collect();
            if (finished || !read.is_empty()) && !self.store_read(reader, &mut capture, &shard, read, finished).await? {
                return Ok(Round::More);
            }
            if let Some(next) = batch.next {
                reader.iterators.insert(shard, next);
            }
        }
        if whole && now.since(capture.read) > NOTED_MS {
            let noted = capture.step(&self.of, ", #read = :now").with("now", n(now.0));
            match self.store.write(&noted, at).await {
                Ok(_) => reader.version = capture.version + 1,
                Err(Stopped::Condition(_)) => return Ok(Round::More),
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
        Ok(if whole { Round::Whole } else { Round::More })
    }

    /// Reads a shard on; `None` when its iterator has to be asked for again.
    async fn read(
        &self,
        reader: &mut Reader,
        stream: &Stream,
        shard: &str,
        now: At,
        kept: Option<Duration>,
    ) -> Result<Option<(Batch, Vec<Option<Record<'static>>>)>, Unread> {
        let iterator = match reader.iterators.remove(shard) {
            Some(iterator) => iterator,
            None => {
                let from: ReadFrom = match reader.lineage.read_from(shard, now, kept) {
                    Ok(from) => from,
                    Err(Gap::TooOld) => return Err(Unread::Trimmed),
                };
                self.changes.iterator(&stream.id, shard, &from).await?
            }
        };
        match self.changes.read_both(&iterator).await {
            Ok(read) => Ok(Some(read)),
            Err(e) if e.kind == ErrorKind::Expired => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Stores what a shard gave, with how far it brings it; from the opening on every change, before it only markers.
    /// `false` when somebody else stored something meanwhile: then nothing of the rest was.
    async fn store_read(
        &self,
        reader: &mut Reader,
        capture: &mut Capture,
        shard: &str,
        read: Vec<(crate::ports::Change, Option<Record<'static>>)>,
        finished: bool,
    ) -> PortResult<bool> {
        let at = self.at();
        let mut piece = Piece::default();
        for (change, before) in read {
            let marked = self.markers.nonce(&change.key, change.image.as_ref().or(before.as_ref()));
            let (mut writes, mut nonces, mut bytes, mut lane) = (Vec::new(), Vec::new(), 0, None);
            let id = capture.next + piece.records;
            match marked {
                // One that was put again because its answer was lost comes twice; a transaction writes an item once.
                Some(nonce) if change.image.is_some() && !piece.nonces.contains(&nonce) => {
                    nonces.push(nonce.clone());
                    writes.push(Write::put(&self.of.came(&nonce), json!({"at": n(change.at.0)})));
                }
                Some(_) => {}
                None if capture.opened.is_some() => {
                    if let Some(spooled) = spool::put(&self.of, id, &change, before.as_ref(), at)? {
                        (writes, bytes, lane) = (spooled.writes, spooled.bytes, Some(spooled.lane));
                    }
                }
                None => {}
            }
            let full = piece.writes.len() + writes.len() > ACTIONS || piece.bytes + bytes > BYTES;
            if full && !piece.writes.is_empty() && !self.commit(reader, capture, shard, &mut piece, false).await? {
                return Ok(false);
            }
            piece.writes.extend(writes);
            piece.nonces.extend(nonces);
            piece.bytes += bytes;
            if let Some(lane) = lane {
                *piece.lanes.entry(lane).or_default() += 1;
                piece.records += 1;
            }
            piece.position = Some(change.position);
        }
        if piece.position.is_none() && !finished {
            return Ok(true);
        }
        self.commit(reader, capture, shard, &mut piece, finished).await
    }

    /// Stores a piece and begins the next one.
    async fn commit(
        &self,
        reader: &mut Reader,
        capture: &mut Capture,
        shard: &str,
        piece: &mut Piece,
        finished: bool,
    ) -> PortResult<bool> {
        let Piece { writes, lanes, records, position, .. } = std::mem::take(piece);
        let next = capture.next + records;
        let step = capture.step(&self.of, ", #next = :next").with("next", n(next));
        // The markers of a process that slept would count for a stream that is not read any more.
        let step = step.and("#stream = :stream").with("stream", s(&capture.stream));
        let position = if finished { None } else { position };
        let shard_stands = capture::put_shard(&self.of, shard, position.as_ref());
        let counts: Vec<Write> = lanes.iter().map(|(lane, more)| spool::count(&self.of, *lane, *more)).collect();
        let all: Vec<&Write> = [&step, &shard_stands].into_iter().chain(&counts).chain(&writes).collect();
        match self.store.transact(&all, self.at()).await {
            Ok(()) => {
                (capture.version, capture.next) = (capture.version + 1, next);
                reader.version = capture.version;
                let stands = |position: Position| BTreeMap::from([(shard.to_owned(), position)]);
                let ended = if finished { vec![shard.to_owned()] } else { Vec::new() };
                reader.lineage.applied(&position.map_or_else(BTreeMap::new, stands), &ended);
                Ok(true)
            }
            Err(Stopped::Condition(_)) => {
                reader.version = 0;
                Ok(false)
            }
            Err(stopped) => {
                // Whether it was stored is not known.
                reader.version = 0;
                Err(stopped.error(self.at()))
            }
        }
    }

    /// Says durably what was lost, once customers write there, and goes on with what there is.
    async fn broken(&self, reader: &mut Reader, capture: &Capture, broken: Broken<'_>) -> PortResult<Round> {
        let at = self.at();
        let what = broken.words(&self.table.source);
        let lost = capture.opened.is_some().then_some(what.as_str());
        reader.version = 0;
        if lost.is_some() && capture.lost.is_none() {
            tracing::error!(table = %self.table.source, what, "writes of customers were lost to the capture");
        }
        let done = match broken {
            // Nothing can be read; what waits can still be applied.
            Broken::Off => match lost {
                Some(_) if capture.lost.is_some() => return Ok(Round::Whole),
                Some(lost) => self.mark(capture, lost, &[]).await,
                None => {
                    return Err(PortError::new(ErrorKind::Invalid, at.0, at.1, what)
                        .advise("arm the reverse flow again, which turns it on"));
                }
            },
            Broken::Replaced(stream) => capture::begin(self.store, &self.of, Some(capture), stream, lost, at).await,
            Broken::Shard(shard, start) => {
                // Where it is still listed it is read from its oldest record; otherwise nothing of it is left.
                let start = start.map(start_now);
                let stands = capture::put_shard(&self.of, shard, start.as_ref());
                match lost {
                    Some(lost) => self.mark(capture, lost, &[stands]).await,
                    None => {
                        let step = capture.step(&self.of, "");
                        self.store.transact(&[&step, &stands], at).await
                    }
                }
            }
        };
        match done {
            Ok(()) | Err(Stopped::Condition(_)) => Ok(Round::More),
            Err(stopped) => Err(stopped.error(at)),
        }
    }

    async fn mark(&self, capture: &Capture, lost: &str, more: &[Write]) -> Result<(), Stopped> {
        let step = capture.step(&self.of, ", #lost = if_not_exists(#lost, :lost)");
        let step = step.with("lost", s(lost));
        let all: Vec<&Write> = std::iter::once(&step).chain(more).collect();
        self.store.transact(&all, self.at()).await
    }

    /// Markers that came through and were not taken yet, without those that only lead the way.
    pub(super) async fn came(&self, at: Tried<'_>) -> PortResult<BTreeSet<String>> {
        let found = self.store.query(&self.of.back_markers(), names::CAME, None, None, at).await?;
        let nonce = |item| sk(item).strip_prefix(names::CAME).map(str::to_owned);
        Ok(found.iter().filter_map(nonce).filter(|nonce| !nonce.contains('.')).collect())
    }
}

/// What is stored in one transaction.
#[derive(Default)]
struct Piece {
    writes: Vec<Write>,
    /// Markers among them.
    nonces: BTreeSet<String>,
    bytes: usize,
    lanes: BTreeMap<u8, i64>,
    records: i64,
    position: Option<Position>,
}

/// Why a stream cannot be read on as it was.
enum Broken<'a> {
    /// It is off.
    Off,
    /// It is another one.
    Replaced(&'a Stream),
    /// A shard was trimmed before it was read; what is left of it is read from this moment on.
    Shard(&'a str, Option<At>),
}

impl Broken<'_> {
    fn words(&self, table: &str) -> String {
        match self {
            Self::Off => format!("the stream of {table} is off"),
            Self::Replaced(_) => format!("the stream of {table} was replaced by another one"),
            Self::Shard(shard, _) => {
                format!("the stream of {table} was not read for too long: records of its shard {shard} are gone")
            }
        }
    }
}

/// Why a shard was not read.
enum Unread {
    Trimmed,
    Failed(PortError),
}

impl From<PortError> for Unread {
    fn from(error: PortError) -> Self {
        if error.kind == ErrorKind::Trimmed { Self::Trimmed } else { Self::Failed(error) }
    }
}

/// That a table is not captured.
pub(super) fn not_captured((tried, on): Tried<'_>) -> PortError {
    PortError::new(ErrorKind::NotFound, tried, on, "it is not captured").advise("run the arm step first")
}
