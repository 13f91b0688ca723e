//! What goes wrong on purpose: rules that strike at a call, in order, or at random under a seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::ports::ErrorKind;

/// A call at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    SourceDescribe,
    Page,
    Get,
    PutMarker,
    DeleteMarker,
    Enable,
    Stream,
    Iterator,
    Read,
    Claim,
    OpenToCustomers,
    Lease,
    Checkpoints,
    Flush,
    FinishLoad,
    OpenWrites,
    Reset,
    StartPositions,
    Positions,
    ResumeFollow,
    Apply,
    Marker,
    TargetCount,
    Ledger,
    Parked,
    Scan,
    Fetch,
    Writes,
    SwitchRead,
    SwitchVersion,
    SwitchAttributes,
    SwitchSet,
    Probe,
    State,
    Arm,
    Armed,
    Disarm,
    MarkRolledBack,
    Settle,
    PutBackMarker,
    Take,
    Waiting,
    Tally,
    OwnWrites,
    RecordOwnWrite,
    Unfinished,
    Conflicts,
    Clear,
    Done,
    ItemWrite,
    ItemRead,
    Sample,
    Exercise,
    OldSequences,
    AdvanceOldSequences,
    JobBegin,
    JobFind,
    JobProgress,
    JobCancel,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing is done, and an error says so.
    Refuse(ErrorKind),
    /// It is done, and an error says that it was not.
    FailAfter(ErrorKind),
    /// Nothing happens until the hold is let go; then it is done.
    Latch(Latch),
    /// It is done later: the clock goes on by this many milliseconds first, and others get their turn.
    Delay(i64),
    /// A read gives again what it gave before, then what is new.
    Duplicate,
    /// Shards are listed in another order; reads end early, so that keys of different shards mix differently.
    Reorder,
    /// It ends in the middle: half a page of a scan, part of a read, some lanes of a batch, some items of one.
    Cut,
}

/// Something held back until it is let go.
#[derive(Clone, Debug)]
pub struct Latch {
    open: Arc<watch::Sender<bool>>,
    waiting: Arc<watch::Sender<u32>>,
}

impl Default for Latch {
    fn default() -> Self {
        Self { open: Arc::new(watch::channel(false).0), waiting: Arc::new(watch::channel(0).0) }
    }
}

impl Latch {
    /// Lets everything through from now on.
    pub fn release(&self) {
        self.open.send_replace(true);
    }

    /// Waits until a call is being held.
    pub async fn caught(&self) {
        self.waiting.subscribe().wait_for(|n| *n > 0).await.unwrap();
    }

    /// Waits until this many calls are being held, or have been.
    pub async fn caught_all(&self, calls: usize) {
        self.waiting.subscribe().wait_for(|n| *n as usize >= calls).await.unwrap();
    }

