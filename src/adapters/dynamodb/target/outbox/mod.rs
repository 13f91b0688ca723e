//! The outbox of DynamoDB tables: what customers write to a table is in its own stream, and waits in our bookkeeping.
//!
//! A stream keeps its records for 24 hours and counts none of them, so whoever looks (the reverse applier, a count, a
//! rollback) first reads on and stores what it finds (`reader.rs`, `spool.rs`). How own writes are told from customers'
//! and what is lost when nobody looks is told in `docs/reverse.md`, *The outbox of DynamoDB tables*.

mod capture;
mod marker;
mod reader;
mod spool;
mod take;
mod turn;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;

use super::DynamoTarget;
use super::call::{Stopped, Store, Tried, n, s, text};
use super::names::{self, Of};
use super::owner;
use super::write::Write;
use crate::domain::at::brief;
use crate::domain::mapping::Resolution;
use crate::domain::plan::{Table, shell_word};
use crate::domain::value::Key;
use crate::ports::{
    CaptureGap, CaptureState, Changes as _, ErrorKind, OpenWrite, Outbox, PortError, PortResult, ReverseCounts,
    Sequence, Taken, Waiting,
};

use capture::Capture;
use marker::Markers;
use reader::Way;
use take::resolution_of;
use turn::Turn;

pub(super) use capture::forget;
pub(super) use reader::Reader;

/// How long a look at what waits reads on at most.
const LOOK: Duration = Duration::from_secs(3);
/// A capture that was not read for so long is named, in milliseconds: streams keep 24 hours.
const UNREAD_MS: i64 = 6 * 3_600_000;
/// How many conflicts are named at most; the counts include them all.
const NAMED: usize = 1_000;
/// What is tried.
const STOP: &str = "stop capturing in";

/// Lets customers in on a table: what its stream holds from here on is theirs. Nothing to do where it is not captured.
pub(super) async fn open(target: &DynamoTarget, store: &Store, table: &Table) -> PortResult<()> {
    let reader = target.reader(table);
    let mut reader = reader.lock().await;
    target.way(store, table).open(&mut reader).await
}

