//! The outbox in memory: what the triggers of the new side capture, and who applies it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::new::{NewStore, text};
use crate::domain::at::At;
use crate::domain::mapping::{Resolution, RowTree, item_digest};
use crate::domain::plan::Table;
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{
    CaptureGap, CaptureState, Cleared, ErrorKind, OpenWrite, Outbox, OutboxChange, OwnWrite, PortError, PortResult,
    ReverseCounts, Sequence, Taken, Unfinished, Waiting,
};

/// A change of one row, or a marker.
#[derive(Clone, Debug)]
struct Record {
    id: i64,
    table: String,
    what: What,
    at: At,
}

#[derive(Clone, Debug)]
enum What {
    Row { key: OwnedRow, before: Option<OwnedRow> },
    Marker(String),
}

/// Everything the reverse flow keeps in the target.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// Tables with a trigger.
    armed: BTreeSet<String>,
    /// What is not captured, in words.
    pub gaps: Vec<CaptureGap>,
    /// Transactions that are open.
    pub open: Vec<OpenWrite>,
    records: Vec<Record>,
    next: i64,
    /// Whether a reverse applier has its turn.
    turn: bool,
    back: bool,
    images: BTreeMap<(String, Key, u128), (i64, Resolution)>,
    tally: BTreeMap<String, ReverseCounts>,
    conflicts: BTreeMap<(String, Key), Resolution>,
}

impl Captures {
    /// What a trigger does, in the transaction of the change.
    pub fn capture(&mut self, table: &Table, key: OwnedRow, before: Option<OwnedRow>, at: At) {
        if self.armed.contains(&table.id) {
            self.put(table, What::Row { key, before }, at);
        }
    }

    fn put(&mut self, table: &Table, what: What, at: At) {
        self.next += 1;
        self.records.push(Record { id: self.next, table: table.id.clone(), what, at });
    }
}

impl NewStore {
    /// Somebody drops the trigger of a table.
    pub fn drop_trigger(&self, table: &Table) {
        self.locked().outbox.armed.remove(&table.id);
    }

    /// Whether a reverse applier was about to delete this item and its records wait still: then that deletion cannot be
    /// distinguished from a customer's.
    pub fn may_have_deleted(&self, table: &Table, key: &str) -> bool {
        let state = self.locked();
        let own_writes = state.outbox.images.get(&(table.id.clone(), Key(key.to_owned()), item_digest(None)));
        own_writes.is_some_and(|(record, _)| state.outbox.records.iter().any(|r| r.id == *record))
    }

    /// Records that wait, markers left out.
    pub fn captured(&self) -> usize {
        self.locked().outbox.records.iter().filter(|r| matches!(r.what, What::Row { .. })).count()
    }
}

#[async_trait]
impl Outbox for NewStore {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>> {
        let mut state = self.locked();
        let found = tables.iter().map(|t| {
            state.outbox.armed.insert(t.id.clone());
            let exercised = state.tables.get(&t.id).is_some_and(|t| !t.rows.is_empty());
            CaptureState { table: t.id.clone(), exercised, tables: vec![t.target.clone()] }
        });
        Ok(found.collect())
    }

    async fn gaps(&self, _: &[Table]) -> PortResult<Vec<CaptureGap>> {
        Ok(self.locked().outbox.gaps.clone())
    }

    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn open_writes(&self, _: &[Table]) -> PortResult<Vec<OpenWrite>> {
        Ok(self.locked().outbox.open.clone())
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        let state = self.locked();
        Ok(tables.iter().all(|t| state.outbox.armed.contains(&t.id)))
    }

    async fn disarm(&self, _: &[Table]) -> PortResult<()> {
        let turn = self.locked().outbox.turn;
        if self.captured() > 0 {
            return Err(PortError::new(ErrorKind::Conflict, "stop capturing in", "the target", "records wait"));
        }
        self.locked().outbox = Captures { turn, ..Captures::default() };
        Ok(())
    }

    async fn mark_rolled_back(&self, run: &str, _: &[Table]) -> PortResult<()> {
        let mut state = self.locked();
        if state.run != run {
            let why = format!("they belong to run {} of the same plan now", state.run);
            return Err(PortError::new(ErrorKind::Invalid, "mark as rolled back", "the target tables", why));
        }
        state.outbox.back = true;
        Ok(())
    }

