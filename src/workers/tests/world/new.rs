//! The new side in memory: rows, ledger, checkpoints and positions, changed in one transaction at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::clock::HandClock;
use super::outbox::Captures;
use crate::domain::at::At;
use crate::domain::mapping::{RowError, RowErrorReason};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key, OwnedRow};
use crate::ports::{
    Ahead, Applied, ChangeBatch, Checkpoint, CountChange, ErrorKind, Fence, FollowState, LaneStand, Lease, OpenedTable,
    ParkedRow, PortError, PortResult, Position, RowChange, Sequence, SequenceScan, common, is_behind, refuse_rewound,
    rewound,
};

/// A row on its way in: key text, key JSON, cells.
pub type Waiting = (Key, String, OwnedRow);

/// One table with its bookkeeping.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub rows: BTreeMap<String, OwnedRow>,
    pub checkpoints: BTreeMap<(u32, u32), Checkpoint>,
    pub stream: Option<(String, BTreeMap<String, Option<Position>>)>,
    /// Who may follow: the token of the last resume, and into how many lanes it splits.
    pub fence: Option<Fence>,
    /// How far lanes have come.
    pub lanes: Vec<LaneStand>,
    /// Parked rows by key, with the order they came in.
    pub parked: BTreeMap<String, (u64, ParkedRow)>,
    pub expired: u64,
    pub markers: BTreeMap<String, At>,
    /// The full reading: when it began, and once it ended what it read and when.
    pub read: Option<(At, Option<(u64, At)>)>,
    /// Items that came and went.
    pub counts: Vec<CountChange>,
}

/// Everything in the target.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub tables: BTreeMap<String, Stored>,
    pub lease: Option<Lease>,
    /// Which run owns these tables: the one that claimed them last.
    pub run: String,
    /// Tables on which customers may write.
    pub open_to_customers: BTreeMap<String, OpenedTable>,
    /// Row changes by anybody.
    pub writes: u64,
    /// Sequences that feed moved columns, as they are found.
    pub sequences: Vec<Sequence>,
    /// How they were scanned, each time they were advanced.
    pub advanced: Vec<SequenceScan>,
    /// What customers' writes leave for the reverse flow.
    pub outbox: Captures,
    parked: u64,
    /// Tokens given out; none comes twice.
    tokens: i64,
}

/// The target. Cloning shares.
#[derive(Clone)]
pub struct NewStore {
    state: Arc<Mutex<State>>,
    plan: Arc<Vec<Table>>,
    pub clock: Arc<HandClock>,
}

impl NewStore {
    /// The plan's tables, empty. Columns called `isbn` are unique, foreign keys are enforced.
    pub fn new(tables: &[Table], clock: Arc<HandClock>) -> Self {
        Self { state: Arc::default(), plan: Arc::new(tables.to_vec()), clock }
    }

    /// The state, locked.
    pub fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A copy of one table.
    pub fn table(&self, table: &Table) -> Stored {
        self.locked().tables.get(&table.id).cloned().unwrap_or_default()
    }

    /// The lease's fencing number, if anybody ever drove.
    pub fn epoch(&self) -> Option<i64> {
        self.locked().lease.as_ref().map(|l| l.epoch)
    }

    /// What another program does to a row: puts it, past every mapping. Captured where capture is armed.
    pub fn foreign_put(&self, table: &Table, row: OwnedRow) {
        let key = row_key(table, &row);
        let cells = key_cells(table, &row);
        let mut state = self.locked();
        state.writes += 1;
        let before = state.tables.entry(table.id.clone()).or_default().rows.insert(key, row.clone());
        if before.as_ref() != Some(&row) {
            state.outbox.capture(table, cells, before, self.clock.true_wall());
        }
    }

    /// What another program does to a row: removes it. Says whether it was there.
    pub fn foreign_delete(&self, table: &Table, key: &str) -> bool {
        let mut state = self.locked();
        state.writes += 1;
        let gone = state.tables.entry(table.id.clone()).or_default().rows.remove(key);
        if let Some(row) = gone.clone() {
            state.outbox.capture(table, key_cells(table, &row), Some(row), self.clock.true_wall());
        }
        gone.is_some()
    }

