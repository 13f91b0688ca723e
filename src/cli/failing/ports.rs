//! Every port behind failpoints: each call goes on to the port it wraps, under its name.
//!
//! What asks nothing of the world (parsing a page, filling a buffer, reading what was taken) has no name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Failable, Failing, around};
use crate::domain::at::At;
use crate::domain::gauge::{Count, Reading as MetricReading};
use crate::domain::mapping::{ItemChange, Mapped, Resolution, RowErrorReason};
use crate::domain::plan::{Definition, Job, Metric, Probe, Switch, Table, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::domain::value::{Cell, Key, OwnedRow, Record};
use crate::ports::{
    Applied, Batch, Begin, Beyond, Bulk, CaptureGap, CaptureState, ChangeBatch, Changes, Checkpoint, Cleared,
    CopiedRows, Cursor, Expiry, FollowState, FoundTable, FullRead, HeldTable, InBatch, ItemOutcome, Items, JobProgress,
    Jobs, Lease, LogLook, Metrics, Mover, MoverLook, Obstacle, OpenWrite, OpenedTable, Orphans, Outbox, OutboxChange,
    OwnWrite, Owned, Owning, Page, PageEnd, ParkedRow, Partition, PointInTime, PortResult, Position, ProbeResult,
    Probes, ReadFrom, Restore, Restoring, ReverseCounts, RowEncoder, Sequence, SequenceScan, SetAside, Source,
    SourceCount, SourceTable, Stream, Surroundings, SwitchValue, Switches, Taken, Target, TargetServer, TargetTable,
    TargetVisitor, TextPage, Together, Unfinished, Waiting,
};

/// Implements a port for its wrapper: methods as they are in the trait, each named after the port and itself. What
/// stands under `beside` is written by hand.
macro_rules! failing {
    ($port:ident as $prefix:literal {
        $(async fn $call:ident(&$this:ident $(, $arg:ident: $kind:ty)* $(,)?) -> $out:ty;)*
    } $(beside { $($own:tt)* })?) => {
        impl Failable for Arc<dyn $port> {
            fn wrapped(self) -> Self {
                Arc::new(Failing(self))
            }
        }

        #[async_trait]
        impl $port for Failing<dyn $port> {
            $(async fn $call(&$this $(, $arg: $kind)*) -> $out {
                around(concat!($prefix, ".", stringify!($call)), $this.0.$call($($arg),*)).await
            })*
            $($($own)*)?
        }
    };
}

failing! {
    Source as "source" {
        async fn describe(&self, table: &Table) -> PortResult<SourceTable>;
        async fn definition(&self, table: &Table) -> PortResult<Option<Definition>>;
        async fn attached(&self, table: &Table) -> PortResult<Option<Vec<String>>>;
        async fn page(&self, table: &Table, part: Partition, cursor: Option<&Cursor>) -> PortResult<Page>;
        async fn get(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>>;
        async fn count(&self, table: &Table) -> PortResult<Count>;
        async fn open_writes(&self) -> PortResult<Vec<OpenWrite>>;
        async fn names(&self) -> PortResult<Vec<String>>;
        async fn point_in_time(&self, tables: &[Table]) -> PortResult<Option<Box<dyn PointInTime>>>;
        async fn surroundings(&self) -> PortResult<Option<Surroundings>>;
        async fn given_sequences(&self, tables: &[Table], scan: Option<SequenceScan>) -> PortResult<Vec<Sequence>>;
        async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;
        async fn delete_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;
        async fn begin_load(&self, table: &Table) -> PortResult<()>;
        async fn end_load(&self, table: &Table) -> PortResult<()>;
        async fn made_good(&self, table: &Table, parts: &str) -> PortResult<()>;
    } beside {
        fn read<'p>(&self, page: &'p Page, each: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
            self.0.read(page, each)
        }

        fn copied<'p>(&self, page: &'p Page) -> Option<CopiedRows<'p>> {
            self.0.copied(page)
        }

        fn cells(
            &self,
            table: &Table,
            page: &Page,
            each: &mut dyn FnMut(&[Cell<'_>]),
        ) -> PortResult<Option<PageEnd>> {
            self.0.cells(table, page, each)
        }
    }
}

failing! {
    Changes as "changes" {
        async fn obstacles(&self, tables: &[Table]) -> PortResult<Vec<Obstacle>>;
        async fn enable(&self, table: &Table) -> PortResult<Stream>;
        async fn stream(&self, table: &Table) -> PortResult<Option<Stream>>;
        async fn why_gone(&self, stream: &str) -> PortResult<Option<String>>;
        async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String>;
        async fn read(&self, iterator: &str) -> PortResult<Batch>;
        async fn close(&self) -> PortResult<()>;
        async fn retained_log(&self, written: bool) -> PortResult<Option<LogLook>>;
    } beside {
        fn durable(&self, stream: &str, shard: &str, position: &Position) {
            self.0.durable(stream, shard, position);
        }

        fn kept(&self) -> Option<Duration> {
            self.0.kept()
        }
    }
}

failing! {
    Mover as "mover" {
        async fn obstacles(&self, tables: &[Table]) -> PortResult<Vec<Obstacle>>;
        async fn prepare(&self, tables: &[Table]) -> PortResult<String>;
        async fn start(&self, tables: &[Table]) -> PortResult<()>;
        async fn look(&self, tables: &[Table]) -> PortResult<MoverLook>;
        async fn pause(&self) -> PortResult<()>;
        async fn stop(&self) -> PortResult<()>;
        async fn remove(&self) -> PortResult<()>;
    }
}

failing! {
    Target as "target" {
        async fn inspect(&self) -> PortResult<TargetServer>;
        async fn prepare(&self) -> PortResult<()>;
        async fn claim(&self, run: &str, tables: &[Table]) -> PortResult<()>;
        async fn claimable(&self, tables: &[Table]) -> PortResult<()>;
        async fn owned(&self) -> PortResult<Owned>;
        async fn disown(&self) -> PortResult<()>;
        async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()>;
        async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>>;
        async fn surroundings(&self, table: &Table) -> PortResult<Option<Surroundings>>;
        async fn describe(&self, table: &Table) -> PortResult<TargetTable>;
        async fn rights(&self, tables: &[Table], owning: Owning) -> PortResult<Vec<Obstacle>>;
        async fn definition(&self, table: &Table) -> PortResult<Option<Definition>>;
        async fn turn_on_expiry(&self, table: &Table, attribute: &str) -> PortResult<Expiry>;
        async fn create(&self, table: &Table) -> PortResult<bool>;
        async fn make_anew(&self, tables: &[Table]) -> PortResult<()>;
        async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>>;
        async fn reset(&self, table: &Table) -> PortResult<()>;
        async fn begin_load(&self, table: &Table, defer_indexes: Option<bool>, keys_are_unique: bool) -> PortResult<Vec<SetAside>>;
        async fn set_aside(&self, table: &Table) -> PortResult<Vec<SetAside>>;
        async fn finish_load(&self, table: &Table) -> PortResult<()>;
        async fn prove_references(&self, table: &Table, drained: bool) -> PortResult<Option<String>>;
        async fn fill_views(&self, table: &Table) -> PortResult<Vec<String>>;
        async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>>;
        async fn advance_sequences(
            &self,
            tables: &[Table],
            look: SequenceScan,
            by_hand: &[String],
            beyond: &[Beyond],
        ) -> PortResult<Vec<Sequence>>;
        async fn start_positions(
            &self,
            table: &Table,
            stream: &str,
            positions: &BTreeMap<String, Position>,
        ) -> PortResult<()>;
        async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>>;
        async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>>;
        async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied>;
        async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>>;
        async fn count(&self, table: &Table, exact: bool) -> PortResult<Count>;
        async fn load_reads(&self, table: &Table, at: At) -> PortResult<()>;
        async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()>;
        async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>>;
        async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)>;
        async fn parked(
            &self,
            table: &Table,
            reasons: Option<&[RowErrorReason]>,
            after: Option<&Key>,
            limit: u32,
        ) -> PortResult<Vec<ParkedRow>>;
        async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>>;
        async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()>;
        async fn scan_child(&self, table: &Table, child: usize, each: &mut TargetVisitor<'_>) -> PortResult<()>;
        async fn scan_part(
            &self,
            table: &Table,
            child: Option<usize>,
            part: Partition,
            each: &mut TargetVisitor<'_>,
        ) -> PortResult<()>;
        async fn orphans(&self, table: &Table, tables: &[Table], limit: u32) -> PortResult<Vec<Orphans>>;
        async fn fetch(
            &self,
            table: &Table,
            keys: &[OwnedRow],
        ) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>>;
        async fn writes(&self, tables: &[Table]) -> PortResult<u64>;
        async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease>;
        async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease>;
        async fn release(&self, holder: &str) -> PortResult<()>;
    } beside {
        async fn bulk(&self, table: &Table, part: Partition) -> PortResult<Box<dyn Bulk>> {
            let bulk = around("target.bulk", self.0.bulk(table, part)).await?;
            Ok(Box::new(FailingBulk(bulk)))
        }

        fn encoder(&self, table: &Table) -> PortResult<Box<dyn RowEncoder>> {
            self.0.encoder(table)
        }

        fn held_back(&self, table: &Table) -> Option<String> {
            self.0.held_back(table)
        }
    }
}

failing! {
    Switches as "switches" {
        async fn read(&self, switch: &Switch) -> PortResult<SwitchValue>;
        async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue>;
        async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>>;
        async fn attributes(&self, switch: &Switch, version: Option<i64>) -> PortResult<Attributes>;
        async fn set(&self, switch: &Switch, value: &Secret, attributes: &Attributes) -> PortResult<()>;
        async fn resolve(&self, value: &ValueRef, control: &str) -> PortResult<SwitchValue>;
    }
}

failing! {
    Jobs as "jobs" {
        async fn look(&self, job: &Job) -> PortResult<String>;
        async fn begin(&self, job: &Job, begin: &Begin) -> PortResult<String>;
        async fn find(&self, job: &Job, begin: &Begin) -> PortResult<Option<String>>;
        async fn progress(&self, job: &Job, handle: &str) -> PortResult<JobProgress>;
        async fn cancel(&self, job: &Job, handle: &str) -> PortResult<()>;
    }
}

failing! {
    Probes as "probes" {
        async fn probe(&self, probe: &Probe) -> ProbeResult;
    }
}

failing! {
    Metrics as "metrics" {
        async fn latest(&self, metrics: &[Metric], now: At) -> PortResult<Vec<MetricReading>>;
    }
}

failing! {
    Outbox as "outbox" {
        async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>>;
        async fn armed(&self, tables: &[Table]) -> PortResult<bool>;
        async fn gaps(&self, tables: &[Table]) -> PortResult<Vec<CaptureGap>>;
        async fn disarm(&self, tables: &[Table]) -> PortResult<()>;
        async fn mark_rolled_back(&self, run: &str, tables: &[Table]) -> PortResult<()>;
        async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()>;
        async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()>;
        async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>>;
        async fn open_writes(&self, tables: &[Table]) -> PortResult<Vec<OpenWrite>>;
        async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>>;
        async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>>;
        async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>>;
        async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>>;
    } beside {
        async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
            let taken = around("outbox.take", self.0.take(table, limit)).await?;
            Ok(taken.map(|t| Box::new(FailingTaken(t)) as _))
        }
    }
}

