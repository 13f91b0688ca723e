//! `cutover rollback`: from any terminal, whether the console lives, hangs or is gone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::drive::{print, say};
use super::exit::Exit;
use super::failure::Failure;
use super::look::NEVER_BEGAN;
use super::meant::meant;
use super::run::saved;
use super::world::{self, Seat};
use crate::config::Config;
use crate::domain::gauge::Measured;
use crate::domain::plan::Plan;
use crate::domain::run::{Actor, Cause, Event, Fact, RunState, RunStatus, apply, way_back, way_back_in_doubt};
use crate::engine::MachineClock;
use crate::engine::socket::{Answer, Ask, ask};
use crate::engine::undo::{ReverseSeat, drained};
use crate::journal::{
    Header, Holder, JournalError, JournalWriter, RunFolder, fold, fold_believable, read_run, salvage_run,
};
use crate::ports::Clock;
use crate::report::offline;
use crate::snapshot::{Context, Mode, build};
use crate::workers::Captured;
use crate::workers::reverse::{Drained, possible, uncarried};
use crate::workers::undo::{Undo, UndoTell};

/// How long a live console has to take the order before this terminal acts by itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a live console may tell nothing before this terminal acts by itself.
const FINISH: Duration = Duration::from_secs(30);

/// How long a console that hung is kept from going forward.
const FENCE_MS: i64 = 120_000;

/// What there is to say of a rehearsal that is over.
const ENDED_WORLD: &str =
    "this run was a rehearsal and its stores have ended with it: nothing stands anywhere that could be taken back\n";

/// `cutover rollback`.
///
/// A finished run is taken back only when it is asked for by that word: customers have been on the new side for good.
pub async fn rollback(run: Option<&str>, what_if: bool, finished: bool, state_dir: &Path) -> Result<Exit, Failure> {
    let flags = match (what_if, finished) {
        (true, true) => "--what-if --finished",
        (true, false) => "--what-if",
        (false, true) => "--finished",
        (false, false) => "",
    };
    let folder = meant(run, ("rollback", flags), state_dir)?;
    // A damaged journal is believed up to the damage: going back must stay possible.
    let (record, damage) = match read_run(&folder) {
        Ok(record) => (record, Vec::new()),
        Err(JournalError::NoHeader { .. }) if !folder.is_locked() && folder.side_journals()?.is_empty() => {
            print(&format!("run {} {NEVER_BEGAN}\n", folder.id()));
            return Ok(Exit::Finished);
        }
        Err(_) => salvage_run(&folder)?,
    };
    for d in &damage {
        say(&format!("warning: {d}; going by what stands before it"));
    }
    if record.facts.is_empty() && damage.is_empty() && !folder.is_locked() {
        print(&format!("run {} {NEVER_BEGAN}\n", folder.id()));
        return Ok(Exit::Finished);
    }
    let (state, illegal) = fold_believable(&record.facts);
    if let Some(e) = &illegal {
        say(&format!("warning: {e}; going by what stands before it"));
    }
    let damaged = illegal.is_some() || !damage.is_empty();
    let plan = read_plan(&folder)?;
    if ended_world(&folder).await {
        print(ENDED_WORLD);
        return Ok(Exit::Finished);
    }
    say(&format!("run {}, {} of plan {}", folder.id(), plan.environment, plan.name));
    if what_if {
        describe(&folder, &plan, &state, damaged).await;
        return Ok(Exit::Finished);
    }
    super::logging::into(&folder);
    if state.status == RunStatus::Finished && !finished {
        let (plan, id) = (&state.plan, folder.id());
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "run {id} of {plan} is finished: customers were left on the new side. To take it back all the same: \
                 `cutover rollback {id} --finished`, after a look at `cutover rollback {id} --what-if`"
            ),
        ));
    }
    if state.status == RunStatus::RolledBack {
        if way_back(&plan, &state).actions().next().is_none() {
            say("this run is rolled back already");
            return late(&folder, &plan, &state).await;
        }
        say("this run is rolled back, but a driver that had been overtaken moved switches since");
    }
    let seat = Seat::here();
    let order = Ask::RollBack { by: seat.name() };
    if let Some(Answer::Taken) = ask(&folder.socket(), &order, PATIENCE).await {
        say("the console took the order");
        if let Some(exit) = follow(&folder).await {
            return Ok(exit);
        }
        say("the console took the order but does not finish; going back from here");
    }
    by_hand(&folder, &plan, (state, damaged), &seat).await
}

