//! The new side as the ports see it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::new::{NewStore, Waiting, text};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::{Mapped, RowError, RowErrorReason, RowSize};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key, OwnedRow};
use crate::ports::{
    Applied, Beyond, Bookkeeping, Bulk, ChangeBatch, Checkpoint, Cursor, ErrorKind, FollowState, FullRead, Lease,
    Obstacle, OpenedTable, Orphans, Owned, Owning, ParkedRow, Partition, PortError, PortResult, Position, RowEncoder,
    Sequence, SequenceScan, SetAside, SourceCount, Target, TargetServer, TargetTable, TargetVisitor, common,
    refuse_rewound,
};

/// The target as one process sees it. Clone the store, not this: another process has a memory of its own.
pub struct FakeTarget {
    store: NewStore,
    /// The lease's fencing number when this process last had it; 0 while it never had.
    epoch: AtomicI64,
}

impl FakeTarget {
    /// A process that never had the lease.
    pub const fn new(store: NewStore) -> Self {
        Self { store, epoch: AtomicI64::new(0) }
    }

    /// The lease's fencing number when this process last had it.
    pub fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != 0)
    }
}

struct Rows {
    store: NewStore,
    table: Table,
    waiting: Vec<Waiting>,
    /// The lease's fencing number when this partition was opened.
    epoch: Option<i64>,
    /// The cursor that is known to be stored.
    from: Option<Option<Cursor>>,
}

#[async_trait]
impl Bulk for Rows {
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()> {
        let row = mapped.row.iter().cloned().map(Cell::into_owned).collect();
        self.waiting.push((Key(mapped.key.clone()), mapped.key_json.clone(), row));
        Ok(())
    }

    fn buffered(&self) -> usize {
        // Every page is worth a flush, so that each one has a checkpoint of its own.
        self.waiting.len() * 8 * 1024 * 1024
    }

    fn goes_on_from(&mut self, cursor: Option<Cursor>) {
        self.from = Some(cursor);
    }

    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied> {
        if self.store.epoch() != self.epoch {
            let why = "another process has taken the lease";
            return Err(PortError::new(ErrorKind::Conflict, "load rows into", &self.table.target, why));
        }
        let part = (checkpoint.part.of, checkpoint.part.index);
        let stored = self.store.table(&self.table).checkpoints.get(&part).map(|c| c.cursor.clone());
        let there = |from: &Option<Cursor>| stored.clone().flatten() == *from && stored.is_some() == from.is_some();
        if self.from.as_ref().is_some_and(|from| !there(from) && stored != Some(checkpoint.cursor.clone())) {
            return Err(refuse_rewound("load rows into", &self.table.target, "a part of the load"));
        }
        let applied = self.store.flush(&self.table, &self.waiting, &parked, checkpoint)?;
        self.waiting.clear();
        Ok(applied)
    }
}

/// Counts a row as so many bytes as it has cells.
struct Counted;

impl RowEncoder for Counted {
    fn encode(&mut self, mapped: &Mapped<'_>) -> Result<RowSize, RowError> {
        let cells = mapped.row.len() as u64;
        Ok(RowSize { sent: cells, stored: cells })
    }
}

#[async_trait]
impl Target for FakeTarget {
    async fn inspect(&self) -> PortResult<TargetServer> {
        Ok(TargetServer { bookkeeping: Bookkeeping::Ready, obstacles: vec![] })
    }

    async fn rights(&self, _: &[Table], _: Owning) -> PortResult<Vec<Obstacle>> {
        Ok(Vec::new())
    }

    async fn prepare(&self) -> PortResult<()> {
        Ok(())
    }

    async fn claim(&self, run: &str, _: &[Table]) -> PortResult<()> {
        let mut state = self.store.locked();
        if state.open_to_customers.is_empty() {
            run.clone_into(&mut state.run);
        }
        Ok(())
    }

    async fn claimable(&self, _: &[Table]) -> PortResult<()> {
        Ok(())
    }

    async fn owned(&self) -> PortResult<Owned> {
        Ok(Owned::default())
    }

    async fn disown(&self) -> PortResult<()> {
        self.store.locked().open_to_customers.clear();
        Ok(())
    }

    async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()> {
        let at = self.store.clock.true_wall();
        let mut state = self.store.locked();
        for table in tables {
            let opened = OpenedTable { table: table.id.clone(), run: state.run.clone(), at };
            state.open_to_customers.entry(table.id.clone()).or_insert(opened);
        }
        Ok(())
    }

