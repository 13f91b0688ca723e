//! What stands in for ports that cannot be made: each call is refused with the reason, so that a rollback names what it
//! could not do and goes on with the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Batch, Begin, Beyond, CaptureGap, CaptureState, Changes, Cursor, ErrorKind, InBatch, ItemOutcome, Items,
    JobProgress, Jobs, LogLook, Mover, MoverLook, Obstacle, OpenWrite, Outbox, Page, PageEnd, Partition, PointInTime,
    PortError, PortResult, ProbeOutcome, ProbeResult, Probes, ReadFrom, ReverseCounts, Sequence, SequenceScan, Source,
    SourceTable, Stream, Surroundings, SwitchValue, Switches, Taken, Together, Waiting,
};
use crate::domain::gauge::Count;
use crate::domain::mapping::{ItemChange, Resolution};
use crate::domain::plan::{Definition, Job, Probe, Switch, Table, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::domain::value::{Key, Record};

const OUTBOX: &str = "the outbox";
const MOVER: &str = "the mover";

/// Ports that cannot be made, for this reason.
pub struct Unavailable(pub String);

impl Unavailable {
    fn refused<T>(&self, tried: &str, on: String) -> PortResult<T> {
        Err(PortError::new(ErrorKind::Invalid, tried, on, self.0.clone()))
    }
}

#[async_trait]
impl Switches for Unavailable {
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue> {
        self.refused("read", switch.place())
    }

    async fn read_version(&self, switch: &Switch, _: i64) -> PortResult<SwitchValue> {
        self.refused("read the history of", switch.place())
    }

    async fn attributes(&self, switch: &Switch, _: Option<i64>) -> PortResult<Attributes> {
        self.refused("read what belongs to", switch.place())
    }

    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>> {
        self.refused("read the history of", switch.place())
    }

    async fn set(&self, switch: &Switch, _: &Secret, _: &Attributes) -> PortResult<()> {
        self.refused("set", switch.place())
    }

    async fn resolve(&self, _: &ValueRef, _: &str) -> PortResult<SwitchValue> {
        self.refused("resolve", "a reference".to_owned())
    }
}

#[async_trait]
impl Jobs for Unavailable {
    async fn look(&self, job: &Job) -> PortResult<String> {
        self.refused("look at", job.place())
    }

    async fn begin(&self, job: &Job, _: &Begin) -> PortResult<String> {
        self.refused("begin", job.place())
    }

    async fn find(&self, job: &Job, _: &Begin) -> PortResult<Option<String>> {
        self.refused("find", job.place())
    }

    async fn progress(&self, job: &Job, _: &str) -> PortResult<JobProgress> {
        self.refused("ask after", job.place())
    }

    async fn cancel(&self, job: &Job, _: &str) -> PortResult<()> {
        self.refused("end", job.place())
    }
}

#[async_trait]
impl Outbox for Unavailable {
    async fn arm(&self, _: &[Table]) -> PortResult<Vec<CaptureState>> {
        self.refused("capture", OUTBOX.to_owned())
    }

    async fn armed(&self, _: &[Table]) -> PortResult<bool> {
        self.refused("look at", OUTBOX.to_owned())
    }

    async fn gaps(&self, _: &[Table]) -> PortResult<Vec<CaptureGap>> {
        self.refused("look at", OUTBOX.to_owned())
    }

    async fn disarm(&self, _: &[Table]) -> PortResult<()> {
        self.refused("end", OUTBOX.to_owned())
    }

    async fn mark_rolled_back(&self, _: &str, _: &[Table]) -> PortResult<()> {
        self.refused("mark", OUTBOX.to_owned())
    }

    async fn settle(&self, _: &str, _: &[Table]) -> PortResult<()> {
        self.refused("settle", OUTBOX.to_owned())
    }

    async fn put_marker(&self, table: &Table, _: &str) -> PortResult<()> {
        self.refused("put a marker in", table.target.clone())
    }

    async fn take(&self, table: &Table, _: u32) -> PortResult<Option<Box<dyn Taken>>> {
        self.refused("take changes of", table.target.clone())
    }

    async fn waiting(&self, _: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        self.refused("count", OUTBOX.to_owned())
    }

    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        self.refused("look for", "sequences".to_owned())
    }

    async fn open_writes(&self, _: &[Table]) -> PortResult<Vec<OpenWrite>> {
        self.refused("look at", OUTBOX.to_owned())
    }

    async fn tally(&self, _: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        self.refused("count", OUTBOX.to_owned())
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        self.refused("read conflicts of", table.target.clone())
    }

    async fn own_writes(&self, table: &Table, _: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        self.refused("look up own writes to", table.target.clone())
    }
}

#[async_trait]
impl Mover for Unavailable {
    async fn obstacles(&self, _: &[Table]) -> PortResult<Vec<Obstacle>> {
        self.refused("look for what keeps from moving rows", MOVER.to_owned())
    }

    async fn prepare(&self, _: &[Table]) -> PortResult<String> {
        self.refused("make", MOVER.to_owned())
    }

    async fn start(&self, _: &[Table]) -> PortResult<()> {
        self.refused("start", MOVER.to_owned())
    }

    async fn look(&self, _: &[Table]) -> PortResult<MoverLook> {
        self.refused("look at", MOVER.to_owned())
    }

    async fn pause(&self) -> PortResult<()> {
        self.refused("pause", MOVER.to_owned())
    }