    /// Runs a transaction: all of it or nothing.
    pub fn transact<R>(&self, work: impl FnOnce(&mut State, &[Table]) -> PortResult<R>) -> PortResult<R> {
        let mut state = self.locked();
        let mut draft = state.clone();
        let result = work(&mut draft, &self.plan)?;
        *state = draft;
        Ok(result)
    }

    /// Rows with their parked companions and their checkpoint.
    pub fn flush(
        &self,
        table: &Table,
        rows: &[Waiting],
        parked: &[ParkedRow],
        checkpoint: &Checkpoint,
    ) -> PortResult<Applied> {
        self.transact(|state, plan| {
            // Of two rows with one key the second is refused: folding them would hide that one is lost.
            let mut seen = std::collections::BTreeSet::new();
            let (rows, twice): (Vec<Waiting>, Vec<Waiting>) =
                rows.iter().cloned().partition(|(_, _, row)| seen.insert(row_key(table, row)));
            let mut refused = state.land(plan, table, &rows);
            let upserted = (rows.len() - refused.len()) as u64;
            refused.extend(twice.into_iter().map(|(key, key_json, _)| {
                let row_error = RowError::new("-", RowErrorReason::DuplicateUnique);
                ParkedRow { table: table.id.clone(), key, row_error, key_json }
            }));
            let lost = refused.len() as u64;
            state.park(table, parked);
            state.park(table, &refused);
            let counted =
                Checkpoint { rows: checkpoint.rows - lost, parked: checkpoint.parked + lost, ..checkpoint.clone() };
            let part = (counted.part.of, counted.part.index);
            state.tables.entry(table.id.clone()).or_default().checkpoints.insert(part, counted);
            Ok(Applied { upserted, deleted: 0, parked: refused })
        })
    }

    /// Hands the table to whoever asks last, if it is a process that has the lease (`epoch`; absent when it never had it).
    pub fn resume_follow(&self, table: &Table, lanes: u32, epoch: Option<i64>) -> PortResult<Option<FollowState>> {
        self.transact(|state, _| {
            state.tokens += 1;
            let (token, driven) = (state.tokens, state.is_driven_by(epoch));
            let stored = state.tables.entry(table.id.clone()).or_default();
            let Some((stream, positions)) = stored.stream.clone() else { return Ok(None) };
            if !driven {
                return Err(overtaken("resume following of", table));
            }
            let lanes = lanes.max(1);
            let fence = Fence { token, lanes };
            stored.fence = Some(fence);
            let positions = common(positions, &stored.lanes);
            stored.stream = Some((stream.clone(), positions.clone()));
            let before = stored.lanes.len();
            stored.lanes.retain(|stand| stand.of == lanes);
            if stored.lanes.len() < before {
                (stored.read, stored.counts) = (None, Vec::new());
            }
            let ahead = Ahead::of(lanes, &stored.lanes, &positions);
            Ok(Some(FollowState { stream, positions, ahead, fence }))
        })
    }

    /// Changes with the positions they reach: lane by lane, then what no lane could land together with the positions.
    pub fn apply(&self, table: &Table, batch: ChangeBatch, epoch: Option<i64>) -> PortResult<Applied> {
        self.apply_torn(table, batch, u32::MAX, epoch)
    }

