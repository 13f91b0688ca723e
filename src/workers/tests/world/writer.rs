//! The new side as the ports see it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::new::{NewStore, Waiting, text};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::{Mapped, MisfitReason};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key, OwnedRow};
use crate::ports::{
    Applied, Bulk, ChangeBatch, Checkpoint, ErrorKind, Lease, ParkedRow, Partition, PortError, PortResult, Position,
    Target, TargetTable, TargetVisitor,
};

struct Rows {
    store: NewStore,
    table: Table,
    waiting: Vec<Waiting>,
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
        self.waiting.len() * 1024 * 1024
    }

    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied> {
        let applied = self.store.flush(&self.table, &self.waiting, &parked, checkpoint)?;
        self.waiting.clear();
        Ok(applied)
    }
}

#[async_trait]
impl Target for NewStore {
    async fn prepare(&self) -> PortResult<()> {
        Ok(())
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        let columns = table.columns.iter().map(|c| (c.name.clone(), c.ty.sql())).collect();
        let key = table.key_columns().map(str::to_owned).collect();
        Ok(TargetTable { exists: true, columns, key, problems: vec![] })
    }

    async fn create(&self, _table: &Table) -> PortResult<bool> {
        Ok(false)
    }

    async fn bulk(&self, table: &Table, _part: Partition) -> PortResult<Box<dyn Bulk>> {
        Ok(Box::new(Rows { store: self.clone(), table: table.clone(), waiting: vec![] }))
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        Ok(self.table(table).checkpoints.into_values().collect())
    }

    async fn reset(&self, table: &Table) -> PortResult<()> {
        self.locked().tables.remove(&table.id);
        Ok(())
    }

    async fn finish_load(&self, _table: &Table) -> PortResult<()> {
        Ok(())
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        self.transact(|state, _| {
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
        Ok(self.table(table).stream)
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        Self::apply(self, table, batch)
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        Ok(self.table(table).markers.get(nonce).copied())
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        let (rows, at) = (self.table(table).rows.len() as u64, self.clock.true_wall());
        Ok(if exact { Count::exact(rows, at) } else { Count::estimated(rows, at) })
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<MisfitReason, u64>, u64)> {
        let stored = self.table(table);
        let mut reasons = BTreeMap::new();
        for (_, row) in stored.parked.values() {
            *reasons.entry(row.misfit.reason).or_insert(0) += 1;
        }
        Ok((reasons, stored.expired))
    }

    async fn parked(&self, table: &Table, limit: u32) -> PortResult<Vec<ParkedRow>> {
        let mut rows: Vec<_> = self.table(table).parked.into_values().collect();
        rows.sort_by_key(|(seen, _)| *seen);
        Ok(rows.into_iter().map(|(_, row)| row).take(limit as usize).collect())
    }

    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        self.table(table).rows.values().for_each(|row| each(row));
        Ok(())
    }

    async fn scan_child(&self, _table: &Table, _child: usize, _each: &mut TargetVisitor<'_>) -> PortResult<()> {
        Ok(())
    }

    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
        let rows = self.table(table).rows;
        Ok(keys.iter().map(|k| rows.get(&text(k)).map(|row| (row.clone(), vec![]))).collect())
    }

    async fn writes(&self, _tables: &[Table]) -> PortResult<u64> {
        Ok(self.locked().writes)
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.transact(|state, _| {
            let now = self.clock.true_wall();
            let taken = state.lease.as_ref().filter(|l| l.holder != holder && l.until > now);
            if let Some(taken) = taken {
                return Err(PortError::new(
                    ErrorKind::Conflict,
                    "take the lease",
                    run,
                    format!("{} drives", taken.holder),
                ));
            }
            let epoch = state.lease.as_ref().map_or(1, |l| l.epoch + i64::from(l.holder != holder));
            let lease = Lease { run: run.to_owned(), holder: holder.to_owned(), epoch, until: now.plus(ttl_ms) };
            state.lease = Some(lease.clone());
            Ok(lease)
        })
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.locked().lease = None;
        self.lease(run, holder, ttl_ms).await
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        let mut state = self.locked();
        if state.lease.as_ref().is_some_and(|l| l.holder == holder) {
            state.lease = None;
        }
        Ok(())
    }
}
