//! Rows into tables: whole batches when the server takes them, halves and halves of halves when it does not.

use std::collections::HashSet;
use std::ops::Range;
use std::pin::pin;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures::SinkExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, SimpleQueryMessage, Statement};

use super::columns;
use super::encode::{HEADER, TRAILER};
use super::references::Guard;
use super::refusal;
use super::rows::Rows;
use super::shape::{Shape, Upsert};
use crate::domain::mapping::{RowError, RowErrorReason};
use crate::domain::value::Cell;

/// Bytes handed to the connection at once: big enough to be cheap, small enough to overlap with the server.
const PIECE: usize = 256 * 1024;

/// How rows meet rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// COPY straight into the table; a key that is there is refused.
    Plain,
    /// A key that is there is replaced, its children with it.
    Merge,
}

/// Sends encoded rows into a table.
async fn copy(tx: &Transaction<'_>, statement: &Statement, mut body: Bytes) -> Result<u64, Error> {
    let mut sink = pin!(tx.copy_in::<_, Bytes>(statement).await?);
    sink.feed(HEADER).await?;
    while !body.is_empty() {
        sink.send(body.split_to(body.len().min(PIECE))).await?;
    }
    sink.send(TRAILER).await?;
    sink.finish().await
}

/// Makes the staging table ready for [`Way::Merge`], where it is needed.
pub(super) async fn make_ready(tx: &Transaction<'_>, shape: &Shape) -> Result<(), Error> {
    if shape.upsert.is_none() { tx.batch_execute(&shape.stage).await } else { Ok(()) }
}