failing! {
    Items as "items" {
        async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome>;
        async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together>;
        async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>>;
        async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>>;
        async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>>;
        async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>>;
        async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()>;
        async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>>;
        async fn advance_sequences(
            &self,
            tables: &[Table],
            look: SequenceScan,
            by_hand: &[String],
            beyond: &[Beyond],
        ) -> PortResult<Vec<Sequence>>;
    } beside {
        fn of_columns(&self) -> bool {
            self.0.of_columns()
        }

        fn batch(&self) -> usize {
            self.0.batch()
        }
    }
}

failing! {
    Restore as "restore" {
    } beside {
        async fn open(&self, tables: &[HeldTable]) -> PortResult<Box<dyn Restoring>> {
            let restoring = around("restore.open", self.0.open(tables)).await?;
            Ok(Box::new(FailingRestoring(restoring)))
        }
    }
}

/// Tables that are being restored.
struct FailingRestoring(Box<dyn Restoring>);

#[async_trait]
impl Restoring for FailingRestoring {
    fn found(&self) -> &[FoundTable] {
        self.0.found()
    }

    fn takes_again(&self) -> bool {
        self.0.takes_again()
    }

    async fn make(&mut self, table: &HeldTable) -> PortResult<()> {
        around("restoring.make", self.0.make(table)).await
    }

