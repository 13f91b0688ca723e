//! Payments between two servers and between DynamoDB tables, in one run that is killed and taken up, or taken back.
//!
//! `CUTOVER_TEST_MATRIX=all tests/run.sh matrix_of_payments -- --nocapture` dies at every fact of such a day; without
//! the variable at a few that stand for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cutover::domain::run::{Event, RunState, RunStatus};
use cutover::engine::failpoint;
use cutover::journal::{RunFolder, fold, read_run};
use cutover::rehearsal::clients::session;
use cutover::rehearsal::oracle::Side;
use cutover::rehearsal::payments::{LIMITS, MODE, OLD_PASSWORD, PASSWORD, PaymentSizes, SESSIONS};
use cutover::rehearsal::shop::Rates;
use cutover::rehearsal::short_plan::{self, Last, ShortPlan, shortened_plan};
use cutover::rehearsal::{Amounts, Scenario, Servers, World, WorldOptions};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::matrix::{MatrixTotals, all};

const SIZES: PaymentSizes = PaymentSizes { accounts: 80, payments: 200, sessions: 80, limits: 60 };

/// Both servers, for all tests of this process. A day drops what earlier ones left there, so one test has them at a time.
fn servers() -> (&'static Servers, MutexGuard<'static, ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    (started(), one)
}

/// The servers, for whoever has a day on them.
pub(super) fn started() -> &'static Servers {
    // Never dropped: their guardians stop them when this process ends, however it ends.
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    let start = || Servers::start(Amounts::V1ToV2(SIZES), |said| eprintln!("{said}")).unwrap();
    SERVERS.get_or_init(start)
}

/// A day under way. Dropping it stops the world and removes every file.
pub(super) struct PaymentDay {
    /// Always there until the drop.
    world: Option<World>,
    pub(super) runtime: Runtime,
    pub(super) dir: tempfile::TempDir,
    started: u32,
    _one: MutexGuard<'static, ()>,
    _slot: Slot,
}

impl PaymentDay {
    /// A world of its own, and a config up to this step.
    fn new(last: Last) -> Self {
        Self::with(last, |plan| plan)
    }