    async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let mut state = self.locked();
        state.open_to_customers.retain(|id, opened| opened.run != run || !tables.iter().any(|table| table.id == *id));
        Ok(())
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let at = self.clock.true_wall();
        self.locked().outbox.put(table, What::Marker(nonce.to_owned()), at);
        Ok(())
    }

    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
        let mut state = self.locked();
        let mine: Vec<Record> = state.outbox.records.iter().filter(|r| r.table == table.id).cloned().collect();
        if mine.is_empty() {
            return Ok(None);
        }
        if state.outbox.turn {
            return Err(PortError::new(ErrorKind::Throttled, "take changes of", &table.id, "another process carries"));
        }
        state.outbox.turn = true;
        let rows = state.tables.get(&table.id).map(|t| t.rows.clone()).unwrap_or_default();
        let mut taken = FakeTaken {
            store: self.clone(),
            table: table.id.clone(),
            changes: Vec::new(),
            markers: Vec::new(),
            nonces: Vec::new(),
            rolled_back: state.outbox.back,
        };
        let mut oldest = 0;
        for record in &mine {
            match &record.what {
                What::Marker(nonce) => {
                    taken.markers.push(record.id);
                    taken.nonces.push(nonce.clone());
                }
                What::Row { key, before } => {
                    oldest += 1;
                    match taken.changes.iter_mut().find(|c| c.key == *key) {
                        Some(change) => {
                            change.records.push(record.id);
                            change.states.push(row_tree(before.clone()));
                        }
                        // Each key whole, and only those that are among the oldest.
                        None if oldest > limit => {}
                        None => taken.changes.push(OutboxChange {
                            key: key.clone(),
                            records: vec![record.id],
                            since: record.at,
                            states: vec![row_tree(before.clone())],
                            from: Vec::new(),
                            absent: None,
                        }),
                    }
                }
            }
        }
        for change in &mut taken.changes {
            change.states.push(row_tree(rows.get(&text(&change.key)).cloned()));
            change.from = std::iter::once(0).chain(change.records.iter().copied()).collect();
        }
        Ok(Some(Box::new(taken)))
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        let (state, now) = (self.locked(), self.clock.true_wall());
        let of = |table: &Table| {
            let mine = state.outbox.records.iter().filter(|r| r.table == table.id);
            let rows: Vec<&Record> = mine.filter(|r| matches!(r.what, What::Row { .. })).collect();
            Waiting { records: rows.len() as u64, oldest_ms: rows.first().map_or(0, |r| now.since(r.at)) }
        };
        Ok(tables.iter().map(|t| (t.id.clone(), of(t))).collect())
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        let state = self.locked();
        Ok(tables.iter().map(|t| (t.id.clone(), state.outbox.tally.get(&t.id).copied().unwrap_or_default())).collect())
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        let state = self.locked();
        let mine = state.outbox.conflicts.iter().filter(|((id, _), _)| *id == table.id);
        Ok(mine.map(|((_, key), resolution)| (key.clone(), *resolution)).collect())
    }

    async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        let state = self.locked();
        let known = |(key, digest): &(Key, u128)| (table.id.clone(), key.clone(), *digest);
        Ok(images.iter().map(|image| state.outbox.images.contains_key(&known(image))).collect())
    }
}

fn row_tree(row: Option<OwnedRow>) -> Option<RowTree> {
    row.map(|row| RowTree { row, children: vec![] })
}

/// Changes of one reverse applier's turn. Dropping it ends the turn.
struct FakeTaken {
    store: NewStore,
    table: String,
    changes: Vec<OutboxChange>,
    markers: Vec<i64>,
    nonces: Vec<String>,
    rolled_back: bool,
}

impl Drop for FakeTaken {
    fn drop(&mut self) {
        self.store.locked().outbox.turn = false;
    }
}

#[async_trait]
impl Taken for FakeTaken {
    fn changes(&self) -> &[OutboxChange] {
        &self.changes
    }

    fn markers(&self) -> &[String] {
        &self.nonces
    }

    fn rolled_back(&self) -> bool {
        self.rolled_back
    }

    async fn record_own_writes(&self, images: &[OwnWrite]) -> PortResult<bool> {
        let mut state = self.store.locked();
        for image in images {
            let name = (self.table.clone(), image.key.clone(), image.digest);
            state.outbox.images.insert(name, (image.record, image.resolution));
        }
        Ok(state.outbox.back)
    }

    async fn unfinished(&self, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>> {
        let state = self.store.locked();
        let waits = |record: i64| state.outbox.records.iter().any(|r| r.id == record);
        let of_key = |key: &Key| {
            let mut found: Vec<Unfinished> = (state.outbox.images.iter())
                .filter(|((table, of, _), (record, _))| *table == self.table && of == key && waits(*record))
                .map(|((.., digest), &(record, resolution))| Unfinished { digest: *digest, record, resolution })
                .collect();
            found.sort_by_key(|f| f.record);
            found
        };
        Ok(keys.iter().map(of_key).collect())
    }

    async fn clear(&self, applied: &[Cleared]) -> PortResult<()> {
        let mut state = self.store.locked();
        for Cleared { key, records, resolution } in applied {
            let before = state.outbox.records.len();
            state.outbox.records.retain(|r| !records.contains(&r.id));
            if state.outbox.records.len() == before {
                continue;
            }
            state.outbox.tally.entry(self.table.clone()).or_default().add(ReverseCounts::of(*resolution));
            if matches!(resolution, Resolution::NewWon | Resolution::OldWon) {
                state.outbox.conflicts.insert((self.table.clone(), key.clone()), *resolution);
            }
        }
        Ok(())
    }

    async fn done(self: Box<Self>) -> PortResult<()> {
        self.store.locked().outbox.records.retain(|r| !self.markers.contains(&r.id));
        Ok(())
    }
}