    async fn write(&mut self, table: &HeldTable, lines: &[u8]) -> PortResult<()> {
        around("restoring.write", self.0.write(table, lines)).await
    }

    async fn written(&mut self, table: &HeldTable) -> PortResult<()> {
        around("restoring.written", self.0.written(table)).await
    }

    async fn page(&mut self, table: &HeldTable, cursor: Option<&Cursor>) -> PortResult<TextPage> {
        around("restoring.page", self.0.page(table, cursor)).await
    }

    async fn keep(self: Box<Self>, tables: &[HeldTable]) -> PortResult<Vec<String>> {
        around("restoring.keep", self.0.keep(tables)).await
    }
}

/// A partition's way in.
struct FailingBulk(Box<dyn Bulk>);

#[async_trait]
impl Bulk for FailingBulk {
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()> {
        self.0.push(mapped)
    }

    fn push_copied(&mut self, rows: &CopiedRows<'_>) -> PortResult<Option<u64>> {
        self.0.push_copied(rows)
    }

    fn buffered(&self) -> usize {
        self.0.buffered()
    }

    fn goes_on_from(&mut self, cursor: Option<Cursor>) {
        self.0.goes_on_from(cursor);
    }

    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied> {
        around("bulk.flush", self.0.flush(parked, checkpoint)).await
    }
}

/// Changes taken out of the outbox.
struct FailingTaken(Box<dyn Taken>);

#[async_trait]
impl Taken for FailingTaken {
    fn changes(&self) -> &[OutboxChange] {
        self.0.changes()
    }

    fn markers(&self) -> &[String] {
        self.0.markers()
    }

    fn rolled_back(&self) -> bool {
        self.0.rolled_back()
    }

    async fn record_own_writes(&self, images: &[OwnWrite]) -> PortResult<bool> {
        around("taken.record_own_writes", self.0.record_own_writes(images)).await
    }

    async fn unfinished(&self, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>> {
        around("taken.unfinished", self.0.unfinished(keys)).await
    }

    async fn clear(&self, applied: &[Cleared]) -> PortResult<()> {
        around("taken.clear", self.0.clear(applied)).await
    }

    async fn done(self: Box<Self>) -> PortResult<()> {
        around("taken.done", self.0.done()).await
    }
}
