//! The old side in memory: tables with streams that have shards, lineage, retention and expiring iterators, as
//! DynamoDB Streams documents them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::clock::HandClock;
use crate::domain::mapping::{Mapped, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{
    Batch, Change, ChangeKind, ErrorKind, OpenWrite, PortError, PortResult, Position, ReadFrom, Shard, Stream,
};

/// An iterator lives this long (developer guide: 15 minutes).
const ITERATOR_MS: i64 = 15 * 60_000;

/// One shard: the half-open range of key hashes it takes, and its records.
#[derive(Clone, Debug)]
struct ShardState {
    shard: Shard,
    range: (u16, u16),
    records: Vec<Change>,
    /// Sequence number of the newest record that was trimmed.
    trimmed: u64,
}

#[derive(Clone, Debug)]
struct StreamState {
    arn: String,
    shards: Vec<ShardState>,
    born: u32,
}

/// One table.
#[derive(Clone, Debug)]
struct OldTable {
    mapping: TableMapping,
    items: BTreeMap<String, Record<'static>>,
    stream: Option<StreamState>,
    streams: u32,
    /// Sequence numbers begin so that their lengths differ soon: text order would be wrong order.
    sequence: u64,
    /// Shards that are there and are not listed yet.
    unlisted: Vec<String>,
}

impl Default for Back {
    fn default() -> Self {
        Self { batch: 1, columns: false, unique: None, refused: BTreeSet::new() }
    }
}

/// Every table of the old side. Cloning shares.
#[derive(Clone)]
pub struct OldStore {
    tables: Arc<Mutex<BTreeMap<String, OldTable>>>,
    open: Arc<Mutex<Vec<u32>>>,
    clock: Arc<HandClock>,
    /// Most records one read gives.
    pub page: usize,
    /// How the store takes changes of the way back.
    back: Arc<Mutex<Back>>,
}

/// How a store takes changes of the way back.
#[derive(Clone, Debug)]
pub struct Back {
    /// Items in one batch.
    pub batch: usize,
    /// Whether its items are rows of typed columns, each of which has every column of its table.
    pub columns: bool,
    /// A field whose value only one item of its table may have.
    pub unique: Option<&'static str>,
    /// Keys whose items it refuses.
    pub refused: BTreeSet<String>,
}

impl OldStore {
    /// The plan's tables, empty, without streams.
    pub fn new(tables: &[Table], clock: Arc<HandClock>) -> Self {
        let empty = |t: &Table| OldTable {
            mapping: TableMapping::new(t),
            items: BTreeMap::new(),
            stream: None,
            streams: 0,
            sequence: 7,
            unlisted: Vec::new(),
        };
        let tables = tables.iter().map(|t| (t.source.clone(), empty(t))).collect();
        Self {
            tables: Arc::new(Mutex::new(tables)),
            open: Arc::default(),
            clock,
            page: 4,
            back: Arc::new(Mutex::new(Back::default())),
        }
    }

    /// How it takes changes of the way back, to be changed.
    pub fn back(&self) -> MutexGuard<'_, Back> {
        self.back.lock().unwrap()
    }

    /// Whether a key's records go to the lower half of the hashes: to the first child of the first split.
    pub fn low(key: &str) -> bool {
        place(key) < 128
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, OldTable>> {
        self.tables.lock().unwrap()
    }

    fn with<R>(&self, table: &Table, f: impl FnOnce(&mut OldTable) -> R) -> PortResult<R> {
        let mut tables = self.locked();
        let found = tables.get_mut(&table.source);
        let missing = || PortError::new(ErrorKind::NotFound, "find", &table.source, "no such table");
        found.map(f).ok_or_else(missing)
    }

    /// Every table's name at the source.
    pub fn names_of_tables(&self) -> Vec<String> {
        self.locked().keys().cloned().collect()
    }

    /// Puts an item; one that changes nothing leaves no record, as the store does it.
    pub fn put(&self, table: &Table, item: Record<'static>) {
        let at = self.clock.true_wall();
        self.with(table, |t| {
            let (key, _) = t.mapping.key(&item).unwrap();
            let before = t.items.insert(key.0.clone(), item.clone());
            if before.as_ref() == Some(&item) {
                return;
            }
            let kind = if before.is_some() { ChangeKind::Modify } else { ChangeKind::Insert };
            t.record(&key.0, kind, key_of(table, &item), Some(item), at);
        })
        .unwrap();
    }

    /// Deletes an item by its key text; `expired` when TTL does it. Says whether it was there.
    pub fn delete(&self, table: &Table, key: &str, expired: bool) -> bool {
        let at = self.clock.true_wall();
        self.with(table, |t| {
            let Some(item) = t.items.remove(key) else { return false };
            t.record(key, ChangeKind::Remove { expired }, key_of(table, &item), None, at);
            true
        })
        .unwrap()
    }

    /// Changes the item of a key to what `make` says, if it is as `as_read` wants it; gives whether it was.
    pub fn change(
        &self,
        table: &Table,
        key: &Record<'static>,
        as_read: impl FnOnce(Option<&Record<'static>>) -> bool,
        make: impl FnOnce(Option<&Record<'static>>) -> Option<Record<'static>>,
    ) -> PortResult<bool> {
        let at = self.clock.true_wall();
        self.with(table, |t| {
            let (name, _) = t.mapping.key(key).unwrap();
            let before = t.items.get(&name.0).cloned();
            if !as_read(before.as_ref()) {
                return false;
            }
            let after = make(before.as_ref());
            if before == after {
                return true;
            }
            let kind = match (&before, &after) {
                (None, _) => ChangeKind::Insert,
                (_, None) => ChangeKind::Remove { expired: false },
                _ => ChangeKind::Modify,
            };
            match &after {
                Some(item) => drop(t.items.insert(name.0.clone(), item.clone())),
                None => drop(t.items.remove(&name.0)),
            }
            t.record(&name.0, kind, key.clone(), after, at);
            true
        })
    }

    /// From now on its items are rows of typed columns. Nobody is told of it.
    pub fn becomes_rows(&self, tables: &[Table]) {
        for table in tables {
            self.with(table, |t| t.items.values_mut().for_each(|item| *item = row_record(table, &t.mapping, item)))
                .unwrap();
        }
        self.back().columns = true;
    }

    /// Does something to a table, or nothing at all when it says so.
    pub fn whole<R, E>(&self, table: &Table, work: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        let before = self.with(table, |t| t.clone()).unwrap();
        let done = work();
        if done.is_err() {
            self.with(table, |t| *t = before).unwrap();
        }
        done
    }

    /// Items by key text.
    pub fn items(&self, table: &Table) -> BTreeMap<String, Record<'static>> {
        self.with(table, |t| t.items.clone()).unwrap()
    }

    /// Turns the stream on if it is off.
    pub fn enable(&self, table: &Table) -> PortResult<Stream> {
        self.with(table, |t| {
            if t.stream.is_none() {
                t.streams += 1;
                let arn = format!("arn:{}/stream/{}", table.source, t.streams);
                let first = ShardState {
                    shard: Shard { id: format!("shard-{}-0", t.streams), parent: None, closed: false },
                    range: (0, 256),
                    records: vec![],
                    trimmed: 0,
                };
                t.stream = Some(StreamState { arn, shards: vec![first], born: 1 });
            }
        })?;
        self.stream(table).map(|s| s.expect("it is on"))
    }

    /// Turns the stream off: whatever it held cannot be had any more.
    pub fn turn_off(&self, table: &Table) {
        self.with(table, |t| t.stream = None).unwrap();
    }

    /// The stream as it is.
    pub fn stream(&self, table: &Table) -> PortResult<Option<Stream>> {
        self.with(table, |t| {
            let listed = |x: &&ShardState| !t.unlisted.contains(&x.shard.id);
            t.stream.as_ref().map(|s| Stream {
                id: s.arn.clone(),
                shards: s.shards.iter().filter(listed).map(|x| x.shard.clone()).collect(),
            })
        })
    }

    /// Processes with these numbers have a transaction open from now on.
    pub fn transactions(&self, open: &[u32]) {
        *self.open.lock().unwrap() = open.to_vec();
    }

    /// Transactions that are open.
    pub fn open_transactions(&self) -> Vec<OpenWrite> {
        let of = |pid: &u32| OpenWrite { id: pid.to_string(), words: format!("process {pid}") };
        self.open.lock().unwrap().iter().map(of).collect()
    }

    /// A listing is as it was before this shard was born, until it is listed again.
    pub fn unlist(&self, table: &Table, shard: &str, unlisted: bool) {
        self.with(table, |t| {
            t.unlisted.retain(|id| id != shard);
            t.unlisted.extend(unlisted.then(|| shard.to_owned()));
        })
        .unwrap();
    }

    /// Every open shard ends and goes on in as many children: two is a split, one is a roll-over.
    pub fn split(&self, table: &Table, children: u16) {
        self.with(table, |t| {
            let generation = t.streams;
            let Some(stream) = &mut t.stream else { return };
            let mut born = Vec::new();
            for parent in stream.shards.iter_mut().filter(|s| !s.shard.closed) {
                let (low, high) = parent.range;
                let width = (high - low) / children;
                if width == 0 {
                    continue;
                }
                parent.shard.closed = true;
                for n in 0..children {
                    let end = if n + 1 == children { high } else { low + (n + 1) * width };
                    born.push(ShardState {
                        shard: Shard {
                            id: format!("shard-{generation}-{}", stream.born),
                            parent: Some(parent.shard.id.clone()),
                            closed: false,
                        },
                        range: (low + n * width, end),
                        records: vec![],
                        trimmed: 0,
                    });
                    stream.born += 1;
                }
            }
            stream.shards.extend(born);
        })
        .unwrap();
    }

    /// Trims the oldest records of every shard down to `keep`, and closed shards that hold nothing more.
    pub fn trim(&self, table: &Table, keep: usize) {
        self.with(table, |t| {
            let Some(stream) = &mut t.stream else { return };
            for shard in &mut stream.shards {
                let gone = shard.records.len().saturating_sub(keep);
                if let Some(last) = shard.records.drain(..gone).next_back() {
                    shard.trimmed = number(&last.position);
                }
            }
            stream.shards.retain(|s| !(s.shard.closed && s.records.is_empty()));
        })
        .unwrap();
    }

    /// An iterator, as text that says where it stands and when it was made.
    pub fn iterator(&self, arn: &str, id: &str, from: &ReadFrom) -> PortResult<String> {
        let gone = || PortError::new(ErrorKind::NotFound, "get an iterator", id, "no such stream or shard");
        let tables = self.locked();
        let stream = tables.values().filter_map(|t| t.stream.as_ref()).find(|s| s.arn == arn).ok_or_else(gone)?;
        let shard = stream.shards.iter().find(|s| s.shard.id == id).ok_or_else(gone)?;
        let after = match from {
            ReadFrom::Oldest => shard.trimmed,
            ReadFrom::At(p) => number(p) - 1,
            ReadFrom::After(p) => number(p),
            ReadFrom::Newest => shard.records.last().map_or(shard.trimmed, |c| number(&c.position)),
        };
        if after < shard.trimmed {
            return Err(PortError::new(ErrorKind::Trimmed, "get an iterator", id, "the position was trimmed"));
        }
        Ok(format!("{arn}|{id}|{after}|{}", self.clock.peek()))
    }

    /// Reads on. Records come in pages; an empty page says nothing about the end.
    pub fn read(&self, iterator: &str) -> PortResult<Batch> {
        let parts: Vec<&str> = iterator.split('|').collect();
        let [arn, id, after, born] = parts[..] else { panic!("not an iterator of ours: {iterator}") };
        let (after, born): (u64, i64) = (after.parse().unwrap(), born.parse().unwrap());
        if self.clock.peek() - born > ITERATOR_MS {
            return Err(PortError::new(ErrorKind::Expired, "read", id, "the iterator is too old"));
        }
        let tables = self.locked();
        let gone = || PortError::new(ErrorKind::NotFound, "read", id, "no such stream or shard");
        let stream = tables.values().filter_map(|t| t.stream.as_ref()).find(|s| s.arn == arn).ok_or_else(gone)?;
        let shard = stream.shards.iter().find(|s| s.shard.id == id).ok_or_else(gone)?;
        if after < shard.trimmed {
            return Err(PortError::new(ErrorKind::Trimmed, "read", id, "the position was trimmed"));
        }
        let left: Vec<&Change> = shard.records.iter().filter(|c| number(&c.position) > after).collect();
        let changes: Vec<Change> = left.iter().take(self.page).map(|c| (*c).clone()).collect();
        let ended = shard.shard.closed && changes.len() == left.len();
        let reached = changes.last().map_or(after, |c| number(&c.position));
        let next = (!ended).then(|| format!("{arn}|{id}|{reached}|{}", self.clock.peek()));
        Ok(Batch { changes, next, reached: None })
    }

    /// The records a shard of a stream holds up to and including a position, oldest first: what a re-delivery repeats.
    pub fn delivered(&self, arn: &str, id: &str, up_to: &Position) -> Vec<Change> {
        let tables = self.locked();
        let streams = tables.values().filter_map(|t| t.stream.as_ref()).filter(|s| s.arn == arn);
        let shard = streams.flat_map(|s| &s.shards).filter(|s| s.shard.id == id);
        shard.flat_map(|s| &s.records).filter(|c| number(&c.position) <= number(up_to)).cloned().collect()
    }
}

impl OldTable {
    fn record(
        &mut self,
        key: &str,
        kind: ChangeKind,
        keys: Record<'static>,
        image: Option<Record<'static>>,
        at: crate::domain::at::At,
    ) {
        self.sequence += 1;
        let position = Position(self.sequence.to_string());
        // The store rounds down to the second.
        let at = crate::domain::at::At(at.0 - at.0.rem_euclid(1000));
        let place = place(key);
        let Some(stream) = &mut self.stream else { return };
        let open = stream.shards.iter_mut().find(|s| !s.shard.closed && (s.range.0..s.range.1).contains(&place));
        open.expect("every key has an open shard").records.push(Change {
            kind,
            key: keys,
            image,
            mark: None,
            position,
            at,
        });
    }
}

/// An item as a row of typed columns.
pub fn row_record(table: &Table, mapping: &TableMapping, item: &Record<'static>) -> Record<'static> {
    let mut mapped = Mapped::default();
    mapping.map(item, &mut mapped).expect("an item that has a row");
    let cells = mapped.row.into_iter().map(|cell| Value::from(cell.into_owned()));
    Record { fields: table.columns.iter().map(|column| column.name.clone().into()).zip(cells).collect() }
}

/// Where a key's records go: 0..256.
fn place(key: &str) -> u16 {
    u16::from(key.bytes().fold(7_u8, |h, b| h.wrapping_mul(31).wrapping_add(b)))
}

fn key_of(table: &Table, item: &Record<'static>) -> Record<'static> {
    Record { fields: item.fields.iter().filter(|(n, _)| table.key.iter().any(|k| k == n)).cloned().collect() }
}

fn number(position: &Position) -> u64 {
    position.0.parse().unwrap()
}
