//! DynamoDB as a [`Target`]: rows are items, and our bookkeeping is a table beside them.
//!
//! Why nothing is lost here, and what it costs, is told in `docs/correctness.md`, *DynamoDB as a target*.

mod apply;
mod batch;
mod bulk;
mod call;
mod counts;
mod create;
mod describe;
mod encoder;
mod expiry;
mod layout;
mod lease;
mod ledger;
mod names;
mod outbox;
mod owner;
mod pace;
mod permits;
mod read;
mod restore;
mod rows;
mod standing;
#[cfg(all(test, feature = "embedded-dynamodb"))]
mod tests;
mod work;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::changes::DynamoChanges;
use super::definition;
use super::wire::Wire;
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::{Definition, Table};
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{
    Applied, Beyond, Budget, Bulk, ChangeBatch, Checkpoint, Expiry, Fence, FollowState, FullRead, LaneStand, Lease,
    Obstacle, OpenedTable, Orphans, Owned, Owning, ParkedRow, Partition, PortResult, Position, RowEncoder, Sequence,
    SequenceScan, SetAside, SourceCount, Target, TargetServer, TargetTable, TargetVisitor,
};

pub use restore::DynamoRestore;

use call::Store;
use names::Of;
use rows::Shape;

/// DynamoDB as a [`Target`], for the tables of one plan.
#[derive(Debug)]
pub struct DynamoTarget {
    store: Arc<Store>,
    plan: Arc<str>,
    /// Whether our bookkeeping was found to be of this version.
    layout: OnceCell<()>,
    shapes: std::sync::Mutex<HashMap<String, (Table, Arc<Shape>)>>,
    /// The streams of its tables, for what customers write there.
    changes: DynamoChanges,
    /// What this process knows of the streams it reads, one reader at a time for each table.
    readers: std::sync::Mutex<HashMap<String, Arc<tokio::sync::Mutex<outbox::Reader>>>>,
    /// One at a time writes rows of a table, so that nobody parks a row that another one is writing.
    turns: std::sync::Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// How far lanes had come when this process resumed a table, with the token it got.
    ahead: std::sync::Mutex<HashMap<String, (i64, Vec<LaneStand>)>>,
    /// The lease's epoch when this process last had it; 0 while it never had.
    epoch: AtomicI64,
    /// The epoch that the next call renews; 0 takes the lease anew.
    renews: AtomicI64,
}

impl DynamoTarget {
    /// The target of a plan, as [`Plan::key`](crate::domain::plan::Plan::key) names it.
    /// Batches keep to `budget`, in write units a second.
    pub(super) fn new(wire: Wire, changes: DynamoChanges, plan: &str, budget: Arc<Budget>) -> Self {
        Self {
            changes,
            readers: std::sync::Mutex::default(),
            store: Arc::new(Store::new(wire, budget)),
            plan: plan.into(),
            layout: OnceCell::new(),
            shapes: std::sync::Mutex::default(),
            turns: std::sync::Mutex::default(),
            ahead: std::sync::Mutex::default(),
            epoch: AtomicI64::new(0),
            renews: AtomicI64::new(0),
        }
    }

    fn of(&self, table: &Table) -> Of {
        Of::new(&self.plan, table)
    }

    fn shape(&self, table: &Table) -> Arc<Shape> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        match shapes.get(&table.id) {
            Some((known, shape)) if known == table => Arc::clone(shape),
            _ => {
                let shape = Arc::new(Shape::new(table));
                shapes.insert(table.id.clone(), (table.clone(), Arc::clone(&shape)));
                shape
            }
        }
    }

    fn turn(&self, table: &Table) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(table.id.clone()).or_default())
    }

    /// How far lanes had come when the follower with this fence began.
    fn ahead_of(&self, table: &Table, fence: Option<Fence>) -> Vec<LaneStand> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ahead.get(&table.id).filter(|(token, _)| fence.is_some_and(|fence| fence.token == *token));
        known.map(|(_, stands)| stands.clone()).unwrap_or_default()
    }

    fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != 0)
    }

    /// The service, once our bookkeeping is known to be of this version.
    async fn ours(&self) -> PortResult<&Store> {
        self.layout.get_or_try_init(|| layout::in_our_layout(&self.store)).await?;
        Ok(&self.store)
    }

    async fn take_lease(&self, run: &str, holder: &str, ttl_ms: i64, seize: bool) -> PortResult<Lease> {
        let renews = self.renews.load(Ordering::Acquire);
        let wanted = lease::Wanted { run, holder, ttl_ms, seize, renews };
        let lease = lease::take(self.ours().await?, &self.plan, &wanted).await?;
        self.epoch.store(lease.epoch, Ordering::Release);
        self.renews.store(lease.epoch, Ordering::Release);
        Ok(lease)
    }
}

