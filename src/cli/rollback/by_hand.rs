//! Rolling back from this process: values by version from the places' history. No switch waits for a disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::disk::SavedRun;
use super::recorded;
use super::recorder::Recorder;
use crate::cli::exit::Exit;
use crate::cli::out::{print, say};
use crate::cli::world::{self, Driver};
use crate::domain::at::brief;
use crate::domain::plan::Plan;
use crate::domain::run::{Event, RollbackPlan, RunState, no_way_back, rollback_plan, rollback_plan_in_doubt};
use crate::engine::rollback::{ReversePortsFactory, RollbackPorts, drained};
use crate::engine::{DriverLease, MachineClock};
use crate::workers::CapturedValues;
use crate::workers::reverse::{Drained, possible, uncarried};
use crate::workers::rollback::{FactSink as _, Rollback, RollbackReport};
use crate::workers::{end_capture, movers};

/// How long a console that hung is kept from going forward.
const FENCE_MS: i64 = 120_000;

/// Rolls back from this process. Facts go into the journal if nobody drives the run, into a side journal if a hanging
/// console still does; where neither can be written, nothing waits for them.
pub(super) async fn by_hand(found: &SavedRun, driver: &Driver) -> Exit {
    let SavedRun { folder, plan, state, damaged, .. } = found;
    let way = if *damaged { rollback_plan_in_doubt(plan, state) } else { rollback_plan(plan, state) };
    let began = Instant::now();
    say(&format!("rolling back from here: {} switches to restore and read back", way.actions().count()));
    let mut recorder = Recorder::start(folder, driver, state, true);
    let undo = world::rollback_ports(found.connections.clone(), &found.plan)().await;
    let marks = |state: &RunState| possible(plan, state) || (*damaged && plan.reverse.enabled);
    let first_mark = async {
        if marks(state) {
            marked(found, &undo).await;
        }
    };
    let ((report, newest), ()) = tokio::join!(restored(found, &way, &undo, &mut recorder), first_mark);
    let mut report = report.whole();
    // A console may have let customers write on the new side since the first reading.
    let doubt = *damaged || newest.is_none();
    let now = newest.as_deref().unwrap_or(state);
    if !marks(state) && marks(now) {
        marked(found, &undo).await;
    }
    if let Some(why) = no_way_back(plan, now) {
        say(&format!("warning: {why}"));
    }
    if way.actions().next().is_none() {
        say("no switch was left to put back");
    } else if report.stuck.is_empty() {
        say(&format!("every switch is back and read back, in {}", brief(report.took_ms)));
    }
    if !report.stuck.is_empty() {
        say(&format!("{} switches are NOT back; what to do is said at the end", report.stuck.len()));
    }
    let switched = report.stuck.is_empty();
    let carried = async {
        match may_carry(plan, now, doubt, &undo.reverse).await {
            Ok(false) => Drained::default(),
            Ok(true) => {
                say("carrying writes of the new side back");
                Box::pin(drained(plan, folder.id(), &undo.reverse, &recorder, &MachineClock::default(), switched)).await
            }
            Err(why) => Drained {
                left: vec![format!(
                    "the record could not be read to its end and the target does not answer ({why}): whether customers \
                     wrote on the new side is not known; run `cutover rollback {}` again once it does",
                    folder.id()
                )],
                ..Drained::default()
            },
        }
    };
    let drives = async {
        if recorder.holds_the_lock() {
            Box::pin(succeed(found, driver)).await
        } else {
            Box::pin(fence(found, driver)).await;
            None
        }
    };
    let (carried, lease) = tokio::join!(carried, drives);
    report.evidence.extend(carried.evidence);
    report.stuck.extend(carried.left);
    report.took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let exit = conclude(&report, &recorder);
    if exit == Exit::RolledBack {
        end_capture(found, &recorder).await;
        end_movers(found, &recorder).await;
    }
    if let Some(lease) = lease {
        lease.release().await;
    }
    recorded(found, exit, recorder.end().await)
}

