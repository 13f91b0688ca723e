//! A world in memory that keeps the ports' real contracts, with a fault possible at every call.

mod clock;
mod items;
mod jobs;
mod journal;
mod new;
mod old;
mod outbox;
mod reader;
mod switches;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use clock::HandClock;
pub use jobs::FakeJobs;
pub use journal::{Entry, FakeJournal};
pub use new::{NewStore, Stored};
pub use old::{OldStore, row_record};
pub use switches::{FakeSwitches, under_key};
pub use writer::FakeTarget;

use super::faults::Faults;
use super::faulty::{
    FaultyChanges, FaultyFacts, FaultyJobs, FaultyProbes, FaultySource, FaultySwitches, FaultyTarget, Trouble,
};
use super::faulty_back::{FaultyItems, FaultyOutbox};
use super::plan::plan;
use crate::domain::mapping::{Mapped, TableMapping};
use crate::domain::plan::{OLD, Plan, Table};
use crate::domain::run::{
    Actor, Cause, Event, Evidence, RollbackPlan, RunState, StepError, rollback_plan, rollback_plan_in_doubt,
};
use crate::domain::value::{Cell, OwnedRow, Record, Value};
use crate::ports::{ByStore, ReversePorts};
use crate::workers::rollback::{Rollback, RollbackReport};
use crate::workers::{CapturedValues, Ports, WorkerContext};

/// Longest a test waits for something that must come.
const AT_MOST: Duration = Duration::from_secs(300);

/// Both sides, the switches, the journal, the clock and the faults.
/// Where a stage variable stands.
pub const STAGE: &str = "api1/prod:reads";

/// Where writes of a second region are frozen.
pub const MODE_EU: &str = "eu:/mode-eu";

pub struct World {
    pub plan: Arc<Plan>,
    pub clock: Arc<HandClock>,
    pub old: OldStore,
    pub new: NewStore,
    pub switches: FakeSwitches,
    pub jobs: FakeJobs,
    pub journal: FakeJournal,
    pub faults: Faults,
}

impl World {
    /// The test plan's world, empty.
    pub fn new() -> Self {
        Self::with(plan())
    }

    /// A world for this plan, empty, with a run open.
    pub fn with(plan: Plan) -> Self {
        let clock = Arc::new(HandClock::default());
        let journal = FakeJournal::default();
        journal.open(&plan);
        let first = [
            ("/mode", "open"),
            ("/reads", "old"),
            ("/writes", "old"),
            ("/elsewhere", "new"),
            (STAGE, "old"),
            ("/share", "0"),
            ("/share-text", "none"),
            (MODE_EU, "open"),
        ];
        Self {
            old: OldStore::new(&plan.tables, Arc::clone(&clock)),
            new: NewStore::new(&plan.tables, Arc::clone(&clock)),
            switches: FakeSwitches::new(&first, journal.clone()),
            jobs: FakeJobs::default(),
            faults: Faults::default(),
            plan: Arc::new(plan),
            clock,
            journal,
        }
    }

    /// With one book, in a process that has performed every step up to this one.
    pub async fn up_to(self, last: &str) -> (Self, Arc<WorkerContext>) {
        self.book("b1", "1.00");
        let ctx = self.ctx().await;
        let steps: Vec<&str> = self.plan.steps.iter().map(|s| s.id.as_str()).collect();
        let end = steps.iter().position(|s| *s == last).expect("a step of the plan");
        self.well(&ctx, &steps[..=end]).await;
        (self, ctx)
    }

    /// The table with this id.
    pub fn table(&self, id: &str) -> &Table {
        self.plan.table(id).expect("a table of the plan")
    }

    fn trouble(&self) -> Trouble {
        Trouble { faults: self.faults.clone(), clock: Arc::clone(&self.clock) }
    }

