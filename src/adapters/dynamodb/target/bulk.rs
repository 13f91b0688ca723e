//! The load of one partition: rows as they come, in batches under a permit, then the checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::batch::{self, Put};
use super::call::{Item, Stopped, Store, Tried, n, number, s, sk, text};
use super::names::{self, Of};
use super::permits::{self, Holder, Kept, Permit};
use super::rows::Shape;
use super::work::{no_children, parked_row};
use super::write::Write;
use super::{lease, ledger, owner};
use crate::domain::mapping::{Mapped, RowError, RowErrorReason};
use crate::domain::value::Key;
use crate::ports::{
    Applied, Bulk, Checkpoint, Cursor, ErrorKind, ParkedRow, Partition, PortError, PortResult, refuse_rewound,
};

/// What is tried.
const TRIED: &str = "load rows into";
/// Rows of the ledger that go with a checkpoint in one transaction.
const WITH_CHECKPOINT: usize = 40;

struct Waiting {
    key: Key,
    key_json: String,
    row_key: String,
    item: String,
}

/// The load of one partition. After a flush that failed the rows are still there: flush again, or drop it and start over
/// from the checkpoint. Both are safe when it is not known what landed: a row that is put twice is put once.
pub(super) struct DynamoBulk {
    store: Arc<Store>,
    plan: Arc<str>,
    of: Of,
    shape: Arc<Shape>,
    /// The lease's epoch when this partition was opened.
    epoch: Option<i64>,
    rows: Vec<Waiting>,
    bytes: usize,
    keys: HashSet<String>,
    /// Rows that no item can hold, and those with a key that another row of the buffer has.
    refused: Vec<ParkedRow>,
    permit: Option<Permit>,
    /// The cursor that is known to be stored; absent when nothing is compared.
    from: Option<Option<Cursor>>,
}

impl DynamoBulk {
    /// An empty one.
    pub(super) fn new(store: Arc<Store>, plan: Arc<str>, of: Of, shape: Arc<Shape>, epoch: Option<i64>) -> Self {
        let (rows, keys, refused) = Default::default();
        Self { store, plan, of, shape, epoch, rows, bytes: 0, keys, refused, permit: None, from: None }
    }

    fn at(&self) -> (&'static str, String) {
        (TRIED, self.shape.target.clone())
    }

    /// Puts what waits, under a permit. Gives the permit, and what the store refused.
    async fn send(&mut self, at: Tried<'_>) -> PortResult<(Permit, Vec<ParkedRow>)> {
        let holder = Holder { plan: &self.plan, of: &self.of, epoch: self.epoch };
        self.drives(at).await?;
        let puts: Vec<Put<'_>> = self.rows.iter().map(|row| Put { key: &row.row_key, item: &row.item }).collect();
        let kept = Kept::new(&self.store, holder, self.permit.clone());
        let sent = async {
            kept.until(at).await?;
            batch::put(&self.store, &self.shape.target, &puts, &kept, at).await
        };
        let refused = sent.await;
        self.permit = kept.into_permit();
        let (refused, Some(permit)) = (refused?, self.permit.clone()) else { return Err(lease::overtaken(at)) };
        let parked = |(place, row_error): (usize, RowError)| {
            let row = self.rows.get(place)?;
            Some(parked_row(&self.shape.id, &row.key, &row.key_json, row_error))
        };
        Ok((permit, refused.into_iter().filter_map(parked).collect()))
    }

    /// Refuses a page of a process that is no longer the driver before it sends it.
    async fn drives(&self, at: Tried<'_>) -> PortResult<()> {
        let found = self.store.get_all(&[names::lease(&self.plan), self.of.table()], at).await?;
        let mut found = found.into_iter();
        let (driver, table) = (found.next().flatten(), found.next().flatten());
        if lease::epoch_of(driver.as_ref()) != self.epoch {
            return Err(lease::overtaken(at));
        }
        owner::judged(table, true, &self.plan, at).map(drop)
    }

