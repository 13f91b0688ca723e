//! The load of one partition: rows are encoded as they come and are written in one transaction with their checkpoint.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;

use super::book;
use super::connect::Pool;
use super::lease;
use super::outbox;
use super::owner;
use super::retry::{self, Failure, Tries};
use super::rows::{RowBuffer, Rows};
use super::shape::Shape;
use super::verbatim::Verbatim;
use super::write::{self, Way};
use crate::domain::mapping::Mapped;
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::{Applied, Bulk, Checkpoint, CopiedRows, Cursor, ParkedRow, PortResult, refuse_rewound};

/// The load of one partition. After a flush that failed the rows are still there: flush again, or drop it and start
/// over from the checkpoint. Both are safe when it is not known whether the transaction was committed.
pub(super) struct PgBulk {
    pool: Pool,
    place: String,
    shape: Arc<Shape>,
    buffer: RowBuffer,
    /// Where rows of another database can be taken as they are.
    verbatim: Option<Verbatim>,
    /// Rows whose cells the columns cannot hold.
    refused: Vec<ParkedRow>,
    /// Whether the last flush found keys that were there, or values are made by a statement: then rows are merged at
    /// once.
    way: Way,
    /// Whether the table's key is set aside: rows are only added then, because nothing tells which are there.
    only_added: bool,
    /// The lease's fencing number when this partition was opened.
    epoch: Option<i64>,
    /// The cursor that is known to be stored; absent when nothing is compared.
    from: Option<Option<Cursor>>,
}

impl PgBulk {
    /// An empty one, of a process with this fencing number; `only_added` while the table's key is set aside.
    pub(super) fn new(
        pool: Pool,
        place: String,
        table: &Table,
        shape: Arc<Shape>,
        (epoch, only_added): (Option<i64>, bool),
    ) -> Self {
        let buffer = RowBuffer::new(shape.children.len());
        let way = usual(&shape, only_added);
        let verbatim = Verbatim::of(table).filter(|_| shape.main.natives().is_empty());
        Self { pool, place, shape, buffer, verbatim, refused: Vec::new(), way, only_added, epoch, from: None }
    }

    /// A row's key and its JSON: those it was pushed with, or what the row itself says.
    fn key<'r>(&self, rows: &'r Rows, row: usize) -> (Key, Cow<'r, str>) {
        match (rows.key(row), &self.verbatim) {
            ((_, ""), Some(verbatim)) => {
                let (key, json) = verbatim.key(&rows.slice(0, &(row..row + 1)));
                (key, Cow::Owned(json))
            }
            ((key, json), _) => (key, Cow::Borrowed(json)),
        }
    }

    async fn attempt(
        &self,
        rows: &Rows,
        parked: &[ParkedRow],
        checkpoint: &Checkpoint,
        piecewise: bool,
    ) -> Result<Applied, Failure> {
        let mut client = retry::client(&self.pool, &self.place).await?;
        let tx = client.transaction().await?;
        let stands = tx.prepare_cached(owner::OPENED).await?;
        outbox::ours(&tx, &stands, &self.shape, ("load rows into", true)).await?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
        let (id, of) = (&self.shape.id, self.shape.of());
        let count = rows.len();
        let mut refused = Vec::new();
        if count > 0 {
            if piecewise {
                let way = if self.only_added { Way::Plain } else { Way::Merge };
                refused = write::land_piecewise(&tx, &self.shape, rows, way).await?;
            } else {
                if self.way == Way::Merge {
                    write::make_ready(&tx, &self.shape).await?;
                }
                write::land(&tx, &self.shape, rows, 0..count, self.way).await?;
            }
        }
        refused.sort_unstable_by_key(|r| r.0);
        if book::any_parked(&tx, of).await? {
            let landed: Vec<Key> = (0..count)
                .filter(|r| refused.binary_search_by_key(r, |x| x.0).is_err())
                .map(|r| self.key(rows, r).0)
                .collect();
            book::unpark(&tx, of, &landed.iter().map(|k| k.0.as_str()).collect::<Vec<_>>()).await?;
        }
        let refused: Vec<ParkedRow> = refused
            .into_iter()
            .map(|(row, row_error)| {
                let (key, json) = self.key(rows, row);
                book::parked_row(id, key, &json, row_error)
            })
            .chain(self.refused.iter().cloned())
            .collect();
        book::park(&tx, of, parked).await?;
        book::park(&tx, of, &refused).await?;
        // The caller counted every row it pushed as written; the ones refused here are parked instead.
        let lost = refused.len() as u64;
        let counted = Checkpoint {
            rows: checkpoint.rows.saturating_sub(lost),
            parked: checkpoint.parked + lost,
            ..checkpoint.clone()
        };
        if !book::checkpoint(&tx, of, &counted, self.from.as_ref().map(Option::as_ref)).await? {
            let what = format!("part {}/{} of the load", counted.part.index + 1, counted.part.of);
            return Err(refuse_rewound("load rows into", &self.shape.main.name, &what).into());
        }
        // A page of an earlier driver was read before what the next one has followed since. Looked at without a lock: pages
        // follow each other too closely for whoever renews the lease to get in between, and these rows hold the table's
        // lock, so that whoever empties it waits for this commit.
        let driver = lease::driver(&tx, &self.shape.plan).await?;
        if self.epoch.is_some() && driver != self.epoch {
            return Err(lease::overtaken(("load rows into", &self.shape.main.name)).into());
        }
        tx.commit().await.map_err(Failure::Commit)?;
        let upserted = (count + self.refused.len()) as u64 - lost;
        Ok(Applied { upserted, deleted: 0, parked: refused })
    }
}