    /// The same by a process that dies when so many lanes have landed.
    pub fn apply_torn(
        &self,
        table: &Table,
        mut batch: ChangeBatch,
        dies_after: u32,
        epoch: Option<i64>,
    ) -> PortResult<Applied> {
        let dead = || PortError::new(ErrorKind::Unreachable, "apply changes to", &table.target, "the process died");
        let mut applied = Applied::default();
        if let Some(fence) = batch.fence.filter(|fence| fence.lanes > 1) {
            let (mut left, mut landed) = (Vec::new(), 0);
            let told = batch.markers.is_empty() && batch.finished.is_empty() && batch.expired == 0;
            // With something else to record, one lane lands with it.
            let lanes = if told { fence.lanes } else { fence.lanes - 1 };
            let all = batch.counts.clone();
            let counts_of = |lane| all.iter().filter(|c| c.lane == lane).copied().collect::<Vec<_>>();
            for lane in 0..lanes {
                let (mine, others) = batch.rows.into_iter().partition(|row| row.key().lane(fence.lanes) == lane);
                batch.rows = others;
                if landed >= dies_after {
                    return Err(dead());
                }
                let of_lane = ChangeBatch { rows: mine, markers: Vec::new(), expired: 0, ..batch.clone() };
                let of_lane = ChangeBatch { counts: counts_of(lane), ..of_lane };
                match self.transact(|state, plan| state.apply(plan, table, &of_lane, Some(lane), (At(0), epoch))) {
                    Ok(one) => {
                        landed += 1;
                        batch.counts.retain(|c| c.lane != lane);
                        applied.upserted += one.upserted;
                        applied.deleted += one.deleted;
                    }
                    // Refused in it: left for the end.
                    Err(e) if e.kind == ErrorKind::Invalid => left.extend(of_lane.rows),
                    Err(e) => return Err(e),
                }
            }
            if dies_after != u32::MAX {
                return Err(dead());
            }
            if left.is_empty() && told {
                return Ok(applied);
            }
            batch.rows.extend(left);
        } else if dies_after != u32::MAX {
            return Err(dead());
        }
        let at = self.clock.true_wall();
        let rest = self.transact(|state, plan| state.apply(plan, table, &batch, None, (at, epoch)))?;
        applied.upserted += rest.upserted;
        applied.deleted += rest.deleted;
        applied.parked = rest.parked;
        Ok(applied)
    }
}

impl State {
    /// One transaction: a lane's rows with how far it has come, or all that is left with the common positions.
    fn apply(
        &mut self,
        plan: &[Table],
        table: &Table,
        batch: &ChangeBatch,
        lane: Option<u32>,
        (at, epoch): (At, Option<i64>),
    ) -> PortResult<Applied> {
        if !batch.rows.is_empty() && !self.is_driven_by(epoch) {
            return Err(overtaken("apply changes to", table));
        }
        self.fence(table, batch, lane)?;
        if !batch.rows.is_empty() && self.open_to_customers.contains_key(&table.id) {
            let why = "the new side is open to customers";
            return Err(PortError::new(ErrorKind::Conflict, "apply changes to", &table.target, why));
        }
        let mut applied = Applied::default();
        let (mut rows, mut removals, mut parks) = (Vec::new(), Vec::new(), Vec::new());
        for change in batch.rows.iter().cloned() {
            match change {
                RowChange::Upsert { key, key_json, row, .. } => rows.push((key, key_json, row)),
                RowChange::Delete { key, key_json, row_key } => removals.push((key, key_json, text(&row_key))),
                RowChange::Park(row) => parks.push(row),
            }
        }
        for parked in &parks {
            self.remove(plan, table, &parked.key.0);
        }
        removals.retain(|(key, _, row)| match self.remove(plan, table, row) {
            Some(rows) => {
                self.unpark(table, &key.0);
                applied.deleted += rows;
                false
            }
            None => true,
        });
        applied.parked = self.land(plan, table, &rows);
        applied.upserted = (rows.len() - applied.parked.len()) as u64;
        // After these rows nothing of this batch may refer any more to the ones that could not be deleted.
        for (key, key_json, row) in removals {
            if let Some(rows) = self.remove(plan, table, &row) {
                self.unpark(table, &key.0);
                applied.deleted += rows;
            } else {
                let row_error = RowError::new("-", RowErrorReason::StillReferenced);
                applied.parked.push(ParkedRow { table: table.id.clone(), key, row_error, key_json });
            }
        }
        self.park(table, &parks);
        let stored = self.tables.entry(table.id.clone()).or_default();
        let positions = batch.positions.iter().map(|(s, p)| (s.clone(), Some(p.clone())));
        let reached = positions.chain(batch.finished.iter().map(|s| (s.clone(), None)));
        if let Some(lane) = lane {
            if !applied.parked.is_empty() {
                return Err(PortError::new(ErrorKind::Invalid, "apply changes to", &table.target, "a row was refused"));
            }
            let of = stored.fence.map_or(1, |fence| fence.lanes);
            for (shard, position) in reached {
                let known = stored.lanes.iter().position(|stand| (stand.lane, &stand.shard) == (lane, &shard));
                let further =
                    known.and_then(|n| stored.lanes.get(n)).is_some_and(|stand| match (&stand.position, &position) {
                        (None, _) => true,
                        (Some(_), None) => false,
                        (Some(old), Some(new)) => old.order(new) == Some(std::cmp::Ordering::Greater),
                    });
                if !further {
                    known.map(|n| stored.lanes.swap_remove(n));
                    stored.lanes.push(LaneStand { lane, of, shard, position });
                }
            }
            stored.counts.extend(&batch.counts);
            return Ok(applied);
        }
        if let Some((_, positions)) = &mut stored.stream {
            positions.extend(reached);
        }
        stored.markers.extend(batch.markers.iter().map(|n| (n.clone(), at)));
        stored.expired += batch.expired;
        stored.counts.extend(&batch.counts);
        self.park(table, &applied.parked.clone());
        Ok(applied)
    }

