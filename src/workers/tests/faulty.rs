//! Faulty wrappers round every port. Each may wrap another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::faults::{Fault, Faults, Op};
use super::world::{FakeTarget, HandClock, NewStore, OldStore};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::{Mapped, RowErrorReason};
use crate::domain::plan::{Definition, Job, Probe, Switch, Table, ValueRef};
use crate::domain::run::{Attributes, Event};
use crate::domain::secret::Secret;
use crate::domain::value::{Cell, Key, OwnedRow, Record};
use crate::ports::{
    Applied, Batch, Begin, Beyond, Bulk, ChangeBatch, Changes, Checkpoint, CopiedRows, Cursor, ErrorKind, Expiry,
    Facts, FollowState, FullRead, JobProgress, Jobs, Lease, LogLook, NotRecorded, OpenWrite, OpenedTable, Orphans,
    Owned, Page, PageEnd, ParkedRow, Partition, PortError, PortResult, Position, ProbeOutcome, ProbeResult, Probes,
    ReadFrom, Sequence, SequenceScan, SetAside, Source, SourceCount, SourceTable, Stream, Surroundings, SwitchValue,
    Switches, Target, TargetServer, TargetTable, TargetVisitor,
};

/// What every wrapper needs.
#[derive(Clone)]
pub struct Trouble {
    pub faults: Faults,
    pub clock: Arc<HandClock>,
}

/// What a fault says.
pub fn error(kind: ErrorKind, op: Op, on: &str) -> PortError {
    PortError::new(kind, format!("{op:?}"), on, "a fault of the trial")
}

impl Trouble {
    /// Runs a call through whatever fault strikes it. Faults that change answers are left to the caller.
    pub async fn call<T>(&self, op: Op, on: &str, work: impl Future<Output = PortResult<T>>) -> PortResult<T> {
        match self.faults.strike(op, on) {
            Some(fault) => self.suffer(&fault, op, on, work).await,
            None => work.await,
        }
    }

    /// Runs a call through this fault.
    pub async fn suffer<T>(
        &self,
        fault: &Fault,
        op: Op,
        on: &str,
        work: impl Future<Output = PortResult<T>>,
    ) -> PortResult<T> {
        match fault {
            Fault::Refuse(kind) => Err(error(*kind, op, on)),
            Fault::FailAfter(kind) => {
                work.await?;
                Err(error(*kind, op, on))
            }
            Fault::Latch(latch) => {
                latch.pass().await;
                work.await
            }
            Fault::Delay(ms) => {
                self.clock.advance(*ms);
                tokio::task::yield_now().await;
                work.await
            }
            Fault::Duplicate | Fault::Reorder | Fault::Cut => work.await,
        }
    }
}

/// A source with faults.
pub struct FaultySource(pub Arc<dyn Source>, pub Trouble);

#[async_trait]
impl Source for FaultySource {
    async fn describe(&self, table: &Table) -> PortResult<SourceTable> {
        self.1.call(Op::SourceDescribe, &table.id, self.0.describe(table)).await
    }

    async fn definition(&self, table: &Table) -> PortResult<Option<Definition>> {
        self.0.definition(table).await
    }

    async fn attached(&self, table: &Table) -> PortResult<Option<Vec<String>>> {
        self.0.attached(table).await
    }

    async fn page(&self, table: &Table, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page> {
        let fault = self.1.faults.strike(Op::Page, &table.id);
        let Some(fault) = fault else { return self.0.page(table, part, cursor).await };
        let page = self.1.suffer(&fault, Op::Page, &table.id, self.0.page(table, part, cursor)).await?;
        Ok(match fault {
            // The connection was half closed: the body ends in the middle.
            Fault::Cut => Page { body: page.body.slice(..page.body.len() / 2) },
            _ => page,
        })
    }

    fn read<'p>(&self, page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
        self.0.read(page, each)
    }