/// Sources that keep their changes until they are read keep them for nobody any more. No part of going back: what is not
/// ended is said, and changes nothing of the result.
async fn end_capture(found: &SavedRun, recorder: &Recorder) {
    let stores: Vec<&str> = end_capture::kept_for_us(&found.plan).collect();
    if stores.is_empty() {
        return;
    }
    let changes = world::kept_at_sources(&found.connections, &found.plan.key()).await;
    for store in stores {
        let (id, intent) = end_capture::intent(store, &format!("{}-{}", found.state.last_seq, std::process::id()));
        recorder.send(intent);
        let (outcome, left) = end_capture::end(&changes, store, id).await;
        recorder.send(outcome);
        if let Some(left) = left {
            say(&format!("warning: {left}"));
        }
    }
}

/// What moved tables in place of this program is removed from both sides. As above, this is no part of going back.
async fn end_movers(found: &SavedRun, recorder: &Recorder) {
    let all = found.plan.movers();
    if all.is_empty() {
        return;
    }
    let ends: Vec<(String, String)> = all.iter().map(|of| (of.from.clone(), of.to.clone())).collect();
    let ports = world::movers_of(&found.connections, &found.plan.key(), &ends).await;
    for of in all {
        let (id, intent) = movers::intent(&of, &format!("{}-{}", found.state.last_seq, std::process::id()));
        recorder.send(intent);
        let (outcome, left) = movers::remove(&ports, &of, id).await;
        recorder.send(outcome);
        if let Some(left) = left {
            say(&format!("warning: {left}"));
        }
    }
}

/// Restores every switch, and then what a driver moved between the reading of the record and its opening here. With
/// where the run stands by then; nothing where the record could not be read again.
async fn restored(
    found: &SavedRun,
    way: &RollbackPlan,
    undo: &RollbackPorts,
    recorder: &mut Recorder,
) -> (RollbackReport, Option<Arc<RunState>>) {
    let pass = format!("{}-{}", found.state.last_seq, std::process::id());
    let first = undo_of(found, undo, recorder, pass.clone()).go(way).await;
    let Some(now) = recorder.opened(PATIENCE).await else {
        say(
            "warning: the record could not be read again: a switch that a console moved while this began may stand on \
             the new side; look at them, or run this once more",
        );
        return (first, None);
    };
    // Our own facts are not in there: what it says beyond the first reading, somebody else did.
    if found.damaged || now.last_seq == found.state.last_seq {
        return (first, Some(now));
    }
    let mut moved = rollback_plan(&found.plan, &now);
    moved.jobs.retain(|undo| !way.jobs.contains(undo));
    moved.freeze.clear();
    for wave in &mut moved.waves {
        wave.retain(|action| !way.actions().any(|done| done == action && unchanged(found, &now, &done.switch)));
    }
    if moved.is_empty() {
        return (first, Some(now));
    }
    let second = undo_of(found, undo, recorder, format!("{pass}-again")).go(&moved).await;
    let report = RollbackReport {
        took_ms: first.took_ms + second.took_ms,
        evidence: first.evidence.into_iter().chain(second.evidence).collect(),
        stuck: first.stuck.into_iter().chain(second.stuck).collect(),
        jobs: first.jobs.and(second.jobs),
    };
    (report, Some(now))
}

/// Whether nobody touched this switch between the two readings.
fn unchanged(found: &SavedRun, now: &RunState, switch: &str) -> bool {
    let seq = |state: &RunState| state.switches.get(switch).map(|s| s.changed_seq);
    seq(&found.state) == seq(now)
}

fn undo_of<'u>(found: &'u SavedRun, undo: &'u RollbackPorts, recorder: &'u Recorder, pass: String) -> Rollback<'u> {
    static NOTHING: std::sync::LazyLock<CapturedValues> = std::sync::LazyLock::new(CapturedValues::default);
    Rollback {
        plan: &found.plan,
        switches: &*undo.switches,
        probes: &*undo.probes,
        clock: Arc::new(MachineClock::default()),
        captured: &NOTHING,
        facts: recorder,
        pass,
        run: found.folder.id(),
        jobs: &*undo.jobs,
        tell: &|_, _| {},
    }
}

