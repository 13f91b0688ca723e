//! Rollback on a thread and runtime of its own: it waits for no disk, no queue, no screen and no load.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::handle::RollbackOrder;
use crate::domain::plan::Plan;
use crate::domain::run::{Event, RunState, RunStatus, WayBack, way_back};
use crate::ports::{Clock, Probes, ReversePorts, Switches};
use crate::workers::Crew;
use crate::workers::reverse::{Drained, drain, possible};
use crate::workers::undo::{Undo, UndoReport, UndoTell};

/// How long the second look waits for forward work that was under way when the order came.
const LAST_FORWARD: Duration = Duration::from_secs(10);
/// How long a cancelled step may take to say so before customers are let in; a disk that hangs keeps it from speaking.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Clients of the way back.
pub struct UndoPorts {
    /// Reads and writes switches.
    pub switches: Arc<dyn Switches>,
    /// Sends probes.
    pub probes: Arc<dyn Probes>,
    /// Reaches both ends of the way back for data.
    pub reverse: ReverseSeat,
}

/// Makes clients for the way back for data, or says why not.
pub type ReverseSeat = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<ReversePorts, String>>>>>;

/// Makes the way back's clients on its own runtime.
pub type UndoSeat = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = UndoPorts>>> + Send>;

/// What connects the thread with the engine.
pub struct Wires {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Orders, straight from whoever gives them.
    pub orders: watch::Receiver<Option<RollbackOrder>>,
    /// The folded state, newest.
    pub state: watch::Receiver<Arc<RunState>>,
    /// The crew, for captured values and to stop forward work.
    pub crew: Arc<Crew>,
    /// This machine's time.
    pub clock: Arc<dyn Clock>,
    /// Whether forward work is under way.
    pub performing: watch::Receiver<bool>,
    /// Where facts go; never waits.
    pub tell: mpsc::UnboundedSender<Event>,
    /// Ends the thread when no rollback is under way.
    pub stop: CancellationToken,
}

struct Teller(mpsc::UnboundedSender<Event>);

impl UndoTell for Teller {
    fn tell(&self, event: Event) {
        let _ = self.0.send(event);
    }
}

/// Starts the thread.
pub fn start(seat: UndoSeat, wires: Wires) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("rollback".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let ports = seat().await;
            serve(ports, wires).await;
        });
    })?;
    Ok(())
}

async fn serve(ports: UndoPorts, mut wires: Wires) {
    loop {
        tokio::select! {
            biased;
            changed = wires.orders.changed() => if changed.is_err() { return },
            () = wires.stop.cancelled() => return,
        }
        if wires.orders.borrow_and_update().is_none() {
            continue;
        }
        // The dispatcher journals the order; only a run that is already back has nothing to do.
        wires.crew.goes_back();
        wires.crew.cancel_step();
        let began = std::time::Instant::now();
        let mut report = go_back(&ports, &mut wires).await;
        carry_back(&ports, &wires, &mut report).await;
        // Customers' writes belong to it: a rollback has not ended before they are carried.
        report.took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        wires.crew.rolled_back();
        let event = if report.stuck.is_empty() {
            Event::RolledBack { took_ms: report.took_ms, evidence: report.evidence }
        } else {
            Event::RollbackStuck { what: report.stuck }
        };
        let _ = wires.tell.send(event);
    }
}

/// Carries what customers wrote on the new side, once the switches are back. Their values never wait for it.
async fn carry_back(ports: &UndoPorts, wires: &Wires, report: &mut UndoReport) {
    let state = wires.state.borrow().clone();
    if possible(&wires.plan, &state) {
        let tell = Teller(wires.tell.clone());
        let switched = report.stuck.is_empty();
        let drained = drained(&wires.plan, &ports.reverse, &tell, &*wires.clock, switched).await;
        report.evidence.extend(drained.evidence);
        report.stuck.extend(drained.left);
    }
}

/// Makes the clients and drains. `switched` says whether every switch is back.
pub async fn drained(
    plan: &Plan,
    seat: &ReverseSeat,
    tell: &dyn UndoTell,
    clock: &dyn Clock,
    switched: bool,
) -> Drained {
    match seat().await {
        Ok(ports) => drain(plan, &ports, tell, clock, switched).await,
        Err(why) => Drained {
            left: vec![format!("writes of the new side are not carried back ({why}); run `cutover rollback` again")],
            ..Drained::default()
        },
    }
}

