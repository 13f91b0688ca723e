//! Lanes: a large batch in several transactions side by side, split by key, with how far each lane has come in its own.
//!
//! Who follows is told by the token in `cutover.stream`. A lane holds that row shared (`FOR KEY SHARE`), whoever moves the
//! common positions or takes the table up holds it alone (`FOR UPDATE`). So nothing of an earlier follower can be under way
//! when positions are read for another, and nothing it sends later is let through.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use futures::future::join_all;
use tokio_postgres::Error;

use super::apply::{self, Reached, To};
use super::connect::Pool;
use super::retry;
use super::{book, lease, source_count, trouble};
use crate::domain::plan::Table;
use crate::ports::{Ahead, Applied, ErrorKind, Hold, PortError, PortResult, RowChange, Standing, common};

/// A transaction costs what some hundred rows do: lanes with fewer are not worth one each.
const LEAST: usize = 100;

/// Who may follow, for a lane: others may hold it too, but nobody alone.
pub(super) const STREAM: &str = "SELECT token FROM cutover.stream WHERE table_id = $1 FOR KEY SHARE";

/// Takes a table up. See [`crate::ports::Target::take_up`].
pub(super) async fn take_up(
    pool: &Pool,
    place: &str,
    table: &Table,
    lanes: u32,
    epoch: Option<i64>,
) -> PortResult<Option<Standing>> {
    let tried = "take up following of";
    let error = |e: Error| trouble::error(&e, tried, &table.id);
    let mut client = retry::client(pool, place).await?;
    let tx = client.transaction().await.map_err(error)?;
    // Waits for every transaction that an earlier follower has under way.
    let lock = tx.prepare_cached("SELECT stream FROM cutover.stream WHERE table_id = $1 FOR UPDATE").await;
    let stream = tx.query_opt(&lock.map_err(error)?, &[&table.id]).await.map_err(error)?;
    let Some(stream) = stream else { return Ok(None) };
    if epoch.is_some() && lease::driver(&tx).await.map_err(error)? != epoch {
        let came_back = "another process has taken the lease since";
        return Err(PortError::new(ErrorKind::Conflict, tried, &table.id, came_back)
            .advise("attach to the run that drives now"));
    }
    let lanes = lanes.max(1);
    let standing = async {
        // From a sequence: a table that is reset and followed anew must not give a token out a second time.
        let token = "UPDATE cutover.stream SET token = nextval('cutover.token') WHERE table_id = $1 RETURNING token";
        let token = tx.query_one(token, &[&table.id]).await?.try_get(0)?;
        let (_, stored, stands) = book::standing(&tx, &table.id).await?.unwrap_or_default();
        let positions = common(stored, &stands);
        let (open, ended): (Vec<_>, Vec<_>) = positions.iter().partition(|(_, position)| position.is_some());
        let open = open.into_iter().filter_map(|(shard, p)| Some((shard.clone(), p.clone()?))).collect();
        let ended: Vec<String> = ended.into_iter().map(|(shard, _)| shard.clone()).collect();
        book::advance(&tx, &table.id, &open, &ended).await?;
        // Rows of other lanes may be written over from here on, so what those had reached would no longer be true.
        let forget = "DELETE FROM cutover.lane WHERE table_id = $1 AND \"of\" <> $2";
        if tx.execute(forget, &[&table.id, &lanes.cast_signed()]).await? > 0 {
            // What those had counted will come again.
            source_count::forget(&tx, &table.id).await?;
        }
        let ahead = Ahead::of(lanes, &stands, &positions);
        Ok(Standing { stream: stream.try_get(0)?, positions, ahead, hold: Hold { token, lanes } })
    };
    let standing = standing.await.map_err(error)?;
    tx.commit().await.map_err(error)?;
    Ok(Some(standing))
}