    /// Lands rows one by one until nothing more lands; what is left is refused, and leaves no older self behind.
    fn land(&mut self, plan: &[Table], table: &Table, rows: &[Waiting]) -> Vec<ParkedRow> {
        let mut left: Vec<&Waiting> = rows.iter().collect();
        loop {
            let before = left.len();
            left.retain(|(key, _, row)| {
                let refused = self.refusal(plan, table, row).is_some();
                if !refused {
                    self.unpark(table, &key.0);
                    self.writes += 1;
                    let stored = self.tables.entry(table.id.clone()).or_default();
                    stored.rows.insert(row_key(table, row), row.clone());
                }
                refused
            });
            if left.len() == before {
                break;
            }
        }
        // All reasons first: an older version that goes may give free what another one was refused for.
        let why = |(key, key_json, row): &&Waiting| ParkedRow {
            table: table.id.clone(),
            key: key.clone(),
            row_error: self.refusal(plan, table, row).expect("it was refused"),
            key_json: key_json.clone(),
        };
        let parked = left.iter().map(why).collect();
        for (_, _, row) in left {
            self.remove(plan, table, &row_key(table, row));
        }
        parked
    }

    fn refusal(&self, plan: &[Table], table: &Table, row: &OwnedRow) -> Option<RowError> {
        let own = row_key(table, row);
        let empty = Stored::default();
        let stored = self.tables.get(&table.id).unwrap_or(&empty);
        for (n, column) in table.columns.iter().enumerate().filter(|(_, c)| c.name == "isbn") {
            let taken = row[n] != Cell::Null && stored.rows.iter().any(|(k, r)| *k != own && r[n] == row[n]);
            if taken {
                return Some(RowError::new(&column.name, RowErrorReason::DuplicateUnique));
            }
        }
        for fk in &table.foreign_keys {
            let place = |c: &String| table.columns.iter().position(|x| x.name == *c).expect("a column");
            let cells: OwnedRow = fk.columns.iter().map(|c| row[place(c)].clone()).collect();
            let parents = plan.iter().find(|t| t.id == fk.references).and_then(|t| self.tables.get(&t.id));
            let there = parents.is_some_and(|p| p.rows.contains_key(&text(&cells)));
            if !cells.contains(&Cell::Null) && !there {
                return Some(RowError::new(&fk.columns[0], RowErrorReason::ForeignKey));
            }
        }
        None
    }

    /// Whether a process that had the lease at this epoch has it still; one that never had it is asked for none.
    fn is_driven_by(&self, epoch: Option<i64>) -> bool {
        epoch.is_none_or(|ours| self.lease.as_ref().map(|lease| lease.epoch) == Some(ours))
    }

