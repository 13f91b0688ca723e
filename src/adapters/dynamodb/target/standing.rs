//! How far following has come: shards, lanes, and the right to go on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::call::{Item, Stopped, Store, Tried, n, number, s, sk, text};
use super::names::{self, Of, Place};
use super::owner::{self, Known};
use super::write::Write;
use super::{counts, lease, permits};
use crate::ports::{Ahead, ErrorKind, Fence, FollowState, LaneStand, PortError, PortResult, Position, common};

/// Shards whose positions are written in one transaction.
const AT_ONCE: usize = 90;

/// Positions of shards; `None` is a shard's end.
pub(super) type Positions = BTreeMap<String, Option<Position>>;

/// What a shard's item holds.
fn shard_item(position: Option<&Position>) -> Json {
    match position {
        Some(position) => json!({"position": s(&position.0)}),
        None => json!({"finished": {"BOOL": true}}),
    }
}

/// Puts where a shard stands.
pub(super) fn put_shard(of: &Of, shard: &str, position: Option<&Position>) -> Write {
    Write::put(&of.shard(shard), shard_item(position))
}

fn position_of(item: &Item) -> Option<Position> {
    text(item, "position").map(|position| Position(position.to_owned()))
}

/// Every shard as it is stored.
async fn stored(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Positions> {
    let shards = store.query(&of.follow(), names::SHARDS, None, None, at).await?;
    let shard = |item: &Item| sk(item).strip_prefix(names::SHARDS).unwrap_or_default().to_owned();
    Ok(shards.iter().map(|item| (shard(item), position_of(item))).collect())
}

/// These shards, read from their items.
pub(super) fn of_shards<'s>(shards: impl Iterator<Item = &'s String>, items: &[Option<Item>]) -> Positions {
    shards.zip(items).filter_map(|(shard, item)| Some((shard.clone(), position_of(item.as_ref()?)))).collect()
}

/// How far a lane has come, as its item says.
fn stands(lane: u32, item: &Item) -> Vec<LaneStand> {
    let of = number(item, "of").and_then(|of| u32::try_from(of).ok()).unwrap_or(0);
    let map = item.get("stands").and_then(|stands| stands.get("M")).and_then(Json::as_object);
    let stand = |(shard, at): (&String, &Json)| {
        let position = at.get("S").and_then(Json::as_str).map(|text| Position(text.to_owned()));
        LaneStand { lane, of, shard: shard.clone(), position }
    };
    map.into_iter().flatten().map(stand).collect()
}

/// What a lane's item says once it has landed its part of a batch.
pub(super) fn lane_lands(of: &Of, lane: u32, fence: Fence, reached: &Positions) -> Write {
    let stands: serde_json::Map<String, Json> = reached
        .iter()
        .map(|(shard, at)| (shard.clone(), at.as_ref().map_or(json!({"NULL": true}), |at| s(&at.0))))
        .collect();
    held(Write::update(&of.lane(lane), "SET #stands = :stands, #of = :of"), fence)
        .with("stands", json!({"M": stands}))
        .with("of", n(fence.lanes.into()))
}

/// That a transaction holds only while a lane is this follower's and the table is not open.
pub(super) fn lane_fence(of: &Of, lane: u32, fence: Fence) -> Write {
    held(Write::check(&of.lane(lane)), fence)
}

fn held(write: Write, fence: Fence) -> Write {
    write.when("#token = :token AND attribute_not_exists(#opened)").with("token", n(fence.token))
}

