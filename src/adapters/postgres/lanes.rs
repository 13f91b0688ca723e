//! Lanes: a large batch in several transactions side by side, split by key, with how far each lane has come in its own.
//!
//! Who follows is decided by the token in `cutover.stream`. A lane holds that row shared (`FOR KEY SHARE`); whoever
//! moves the common positions or resumes the table holds it alone (`FOR UPDATE`). So nothing of an earlier follower can
//! be under way when positions are read for another, and nothing it sends later is accepted.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use futures::future::join_all;
use tokio_postgres::Error;

use super::apply::{self, BatchEnd, To};
use super::connect::Pool;
use super::owner::Of;
use super::retry;
use super::{book, lease, source_count, trouble};
use crate::ports::{Ahead, Applied, ErrorKind, Fence, FollowState, PortError, PortResult, RowChange, common};

/// A transaction costs as much as some hundred rows: lanes with fewer rows are not worth one each.
const LEAST: usize = 100;

/// The lock of a lane on the right to follow: other lanes may hold it too, but nobody may hold it alone.
pub(super) const STREAM: &str = "SELECT token FROM cutover.stream WHERE plan = $1 AND table_id = $2 FOR KEY SHARE";

/// Resumes a table. See [`crate::ports::Target::resume_follow`].
pub(super) async fn resume_follow(
    pool: &Pool,
    place: &str,
    of: Of<'_>,
    lanes: u32,
    epoch: Option<i64>,
) -> PortResult<Option<FollowState>> {
    let tried = "take up following of";
    let error = |e: Error| trouble::error(&e, tried, of.table);
    let mut client = retry::client(pool, place).await?;
    let tx = client.transaction().await.map_err(error)?;
    // Waits for every transaction that an earlier follower has under way.
    let lock =
        tx.prepare_cached("SELECT stream FROM cutover.stream WHERE plan = $1 AND table_id = $2 FOR UPDATE").await;
    let stream = tx.query_opt(&lock.map_err(error)?, &[&of.plan, &of.table]).await.map_err(error)?;
    let Some(stream) = stream else { return Ok(None) };
    if epoch.is_some() && lease::driver(&tx, of.plan).await.map_err(error)? != epoch {
        let came_back = "another process has taken the lease since";
        return Err(
            PortError::new(ErrorKind::Conflict, tried, of.table, came_back).advise("attach to the run that drives now")
        );
    }
    let lanes = lanes.max(1);
    let standing = async {
        // From a sequence: a table that is reset and followed anew must never give a token out a second time.
        let token = "UPDATE cutover.stream SET token = nextval('cutover.token') WHERE plan = $1 AND table_id = $2 RETURNING token";
        let token = tx.query_one(token, &[&of.plan, &of.table]).await?.try_get(0)?;
        let (_, stored, stands) = book::standing(&tx, of).await?.unwrap_or_default();
        let positions = common(stored, &stands);
        let (open, ended): (Vec<_>, Vec<_>) = positions.iter().partition(|(_, position)| position.is_some());
        let open = open.into_iter().filter_map(|(shard, p)| Some((shard.clone(), p.clone()?))).collect();
        let ended: Vec<String> = ended.into_iter().map(|(shard, _)| shard.clone()).collect();
        book::advance(&tx, of, &open, &ended).await?;
        // Rows of other lanes may be written over from here on, so what those had reached would no longer be true.
        let forget = "DELETE FROM cutover.lane WHERE plan = $1 AND table_id = $2 AND \"of\" <> $3";
        if tx.execute(forget, &[&of.plan, &of.table, &lanes.cast_signed()]).await? > 0 {
            // What those had counted will come again.
            source_count::forget(&tx, of).await?;
        }
        let ahead = Ahead::of(lanes, &stands, &positions);
        Ok(FollowState { stream: stream.try_get(0)?, positions, ahead, fence: Fence { token, lanes } })
    };
    let standing = standing.await.map_err(error)?;
    tx.commit().await.map_err(error)?;
    Ok(Some(standing))
}