/// A console that hangs or is suspended must learn of the rollback before it decides which side's value is the newer
/// one; the switches do not wait for it.
async fn marked(found: &SavedRun, undo: &RollbackPorts) {
    let told = async {
        let ports = (undo.reverse)().await?;
        ports.outbox.mark_rolled_back(found.folder.id(), &found.plan.tables).await.map_err(|e| e.to_string())
    };
    let told = tokio::time::timeout(PATIENCE * 5, told).await;
    if let Err(e) = told.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
        say(&format!("warning: the target does not know yet that the run rolls back ({e})"));
    }
}

/// Whether there may be writes of the new side to apply; the error when nobody knows. A record that is damaged, or could
/// not be read to its end, may lack the thaw, so then the target is asked whether it captures.
async fn may_carry(plan: &Plan, state: &RunState, doubt: bool, reverse: &ReversePortsFactory) -> Result<bool, String> {
    if possible(plan, state) || !doubt || !plan.reverse.enabled {
        return Ok(possible(plan, state));
    }
    let asked = async {
        let ports = (reverse)().await?;
        let waits = uncarried(&ports, &plan.tables).await.map_err(|e| e.to_string())? > 0;
        Ok(waits || ports.outbox.armed(&plan.tables).await.map_err(|e| e.to_string())?)
    };
    let asked = tokio::time::timeout(PATIENCE * 10, asked).await;
    asked.unwrap_or_else(|_| Err(format!("nothing in {} s", (PATIENCE * 10).as_secs())))
}

/// Takes the lease from a console that hangs, so that it does not go forward when it wakes up. Only after the rollback
/// is done, and only if the lease can be had: a rollback waits for no lease.
async fn fence(found: &SavedRun, driver: &Driver) {
    let seized = async {
        let target = world::target_of(&found.connections, &found.plan.key()).await?;
        let holder = crate::engine::holder(&driver.host);
        target.seize(found.folder.id(), &holder, FENCE_MS).await.map_err(|e| e.to_string())
    };
    match tokio::time::timeout(Duration::from_secs(5), seized).await {
        Ok(Ok(_)) => {}
        Ok(Err(why)) => say(&format!("warning: the hanging console keeps its lease ({why}); end its process")),
        Err(_) => say("warning: the hanging console keeps its lease (the target does not answer); end its process"),
    }
}

/// Takes the lease of a console that is gone: the run's lock is ours, so that it drives no more. Nobody begins another run
/// while writes are carried back, and nobody waits afterwards until that lease ends by itself. Somebody else's lease stays.
async fn succeed(found: &SavedRun, driver: &Driver) -> Option<DriverLease> {
    let taken = async {
        let target = world::target_of(&found.connections, &found.plan.key()).await?;
        DriverLease::take(target, found.folder.id(), &driver.host, true).await.map_err(|e| e.to_string())
    };
    let taken = tokio::time::timeout(PATIENCE * 5, taken).await;
    let taken = taken.unwrap_or_else(|_| Err("the target does not answer".to_owned()));
    taken.inspect_err(|why| tracing::info!(%why, "the console's lease was not taken: it ends by itself")).ok()
}

/// Prints how it ended, and records it.
fn conclude(report: &RollbackReport, recorder: &Recorder) -> Exit {
    if report.stuck.is_empty() {
        recorder.send(Event::RolledBack { took_ms: report.took_ms, evidence: report.evidence.clone() });
        for e in &report.evidence {
            print(&format!("  {}  {}\n", e.name, e.value));
        }
        print(&format!("rolled back in {}\n", brief(report.took_ms)));
        Exit::RolledBack
    } else {
        recorder.send(Event::RollbackStuck { what: report.stuck.clone() });
        for line in &report.stuck {
            print(&format!("{line}\n"));
        }
        Exit::Stuck
    }
}
