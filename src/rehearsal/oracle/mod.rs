//! What the stores must hold, by the application's own account: every write that was acknowledged to a customer.
//!
//! The oracle never asks a store. A key has one writer at a time, so "the last acknowledged write" is well
//! defined. A write whose outcome nobody knows leaves two allowed values, and its key is not written again.

mod aside;
mod compare;
mod trace;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::held;
use super::records::{Kind, Record, RecordKey, Write};
use super::seed::Dataset;

pub use aside::Aside;
pub(super) use compare::DEFAULT_CATEGORY;
pub use compare::{Comparison, Form, Listed, Mismatch};
use trace::Trace;

/// Which side of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The stores that serve before the cutover.
    Old,
    /// The stores that serve after it.
    New,
}

impl Side {
    /// `old` or `new`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store confirmed it: it must never be lost.
    Acknowledged,
    /// The store said no, or was never asked: it did not happen.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What a store held before a write, by its own answer to it; `None` within means that there was no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stood(pub Option<Record>);

/// An acknowledged write: by which side, and when (milliseconds since the epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The side that confirmed.
    pub side: Side,
    /// When.
    pub at_ms: i64,
}

/// Counts of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Acknowledged by the old side.
    pub old: u64,
    /// Acknowledged by the new side.
    pub new: u64,
    /// Refused by a store or by a failing new code path.
    pub refused: u64,
    /// Refused because writes were frozen.
    pub frozen: u64,
    /// With unknown outcome.
    pub unknown: u64,
}

#[derive(Debug, Default)]
struct Row {
    /// What may stand there; more than one when an outcome is unknown. Empty never.
    allowed: Vec<Option<Record>>,
    /// Somebody is writing it.
    busy: bool,
    /// Not to be written any more.
    closed: bool,
    last: Option<Ack>,
    /// Acknowledged by the new side since the old side's last acknowledgement.
    new_writes: u32,
    /// Once the new side has acknowledged a write: what stood there before its first one, and after each of them.
    on_new: Vec<Option<Record>>,
    /// What was allowed before the old side wrote it once more, after customers had written elsewhere on the new side.
    kept: Option<Vec<Option<Record>>>,
    /// The new side wrote the record whole and had no category for it.
    filled_in: bool,
    /// Acknowledged by the old side since the new side's last acknowledgement, with what the store said of each.
    traces: Vec<Trace>,
    /// Of one of them it said nothing: what is not known excuses nothing.
    untraced: bool,
}

#[derive(Debug, Default)]
struct Ledger {
    rows: HashMap<RecordKey, Row>,
    parked: BTreeMap<RecordKey, &'static str>,
    /// Ids that exist and may be written, by kind, and where each stands in its list.
    live: BTreeMap<Kind, Vec<String>>,
    places: HashMap<RecordKey, usize>,
    /// Records that were deleted and may be created again.
    deleted: Vec<Record>,
    tally: WriteCounts,
    /// Customers have written on the new side.
    opened: bool,
}

impl Ledger {
    fn enter(&mut self, key: &RecordKey) {
        if key.is_probe() {
            return;
        }
        if !self.places.contains_key(key) {
            let list = self.live.entry(key.kind).or_default();
            self.places.insert(key.clone(), list.len());
            list.push(key.id.clone());
        }
    }

    fn leave(&mut self, key: &RecordKey) {
        let Some(place) = self.places.remove(key) else { return };
        let list = self.live.entry(key.kind).or_default();
        list.swap_remove(place);
        if let Some(moved) = list.get(place) {
            self.places.insert(RecordKey { kind: key.kind, id: moved.clone() }, place);
        }
    }
}

/// The account of all acknowledged writes. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Oracle(Arc<Mutex<Ledger>>);

