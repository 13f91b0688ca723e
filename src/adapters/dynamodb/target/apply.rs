//! Changes with the positions they advance to: rows and how far they bring the table, in transactions that hold only
//! while this process may write them.
//!
//! A transaction has 100 actions at most. A batch that fits is one transaction. A larger one is split by key into the
//! follower's lanes, each in as many transactions as it takes, side by side; each of them holds only while the lane's
//! own item shows this follower's token, and the last one of a lane stores how far the lane has come. The table's
//! positions move after all of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::future::join_all;

use super::call::{Item, Stopped, Store, Tried};
use super::names::{self, Of};
use super::owner::{self, Known};
use super::rows::{self, Shape};
use super::standing::{self, Positions};
use super::work::{Op, Work};
use super::write::Write;
use super::{batch, counts, lease, ledger};
use crate::domain::value::Key;
use crate::ports::{
    Applied, ChangeBatch, CountChange, ErrorKind, Fence, LaneStand, PortError, PortResult, Position, refuse_rewound,
    rewound,
};

/// What is tried.
const TRIED: &str = "apply changes to";
/// Actions of one transaction, with some left for what it holds on to.
const ACTIONS: usize = 96;
/// Bytes of one transaction as it is sent; DynamoDB allows 4 MB of items.
const BYTES: usize = 3 << 20;
/// How often what a transaction found changed is looked at anew.
const LOOKS: u32 = 4;

/// Which table of which plan changes go to.
pub(super) struct To<'a> {
    /// The service.
    pub store: &'a Store,
    /// The plan.
    pub plan: &'a str,
    /// Whose bookkeeping.
    pub of: &'a Of,
    /// How rows are written.
    pub shape: &'a Shape,
    /// The lease's epoch when this process had it.
    pub epoch: Option<i64>,
    /// How far lanes had come when the table was resumed.
    pub ahead: &'a [LaneStand],
}

/// What a transaction of rows holds on to.
#[derive(Clone, Copy, Debug)]
enum Guard {
    /// A lane's item, with the follower's token.
    Lane(u32, Fence),
    /// The table, and who drives.
    Table,
}

impl<'a> To<'a> {
    fn at(&self) -> Tried<'a> {
        (TRIED, &self.shape.target)
    }

    fn guards(&self, guard: Guard) -> Vec<Write> {
        match guard {
            Guard::Lane(lane, fence) => vec![standing::lane_fence(self.of, lane, fence)],
            Guard::Table => {
                let driver = self.epoch.map(|epoch| lease::fence(self.plan, epoch));
                [owner::fence(self.of, true)].into_iter().chain(driver).collect()
            }
        }
    }
}

/// How far a batch brings the table's following.
struct End {
    from: Positions,
    positions: BTreeMap<String, Position>,
    finished: Vec<String>,
    markers: Vec<String>,
    expired: u64,
    counts: Vec<CountChange>,
    fence: Option<Fence>,
}

impl End {
    fn moves(&self) -> bool {
        !self.positions.is_empty() || !self.finished.is_empty()
    }

    /// Where each shard that was read stands now; a shard that is read to its end stands there.
    fn reached(&self) -> Positions {
        let open = self.positions.iter().map(|(shard, at)| (shard.clone(), Some(at.clone())));
        open.chain(self.finished.iter().map(|shard| (shard.clone(), None))).collect()
    }

    /// What is recorded besides rows, `counts` of these lanes; what moves a position comes last.
    fn writes(&self, to: &To<'_>, counted: &HashSet<u32>) -> Vec<Write> {
        let now = to.store.now();
        let marker =
            |nonce: &String| Write::put(&to.of.marker(nonce), serde_json::json!({"at": super::call::n(now.0)}));
        let left: Vec<CountChange> = self.counts.iter().filter(|c| !counted.contains(&c.lane)).copied().collect();
        // A marker that was put twice comes twice; a transaction takes an item once.
        let nonces: BTreeSet<&String> = self.markers.iter().collect();
        let mut writes: Vec<Write> = nonces.into_iter().map(marker).collect();
        writes.extend(counts::note(to.of, &left));
        writes.extend((self.expired > 0).then(|| ledger::add_expired(to.of, self.expired)));
        let reached = self.reached();
        writes.extend(reached.iter().map(|(shard, at)| standing::put_shard(to.of, shard, at.as_ref())));
        writes
    }