    /// Writes the ledger and the checkpoint: rows are there already. What does not fit into one transaction goes into
    /// the ledger before it.
    ///
    /// Each of these transactions holds only while the permit is there. Whoever goes on after a load takes it away, once
    /// it is over; and it is nobody else's, so that partitions do not get into each other's way.
    async fn book(
        &self,
        permit: &Permit,
        parked: &[ParkedRow],
        checkpoint: &Checkpoint,
        at: Tried<'_>,
    ) -> PortResult<()> {
        let now = self.store.now();
        let refused: HashSet<&Key> = parked.iter().map(|row| &row.key).collect();
        let landed: Vec<&Key> = self.rows.iter().map(|row| &row.key).filter(|key| !refused.contains(key)).collect();
        let landed = ledger::standing(&self.store, &self.of, &landed, at).await?;
        let mut writes: Vec<Write> = Vec::new();
        // A key stands in the ledger once, for the reason that came last.
        let parked: BTreeMap<&str, &ParkedRow> = parked.iter().map(|row| (row.key.0.as_str(), row)).collect();
        for row in parked.into_values() {
            writes.push(ledger::park(&self.of, row, now));
            // An earlier try of this page may have written it, when it still fitted.
            let duplicate = row.row_error.reason == RowErrorReason::DuplicateUnique;
            let row_key = self.shape.row_key_of(&row.key_json).filter(|_| !duplicate);
            writes.extend(row_key.map(|key| Write::delete_row(&self.shape.target, &key)));
        }
        writes.extend(landed.iter().map(|key| ledger::unpark(&self.of, key)));
        let held = permit.held(&self.of);
        let mut rest = writes.as_slice();
        while rest.len() > WITH_CHECKPOINT * 2 {
            let (some, more) = rest.split_at(WITH_CHECKPOINT * 2);
            let all: Vec<&Write> = [&held].into_iter().chain(some).collect();
            if let Err(stopped) = self.store.transact(&all, at).await {
                return Err(self.stopped(stopped, at).await);
            }
            rest = more;
        }
        let stored = self.checkpoint(checkpoint);
        // Nothing of a partition is under way after its end.
        let held = if checkpoint.done { permit.end(&self.of) } else { held };
        let all: Vec<&Write> = [&held, &stored].into_iter().chain(rest).collect();
        match self.store.transact(&all, at).await {
            Ok(()) => Ok(()),
            Err(Stopped::Condition(1)) => {
                let what = format!("part {}/{} of the load", checkpoint.part.index + 1, checkpoint.part.of);
                Err(refuse_rewound(TRIED, at.1, &what))
            }
            Err(stopped) => Err(self.stopped(stopped, at).await),
        }
    }

    /// Why a transaction did not hold, as it stands now.
    async fn stopped(&self, stopped: Stopped, at: Tried<'_>) -> PortError {
        match stopped {
            Stopped::Condition(_) => self.drives(at).await.err().unwrap_or_else(|| lease::overtaken(at)),
            other => other.error(at),
        }
    }

    /// The write of a checkpoint, over the one before it only.
    fn checkpoint(&self, checkpoint: &Checkpoint) -> Write {
        let write = Write::put(&self.of.checkpoint(checkpoint.part), written(checkpoint));
        let Some(from) = &self.from else { return write };
        // The same again is a flush whose answer was lost.
        let again = match &checkpoint.cursor {
            Some(_) => "#cursor = :new",
            None => "attribute_exists(#done)",
        };
        let write = match from {
            None => write.when(format!("attribute_not_exists(#pk) OR {again}")),
            Some(from) => write.when(format!("#cursor = :from OR {again}")).with("from", s(&from.0)),
        };
        match &checkpoint.cursor {
            Some(new) => write.with("new", s(&new.0)),
            None => write,
        }
    }
}

fn written(checkpoint: &Checkpoint) -> serde_json::Value {
    let count = |n: u64| json!({"N": n.to_string()});
    let mut item = json!({"rows": count(checkpoint.rows), "parked": count(checkpoint.parked)});
    if let Some(item) = item.as_object_mut() {
        item.extend(checkpoint.cursor.as_ref().map(|cursor| ("cursor".to_owned(), s(&cursor.0))));
        item.extend(checkpoint.done.then(|| ("done".to_owned(), json!({"BOOL": true}))));
    }
    item
}