/// Whether there may be writes of the new side to carry; `None` when nobody knows. A damaged record may have lost the
/// thaw, so then the target is asked whether it captures.
async fn may_carry(plan: &Plan, state: &RunState, damaged: bool, reverse: &ReverseSeat) -> Option<bool> {
    if possible(plan, state) || !damaged || !plan.reverse.enabled {
        return Some(possible(plan, state));
    }
    let asked = async {
        let ports = (reverse)().await.ok()?;
        let waits = uncarried(&ports, &plan.tables).await.ok()? > 0;
        Some(waits || ports.outbox.armed(&plan.tables).await.ok()?)
    };
    tokio::time::timeout(PATIENCE * 10, asked).await.ok().flatten()
}

/// Whether the run was a rehearsal whose world is gone: nothing listens any more where its parameters were kept.
async fn ended_world(folder: &RunFolder) -> bool {
    if !folder.is_rehearsal() {
        return false;
    }
    let Ok(config) = saved(folder) else { return false };
    let endpoint =
        config.connections.aws.and_then(|aws| aws.endpoints.ssm).and_then(|url| url.parse::<http::Uri>().ok());
    let Some(at) = endpoint.as_ref().and_then(http::Uri::authority) else { return false };
    let answer = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(at.as_str())).await;
    matches!(answer, Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// After a rollback: writes that reached the new side later are carried too.
async fn late(folder: &RunFolder, plan: &Plan, state: &RunState) -> Result<Exit, Failure> {
    // A run that ends at its target has no config any more, and a target that is gone has nothing to carry.
    let Ok(config) = saved(folder) else { return Ok(Exit::RolledBack) };
    if !possible(plan, state) {
        return Ok(Exit::RolledBack);
    }
    let undo = world::undo_seat(&config.connections)?().await;
    let waits = async {
        let ports = (undo.reverse)().await.ok()?;
        Some(uncarried(&ports, &plan.tables).await.ok()? > 0)
    };
    match tokio::time::timeout(PATIENCE * 10, waits).await.ok().flatten() {
        Some(false) => return Ok(Exit::RolledBack),
        Some(true) => {}
        None => {
            print(&format!(
                "the target does not answer: whether writes reached the new side since is not known; \
                 run `cutover rollback {}` again once it does\n",
                folder.id()
            ));
            return Ok(Exit::Stuck);
        }
    }
    say("writes reached the new side since; carrying them back");
    let seat = Seat::here();
    let lock = folder.lock(&Holder::me(&seat.operator, &seat.host)).ok();
    let machine = MachineClock::default();
    let journal = lock.as_ref().and_then(|_| JournalWriter::reopen(folder).ok());
    let (writer, state) = match journal {
        Some((writer, record)) => (Some(writer), fold(&record.facts).unwrap_or_else(|_| state.clone())),
        None => (None, state.clone()),
    };
    let teller = Teller { journal: Mutex::new((writer, state)), machine };
    let drained = Box::pin(drained(plan, &undo.reverse, &teller, &MachineClock::default(), true)).await;
    drained.left.iter().for_each(|line| print(&format!("{line}\n")));
    drained.evidence.iter().for_each(|e| print(&format!("  {}  {}\n", e.name, e.value)));
    Ok(if drained.left.is_empty() { Exit::RolledBack } else { Exit::Stuck })
}

/// Watches the journal until the rollback has ended.
async fn follow(folder: &RunFolder) -> Option<Exit> {
    let watched = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        let mut newest = (0, std::time::Instant::now());
        loop {
            every.tick().await;
            // A console that carries writes back tells how far it is; one that hangs tells nothing.
            if newest.1.elapsed() > FINISH {
                return None;
            }
            let Ok(record) = read_run(folder) else { continue };
            let Ok(state) = fold(&record.facts) else { continue };
            if state.last_seq != newest.0 {
                newest = (state.last_seq, std::time::Instant::now());
            }
            match state.status {
                RunStatus::RolledBack => {
                    let took = state.rollback.as_ref().and_then(|r| r.took_ms);
                    print(&format!("rolled back in {}\n", took.map_or("?".into(), crate::domain::at::brief)));
                    return Some(Exit::RolledBack);
                }
                RunStatus::Stuck => {
                    for line in state.rollback.iter().flat_map(|r| &r.stuck) {
                        print(&format!("{line}\n"));
                    }
                    return Some(Exit::Stuck);
                }
                _ => {}
            }
        }
    };
    watched.await
}