    /// That the transaction which moves positions holds only for this follower.
    fn fence(&self, to: &To<'_>, rows: bool) -> Write {
        let table = owner::fence(to.of, rows);
        match self.fence {
            Some(fence) => table.and("#token = :token").with("token", super::call::n(fence.token)),
            None if self.moves() => table.and("attribute_exists(#stream)"),
            None => table,
        }
    }
}

/// See [`crate::ports::Target::apply`].
pub(super) async fn apply(to: &To<'_>, changes: ChangeBatch) -> PortResult<Applied> {
    let ChangeBatch { rows, from, positions, finished, markers, expired, counts, fence } = changes;
    let end = End { from, positions, finished, markers, expired, counts, fence };
    look(to, &end, !rows.is_empty()).await?;
    let keys: Vec<&Key> = rows.iter().map(crate::ports::RowChange::key).collect();
    let standing = ledger::standing(to.store, to.of, &keys, to.at()).await?;
    let (mut work, mut applied) = (Work::new(to.shape, &rows, &standing)?, Applied::default());
    applied.deleted = deleted(to, &work.ops).await?;
    // Said of the rows the store was not even asked about.
    applied.parked.append(&mut work.refused);

    let endings = end.writes(to, &HashSet::new());
    let actions = work.ops.iter().map(Op::actions).sum::<usize>() + endings.len();
    let bytes = work.ops.iter().map(Op::bytes).sum::<usize>();
    if actions <= ACTIONS && bytes <= BYTES {
        at_once(to, &end, work.ops, endings, &mut applied).await?;
        return Ok(applied);
    }
    let counted = match end.fence.filter(|_| end.moves()) {
        Some(fence) => side_by_side(to, &end, fence, work.ops, &mut applied).await?,
        None => {
            add(&mut applied, land(to, Guard::Table, work.ops, None).await?);
            HashSet::new()
        }
    };
    // Every row of the batch has landed: what says so may be written.
    for some in end.writes(to, &counted).chunks(ACTIONS) {
        let fence = end.fence(to, false);
        let writes: Vec<&Write> = some.iter().chain([&fence]).collect();
        match to.store.transact(&writes, to.at()).await {
            Ok(()) => {}
            Err(Stopped::Condition(_)) => return Err(why(to, &end, false).await),
            Err(stopped) => return Err(stopped.error(to.at())),
        }
    }
    Ok(applied)
}

/// Reads whether this process may apply the batch, and whether positions go on from where they stand.
async fn look(to: &To<'_>, end: &End, rows: bool) -> PortResult<()> {
    let shards = end.from.keys().chain(end.positions.keys().filter(|shard| !end.from.contains_key(*shard)));
    let shards: Vec<String> = shards.cloned().collect();
    let mut places = vec![names::lease(to.plan), to.of.table()];
    if end.moves() {
        places.extend(shards.iter().map(|shard| to.of.shard(shard)));
    }
    let found = to.store.get_all(&places, to.at()).await?;
    let mut found = found.into_iter();
    let (driver, table) = (found.next().flatten(), found.next().flatten());
    if rows && to.epoch.is_some() && lease::epoch_of(driver.as_ref()) != to.epoch {
        return Err(lease::overtaken(to.at()));
    }
    let known = owner::judged(table, rows, to.plan, to.at())?;
    if !end.moves() {
        return Ok(());
    }
    let items: Vec<Option<Item>> = found.collect();
    follows(to, end, &known, &standing::of_shards(shards.iter(), &items))
}

/// Refuses positions of a process that does not follow the table, and those that go back.
fn follows(to: &To<'_>, end: &End, known: &Known, stored: &Positions) -> PortResult<()> {
    let refused = |came_back: String| PortError::new(ErrorKind::Conflict, TRIED, &to.shape.target, came_back);
    if known.stream().is_none() {
        return Err(refused("no start is stored".to_owned()).advise("store where following starts first"));
    }
    if end.fence.is_some_and(|fence| known.token() != Some(fence.token)) {
        return Err(standing::overtaken(to.at()));
    }
    if let Some(shard) = rewound(&end.from, stored) {
        return Err(refuse_rewound(TRIED, &to.shape.target, &format!("shard {shard}")));
    }
    for (shard, new) in &end.positions {
        let overtaken = match stored.get(shard) {
            None => false,
            Some(None) => !end.finished.contains(shard),
            Some(Some(old)) => new.order(old) == Some(Ordering::Less),
        };
        if overtaken {
            return Err(refused(format!("shard {shard} stands further on than this batch"))
                .advise("another process follows this table; read the positions back and go on from there"));
        }
    }
    Ok(())
}