    fn copied<'p>(&self, page: &'p Page) -> Option<CopiedRows<'p>> {
        self.0.copied(page)
    }

    fn cells(&self, table: &Table, page: &Page, each: &mut dyn FnMut(&[Cell<'_>])) -> PortResult<Option<PageEnd>> {
        self.0.cells(table, page, each)
    }

    async fn get(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.1.call(Op::Get, &table.id, self.0.get(table, keys)).await
    }

    async fn names(&self) -> PortResult<Vec<String>> {
        self.1.call(Op::SourceDescribe, "", self.0.names()).await
    }

    async fn surroundings(&self) -> PortResult<Option<Surroundings>> {
        self.1.call(Op::SourceDescribe, "", self.0.surroundings()).await
    }

    async fn given_sequences(&self, tables: &[Table], scan: Option<SequenceScan>) -> PortResult<Vec<Sequence>> {
        self.1.call(Op::SourceDescribe, "", self.0.given_sequences(tables, scan)).await
    }

    async fn open_writes(&self) -> PortResult<Vec<OpenWrite>> {
        self.1.call(Op::OpenWrites, "", self.0.open_writes()).await
    }

    async fn count(&self, table: &Table) -> PortResult<Count> {
        self.1.call(Op::SourceDescribe, &table.id, self.0.count(table)).await
    }

    async fn point_in_time(&self, tables: &[Table]) -> PortResult<Option<Box<dyn crate::ports::PointInTime>>> {
        self.0.point_in_time(tables).await
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.1.call(Op::PutMarker, &table.id, self.0.put_marker(table, nonce)).await
    }

    async fn delete_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.1.call(Op::DeleteMarker, &table.id, self.0.delete_marker(table, nonce)).await
    }

    async fn begin_load(&self, table: &Table) -> PortResult<()> {
        self.0.begin_load(table).await
    }

    async fn end_load(&self, table: &Table) -> PortResult<()> {
        self.0.end_load(table).await
    }

    async fn made_good(&self, table: &Table, parts: &str) -> PortResult<()> {
        self.0.made_good(table, parts).await
    }
}

/// A stream with faults. Knows the store, because a re-delivery needs its memory.
pub struct FaultyChanges(pub Arc<dyn Changes>, pub OldStore, pub Trouble);

#[async_trait]
impl Changes for FaultyChanges {
    async fn enable(&self, table: &Table) -> PortResult<Stream> {
        self.2.call(Op::Enable, &table.id, self.0.enable(table)).await
    }

    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>> {
        let fault = self.2.faults.strike(Op::Stream, &table.id);
        let Some(fault) = fault else { return self.0.stream(table).await };
        let mut found = self.2.suffer(&fault, Op::Stream, &table.id, self.0.stream(table)).await?;
        if let (Fault::Reorder, Some(stream)) = (&fault, &mut found) {
            // Children before their parents, among others.
            stream.shards.reverse();
            let n = stream.shards.len().max(1);
            stream.shards.rotate_left(self.2.faults.below(n));
        }
        Ok(found)
    }

    async fn close(&self) -> PortResult<()> {
        self.0.close().await
    }

    fn durable(&self, stream: &str, shard: &str, position: &Position) {
        self.0.durable(stream, shard, position);
    }

    fn kept(&self) -> Option<Duration> {
        self.0.kept()
    }

    async fn retained_log(&self, written: bool) -> PortResult<Option<LogLook>> {
        self.0.retained_log(written).await
    }

    async fn why_gone(&self, stream: &str) -> PortResult<Option<String>> {
        self.0.why_gone(stream).await
    }

    async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String> {
        self.2.call(Op::Iterator, shard, self.0.iterator(stream, shard, from)).await
    }