#[async_trait]
impl Target for DynamoTarget {
    async fn inspect(&self) -> PortResult<TargetServer> {
        layout::inspect(&self.store).await
    }

    async fn prepare(&self) -> PortResult<()> {
        layout::prepare(&self.store).await
    }

    async fn claim(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let store = self.ours().await?;
        owner::claim(store, &self.plan, run, tables).await?;
        expiry::quiet(store, &self.plan, tables).await
    }

    async fn claimable(&self, tables: &[Table]) -> PortResult<()> {
        // Before a run has begun nobody has anything.
        match layout::inspect(&self.store).await?.bookkeeping {
            crate::ports::Bookkeeping::Absent => Ok(()),
            crate::ports::Bookkeeping::Older | crate::ports::Bookkeeping::Ready => {
                owner::claimable(self.ours().await?, &self.plan, tables).await
            }
        }
    }

    async fn owned(&self) -> PortResult<Owned> {
        owner::owned(self.ours().await?, &self.plan).await
    }

    async fn disown(&self) -> PortResult<()> {
        owner::disown(self.ours().await?, &self.plan).await
    }

    async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()> {
        let store = self.ours().await?;
        owner::open_to_customers(store, &self.plan, tables).await?;
        // Nothing of ours lands any more: what the streams hold up to here is ours, and what comes is theirs.
        futures::future::try_join_all(tables.iter().map(|table| outbox::open(self, store, table))).await.map(drop)
    }

    async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>> {
        owner::opened(self.ours().await?, &self.plan, tables).await
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        describe::describe(&self.store, &self.plan, table).await
    }

    async fn definition(&self, table: &Table) -> PortResult<Option<Definition>> {
        Ok(definition::of_table(self.store.wire(), &table.target).await?.map(|found| found.definition))
    }

    async fn turn_on_expiry(&self, table: &Table, attribute: &str) -> PortResult<Expiry> {
        expiry::turn_on(self.ours().await?, &self.plan, table, attribute).await
    }

    async fn rights(&self, tables: &[Table], _owning: Owning) -> PortResult<Vec<Obstacle>> {
        // Nothing is captured by triggers and no index is dropped, so nothing depends on whose the tables are.
        describe::rights(&self.store, tables).await
    }

    async fn create(&self, table: &Table) -> PortResult<bool> {
        create::create(&self.store, &self.plan, table).await
    }

    async fn make_anew(&self, tables: &[Table]) -> PortResult<()> {
        create::make_anew(self.ours().await?, &self.plan, tables, self.epoch()).await
    }

    async fn bulk(&self, table: &Table, _part: Partition) -> PortResult<Box<dyn Bulk>> {
        let epoch = bulk::epoch(self.ours().await?, &self.plan, self.epoch(), &table.target).await?;
        let (store, plan) = (Arc::clone(&self.store), Arc::clone(&self.plan));
        Ok(Box::new(bulk::DynamoBulk::new(store, plan, self.of(table), self.shape(table), epoch)))
    }

    fn encoder(&self, table: &Table) -> PortResult<Box<dyn RowEncoder>> {
        Ok(Box::new(encoder::ItemEncoder(self.shape(table))))
    }

    /// A table that throttles holds a load back more than any budget, so it is told first.
    fn held_back(&self, table: &Table) -> Option<String> {
        let budget = self.store.budget();
        let kept = || budget.per_second().filter(|_| budget.is_waited_for());
        let words = |units| format!("kept to {units} write units a second by the plan");
        self.store.paces().of(&table.target).words().or_else(|| kept().map(words))
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        bulk::checkpoints(self.ours().await?, &self.of(table), ("read checkpoints of", &table.id)).await
    }

    async fn reset(&self, table: &Table) -> PortResult<()> {
        bulk::empty(self.ours().await?, &self.plan, &self.of(table), &self.shape(table), self.epoch()).await
    }

