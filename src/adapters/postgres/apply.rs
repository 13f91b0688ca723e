//! Changes with the positions they advance to, in one transaction.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Statement};

use super::connect::{Object, Pool};
use super::refusal;
use super::retry::{self, Failure, Tries};
use super::rows::{RowBuffer, Rows};
use super::shape::{Shape, Upsert};
use super::write::{self, Way};
use super::{book, lanes, lease, outbox, owner, source_count, stands};
use crate::adapters::postgres::keys;
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key};
use crate::ports::{
    Applied, ChangeBatch, CountChange, ErrorKind, Fence, ParkedRow, PortError, PortResult, Position, RowChange,
    refuse_rewound,
};

/// Which table of which database changes go to.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    /// Connections.
    pub pool: &'a Pool,
    /// What they connect to, for errors.
    pub place: &'a str,
    /// The table as the plan has it.
    pub table: &'a Table,
    /// Its statements.
    pub shape: &'a Shape,
}

struct Removal {
    key: Key,
    key_json: String,
    row_key: Vec<Cell<'static>>,
}

/// How far a batch brings the table's following.
#[derive(Clone, Debug, Default)]
pub(super) struct BatchEnd {
    /// Where every shard stood, as the follower knows it.
    pub from: BTreeMap<String, Option<Position>>,
    /// New position of each shard.
    pub positions: BTreeMap<String, Position>,
    /// Shards read to their end.
    pub finished: Vec<String>,
    /// Nonces of markers that came through.
    pub markers: Vec<String>,
    /// Rows removed by TTL.
    pub expired: u64,
    /// Items that came and went.
    pub counts: Vec<CountChange>,
    /// The follower's right to say so.
    pub fence: Option<Fence>,
    /// The one lane whose rows these are; all of them without it.
    pub lane: Option<u32>,
    /// Lanes that have landed their part of this batch before.
    pub landed: Vec<u32>,
    /// The lease's epoch when this process had it.
    pub epoch: Option<i64>,
}

impl BatchEnd {
    /// Whether it moves positions on; rows that are only written again do not.
    fn has_place(&self) -> bool {
        !self.positions.is_empty() || !self.finished.is_empty()
    }

    /// What a batch says of itself, and its rows.
    pub(super) fn of(batch: ChangeBatch, epoch: Option<i64>) -> (Self, Vec<RowChange>) {
        let ChangeBatch { rows, from, positions, finished, markers, expired, counts, fence } = batch;
        let landed = Vec::new();
        (Self { from, positions, finished, markers, expired, counts, fence, lane: None, landed, epoch }, rows)
    }
}

/// A batch, sorted by what is to be done.
struct Work<'r> {
    rows: Rows,
    removals: Vec<Removal>,
    /// Rows to park, each with its key cells where they are known.
    parks: Vec<(ParkedRow, Option<Vec<Cell<'static>>>)>,
    end: &'r BatchEnd,
}

impl<'r> Work<'r> {
    fn new(table: &Table, shape: &Shape, changes: &[RowChange], end: &'r BatchEnd) -> Self {
        let mut buffer = RowBuffer::new(shape.children.len());
        let (mut removals, mut parks) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                RowChange::Upsert { key, key_json, row, children } => {
                    let pushed = buffer.push(shape, &key.0, key_json, row, children.iter().map(Vec::as_slice));
                    if let Err(row_error) = pushed {
                        let cells = shape.key_of(row).cloned().collect();
                        parks.push((book::parked_row(&shape.id, key.clone(), key_json, row_error), Some(cells)));
                    }
                }
                RowChange::Delete { key, key_json, row_key } => {
                    let (key, key_json, row_key) = (key.clone(), key_json.clone(), row_key.clone());
                    removals.push(Removal { key, key_json, row_key });
                }
                RowChange::Park(row) => parks.push((row.clone(), keys::from_json(table, &row.key_json))),
            }
        }
        Self { rows: buffer.take(), removals, parks, end }
    }
}

/// Applies rows and their positions in one transaction, again and in smaller pieces as long as that may help.
pub(super) async fn apply(to: To<'_>, changes: &[RowChange], end: &BatchEnd) -> PortResult<Applied> {
    let mut tries = Tries::default();
    let (client, work) = ready(to, changes, end).await?;
    let mut first = Some(client);
    loop {
        let client = match first.take() {
            Some(client) => client,
            None => retry::client(to.pool, to.place).await?,
        };
        match attempt(client, to.shape, &work, tries.piecewise).await {
            Ok(applied) => return Ok(applied),
            Err(failure) => tries.after(failure, "apply changes to", &to.shape.main.name).await?,
        }
    }
}

/// The same, tried once: what became of it is left to the caller.
pub(super) async fn once(to: To<'_>, changes: &[RowChange], end: &BatchEnd) -> Result<Applied, Failure> {
    let (client, work) = ready(to, changes, end).await?;
    attempt(client, to.shape, &work, false).await
}

