//! Targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};

use super::{ByTarget, at};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::{Definition, Table};
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{
    Applied, Beyond, Bookkeeping, Bulk, ChangeBatch, Checkpoint, ErrorKind, Expiry, FollowState, FullRead, Lease,
    Obstacle, OpenedTable, Orphans, Owned, Owning, ParkedRow, Partition, PortResult, Position, RowEncoder, Sequence,
    SequenceScan, SetAside, SourceCount, Surroundings, Target, TargetServer, TargetTable, TargetVisitor,
};

/// Several targets as one.
pub struct SeveralTargets(ByTarget<dyn Target>);

impl SeveralTargets {
    /// Targets by the names of their stores; the one of `home` alone where there are no others.
    #[must_use]
    pub fn as_one(home: (String, Arc<dyn Target>), others: BTreeMap<String, Arc<dyn Target>>) -> Arc<dyn Target> {
        if others.is_empty() { home.1 } else { Arc::new(Self(ByTarget { home, others })) }
    }

    /// Asks every store at once, so that one that is slow keeps no other from being renewed; gives home's answer where all
    /// are well.
    async fn at_all<'s, F>(&'s self, ask: impl Fn(&'s dyn Target) -> F) -> Leases
    where
        F: Future<Output = PortResult<Lease>>,
    {
        let all = self.0.all().map(|(store, target)| {
            let asked = ask(target);
            async move { asked.await.map_err(at(store)) }
        });
        join_all(all).await
    }
}

/// What each store said, home first.
type Leases = Vec<PortResult<Lease>>;

/// Home's lease, or why not all of them are held: that somebody else holds one before anything that may pass.
fn whole(mut leases: Leases) -> PortResult<Lease> {
    let is_conflict = |lease: &PortResult<Lease>| matches!(lease, Err(e) if e.kind == ErrorKind::Conflict);
    if let Some(n) = leases.iter().position(is_conflict).or_else(|| leases.iter().position(Result::is_err)) {
        return leases.swap_remove(n);
    }
    leases.into_iter().next().unwrap_or_else(|| Err(unreachable_store("lease")))
}

/// There is always a home.
fn unreachable_store(tried: &str) -> crate::ports::PortError {
    crate::ports::PortError::new(crate::ports::ErrorKind::Invalid, tried, "the targets", "there is none")
}

#[async_trait]
impl Target for SeveralTargets {
    async fn inspect(&self) -> PortResult<TargetServer> {
        let mut all = TargetServer::default();
        let mut stands = Vec::new();
        for (store, target) in self.0.all() {
            let one = target.inspect().await.map_err(at(store))?;
            stands.push(one.bookkeeping);
            let named = |o: Obstacle| Obstacle { wrong: format!("store {store}: {}", o.wrong), ..o };
            all.obstacles.extend(one.obstacles.into_iter().map(named));
        }
        let first = stands.first().copied().unwrap_or_default();
        // Where they differ nothing is concluded.
        all.bookkeeping = if stands.iter().all(|one| *one == first) { first } else { Bookkeeping::Older };
        Ok(all)
    }

    async fn prepare(&self) -> PortResult<()> {
        let all = self.0.all().map(|(store, target)| async move { target.prepare().await.map_err(at(store)) });
        try_join_all(all).await.map(drop)
    }

    async fn claim(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        // One store that refuses must leave nothing claimed at the others.
        self.claimable(tables).await?;
        for (_, target, tables) in self.0.parted("claim", tables)? {
            target.claim(run, &tables).await?;
        }
        Ok(())
    }

    async fn claimable(&self, tables: &[Table]) -> PortResult<()> {
        let all = self.0.parted("claim", tables)?;
        try_join_all(all.iter().map(|(_, target, tables)| target.claimable(tables))).await.map(drop)
    }

    async fn owned(&self) -> PortResult<Owned> {
        let mut all = Owned::default();
        for (store, target) in self.0.all() {
            let one = target.owned().await.map_err(at(store))?;
            all.tables.extend(one.tables);
            all.driven = all.driven.or(one.driven);
            all.others.extend(one.others);
            all.interrupted |= one.interrupted;
        }
        all.others.sort_unstable();
        all.others.dedup();
        Ok(all)
    }

    async fn disown(&self) -> PortResult<()> {
        for (store, target) in self.0.all() {
            target.disown().await.map_err(at(store))?;
        }
        Ok(())
    }

    async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()> {
        for (_, target, tables) in self.0.parted("open", tables)? {
            target.open_to_customers(&tables).await?;
        }
        Ok(())
    }

