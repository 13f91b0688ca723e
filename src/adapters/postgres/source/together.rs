//! Changes of several rows that can only stand together: rows that trade unique values, or places under an exclusion
//! constraint. Each one alone would be refused; in the order they were made, in one transaction, none is.

use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio::time::Instant;
use tokio_postgres::Error;

use super::PgSource;
use super::items::{MOST, PATIENCE, WRITE, refers};
use super::statement::prepared;
use crate::adapters::postgres::shape::Shape;
use crate::adapters::postgres::trouble;
use crate::domain::mapping::ItemChange;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult, Together};

/// What a change is refused for that may stand once others are made: a unique value, an exclusion, a reference.
const MAY_STAND: [&str; 3] = ["23505", "23P01", "23503"];

/// What became of one change in a transaction.
enum Step {
    Done,
    /// It may stand later.
    Waits(PortError),
    /// The row is not what was read.
    Moved,
}

/// See [`crate::ports::Items::write_together`].
pub(super) async fn write(source: &PgSource, table: &Table, changes: &[ItemChange]) -> PortResult<Together> {
    let error = |e: Error| trouble::error(&e, WRITE, &table.source);
    let shape = source.known(table).await?;
    let mut client = source.client().await?;
    let began = Instant::now();
    let tx = client.transaction().await.map_err(error)?;
    tx.batch_execute(PATIENCE).await.map_err(error)?;
    tx.batch_execute("SET CONSTRAINTS ALL DEFERRED").await.map_err(error)?;
    let keys: Vec<String> = changes.iter().map(key).collect();
    let mut left: Vec<usize> = (0..changes.len()).collect();
    loop {
        let (mut waiting, mut refused, mut first) = (Vec::new(), Vec::new(), None);
        // Changes of one row stay in their order.
        let mut held = BTreeSet::new();
        let tried = left.len();
        for place in left {
            if held.contains(keys[place].as_str()) {
                waiting.push(place);
                continue;
            }
            if began.elapsed() > MOST {
                let why = format!("{tried} changes took more than {} s together and were taken back", MOST.as_secs());
                return Err(PortError::new(ErrorKind::TimedOut, WRITE, &table.source, why).advise("it is tried again"));
            }
            match step(&tx, table, &shape, &changes[place]).await {
                Ok(Step::Done) => {}
                Ok(Step::Waits(why)) => {
                    held.insert(keys[place].as_str());
                    waiting.push(place);
                    refused.push(place);
                    first = first.or(Some(why));
                }
                Ok(Step::Moved) => return Ok(Together::Moved),
                Err(why) if why.kind == ErrorKind::Invalid => {
                    return Ok(Together::Refused { places: vec![place], why });
                }
                Err(why) => return Err(why),
            }
        }
        left = waiting;
        match first {
            None => break,
            Some(why) if left.len() == tried => return Ok(Together::Refused { places: refused, why }),
            Some(_) => {}
        }
    }
    // What is deferred is proven here, where it can still be said what it was.
    if let Err(e) = tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await {
        let why = error(e);
        return if why.kind == ErrorKind::Invalid { Ok(Together::Clash(why)) } else { Err(why) };
    }
    if began.elapsed() > MOST {
        let why = format!("it took more than {} s and was taken back", MOST.as_secs());
        return Err(PortError::new(ErrorKind::TimedOut, WRITE, &table.source, why).advise("it is tried again"));
    }
    tx.commit().await.map_err(error)?;
    Ok(Together::Written)
}

/// One change, taken back by itself where it cannot stand.
async fn step(tx: &Transaction<'_>, table: &Table, shape: &Arc<Shape>, change: &ItemChange) -> PortResult<Step> {
    let error = |e: Error| trouble::error(&e, WRITE, &table.source);
    let Some(statement) = prepared(table, shape, change)? else { return Ok(Step::Done) };
    if let ItemChange::Delete { key, .. } = change
        && let Some(by) = refers(tx, table, shape, key).await?
    {
        return Ok(Step::Waits(by));
    }
    tx.batch_execute("SAVEPOINT change").await.map_err(error)?;
    match statement.execute(tx).await {
        Ok(0) => Ok(Step::Moved),
        Ok(_) => tx.batch_execute("RELEASE change").await.map_err(error).map(|()| Step::Done),
        Err(e) => {
            let waits = e.code().is_some_and(|code| MAY_STAND.contains(&code.code()));
            let why = error(e);
            if !waits {
                return Err(why);
            }
            tx.batch_execute("ROLLBACK TO change; RELEASE change").await.map_err(error)?;
            Ok(Step::Waits(why))
        }
    }
}

/// What tells the rows of changes apart.
fn key(change: &ItemChange) -> String {
    match change {
        ItemChange::Nothing => String::new(),
        ItemChange::Delete { key, .. } => format!("{key:?}"),
        ItemChange::Write(write) => format!("{:?}", write.key),
    }
}