/// Notes how far a lane has come. One that is ahead already stays there: what comes again has landed.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    table: &str,
    lane: u32,
    of: u32,
    reached: &Reached,
) -> Result<(), Error> {
    let open = reached.positions.iter().map(|(shard, position)| (shard.as_str(), Some(position.0.as_str())));
    let ended = reached.finished.iter().collect::<HashSet<_>>().into_iter().map(|shard| (shard.as_str(), None));
    let (shards, positions): (Vec<&str>, Vec<Option<&str>>) = open.chain(ended).unzip();
    let statement = tx
        .prepare_cached(
            "INSERT INTO cutover.lane AS l (table_id, lane, \"of\", shard, position, finished)
             SELECT $1, $2, $3, s, p, p IS NULL FROM unnest($4::text[], $5::text[]) t(s, p)
             ON CONFLICT (table_id, lane, shard) DO UPDATE
             SET \"of\" = EXCLUDED.\"of\", position = EXCLUDED.position, finished = EXCLUDED.finished
             WHERE l.\"of\" <> EXCLUDED.\"of\" OR EXCLUDED.finished OR NOT l.finished AND
                   (length(ltrim(l.position, '0')), ltrim(l.position, '0') COLLATE \"C\")
                   <= (length(ltrim(EXCLUDED.position, '0')), ltrim(EXCLUDED.position, '0') COLLATE \"C\")",
        )
        .await?;
    tx.execute(&statement, &[&table, &lane.cast_signed(), &of.cast_signed(), &shards, &positions]).await.map(drop)
}

/// Applies a batch. See [`crate::ports::Target::apply`].
pub(super) async fn apply(to: To<'_>, changes: Vec<RowChange>, reached: &Reached) -> PortResult<Applied> {
    let hold = reached.hold.filter(|hold| hold.lanes > 1 && changes.len() >= LEAST * hold.lanes as usize);
    let Some(hold) = hold else { return apply::apply(to, &changes, reached).await };
    let mut lanes: Vec<Vec<RowChange>> = Vec::new();
    lanes.resize_with(hold.lanes as usize, Vec::new);
    for change in changes {
        let lane = change.key().lane(hold.lanes) as usize;
        if let Some(lane) = lanes.get_mut(lane) {
            lane.push(change);
        }
    }
    // What lanes have stored is where following stands. When there is more to tell, one lane is held back and lands with
    // it: otherwise a death in between would leave positions behind which nobody would ever be told of it.
    let told = reached.markers.is_empty() && reached.finished.is_empty() && reached.expired == 0;
    let held = if told { Vec::new() } else { lanes.pop().unwrap_or_default() };
    let (mut applied, mut left, landed) = side_by_side(to, lanes, reached).await?;
    if left.is_empty() && told {
        return Ok(applied);
    }
    left.extend(held);
    // Nothing of ours is under way any more: positions may move, with what lanes could not land by themselves.
    let mut counts = reached.counts.clone();
    counts.retain(|c| !landed.contains(&c.lane));
    let rest = apply::apply(to, &left, &Reached { counts, ..reached.clone() }).await?;
    applied.upserted += rest.upserted;
    applied.deleted += rest.deleted;
    applied.parked.extend(rest.parked);
    Ok(applied)
}

/// Lands each lane in a transaction of its own and waits for all of them. Gives back the rows of lanes in which something
/// was refused: what they wait for may stand in another lane. And the lanes that landed.
async fn side_by_side(
    to: To<'_>,
    lanes: Vec<Vec<RowChange>>,
    reached: &Reached,
) -> PortResult<(Applied, Vec<RowChange>, Vec<u32>)> {
    let lands = lanes.into_iter().enumerate().map(|(n, changes)| async move {
        let lane = u32::try_from(n).ok();
        // Markers and expired rows are told once, with the positions.
        let reached = Reached { lane, markers: Vec::new(), expired: 0, ..reached.clone() };
        let ended = apply::once(to, &changes, &reached).await;
        (ended, changes, lane)
    });
    let (mut applied, mut left, mut landed, mut failed) = (Applied::default(), Vec::new(), Vec::new(), None);
    for (ended, changes, lane) in join_all(lands).await {
        match ended {
            Ok(one) => {
                landed.extend(lane);
                applied.upserted += one.upserted;
                applied.deleted += one.deleted;
            }
            Err(failure) if retry::may_pass(&failure) => left.extend(changes),
            Err(failure) => failed = failed.or(Some(failure)),
        }
    }
    match failed {
        None => Ok((applied, left, landed)),
        Some(failure) => Err(retry::answer(failure, "apply changes to", &to.shape.main.name)),
    }
}