impl Oracle {
    /// An account that begins with the seeded data.
    #[must_use]
    pub fn new(data: &Dataset) -> Self {
        let mut ledger = Ledger { parked: data.parked.clone(), ..Ledger::default() };
        for record in &data.records {
            let key = record.key();
            // Rows that cannot be moved are left alone: a write could change whether they can be moved.
            let closed = data.parked.contains_key(&key);
            if !closed {
                ledger.enter(&key);
            }
            ledger.rows.insert(key, Row { allowed: vec![Some(record.clone())], closed, ..Row::default() });
        }
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Counts so far.
    #[must_use]
    pub fn tally(&self) -> WriteCounts {
        held(&self.0).tally
    }

    /// A write was refused because of the freeze.
    pub fn count_frozen(&self) {
        held(&self.0).tally.frozen += 1;
    }

    /// How many keys of a kind exist and may be written.
    #[must_use]
    pub fn live(&self, kind: Kind) -> usize {
        held(&self.0).live.get(&kind).map_or(0, Vec::len)
    }

    /// Some key that exists, for a reader. It may be gone by the time it is read.
    #[must_use]
    pub fn any(&self, kind: Kind, rng: &mut fastrand::Rng) -> Option<RecordKey> {
        let ledger = held(&self.0);
        let list = ledger.live.get(&kind).filter(|l| !l.is_empty())?;
        Some(RecordKey { kind, id: list[rng.usize(..list.len())].clone() })
    }

    /// The value a key certainly has, for a caller that builds on it.
    #[must_use]
    pub fn certain(&self, key: &RecordKey) -> Option<Record> {
        match held(&self.0).rows.get(key)?.allowed.as_slice() {
            [Some(record)] => Some(record.clone()),
            _ => None,
        }
    }

    /// Takes some existing key for writing, with its value. `None` when none is free.
    #[must_use]
    pub fn claim_any(&self, kind: Kind, rng: &mut fastrand::Rng) -> Option<(Claim, Record)> {
        // A few draws: most keys are free at any moment.
        for _ in 0..8 {
            let key = self.any(kind, rng)?;
            if let Some(claim) = self.claim(&key)
                && let Some(record) = self.certain(&key)
            {
                return Some((claim, record));
            }
        }
        None
    }

    /// Takes a key for writing, whether it exists or not. `None` when somebody else has it or it is closed.
    #[must_use]
    pub fn claim(&self, key: &RecordKey) -> Option<Claim> {
        let mut ledger = held(&self.0);
        let row = ledger.rows.entry(key.clone()).or_insert_with(|| Row { allowed: vec![None], ..Row::default() });
        if row.busy || row.closed {
            return None;
        }
        row.busy = true;
        Some(Claim { oracle: self.clone(), key: key.clone(), begun: None, stood: None, again: None, settled: false })
    }

    /// Takes a deleted record for creating it again.
    #[must_use]
    pub fn claim_deleted(&self) -> Option<(Claim, Record)> {
        let record = held(&self.0).deleted.pop()?;
        let mut claim = self.claim(&record.key())?;
        claim.again = Some(record.clone());
        Some((claim, record))
    }

    fn settle(&self, claim: &mut Claim, outcome: Outcome) {
        let (key, begun, found, again) = (&claim.key, claim.begun.take(), claim.stood.take(), claim.again.take());
        let mut ledger = held(&self.0);
        let ledger = &mut *ledger;
        let Some(row) = ledger.rows.get_mut(key) else { return };
        row.busy = false;
        let opened = ledger.opened;
        let Some((write, side)) = begun else {
            ledger.deleted.extend(again);
            if row.allowed == [None] && row.last.is_none() && !row.closed {
                // Claimed, never written: as if it had never been claimed.
                ledger.rows.remove(key);
            }
            return;
        };
        if outcome != Outcome::Refused && side == Side::Old && opened && row.kept.is_none() {
            row.kept = Some(row.allowed.clone());
        }
        match outcome {
            Outcome::Refused => {
                ledger.tally.refused += 1;
                if let (Write::Put(record), [None], false) = (&write, row.allowed.as_slice(), key.is_probe())
                    && comes_back(key.kind)
                {
                    ledger.deleted.push(record.clone());
                }
            }
            Outcome::Acknowledged => {
                if let (Write::Delete(_), [Some(record)]) = (&write, row.allowed.as_slice())
                    && comes_back(key.kind)
                {
                    ledger.deleted.push(record.clone());
                }
                let stood = row.allowed.first().cloned().flatten();
                row.allowed = row.allowed.drain(..).map(|before| write.apply(before)).collect();
                let stands = row.allowed.first().cloned().flatten();
                row.last = Some(Ack { side, at_ms: jiff::Timestamp::now().as_millisecond() });
                match side {
                    Side::Old => {
                        ledger.tally.old += 1;
                        row.new_writes = 0;
                        // The old side wrote it whole: its category is its own again.
                        row.filled_in &= !matches!(&write, Write::Put(_) | Write::Delete(_));
                        match found {
                            _ if row.on_new.is_empty() => {}
                            Some(Stood(before)) => row.traces.push(Trace::of(&write, before)),
                            None => row.untraced = true,
                        }
                    }
                    Side::New => {
                        ledger.tally.new += 1;
                        ledger.opened = true;
                        if row.new_writes == 0 {
                            row.on_new = vec![stood];
                        }
                        row.on_new.push(stands);
                        (row.traces, row.untraced) = (Vec::new(), false);
                        row.filled_in |= fills_in(&write);
                        row.new_writes += 1;
                    }
                }
                if row.allowed.first().is_some_and(Option::is_some) {
                    ledger.enter(key);
                } else {
                    ledger.leave(key);
                }
            }
            Outcome::Unknown => {
                ledger.tally.unknown += 1;
                row.filled_in |= side == Side::New && fills_in(&write);
                for before in row.allowed.clone() {
                    let after = write.apply(before);
                    if !row.allowed.contains(&after) {
                        row.allowed.push(after);
                    }
                }
                row.closed = true;
                ledger.leave(key);
            }
        }
    }
}

/// Whether customers make a deleted record of this kind again under its id: nothing it refers to may be gone by then.
const fn comes_back(kind: Kind) -> bool {
    match kind {
        Kind::Book | Kind::Payment | Kind::Session | Kind::Limit => true,
        Kind::User | Kind::Order | Kind::Cart | Kind::Account => false,
    }
}

/// The new side writes a category where a book has none.
fn fills_in(write: &Write) -> bool {
    matches!(write, Write::Put(Record::Book(b)) if b.category.is_none())
}

/// The right to write one key. Dropped after [`Claim::begin`] without an outcome, the outcome is unknown.
#[derive(Debug)]
pub struct Claim {
    oracle: Oracle,
    key: RecordKey,
    begun: Option<(Write, Side)>,
    stood: Option<Stood>,
    /// The deleted record this is for; given back when nothing is begun.
    again: Option<Record>,
    settled: bool,
}

impl Claim {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Says what will be written, and where, before it is.
    pub fn begin(&mut self, write: Write, side: Side) {
        debug_assert_eq!(write.key(), self.key);
        self.begun = Some((write, side));
    }

    /// Says what the store answered that it had held before the write.
    pub fn over(&mut self, stood: Stood) {
        self.stood = Some(stood);
    }

    /// Says what became of it.
    pub fn settle(mut self, outcome: Outcome) {
        self.settled = true;
        let oracle = self.oracle.clone();
        oracle.settle(&mut self, outcome);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A settled key may be somebody else's by now.
        if !self.settled {
            let oracle = self.oracle.clone();
            oracle.settle(self, Outcome::Unknown);
        }
    }
}

#[cfg(test)]
mod tests;