    async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>> {
        for (_, target, tables) in self.0.parted("look at", tables)? {
            if let Some(opened) = target.opened_to_customers(&tables).await? {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    async fn surroundings(&self, table: &Table) -> PortResult<Option<Surroundings>> {
        self.0.of("look at the settings for", table)?.surroundings(table).await
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        self.0.of("describe", table)?.describe(table).await
    }

    async fn rights(&self, tables: &[Table], owning: Owning) -> PortResult<Vec<Obstacle>> {
        let mut all = Vec::new();
        for (_, target, tables) in self.0.parted("read rights on", tables)? {
            all.extend(target.rights(&tables, owning).await?);
        }
        Ok(all)
    }

    async fn create(&self, table: &Table) -> PortResult<bool> {
        self.0.of("create", table)?.create(table).await
    }

    async fn bulk(&self, table: &Table, part: Partition) -> PortResult<Box<dyn Bulk>> {
        self.0.of("load", table)?.bulk(table, part).await
    }

    fn encoder(&self, table: &Table) -> PortResult<Box<dyn RowEncoder>> {
        self.0.of("encode rows of", table)?.encoder(table)
    }

    fn held_back(&self, table: &Table) -> Option<String> {
        self.0.of("load", table).ok()?.held_back(table)
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        self.0.of("read checkpoints of", table)?.checkpoints(table).await
    }

    async fn reset(&self, table: &Table) -> PortResult<()> {
        self.0.of("reset", table)?.reset(table).await
    }

    async fn begin_load(
        &self,
        table: &Table,
        defer_indexes: Option<bool>,
        keys_are_unique: bool,
    ) -> PortResult<Vec<SetAside>> {
        self.0.of("load", table)?.begin_load(table, defer_indexes, keys_are_unique).await
    }

    async fn set_aside(&self, table: &Table) -> PortResult<Vec<SetAside>> {
        self.0.of("read indexes of", table)?.set_aside(table).await
    }

    async fn finish_load(&self, table: &Table) -> PortResult<()> {
        self.0.of("load", table)?.finish_load(table).await
    }

    async fn definition(&self, table: &Table) -> PortResult<Option<Definition>> {
        self.0.of("read the definition of", table)?.definition(table).await
    }

    async fn turn_on_expiry(&self, table: &Table, attribute: &str) -> PortResult<Expiry> {
        self.0.of("turn on the expiry of", table)?.turn_on_expiry(table, attribute).await
    }

    async fn make_anew(&self, tables: &[Table]) -> PortResult<()> {
        for (_, target, tables) in self.0.parted("make anew", tables)? {
            target.make_anew(&tables).await?;
        }
        Ok(())
    }

    async fn prove_references(&self, table: &Table, drained: bool) -> PortResult<Option<String>> {
        self.0.of("prove the foreign keys of", table)?.prove_references(table, drained).await
    }

    async fn fill_views(&self, table: &Table) -> PortResult<Vec<String>> {
        self.0.of("fill the materialized views of", table)?.fill_views(table).await
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        let mut all = Vec::new();
        for (_, target, tables) in self.0.parted("read sequences of", tables)? {
            all.extend(target.sequences(&tables).await?);
        }
        Ok(all)
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        let mut all = Vec::new();
        for (_, target, tables) in self.0.parted("advance sequences of", tables)? {
            all.extend(target.advance_sequences(&tables, look, by_hand, beyond).await?);
        }
        Ok(all)
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        self.0.of("store positions of", table)?.start_positions(table, stream, positions).await
    }

    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>> {
        self.0.of("read positions of", table)?.positions(table).await
    }

    async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>> {
        self.0.of("follow", table)?.resume_follow(table, lanes).await
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        self.0.of("apply to", table)?.apply(table, batch).await
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        self.0.of("read a marker of", table)?.marker(table, nonce).await
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        self.0.of("count", table)?.count(table, exact).await
    }

    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()> {
        self.0.of("load", table)?.load_reads(table, at).await
    }

    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()> {
        self.0.of("note a reading of", table)?.full_read(table, read).await
    }

    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>> {
        self.0.of("count", table)?.source_count(table).await
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)> {
        self.0.of("read the ledger of", table)?.ledger(table).await
    }

    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[RowErrorReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>> {
        self.0.of("read the ledger of", table)?.parked(table, reasons, after, limit).await
    }

    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
        self.0.of("read the ledger of", table)?.parked_since(table, keys).await
    }

    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        self.0.of("read", table)?.scan(table, each).await
    }

    async fn scan_child(&self, table: &Table, child: usize, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        self.0.of("read", table)?.scan_child(table, child, each).await
    }

    async fn scan_part(
        &self,
        table: &Table,
        child: Option<usize>,
        part: Partition,
        each: &mut TargetVisitor<'_>,
    ) -> PortResult<()> {
        self.0.of("read", table)?.scan_part(table, child, part, each).await
    }

    async fn orphans(&self, table: &Table, tables: &[Table], limit: u32) -> PortResult<Vec<Orphans>> {
        // A reference stays within its store.
        let beside: Vec<Table> = tables.iter().filter(|other| other.to == table.to).cloned().collect();
        self.0.of("look for orphans in", table)?.orphans(table, &beside, limit).await
    }

    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
        self.0.of("read", table)?.fetch(table, keys).await
    }

    async fn writes(&self, tables: &[Table]) -> PortResult<u64> {
        let all = self.0.parted("count writes to", tables)?;
        let counts = try_join_all(all.iter().map(|(_, target, tables)| target.writes(tables))).await?;
        Ok(counts.into_iter().sum())
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        let leases = self.at_all(|target| target.lease(run, holder, ttl_ms)).await;
        let lease = whole(leases);
        // Somebody else drives at one store, so we drive at none: what the others gave us now would only be in the way.
        if matches!(&lease, Err(e) if e.kind == ErrorKind::Conflict) {
            let _ = self.release(holder).await;
        }
        lease
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        // What could be taken stays taken: it keeps a console that hangs from going forward there.
        whole(self.at_all(|target| target.seize(run, holder, ttl_ms)).await)
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        let all = self.0.all().map(|(store, target)| async move { target.release(holder).await.map_err(at(store)) });
        join_all(all).await.into_iter().collect()
    }
}