/// Rows are encoded while the pool asks whether the connection still stands.
async fn ready<'r>(to: To<'_>, changes: &[RowChange], end: &'r BatchEnd) -> PortResult<(Object, Work<'r>)> {
    let encoded = async { Work::new(to.table, to.shape, changes, end) };
    let (client, work) = tokio::join!(biased; retry::client(to.pool, to.place), encoded);
    Ok((client?, work))
}

/// Statements that must be sent the moment they are asked for, because others follow without waiting for an answer.
struct Ready<'s> {
    stream: Statement,
    stands: Statement,
    upsert: Option<(Statement, &'s Upsert)>,
}

impl<'s> Ready<'s> {
    async fn of(tx: &Transaction<'_>, shape: &'s Shape, lane: bool) -> Result<Self, Error> {
        let upsert = match &shape.upsert {
            Some(upsert) => Some((tx.prepare_cached(&upsert.sql).await?, upsert)),
            None => None,
        };
        Ok(Self {
            upsert,
            stream: tx.prepare_cached(if lane { lanes::STREAM } else { book::STREAM }).await?,
            stands: tx.prepare_cached(stands::STANDS).await?,
        })
    }
}

async fn attempt(mut client: Object, shape: &Shape, work: &Work<'_>, piecewise: bool) -> Result<Applied, Failure> {
    let tx = client.transaction().await?;
    let writes = work.rows.len() + work.removals.len() + work.parks.len() > 0;
    let stands = tx.prepare_cached(owner::OPENED).await?;
    // Before anything else: preparing a statement locks its table, which a process that waits for us here locks next
    // (`outbox::alone`).
    let ours = outbox::ours(&tx, &stands, shape, ("apply changes to", writes));
    // Done in this order and sent without waiting for answers: otherwise each would be a round trip. Nothing is
    // committed before every answer is there.
    let rest = async {
        let ready = Ready::of(&tx, shape, work.end.lane.is_some()).await?;
        let fenced = fence(&tx, &ready, shape, work.end);
        match &ready.upsert {
            Some((statement, upsert)) if !piecewise => {
                let whole = at_once(&tx, shape, work, statement, upsert);
                Ok::<_, Failure>(Some(tokio::try_join!(biased; fenced, whole)?.1))
            }
            _ => {
                let stage = async {
                    match work.rows.len() {
                        0 => Ok(()),
                        _ => write::make_ready(&tx, shape).await.map_err(Failure::Statement),
                    }
                };
                tokio::try_join!(biased; fenced, stage)?;
                Ok(None)
            }
        }
    };
    let mut applied = match tokio::try_join!(biased; ours, rest)?.1 {
        Some(applied) => applied,
        // A COPY is never sent behind a statement that may still fail: the driver would take the answers after it for
        // those of the next one.
        None => {
            let applied = if piecewise { pieces(&tx, shape, work).await? } else { whole(&tx, shape, work).await? };
            book(&tx, shape, work, &applied.parked).await?;
            applied
        }
    };
    let asked: Vec<ParkedRow> = work.parks.iter().map(|(row, _)| row.clone()).collect();
    book::park(&tx, shape.of(), &asked).await?;
    book::park(&tx, shape.of(), &applied.parked).await?;
    if writes && !work.end.has_place() {
        // Nothing else keeps it from the rows of a later driver. Last, because whoever renews the lease waits from here on.
        lease::fence(&tx, &shape.plan, work.end.epoch, ("write rows again in", &shape.main.name)).await?;
    }
    tx.commit().await.map_err(Failure::Commit)?;
    applied.upserted = work.rows.len() as u64
        - applied.parked.iter().filter(|p| !work.removals.iter().any(|r| r.key == p.key)).count() as u64;
    Ok(applied)
}

/// Takes landed rows out of the ledger and notes how far that is: for a lane its own position, else the common
/// positions.
async fn book(tx: &Transaction<'_>, shape: &Shape, work: &Work<'_>, parked: &[ParkedRow]) -> Result<(), Failure> {
    let refused: Vec<&str> = parked.iter().map(|p| p.key.0.as_str()).collect();
    let landed: Vec<Key> = (0..work.rows.len())
        .map(|r| work.rows.key(r).0)
        .chain(work.removals.iter().map(|r| r.key.clone()))
        .filter(|k| !refused.contains(&k.0.as_str()))
        .collect();
    let landed: Vec<&str> = landed.iter().map(|k| k.0.as_str()).collect();
    let end = work.end;
    let advance = async {
        match (end.lane, end.fence) {
            (Some(lane), Some(fence)) => lanes::advance(tx, shape.of(), lane, fence.lanes, end).await,
            _ => book::advance(tx, shape.of(), &end.positions, &end.finished).await,
        }
    };
    tokio::try_join!(biased;
        book::unpark(tx, shape.of(), &landed),
        advance,
        book::notes(tx, shape.of(), &end.markers, end.expired),
        source_count::note(tx, shape.of(), end),
    )?;
    Ok(())
}