    /// Waits to be let go.
    pub async fn pass(&self) {
        self.waiting.send_modify(|n| *n += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

struct Rule {
    id: u64,
    op: Op,
    on: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

#[derive(Default)]
struct Inner {
    rules: Vec<Rule>,
    next: u64,
    calls: BTreeMap<Op, u64>,
    struck: u64,
    random: Option<Random>,
}

struct Random {
    rng: fastrand::Rng,
    /// One call in this many is struck.
    one_in: u32,
    /// Faults left.
    left: u32,
}

/// The faults of one test. Cloning shares.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Inner>>);

impl Faults {
    /// From the call after the next `skip` ones on, `times` calls of `op` whose subject contains `on` are struck.
    /// Gives the rule's number for [`Faults::lift`].
    pub fn put(&self, op: Op, on: &str, skip: u32, times: u32, fault: Fault) -> u64 {
        let mut inner = self.0.lock().unwrap();
        inner.next += 1;
        let id = inner.next;
        inner.rules.push(Rule { id, op, on: on.to_owned(), skip, times, fault });
        id
    }

    /// Every call of `op` fails like this until it is lifted.
    pub fn always(&self, op: Op, fault: Fault) -> u64 {
        self.put(op, "", 0, u32::MAX, fault)
    }

    /// Ends a rule.
    pub fn lift(&self, id: u64) {
        self.0.lock().unwrap().rules.retain(|r| r.id != id);
    }

    /// From now on one call in `one_in` goes wrong, `most` in all, the same ones for the same seed and calls.
    pub fn at_random(&self, seed: u64, one_in: u32, most: u32) {
        self.0.lock().unwrap().random = Some(Random { rng: fastrand::Rng::with_seed(seed), one_in, left: most });
    }

    /// No more random faults.
    pub fn calm(&self) {
        self.0.lock().unwrap().random = None;
    }

    /// How often `op` was called.
    pub fn calls(&self, op: Op) -> u64 {
        self.0.lock().unwrap().calls.get(&op).copied().unwrap_or(0)
    }

    /// How many calls were struck.
    pub fn struck(&self) -> u64 {
        self.0.lock().unwrap().struck
    }

    /// What happens to this call. Called once per call.
    pub fn strike(&self, op: Op, on: &str) -> Option<Fault> {
        let mut inner = self.0.lock().unwrap();
        *inner.calls.entry(op).or_insert(0) += 1;
        let mut found = None;
        for rule in inner.rules.iter_mut().filter(|r| r.op == op && on.contains(&r.on)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && found.is_none() {
                rule.times = rule.times.saturating_sub(u32::from(rule.times != u32::MAX));
                found = Some(rule.fault.clone());
            }
        }
        if found.is_none()
            && let Some(random) = &mut inner.random
            && random.left > 0
            && random.rng.u32(0..random.one_in) == 0
        {
            random.left -= 1;
            found = Some(any(&mut random.rng, op));
        }
        inner.struck += u64::from(found.is_some());
        found
    }

    /// A number below `n`, for faults that need one; the same for the same seed and calls.
    pub fn below(&self, n: usize) -> usize {
        match &mut self.0.lock().unwrap().random {
            Some(random) => random.rng.usize(0..n),
            None => n / 2,
        }
    }
}

/// A fault that can happen at this call, and that the call's contract allows.
fn any(rng: &mut fastrand::Rng, op: Op) -> Fault {
    const PASSING: [ErrorKind; 4] =
        [ErrorKind::Throttled, ErrorKind::Unreachable, ErrorKind::TimedOut, ErrorKind::Internal];
    let kind = PASSING[rng.usize(0..PASSING.len())];
    match (op, rng.u8(0..6)) {
        (Op::Read, 0) => Fault::Duplicate,
        (Op::Read | Op::Apply | Op::ItemWrite, 1) => Fault::Cut,
        (Op::Read, 2) => Fault::Refuse(ErrorKind::Expired),
        (Op::Stream | Op::Read, 3) => Fault::Reorder,
        (_, 0..=2) => Fault::FailAfter(kind),
        (_, 3) => Fault::Delay(rng.i64(1..2_000)),
        _ => Fault::Refuse(kind),
    }
}

#[tokio::test]
async fn rules_strike_in_order_and_are_counted() {
    let faults = Faults::default();
    let refuse = || Fault::Refuse(ErrorKind::Throttled);
    faults.put(Op::Read, "b", 1, 2, refuse());
    assert!(faults.strike(Op::Read, "a").is_none(), "another subject");
    assert!(faults.strike(Op::Page, "b").is_none(), "another call");
    let seen: Vec<bool> = (0..5).map(|_| faults.strike(Op::Read, "ab").is_some()).collect();
    assert_eq!(seen, [false, true, true, false, false]);
    let rule = faults.always(Op::Get, refuse());
    assert!(faults.strike(Op::Get, "").is_some());
    faults.lift(rule);
    assert!(faults.strike(Op::Get, "").is_none());
    assert_eq!((faults.calls(Op::Read), faults.struck()), (6, 3));

    let draw = || {
        let faults = Faults::default();
        faults.at_random(7, 3, 5);
        (0..60).map(|_| format!("{:?}", faults.strike(Op::Apply, ""))).collect::<Vec<_>>()
    };
    assert_eq!(draw(), draw(), "the same seed gives the same faults");
    assert_eq!(draw().iter().filter(|f| *f != "None").count(), 5, "and no more than asked for");
}
