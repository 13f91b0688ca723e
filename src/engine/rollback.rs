//! Rollback on a thread and runtime of its own: it waits for no disk, no queue, no screen and no load.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::handle::RollbackOrder;
use crate::domain::plan::{Plan, Purpose};
use crate::domain::run::{
    Event, Level, RollbackPlan, RunState, RunStatus, UndoJob, no_way_back, rollback_plan, undo_jobs,
};
use crate::ports::{Clock, Jobs, Probes, ReversePorts, Switches};
use crate::workers::WorkerContext;
use crate::workers::reverse::{Drained, drain, possible};
use crate::workers::rollback::{FactSink, Rollback, RollbackReport};

/// How long the second pass waits for forward work that was under way when the order came.
const LAST_FORWARD: Duration = Duration::from_secs(10);
/// How long a cancelled step may take to say so before the old side is opened to customers; a disk that hangs delays
/// its answer.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Clients of the rollback.
pub struct RollbackPorts {
    /// Reads and writes switches.
    pub switches: Arc<dyn Switches>,
    /// Sends probes.
    pub probes: Arc<dyn Probes>,
    /// Begins jobs once more, or undoes them.
    pub jobs: Arc<dyn Jobs>,
    /// Connects to both ends of the reverse flow.
    pub reverse: ReversePortsFactory,
}

/// Makes clients for the reverse flow, or says why not.
pub type ReversePortsFactory = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<ReversePorts, String>>>>>;

/// Makes the rollback's clients on its own runtime.
pub type RollbackPortsFactory = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = RollbackPorts>>> + Send>;

/// What connects the thread with the engine.
pub struct Wires {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Orders, straight from the sender.
    pub orders: watch::Receiver<Option<RollbackOrder>>,
    /// The folded state, newest.
    pub state: watch::Receiver<Arc<RunState>>,
    /// The workers, for captured values and to stop forward work.
    pub ctx: Arc<WorkerContext>,
    /// This machine's time.
    pub clock: Arc<dyn Clock>,
    /// Whether forward work is under way.
    pub performing: watch::Receiver<bool>,
    /// Where facts go; never waits.
    pub facts: mpsc::UnboundedSender<Event>,
    /// Ends the thread when no rollback is under way.
    pub stop: CancellationToken,
}

struct ChannelSink(mpsc::UnboundedSender<Event>);

impl FactSink for ChannelSink {
    fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }
}

/// Starts the thread.
pub fn start(ports: RollbackPortsFactory, wires: Wires) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("rollback".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let ports = ports().await;
            serve(ports, wires).await;
        });
    })?;
    Ok(())
}

async fn serve(ports: RollbackPorts, mut wires: Wires) {
    loop {
        tokio::select! {
            biased;
            changed = wires.orders.changed() => if changed.is_err() { return },
            () = wires.stop.cancelled() => return,
        }
        if wires.orders.borrow_and_update().is_none() {
            continue;
        }
        if let Some(why) = no_way_back(&wires.plan, &wires.state.borrow()) {
            let _ = wires.facts.send(Event::Note { level: Level::Error, source: "rollback".to_owned(), text: why });
            continue;
        }
        // The dispatcher journals the order; only a run that is already back has nothing to do.
        wires.ctx.begin_rollback();
        wires.ctx.cancel_step();
        let began = std::time::Instant::now();
        let mut report = restore_switches(&ports, &mut wires).await.whole();
        drain_reverse(&ports, &wires, &mut report).await;
        // Customers' writes belong to it: a rollback has not ended before they are applied.
        report.took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        wires.ctx.rolled_back();
        let event = if report.stuck.is_empty() {
            Event::RolledBack { took_ms: report.took_ms, evidence: report.evidence }
        } else {
            Event::RollbackStuck { what: report.stuck }
        };
        let _ = wires.facts.send(event);
    }
}

/// Applies what customers wrote on the new side, once the switches are restored. Restoring the switches never waits for
/// it.
async fn drain_reverse(ports: &RollbackPorts, wires: &Wires, report: &mut RollbackReport) {
    let state = wires.state.borrow().clone();
    if wires.plan.tables.is_empty() && state.open_to_customers(&wires.plan) {
        let text = "the plan moves no table: what customers wrote on the new side alone stays there".to_owned();
        let _ = wires.facts.send(Event::Note { level: Level::Warn, source: "reverse".to_owned(), text });
    }
    if possible(&wires.plan, &state) {
        let facts = ChannelSink(wires.facts.clone());
        let switched = report.stuck.is_empty();
        let drained = drained(&wires.plan, &state.run, &ports.reverse, &facts, &*wires.clock, switched).await;
        report.evidence.extend(drained.evidence);
        report.stuck.extend(drained.left);
    }
}

/// Makes the clients and drains. `switched` says whether every switch is back.
pub async fn drained(
    plan: &Plan,
    run: &str,
    seat: &ReversePortsFactory,
    facts: &dyn FactSink,
    clock: &dyn Clock,
    switched: bool,
) -> Drained {
    match seat().await {
        Ok(ports) => drain(plan, run, &ports, facts, clock, switched).await,
        Err(why) => Drained {
            left: vec![format!("writes of the new side are not carried back ({why}); run `cutover rollback` again")],
            ..Drained::default()
        },
    }
}