/// Refuses a batch that has a place in the log of a process that is no longer the driver: positions never go back.
async fn fence(tx: &Transaction<'_>, ready: &Ready<'_>, shape: &Shape, end: &BatchEnd) -> Result<(), Failure> {
    if !end.has_place() {
        return Ok(());
    }
    let refused =
        |tried: &str, came_back: &str| PortError::new(ErrorKind::Conflict, tried, &shape.main.name, came_back);
    let driver = async {
        match end.epoch {
            Some(ours) => Ok(lease::driver(tx, &shape.plan).await? == Some(ours)),
            None => Ok(true),
        }
    };
    let tried = "apply changes to";
    // The second is read after the first has the lock, and before this batch's own positions are stored.
    let stored = stands::read(tx, &ready.stands, shape.of(), end.lane);
    let (token, stored, driver) = tokio::try_join!(biased; book::lock(tx, &ready.stream, shape.of()), stored, driver)?;
    if !driver {
        return Err(lease::overtaken((tried, &shape.main.name)).into());
    }
    let Some(token) = token else {
        return Err(refused(tried, "no start is stored").advise("store where following starts first").into());
    };
    if end.fence.is_some_and(|fence| fence.token != token) {
        return Err(refused(tried, "this table was resumed by another follower since")
            .advise("nothing was written; whoever took it up goes on from the stored positions")
            .into());
    }
    if let Some(shard) = stored.lost(end) {
        return Err(refuse_rewound(tried, &shape.main.name, &format!("shard {shard}")).into());
    }
    // A lane moves no common position.
    if end.lane.is_some() {
        return Ok(());
    }
    for (shard, new) in &end.positions {
        let overtaken = match stored.positions.get(shard) {
            None => false,
            Some(None) => !end.finished.contains(shard),
            Some(Some(old)) => new.order(old) == Some(Ordering::Less),
        };
        if overtaken {
            return Err(refused(tried, &format!("shard {shard} stands further on than this batch"))
                .advise("another process follows this table; read the positions back and go on from there")
                .into());
        }
    }
    Ok(())
}

/// Everything at once, with its bookkeeping: the usual case.
async fn at_once(
    tx: &Transaction<'_>,
    shape: &Shape,
    work: &Work<'_>,
    statement: &Statement,
    upsert: &Upsert,
) -> Result<Applied, Failure> {
    let deleted = make_way(tx, shape, work).await?;
    let put = async {
        match work.rows.len() {
            0 => Ok(()),
            count => {
                write::put(tx, shape, (statement, upsert), &work.rows, &(0..count)).await.map_err(Failure::Statement)
            }
        }
    };
    tokio::try_join!(biased; put, book(tx, shape, work, &[]))?;
    Ok(Applied { deleted, ..Applied::default() })
}

/// The same with children, or through the staging table.
async fn whole(tx: &Transaction<'_>, shape: &Shape, work: &Work<'_>) -> Result<Applied, Failure> {
    let deleted = make_way(tx, shape, work).await?;
    if work.rows.len() > 0 {
        write::land(tx, shape, &work.rows, 0..work.rows.len(), Way::Merge).await?;
    }
    Ok(Applied { deleted, ..Applied::default() })
}

/// Deletes what is deleted or parked. Says how many rows were deleted.
async fn make_way(tx: &Transaction<'_>, shape: &Shape, work: &Work<'_>) -> Result<u64, Error> {
    let keys: Vec<&[Cell<'static>]> = work.removals.iter().map(|r| r.row_key.as_slice()).collect();
    let deleted = write::delete(tx, shape, &keys).await?;
    let keys: Vec<&[Cell<'static>]> = work.parks.iter().filter_map(|(_, key)| key.as_deref()).collect();
    write::delete(tx, shape, &keys).await?;
    Ok(deleted)
}

/// Piece by piece, after something was refused: only what the server refuses is parked.
async fn pieces(tx: &Transaction<'_>, shape: &Shape, work: &Work<'_>) -> Result<Applied, Error> {
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
    for (row, row_error) in write::land_piecewise(tx, shape, &work.rows, Way::Merge).await? {
        let (key, json) = work.rows.key(row);
        applied.parked.push(book::parked_row(&shape.id, key, json, row_error));
    }
    // After these rows nothing of this batch may refer any more to the ones that could not be deleted.
    for removal in waiting {
        match write::remove(tx, shape, &removal.row_key).await? {
            Ok(gone) => applied.deleted += gone,
            Err(e) => {
                let row_error = refusal::refused_delete(&e, &shape.main.name);
                applied.parked.push(book::parked_row(&shape.id, removal.key.clone(), &removal.key_json, row_error));
            }
        }
    }
    Ok(applied)
}