    async fn read(&self, iterator: &str) -> PortResult<Batch> {
        let fault = self.2.faults.strike(Op::Read, iterator);
        let Some(fault) = fault else { return self.0.read(iterator).await };
        let mut batch = self.2.suffer(&fault, Op::Read, iterator, self.0.read(iterator)).await?;
        let (stream, shard) = iterator.split_once('|').unwrap_or_default();
        let shard = shard.split('|').next().unwrap_or_default();
        match fault {
            Fault::Duplicate => {
                // At least once, in order: everything up to the newest record comes again.
                if let Some(last) = batch.changes.last() {
                    let all = self.1.delivered(stream, shard, &last.position);
                    let again = self.2.faults.below(all.len() + 1);
                    batch.changes = all[again.min(all.len() - batch.changes.len())..].to_vec();
                }
            }
            // An early end: the rest comes with the next read. A shard's end is not reported before its last record.
            Fault::Cut | Fault::Reorder => {
                let keep = self.2.faults.below(batch.changes.len() + 1);
                if keep < batch.changes.len() {
                    batch.changes.truncate(keep);
                    let stands = batch.changes.last().map(|c| c.position.0.clone());
                    batch.next = Some(moved(iterator, stands.as_deref()));
                }
            }
            _ => {}
        }
        Ok(batch)
    }
}

/// The same iterator, standing elsewhere.
fn moved(iterator: &str, stands: Option<&str>) -> String {
    let mut parts: Vec<&str> = iterator.split('|').collect();
    if let Some(stands) = stands {
        parts[2] = stands;
    }
    parts.join("|")
}

/// A target with faults. Knows the store, because it can die in the middle of a batch.
pub struct FaultyTarget(pub Arc<FakeTarget>, pub NewStore, pub Trouble);

struct FaultyBulk(Box<dyn Bulk>, String, Trouble);

#[async_trait]
impl Bulk for FaultyBulk {
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()> {
        self.0.push(mapped)
    }

    fn push_copied(&mut self, rows: &CopiedRows<'_>) -> PortResult<Option<u64>> {
        self.0.push_copied(rows)
    }

    fn buffered(&self) -> usize {
        self.0.buffered()
    }

    fn goes_on_from(&mut self, cursor: Option<crate::ports::Cursor>) {
        self.0.goes_on_from(cursor);
    }

    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied> {
        let trouble = self.2.clone();
        trouble.call(Op::Flush, &self.1, self.0.flush(parked, checkpoint)).await
    }
}

#[async_trait]
impl Target for FaultyTarget {
    async fn inspect(&self) -> PortResult<TargetServer> {
        self.0.inspect().await
    }

    async fn rights(&self, tables: &[Table], owning: crate::ports::Owning) -> PortResult<Vec<crate::ports::Obstacle>> {
        self.0.rights(tables, owning).await
    }

    async fn prepare(&self) -> PortResult<()> {
        self.0.prepare().await
    }

    async fn claim(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        self.2.call(Op::Claim, "", self.0.claim(run, tables)).await
    }

    async fn claimable(&self, tables: &[Table]) -> PortResult<()> {
        self.2.call(Op::Claim, "", self.0.claimable(tables)).await
    }

    async fn owned(&self) -> PortResult<Owned> {
        self.0.owned().await
    }

    async fn disown(&self) -> PortResult<()> {
        self.0.disown().await
    }

    async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()> {
        self.2.call(Op::OpenToCustomers, "", self.0.open_to_customers(tables)).await
    }

    async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>> {
        self.2.call(Op::Positions, "let-in", self.0.opened_to_customers(tables)).await
    }

    async fn surroundings(&self, table: &Table) -> PortResult<Option<Surroundings>> {
        self.2.call(Op::Positions, "surroundings", self.0.surroundings(table)).await
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        self.0.describe(table).await
    }

    async fn definition(&self, table: &Table) -> PortResult<Option<Definition>> {
        self.0.definition(table).await
    }

    async fn turn_on_expiry(&self, table: &Table, attribute: &str) -> PortResult<Expiry> {
        self.2.call(Op::OpenToCustomers, &table.id, self.0.turn_on_expiry(table, attribute)).await
    }