/// How many records of a table wait, as far as they were read.
pub(super) async fn waits(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<u64> {
    Ok(spool::waiting(store, of, at).await?.records)
}

/// The markers of a table.
#[cfg(test)]
pub(super) fn markers(table: &Table) -> Markers {
    Markers::new(table)
}

impl DynamoTarget {
    fn reader(&self, table: &Table) -> Arc<tokio::sync::Mutex<Reader>> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(readers.entry(table.id.clone()).or_default())
    }

    fn way<'a>(&'a self, store: &'a Store, table: &Table) -> Way<'a> {
        // To be read, the target is a source of changes like any other.
        let followed = Table { source: table.target.clone(), ..table.clone() };
        let markers = Markers::new(table);
        Way { store, changes: &self.changes, of: self.of(table), table: followed, markers }
    }

    /// Reads on; whether all that was written before this call is stored now.
    async fn read_on(&self, store: &Store, table: &Table, patience: Duration) -> PortResult<bool> {
        let reader = self.reader(table);
        let mut reader = reader.lock().await;
        self.way(store, table).read_on(&mut reader, patience).await
    }

    async fn arm_one(&self, store: &Store, table: &Table) -> PortResult<CaptureState> {
        let at = ("capture", table.target.as_str());
        let of = self.of(table);
        owner::judged(store.get(&of.table(), at).await?, false, &self.plan, at)?;
        let way = self.way(store, table);
        let stream = self.changes.enable(&way.table).await?;
        let reader = self.reader(table);
        let mut reader = reader.lock().await;
        if Capture::load(store, &of, at).await?.is_none() {
            match capture::begin(store, &of, None, &stream, None, at).await {
                // Another process has just begun it.
                Ok(()) | Err(Stopped::Condition(_)) => {}
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
        // A stream that was replaced is found by reading; what that means is said there.
        let nonce = format!("{}.arm", uuid::Uuid::new_v4());
        way.through(&mut reader, &nonce).await?;
        store.write(&Write::delete(&of.came(&nonce)), at).await.map_err(|e| e.error(at))?;
        Ok(CaptureState { table: table.id.clone(), exercised: true, tables: vec![table.target.clone()] })
    }

    async fn count_one(&self, store: &Store, table: &Table, capture: Option<Capture>) -> PortResult<Waiting> {
        let at = ("count what waits of", table.id.as_str());
        let Some(capture) = capture else { return Ok(Waiting::default()) };
        let reader = self.reader(table);
        let mut reader = reader.lock().await;
        if capture.opened.is_none() {
            // Nothing of customers waits. It is read all the same, so that the opening has little left to read.
            if let Err(e) = self.way(store, table).read_on(&mut reader, LOOK).await {
                tracing::debug!(table = %table.target, error = %e, "its stream is not read on");
            }
            // Unless they were let in meanwhile.
            if Capture::load(store, &self.of(table), at).await?.is_none_or(|capture| capture.opened.is_none()) {
                return Ok(Waiting::default());
            }
        }
        // What is not read yet is not counted, and less than waits is no price.
        if !self.way(store, table).read_on(&mut reader, LOOK).await? {
            let came_back = "more is written than was read in time";
            return Err(PortError::new(ErrorKind::Throttled, at.0, at.1, came_back).advise("it is counted again"));
        }
        if reader.is_empty() {
            return Ok(Waiting::default());
        }
        drop(reader);
        spool::waiting(store, &self.of(table), at).await
    }

    async fn gap_of(&self, store: &Store, table: &Table, capture: &Capture) -> PortResult<Option<CaptureGap>> {
        let open = capture.opened.is_some();
        let gap = |what: String, lost| Ok(Some(CaptureGap { what, lost }));
        if let Some(lost) = &capture.lost {
            return gap(format!("{lost}; what customers wrote there meanwhile was not captured"), true);
        }
        let on = capture::stream_on(store, &table.target, ("look at the stream of", &table.target)).await?;
        if on.as_deref() != Some(&capture.stream) {
            return gap(format!("the stream of {} is off, or another one than was armed", table.target), open);
        }
        let unread = store.now().since(capture.read);
        if open && unread > UNREAD_MS {
            let ago = brief(unread);
            let what = format!("the stream of {} was last read to its end {ago} ago; it keeps 24 hours", table.target);
            return gap(what, false);
        }
        Ok(None)
    }

    /// The captures of these tables; none of those that are not captured, or where no run has begun.
    async fn captures(&self, tables: &[Table], at: Tried<'_>) -> PortResult<Vec<Option<Capture>>> {
        let of: Vec<Of> = tables.iter().map(|table| self.of(table)).collect();
        Capture::load_all(self.ours().await?, &of, at).await
    }

    async fn disarm_one(&self, store: &Store, table: &Table, capture: &Capture) -> PortResult<()> {
        let at = (STOP, table.target.as_str());
        if capture.opened.is_some() {
            match self.read_on(store, table, LOOK).await {
                Ok(true) => {}
                Ok(false) => {
                    let came_back = "customers still write there";
                    return Err(PortError::new(ErrorKind::Conflict, at.0, at.1, came_back)
                        .advise("carry it with `cutover rollback` of the earlier run"));
                }
                Err(e) if e.kind.transient() => return Err(e),
                // What cannot be read any more waits nowhere.
                Err(e) => tracing::warn!(table = %table.target, error = %e, "its stream is not read to the end"),
            }
        }
        let waits = waits(store, &self.of(table), at).await?;
        if waits > 0 {
            let came_back = format!("{waits} writes were never carried back");
            let advice = format!(
                "carry them with `cutover rollback` of the earlier run; or let them stay where they are: \
                 cutover release {}",
                shell_word(&self.plan)
            );
            return Err(PortError::new(ErrorKind::Conflict, at.0, at.1, came_back).advise(advice));
        }
        capture::forget(store, &self.of(table), at).await
    }
}

#[async_trait]
impl Outbox for DynamoTarget {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>> {
        let store = self.ours().await?;
        try_join_all(tables.iter().map(|table| self.arm_one(store, table))).await
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        let at = ("look for", "the outbox");
        let captures = match self.captures(tables, at).await {
            Ok(captures) => captures,
            // Where no run has begun, nothing is captured.
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let each = tables.iter().zip(captures).map(|(table, capture)| async move {
            let Some(capture) = capture else { return PortResult::Ok(false) };
            let on = capture::stream_on(&self.store, &table.target, at).await?;
            Ok(on.as_deref() == Some(&capture.stream))
        });
        Ok(try_join_all(each).await?.into_iter().all(|armed| armed))
    }

    async fn gaps(&self, tables: &[Table]) -> PortResult<Vec<CaptureGap>> {
        let captures = match self.captures(tables, ("look for", "the outbox")).await {
            Ok(captures) => captures,
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let store = &self.store;
        let armed = tables.iter().zip(&captures).filter_map(|(table, capture)| Some((table, capture.as_ref()?)));
        let gaps = try_join_all(armed.map(|(table, capture)| self.gap_of(store, table, capture))).await?;
        Ok(gaps.into_iter().flatten().collect())
    }

    async fn disarm(&self, tables: &[Table]) -> PortResult<()> {
        let store = self.ours().await?;
        let at = (STOP, "the target");
        for (table, capture) in tables.iter().zip(self.captures(tables, at).await?) {
            if let Some(capture) = capture {
                self.disarm_one(store, table, &capture).await?;
            } else {
                // What a process that died on the way has left.
                capture::forget(store, &self.of(table), at).await?;
            }
            let fresh = Write::update(&self.of(table).table(), "REMOVE #back").when("attribute_exists(#pk)");
            match store.write(&fresh, at).await {
                Ok(_) | Err(Stopped::Condition(_)) => {}
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
        Ok(())
    }

    async fn mark_rolled_back(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let at = ("mark as rolled back", "the target tables");
        let store = self.ours().await?;
        let mut other = None;
        for table in tables {
            let mark = Write::update(&self.of(table).table(), "SET #back = if_not_exists(#back, :now)")
                .when("#run = :run")
                .with("run", s(run))
                .with("now", n(store.now().0));
            match store.write(&mark, at).await {
                Ok(_) => {}
                Err(Stopped::Condition(_)) => {
                    let found = store.get(&self.of(table).table(), at).await?;
                    let theirs = found.as_ref().and_then(|item| text(item, "run")).map(str::to_owned);
                    other = other.or(theirs.map(|run| (table.id.clone(), run)));
                }
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
        let Some((table, theirs)) = other else { return Ok(()) };
        let came_back = format!("{table} belongs to run {theirs} of the same plan now");
        Err(PortError::new(ErrorKind::Invalid, at.0, at.1, came_back)
            .advise(format!("nothing of that run was touched; to take it back: cutover rollback {theirs}")))
    }

    async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let at = ("let a later run load", "the target tables");
        let store = self.ours().await?;
        for table in tables {
            let of = self.of(table);
            let settled = Write::update(&of.table(), "REMOVE #opened").when("#run = :run").with("run", s(run));
            match store.write(&settled, at).await {
                Ok(_) | Err(Stopped::Condition(_)) => {}
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
        Ok(())
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        let store = self.ours().await?;
        let reader = self.reader(table);
        let mut reader = reader.lock().await;
        self.way(store, table).through(&mut reader, nonce).await
    }

    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
        let at = ("take changes of", table.id.as_str());
        self.ours().await?;
        let (store, way) = (&self.store, self.way(&self.store, table));
        if Capture::load(store, &way.of, at).await?.is_none() {
            return Ok(None);
        }
        let reader = self.reader(table);
        let mut reader = reader.lock().await;
        let read = way.read_on(&mut reader, LOOK).await;
        if reader.is_empty() {
            return read.map(|_| None);
        }
        let version = reader.version();
        let markers = way.came(at).await?;
        if markers.is_empty() && spool::oldest(store, &way.of, 1, at).await?.is_empty() {
            reader.found_empty(version);
            // What waits is applied even while the stream cannot be read.
            return read.map(|_| None);
        }
        drop(reader);
        let turn = Turn::take(store, &self.plan, at).await?;
        let (limit, shape) = (usize::try_from(limit).unwrap_or(usize::MAX), self.shape(table));
        let markers = markers.into_iter().collect();
        let taken = take::taken(store, &way.of, &shape, turn, limit, markers, at).await?;
        Ok(Some(Box::new(taken)))
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        let store = self.ours().await?;
        let captures = self.captures(tables, ("count what waits of", "the target tables")).await?;
        let each = tables.iter().zip(captures).map(|(table, capture)| async move {
            PortResult::Ok((table.id.clone(), self.count_one(store, table, capture).await?))
        });
        Ok(try_join_all(each).await?.into_iter().collect())
    }

    /// Each write is a call of its own, and in the stream once it was acknowledged.
    async fn open_writes(&self, _: &[Table]) -> PortResult<Vec<OpenWrite>> {
        Ok(Vec::new())
    }

    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        let store = self.ours().await?;
        let at = ("read what was carried back from", "the target tables");
        let each = tables.iter().map(|table| async move {
            PortResult::Ok((table.id.clone(), spool::applied(store, &self.of(table), at).await?))
        });
        Ok(try_join_all(each).await?.into_iter().collect())
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        let at = ("list conflicts of", table.id.as_str());
        let found = self.ours().await?.query(&self.of(table).conflicts(), "", None, Some(NAMED), at).await?;
        let mut found: Vec<(Key, Resolution)> =
            found.iter().filter_map(|item| Some((Key(text(item, "key")?.to_owned()), resolution_of(item)))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        let of = self.of(table);
        let place = |(key, image): &(Key, u128)| {
            let (digest, lane) = names::digest(&key.0);
            of.image(lane, &digest, *image)
        };
        let places: Vec<_> = images.iter().map(place).collect();
        let found = self.ours().await?.get_all(&places, ("look up images of", &table.id)).await?;
        Ok(found.iter().map(Option::is_some).collect())
    }
}