    async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>> {
        let state = self.store.locked();
        let opened = tables.iter().filter_map(|table| state.open_to_customers.get(&table.id));
        Ok(opened.min_by_key(|opened| (opened.at, opened.table.clone())).cloned())
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        let columns = table.columns.iter().map(|c| (c.name.clone(), c.ty.sql())).collect();
        let key = table.key_columns().map(str::to_owned).collect();
        Ok(TargetTable { exists: true, columns, key, ..TargetTable::default() })
    }

    async fn create(&self, _table: &Table) -> PortResult<bool> {
        Ok(false)
    }

    async fn make_anew(&self, tables: &[Table]) -> PortResult<()> {
        let mut state = self.store.locked();
        for table in tables {
            state.tables.remove(&table.id);
        }
        Ok(())
    }

    async fn bulk(&self, table: &Table, _part: Partition) -> PortResult<Box<dyn Bulk>> {
        Ok(Box::new(Rows {
            store: self.store.clone(),
            table: table.clone(),
            waiting: vec![],
            // A process that was overtaken keeps the number it had.
            epoch: self.epoch().or_else(|| self.store.epoch()),
            from: None,
        }))
    }

    fn encoder(&self, _table: &Table) -> PortResult<Box<dyn RowEncoder>> {
        Ok(Box::new(Counted))
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        Ok(self.store.table(table).checkpoints.into_values().collect())
    }

    async fn reset(&self, table: &Table) -> PortResult<()> {
        self.store.locked().tables.remove(&table.id);
        Ok(())
    }

    async fn begin_load(
        &self,
        _table: &Table,
        _defer_indexes: Option<bool>,
        _keys_are_unique: bool,
    ) -> PortResult<Vec<SetAside>> {
        Ok(Vec::new())
    }

    async fn set_aside(&self, _table: &Table) -> PortResult<Vec<SetAside>> {
        Ok(Vec::new())
    }

    async fn finish_load(&self, _table: &Table) -> PortResult<()> {
        Ok(())
    }

    async fn sequences(&self, _tables: &[Table]) -> PortResult<Vec<Sequence>> {
        Ok(self.store.locked().sequences.clone())
    }

    async fn advance_sequences(
        &self,
        _tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        _: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        let mut state = self.store.locked();
        state.advanced.push(look);
        let mut stand = state.sequences.clone();
        stand.iter_mut().filter(|s| by_hand.contains(&s.name)).for_each(|s| s.problem = None);
        Ok(stand)
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        self.store.transact(|state, _| {
            let stored = state.tables.entry(table.id.clone()).or_default();
            let (known, at) = stored.stream.get_or_insert_with(|| (stream.to_owned(), BTreeMap::new()));
            if known != stream {
                let why = format!("another stream is being followed: {known}");
                return Err(PortError::new(ErrorKind::Conflict, "store the start of following", &table.id, why));
            }
            for (shard, position) in positions {
                at.entry(shard.clone()).or_insert_with(|| Some(position.clone()));
            }
            Ok(())
        })
    }

    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>> {
        let stored = self.store.table(table);
        Ok(stored.stream.map(|(stream, positions)| (stream, common(positions, &stored.lanes))))
    }