    async fn create(&self, table: &Table) -> PortResult<bool> {
        self.0.create(table).await
    }

    async fn make_anew(&self, tables: &[Table]) -> PortResult<()> {
        self.0.make_anew(tables).await
    }

    async fn bulk(&self, table: &Table, part: Partition) -> PortResult<Box<dyn Bulk>> {
        Ok(Box::new(FaultyBulk(self.0.bulk(table, part).await?, table.id.clone(), self.2.clone())))
    }

    fn encoder(&self, table: &Table) -> PortResult<Box<dyn crate::ports::RowEncoder>> {
        self.0.encoder(table)
    }

    fn held_back(&self, table: &Table) -> Option<String> {
        self.0.held_back(table)
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        self.2.call(Op::Checkpoints, &table.id, self.0.checkpoints(table)).await
    }

    async fn reset(&self, table: &Table) -> PortResult<()> {
        self.2.call(Op::Reset, &table.id, self.0.reset(table)).await
    }

    async fn begin_load(
        &self,
        table: &Table,
        defer_indexes: Option<bool>,
        keys_are_unique: bool,
    ) -> PortResult<Vec<SetAside>> {
        self.0.begin_load(table, defer_indexes, keys_are_unique).await
    }

    async fn set_aside(&self, table: &Table) -> PortResult<Vec<SetAside>> {
        self.0.set_aside(table).await
    }

    async fn finish_load(&self, table: &Table) -> PortResult<()> {
        self.2.call(Op::FinishLoad, &table.id, self.0.finish_load(table)).await
    }

    async fn prove_references(&self, table: &Table, drained: bool) -> PortResult<Option<String>> {
        self.2.call(Op::FinishLoad, &table.id, self.0.prove_references(table, drained)).await
    }

    async fn fill_views(&self, table: &Table) -> PortResult<Vec<String>> {
        self.2.call(Op::FinishLoad, &table.id, self.0.fill_views(table)).await
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        self.0.sequences(tables).await
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        self.0.advance_sequences(tables, look, by_hand, beyond).await
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        self.2.call(Op::StartPositions, &table.id, self.0.start_positions(table, stream, positions)).await
    }

    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>> {
        self.2.call(Op::Positions, &table.id, self.0.positions(table)).await
    }

    async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>> {
        self.2.call(Op::ResumeFollow, &table.id, self.0.resume_follow(table, lanes)).await
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        let fault = self.2.faults.strike(Op::Apply, &table.id);
        match fault {
            // Some lanes have landed, the others and the positions have not.
            Some(Fault::Cut) => {
                let lanes = batch.fence.map_or(1, |fence| fence.lanes);
                let landed = u32::try_from(self.2.faults.below(lanes as usize + 1)).expect("few lanes");
                self.1.apply_torn(table, batch, landed, self.0.epoch())
            }
            Some(fault) => self.2.suffer(&fault, Op::Apply, &table.id, self.0.apply(table, batch)).await,
            None => self.0.apply(table, batch).await,
        }
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        self.2.call(Op::Marker, &table.id, self.0.marker(table, nonce)).await
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        self.2.call(Op::TargetCount, &table.id, self.0.count(table, exact)).await
    }

    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()> {
        self.0.load_reads(table, at).await
    }

    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()> {
        self.0.full_read(table, read).await
    }

    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>> {
        self.0.source_count(table).await
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)> {
        self.2.call(Op::Ledger, &table.id, self.0.ledger(table)).await
    }

    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[RowErrorReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>> {
        self.2.call(Op::Parked, &table.id, self.0.parked(table, reasons, after, limit)).await
    }

    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
        self.2.call(Op::Parked, &table.id, self.0.parked_since(table, keys)).await
    }

