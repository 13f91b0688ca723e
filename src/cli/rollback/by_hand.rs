//! Going back from this process: values by version from the places' history. No switch waits for a disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::disk::Found;
use super::recorded;
use super::recorder::Recorder;
use crate::cli::exit::Exit;
use crate::cli::out::{print, say};
use crate::cli::world::{self, Seat};
use crate::domain::at::brief;
use crate::domain::plan::Plan;
use crate::domain::run::{Event, RunState, WayBack, way_back, way_back_in_doubt};
use crate::engine::MachineClock;
use crate::engine::undo::{ReverseSeat, UndoPorts, drained};
use crate::workers::Captured;
use crate::workers::reverse::{Drained, possible, uncarried};
use crate::workers::undo::{Undo, UndoReport};

/// How long a console that hung is kept from going forward.
const FENCE_MS: i64 = 120_000;

/// Goes back from this process. Facts go into the journal if nobody drives the run, into a side journal if a hanging
/// console still does; where neither can be written, nothing waits for them.
pub(super) async fn by_hand(found: &Found, seat: &Seat) -> Exit {
    let Found { folder, plan, state, damaged, .. } = found;
    let way = if *damaged { way_back_in_doubt(plan, state) } else { way_back(plan, state) };
    let began = Instant::now();
    say(&format!("going back from here: {} switches to restore and read back", way.actions().count()));
    let mut recorder = Recorder::start(folder, seat, state, true);
    let undo = world::undo_seat(found.connections.clone())().await;
    let (mut report, ()) = tokio::join!(restored(found, &way, &undo, &mut recorder), marked(found, &undo));
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
        match may_carry(plan, state, *damaged, &undo.reverse).await {
            Ok(false) => Drained::default(),
            Ok(true) => {
                say("carrying writes of the new side back");
                Box::pin(drained(plan, &undo.reverse, &recorder, &MachineClock::default(), switched)).await
            }
            Err(why) => Drained {
                left: vec![format!(
                    "the record is damaged and the target does not answer ({why}): whether customers wrote on the new \
                     side is not known; run `cutover rollback {}` again once it does",
                    folder.id()
                )],
                ..Drained::default()
            },
        }
    };
    let fenced = async {
        if !recorder.holds_the_lock() {
            Box::pin(fence(found, seat)).await;
        }
    };
    let (carried, ()) = tokio::join!(carried, fenced);
    report.evidence.extend(carried.evidence);
    report.stuck.extend(carried.left);
    report.took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let exit = told(&report, &recorder);
    recorded(found, exit, recorder.end().await)
}

/// Restores every switch, and then what a driver moved between the reading of the record and its opening here.
async fn restored(found: &Found, way: &WayBack, undo: &UndoPorts, recorder: &mut Recorder) -> UndoReport {
    let pass = format!("{}-{}", found.state.last_seq, std::process::id());
    let first = undo_of(found, undo, recorder, pass.clone()).go(way).await;
    let Some(now) = recorder.opened(PATIENCE).await else { return first };
    // Our own facts are not in there: what it says beyond the first reading, somebody else did.
    if found.damaged || now.last_seq == found.state.last_seq {
        return first;
    }
    let mut moved = way_back(&found.plan, &now);
    for wave in &mut moved.waves {
        wave.retain(|action| !way.actions().any(|done| done == action && unchanged(found, &now, &done.switch)));
    }
    if moved.is_empty() {
        return first;
    }
    let second = undo_of(found, undo, recorder, format!("{pass}-again")).go(&moved).await;
    UndoReport {
        took_ms: first.took_ms + second.took_ms,
        evidence: first.evidence.into_iter().chain(second.evidence).collect(),
        stuck: first.stuck.into_iter().chain(second.stuck).collect(),
    }
}

/// Whether nobody touched this switch between the two readings.
fn unchanged(found: &Found, now: &RunState, switch: &str) -> bool {
    let seq = |state: &RunState| state.switches.get(switch).map(|s| s.changed_seq);
    seq(&found.state) == seq(now)
}

fn undo_of<'u>(found: &'u Found, undo: &'u UndoPorts, recorder: &'u Recorder, pass: String) -> Undo<'u> {
    static NOTHING: std::sync::LazyLock<Captured> = std::sync::LazyLock::new(Captured::default);
    Undo {
        plan: &found.plan,
        switches: &*undo.switches,
        probes: &*undo.probes,
        clock: Arc::new(MachineClock::default()),
        captured: &NOTHING,
        tell: recorder,
        pass,
    }
}

/// A console that hangs or sleeps must hear of it before it decides which side's value is the newer one; the switches do
/// not wait for it.
async fn marked(found: &Found, undo: &UndoPorts) {
    if !(possible(&found.plan, &found.state) || (found.damaged && found.plan.reverse.enabled)) {
        return;
    }
    let told = async {
        let ports = (undo.reverse)().await?;
        ports.outbox.go_back().await.map_err(|e| e.to_string())
    };
    let told = tokio::time::timeout(PATIENCE * 5, told).await;
    if let Err(e) = told.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
        say(&format!("warning: the target does not know yet that customers go back ({e})"));
    }
}

/// Whether there may be writes of the new side to carry; the error when nobody knows. A damaged record may have lost the
/// thaw, so then the target is asked whether it captures.
async fn may_carry(plan: &Plan, state: &RunState, damaged: bool, reverse: &ReverseSeat) -> Result<bool, String> {
    if possible(plan, state) || !damaged || !plan.reverse.enabled {
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

/// Takes the lease from a console that hangs, so that it does not go forward when it wakes up. Only after the way
/// back is done, and only as well as it can be had: going back waits for no lease.
async fn fence(found: &Found, seat: &Seat) {
    let seized = async {
        let target = world::target_of(&found.connections).await?;
        let holder = crate::engine::holder(&seat.host);
        target.seize(found.folder.id(), &holder, FENCE_MS).await.map_err(|e| e.to_string())
    };
    match tokio::time::timeout(Duration::from_secs(5), seized).await {
        Ok(Ok(_)) => {}
        Ok(Err(why)) => say(&format!("warning: the hanging console keeps its lease ({why}); end its process")),
        Err(_) => say("warning: the hanging console keeps its lease (the target does not answer); end its process"),
    }
}

/// Says how it ended, and tells the record.
fn told(report: &UndoReport, recorder: &Recorder) -> Exit {
    use crate::workers::undo::UndoTell as _;
    if report.stuck.is_empty() {
        recorder.tell(Event::RolledBack { took_ms: report.took_ms, evidence: report.evidence.clone() });
        for e in &report.evidence {
            print(&format!("  {}  {}\n", e.name, e.value));
        }
        print(&format!("rolled back in {}\n", brief(report.took_ms)));
        Exit::RolledBack
    } else {
        recorder.tell(Event::RollbackStuck { what: report.stuck.clone() });
        for line in &report.stuck {
            print(&format!("{line}\n"));
        }
        Exit::Stuck
    }
}