/// Puts a run of rows into the main table, over the ones that are there.
async fn merge(tx: &Transaction<'_>, shape: &Shape, rows: &Rows, run: Range<usize>) -> Result<(), Error> {
    if let Some(upsert) = &shape.upsert {
        let statement = tx.prepare_cached(&upsert.sql).await?;
        return put(tx, shape, (&statement, upsert), rows, &run).await;
    }
    let statement = tx.prepare_cached(&shape.stage_copy).await?;
    copy(tx, &statement, rows.slice(0, &run)).await?;
    let done = tx.simple_query(&shape.merge).await?;
    // The last statement puts the rows in; those before it make way for children.
    let landed = done.iter().rev().find_map(|m| match m {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    all_landed(tx, shape, landed.unwrap_or(0), run.len()).await
}

/// Refuses the rows when fewer landed than were sent: a trigger of the table kept one out without an error.
async fn all_landed(tx: &Transaction<'_>, shape: &Shape, landed: u64, sent: usize) -> Result<(), Error> {
    // Where the key is all there is, a row that is there already stays and does not count.
    if landed == sent as u64 || shape.key.len() == shape.main.types.len() {
        return Ok(());
    }
    let says = "a trigger of the table keeps rows out";
    let sql = "SELECT cutover.refuse('P0001', $1, '', $2)";
    let statement = tx.prepare_cached(sql).await?;
    tx.query(&statement, &[&shape.main.name, &says]).await.map(drop)
}

/// The same with one array a column: one round trip only, so other statements may be sent behind it.
pub(super) async fn put(
    tx: &Transaction<'_>,
    shape: &Shape,
    (statement, upsert): (&Statement, &Upsert),
    rows: &Rows,
    run: &Range<usize>,
) -> Result<(), Error> {
    let columns = columns::turn(&upsert.elements, run.len(), rows.slice(0, run));
    let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c as _).collect();
    let landed = tx.execute(statement, &params).await?;
    all_landed(tx, shape, landed, run.len()).await
}

/// Lands a run of rows with their children.
pub(super) async fn land(
    tx: &Transaction<'_>,
    shape: &Shape,
    rows: &Rows,
    run: Range<usize>,
    way: Way,
) -> Result<(), Error> {
    match way {
        Way::Plain => {
            let statement = tx.prepare_cached(&shape.main.copy_in).await?;
            let landed = copy(tx, &statement, rows.slice(0, &run)).await?;
            all_landed(tx, shape, landed, run.len()).await?;
        }
        Way::Merge => merge(tx, shape, rows, run.clone()).await?,
    }
    for (i, child) in shape.children.iter().enumerate() {
        let body = rows.slice(i + 1, &run);
        if !body.is_empty() {
            let statement = tx.prepare_cached(&child.copy_in).await?;
            copy(tx, &statement, body).await?;
        }
    }
    Ok(())
}

/// Lands what can be landed and says which rows were refused, and why. The transaction goes on.
pub(super) async fn land_piecewise(
    tx: &Transaction<'_>,
    shape: &Shape,
    rows: &Rows,
    way: Way,
) -> Result<Vec<(usize, RowError)>, Error> {
    // A constraint that waits for the commit would refuse everything at once.
    tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    if way == Way::Merge {
        make_ready(tx, shape).await?;
    }
    let (twice, mut stack) = runs(shape, rows);
    let mut refused = Vec::new();
    while let Some(run) = stack.pop() {
        if let Some(error) = savepoint(tx, shape, rows, run.clone(), way).await? {
            if run.len() == 1 {
                refused.push((run.start, refusal::row_error(&error, &shape.main.name)));
            } else {
                let middle = run.start + run.len() / 2;
                stack.push(middle..run.end);
                stack.push(run.start..middle);
            }
        }
    }
    // A row may have been waiting for another one of this batch: a parent, or a unique value that becomes free.
    loop {
        let before = refused.len();
        let mut still = Vec::new();
        for (row, _) in refused {
            if let Some(error) = savepoint(tx, shape, rows, row..row + 1, way).await? {
                still.push((row, refusal::row_error(&error, &shape.main.name)));
            }
        }
        // In reverse order next time: a chain of rows that each wait for the next one lands in one round.
        still.reverse();
        refused = still;
        if refused.is_empty() || refused.len() == before {
            break;
        }
    }
    refused.sort_by_key(|(row, _)| *row);
    // What is refused must not leave an older version of itself behind: it would count as written. One that other rows
    // still refer to has to stay.
    match way {
        Way::Merge => {
            for (row, _) in &refused {
                let _ = remove(tx, shape, &rows.key_cells(shape, *row)).await?;
            }
        }
        // Without its key the table is read whole to find a row: once for all of them. Nothing refers to any.
        Way::Plain => {
            let keys: Vec<_> = refused.iter().map(|(row, _)| rows.key_cells(shape, *row)).collect();
            delete(tx, shape, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>()).await?;
        }
    }
    refused.extend(twice);
    Ok(refused)
}

/// The rows as runs in which no key comes twice, last run first, and the rows whose key another row has.
fn runs(shape: &Shape, rows: &Rows) -> (Vec<(usize, RowError)>, Vec<Range<usize>>) {
    let mut seen = HashSet::new();
    let (mut twice, mut runs, mut start) = (Vec::new(), Vec::new(), 0);
    for row in 0..rows.len() {
        let key = shape.key_arrays(std::iter::once(rows.key_cells(shape, row).as_slice()));
        if !seen.insert(key) {
            twice.push((row, RowError::new("-", RowErrorReason::DuplicateUnique)));
            runs.push(start..row);
            start = row + 1;
        }
    }
    runs.push(start..rows.len());
    runs.retain(|r| !r.is_empty());
    runs.reverse();
    (twice, runs)
}

/// Lands a run inside a savepoint; a data error rolls back only that and is returned.
async fn savepoint(
    tx: &Transaction<'_>,
    shape: &Shape,
    rows: &Rows,
    run: Range<usize>,
    way: Way,
) -> Result<Option<Error>, Error> {
    tx.batch_execute("SAVEPOINT cutover_run").await?;
    match land(tx, shape, rows, run, way).await {
        Ok(()) => {
            let unstage = if way == Way::Merge && shape.upsert.is_none() { shape.unstage.as_str() } else { "" };
            tx.batch_execute(&format!("{unstage}; RELEASE SAVEPOINT cutover_run")).await?;
            Ok(None)
        }
        Err(e) if refusal::is_data(&e) => {
            tx.batch_execute("ROLLBACK TO SAVEPOINT cutover_run; RELEASE SAVEPOINT cutover_run").await?;
            Ok(Some(e))
        }
        Err(e) => Err(e),
    }
}

/// Deletes rows by key, children first. Says how many main rows went. Refused as a whole when a foreign key would act
/// on rows that stay.
pub(super) async fn delete(tx: &Transaction<'_>, shape: &Shape, keys: &[&[Cell<'static>]]) -> Result<u64, Error> {
    if keys.is_empty() || shape.key.is_empty() {
        return Ok(0);
    }
    let arrays = shape.key_arrays(keys.iter().copied());
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|a| a as _).collect();
    let guard = Guard::lock(tx, shape, &params).await?;
    let mut gone = 0;
    for (n, sql) in shape.delete.iter().enumerate() {
        // The last one is the main table's; its children are gone by then.
        if n + 1 == shape.delete.len() {
            guard.check(tx, shape, &params).await?;
        }
        let statement = tx.prepare_cached(sql).await?;
        gone = tx.execute(&statement, &params).await?;
    }
    Ok(gone)
}

/// Deletes one row inside a savepoint; when other rows still refer to it, it stays and the error is given back.
pub(super) async fn remove(
    tx: &Transaction<'_>,
    shape: &Shape,
    key: &[Cell<'static>],
) -> Result<Result<u64, Error>, Error> {
    tx.batch_execute("SAVEPOINT cutover_row").await?;
    match delete(tx, shape, &[key]).await {
        Ok(gone) => {
            tx.batch_execute("RELEASE SAVEPOINT cutover_row").await?;
            Ok(Ok(gone))
        }
        Err(e) if refusal::is_data(&e) => {
            tx.batch_execute("ROLLBACK TO SAVEPOINT cutover_row; RELEASE SAVEPOINT cutover_row").await?;
            Ok(Err(e))
        }
        Err(e) => Err(e),
    }
}