/// Goes back at once, then looks again after forward work that was under way has come to its end: a write that
/// was on its way when the order came must not have the last word.
async fn go_back(ports: &UndoPorts, wires: &mut Wires) -> UndoReport {
    let tell = Teller(wires.tell.clone());
    let before = wires.state.borrow().clone();
    let way = way_back(&wires.plan, &before);
    let captured = wires.crew.captured();
    let was_performing = *wires.performing.borrow();
    let orders = before.used_intents.iter().filter(|id| id.starts_with("undo/")).count();
    let mut undo = Undo {
        plan: &wires.plan,
        switches: &*ports.switches,
        probes: &*ports.probes,
        clock: Arc::clone(&wires.clock),
        captured: &captured,
        tell: &tell,
        pass: format!("{}-{orders}", before.last_seq),
    };
    let first = first_pass(&mut undo, &way, wires).await;
    if !was_performing && !wires.crew.in_flight() {
        return first;
    }
    let crew = Arc::clone(&wires.crew);
    let ended = async {
        let _ = wires.performing.wait_for(|busy| !busy).await;
        while crew.in_flight() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_FORWARD, ended).await;
    let now = wires.state.borrow().clone();
    if now.status == RunStatus::RolledBack {
        return first;
    }
    // What the first pass restored is restored again if it moved, together with what moved since.
    let mut again = way_back(&wires.plan, &now);
    for wave in &way.waves {
        for action in wave {
            if !again.actions().any(|a| a.switch == action.switch) {
                again.waves.push(vec![action.clone()]);
            }
        }
    }
    let again = in_order(again);
    undo.pass.push_str("-again");
    let second = undo.go(&again).await;
    UndoReport {
        took_ms: first.took_ms + second.took_ms,
        evidence: if second.evidence.is_empty() { first.evidence } else { second.evidence },
        stuck: second.stuck,
    }
}

/// Traffic goes back at once. Customers are let in on the old side only when no set of the forward work is on the wire
/// any more and traffic was looked at again: one that landed after the thaw would send them to the new side without
/// what they have just written on the old one.
async fn first_pass(undo: &mut Undo<'_>, way: &WayBack, wires: &Wires) -> UndoReport {
    let (thaw, traffic) = parted(way.clone());
    let busy = *wires.performing.borrow() || wires.crew.in_flight();
    if thaw.is_empty() || !busy {
        return undo.go(way).await;
    }
    let sent = undo.go(&traffic).await;
    let mut performing = wires.performing.clone();
    let _ = tokio::time::timeout(LAST_WORD, performing.wait_for(|busy| !busy)).await;
    let crew = Arc::clone(&wires.crew);
    let landed = async {
        while crew.in_flight() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_FORWARD, landed).await;
    let now = wires.state.borrow().clone();
    let (_, mut moved) = parted(way_back(&wires.plan, &now));
    for action in traffic.actions() {
        if !moved.actions().any(|a| a.switch == action.switch) {
            moved.waves.push(vec![action.clone()]);
        }
    }
    undo.pass.push_str("-wire");
    let looked = undo.go(&moved).await;
    let thawed = undo.go(&thaw).await;
    UndoReport {
        took_ms: sent.took_ms + looked.took_ms + thawed.took_ms,
        evidence: looked.evidence.into_iter().chain(thawed.evidence).collect(),
        stuck: looked.stuck.into_iter().chain(thawed.stuck).collect(),
    }
}

/// The thaw, and everything else.
fn parted(way: WayBack) -> (WayBack, WayBack) {
    let (thaw, traffic): (Vec<_>, Vec<_>) = way.waves.into_iter().flatten().partition(|a| a.thaw);
    let one = |wave: Vec<_>| WayBack { waves: [wave].into_iter().filter(|w| !w.is_empty()).collect() };
    (one(thaw), one(traffic))
}

/// Traffic switches in one wave, the thaw after them.
fn in_order(way: WayBack) -> WayBack {
    let (thaw, traffic): (Vec<_>, Vec<_>) = way.waves.into_iter().flatten().partition(|a| a.thaw);
    WayBack { waves: [traffic, thaw].into_iter().filter(|w| !w.is_empty()).collect() }
}

#[cfg(test)]
mod tests;