    async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>> {
        self.store.resume_follow(table, lanes, self.epoch())
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        self.store.apply(table, batch, self.epoch())
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        Ok(self.store.table(table).markers.get(nonce).copied())
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        let (rows, at) = (self.store.table(table).rows.len() as u64, self.store.clock.true_wall());
        Ok(if exact { Count::exact(rows, at) } else { Count::estimated(rows, at) })
    }

    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()> {
        let mut state = self.store.locked();
        state.tables.entry(table.id.clone()).or_default().read.get_or_insert((at, None));
        Ok(())
    }

    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()> {
        let mut state = self.store.locked();
        let stored = state.tables.entry(table.id.clone()).or_default();
        let began = read.began.or(stored.read.map(|(began, _)| began)).unwrap_or_default();
        stored.read = Some((began, Some((read.items, read.ended))));
        Ok(())
    }

    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>> {
        let stored = self.store.table(table);
        let Some((began, Some((items, ended)))) = stored.read else { return Ok(None) };
        let (mut items, mut inserted, mut deleted) = (i64::try_from(items).expect("few"), 0, 0);
        for c in stored.counts.iter().filter(|c| c.second >= began.0 / 1_000) {
            if c.second > ended.0 / 1_000 {
                items += i64::try_from(c.inserted).expect("few") - i64::try_from(c.deleted).expect("few");
            } else {
                inserted += c.inserted;
                deleted += c.deleted;
            }
        }
        Ok(Some(SourceCount { items: u64::try_from(items).ok(), read_at: ended, unsure: inserted.max(deleted) }))
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)> {
        let stored = self.store.table(table);
        let mut reasons = BTreeMap::new();
        for (_, row) in stored.parked.values() {
            *reasons.entry(row.row_error.reason).or_insert(0) += 1;
        }
        Ok((reasons, stored.expired))
    }

    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[RowErrorReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>> {
        let mut rows: Vec<ParkedRow> = self.store.table(table).parked.into_values().map(|(_, row)| row).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows.retain(|r| {
            reasons.is_none_or(|all| all.contains(&r.row_error.reason)) && after.is_none_or(|k| r.key > *k)
        });
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
        let at = self.store.clock.true_wall();
        let parked = self.store.table(table).parked;
        Ok(keys.iter().map(|k| parked.values().find(|(_, r)| r.key == *k).map(|(_, r)| (r.clone(), at))).collect())
    }

    async fn orphans(&self, table: &Table, tables: &[Table], limit: u32) -> PortResult<Vec<Orphans>> {
        let rows = self.store.table(table).rows;
        let found = table.foreign_keys.iter().filter_map(|fk| {
            let parent = tables.iter().find(|t| t.id == fk.references)?;
            let parents = self.store.table(parent).rows;
            let places: Vec<usize> =
                fk.columns.iter().filter_map(|c| table.columns.iter().position(|own| own.name == *c)).collect();
            let orphan = |row: &OwnedRow| {
                let cells: OwnedRow = places.iter().map(|p| row[*p].clone()).collect();
                !cells.contains(&Cell::Null) && !parents.contains_key(&text(&cells))
            };
            let keys: Vec<Key> = rows.iter().filter(|(_, row)| orphan(row)).map(|(k, _)| Key(k.clone())).collect();
            Some(Orphans {
                table: table.target.clone(),
                parent: parent.target.clone(),
                columns: fk.columns.clone(),
                rows: keys.len() as u64,
                keys: keys.into_iter().take(limit as usize).collect(),
            })
        });
        Ok(found.collect())
    }

    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        self.store.table(table).rows.values().for_each(|row| each(row));
        Ok(())
    }

    async fn scan_child(&self, _table: &Table, _child: usize, _each: &mut TargetVisitor<'_>) -> PortResult<()> {
        Ok(())
    }

    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
        let rows = self.store.table(table).rows;
        Ok(keys.iter().map(|k| rows.get(&text(k)).map(|row| (row.clone(), vec![]))).collect())
    }

    async fn writes(&self, _tables: &[Table]) -> PortResult<u64> {
        Ok(self.store.locked().writes)
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.store.transact(|state, _| {
            let now = self.store.clock.true_wall();
            let taken = state.lease.as_ref().filter(|l| (l.holder != holder || l.run != run) && l.until > now);
            if let Some(taken) = taken {
                return Err(PortError::new(
                    ErrorKind::Conflict,
                    "take the lease",
                    run,
                    format!("{} drives", taken.holder),
                )
                .held_by(&taken.run, &taken.holder));
            }
            let epoch = state.lease.as_ref().map_or(1, |l| l.epoch + i64::from(l.holder != holder || l.run != run));
            let lease = Lease { run: run.to_owned(), holder: holder.to_owned(), epoch, until: now.plus(ttl_ms) };
            state.lease = Some(lease.clone());
            self.epoch.store(lease.epoch, Ordering::Release);
            Ok(lease)
        })
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        if let Some(lease) = self.store.locked().lease.as_mut().filter(|lease| lease.run == run) {
            lease.until = At(0);
        }
        self.lease(run, holder, ttl_ms).await
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        let mut state = self.store.locked();
        if state.lease.as_ref().is_some_and(|l| l.holder == holder) {
            state.lease.as_mut().expect("it is held").until = At(0);
        }
        Ok(())
    }
}