/// Why a transaction did not hold, as it stands now.
async fn why(to: &To<'_>, end: &End, rows: bool) -> PortError {
    match look(to, end, rows).await {
        Err(error) => error,
        Ok(()) => standing::overtaken(to.at()),
    }
}

/// How many of the rows that are to be deleted are there. A delete that finds nothing says nothing of it.
async fn deleted(to: &To<'_>, ops: &[Op]) -> PortResult<u64> {
    let keys: Vec<&str> = ops.iter().filter_map(Op::deletes).collect();
    if keys.is_empty() {
        return Ok(0);
    }
    let names: Vec<&str> = to.shape.key_names().collect();
    let there = batch::there(to.store, &to.shape.target, &names, &keys, to.at()).await?;
    Ok(there.into_iter().filter(|there| *there).count() as u64)
}

/// Rows and positions in one transaction.
async fn at_once(
    to: &To<'_>,
    end: &End,
    mut ops: Vec<Op>,
    endings: Vec<Write>,
    applied: &mut Applied,
) -> PortResult<()> {
    if ops.is_empty() && endings.is_empty() {
        return Ok(());
    }
    let rows = !ops.is_empty();
    let mut guards = vec![end.fence(to, rows)];
    // Who follows shows a token that was given to the driver; who writes rows again has nothing but the lease.
    let driver = to.epoch.filter(|_| rows && end.fence.is_none());
    guards.extend(driver.map(|epoch| lease::fence(to.plan, epoch)));
    let mut looked = 0;
    loop {
        let of_rows: Vec<Vec<Write>> = ops.iter().map(|op| op.writes(to.of, to.shape, to.store.now())).collect();
        let writes: Vec<&Write> = guards.iter().chain(of_rows.iter().flatten()).chain(&endings).collect();
        match to.store.transact(&writes, to.at()).await {
            Ok(()) => {
                applied.upserted += ops.iter().filter(|op| op.upserts()).count() as u64;
                return Ok(());
            }
            Err(Stopped::Condition(_)) => {
                look(to, end, rows).await?;
                looked += 1;
                if looked > LOOKS {
                    return Err(standing::overtaken(to.at()));
                }
            }
            Err(Stopped::Refused(place, message)) => {
                let lengths: Vec<usize> = of_rows.iter().map(Vec::len).collect();
                let op = at_place(&lengths, place.saturating_sub(guards.len()));
                park(to, &mut ops, op, &message, applied)?;
            }
            Err(Stopped::Whole(message, error)) => {
                // It does not say which one. Rows are landed one by one, and the positions after them.
                if ops.is_empty() || rows::refusal(&message).is_none() {
                    return Err(error);
                }
                add(applied, land(to, Guard::Table, ops, None).await?);
                let fence = end.fence(to, false);
                let writes: Vec<&Write> = endings.iter().chain([&fence]).collect();
                return to.store.transact(&writes, to.at()).await.map_err(|e| e.error(to.at()));
            }
            Err(Stopped::Failed(error)) => return Err(error),
        }
    }
}

/// Which of lists of these lengths a place is in.
fn at_place(lengths: &[usize], place: usize) -> usize {
    let mut before = 0;
    lengths
        .iter()
        .position(|length| {
            before += length;
            place < before
        })
        .unwrap_or(lengths.len())
}

/// Makes the change that the store refused one that parks its row.
fn park(to: &To<'_>, ops: &mut [Op], at: usize, message: &str, applied: &mut Applied) -> PortResult<()> {
    let refused = || PortError::new(ErrorKind::Invalid, TRIED, &to.shape.target, "the store refused what is recorded");
    let row_error = rows::refusal(message).ok_or_else(|| {
        PortError::new(ErrorKind::Invalid, TRIED, &to.shape.target, "the table's key is not the plan's")
            .advise("compare the plan with the table")
    })?;
    let op = ops.get_mut(at).ok_or_else(refused)?;
    if !op.upserts() {
        return Err(refused());
    }
    applied.parked.push(op.refuse(&to.shape.id, row_error));
    Ok(())
}

