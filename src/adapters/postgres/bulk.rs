//! One partition's way in: rows are encoded as they come and leave in one transaction with their checkpoint.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Transaction;

use super::book;
use super::connect::Pool;
use super::lease;
use super::retry::{self, Failure, Tries};
use super::rows::{RowBuffer, Rows};
use super::shape::Shape;
use super::write::{self, Way};
use crate::domain::mapping::Mapped;
use crate::domain::value::Key;
use crate::ports::{Applied, Bulk, Checkpoint, ErrorKind, ParkedRow, PortError, PortResult};

/// The way in. After a flush that failed the rows are still there: flush again, or drop it and start over from
/// the checkpoint. Both are safe when it is not known whether the transaction was committed.
pub(super) struct PgBulk {
    pool: Pool,
    place: String,
    shape: Arc<Shape>,
    buffer: RowBuffer,
    /// Rows whose cells the columns cannot hold.
    refused: Vec<ParkedRow>,
    /// Whether the last flush found keys that were there: the next ones are merged at once.
    way: Way,
    /// The lease's fencing number when this way in was opened.
    epoch: Option<i64>,
}

impl PgBulk {
    /// An empty one.
    pub(super) fn new(pool: Pool, place: String, shape: Arc<Shape>, epoch: Option<i64>) -> Self {
        let buffer = RowBuffer::new(shape.children.len());
        Self { pool, place, shape, buffer, refused: Vec::new(), way: Way::Plain, epoch }
    }

    /// Refuses a page of a process that was overtaken: it was read before what the next driver has followed since.
    async fn fence(&self, tx: &Transaction<'_>) -> Result<(), Failure> {
        let statement = tx.prepare_cached(lease::EPOCH).await?;
        let driver = tx.query_opt(&statement, &[]).await?;
        let epoch: Option<i64> = driver.map(|row| row.try_get(0)).transpose()?;
        if epoch == self.epoch {
            return Ok(());
        }
        let came_back = "another process has taken the lease since this page was read";
        Err(PortError::new(ErrorKind::Conflict, "load rows into", &self.shape.main.name, came_back)
            .advise("nothing was written; attach to the run that drives now")
            .into())
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
        tx.batch_execute(super::outbox::OURS).await?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
        let id = &self.shape.id;
        let count = rows.len();
        let mut refused = Vec::new();
        if count > 0 {
            if piecewise {
                refused = write::land_piecewise(&tx, &self.shape, rows).await?;
            } else {
                if self.way == Way::Merge {
                    write::make_ready(&tx, &self.shape).await?;
                }
                write::land(&tx, &self.shape, rows, 0..count, self.way).await?;
            }
        }
        refused.sort_unstable_by_key(|r| r.0);
        if book::any_parked(&tx, id).await? {
            let landed: Vec<Key> = (0..count)
                .filter(|r| refused.binary_search_by_key(r, |x| x.0).is_err())
                .map(|r| rows.key(r).0)
                .collect();
            book::unpark(&tx, id, &landed.iter().map(|k| k.0.as_str()).collect::<Vec<_>>()).await?;
        }
        let refused: Vec<ParkedRow> = refused
            .into_iter()
            .map(|(row, misfit)| {
                let (key, json) = rows.key(row);
                book::parked_row(id, key, json, misfit)
            })
            .chain(self.refused.iter().cloned())
            .collect();
        book::park(&tx, id, parked).await?;
        book::park(&tx, id, &refused).await?;
        // The caller counted every row it pushed as written; the ones refused here are parked instead.
        let lost = refused.len() as u64;
        let counted = Checkpoint {
            rows: checkpoint.rows.saturating_sub(lost),
            parked: checkpoint.parked + lost,
            ..checkpoint.clone()
        };
        book::checkpoint(&tx, id, &counted).await?;
        self.fence(&tx).await?;
        tx.commit().await.map_err(Failure::Commit)?;
        let upserted = (count + self.refused.len()) as u64 - lost;
        Ok(Applied { upserted, deleted: 0, parked: refused })
    }
}

#[async_trait]
impl Bulk for PgBulk {
    fn push(&mut self, mapped: &Mapped<'_>) -> PortResult<()> {
        let children = mapped.children.iter().map(Vec::as_slice);
        let pushed = self.buffer.push(&self.shape, &mapped.key, &mapped.key_json, &mapped.row, children);
        if let Err(misfit) = pushed {
            let key = Key(mapped.key.clone());
            self.refused.push(book::parked_row(&self.shape.id, key, &mapped.key_json, misfit));
        }
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.buffer.bytes()
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
                self.way = if tries.piecewise { Way::Merge } else { Way::Plain };
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