/// Goes back from this process: values by version from the places' history, facts into the journal if its lock
/// is free, into a side journal if a hanging console still holds it.
async fn by_hand(
    folder: &RunFolder,
    plan: &Plan,
    (state, damaged): (RunState, bool),
    seat: &Seat,
) -> Result<Exit, Failure> {
    let config = saved(folder)?;
    let lock = folder.lock(&Holder::me(&seat.operator, &seat.host)).ok();
    let machine = MachineClock::default();
    let header = Header::new(folder.id(), &state.plan_hash, &seat.operator, &seat.host, machine.wall());
    let journal = if lock.is_some() {
        JournalWriter::reopen(folder)
    } else {
        let holder = format!("{}-{}", seat.host, std::process::id());
        JournalWriter::create_side(folder, &header, &holder)
    };
    let mut state = state;
    let journal = match journal {
        Ok((writer, record)) => {
            // What was journaled since the order was asked for counts too.
            if let Ok(now) = fold(&record.facts) {
                state = now;
            }
            Some(writer)
        }
        Err(e) => {
            say(&format!("warning: {e}; going back without a record"));
            None
        }
    };
    let way = if damaged { way_back_in_doubt(plan, &state) } else { way_back(plan, &state) };
    let began = std::time::Instant::now();
    say(&format!("going back from here: {} switches to restore and read back", way.actions().count()));
    let teller = Teller { journal: Mutex::new((journal, state.clone())), machine };
    if state.status != RunStatus::RollingBack {
        teller.tell(Event::RollbackOrdered { by: Actor::Terminal(seat.name()), cause: Cause::Asked });
    }
    let undo = world::undo_seat(&config.connections)?().await;
    let clock = std::sync::Arc::new(MachineClock::default());
    // A console that hangs or sleeps must hear of it before it decides which side's value is the newer one; the
    // switches do not wait for it.
    let marked = async {
        if possible(plan, &state) || (damaged && plan.reverse.enabled) {
            let told = async {
                let ports = (undo.reverse)().await?;
                ports.outbox.go_back().await.map_err(|e| e.to_string())
            };
            let told = tokio::time::timeout(PATIENCE * 5, told).await;
            if let Err(e) = told.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
                say(&format!("warning: the target does not know yet that customers go back ({e})"));
            }
        }
    };
    let way_back = Undo {
        plan,
        switches: &*undo.switches,
        probes: &*undo.probes,
        clock: std::sync::Arc::clone(&clock) as _,
        captured: &Captured::default(),
        tell: &teller,
        pass: format!("{}-{}", state.last_seq, std::process::id()),
    };
    let (mut report, ()) = tokio::join!(way_back.go(&way), marked);
    if way.actions().next().is_none() {
        say("no switch was left to put back");
    } else if report.stuck.is_empty() {
        say(&format!("every switch is back and read back, in {}", crate::domain::at::brief(report.took_ms)));
    }
    if !report.stuck.is_empty() {
        say(&format!("{} switches are NOT back; what to do is said at the end", report.stuck.len()));
    }
    let switched = report.stuck.is_empty();
    let carried = async {
        match may_carry(plan, &state, damaged, &undo.reverse).await {
            Some(false) => Drained::default(),
            Some(true) => {
                say("carrying writes of the new side back");
                Box::pin(drained(plan, &undo.reverse, &teller, &*clock, switched)).await
            }
            None => Drained {
                left: vec![format!(
                    "the record is damaged and the target does not answer: whether customers wrote on the new side is \
                     not known; run `cutover rollback {}` again once it does",
                    folder.id()
                )],
                ..Drained::default()
            },
        }
    };
    let fenced = async {
        if lock.is_none() {
            Box::pin(fence(folder, plan, &config, seat)).await;
        }
    };
    let (carried, ()) = tokio::join!(carried, fenced);
    report.evidence.extend(carried.evidence);
    report.stuck.extend(carried.left);
    report.took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    if report.stuck.is_empty() {
        teller.tell(Event::RolledBack { took_ms: report.took_ms, evidence: report.evidence.clone() });
        for e in &report.evidence {
            print(&format!("  {}  {}\n", e.name, e.value));
        }
        print(&format!("rolled back in {}\n", crate::domain::at::brief(report.took_ms)));
        Ok(Exit::RolledBack)
    } else {
        teller.tell(Event::RollbackStuck { what: report.stuck.clone() });
        for line in &report.stuck {
            print(&format!("{line}\n"));
        }
        Ok(Exit::Stuck)
    }
}