/// See [`crate::ports::Target::start_positions`].
pub(super) async fn start(
    store: &Store,
    plan: &str,
    of: &Of,
    stream: &str,
    positions: &BTreeMap<String, Position>,
    at: Tried<'_>,
) -> PortResult<()> {
    let known = owner::judged(store.get(&of.table(), at).await?, false, plan, at)?;
    match known.stream() {
        Some(other) if other != stream => {
            let came_back = format!("another stream is being followed: {other}");
            return Err(PortError::new(ErrorKind::Conflict, at.0, at.1, came_back)
                .advise("the stream was recreated and changes between are lost; reset the table and load it again"));
        }
        Some(_) => {}
        // What a start that died has left may be of another stream. Nothing counts before the stream is written.
        None => {
            let left = stored(store, of, at).await?;
            let key = |shard: &String| super::call::key_of(&of.shard(shard)).to_string();
            super::batch::delete(store, names::BOOK, &left.keys().map(key).collect::<Vec<_>>(), at).await?;
        }
    }
    for (shard, position) in positions {
        let put = put_shard(of, shard, Some(position)).when("attribute_not_exists(#pk)");
        match store.write(&put, at).await {
            // A position that is there stays.
            Ok(_) | Err(Stopped::Condition(_)) => {}
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    let begun = Write::update(&of.table(), "SET #stream = :stream")
        .when("attribute_exists(#pk) AND (attribute_not_exists(#stream) OR #stream = :stream)")
        .with("stream", s(stream));
    store.write(&begun, at).await.map_err(|e| e.error(at)).map(drop)
}

/// See [`crate::ports::Target::positions`].
pub(super) async fn positions(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Option<(String, Positions)>> {
    let Some(known) = store.get(&of.table(), at).await?.map(Known::of) else { return Ok(None) };
    let Some(stream) = known.stream() else { return Ok(None) };
    // Lanes first: what lands in between is then in the positions too, or in neither.
    let places: Vec<Place> = (0..known.lanes()).map(|lane| of.lane(lane)).collect();
    let lanes = store.get_all(&places, at).await?;
    let stored = stored(store, of, at).await?;
    Ok(Some((stream.to_owned(), common(stored, &of_lanes(&lanes)))))
}

fn of_lanes(items: &[Option<Item>]) -> Vec<LaneStand> {
    let one = |(lane, item): (usize, &Option<Item>)| {
        let lane = u32::try_from(lane).unwrap_or(u32::MAX);
        item.as_ref().map_or_else(Vec::new, |item| stands(lane, item))
    };
    items.iter().enumerate().flat_map(one).collect()
}

/// See [`crate::ports::Target::resume_follow`]. With how far lanes had come: a lane's item is written anew with each batch,
/// and what it says of other shards must stay until their positions have passed it.
pub(super) async fn resume(
    store: &Store,
    plan: &str,
    of: &Of,
    lanes: u32,
    epoch: Option<i64>,
    at: Tried<'_>,
) -> PortResult<Option<(FollowState, Vec<LaneStand>)>> {
    let lanes = lanes.max(1);
    let Some(known) = store.get(&of.table(), at).await?.map(Known::of) else { return Ok(None) };
    let Some(stream) = known.stream().map(str::to_owned) else { return Ok(None) };
    if epoch.is_some() && lease::driver(store, plan, at).await? != epoch {
        return Err(lease::overtaken(at));
    }
    // No row of a load lands after this: it would be older than what is followed.
    permits::quiet(store, of, at).await?;
    // Given out once, to all plans: a table that is reset and followed anew never gets one a second time.
    let next = Write::update(&names::token(), "ADD #token :one").with("one", n(1));
    let given = store.write(&next, at).await.map_err(|e| e.error(at))?;
    let token = given.as_ref().and_then(|item| number(item, "token")).unwrap_or_default();
    let ever = known.lanes().max(lanes);
    take(store, plan, of, (&stream, token, ever), epoch, at).await?;

    // Each lane shows the new token from here on, so nothing of an earlier follower is under way in it or lands later:
    // a write waits for the transaction that has the item.
    let mut found = Vec::new();
    for lane in 0..ever {
        let mine = Write::update(&of.lane(lane), "SET #token = :token")
            .when("attribute_not_exists(#token) OR #token <= :token")
            .with("token", n(token));
        match store.write(&mine, at).await {
            Ok(item) => found.push(item),
            Err(Stopped::Condition(_)) => return Err(overtaken(at)),
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    let stands = of_lanes(&found);
    let before = stored(store, of, at).await?;
    let positions = common(before.clone(), &stands);
    let moved: Positions = positions.iter().filter(|(shard, p)| before.get(*shard) != Some(*p)).map(clone).collect();
    advance(store, of, token, &moved, at).await?;
    // Rows of other lanes may be written over from here on, so what those had reached would no longer be true.
    let others: BTreeSet<u32> = stands.iter().filter(|stand| stand.of != lanes).map(|stand| stand.lane).collect();
    if !others.is_empty() {
        // What those had counted will come again.
        counts::forget(store, of, at).await?;
    }
    for lane in others {
        let forget = Write::update(&of.lane(lane), "REMOVE #stands").when("#token = :token").with("token", n(token));
        store.write(&forget, at).await.map_err(|e| e.error(at))?;
    }
    let ahead = Ahead::of(lanes, &stands, &positions);
    let kept = stands.into_iter().filter(|stand| stand.of == lanes).collect();
    let state = FollowState { stream, positions, ahead, fence: Fence { token, lanes } };
    Ok(Some((state, kept)))
}

fn clone((shard, position): (&String, &Option<Position>)) -> (String, Option<Position>) {
    (shard.clone(), position.clone())
}

/// Makes this process the table's follower, if its stream is the one that was read and nobody came later.
async fn take(
    store: &Store,
    plan: &str,
    of: &Of,
    (stream, token, lanes): (&str, i64, u32),
    epoch: Option<i64>,
    at: Tried<'_>,
) -> PortResult<()> {
    let mine = Write::update(&of.table(), "SET #token = :token, #lanes = :lanes")
        .when("#stream = :stream AND (attribute_not_exists(#token) OR #token < :token)")
        .with("stream", s(stream))
        .with("token", n(token))
        .with("lanes", n(lanes.into()));
    let mut writes = vec![mine];
    writes.extend(epoch.map(|epoch| lease::fence(plan, epoch)));
    match store.transact(&writes.iter().collect::<Vec<_>>(), at).await {
        Ok(()) => Ok(()),
        Err(Stopped::Condition(1)) => Err(lease::overtaken(at)),
        Err(Stopped::Condition(_)) => Err(overtaken(at)),
        Err(stopped) => Err(stopped.error(at)),
    }
}

/// Writes positions under a token.
pub(super) async fn advance(store: &Store, of: &Of, token: i64, moved: &Positions, at: Tried<'_>) -> PortResult<()> {
    let puts: Vec<Write> = moved.iter().map(|(shard, position)| put_shard(of, shard, position.as_ref())).collect();
    for some in puts.chunks(AT_ONCE) {
        let fence = Write::check(&of.table()).when("#token = :token").with("token", n(token));
        let writes: Vec<&Write> = some.iter().chain([&fence]).collect();
        match store.transact(&writes, at).await {
            Ok(()) => {}
            Err(Stopped::Condition(_)) => return Err(overtaken(at)),
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    Ok(())
}

/// That another process follows the table now.
pub(super) fn overtaken((tried, on): Tried<'_>) -> PortError {
    PortError::new(ErrorKind::Conflict, tried, on, "this table was resumed by another follower since")
        .advise("nothing was written; whoever took it up goes on from the stored positions")
}