    /// The ports, each behind its faults.
    pub fn ports(&self) -> Ports {
        let t = || self.trouble();
        let switches = Arc::new(FaultySwitches(Arc::new(self.switches.clone()), t()));
        Ports {
            sources: ByStore::default().with(OLD, Arc::new(FaultySource(Arc::new(self.old.clone()), t()))),
            changes: ByStore::default()
                .with(OLD, Arc::new(FaultyChanges(Arc::new(self.old.clone()), self.old.clone(), t()))),
            movers: ByStore::default(),
            target: Arc::new(FaultyTarget(Arc::new(FakeTarget::new(self.new.clone())), self.new.clone(), t())),
            switches,
            probes: Arc::new(FaultyProbes(Arc::new(self.switches.clone()), t())),
            jobs: Arc::new(FaultyJobs(Arc::new(self.jobs.clone()), t())),
            reverse: Some(self.reverse()),
            identity: None,
            metrics: None,
            clock: Arc::<HandClock>::clone(&self.clock),
        }
    }

    /// Both ends of the reverse flow, each behind its faults.
    pub fn reverse(&self) -> ReversePorts {
        ReversePorts {
            outbox: Arc::new(FaultyOutbox(Arc::new(self.new.clone()), self.trouble())),
            items: ByStore::default().with(OLD, Arc::new(FaultyItems(Arc::new(self.old.clone()), self.trouble()))),
        }
    }

    /// The same world for a run that knows nothing of this one.
    pub fn next_run(&self) -> Self {
        let journal = FakeJournal::default();
        journal.open(&self.plan);
        Self {
            plan: Arc::clone(&self.plan),
            clock: Arc::clone(&self.clock),
            old: self.old.clone(),
            new: self.new.clone(),
            switches: self.switches.clone(),
            jobs: self.jobs.clone(),
            journal,
            faults: Faults::default(),
        }
    }

    /// A process: workers at rest, with the state the journal gives.
    pub async fn ctx(&self) -> Arc<WorkerContext> {
        let facts = Arc::new(FaultyFacts(Arc::new(self.journal.clone()), self.trouble()));
        let ctx = WorkerContext::new(Arc::clone(&self.plan), self.ports(), facts);
        ctx.recapture(&self.journal.state()).await;
        ctx
    }

    /// Performs a step as the engine does: the fact that it starts, the work, the fact that it ended.
    pub async fn perform(&self, ctx: &Arc<WorkerContext>, id: &str) -> Result<Vec<Evidence>, StepError> {
        let attempt = self.journal.start(id);
        let step = self.plan.step(id).expect("a step of the plan").clone();
        let state = self.journal.state();
        let result = ctx.perform(&step, attempt, &state).await;
        self.journal.end(id, &result);
        result
    }

    /// Performs steps that must go well.
    pub async fn well(&self, ctx: &Arc<WorkerContext>, ids: &[&str]) {
        for id in ids {
            let result = self.perform(ctx, id).await;
            assert!(result.is_ok(), "{id}: {result:?}");
        }
    }

    /// The process dies: whatever it was doing ends where it stands, and another one resumes the run.
    pub async fn restart(&self, ctx: Arc<WorkerContext>) -> Arc<WorkerContext> {
        ctx.stop().await;
        drop(ctx);
        self.journal.fact(Event::RunResumed { operator: "bob".into(), host: "bastion-2".into() }).unwrap();
        self.ctx().await
    }

    /// Rolls back as another process would, with nothing in memory.
    pub async fn roll_back(&self, captured: &CapturedValues) -> RollbackReport {
        let ordered = Event::RollbackOrdered { by: Actor::Operator("alice".into()), cause: Cause::Asked };
        self.journal.fact(ordered).unwrap();
        self.roll_back_from(captured, &self.journal.state()).await
    }

    /// The same where the record is damaged.
    pub async fn roll_back_in_doubt(&self, captured: &CapturedValues) -> RollbackReport {
        let ordered = Event::RollbackOrdered { by: Actor::Operator("alice".into()), cause: Cause::Asked };
        self.journal.fact(ordered).unwrap();
        let state = self.journal.state();
        self.rolled_back(captured, &state, &rollback_plan_in_doubt(&self.plan, &state)).await
    }

