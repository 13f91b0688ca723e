//! What the model knows: the run as the real `apply` folds it, and both sides as a few small numbers.

use std::collections::BTreeSet;

use cutover::domain::run::{Action, RunState, RunStatus, StepStatus, SwitchStatus};

/// Keys of the one table.
pub const KEYS: usize = 2;

/// What a key holds: nought is nothing, every other number is one write.
pub type Value = u8;

/// One record of the old side's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A key's new value; `ours` when the reverse flow wrote it.
    Change { key: u8, value: Value, ours: bool },
    /// A drain's marker.
    Marker,
}

/// Which side customers use: values of the two switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Switches {
    /// Writes are refused.
    pub frozen: bool,
    /// Writes go to the new side.
    pub new: bool,
}

/// What is left of the trouble that may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Customers' writes.
    pub writes: u8,
    /// Deaths of the process.
    pub crashes: u8,
    /// Steps and rollback actions that fail.
    pub failures: u8,
    /// Rollback orders by a person.
    pub orders: u8,
}

/// A set of a switch that is on the wire while the step that sent it is gone.
pub type OnTheWire = Option<(u8, bool)>;

/// Everything outside the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Data {
    pub old: [Value; KEYS],
    pub new: [Value; KEYS],
    /// The last acknowledged write of each key.
    pub acked: [Value; KEYS],
    /// Keys customers wrote on the old side after the decision: newer than any row of the outbox.
    pub newer: [bool; KEYS],
    pub last_write: Value,
    pub stream: Option<Vec<Record>>,
    /// In the target: how far the stream is applied, once a start is recorded.
    pub applied: Option<u8>,
    /// In the target: keys the load has written.
    pub loaded: u8,
    /// In the target: customers' writes are recorded by a trigger, and not applied to the old side yet.
    pub trigger: bool,
    pub outbox: Vec<(u8, Value)>,
    pub switches: Switches,
    /// What the application last read of the switches.
    pub seen: Switches,
    pub on_the_wire: OnTheWire,
    pub budget: Budget,
    /// In memory of the process: gone when it dies.
    pub memory: Memory,
}

/// What only the process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    pub alive: bool,
    /// A key the load has read and not written.
    pub scanned: Option<(u8, Value)>,
    /// The load has ended, so changes are applied.
    pub following: bool,
    /// Records read and not applied: from, to.
    pub batch: Option<(u8, u8)>,
    /// The row of the outbox that is being applied: written on the old side and not yet removed.
    pub carried: Option<(u8, Value)>,
    pub job: Option<Job>,
    pub undo: Option<RollbackJob>,
}

/// A step at work: which, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub step: String,
    pub attempt: u32,
    pub at: u8,
}

/// A rollback at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RollbackJob {
    /// Switches left to restore in this pass.
    pub left: Vec<String>,
    /// Those of the first pass, for the second pass.
    pub first: Vec<String>,
    pub at: u8,
    pub second: bool,
}

/// One state of the model.
#[derive(Clone, Debug)]
pub struct State {
    pub run: RunState,
    pub data: Data,
    /// An effect on a switch happened without an open intent on disk.
    pub bare_effect: bool,
}

/// What distinguishes states: everything later behaviour depends on, and nothing that only grows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    status: u8,
    steps: Vec<(u8, bool)>,
    switches: Vec<(u8, bool)>,
    decided: bool,
    open: BTreeSet<String>,
    data: Data,
    bare_effect: bool,
}

impl State {
    /// The state's shape.
    pub fn shape(&self) -> Shape {
        let mut data = self.data.clone();
        // An attempt's number only separates old reports from new ones; there is one job at a time here.
        if let Some(job) = &mut data.memory.job {
            job.attempt = 0;
        }
        let about = |a: &Action| match a {
            Action::SetSwitch { switch, .. } => format!("set {switch}"),
            Action::RestoreSwitch { switch, .. } => format!("restore {switch}"),
            other => format!("{other:?}"),
        };
        Shape {
            status: self.run.status as u8,
            steps: self.run.steps.iter().map(|s| (s.status as u8, s.attempts > 0)).collect(),
            switches: self.run.switches.values().map(|s| (s.standing as u8, s.captured)).collect(),
            decided: self.run.decided.is_some(),
            open: self.run.open_intents.values().map(about).collect(),
            data,
            bare_effect: self.bare_effect,
        }
    }

    /// Whether a step is done.
    pub fn done(&self, step: &str) -> bool {
        self.run.step(step).is_some_and(|s| s.status == StepStatus::Done)
    }

    /// An end nothing needs to follow: finished on the new side, or rolled back with everything applied.
    pub fn settled(&self) -> bool {
        let at_rest = self.data.on_the_wire.is_none();
        match self.run.status {
            RunStatus::Finished => at_rest && self.data.seen == Switches { frozen: false, new: true },
            RunStatus::RolledBack => at_rest && self.data.outbox.is_empty() && self.data.seen == Switches::default(),
            _ => false,
        }
    }

    /// What is wrong with this state, if anything.
    pub fn wrong(&self) -> Option<String> {
        let d = &self.data;
        if self.bare_effect {
            return Some("a switch was changed without an intent on disk".into());
        }
        for key in 0..KEYS {
            // Customers read where they write; what was acknowledged to them must be there or on its way there.
            let holds = if d.seen.new {
                d.new[key]
            } else {
                let on_its_way = d.memory.carried.iter().chain(&d.outbox);
                let carried = on_its_way.rev().find(|(k, _)| usize::from(*k) == key).map(|(_, v)| *v);
                carried.filter(|_| !d.newer[key]).unwrap_or(d.old[key])
            };
            if !d.seen.frozen && holds != d.acked[key] {
                let side = if d.seen.new { "new" } else { "old" };
                return Some(format!("key {key} holds {holds} on the {side} side, {} was acknowledged", d.acked[key]));
            }
        }
        if self.run.status == RunStatus::RolledBack {
            let standing =
                self.run.switches.values().any(|s| matches!(s.standing, SwitchStatus::New | SwitchStatus::Unknown));
            if standing {
                return Some("rolled back, and a switch does not stand restored".into());
            }
            if d.on_the_wire.is_none() && d.switches != Switches::default() {
                return Some("rolled back, and a switch holds its new value".into());
            }
        }
        None
    }
}