/// Restores the switches at once, then reads them again after forward work that was under way has ended: a write that
/// was under way when the order came must not be the last one.
async fn restore_switches(ports: &RollbackPorts, wires: &mut Wires) -> RollbackReport {
    let facts = ChannelSink(wires.facts.clone());
    let before = wires.state.borrow().clone();
    let way = rollback_plan(&wires.plan, &before);
    let captured = wires.ctx.captured();
    let was_performing = *wires.performing.borrow();
    let ctx = Arc::clone(&wires.ctx);
    let tell = move |job: &str, gauge| ctx.job_is(job, gauge);
    let orders = before.used_intents.iter().filter(|id| id.starts_with("undo/")).count();
    let mut undo = Rollback {
        plan: &wires.plan,
        switches: &*ports.switches,
        probes: &*ports.probes,
        clock: Arc::clone(&wires.clock),
        captured: &captured,
        facts: &facts,
        pass: format!("{}-{orders}", before.last_seq),
        run: &before.run,
        jobs: &*ports.jobs,
        tell: &tell,
    };
    let first = first_pass(&mut undo, &way, wires).await;
    if !was_performing && !wires.ctx.in_flight() {
        return first;
    }
    let ctx = Arc::clone(&wires.ctx);
    let ended = async {
        let _ = wires.performing.wait_for(|busy| !busy).await;
        while ctx.in_flight() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_FORWARD, ended).await;
    let now = wires.state.borrow().clone();
    if now.status == RunStatus::RolledBack {
        return first;
    }
    // What the first pass restored is restored again if it moved, together with other switches that moved since.
    let mut again = rollback_plan(&wires.plan, &now);
    // Applications that were started meanwhile have read what did not stand as it should.
    let moved = !first.stuck.is_empty() || again.actions().any(|action| !action.thaw);
    for wave in &way.waves {
        for action in wave {
            if !again.actions().any(|a| a.switch == action.switch) {
                again.waves.push(vec![action.clone()]);
            }
        }
    }
    // Jobs are undone once; those that the step began while the order came are not undone yet.
    let known = |undo: &UndoJob| {
        let restart = wires.plan.job(&undo.job).is_some_and(|job| job.purpose() == Purpose::Restart);
        let begun = undo.begun.as_ref().is_some_and(|begun| begun.undo);
        !(moved && restart) && (begun || way.jobs.iter().any(|done| done.job == undo.job))
    };
    let all = undo_jobs(&wires.plan, &now, moved, false);
    let late: Vec<UndoJob> = all.into_iter().filter(|undo| !known(undo)).collect();
    let again = RollbackPlan { jobs: late, ..in_order(again) };
    undo.pass.push_str("-again");
    let second = undo.go(&again).await;
    RollbackReport {
        took_ms: first.took_ms + second.took_ms,
        evidence: if second.evidence.is_empty() { first.evidence } else { second.evidence },
        stuck: second.stuck,
        jobs: first.jobs.and(second.jobs),
    }
}

/// Traffic is restored at once. The old side is opened to customers only when no set of the forward work is on the wire
/// any more and the traffic switches were read again: one that landed after the thaw would send customers to the new
/// side without what they have just written on the old one.
async fn first_pass(undo: &mut Rollback<'_>, way: &RollbackPlan, wires: &Wires) -> RollbackReport {
    let (thaw, traffic) = parted(way.clone());
    let busy = *wires.performing.borrow() || wires.ctx.in_flight();
    if thaw.is_empty() || !busy {
        return undo.go(way).await;
    }
    let sent = undo.go(&traffic).await;
    let mut performing = wires.performing.clone();
    let _ = tokio::time::timeout(LAST_WORD, performing.wait_for(|busy| !busy)).await;
    let ctx = Arc::clone(&wires.ctx);
    let landed = async {
        while ctx.in_flight() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_FORWARD, landed).await;
    let now = wires.state.borrow().clone();
    let (late, mut moved) = parted(rollback_plan(&wires.plan, &now));
    for action in traffic.actions() {
        if !moved.actions().any(|a| a.switch == action.switch) {
            moved.waves.push(vec![action.clone()]);
        }
    }
    undo.pass.push_str("-wire");
    let looked = undo.go(&moved).await;
    // What the step began while the order came is undone too.
    let jobs = if late.jobs.is_empty() { thaw.jobs } else { late.jobs };
    let thawed = undo.go(&RollbackPlan { jobs, ..thaw }).await;
    RollbackReport {
        took_ms: sent.took_ms + looked.took_ms + thawed.took_ms,
        evidence: looked.evidence.into_iter().chain(thawed.evidence).collect(),
        stuck: looked.stuck.into_iter().chain(thawed.stuck).collect(),
        jobs: thawed.jobs,
    }
}

/// The thaw with the jobs before it, and everything else.
fn parted(way: RollbackPlan) -> (RollbackPlan, RollbackPlan) {
    let (thaw, traffic): (Vec<_>, Vec<_>) = way.waves.into_iter().flatten().partition(|a| a.thaw);
    let one = |freeze, wave: Vec<_>, jobs| {
        let waves = [wave].into_iter().filter(|w| !w.is_empty()).collect();
        RollbackPlan { freeze, waves, jobs }
    };
    (one(Vec::new(), thaw, way.jobs), one(way.freeze, traffic, Vec::new()))
}

/// Traffic switches in one wave, the thaw after them; no jobs.
fn in_order(way: RollbackPlan) -> RollbackPlan {
    let (thaw, traffic): (Vec<_>, Vec<_>) = way.waves.into_iter().flatten().partition(|a| a.thaw);
    let waves = [traffic, thaw].into_iter().filter(|w| !w.is_empty()).collect();
    RollbackPlan { waves, ..RollbackPlan::default() }
}

#[cfg(test)]
mod tests;