    /// Indexes are kept by the service: none is dropped.
    async fn begin_load(&self, _: &Table, _: Option<bool>, _: bool) -> PortResult<Vec<SetAside>> {
        Ok(Vec::new())
    }

    async fn set_aside(&self, _: &Table) -> PortResult<Vec<SetAside>> {
        Ok(Vec::new())
    }

    async fn finish_load(&self, _: &Table) -> PortResult<()> {
        Ok(())
    }

    /// Items have no sequences.
    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn advance_sequences(
        &self,
        _: &[Table],
        _: SequenceScan,
        _: &[String],
        _: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        let at = ("store the start of following", table.id.as_str());
        standing::start(self.ours().await?, &self.plan, &self.of(table), stream, positions, at).await
    }

    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>> {
        standing::positions(self.ours().await?, &self.of(table), ("read positions of", &table.id)).await
    }

    async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>> {
        let at = ("take up following of", table.id.as_str());
        let resumed =
            standing::resume(self.ours().await?, &self.plan, &self.of(table), lanes, self.epoch(), at).await?;
        let Some((state, kept)) = resumed else { return Ok(None) };
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.insert(table.id.clone(), (state.fence.token, kept));
        drop(ahead);
        Ok(Some(state))
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        let store = self.ours().await?;
        let turn = self.turn(table);
        let _turn = turn.lock().await;
        let (of, shape) = (self.of(table), self.shape(table));
        let ahead = self.ahead_of(table, batch.fence);
        let to = apply::To { store, plan: &self.plan, of: &of, shape: &shape, epoch: self.epoch(), ahead: &ahead };
        apply::apply(&to, batch).await
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        let found = self.ours().await?.get(&self.of(table).marker(nonce), ("read markers of", &table.id)).await?;
        Ok(found.and_then(|item| call::number(&item, "at")).map(At))
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        read::count(&self.store, &table.target, exact).await
    }

    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()> {
        counts::load_reads(self.ours().await?, &self.of(table), at, ("note the reading of", &table.id)).await
    }

    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()> {
        counts::full_read(self.ours().await?, &self.of(table), read, ("note the reading of", &table.id)).await
    }

    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>> {
        counts::source_count(self.ours().await?, &self.of(table), ("read the source's count of", &table.id)).await
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)> {
        ledger::totals(self.ours().await?, &self.of(table), ("read the ledger of", &table.id)).await
    }

    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[RowErrorReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>> {
        let at = ("read the ledger of", table.id.as_str());
        ledger::page(self.ours().await?, &self.of(table), &table.id, reasons, after, limit, at).await
    }

    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
        let at = ("read the ledger of", table.id.as_str());
        ledger::by_key(self.ours().await?, &self.of(table), &table.id, keys, at).await
    }

    /// Each segment is of its own moments: a DynamoDB table is read at no single one.
    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        read::scan_part(&self.store, &self.shape(table), Partition { index: 0, of: 1 }, each).await
    }

    async fn scan_child(&self, table: &Table, _: usize, _: &mut TargetVisitor<'_>) -> PortResult<()> {
        Err(bulk::none_here("scan a child table of", &table.target, "child tables"))
    }

    async fn scan_part(
        &self,
        table: &Table,
        child: Option<usize>,
        part: Partition,
        each: &mut TargetVisitor<'_>,
    ) -> PortResult<()> {
        match child {
            None => read::scan_part(&self.store, &self.shape(table), part, each).await,
            Some(child) => self.scan_child(table, child, each).await,
        }
    }

    /// Items refer to nothing that the service knows; references of the plan are told by `describe`.
    async fn orphans(&self, _: &Table, _: &[Table], _: u32) -> PortResult<Vec<Orphans>> {
        Ok(Vec::new())
    }

    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
        read::fetch(&self.store, &self.shape(table), keys).await
    }

    async fn writes(&self, tables: &[Table]) -> PortResult<u64> {
        let on = tables.first().map_or("the target tables", |table| table.target.as_str());
        Err(bulk::none_here("read write counters of", on, "counter of its writes"))
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.take_lease(run, holder, ttl_ms, false).await
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.take_lease(run, holder, ttl_ms, true).await
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        if lease::release(self.ours().await?, &self.plan, holder).await? {
            self.renews.store(0, Ordering::Release);
        }
        Ok(())
    }
}