    async fn orphans(&self, table: &Table, tables: &[Table], limit: u32) -> PortResult<Vec<Orphans>> {
        self.0.orphans(table, tables, limit).await
    }

    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        self.2.call(Op::Scan, &table.id, self.0.scan(table, each)).await
    }

    async fn scan_child(&self, table: &Table, child: usize, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        self.0.scan_child(table, child, each).await
    }

    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
        self.2.call(Op::Fetch, &table.id, self.0.fetch(table, keys)).await
    }

    async fn writes(&self, tables: &[Table]) -> PortResult<u64> {
        self.2.call(Op::Writes, "", self.0.writes(tables)).await
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.2.call(Op::Lease, "", self.0.lease(run, holder, ttl_ms)).await
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.0.seize(run, holder, ttl_ms).await
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        self.0.release(holder).await
    }
}

/// Switches with faults.
pub struct FaultySwitches(pub Arc<dyn Switches>, pub Trouble);

#[async_trait]
impl Switches for FaultySwitches {
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue> {
        self.1.call(Op::SwitchRead, &switch.id, self.0.read(switch)).await
    }

    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue> {
        self.1.call(Op::SwitchVersion, &switch.id, self.0.read_version(switch, version)).await
    }

    async fn attributes(&self, switch: &Switch, version: Option<i64>) -> PortResult<Attributes> {
        self.1.call(Op::SwitchAttributes, &switch.id, self.0.attributes(switch, version)).await
    }

    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>> {
        self.1.call(Op::SwitchAttributes, &switch.id, self.0.writes_left(switch)).await
    }

    async fn set(&self, switch: &Switch, value: &Secret, attributes: &Attributes) -> PortResult<()> {
        self.1.call(Op::SwitchSet, &switch.id, self.0.set(switch, value, attributes)).await
    }

    async fn resolve(&self, value: &ValueRef, control: &str) -> PortResult<SwitchValue> {
        self.0.resolve(value, control).await
    }
}

/// Jobs with faults.
pub struct FaultyJobs(pub Arc<dyn Jobs>, pub Trouble);

#[async_trait]
impl Jobs for FaultyJobs {
    async fn look(&self, job: &Job) -> PortResult<String> {
        self.0.look(job).await
    }

    async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String> {
        self.1.call(Op::JobBegin, &job.id, self.0.begin(job, begin)).await
    }

    async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>> {
        self.1.call(Op::JobFind, &job.id, self.0.find(job, begin)).await
    }

    async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress> {
        self.1.call(Op::JobProgress, &job.id, self.0.progress(job, handle)).await
    }

    async fn cancel(&self, job: &Job, handle: &str) -> PortResult<()> {
        self.1.call(Op::JobCancel, &job.id, self.0.cancel(job, handle)).await
    }
}

/// Probes with faults: an error is an answer that never came.
pub struct FaultyProbes(pub Arc<dyn Probes>, pub Trouble);

#[async_trait]
impl Probes for FaultyProbes {
    async fn probe(&self, probe: &Probe) -> ProbeResult {
        let answer = async { Ok(self.0.probe(probe).await) };
        let none =
            |e: PortError| ProbeResult { outcome: ProbeOutcome::Failed(e.came_back), status: None, latency_ms: 0 };
        self.1.call(Op::Probe, &probe.id, answer).await.unwrap_or_else(none)
    }
}

/// A journal with faults: a refused fact is on no disk; one that fails after the write is.
pub struct FaultyFacts(pub Arc<dyn Facts>, pub Trouble);

#[async_trait]
impl Facts for FaultyFacts {
    async fn state(&self, event: Event) -> Result<(), NotRecorded> {
        let name = event.name();
        let kept = async {
            let told = self.0.state(event).await;
            told.map_err(|e| PortError::new(ErrorKind::Invalid, "state", name, e.0))
        };
        self.1.call(Op::State, name, kept).await.map_err(|e| NotRecorded(e.came_back))
    }
}
