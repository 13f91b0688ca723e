//! The plan: immutable data, compiled from `config.toml`, linted and hashed before it may run.
//! Nothing is chosen at execution time.

mod arn;
mod definition;
mod dial;
mod differences;
mod gate;
mod hash;
mod iam_policy;
mod job;
mod mover;
mod moves;
mod one_or_more;
mod path;
mod probe;
mod shell;
mod step;
mod store;
mod switch;
mod switching;
mod table;
mod type_name;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use arn::Arn;
pub use definition::{
    AttributeDefinition, BillingMode, Definition, Encryption, Index, KeyElement, OnDemandThroughput,
    PointInTimeRecovery, Projection, ProvisionedThroughput, Tag, TimeToLive,
};
pub use dial::{Dial, Position, Serves};
pub use differences::DefinitionDifference;
pub use gate::{Criterion, FromBaseline, Gate, OnFail, Op};
pub use iam_policy::{BOOKKEEPING, IamPolicy, iam_policies};
pub use job::{Job, JobKind, Purpose, Resource};
pub use mover::{MoverKind, MoverOf};
pub use moves::{AfterLoad, Fires, Listed, ListedTable, Listing, Move, fits, listed_name};
pub use path::{path_of, path_text, quoted};
pub use probe::{Metric, Probe, Side, Signal, SignalSource};
pub use shell::shell_word;
pub use step::{Confirm, Start, Step, StepKind, StepName};
pub use store::{CONTROL, NEW, OLD, Store, StoreKind, Stores, control_called, other_control, store_changes};
pub use switch::{Freeze, Switch, SwitchKind, ValueRef};
pub use switching::{Moves, Switching};
pub use table::{
    Between, ChildTable, Column, ColumnSource, ColumnType, Declared, Fallback, ForeignKey, StaysTable, Table, Unit,
};
pub use type_name::{SaidKind, TypeName};

use super::at::At;

/// A whole migration day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Short name, used in run folders and as the default typed word: `cloudshelf`.
    pub name: String,
    /// What the environment is called on screen: `production`.
    pub environment: String,
    /// Whether mistakes here hurt customers; drawn `[PROD]` and asks for typed words.
    pub production: bool,
    /// T-0, the planned moment of the freeze. Absent: T-0 is set so that the first step starts at once.
    pub t0: Option<At>,
    /// Longest write interruption that still counts as success, in milliseconds (FEATURES D5).
    pub downtime_budget_ms: i64,
    /// Tables that move.
    pub tables: Vec<Table>,
    /// Rules by which tables of whole stores move. The tables they gave stand among `tables`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Tables that are watched and never moved (FEATURES A8).
    pub stays: Vec<StaysTable>,
    /// Everything that can be switched, the freeze parameter included.
    pub switches: Vec<Switch>,
    /// How writes are frozen and thawed (FEATURES C5).
    pub freeze: Option<Freeze>,
    /// HTTP probes (FEATURES D2).
    pub probes: Vec<Probe>,
    /// Watched numbers with limits (FEATURES D1, B8).
    pub signals: Vec<Signal>,
    /// Conditions that must hold (FEATURES E3).
    pub gates: Vec<Gate>,
    /// The runbook, in order (FEATURES E1).
    pub steps: Vec<Step>,
    /// How the bulk load runs.
    pub load: Load,
    /// How changes are followed.
    pub follow: Follow,
    /// How both sides are compared.
    pub verify: Verify,
    /// How writes of the new side are applied to the old side.
    #[serde(default)]
    pub reverse: Reverse,
    /// Which stores and which control plane this is for, by name. Part of the hash: a run is never resumed on others.
    /// Empty in plans that were saved before stores were part of them.
    #[serde(default, skip_serializing_if = "Stores::is_empty")]
    pub stores: Stores,
    /// Switches with several positions. Their places stand among `switches`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dials: Vec<Dial>,
    /// Work that somebody else does and steps begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
}

impl Plan {
    /// What kind of store this is. Plans that were saved before stores were part of them have one old side and one new
    /// side; a store that the plan does not name is taken for one of these, so that the lint can say so.
    #[must_use]
    pub fn kind(&self, store: &str) -> StoreKind {
        match self.stores.get(store) {
            Some(store) => store.kind,
            None if store == NEW => StoreKind::Postgresql,
            None => StoreKind::Dynamodb,
        }
    }