/// How rows get into an empty table.
const fn usual(shape: &Shape, only_added: bool) -> Way {
    if shape.direct || only_added { Way::Plain } else { Way::Merge }
}

#[async_trait]
impl Bulk for PgBulk {
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()> {
        let children = mapped.children.iter().map(Vec::as_slice);
        let pushed = self.buffer.push(&self.shape, &mapped.key, &mapped.key_json, &mapped.row, children);
        if let Err(row_error) = pushed {
            let key = Key(mapped.key.clone());
            self.refused.push(book::parked_row(&self.shape.id, key, &mapped.key_json, row_error));
        }
        Ok(())
    }

    fn push_copied(&mut self, rows: &CopiedRows<'_>) -> PortResult<Option<u64>> {
        let takes = |verbatim: &Verbatim| verbatim.fits(&rows.columns) && verbatim.takes(rows.tuples);
        Ok(self.verbatim.as_ref().is_some_and(takes).then(|| {
            self.buffer.push_encoded(rows.tuples, &rows.ends);
            rows.ends.len() as u64
        }))
    }

    fn buffered(&self) -> usize {
        self.buffer.bytes()
    }

    fn goes_on_from(&mut self, cursor: Option<Cursor>) {
        self.from = Some(cursor);
    }

    async fn flush(&mut self, parked: Vec<ParkedRow>, checkpoint: &Checkpoint) -> PortResult<Applied> {
        let rows = self.buffer.take();
        let on = format!("{} part {}/{}", self.shape.main.name, checkpoint.part.index + 1, checkpoint.part.of);
        let mut tries = Tries::default();
        let done = loop {
            match self.attempt(&rows, &parked, checkpoint, tries.piecewise).await {
                Ok(applied) => break Ok(applied),
                Err(failure) => {
                    if let Err(e) = tries.after(failure, "load rows into", &on).await {
                        break Err(e);
                    }
                }
            }
        };
        match done {
            Ok(applied) => {
                // Merging the next run at once saves trying it twice while a partition is read again.
                let merges = tries.piecewise && !self.only_added;
                self.way = if merges { Way::Merge } else { usual(&self.shape, self.only_added) };
                self.refused.clear();
                self.buffer.reuse(rows);
                Ok(applied)
            }
            Err(e) => {
                self.buffer.restore(rows);
                Err(e)
            }
        }
    }
}