    async fn stop(&self) -> PortResult<()> {
        self.refused("stop", MOVER.to_owned())
    }

    async fn remove(&self) -> PortResult<()> {
        self.refused("remove", MOVER.to_owned())
    }
}

#[async_trait]
impl Probes for Unavailable {
    async fn probe(&self, _: &Probe) -> ProbeResult {
        ProbeResult { outcome: ProbeOutcome::Failed(self.0.clone()), status: None, latency_ms: 0 }
    }
}

#[async_trait]
impl Source for Unavailable {
    async fn describe(&self, table: &Table) -> PortResult<SourceTable> {
        self.refused("describe", table.source.clone())
    }

    async fn definition(&self, table: &Table) -> PortResult<Option<Definition>> {
        self.refused("read the definition of", table.source.clone())
    }

    async fn attached(&self, table: &Table) -> PortResult<Option<Vec<String>>> {
        self.refused("read what is attached to", table.source.clone())
    }

    async fn page(&self, table: &Table, _: Partition, _: Option<&Cursor>) -> PortResult<Page> {
        self.refused("read", table.source.clone())
    }

    fn read<'p>(&self, _: &'p Page, _: &mut dyn FnMut(&Record<'p>)) -> PortResult<PageEnd> {
        self.refused("read", "a page".to_owned())
    }

    async fn get(&self, table: &Table, _: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.refused("read", table.source.clone())
    }

    async fn count(&self, table: &Table) -> PortResult<Count> {
        self.refused("count", table.source.clone())
    }

    async fn names(&self) -> PortResult<Vec<String>> {
        self.refused("list the tables of", "the store".to_owned())
    }

    async fn surroundings(&self) -> PortResult<Option<Surroundings>> {
        self.refused("look at the settings of", "the store".to_owned())
    }

    async fn given_sequences(&self, _: &[Table], _: Option<SequenceScan>) -> PortResult<Vec<Sequence>> {
        self.refused("look for", "sequences".to_owned())
    }

    async fn open_writes(&self) -> PortResult<Vec<OpenWrite>> {
        self.refused("ask for open transactions of", "the store".to_owned())
    }

    async fn point_in_time(&self, _: &[Table]) -> PortResult<Option<Box<dyn PointInTime>>> {
        self.refused("open a snapshot of", "the store".to_owned())
    }

    async fn put_marker(&self, table: &Table, _: &str) -> PortResult<()> {
        self.refused("write a marker to", table.source.clone())
    }

    async fn delete_marker(&self, table: &Table, _: &str) -> PortResult<()> {
        self.refused("delete a marker of", table.source.clone())
    }

    async fn begin_load(&self, table: &Table) -> PortResult<()> {
        self.refused("load", table.source.clone())
    }

    async fn end_load(&self, table: &Table) -> PortResult<()> {
        self.refused("load", table.source.clone())
    }

    async fn made_good(&self, table: &Table, _: &str) -> PortResult<()> {
        self.refused("note a comparison of", table.source.clone())
    }
}

#[async_trait]
impl Changes for Unavailable {
    async fn obstacles(&self, _: &[Table]) -> PortResult<Vec<Obstacle>> {
        self.refused("look at", "what changes are kept".to_owned())
    }

    async fn enable(&self, table: &Table) -> PortResult<Stream> {
        self.refused("follow", table.source.clone())
    }

    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>> {
        self.refused("follow", table.source.clone())
    }

    async fn why_gone(&self, stream: &str) -> PortResult<Option<String>> {
        self.refused("ask what became of", stream.to_owned())
    }

    async fn iterator(&self, stream: &str, _: &str, _: &ReadFrom) -> PortResult<String> {
        self.refused("follow", stream.to_owned())
    }

    async fn read(&self, _: &str) -> PortResult<Batch> {
        self.refused("read", "changes".to_owned())
    }

    async fn close(&self) -> PortResult<()> {
        self.refused("end capture at", "the store".to_owned())
    }

    async fn retained_log(&self, _: bool) -> PortResult<Option<LogLook>> {
        self.refused("ask for the log of", "the store".to_owned())
    }

    fn kept(&self) -> Option<Duration> {
        // Nothing is known of it, so nothing is promised.
        Some(Duration::ZERO)
    }
}

#[async_trait]
impl Items for Unavailable {
    async fn write(&self, table: &Table, _: &ItemChange) -> PortResult<ItemOutcome> {
        self.refused("write to", table.source.clone())
    }

    async fn write_together(&self, table: &Table, _: &[ItemChange]) -> PortResult<Together> {
        self.refused("write to", table.source.clone())
    }

    async fn write_batch(&self, table: &Table, _: &[ItemChange]) -> PortResult<Vec<InBatch>> {
        self.refused("write to", table.source.clone())
    }

    fn batch(&self) -> usize {
        1
    }

    async fn read(&self, table: &Table, _: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        self.refused("read", table.source.clone())
    }

    async fn read_batch(&self, table: &Table, _: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.refused("read", table.source.clone())
    }

    fn of_columns(&self) -> bool {
        false
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        self.refused("read", table.source.clone())
    }

    async fn exercise(&self, table: &Table, _: &str) -> PortResult<()> {
        self.refused("write a marker to", table.source.clone())
    }

    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        self.refused("look for", "sequences".to_owned())
    }

    async fn advance_sequences(
        &self,
        _: &[Table],
        _: SequenceScan,
        _: &[String],
        _: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        self.refused("advance", "sequences".to_owned())
    }
}