/// Lands each lane by itself and waits for all of them. Gives the lanes whose counts are noted.
async fn side_by_side(
    to: &To<'_>,
    end: &End,
    fence: Fence,
    ops: Vec<Op>,
    applied: &mut Applied,
) -> PortResult<HashSet<u32>> {
    let mut lanes: BTreeMap<u32, Vec<Op>> = BTreeMap::new();
    for op in ops {
        lanes.entry(op.key().lane(fence.lanes)).or_default().push(op);
    }
    let lands = lanes.into_iter().map(|(lane, ops)| {
        let mut reached: Positions =
            to.ahead.iter().filter(|s| s.lane == lane && s.of == fence.lanes).map(stand).collect();
        reached.extend(end.reached());
        async move {
            let mine: Vec<CountChange> = end.counts.iter().filter(|c| c.lane == lane).copied().collect();
            let lands = standing::lane_lands(to.of, lane, fence, &reached);
            let last = [Some(lands), counts::note(to.of, &mine)].into_iter().flatten().collect();
            (lane, land(to, Guard::Lane(lane, fence), ops, Some(last)).await)
        }
    });
    let (mut counted, mut failed) = (HashSet::new(), None);
    for (lane, landed) in join_all(lands).await {
        match landed {
            Ok(landed) => {
                counted.insert(lane);
                add(applied, landed);
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => Ok(counted),
        // What the lanes were refused for is told as it stands.
        Some(error) if error.kind == ErrorKind::Conflict => Err(match look(to, end, true).await {
            Err(why) => why,
            Ok(()) => error,
        }),
        Some(error) => Err(error),
    }
}

fn stand(stand: &LaneStand) -> (String, Option<Position>) {
    (stand.shard.clone(), stand.position.clone())
}

/// Adds what a part did.
fn add(applied: &mut Applied, part: Applied) {
    applied.upserted += part.upserted;
    applied.parked.extend(part.parked);
}

/// Lands changes in as many transactions as it takes, one after another. `last` takes the place of the guard in the last
/// of them.
async fn land(to: &To<'_>, guard: Guard, ops: Vec<Op>, last: Option<Vec<Write>>) -> PortResult<Applied> {
    let guards = to.guards(guard);
    let mut pieces: Vec<Vec<Op>> = vec![Vec::new()];
    let (mut actions, mut bytes) = (0, 0);
    for op in ops {
        let full = actions + op.actions() > ACTIONS || bytes + op.bytes() > BYTES;
        if full && pieces.last().is_some_and(|piece| !piece.is_empty()) {
            pieces.push(Vec::new());
            (actions, bytes) = (0, 0);
        }
        actions += op.actions();
        bytes += op.bytes();
        if let Some(piece) = pieces.last_mut() {
            piece.push(op);
        }
    }
    // The last one first, because pieces are taken from the end.
    pieces.reverse();
    let mut landed = Applied::default();
    while let Some(mut ops) = pieces.pop() {
        let holds = last.as_ref().filter(|_| pieces.is_empty()).unwrap_or(&guards);
        loop {
            let of_rows: Vec<Vec<Write>> = ops.iter().map(|op| op.writes(to.of, to.shape, to.store.now())).collect();
            let writes: Vec<&Write> = holds.iter().chain(of_rows.iter().flatten()).collect();
            match to.store.transact(&writes, to.at()).await {
                Ok(()) => {
                    landed.upserted += ops.iter().filter(|op| op.upserts()).count() as u64;
                    break;
                }
                Err(Stopped::Condition(_)) => return Err(lost(to, guard).await?),
                Err(Stopped::Refused(place, message)) => {
                    let lengths: Vec<usize> = of_rows.iter().map(Vec::len).collect();
                    park(to, &mut ops, at_place(&lengths, place.saturating_sub(holds.len())), &message, &mut landed)?;
                }
                Err(Stopped::Whole(message, error)) => {
                    if rows::refusal(&message).is_none() {
                        return Err(error);
                    }
                    match ops.len() {
                        0 => return Err(error),
                        1 => park(to, &mut ops, 0, &message, &mut landed)?,
                        many => {
                            let second = ops.split_off(many / 2);
                            pieces.push(second);
                            pieces.push(std::mem::take(&mut ops));
                            break;
                        }
                    }
                }
                Err(Stopped::Failed(error)) => return Err(error),
            }
        }
    }
    Ok(landed)
}

/// Why a transaction of rows did not hold.
async fn lost(to: &To<'_>, guard: Guard) -> PortResult<PortError> {
    let found = to.store.get_all(&[names::lease(to.plan), to.of.table()], to.at()).await?;
    let mut found = found.into_iter();
    let (driver, table) = (found.next().flatten(), found.next().flatten());
    if to.epoch.is_some() && lease::epoch_of(driver.as_ref()) != to.epoch {
        return Ok(lease::overtaken(to.at()));
    }
    Ok(match (owner::judged(table, true, to.plan, to.at()), guard) {
        (Err(error), _) => error,
        (Ok(_), Guard::Lane(..)) => standing::overtaken(to.at()),
        (Ok(_), Guard::Table) => lease::overtaken(to.at()),
    })
}
