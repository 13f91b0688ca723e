//! Changes with the positions they reach, in one transaction.

use std::collections::BTreeMap;

use deadpool_postgres::{Object, Pool, Transaction};
use tokio_postgres::{Error, Statement};

use super::retry::{self, Failure, Tries};
use super::rows::{RowBuffer, Rows};
use super::shape::Shape;
use super::trouble;
use super::write::{self, Way};
use super::{book, lease, outbox};
use crate::adapters::postgres::keys;
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key};
use crate::ports::{Applied, ChangeBatch, ErrorKind, ParkedRow, PortError, PortResult, Position, RowChange};

struct Removal {
    key: Key,
    key_json: String,
    row_key: Vec<Cell<'static>>,
}

/// A batch, sorted by what is to be done.
struct Work {
    rows: Rows,
    removals: Vec<Removal>,
    /// Rows to park, each with its key cells where they can be told.
    parks: Vec<(ParkedRow, Option<Vec<Cell<'static>>>)>,
    positions: BTreeMap<String, Position>,
    finished: Vec<String>,
    markers: Vec<String>,
    expired: u64,
    /// The lease's epoch when this process had it.
    epoch: Option<i64>,
}

impl Work {
    fn new(table: &Table, shape: &Shape, batch: ChangeBatch) -> Self {
        let mut buffer = RowBuffer::new(shape.children.len());
        let (mut removals, mut parks) = (Vec::new(), Vec::new());
        for change in batch.rows {
            match change {
                RowChange::Upsert { key, key_json, row, children } => {
                    let pushed = buffer.push(shape, &key.0, &key_json, &row, children.iter().map(Vec::as_slice));
                    if let Err(misfit) = pushed {
                        let cells = shape.key_of(&row).cloned().collect();
                        parks.push((book::parked_row(&shape.id, key, &key_json, misfit), Some(cells)));
                    }
                }
                RowChange::Delete { key, key_json, row_key } => removals.push(Removal { key, key_json, row_key }),
                RowChange::Park(row) => {
                    let cells = keys::from_json(table, &row.key_json);
                    parks.push((row, cells));
                }
            }
        }
        let ChangeBatch { positions, finished, markers, expired, .. } = batch;
        Self { rows: buffer.take(), removals, parks, positions, finished, markers, expired, epoch: None }
    }
}

/// Applies a batch. See [`crate::ports::Target::apply`].
pub(super) async fn apply(
    pool: &Pool,
    place: &str,
    table: &Table,
    shape: &Shape,
    batch: ChangeBatch,
    epoch: Option<i64>,
) -> PortResult<Applied> {
    // Rows are encoded while the pool asks whether the connection still stands.
    let encoded = async { Work { epoch, ..Work::new(table, shape, batch) } };
    let (client, work) = tokio::join!(biased; retry::client(pool, place), encoded);
    let mut first = Some(client?);
    let mut tries = Tries::default();
    loop {
        let client = match first.take() {
            Some(client) => client,
            None => retry::client(pool, place).await?,
        };
        match attempt(client, shape, &work, tries.piecewise).await {
            Ok(applied) => return Ok(applied),
            Err(failure) => tries.after(failure, "apply changes to", &shape.main.name).await?,
        }
    }
}

/// Statements that must be sent the moment they are asked for, because others follow without waiting for an answer.
struct Ready {
    let_in: Statement,
    stream: Statement,
    positions: Statement,
}

impl Ready {
    async fn of(tx: &Transaction<'_>) -> Result<Self, Error> {
        Ok(Self {
            let_in: tx.prepare_cached(outbox::LET_IN).await?,
            stream: tx.prepare_cached(book::STREAM).await?,
            positions: tx.prepare_cached(book::POSITIONS).await?,
        })
    }
}

async fn attempt(mut client: Object, shape: &Shape, work: &Work, piecewise: bool) -> Result<Applied, Failure> {
    let tx = client.transaction().await?;
    let ready = Ready::of(&tx).await?;
    let writes = work.rows.len() + work.removals.len() + work.parks.len() > 0;
    let ours = outbox::ours(&tx, &ready.let_in, &shape.main.name, writes);
    let fenced = fence(&tx, &ready, shape, work);
    let stage = async {
        match work.rows.len() {
            0 => Ok(()),
            _ => tx.batch_execute(&shape.stage).await.map_err(Failure::Statement),
        }
    };
    // Done in this order and sent without waiting for answers: each would be a way there and back. A COPY is never sent
    // behind a statement that may still fail: the driver would take the answers after it for those of the next one.
    tokio::try_join!(biased; ours, fenced, stage)?;
    let mut applied = if piecewise {
        let applied = pieces(&tx, shape, work).await?;
        book(&tx, shape, work, &applied.parked).await?;
        applied
    } else {
        whole(&tx, shape, work).await?
    };
    let asked: Vec<ParkedRow> = work.parks.iter().map(|(row, _)| row.clone()).collect();
    book::park(&tx, &shape.id, &asked).await?;
    book::park(&tx, &shape.id, &applied.parked).await?;
    tx.commit().await.map_err(Failure::Commit)?;
    applied.upserted = work.rows.len() as u64
        - applied.parked.iter().filter(|p| !work.removals.iter().any(|r| r.key == p.key)).count() as u64;
    Ok(applied)
}

/// Takes landed rows out of the ledger and moves positions on.
async fn book(tx: &Transaction<'_>, shape: &Shape, work: &Work, parked: &[ParkedRow]) -> Result<(), Failure> {
    let refused: Vec<&str> = parked.iter().map(|p| p.key.0.as_str()).collect();
    let landed: Vec<Key> = (0..work.rows.len())
        .map(|r| work.rows.key(r).0)
        .chain(work.removals.iter().map(|r| r.key.clone()))
        .filter(|k| !refused.contains(&k.0.as_str()))
        .collect();
    let landed: Vec<&str> = landed.iter().map(|k| k.0.as_str()).collect();
    tokio::try_join!(biased;
        book::unpark(tx, &shape.id, &landed),
        book::advance(tx, &shape.id, &work.positions, &work.finished),
        book::notes(tx, &shape.id, &work.markers, work.expired),
    )?;
    Ok(())
}

/// Refuses a batch of a process that somebody else has overtaken: positions never go back, and rows written again belong
/// to whoever holds the lease.
async fn fence(tx: &Transaction<'_>, ready: &Ready, shape: &Shape, work: &Work) -> Result<(), Failure> {
    if work.positions.is_empty() && work.finished.is_empty() {
        let Some(ours) = work.epoch else { return Ok(()) };
        let statement = tx.prepare_cached(lease::EPOCH).await?;
        let driver = tx.query_opt(&statement, &[]).await?;
        if driver.map(|row| row.try_get::<_, i64>(0)).transpose()? == Some(ours) {
            return Ok(());
        }
        let came_back = "another process has taken the lease since";
        return Err(PortError::new(ErrorKind::Conflict, "write rows again in", &shape.main.name, came_back)
            .advise("nothing was written; attach to the run that drives now")
            .into());
    }
    // The second is read after the first has the lock, and before this batch's own positions are stored.
    let (stream, stored) = tokio::try_join!(biased;
        book::lock(tx, &ready.stream, &shape.id),
        book::positions(tx, &ready.positions, &shape.id)
    )?;
    if !stream {
        return Err(PortError::new(ErrorKind::Conflict, "apply changes to", &shape.main.name, "no start is stored")
            .advise("store where following starts first")
            .into());
    }
    for (shard, new) in &work.positions {
        let overtaken = match stored.get(shard) {
            None => false,
            Some(None) => !work.finished.contains(shard),
            Some(Some(old)) => behind(new, old),
        };
        if overtaken {
            let came_back = format!("shard {shard} stands further on than this batch");
            return Err(PortError::new(ErrorKind::Conflict, "apply changes to", &shape.main.name, came_back)
                .advise("another process follows this table; read the positions back and go on from there")
                .into());
        }
    }
    Ok(())
}

/// Whether a position lies before another. Sequence numbers are long integers; other text is not compared.
fn behind(new: &Position, old: &Position) -> bool {
    let digits = |p: &Position| {
        let all = !p.0.is_empty() && p.0.bytes().all(|b| b.is_ascii_digit());
        all.then(|| p.0.trim_start_matches('0').to_owned())
    };
    match (digits(new), digits(old)) {
        (Some(new), Some(old)) => (new.len(), &new) < (old.len(), &old),
        _ => false,
    }
}

/// Everything at once, with its bookkeeping: the way it goes nearly always.
async fn whole(tx: &Transaction<'_>, shape: &Shape, work: &Work) -> Result<Applied, Failure> {
    let keys: Vec<&[Cell<'static>]> = work.removals.iter().map(|r| r.row_key.as_slice()).collect();
    let deleted = write::delete(tx, shape, &keys).await?;
    let keys: Vec<&[Cell<'static>]> = work.parks.iter().filter_map(|(_, key)| key.as_deref()).collect();
    write::delete(tx, shape, &keys).await?;
    let count = work.rows.len();
    if count > 0 && shape.children.is_empty() {
        write::stage(tx, shape, &work.rows, 0..count).await?;
        let merge = async { tx.batch_execute(&shape.merge).await.map_err(Failure::Statement) };
        tokio::try_join!(biased; merge, book(tx, shape, work, &[]))?;
    } else {
        if count > 0 {
            write::land(tx, shape, &work.rows, 0..count, Way::Merge).await?;
        }
        book(tx, shape, work, &[]).await?;
    }
    Ok(Applied { deleted, ..Applied::default() })
}

/// Piece by piece, after something was refused: only what the server refuses is parked.
async fn pieces(tx: &Transaction<'_>, shape: &Shape, work: &Work) -> Result<Applied, Error> {
    tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    let mut applied = Applied::default();
    // A row that others still refer to stays; the ledger says so.
    for (_, key) in &work.parks {
        if let Some(key) = key {
            let _ = write::remove(tx, shape, key).await?;
        }
    }
    let mut waiting: Vec<&Removal> = Vec::new();
    for removal in &work.removals {
        match write::remove(tx, shape, &removal.row_key).await? {
            Ok(gone) => applied.deleted += gone,
            Err(_) => waiting.push(removal),
        }
    }
    for (row, misfit) in write::land_piecewise(tx, shape, &work.rows).await? {
        let (key, json) = work.rows.key(row);
        applied.parked.push(book::parked_row(&shape.id, key, json, misfit));
    }
    // Rows of this batch may have let go of the ones that could not be deleted.
    for removal in waiting {
        match write::remove(tx, shape, &removal.row_key).await? {
            Ok(gone) => applied.deleted += gone,
            Err(e) => {
                let misfit = trouble::misfit(&e, &shape.main.name);
                applied.parked.push(book::parked_row(&shape.id, removal.key.clone(), &removal.key_json, misfit));
            }
        }
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_compared_as_numbers() {
        let p = |s: &str| Position(s.into());
        assert!(behind(&p("99"), &p("100")));
        assert!(behind(&p("000000000000000000000099"), &p("100")));
        assert!(!behind(&p("100"), &p("100")));
        assert!(!behind(&p("101"), &p("100")));
        assert!(!behind(&p("49000000000000000000000000000000000000000001"), &p("9")));
        assert!(!behind(&p("abc"), &p("100")));
    }
}
