//! The outbox in memory: what the triggers of the new side capture, and who carries it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::new::{LET_IN, NewStore, text};
use crate::domain::at::At;
use crate::domain::mapping::{Clash, Family, image_digest};
use crate::domain::plan::Table;
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{
    Capture, Captured, ErrorKind, Image, Outbox, PortError, PortResult, Taken, Tally, Unfinished, Waiting,
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

/// Everything the way back keeps in the target.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// Tables with a trigger.
    armed: BTreeSet<String>,
    records: Vec<Record>,
    next: i64,
    /// Whether a carrier has its turn.
    turn: bool,
    back: bool,
    images: BTreeMap<(String, Key, u128), (i64, Clash)>,
    tally: BTreeMap<String, Tally>,
    conflicts: BTreeMap<(String, Key), Clash>,
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

    /// Whether a carrier was about to delete this item and its records wait still: nobody can tell that deletion from
    /// a customer's then.
    pub fn may_have_deleted(&self, table: &Table, key: &str) -> bool {
        let state = self.locked();
        let signed = state.outbox.images.get(&(table.id.clone(), Key(key.to_owned()), image_digest(None)));
        signed.is_some_and(|(record, _)| state.outbox.records.iter().any(|r| r.id == *record))
    }

    /// Records that wait, markers left out.
    pub fn captured(&self) -> usize {
        self.locked().outbox.records.iter().filter(|r| matches!(r.what, What::Row { .. })).count()
    }
}

#[async_trait]
impl Outbox for NewStore {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<Capture>> {
        let mut state = self.locked();
        let found = tables.iter().map(|t| {
            state.outbox.armed.insert(t.id.clone());
            let exercised = state.tables.get(&t.id).is_some_and(|t| !t.rows.is_empty());
            Capture { table: t.id.clone(), exercised, tables: vec![t.target.clone()] }
        });
        Ok(found.collect())
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

    async fn go_back(&self) -> PortResult<()> {
        self.locked().outbox.back = true;
        Ok(())
    }

    async fn settle(&self) -> PortResult<()> {
        self.locked().tables.remove(LET_IN);
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
            went_back: state.outbox.back,
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
                            change.states.push(family(before.clone()));
                        }
                        // Each key whole, and only those that are among the oldest.
                        None if oldest > limit => {}
                        None => taken.changes.push(Captured {
                            key: key.clone(),
                            records: vec![record.id],
                            since: record.at,
                            states: vec![family(before.clone())],
                            from: Vec::new(),
                        }),
                    }
                }
            }
        }
        for change in &mut taken.changes {
            change.states.push(family(rows.get(&text(&change.key)).cloned()));
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

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Tally>> {
        let state = self.locked();
        Ok(tables.iter().map(|t| (t.id.clone(), state.outbox.tally.get(&t.id).copied().unwrap_or_default())).collect())
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Clash)>> {
        let state = self.locked();
        let mine = state.outbox.conflicts.iter().filter(|((id, _), _)| *id == table.id);
        Ok(mine.map(|((_, key), clash)| (key.clone(), *clash)).collect())
    }

    async fn signed(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        let state = self.locked();
        let known = |(key, digest): &(Key, u128)| (table.id.clone(), key.clone(), *digest);
        Ok(images.iter().map(|image| state.outbox.images.contains_key(&known(image))).collect())
    }
}

fn family(row: Option<OwnedRow>) -> Option<Family> {
    row.map(|row| Family { row, children: vec![] })
}

/// Changes of one carrier's turn. Dropping it ends the turn.
struct FakeTaken {
    store: NewStore,
    table: String,
    changes: Vec<Captured>,
    markers: Vec<i64>,
    nonces: Vec<String>,
    went_back: bool,
}

impl Drop for FakeTaken {
    fn drop(&mut self) {
        self.store.locked().outbox.turn = false;
    }
}

#[async_trait]
impl Taken for FakeTaken {
    fn changes(&self) -> &[Captured] {
        &self.changes
    }

    fn markers(&self) -> &[String] {
        &self.nonces
    }

    fn went_back(&self) -> bool {
        self.went_back
    }

    async fn sign(&self, image: &Image) -> PortResult<bool> {
        let mut state = self.store.locked();
        let name = (self.table.clone(), image.key.clone(), image.digest);
        state.outbox.images.insert(name, (image.record, image.clash));
        Ok(state.outbox.back)
    }

    async fn unfinished(&self, key: &Key, digest: u128) -> PortResult<Option<Unfinished>> {
        let state = self.store.locked();
        let signed = state.outbox.images.get(&(self.table.clone(), key.clone(), digest));
        let waits = |record: i64| state.outbox.records.iter().any(|r| r.id == record);
        let signed = signed.map(|&(record, clash)| Unfinished { record, clash });
        Ok(signed.filter(|found| waits(found.record)))
    }

    async fn clear(&self, key: &Key, records: &[i64], clash: Clash) -> PortResult<()> {
        let mut state = self.store.locked();
        let before = state.outbox.records.len();
        state.outbox.records.retain(|r| !records.contains(&r.id));
        if state.outbox.records.len() == before {
            return Ok(());
        }
        state.outbox.tally.entry(self.table.clone()).or_default().add(Tally::of(clash));
        if matches!(clash, Clash::NewWon | Clash::OldWon) {
            state.outbox.conflicts.insert((self.table.clone(), key.clone()), clash);
        }
        Ok(())
    }

    async fn done(self: Box<Self>) -> PortResult<()> {
        self.store.locked().outbox.records.retain(|r| !self.markers.contains(&r.id));
        Ok(())
    }
}