    /// Whether two names may mean one store of AWS: nothing that is known tells them apart. Profiles do not, because two of
    /// them may sign for one account.
    #[must_use]
    pub fn may_be_one(&self, one: &str, other: &str) -> bool {
        one == other
            || self.stores.get(one).zip(self.stores.get(other)).is_some_and(|(one, other)| one.may_be_tables_of(other))
    }

    /// Whether two names mean one table of a store: DynamoDB takes a table's ARN where it takes its name.
    #[must_use]
    pub fn is_one_table(&self, store: &str, one: &str, other: &str) -> bool {
        if one == other {
            return true;
        }
        let (arn, name) = match (Arn::of(one), Arn::of(other)) {
            (Some(arn), None) => (arn, other),
            (None, Some(arn)) => (arn, one),
            _ => return false,
        };
        let may_be = |known: Option<&String>, said: &str| known.is_none_or(|known| known == said);
        let at = self.stores.get(store);
        self.kind(store) == StoreKind::Dynamodb
            && arn.table == name
            && may_be(at.and_then(|s| s.region.as_ref()), arn.region)
            && may_be(at.and_then(|s| s.account.as_ref()), arn.account)
    }

    /// The stores that tables come from, by name.
    #[must_use]
    pub fn stores_of_tables(&self) -> BTreeSet<&str> {
        self.tables.iter().map(|table| table.from.as_str()).collect()
    }

    /// Those of them whose server keeps its log until we have read it, by name.
    #[must_use]
    pub fn stores_that_retain_log(&self) -> BTreeSet<&str> {
        self.stores_of_tables().into_iter().filter(|store| self.kind(store).keeps_ms().is_none()).collect()
    }

    /// How long changes of a table are kept at its source at least, in milliseconds; `None` for as long as it takes.
    #[must_use]
    pub fn keeps_ms(&self, table: &str) -> Option<i64> {
        self.tables.iter().find(|t| t.id == table).and_then(|t| self.kind(&t.from).keeps_ms())
    }

    /// The stores that tables come from, each with its tables' ids in order.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (store, id) in
            self.tables.iter().map(|t| (&t.from, &t.id)).chain(self.stays.iter().map(|t| (&t.from, &t.id)))
        {
            sources.entry(store).or_default().push(id);
        }
        sources
    }

    /// What distinguishes this plan from others that keep their progress in the same database: `cloudshelf/production`.
    /// A plan
    /// that is renamed is another one.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.name, self.environment)
    }
}

/// Bulk load settings (FEATURES A1, A12).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Segments a table's scan is split into; absent means by its size, see [`Load::segments_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// Segments read at the same time; `+` and `-` change it while running.
    pub workers: u32,
    /// Read capacity units a second over all workers; absent means unlimited.
    pub read_budget_rcu: Option<f64>,
    /// Write capacity units a second that the load may take of all DynamoDB targets together; absent means unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_budget_wcu: Option<f64>,
    /// Whether secondary indexes of empty tables are built after the rows are in: always, never, or (absent) only
    /// for tables this program created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defer_indexes: Option<bool>,
    /// Sequences of the target, with their schema, that somebody advances by hand before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences_by_hand: Vec<String>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            segments: None,
            workers: 4,
            read_budget_rcu: None,
            write_budget_wcu: None,
            defer_indexes: None,
            sequences_by_hand: Vec::new(),
        }
    }
}

impl Load {
    /// Segments for a table of so many bytes: one for each 128 MB, so that none is long enough to be waited for alone
    /// at the end; at least two a worker, so that there is work for more; at most 256, for each is a request or more.
    #[must_use]
    pub fn segments_of(&self, bytes: Option<u64>) -> u32 {
        const EACH: u64 = 128 * 1024 * 1024;
        let least = self.workers.saturating_mul(2).clamp(8, 256);
        let by_size = u32::try_from(bytes.unwrap_or(0).div_ceil(EACH)).unwrap_or(u32::MAX).clamp(least, 256);
        self.segments.unwrap_or(by_size).max(1)
    }
}