    /// Removes a row, and says how many went: one or none. `None` when others still refer to it.
    fn remove(&mut self, plan: &[Table], table: &Table, key: &str) -> Option<u64> {
        let referred = plan.iter().any(|child| {
            child.foreign_keys.iter().filter(|fk| fk.references == table.id).any(|fk| {
                let places: Vec<usize> =
                    fk.columns.iter().filter_map(|c| child.columns.iter().position(|x| x.name == *c)).collect();
                let rows = self.tables.get(&child.id).map(|t| &t.rows);
                let at = |row: &OwnedRow| text(&places.iter().map(|p| row[*p].clone()).collect::<Vec<_>>());
                rows.is_some_and(|rows| rows.values().any(|row| at(row) == key))
            })
        });
        if referred {
            return None;
        }
        let stored = self.tables.entry(table.id.clone()).or_default();
        let gone = u64::from(stored.rows.remove(key).is_some());
        self.writes += gone;
        Some(gone)
    }

    fn park(&mut self, table: &Table, rows: &[ParkedRow]) {
        for row in rows {
            self.parked += 1;
            let first = self.parked;
            let ledger = &mut self.tables.entry(table.id.clone()).or_default().parked;
            let seen = ledger.get(&row.key.0).map_or(first, |(seen, _)| *seen);
            ledger.insert(row.key.0.clone(), (seen, row.clone()));
        }
    }

    fn unpark(&mut self, table: &Table, key: &str) {
        self.tables.entry(table.id.clone()).or_default().parked.remove(key);
    }

    /// Refuses positions that go back: another process follows now.
    fn fence(&self, table: &Table, batch: &ChangeBatch, lane: Option<u32>) -> PortResult<()> {
        if batch.positions.is_empty() && batch.finished.is_empty() {
            return Ok(());
        }
        let conflict = |why: &str| PortError::new(ErrorKind::Conflict, "apply changes to", &table.target, why);
        let known = self.tables.get(&table.id);
        if batch.fence.is_some_and(|ours| known.and_then(|t| t.fence) != Some(ours)) {
            return Err(conflict("this table was resumed by another follower since"));
        }
        let stored = known.and_then(|t| t.stream.as_ref());
        let Some((_, stored)) = stored else { return Err(conflict("no start is stored")) };
        let mut stands = match lane {
            None => common(stored.clone(), &known.map(|t| t.lanes.clone()).unwrap_or_default()),
            Some(_) => stored.clone(),
        };
        for own in known.iter().flat_map(|t| &t.lanes).filter(|own| Some(own.lane) == lane) {
            if !is_behind(Some(&own.position), stands.get(&own.shard).unwrap_or(&own.position)) {
                stands.insert(own.shard.clone(), own.position.clone());
            }
        }
        if let Some(shard) = rewound(&batch.from, &stands) {
            return Err(refuse_rewound("apply changes to", &table.target, shard));
        }
        for (shard, new) in &batch.positions {
            let overtaken = match stored.get(shard) {
                None => false,
                Some(None) => !batch.finished.contains(shard),
                Some(Some(old)) => match (new.0.parse::<u64>(), old.0.parse::<u64>()) {
                    (Ok(new), Ok(old)) => new < old,
                    _ => false,
                },
            };
            if overtaken {
                return Err(conflict("the shard stands further on than this batch"));
            }
        }
        Ok(())
    }
}

/// That a process has lost the lease.
pub fn overtaken(tried: &str, table: &Table) -> PortError {
    PortError::new(ErrorKind::Conflict, tried, &table.target, "another process has taken the lease since")
}

/// A row's key as the store keeps it.
pub fn row_key(table: &Table, row: &[Cell<'static>]) -> String {
    text(&key_cells(table, row))
}

/// Cells of a row's key columns.
fn key_cells(table: &Table, row: &[Cell<'static>]) -> OwnedRow {
    table.columns.iter().zip(row).filter(|(c, _)| c.key).map(|(_, cell)| cell.clone()).collect()
}

/// Key cells as text: the same as the source's key where the cells give it back as it is written.
pub fn text(key: &[Cell<'static>]) -> String {
    let part = |cell: &Cell<'static>| match cell {
        Cell::Text(s) => s.to_string(),
        Cell::Uuid(u) => uuid::Uuid::from_bytes(*u).to_string(),
        other => format!("{other:?}"),
    };
    key.iter().map(part).collect::<Vec<_>>().join("|")
}