/// Notes how far a lane has come. One that is ahead already stays there: what comes again has landed.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    of: Of<'_>,
    lane: u32,
    lanes: u32,
    end: &BatchEnd,
) -> Result<(), Error> {
    let open = end.positions.iter().map(|(shard, position)| (shard.as_str(), Some(position.0.as_str())));
    let ended = end.finished.iter().collect::<HashSet<_>>().into_iter().map(|shard| (shard.as_str(), None));
    let (shards, positions): (Vec<&str>, Vec<Option<&str>>) = open.chain(ended).unzip();
    let statement = tx
        .prepare_cached(
            "INSERT INTO cutover.lane AS l (plan, table_id, lane, \"of\", shard, position, finished)
             SELECT $1, $2, $3, $4, s, p, p IS NULL FROM unnest($5::text[], $6::text[]) t(s, p)
             ON CONFLICT (plan, table_id, lane, shard) DO UPDATE
             SET \"of\" = EXCLUDED.\"of\", position = EXCLUDED.position, finished = EXCLUDED.finished
             WHERE l.\"of\" <> EXCLUDED.\"of\" OR EXCLUDED.finished OR NOT l.finished AND
                   (length(ltrim(l.position, '0')), ltrim(l.position, '0') COLLATE \"C\")
                   <= (length(ltrim(EXCLUDED.position, '0')), ltrim(EXCLUDED.position, '0') COLLATE \"C\")",
        )
        .await?;
    tx.execute(&statement, &[&of.plan, &of.table, &lane.cast_signed(), &lanes.cast_signed(), &shards, &positions])
        .await
        .map(drop)
}

/// Applies a batch. See [`crate::ports::Target::apply`].
pub(super) async fn apply(to: To<'_>, changes: Vec<RowChange>, end: &BatchEnd) -> PortResult<Applied> {
    let fence = end.fence.filter(|fence| fence.lanes > 1 && changes.len() >= LEAST * fence.lanes as usize);
    let Some(fence) = fence else { return apply::apply(to, &changes, end).await };
    let mut lanes: Vec<Vec<RowChange>> = Vec::new();
    lanes.resize_with(fence.lanes as usize, Vec::new);
    for change in changes {
        let lane = change.key().lane(fence.lanes) as usize;
        if let Some(lane) = lanes.get_mut(lane) {
            lane.push(change);
        }
    }
    // Following stands where the lanes have stored it. When there is more to record, one lane is held back and lands
    // with it: otherwise a death in between would leave positions behind and the rest would never be recorded.
    let told = end.markers.is_empty() && end.finished.is_empty() && end.expired == 0;
    let held = if told { Vec::new() } else { lanes.pop().unwrap_or_default() };
    let (mut applied, mut left, landed) = side_by_side(to, lanes, end).await?;
    if left.is_empty() && told {
        return Ok(applied);
    }
    left.extend(held);
    // Nothing of ours is under way any more: positions may move, with what lanes could not land by themselves.
    let mut counts = end.counts.clone();
    counts.retain(|c| !landed.contains(&c.lane));
    let rest = apply::apply(to, &left, &BatchEnd { counts, landed, ..end.clone() }).await?;
    applied.upserted += rest.upserted;
    applied.deleted += rest.deleted;
    applied.parked.extend(rest.parked);
    Ok(applied)
}

/// Lands each lane in a transaction of its own and waits for all of them. Gives back the rows of lanes in which
/// something was refused: what they wait for may stand in another lane. And the lanes that landed.
async fn side_by_side(
    to: To<'_>,
    lanes: Vec<Vec<RowChange>>,
    end: &BatchEnd,
) -> PortResult<(Applied, Vec<RowChange>, Vec<u32>)> {
    let lands = lanes.into_iter().enumerate().map(|(n, changes)| async move {
        let lane = u32::try_from(n).ok();
        // Markers and expired rows are recorded once, with the positions.
        let end = BatchEnd { lane, markers: Vec::new(), expired: 0, ..end.clone() };
        let ended = apply::once(to, &changes, &end).await;
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