/// Takes the lease from a console that hangs, so that it does not go forward when it wakes up. Only after the way
/// back is done, and only as well as it can be had: going back waits for no lease.
async fn fence(folder: &RunFolder, plan: &Plan, config: &Config, seat: &Seat) {
    let seized = async {
        let ports = world::ports(plan, &config.connections).await.map_err(|f| f.report.to_string())?;
        let holder = crate::engine::holder(&seat.host);
        ports.target.seize(folder.id(), &holder, FENCE_MS).await.map_err(|e| e.to_string())
    };
    match tokio::time::timeout(Duration::from_secs(5), seized).await {
        Ok(Ok(_)) => {}
        Ok(Err(why)) => say(&format!("warning: the hanging console keeps its lease ({why}); end its process")),
        Err(_) => say("warning: the hanging console keeps its lease (the target does not answer); end its process"),
    }
}

/// Writes facts as they are told; never waits for anything but the write itself, never fails.
struct Teller {
    journal: Mutex<(Option<JournalWriter>, RunState)>,
    machine: MachineClock,
}

impl UndoTell for Teller {
    fn tell(&self, event: Event) {
        let mut guard = self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (journal, state) = &mut *guard;
        let fact = Fact { seq: state.last_seq + 1, at: self.machine.wall().max(state.opened), event };
        if apply(state, &fact).is_err() {
            return;
        }
        let Some(writer) = journal else { return };
        match writer.append(std::slice::from_ref(&fact)) {
            Ok(()) => {
                #[cfg(feature = "failpoints")]
                crate::engine::failpoint::after(&[fact]);
            }
            Err(e) => {
                say(&format!("warning: the journal cannot be written: {e}; going back without a record"));
                *journal = None;
            }
        }
    }
}

fn read_plan(folder: &RunFolder) -> Result<Plan, Failure> {
    let text = std::fs::read(folder.plan())?;
    serde_json::from_slice(&text)
        .map_err(|e| Failure::new(Exit::Journal, format!("{} cannot be read: {e}", folder.plan().display())))
}

/// The way back in words, with its price, without acting (FEATURES C7): from the console if one lives, which knows
/// what was measured just now, else from the folder.
async fn describe(folder: &RunFolder, plan: &Plan, state: &RunState, damaged: bool) {
    let wall = MachineClock::default().wall();
    let snapshot = match ask(&folder.socket(), &Ask::Status, PATIENCE).await {
        Some(Answer::Status(snapshot)) => *snapshot,
        // Nothing of a damaged record says that a switch did not move, or that nobody wrote.
        _ if damaged => {
            print("rollback ? the record is damaged: every switch is restored, whatever it says\n");
            for undo in way_back_in_doubt(plan, state).actions() {
                let place =
                    plan.switch(&undo.switch).map_or_else(|| "?".to_owned(), crate::domain::plan::Switch::place);
                let to =
                    if undo.captured { undo.value.as_deref().unwrap_or("***") } else { "? by hand, never captured" };
                print(&format!("         {}: {place} -> {to}\n", undo.switch));
            }
            print("cost     ?\ncarries  ? the target is asked what waits\nloses    ?\n");
            return;
        }
        _ => match offline(folder, wall) {
            Ok(found) => found.snapshot,
            // A damaged folder: the captured values are what counts, nothing is known of the rest.
            Err(_) => build(&Context {
                plan,
                state,
                measured: &Measured { at: wall, ..Measured::default() },
                series: &BTreeMap::new(),
                facts: &[],
                now: wall,
                mode: Mode::Live,
                waiting: None,
                version: state.last_seq,
            }),
        },
    };
    print(&format!("rollback {}\n", snapshot.rollback.text));
    for (label, text) in snapshot.rollback.what_if.lines(snapshot.wall) {
        print(&format!("{label:<8} {text}\n"));
    }
}