/// Change-following settings (FEATURES A2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Follow {
    /// Pause between two reads of an idle shard, in milliseconds.
    pub poll_ms: u64,
    /// Most changes applied in one transaction.
    pub batch: u32,
    /// Lanes a table's changes are split into by key when there are many.
    #[serde(default = "Follow::lanes")]
    pub lanes: u32,
    /// How often a marker is sent through each table's stream to measure the round trip, in milliseconds.
    pub marker_every_ms: u64,
}

impl Follow {
    /// Lanes of a plan that names none.
    #[must_use]
    pub const fn lanes() -> u32 {
        4
    }
}

/// Comparison settings (FEATURES B3, B4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verify {
    /// Share of rows that must match, 0..=1; the default is 0.999.
    pub floor: f64,
    /// How long a difference must stand before it counts, in milliseconds.
    pub settle_ms: u64,
    /// Segments each side is read in.
    pub segments: u32,
    /// Most differing keys that are listed.
    pub list_limit: u32,
    /// Whether tables are compared over and over while changes are followed.
    #[serde(default)]
    pub continuous: bool,
    /// Pause between two passes over all tables, in milliseconds.
    #[serde(default = "Verify::every")]
    pub every_ms: u64,
    /// A clean pass older than this proves nothing any more, in milliseconds.
    #[serde(default = "Verify::stale")]
    pub stale_ms: i64,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            floor: 0.999,
            settle_ms: 5_000,
            segments: 8,
            list_limit: 100,
            continuous: false,
            every_ms: Self::every(),
            stale_ms: Self::stale(),
        }
    }
}

impl Verify {
    const fn every() -> u64 {
        600_000
    }

    const fn stale() -> i64 {
        4 * 3_600_000
    }
}

/// How writes of the new side are applied to the old one (FEATURES C8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reverse {
    /// Whether they are.
    pub enabled: bool,
    /// Pause between two reads of an empty outbox, in milliseconds.
    pub poll_ms: u64,
    /// Most records taken at a time.
    pub batch: u32,
    /// How long nothing may arrive on the new side before a rollback counts as drained, in milliseconds.
    pub settle_ms: u64,
    /// How long a rollback goes on without what waits growing less, in milliseconds; then it says what is left.
    pub patience_ms: u64,
}

impl Default for Reverse {
    fn default() -> Self {
        Self { enabled: true, poll_ms: 250, batch: 200, settle_ms: 3_000, patience_ms: 120_000 }
    }
}

impl Plan {
    /// The step with this id.
    #[must_use]
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|s| s.id == id)
    }

    /// Position of the step with this id.
    #[must_use]
    pub fn step_index(&self, id: &str) -> Option<usize> {
        self.steps.iter().position(|s| s.id == id)
    }

    /// The switch with this id.
    #[must_use]
    pub fn switch(&self, id: &str) -> Option<&Switch> {
        self.switches.iter().find(|s| s.id == id)
    }

    /// Whether this switch freezes writes.
    #[must_use]
    pub fn freezes(&self, switch: &str) -> bool {
        self.freeze.as_ref().is_some_and(|freeze| freeze.sets(switch))
    }

    /// The switches that freeze writes, in the order of the plan's freeze.
    pub fn freeze_switches(&self) -> impl Iterator<Item = &Switch> {
        self.freeze.iter().flat_map(|freeze| &freeze.switches).filter_map(|id| self.switch(id))
    }

    /// The probes that prove the freeze and the thaw.
    pub fn freeze_probes(&self) -> impl Iterator<Item = &Probe> {
        self.freeze.iter().flat_map(|freeze| &freeze.probes).filter_map(|id| self.probe(id))
    }

    /// The gate with this id.
    #[must_use]
    pub fn gate(&self, id: &str) -> Option<&Gate> {
        self.gates.iter().find(|g| g.id == id)
    }

    /// The probe with this id.
    #[must_use]
    pub fn probe(&self, id: &str) -> Option<&Probe> {
        self.probes.iter().find(|p| p.id == id)
    }

    /// The job with this id.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// The moving table with this id.
    #[must_use]
    pub fn table(&self, id: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.id == id)
    }
}