    /// The same, with the plan changed.
    pub(super) fn with(last: Last, change: impl Fn(String) -> String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let slot = Slot::take();
        let (servers, one) = servers();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::Builder::new().prefix("cutover-payments-").tempdir().unwrap();
        let name = format!("day_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let world = runtime.block_on(async {
            let fresh = servers.fresh(&name).await.unwrap();
            let rates = Rates { reads: 20.0, writes: 60.0 };
            World::start(WorldOptions { poll: Duration::from_millis(150), rates, ..fresh }).await.unwrap()
        });
        let mut vars = world.vars();
        vars.extend(servers.passwords(Some(dir.path())).unwrap());
        let plan = change(shortened_plan(Scenario::V1ToV2, ShortPlan { switched: 1, last, lenient: true }));
        fs::write(dir.path().join("config.toml"), filled(plan, &vars)).unwrap();
        Self { world: Some(world), runtime, dir, started: 0, _one: one, _slot: slot }
    }

    pub(super) fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    pub(super) fn start(&mut self, args: &[&str], failpoint: Option<&str>) -> Console {
        self.started += 1;
        let all = [&["--state-dir", "state"], args].concat();
        Console::start(self.dir.path(), &format!("{}-{}", self.started, args[0]), &all, failpoint)
    }

    /// Starts the migration, or resumes it. What it asks of people is answered beforehand.
    pub(super) fn run(&mut self, failpoint: Option<&str>) -> Console {
        let answers = short_plan::answers(&fs::read_to_string(self.dir.path().join("config.toml")).unwrap());
        let args = ["run", "--headless", "--yes", "-c", "config.toml"].into_iter();
        self.start(&args.chain(answers.iter().map(String::as_str)).collect::<Vec<_>>(), failpoint)
    }

    fn folder(&self) -> RunFolder {
        let mut all = RunFolder::list(&self.dir.path().join("state")).unwrap();
        assert_eq!(all.len(), 1, "one run was opened");
        all.remove(0)
    }

    pub(super) fn state(&self) -> RunState {
        fold(&read_run(&self.folder()).unwrap().facts).unwrap()
    }

    /// Fails unless this side serves everything and nothing was lost on any store; gives the verdict's words.
    fn expect_nothing_lost(&self, side: Side) -> String {
        let verdict = self.runtime.block_on(self.world().verdict()).unwrap();
        assert!(verdict.to_string().starts_with("0 lost: ") && verdict.clean(), "{verdict}");
        assert_eq!((verdict.in_charge, verdict.frozen), (side, false), "{verdict}");
        assert!(
            verdict.stores.iter().all(|store| store.found.checked > 100),
            "too little was held to account: {verdict}"
        );
        // It takes a reverse applier killed within one round trip; many would be an excuse.
        assert!(verdict.comparison.set_back <= 3, "{verdict}");
        assert!(verdict.comparison.untold <= 3 + verdict.comparison.checked / 100, "{verdict}");
        verdict.to_string()
    }

    pub(super) fn expect_finished(&self) {
        self.expect_nothing_lost(Side::New);
        let state = self.state();
        assert_eq!(state.status, RunStatus::Finished);
        assert!(state.open_intents.is_empty(), "intents without outcome: {:?}", state.open_intents);
        // What is said of a table is said of its kind of store.
        let facts = fs::read_to_string(self.folder().journal()).unwrap();
        let said = |text: &str| facts.contains(text);
        assert!(said(r#""name":"table session-table-v2-prod","value":"was there, key sessionId""#), "{facts}");
        assert!(said(r#""name":"table public.accounts","value":"created, 6 columns, key id""#), "{facts}");
    }

    /// Rolls back from another terminal, and fails unless all is as it was.
    pub(super) fn expect_rolled_back(&mut self, place: &str) -> String {
        // The last facts are durable together with the end; such a run has to be asked for by that word.
        let finished = self.state().status == RunStatus::Finished;
        let order: &[&str] = if finished { &["rollback", "--finished", "--yes"] } else { &["rollback", "--yes"] };
        self.start(order, None).expect_code(3);
        assert_eq!(self.state().status, RunStatus::RolledBack, "{place}");
        let names = [PASSWORD, SESSIONS, LIMITS, MODE];
        let ssm = aws_sdk_ssm::Client::new(&session(&self.world().vars()["CONTROL_ENDPOINT"], 3));
        let read = ssm.get_parameters().set_names(Some(names.map(str::to_owned).to_vec())).send();
        let found = self.runtime.block_on(read).unwrap();
        let found: BTreeMap<&str, &str> =
            found.parameters().iter().filter_map(|p| Some((p.name()?, p.value()?))).collect();
        let old = [OLD_PASSWORD, "session-table-prod", "limit-table-prod", "open"];
        assert_eq!(found, names.into_iter().zip(old).collect(), "{place}");
        self.expect_nothing_lost(Side::Old)
    }
}

impl Drop for PaymentDay {
    fn drop(&mut self) {
        if let Some(world) = self.world.take() {
            self.runtime.block_on(world.stop());
        }
    }
}

/// The plan with its variables filled in. A port is a number: once it is no variable any more, it stands without quotes.
fn filled(plan: String, vars: &BTreeMap<String, String>) -> String {
    vars.iter().fold(plan, |text, (name, value)| {
        let text = if name.ends_with("_PORT") { text.replace(&format!("\"${{{name}}}\""), value) } else { text };
        text.replace(&format!("${{{name}}}"), value)
    })
}

/// Places of a day that goes well, in order.
fn places() -> Vec<String> {
    let mut day = PaymentDay::new(Last::Thaw);
    day.run(None).expect_code(0);
    let mut seen = BTreeSet::new();
    let facts = read_run(&day.folder()).unwrap().facts;
    let facts = facts.iter().map(|f| &f.event);
    let named = facts.filter(|e| !matches!(e, Event::Note { .. } | Event::RunFinished | Event::GateBroken { .. }));
    // An attempt's number is left open: after a kill it is another one.
    let open = |name: String| match name.rsplit_once('/') {
        Some((rest, attempt)) if attempt.parse::<u32>().is_ok() => format!("{rest}/*"),
        _ => name,
    };
    named.map(|e| open(failpoint::name(e))).filter(|name| seen.insert(name.clone())).collect()
}

#[test]
fn matrix_of_payments_a_day_that_dies_at_facts_of_both_kinds_of_store_finishes() {
    let few = ["table_loaded:limits", "outcome:switch/session-table/*", "intent:thaw/writes-mode/*"];
    let places = if all() { places() } else { few.map(str::to_owned).to_vec() };
    let mut day = PaymentDay::new(Last::Thaw);
    let mut deaths = 0;
    for place in &places {
        let status = day.run(Some(place)).wait();
        let died = status.code().is_none();
        assert!(died || status.success(), "{place}: it ended with {status}");
        deaths += usize::from(died);
        if died && day.state().status != RunStatus::Finished {
            continue;
        }
        // Not every fact comes again after a restart: this day went on to its end, and the next one goes on dying.
        day.expect_finished();
        drop(day);
        day = PaymentDay::new(Last::Thaw);
    }
    if day.dir.path().join("state").exists() {
        day.run(None).expect_code(0);
        day.expect_finished();
    }
    assert!(deaths * 2 > places.len(), "died {deaths} times at {} places", places.len());
    MatrixTotals::went_well(deaths).row("payments: killed after one fact after the other, finished");
}

#[test]
fn matrix_of_payments_they_come_back_though_the_console_and_the_rollback_are_killed() {
    let mut day = PaymentDay::new(Last::BurnIn(3_600));
    let mut console = day.run(None);
    let oracle = day.world().shop().oracle().clone();
    console.until("customers on the new side", || oracle.tally().new > 150);
    console.signal(Signal::KILL);
    console.expect_killed();
    // Once switches were put back, and before the record says so of all.
    day.start(&["rollback", "--yes"], Some("outcome:undo/*")).expect_killed();
    let said = day.expect_rolled_back("a rollback");
    assert!(said.contains("0 wrong on the side that serves no more: PostgreSQL v2 "), "{said}");
}

#[test]
fn matrix_of_payments_a_day_that_dies_anywhere_is_taken_back() {
    let mut tally = MatrixTotals::default();
    let few = vec!["step_done:switch".to_owned()];
    for place in if all() { places() } else { few } {
        tally.hold(&place.clone(), || {
            let mut day = PaymentDay::new(Last::Thaw);
            day.run(Some(&place)).expect_killed();
            day.expect_rolled_back(&place);
        });
    }
    tally.row("payments: killed after a fact, rolled back");
}