    /// Rolls back from this state.
    pub async fn roll_back_from(&self, captured: &CapturedValues, state: &RunState) -> RollbackReport {
        self.rolled_back(captured, state, &rollback_plan(&self.plan, state)).await
    }

    async fn rolled_back(&self, captured: &CapturedValues, state: &RunState, way: &RollbackPlan) -> RollbackReport {
        let ports = self.ports();
        let undo = Rollback {
            plan: &self.plan,
            switches: &*ports.switches,
            probes: &*ports.probes,
            clock: Arc::<HandClock>::clone(&self.clock),
            captured,
            facts: &self.journal,
            pass: state.last_seq.to_string(),
            run: &state.run,
            jobs: &*ports.jobs,
            tell: &|_, _| {},
        };
        undo.go(way).await.whole()
    }

    /// Puts a book.
    pub fn book(&self, id: &str, price: &str) {
        self.book_of(id, price, None, None);
    }

    /// Puts a book with an isbn and an author.
    pub fn book_of(&self, id: &str, price: &str, isbn: Option<&str>, author: Option<&str>) {
        self.old.put(self.table("books"), book_item(id, price, isbn, author));
    }

    /// A customer of the new side puts a book; gives its row.
    pub fn customer_puts(&self, id: &str, price: &str) -> OwnedRow {
        let row = self.row_of(id, price, None);
        self.new.foreign_put(self.table("books"), row.clone());
        row
    }

    /// A book's row.
    pub fn row_of(&self, id: &str, price: &str, author: Option<&str>) -> OwnedRow {
        let mut mapped = Mapped::default();
        let (mapping, item) = (TableMapping::new(self.table("books")), book_item(id, price, None, author));
        mapping.map(&item, &mut mapped).expect("a book that fits");
        mapped.row.into_iter().map(Cell::into_owned).collect()
    }

    /// Puts an author.
    pub fn author(&self, id: &str) {
        let text = |v: &str| Value::Text(v.to_owned().into());
        let fields = vec![("id".into(), text(id)), ("name".into(), text("somebody"))];
        self.old.put(self.table("authors"), Record { fields });
    }

    /// What the target ought to hold of a table, mapped by the plan; items that do not fit are left out.
    pub fn wanted(&self, id: &str) -> BTreeMap<String, OwnedRow> {
        let table = self.table(id);
        let mapping = TableMapping::new(table);
        let mut rows = BTreeMap::new();
        for (key, item) in self.old.items(table) {
            let mut mapped = Mapped::default();
            if mapping.marker(&item).is_none() && mapping.map(&item, &mut mapped).is_ok() {
                rows.insert(key, mapped.row.into_iter().map(Cell::into_owned).collect());
            }
        }
        rows
    }

    /// Keys on which both sides differ, parked ones left out.
    pub fn differing(&self, id: &str) -> Vec<String> {
        let (wanted, stored) = (self.wanted(id), self.new.table(self.table(id)));
        let keys: std::collections::BTreeSet<&String> = wanted.keys().chain(stored.rows.keys()).collect();
        let differs = |k: &String| wanted.get(k) != stored.rows.get(k);
        let parked = |k: &String| stored.parked.contains_key(k) && !stored.rows.contains_key(k);
        keys.into_iter().filter(|k| differs(k) && !parked(k)).cloned().collect()
    }

    /// Waits until both sides are equal and nothing is parked.
    pub async fn converged(&self, id: &str) {
        until("both sides to be equal", || {
            self.differing(id).is_empty() && self.new.table(self.table(id)).parked.is_empty()
        })
        .await;
    }
}

pub(super) fn book_item(id: &str, price: &str, isbn: Option<&str>, author: Option<&str>) -> Record<'static> {
    let text = |v: &str| Value::Text(v.to_owned().into());
    let mut fields = vec![("id".into(), text(id)), ("price".into(), Value::Decimal(price.to_owned().into()))];
    fields.extend(isbn.map(|v| ("isbn".into(), text(v))));
    fields.extend(author.map(|v| ("author".into(), text(v))));
    Record { fields }
}

/// Waits for a condition. Panics when it does not come.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < AT_MOST, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