fn read(item: &Item) -> Option<Checkpoint> {
    let (of, index) = sk(item).strip_prefix(names::PARTS)?.split_once('/')?;
    let count = |name| number(item, name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Some(Checkpoint {
        part: Partition { index: index.parse().ok()?, of: of.parse().ok()? },
        cursor: text(item, "cursor").map(|cursor| Cursor(cursor.to_owned())),
        rows: count("rows"),
        parked: count("parked"),
        done: item.contains_key("done"),
    })
}

/// See [`crate::ports::Target::checkpoints`].
pub(super) async fn checkpoints(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Vec<Checkpoint>> {
    let items = store.query(&of.load(), names::PARTS, None, None, at).await?;
    Ok(items.iter().filter_map(read).collect())
}

/// Empties a table for a new load, and forgets how far the load before had come. See [`crate::ports::Target::reset`].
///
/// Rows go one by one, so it can die half-way: the mark that it began refuses rows until it is at its end.
pub(super) async fn empty(store: &Store, plan: &str, of: &Of, shape: &Shape, epoch: Option<i64>) -> PortResult<()> {
    let at = ("reset", shape.target.as_str());
    owner::judged(store.get(&of.table(), at).await?, false, plan, at)?;
    let began = Write::update(&of.table(), "SET #emptying = :now REMOVE #stream, #token")
        .when("attribute_exists(#pk) AND attribute_not_exists(#opened)")
        .with("now", n(store.now().0));
    let writes: Vec<Write> = [began].into_iter().chain(epoch.map(|epoch| lease::fence(plan, epoch))).collect();
    match store.transact(&writes.iter().collect::<Vec<_>>(), at).await {
        Ok(()) => {}
        Err(Stopped::Condition(0)) => return Err(owner::is_open(at)),
        Err(Stopped::Condition(_)) => return Err(lease::overtaken(at)),
        Err(stopped) => return Err(stopped.error(at)),
    }
    permits::quiet(store, of, at).await?;
    owner::forget(store, of, at).await?;
    super::read::delete_all(store, shape, at).await?;
    let over = Write::update(&of.table(), "REMOVE #emptying").when("attribute_exists(#pk)");
    store.write(&over, at).await.map_err(|stopped| stopped.error(at)).map(drop)
}

#[async_trait]
impl Bulk for DynamoBulk {
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()> {
        if mapped.children.iter().any(|rows| !rows.is_empty()) {
            return Err(no_children(&self.shape.target));
        }
        let key = Key(mapped.key.clone());
        let cells = self.shape.key_of(&mapped.row);
        let made = self.shape.key_json(&cells).and_then(|row_key| Ok((row_key, self.shape.item(&mapped.row)?)));
        match made {
            Ok((row_key, item)) if self.keys.insert(row_key.clone()) => {
                self.bytes += item.len() + row_key.len();
                self.rows.push(Waiting { key, key_json: mapped.key_json.clone(), row_key, item });
            }
            // Folding them would hide that one is lost.
            Ok(_) => {
                let row_error = RowError::new("-", RowErrorReason::DuplicateUnique);
                self.refused.push(parked_row(&self.shape.id, &key, &mapped.key_json, row_error));
            }
            Err(row_error) => self.refused.push(parked_row(&self.shape.id, &key, &mapped.key_json, row_error)),
        }
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.bytes
    }

    fn goes_on_from(&mut self, cursor: Option<Cursor>) {
        self.from = Some(cursor);
    }

    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied> {
        let (tried, on) = self.at();
        let at = (tried, on.as_str());
        let (permit, mut refused) = self.send(at).await?;
        refused.extend(self.refused.iter().cloned());
        // The caller counted every row it pushed as written; the ones refused here are parked instead.
        let lost = refused.len() as u64;
        let counted = Checkpoint {
            rows: checkpoint.rows.saturating_sub(lost),
            parked: checkpoint.parked + lost,
            ..checkpoint.clone()
        };
        let all: Vec<ParkedRow> = parked.into_iter().chain(refused.iter().cloned()).collect();
        self.book(&permit, &all, &counted, at).await?;
        let upserted = (self.rows.len() + self.refused.len()) as u64 - lost;
        if checkpoint.done {
            self.permit = None;
        }
        self.rows.clear();
        self.keys.clear();
        self.refused.clear();
        self.bytes = 0;
        Ok(Applied { upserted, deleted: 0, parked: refused })
    }
}

/// That no partition was opened by a process that has lost the lease.
pub(super) async fn epoch(store: &Store, plan: &str, ours: Option<i64>, target: &str) -> PortResult<Option<i64>> {
    match ours {
        // A process that is no longer the driver keeps the epoch it had: whatever it opens is refused.
        Some(epoch) => Ok(Some(epoch)),
        None => lease::driver(store, plan, ("open a way into", target)).await,
    }
}

/// That a store has no such thing.
pub(super) fn none_here(tried: &str, on: &str, what: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, tried, on, format!("a DynamoDB table has no {what}"))
}
